//! Runs of blocks of files.

use crate::native::units::BlockNo;

/// A run of a file's blocks that lie one behind the other, in the file and in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Place in the file, in blocks.
    pub index: u32,
    /// First block in the region.
    pub block: BlockNo,
    /// Length in blocks.
    pub count: u32,
    /// Whether the blocks have hardware errors.
    pub bad: bool,
}

impl Extent {
    /// One past the last place in the file.
    #[must_use]
    pub const fn end_index(&self) -> u32 {
        self.index.saturating_add(self.count)
    }

    /// One past the last block in the region. No block of a region has the number at which this saturates.
    #[must_use]
    pub const fn end_block(&self) -> BlockNo {
        BlockNo(self.block.0.saturating_add(self.count))
    }

    /// The block at a place of the file, if it is one of these.
    #[must_use]
    pub fn block_at(&self, index: u32) -> Option<BlockNo> {
        let inside = index.checked_sub(self.index).filter(|inside| *inside < self.count)?;
        self.block.0.checked_add(inside).map(BlockNo)
    }

    /// Whether a block that the file has at place `index` continues this extent. Nothing comes behind the last place that a
    /// number can name: a damaged descriptor may name it, and so may two of them.
    fn is_continued_by(&self, index: u32, block: BlockNo, bad: bool) -> bool {
        self.index.checked_add(self.count) == Some(index) && self.end_block() == block && self.bad == bad
    }
}

/// Gathers single mappings, in any order, into extents ordered by their place in the file.
#[derive(Clone, Debug, Default)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// Adds a mapping. Mappings that continue the last one cost no memory.
    pub fn push(&mut self, index: u32, block: BlockNo, bad: bool) {
        if let Some(last) = self.0.last_mut()
            && last.is_continued_by(index, block, bad)
        {
            last.count = last.count.saturating_add(1);
            return;
        }
        self.0.push(Extent { index, block, count: 1, bad });
    }

    /// The extents, by their place in the file. Where two blocks claim one place, both are there.
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
