//! Reads descriptors one after the other. A page is read only once for consecutive requests for its descriptors.

use gmfs_format::native::raw::{BLOCKS_PER_PAGE, BlockRaw, BlockTablePage, OnMemory};
use gmfs_format::native::units::{BlockNo, PageBytes, PageNo, len64, to_u32, to_usize};
use gmfs_io::ReadAt;
use gmfs_volume::Superblocks;
use gmfs_volume::region::read_page;

/// Reads descriptors. It is fastest if blocks are asked for in ascending order.
pub(crate) struct Descriptors<'a, S: ?Sized> {
    source: &'a S,
    superblocks: &'a Superblocks,
    /// The page that was read last. It has no bytes if it cannot be read in either copy.
    page: Option<(PageNo, Option<Box<PageBytes>>)>,
}

impl<'a, S: ReadAt + ?Sized> Descriptors<'a, S> {
    pub(crate) const fn new(source: &'a S, superblocks: &'a Superblocks) -> Self {
        Self { source, superblocks, page: None }
    }

    fn page(&mut self, page: PageNo) -> Option<&PageBytes> {
        if self.page.as_ref().is_none_or(|(read, _)| *read != page) {
            self.page = Some((page, read_page(self.source, self.superblocks, page)));
        }
        self.page.as_ref()?.1.as_deref()
    }

    /// The descriptor of a block of the used part of the table.
    pub(crate) fn get(&mut self, block: BlockNo) -> Option<BlockRaw> {
        let (page, slot) = self.superblocks.geometry().descriptor_place(block)?;
        BlockTablePage::view(self.page(page)?).entries.get(slot).copied()
    }

    /// CRC-32 of a run of descriptors as they are; those on pages that cannot be read are left out.
    pub(crate) fn sum(&mut self, first: BlockNo, count: u32) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        let (mut block, mut left) = (first, count);
        while left > 0 {
            let Some((page, slot)) = self.superblocks.geometry().descriptor_place(block) else {
                break;
            };
            // The rest of the page, which is at least this slot.
            let here = left.min(BLOCKS_PER_PAGE.saturating_sub(to_u32(len64(slot))));
            if let Some(bytes) = self.page(page) {
                for entry in BlockTablePage::view(bytes).entries.iter().skip(slot).take(to_usize(here)) {
                    sum.update(entry.bytes());
                }
            }
            let Some(next) = block.0.checked_add(here) else { break };
            (block, left) = (BlockNo(next), left.saturating_sub(here));
        }
        sum.finalize()
    }
}
