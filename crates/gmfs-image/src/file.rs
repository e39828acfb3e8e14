//! Regular files and block devices, which are read with `pread(2)` and written with `pwrite(2)`. They are never mapped,
//! because a file that is truncated while it is mapped kills the reader.
//!
//! [`RegionFile`] can only be read, and takes no lock. [`WritableFile`] holds the writer's lock ([`RangeLock`]) as long
//! as it, or a reader made from it, exists.

mod node;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gmfs_io::{Absence, FilePart, ReadAt, ReadError, Span, WriteAt, WriteError};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::lock::{Holders, Locking, Mode, RangeLock};
pub(crate) use node::{Access, Node, explain_lock, node_of, open_device, open_to_map, wrong_device};

/// Where no hole can be punched, zeros are written in pieces of this size in bytes.
const ZEROS: usize = 1 << 20;

/// Why a file or a device could not be opened or created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no file of that name.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// The path that was to be opened.
        path: PathBuf,
    },
    /// The system returned EACCES or EPERM.
    #[error("no permission to open {} for {access}; root may be needed", path.display())]
    Denied {
        /// The path that was to be opened.
        path: PathBuf,
        /// `reading` or `writing`.
        access: &'static str,
    },
    /// The system returned EROFS, or the device is set read-only.
    #[error("{} cannot be opened for writing: it is on a read-only medium", path.display())]
    ReadOnly {
        /// The path that was to be opened.
        path: PathBuf,
    },
    /// The block device is mounted, or another driver holds it.
    #[error("{} is in use: it is mounted, or another device or program holds it; release it first", path.display())]
    InUse {
        /// The device.
        path: PathBuf,
    },
    /// Another process has locked it, and did not release it in time.
    #[error("{} is locked by {by}", path.display())]
    Locked {
        /// What was to be locked.
        path: PathBuf,
        /// The processes that hold the lock.
        by: Holders,
    },
    /// The user did not wait for another process to release the lock.
    #[error("{} is locked, and waiting for the lock was stopped", path.display())]
    NotWaited {
        /// The path that was to be locked.
        path: PathBuf,
    },
    /// The path names a directory, a pipe or a terminal: nothing that holds bytes at offsets.
    #[error("{} is a {what}, which cannot hold a region or a dump", path.display())]
    WrongKind {
        /// The path that was to be opened.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// A file was to be created, but one with content exists.
    #[error("{} exists already and is not empty ({size} bytes)", path.display())]
    Exists {
        /// The existing file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The system returned ENOSPC or EDQUOT.
    #[error("no space to make {} {size} bytes large", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// The size that was asked for, in bytes.
        size: u64,
    },
    /// The system returned EFBIG: the filesystem does not support files of that size.
    #[error("the filesystem that holds {} cannot hold a file of {size} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The size that was asked for, in bytes.
        size: u64,
    },
    /// The system returned another error.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The path that was used.
        path: PathBuf,
        /// The error that the system returned.
        source: io::Error,
    },
}

/// Whether the file at `path` can be read and has these first bytes.
pub(crate) fn begins_with(path: &Path, magic: [u8; 8]) -> bool {
    let mut head = [0; 8];
    RegionFile::open(path).is_ok_and(|file| file.read_at(0, &mut head).is_ok()) && head == magic
}

/// A regular file or a block device, open for reading.
///
/// Its size is the one that it had when it was opened. Bytes that are appended later are not seen. Bytes that are cut
/// off later are [`Absence::BeyondEnd`], not zeros.
#[derive(Debug)]
pub struct RegionFile {
    file: File,
    path: PathBuf,
    size: u64,
    block_device: bool,
    /// The stretch of data that the filesystem reported last. To find the end of a stretch, tmpfs looks at each of its
    /// pages, so asking again for each piece of it would take a time that grows with the square of its length. What has
    /// become a hole since then counts as data, which is read as zeros.
    stretch: Mutex<Range<u64>>,
    /// The lock of the writer from which this reader was made.
    lock: Option<Arc<RangeLock>>,
}

