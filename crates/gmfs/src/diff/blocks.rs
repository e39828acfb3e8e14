//! Compares where the files of two regions have their blocks, and what these held when they were sealed, in one pass over
//! both block tables side by side. Memory grows with the number of files, not with that of blocks.

use std::sync::mpsc::sync_channel;

use gmfs_format::model::{Inode, InodeNo};
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, len64, small, to_u32};
use gmfs_volume::by_inode::ByInode;
use gmfs_volume::region::Region;

use super::Sameness;
use crate::open::Source;

/// How many pages of descriptors wait to be compared.
const WAITING: usize = 64;

/// Descriptors of consecutive blocks, and the first of these.
type Page = (BlockNo, Box<[BlockRaw]>);

/// What takes them.
type Each<'e> = &'e mut (dyn FnMut(BlockNo, &[BlockRaw]) + Send);

/// A file of the first region, and the file of the second one that it is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    /// Blocks of which both regions say the same, and how many of these have no CRC.
    same: u64,
    same_unsealed: u64,
    /// What the regions say of others.
    sides: [Side; 2],
    /// A block belongs to another place of the files, or to one of them only.
    moved: bool,
    /// A block has a hardware error in one region only.
    bad: bool,
}

/// What the descriptors of one region say of a file, except where both say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Side {
    /// How many blocks it has.
    blocks: u64,
    /// How many of these have no CRC.
    unsealed: u64,
    /// A hash over the file blocks that the other region does not have in the same block.
    places: [u64; 2],
    /// A hash over these, and over those that have another CRC there, each with its CRC.
    sums: [u64; 2],
}

/// What the descriptors of two regions say.
pub(super) struct Blocks {
    /// The number of the pair that an inode of each region belongs to.
    numbers: ByInode<[Option<usize>; 2]>,
    pairs: Vec<Pair>,
    /// Whether all descriptors of both could be read.
    whole: bool,
}

impl Blocks {
    /// Compares pairs of files, by their inodes. `None` if blocks of the regions are not of one size.
    pub(super) fn compare(regions: [&Region<Source>; 2], pairs: &[[InodeNo; 2]]) -> Option<Self> {
        let [first, second] = regions;
        if first.geometry().block_bytes() != second.geometry().block_bytes() {
            return None;
        }
        let mut blocks = Self::new(pairs);
        let lost = std::thread::scope(|scope| {
            let (send, pages) = sync_channel(WAITING);
            let other = std::thread::Builder::new().spawn_scoped(scope, move || {
                // Nobody is left to take them only if the other side has panicked.
                first.descriptor_pages(|block, entries| drop(send.send((block, entries.into()))))
            });
            let pass = |each: Each<'_>| second.descriptor_pages(each);
            let Ok(other) = other else {
                let mut all: Vec<Page> = Vec::new();
                let lost = first.descriptor_pages(|block, entries| all.push((block, entries.into())));
                return [lost, blocks.pass(all.into_iter(), pass)];
            };
            let lost = blocks.pass(pages.into_iter(), pass);
            [other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), lost]
        });
        blocks.whole = lost == [0, 0];
        Some(blocks)
    }

    fn new(pairs: &[[InodeNo; 2]]) -> Self {
        let mut numbers: ByInode<[Option<usize>; 2]> = ByInode::default();
        for (number, pair) in pairs.iter().enumerate() {
            for (side, inode) in pair.iter().enumerate() {
                let of_inode = numbers.get_or_insert_with(*inode, || [None; 2]);
                if let Some(place) = of_inode.and_then(|of_inode| of_inode.get_mut(side)) {
                    *place = Some(number);
                }
            }
        }
        Self { numbers, pairs: vec![Pair::default(); pairs.len()], whole: false }
    }

    /// One pass: the descriptors of the first region beside those of the second one, which `second` hands out; both rise by
    /// block. Gives what `second` does: how many of its pages are lost.
    fn pass(&mut self, first: impl Iterator<Item = Page> + Send, second: impl FnOnce(Each<'_>) -> u64) -> u64 {
        let mut ahead = Ahead { pages: first, page: None, done: 0 };
        let lost = second(&mut |block, mut entries| {
            let mut at = block.0;
            while !entries.is_empty() {
                let Some((other, theirs)) = ahead.entries() else {
                    self.add_all(&[], entries);
                    return;
                };
                // What only one of them has before the other begins, or as far as both reach.
                let (mine, other_only) =
                    (small(other.0.saturating_sub(at).into()), small(at.saturating_sub(other.0).into()));
                let (mine, other_only) = (mine.min(entries.len()), other_only.min(theirs.len()));
                if mine == 0 && other_only == 0 {
                    let both = entries.len().min(theirs.len());
                    let (now, later) = entries.split_at(both);
                    self.add_all(theirs.get(..both).unwrap_or_default(), now);
                    (entries, at) = (later, at.saturating_add(to_u32(len64(both))));
                    ahead.pass(both);
                } else {
                    let (now, later) = entries.split_at(mine);
                    self.add_all(&[], now);
                    self.add_all(theirs.get(..other_only).unwrap_or_default(), &[]);
                    (entries, at) = (later, at.saturating_add(to_u32(len64(mine))));
                    ahead.pass(other_only);
                }
            }
        });
        while let Some((_, rest)) = ahead.entries() {
            self.add_all(rest, &[]);
            let all = rest.len();
            ahead.pass(all);
        }
        lost
    }

    /// Adds descriptors of the same blocks in both regions, or of blocks that only one of them has.
    fn add_all(&mut self, first: &[BlockRaw], second: &[BlockRaw]) {
        for n in 0..first.len().max(second.len()) {
            match (first.get(n), second.get(n)) {
                (Some(a), Some(b)) if a == b => self.add_same(a),
                (a, b) => {
                    let mapping = |entry: &&BlockRaw| entry.is_mapping();
                    self.add([a.filter(mapping), b.filter(mapping)]);
                }
            }
        }
    }

    /// Adds a block of which both regions say the same.
    fn add_same(&mut self, entry: &BlockRaw) {
        if !entry.is_mapping() {
            return;
        }
        match self.numbers.get(entry.owner()) {
            Some([Some(a), Some(b)]) if a == b => {
                if let Some(pair) = self.pairs.get_mut(*a) {
                    pair.same = pair.same.saturating_add(1);
                    pair.same_unsealed = pair.same_unsealed.saturating_add(crc(entry).is_none().into());
                }
            }
            _ => self.add([Some(entry), Some(entry)]),
        }
    }

    /// Adds what both regions say of a block.
    fn add(&mut self, entries: [Option<&BlockRaw>; 2]) {
        let number = |side: usize| {
            let entry = entries.get(side).copied().flatten()?;
            self.numbers.get(entry.owner())?.get(side).copied().flatten()
        };
        let numbers = [number(0), number(1)];
        if let ([Some(a), Some(b)], [Some(number), Some(other)]) = (entries, numbers)
            && (number, a.index.get()) == (other, b.index.get())
        {
            if let Some(pair) = self.pairs.get_mut(number) {
                pair.add_place([a, b]);
            }
            return;
        }
        for (side, (entry, number)) in entries.into_iter().zip(numbers).enumerate() {
            let (Some(entry), Some(number)) = (entry, number) else { continue };
            let Some(pair) = self.pairs.get_mut(number) else { continue };
            pair.moved = true;
            if let Some(side) = pair.sides.get_mut(side) {
                side.add(entry);
            }
        }
    }

    /// Whether only the extents of a pair of files tell whether they are the same: because of a hardware error.
    pub(super) fn need_extents(&self, number: usize) -> bool {
        self.pairs.get(number).is_some_and(|pair| pair.bad)
    }

    /// Whether the blocks of a pair of files are in the same places. `None` if their extents have to be compared.
    pub(super) fn extents(&self, number: usize, inodes: [&Inode; 2]) -> Option<Sameness> {
        match self.mapped(number, inodes) {
            None => Some(Sameness::Unknown),
            Some(pair) if pair.moved => Some(Sameness::Differs),
            Some(pair) => (!pair.bad).then_some(Sameness::Same),
        }
    }

    /// Whether a pair of files held the same when they were sealed.
    pub(super) fn seals(&self, number: usize, inodes: [&Inode; 2]) -> Sameness {
        let Some(Pair { sides: [a, b], same_unsealed, .. }) = self.mapped(number, inodes) else {
            return Sameness::Unknown;
        };
        // A hole and a block of zeros hold the same.
        if (a.unsealed, b.unsealed, *same_unsealed) != (0, 0, 0) || a.places != b.places {
            return Sameness::Unknown;
        }
        if a.sums == b.sums { Sameness::Same } else { Sameness::Differs }
    }

    /// A pair of files, if all blocks of both were found.
    fn mapped(&self, number: usize, inodes: [&Inode; 2]) -> Option<&Pair> {
        let pair = self.pairs.get(number).filter(|_| self.whole)?;
        let blocks = pair.sides.map(|side| side.blocks.saturating_add(pair.same));
        (blocks == inodes.map(|inode| inode.blocks)).then_some(pair)
    }
}

