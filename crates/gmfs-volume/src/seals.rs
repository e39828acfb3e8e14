//! Seals of content. The descriptor of a block can record the CRC-32 of the block's bytes, and that they are all zero.
//! Such a seal says what the content was when it was sealed. This module computes the checksums of blocks and compares
//! them with their seals; sealing itself is an operation of a [`Writer`](crate::Writer).

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, OnceLock, PoisonError};

use crc32fast::Hasher;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::{BLOCK_ZERO, BlockState};
use gmfs_format::native::units::{BlockNo, InodeNo, PageBytes, PageNo, len64, small};
use gmfs_io::in_order::jobs_in_order;
use gmfs_io::{Absence, ReadAt, ReadError, Span};

use crate::by_inode::ByInode;
use crate::region::{Region, page_descriptors};
use crate::superblocks::Superblocks;
use crate::sweep::{Frame, sweep};

/// How many bytes one thread checksums at once: the smallest block, or a part of a larger one.
const PIECE: u64 = 2 << 20;
/// How many bytes are read at once. They are few enough to be in the processor's cache still when they are checksummed.
const READ: u64 = 128 << 10;
/// How many pieces a thread is given at once, and how many times before that only one, so that each thread has something to do
/// soon. Waking a thread takes as long as checksumming a part of a piece.
const PIECES: usize = 4;
const SINGLE: usize = 8;
/// How many pieces of a hole are looked at together.
const HOLES: usize = 64;

/// What was computed from the bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSum {
    /// Their CRC-32.
    pub crc: u32,
    /// Whether they are all zero.
    pub zero: bool,
}

impl BlockSum {
    /// What is computed from a piece of zeros.
    fn zeros() -> Self {
        Self { crc: zeros_crc(), zero: true }
    }
}

/// Computes the checksums of pieces of a source.
struct Pieces<'s, S: ?Sized> {
    source: &'s S,
    /// Buffers to read into. They are kept from piece to piece.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl<S: ReadAt + ?Sized> Pieces<'_, S> {
    /// `dense`: it is known that no part of the piece is a hole.
    fn sum(&self, from: u64, dense: bool, buffer: &mut Vec<u8>) -> Result<BlockSum, ReadError> {
        let end = from.saturating_add(PIECE);
        // The source is asked for holes once for each piece, so that a hole is not read, however large the file is.
        if !dense && matches!(self.source.next_data(from..end), Ok(None)) {
            return Ok(BlockSum::zeros());
        }
        buffer.resize(small(READ), 0);
        let (mut hasher, mut zero, mut at) = (Hasher::new(), true, from);
        while at < end {
            let length = small(end.saturating_sub(at)).min(buffer.len());
            let bytes = buffer.get_mut(..length).unwrap_or_default();
            self.source.read_at(at, bytes)?;
            hasher.update(bytes);
            zero = zero && is_zero(bytes);
            // This saturates only at the highest offset, where the piece ends too.
            at = at.saturating_add(len64(length));
        }
        Ok(BlockSum { crc: hasher.finalize(), zero })
    }

    /// What pieces that start at these offsets are, if they are one after another.
    fn kind(&self, starts: &[u64]) -> Kind {
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return Kind::Unknown };
        let adjoin = starts.iter().zip(starts.iter().skip(1)).all(|(one, next)| one.checked_add(PIECE) == Some(*next));
        let all = *first..last.saturating_add(PIECE);
        match adjoin.then(|| self.source.next_data(all.clone())) {
            Some(Ok(None)) => Kind::Hole,
            Some(Ok(Some(data))) if data.start <= all.start && data.end >= all.end => Kind::Dense,
            _ => Kind::Unknown,
        }
    }

    /// Puts the checksums of the pieces that start at these offsets into `sums`.
    fn sum_all(&self, starts: &[u64], dense: bool, sums: &mut Vec<Result<BlockSum, ReadError>>) {
        let idle = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = idle().pop().unwrap_or_default();
        sums.clear();
        sums.extend(starts.iter().map(|from| self.sum(*from, dense, &mut buffer)));
        idle().push(buffer);
    }
}

/// What pieces are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All of them are a hole.
    Hole,
    /// No part of them is.
    Dense,
    /// Each has to be looked at.
    Unknown,
}

