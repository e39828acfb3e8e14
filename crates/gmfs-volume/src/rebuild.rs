//! A superblock made anew when both copies are lost: from the sealed pages of the tables, which carry position, copy,
//! UUID and generation, and from the size of what holds the region.

use gmfs_format::geometry::{Geometry, MAX_INODES};
use gmfs_format::io::ReadAt;
use gmfs_format::raw::{INODES_PER_PAGE, InodeTablePage};
use gmfs_format::seal::{PageKind, Place, claim};
use gmfs_format::superblock::Superblock;
use gmfs_format::tables::BlockState;
use gmfs_format::units::{CopyId, Generation, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, PmdShift};
use uuid::Uuid;

use crate::region::page_descriptors;
use crate::superblocks::{OpenError, Superblocks};

/// Loads the superblocks; if both are lost, makes one anew from what is left.
///
/// # Errors
/// There is no region, or too little left of one.
pub fn load<S: ReadAt + ?Sized>(source: &S) -> Result<Superblocks, OpenError> {
    match Superblocks::load(source) {
        Err(OpenError::NoRegion { a, b }) => match superblock(source) {
            Some(superblock) => Ok(Superblocks::rebuilt(*a, *b, superblock)),
            None => Err(OpenError::NoRegion { a, b }),
        },
        loaded => loaded,
    }
}

/// Rebuilds the superblock of the region that fills `source`, or gives `None` if too little of it is left.
///
/// Label, times and state are lost; counts and marks are counted anew.
#[must_use]
pub fn superblock<S: ReadAt + ?Sized>(source: &S) -> Option<Superblock> {
    let (geometry, uuid) = layout(source)?;
    let geometry = fewer_inodes(source, geometry, uuid).unwrap_or(geometry);
    let mut found = Superblock::new(geometry, uuid, Generation(1));
    let mut counts = [0_u64; 4];
    let (mut table_used, mut inodes_used, mut described, mut used_inodes) = (0_u64, 0_u64, 0_u64, 0_u64);
    for page in (1..geometry.pages()).filter_map(|page| u32::try_from(page).ok()).map(PageNo) {
        let Some((bytes, generation)) = newest(source, geometry, uuid, page) else {
            // What lies there may be a page that was lost with the superblocks. If it was never written, its blocks
            // are withheld for nothing; if it was, they hold guest memory.
            if holds_something(source, geometry, page) {
                let (mark, first) = match geometry.page_kind(page) {
                    Some(PageKind::BlockTable) => (&mut table_used, 0),
                    _ => (&mut inodes_used, geometry.table_pages()),
                };
                *mark = u64::from(page.0 - first);
            }
            continue;
        };
        found.generation = found.generation.max(generation);
        if geometry.page_kind(page) == Some(PageKind::BlockTable) {
            table_used = u64::from(page.0);
            for (_, entry) in page_descriptors(geometry, page, &bytes) {
                described += 1;
                if let Some(count) = entry.state().and_then(|state| counts.get_mut(usize::from(state.byte()))) {
                    *count += 1;
                }
            }
        } else {
            inodes_used = u64::from(page.0 - geometry.table_pages());
            let inodes = &InodeTablePage::view(&bytes).inodes;
            used_inodes += inodes.iter().filter(|inode| inode.in_use()).count() as u64;
        }
    }
    counts[usize::from(BlockState::Free.byte())] += u64::from(geometry.data_blocks()).saturating_sub(described);
    let [free, data, bad, reserved] = counts;
    let raw = &mut found.raw;
    raw.table_used = table_used.into();
    raw.inodes_used_pages = inodes_used.into();
    raw.used_inodes = used_inodes.into();
    (raw.free_blocks, raw.data_blocks) = (free.into(), data.into());
    (raw.bad_blocks, raw.reserved_blocks) = (bad.into(), reserved.into());
    Some(found)
}

/// The layout with fewer inodes, if the inode table is seen to end within a page: slots behind the last inode are zero,
/// while a free inode carries its number.
fn fewer_inodes<S: ReadAt + ?Sized>(source: &S, geometry: Geometry, uuid: Uuid) -> Option<Geometry> {
    let first = geometry.first_inode_page().0;
    for page in (first..first + geometry.inode_pages()).map(PageNo) {
        let Some((bytes, _)) = newest(source, geometry, uuid, page) else {
            continue;
        };
        let numbers = InodeTablePage::view(&bytes).inodes.iter().map(|inode| inode.number.get());
        let here = numbers.take_while(|number| *number != 0).count();
        if let 1..8 = here {
            let inodes = geometry.first_inode_of(page).0 + u32::try_from(here).ok()? - 1;
            let metadata_blocks = geometry.metadata_blocks().into();
            return Geometry::recorded(geometry.size(), geometry.pmd(), metadata_blocks, inodes);
        }
    }
    None
}

