//! Finds file blocks that more than one block claims.
//!
//! Only files whose file blocks do not ascend are examined. A dense file gets one bit for each file block from its
//! lowest to its highest. For other files the file blocks themselves are kept, as many at a time as fit into a fixed
//! amount of memory.

use std::ops::Range;

use gmfs_format::native::units::{BlockNo, InodeNo, len64, small};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::Superblocks;
use gmfs_volume::region::page_descriptors;
use gmfs_volume::sweep::{Frame, sweep};

use crate::finding::Subject;
use crate::pass::blocks::{Blocks, Tally};
use crate::pass::inodes::Inodes;
use crate::problem::Problem;
use crate::sink::Sink;

/// How many file blocks of sparse files are examined at once: 8 bytes each, and twice as much while they are collected.
const PLACES_AT_ONCE: usize = 1 << 18;

/// Finds file blocks that are claimed twice.
pub(crate) fn check<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    inodes: &Inodes,
    blocks: &Blocks,
    sink: &mut Sink,
) {
    if blocks.disordered.is_empty() {
        return;
    }
    let claims = Claims { source, superblocks };
    // The number of data blocks in the region limits the bits for all dense files.
    let mut budget = u64::from(superblocks.geometry().data_blocks());
    let mut dense = vec![None; inodes.len()];
    let mut sparse = vec![None; inodes.len()];
    let mut bits = 0_u64;
    let mut any_sparse = false;
    for position in blocks.disordered.iter().filter_map(|ino| ino.position()) {
        let places = blocks.tallies.get(position).map(Tally::places).unwrap_or_default();
        let span = len64(places.len());
        let left = budget.checked_sub(span);
        let list = if left.is_some() { &mut dense } else { &mut sparse };
        if let Some(file) = list.get_mut(position) {
            *file = Some((bits, places));
        }
        match left {
            // Bits are taken from the budget, so they never exceed it.
            Some(left) => (bits, budget) = (bits.saturating_add(span), left),
            None => any_sparse = true,
        }
    }
    if bits > 0 {
        dense_files(&claims, &dense, bits, sink);
    }
    if any_sparse {
        sparse_files(&claims, &sparse, PLACES_AT_ONCE, sink);
    }
}

/// The files to examine, by inode: where their bits start, and the range of their file blocks. A block outside of that
/// range is past the file's size, which has been reported already.
type Files = [Option<(u64, Range<u32>)>];

/// The bit of a file block, if it is one of these files.
fn bit_of(files: &Files, owner: InodeNo, index: u32) -> Option<u64> {
    let (start, places) = files.get(owner.position()?)?.as_ref()?;
    let behind = index.checked_sub(places.start).filter(|_| index < places.end)?;
    start.checked_add(u64::from(behind))
}

/// Marks each file block of the dense files. A second mark is a second claim.
fn dense_files<S: ReadAt + ?Sized>(claims: &Claims<'_, S>, files: &Files, bits: u64, sink: &mut Sink) {
    let mut taken = Marks::new(bits);
    claims.each(|block, owner, index| {
        if let Some(bit) = bit_of(files, owner, index)
            && taken.mark(bit)
        {
            claims.report(block, owner, index, sink);
        }
    });
}

/// Examines the file blocks of the sparse files, the lowest `at_once` at a time. One pass finds these, and another one
/// marks them.
fn sparse_files<S: ReadAt + ?Sized>(claims: &Claims<'_, S>, files: &Files, at_once: usize, sink: &mut Sink) {
    let key = |owner: InodeNo, index: u32| u64::from(owner.0) << 32 | u64::from(index);
    let mut from = 0;
    loop {
        let mut keys = Lowest::new(at_once);
        claims.each(|_, owner, index| {
            let key = key(owner, index);
            if key >= from && bit_of(files, owner, index).is_some() {
                keys.add(key);
            }
        });
        let keys = keys.finish();
        let Some(last) = keys.last() else { return };
        let mut taken = Marks::new(len64(keys.len()));
        claims.each(|block, owner, index| {
            if let Ok(position) = keys.binary_search(&key(owner, index))
                && taken.mark(len64(position))
            {
                claims.report(block, owner, index, sink);
            }
        });
        if keys.len() < at_once {
            return;
        }
        // There is nothing past the highest number.
        let Some(next) = last.checked_add(1) else { return };
        from = next;
    }
}

/// The lowest of many numbers, without duplicates.
struct Lowest {
    limit: usize,
    /// At most twice as many numbers as the limit.
    kept: Vec<u64>,
    /// Numbers above this have been dropped.
    highest: u64,
}

