//! Which file, or what else, a byte of the region belongs to.

use super::usage::{block_of_address, is_marked};
use super::{
    BITMAP_BYTES, BITMAP_OFFSET, BLOCK_BYTES, BlockNo, GHOST, GHOST_OFFSET, INODE_BYTES, INODES_OFFSET, InodeNo,
    Inodes, Lack, Place, ReadAt, Store, SuperblockRaw, block_offset, len64, to_u32,
};

/// What a byte of the region belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Owner {
    /// The superblock.
    Superblock,
    /// Space of the metadata that the driver does not use.
    UnusedMetadata,
    /// The allocation bitmap.
    Bitmap {
        /// The block of the byte's lowest bit.
        first: BlockNo,
    },
    /// An inode.
    Inode {
        /// Its number.
        ino: InodeNo,
    },
    /// The mappings table of a file.
    Table {
        /// The file.
        ino: InodeNo,
        /// The entry, which is also the number of the file's block.
        entry: u32,
    },
    /// An IOMMU file: page tables.
    PageTables {
        /// The file.
        ino: InodeNo,
        /// The byte's offset in the file, which has one block.
        offset: u64,
    },
    /// The content of a file.
    File {
        /// The file.
        ino: InodeNo,
        /// The byte's offset in the file.
        offset: u64,
    },
    /// Nothing, and the block is marked as used.
    Leaked,
    /// Nothing, and the block is not marked.
    Free,
    /// Nothing, and whether the block is marked is unknown.
    Unowned {
        /// Why.
        lack: Lack,
    },
    /// In the region, and in no block that the driver can use: a tail smaller than a block, or beyond 2 TiB.
    Unusable,
    /// Outside the region.
    Outside,
}

/// The owner of a byte, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The owner. Of several, the one with the lowest number, and a table or page tables before content.
    pub owner: Owner,
    /// How many more claims there are to the byte's block. Only damaged regions have some. Metadata at fixed places is not
    /// looked for in files: 0.
    pub others: u64,
    /// Whether everything that could claim the block is known. If not, a block without an owner may have one.
    pub complete: bool,
}

impl Store {
    /// What the byte `address`, counted from the region's start, belongs to. Metadata is found by its place; for other bytes
    /// this reads the mappings tables of all files.
    pub fn owner(&self, source: &dyn ReadAt, address: u64) -> Ownership {
        let certain = |owner| Ownership { owner, others: 0, complete: true };
        if address >= self.size() {
            return certain(Owner::Outside);
        }
        if address < 2 * BLOCK_BYTES {
            return certain(fixed_place(address));
        }
        let Some(block) = block_of_address(address).filter(|block| block.0 < self.blocks()) else {
            return certain(Owner::Unusable);
        };
        let mut claims = Claims { first: None, count: 0, complete: self.inodes_known() };
        self.claims_by_inodes(block, address.saturating_sub(block_offset(block)), &mut claims);
        self.claims_by_tables(source, address, &mut claims);
        let owner = claims.first.unwrap_or_else(|| match is_marked(source, self.base(), block) {
            Ok(true) => Owner::Leaked,
            Ok(false) => Owner::Free,
            Err(lack) => Owner::Unowned { lack },
        });
        Ownership { owner, others: claims.count.saturating_sub(1), complete: claims.complete }
    }

    /// Inodes that name the block: for their tables, or for page tables. `within` is the byte's offset in the block.
    fn claims_by_inodes(&self, block: BlockNo, within: u64, claims: &mut Claims) {
        for node in self.nodes() {
            let ino = node.ino;
            let Some(kind) = node.kind else {
                claims.complete = false;
                continue;
            };
            if kind.is_directory() {
                continue;
            }
            if !super::store::can_be_owned(node.mappings_block, self.blocks()) {
                claims.complete = false;
            } else if node.mappings_block == block {
                claims.add(if kind.is_page_tables() {
                    Owner::PageTables { ino, offset: within }
                } else {
                    Owner::Table { ino, entry: to_u32(within >> 3) }
                });
            }
        }
    }

    /// Files whose tables name the byte's block.
    fn claims_by_tables(&self, source: &dyn ReadAt, address: u64, claims: &mut Claims) {
        // By the table, so that each is read once, and of what they name, the file with the lowest number first.
        let mut content: Option<(InodeNo, u64)> = None;
        for files in self.tables().values() {
            let Some(node) = files.first() else { continue };
            for extent in self.extents(source, node.ino) {
                let Place::Region { address: start } = extent.place else {
                    claims.complete &= !matches!(extent.place, Place::Unknown { .. });
                    continue;
                };
                let Some(within) = address.checked_sub(start).filter(|within| *within < extent.length) else {
                    continue;
                };
                claims.count = claims.count.saturating_add(len64(files.len()));
                let claim = (node.ino, extent.offset.saturating_add(within));
                content = Some(content.map_or(claim, |other| other.min(claim)));
            }
        }
        claims.first = claims.first.or(content.map(|(ino, offset)| Owner::File { ino, offset }));
    }
}

/// Who claims a block.
struct Claims {
    first: Option<Owner>,
    count: u64,
    /// Whether all claims can be known.
    complete: bool,
}

impl Claims {
    fn add(&mut self, owner: Owner) {
        self.first = self.first.or(Some(owner));
        self.count = self.count.saturating_add(1);
    }
}

/// What a byte of the first two blocks is.
fn fixed_place(address: u64) -> Owner {
    let within = |start: u64, length: u64| address.checked_sub(start).filter(|within| *within < length);
    if within(0, len64(size_of::<SuperblockRaw>())).is_some() {
        return Owner::Superblock;
    }
    if let Some(byte) = within(BITMAP_OFFSET, BITMAP_BYTES) {
        return Owner::Bitmap { first: BlockNo(to_u32(byte.saturating_mul(8))) };
    }
    if within(GHOST_OFFSET, INODE_BYTES).is_some() {
        return Owner::Inode { ino: GHOST };
    }
    let inode = within(INODES_OFFSET, BLOCK_BYTES).and_then(Inodes::at_offset);
    inode.map_or(Owner::UnusedMetadata, |ino| Owner::Inode { ino })
}
