//! A superblock made anew when both copies are lost: from the sealed pages of the tables. Each of them carries position,
//! copy, UUID, generation, and the layout of its region.

use std::ops::Range;

use gmfs_format::geometry::{Geometry, MAX_INODES};
use gmfs_format::io::ReadAt;
use gmfs_format::raw::{INODES_PER_PAGE, InodeTablePage};
use gmfs_format::seal::{PageKind, Place, claim};
use gmfs_format::superblock::Superblock;
use gmfs_format::tables::BlockState;
use gmfs_format::units::{CopyId, Generation, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, PmdShift, len64, small};
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
    // A superblock that is whole there is not lost: the source does not end where its region does.
    let is_whole = |copy| {
        let mut page = [0; PAGE_SIZE];
        source.read_at(geometry.copy_offset(copy), &mut page).is_ok() && Superblock::read(&page, copy).is_ok()
    };
    if CopyId::BOTH.into_iter().any(is_whole) {
        return None;
    }
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

/// Whether either copy of a page is anything but zeros, or cannot be read.
pub fn holds_something<S: ReadAt + ?Sized>(source: &S, geometry: Geometry, page: PageNo) -> bool {
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
        let place = Place { kind: geometry.page_kind(page)?, copy, page, uuid, geometry };
        let generation = gmfs_format::seal::check(&bytes, &place).ok()?;
        Some((bytes, generation))
    };
    match (read(CopyId::A), read(CopyId::B)) {
        (Some(a), Some(b)) => Some(if b.1 > a.1 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Pages read at once in the search for one that is left.
const BATCH: usize = 32;
/// So many bytes are searched page by page at the start, where copy A begins, and at the end, where copy B lies.
const SEARCHED: u64 = 16 << 20;
/// So many pages of one copy are enough to know whose they are.
const ENOUGH: u32 = 64;

/// A region that pages tell of.
#[derive(Debug)]
struct Candidate {
    uuid: Uuid,
    geometry: Geometry,
    /// When its root directory was made, in nanoseconds since the epoch, if that page is there: it is written by mkfs,
    /// and lies in both copies.
    made: Option<u64>,
    /// Whether the first page of the block table, which has its place in every layout, is its own.
    first: bool,
}

/// The layout of the region that the pages left in `source` tell of, and its UUID. Each sealed page says where it belongs
/// and how its region is laid out; only those that lie where they say count. `None` if there are none, or if what is left
/// is of several regions and nothing tells which is the newest.
#[must_use]
pub fn layout<S: ReadAt + ?Sized>(source: &S) -> Option<(Geometry, Uuid)> {
    let end = source.end()?;
    let mut found = Found::default();
    // Blocks begin where pages do; what lies behind the last whole page of the source is none.
    let whole = end / PAGE_BYTES * PAGE_BYTES;
    found.search(source, CopyId::A, 0..SEARCHED.min(whole));
    found.search(source, CopyId::B, whole.saturating_sub(SEARCHED)..whole);
    for pmd in PmdShift::ALL {
        found.probe(source, end, pmd);
    }
    let found = found.0;
    let candidates: Vec<Candidate> =
        found.into_iter().map(|(geometry, uuid)| candidate(source, geometry, uuid)).collect();
    let newest = newest_of(&candidates)?;
    // A tail behind the last block belongs to the region if nothing says otherwise.
    let Candidate { geometry, uuid, .. } = *newest;
    let same = end >> geometry.pmd().bits() == u64::from(geometry.blocks());
    let with_tail = || Geometry::recorded(end, geometry.pmd(), geometry.metadata_blocks().into(), geometry.inodes());
    Some((if same { with_tail()? } else { geometry }, uuid))
}

/// The regions that pages tell of.
#[derive(Default)]
struct Found(Vec<(Geometry, Uuid)>);

impl Found {
    /// Looks at every page in `range` as one of a copy, until that is enough.
    fn search<S: ReadAt + ?Sized>(&mut self, source: &S, copy: CopyId, range: Range<u64>) {
        let mut pages = vec![[0; PAGE_SIZE]; BATCH];
        let (mut at, mut proven) = (range.start, 0);
        while at < range.end && proven < ENOUGH {
            let count = small((range.end - at) / PAGE_BYTES).min(BATCH);
            let Some(batch) = pages.get_mut(..count).filter(|batch| !batch.is_empty()) else { return };
            let whole = source.read_at(at, batch.as_flattened_mut()).is_ok();
            for (offset, bytes) in (at..).step_by(PAGE_SIZE).zip(batch) {
                if whole || source.read_at(offset, bytes).is_ok() {
                    proven += u32::from(self.add(copy, offset, bytes));
                }
            }
            at += len64(count) * PAGE_BYTES;
        }
    }

    /// Looks where both tables begin in both copies, in every layout of a region that ends with the source, and for copy B
    /// of one that ends before it.
    fn probe<S: ReadAt + ?Sized>(&mut self, source: &S, end: u64, pmd: PmdShift) {
        // No copy is larger than this: the largest inode table, and sixteen bytes for each block.
        let largest = u64::from(MAX_INODES / INODES_PER_PAGE) * PAGE_BYTES + (end >> pmd.bits()) * 17 + (1 << 20);
        for metadata_blocks in 1..=largest.div_ceil(pmd.block_bytes()) {
            let Some(geometry) = Geometry::recorded(end, pmd, metadata_blocks, 1) else { continue };
            for copy in CopyId::BOTH {
                for page in [geometry.first_table_page(), geometry.first_inode_page()] {
                    let (mut bytes, offset) = ([0; PAGE_SIZE], geometry.page_offset(copy, page));
                    if source.read_at(offset, &mut bytes).is_ok() {
                        self.add(copy, offset, &bytes);
                    }
                }
            }
        }
    }

    /// Adds what a page tells, if it lies where it says.
    fn add(&mut self, copy: CopyId, offset: u64, bytes: &PageBytes) -> bool {
        let Some((place, _)) = claim(bytes).filter(|(place, _)| lies_there(place, copy, offset)) else { return false };
        if !self.0.contains(&(place.geometry, place.uuid)) {
            self.0.push((place.geometry, place.uuid));
        }
        true
    }
}

/// Whether a page of a table lies where it says that it belongs.
fn lies_there(place: &Place, copy: CopyId, offset: u64) -> bool {
    place.copy == copy
        && place.geometry.page_kind(place.page) == Some(place.kind)
        && place.geometry.page_offset(copy, place.page) == offset
}

/// What else is left of a region.
fn candidate<S: ReadAt + ?Sized>(source: &S, geometry: Geometry, uuid: Uuid) -> Candidate {
    let root = newest(source, geometry, uuid, geometry.first_inode_page());
    let made = root.and_then(|(bytes, _)| InodeTablePage::view(&bytes).inodes.first().map(|root| root.created.get()));
    let first = newest(source, geometry, uuid, geometry.first_table_page()).is_some();
    Candidate { uuid, geometry, made, first }
}

/// The region that was made last, where that is plain.
fn newest_of(candidates: &[Candidate]) -> Option<&Candidate> {
    let newest = candidates.iter().max_by_key(|candidate| candidate.made)?;
    let others = || candidates.iter().filter(|other| !std::ptr::eq(*other, newest));
    let in_doubt = |other: &Candidate| match (other.made, newest.made) {
        (Some(other), Some(newest)) => other == newest,
        // It may have lost the page that tells when it was made. Whose the first page of the table is was there last.
        (None, Some(_)) => other.first && !newest.first,
        _ => true,
    };
    (!others().any(in_doubt)).then_some(newest)
}