impl Lowest {
    fn new(limit: usize) -> Self {
        Self { limit, kept: Vec::with_capacity(limit.saturating_mul(2)), highest: u64::MAX }
    }

    fn add(&mut self, number: u64) {
        if number > self.highest {
            return;
        }
        if self.kept.len() >= self.limit.saturating_mul(2) {
            self.tidy();
        }
        self.kept.push(number);
    }

    fn tidy(&mut self) {
        self.kept.sort_unstable();
        self.kept.dedup();
        if self.kept.len() >= self.limit {
            self.kept.truncate(self.limit);
            self.highest = self.kept.last().copied().unwrap_or(u64::MAX);
        }
    }

    /// The numbers, in ascending order.
    fn finish(mut self) -> Vec<u64> {
        self.tidy();
        self.kept
    }
}

/// A list of marks, one bit each.
struct Marks(Vec<u64>);

impl Marks {
    fn new(bits: u64) -> Self {
        Self(vec![0; small(bits.div_ceil(64))])
    }

    /// Sets a mark. Returns whether it was set already.
    fn mark(&mut self, bit: u64) -> bool {
        let mask = 1 << (bit % 64);
        let Some(word) = self.0.get_mut(small(bit / 64)) else { return false };
        let before = *word & mask != 0;
        *word |= mask;
        before
    }
}

/// All claims of blocks to file blocks.
struct Claims<'a, S: ?Sized> {
    source: &'a S,
    superblocks: &'a Superblocks,
}

impl<S: ReadAt + ?Sized> Claims<'_, S> {
    /// Calls `each` with every claim of a block to a file block, in block order.
    fn each(&self, mut each: impl FnMut(BlockNo, InodeNo, u32) + Send) {
        let geometry = self.superblocks.geometry();
        let visit = |frame: &Frame<'_>| {
            let Some(bytes) = frame.taken() else { return };
            let entries = page_descriptors(geometry, frame.page, bytes);
            for (block, entry) in entries.filter(|(_, entry)| entry.is_mapping()) {
                each(block, entry.owner(), entry.index.get());
            }
        };
        sweep(self.source, self.superblocks, self.superblocks.current().used_table_pages(), vec![visit]);
    }

    fn report(&self, block: BlockNo, owner: InodeNo, index: u32, sink: &mut Sink) {
        let geometry = self.superblocks.geometry();
        let at = Span::new(geometry.block_offset(block), geometry.block_bytes());
        sink.add(Problem::PlaceTakenTwice { owner, index }, Subject::Blocks { first: block, count: 1 }, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Finding;
    use crate::fuzzing::region;
    use crate::inject::{Target, inject};
    use crate::problem::Code;
    use crate::standings::PageStandings;

    #[test]
    fn sparse_files_are_looked_at_as_dense_ones_are() {
        let mut image = region();
        inject(&mut image, Code::GM0405, Target::default()).unwrap();
        let superblocks = gmfs_volume::rebuild::load_or_rebuild(&image).unwrap();
        let claims = Claims { source: &image, superblocks: &superblocks };
        let places = 1000;
        let files: Vec<_> = (0..20).map(|file| Some((file * u64::from(places), 0..places))).collect();
        let found = |look: &dyn Fn(&mut Sink)| -> Vec<Finding> {
            let mut sink = Sink::new(10);
            look(&mut sink);
            sink.report(false, false, PageStandings::default()).findings
        };
        let dense = found(&|sink| dense_files(&claims, &files, 20 * u64::from(places), sink));
        assert_eq!(dense.len(), 1);
        for at_once in [1, 7, 10_000] {
            assert_eq!(found(&|sink| sparse_files(&claims, &files, at_once, sink)), dense, "{at_once} at once");
        }
        // A block outside of the range of its file is another finding.
        let none = vec![Some((0, 0..0)); 20];
        assert_eq!(found(&|sink| sparse_files(&claims, &none, 7, sink)), []);
    }

    #[test]
    fn the_lowest_numbers_are_kept_each_once_in_bounded_memory() {
        let mut lowest = Lowest::new(4);
        for number in [9, 9, 9, 9, 9, 9, 9, 9, 9, 7, 8, 1, 9, 3, 3, 3, 2, 5, 9, 2, 4, 4, 0, 6] {
            lowest.add(number);
            assert!(lowest.kept.len() <= 8);
        }
        assert_eq!(lowest.finish(), [0, 1, 2, 3]);
        let mut few = Lowest::new(4);
        for number in [5, 3, 5] {
            few.add(number);
        }
        assert_eq!(few.finish(), [3, 5]);
    }
}
