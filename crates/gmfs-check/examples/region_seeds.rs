//! Writes the seeds of the fuzz targets that damage a region or a store, as DIRECTORY/TARGET/NAME:
//!
//! ```text
//! cargo run -p gmfs-check --features fuzzing --example region_seeds -- DIRECTORY
//! ```
//!
//! `scripts/fuzz.sh` starts from them.

use std::path::PathBuf;

use gmfs_check::fuzzing::{STORES, TARGETS, seeds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: region_seeds DIRECTORY")?);
    // Both targets of regions accept the same inputs.
    let regions = TARGETS.map(|(target, _)| (target, seeds()));
    let stores = STORES.map(|(target, _, seeds)| (target, seeds()));
    for (target, seeds) in regions.into_iter().chain(stores) {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in &seeds {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
