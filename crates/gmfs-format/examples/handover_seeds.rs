//! Writes the seeds of the fuzz targets that damage a hand-over and read device trees, as DIRECTORY/TARGET/NAME:
//!
//! ```text
//! cargo run -p gmfs-format --features fuzzing --example handover_seeds -- DIRECTORY
//! ```
//!
//! `scripts/fuzz.sh` starts from them.

use std::path::PathBuf;

use gmfs_format::fuzzing::{TARGETS, fdt_seeds, seeds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: handover_seeds DIRECTORY")?);
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in if target == "fdt" { fdt_seeds() } else { seeds() } {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
