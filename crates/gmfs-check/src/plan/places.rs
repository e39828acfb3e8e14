//! Which places of files are held by blocks that are plainly theirs.

use std::collections::BTreeMap;

use gmfs_format::io::ReadAt;
use gmfs_format::model::{Extent, Tree};
use gmfs_format::tables::InodeKind;
use gmfs_format::units::InodeNo;
use gmfs_volume::{Region, Superblocks};

/// One bit for each place of most files, found in one pass over the block table; of files that are too sparse for that,
/// the extents.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Where the bits of each file start.
    starts: BTreeMap<InodeNo, (u64, u64)>,
    taken: Vec<u64>,
    sparse: BTreeMap<InodeNo, Vec<Extent>>,
}

impl Places {
    /// Finds the places of all files. There are no more bits than the region has data blocks.
    pub(super) fn new<S: ReadAt + ?Sized>(region: &Region<&S, &Superblocks>, tree: &Tree) -> Self {
        let geometry = region.geometry();
        let mut budget = u64::from(geometry.data_blocks());
        let mut places = Self::default();
        let mut bits = 0;
        for inode in tree.inodes().filter(|inode| inode.kind == InodeKind::File) {
            let size = u64::from(geometry.file_blocks(inode.size).unwrap_or(u32::MAX));
            if size <= budget {
                places.starts.insert(inode.ino, (bits, size));
                bits += size;
                budget -= size;
            }
        }
        let mut taken = vec![0_u64; bits.div_ceil(64) as usize];
        let starts = &places.starts;
        region.descriptors(|_, entry| {
            let index = u64::from(entry.index.get());
            if entry.is_mapping()
                && let Some((start, _)) = starts.get(&entry.owner()).filter(|(_, size)| index < *size)
                && let Some(word) = taken.get_mut(((start + index) / 64) as usize)
            {
                *word |= 1 << ((start + index) % 64);
            }
        });
        places.taken = taken;
        places
    }

    /// Whether a block that is plainly data has this place of a file.
    pub(super) fn is_taken<S: ReadAt + ?Sized>(
        &mut self,
        region: &Region<&S, &Superblocks>,
        owner: InodeNo,
        index: u32,
    ) -> bool {
        if let Some((start, size)) = self.starts.get(&owner) {
            let bit = start + u64::from(index);
            let word = self.taken.get((bit / 64) as usize).copied().unwrap_or_default();
            return u64::from(index) < *size && word & 1 << (bit % 64) != 0;
        }
        let extents = self.sparse.entry(owner).or_insert_with(|| region.mapping(owner).extents);
        // Ordered by place; two may overlap only where the mapping contradicts itself, which is found before this.
        let behind = extents.partition_point(|extent| extent.index <= index);
        extents[..behind].iter().rev().any(|extent| index < extent.end_index())
    }
}
