//! Finds out which file blocks are held by blocks with valid descriptors.

use std::collections::BTreeMap;

use gmfs_format::model::{Kind, Tree};
use gmfs_format::native::extents::Extent;
use gmfs_format::native::units::{InodeNo, small};
use gmfs_io::ReadAt;
use gmfs_volume::{Region, Superblocks};

/// One bit for each file block of most files, from one pass over the block table. For files that are too sparse for
/// that, the extents are kept instead.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Where the bits of each file start, and how many there are.
    starts: BTreeMap<InodeNo, (u64, u64)>,
    taken: Vec<u64>,
    sparse: BTreeMap<InodeNo, Vec<Extent>>,
}

impl Places {
    /// Finds the file blocks of all files that are held. There are no more bits than the region has data blocks.
    pub(super) fn new<S: ReadAt + ?Sized>(region: &Region<&S, &Superblocks>, tree: &Tree) -> Self {
        let geometry = region.geometry();
        let mut budget = u64::from(geometry.data_blocks());
        let mut places = Self::default();
        let mut bits = 0_u64;
        for inode in tree.inodes().filter(|inode| inode.kind == Kind::File) {
            let size = u64::from(geometry.file_blocks(inode.size).unwrap_or(u32::MAX));
            if let Some(left) = budget.checked_sub(size) {
                places.starts.insert(inode.ino, (bits, size));
                // Bits are taken from the budget, so there are never more than it was at first.
                (bits, budget) = (bits.saturating_add(size), left);
            }
        }
        let mut taken = vec![0_u64; small(bits.div_ceil(64))];
        let starts = &places.starts;
        region.descriptors(|_, entry| {
            if entry.is_mapping()
                && let Some(file) = starts.get(&entry.owner())
                && let Some(bit) = bit_of(*file, entry.index.get())
                && let Some(word) = taken.get_mut(small(bit / 64))
            {
                *word |= 1 << (bit % 64);
            }
        });
        places.taken = taken;
        places
    }

    /// Whether a block holds this file block of a file.
    pub(super) fn is_taken<S: ReadAt + ?Sized>(
        &mut self,
        region: &Region<&S, &Superblocks>,
        owner: InodeNo,
        index: u32,
    ) -> bool {
        if let Some(file) = self.starts.get(&owner) {
            return bit_of(*file, index).is_some_and(|bit| {
                let word = self.taken.get(small(bit / 64)).copied().unwrap_or_default();
                word & 1 << (bit % 64) != 0
            });
        }
        let extents = self.sparse.entry(owner).or_insert_with(|| region.mapping(owner).extents);
        // The extents are ordered by file block. Two overlap only if the mapping contradicts itself, which is another
        // finding.
        let behind = extents.partition_point(|extent| extent.index <= index);
        extents.iter().take(behind).rev().any(|extent| extent.block_at(index).is_some())
    }
}

/// The bit of file block `index` of a file that has `size` bits from `start` on; `None` if the file does not have that
/// file block.
fn bit_of((start, size): (u64, u64), index: u32) -> Option<u64> {
    let index = u64::from(index);
    start.checked_add(index).filter(|_| index < size)
}
