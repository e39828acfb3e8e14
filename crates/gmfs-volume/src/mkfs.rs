//! Makes regions.

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{InodeRaw, InodeTablePage, PageHeader};
use gmfs_format::native::seal;
use gmfs_format::native::seal::{PageKind, Place};
use gmfs_format::native::superblock::{Superblock, text_field};
use gmfs_format::native::tables::InodeKind;
use gmfs_format::native::units::{CopyId, Generation, InodeNo, PAGE_BYTES};
use gmfs_io::{Span, WriteAt, WriteError};
use uuid::Uuid;

use crate::census::Identity;
use crate::change::blank_page;
use crate::commit::Stamp;
use crate::decide::group_sums;
use crate::superblocks::Superblocks;
use crate::sweep::{Frame, sweep};

/// The properties of a new region.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Its layout.
    pub geometry: Geometry,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its birth: a random number, or one derived from UUID and time if the same bytes are wanted each time.
    pub birth: u64,
    /// Its label; see [`gmfs_format::native::superblock::check_label`].
    pub label: String,
    /// Its physical base address; 0 = not known.
    pub base: u64,
    /// Owner and group of the root directory.
    pub owner: (u32, u32),
    /// The time, and the name of the writer.
    pub stamp: Stamp,
    /// Offsets of superblocks of an older region that must not be found afterwards.
    pub forget: Vec<u64>,
}

/// Formats the region that fills `target`, which must hold at least its whole blocks. The first write destroys what was
/// there. Until superblock B is written there is no region. From then until the last write there is a region whose
/// superblock A must be repaired.
///
/// Writes a few pages only, whatever the size, because tables are written only as far as they are used.
///
/// # Errors
/// The medium failed.
pub fn format<S: WriteAt>(target: &mut S, options: &FormatOptions) -> Result<Superblock, WriteError> {
    let geometry = options.geometry;
    let generation = Generation(1);
    let birth = unused_birth(target, options);
    let here = CopyId::BOTH.map(|copy| geometry.copy_offset(copy));
    for offset in options.forget.iter().chain(&here) {
        target.zero(Span::new(*offset, PAGE_BYTES))?;
    }
    target.barrier()?;

    let mut page = blank_page(geometry, geometry.first_inode_page());
    if let Some(root) = InodeTablePage::view_mut(&mut page).inodes.first_mut() {
        *root = root_inode(options);
    }
    let superblock = superblock(options, birth, generation);
    superblock.trailer().write(&mut page);
    for copy in CopyId::BOTH {
        let (kind, page_no) = (PageKind::InodeTable, geometry.first_inode_page());
        let place = Place { kind, copy, page: page_no, uuid: options.uuid, birth, geometry };
        seal::seal(&mut page, &place, generation);
        target.write_at(geometry.page_offset(copy, geometry.first_inode_page()), &page)?;
    }
    target.barrier()?;

    for copy in [CopyId::B, CopyId::A] {
        target.write_at(geometry.copy_offset(copy), &superblock.page(copy))?;
        target.barrier()?;
    }
    Ok(superblock)
}

/// The birth of the new region: the one that was asked for, raised until no page that is left at a location of this
/// region has it. A page that is left of an older region with this identity would be taken for one of this region.
fn unused_birth<S: WriteAt>(target: &S, options: &FormatOptions) -> u64 {
    let geometry = options.geometry;
    let mut taken = std::collections::BTreeSet::new();
    let visit = |frame: &Frame<'_>| {
        for copy in CopyId::BOTH {
            let bytes = frame.bytes(copy);
            if PageHeader::of(bytes).uuid == options.uuid.into_bytes()
                && let Some((place, _)) = seal::claim(bytes)
                && taken.len() < MOST_BIRTHS
            {
                taken.insert(place.birth);
            }
        }
    };
    let identity = Identity { uuid: options.uuid, birth: options.birth, geometry: geometry.without_tail() };
    let pages = gmfs_format::native::units::to_u32(geometry.pages());
    sweep(target, &Superblocks::unseen(identity), 0..pages, vec![visit]);
    let mut birth = options.birth;
    while taken.contains(&birth) {
        birth = birth.wrapping_add(1);
    }
    birth
}

/// The maximum number of births of older regions with one UUID that are distinguished.
const MOST_BIRTHS: usize = 1 << 16;

/// The first superblock of the region.
fn superblock(options: &FormatOptions, birth: u64, generation: Generation) -> Superblock {
    let mut superblock = Superblock::new(options.geometry, options.uuid, birth, generation);
    let first = options.geometry.first_inode_page();
    superblock.set_group_sums(&group_sums(std::iter::once((first, generation))));
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
