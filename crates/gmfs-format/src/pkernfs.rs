//! pkernfs (2024): a view of regions that the posted kernel driver wrote, and the making of empty ones.
//!
//! All metadata is inside the region, in blocks of 2 MiB that are counted from the region's first byte. Neither the
//! base nor the size of the region is recorded. Both were on the command line of the kernel, and the caller supplies
//! them. All numbers are little-endian: the driver ran on x86-64 only.
//!
//! | bytes from the region's start | content |
//! | --- | --- |
//! | 0 … 0x10 | superblock: magic, head of the list of free inodes |
//! | 0x10 … 0x100000 | unused, never cleared |
//! | 0x100000 … 0x120000 | bitmap, one bit per block, 2²⁰ bits |
//! | 0x120000 … 0x200000 | unused, zero; at 0x1FF160 the [`GHOST`] inode of a driver that ran out of inodes |
//! | 0x200000 … 0x3FFF20 | inode store: 7281 inodes of 288 bytes |
//! | 0x400000 … | mappings tables, IOMMU page tables, file data, one block each, in the order of allocation |
//!
//! A mappings table is one block of 262144 entries of 8 bytes. Entry `i` is the block with the bytes of the file from
//! `i` × 2 MiB; 0 is no block. The size of a file in bytes is not recorded.
//!
//! These facts come from the posted driver (source and structure offsets of a compiled one), and from images that it
//! wrote: the tests compare what this module reads with what the running driver listed.
//!
//! There is no checksum and no counter, so every number is suspect. What this module does about that: chains end at the
//! first number that cannot be an inode or was met before; blocks are compared with the region's size; memory is
//! bounded by the layout (the inode store of 2 MiB, one bit per block), never by a number in the image. What is wrong
//! is returned as [`Anomaly`]; nothing is repaired here. Pages that an image does not hold are unknown, not zero:
//! every answer says whether something unknown could change it.

mod check;
mod estimate;
mod extents;
mod kind;
mod make;
mod marks;
mod owner;
mod probe;
mod raw;
mod store;
mod table;
mod usage;

// What this module uses from the rest of the crate; its files import from here.
use crate::native::units::{BlockNo, InodeNo, PAGE_BYTES, PAGE_SIZE, len64, small, to_u32, to_usize};
use gmfs_io::ReadAt;

pub use crate::chains::{Anomaly, Chain, NameFault};
pub use crate::marks::Remark;
pub use crate::reading::Lack;
pub use check::Finding;
pub use estimate::{SizeEstimate, estimate_size};
pub use extents::{DerivedSize, Extent, Extents, Place, SizeBound};
pub use kind::Kind;
pub use make::{LARGEST, SMALLEST, check_size, make};
pub use owner::{Owner, Ownership};
pub use probe::{Confidence, Found, probe, probe_after_root, probe_inodes};
pub use raw::{InodeRaw, SuperblockRaw};
pub use store::{Magic, Node, Store, StoreError};
pub use usage::Usage;

/// The superblock's magic. In memory: `73 66 6E 72 65 6B 70 00`.
pub const MAGIC: u64 = 0x0070_6B65_726E_6673;
/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 2 << 20;
/// Where the allocation bitmap starts, in bytes from the region's start.
pub const BITMAP_OFFSET: u64 = 0x10_0000;
/// Bytes of the allocation bitmap.
pub const BITMAP_BYTES: u64 = 0x2_0000;
/// The most blocks that the driver's allocator can hand out: the bits of the bitmap. Blocks from this number on are
/// never allocated, so a region larger than 2 TiB has no more usable blocks than this.
pub const MAX_BLOCKS: u32 = 1 << 20;
/// Where the inode store starts, in bytes from the region's start.
pub const INODES_OFFSET: u64 = 0x20_0000;
/// Inodes in the store. Their numbers are 1 to 7281; 1 is the root.
pub const INODES: u32 = 7281;
/// Bytes of an inode.
pub const INODE_BYTES: u64 = 288;
/// The number under which this module lists the ghost inode. A driver without a free inode takes its error code, −12, for
/// an inode number. Inode −12 is in the unused end of the bitmap's MiB, at [`GHOST_OFFSET`]. This is −12 as the 32-bit
/// number that the driver computes with.
pub const GHOST: InodeNo = InodeNo(0xFFFF_FFF4);
/// Where the ghost inode is, in bytes from the region's start: 13 inodes before the inode store.
pub const GHOST_OFFSET: u64 = 0x1F_F160;
/// The value of a link to the ghost inode: −12 as a 64-bit number.
pub const GHOST_LINK: u64 = 0xFFFF_FFFF_FFFF_FFF4;
/// Entries of a mappings table.
pub const TABLE_ENTRIES: u32 = 262_144;
/// The first block that is not metadata at a fixed place: 0 is superblock and bitmap, 1 is the inode store.
pub const FIRST_BLOCK: BlockNo = BlockNo(2);

/// The inodes of a region.
type Inodes = crate::chains::Inodes<InodeRaw>;

/// Where a block starts, in bytes from the region's start.
#[must_use]
pub fn block_offset(block: BlockNo) -> u64 {
    u64::from(block.0).saturating_mul(BLOCK_BYTES)
}
