//! Where the bytes of a device are in physical memory.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use gmfs_io::Span;

/// The physical memory of a devdax device or of a persistent memory block device, as sysfs below `root` tells; `None` if it
/// does not (it tells only root).
///
/// # Errors
/// The device cannot be examined.
pub fn memory(root: &Path, device: &Path) -> io::Result<Option<Span>> {
    let meta = fs::metadata(device)?;
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    let kind = meta.file_type();
    let folder = if kind.is_char_device() {
        root.join(format!("sys/dev/char/{major}:{minor}"))
    } else if kind.is_block_device() {
        // The device of /dev/pmemN is its namespace.
        root.join(format!("sys/dev/block/{major}:{minor}/device"))
    } else {
        return Ok(None);
    };
    let number = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let text = text.trim();
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let found = number("resource").zip(number("size"));
    // 0 and all ones stand for an address that is hidden.
    Ok(found
        .filter(|(at, len)| *at != 0 && *len > 0 && at.checked_add(*len).is_some())
        .map(|(at, len)| Span::new(at, len)))
}
