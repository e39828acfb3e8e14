//! Finds out what a path names, and opens it without blocking.

use std::fs::{File, FileType};
use std::io;
use std::io::Seek;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

use super::{FileError, RegionFile};
use crate::lock::Mode;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

impl Access {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "reading",
            Self::Write => "writing",
        }
    }
}

/// What a path names. Only kinds that can hold bytes at offsets are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A regular file.
    Regular,
    /// A block device.
    Block,
    /// A character device with its device number.
    Char {
        /// The major number, which identifies the driver.
        major: u32,
        /// The minor number, which identifies the device of that driver.
        minor: u32,
    },
}

/// What `path` names. The path is not opened.
pub(crate) fn node_of(path: &Path) -> Result<Node, FileError> {
    let meta = std::fs::metadata(path).map_err(|e| explain(path, Access::Read, e))?;
    classify(path, meta.file_type(), meta.rdev())
}

fn classify(path: &Path, kind: FileType, device: u64) -> Result<Node, FileError> {
    let what = if kind.is_file() {
        return Ok(Node::Regular);
    } else if kind.is_block_device() {
        return Ok(Node::Block);
    } else if kind.is_char_device() {
        return Ok(Node::Char { major: rustix::fs::major(device), minor: rustix::fs::minor(device) });
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "special file"
    };
    Err(FileError::WrongKind { path: path.to_owned(), what })
}

/// Opens a regular file or a block device.
pub(crate) fn open(path: &Path, access: Access) -> Result<RegionFile, FileError> {
    let block_device = match node_of(path)? {
        Node::Regular => false,
        Node::Block => true,
        Node::Char { .. } => return Err(wrong_device(path)),
    };
    let exclusive = block_device && access == Access::Write;
    let file = open_raw(path, access, if exclusive { libc::O_EXCL } else { 0 })?;
    // The path may name something else now, so what was opened is checked again.
    let meta = file.metadata().map_err(|source| FileError::Io { doing: "look at", path: path.to_owned(), source })?;
    match classify(path, meta.file_type(), meta.rdev())? {
        Node::Regular if !block_device => {}
        Node::Block if block_device => {}
        _ => return Err(wrong_device(path)),
    }
    if exclusive && set_read_only(Path::new("/sys"), meta.rdev()) {
        return Err(FileError::ReadOnly { path: path.to_owned() });
    }
    let size = size_of(&file, path)?;
    Ok(RegionFile { file, path: path.to_owned(), size, block_device, stretch: Mutex::default(), lock: None })
}

/// Whether a block device is set read-only. Such a device can be opened for writing, but writes to it fail.
fn set_read_only(sysfs: &Path, device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(sysfs.join(format!("dev/block/{major}:{minor}/ro")));
    text.is_ok_and(|text| text.trim() == "1")
}

/// Opens a character device for mapping.
pub(crate) fn open_device(path: &Path, access: Access) -> Result<File, FileError> {
    match node_of(path)? {
        Node::Char { .. } => open_raw(path, access, 0),
        Node::Regular => Err(FileError::WrongKind { path: path.to_owned(), what: "regular file" }),
        Node::Block => Err(FileError::WrongKind { path: path.to_owned(), what: "block device" }),
    }
}

/// Opens a regular file or a block device for mapping. Other programs may have the block device open meanwhile, because a
/// writer must be able to change the rest of the region.
pub(crate) fn open_to_map(path: &Path) -> Result<(File, u64), FileError> {
    let file = open_raw(path, Access::Write, 0)?;
    let meta = file.metadata().map_err(|source| FileError::Io { doing: "look at", path: path.to_owned(), source })?;
    if let Node::Char { .. } = classify(path, meta.file_type(), meta.rdev())? {
        return Err(wrong_device(path));
    }
    let size = size_of(&file, path)?;
    Ok((file, size))
}

fn open_raw(path: &Path, access: Access, more: i32) -> Result<File, FileError> {
    File::options()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | more)
        .open(path)
        .map_err(|e| explain(path, access, e))
}

/// The error for a character device that is neither `/dev/mem` nor devdax.
pub(crate) fn wrong_device(path: &Path) -> FileError {
    FileError::WrongKind { path: path.to_owned(), what: "character device other than memory" }
}

/// The present size of a regular file or a block device.
pub(crate) fn size_of(mut file: &File, path: &Path) -> Result<u64, FileError> {
    let failed = |source| FileError::Io { doing: "find the size of", path: path.to_owned(), source };
    let meta = file.metadata().map_err(failed)?;
    if meta.is_file() {
        return Ok(meta.len());
    }
    file.seek(io::SeekFrom::End(0)).map_err(failed)
}

/// The error for a path that could not be opened for locking.
pub(crate) fn explain_lock(path: &Path, mode: Mode, source: io::Error) -> FileError {
    explain(path, if mode == Mode::Shared { Access::Read } else { Access::Write }, source)
}

/// Converts the errors of open(2) that a user can act on.
pub(crate) fn explain(path: &Path, access: Access, source: io::Error) -> FileError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => FileError::NotFound { path },
        io::ErrorKind::PermissionDenied => FileError::Denied { path, access: access.name() },
        io::ErrorKind::ReadOnlyFilesystem => FileError::ReadOnly { path },
        io::ErrorKind::ResourceBusy => FileError::InUse { path },
        io::ErrorKind::IsADirectory => FileError::WrongKind { path, what: "directory" },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileError::NoSpace { path, size: 0 },
        _ => FileError::Io { doing: "open", path, source },
    }
}
