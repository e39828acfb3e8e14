//! The structures of guestmemfs v1 as they are in memory. Any bytes are a value of them.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{InodeNo, store::Kind};
use crate::chains::Linked;
use crate::native::raw::{Field, OnMemory, on_memory};

on_memory! {
    /// What of the superblock is at the same place in every kernel. A lock follows, of 4 bytes or more, and a byte that is 1
    /// from the hand-over to the restore.
    SuperblockRaw[32] {
        /// Head of the list of free inodes; 0 = no inode is free.
        next_free_ino: U64,
        /// Inodes that were allocated, the root not counted, and allocations that found no inode, less those freed.
        allocated_inodes: U64,
        /// Virtual address of the array of inodes.
        inodes: U64,
        /// Virtual address of the bitmap.
        allocator_bitmap: U64,
    }
}

on_memory! {
    /// One inode.
    InodeRaw[296] {
        /// 0 free, 1 file, 2 directory.
        flags: U32,
        /// Zero.
        padding_1: [u8; 4],
        /// Next inode of the directory, or next free inode; 0 = last. Of the root: 2, without a meaning.
        sibling_ino: U64,
        /// Directories: first inode; 0 = empty. Others: 0.
        child_ino: U64,
        /// Name of at most 254 bytes and a NUL, then zeros.
        filename: [u8; 255],
        /// Zero.
        padding_2: u8,
        /// Files: virtual address of the page of mappings. Others: 0.
        mappings: U64,
        /// Files: blocks ever allocated for the content. Others: 0.
        num_mappings: U32,
        /// Zero.
        padding_3: [u8; 4],
    }
}

on_memory! {
    /// A range of memory in a property of the device tree.
    MemRaw[16] {
        /// Its physical address. Bit 0 says that its pages have no page structures, and are not in the direct map.
        address: U64,
        /// Its length in bytes.
        length: U64,
    }
}

impl InodeRaw {
    /// The name: the bytes before the first NUL, all 255 if there is none.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name_bytes()
    }
}

impl Linked for InodeRaw {
    const INODES: u32 = super::INODES;
    const GHOST: InodeNo = super::GHOST;
    const GHOST_LINK: u64 = super::GHOST_LINK;
    const GHOST_BEFORE: u64 = super::GHOST_BEFORE;

    fn flags(&self) -> u32 {
        self.flags.get()
    }
    fn sibling(&self) -> u64 {
        self.sibling_ino.get()
    }
    fn child(&self) -> u64 {
        self.child_ino.get()
    }
    fn filename(&self) -> &[u8; 255] {
        &self.filename
    }
    fn is_directory(flags: u32) -> bool {
        Kind::of_flags(flags) == Some(Kind::Directory)
    }
    fn is_written(flags: u32) -> bool {
        matches!(flags, 1 | 2)
    }
}