impl RegionFile {
    /// Opens `path` for reading. It takes no lock, and it does not block on a pipe.
    ///
    /// # Errors
    /// [`FileError`], for example [`FileError::WrongKind`] for anything but a regular file or a block device.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        node::open(path, Access::Read)
    }

    /// The size in bytes that the file or device had when it was opened.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether this is a block device.
    #[must_use]
    pub const fn is_block_device(&self) -> bool {
        self.block_device
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first data in `[from, to)`, as the filesystem reports it. Both offsets must be within the size at opening.
    fn data_in(&self, from: u64, to: u64) -> Result<Option<Range<u64>>, Errno> {
        if self.block_device {
            return Ok(Some(from..to));
        }
        if let Some(known) = self.known_stretch(from) {
            return Ok(Some(from..known.end.min(to)));
        }
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(start) => start.max(from),
            // There is no data at or after `from`: the rest is a hole, or the file was cut off since.
            Err(Errno::NXIO) => {
                let now = self.file.metadata().map_or(0, |m| m.len()).max(from);
                return Ok((now < to).then_some(now..to));
            }
            // The filesystem does not report holes, so everything is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE) => {
                return Ok(Some(from..to));
            }
            Err(other) => return Err(other),
        };
        if start >= to {
            return Ok(None);
        }
        let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).unwrap_or(to);
        // If `start` is now a hole, the file has changed since data was found there, and nothing is known about the
        // rest.
        if hole <= start {
            return Ok(Some(start..to));
        }
        *self.stretch.lock().unwrap_or_else(PoisonError::into_inner) = start..hole;
        Ok(Some(start..hole.min(to)))
    }

    /// The stretch of data that the filesystem reported last, if `at` is in it.
    fn known_stretch(&self, at: u64) -> Option<Range<u64>> {
        let stretch = self.stretch.lock().unwrap_or_else(PoisonError::into_inner);
        stretch.contains(&at).then(|| stretch.clone())
    }

    /// Forgets what the filesystem reported, because a hole was made.
    fn forget_stretch(&self) {
        *self.stretch.lock().unwrap_or_else(PoisonError::into_inner) = 0..0;
    }
}

impl ReadAt for RegionFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut at = offset;
        let end = offset.saturating_add(length(buf));
        if end > self.size {
            let from = offset.max(self.size);
            let span = Span::new(from, end.saturating_sub(from));
            return Err(ReadError::Absent { span, why: Absence::BeyondEnd });
        }
        let mut rest = buf;
        while !rest.is_empty() {
            match self.file.read_at(rest, at) {
                Ok(0) => {
                    let span = Span::new(at, end.saturating_sub(at));
                    return Err(ReadError::Absent { span, why: Absence::BeyondEnd });
                }
                Ok(n) => {
                    rest = rest.get_mut(n..).unwrap_or_default();
                    at = at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let span = Span::new(at, end.saturating_sub(at));
                    return Err(ReadError::Io { span, source });
                }
            }
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.size)
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        if range.start >= range.end {
            return Ok(None);
        }
        let inside = range.end.min(self.size);
        if range.start < inside {
            let found = self.data_in(range.start, inside).map_err(|errno| ReadError::Io {
                span: Span::new(range.start, inside.saturating_sub(range.start)),
                source: errno.into(),
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        // Bytes past the end are absent, which is not zero, so they count as data.
        let past = range.start.max(self.size);
        Ok((past < range.end).then_some(past..range.end))
    }

    fn file_part(&self, range: Range<u64>) -> Option<FilePart<'_>> {
        FilePart::of(&self.file, range, self.size)
    }
}

/// A regular file or a block device, open for reading and writing, with an exclusive lock on the range to be changed.
///
/// Nothing is written past [`size`](Self::size). A file grows only by [`grow`](Self::grow).
#[derive(Debug)]
pub struct WritableFile {
    inner: RegionFile,
}

impl WritableFile {
    /// Opens an existing file or block device for writing and locks it. A block device is opened exclusively, so one
    /// that is mounted is refused.
    ///
    /// # Errors
    /// [`FileError`], for example [`Locked`](FileError::Locked) and [`InUse`](FileError::InUse).
    pub fn open(path: &Path, how: &Locking<'_>) -> Result<Self, FileError> {
        loop {
            // A character device is refused before locking, so that the error says what it is. Everything else is
            // opened after locking, because a block device that one writer has open cannot be opened by the next one.
            if let Node::Char { .. } = node_of(path)? {
                return Err(wrong_device(path));
            }
            let lock = RangeLock::take(path, Mode::Exclusive, how)?;
            let inner = node::open(path, Access::Write)?;
            // A process that held the lock may have replaced the file, so the path must still name the locked file.
            if lock.is_of(path) {
                return Ok(Self { inner: RegionFile { lock: Some(Arc::new(lock)), ..inner } });
            }
        }
    }

