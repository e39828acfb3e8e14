//! Reads about other processes from procfs.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags};

use crate::below::Identity;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Process {
    /// The process ID.
    pub pid: u32,
    /// The kernel's name for it: the first 15 bytes of its program's name, or a name that it has chosen.
    pub name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() {
            return write!(f, "process {}", self.pid);
        }
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        let name = std::fs::read(directory(pid).join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(&name).trim_end().chars().filter(|c| !c.is_control()).collect();
        Self { pid, name }
    }
}

/// The directory of a process in procfs.
pub(crate) fn directory(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The IDs of all visible processes, ascending.
pub(crate) fn all() -> std::io::Result<Vec<u32>> {
    let names = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = names.collect();
    pids.sort_unstable();
    Ok(pids)
}

/// What a link below `/proc/PID` leads to: what it is, and its device and inode numbers. The filesystem that holds it is
/// not asked. A process may answer for that filesystem (FUSE), and if it is this one, it would wait for itself.
pub(crate) fn identity(link: &Path) -> Option<(Identity, (u64, u64))> {
    let stat = rustix::fs::statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS).ok()?;
    let (device, inode) = (rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino);
    let rdev = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
    let identity = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::BlockDevice => Identity::Block(rdev),
        FileType::CharacterDevice => Identity::Char(rdev),
        _ => Identity::File { device, inode },
    };
    Some((identity, (device, inode)))
}

/// Whether a process answers for the filesystem with a device number (FUSE), as far as the mounts that `pid` sees tell.
pub(crate) fn is_answered(pid: u32, device: u64) -> bool {
    let table = std::fs::read_to_string(directory(pid).join("mountinfo")).unwrap_or_default();
    table.lines().any(|line| is_answered_line(line, device))
}

/// Whether a line of mountinfo is of a filesystem with this device number that a process answers for:
/// `36 35 0:52 / /mnt rw - fuse.gmfs region.img rw`.
fn is_answered_line(line: &str, device: u64) -> bool {
    let mut words = line.split(' ');
    let numbers = words.nth(2).and_then(|word| word.split_once(':'));
    let found = numbers.and_then(|(major, minor)| Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?)));
    let kind = words.skip_while(|word| *word != "-").nth(1).unwrap_or_default();
    // fuseblk too: ntfs-3g answers for it.
    found == Some(device) && (kind == "fuse" || kind.starts_with("fuse.") || kind.starts_with("fuseblk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_that_a_process_answers_for() {
        let device = rustix::fs::makedev(0, 52);
        for (line, answered) in [
            ("36 35 0:52 / /mnt rw,noatime shared:1 - fuse.gmfs /region.img rw,user_id=0", true),
            ("36 35 0:52 / /mnt rw - fuse /region.img rw", true),
            ("36 35 0:53 / /mnt rw - fuse /region.img rw", false),
            ("36 35 0:52 / /sys/fs/fuse/connections rw - fusectl fusectl rw", false),
            ("36 35 0:52 / /mnt rw - ext4 /dev/vda rw", false),
            ("36 35 x / -", false),
            ("", false),
        ] {
            assert_eq!(is_answered_line(line, device), answered, "{line}");
        }
    }

    #[test]
    fn links_lead_to_files() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        let meta = file.metadata().unwrap();
        let link = directory(std::process::id()).join("fd").join(number.to_string());
        assert_eq!(identity(&link), Some((Identity::of(&meta), (meta.dev(), meta.ino()))));
        let null = std::fs::metadata("/dev/null").unwrap();
        assert_eq!(identity(Path::new("/dev/null")), Some((Identity::of(&null), (null.dev(), null.ino()))));
    }
}
