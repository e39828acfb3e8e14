//! Table pages behind the marks that are in use all the same: what a writer leaves that fills pages and does not move
//! the marks.
//!
//! Pages behind a mark may hold anything, also good pages of an older region with the same UUID. `docs/FORMAT.md`,
//! "Decisions", says what such a page must be to prove that it is this region's.

use std::ops::Range;

use gmfs_format::copies::Found;
use gmfs_format::geometry::Geometry;
use gmfs_format::io::ReadAt;
use gmfs_format::raw::{BlockRaw, InodeTablePage};
use gmfs_format::seal::PageKind;
use gmfs_format::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, len64};

use crate::region::page_descriptors;
use crate::superblocks::{OpenError, Superblocks, same_payload, used_tables};
use crate::sweep::read_batch;

/// Pages that are looked at right behind a mark, and behind each page that is found.
const WINDOW: u32 = 16;

/// The pages behind the marks that are this region's and hold something, as runs in their order.
///
/// Costs two reads of a few pages for each table, whatever the region's size. What is absent or cannot be read is no
/// evidence of anything.
pub fn used_behind_marks<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    let Some(floor) = floor(superblocks) else { return runs };
    let geometry = superblocks.geometry();
    for (kind, used) in used_tables(superblocks.current()) {
        let end = match kind {
            PageKind::BlockTable => geometry.first_inode_page().0,
            _ => geometry.first_inode_page().0.saturating_add(geometry.inode_pages()),
        };
        let (mut from, first) = (used.end, runs.len());
        let mut limit = from.saturating_add(WINDOW).min(end);
        while from < limit {
            for page in evidence(source, superblocks, from..limit, floor) {
                // Not those of the other table, which may end where this one begins.
                match runs.get_mut(first..).and_then(<[_]>::last_mut) {
                    Some(run) if run.end == page => run.end += 1,
                    _ => runs.push(page..page + 1),
                }
            }
            from = limit;
            let found = runs.get(first..).and_then(<[_]>::last).map_or(0, |run| run.end);
            limit = limit.max(found.saturating_add(WINDOW).min(end));
        }
    }
    runs.sort_unstable_by_key(|run| run.start);
    runs
}

/// Refuses to go on where pages behind the marks are in use: what they own looks free, and would be given out.
///
/// # Errors
/// [`OpenError::BehindMarks`].
pub fn require_none<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks) -> Result<(), OpenError> {
    let runs = used_behind_marks(source, superblocks);
    match runs.first() {
        Some(run) => {
            let pages = runs.iter().map(|run| len64(run.len())).sum();
            Err(OpenError::BehindMarks { pages, first: PageNo(run.start) })
        }
        None => Ok(()),
    }
}

/// The generation above which no page can be older than this region. Each commit takes at least one generation and is
/// counted, and a region starts above every older one with its UUID that is seen when it is made.
fn floor(superblocks: &Superblocks) -> Option<Generation> {
    let commits = superblocks.current().raw.write_count.get();
    let floor = superblocks.committed().0.checked_sub(commits)?;
    // A region's first superblock has a generation of its own: fewer are left only by a count that lies.
    (floor > 0 && commits > 0).then_some(Generation(floor))
}

/// The pages of a range, all of one table, that prove themselves.
fn evidence<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    pages: Range<u32>,
    floor: Generation,
) -> Vec<u32> {
    let count = pages.len();
    let mut a = vec![[0; PAGE_SIZE]; count];
    let in_a = read_batch(source, superblocks, CopyId::A, PageNo(pages.start), &mut a);
    let current = |found: &Found| {
        let counts = |generation: &Generation| *generation > floor && *generation <= superblocks.committed();
        found.generation().filter(counts)
    };
    if in_a.iter().all(|found| current(found).is_none()) {
        return Vec::new();
    }
    let mut b = vec![[0; PAGE_SIZE]; count];
    let in_b = read_batch(source, superblocks, CopyId::B, PageNo(pages.start), &mut b);
    let pairs = pages.zip(in_a.iter().zip(&in_b)).zip(a.iter().zip(&b));
    let proven = pairs.filter(|((page, (in_a, in_b)), (a, b))| {
        let generation = current(in_a);
        generation.is_some()
            && generation == current(in_b)
            && same_payload(a, b)
            && holds_something(superblocks.geometry(), PageNo(*page), a)
    });
    proven.map(|((page, _), _)| page).collect()
}

/// Whether a table page has an entry that is not free.
#[must_use]
pub fn holds_something(geometry: Geometry, page: PageNo, bytes: &PageBytes) -> bool {
    match geometry.page_kind(page) {
        Some(PageKind::BlockTable) => {
            page_descriptors(geometry, page, bytes).any(|(_, entry)| *entry != BlockRaw::FREE)
        }
        Some(PageKind::InodeTable) => {
            let numbered = (geometry.first_inode_of(page).0..).zip(&InodeTablePage::view(bytes).inodes);
            numbered.take_while(|(number, _)| *number <= geometry.inodes()).any(|(_, inode)| inode.in_use())
        }
        Some(PageKind::Superblock) | None => false,
    }
}
