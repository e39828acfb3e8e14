//! Reads LiME images and compressed AVML images by physical address. They consist of blocks of memory, each with its
//! address in a header before it.
//!
//! Opening reads the headers of all blocks; in AVML images also those of the chunks of their Snappy streams. It keeps
//! 24 bytes for each. AVML checks and compresses memory in chunks of 64 KiB. The CRC-32C of a chunk is compared each
//! time it is decoded; a damaged chunk is [`Absence::Undecodable`].
//!
//! LiME writes its headers in the byte order of the machine. Both byte orders are read.
//!
//! After a block with a damaged header or stream, the reader searches for the header of the next block. Memory of the
//! damaged block is [`Absence::Undecodable`].
//!
//! Memory in no block is [`Absence::NotInDump`]. Recent versions of AVML leave out blocks of 16 MiB that are zero,
//! which looks the same. If blocks overlap, which no tool writes, the first one wins.
//!
//! ```
//! use gmfs_io::{PlainFile, ReadAt as _};
//! use gmfs_dump::lime::LimeDump;
//! # fn example(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let image = LimeDump::parse(PlainFile(std::fs::File::open(path)?))?;
//! for (range, why) in image.ranges() {
//!     println!("{range}: {}", why.map_or("present", |why| why.name()));
//! }
//! let mut page = [0; 4096];
//! image.read_at(0x1000_0000, &mut page)?;
//! # Ok(())
//! # }
//! ```

mod chunks;
mod crc32c;

use std::ops::Range;
use std::sync::Mutex;

use gmfs_io::{Absence, ReadAt, ReadError, Span};

use crate::ahead::Ahead;
use chunks::{Body, Chunk, Stop, Walk};
use gmfs_io::extents::{Extent, Extents, Wins, fill};

/// The maximum number of blocks: 64 TiB in AVML's blocks of 16 MiB.
pub const MAX_BLOCKS: u64 = 1 << 22;
/// The maximum number of chunks: 2 TiB in AVML's chunks of 64 KiB. It bounds the index to 800 MiB.
pub const MAX_CHUNKS: u64 = 1 << 25;
/// The size of a block's header.
const HEADER: u64 = 32;
/// No machine has memory at or above this address.
const HIGHEST: u64 = 1 << 52;
/// An upper bound on the bytes of a stream outside its chunks, with the header of the next block.
const SLACK: u64 = 4096;

/// Why a file is not an image that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimeError {
    /// The file does not start with a block of a known version.
    #[error("this is not a LiME or AVML image of a known version")]
    Signature,
    /// The version is unknown to this program.
    #[error("the image is {what} of version {version}; gmfs knows only version {known}")]
    Version {
        /// `LiME` or `AVML`, with its article.
        what: &'static str,
        /// The version in the first header.
        version: u32,
        /// The version that is read.
        known: u32,
    },
    /// No block could be read.
    #[error("the first block of the image is damaged")]
    Empty,
    /// There are more than [`MAX_BLOCKS`] blocks or [`MAX_CHUNKS`] chunks.
    #[error("the image has more than {MAX_BLOCKS} blocks or {MAX_CHUNKS} chunks, which is more than gmfs reads")]
    TooMany,
    /// The file could not be read.
    #[error("cannot read the blocks of the image")]
    Read(#[from] ReadError),
}

/// What an image says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimeFacts {
    /// Whether it has AVML's compressed form.
    pub compressed: bool,
    /// How many blocks it has.
    pub blocks: u64,
    /// Whether the file ends within a block.
    pub cut: bool,
    /// Whether a block is damaged. Blocks after it were found again, if there are any.
    pub damaged: bool,
    /// Whether the numbers in the headers are big-endian.
    pub big_endian: bool,
    /// Whether the length that AVML writes at the end of a block is wrong in some block. The block's content was found
    /// nevertheless.
    pub inconsistent: bool,
}

/// An image over the bytes of its file.
pub struct LimeDump<R> {
    file: R,
    /// Maps addresses to offsets among the decompressed bytes of all chunks.
    blocks: Extents,
    chunks: Vec<Chunk>,
    /// The address ranges of damaged blocks, ascending. Where no other block has the memory, it is undecodable.
    damaged: Vec<Range<u64>>,
    /// From this address on, memory in no block may have been in a part of the file that was lost, for this reason.
    lost: Option<(u64, Absence)>,
    facts: LimeFacts,
    /// The chunk that was decoded last, and its bytes.
    last: Mutex<Option<(usize, Vec<u8>)>>,
}

