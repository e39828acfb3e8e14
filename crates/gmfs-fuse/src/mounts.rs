//! What is mounted on a directory, and unmounting it.

use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// KiB that the kernel reads ahead of a program, as much as one request of FUSE can ask for. With its default of 128, reading
/// a large file takes eight times as many requests.
const READ_AHEAD: &str = "1024";

/// Whether a directory is one on which [`mount`](crate::mount()) has mounted something.
///
/// # Errors
/// The table of mounts cannot be read.
pub fn is_mounted(directory: &Path) -> io::Result<bool> {
    Ok(device(directory)?.is_some())
}

/// Has the kernel read ahead in the filesystem on a directory as far as one request can ask for. Only root may do that; otherwise
/// it stays as it is, and reading large files is slower.
pub fn read_ahead(directory: &Path) {
    if let Ok(Some(device)) = device(directory) {
        let _ = std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD);
    }
}

/// Unmounts a directory: by the system call, or by fusermount where that takes root. With `lazy`, it is taken out of the directory
/// tree at once, and ends when no program uses it any more.
///
/// # Errors
/// A program uses it ([`ErrorKind::ResourceBusy`] where the system says so), or neither way is possible.
pub fn unmount(directory: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(directory, flags) {
        Err(Errno::PERM) => {}
        done => return Ok(done?),
    }
    for program in ["fusermount3", "fusermount"] {
        let mut fusermount = Command::new(program);
        fusermount.arg("-u").args(lazy.then_some("-z")).arg("--").arg(directory);
        match fusermount.output() {
            Ok(done) if done.status.success() => return Ok(()),
            Ok(done) => return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::NotFound, "only root may do that without fusermount3, which is not installed"))
}

/// The number of the device that is mounted on a directory, as the table of mounts has it: `0:52`. `None` if no filesystem of
/// gmfs is mounted there.
fn device(directory: &Path) -> io::Result<Option<String>> {
    Ok(device_in(&std::fs::read("/proc/self/mountinfo")?, directory))
}

/// The device of a directory in a table of mounts.
fn device_in(table: &[u8], directory: &Path) -> Option<String> {
    // Of several mounts on one directory the last one is seen.
    let mut lines = table.rsplit(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = fields.nth(2)?;
        let at = fields.nth(1).map(unescaped);
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        // Mounted without the help of fusermount, it has no type of its own.
        let is_ours =
            matches!(kind, Some(b"fuse" | b"fuse.gmfs")) && at.as_deref() == Some(directory.as_os_str().as_bytes());
        is_ours.then(|| String::from_utf8_lossy(device).into_owned())
    })
}

/// A path of the table of mounts, in which blanks and some others are octal: \040.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(decoded.unwrap_or(*byte));
        rest = decoded.and_then(|_| after.get(3..)).unwrap_or(after);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_table_of_mounts() {
        for (field, path) in
            [("/mnt", "/mnt"), (r"/a\040b\134", r"/a b\"), (r"/a\04", r"/a\04"), (r"/a\999", r"/a\999")]
        {
            assert_eq!(unescaped(field.as_bytes()), path.as_bytes(), "{field}");
        }
    }

    #[test]
    fn the_last_mount_on_a_directory_counts() {
        let table = b"22 1 0:20 / /proc rw shared:5 - proc proc rw\n\
                      90 1 0:51 / /mnt/a\\040b ro,nosuid - fuse.gmfs region.img ro\n\
                      91 1 0:52 / /mnt/a\\040b ro shared:9 - fuse region.img ro\n\
                      92 1 0:53 / /mnt/c ro - fuse.other x ro\n";
        assert_eq!(device_in(table, Path::new("/mnt/a b")).as_deref(), Some("0:52"));
        assert_eq!(device_in(table, Path::new("/mnt/c")), None);
        assert_eq!(device_in(table, Path::new("/proc")), None);
    }
}
