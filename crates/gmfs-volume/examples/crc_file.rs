//! The yardstick for `gmfs verify`: reads a file from its start to its end on some threads and computes the CRC-32 of each
//! 2 MiB, and does nothing else: `crc_file FILE THREADS`.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one checksum is of, in bytes.
const BLOCK: u64 = 2 << 20;
/// What is read at once, in bytes: it stays in the cache of the CPU.
const PIECE: u64 = 256 << 10;

fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: crc_file FILE THREADS");
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or_else(usage)?;
    let threads: usize = args.next().and_then(|number| number.parse().ok()).ok_or_else(usage)?;
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let (next, sums) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || -> io::Result<()> {
        let mut buffer = vec![0; PIECE as usize];
        loop {
            let block = next.fetch_add(BLOCK, Ordering::Relaxed);
            if block >= size {
                return Ok(());
            }
            let mut sum = crc32fast::Hasher::new();
            for at in (block..size.min(block + BLOCK)).step_by(PIECE as usize) {
                let piece = &mut buffer[..PIECE.min(size - at) as usize];
                file.read_exact_at(piece, at)?;
                sum.update(piece);
            }
            sums.fetch_xor(u64::from(sum.finalize()), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked"))?)
    })?;
    writeln!(io::stdout(), "{size} bytes, sum {:08x}", sums.into_inner())
}
