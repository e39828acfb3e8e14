//! LiME images and compressed AVML images: blocks of memory, one after another, each behind its address. Read by physical
//! address.
//!
//! Opening walks over the blocks, in AVML over the chunks of their Snappy streams too; 24 bytes are kept for each. A
//! chunk (64 KiB of memory) is the unit of AVML: its CRC-32C is compared each time it is decoded, and one that is
//! damaged is [`Absence::Undecodable`].
//!
//! What no block has is [`Absence::NotInDump`]. Recent versions of AVML leave out blocks of 16 MiB that are zero, which
//! looks the same. Where blocks overlap, which no tool writes, the first one counts.
//!
//! ```
//! use gmfs_format::io::ReadAt as _;
//! use gmfs_image::{RegionFile, lime::LimeDump};
//! # fn example(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let image = LimeDump::parse(RegionFile::open(path)?)?;
//! for (range, why) in image.ranges() {
//!     println!("{range}: {}", why.map_or("present", |why| why.name()));
//! }
//! let mut page = [0; 4096];
//! image.read_at(0x1000_0000, &mut page)?;
//! # Ok(())
//! # }
//! ```

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod chunks;
mod crc32c;

use std::ops::Range;
use std::sync::Mutex;

use gmfs_format::io::{Absence, ReadAt, ReadError, Span};

use crate::extents::{Extent, Extents, Wins};
use chunks::{Body, Chunk, Walk};

/// So many blocks are taken at most: 64 TiB in AVML's blocks of 16 MiB.
pub const MAX_BLOCKS: u64 = 1 << 22;
/// So many chunks are taken at most: 2 TiB in AVML's chunks of 64 KiB. It bounds the index to 800 MiB.
pub const MAX_CHUNKS: u64 = 1 << 25;
/// A block's header.
const HEADER: u64 = 32;

/// Why a file is not an image that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimeError {
    /// It does not begin with a block of a known version.
    #[error("this is no LiME or AVML image of a known version")]
    Signature,
    /// Not one block could be read.
    #[error("the first block of the image is damaged")]
    Empty,
    /// There are more than [`MAX_BLOCKS`] blocks or [`MAX_CHUNKS`] chunks.
    #[error("the image has more blocks or chunks than are read")]
    TooMany,
    /// The file could not be read.
    #[error("cannot read the blocks of the image")]
    Read(#[from] ReadError),
}

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimeFacts {
    /// Whether it is AVML's compressed form.
    pub compressed: bool,
    /// How many blocks it has.
    pub blocks: u64,
    /// The file ends within a block.
    pub cut: bool,
    /// A block is damaged; those behind it were not found.
    pub damaged: bool,
    /// In some block, the length that AVML writes at its end is wrong. Its content was found nevertheless.
    pub inconsistent: bool,
}

/// An image over the bytes of its file.
pub struct LimeDump<R> {
    file: R,
    /// Where the bytes of an address are among the plain bytes of all chunks.
    blocks: Extents,
    chunks: Vec<Chunk>,
    /// From here on what is missing may have been in the part of the file that is lost.
    lost_from: Option<u64>,
    facts: LimeFacts,
    /// The chunk that was decoded last.
    last: Mutex<Option<(usize, Vec<u8>)>>,
}

impl<R> std::fmt::Debug for LimeDump<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LimeDump").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What is found from block to block.
struct Found {
    blocks: Vec<Extent>,
    walk: Walk,
    facts: LimeFacts,
    lost_from: Option<u64>,
}

/// A block's header, taken apart.
struct Head {
    start: u64,
    len: u64,
    compressed: bool,
}

impl Head {
    fn take(raw: [u8; 32]) -> Option<Self> {
        let [m0, m1, m2, m3, v0, v1, v2, v3, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = raw;
        let compressed = match (&[m0, m1, m2, m3], u32::from_le_bytes([v0, v1, v2, v3])) {
            (b"EMiL", 1) => false,
            (b"AVML", 2) => true,
            _ => return None,
        };
        let start = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let last = u64::from_le_bytes([i, j, k, l, m, n, o, p]);
        // The length must not wrap, nor the end.
        let end = last.checked_add(1)?;
        Some(Self { start, len: end.checked_sub(start).filter(|len| *len > 0)?, compressed })
    }
}

impl<R: ReadAt> LimeDump<R> {
    /// Walks over the blocks of the image in `file`.
    ///
    /// # Errors
    /// [`LimeError`]. An image that was cut or is damaged behind the first block is no error.
    pub fn parse(file: R) -> Result<Self, LimeError> {
        let size = file.end().unwrap_or(u64::MAX);
        let mut found =
            Found { blocks: Vec::new(), walk: Walk::default(), facts: LimeFacts::default(), lost_from: None };
        let mut at = 0;
        while at < size {
            match found.block(&file, at, size)? {
                Some(next) => at = next,
                None => break,
            }
        }
        if found.blocks.iter().all(|block| block.len == 0) {
            return Err(if found.facts.blocks == 0 { LimeError::Signature } else { LimeError::Empty });
        }
        let Found { blocks, walk, facts, lost_from } = found;
        let blocks = Extents::new(blocks, Wins::First);
        Ok(Self { file, blocks, chunks: walk.chunks, lost_from, facts, last: Mutex::new(None) })
    }

    /// What the image says of itself.
    #[must_use]
    pub const fn facts(&self) -> &LimeFacts {
        &self.facts
    }

