//! The pieces of a window that are mapped at present, and the loops that copy through them.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use gmfs_io::Span;
use memmap2::{MmapOptions, MmapRaw};

use super::fault::{self, Fault, Pieces};
use crate::file::Access;

/// How many bytes are mapped at once, unless the device's alignment is larger.
const CHUNK: u64 = 64 << 20;
/// How many chunks stay mapped.
const KEPT: usize = 4;
/// How many bytes are copied before the copy checks whether a page failed.
const PIECE: usize = 4 << 20;

/// The access that a map allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// `PROT_READ`
    Read,
    /// `PROT_READ | PROT_WRITE`
    Write,
}

impl Protection {
    pub(super) const fn access(self) -> Access {
        match self {
            Self::Read => Access::Read,
            Self::Write => Access::Write,
        }
    }
}

/// The bytes that could not be copied, and why.
type Failure = (Span, io::Error);

/// One map. It starts at the device's byte `start`.
#[derive(Debug)]
pub(super) struct Chunk {
    start: u64,
    map: MmapRaw,
    /// The number of page replacements in this process when the chunk was mapped.
    born: u64,
}

/// A window of a device, and the chunks of it that are mapped.
#[derive(Debug)]
pub(super) struct Chunks {
    file: File,
    /// The range that may be mapped: the window, extended to whole granules.
    bounds: Span,
    granule: u64,
    chunk: u64,
    protection: Protection,
    recent: Mutex<VecDeque<Arc<Chunk>>>,
}

impl Chunks {
    /// `granule` divides the start and the length of each map: it is the page size, or the device's alignment. It must
    /// be a power of two.
    pub(super) fn new(file: File, window: Span, granule: u64, protection: Protection) -> Self {
        let start = round_down(window.offset, granule);
        let end = round_down(window.end().saturating_add(granule.saturating_sub(1)), granule);
        let bounds = Span::new(start, end.saturating_sub(start));
        Self { file, bounds, granule, chunk: CHUNK.max(granule), protection, recent: Mutex::default() }
    }

    /// The same window of the same open device, with read-only maps of its own.
    pub(super) fn reader(&self) -> Option<Self> {
        let file = self.file.try_clone().ok()?;
        Some(Self { file, protection: Protection::Read, recent: Mutex::default(), ..*self })
    }

    /// Copies the device's bytes from `offset` into `buf`.
    pub(super) fn copy_out(&self, offset: u64, buf: &mut [u8]) -> Result<(), Failure> {
        let len = buf.len();
        self.each_piece(offset, len, |map, at, piece| {
            let target = buf.get_mut(piece).unwrap_or_default();
            fault::copy_out(map, at, target)
        })
    }

    /// Copies `bytes` into the device from `offset`.
    pub(super) fn copy_in(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.each_piece(offset, bytes.len(), |map, at, piece| {
            fault::copy_in(map, at, bytes.get(piece).unwrap_or_default())
        })
    }

    /// Stores zeros.
    pub(super) fn clear(&self, span: Span) -> Result<(), Failure> {
        self.each_part(span, |map, at, piece| fault::clear(map, at, piece.len()))
    }

    /// Writes the cache lines of `span` back to memory.
    pub(super) fn flush(&self, span: Span) -> Result<(), Failure> {
        self.each_part(span, |map, at, piece| fault::write_back(map, at, piece.len()))
    }

