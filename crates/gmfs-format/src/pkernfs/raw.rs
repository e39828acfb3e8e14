//! The structures of pkernfs as they are in memory. Any bytes are a value of them.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{InodeNo, Kind};
use crate::chains::Linked;
use crate::native::raw::{Field, OnMemory, on_memory};

on_memory! {
    /// The first 16 bytes of the region.
    SuperblockRaw[16] {
        /// 0x00706B65726E6673. The driver tests nothing else.
        magic: U64,
        /// Head of the list of free inodes; 0 = no inode is free.
        next_free_ino: U64,
    }
}

on_memory! {
    /// One inode.
    InodeRaw[288] {
        /// 0 free, 1 file, 2 directory, 4 IOMMU directory, 8 IOMMU root page tables, 16 IOMMU domain page tables.
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
        /// Files: block of the mappings table. IOMMU files: block of the page tables. Directories: 0.
        mappings_block: U32,
        /// Files: blocks ever allocated for the content, at least as many as the table has. Others: 0.
        num_mappings: U32,
    }
}

impl InodeRaw {
    /// The name: the bytes before the first NUL, all 255 if there is none.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name_bytes()
    }

    /// Whether these are the bytes that the driver gives the root inode: a directory, called `.`, whose sibling is 2
    /// (the list of free inodes started here, and nothing ever clears the link).
    #[must_use]
    pub fn looks_like_root(&self) -> bool {
        self.is_root()
    }
}

impl Linked for InodeRaw {
    const INODES: u32 = super::INODES;
    const GHOST: InodeNo = super::GHOST;
    const GHOST_LINK: u64 = super::GHOST_LINK;
    const GHOST_BEFORE: u64 = super::INODES_OFFSET - super::GHOST_OFFSET;

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
        Kind::of_flags(flags).is_some_and(Kind::is_directory)
    }
    fn is_written(flags: u32) -> bool {
        Kind::of_flags(flags).map(Kind::flags) == Some(flags)
    }
}
