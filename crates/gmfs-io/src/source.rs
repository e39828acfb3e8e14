//! The traits for sources of bytes: one to read at an offset, another to write.
//!
//! This module does no I/O. It owns one distinction that everything above relies on: bytes that are *absent* (a dump
//! does not hold them) are neither zero nor an I/O error.

use std::fmt;
use std::ops::Range;

use crate::num::len64;

/// A half-open range of bytes, `[offset, offset + len)`, in whatever space its user states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Span {
    /// The span of `len` bytes from `offset`. It is cut at the end of the 64-bit space, where numbers out of an image
    /// may lead.
    #[must_use]
    pub const fn new(offset: u64, len: u64) -> Self {
        let room = u64::MAX.saturating_sub(offset);
        Self { offset, len: if len > room { room } else { len } }
    }

    /// One past the last byte, saturating at the end of the 64-bit space.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Whether the two have bytes in common.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    /// The bytes that the two have in common.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        let (start, end) = (self.offset.max(other.offset), self.end().min(other.end()));
        (start < end).then(|| Self::new(start, end.saturating_sub(start)))
    }

    /// The parts that are in none of `covers`, ascending. `covers` may be in any order, and may overlap.
    #[must_use]
    pub fn without(self, covers: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut covers: Vec<Self> = covers.into_iter().filter_map(|cover| cover.common(self)).collect();
        covers.sort();
        let mut found = Vec::new();
        let mut at = self.offset;
        for cover in covers {
            if cover.offset > at {
                found.push(Self::new(at, cover.offset.saturating_sub(at)));
            }
            at = at.max(cover.end());
        }
        if at < self.end() {
            found.push(Self::new(at, self.end().saturating_sub(at)));
        }
        found
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.offset, self.end())
    }
}

/// Why bytes are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Absence {
    /// Past the end of the image.
    BeyondEnd,
    /// The dump describes no memory there: its writer did not take this range for RAM.
    NotInDump,
    /// The dump knows the page but left it out (filtered by the dump tool).
    Excluded,
    /// The dump says that the bytes are there, but its file was cut short.
    Truncated,
    /// The dump has an entry for the page, and its writer recorded no data for it.
    NoData,
    /// A hole in a file of memory whose holes are pages that it does not hold.
    Hole,
    /// The dump has something for the page that cannot be decoded, or whose checksum is wrong.
    Undecodable,
}

impl Absence {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeyondEnd => "beyond-end",
            Self::NotInDump => "not-in-dump",
            Self::Excluded => "excluded",
            Self::Truncated => "truncated",
            Self::NoData => "no-data",
            Self::Hole => "hole",
            Self::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeyondEnd => "past the end of the image",
            Self::NotInDump => "not in the dump",
            Self::Excluded => "left out of the dump",
            Self::Truncated => "cut off: the dump's file is too short",
            Self::NoData => "lost: the writer of the dump recorded no data for it",
            Self::Hole => "a hole in the file, which does not hold it",
            Self::Undecodable => "damaged: what the dump has for it cannot be decoded",
        })
    }
}

/// Why a read did not fill its buffer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The image does not hold these bytes. `span` is the first absent stretch of the range that was asked for.
    #[error("{} bytes at {:#x} are absent: {why}", span.len, span.offset)]
    Absent {
        /// What is missing, in the space of the source that was read.
        span: Span,
        /// Why it is missing.
        why: Absence,
    },
    /// The medium failed, or the memory is poisoned.
    #[error("cannot read {} bytes at {:#x}", span.len, span.offset)]
    Io {
        /// What was being read, in the space of the source that was read.
        span: Span,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ReadError {
    /// The same error as seen through a window that starts at `base` of the source: offsets become the window's.
    #[must_use]
    pub fn rebased(self, base: u64) -> Self {
        let shift = |span: Span| Span::new(span.offset.saturating_sub(base), span.len);
        match self {
            Self::Absent { span, why } => Self::Absent { span: shift(span), why },
            Self::Io { span, source } => Self::Io { span: shift(span), source },
        }
    }
}

/// Why a write, a zeroing or a barrier was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {} bytes at {:#x}", span.len, span.offset)]
pub struct WriteError {
    /// What was being written, in the space of the target.
    pub span: Span,
    /// What the system said.
    pub source: std::io::Error,
}

/// A source of bytes at offsets: a region file, a window of physical memory, a dump.
///
/// Offsets are bytes in the source's own space: an offset in a file, a physical address in `/dev/mem` and dumps, an
/// offset in the region behind a window. The source may change under the reader, so bytes are always copied out.
pub trait ReadAt: Send + Sync {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`ReadError::Absent`] if any byte of the range is not in the source, [`ReadError::Io`] if it is but cannot be
    /// read. What `buf` holds after an error is unspecified and must not be used.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError>;

    /// One past the last byte that the source can hold, or `None` where that is not known (physical memory).
    fn end(&self) -> Option<u64>;

    /// The first stretch in `range` that may hold anything but zeros, or `None` if all of it is known to read as zero
    /// (a hole). Absent bytes are not zero: they count as "may hold anything".
    ///
    /// # Errors
    /// [`ReadError::Io`] if the source cannot tell because of a failure.
    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        Ok((range.start < range.end).then_some(range))
    }

    /// The first absent stretch in `range` with its reason, or `None` if the source holds all of it. The stretch ends
    /// where the reason changes, where bytes are present again, or with `range`.
    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        let end = self.end()?;
        let from = range.start.max(end);
        (from < range.end).then(|| (Span::new(from, range.end.saturating_sub(from)), Absence::BeyondEnd))
    }

    /// The part of an open file that holds the first bytes of `range`, byte for byte, so that the kernel can copy them.
    /// `None` if the source is not a file, decodes what it reads, or does not hold the first byte: then only
    /// [`read_at`](Self::read_at) gives the bytes, which it always does.
    ///
    /// The file may have become shorter since it was opened. What the kernel does not copy must be read with
    /// [`read_at`](Self::read_at), which says what is missing and why.
    fn file_part(&self, range: Range<u64>) -> Option<FilePart<'_>> {
        let _ = range;
        None
    }
}

