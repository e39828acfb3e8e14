//! Makes inodes and a tree as a faulty writer would leave them, with good seals.

use gmfs_format::native::raw::{InodeRaw, InodeTablePage};
use gmfs_format::native::tables::{INODE_DOUBTFUL, InodeKind};
use gmfs_format::native::units::{CopyId, InodeNo};
use gmfs_io::WriteAt;

use crate::inject::superblock::FAR_FUTURE;
use crate::inject::{Editor, InjectError, Injected};
use crate::problem::Code;

/// Makes a problem of GM02xx or GM03xx.
pub(super) fn inject<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let file = |raw: &InodeRaw| raw.kind() == Some(InodeKind::File);
    let directory = |raw: &InodeRaw| raw.kind() == Some(InodeKind::Directory);
    let edit: fn(&mut InodeRaw) = match editor.code {
        Code::GM0201 => |raw| raw.number = 77.into(),
        Code::GM0202 => |raw| raw.kind = 9.into(),
        Code::GM0204 => |raw| raw.name[0] = b'/',
        Code::GM0205 => |raw| raw.name[254] = 1,
        Code::GM0206 => |raw| raw.mode = 0o100_644.into(),
        Code::GM0207 => |raw| raw.flags = 0x8000.into(),
        Code::GM0208 => |raw| raw.reserved[9] = 1,
        Code::GM0209 => |raw| raw.size = u64::MAX.into(),
        Code::GM0210 => |raw| raw.modified = FAR_FUTURE.into(),
        Code::GM0211 => {
            let ino = editor.inode("directory but the root", directory)?;
            return editor.edit_inode(ino, |raw| raw.size = 4096.into());
        }
        Code::GM0203 => {
            let free = |raw: &InodeRaw| raw.kind() == Some(InodeKind::Free);
            let ino = editor.inode("free inode in a used page", free)?;
            return editor.edit_inode(ino, |raw| raw.size = 4096.into());
        }
        Code::GM0213 => |raw| raw.flags = (raw.flags.get() | INODE_DOUBTFUL).into(),
        Code::GM0212 => return slot_past_end(editor),
        _ => return inject_tree(editor),
    };
    // An empty file is preferred, because changing it affects no blocks.
    let empty = |raw: &InodeRaw| file(raw) && raw.blocks.get() == 0;
    let chosen = editor.find_inode(empty).or_else(|| editor.find_inode(file));
    let ino = editor.target.inode.or(chosen).ok_or_else(|| editor.missing("file"))?;
    editor.edit_inode(ino, edit)
}

/// Writes to a slot of the last page that holds no inode.
fn slot_past_end<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let geometry = editor.superblock.geometry();
    let (last, _) = geometry.inode_place(InodeNo(geometry.inodes())).ok_or_else(|| editor.missing("inode"))?;
    if geometry.inodes().is_multiple_of(8) || !editor.superblock.used_inode_pages().contains(&last.0) {
        return Err(editor.missing("used slot after the last inode"));
    }
    editor.edit_page(last, |bytes| InodeTablePage::view_mut(bytes).inodes[7].reserved[0] = 1)
}

fn inject_tree<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let file = |raw: &InodeRaw| raw.kind() == Some(InodeKind::File);
    let directory = |raw: &InodeRaw| raw.kind() == Some(InodeKind::Directory);
    match editor.code {
        Code::GM0301 => editor.edit_inode(InodeNo::ROOT, |raw| raw.kind = InodeKind::File.number().into()),
        Code::GM0302 => editor.edit_inode(InodeNo::ROOT, |raw| raw.set_name(b"root")),
        Code::GM0303 => {
            let ino = editor.inode("file", file)?;
            let nobody = editor.unused_inode()?;
            editor.edit_inode(ino, |raw| raw.parent = nobody.0.into())
        }
        Code::GM0304 => {
            let parent = editor.find_inode(file).ok_or_else(|| editor.missing("file"))?;
            let ino = editor.inode("second file", |raw| file(raw) && raw.number.get() != parent.0)?;
            editor.edit_inode(ino, |raw| raw.parent = parent.0.into())
        }
        Code::GM0305 => {
            let ino = editor.inode("directory but the root", directory)?;
            editor.edit_inode(ino, |raw| raw.parent = ino.0.into())
        }
        Code::GM0306 => {
            let first = editor.find_inode(file).ok_or_else(|| editor.missing("file"))?;
            let twin = read_inode(editor, first)?;
            let ino = editor.inode("second file", |raw| file(raw) && raw.number.get() != first.0)?;
            editor.edit_inode(ino, |raw| {
                raw.parent = twin.parent;
                raw.set_name(twin.name());
            })
        }
        code => Err(InjectError::Medium(code)),
    }
}

fn read_inode<S: WriteAt>(editor: &Editor<'_, S>, ino: InodeNo) -> Result<InodeRaw, InjectError> {
    let place = editor.superblock.geometry().inode_place(ino);
    let (page, slot) = place.ok_or_else(|| editor.missing("such inode"))?;
    let bytes = editor.read_page(CopyId::A, page)?;
    InodeTablePage::view(&bytes).inodes.get(slot).copied().ok_or_else(|| editor.missing("such inode"))
}
