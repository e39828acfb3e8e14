//! Reads flattened streams, as `makedumpfile -F` writes them to a pipe and QEMU's `dump-guest-memory -z` to a file. The
//! reader presents the rearranged file, without unpacking the stream.
//!
//! A stream consists of records. Each record says where in the rearranged file its bytes belong. Opening reads the
//! headers of all records once and keeps 24 bytes for each. Records overlap in real streams; the last one wins. Ranges
//! of the rearranged file that no record covers are zero. In a stream that was cut short, their records may have been
//! lost, so they are [`Absence::Truncated`]. After a record with a damaged header the reader searches for the next
//! record; ranges that no record covers are then [`Absence::Undecodable`].
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

/// The maximum number of records: half a TiB of stream with records of 16 KiB, which is the size that QEMU writes. It
/// bounds the index to 800 MiB.
pub const MAX_RECORDS: u64 = 1 << 25;
/// The offset of the first record.
const FIRST: u64 = 4096;
/// The size of a record's header.
const HEADER: u64 = 16;
/// No writer makes larger records. A search for a record rejects larger ones.
const LARGEST: i64 = 1 << 30;
/// How many bytes after a damaged record are searched for the next one.
const SEARCH: u64 = 64 << 20;
/// How many records must follow one another before a search takes the first of them for a record.
const CHAIN: usize = 4;

/// Why a file is not a flattened stream that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlatError {
    /// The file does not start like a stream of a known version.
    #[error("this is not a flattened dump")]
    Signature,
    /// The type or the version is unknown to this program.
    #[error("the flattened dump has type {kind} and version {version}; gmfs knows only type 1, version 1")]
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
    /// The rearranged file is itself a flattened stream. No tool writes that.
    #[error("the flattened dump holds another flattened dump; rearrange it with `makedumpfile -R`")]
    Nested,
    /// The file could not be read.
    #[error("cannot read the records of the flattened dump")]
    Read(#[from] ReadError),
}

/// What a stream says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlatFacts {
    /// How many records it has.
    pub records: u64,
    /// Whether the file ends before the stream does.
    pub cut: bool,
    /// Whether a record is damaged. Records after it were found again, if there are any.
    pub damaged: bool,
}

/// The rearranged file that a flattened stream describes.
#[derive(Debug)]
pub struct FlatFile<R> {
    file: R,
    extents: Extents,
    facts: FlatFacts,
    /// Whether the end of the stream was found, so that no records are missing after the last one.
    ended: bool,
}

/// Decodes a record's header: where its bytes belong, and how many there are. Both are -1 at the end of the stream.
fn header(raw: &[u8; 16]) -> (i64, i64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *raw;
    (i64::from_be_bytes([a, b, c, d, e, f, g, h]), i64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

/// Whether a header has values that writers produce. A header with larger values may be valid too.
fn sane(raw: &[u8; 16]) -> bool {
    let (offset, length) = header(raw);
    (0..1 << 56).contains(&offset) && (1..=LARGEST).contains(&length)
}

/// What follows a header.
enum Next {
    /// A record: its offset in the rearranged file, and its length.
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
    /// Reads the headers of all records of the stream in `file`.
    ///
    /// # Errors
    /// [`FlatError`]. A stream that was cut short is not an error.
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

    /// What the stream says about itself.
    #[must_use]
    pub const fn facts(&self) -> &FlatFacts {
        &self.facts
    }

    /// Converts an error of reading the stream to one of reading the rearranged file.
    fn error(error: ReadError, at: u64, length: usize) -> ReadError {
        let span = Span::new(at, u64::try_from(length).unwrap_or(u64::MAX));
        match error {
            // The stream had these bytes when it was opened.
            ReadError::Absent { .. } => ReadError::Absent { span, why: Absence::Truncated },
            ReadError::Io { source, .. } => ReadError::Io { span, source },
        }
    }

    /// If bytes that no record covers are absent from `at` on: the end of that range, and why. `None` if they are zero.
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

/// What reading the headers of all records found.
#[derive(Debug)]
struct Walked {
    list: Vec<Extent>,
    cut: bool,
    damaged: bool,
    ended: bool,
}

/// Reads the headers of at most `most` records. After an invalid header it searches for the next record. A record has
/// no magic, so several valid headers in a chain identify one.
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
            // A record that reaches past the end of the file was cut short, if its header is sane.
            Next::Record(start, len) if sane(&raw) || at.saturating_add(HEADER).saturating_add(len) <= size => {
                (start, len)
            }
            Next::Record(..) | Next::Damaged => {
                // The length of the previous record may be what is damaged, so the search starts inside that record.
                let from = found.list.last().map_or(at, |last| last.place);
                let Some(next) = search(&mut ahead, from.max(at.saturating_sub(SEARCH)), at)? else {
                    // No record was found after the damage.
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

/// The first record at or after `from` that leads to more records. The one at `bad` does not count.
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
            // An absent range counts as data, because it is not zero.
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