/// Whether either copy of a page is anything but zeros, or cannot be read.
fn holds_something<S: ReadAt + ?Sized>(source: &S, geometry: Geometry, page: PageNo) -> bool {
    CopyId::BOTH.into_iter().any(|copy| {
        let mut bytes = [0; PAGE_SIZE];
        let read = source.read_at(geometry.page_offset(copy, page), &mut bytes);
        read.is_err() || bytes.iter().any(|byte| *byte != 0)
    })
}

/// The page of a kind at a place, from whichever copy has the newer one.
fn newest<S: ReadAt + ?Sized>(
    source: &S,
    geometry: Geometry,
    uuid: Uuid,
    page: PageNo,
) -> Option<(PageBytes, Generation)> {
    let read = |copy| {
        let mut bytes = [0; PAGE_SIZE];
        source.read_at(geometry.page_offset(copy, page), &mut bytes).ok()?;
        let place = Place { kind: geometry.page_kind(page)?, copy, page, uuid };
        let generation = gmfs_format::seal::check(&bytes, &place).ok()?;
        Some((bytes, generation))
    };
    match (read(CopyId::A), read(CopyId::B)) {
        (Some(a), Some(b)) => Some(if b.1 > a.1 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The layout that explains the most of the pages found where it puts them.
fn layout<S: ReadAt + ?Sized>(source: &S) -> Option<(Geometry, Uuid)> {
    let size = source.end()?;
    let mut best: Option<(usize, Geometry, Uuid)> = None;
    for pmd in PmdShift::ALL {
        // No copy is larger than this: the largest inode table, and sixteen bytes for each block.
        let largest = u64::from(MAX_INODES / INODES_PER_PAGE) * PAGE_BYTES + (size >> pmd.bits()) * 17 + (1 << 20);
        for metadata_blocks in 1..=largest.div_ceil(pmd.block_bytes()) {
            let Some(geometry) = with_inodes(size, pmd, metadata_blocks) else {
                continue;
            };
            if let Some((score, uuid)) = evidence(source, geometry)
                && best.is_none_or(|(found, ..)| score > found)
            {
                best = Some((score, geometry, uuid));
            }
        }
    }
    best.map(|(_, geometry, uuid)| (geometry, uuid))
}

/// The layout with so many metadata blocks: with the usual number of inodes if that fits, else with as many as fit.
fn with_inodes(size: u64, pmd: PmdShift, metadata_blocks: u64) -> Option<Geometry> {
    let usual = Geometry::plan(size, pmd, Geometry::default_inodes(size, pmd)).ok();
    if let Some(usual) = usual.filter(|usual| u64::from(usual.metadata_blocks()) == metadata_blocks) {
        return Some(usual);
    }
    let smallest = Geometry::recorded(size, pmd, metadata_blocks, 1)?;
    let room = metadata_blocks * (pmd.block_bytes() / PAGE_BYTES);
    let pages = room.checked_sub(1 + u64::from(smallest.table_pages()))?;
    let inodes = (pages * u64::from(INODES_PER_PAGE)).min(u64::from(MAX_INODES));
    Geometry::recorded(size, pmd, metadata_blocks, u32::try_from(inodes).ok()?)
}

/// How many of the first pages of both tables lie in both copies where this layout puts them; copy B's count, for its
/// place depends on everything. `None` if nothing proves it.
fn evidence<S: ReadAt + ?Sized>(source: &S, geometry: Geometry) -> Option<(usize, Uuid)> {
    // A superblock that is whole there is not lost: it belongs to a region laid out otherwise, which lies elsewhere.
    let whole = |copy| {
        let mut page = [0; PAGE_SIZE];
        source.read_at(geometry.copy_offset(copy), &mut page).is_ok() && Superblock::read(&page, copy).is_ok()
    };
    if CopyId::BOTH.into_iter().any(whole) {
        return None;
    }
    let mut uuid = None;
    let mut score = 0;
    let mut proof = false;
    for copy in [CopyId::B, CopyId::A] {
        for page in [geometry.first_inode_page(), geometry.first_table_page()] {
            let mut bytes = [0; PAGE_SIZE];
            if source.read_at(geometry.page_offset(copy, page), &mut bytes).is_err() {
                continue;
            }
            let Some((place, _)) = claim(&bytes) else {
                continue;
            };
            let fits = (place.copy, place.page, Some(place.kind)) == (copy, page, geometry.page_kind(page));
            if fits && *uuid.get_or_insert(place.uuid) == place.uuid {
                score += 1;
                proof |= copy == CopyId::B || place.kind == PageKind::InodeTable;
            }
        }
    }
    uuid.filter(|_| proof).map(|uuid| (score, uuid))
}
