//! Writes the seeds of the fuzz targets that damage a region, as DIRECTORY/TARGET/NAME:
//!
//! ```text
//! cargo run -p gmfs-check --features fuzzing --example region_seeds -- DIRECTORY
//! ```
//!
//! `scripts/fuzz.sh` starts from them.

use std::path::PathBuf;

use gmfs_check::fuzzing::{TARGETS, seeds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: region_seeds DIRECTORY")?);
    // Both targets accept the same inputs.
    let seeds = seeds();
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in &seeds {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
