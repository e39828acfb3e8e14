//! Makes false values in superblocks, with good seals.

use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::units::{CopyId, Generation, PageNo};
use gmfs_io::WriteAt;
use uuid::Uuid;

use crate::inject::{Editor, InjectError, Injected};
use crate::problem::Code;

/// The UUID of another region.
const OTHER: Uuid = Uuid::from_u128(0x000F_0E16_5678);

/// A time far in the future, in nanoseconds since the epoch.
pub(super) const FAR_FUTURE: u64 = i64::MAX.unsigned_abs();

/// Makes a problem of GM01xx or GM05xx.
pub(super) fn inject<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    match editor.code {
        Code::GM0101 => {
            let copy = editor.target.copy.unwrap_or(CopyId::A);
            let mut lying = editor.superblock.clone();
            lying.raw.root_inode = 2.into();
            let page = lying.page(copy);
            editor.write_page(copy, PageNo(0), &page).map(|()| Injected::Done)
        }
        Code::GM0102 => Ok(Injected::CutTo(editor.superblock.geometry().copy_offset(CopyId::B).saturating_add(1))),
        Code::GM0103 => editor.edit_superblock(|raw| raw.feature_compat = 0x8000.into()),
        Code::GM0104 => editor.edit_superblock(|raw| raw.feature_ro_compat = 0x8000.into()),
        Code::GM0105 => editor.edit_superblock(|raw| raw.feature_incompat = 0x8000.into()),
        Code::GM0106 => editor.edit_superblock(|raw| raw.state = (raw.state.get() | 0x80).into()),
        Code::GM0107 => editor.edit_superblock(|raw| raw.label[0] = 0xFF),
        Code::GM0108 => editor.edit_superblock(|raw| raw.reserved_3[7] = 1),
        Code::GM0109 => editor.edit_superblock(|raw| raw.checked = FAR_FUTURE.into()),
        Code::GM0110 => editor.edit_superblock(|raw| raw.error_count = 3.into()),
        Code::GM0111 => editor.edit_superblock(|raw| raw.writer[0] = 0x1B),
        Code::GM0112 => {
            for copy in CopyId::BOTH {
                editor.write_page(copy, PageNo(0), &[0; gmfs_format::native::units::PAGE_SIZE])?;
            }
            Ok(Injected::Done)
        }
        Code::GM0113 => pages_past_mark(editor),
        Code::GM0114 => two_regions(editor),
        Code::GM0115 => editor.edit_superblock(|raw| raw.group_sums[3][0] = (raw.group_sums[3][0].get() ^ 1).into()),
        // A count plus one is wrong, whatever the count was.
        Code::GM0501 => editor.edit_superblock(|raw| raw.free_blocks = raw.free_blocks.get().wrapping_add(1).into()),
        Code::GM0502 => editor.edit_superblock(|raw| raw.data_blocks = raw.data_blocks.get().wrapping_add(1).into()),
        Code::GM0503 => editor.edit_superblock(|raw| raw.bad_blocks = raw.bad_blocks.get().wrapping_add(1).into()),
        Code::GM0504 => {
            editor.edit_superblock(|raw| raw.reserved_blocks = raw.reserved_blocks.get().wrapping_add(1).into())
        }
        Code::GM0505 => editor.edit_superblock(|raw| raw.used_inodes = raw.used_inodes.get().wrapping_add(1).into()),
        code => Err(InjectError::Medium(code)),
    }
}

/// Lowers a mark below a page in use: the chosen page, or the last one of the block table, or of the inode table if
/// files have no blocks yet. The superblock then has a false mark under a good seal.
fn pages_past_mark<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    if editor.superblock.raw.write_count.get() == 0 {
        return Err(editor.missing("change since it was made"));
    }
    let [(_, table), (_, inodes)] = gmfs_volume::superblocks::used_tables(&editor.superblock);
    let root = editor.superblock.geometry().first_inode_page();
    let last = table.clone().last().or_else(|| inodes.clone().last()).map(PageNo).filter(|page| *page != root);
    let first = editor.target.page.or(last).ok_or_else(|| editor.missing("page in use"))?;
    let used = if table.contains(&first.0) { table } else { inodes };
    let mark = first.0.checked_sub(used.start).filter(|_| first.0 < used.end);
    let mark = u64::from(mark.ok_or_else(|| editor.missing("such page in use"))?);
    let in_table = editor.superblock.used_table_pages().contains(&first.0);
    editor.edit_superblock(|raw| {
        let field = if in_table { &mut raw.table_used } else { &mut raw.inodes_used_pages };
        *field = mark.into();
    })
}

/// Makes one whole copy that of another region.
fn two_regions<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let copy = editor.target.copy.unwrap_or(CopyId::A);
    let own = editor.superblock.uuid;
    let tables = gmfs_volume::superblocks::used_tables(&editor.superblock);
    for page in tables.into_iter().flat_map(|(_, pages)| pages).map(PageNo) {
        let mut bytes = editor.read_page(copy, page)?;
        let generation = Generation(PageHeader::of(&bytes).generation.get());
        editor.superblock.uuid = OTHER;
        editor.seal_page(copy, page, &mut bytes, generation)?;
        editor.superblock.uuid = own;
    }
    editor.superblock.uuid = OTHER;
    let page = editor.superblock.page(copy);
    editor.write_page(copy, PageNo(0), &page).map(|()| Injected::Done)
}