/// The CRC of a piece of zeros.
fn zeros_crc() -> u32 {
    static CRC: OnceLock<u32> = OnceLock::new();
    *CRC.get_or_init(|| {
        let mut hasher = Hasher::new();
        let zeros = [0; 4096];
        for _ in (0..PIECE).step_by(zeros.len()) {
            hasher.update(&zeros);
        }
        hasher.finalize()
    })
}

/// Whether bytes are all zero. Most bytes that are not differ near their start, so the check stops early.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Computes the checksums of blocks of a region, with several threads. Calls `take` for each block, in the order of
/// `blocks`, with the value that `blocks` has for it, and with its checksum or the error of reading it. The first error
/// of `take` ends this.
///
/// # Errors
/// What `take` returned.
pub fn sum_blocks<S, T, E>(
    source: &S,
    geometry: Geometry,
    blocks: impl Iterator<Item = (BlockNo, T)>,
    threads: usize,
    mut take: impl FnMut(BlockNo, T, Result<BlockSum, ReadError>) -> Result<(), E>,
) -> Result<(), E>
where
    S: ReadAt + ?Sized,
{
    // Blocks have 2, 32 or 512 MiB.
    let pieces = geometry.block_bytes().checked_div(PIECE).unwrap_or_default().max(1);
    let mut all = blocks.flat_map(|(block, what)| {
        let first = geometry.block_offset(block).checked_div(PIECE).unwrap_or_default();
        let end = first.saturating_add(pieces);
        let mut what = Some(what);
        (first..end).map(move |piece| {
            let last = if piece.saturating_add(1) == end { what.take() } else { None };
            (piece.saturating_mul(PIECE), (block, last))
        })
    });
    let source = Pieces { source, buffers: Mutex::default() };
    let (mut number, mut holes) = (0, 1);
    let jobs = std::iter::from_fn(|| {
        let size = if number < SINGLE { 1 } else { PIECES };
        let (starts, what): (Vec<u64>, Vec<_>) = all.by_ref().take(size.max(holes)).unzip();
        number = number.saturating_add(1);
        // Holes are neither read nor given to a thread, and the more there were, the more are looked for at once.
        let kind = source.kind(&starts);
        holes = if kind == Kind::Hole { holes.saturating_mul(2).min(HOLES) } else { 1 };
        (!starts.is_empty()).then_some(((kind != Kind::Hole).then_some((starts, kind == Kind::Dense)), what))
    });
    let work = |(starts, dense): (Vec<u64>, bool), sums: &mut Vec<_>| source.sum_all(&starts, dense, sums);
    let mut whole: Option<Result<(Hasher, bool), ReadError>> = None;
    let mut add = |block: BlockNo, last: Option<T>, sum: Result<BlockSum, ReadError>| {
        let piece = sum.map(|sum| (Hasher::new_with_initial_len(sum.crc, PIECE), sum.zero));
        let so_far = match (whole.take(), piece) {
            (None, piece) => piece,
            (Some(Ok((mut hasher, zero))), Ok((next, next_zero))) => {
                hasher.combine(&next);
                Ok((hasher, zero && next_zero))
            }
            (Some(Err(error)), _) | (Some(Ok(_)), Err(error)) => Err(error),
        };
        match last {
            Some(what) => take(block, what, so_far.map(|(hasher, zero)| BlockSum { crc: hasher.finalize(), zero })),
            None => {
                whole = Some(so_far);
                Ok(())
            }
        }
    };
    jobs_in_order(jobs, threads, work, |what, sums| {
        let Some(sums) = sums else {
            return what.into_iter().try_for_each(|(block, last)| add(block, last, Ok(BlockSum::zeros())));
        };
        what.into_iter().zip(sums.drain(..)).try_for_each(|((block, last), sum)| add(block, last, sum))
    })
}

/// The result of comparing a block with its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The block holds what it held when it was sealed.
    Same,
    /// The block holds something else.
    Changed {
        /// Whether the CRC of its content differs from the recorded one.
        crc: bool,
        /// Whether its content was recorded as zero, and is not zero.
        zero: bool,
    },
    /// The block has no seal.
    Unsealed,
    /// The image does not hold all of the block.
    Absent(Absence),
    /// The medium cannot read the block.
    Unreadable,
    /// The block is marked as having a hardware error, and is not read.
    HardwareError,
}

