//! Runs of blocks that belong to files.

use crate::native::units::BlockNo;

/// Consecutive file blocks that are in consecutive blocks of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// The first file block.
    pub index: u32,
    /// The first block in the region.
    pub block: BlockNo,
    /// The length in blocks.
    pub count: u32,
    /// Whether the blocks have hardware errors.
    pub bad: bool,
}

impl Extent {
    /// The file block after the last one.
    #[must_use]
    pub const fn end_index(&self) -> u32 {
        self.index.saturating_add(self.count)
    }

    /// The block of the region after the last one. No region has a block with the number at which this saturates.
    #[must_use]
    pub const fn end_block(&self) -> BlockNo {
        BlockNo(self.block.0.saturating_add(self.count))
    }

    /// The block that holds a file block, if it is in this extent.
    #[must_use]
    pub fn block_at(&self, index: u32) -> Option<BlockNo> {
        let inside = index.checked_sub(self.index).filter(|inside| *inside < self.count)?;
        self.block.0.checked_add(inside).map(BlockNo)
    }

    /// Whether a block that holds file block `index` continues this extent. Nothing can follow the last possible file
    /// block: a damaged descriptor may name it, and so may two of them.
    fn is_continued_by(&self, index: u32, block: BlockNo, bad: bool) -> bool {
        self.index.checked_add(self.count) == Some(index) && self.end_block() == block && self.bad == bad
    }
}

/// Collects single mappings, in any order, into extents in file order.
#[derive(Clone, Debug, Default)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// Adds a mapping. A mapping that continues the last one needs no memory.
    pub fn push(&mut self, index: u32, block: BlockNo, bad: bool) {
        if let Some(last) = self.0.last_mut()
            && last.is_continued_by(index, block, bad)
        {
            last.count = last.count.saturating_add(1);
            return;
        }
        self.0.push(Extent { index, block, count: 1, bad });
    }

    /// The extents, in file order. If two blocks claim one file block, both are included.
    #[must_use]
    pub fn finish(mut self) -> Vec<Extent> {
        self.0.sort_unstable();
        let mut merged: Vec<Extent> = Vec::with_capacity(self.0.len());
        for extent in self.0 {
            match merged.last_mut() {
                Some(last) if last.is_continued_by(extent.index, extent.block, extent.bad) => {
                    last.count = last.count.saturating_add(extent.count);
                }
                _ => merged.push(extent),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_continues_behind_the_last_place() {
        let mut extents = Extents::default();
        for (index, block) in [(u32::MAX - 1, 7), (u32::MAX, 8), (u32::MAX, 9)] {
            extents.push(index, BlockNo(block), false);
        }
        let found = extents.finish();
        let extent = |index, block, count| Extent { index, block: BlockNo(block), count, bad: false };
        assert_eq!(found, [extent(u32::MAX - 1, 7, 2), extent(u32::MAX, 9, 1)]);
        assert_eq!(found[0].block_at(u32::MAX), Some(BlockNo(8)));
        assert_eq!(found[0].block_at(u32::MAX - 2), None);
        assert_eq!(extent(3, 7, 2).block_at(5), None);
    }

    #[test]
    fn mappings_gather_into_extents() {
        let mut extents = Extents::default();
        for (index, block) in [(0, 10), (1, 11), (4, 14), (2, 12), (3, 13), (5, 30)] {
            extents.push(index, BlockNo(block), false);
        }
        let found = extents.finish();
        assert_eq!(found.iter().map(|e| (e.index, e.block.0, e.count)).collect::<Vec<_>>(), [(0, 10, 5), (5, 30, 1)]);
    }
}
