//! The memory of a machine, in which a file system is made as the driver makes it.

use crate::guestmemfs::{
    Anomaly, BLOCK_BYTES, GHOST, GHOST_BEFORE, GHOST_LINK, INODE_BYTES, INODES, Parts, Store, is_damaged_tree, tree_at,
};
use crate::native::units::InodeNo;
use gmfs_io::Span;

use super::sparse::Image;
use super::trees::Maker;

pub const FILE: u32 = 1;
pub const DIRECTORY: u32 = 2;
pub const ROOT: InodeNo = InodeNo::ROOT;
/// The direct map of a kernel without KASLR.
pub const DIRECT: u64 = 0xFFFF_8880_0000_0000;

/// Where the pages of mappings are, one after the other.
pub const PAGES: u64 = 0x580_0000;

/// A machine with one file system in use.
#[derive(Clone, Debug)]
pub struct Memory {
    pub image: Image,
    pub region: Span,
    pub superblock: u64,
    pub inodes: u64,
    pub bitmap: u64,
    pub table: u64,
    pub tree: u64,
    next_page: u64,
}

impl Memory {
    /// A new file system with `blocks` blocks.
    pub fn new(blocks: u64) -> Self {
        let region = Span::new(0x1000_1000, blocks * BLOCK_BYTES);
        let mut memory = Self {
            image: Image::new(region.end()),
            region,
            superblock: 0x50C_9500,
            inodes: 0x540_0000,
            bitmap: 0x530_0000,
            table: 0x52C_3000,
            tree: 0x560_0000,
            next_page: PAGES,
        };
        memory.mount();
        memory
    }