impl Pair {
    /// Adds a block that both have, in the same place of the files.
    fn add_place(&mut self, entries: [&BlockRaw; 2]) {
        let [a, b] = entries;
        self.bad |= a.state() != b.state();
        let [one, other] = &mut self.sides;
        one.add(a);
        other.add(b);
    }
}

/// Pages of descriptors that were read ahead.
struct Ahead<I> {
    pages: I,
    page: Option<Page>,
    /// How many descriptors of the page are done with.
    done: usize,
}

impl<I: Iterator<Item = Page>> Ahead<I> {
    /// The next descriptors, and the block of the first; at least one.
    fn entries(&mut self) -> Option<(BlockNo, &[BlockRaw])> {
        while self.page.as_ref().is_none_or(|(_, entries)| self.done >= entries.len()) {
            self.page = Some(self.pages.next()?);
            self.done = 0;
        }
        let (first, entries) = self.page.as_ref()?;
        let block = BlockNo(first.0.saturating_add(to_u32(len64(self.done))));
        Some((block, entries.get(self.done..)?))
    }

    /// So many of them are done with.
    fn pass(&mut self, count: usize) {
        self.done = self.done.saturating_add(count);
    }
}

impl Side {
    fn add(&mut self, entry: &BlockRaw) {
        let place = u64::from(entry.index.get());
        self.blocks = self.blocks.saturating_add(1);
        add(&mut self.places, place);
        match crc(entry) {
            Some(crc) => add(&mut self.sums, place << 32 | u64::from(crc)),
            None => self.unsealed = self.unsealed.saturating_add(1),
        }
    }
}

/// The CRC of a block that is not bad.
fn crc(entry: &BlockRaw) -> Option<u32> {
    entry.content_crc().filter(|_| entry.state() == Some(BlockState::Data))
}

/// Adds a number to two sums. The order of numbers does not matter, and other numbers are unlikely to give the same
/// sums.
const fn add(sums: &mut [u64; 2], number: u64) {
    let first = mix(number.wrapping_add(1));
    sums[0] = sums[0].wrapping_add(first);
    sums[1] = sums[1].wrapping_add(mix(first.wrapping_add(0x9e37_79b9_7f4a_7c15)));
}

/// The finalizer of splitmix64.
const fn mix(number: u64) -> u64 {
    let mut x = number;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests;