/// A block of a file, compared with its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which block.
    pub block: BlockNo,
    /// The file that it belongs to.
    pub owner: InodeNo,
    /// The file block that it holds.
    pub index: u32,
    /// The result of the comparison.
    pub verdict: Verdict,
}

/// Whether a descriptor of a data block records anything about the block's content.
#[must_use]
pub fn is_sealed(entry: &BlockRaw) -> bool {
    entry.state() == Some(BlockState::Data) && (entry.content_crc().is_some() || entry.flags & BLOCK_ZERO != 0)
}

/// Compares the blocks that these pages of the block table describe, of all files for which `wanted` returns true, with
/// their seals, and calls `each` with each result, in ascending order of block numbers, until `each` breaks. Only blocks
/// with a seal are read, with this many threads. Returns the number of these pages that cannot be read in either copy; the
/// blocks that they describe are not compared.
pub fn compare<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    pages: Range<u32>,
    wanted: impl Fn(InodeNo) -> bool + Send + Sync,
    threads: usize,
    mut each: impl FnMut(Compared) -> ControlFlow<()> + Send,
) -> u64 {
    let geometry = superblocks.geometry();
    let (mut lost, mut stopped) = (0_u64, false);
    let visit = |frame: &Frame<'_>| {
        if stopped {
            return;
        }
        let Some(bytes) = frame.taken() else {
            lost = lost.saturating_add(1);
            return;
        };
        let of_file = |(_, entry): &(BlockNo, &BlockRaw)| entry.is_mapping() && wanted(entry.owner());
        let mut told = |block: BlockNo, entry: &BlockRaw, verdict| {
            let compared = Compared { block, owner: entry.owner(), index: entry.index.get(), verdict };
            match each(compared) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(()),
            }
        };
        // Blocks without a seal are reported between those with one, so that all are reported in order.
        let mut all = page_descriptors(geometry, frame.page, bytes).filter(of_file).peekable();
        let sealed: Vec<(BlockNo, &BlockRaw)> = page_descriptors(geometry, frame.page, bytes)
            .filter(of_file)
            .filter(|(_, entry)| is_sealed(entry))
            .collect();
        let mut up_to = |end: Option<BlockNo>, told: &mut dyn FnMut(BlockNo, &BlockRaw, Verdict) -> Result<(), ()>| {
            while let Some((block, entry)) = all.next_if(|(block, _)| end.is_none_or(|end| *block < end)) {
                let bad = entry.state() == Some(BlockState::Bad);
                told(block, entry, if bad { Verdict::HardwareError } else { Verdict::Unsealed })?;
            }
            // This is the block that is reported with its checksum.
            let _ = all.next();
            Ok(())
        };
        let summed = sum_blocks(source, geometry, sealed.into_iter(), threads, |block, entry, sum| {
            up_to(Some(block), &mut told)?;
            told(block, entry, verdict(entry, sum))
        });
        stopped = summed.and_then(|()| up_to(None, &mut told)).is_err();
    };
    sweep(source, superblocks, pages, vec![visit]);
    lost
}

/// The verdict on a sealed block, from its checksum.
fn verdict(entry: &BlockRaw, sum: Result<BlockSum, ReadError>) -> Verdict {
    match sum {
        Ok(sum) => {
            let crc = entry.content_crc().is_some_and(|recorded| recorded != sum.crc);
            let zero = entry.flags & BLOCK_ZERO != 0 && !sum.zero;
            if crc || zero { Verdict::Changed { crc, zero } } else { Verdict::Same }
        }
        Err(ReadError::Absent { why, .. }) => Verdict::Absent(why),
        Err(ReadError::Io { .. }) => Verdict::Unreadable,
    }
}

/// How much of a file is sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSeals {
    /// How many blocks the file has, without those that have hardware errors.
    pub blocks: u64,
    /// How many of these blocks have a seal.
    pub sealed: u64,
    /// How many blocks of the file have hardware errors. They cannot have a seal.
    pub bad: u64,
    /// The pages of the block table from the first to the last one that describes a block of the file.
    pub pages: Range<u32>,
}

impl FileSeals {
    /// Whether every block of the file has a seal. A file without blocks needs none.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.sealed == self.blocks && self.bad == 0
    }
}