    /// Creates a sparse file of `size` bytes and locks it, or does the same with an existing empty file. If that fails,
    /// a file that was created here is removed. Only its owner may read the file, because it will hold guest memory.
    ///
    /// # Errors
    /// [`FileError::Exists`] for a file with content; [`FileError::TooLarge`], [`FileError::NoSpace`].
    pub fn create_new(path: &Path, size: u64, how: &Locking<'_>) -> Result<Self, FileError> {
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => {
                let filled = RangeLock::take(path, Mode::Exclusive, how).and_then(|lock| {
                    let lock = Some(Arc::new(lock));
                    let inner = RegionFile {
                        file,
                        path: path.to_owned(),
                        size: 0,
                        block_device: false,
                        stretch: Mutex::default(),
                        lock,
                    };
                    let mut made = Self { inner };
                    made.grow(size).map(|()| made)
                });
                filled.inspect_err(|_| {
                    // The file was created here and is empty. The first error is the one to report.
                    let _ = std::fs::remove_file(path);
                })
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let mut found = Self::open(path, how)?;
                match found.size() {
                    0 => found.grow(size).map(|()| found),
                    size => Err(FileError::Exists { path: path.to_owned(), size }),
                }
            }
            Err(source) => Err(node::explain(path, Access::Write, source)),
        }
    }

    /// Makes a regular file `size` bytes long. The new bytes are a hole. A size below the present one, and a block
    /// device, are refused.
    ///
    /// # Errors
    /// [`FileError::TooLarge`], [`FileError::NoSpace`], or another error of the system.
    pub fn grow(&mut self, size: u64) -> Result<(), FileError> {
        let path = self.inner.path.clone();
        if self.inner.block_device || size < self.inner.size {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(FileError::Io { doing: "change the size of", path, source });
        }
        match self.inner.file.set_len(size) {
            Ok(()) => {
                self.inner.size = size;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge || e.kind() == io::ErrorKind::InvalidInput => {
                Err(FileError::TooLarge { path, size })
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Err(FileError::NoSpace { path, size })
            }
            Err(source) => Err(FileError::Io { doing: "change the size of", path, source }),
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.inner.size
    }

    /// Whether this is a block device.
    #[must_use]
    pub const fn is_block_device(&self) -> bool {
        self.inner.block_device
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Refuses a span that reaches past the end.
    fn guard(&self, span: Span) -> Result<(), WriteError> {
        if span.offset.checked_add(span.len).is_some_and(|end| end <= self.inner.size) {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "that is past the end of the file or device");
        Err(WriteError { span, source })
    }

    /// Writes zeros over the parts of `span` that are not holes.
    fn write_zeros(&self, span: Span) -> io::Result<()> {
        let zeros = vec![0; ZEROS.min(usize::try_from(span.len).unwrap_or(ZEROS))];
        let mut at = span.offset;
        while at < span.end() {
            let Some(data) = self.inner.data_in(at, span.end())? else {
                break;
            };
            at = data.start;
            while at < data.end {
                let left = usize::try_from(data.end.saturating_sub(at)).unwrap_or(ZEROS);
                let piece = zeros.get(..left.min(zeros.len())).unwrap_or_default();
                self.inner.file.write_all_at(piece, at)?;
                at = at.saturating_add(length(piece));
            }
        }
        Ok(())
    }
}

impl ReadAt for WritableFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.inner.end()
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        self.inner.next_data(range)
    }

    fn file_part(&self, range: Range<u64>) -> Option<FilePart<'_>> {
        self.inner.file_part(range)
    }
}

impl WriteAt for WritableFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, length(bytes));
        self.guard(span)?;
        self.inner.file.write_all_at(bytes, offset).map_err(|source| WriteError { span, source })
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.guard(span)?;
        if span.len == 0 {
            return Ok(());
        }
        if !self.inner.block_device {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&self.inner.file, hole, span.offset, span.len) {
                Ok(()) => {
                    self.inner.forget_stretch();
                    return Ok(());
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => {}
                Err(errno) => {
                    return Err(WriteError { span, source: errno.into() });
                }
            }
        }
        self.write_zeros(span).map_err(|source| WriteError { span, source })
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        let span = Span::new(0, self.inner.size);
        self.inner.file.sync_data().map_err(|source| WriteError { span, source })
    }

    /// Another handle of the open file. The lock is released when both are dropped.
    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        let file = self.inner.file.try_clone().ok()?;
        let (path, lock) = (self.inner.path.clone(), self.inner.lock.clone());
        Some(Box::new(RegionFile { file, path, lock, stretch: Mutex::default(), ..self.inner }))
    }
}

/// The length of a slice, as an offset.
fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
