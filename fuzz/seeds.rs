//! Writes the seeds of all fuzz targets, as DIRECTORY/TARGET/NAME. `scripts/fuzz.sh` starts from them.

// The code that is fuzzed counts what it reaches by functions of libFuzzer.
use libfuzzer_sys as _;

use std::error::Error;
use std::path::{Path, PathBuf};

use gmfs_check::fuzzing as region;
use gmfs_dump::fuzzing as dump;
use gmfs_format::fuzzing as handover;
use gmfs_kernel::fuzzing as kernel;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: seeds DIRECTORY")?);
    for target in dump::TARGETS.iter().map(|(target, _)| *target).chain(["image"]) {
        write(&directory, target, dump::seeds(target))?;
    }
    // Both targets of regions accept the same inputs.
    for (target, _) in region::TARGETS {
        write(&directory, target, region::seeds())?;
    }
    for (target, _, seeds) in region::STORES {
        write(&directory, target, seeds())?;
    }
    for (target, _) in kernel::TARGETS {
        write(&directory, target, kernel::seeds(target))?;
    }
    for (target, _) in handover::TARGETS {
        write(&directory, target, if target == "fdt" { handover::fdt_seeds() } else { handover::seeds() })?;
    }
    Ok(())
}

/// Writes the seeds of one target.
fn write<N: AsRef<Path>>(
    directory: &Path,
    target: &str,
    seeds: impl IntoIterator<Item = (N, Vec<u8>)>,
) -> Result<(), Box<dyn Error>> {
    let folder = directory.join(target);
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in seeds {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
