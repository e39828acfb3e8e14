//! Which blocks are in use, by the bitmap and by the files.

use super::bits::{Bits, bit};
use super::store::can_be_owned;
use super::{
    BITMAP_BYTES, BITMAP_OFFSET, BLOCK_BYTES, BlockNo, Extent, FIRST_BLOCK, InodeNo, Kind, Lack, Node, PAGE_SIZE,
    Place, ReadAt, Store, block_offset, len64, small, to_u32,
};
use crate::reading::read_pages;

/// Numbers of blocks of 2 MiB. Files that no directory leads to own their blocks as others do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks of the region that the driver can use.
    pub blocks: u32,
    /// Blocks of the region whose bit is set.
    pub marked: u32,
    /// Blocks of the region whose bit is unknown.
    pub mark_unknown: u32,
    /// Bits that are set for blocks past the end of the region.
    pub marked_past_end: u32,
    /// Blocks of metadata at fixed places: 2.
    pub metadata: u32,
    /// Blocks that hold mappings tables.
    pub tables: u32,
    /// Blocks that hold file data.
    pub data: u32,
    /// Blocks that hold page tables of an IOMMU.
    pub iommu: u32,
    /// Marked blocks that nothing owns. The driver leaks blocks in normal use: deleting a file frees none, and setting a
    /// size allocates all blocks anew.
    pub leaked: u32,
    /// Blocks with an owner whose bit is not set: the driver will hand them out again.
    pub unmarked: u32,
    /// Claims to a block that has an owner already; each block counts once, for its first owner.
    pub contested: u64,
    /// Entries of mappings tables that name blocks past the end of the region.
    pub past_end: u64,
    /// Entries of mappings tables that are unknown.
    pub unknown_entries: u64,
    /// Whether every owner is known: no inode and no entry is unknown, and each file's table is in the region. Otherwise a
    /// leaked block may belong to a file.
    pub complete: bool,
}

/// Blocks whose bit and owner do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Remark {
    /// Marked, and nothing owns them.
    Leaked {
        /// The first.
        first: BlockNo,
        /// How many.
        count: u32,
    },
    /// Owned, and not marked.
    Unmarked {
        /// The first.
        first: BlockNo,
        /// How many.
        count: u32,
    },
    /// Marked, and past the end of the region.
    MarkedPastEnd {
        /// The first.
        first: BlockNo,
        /// How many.
        count: u32,
    },
    /// A block that has an owner, claimed once more.
    Contested {
        /// The block.
        block: BlockNo,
        /// Who claims it.
        ino: InodeNo,
        /// Where in that file it would be, in bytes; `None` if the file claims it for its table or page tables.
        offset: Option<u64>,
    },
}

/// The bits of some blocks, compared with the owners.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Agrees,
    Leaked,
    Unmarked,
    MarkedPastEnd,
}

/// One count.
struct Count<'a> {
    usage: Usage,
    owned: Bits,
    remark: &'a mut dyn FnMut(Remark),
    /// Consecutive blocks in one state: that state, the first, how many.
    run: (State, BlockNo, u32),
}

impl Store {
    /// Counts blocks by owner and by the bitmap, and passes to `remark` where they do not agree: first contested blocks, then
    /// the others in the order of their numbers. Reads each mappings table once, and the bitmap. Memory: one bit per block.
    pub fn usage(&self, source: &dyn ReadAt, remark: &mut dyn FnMut(Remark)) -> Usage {
        let blocks = self.blocks();
        let usage = Usage { blocks, complete: self.inodes_known(), ..Usage::default() };
        let run = (State::Agrees, BlockNo(0), 0);
        let mut count = Count { usage, owned: Bits::new(blocks), remark, run };
        for block in 0..FIRST_BLOCK.0.min(blocks) {
            count.usage.metadata = count.usage.metadata.saturating_add(u32::from(count.owned.insert(BlockNo(block))));
        }
        for node in self.nodes() {
            count.block_of(node);
        }
        for files in self.tables().values() {
            // Files with the same table claim the same blocks, so only those of the first are counted.
            let Some(node) = files.first() else { continue };
            for extent in self.extents(source, node.ino) {
                count.extent(node.ino, &extent);
            }
        }
        count.bitmap(source, self.base());
        count.usage
    }
}

