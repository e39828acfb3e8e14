//! Metadata dumps: the metadata pages of a region in one small file, each at its offset in the region. Nothing else of
//! the region is in it: every other byte is [`Absence::Excluded`].
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic `GMFSMETA` |
//! | 4 | version: 1 |
//! | 4 | flags: 1 names are obfuscated |
//! | 8 | length of the image that the region was read from, counted from the region's start |
//! | 8 | size of the region |
//! | 8 | its physical base; 0 = not known |
//! | 16 | its UUID |
//! | 4 | number n of stretches |
//! | 4 | CRC-32 of these 60 bytes |
//! | n × 24 | per stretch, ascending and apart: offset (8), length (8), kind (4; 0 bytes, 1 zeros), CRC-32 of its bytes (4) |
//! | 4 | CRC-32 of all stretches |
//! | | the bytes of the stretches of kind 0, one behind the other, to the end of the file |
//!
//! All numbers are little-endian; offsets and lengths are multiples of 4096. Opening reads the whole file and compares
//! every checksum, so that a dump that is cut, longer or changed anywhere is refused with what is wrong.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::{self, Write};
use std::ops::Range;

use gmfs_format::io::{Absence, ReadAt, ReadError, Span};
use gmfs_format::units::{PAGE_BYTES, PageBytes};

use crate::extents::{Extent, Extents, Wins};

/// The first bytes of the file.
pub const MAGIC: [u8; 8] = *b"GMFSMETA";
/// The version that is written and read.
pub const VERSION: u32 = 1;
/// Flag: names are obfuscated.
const OBFUSCATED: u32 = 1;
const HEADER: u64 = 64;
const ENTRY: u64 = 24;
const ZEROS: u32 = 1;
/// Bytes read at once when checksums are compared.
const PIECE: u64 = 1 << 20;

/// Why a file is no metadata dump that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaDumpError {
    /// The first bytes are other ones.
    #[error("this is no metadata dump")]
    Signature,
    /// A newer version.
    #[error("the metadata dump is of version {0}; this program knows version {VERSION}")]
    Version(u32),
    /// The file is shorter than what it describes.
    #[error("the metadata dump is cut: it has {size} bytes and needs {needed}")]
    Cut {
        /// Bytes in the file.
        size: u64,
        /// Bytes that it must have.
        needed: u64,
    },
    /// The file is longer than what it describes.
    #[error("{0} bytes lie behind the end of the metadata dump")]
    Longer(u64),
    /// A checksum does not match, or numbers cannot be.
    #[error("the metadata dump is damaged: {what} at byte {at}")]
    Damaged {
        /// What is damaged.
        what: &'static str,
        /// Where it starts in the file.
        at: u64,
    },
    /// The file could not be read.
    #[error("cannot read the metadata dump")]
    Read(#[from] ReadError),
}

/// What a metadata dump says of the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFacts {
    /// Names and label are not the region's own.
    pub obfuscated: bool,
    /// Length of the image that the region was read from, counted from the region's start.
    pub end: u64,
    /// Size of the region in bytes.
    pub size: u64,
    /// Physical base; 0 is not known.
    pub base: u64,
    /// The region's UUID.
    pub uuid: [u8; 16],
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    offset: u64,
    len: u64,
    zeros: bool,
    crc: u32,
}

/// Gathers pages for a metadata dump, and writes it.
#[derive(Debug)]
pub struct MetaDumpWriter {
    facts: MetaFacts,
    stretches: Vec<(Stretch, crc32fast::Hasher)>,
    bytes: Vec<u8>,
    pages: u64,
}

impl MetaDumpWriter {
    /// A dump without any pages yet.
    #[must_use]
    pub const fn new(facts: MetaFacts) -> Self {
        Self { facts, stretches: Vec::new(), bytes: Vec::new(), pages: 0 }
    }

