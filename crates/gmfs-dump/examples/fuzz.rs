//! Runs the bodies of the fuzz targets with random input, for machines without cargo-fuzz:
//!
//! ```text
//! cargo run --release -p gmfs-dump --features fuzzing,deflate-c,zstd-c --example fuzz -- SECONDS [SEED [TARGET...]]
//! ```
//!
//! Each target runs for SECONDS. Half of the inputs are random bytes that start with the magic of a format; half are
//! mutations of earlier inputs that looked like files. The program prints how many inputs each target had. A failure is
//! a panic; the input is then in fuzz-failure-TARGET.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::time::{Duration, Instant};

use gmfs_dump::fuzzing::TARGETS;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

/// The first bytes of each format.
const HEADS: [&[u8]; 5] = [
    b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0",
    b"KDUMP   \x06\0\0\0",
    b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01",
    b"EMiL\x01\0\0\0",
    b"AVML\x02\0\0\0",
];

fn input(random: &mut Random) -> Vec<u8> {
    let length = if random.below(8) == 0 { random.below(20_000) } else { random.below(700) };
    let mut bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
    if random.below(2) == 0 {
        let head = HEADS[random.below(HEADS.len())];
        bytes.splice(..head.len().min(bytes.len()), head.iter().copied());
        // Most fields of real headers are small, so most bytes become zero.
        for byte in bytes.iter_mut().skip(head.len()) {
            if random.below(4) != 0 {
                *byte = 0;
            }
        }
    }
    bytes
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds: u64 = args.first().ok_or("usage: fuzz SECONDS [SEED [TARGET...]]")?.parse()?;
    let seed: u64 = args.get(1).map_or(Ok(1), |seed| seed.parse())?;
    let wanted = args.get(2..).unwrap_or_default();
    for (name, body) in TARGETS {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (started, mut count) = (Instant::now(), 0_u64);
        let mut slowest = Duration::ZERO;
        while started.elapsed() < Duration::from_secs(seconds) {
            let bytes = input(&mut random);
            let begun = Instant::now();
            if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
                std::fs::write(format!("fuzz-failure-{name}"), &bytes)?;
                std::panic::resume_unwind(panic);
            }
            slowest = slowest.max(begun.elapsed());
            count += 1;
        }
        println!("{name}: {count} inputs, the slowest took {:.1} ms", slowest.as_secs_f64() * 1e3);
    }
    Ok(())
}