impl<R> std::fmt::Debug for LimeDump<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LimeDump").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What reading the headers of all blocks has found so far.
struct Found {
    blocks: Vec<Extent>,
    walk: Walk,
    facts: LimeFacts,
    damaged: Vec<Range<u64>>,
    lost: Option<(u64, Absence)>,
    /// Set after a header that is damaged: the end of the blocks before it. The next block's start bounds the lost
    /// block.
    unknown_from: Option<u64>,
}

/// The fields of a block's header.
struct Head {
    start: u64,
    len: u64,
    compressed: bool,
    big: bool,
}

impl Head {
    fn take(raw: &[u8; 32]) -> Option<Self> {
        let [m0, m1, m2, m3, v0, v1, v2, v3, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *raw;
        let (compressed, big) = match (&[m0, m1, m2, m3], [v0, v1, v2, v3]) {
            (b"EMiL", [1, 0, 0, 0]) => (false, false),
            (b"LiME", [0, 0, 0, 1]) => (false, true),
            (b"AVML", [2, 0, 0, 0]) => (true, false),
            _ => return None,
        };
        let number = |raw: [u8; 8]| if big { u64::from_be_bytes(raw) } else { u64::from_le_bytes(raw) };
        let start = number([a, b, c, d, e, f, g, h]);
        let last = number([i, j, k, l, m, n, o, p]);
        // Neither the length nor the end may wrap.
        let end = last.checked_add(1)?;
        Some(Self { start, len: end.checked_sub(start).filter(|len| *len > 0)?, compressed, big })
    }

    const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// The error for an image whose first header has an unknown version.
    fn unknown(raw: &[u8; 32]) -> Option<LimeError> {
        let (magic, rest) = raw.split_first_chunk::<4>()?;
        let version = rest.first_chunk::<4>()?;
        let (what, version, known) = match magic {
            b"EMiL" => ("a LiME image", u32::from_le_bytes(*version), 1),
            b"LiME" => ("a LiME image", u32::from_be_bytes(*version), 1),
            b"AVML" => ("an AVML image", u32::from_le_bytes(*version), 2),
            _ => return None,
        };
        (version != known).then_some(LimeError::Version { what, version, known })
    }
}

impl<R: ReadAt> LimeDump<R> {
    /// Reads the headers of all blocks of the image in `file`.
    ///
    /// # Errors
    /// [`LimeError`]. An image that was cut short, or with damaged blocks, is not an error.
    pub fn parse(file: R) -> Result<Self, LimeError> {
        let size = file.end().unwrap_or(u64::MAX);
        let mut found = Found {
            blocks: Vec::new(),
            walk: Walk::default(),
            facts: LimeFacts::default(),
            damaged: Vec::new(),
            lost: None,
            unknown_from: None,
        };
        let mut ahead = Ahead::new(&file, size);
        let (first, there) = ahead.some::<32>(0)?;
        if let Some(error) = Head::unknown(&first).filter(|_| there >= 8) {
            return Err(error);
        }
        let mut at = 0;
        while at < size {
            match found.block(&mut ahead, at, &first)? {
                Some(next) => at = next,
                None => break,
            }
        }
        if found.blocks.iter().all(|block| block.len == 0) {
            return Err(if found.facts.blocks == 0 { LimeError::Signature } else { LimeError::Empty });
        }
        let Found { blocks, walk, facts, mut damaged, lost, .. } = found;
        damaged.sort_unstable_by_key(|range| (range.start, range.end));
        let blocks = Extents::new(blocks, Wins::First);
        Ok(Self { file, blocks, chunks: walk.chunks, damaged, lost, facts, last: Mutex::new(None) })
    }

    /// What the image says about itself.
    #[must_use]
    pub const fn facts(&self) -> &LimeFacts {
        &self.facts
    }

