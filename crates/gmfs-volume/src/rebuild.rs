//! Rebuilds a superblock from the sealed pages of the tables if both copies of it are lost. Each page records its
//! position, copy, UUID, generation, and the layout of its region.

use std::ops::Range;

use gmfs_format::native::geometry::{Geometry, MAX_INODES};
use gmfs_format::native::raw::{INODES_PER_PAGE, InodeTablePage, SuperblockRaw};
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PmdShift, len64, round_down, small};
use gmfs_io::ReadAt;
use uuid::Uuid;

use crate::census::Identity;
use crate::region::page_descriptors;
use crate::superblocks::{OpenError, Superblocks};
use crate::sweep::{Frame, sweep};

/// Loads the superblocks. If both are lost, it rebuilds one from what is left.
///
/// # Errors
/// There is no region, or too little is left of it.
pub fn load_or_rebuild<S: ReadAt + ?Sized>(source: &S) -> Result<Superblocks, OpenError> {
    Superblocks::load_any(source, None)
}

/// The fields of the current superblock, with blocks and inodes counted again.
pub(crate) fn counted<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks) -> SuperblockRaw {
    let superblock = superblocks.current();
    let geometry = superblock.geometry();
    let mut counts = [0_u64; 4];
    let (mut described, mut used_inodes, mut created) = (0_u64, 0_u64, 0_u64);
    let visit = |frame: &Frame<'_>| {
        let Some(bytes) = frame.taken() else { return };
        for (_, entry) in page_descriptors(geometry, frame.page, bytes) {
            described = described.saturating_add(1);
            if let Some(count) = entry.state().and_then(|state| counts.get_mut(usize::from(state.byte()))) {
                *count = count.saturating_add(1);
            }
        }
    };
    sweep(source, superblocks, superblock.used_table_pages(), vec![visit]);
    let visit = |frame: &Frame<'_>| {
        let Some(bytes) = frame.taken() else { return };
        let inodes = &InodeTablePage::view(bytes).inodes;
        used_inodes = used_inodes.saturating_add(len64(inodes.iter().filter(|inode| inode.in_use()).count()));
        if frame.page == geometry.first_inode_page() {
            created = inodes.first().map_or(0, |root| root.created.get());
        }
    };
    sweep(source, superblocks, superblock.used_inode_pages(), vec![visit]);
    let [free, data, bad, reserved] = counts;
    // Blocks that no page describes are free.
    let free = free.saturating_add(u64::from(geometry.data_blocks()).saturating_sub(described));
    let mut raw = superblock.raw;
    if raw.created.get() == 0 {
        raw.created = created.into();
    }
    raw.used_inodes = used_inodes.into();
    (raw.free_blocks, raw.data_blocks) = (free.into(), data.into());
    (raw.bad_blocks, raw.reserved_blocks) = (bad.into(), reserved.into());
    raw
}

/// How many pages are read at once in the search for one that is left.
const BATCH: usize = 32;
/// How many bytes are searched page by page at the start, where copy A begins, and at the end, where copy B is.
const SEARCHED: u64 = 16 << 20;
/// This many pages of one copy are enough to identify the region.
const ENOUGH: u32 = 64;

/// The regions that pages left in `source` belong to. Each sealed page records its location and the layout of its
/// region. Only pages at the location that they record count.
pub(crate) fn identities<S: ReadAt + ?Sized>(source: &S) -> Vec<Identity> {
    let mut found = Found::default();
    let Some(end) = source.end() else { return found.regions };
    // Blocks start at page boundaries. A partial page at the end of the source is not one.
    let whole = round_down(end, PAGE_BYTES);
    found.search(source, CopyId::A, 0..SEARCHED.min(whole));
    found.search(source, CopyId::B, whole.saturating_sub(SEARCHED)..whole);
    for pmd in PmdShift::ALL {
        found.probe(source, end, pmd);
    }
    found.regions
}

/// The layout of the region that the pages left in `source` belong to, and its UUID; `None` if there are no pages, or
/// if they are of several regions.
#[must_use]
pub fn layout<S: ReadAt + ?Sized>(source: &S) -> Option<(Geometry, Uuid)> {
    match identities(source).as_slice() {
        [only] => Some((only.geometry, only.uuid)),
        _ => None,
    }
}

/// The maximum size of a copy in bytes, without rounding, in an image with this end: the largest inode table, and 17
/// bytes for each block.
pub(crate) fn largest_copy(end: u64, pmd: PmdShift) -> u64 {
    let inode_bytes = u64::from(MAX_INODES / INODES_PER_PAGE).saturating_mul(PAGE_BYTES);
    (end >> pmd.bits()).saturating_mul(17).saturating_add(inode_bytes)
}

