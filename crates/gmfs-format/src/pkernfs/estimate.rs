//! How large a region is at least, for callers that do not know its size.

use super::usage::{blocks_in, each_bitmap_page};
use super::{BLOCK_BYTES, BlockNo, FIRST_BLOCK, Kind, MAX_BLOCKS, Place, ReadAt, Store, block_offset, to_u32};

/// How large a region is at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeEstimate {
    /// Bytes from the region's start to the end of the last block that anything mentions. The region may be larger: blocks
    /// that were never allocated leave no trace. It may also be smaller: a driver without free blocks hands out blocks past
    /// the end of its region.
    pub at_least: u64,
    /// Whether all of the bitmap, of the inodes, and of the mappings tables could be read.
    pub complete: bool,
}

/// Estimates the size of the region at `base`, from the highest bit that is set in the bitmap and the highest block that an
/// inode or a mappings table names. Numbers that the driver's allocator cannot have given are ignored. `None` if there is no
/// region. Reads the tables of all files.
#[must_use]
pub fn estimate_size(source: &dyn ReadAt, base: u64) -> Option<SizeEstimate> {
    let most = source.end().map_or(u64::MAX, |end| end.max(base)).saturating_sub(base);
    let most = most.min(block_offset(BlockNo(MAX_BLOCKS)));
    let store = Store::read(source, base, most).ok()?;
    let mut highest = FIRST_BLOCK.0.saturating_sub(1);
    let mut complete = store.inodes_known();
    each_bitmap_page(source, base, |first, bytes, lack| {
        complete &= lack.is_none();
        for (at, byte) in (first.0..).step_by(8).zip(bytes) {
            highest = byte.checked_ilog2().map_or(highest, |last| highest.max(at.saturating_add(last)));
        }
    });
    for node in store.nodes() {
        if node.kind.is_some_and(|kind| !kind.is_directory()) && node.mappings_block.0 < MAX_BLOCKS {
            highest = highest.max(node.mappings_block.0);
        }
        // A table past the end of the image cannot be read.
        complete &= node.kind != Some(Kind::File) || node.mappings_block.0 < store.blocks();
    }
    for files in store.tables().values() {
        let Some(node) = files.first() else { continue };
        for extent in store.extents(source, node.ino) {
            let (first, count) = match extent.place {
                Place::Region { address } => (blocks_in(address), blocks_in(extent.length)),
                Place::PastEnd { block } => (block, blocks_in(extent.length)),
                Place::Unknown { .. } | Place::NoTable => {
                    complete = false;
                    continue;
                }
                Place::NoBlock => continue,
            };
            let last = first.saturating_add(count).saturating_sub(1).min(u64::from(MAX_BLOCKS).saturating_sub(1));
            if first < u64::from(MAX_BLOCKS) {
                highest = highest.max(to_u32(last));
            }
        }
    }
    let at_least = u64::from(highest).saturating_add(1).saturating_mul(BLOCK_BYTES);
    Some(SizeEstimate { at_least, complete })
}
