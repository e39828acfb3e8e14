//! Damages pages and their copies.

use std::fmt;
use std::str::FromStr;

use gmfs_format::native::raw::{InodeTablePage, PageHeader};
use gmfs_format::native::seal;
use gmfs_format::native::superblock::STATE_ACTIVE;
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageNo};
use gmfs_io::WriteAt;
use uuid::Uuid;

use crate::inject::{Editor, InjectError, Injected};
use crate::problem::Code;

/// Kinds of damage to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// All bytes become zero.
    Zero,
    /// The page is overwritten with other bytes.
    Overwrite,
    /// One bit is flipped.
    Flip,
    /// The second half of its cache lines is from another page.
    Tear,
    /// It is replaced by another page of the same region.
    Swap,
    /// It is replaced by an older version.
    Stale,
    /// It is sealed for another region.
    Foreign,
    /// It is sealed with a later format version.
    Version,
}

impl Damage {
    /// All kinds, with the words for them.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Zero, "zero"),
        (Self::Overwrite, "overwrite"),
        (Self::Flip, "flip"),
        (Self::Tear, "tear"),
        (Self::Swap, "swap"),
        (Self::Stale, "stale"),
        (Self::Foreign, "foreign"),
        (Self::Version, "version"),
    ];
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.into_iter().find(|(damage, _)| damage == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Damage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(damage, _)| damage).ok_or_else(|| format!("'{text}' is no way to damage a page"))
    }
}

/// Damages one copy of a page.
///
/// # Errors
/// There is no such page, or the medium failed.
pub(super) fn damage<S: WriteAt>(
    editor: &mut Editor<'_, S>,
    copy: CopyId,
    page: PageNo,
    how: Damage,
) -> Result<Injected, InjectError> {
    let mut bytes = editor.read_page(copy, page)?;
    let generation = Generation(PageHeader::of(&bytes).generation.get());
    match how {
        Damage::Zero => bytes = [0; PAGE_SIZE],
        Damage::Overwrite => bytes = std::array::from_fn(|n| n.to_le_bytes()[0] ^ 0xA5),
        Damage::Flip => bytes[1000] ^= 0x10,
        Damage::Tear => bytes.iter_mut().skip(PAGE_SIZE / 2).for_each(|byte| *byte = !*byte),
        Damage::Swap => bytes = editor.read_page(copy.other(), page)?,
        Damage::Stale => {
            let before = Generation(generation.0.saturating_sub(1));
            let (place, _) = editor.place(copy, page)?;
            seal::seal(&mut bytes, &place, before);
        }
        Damage::Foreign => {
            PageHeader::of_mut(&mut bytes).uuid = Uuid::from_u128(0x000F_0E16_1234).into_bytes();
            seal::renew_crc(&mut bytes);
        }
        Damage::Version => {
            PageHeader::of_mut(&mut bytes).version = 9.into();
            seal::renew_crc(&mut bytes);
        }
    }
    editor.write_page(copy, page, &bytes)?;
    Ok(Injected::Done)
}

/// Makes a problem of GM00xx.
pub(super) fn inject<S: WriteAt>(editor: &mut Editor<'_, S>) -> Result<Injected, InjectError> {
    let page = editor.target.page.unwrap_or_else(|| editor.superblock.geometry().first_inode_page());
    let copy = editor.target.copy.unwrap_or(CopyId::A);
    let how = match editor.code {
        Code::GM0001 => Damage::Zero,
        Code::GM0002 => Damage::Overwrite,
        Code::GM0003 => Damage::Flip,
        Code::GM0004 => Damage::Tear,
        Code::GM0005 => Damage::Foreign,
        Code::GM0006 => Damage::Swap,
        Code::GM0007 => Damage::Stale,
        Code::GM0008 => Damage::Version,
        _ => return inject_both(editor, page),
    };
    damage(editor, copy, page, how)
}

/// Makes problems of both copies, and of a commit in progress.
fn inject_both<S: WriteAt>(editor: &mut Editor<'_, S>, page: PageNo) -> Result<Injected, InjectError> {
    let now = editor.superblock.generation;
    // There may be no next generation.
    let next = now.0.checked_add(1).map(Generation);
    match editor.code {
        Code::GM0010 => {
            damage(editor, CopyId::A, page, Damage::Zero)?;
            damage(editor, CopyId::B, page, Damage::Zero)
        }
        Code::GM0011 => {
            let mut bytes = editor.read_page(CopyId::B, page)?;
            let generation = Generation(PageHeader::of(&bytes).generation.get());
            if let Some(root) = InodeTablePage::view_mut(&mut bytes).inodes.first_mut() {
                root.accessed = root.accessed.get().wrapping_add(1).into();
            }
            editor.seal_page(CopyId::B, page, &mut bytes, generation)?;
            Ok(Injected::Done)
        }
        Code::GM0012 => {
            damage(editor, CopyId::A, page, Damage::Stale)?;
            damage(editor, CopyId::B, page, Damage::Stale)
        }
        Code::GM0013 => {
            // Sealing sets reserved bytes to zero, so only the CRC is computed again.
            for copy in CopyId::BOTH {
                let mut bytes = editor.read_page(copy, page)?;
                PageHeader::of_mut(&mut bytes).reserved[3] = 1;
                seal::renew_crc(&mut bytes);
                editor.write_page(copy, page, &bytes)?;
            }
            Ok(Injected::Done)
        }
        Code::GM0020 => {
            let next = next.ok_or_else(|| editor.missing("commit left"))?;
            editor.pretend(now, now, STATE_ACTIVE, None)?;
            let mut bytes = editor.read_page(CopyId::A, page)?;
            editor.seal_page(CopyId::A, page, &mut bytes, next)?;
            Ok(Injected::Done)
        }
        Code::GM0021 => {
            let next = next.ok_or_else(|| editor.missing("commit left"))?;
            let mut bytes = editor.read_page(CopyId::A, page)?;
            let age = Generation(PageHeader::of(&bytes).generation.get());
            editor.pretend(next, now, STATE_ACTIVE, Some((page, age)))?;
            editor.seal_page(CopyId::A, page, &mut bytes, next)?;
            Ok(Injected::Done)
        }
        Code::GM0022 => {
            editor.pretend(now, now, STATE_ACTIVE, None)?;
            damage(editor, CopyId::A, page, Damage::Tear)
        }
        Code::GM0023 => editor.pretend(now, now, STATE_ACTIVE, None).map(|()| Injected::Done),
        code => Err(InjectError::Medium(code)),
    }
}
