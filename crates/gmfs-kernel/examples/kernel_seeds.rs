//! Writes the seeds of the fuzz targets that read kernel images, as DIRECTORY/TARGET/NAME:
//!
//! ```text
//! cargo run -p gmfs-kernel --features fuzzing --example kernel_seeds -- DIRECTORY
//! ```
//!
//! `scripts/fuzz.sh` starts from them.

use std::path::PathBuf;

use gmfs_kernel::fuzzing::{TARGETS, seeds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: kernel_seeds DIRECTORY")?);
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds(target) {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
