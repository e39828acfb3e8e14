//! Which blocks are in use, and which file a byte belongs to.

use super::store::{By, Kind, Store};
use super::{
    ARRAY_BYTES, BITMAP_ALLOCATED, BLOCK_BYTES, BlockNo, INODES, InodeNo, Lack, PAGE_BYTES, Place, Span, to_u32,
};
use crate::marks::Bits;

/// Numbers of blocks of 2 MiB, by the mappings that were chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks of the region. Without a device tree: as many as anything mentions.
    pub blocks: u32,
    /// Blocks of files.
    pub data: u32,
    /// Blocks that are marked and that no file has.
    pub leaked: u32,
    /// Blocks of files that are not marked.
    pub unmarked: u32,
    /// Blocks whose mark is unknown.
    pub mark_unknown: u32,
}

/// What a byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// The content of a file.
    File {
        /// The file.
        ino: InodeNo,
        /// The byte's offset in the file.
        offset: u64,
    },
    /// No file, and the block is marked as used.
    Leaked,
    /// No file, and the block is not marked.
    Free,
    /// No file, and whether the block is marked is unknown.
    Unowned {
        /// Why.
        lack: Lack,
    },
    /// In the region, and in no whole block.
    Unusable,
    /// Not in the region.
    Outside,
    /// The superblock.
    Superblock,
    /// The array of inodes; the inode, unless it is the slack behind the last.
    Inode(Option<InodeNo>),
    /// The bitmap.
    Bitmap,
    /// The page of mappings of a file.
    Page {
        /// The file.
        ino: InodeNo,
    },
    /// The page with the inode numbers of the pages of mappings.
    Table,
}

impl Store {
    /// Blocks by what they are used for.
    #[must_use]
    pub fn usage(&self, by: Option<By>) -> Usage {
        let mut owned = Bits::new(self.blocks());
        let mut usage = Usage { blocks: self.blocks(), ..Usage::default() };
        self.claims(by, |block, _, _| {
            usage.data = usage.data.saturating_add(u32::from(owned.insert(block)));
        });
        let clear = |byte: u32| self.bitmap.is_clear(byte) && !owned.any_of_byte(byte);
        let bytes = (0..self.blocks().div_ceil(8)).filter(|byte| !clear(*byte));
        let blocks = bytes.flat_map(|byte| (0..8).map(move |bit| byte.saturating_mul(8).saturating_add(bit)));
        for block in blocks.take_while(|block| *block < self.blocks()).map(BlockNo) {
            let counter = match (self.bitmap.is_marked(block), owned.contains(block)) {
                (Err(_), false) => &mut usage.mark_unknown,
                (Ok(true), false) => &mut usage.leaked,
                (Ok(false), true) => &mut usage.unmarked,
                _ => continue,
            };
            *counter = counter.saturating_add(1);
        }
        usage
    }

    /// Hands out every block that a file claims, with its place in the file, in bytes.
    pub(super) fn claims(&self, by: Option<By>, mut each: impl FnMut(BlockNo, InodeNo, u64)) {
        for node in self.files() {
            for extent in self.extents(node.ino, by) {
                let Place::Region { address } = extent.place else { continue };
                let first = to_u32(address.checked_div(BLOCK_BYTES).unwrap_or_default());
                let count = to_u32(extent.length.checked_div(BLOCK_BYTES).unwrap_or_default());
                for index in 0..count {
                    let offset = extent.offset.saturating_add(u64::from(index).saturating_mul(BLOCK_BYTES));
                    each(BlockNo(first.saturating_add(index)), node.ino, offset);
                }
            }
        }
    }

    /// What the byte `address`, counted from the region's start, belongs to. Of several files, the one with the lowest
    /// number.
    #[must_use]
    pub fn owner(&self, address: u64, by: Option<By>) -> Owner {
        let size = self.region().map_or(u64::from(self.blocks()).saturating_mul(BLOCK_BYTES), |region| region.len);
        if address >= size {
            return Owner::Outside;
        }
        let block = to_u32(address.checked_div(BLOCK_BYTES).unwrap_or_default());
        if block >= self.blocks() {
            return Owner::Unusable;
        }
        for node in self.nodes().filter(|node| node.kind == Some(Kind::File)) {
            for extent in self.extents(node.ino, by) {
                let Place::Region { address: start } = extent.place else { continue };
                if let Some(within) = address.checked_sub(start).filter(|within| *within < extent.length) {
                    return Owner::File { ino: node.ino, offset: extent.offset.saturating_add(within) };
                }
            }
        }
        match self.bitmap.is_marked(BlockNo(block)) {
            Ok(true) => Owner::Leaked,
            Ok(false) => Owner::Free,
            Err(lack) => Owner::Unowned { lack },
        }
    }

    /// What of the file system's metadata is at a physical address, if any of it is.
    #[must_use]
    pub fn metadata_at(&self, address: u64) -> Option<Owner> {
        let parts = self.parts();
        let within = |start: u64, len: u64| address.checked_sub(start).filter(|within| *within < len);
        if parts.superblock.is_some_and(|Span { offset, len }| within(offset, len).is_some()) {
            return Some(Owner::Superblock);
        }
        if let Some(offset) = within(parts.inodes, ARRAY_BYTES) {
            return Some(Owner::Inode(super::store::Inodes::at_offset(offset)));
        }
        if self.bitmap.at.is_some_and(|at| within(at, BITMAP_ALLOCATED).is_some()) {
            return Some(Owner::Bitmap);
        }
        let table = parts.tree.as_ref().and_then(|tree| tree.to_inode);
        if table.is_some_and(|table| within(table.offset, PAGE_BYTES).is_some()) {
            return Some(Owner::Table);
        }
        let owns = |by| move |ino: InodeNo| self.page(ino, by).is_some_and(|page| within(page, PAGE_BYTES).is_some());
        let files = || self.files().map(|node| node.ino);
        let found = files().find(|ino| owns(Some(By::Tree))(*ino)).or_else(|| files().find(|ino| owns(None)(*ino)));
        found.map(|ino| Owner::Page { ino })
    }

    /// Inodes that there can be.
    #[must_use]
    pub const fn inodes_total(&self) -> u32 {
        INODES
    }
}
