//! Kernel modules for the guest: finds the files that a module needs and their order, and decompresses them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::tools;

/// The files of these modules and of all their dependencies, in the order in which they must be loaded.
///
/// A module that is built into the kernel needs no file and is left out.
pub(crate) fn load_order(directory: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let table = read(&directory.join("modules.dep"))?;
    let builtin = read(&directory.join("modules.builtin"))?;
    let mut order: Vec<PathBuf> = Vec::new();
    for name in wanted {
        if builtin.lines().any(|path| module_name(path) == *name) {
            continue;
        }
        let (file, needed) = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(file, _)| module_name(file) == *name)
            .with_context(|| format!("no module {name} in {}", directory.display()))?;
        // modules.dep lists the dependencies of a module from the nearest to the farthest.
        let needed = needed.split_whitespace().rev();
        for path in needed.chain([file]).map(|path| directory.join(path)) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// The code of a module, decompressed if the distribution compresses its modules.
pub(crate) fn read_module(path: &Path) -> Result<Vec<u8>> {
    let unpack = match path.extension().and_then(OsStr::to_str) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = Command::new(tools::program(unpack)?).arg("-dc").arg(path).output()?;
    ensure!(output.status.success(), "{unpack} of {}", path.display());
    Ok(output.stdout)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The module's name in the kernel: `dax_pmem` for `kernel/drivers/dax/dax-pmem.ko.xz`.
pub(crate) fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split('.').next().unwrap_or(file);
    stem.replace('-', "_")
}
