//! Reads from sysfs whether a character device is a devdax device, and its size and alignment.

use std::io;
use std::path::{Path, PathBuf};

/// The size and alignment of a devdax device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DevDax {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The start and the length of each mapping must be a multiple of this.
    pub(crate) align: u64,
}

/// Why size and alignment could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot learn the size and alignment of the device from {}", path.display())]
#[non_exhaustive]
pub struct SysfsError {
    /// The file of sysfs.
    pub path: PathBuf,
    /// The system's error, or that the number is invalid.
    pub source: io::Error,
}

/// Size and alignment of the character device `major:minor`, or `None` if it is not a devdax device. `sysfs` is `/sys`.
pub(crate) fn dev_dax(sysfs: &Path, major: u32, minor: u32) -> Result<Option<DevDax>, SysfsError> {
    let device = sysfs.join(format!("dev/char/{major}:{minor}"));
    let subsystem = std::fs::read_link(device.join("subsystem")).unwrap_or_default();
    if subsystem.file_name().is_none_or(|name| name != "dax") {
        return Ok(None);
    }
    let size = number(device.join("size"))?;
    // Kernels before 5.10 do not report it. By default they mapped nothing smaller than 2 MiB.
    let align = match number(device.join("align")) {
        Ok(align) if align.is_power_of_two() => align,
        Ok(_) => return Err(senseless(device.join("align"))),
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => 2 << 20,
        Err(e) => return Err(e),
    };
    Ok(Some(DevDax { size, align }))
}

fn number(path: PathBuf) -> Result<u64, SysfsError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| senseless(path)),
        Err(source) => Err(SysfsError { path, source }),
    }
}

fn senseless(path: PathBuf) -> SysfsError {
    SysfsError { path, source: io::Error::new(io::ErrorKind::InvalidData, "that is not a size") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn device(root: &Path, subsystem: &str, files: &[(&str, &str)]) {
        let dir = root.join("dev/char/252:3");
        std::fs::create_dir_all(&dir).unwrap();
        symlink(format!("../../../{subsystem}"), dir.join("subsystem")).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_dax_device_tells_its_size_and_alignment() {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "bus/dax", &[("size", "1071644672\n"), ("align", "1073741824\n")]);
        let found = dev_dax(root.path(), 252, 3).unwrap();
        assert_eq!(found, Some(DevDax { size: 1_071_644_672, align: 1 << 30 }));
        assert_eq!(dev_dax(root.path(), 252, 4).unwrap(), None);
    }

    #[test]
    fn an_old_kernel_without_align_maps_by_two_mib() {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "class/dax", &[("size", "4194304\n")]);
        assert_eq!(dev_dax(root.path(), 252, 3).unwrap().unwrap().align, 2 << 20);
    }

    #[test]
    fn other_devices_and_nonsense_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "class/tty", &[("size", "1\n")]);
        assert_eq!(dev_dax(root.path(), 252, 3).unwrap(), None);
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "bus/dax", &[("size", "1\n"), ("align", "3\n")]);
        let message = dev_dax(root.path(), 252, 3).unwrap_err().to_string();
        assert!(message.contains("align"), "{message}");
    }
}