    /// The memory that the image describes, ascending, with neighbours joined: each range with `None` if the image
    /// holds it, or with the reason why not, which is a damaged block. Memory that was lost with the end of the file is
    /// not listed.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let held = self.blocks.held(at..u64::MAX);
            let gap = at..held.as_ref().map_or(u64::MAX, |held| held.start);
            // A damaged header may claim any range, so the list ends where the blocks do.
            if let Some(lost) = self.lost_in(gap).filter(|lost| held.is_some() || lost.end < u64::MAX) {
                at = lost.end;
                return Some((Span::new(lost.start, lost.end.saturating_sub(lost.start)), Some(Absence::Undecodable)));
            }
            let held = held?;
            at = held.end;
            Some((Span::new(held.start, held.end.saturating_sub(held.start)), None))
        })
    }

    /// The first part of `range` that damaged blocks claim.
    fn lost_in(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut found: Option<Range<u64>> = None;
        for damaged in &self.damaged {
            let (start, end) = (damaged.start.max(range.start), damaged.end.min(range.end));
            match &mut found {
                _ if start >= end => {}
                None => found = Some(start..end),
                Some(found) if start <= found.end => found.end = found.end.max(end),
                Some(_) => break,
            }
        }
        found
    }

    /// Fills `buf` from offset `plain` of the decompressed bytes of all chunks. `address` is used in errors.
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
    /// Reads the block at `at`. Returns the offset of the next one, or `None` if there is none or none can be found.
    /// `first` is the image's first header, which a search looks for.
    fn block<R: ReadAt>(
        &mut self,
        ahead: &mut Ahead<'_, R>,
        at: u64,
        first: &[u8; 32],
    ) -> Result<Option<u64>, LimeError> {
        let size = ahead.size();
        let end = self.blocks.iter().map(Extent::end).next_back().unwrap_or(0);
        if size.saturating_sub(at) < HEADER {
            return Ok(self.stop(end, true));
        }
        let Some(raw) = ahead.whole::<32>(at)? else { return Ok(self.stop(end, true)) };
        // A block that reaches past the end of the file was cut short, if its addresses are plausible.
        let true_or_here =
            |head: &Head| head.end() <= HIGHEST || head.len <= size.saturating_sub(at.saturating_add(HEADER));
        let Some(head) = Head::take(&raw).filter(true_or_here) else {
            let next = search(ahead, at.saturating_add(1), first)?;
            self.facts.damaged = true;
            self.facts.blocks = self.facts.blocks.saturating_add(u64::from(at == 0));
            if next.is_none() {
                return Ok(self.stop(end, false));
            }
            self.unknown_from.get_or_insert(end);
            return Ok(next);
        };
        if self.facts.blocks >= MAX_BLOCKS {
            return Err(LimeError::TooMany);
        }
        self.facts.blocks = self.facts.blocks.saturating_add(1);
        self.facts.compressed |= head.compressed;
        self.facts.big_endian |= head.big;
        if let Some(from) = self.unknown_from.take() {
            self.after_lost_header(from, &head);
        }
        let body = at.saturating_add(HEADER);
        let plain = self.walk.plain();
        if head.compressed {
            return self.stream(ahead, &head, body, first);
        }
        let there = head.len.min(size.saturating_sub(body));
        self.walk.bare(body, there)?;
        self.blocks.push(Extent { start: head.start, len: there, place: plain });
        let whole = there == head.len;
        Ok(if whole { body.checked_add(there) } else { self.stop(head.start, true) })
    }

    /// Called when a block was found after a damaged header: marks the memory that may have been in the block with the
    /// damaged header. Blocks ascend; if this one does not, any memory may be damaged.
    fn after_lost_header(&mut self, from: u64, head: &Head) {
        let before = self.blocks.last().copied();
        match before {
            // The previous block overlaps this one, so its length is wrong, and with it its bytes.
            Some(last) if (last.start..last.end()).contains(&head.start) => {
                self.blocks.pop();
                self.damaged.push(last.start..head.start);
            }
            _ if head.start >= from => self.damaged.push(from..head.start),
            _ => self.damaged.push(0..u64::MAX),
        }
    }

    /// Reads the stream at `body` of a compressed block.
    fn stream<R: ReadAt>(
        &mut self,
        ahead: &mut Ahead<'_, R>,
        head: &Head,
        body: u64,
        first: &[u8; 32],
    ) -> Result<Option<u64>, LimeError> {
        let size = ahead.size();
        let (chunks, plain) = (self.walk.chunks.len(), self.walk.plain());
        let stream = self.walk.stream(ahead, body, head.len)?;
        let there = self.walk.plain().saturating_sub(plain);
        let trailer = ahead.whole::<8>(stream.end)?.map(u64::from_le_bytes);
        let behind = stream.end.saturating_add(8);
        let fits = trailer == Some(stream.end.saturating_sub(body));
        let goes_on = behind == size || ahead.whole::<32>(behind)?.is_some_and(|raw| Head::take(&raw).is_some());
        if there == head.len && (fits || trailer.is_none() || goes_on) {
            self.facts.inconsistent |= !fits;
            self.blocks.push(Extent { start: head.start, len: there, place: plain });
            return Ok(Some(behind.min(size)));
        }
        // The stream contradicts the header, so it is unknown which addresses its bytes have.
        let contradiction = there == head.len || stream.stop == Stop::TooLong || fits;
        let from = if contradiction { head.start } else { head.start.saturating_add(there) };
        let next = if fits { Some(behind) } else { search(ahead, stream.end, first)? };
        if contradiction {
            self.walk.chunks.truncate(chunks);
        } else {
            self.blocks.push(Extent { start: head.start, len: there, place: plain });
        }
        if next.is_none() && stream.stop == Stop::Cut {
            return Ok(self.stop(head.start, true));
        }
        self.facts.damaged = true;
        self.damaged.push(from..head.end());
        let Some(next) = next else { return Ok(self.stop(head.end(), false)) };
        // The rest of the block does not reach this far, so there was another block whose header is lost.
        let rest = head.len.saturating_sub(there);
        let most = rest.saturating_add(rest >> 2).saturating_add(SLACK);
        if next.saturating_sub(stream.end) > most {
            self.unknown_from = Some(head.end());
        }
        Ok(Some(next))
    }

    /// Ends the search for blocks. Memory from `from` on that is in no block may have been in the part that was lost.
    fn stop(&mut self, from: u64, cut: bool) -> Option<u64> {
        self.facts.cut |= cut;
        self.facts.damaged |= !cut;
        self.lost = Some((from, if cut { Absence::Truncated } else { Absence::Undecodable }));
        None
    }
}

