//! Makes descriptors as a faulty writer would leave them, with good seals, and contents that do not match.

use gmfs_format::native::raw::{BlockRaw, BlockTablePage};
use gmfs_format::native::tables::{BLOCK_CRC_VALID, BLOCK_ZERO, BlockState};
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PageNo};
use gmfs_io::WriteAt;

use crate::inject::{Editor, InjectError, Injected};
use crate::problem::Code;

/// Makes a problem of GM04xx or GM06xx.
pub(super) fn inject<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let free = |entry: &BlockRaw| *entry == BlockRaw::FREE;
    let data = |entry: &BlockRaw| entry.state() == Some(BlockState::Data);
    match editor.code {
        Code::GM0401 => on_data(editor, |raw| raw.state = 9),
        Code::GM0402 => {
            let (block, nobody) = (editor.block("free block in a used page", free)?, editor.unused_inode()?);
            editor.edit_block(block, |raw| *raw = BlockRaw::data(nobody, 0))
        }
        Code::GM0403 => {
            let block = editor.block("free block in a used page", free)?;
            editor.edit_block(block, |raw| *raw = BlockRaw::data(InodeNo::ROOT, 0))
        }
        Code::GM0404 => on_data(editor, |raw| raw.index = u32::MAX.into()),
        Code::GM0405 => place_taken_twice(editor),
        Code::GM0406 => {
            let block = editor.block("data block", data)?;
            let owner = owner_of(editor, block)?;
            // The new count is wrong, whatever it was.
            editor.edit_inode(owner, |raw| raw.blocks = raw.blocks.get().wrapping_add(1).into())
        }
        Code::GM0407 => {
            let (block, nobody) = (editor.block("free block in a used page", free)?, editor.unused_inode()?);
            editor.edit_block(block, |raw| raw.owner = nobody.0.into())
        }
        Code::GM0408 => {
            let block = editor.block("free block in a used page", free)?;
            editor.edit_block(block, |raw| raw.state = BlockState::Data.byte())
        }
        Code::GM0409 => {
            let block = editor.block("free block in a used page", free)?;
            editor.edit_block(block, |raw| {
                raw.state = BlockState::Reserved.byte();
                raw.owner = InodeNo::ROOT.0.into();
            })
        }
        Code::GM0410 => on_data(editor, |raw| raw.flags = 0x80),
        Code::GM0411 => on_data(editor, |raw| raw.reserved = 1.into()),
        Code::GM0412 => slot_past_end(editor),
        Code::GM0414 => on_data(editor, |raw| raw.crc = 7.into()),
        Code::GM0413 => on_data(editor, |raw| raw.state = BlockState::Bad.byte()),
        Code::GM0601 => on_data(editor, |raw| {
            raw.flags = BLOCK_CRC_VALID;
            raw.crc = 0xBAD0_BAD0.into();
        }),
        Code::GM0602 => {
            let candidates = editor.descriptors(data)?;
            let found = candidates.into_iter().find(|(block, _)| editor.has_content(*block));
            let (block, _) = found.ok_or_else(|| editor.missing("data block with content"))?;
            editor.edit_block(block, |raw| raw.flags = BLOCK_ZERO)
        }
        code => Err(InjectError::Medium(code)),
    }
}

/// Changes the chosen data block's descriptor.
fn on_data<S: WriteAt>(editor: &mut Editor<'_, S>, edit: fn(&mut BlockRaw)) -> Result<Injected, InjectError> {
    let block = editor.block("data block", |entry| entry.state() == Some(BlockState::Data))?;
    editor.edit_block(block, edit)
}

/// Assigns a block of a file to the file block of the previous block.
fn place_taken_twice<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let second =
        editor.block("file of two blocks", |entry| entry.state() == Some(BlockState::Data) && entry.index.get() > 0)?;
    // The block may have been chosen by the caller, and may be the first of its file.
    let before = read_descriptor(editor, second)?.index.get().checked_sub(1);
    let before = before.ok_or_else(|| editor.missing("place before the first one of a file"))?;
    editor.edit_block(second, |raw| raw.index = before.into())
}

/// Writes to a slot of the last page that describes no block.
fn slot_past_end<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let geometry = editor.superblock.geometry();
    let last = PageNo(geometry.table_pages());
    let used = editor.superblock.used_table_pages().contains(&last.0);
    if !used || geometry.data_blocks().is_multiple_of(gmfs_format::native::raw::BLOCKS_PER_PAGE) {
        return Err(editor.missing("used slot after the last data block"));
    }
    editor.edit_page(last, |bytes| BlockTablePage::view_mut(bytes).entries[249].crc = 1.into())
}

fn owner_of<S: WriteAt>(editor: &Editor<'_, S>, block: BlockNo) -> Result<InodeNo, InjectError> {
    let all = editor.descriptors(|entry| entry.state() == Some(BlockState::Data))?;
    let found = all.into_iter().find(|(found, _)| *found == block);
    found.map(|(_, entry)| entry.owner()).ok_or_else(|| editor.missing("such data block"))
}

fn read_descriptor<S: WriteAt>(editor: &Editor<'_, S>, block: BlockNo) -> Result<BlockRaw, InjectError> {
    let place = editor.superblock.geometry().descriptor_place(block);
    let (page, slot) = place.ok_or_else(|| editor.missing("such data block"))?;
    let bytes = editor.read_page(CopyId::A, page)?;
    BlockTablePage::view(&bytes).entries.get(slot).copied().ok_or_else(|| editor.missing("such data block"))
}