/// The regions that pages belong to.
#[derive(Default)]
struct Found {
    regions: Vec<Identity>,
    /// Ranges of the source that are known to be holes. They are not read.
    holes: Vec<Range<u64>>,
    /// How often a source was asked for a hole and reported none.
    vain: u32,
}

/// The maximum number of holes that are kept: those before and after copy A, after copy B, and some between.
const MOST_HOLES: usize = 16;

/// A source that has reported no hole this often is not asked again.
const MOST_VAIN: u32 = 64;

/// The maximum number of regions that are distinguished.
const MOST: usize = 32;

impl Found {
    /// Examines every page in `range` as a page of a copy, until enough have been found.
    fn search<S: ReadAt + ?Sized>(&mut self, source: &S, copy: CopyId, range: Range<u64>) {
        let mut pages = vec![[0; PAGE_SIZE]; BATCH];
        let (mut at, mut proven) = (range.start, 0_u32);
        while at < range.end && proven < ENOUGH {
            let count = small(range.end.saturating_sub(at) / PAGE_BYTES).min(BATCH);
            let Some(batch) = pages.get_mut(..count).filter(|batch| !batch.is_empty()) else { return };
            if let Some(hole) = self.hole_at(at) {
                at = hole.end;
                continue;
            }
            let whole = source.read_at(at, batch.as_flattened_mut()).is_ok();
            for (offset, bytes) in (at..).step_by(PAGE_SIZE).zip(batch.iter_mut()) {
                if whole || source.read_at(offset, bytes).is_ok() {
                    proven = proven.saturating_add(u32::from(self.add(copy, offset, bytes)));
                }
            }
            if whole && batch.iter().all(|page| *page == [0; PAGE_SIZE]) {
                self.learn(source, at);
            }
            // The search does not pass the end of the range.
            at = at.saturating_add(len64(count).saturating_mul(PAGE_BYTES));
        }
    }

    /// Searches where both tables begin in both copies, for each layout of a region that ends with the source, and for
    /// copy B of a region that ends before it.
    fn probe<S: ReadAt + ?Sized>(&mut self, source: &S, end: u64, pmd: PmdShift) {
        // No copy is larger than this.
        let largest = largest_copy(end, pmd).saturating_add(1 << 20);
        for metadata_blocks in 1..=largest.div_ceil(pmd.block_bytes()) {
            let Some(geometry) = Geometry::recorded(end, pmd, metadata_blocks, 1) else { continue };
            for copy in CopyId::BOTH {
                for page in [geometry.first_table_page(), geometry.first_inode_page()] {
                    let (mut bytes, offset) = ([0; PAGE_SIZE], geometry.page_offset(copy, page));
                    if self.hole_at(offset).is_some() || source.read_at(offset, &mut bytes).is_err() {
                        continue;
                    }
                    self.add(copy, offset, &bytes);
                    if bytes == [0; PAGE_SIZE] {
                        self.learn(source, offset);
                    }
                }
            }
        }
    }

    fn hole_at(&self, offset: u64) -> Option<&Range<u64>> {
        self.holes.iter().find(|hole| hole.contains(&offset))
    }

    /// Asks the source for the end of the hole around a page of zeros, if it is in one. It stops asking at some point,
    /// because many sources do not know their holes, and the answer may cost more than reading the page.
    fn learn<S: ReadAt + ?Sized>(&mut self, source: &S, offset: u64) {
        let Some(end) = source.end().filter(|_| self.vain < MOST_VAIN) else { return };
        let next = match source.next_data(offset..end) {
            Ok(None) => end,
            Ok(Some(data)) => data.start,
            Err(_) => offset,
        };
        if next > offset.saturating_add(PAGE_BYTES) {
            if self.holes.len() >= MOST_HOLES {
                self.holes.remove(0);
            }
            self.holes.push(offset..round_down(next, PAGE_BYTES));
        } else {
            self.vain = self.vain.saturating_add(1);
        }
    }

    /// Adds the region that a page belongs to, if the page is at the location that it records.
    fn add(&mut self, copy: CopyId, offset: u64, bytes: &PageBytes) -> bool {
        let Some((identity, _, _)) = Identity::claimed(bytes, offset).filter(|(_, of, _)| *of == copy) else {
            return false;
        };
        if !self.regions.contains(&identity) && self.regions.len() < MOST {
            self.regions.push(identity);
        }
        true
    }
}
