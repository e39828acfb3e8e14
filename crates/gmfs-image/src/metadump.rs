//! Metadata dumps: one small file with the metadata pages of a region, each with its offset in the region. Every other
//! byte of the region is [`Absence::Excluded`].
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic `GMFSMETA` |
//! | 4 | version: 2 |
//! | 4 | flags: 1 names are obfuscated |
//! | 8 | length of the image that the region was read from, counted from the region's start |
//! | 8 | size of the region |
//! | 8 | its physical base; 0 = not known |
//! | 16 | its UUID |
//! | 4 | zero |
//! | 4 | CRC-32 of these 60 bytes |
//! | 24 + n | per stretch, ascending, with gaps between them: offset (8), length (8), kind (4; 0 bytes, 1 zeros), CRC-32 (4); then, of kind 0, its bytes |
//! | 24 | the end: number of stretches (8), number of pages (8), kind (4; 2), CRC-32 (4) |
//!
//! The CRC of a stretch covers its 20 bytes before the CRC and its bytes. The CRC of the end covers its 20 bytes and
//! the CRCs of all stretches in order. All numbers are little-endian; offsets and lengths are multiples of 4096.
//!
//! A dump is written from start to end in one pass, so that it can go into a pipe; the writer keeps one range in
//! memory. If the writer is stopped, the end is missing, and the dump is refused like one that was cut. Opening reads
//! the whole file and compares every checksum. A dump that is cut, too long or changed anywhere is refused, with what
//! is wrong.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::{self, Write};
use std::ops::Range;

use gmfs_format::native::units::{PAGE_BYTES, PageBytes};
use gmfs_io::{Absence, ReadAt, ReadError, Span};

use gmfs_io::extents::{Extent, Extents, Wins};

/// The first bytes of a metadata dump.
pub const MAGIC: [u8; 8] = *b"GMFSMETA";
/// The version of the format that is written and read.
pub const VERSION: u32 = 2;
/// The flag for obfuscated names.
const OBFUSCATED: u32 = 1;
const HEADER: u64 = 64;
const ENTRY: usize = 24;
const BYTES: u32 = 0;
const ZEROS: u32 = 1;
const END: u32 = 2;
/// The maximum size of a stretch in a writer's memory, and of one read by a reader.
const PIECE: usize = 1 << 20;

/// Why a file is not a metadata dump that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaDumpError {
    /// The file does not start like a metadata dump.
    #[error("this is not a metadata dump")]
    Signature,
    /// The version is unknown to this program.
    #[error("the metadata dump has version {0}; gmfs knows only version {VERSION}")]
    Version(u32),
    /// The end is missing: the file was cut, or its writer was stopped.
    #[error("the metadata dump is incomplete: its {size} bytes do not contain its end")]
    Cut {
        /// The size of the file in bytes.
        size: u64,
    },
    /// The file is longer than what it describes.
    #[error("{0} bytes follow the end of the metadata dump")]
    Longer(u64),
    /// A checksum does not match, or a number is invalid.
    #[error("the metadata dump is damaged: {what} at byte {at}")]
    Damaged {
        /// What is damaged.
        what: &'static str,
        /// The offset in the file where it starts.
        at: u64,
    },
    /// The file could not be read.
    #[error("cannot read the metadata dump")]
    Read(#[from] ReadError),
}

/// Whether the file at `path` begins like a metadata dump. What it holds is not checked.
#[must_use]
pub fn is_metadump(path: &std::path::Path) -> bool {
    crate::file::begins_with(path, MAGIC)
}

/// What a metadata dump records about the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFacts {
    /// Whether names and the label have been obfuscated.
    pub obfuscated: bool,
    /// The length of the image that the region was read from, counted from the start of the region.
    pub end: u64,
    /// The size of the region in bytes.
    pub size: u64,
    /// The physical base; 0 if it is not known.
    pub base: u64,
    /// The region's UUID.
    pub uuid: [u8; 16],
}

/// Writes a metadata dump page by page. It keeps at most 1 MiB in memory.
#[derive(Debug)]
pub struct MetaDumpWriter<W> {
    out: W,
    end: u64,
    /// The stretch that is being collected: its offset, its length, and its bytes unless they are zeros.
    offset: u64,
    len: u64,
    bytes: Vec<u8>,
    /// The CRCs of all stretches so far.
    sums: crc32fast::Hasher,
    stretches: u64,
    pages: u64,
}