    /// Like [`each_piece`](Self::each_piece), for spans that may be longer than a `usize` can count.
    fn each_part(
        &self,
        span: Span,
        mut work: impl FnMut(&Pieces<'_>, usize, std::ops::Range<usize>) -> Result<(), Fault>,
    ) -> Result<(), Failure> {
        let mut at = span.offset;
        while at < span.end() {
            let len = span.end().saturating_sub(at).min(CHUNK);
            self.each_piece(at, usize::try_from(len).unwrap_or(PIECE), &mut work)?;
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Calls `work` for each mapped piece, with the map, the offset in it, and the piece's part of the whole range. If
    /// a fault in another thread may have touched the piece, it is done again on a new map.
    fn each_piece(
        &self,
        offset: u64,
        len: usize,
        mut work: impl FnMut(&Pieces<'_>, usize, std::ops::Range<usize>) -> Result<(), Fault>,
    ) -> Result<(), Failure> {
        let mut done = 0;
        while done < len {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let chunk = self.chunk_at(at)?;
            let inside = usize::try_from(at.saturating_sub(chunk.start)).unwrap_or(usize::MAX);
            let left = chunk.map.len().saturating_sub(inside);
            let piece = len.saturating_sub(done).min(left).min(PIECE);
            if piece == 0 {
                return Err((Span::new(at, 1), io::ErrorKind::UnexpectedEof.into()));
            }
            let next = done.saturating_add(piece);
            let map = Pieces::new(&chunk.map, usize::try_from(self.granule).unwrap_or(usize::MAX));
            if let Err(fault) = work(&map, inside, done..next) {
                self.forget(&chunk);
                return Err(self.describe(&chunk, fault, at, u64::try_from(piece).unwrap_or(u64::MAX)));
            }
            if fault::replaced() == chunk.born {
                done = next;
            } else {
                self.forget(&chunk);
            }
        }
        Ok(())
    }

    /// The failure of a copy of `len` bytes at the device's byte `from`: the part of them that is in the page that
    /// failed.
    fn describe(&self, chunk: &Chunk, fault: Fault, from: u64, len: u64) -> Failure {
        let at = chunk.start.saturating_add(u64::try_from(fault.at).unwrap_or(u64::MAX));
        let page = round_down(at, fault::page_size());
        let start = page.max(from);
        let end = page.saturating_add(fault::page_size()).min(from.saturating_add(len));
        let span = Span::new(start, end.saturating_sub(start));
        if fault.errno != 0 {
            return (span, io::Error::from_raw_os_error(fault.errno));
        }
        let message = format!(
            "memory at {at:#x} cannot be {} (bus error: hardware poison, or beyond the device)",
            if self.protection == Protection::Read { "read" } else { "accessed" }
        );
        (span, io::Error::other(message))
    }

    /// The mapped chunk that holds the device's byte `offset`.
    fn chunk_at(&self, offset: u64) -> Result<Arc<Chunk>, Failure> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fault::replaced();
        // In a map that is older than the last fault, a page may have been replaced by zeros.
        recent.retain(|chunk| chunk.born == now);
        let known = recent.iter().position(|chunk| chunk.holds(offset));
        if let Some(found) = known.and_then(|index| recent.remove(index)) {
            recent.push_front(Arc::clone(&found));
            return Ok(found);
        }
        let chunk = Arc::new(self.map(offset, now)?);
        recent.truncate(KEPT.saturating_sub(1));
        recent.push_front(Arc::clone(&chunk));
        Ok(chunk)
    }

    fn map(&self, offset: u64, born: u64) -> Result<Chunk, Failure> {
        let aligned = round_down(offset, self.chunk);
        let start = aligned.max(self.bounds.offset);
        let end = aligned.saturating_add(self.chunk).min(self.bounds.end());
        let span = Span::new(start, end.saturating_sub(start));
        let len = usize::try_from(span.len).map_err(|_| (span, io::ErrorKind::OutOfMemory.into()))?;
        let mut options = MmapOptions::new();
        options.offset(start).len(len);
        let map = match self.protection {
            Protection::Read => options.map_raw_read_only(&self.file),
            Protection::Write => options.map_raw(&self.file),
        };
        let map = map.map_err(|source| (span, refused(source)))?;
        Ok(Chunk { start, map, born })
    }

    /// Drops the chunk, which is unmapped when no copy uses it.
    fn forget(&self, chunk: &Arc<Chunk>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|known| !Arc::ptr_eq(known, chunk));
    }
}

impl Chunk {
    fn holds(&self, offset: u64) -> bool {
        let len = u64::try_from(self.map.len()).unwrap_or(0);
        offset.checked_sub(self.start).is_some_and(|inside| inside < len)
    }
}

/// Adds an explanation to the error for memory that `/dev/mem` can open but not map.
pub(super) fn refused(source: io::Error) -> io::Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the kernel does not let this memory be mapped (it is in use, or lockdown is on): {source}"),
        ),
        io::ErrorKind::InvalidInput => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the kernel cannot map this memory (no such address, or another cache mode is in use): {source}"),
        ),
        _ => source,
    }
}

const fn round_down(value: u64, granule: u64) -> u64 {
    value & !(granule.saturating_sub(1))
}
