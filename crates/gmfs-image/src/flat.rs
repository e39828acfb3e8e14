//! Flattened streams: what `makedumpfile -F` writes to a pipe, and QEMU's `dump-guest-memory -z` to a file. Read as if
//! rearranged, without unpacking.
//!
//! A stream is records, each with the place of its bytes in the rearranged file. Opening walks over their headers once
//! and keeps 24 bytes for each. Records overlap in real streams, and the last one wins. What no record has is zero in the
//! rearranged file; but in a stream that was cut it may have been lost with the rest, so there it is
//! [`Absence::Truncated`].
//!
//! ```
//! # fn example(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs_image::{RegionFile, flat::FlatFile, kdump::KdumpDump};
//! let rearranged = FlatFile::parse(RegionFile::open(path)?)?;
//! let dump = KdumpDump::parse(rearranged)?;
//! # Ok(())
//! # }
//! ```

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use gmfs_format::io::{Absence, ReadAt, ReadError, Span};

use crate::extents::{Extent, Extents, Wins};

/// So many records are taken at most: half a TiB of stream where each has 16 KiB, as QEMU's have. It bounds the index to
/// 800 MiB.
pub const MAX_RECORDS: u64 = 1 << 25;
/// Where the first record is.
const FIRST: u64 = 4096;
/// A record's header.
const HEADER: u64 = 16;
/// How much is read at once where records are small.
const AHEAD: usize = 64 << 10;
/// Such a record is small.
const SMALL: u64 = 2048;

/// Why a file is not a flattened stream that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlatError {
    /// It does not begin as a stream of a known version does.
    #[error("this is no flattened dump of a known version")]
    Signature,
    /// No record could be read.
    #[error("the flattened dump has no record that can be read")]
    Empty,
    /// There are more than [`MAX_RECORDS`].
    #[error("the flattened dump has more than {MAX_RECORDS} records; rearrange it with `makedumpfile -R`")]
    TooManyRecords,
    /// The rearranged file is a flattened stream again, which no tool writes.
    #[error("the flattened dump holds another flattened dump; rearrange it with `makedumpfile -R`")]
    Nested,
    /// The file could not be read.
    #[error("cannot read the records of the flattened dump")]
    Read(#[from] ReadError),
}

/// What a stream says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlatFacts {
    /// How many records it has.
    pub records: u64,
    /// The end mark is missing, or a record is damaged: what comes behind is lost.
    pub cut: bool,
}

/// The rearranged file that a flattened stream describes.
#[derive(Debug)]
pub struct FlatFile<R> {
    file: R,
    extents: Extents,
    facts: FlatFacts,
}

/// Reads headers of records: one by one, or many at once where they lie close together.
struct Headers<'f, R> {
    file: &'f R,
    size: u64,
    buf: Vec<u8>,
    start: u64,
    /// The record before was small.
    small: bool,
}

impl<R: ReadAt> Headers<'_, R> {
    /// The offset and the size in the header at `at`, or `None` if it is cut off.
    fn read(&mut self, at: u64) -> Result<Option<(i64, i64)>, ReadError> {
        if at.checked_add(HEADER).is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        let index = at.checked_sub(self.start).and_then(|ahead| usize::try_from(ahead).ok());
        let known = index.and_then(|index| self.buf.get(index..)?.first_chunk::<16>());
        let raw = match known {
            Some(raw) => *raw,
            None => {
                let length = if self.small { AHEAD } else { 16 };
                let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(AHEAD);
                self.buf.resize(length.min(left), 0);
                self.start = at;
                self.file.read_at(at, &mut self.buf)?;
                self.buf.first_chunk::<16>().copied().unwrap_or_default()
            }
        };
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = raw;
        let size = i64::from_be_bytes([i, j, k, l, m, n, o, p]);
        self.small = size.unsigned_abs() < SMALL;
        Ok(Some((i64::from_be_bytes([a, b, c, d, e, f, g, h]), size)))
    }
}

