//! guestmemfs v1 (2024): a read-only view of file systems that the posted kernel driver made.
//!
//! The driver keeps its metadata in memory of the kernel, and nothing but the content of files in the region. A dump of the
//! machine holds both. The addresses of all parts are in the device tree that KHO of 2024 hands to the next kernel:
//!
//! ```text
//! /                               compatible = "kho-v1"
//! /guestmemfs                     compatible = "guestmemfs-v1"
//! /guestmemfs/fs_mem              mem = the region
//! /guestmemfs/superblock          mem = superblock, array of inodes, bitmap
//! /guestmemfs/mappings_blocks     mem = the page of mappings of each file, by rising inode number
//! /guestmemfs/mappings_to_inode   mem = a page with the inode numbers of these pages; num_inodes
//! ```
//!
//! Numbers in properties are little-endian, pairs of address and length. A file system that was never handed over has no
//! tree. Its array of inodes is found by its looks, its superblock by the pointer to that array. Where the region is, and
//! how large, is told by the tree alone.
//!
//! | structure | bytes | what |
//! | --- | --- | --- |
//! | superblock | 40, in the midst of a page | heads of lists, pointers to the two below; no magic |
//! | array of inodes | 2 MiB | 7084 inodes of 296 bytes, linked as those of [pkernfs](crate::pkernfs) are |
//! | bitmap | 1 MiB | one bit for each block of 2 MiB, from the region's first byte; no block is reserved |
//! | page of mappings | 4096, one for each file | 512 numbers of blocks of 8 bytes; 0 is a block |
//!
//! Pointers are virtual addresses in the kernel's direct map: all are the physical address plus one offset.
//!
//! A file's page of mappings is named twice: by the tree, and by the pointer in its inode. The driver restores these pointers
//! one inode off, so after a hand-over the two differ. What a file was given before is in the page that the tree names; what
//! the driver shows is in the other. [`By`] chooses.
//!
//! The driver allocates the lowest free block, never frees one, and starts anew at entry 0 with each new size. So block 0
//! can only ever be at entry 0 of one file, and a 0 anywhere else is an entry without a block: `num_mappings`, which counts
//! all allocations, is too large after a second truncation.
//!
//! Facts are from the posted driver (source, and structure offsets of a compiled one) and from memory of kernels that ran it;
//! the tests compare with what those kernels listed. There is no checksum: chains end at the first number that cannot be an
//! inode or was met before, memory is bounded by the layout (the array, a page for each inode, one bit for each block), and
//! pages that an image does not hold are unknown, not zero.

mod anomaly;
mod check;
mod marks;
mod probe;
mod raw;
mod store;
mod tree;
mod usage;

// What this module uses from the rest of the crate; its files import from here.
use crate::native::units::{BlockNo, InodeNo, PAGE_BYTES, len64, small, to_u32, to_usize};
use gmfs_io::{ReadAt, Span};

pub use crate::chains::{Chain, NameFault};
pub use crate::marks::Remark;
pub use crate::pkernfs::{Extent, Place};
pub use crate::reading::Lack;
pub use anomaly::Anomaly;
pub use probe::{Array, SetupData, Words, array_at, inodes_after_root, is_damaged_tree, setup_data_at, tree_at};
pub use raw::{InodeRaw, MemRaw, SuperblockRaw};
pub use store::{By, Kind, Node, Parts, Store, Superblock};
pub use tree::HandOver;
pub use usage::{Owner, Usage};

/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 2 << 20;
/// Inodes in the array. Their numbers are 1 to 7084; 1 is the root.
pub const INODES: u32 = 7084;
/// The last inode of which the driver hands over the mappings: its loop ends one short.
pub const LAST_HANDED_OVER: u32 = 7083;
/// Bytes of an inode.
pub const INODE_BYTES: u64 = 296;
/// Bytes of the array, and what it is aligned to.
pub const ARRAY_BYTES: u64 = 2 << 20;
/// Bytes of the bitmap that is allocated, and what it is aligned to.
pub const BITMAP_ALLOCATED: u64 = 1 << 20;
/// Bytes of the bitmap that the allocator uses.
pub const BITMAP_BYTES: u64 = 0x2_0000;
/// The most blocks that the allocator can hand out: the bits of the bitmap.
pub const MAX_BLOCKS: u32 = 1 << 20;
/// Entries of a page of mappings. The driver does not check that a file has no more.
pub const PAGE_ENTRIES: u32 = 512;
/// Entries of the page with the inode numbers. The driver does not check that there are no more files.
pub const TABLE_ENTRIES: u32 = 1024;
/// The number under which this module lists the ghost inode. A driver that was told to hand over takes its error code, −16,
/// for an inode number when it creates a file. This is −16 as a 32-bit number.
pub const GHOST: InodeNo = InodeNo(0xFFFF_FFF0);
/// How far before the array the ghost inode is, in bytes: 17 inodes.
pub const GHOST_BEFORE: u64 = 17 * INODE_BYTES;
/// The value of a link to the ghost inode: −16 as a 64-bit number.
pub const GHOST_LINK: u64 = 0xFFFF_FFFF_FFFF_FFF0;

/// Where a block starts, in bytes from the region's start.
#[must_use]
pub fn block_offset(block: BlockNo) -> u64 {
    u64::from(block.0).saturating_mul(BLOCK_BYTES)
}