    /// Adds the page at an offset of the region: a multiple of 4096 behind that of the page added last. Others are
    /// left out.
    pub fn page(&mut self, offset: u64, page: &PageBytes) {
        let zeros = page.iter().all(|byte| *byte == 0);
        let end = self.stretches.last().map_or(0, |(last, _)| last.offset.saturating_add(last.len));
        let fits = offset.checked_add(PAGE_BYTES).is_some_and(|page_end| page_end <= self.facts.end);
        if offset < end || !offset.is_multiple_of(PAGE_BYTES) || !fits {
            return;
        }
        match self.stretches.last_mut() {
            Some((last, sum)) if end == offset && last.zeros == zeros => {
                last.len = last.len.saturating_add(PAGE_BYTES);
                if !zeros {
                    sum.update(page);
                }
            }
            _ => {
                let mut sum = crc32fast::Hasher::new();
                if !zeros {
                    sum.update(page);
                }
                self.stretches.push((Stretch { offset, len: PAGE_BYTES, zeros, crc: 0 }, sum));
            }
        }
        if !zeros {
            self.bytes.extend_from_slice(page);
        }
        self.pages = self.pages.saturating_add(1);
    }

    /// Pages added so far.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Writes the dump.
    ///
    /// # Errors
    /// What the writer said.
    pub fn write_to(self, out: &mut impl Write) -> io::Result<()> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(if self.facts.obfuscated { OBFUSCATED } else { 0 }).to_le_bytes());
        for number in [self.facts.end, self.facts.size, self.facts.base] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&self.facts.uuid);
        let count = u32::try_from(self.stretches.len()).map_err(io::Error::other)?;
        head.extend_from_slice(&count.to_le_bytes());
        let sum = crc32fast::hash(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        let mut table = Vec::new();
        for (stretch, sum) in self.stretches {
            table.extend_from_slice(&stretch.offset.to_le_bytes());
            table.extend_from_slice(&stretch.len.to_le_bytes());
            table.extend_from_slice(&u32::from(stretch.zeros).to_le_bytes());
            table.extend_from_slice(&(if stretch.zeros { 0 } else { sum.finalize() }).to_le_bytes());
        }
        let sum = crc32fast::hash(&table);
        table.extend_from_slice(&sum.to_le_bytes());
        out.write_all(&head)?;
        out.write_all(&table)?;
        out.write_all(&self.bytes)
    }
}

/// A metadata dump over the bytes of its file, read by offset in the region.
#[derive(Debug)]
pub struct MetaDump<R> {
    file: R,
    facts: MetaFacts,
    /// Where the bytes lie in the file; [`u64::MAX`] for zeros.
    stretches: Vec<(Stretch, u64)>,
    held: Extents,
}

impl<R: ReadAt> MetaDump<R> {
    /// Reads the whole file and compares every checksum in it.
    ///
    /// # Errors
    /// [`MetaDumpError`].
    pub fn parse(file: R) -> Result<Self, MetaDumpError> {
        let size = file.end().unwrap_or(u64::MAX);
        let (facts, count) = header(&file, size)?;
        let table_len = u64::from(count).saturating_mul(ENTRY);
        let behind = HEADER.saturating_add(table_len).saturating_add(4);
        if behind > size {
            return Err(MetaDumpError::Cut { size, needed: behind });
        }
        let mut table = vec![0; usize::try_from(table_len).unwrap_or_default()];
        file.read_at(HEADER, &mut table)?;
        let mut sum = [0; 4];
        file.read_at(HEADER.saturating_add(table_len), &mut sum)?;
        if crc32fast::hash(&table) != u32::from_le_bytes(sum) {
            return Err(MetaDumpError::Damaged { what: "the table of stretches", at: HEADER });
        }
        let mut stretches = Vec::new();
        let mut place = behind;
        let mut last = 0;
        for entry in table.chunks_exact(24) {
            let stretch = stretch(entry)
                .filter(|stretch| stretch.offset >= last && stretch.end_within(facts.end))
                .ok_or(MetaDumpError::Damaged { what: "a stretch that cannot be", at: HEADER })?;
            last = stretch.offset.saturating_add(stretch.len);
            stretches.push((stretch, place));
            place = if stretch.zeros { place } else { place.saturating_add(stretch.len) };
        }
        if place > size {
            return Err(MetaDumpError::Cut { size, needed: place });
        }
        if place < size {
            return Err(MetaDumpError::Longer(size.saturating_sub(place)));
        }
        for (stretch, place) in stretches.iter().filter(|(stretch, _)| !stretch.zeros) {
            compare(&file, stretch, *place)?;
        }
        let extent =
            |(stretch, place): &(Stretch, u64)| Extent { start: stretch.offset, len: stretch.len, place: *place };
        let held = Extents::new(stretches.iter().map(extent).collect(), Wins::First);
        Ok(Self { file, facts, stretches, held })
    }