    /// The memory that the image holds, ascending, neighbours joined. The reason why is always `None`, but in the last
    /// range of an image that was cut.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let held = self.blocks.held(at..u64::MAX)?;
            at = held.end;
            Some((Span::new(held.start, held.end.saturating_sub(held.start)), None))
        })
    }

    /// Fills `buf` from `plain` among the bytes of all chunks; the address is for errors.
    fn read_plain(&self, plain: u64, address: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut index = self.chunks.partition_point(|chunk| chunk.end() <= plain);
        let mut at = plain;
        let mut rest = buf;
        while !rest.is_empty() {
            let here = address.saturating_add(at.saturating_sub(plain));
            let Some(chunk) = self.chunks.get(index) else {
                return Err(absent(here, rest.len(), Absence::Truncated));
            };
            let left = usize::try_from(chunk.end().saturating_sub(at)).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
            let from = at.saturating_sub(chunk.plain);
            self.read_chunk(index, chunk, from, now).map_err(|error| match error {
                ReadError::Absent { why, .. } => absent(here, now.len(), why),
                ReadError::Io { source, .. } => {
                    ReadError::Io { span: Span::new(here, u64::try_from(now.len()).unwrap_or(u64::MAX)), source }
                }
            })?;
            rest = later;
            at = chunk.end();
            index = index.saturating_add(1);
        }
        Ok(())
    }

    /// Fills `buf` from byte `from` of a chunk.
    fn read_chunk(&self, index: usize, chunk: &Chunk, from: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if chunk.body == Body::Bare {
            // The file had these bytes when it was opened.
            return self.file.read_at(chunk.place.saturating_add(from), buf).map_err(|error| match error {
                ReadError::Absent { span, .. } => ReadError::Absent { span, why: Absence::Truncated },
                other => other,
            });
        }
        let kept = self.last.lock().ok().and_then(|mut last| last.take());
        let plain = match kept {
            Some((number, plain)) if number == index => plain,
            other => {
                let mut plain = other.map(|(_, plain)| plain).unwrap_or_default();
                chunk.decode(&self.file, &mut plain)?;
                plain
            }
        };
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        if let Some(bytes) = start.checked_add(buf.len()).and_then(|end| plain.get(start..end)) {
            buf.copy_from_slice(bytes);
        }
        if let Ok(mut last) = self.last.lock() {
            *last = Some((index, plain));
        }
        Ok(())
    }
}

fn absent(at: u64, length: usize, why: Absence) -> ReadError {
    ReadError::Absent { span: Span::new(at, u64::try_from(length).unwrap_or(u64::MAX)), why }
}

impl Found {
    /// Takes the block at `at`. Returns where the next one is, or `None` at the end of what can be found.
    fn block(&mut self, file: &impl ReadAt, at: u64, size: u64) -> Result<Option<u64>, LimeError> {
        let end = self.blocks.iter().map(Extent::end).next_back().unwrap_or(0);
        let mut raw = [0; 32];
        if size.saturating_sub(at) < HEADER {
            return Ok(self.stop(end, true));
        }
        file.read_at(at, &mut raw)?;
        let Some(head) = Head::take(raw) else { return Ok(self.stop(end, false)) };
        if self.facts.blocks >= MAX_BLOCKS {
            return Err(LimeError::TooMany);
        }
        self.facts.blocks = self.facts.blocks.saturating_add(1);
        self.facts.compressed |= head.compressed;
        let body = at.saturating_add(HEADER);
        let plain = self.walk.plain();
        if !head.compressed {
            let there = head.len.min(size.saturating_sub(body));
            self.walk.bare(body, there)?;
            self.blocks.push(Extent { start: head.start, len: there, place: plain });
            let whole = there == head.len;
            return Ok(if whole { body.checked_add(there) } else { self.stop(head.start, true) });
        }
        let stream = self.walk.stream(file, body, size, head.len)?;
        let there = self.walk.plain().saturating_sub(plain);
        self.blocks.push(Extent { start: head.start, len: there, place: plain });
        if there < head.len {
            return Ok(self.stop(head.start, stream.cut));
        }
        let mut trailer = [0; 8];
        if size.saturating_sub(stream.end) < 8 {
            self.facts.inconsistent = true;
            return Ok(Some(size));
        }
        file.read_at(stream.end, &mut trailer)?;
        self.facts.inconsistent |= u64::from_le_bytes(trailer) != stream.end.saturating_sub(body);
        Ok(stream.end.checked_add(8))
    }

    /// Nothing behind this is found. What is missing from `from` on may have been there.
    fn stop(&mut self, from: u64, cut: bool) -> Option<u64> {
        self.facts.cut |= cut;
        self.facts.damaged |= !cut;
        self.lost_from = Some(from);
        None
    }
}

impl<R: ReadAt> ReadAt for LimeDump<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let Some(end) = offset.checked_add(length) else {
            return Err(absent(offset, buf.len(), Absence::NotInDump));
        };
        if let Some((span, why)) = self.next_absent(offset..end) {
            return Err(ReadError::Absent { span, why });
        }
        let mut rest = buf;
        let mut at = offset;
        for block in self.blocks.from(offset) {
            if rest.is_empty() {
                break;
            }
            let left = usize::try_from(block.end().saturating_sub(at)).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
            self.read_plain(block.place_of(at), at, now)?;
            rest = later;
            at = block.end();
        }
        Ok(())
    }

    /// One past the highest address of a block.
    fn end(&self) -> Option<u64> {
        Some(self.blocks.end())
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        if range.start >= range.end {
            return None;
        }
        let gap = self.blocks.gap(range)?;
        // The part of the gap that may have been lost is another stretch.
        let (end, why) = match self.lost_from {
            Some(lost) if lost <= gap.start => (gap.end, Absence::Truncated),
            Some(lost) => (gap.end.min(lost), Absence::NotInDump),
            None => (gap.end, Absence::NotInDump),
        };
        Some((Span::new(gap.start, end.saturating_sub(gap.start)), why))
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
