//! Finds what holds the bytes of a file or a device. The bytes of a loop device are in its backing file, and those of a
//! partition are on its disk. The bytes of a devdax device are physical memory, which `/dev/mem` shows too.
//!
//! Two paths lead to the same bytes if their lowest levels are the same file or device, and their ranges on that level
//! overlap. This module uses only sysfs and `stat(2)`, and opens only files of sysfs.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use gmfs_io::Span;

/// At most this many devices on top of one another are followed.
const DEEPEST: usize = 16;
const SECTOR: u64 = 512;

/// Identifies what a path names, independently of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Identity {
    /// A regular file, or anything else that has an inode number in its filesystem.
    File {
        /// Device number of the filesystem.
        device: u64,
        /// Inode number.
        inode: u64,
    },
    /// The block device with this number.
    Block(u64),
    /// The character device with this number.
    Char(u64),
}

impl Identity {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let kind = meta.file_type();
        if kind.is_block_device() {
            Self::Block(meta.rdev())
        } else if kind.is_char_device() {
            Self::Char(meta.rdev())
        } else {
            Self::File { device: meta.dev(), inode: meta.ino() }
        }
    }
}

/// One file or device that holds the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) identity: Identity,
    /// A path that leads to this file or device.
    pub(crate) path: PathBuf,
    /// Where in it the bytes are.
    pub(crate) span: Span,
}

/// Where the kernel describes devices (sysfs), and where their device nodes are.
#[derive(Clone, Debug)]
pub(crate) struct System {
    sys: PathBuf,
    dev: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { sys: PathBuf::from("/sys"), dev: PathBuf::from("/dev") }
    }
}

impl System {
    /// The levels that hold the bytes `span` of `path`, starting with the file or device itself.
    ///
    /// # Errors
    /// Fails only if `path` itself cannot be examined. The list ends at the last level that can be found.
    pub(crate) fn levels(&self, path: &Path, span: Span) -> std::io::Result<Vec<Level>> {
        let identity = Identity::of(&std::fs::metadata(path)?);
        Ok(self.levels_of(Level { identity, path: path.to_owned(), span }))
    }

    /// Like [`levels`](Self::levels), with the first level known already.
    pub(crate) fn levels_of(&self, first: Level) -> Vec<Level> {
        let mut levels = vec![first];
        while levels.len() < DEEPEST {
            let next = levels.last().and_then(|last| self.below(last.identity, last.span));
            let Some(next) = next.filter(|next| levels.iter().all(|level| level.identity != next.identity)) else {
                break;
            };
            levels.push(next);
        }
        levels
    }

    /// The next level down.
    fn below(&self, identity: Identity, span: Span) -> Option<Level> {
        let (path, span) = match identity {
            Identity::File { .. } => return None,
            Identity::Block(device) => {
                let dir = self.directory("block", device).canonicalize().ok()?;
                self.disk(&dir, span).or_else(|| self.backing_file(&dir, span))?
            }
            Identity::Char(device) => self.memory(&self.directory("char", device), span)?,
        };
        let identity = Identity::of(&std::fs::metadata(&path).ok()?);
        Some(Level { identity, path, span })
    }

    fn directory(&self, kind: &str, device: u64) -> PathBuf {
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        self.sys.join(format!("dev/{kind}/{major}:{minor}"))
    }

    /// The disk that contains a partition.
    fn disk(&self, dir: &Path, span: Span) -> Option<(PathBuf, Span)> {
        dir.join("partition").exists().then_some(())?;
        let (start, size) = (number(&dir.join("start"))?, number(&dir.join("size"))?);
        let node = self.node_in(dir.parent()?)?;
        Some((node, moved(span, start.saturating_mul(SECTOR), size.saturating_mul(SECTOR))))
    }

    /// The file or device that backs a loop device.
    fn backing_file(&self, dir: &Path, span: Span) -> Option<(PathBuf, Span)> {
        use std::os::unix::ffi::OsStringExt as _;
        let mut path = std::fs::read(dir.join("loop/backing_file")).ok()?;
        path.pop_if(|last| *last == b'\n');
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        let limit = number(&dir.join("loop/sizelimit")).filter(|limit| *limit != 0);
        Some((path, moved(span, number(&dir.join("loop/offset"))?, limit.unwrap_or(u64::MAX))))
    }

    /// The physical memory of a devdax device that is one range of it.
    fn memory(&self, dir: &Path, span: Span) -> Option<(PathBuf, Span)> {
        let subsystem = std::fs::read_link(dir.join("subsystem")).ok()?;
        if subsystem.file_name()? != "dax" || dir.join("mapping1").exists() {
            return None;
        }
        // The kernel shows the address to root only. Others read 0.
        let start = number(&dir.join("resource")).filter(|start| *start != 0)?;
        Some((self.dev.join("mem"), moved(span, start, number(&dir.join("size"))?)))
    }