impl<W: Write> MetaDumpWriter<W> {
    /// Starts a dump.
    ///
    /// # Errors
    /// An error of `out`.
    pub fn new(mut out: W, facts: &MetaFacts) -> io::Result<Self> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(if facts.obfuscated { OBFUSCATED } else { 0 }).to_le_bytes());
        for number in [facts.end, facts.size, facts.base] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&facts.uuid);
        head.extend_from_slice(&[0; 4]);
        let sum = crc32fast::hash(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        out.write_all(&head)?;
        let (end, sums) = (facts.end, crc32fast::Hasher::new());
        Ok(Self { out, end, offset: 0, len: 0, bytes: Vec::new(), sums, stretches: 0, pages: 0 })
    }

    /// Adds the page at an offset of the region: a multiple of 4096 past the page that was added last. Other offsets
    /// are ignored.
    ///
    /// # Errors
    /// An error of `out`.
    pub fn page(&mut self, offset: u64, page: &PageBytes) -> io::Result<()> {
        let end = self.offset.saturating_add(self.len);
        let fits = offset.checked_add(PAGE_BYTES).is_some_and(|page_end| page_end <= self.end);
        if offset < end || !offset.is_multiple_of(PAGE_BYTES) || !fits {
            return Ok(());
        }
        let zeros = page.iter().all(|byte| *byte == 0);
        let alike = zeros == self.bytes.is_empty() && self.bytes.len() < PIECE;
        if offset != end || !alike {
            self.flush()?;
            self.offset = offset;
        }
        if !zeros {
            self.bytes.extend_from_slice(page);
        }
        self.len = self.len.saturating_add(PAGE_BYTES);
        self.pages = self.pages.saturating_add(1);
        Ok(())
    }

    /// Writes the stretch that was collected.
    fn flush(&mut self) -> io::Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        let kind = if self.bytes.is_empty() { ZEROS } else { BYTES };
        let head = entry(self.offset, self.len, kind);
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head);
        sum.update(&self.bytes);
        let sum = sum.finalize().to_le_bytes();
        self.sums.update(&sum);
        self.out.write_all(&head)?;
        self.out.write_all(&sum)?;
        self.out.write_all(&self.bytes)?;
        self.bytes.clear();
        self.offset = self.offset.saturating_add(self.len);
        self.len = 0;
        self.stretches = self.stretches.saturating_add(1);
        Ok(())
    }

    /// The number of pages that were added.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Writes the end. Without it, a dump is refused.
    ///
    /// # Errors
    /// An error of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        let end = entry(self.stretches, self.pages, END);
        self.sums.update(&end);
        self.out.write_all(&end)?;
        self.out.write_all(&self.sums.finalize().to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The header of a stretch, or the end, without its CRC.
fn entry(first: u64, second: u64, kind: u32) -> Vec<u8> {
    [&first.to_le_bytes()[..], &second.to_le_bytes(), &kind.to_le_bytes()].concat()
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    offset: u64,
    len: u64,
    /// The offset of its bytes in the file; `None` for zeros.
    place: Option<u64>,
}

/// A metadata dump in the bytes of its file. It is read by offset in the region.
#[derive(Debug)]
pub struct MetaDump<R> {
    file: R,
    facts: MetaFacts,
    stretches: Vec<Stretch>,
    held: Extents,
}

impl<R: ReadAt> MetaDump<R> {
    /// Reads the whole file and compares all checksums.
    ///
    /// # Errors
    /// [`MetaDumpError`].
    pub fn parse(file: R) -> Result<Self, MetaDumpError> {
        let size = file.end().unwrap_or(u64::MAX);
        let facts = header(&file, size)?;
        let mut walk = Walk { file: &file, size, at: HEADER, sums: crc32fast::Hasher::new(), buffer: vec![0; PIECE] };
        let (mut stretches, mut last, mut pages) = (Vec::new(), 0, 0_u64);
        while let Some(stretch) = walk.next(u64::try_from(stretches.len()).unwrap_or(u64::MAX), pages)? {
            if stretch.offset < last || !stretch.end_within(facts.end) {
                return Err(MetaDumpError::Damaged { what: "a stretch with invalid numbers", at: walk.at });
            }
            last = stretch.offset.saturating_add(stretch.len);
            pages = pages.saturating_add(stretch.len / PAGE_BYTES);
            stretches.push(stretch);
        }
        let extent = |stretch: &Stretch| {
            let place = stretch.place.unwrap_or(u64::MAX);
            Extent { start: stretch.offset, len: stretch.len, place }
        };
        let held = Extents::new(stretches.iter().map(extent).collect(), Wins::First);
        Ok(Self { file, facts, stretches, held })
    }

    /// What the dump records about the region.
    #[must_use]
    pub const fn facts(&self) -> &MetaFacts {
        &self.facts
    }

    /// The ranges that the dump holds, ascending, with neighbours joined. The absence is always `None`.
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

/// Reads and checks the header.
fn header(file: &impl ReadAt, size: u64) -> Result<MetaFacts, MetaDumpError> {
    let mut magic = [0; 8];
    if size >= 8 {
        file.read_at(0, &mut magic)?;
    }
    if magic != MAGIC {
        return Err(MetaDumpError::Signature);
    }
    if size < HEADER {
        return Err(MetaDumpError::Cut { size });
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
    if flags & !OBFUSCATED != 0 || part(&head, 56, word) != 0 {
        return Err(MetaDumpError::Damaged { what: "unknown flags", at: 12 });
    }
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(head.iter().skip(40)).for_each(|(to, from)| *to = *from);
    let (end, size, base) = (part(&head, 16, long), part(&head, 24, long), part(&head, 32, long));
    Ok(MetaFacts { obfuscated: flags & OBFUSCATED != 0, end, size, base, uuid })
}

/// Reads a dump's stretches, and compares each with its checksum.
struct Walk<'a, R> {
    file: &'a R,
    size: u64,
    at: u64,
    sums: crc32fast::Hasher,
    buffer: Vec<u8>,
}

impl<R: ReadAt> Walk<'_, R> {
    /// The next stretch, or `None` at the end. The end must state the correct counts of what came before it.
    fn next(&mut self, stretches: u64, pages: u64) -> Result<Option<Stretch>, MetaDumpError> {
        let start = self.at;
        let damaged = |what| MetaDumpError::Damaged { what, at: start };
        let mut head = [0; ENTRY];
        self.read(&mut head)?;
        let (summed, sum) = head.split_at(20);
        let (first, second, kind) = (part(&head, 0, long), part(&head, 8, long), part(&head, 16, word));
        if kind == END {
            self.sums.update(summed);
            if self.sums.clone().finalize() != word(sum) || (first, second) != (stretches, pages) {
                return Err(damaged("the end"));
            }
            let behind = self.size.saturating_sub(self.at);
            return if behind == 0 { Ok(None) } else { Err(MetaDumpError::Longer(behind)) };
        }
        let whole = first.is_multiple_of(PAGE_BYTES) && second.is_multiple_of(PAGE_BYTES) && second > 0;
        if !whole || kind > ZEROS {
            return Err(damaged("a stretch with invalid numbers"));
        }
        let mut own = crc32fast::Hasher::new();
        own.update(summed);
        let place = (kind == BYTES).then_some(self.at);
        if place.is_some() {
            self.sum_bytes(second, &mut own)?;
        }
        if own.finalize() != word(sum) {
            return Err(damaged("the pages"));
        }
        self.sums.update(sum);
        Ok(Some(Stretch { offset: first, len: second, place }))
    }

    /// Adds the bytes of a stretch to its checksum.
    fn sum_bytes(&mut self, len: u64, sum: &mut crc32fast::Hasher) -> Result<(), MetaDumpError> {
        if len > self.size.saturating_sub(self.at) {
            return Err(MetaDumpError::Cut { size: self.size });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = len;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..now).unwrap_or_default();
            self.read(piece)?;
            sum.update(piece);
            left = left.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX));
        }
        self.buffer = buffer;
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), MetaDumpError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len > self.size.saturating_sub(self.at) {
            return Err(MetaDumpError::Cut { size: self.size });
        }
        self.file.read_at(self.at, bytes)?;
        self.at = self.at.saturating_add(len);
        Ok(())
    }
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
        let first = self.stretches.partition_point(|stretch| stretch.offset.saturating_add(stretch.len) <= offset);
        let mut rest = buf;
        let mut at = offset;
        for stretch in self.stretches.iter().skip(first) {
            if rest.is_empty() {
                break;
            }
            let inside = at.saturating_sub(stretch.offset);
            let left = usize::try_from(stretch.len.saturating_sub(inside)).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
            match stretch.place {
                None => now.fill(0),
                Some(place) => self.file.read_at(place.saturating_add(inside), now)?,
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
mod tests;
