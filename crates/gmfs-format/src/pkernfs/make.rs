//! An empty region, as the driver makes it in memory that it finds without its magic.

use gmfs_io::{Span, WriteAt, WriteError};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{
    BITMAP_OFFSET, BLOCK_BYTES, BlockNo, INODES, INODES_OFFSET, InodeNo, InodeRaw, Kind, MAGIC, MAX_BLOCKS, StoreError,
    SuperblockRaw, block_offset, to_usize,
};

/// The smallest region in which a file can have content: metadata, a mappings table, a block.
pub const SMALLEST: u64 = 4 * BLOCK_BYTES;
/// The largest region of which the driver can use all.
pub const LARGEST: u64 = 2 << 40;
const _: () = assert!(LARGEST == BLOCK_BYTES << 20 && MAX_BLOCKS == 1 << 20);

/// Makes an empty region at the start of `target`. The first two blocks are zeroed, then written as the driver
/// does it, the magic last: until it is there, the driver would make the region itself. Blocks that follow stay as they are; the driver
/// does not zero what it hands out either.
///
/// # Errors
/// The medium failed. Then there may be no region.
pub fn make(target: &mut dyn WriteAt) -> Result<(), WriteError> {
    target.zero(Span::new(0, block_offset(BlockNo(2))))?;
    target.barrier()?;
    target.write_at(BITMAP_OFFSET, &[0b11])?;
    target.write_at(INODES_OFFSET, inodes().as_bytes())?;
    target.barrier()?;
    let superblock = SuperblockRaw { magic: MAGIC.into(), next_free_ino: 2.into() };
    target.write_at(0, superblock.as_bytes())?;
    target.barrier()
}

/// Whether a region may have this size.
///
/// # Errors
/// [`StoreError::TooSmall`].
pub const fn check_size(size: u64) -> Result<(), StoreError> {
    if size < SMALLEST { Err(StoreError::TooSmall { size }) } else { Ok(()) }
}

/// The inodes of an empty region: each leads to the next, and the first is the root.
fn inodes() -> Box<[InodeRaw]> {
    let mut inodes = vec![InodeRaw::new_zeroed(); to_usize(INODES)];
    for (ino, inode) in (2..=u64::from(INODES)).zip(&mut inodes) {
        inode.sibling_ino = ino.into();
    }
    if let Some(root) = InodeNo::ROOT.position().and_then(|root| inodes.get_mut(root)) {
        root.flags = Kind::Directory.flags().into();
        root.filename.iter_mut().take(1).for_each(|byte| *byte = b'.');
    }
    inodes.into()
}