/// The next block at or after `from` that starts like the first one. Memory may contain bytes that look like a header,
/// so another block, or the end of the file, must follow the block.
fn search<R: ReadAt>(ahead: &mut Ahead<'_, R>, from: u64, first: &[u8; 32]) -> Result<Option<u64>, ReadError> {
    let begins = first.first_chunk::<8>();
    let may = |raw: &[u8; 8]| Some(raw) == begins;
    ahead.search::<8>(from, u64::MAX, may, |ahead, place| {
        let Some(head) = ahead.whole::<32>(place)?.and_then(|raw| Head::take(&raw)) else { return Ok(false) };
        let body = place.saturating_add(HEADER);
        if head.compressed {
            return Ok(ahead.whole::<10>(body)?.is_some_and(|raw| raw == *b"\xff\x06\0\0sNaPpY"));
        }
        let behind = body.saturating_add(head.len);
        let size = ahead.size();
        Ok(behind == size || ahead.whole::<32>(behind)?.is_some_and(|raw| Head::take(&raw).is_some()))
    })
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
        fill(self.blocks.from(offset).iter().copied(), offset, buf, |plain, at, now| self.read_plain(plain, at, now))?;
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
        // The result ends where a damaged block's range starts, and where the reason changes.
        let lost = self.lost_in(gap.clone());
        let (end, why) = match (lost, self.lost) {
            (Some(lost), _) if lost.start == gap.start => (lost.end, Absence::Undecodable),
            (lost, tail) => {
                let end = lost.map_or(gap.end, |lost| lost.start);
                match tail {
                    Some((from, why)) if from <= gap.start => (end, why),
                    Some((from, _)) => (end.min(from), Absence::NotInDump),
                    None => (end, Absence::NotInDump),
                }
            }
        };
        Some((Span::new(gap.start, end.saturating_sub(gap.start)), why))
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