/// How much of each file is sealed.
#[derive(Clone, Debug, Default)]
pub struct Seals {
    /// Files that have blocks.
    pub files: BTreeMap<InodeNo, FileSeals>,
    /// How many blocks of all files have a seal.
    pub sealed: u64,
    /// How many pages of the block table cannot be read in either copy.
    pub lost_pages: u64,
}

impl<S: ReadAt, B: Borrow<Superblocks>> Region<S, B> {
    /// A hash of the seals of each of these files, in one pass. It changes if the content of a block changes, or if a block is
    /// elsewhere in the file or in the region. `None` if not every block is sealed, or not all descriptors can be read. No
    /// content is read.
    pub fn seals_of(&self, inos: &[InodeNo]) -> Vec<Option<u64>> {
        // FNV-1a with 64 bits.
        let mut hashes = vec![Some(0xcbf2_9ce4_8422_2325_u64); inos.len()];
        let lost = self.descriptors_of(inos, |block, entry| {
            if !entry.is_mapping() {
                return;
            }
            let crc = entry.content_crc().filter(|_| entry.state() == Some(BlockState::Data));
            for (hash, _) in hashes.iter_mut().zip(inos).filter(|(_, ino)| **ino == entry.owner()) {
                let words = crc.map(|crc| [block.0, entry.index.get(), crc]);
                let bytes = words.map(|words| words.map(u32::to_le_bytes));
                let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                *hash = hash.and_then(|hash| Some(bytes?.as_flattened().iter().fold(hash, add)));
            }
        });
        if lost > 0 { vec![None; inos.len()] } else { hashes }
    }

    /// How much of each file is sealed, in one pass over the used part of the block table. No content is read.
    pub fn seals(&self) -> Seals {
        let mut count = Counting::new(self.geometry());
        let lost_pages = self.frames(self.superblock().used_table_pages(), |page, bytes| count.add(page, bytes));
        Seals { files: count.files.into_values().collect(), sealed: count.sealed, lost_pages }
    }

    /// As [`seals`](Self::seals), for these files only. No more pages are read than these files have, if it is known
    /// [where they are](Self::index).
    pub fn seals_among(&self, inos: &[InodeNo]) -> Seals {
        let mut count = Counting::new(self.geometry());
        let lost_pages = self.frames_of(inos, |page, bytes| count.add(page, bytes));
        let wanted: BTreeSet<InodeNo> = inos.iter().copied().collect();
        let files: BTreeMap<_, _> = count.files.into_values().filter(|(ino, _)| wanted.contains(ino)).collect();
        let sealed = files.values().map(|file| file.sealed).sum();
        Seals { files, sealed, lost_pages }
    }
}

/// Seals that are being counted.
struct Counting {
    geometry: Geometry,
    files: ByInode<FileSeals>,
    sealed: u64,
}

impl Counting {
    fn new(geometry: Geometry) -> Self {
        Self { geometry, files: ByInode::default(), sealed: 0 }
    }

    fn add(&mut self, page: PageNo, bytes: &PageBytes) {
        let number = page.0;
        for (_, entry) in page_descriptors(self.geometry, page, bytes).filter(|(_, entry)| entry.is_mapping()) {
            let new = || FileSeals { pages: number..number, ..FileSeals::default() };
            let Some(file) = self.files.get_or_insert_with(entry.owner(), new) else { continue };
            file.pages.end = number.saturating_add(1);
            let data = entry.state() == Some(BlockState::Data);
            let count = if data { &mut file.blocks } else { &mut file.bad };
            *count = count.saturating_add(1);
            if is_sealed(entry) {
                file.sealed = file.sealed.saturating_add(1);
                self.sealed = self.sealed.saturating_add(1);
            }
        }
    }
}

