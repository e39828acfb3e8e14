//! A disk on which a guest leaves files for the host: ext4, made and read on the host without root by e2fsprogs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::guest::Guest;
use crate::tools;

/// The modules for [`DEVICE`]. ext4 itself is built into Debian's cloud kernel.
pub(crate) const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];
/// The device in the guest.
const DEVICE: &str = "/dev/vda";
/// Where [`mount`] mounts it.
pub(crate) const MOUNTED: &str = "/mnt";

/// The file with the disk's content, and the program that extracts files from it.
pub(crate) struct Disk {
    image: PathBuf,
    debugfs: PathBuf,
}

impl Disk {
    /// Creates a disk of this size, as a sparse file: empty, or with a copy of a directory's content.
    pub(crate) fn create(image: PathBuf, size: u64, content: Option<&Path>) -> Result<Self> {
        let debugfs = tools::program("debugfs")?;
        File::create(&image)?.set_len(size)?;
        let mut command = Command::new(tools::program("mke2fs")?);
        command.args(["-q", "-F", "-t", "ext4"]);
        if let Some(content) = content {
            command.arg("-d").arg(content);
        }
        let status = command.arg(&image).status()?;
        ensure!(status.success(), "mke2fs: {status}");
        Ok(Self { image, debugfs })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.image
    }

    /// Extracts a file that a guest wrote to the disk and then unmounted.
    pub(crate) fn take(&self, name: &str, directory: &Path) -> Result<PathBuf> {
        let to = directory.join(name.replace('/', "_"));
        let request = format!("dump {name} {}", to.display());
        let output = Command::new(&self.debugfs).args(["-R", &request]).arg(&self.image).output()?;
        ensure!(output.status.success(), "debugfs: {}", output.status);
        let size = fs::metadata(&to).map(|metadata| metadata.len()).unwrap_or_default();
        ensure!(size > 0, "the guest left no {name}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(to)
    }
}

/// Mounts it in the guest.
pub(crate) fn mount(guest: &mut Guest) -> Result<()> {
    guest.check(&format!("mkdir -p {MOUNTED} && mount -t ext4 {DEVICE} {MOUNTED}")).context("the disk")?;
    Ok(())
}

/// Unmounts it, so that everything is in the file.
pub(crate) fn unmount(guest: &mut Guest) -> Result<()> {
    guest.check(&format!("umount {MOUNTED}"))?;
    Ok(())
}