impl<R: ReadAt> FlatFile<R> {
    /// Walks over the records of the stream in `file`.
    ///
    /// # Errors
    /// [`FlatError`]. A stream that was cut is no error.
    pub fn parse(file: R) -> Result<Self, FlatError> {
        let size = file.end().unwrap_or(u64::MAX);
        let mut head = [0; 32];
        if size < 32 {
            return Err(FlatError::Signature);
        }
        file.read_at(0, &mut head)?;
        // Type 1 and version 1, big-endian.
        if !head.starts_with(b"makedumpfile\0\0\0\0")
            || !head.ends_with(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1])
        {
            return Err(FlatError::Signature);
        }
        let (list, cut) = walk(&file, size, MAX_RECORDS)?;
        if list.is_empty() {
            return Err(FlatError::Empty);
        }
        let records = u64::try_from(list.len()).unwrap_or(u64::MAX);
        let flat = Self { file, extents: Extents::new(list, Wins::Last), facts: FlatFacts { records, cut } };
        let mut inner = [0; 16];
        if flat.read_at(0, &mut inner).is_ok() && inner == *b"makedumpfile\0\0\0\0" {
            return Err(FlatError::Nested);
        }
        Ok(flat)
    }

    /// What the stream says of itself.
    #[must_use]
    pub const fn facts(&self) -> &FlatFacts {
        &self.facts
    }

    /// An error of the stream as one of the rearranged file.
    fn error(error: ReadError, at: u64, length: usize) -> ReadError {
        let span = Span::new(at, u64::try_from(length).unwrap_or(u64::MAX));
        match error {
            // It was there when the records were walked over.
            ReadError::Absent { .. } => ReadError::Absent { span, why: Absence::Truncated },
            ReadError::Io { source, .. } => ReadError::Io { span, source },
        }
    }
}

/// All records in the order of the file, `most` of them, and whether some are missing.
fn walk(file: &impl ReadAt, size: u64, most: u64) -> Result<(Vec<Extent>, bool), FlatError> {
    let mut list = Vec::new();
    let mut headers = Headers { file, size, buf: Vec::new(), start: 0, small: true };
    let mut at = FIRST;
    loop {
        let Some((offset, length)) = headers.read(at)? else { return Ok((list, true)) };
        if (offset, length) == (-1, -1) {
            return Ok((list, false));
        }
        let (Ok(start), Ok(len)) = (u64::try_from(offset), u64::try_from(length)) else {
            return Ok((list, true));
        };
        if len == 0 || offset.checked_add(length).is_none() {
            return Ok((list, true));
        }
        if u64::try_from(list.len()).is_ok_and(|count| count >= most) {
            return Err(FlatError::TooManyRecords);
        }
        let place = at.saturating_add(HEADER);
        let there = len.min(size.saturating_sub(place));
        list.push(Extent { start, len: there, place });
        if there < len {
            return Ok((list, true));
        }
        at = place.saturating_add(len);
    }
}

impl<R: ReadAt> ReadAt for FlatFile<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if let Some((span, why)) = self.next_absent(offset..end) {
            return Err(ReadError::Absent { span, why });
        }
        let mut rest = buf;
        let mut at = offset;
        for extent in self.extents.from(offset) {
            if rest.is_empty() {
                break;
            }
            let before = usize::try_from(extent.start.saturating_sub(at)).unwrap_or(usize::MAX);
            let (zeros, later) = rest.split_at_mut(before.min(rest.len()));
            zeros.fill(0);
            at = at.max(extent.start);
            let left = usize::try_from(extent.end().saturating_sub(at)).unwrap_or(usize::MAX);
            let (now, later) = later.split_at_mut(left.min(later.len()));
            self.file.read_at(extent.place_of(at), now).map_err(|e| Self::error(e, at, now.len()))?;
            at = extent.end();
            rest = later;
        }
        rest.fill(0);
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.extents.end())
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        if range.start >= range.end {
            return Ok(None);
        }
        let absent = self.next_absent(range.clone()).map(|(span, _)| span.offset..range.end);
        let held = self.extents.held(range.clone());
        Ok(match (held, absent) {
            // What is absent is not zero.
            (Some(held), Some(absent)) if absent.start < held.start => Some(absent),
            (Some(held), _) => Some(held),
            (None, absent) => absent,
        })
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        let (why, from) = if self.facts.cut {
            let gap = self.extents.gap(range)?;
            (Absence::Truncated, gap)
        } else {
            let from = range.start.max(self.extents.end());
            (Absence::BeyondEnd, from..range.end)
        };
        (from.start < from.end).then(|| (Span::new(from.start, from.end.saturating_sub(from.start)), why))
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, reason = "the numbers are the tests' own")]
mod tests;