    /// The node that has the kernel's own name for a device. A lock belongs to the inode of a node, and a device may
    /// have several nodes. Locking this one as well excludes everybody else who does the same.
    pub(crate) fn node(&self, identity: Identity) -> Option<PathBuf> {
        let dir = match identity {
            Identity::File { .. } => return None,
            Identity::Block(device) => self.directory("block", device),
            Identity::Char(device) => self.directory("char", device),
        };
        let node = self.node_in(&dir)?;
        (Identity::of(&std::fs::metadata(&node).ok()?) == identity).then_some(node)
    }

    fn node_in(&self, dir: &Path) -> Option<PathBuf> {
        let events = std::fs::read_to_string(dir.join("uevent")).ok()?;
        let name = events.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
        Some(self.dev.join(name))
    }
}

/// Whether a byte of `a` at `a_span` is also a byte of `b` at `b_span`: because both are one file under different
/// names, or because one of them is a device whose bytes are in the other.
#[must_use]
pub fn share_bytes((a, a_span): (&Path, Span), (b, b_span): (&Path, Span)) -> bool {
    let system = System::default();
    let bottom = |path, span| system.levels(path, span).ok()?.pop();
    let (Some(a), Some(b)) = (bottom(a, a_span), bottom(b, b_span)) else { return false };
    a.identity == b.identity && a.span.meets(b.span)
}

/// Converts a span of a level to offsets of the level below: moved by `start`, and cut at `size`.
fn moved(span: Span, start: u64, size: u64) -> Span {
    let end = span.end().min(size);
    let from = span.offset.min(end);
    let len = if end == u64::MAX { u64::MAX } else { end.saturating_sub(from) };
    Span::new(start.saturating_add(from), len)
}

/// A number from a file of sysfs, decimal or hexadecimal.
fn number(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    match text.trim().strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_span_moves_and_is_cut_where_the_level_ends() {
        assert_eq!(moved(Span::new(0, u64::MAX), 100, 50), Span::new(100, 50));
        assert_eq!(moved(Span::new(10, 10), 100, u64::MAX), Span::new(110, 10));
        assert_eq!(moved(Span::new(0, u64::MAX), 100, u64::MAX), Span::new(100, u64::MAX));
        assert_eq!(moved(Span::new(60, 10), 100, 50), Span::new(150, 0));
    }

    /// Describes a loop device with a partition, in files like those of sysfs. Its nodes are links to `/dev/null`.
    #[test]
    fn a_partition_of_a_loop_device_leads_to_the_file() {
        let root = tempfile::tempdir().unwrap();
        let (sys, dev) = (root.path().join("sys"), root.path().join("dev"));
        let disk = sys.join("devices/loop3");
        let part = disk.join("loop3p1");
        std::fs::create_dir_all(disk.join("loop")).unwrap();
        std::fs::create_dir_all(&part).unwrap();
        std::fs::create_dir_all(sys.join("dev/block")).unwrap();
        std::fs::create_dir_all(&dev).unwrap();
        let image = root.path().join("disk image");
        std::fs::write(&image, b"x").unwrap();
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).unwrap();
        write(disk.join("uevent"), "MAJOR=7\nMINOR=3\nDEVNAME=loop3\n");
        write(disk.join("loop/backing_file"), &format!("{}\n", image.display()));
        write(disk.join("loop/offset"), "4096\n");
        write(disk.join("loop/sizelimit"), "0\n");
        write(part.join("partition"), "1\n");
        write(part.join("start"), "2048\n");
        write(part.join("size"), "8\n");
        symlink("../../devices/loop3", sys.join("dev/block/7:3")).unwrap();
        symlink("../../devices/loop3/loop3p1", sys.join("dev/block/259:0")).unwrap();
        let system = System { sys, dev };
        let whole = Span::new(0, u64::MAX);
        let dir = system.directory("block", rustix::fs::makedev(259, 0)).canonicalize().unwrap();
        let (node, span) = system.disk(&dir, whole).unwrap();
        assert_eq!((node, span), (system.dev.join("loop3"), Span::new(1 << 20, 4096)));
        let below = system.below(Identity::Block(rustix::fs::makedev(7, 3)), span).unwrap();
        assert_eq!((below.path, below.span), (image.clone(), Span::new((1 << 20) + 4096, 4096)));
        let levels = system.levels(&image, whole).unwrap();
        assert_eq!(levels.len(), 1, "nothing is below a file");
        assert_eq!(system.node(Identity::Block(rustix::fs::makedev(7, 3))), None, "there is no such node");
    }
}
