//! Flattened streams: what `makedumpfile -F` writes to a pipe, and QEMU's `dump-guest-memory -z` to a file. Read as if
//! rearranged, without unpacking.
//!
//! A stream is records, each with the place of its bytes in the rearranged file. Opening walks over their headers once
//! and keeps 24 bytes for each. Records overlap in real streams, and the last one wins. What no record has is zero in the
//! rearranged file; but in a stream that was cut it may have been lost with the rest, so there it is
//! [`Absence::Truncated`]. Behind a record whose header is damaged the next ones are found again; what no record has is
//! [`Absence::Undecodable`] then.
//!
//! ```
//! # fn example(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs_io::PlainFile;
//! use gmfs_dump::{flat::FlatFile, kdump::KdumpDump};
//! let rearranged = FlatFile::parse(PlainFile(std::fs::File::open(path)?))?;
//! let dump = KdumpDump::parse(rearranged)?;
//! # Ok(())
//! # }
//! ```

use std::ops::Range;

use gmfs_io::{Absence, ReadAt, ReadError, Span};

use crate::ahead::Ahead;
use gmfs_io::extents::{Extent, Extents, Wins, fill};

/// So many records are taken at most: half a TiB of stream where each has 16 KiB, as QEMU's have. It bounds the index to
/// 800 MiB.
pub const MAX_RECORDS: u64 = 1 << 25;
/// Where the first record is.
const FIRST: u64 = 4096;
/// A record's header.
const HEADER: u64 = 16;
/// No writer makes a larger record, which counts where a record is to be recognised without the one before it.
const LARGEST: i64 = 1 << 30;
/// So far the next record is looked for behind a damaged one.
const SEARCH: u64 = 64 << 20;
/// So many records that follow one another prove that there are some.
const CHAIN: usize = 4;

/// Why a file is not a flattened stream that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlatError {
    /// It does not begin as a stream of a known version does.
    #[error("this is no flattened dump")]
    Signature,
    /// A type or version that came after this program.
    #[error("the flattened dump has type {kind} and version {version}; only type 1 of version 1 is known")]
    Version {
        /// Its type.
        kind: u64,
        /// Its version.
        version: u64,
    },
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
    /// The file ends before the stream does.
    pub cut: bool,
    /// A record is damaged. Those behind it were found again, if there are any.
    pub damaged: bool,
}

/// The rearranged file that a flattened stream describes.
#[derive(Debug)]
pub struct FlatFile<R> {
    file: R,
    extents: Extents,
    facts: FlatFacts,
    /// The end of the stream was found: nothing belongs behind the last record.
    ended: bool,
}

