//! Making a region.

use gmfs_format::geometry::Geometry;
use gmfs_format::io::{Span, WriteAt, WriteError};
use gmfs_format::raw::{InodeRaw, InodeTablePage};
use gmfs_format::seal;
use gmfs_format::seal::{PageKind, Place};
use gmfs_format::superblock::{Superblock, text_field};
use gmfs_format::tables::InodeKind;
use gmfs_format::units::{CopyId, Generation, InodeNo, PAGE_BYTES, PAGE_SIZE};
use uuid::Uuid;

use crate::change::blank_page;
use crate::commit::Stamp;

/// What a new region is to be.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Its layout.
    pub geometry: Geometry,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its label; see [`gmfs_format::superblock::check_label`].
    pub label: String,
    /// Its physical base address; 0 = not known.
    pub base: u64,
    /// Owner and group of the root directory.
    pub owner: (u32, u32),
    /// When, and by whom.
    pub stamp: Stamp,
    /// Offsets of superblocks of an older region, which must not be found any more.
    pub forget: Vec<u64>,
}

/// Formats the region that fills `target`, which must hold at least its whole blocks. Whatever was there is gone from
/// the first store on. Until superblock B is written there is no region; from there to the last store there is one whose
/// superblock A has to be repaired.
///
/// Writes a handful of pages at any size: tables are written as far as they are used.
///
/// # Errors
/// The medium failed.
pub fn format<S: WriteAt>(target: &mut S, options: &FormatOptions) -> Result<Superblock, WriteError> {
    let geometry = options.geometry;
    let generation = first_generation(target, options);
    let here = CopyId::BOTH.map(|copy| geometry.copy_offset(copy));
    for offset in options.forget.iter().chain(&here) {
        target.zero(Span::new(*offset, PAGE_BYTES))?;
    }
    target.barrier()?;

    let mut page = blank_page(geometry, geometry.first_inode_page());
    if let Some(root) = InodeTablePage::view_mut(&mut page).inodes.first_mut() {
        *root = root_inode(options);
    }
    for copy in CopyId::BOTH {
        let (kind, page_no) = (PageKind::InodeTable, geometry.first_inode_page());
        let place = Place { kind, copy, page: page_no, uuid: options.uuid, geometry };
        seal::seal(&mut page, &place, generation);
        target.write_at(geometry.page_offset(copy, geometry.first_inode_page()), &page)?;
    }
    target.barrier()?;

    let superblock = superblock(options, generation);
    for copy in [CopyId::B, CopyId::A] {
        target.write_at(geometry.copy_offset(copy), &superblock.page(copy))?;
        target.barrier()?;
    }
    Ok(superblock)
}

/// The generation that the region starts with: 1, or above those of an older region with the same UUID, so that no page
/// that the older one left behind the marks can be taken for one of this region.
fn first_generation<S: WriteAt>(target: &S, options: &FormatOptions) -> Generation {
    let geometry = options.geometry;
    let mut highest = Generation::default();
    let mut page = [0; PAGE_SIZE];
    for copy in CopyId::BOTH {
        let here = geometry.copy_offset(copy);
        for offset in options.forget.iter().copied().chain([here]) {
            // What cannot be read is no page of anything.
            let read = target.read_at(offset, &mut page).ok().and_then(|()| Superblock::read(&page, copy).ok());
            if let Some(older) = read.filter(|older| older.uuid == options.uuid) {
                highest = highest.max(older.generation);
            }
        }
        // What is left of a region whose superblocks an interrupted run has zeroed.
        let first = geometry.first_inode_page();
        let place = Place { kind: PageKind::InodeTable, copy, page: first, uuid: options.uuid, geometry };
        let read = target.read_at(geometry.page_offset(copy, first), &mut page).ok();
        if let Some(generation) = read.and_then(|()| seal::check(&page, &place).ok()) {
            highest = highest.max(generation);
        }
    }
    // A generation that has no next one is a lie, and stands for none.
    Generation(highest.0.checked_add(1).filter(|next| *next < u64::MAX / 2).unwrap_or(1))
}

/// The first superblock of the region.
fn superblock(options: &FormatOptions, generation: Generation) -> Superblock {
    let mut superblock = Superblock::new(options.geometry, options.uuid, generation);
    let raw = &mut superblock.raw;
    raw.base = options.base.into();
    raw.inodes_used_pages = 1.into();
    raw.used_inodes = 1.into();
    raw.label = text_field(&options.label);
    raw.created = options.stamp.now.into();
    raw.written = options.stamp.now.into();
    raw.writer = text_field(&options.stamp.writer);
    superblock
}

/// The root directory.
fn root_inode(options: &FormatOptions) -> InodeRaw {
    let mut root = InodeRaw::free(InodeNo::ROOT, 1);
    let now = options.stamp.now.into();
    root.kind = InodeKind::Directory.number().into();
    root.mode = 0o755.into();
    root.uid = options.owner.0.into();
    root.gid = options.owner.1.into();
    root.parent = InodeNo::ROOT.0.into();
    root.set_name(b".");
    (root.accessed, root.modified, root.changed, root.created) = (now, now, now, now);
    root
}
