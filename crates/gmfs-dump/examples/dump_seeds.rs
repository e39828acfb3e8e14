//! Writes the seeds of the fuzz targets that read dumps, as DIRECTORY/TARGET/NAME:
//!
//! ```text
//! cargo run -p gmfs-dump --features fuzzing --example dump_seeds -- DIRECTORY
//! ```
//!
//! `scripts/fuzz.sh` starts from them.

use std::path::PathBuf;

use gmfs_dump::fuzzing::{TARGETS, seeds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: dump_seeds DIRECTORY")?);
    for target in TARGETS.iter().map(|(target, _)| *target).chain(["image"]) {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds(target) {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