    /// What the dump says of the region.
    #[must_use]
    pub const fn facts(&self) -> &MetaFacts {
        &self.facts
    }

    /// What the dump holds, ascending, neighbours joined. The reason why is always `None`.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let held = self.held.held(at..u64::MAX)?;
            at = held.end;
            Some((Span::new(held.start, held.end.saturating_sub(held.start)), None))
        })
    }
}

impl Stretch {
    fn end_within(&self, end: u64) -> bool {
        self.offset.checked_add(self.len).is_some_and(|own| own <= end)
    }
}

/// Reads and checks the header: what it says, and the number of stretches.
fn header(file: &impl ReadAt, size: u64) -> Result<(MetaFacts, u32), MetaDumpError> {
    let mut magic = [0; 8];
    if size >= 8 {
        file.read_at(0, &mut magic)?;
    }
    if magic != MAGIC {
        return Err(MetaDumpError::Signature);
    }
    if size < HEADER {
        return Err(MetaDumpError::Cut { size, needed: HEADER });
    }
    let mut head = [0; 64];
    file.read_at(0, &mut head)?;
    let (summed, sum) = head.split_at(60);
    if crc32fast::hash(summed) != word(sum) {
        return Err(MetaDumpError::Damaged { what: "the header", at: 0 });
    }
    let (version, flags) = (part(&head, 8, word), part(&head, 12, word));
    if version != VERSION {
        return Err(MetaDumpError::Version(version));
    }
    if flags & !OBFUSCATED != 0 {
        return Err(MetaDumpError::Damaged { what: "unknown flags", at: 12 });
    }
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(head.iter().skip(40)).for_each(|(to, from)| *to = *from);
    let facts = MetaFacts {
        obfuscated: flags & OBFUSCATED != 0,
        end: part(&head, 16, long),
        size: part(&head, 24, long),
        base: part(&head, 32, long),
        uuid,
    };
    Ok((facts, part(&head, 56, word)))
}

/// One entry of the table.
fn stretch(entry: &[u8]) -> Option<Stretch> {
    let (offset, len) = (part(entry, 0, long), part(entry, 8, long));
    let (kind, crc) = (part(entry, 16, word), part(entry, 20, word));
    let whole = offset.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE_BYTES) && len > 0;
    (whole && kind <= ZEROS).then_some(Stretch { offset, len, zeros: kind == ZEROS, crc })
}

/// Compares a stretch with its checksum.
fn compare(file: &impl ReadAt, stretch: &Stretch, place: u64) -> Result<(), MetaDumpError> {
    let mut sum = crc32fast::Hasher::new();
    let mut buffer = vec![0; usize::try_from(stretch.len.min(PIECE)).unwrap_or_default()];
    let mut done = 0;
    while done < stretch.len {
        let now = usize::try_from(stretch.len.saturating_sub(done).min(PIECE)).unwrap_or_default();
        let piece = buffer.get_mut(..now).unwrap_or_default();
        file.read_at(place.saturating_add(done), piece)?;
        sum.update(piece);
        done = done.saturating_add(PIECE);
    }
    if sum.finalize() == stretch.crc {
        return Ok(());
    }
    Err(MetaDumpError::Damaged { what: "the pages", at: place })
}

