//! Windows of live memory: `/dev/mem` at physical addresses, and devdax at offsets in the device.
//!
//! Both can only be mapped, because `read(2)` on `/dev/mem` stops at the capture kernel's high memory. Other programs
//! may write the memory while it is read, and pages of it may be poisoned. Therefore:
//! - Bytes are copied out word by word, and no reference into a map leaves this module.
//! - Only the pieces that are accessed are mapped, a few at a time, so that a window of a TiB needs few page tables.
//! - A bus error during a copy becomes an error of that copy, with the address; see `mapped/fault.rs`.
//!
//! [`MappedWindow`] maps with `PROT_READ`, from a descriptor that was opened with `O_RDONLY`. Only a [`WritableWindow`]
//! can be written. A writable window of `/dev/mem` exists only where [`IoMem`] allows it.
//!
//! [`Joined`] is different: it is memory for a VMM, whose guest loads and stores in it as it likes. This crate only gives
//! out its address.

mod chunks;
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "its numbers are addresses within maps")]
mod fault;
mod joined;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

use crate::file::{Access, FileError, Node, node_of, open_device};
use crate::iomem::{Held, IoMem};
use crate::lock::{Locking, Mode, RangeLock};
use crate::sysfs;
pub use crate::sysfs::SysfsError;
use chunks::{Chunks, Protection};
pub use joined::Joined;

/// After this many separate ranges, dirty cache lines are written back without waiting for a barrier.
const DIRTY_STRETCHES: usize = 1024;

/// Why a window of memory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The device could not be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// The device is neither `/dev/mem` nor devdax.
    #[error("{} is not a devdax device", path.display())]
    NotDevDax {
        /// The path that was to be mapped.
        path: PathBuf,
    },
    /// The window is empty, or passes the end of the address space.
    #[error("{} has no memory at {window} to map", path.display())]
    Window {
        /// The path that was to be mapped.
        path: PathBuf,
        /// The window that was asked for.
        window: Span,
    },
    /// The window is not within the device.
    #[error("the window {window} is not within {}, which has {size} bytes", path.display())]
    Outside {
        /// The path that was to be mapped.
        path: PathBuf,
        /// The window that was asked for, as offsets in the device.
        window: Span,
        /// The device's size in bytes.
        size: u64,
    },
    /// A part of the device that was to be mapped does not start or end where the device lets maps start and end.
    #[error(
        "{part} of {} cannot be mapped: maps of it start and end at multiples of {granule} bytes",
        path.display()
    )]
    Unaligned {
        /// The path that was to be mapped.
        path: PathBuf,
        /// The part.
        part: Span,
        /// What its start and its length must be multiples of.
        granule: u64,
    },
    /// The system refused a map.
    #[error("cannot map {part} of {}", path.display())]
    Refused {
        /// The path that was to be mapped.
        path: PathBuf,
        /// The part; or all parts together, if there are no addresses for them.
        part: Span,
        /// The error that the system returned.
        source: io::Error,
    },
    /// The kernel or a device uses the memory of the window.
    #[error(transparent)]
    Held(#[from] Held),
    /// The device's size and alignment could not be read.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// The process has no handler for bus errors, so poisoned memory would end it. See [`survive_bus_errors`].
    #[error("memory cannot be mapped before a handler for bus errors is installed")]
    Unprepared,
}

/// Makes the process survive bus errors of memory that this crate reads. It installs a handler for SIGBUS, for the
/// whole process and its whole life. A program calls it before it opens a window of memory; further calls do nothing.
///
/// For other bus errors the handler does what the process did before. There is one change: when the hardware reports
/// poison that no thread has accessed (`BUS_MCEERR_AO`), the process no longer ends.
///
/// # Errors
/// The system refuses the handler. Windows are then refused with [`MapError::Unprepared`].
pub fn survive_bus_errors() -> io::Result<()> {
    fault::install()
}

/// What a barrier must do to make stores durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// DRAM: stores last as long as the power, and the caches are coherent across kexec. A barrier is a fence.
    Volatile,
    /// Persistent memory: a barrier writes the dirty cache lines back.
    Persistent,
}