/// The bytes of a block.
#[must_use]
pub fn block_span(geometry: Geometry, block: BlockNo) -> Span {
    Span::new(geometry.block_offset(block), geometry.block_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_format::native::units::PmdShift;

    /// Memory in which the value of each byte depends on its offset. One page of it is absent.
    struct Made;

    impl ReadAt for Made {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let span = Span::new(offset, len64(buf.len()));
            let absent = Span::new(96 << 20, 4096);
            if span.meets(absent) {
                return Err(ReadError::Absent { span: absent, why: Absence::NotInDump });
            }
            for (at, byte) in (offset..).zip(buf) {
                *byte = if at < 64 << 20 { 0 } else { u8::try_from(at % 251).unwrap() };
            }
            Ok(())
        }

        fn end(&self) -> Option<u64> {
            None
        }

        fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
            // The first 48 MiB of the zeros are reported as a hole.
            let start = range.start.max(48 << 20);
            Ok((start < range.end).then_some(start..range.end))
        }
    }

    /// The checksum of a block of 32 MiB is computed in pieces, with any number of threads.
    #[test]
    fn a_block_has_the_crc_of_its_bytes() {
        let geometry = Geometry::plan(512 << 20, PmdShift::M32, 16).unwrap();
        for threads in [1, 3] {
            let mut seen = Vec::new();
            let blocks = [1, 2, 3, 4].map(|block| (BlockNo(block), block * 10));
            let done: Result<(), ()> = sum_blocks(&Made, geometry, blocks.into_iter(), threads, |block, what, sum| {
                assert_eq!(what, block.0 * 10);
                seen.push(sum.ok());
                Ok(())
            });
            assert_eq!(done, Ok(()));
            let crc = |block: u64| {
                let mut bytes = vec![0; 32 << 20];
                Made.read_at(block << 25, &mut bytes).unwrap();
                crc32fast::hash(&bytes)
            };
            let sum = |block, zero| Some(BlockSum { crc: crc(block), zero });
            assert_eq!(seen, [sum(1, true), sum(2, false), None, sum(4, false)], "{threads}");
        }
    }

    /// Memory of which only some blocks of 2 MiB are not holes: those hold their number, and one of them cannot be read.
    struct Sparse;

    impl Sparse {
        /// A long hole, short ones, and data.
        const fn is_data(block: u64) -> bool {
            !matches!(block, 3..150) && !block.is_multiple_of(3)
        }
    }

    impl ReadAt for Sparse {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let block = offset / PIECE;
            assert!(Self::is_data(block), "a hole is not read");
            if block == 161 {
                return Err(ReadError::Absent { span: Span::new(offset, 1), why: Absence::NotInDump });
            }
            buf.fill(0);
            if offset.is_multiple_of(PIECE) {
                buf[..8].copy_from_slice(&block.to_le_bytes());
            }
            Ok(())
        }

        fn end(&self) -> Option<u64> {
            None
        }

        fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
            let mut blocks = range.start / PIECE..range.end.div_ceil(PIECE);
            let first = blocks.find(|block| Self::is_data(*block));
            let end =
                blocks.find(|block| !Self::is_data(*block)).map_or(range.end, |block| block.saturating_mul(PIECE));
            Ok(first.map(|block| range.start.max(block.saturating_mul(PIECE))..end.min(range.end)))
        }
    }

    /// Each block gets its own checksum, whether it is data or a hole, and however they take turns.
    #[test]
    fn holes_and_data_take_turns() {
        let geometry = Geometry::plan(512 << 20, PmdShift::M2, 16).unwrap();
        let crc = |start: [u8; 8]| {
            let mut bytes = vec![0; 2 << 20];
            bytes[..8].copy_from_slice(&start);
            crc32fast::hash(&bytes)
        };
        // All blocks, and some of them: what does not adjoin is no hole together.
        for step in [1, 5] {
            for threads in [1, 3] {
                let mut next = 1;
                let blocks = (1..220).step_by(step).map(|block| (BlockNo(block), block));
                let done: Result<(), ()> = sum_blocks(&Sparse, geometry, blocks, threads, |block, what, sum| {
                    assert_eq!((block.0, what), (next, next));
                    next += u32::try_from(step).unwrap();
                    let data = Sparse::is_data(block.0.into());
                    let start = if data { u64::from(block.0).to_le_bytes() } else { [0; 8] };
                    let sum = sum.ok();
                    assert_eq!(sum.is_none(), block.0 == 161);
                    assert!(sum.is_none_or(|sum| sum == BlockSum { crc: crc(start), zero: !data }), "{block}");
                    Ok(())
                });
                assert_eq!((done, next > 218), (Ok(()), true));
            }
        }
    }

    #[test]
    fn zeros_are_zeros_to_the_last_byte() {
        let mut bytes = vec![0; 9000];
        assert!(is_zero(&bytes));
        *bytes.last_mut().unwrap() = 1;
        assert!(!is_zero(&bytes));
    }
}