/// A part of an open file; see [`ReadAt::file_part`].
#[derive(Clone, Copy, Debug)]
pub struct FilePart<'f> {
    /// A regular file or a block device.
    pub file: &'f std::fs::File,
    /// Where the part starts in the file.
    pub offset: u64,
    /// Its length in bytes, at least 1.
    pub len: u64,
}

impl<'f> FilePart<'f> {
    /// As much of `range` as is before `end`, the file's; `None` if nothing is.
    #[must_use]
    pub fn of(file: &'f std::fs::File, range: Range<u64>, end: u64) -> Option<Self> {
        let len = range.end.min(end).checked_sub(range.start).filter(|len| *len > 0)?;
        Some(Self { file, offset: range.start, len })
    }
}

/// A source that can be written. What cannot be written (a dump) does not have this trait.
pub trait WriteAt: ReadAt {
    /// Writes all of `bytes` at `offset`. They are durable only after the next [`barrier`](Self::barrier).
    ///
    /// # Errors
    /// The medium failed or is full. Any part of the range may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError>;

    /// Makes `span` read as zero, as a hole where the medium has holes.
    ///
    /// # Errors
    /// The medium failed or is full. Any part of the range may have been zeroed.
    fn zero(&mut self, span: Span) -> Result<(), WriteError>;

    /// Makes everything that was written before durable, in the way of the medium, before anything that is written
    /// after.
    ///
    /// # Errors
    /// The medium failed; what was written since the last barrier may be durable or not.
    fn barrier(&mut self) -> Result<(), WriteError>;

    /// A reader of the same bytes, so that another thread can read ahead while this one writes; `None` if there can be
    /// none. It sees what was written before a read began. A read of a range that is being written meanwhile may return
    /// old bytes, new ones or a mixture.
    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        None
    }
}

/// Delegates the reading trait to whatever a smart pointer or reference points at.
macro_rules! delegate_read {
    ($($owner:ty),*) => {$(
        impl<T: ReadAt + ?Sized> ReadAt for $owner {
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
                (**self).read_at(offset, buf)
            }
            fn end(&self) -> Option<u64> {
                (**self).end()
            }
            fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
                (**self).next_data(range)
            }
            fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
                (**self).next_absent(range)
            }
            fn file_part(&self, range: Range<u64>) -> Option<FilePart<'_>> {
                (**self).file_part(range)
            }
        }
    )*};
}
delegate_read!(&T, &mut T, Box<T>, std::sync::Arc<T>);

/// Delegates the writing trait likewise.
macro_rules! delegate_write {
    ($($owner:ty),*) => {$(
        impl<T: WriteAt + ?Sized> WriteAt for $owner {
            fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
                (**self).write_at(offset, bytes)
            }
            fn zero(&mut self, span: Span) -> Result<(), WriteError> {
                (**self).zero(span)
            }
            fn barrier(&mut self) -> Result<(), WriteError> {
                (**self).barrier()
            }
            fn reader(&self) -> Option<Box<dyn ReadAt>> {
                (**self).reader()
            }
        }
    )*};
}
delegate_write!(&mut T, Box<T>);

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = Span::new(offset, len64(buf.len()));
        let from = usize::try_from(offset).ok();
        match from.and_then(|from| self.get(from..from.checked_add(buf.len())?)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => {
                let start = offset.max(len64(self.len()));
                let span = Span::new(start, wanted.end().saturating_sub(start));
                Err(ReadError::Absent { span, why: Absence::BeyondEnd })
            }
        }
    }

    fn end(&self) -> Option<u64> {
        Some(len64(self.len()))
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.as_slice().read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.as_slice().end()
    }
}