    /// Writes the metadata of a new file system to the addresses that are set in `self`.
    pub fn mount(&mut self) {
        self.put64(self.superblock, 2);
        self.put64(self.superblock + 16, self.inodes + DIRECT);
        self.put64(self.superblock + 24, self.bitmap + DIRECT);
        for ino in 1..INODES {
            let at = self.at(InodeNo(ino));
            self.put64(at + 8, u64::from(ino) + 1);
        }
        let root = self.at(ROOT);
        self.put(root, &[2]);
        self.put(root + 24, b".");
    }

    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.image.write(at, bytes);
    }

    pub fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    pub fn put32(&mut self, at: u64, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub fn get64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.image.read(at))
    }

    pub fn get32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.image.read(at))
    }

    /// Where an inode is.
    pub fn at(&self, ino: InodeNo) -> u64 {
        if ino == GHOST { self.inodes - GHOST_BEFORE } else { self.inodes + u64::from(ino.0 - 1) * INODE_BYTES }
    }

    /// Where a file's page of mappings is, by its inode.
    pub fn page(&self, ino: InodeNo) -> u64 {
        self.get64(self.at(ino) + 280) - DIRECT
    }

    fn count(&mut self, by: i64) {
        let count = self.get64(self.superblock + 8).wrapping_add_signed(by);
        self.put64(self.superblock + 8, count);
    }

    /// Creates an inode in a directory. Once the file system has been handed over, the driver uses an error code as an
    /// inode number, which makes the ghost.
    pub fn create(&mut self, directory: InodeNo, name: &[u8], flags: u32) -> InodeNo {
        let blocked = self.get32(self.superblock + 36) != 0;
        let (ino, link) = if blocked {
            (GHOST, GHOST_LINK)
        } else {
            let head = self.get64(self.superblock);
            let ino = InodeNo(u32::try_from(head).unwrap());
            let next = self.get64(self.at(ino) + 8);
            self.put64(self.superblock, next);
            self.count(1);
            (ino, head)
        };
        let (at, parent) = (self.at(ino), self.at(directory));
        let sibling = self.get64(parent + 16);
        self.put64(at + 8, sibling);
        self.put64(parent + 16, link);
        self.put(at + 24, &[0; 255]);
        self.put(at + 24, name);
        self.put32(at, flags);
        if flags == FILE {
            self.put64(at + 280, self.next_page + DIRECT);
            self.next_page += 4096;
        }
        ino
    }

    /// The first block with a clear bit, in the region or not.
    pub fn allocate(&mut self) -> u64 {
        for at in self.bitmap.. {
            let [byte] = self.image.read(at);
            if byte != 0xff {
                let bit = byte.trailing_ones();
                self.put(at, &[byte | 1 << bit]);
                return (at - self.bitmap) * 8 + u64::from(bit);
            }
        }
        unreachable!()
    }

    /// Sets the size of a file, in blocks.
    pub fn truncate(&mut self, ino: InodeNo, blocks: u64) {
        let (page, at) = (self.page(ino), self.at(ino));
        for index in 0..blocks {
            let block = self.allocate();
            self.put64(page + index * 8, block);
            let count = self.get32(at + 288);
            self.put32(at + 288, count + 1);
        }
    }

    pub fn file(&mut self, name: &[u8], blocks: u64) -> InodeNo {
        let ino = self.create(ROOT, name, FILE);
        self.truncate(ino, blocks);
        ino
    }

    /// Deletes the first entry of the root.
    pub fn unlink_first(&mut self) -> InodeNo {
        let root = self.at(ROOT);
        let first = self.get64(root + 16);
        let ino = InodeNo(u32::try_from(first).unwrap());
        let at = self.at(ino);
        let (next, head) = (self.get64(at + 8), self.get64(self.superblock));
        self.put64(root + 16, next);
        self.put(at, &[0; 296]);
        self.put64(at + 8, head);
        self.put64(self.superblock, first);
        self.count(-1);
        ino
    }

    /// The files whose mappings the driver hands over, with the pages of these mappings.
    pub fn handed_over(&self) -> Vec<(u32, u64)> {
        let inos = (1..INODES).filter(|ino| self.get32(self.at(InodeNo(*ino))) == FILE);
        inos.map(|ino| (ino, self.page(InodeNo(ino)))).collect()
    }

    /// The device tree of the file system as it is now.
    pub fn device_tree(&self) -> Vec<u8> {
        let list = |ranges: &[(u64, u64)]| -> Vec<u8> {
            ranges.iter().flat_map(|(at, len)| [at.to_le_bytes(), len.to_le_bytes()].concat()).collect()
        };
        let mut tree = Maker::new(b"kho-v1\0");
        tree.begin(b"guestmemfs");
        tree.property("compatible", b"guestmemfs-v1\0");
        let pages: Vec<_> = self.handed_over().into_iter().map(|(_, page)| (page, 4096)).collect();
        for (name, ranges) in [
            (&b"fs_mem"[..], list(&[(self.region.offset | 1, self.region.len)])),
            (b"superblock", list(&[(self.superblock, 40), (self.inodes, 2 << 20), (self.bitmap, 1 << 20)])),
            (b"mappings_blocks", list(&pages)),
        ] {
            tree.begin(name);
            tree.property("mem", &ranges);
            tree.end();
        }
        tree.begin(b"mappings_to_inode");
        tree.property("mem", &list(&[(self.table, 4096)]));
        tree.property("num_inodes", &self.get64(self.superblock + 8).to_le_bytes());
        tree.end();
        tree.end();
        tree.finish()
    }

    /// Hands the file system over.
    pub fn serialise(&mut self) {
        for (entry, (ino, _)) in (0..).zip(self.handed_over()) {
            self.put32(self.table + entry * 4, ino);
        }
        let tree = self.device_tree();
        self.put(self.tree, &tree);
        self.put(self.superblock + 36, &[1]);
    }

    /// Restores it as the driver does.
    pub fn restore(&mut self) {
        let pages = self.handed_over();
        self.put(self.superblock + 36, &[0]);
        for (ino, page) in pages {
            self.put64(self.at(InodeNo(ino + 1)) + 280, page + DIRECT);
        }
    }

    /// The file system by its device tree.
    pub fn store(&self) -> Store {
        Store::read(&self.image, tree_at(&self.image, self.tree).unwrap().into())
    }

    /// The file system by its array of inodes.
    pub fn without_tree(&self) -> Store {
        let damaged_tree = is_damaged_tree(&self.image, self.tree).then_some(self.tree);
        let superblock = Some(Span::new(self.superblock, 40));
        let parts = Parts { tree: None, damaged_tree, superblock, inodes: self.inodes };
        Store::read(&self.image, parts)
    }

    /// Checks the file system. Returns what is wrong with it.
    pub fn check(&self) -> Vec<Anomaly> {
        self.store().check()
    }
}

/// A file system with three files, one of which was created after a deletion, that has been handed over.
pub fn sample() -> Memory {
    let mut memory = Memory::new(64);
    memory.file(b"a", 2);
    memory.file(b"b", 1);
    memory.file(b"c", 3);
    memory.serialise();
    memory
}
