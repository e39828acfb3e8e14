//! Which blocks are in use, by the bitmap and by the files.

use super::store::can_be_owned;
use super::{
    BITMAP_BYTES, BITMAP_OFFSET, BLOCK_BYTES, BlockNo, Extent, FIRST_BLOCK, InodeNo, Kind, Lack, Node, PAGE_SIZE,
    Place, ReadAt, Remark, Store, block_offset, len64, small, to_u32,
};
use crate::marks::{Bits, Runs, bit};
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

/// One count.
struct Count<'a> {
    usage: Usage,
    owned: Bits,
    remark: &'a mut dyn FnMut(Remark),
}

impl Store {
    /// Counts blocks by owner and by the bitmap, and passes to `remark` where they do not agree: first contested blocks, then
    /// the others in the order of their numbers. Reads each mappings table once, and the bitmap. Memory: one bit per block.
    pub fn usage(&self, source: &dyn ReadAt, remark: &mut dyn FnMut(Remark)) -> Usage {
        let blocks = self.blocks();
        let usage = Usage { blocks, complete: self.inodes_known(), ..Usage::default() };
        let mut count = Count { usage, owned: Bits::new(blocks), remark };
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
        let Self { usage, owned, remark } = self;
        let blocks = usage.blocks;
        let (mut marked, mut unknown) = (0_u32, 0_u32);
        let mut each = |found: Remark| {
            let (counter, count) = match found {
                Remark::Leaked { count, .. } => (&mut usage.leaked, count),
                Remark::Unmarked { count, .. } => (&mut usage.unmarked, count),
                Remark::MarkedPastEnd { count, .. } => (&mut usage.marked_past_end, count),
                Remark::Contested { .. } | Remark::BitmapRest => return,
            };
            *counter = counter.saturating_add(count);
            remark(found);
        };
        let mut runs = Runs::new(blocks, &mut each);
        each_bitmap_page(source, base, |first, bytes, lack| {
            if lack.is_some() {
                let inside = blocks.saturating_sub(first.0).min(to_u32(len64(bytes.len()).saturating_mul(8)));
                unknown = unknown.saturating_add(inside);
                runs.end();
                return;
            }
            // Most of a million blocks are neither marked nor owned.
            if *bytes == [0; PAGE_SIZE] && !owned.any_of_bytes(first.0 >> 3, PAGE_SIZE) {
                runs.end();
                return;
            }
            for (at, byte) in (first.0..).step_by(8).zip(bytes) {
                if *byte == 0 && !owned.any_of_byte(at >> 3) {
                    runs.end();
                    continue;
                }
                for block in (at..at.saturating_add(8)).map(BlockNo) {
                    let mark = byte & bit(block) != 0;
                    marked = marked.saturating_add(u32::from(mark && block.0 < blocks));
                    runs.add(block, mark, owned.contains(block));
                }
            }
        });
        runs.end();
        usage.marked = usage.marked.saturating_add(marked);
        usage.mark_unknown = usage.mark_unknown.saturating_add(unknown);
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
