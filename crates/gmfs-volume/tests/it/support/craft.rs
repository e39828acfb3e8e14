//! Writes pages without the engine, in both copies and with good seals, to make states that no operation makes.

use gmfs_format::native::raw::{
    BlockRaw, BlockTablePage, InodeRaw, InodeTablePage, PageHeader, SuperblockPage, SuperblockRaw,
};
use gmfs_format::native::seal;
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, CopyId, Generation, InodeNo, PageBytes, PageNo};
use gmfs_volume::Superblocks;

use super::memory::Memory;

/// The superblock that is used.
pub(crate) fn superblock(image: &Memory) -> Superblock {
    Superblocks::load(image).unwrap().current().clone()
}

/// The offset of a copy of a page.
pub(crate) fn offset(image: &Memory, copy: CopyId, page: PageNo) -> u64 {
    superblock(image).geometry().page_offset(copy, page)
}

/// Changes a page in both copies and seals it again.
pub(crate) fn edit_page(image: &mut Memory, page: PageNo, change: impl Fn(&mut PageBytes)) {
    let superblocks = Superblocks::load(&*image).unwrap();
    for copy in CopyId::BOTH {
        let offset = superblocks.geometry().page_offset(copy, page);
        let mut bytes = image.page(offset);
        change(&mut bytes);
        let generation = Generation(PageHeader::of(&bytes).generation.get());
        seal::seal(&mut bytes, &superblocks.place(copy, page).unwrap(), generation);
        image.put(offset, &bytes);
    }
}

/// Changes the superblock in both copies.
pub(crate) fn edit_superblock(image: &mut Memory, change: impl Fn(&mut SuperblockRaw)) {
    edit_page(image, PageNo(0), |bytes| change(&mut SuperblockPage::view_mut(bytes).superblock));
}

/// Sets the generation of both superblocks.
pub(crate) fn set_generation(image: &mut Memory, generation: u64) {
    edit_page(image, PageNo(0), |bytes| PageHeader::of_mut(bytes).generation = generation.into());
}

/// Writes a block's descriptor, whose page must be in use, and updates the counts.
pub(crate) fn set_descriptor(image: &mut Memory, block: u32, raw: BlockRaw) {
    let (page, slot) = superblock(image).geometry().descriptor_place(BlockNo(block)).unwrap();
    assert!(superblock(image).used_table_pages().contains(&page.0));
    let old = BlockTablePage::view(&image.page(offset(image, CopyId::A, page))).entries[slot];
    edit_page(image, page, |bytes| BlockTablePage::view_mut(bytes).entries[slot] = raw);
    edit_superblock(image, |superblock| {
        for (state, by) in [(old.state, -1), (raw.state, 1)] {
            let count = match BlockState::from_byte(state).unwrap() {
                BlockState::Free => &mut superblock.free_blocks,
                BlockState::Data => &mut superblock.data_blocks,
                BlockState::Bad => &mut superblock.bad_blocks,
                BlockState::Reserved => &mut superblock.reserved_blocks,
            };
            *count = count.get().checked_add_signed(by).unwrap().into();
        }
    });
}

/// A descriptor with these values.
pub(crate) fn descriptor(state: BlockState, owner: u32, index: u32) -> BlockRaw {
    BlockRaw { state: state.byte(), owner: owner.into(), index: index.into(), ..BlockRaw::FREE }
}

/// Changes an inode, whose page must be in use.
pub(crate) fn edit_inode(image: &mut Memory, ino: InodeNo, change: impl Fn(&mut InodeRaw)) {
    let (page, slot) = superblock(image).geometry().inode_place(ino).unwrap();
    edit_page(image, page, |bytes| change(&mut InodeTablePage::view_mut(bytes).inodes[slot]));
}
