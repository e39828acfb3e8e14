//! Reads a dump as `save` would, and measures the speed. DUMP is one file, or all parts of a split dump:
//!
//! ```text
//! cargo run --release -p gmfs-image --example save_window -- [-t THREADS] [-c CHUNK] [-r] DUMP...
//! ```
//!
//! `-r` reads large pieces with `read_at`, which uses all processors. Without it, `in_order` reads chunks with THREADS
//! threads. The program prints the time to open, then the size of the memory that was read, its checksum, seconds, and
//! MB/s.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use gmfs_io::in_order::{Shape, in_order};
use gmfs_io::{ReadAt as _, ReadError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut shape = Shape { chunk: 256 << 10, threads: 1 };
    let mut large = false;
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-t" => shape.threads = args.next().ok_or("-t takes a number")?.parse()?,
            "-c" => shape.chunk = args.next().ok_or("-c takes a number")?.parse()?,
            "-r" => large = true,
            path => paths.push(path.into()),
        }
    }
    let started = Instant::now();
    let image = gmfs_image::open_parts(&paths.iter().map(PathBuf::as_path).collect::<Vec<&Path>>())?;
    println!("opened in {:.3} ms", started.elapsed().as_secs_f64() * 1e3);
    let (mut bytes, mut sum) = (0_u64, 0_u32);
    let started = Instant::now();
    for (range, why) in image.memory(usize::MAX) {
        if why.is_some() {
            continue;
        }
        let mut take = |data: &[u8]| {
            bytes += data.len() as u64;
            sum = sum.rotate_left(1) ^ data.chunks_exact(512).map(|c| u32::from(c[7])).sum::<u32>();
        };
        if large {
            let mut buf = vec![0; 4 << 20];
            let mut at = range.offset;
            while at < range.end() {
                let length = usize::try_from((range.end() - at).min(4 << 20))?;
                image.source.read_at(at, &mut buf[..length])?;
                take(&buf[..length]);
                at += length as u64;
            }
        } else {
            in_order(&*image.source, range.offset..range.end(), shape, |_, data| {
                take(data?);
                Ok::<_, ReadError>(())
            })?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{bytes} bytes, sum {sum:#x}, {seconds:.3} s, {:.0} MB/s", bytes as f64 / seconds / 1e6);
    Ok(())
}