fn part<T>(bytes: &[u8], at: usize, read: impl Fn(&[u8]) -> T) -> T {
    read(bytes.get(at..).unwrap_or_default())
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl<R: ReadAt> ReadAt for MetaDump<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = Span::new(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if let Some((span, why)) = self.next_absent(offset..wanted.end()) {
            return Err(ReadError::Absent { span, why });
        }
        let first = self.stretches.partition_point(|(stretch, _)| stretch.offset.saturating_add(stretch.len) <= offset);
        let mut rest = buf;
        let mut at = offset;
        for (stretch, place) in self.stretches.iter().skip(first) {
            if rest.is_empty() {
                break;
            }
            let inside = at.saturating_sub(stretch.offset);
            let left = usize::try_from(stretch.len.saturating_sub(inside)).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
            if stretch.zeros {
                now.fill(0);
            } else {
                self.file.read_at(place.saturating_add(inside), now)?;
            }
            rest = later;
            at = stretch.offset.saturating_add(stretch.len);
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.facts.end)
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        if range.start >= range.end {
            return None;
        }
        let gap = self.held.gap(range)?;
        let (end, why) = if gap.start >= self.facts.end {
            (gap.end, Absence::BeyondEnd)
        } else {
            (gap.end.min(self.facts.end), Absence::Excluded)
        };
        Some((Span::new(gap.start, end.saturating_sub(gap.start)), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: MetaFacts = MetaFacts { obfuscated: false, end: 1 << 20, size: 1 << 20, base: 0, uuid: [7; 16] };

    fn sample() -> Vec<u8> {
        let mut writer = MetaDumpWriter::new(FACTS);
        writer.page(0, &[1; 4096]);
        writer.page(4096, &[0; 4096]);
        writer.page(1 << 19, &[2; 4096]);
        assert_eq!(writer.pages(), 3);
        let mut file = Vec::new();
        writer.write_to(&mut file).unwrap();
        file
    }

    #[test]
    fn pages_are_where_they_were_and_the_rest_is_left_out() {
        let dump = MetaDump::parse(sample()).unwrap();
        assert_eq!((dump.facts(), dump.end()), (&FACTS, Some(1 << 20)));
        let mut bytes = [9; 8192];
        dump.read_at(0, &mut bytes).unwrap();
        assert!(bytes[..4096] == [1; 4096] && bytes[4096..] == [0; 4096]);
        dump.read_at((1 << 19) + 100, &mut bytes[..10]).unwrap();
        assert_eq!(bytes[..10], [2; 10]);
        let absent = |from, to| dump.next_absent(from..to);
        assert_eq!(absent(4000, 9000), Some((Span::new(8192, 808), Absence::Excluded)));
        assert_eq!(absent(1 << 20, 2 << 20), Some((Span::new(1 << 20, 1 << 20), Absence::BeyondEnd)));
        assert_eq!(absent(0, 8192), None);
        let error = dump.read_at(8000, &mut [0; 400]).unwrap_err();
        assert!(matches!(error, ReadError::Absent { why: Absence::Excluded, .. }), "{error}");
        let held: Vec<_> = dump.ranges().map(|(span, _)| (span.offset, span.len)).collect();
        assert_eq!(held, [(0, 8192), (1 << 19, 4096)]);
    }

    #[test]
    fn every_flip_and_every_cut_is_an_error() {
        let file = sample();
        for at in 0..file.len() {
            for bit in [1, 0x80] {
                let mut flipped = file.clone();
                flipped[at] ^= bit;
                assert!(MetaDump::parse(flipped).is_err(), "byte {at}");
            }
            let error = MetaDump::parse(file[..at].to_vec()).unwrap_err();
            assert!(matches!(error, MetaDumpError::Cut { .. } | MetaDumpError::Signature), "cut at {at}: {error}");
        }
        let longer = [file.as_slice(), &[0]].concat();
        assert!(matches!(MetaDump::parse(longer), Err(MetaDumpError::Longer(1))));
    }
}