/// A window of memory that can only be read. Offsets are those of the device: physical addresses in `/dev/mem`.
#[derive(Debug)]
pub struct MappedWindow {
    chunks: Chunks,
    window: Span,
    end: Option<u64>,
}

impl MappedWindow {
    /// Opens the physical range `window` through `path`, which is `/dev/mem` or another node of it. It maps nothing
    /// yet.
    ///
    /// # Errors
    /// [`MapError::File`], [`MapError::Window`].
    pub fn dev_mem(path: &Path, window: Span) -> Result<Self, MapError> {
        let file = open_device(path, Access::Read)?;
        Self::new(file, path, window, fault::page_size(), None, Protection::Read)
    }

    /// Opens the devdax device at `path`: the bytes `window` of it, or all of it.
    ///
    /// # Errors
    /// [`MapError::NotDevDax`], [`MapError::Outside`] and the other variants of [`MapError`].
    pub fn dev_dax(path: &Path, window: Option<Span>) -> Result<Self, MapError> {
        Self::dax(path, window, Protection::Read)
    }

    fn dax(path: &Path, window: Option<Span>, protection: Protection) -> Result<Self, MapError> {
        let Node::Char { major, minor } = node_of(path)? else {
            return Err(MapError::NotDevDax { path: path.to_owned() });
        };
        let device = sysfs::dev_dax(Path::new("/sys"), major, minor)?
            .ok_or_else(|| MapError::NotDevDax { path: path.to_owned() })?;
        let window = window.unwrap_or(Span::new(0, device.size));
        if window.offset.checked_add(window.len).is_none_or(|end| end > device.size) {
            return Err(MapError::Outside { path: path.to_owned(), window, size: device.size });
        }
        let file = open_device(path, protection.access())?;
        Self::new(file, path, window, device.align.max(fault::page_size()), Some(window.end()), protection)
    }

    /// A window of a regular file, which tests can truncate while it is mapped.
    #[cfg(test)]
    pub(crate) fn map_file(path: &Path, window: Span) -> Result<Self, MapError> {
        survive_bus_errors().unwrap();
        let file = File::open(path).unwrap();
        Self::new(file, path, window, fault::page_size(), None, Protection::Read)
    }

    fn new(
        file: File,
        path: &Path,
        window: Span,
        granule: u64,
        end: Option<u64>,
        protection: Protection,
    ) -> Result<Self, MapError> {
        // mmap(2) accepts offsets below 2^63.
        let limit = (1_u64 << 63).saturating_sub(granule);
        if window.len == 0 || window.offset.checked_add(window.len).is_none_or(|end| end > limit) {
            return Err(MapError::Window { path: path.to_owned(), window });
        }
        if !fault::is_installed() {
            return Err(MapError::Unprepared);
        }
        Ok(Self { chunks: Chunks::new(file, window, granule, protection), window, end })
    }

    /// The window, as offsets in the device.
    #[must_use]
    pub const fn window(&self) -> Span {
        self.window
    }

    /// The part of a span from the first byte that is outside the window, if there is one.
    fn outside(&self, wanted: Span) -> Option<Span> {
        if wanted.len == 0 {
            return None;
        }
        let (from, to) = (self.window.offset, self.window.end());
        if wanted.offset < from {
            return Some(Span::new(wanted.offset, wanted.end().min(from).saturating_sub(wanted.offset)));
        }
        let start = wanted.offset.max(to);
        (wanted.end() > to).then(|| Span::new(start, wanted.end().saturating_sub(start)))
    }
}

impl ReadAt for MappedWindow {
    /// A failure of the memory itself is [`ReadError::Io`] with the span of the first page that failed.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = Span::new(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if let Some(span) = self.outside(wanted) {
            return Err(ReadError::Absent { span, why: Absence::BeyondEnd });
        }
        self.chunks.copy_out(offset, buf).map_err(|(span, source)| ReadError::Io { span, source })
    }

    fn end(&self) -> Option<u64> {
        self.end
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        let len = range.end.saturating_sub(range.start);
        self.outside(Span::new(range.start, len)).map(|span| (span, Absence::BeyondEnd))
    }
}