/// An open file as a source. Its holes are zeros, and are read as any other bytes.
///
/// A type of its own, because a method of [`File`](std::fs::File) has the same name as [`ReadAt::read_at`].
#[derive(Debug)]
pub struct PlainFile(pub std::fs::File);

impl ReadAt for PlainFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        use std::os::unix::fs::FileExt;
        let wanted = Span::new(offset, len64(buf.len()));
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(len64(done));
            match FileExt::read_at(&self.0, rest, at) {
                Ok(0) => {
                    let span = Span::new(at, wanted.end().saturating_sub(at));
                    return Err(ReadError::Absent { span, why: Absence::BeyondEnd });
                }
                Ok(more) => done = done.saturating_add(more),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { span: wanted, source }),
            }
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        self.0.metadata().ok().map(|metadata| metadata.len())
    }

    fn file_part(&self, range: Range<u64>) -> Option<FilePart<'_>> {
        FilePart::of(&self.0, range, self.end()?)
    }
}

impl WriteAt for Vec<u8> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, len64(bytes.len()));
        let from = usize::try_from(offset).ok();
        match from.and_then(|from| self.get_mut(from..from.checked_add(bytes.len())?)) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(WriteError { span, source: std::io::ErrorKind::UnexpectedEof.into() }),
        }
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        let from = usize::try_from(span.offset).ok();
        let len = usize::try_from(span.len).ok();
        match from.zip(len).and_then(|(from, len)| self.get_mut(from..from.checked_add(len)?)) {
            Some(place) => {
                place.fill(0);
                Ok(())
            }
            None => Err(WriteError { span, source: std::io::ErrorKind::UnexpectedEof.into() }),
        }
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

/// A part of a source seen as a space of its own that starts at 0: a region within physical memory, for one.
///
/// Nothing outside `[base, base + size)` can be read or written through it.
#[derive(Debug)]
pub struct Window<S> {
    source: S,
    base: u64,
    size: u64,
}

impl<S: ReadAt> Window<S> {
    /// The `size` bytes of `source` from `base`. A window that would pass the end of the 64-bit space is cut there.
    pub fn new(source: S, base: u64, size: u64) -> Self {
        let size = size.min(u64::MAX.saturating_sub(base));
        Self { source, base, size }
    }

    /// Where the window starts in the source.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The window's length in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The source behind the window.
    pub fn into_inner(self) -> S {
        self.source
    }

    /// The range in the source, as far as the window covers it.
    fn outer(&self, range: &Range<u64>) -> Range<u64> {
        let clip = |at: u64| self.base.saturating_add(at.min(self.size));
        clip(range.start)..clip(range.end)
    }
}

impl<S: ReadAt> ReadAt for Window<S> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = Span::new(offset, len64(buf.len()));
        if offset.checked_add(wanted.len).is_none_or(|end| end > self.size) {
            let start = offset.max(self.size);
            let span = Span::new(start, wanted.end().saturating_sub(start));
            return Err(ReadError::Absent { span, why: Absence::BeyondEnd });
        }
        self.source.read_at(self.base.saturating_add(offset), buf).map_err(|e| e.rebased(self.base))
    }

    fn end(&self) -> Option<u64> {
        let inner = self.source.end().map_or(u64::MAX, |end| end.saturating_sub(self.base));
        Some(self.size.min(inner))
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        let found = self.source.next_data(self.outer(&range)).map_err(|e| e.rebased(self.base))?;
        Ok(found.map(|r| r.start.saturating_sub(self.base)..r.end.saturating_sub(self.base)))
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        let inside = self.outer(&range);
        if let Some((span, why)) = self.source.next_absent(inside) {
            return Some((Span::new(span.offset.saturating_sub(self.base), span.len), why));
        }
        let from = range.start.max(self.size);
        (from < range.end).then(|| (Span::new(from, range.end.saturating_sub(from)), Absence::BeyondEnd))
    }

    fn file_part(&self, range: Range<u64>) -> Option<FilePart<'_>> {
        self.source.file_part(self.outer(&range))
    }
}

impl<S: WriteAt> WriteAt for Window<S> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, len64(bytes.len()));
        self.guard(span)?;
        self.source.write_at(self.base.saturating_add(offset), bytes)
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.guard(span)?;
        self.source.zero(Span::new(self.base.saturating_add(span.offset), span.len))
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        self.source.barrier()
    }

    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        let reader = self.source.reader()?;
        Some(Box::new(Window::new(reader, self.base, self.size)))
    }
}

impl<S> Window<S> {
    /// Refuses a write that would leave the window.
    fn guard(&self, span: Span) -> Result<(), WriteError> {
        if span.offset.checked_add(span.len).is_some_and(|end| end <= self.size) {
            return Ok(());
        }
        Err(WriteError { span, source: std::io::ErrorKind::InvalidInput.into() })
    }
}
