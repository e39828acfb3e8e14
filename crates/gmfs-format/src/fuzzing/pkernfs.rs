//! A region that is written as the driver writes it.

use crate::native::units::InodeNo;
use crate::pkernfs::{
    BITMAP_OFFSET, BLOCK_BYTES, GHOST, GHOST_LINK, GHOST_OFFSET, INODE_BYTES, INODES, INODES_OFFSET, MAGIC, Store,
};

pub use super::sparse::Image;

/// A region as the driver would leave it.
#[derive(Clone, Debug)]
pub struct Region {
    pub image: Image,
    pub base: u64,
    pub size: u64,
}

pub const FILE: u32 = 1;
pub const DIRECTORY: u32 = 2;
pub const IOMMU: u32 = 4;
pub const ROOT_TABLES: u32 = 8;
pub const DOMAIN: u32 = 16;
pub const ROOT: InodeNo = InodeNo::ROOT;

impl Region {
    /// A new region of `blocks` blocks at `base`.
    pub fn at(base: u64, blocks: u64) -> Self {
        let size = blocks * BLOCK_BYTES;
        let mut region = Self { image: Image::new(base + size), base, size };
        region.put64(0, MAGIC);
        region.put64(8, 2);
        region.put(BITMAP_OFFSET, &[3]);
        for ino in 1..INODES {
            region.put64(inode(InodeNo(ino)) + 8, u64::from(ino) + 1);
        }
        region.put(inode(ROOT), &[2]);
        region.put(inode(ROOT) + 24, b".");
        region
    }

    pub fn new(blocks: u64) -> Self {
        Self::at(0, blocks)
    }

    pub fn store(&self) -> Store {
        Store::read(&self.image, self.base, self.size).unwrap()
    }

    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.image.write(self.base + at, bytes);
    }

    pub fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    pub fn put32(&mut self, at: u64, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub fn get64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.image.read(self.base + at))
    }

    pub fn get32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.image.read(self.base + at))
    }

    /// The block that the driver's allocator returns: the first with a clear bit, in the region or not.
    pub fn allocate(&mut self) -> u64 {
        for at in BITMAP_OFFSET.. {
            let [byte] = self.image.read(self.base + at);
            if byte != 0xff {
                let bit = byte.trailing_ones();
                self.put(at, &[byte | 1 << bit]);
                return (at - BITMAP_OFFSET) * 8 + u64::from(bit);
            }
        }
        unreachable!()
    }

    /// Takes an inode from the list of free ones, as the driver does: the ghost if there is none.
    pub fn take_inode(&mut self) -> InodeNo {
        match self.get64(8) {
            0 => GHOST,
            head => {
                let ino = InodeNo(u32::try_from(head).unwrap());
                let next = self.get64(inode(ino) + 8);
                self.put64(8, next);
                ino
            }
        }
    }

    /// Creates something in a directory. All but directories get a block.
    pub fn create(&mut self, directory: InodeNo, name: &[u8], flags: u32) -> InodeNo {
        let ino = self.take_inode();
        let at = inode(ino);
        let sibling = self.get64(inode(directory) + 16);
        self.put64(at + 8, sibling);
        self.put64(inode(directory) + 16, if ino == GHOST { GHOST_LINK } else { ino.0.into() });
        self.put(at + 24, &[0; 255]);
        self.put(at + 24, name);
        self.put32(at, flags);
        if flags != DIRECTORY && flags != IOMMU {
            let block = self.allocate();
            self.put32(at + 280, u32::try_from(block).unwrap());
        }
        ino
    }

    /// Sets the size of a file, in blocks.
    pub fn truncate(&mut self, ino: InodeNo, blocks: u64) {
        let table = u64::from(self.get32(inode(ino) + 280)) * BLOCK_BYTES;
        for index in 0..blocks {
            let block = self.allocate();
            self.put64(table + index * 8, block);
            let count = self.get32(inode(ino) + 284);
            self.put32(inode(ino) + 284, count + 1);
        }
    }

    pub fn file(&mut self, directory: InodeNo, name: &[u8], blocks: u64) -> InodeNo {
        let ino = self.create(directory, name, FILE);
        self.truncate(ino, blocks);
        ino
    }

    /// Where the entry of a file's mappings table is, from the region's start.
    pub fn entry(&self, ino: InodeNo, index: u64) -> u64 {
        u64::from(self.get32(inode(ino) + 280)) * BLOCK_BYTES + index * 8
    }

    /// Deletes the first entry of a directory.
    pub fn unlink_first(&mut self, directory: InodeNo) {
        let first = self.get64(inode(directory) + 16);
        let at = inode(InodeNo(u32::try_from(first).unwrap()));
        let (next, head) = (self.get64(at + 8), self.get64(8));
        self.put64(inode(directory) + 16, next);
        self.put(at, &[0; 288]);
        self.put64(at + 8, head);
        self.put64(8, first);
    }
}

/// A small store with files, directories, leaks of each kind, and an inode that was in use and is free.
pub fn sample(blocks: u64) -> Region {
    let mut region = Region::new(blocks);
    region.file(ROOT, b"a", 2);
    let b = region.file(ROOT, b"b", 1);
    let d = region.create(ROOT, b"d", DIRECTORY);
    region.file(d, b"c", 1);
    let iommu = region.create(ROOT, b"iommu", IOMMU);
    region.create(iommu, b"domain", DOMAIN);
    region.file(ROOT, b"gone", 1);
    region.unlink_first(ROOT);
    region.truncate(b, 1);
    region
}

/// Where an inode is, from the region's start.
pub fn inode(ino: InodeNo) -> u64 {
    if ino == GHOST { GHOST_OFFSET } else { INODES_OFFSET + u64::from(ino.0 - 1) * INODE_BYTES }
}
