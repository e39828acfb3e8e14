//! Damages a region file that `full_region` made in millions of places, for measurements: `damage_region FILE KIND`.
//!
//! | KIND | what becomes wrong |
//! | --- | --- |
//! | `owners` | every block names an inode that is not in use, another one each 1,024 blocks |
//! | `states` | every second block is in no known state, so that no two findings are neighbours |
//! | `inodes` | the record of every file: name, mode, flags and reserved bytes |
//! | `pages` | every second page of copy A, and those between of copy B |
//! | `lost` | every second page of the block table, in both copies |
//!
//! Pages are sealed again after the damage, except for `pages`, where one byte is changed without sealing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use gmfs_format::native::raw::{BlockTablePage, InodeTablePage, PageHeader};
use gmfs_format::native::seal::{PageKind, Place, seal};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo};

/// How many pages are read and written at once.
const BATCH: u32 = 256;
/// How many consecutive blocks `owners` assigns to one inode.
const RUN: u32 = 1024;

/// Damages one page of one copy. Returns whether the page must be sealed again.
type Damage = fn(&Superblock, CopyId, PageNo, &mut PageBytes) -> bool;

fn owners(superblock: &Superblock, _: CopyId, page: PageNo, bytes: &mut PageBytes) -> bool {
    let geometry = superblock.geometry();
    if geometry.page_kind(page) == Some(PageKind::BlockTable) {
        let used = superblock.raw.used_inodes.get() as u32;
        let first = geometry.first_block_of(page).0 - geometry.first_data().0;
        let data = geometry.data_blocks();
        for (k, entry) in (first..data).zip(&mut BlockTablePage::view_mut(bytes).entries) {
            let run = k / RUN % (geometry.inodes() - used);
            entry.owner = (used + 1 + run).into();
        }
    }
    true
}

fn states(superblock: &Superblock, _: CopyId, page: PageNo, bytes: &mut PageBytes) -> bool {
    let geometry = superblock.geometry();
    if geometry.page_kind(page) == Some(PageKind::BlockTable) {
        let first = geometry.first_block_of(page).0 - geometry.first_data().0;
        let entries = (first..geometry.data_blocks()).zip(&mut BlockTablePage::view_mut(bytes).entries);
        for (_, entry) in entries.filter(|(k, _)| k % 2 == 1) {
            entry.state = 9;
        }
    }
    true
}

fn inodes(superblock: &Superblock, _: CopyId, page: PageNo, bytes: &mut PageBytes) -> bool {
    if superblock.geometry().page_kind(page) == Some(PageKind::InodeTable) {
        for inode in InodeTablePage::view_mut(bytes).inodes.iter_mut().filter(|inode| inode.number.get() > 1) {
            inode.name[0] = b'/';
            inode.mode = u16::MAX.into();
            inode.flags = u64::MAX.into();
            inode.reserved[0] = 1;
        }
    }
    true
}

fn pages(_: &Superblock, copy: CopyId, page: PageNo, bytes: &mut PageBytes) -> bool {
    if page.0.is_multiple_of(2) == (copy == CopyId::A) {
        bytes[PAGE_SIZE / 2] ^= 0xFF;
    }
    false
}

fn lost(superblock: &Superblock, _: CopyId, page: PageNo, bytes: &mut PageBytes) -> bool {
    if page.0.is_multiple_of(2) && superblock.geometry().page_kind(page) == Some(PageKind::BlockTable) {
        bytes[PAGE_SIZE / 2] ^= 0xFF;
    }
    false
}

fn main() -> io::Result<()> {
    let kinds: [(&str, Damage); 5] =
        [("owners", owners), ("states", states), ("inodes", inodes), ("pages", pages), ("lost", lost)];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, kind] = arguments.as_slice() else {
        return Err(io::Error::other("usage: damage_region FILE owners|states|inodes|pages|lost"));
    };
    let damage = kinds.iter().find(|(name, _)| name == kind).ok_or_else(|| io::Error::other("no such kind"))?.1;
    let file = File::options().read(true).write(true).open(path)?;
    let mut page = [0; PAGE_SIZE];
    file.read_exact_at(&mut page, 0)?;
    let superblock = Superblock::read(&page, CopyId::A).map_err(io::Error::other)?;
    for copy in CopyId::BOTH {
        for used in [superblock.used_table_pages(), superblock.used_inode_pages()] {
            for first in used.clone().step_by(BATCH as usize) {
                let count = BATCH.min(used.end - first);
                damage_batch(&file, &superblock, copy, first..first + count, damage)?;
            }
        }
    }
    Ok(())
}

fn damage_batch(
    file: &File,
    superblock: &Superblock,
    copy: CopyId,
    pages: std::ops::Range<u32>,
    damage: Damage,
) -> io::Result<()> {
    let mut buffer = vec![[0; PAGE_SIZE]; pages.len()];
    let offset = superblock.geometry().page_offset(copy, PageNo(pages.start));
    file.read_exact_at(buffer.as_flattened_mut(), offset)?;
    for (page, bytes) in pages.map(PageNo).zip(&mut buffer) {
        let Some(kind) = superblock.geometry().page_kind(page) else { continue };
        if damage(superblock, copy, page, bytes) {
            // The page keeps its generation, because otherwise it would not match the sums.
            let generation = Generation(PageHeader::of(bytes).generation.get());
            let Superblock { uuid, birth, .. } = *superblock;
            let geometry = superblock.geometry();
            seal(bytes, &Place { kind, copy, page, uuid, birth, geometry }, generation);
        }
    }
    file.write_all_at(buffer.as_flattened(), offset)
}