/// A window of memory that can be written. It is locked as long as it exists.
#[derive(Debug)]
pub struct WritableWindow {
    inner: MappedWindow,
    durability: Durability,
    dirty: Vec<Span>,
    /// `None` in tests only.
    _lock: Option<RangeLock>,
}

impl WritableWindow {
    /// Opens the physical range `window` through `path` (`/dev/mem`) for writing, if `resources` (from `/proc/iomem`)
    /// allows it: all of the range must be reserved or persistent memory, and none of it may be used by the kernel.
    ///
    /// # Errors
    /// [`MapError::Held`] with the resources that use the range; [`MapError::File`], [`MapError::Window`].
    pub fn dev_mem(path: &Path, window: Span, resources: &IoMem, how: &Locking<'_>) -> Result<Self, MapError> {
        resources.writable(window)?;
        let durability = if resources.is_persistent(window) { Durability::Persistent } else { Durability::Volatile };
        let file = open_device(path, Access::Write)?;
        let inner = MappedWindow::new(file, path, window, fault::page_size(), None, Protection::Write)?;
        Self::locked(inner, path, durability, how)
    }

    /// Opens the devdax device at `path` for writing: the bytes `window` of it, or all of it.
    ///
    /// # Errors
    /// Those of [`MappedWindow::dev_dax`], and [`FileError::Locked`].
    pub fn dev_dax(path: &Path, window: Option<Span>, how: &Locking<'_>) -> Result<Self, MapError> {
        let inner = MappedWindow::dax(path, window, Protection::Write)?;
        Self::locked(inner, path, Durability::Persistent, how)
    }

    /// Locks the window only, not the whole device.
    fn locked(inner: MappedWindow, path: &Path, durability: Durability, how: &Locking<'_>) -> Result<Self, MapError> {
        let how = Locking { span: Some(inner.window), ..*how };
        let lock = RangeLock::take(path, Mode::Exclusive, &how)?;
        Ok(Self { inner, durability, dirty: Vec::new(), _lock: Some(lock) })
    }

    /// Like [`MappedWindow::map_file`].
    #[cfg(test)]
    pub(crate) fn map_file(path: &Path, window: Span, durability: Durability) -> Result<Self, MapError> {
        survive_bus_errors().unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let inner = MappedWindow::new(file, path, window, fault::page_size(), None, Protection::Write)?;
        Ok(Self { inner, durability, dirty: Vec::new(), _lock: None })
    }

    /// The window, as offsets in the device.
    #[must_use]
    pub const fn window(&self) -> Span {
        self.inner.window
    }

    /// What a barrier does for this window.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    fn guard(&self, span: Span) -> Result<(), WriteError> {
        let wraps = span.offset.checked_add(span.len).is_none();
        if wraps || self.inner.outside(span).is_some() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "that is outside the window of memory");
            return Err(WriteError { span, source });
        }
        Ok(())
    }

    /// Records a range that was stored, for the next barrier. Ranges that follow one another are joined.
    fn touched(&mut self, span: Span) -> Result<(), WriteError> {
        match self.dirty.last_mut() {
            Some(last) if last.end() == span.offset => last.len = last.len.saturating_add(span.len),
            _ => self.dirty.push(span),
        }
        if self.dirty.len() > DIRTY_STRETCHES { self.barrier() } else { Ok(()) }
    }
}

impl ReadAt for WritableWindow {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.inner.end()
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        self.inner.next_absent(range)
    }
}

impl WriteAt for WritableWindow {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.guard(span)?;
        // A write that failed half way has made cache lines dirty too.
        let done = self.inner.chunks.copy_in(offset, bytes).map_err(|(span, source)| WriteError { span, source });
        done.and(self.touched(span))
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.guard(span)?;
        let done = self.inner.chunks.clear(span).map_err(|(span, source)| WriteError { span, source });
        done.and(self.touched(span))
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        let dirty = std::mem::take(&mut self.dirty);
        if self.durability == Durability::Persistent {
            for span in dirty {
                self.inner.chunks.flush(span).map_err(|(span, source)| WriteError { span, source })?;
            }
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    /// A read-only window of the same open device, with maps of its own.
    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(MappedWindow { chunks: self.inner.chunks.reader()?, ..self.inner }))
    }
}

#[cfg(test)]
mod tests;