/// A record's header: where its bytes belong, and how many there are. Both are -1 at the end of the stream.
fn header(raw: &[u8; 16]) -> (i64, i64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *raw;
    (i64::from_be_bytes([a, b, c, d, e, f, g, h]), i64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

/// Whether a header is one that writers make. What is larger may be one, too.
fn sane(raw: &[u8; 16]) -> bool {
    let (offset, length) = header(raw);
    (0..1 << 56).contains(&offset) && (1..=LARGEST).contains(&length)
}

/// What a header leads to.
enum Next {
    /// So many bytes for that place.
    Record(u64, u64),
    End,
    Damaged,
}

impl Next {
    fn of(raw: &[u8; 16]) -> Self {
        match header(raw) {
            (-1, -1) => Self::End,
            (offset, length) if offset >= 0 && length > 0 && offset.checked_add(length).is_some() => {
                Self::Record(offset.unsigned_abs(), length.unsigned_abs())
            }
            _ => Self::Damaged,
        }
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
        if !head.starts_with(b"makedumpfile\0\0\0\0") {
            return Err(FlatError::Signature);
        }
        let number =
            |at: usize| head.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u64::from_be_bytes(*raw));
        let (kind, version) = (number(16), number(24));
        if (kind, version) != (1, 1) {
            return Err(FlatError::Version { kind, version });
        }
        let Walked { list, cut, damaged, ended } = walk(&file, size, MAX_RECORDS)?;
        if list.is_empty() {
            return Err(FlatError::Empty);
        }
        let records = u64::try_from(list.len()).unwrap_or(u64::MAX);
        let flat =
            Self { file, extents: Extents::new(list, Wins::Last), facts: FlatFacts { records, cut, damaged }, ended };
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

    /// Why what no record has is absent from `at` on, and up to where, if it is not zero.
    fn lacking(&self, at: u64) -> Option<(u64, Absence)> {
        let end = self.extents.end();
        match (self.facts.damaged, self.ended) {
            (false, true) => None,
            (true, _) if at < end => Some((end, Absence::Undecodable)),
            (true, true) => None,
            (true, false) if !self.facts.cut => Some((u64::MAX, Absence::Undecodable)),
            (_, false) => Some((u64::MAX, Absence::Truncated)),
        }
    }
}

/// What is found from record to record.
#[derive(Debug)]
struct Walked {
    list: Vec<Extent>,
    cut: bool,
    damaged: bool,
    ended: bool,
}

/// Walks over the records, of which at most `most` are taken. Behind a record that makes no sense the next ones are looked
/// for: a record has no magic, but several of them lead to one another.
fn walk<R: ReadAt>(file: &R, size: u64, most: u64) -> Result<Walked, FlatError> {
    let mut found = Walked { list: Vec::new(), cut: false, damaged: false, ended: false };
    let mut ahead = Ahead::new(file, size);
    let mut at = FIRST;
    loop {
        let Some(raw) = ahead.whole::<16>(at)? else {
            found.cut = true;
            return Ok(found);
        };
        let (start, len) = match Next::of(&raw) {
            Next::End => {
                found.ended = true;
                return Ok(found);
            }
            // One that reaches beyond the file was cut, if it can be true.
            Next::Record(start, len) if sane(&raw) || at.saturating_add(HEADER).saturating_add(len) <= size => {
                (start, len)
            }
            Next::Record(..) | Next::Damaged => {
                // The length of the record before may be what is wrong.
                let from = found.list.last().map_or(at, |last| last.place);
                let Some(next) = search(&mut ahead, from.max(at.saturating_sub(SEARCH)), at)? else {
                    // Nothing is found behind it.
                    found.damaged = true;
                    return Ok(found);
                };
                found.damaged = true;
                if let Some(last) = found.list.last_mut() {
                    last.len = last.len.min(next.saturating_sub(last.place));
                }
                at = next;
                continue;
            }
        };
        if u64::try_from(found.list.len()).is_ok_and(|count| count >= most) {
            return Err(FlatError::TooManyRecords);
        }
        let place = at.saturating_add(HEADER);
        let there = len.min(size.saturating_sub(place));
        found.list.push(Extent { start, len: there, place });
        if there < len {
            found.cut = true;
            return Ok(found);
        }
        at = place.saturating_add(len);
    }
}

/// The first record from `from` on, but not the one at `bad`, that leads to others.
fn search<R: ReadAt>(ahead: &mut Ahead<'_, R>, from: u64, bad: u64) -> Result<Option<u64>, ReadError> {
    ahead.search::<16>(from, bad.saturating_add(SEARCH), sane, |ahead, place| {
        let mut at = place;
        for _ in 0..CHAIN {
            let Some(raw) = ahead.whole::<16>(at)? else { return Ok(at == ahead.size() && at > place) };
            match Next::of(&raw) {
                Next::End => return Ok(at > place),
                Next::Record(_, len) if sane(&raw) => at = at.saturating_add(HEADER).saturating_add(len),
                _ => return Ok(false),
            }
        }
        Ok(true)
    })
}

impl<R: ReadAt> ReadAt for FlatFile<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if let Some((span, why)) = self.next_absent(offset..end) {
            return Err(ReadError::Absent { span, why });
        }
        let read = |place, at, now: &mut [u8]| self.file.read_at(place, now).map_err(|e| Self::error(e, at, now.len()));
        let (_, rest) = fill(self.extents.from(offset).iter().copied(), offset, buf, read)?;
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
        let end = self.extents.end();
        if let Some((limit, why)) = self.lacking(range.start)
            && let Some(gap) = self.extents.gap(range.start..range.end.min(limit))
        {
            return Some((Span::new(gap.start, gap.end.saturating_sub(gap.start)), why));
        }
        let from = range.start.max(end);
        let why = self.lacking(from).map_or(Absence::BeyondEnd, |(_, why)| why);
        (from < range.end).then(|| (Span::new(from, range.end.saturating_sub(from)), why))
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, reason = "the numbers are the tests' own")]
mod tests;
