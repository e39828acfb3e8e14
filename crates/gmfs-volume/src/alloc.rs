//! Keeps track of which data blocks are free, and chooses blocks for files.
//!
//! The map has one bit for each block. A block is free only if its descriptor is all zero. A descriptor that is marked
//! free but names an owner contradicts itself; its block may hold guest memory, and is not allocated.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Range;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::{BlockNo, range_len, to_u32, to_usize};

/// The alignment that the flag "align to 1 GiB" asks for, in bytes: what one PUD maps.
pub const PUD_BYTES: u64 = 1 << 30;

/// There are too few free blocks, or none with the alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace;

/// A run of one block. Block numbers are below the maximum, so the end is exact.
pub(crate) const fn single(block: u32) -> Range<u32> {
    block..block.saturating_add(1)
}

/// The free data blocks of a region.
#[derive(Clone, Debug)]
pub struct BlockMap {
    /// One bit for each data block, set if the block is taken. Bits past the last block are set.
    taken: Vec<u64>,
    first: u32,
    count: u32,
}

impl BlockMap {
    /// A map in which every data block is free.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        let count = geometry.data_blocks();
        let mut taken = vec![0; to_usize(count.div_ceil(64))];
        if let (Some(last), tail @ 1..) = (taken.last_mut(), count % 64) {
            *last = u64::MAX << tail;
        }
        Self { taken, first: geometry.first_data().0, count }
    }

    /// How many blocks are free.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.taken.iter().map(|word| u64::from(word.count_zeros())).sum()
    }

    /// Marks blocks as taken.
    pub fn take(&mut self, blocks: Range<u32>) {
        for block in blocks {
            self.set(block, true);
        }
    }

    /// Marks blocks as free.
    pub fn release(&mut self, blocks: Range<u32>) {
        for block in blocks {
            self.set(block, false);
        }
    }

    /// Takes `count` blocks: the lowest run that is long enough, or otherwise the lowest free runs in order.
    ///
    /// # Errors
    /// [`NoSpace`]; then nothing is taken.
    pub fn allocate(&mut self, count: u32) -> Result<Vec<Range<u32>>, NoSpace> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let pieces = self.lowest(count).ok_or(NoSpace)?;
        for piece in &pieces {
            self.take(piece.clone());
        }
        Ok(pieces)
    }

    /// The runs that `count` blocks would be taken from.
    fn lowest(&self, count: u32) -> Option<Vec<Range<u32>>> {
        let mut pieces = Vec::new();
        let mut left = count;
        for run in self.runs() {
            // The end is within the run.
            if range_len(&run) >= count {
                let whole = run.start..run.start.saturating_add(count);
                return Some(Vec::from([whole]));
            }
            if left > 0 {
                let piece = run.start..run.end.min(run.start.saturating_add(left));
                left = left.saturating_sub(range_len(&piece));
                pieces.push(piece);
            }
        }
        (left == 0).then_some(pieces)
    }

    /// Takes `count` blocks for the file blocks from `index` on, such that each whole GiB of the file is one run that
    /// starts at a multiple of 1 GiB of physical address. `base` is the region's physical base. `after` is the block
    /// that follows the file's last one, and is tried first.
    ///
    /// # Errors
    /// [`NoSpace`]; then nothing is taken.
    pub fn allocate_aligned(
        &mut self,
        geometry: Geometry,
        base: u64,
        index: u32,
        count: u32,
        after: Option<BlockNo>,
    ) -> Result<Vec<Range<u32>>, NoSpace> {
        let bits = geometry.pmd().bits();
        let unit = NonZeroU32::new(to_u32(PUD_BYTES >> bits)).unwrap_or(NonZeroU32::MIN);
        let wide = NonZeroU64::from(unit);
        let shift = (base >> bits) % wide;
        let mut taken: Vec<Range<u32>> = Vec::new();
        let mut next = index;
        // A file cannot have more file blocks.
        let end = index.checked_add(count).ok_or(NoSpace)?;
        let mut after = after.map(|block| block.0);
        while next < end {
            // The rest of one GiB, which is at least one block.
            let in_unit = next % unit;
            let length = unit.get().saturating_sub(in_unit).min(end.saturating_sub(next));
            // A file block and its block must be equal modulo 1 GiB.
            let fits = |start: u32| u64::from(start).saturating_add(shift) % wide == u64::from(in_unit);
            let run_at = |start: u32| Some(start..start.checked_add(length)?);
            let continued = after.filter(|start| fits(*start)).and_then(run_at).filter(|run| self.is_free(run.clone()));
            let Some(run) = continued.or_else(|| self.lowest_fit(length, unit, fits).and_then(run_at)) else {
                for run in taken {
                    self.release(run);
                }
                return Err(NoSpace);
            };
            self.take(run.clone());
            after = Some(run.end);
            taken.push(run);
            next = next.saturating_add(length);
        }
        Ok(taken)
    }

    /// The lowest start of `length` free blocks for which `fits` returns true. The answer of `fits` repeats every
    /// `unit` blocks.
    fn lowest_fit(&self, length: u32, unit: NonZeroU32, fits: impl Fn(u32) -> bool) -> Option<u32> {
        self.runs().find_map(|run| {
            let last = run.end.checked_sub(length)?;
            (run.start..=last).take(to_usize(unit.get())).find(|start| fits(*start))
        })
    }

    /// Whether all of these blocks are free data blocks.
    #[must_use]
    pub fn is_free(&self, blocks: Range<u32>) -> bool {
        let is_free = |(word, mask): (usize, u64)| self.taken.get(word).is_some_and(|bits| bits & mask == 0);
        blocks.clone().all(|block| self.bit(block).is_some_and(is_free))
    }

    /// The maximal runs of free blocks, lowest first.
    fn runs(&self) -> impl Iterator<Item = Range<u32>> + use<'_> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.seek(at, false)?;
            let end = self.seek(start, true).unwrap_or(self.count);
            at = end;
            // The map ends with the data blocks, so both ends are block numbers.
            Some(self.first.saturating_add(start)..self.first.saturating_add(end))
        })
    }

    /// The first bit at or after `from` with this value, counted from the first data block.
    fn seek(&self, from: u32, value: bool) -> Option<u32> {
        let first = from / 64;
        let mut mask = u64::MAX << (from % 64);
        for (word, bits) in (first..).zip(self.taken.iter().skip(to_usize(first))) {
            let wanted = if value { *bits } else { !*bits } & mask;
            if wanted != 0 {
                let found = word.checked_mul(64)?.checked_add(wanted.trailing_zeros())?;
                return (found < self.count).then_some(found);
            }
            mask = u64::MAX;
        }
        None
    }

    /// The word and the mask of a block's bit.
    fn bit(&self, block: u32) -> Option<(usize, u64)> {
        let k = block.checked_sub(self.first).filter(|k| *k < self.count)?;
        Some((to_usize(k / 64), 1 << (k % 64)))
    }

    /// Sets or clears a block's bit. Blocks that are not data blocks are ignored.
    fn set(&mut self, block: u32, taken: bool) {
        let Some((word, mask)) = self.bit(block) else { return };
        let Some(bits) = self.taken.get_mut(word) else { return };
        if taken {
            *bits |= mask;
        } else {
            *bits &= !mask;
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests {
    use super::*;
    use gmfs_format::native::units::PmdShift;
    use proptest::prelude::*;

    fn map(size: u64) -> (Geometry, BlockMap) {
        let geometry = Geometry::plan(size, PmdShift::M2, 64).unwrap();
        (geometry, BlockMap::new(geometry))
    }

    fn one(run: Range<u32>) -> Result<Vec<Range<u32>>, NoSpace> {
        Ok(std::iter::once(run).collect())
    }

    #[test]
    fn takes_the_lowest_run_that_is_long_enough() {
        let (_, mut map) = map(64 << 20);
        assert_eq!(map.free(), 30);
        map.take(3..4);
        assert_eq!(map.allocate(3), one(4..7));
        assert_eq!(map.allocate(2), one(1..3));
        assert_eq!(map.allocate(25), Err(NoSpace));
        assert_eq!(map.allocate(24), one(7..31));
        assert_eq!(map.free(), 0);
    }

    #[test]
    fn gathers_pieces_when_nothing_is_long_enough() {
        let (_, mut map) = map(64 << 20);
        map.take(4..5);
        map.take(10..31);
        assert_eq!(map.allocate(7), Ok(vec![1..4, 5..9]));
    }

    #[test]
    fn aligns_to_physical_gibibytes() {
        let (geometry, mut map) = map(8 << 30);
        let base = (4 << 30) + (512 << 20);
        let runs = map.allocate_aligned(geometry, base, 0, 1024 + 10, None).unwrap();
        assert_eq!(runs, [256..768, 768..1280, 1280..1290]);
        let more = map.allocate_aligned(geometry, base, 1034, 4, Some(BlockNo(1290)));
        assert_eq!(more, one(1290..1294));
    }

    #[test]
    fn places_past_the_last_one_get_no_blocks() {
        let (geometry, mut map) = map(8 << 30);
        let free = map.free();
        let after = Some(BlockNo(u32::MAX));
        let runs = map.allocate_aligned(geometry, 0, u32::MAX - 4, 4, after).unwrap();
        assert_eq!(runs.into_iter().flatten().count(), 4);
        assert_eq!(map.allocate_aligned(geometry, 0, u32::MAX - 4, 5, None), Err(NoSpace));
        assert_eq!(map.free(), free - 4);
    }

    proptest! {
        #[test]
        fn never_gives_a_block_twice(requests in prop::collection::vec((1_u32..40, any::<bool>()), 1..60)) {
            let (geometry, mut map) = map(512 << 20);
            let mut owned = std::collections::BTreeSet::new();
            let mut free = map.free();
            for (count, aligned) in requests {
                let got = if aligned { map.allocate_aligned(geometry, 0, 0, count, None) } else { map.allocate(count) };
                let Ok(runs) = got else { prop_assert_eq!(map.free(), free); continue };
                let mut blocks = 0;
                for block in runs.into_iter().flatten() {
                    prop_assert!(geometry.is_data(BlockNo(block)));
                    prop_assert!(owned.insert(block), "block {} given twice", block);
                    blocks += 1;
                }
                prop_assert_eq!(blocks, count);
                free -= u64::from(count);
                prop_assert_eq!(map.free(), free);
            }
        }
    }
}
