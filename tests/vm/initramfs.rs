//! Packs the guest's root file system: busybox, the init script, programs with their libraries, modules and files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cpio::Archive;
use crate::modules;
use crate::tools::Tools;

/// The path of the kernel in the guest, for kexec.
pub(crate) const KERNEL: &str = "/boot/vmlinuz";
/// The path of the guest's own root file system in the guest, without [`KERNEL`] and without this file itself.
pub(crate) const BASE: &str = "/boot/base.cpio";

/// The content of a guest besides busybox and kexec.
#[derive(Default)]
pub(crate) struct Contents<'a> {
    /// Programs of the host, which are packed with their shared libraries: path on the host, path in the guest.
    pub(crate) programs: Vec<(PathBuf, String)>,
    /// Files by their path in the guest. Only the first kernel has them; kernels after kexec do not.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Kernel modules that init loads, with all their dependencies.
    pub(crate) modules: &'a [&'a str],
}

/// Builds the initramfs: a base, followed by the kernel and the base again. From these the guest makes the initramfs of
/// the next kernel, and so on from kernel to kernel.
pub(crate) fn build(tools: &Tools, contents: &Contents<'_>) -> Result<Vec<u8>> {
    let base = base(tools, contents)?;
    let mut boot = Archive::default();
    boot.file(KERNEL, read(&tools.kernel)?);
    boot.file(BASE, base.clone());
    for (path, content) in &contents.files {
        boot.file(path, content.clone());
    }
    Ok([base, boot.into_bytes()].concat())
}

fn base(tools: &Tools, contents: &Contents<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("init", include_bytes!("init.sh"));
    archive.file("bin/busybox", read(&tools.busybox)?);
    archive.directory("modules");
    add_program(&mut archive, &tools.kexec, "sbin/kexec")?;
    for (here, there) in &contents.programs {
        add_program(&mut archive, here, there)?;
    }
    let order = modules::load_order(&tools.modules, contents.modules)?;
    for (place, path) in order.iter().enumerate() {
        let name = modules::module_name(&path.to_string_lossy());
        archive.file(&format!("modules/{place:02}-{name}.ko"), modules::read_module(path)?);
    }
    Ok(archive.into_bytes())
}

/// Adds a program and the shared libraries that `ldd` lists for it.
fn add_program(archive: &mut Archive, here: &Path, there: &str) -> Result<()> {
    archive.file(there, read(here)?);
    for library in libraries(here)? {
        let name = library.to_string_lossy();
        if !archive.contains(&name) {
            archive.file(&name, read(&library)?);
        }
    }
    Ok(())
}

/// The shared libraries that `ldd` lists for a program.
pub(crate) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listing = Command::new("ldd").arg(program).output().context("ldd")?;
    // For a static program, ldd lists nothing and returns an error, which is not a failure.
    let listing = String::from_utf8_lossy(&listing.stdout);
    let library = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(listing.lines().filter_map(library).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