impl Count<'_> {
    /// Counts the block that an inode names.
    fn block_of(&mut self, node: &Node) {
        let block = node.mappings_block;
        let counter = match node.kind {
            Some(Kind::File) => &mut self.usage.tables,
            Some(Kind::IommuRootPageTables | Kind::IommuDomainPageTables) => &mut self.usage.iommu,
            Some(Kind::Directory | Kind::IommuDirectory) => return,
            None => {
                self.usage.complete = false;
                return;
            }
        };
        if !can_be_owned(block, self.usage.blocks) {
            self.usage.complete = false;
        } else if self.owned.insert(block) {
            *counter = counter.saturating_add(1);
        } else {
            self.contested(block, node.ino, None);
        }
    }

    fn contested(&mut self, block: BlockNo, ino: InodeNo, offset: Option<u64>) {
        self.usage.contested = self.usage.contested.saturating_add(1);
        (self.remark)(Remark::Contested { block, ino, offset });
    }

    /// Counts the blocks of an extent.
    fn extent(&mut self, ino: InodeNo, extent: &Extent) {
        let count = blocks_in(extent.length);
        match extent.place {
            Place::Region { address } => {
                let first = blocks_in(address);
                for index in 0..count {
                    let block = BlockNo(to_u32(first.saturating_add(index)));
                    if self.owned.insert(block) {
                        self.usage.data = self.usage.data.saturating_add(1);
                    } else {
                        let within = index.saturating_mul(BLOCK_BYTES);
                        self.contested(block, ino, Some(extent.offset.saturating_add(within)));
                    }
                }
            }
            Place::PastEnd { .. } => self.usage.past_end = self.usage.past_end.saturating_add(count),
            Place::Unknown { .. } => {
                self.usage.unknown_entries = self.usage.unknown_entries.saturating_add(count);
                self.usage.complete = false;
            }
            Place::NoBlock | Place::NoTable => {}
        }
    }

    /// Compares the bitmap with the owners.
    fn bitmap(&mut self, source: &dyn ReadAt, base: u64) {
        each_bitmap_page(source, base, |first, bytes, lack| match lack {
            None => self.bitmap_page(first, bytes),
            Some(_) => {
                let inside =
                    self.usage.blocks.saturating_sub(first.0).min(to_u32(len64(bytes.len()).saturating_mul(8)));
                self.usage.mark_unknown = self.usage.mark_unknown.saturating_add(inside);
                self.end_run();
            }
        });
        self.end_run();
    }

    /// Compares a page of the bitmap, which starts with the bit of block `first`.
    fn bitmap_page(&mut self, first: BlockNo, bytes: &[u8]) {
        let blocks = (first.0..).step_by(8);
        for (at, byte) in blocks.zip(bytes) {
            for block in (at..at.saturating_add(8)).map(BlockNo) {
                let marked = byte & bit(block) != 0;
                let inside = block.0 < self.usage.blocks;
                let state = match (marked, self.owned.contains(block)) {
                    (true, _) if !inside => State::MarkedPastEnd,
                    (true, false) => State::Leaked,
                    (false, true) => State::Unmarked,
                    _ => State::Agrees,
                };
                self.usage.marked = self.usage.marked.saturating_add(u32::from(marked && inside));
                self.block(block, state);
            }
        }
    }

    /// Counts a block's state.
    fn block(&mut self, block: BlockNo, state: State) {
        let (same, _, count) = &mut self.run;
        if *same == state {
            *count = count.saturating_add(1);
            return;
        }
        self.end_run();
        self.run = (state, block, 1);
    }

    /// Reports the run of blocks that ends here.
    fn end_run(&mut self) {
        let (state, first, count) = std::mem::replace(&mut self.run, (State::Agrees, BlockNo(0), 0));
        let (counter, remark) = match state {
            State::Agrees => return,
            State::Leaked => (&mut self.usage.leaked, Remark::Leaked { first, count }),
            State::Unmarked => (&mut self.usage.unmarked, Remark::Unmarked { first, count }),
            State::MarkedPastEnd => (&mut self.usage.marked_past_end, Remark::MarkedPastEnd { first, count }),
        };
        *counter = counter.saturating_add(count);
        (self.remark)(remark);
    }
}

/// How many blocks so many bytes are.
pub(super) fn blocks_in(bytes: u64) -> u64 {
    bytes.checked_div(BLOCK_BYTES).unwrap_or_default()
}

/// Reads the bitmap page by page: the block of a page's first bit, its bytes, and why they are unknown if they are.
pub(super) fn each_bitmap_page(source: &dyn ReadAt, base: u64, mut visit: impl FnMut(BlockNo, &[u8], Option<Lack>)) {
    let mut bitmap = vec![0; small(BITMAP_BYTES)];
    let mut lacks = std::collections::BTreeMap::new();
    read_pages(source, base.saturating_add(BITMAP_OFFSET), &mut bitmap, |page, lack| {
        lacks.insert(page, lack);
    });
    let mut first: u32 = 0;
    for (page, bytes) in (0..).zip(bitmap.chunks(PAGE_SIZE)) {
        visit(BlockNo(first), bytes, lacks.get(&page).copied());
        first = first.saturating_add(to_u32(len64(bytes.len()).saturating_mul(8)));
    }
}

/// Whether the bit of a block is set, or why that is unknown. Blocks past the bitmap are not marked.
pub(super) fn is_marked(source: &dyn ReadAt, base: u64, block: BlockNo) -> Result<bool, Lack> {
    let byte = u64::from(block.0 >> 3);
    if byte >= BITMAP_BYTES {
        return Ok(false);
    }
    let mut found = [0];
    let at = base.saturating_add(BITMAP_OFFSET).saturating_add(byte);
    source.read_at(at, &mut found).map_err(|error| Lack::from(&error))?;
    let [found] = found;
    Ok(found & bit(block) != 0)
}

/// The block with a byte of the region, if the number is a block's.
pub(super) fn block_of_address(address: u64) -> Option<BlockNo> {
    let block = BlockNo(u32::try_from(blocks_in(address)).ok()?);
    (block_offset(block) <= address).then_some(block)
}
