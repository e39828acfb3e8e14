//! Lists of sessions and files: chains of blocks (7.2 and later), or arrays (until 7.1).

use std::collections::HashSet;

use gmfs_io::ReadAt;
use gmfs_io::num::{len64, small};
use zerocopy::FromBytes;

use super::Fault;
use super::raw::{FileRaw, SessionRaw};
use crate::kho::{PAGE, Page, is_page, read, word};

/// The kernel follows no more blocks.
const MAX_BLOCKS: u32 = 10_000;
/// Pages of the area with the sessions, until 7.1.
const AREA_PAGES: u64 = 16;
/// Pages of an array of files, until 7.1.
const ARRAY_PAGES: u64 = 2;

/// How sessions and files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// In arrays, 6.19 to 7.1.
    Arrays,
    /// In chains of blocks, from 7.2 on.
    Blocks,
}

/// Pages that lists were read from. Each is in one list; a second link to it is a fault, and is not followed, so that no
/// image can make a reader go over the same pages again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    seen: HashSet<u64>,
    trail: Vec<u64>,
}

impl Links {
    /// Marks the page that a link leads to.
    pub(super) fn follow(&mut self, holder: u64, at: u64) -> Result<(), Fault> {
        if !is_page(at) {
            return Err(Fault::BadLink { holder, value: at });
        }
        if !self.seen.insert(at) {
            return Err(Fault::Twice { holder, at });
        }
        self.trail.push(at);
        Ok(())
    }

    /// Whether a link led to this page.
    pub(super) fn has(&self, at: u64) -> bool {
        self.seen.contains(&at)
    }

    /// How many pages there are, for [`undo`](Self::undo).
    pub(super) const fn count(&self) -> usize {
        self.trail.len()
    }

    /// Forgets the pages that came after the first `count`.
    pub(super) fn undo(&mut self, count: usize) {
        for at in self.trail.drain(count.min(self.trail.len())..) {
            self.seen.remove(&at);
        }
    }

    fn page(&mut self, source: &dyn ReadAt, holder: u64, at: u64) -> Result<Page, Fault> {
        self.follow(holder, at)?;
        read(source, at).map_err(|_| Fault::Unreadable { at })
    }
}

/// An entry of a list.
pub(super) trait Listed: FromBytes + Copy {
    /// Its size in bytes.
    const SIZE: usize;
    /// Entries that fit into a block.
    const CAPACITY: u64;
}

impl Listed for SessionRaw {
    const SIZE: usize = 80;
    const CAPACITY: u64 = 51;
}

impl Listed for FileRaw {
    const SIZE: usize = 64;
    const CAPACITY: u64 = 63;
}

/// A list as far as it can be read.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    /// Each entry with the page that it is in.
    pub(super) entries: Vec<(u64, T)>,
    /// The pages of the list.
    pub(super) pages: Vec<u64>,
    /// Where it ended too early, or is odd.
    pub(super) faults: Vec<Fault>,
}

impl<T: Listed> List<T> {
    const fn empty() -> Self {
        Self { entries: Vec::new(), pages: Vec::new(), faults: Vec::new() }
    }

    fn add(&mut self, at: u64, bytes: &[u8], count: u64) {
        let entries = bytes.chunks_exact(T::SIZE).take(small(count));
        self.entries.extend(entries.filter_map(|bytes| Some((at, T::read_from_bytes(bytes).ok()?))));
    }
}

/// The chain of blocks that begins at `first`.
pub(super) fn chain<T: Listed>(source: &dyn ReadAt, links: &mut Links, first: u64) -> List<T> {
    let mut list = List::empty();
    let (mut holder, mut at) = (0, first);
    for _ in 0..MAX_BLOCKS {
        let page = match links.page(source, holder, at) {
            Ok(page) => page,
            Err(fault) => {
                list.faults.push(fault);
                return list;
            }
        };
        list.pages.push(at);
        let (next, count) = (word(&page, 0), word(&page, 8));
        if count == 0 || count > T::CAPACITY {
            list.faults.push(Fault::BadCount { at, count });
            return list;
        }
        list.add(at, page.get(16..).unwrap_or_default(), count);
        if next == 0 {
            return list;
        }
        if count < T::CAPACITY {
            list.faults.push(Fault::NotFull { at, count });
        }
        (holder, at) = (at, next);
    }
    list.faults.push(Fault::TooLong { at });
    list
}

/// The area with the sessions of 6.19 to 7.1. A count of 0 is an empty list: it is written by the reboot system call.
pub(super) fn area(source: &dyn ReadAt, links: &mut Links, at: u64) -> List<SessionRaw> {
    let mut list = List::empty();
    let head = links.follow(0, at).and_then(|()| read::<[u8; 8]>(source, at).map_err(|_| Fault::Unreadable { at }));
    let count = match head {
        Ok(head) => u64::from_le_bytes(head),
        Err(fault) => {
            list.faults.push(fault);
            return list;
        }
    };
    let bytes = AREA_PAGES.saturating_mul(PAGE);
    list.pages.extend((0..AREA_PAGES).map(|n| at.saturating_add(n.saturating_mul(PAGE))));
    let capacity = bytes.saturating_sub(8).checked_div(len64(SessionRaw::SIZE)).unwrap_or_default();
    if count > capacity {
        list.faults.push(Fault::BadCount { at, count });
        return list;
    }
    array(source, &mut list, at.saturating_add(8), count);
    list
}

/// The array with the files of a session of 6.19 to 7.1.
pub(super) fn files(source: &dyn ReadAt, links: &mut Links, at: u64, count: u64) -> List<FileRaw> {
    let mut list = List::empty();
    if let Err(fault) = links.follow(0, at) {
        list.faults.push(fault);
        return list;
    }
    let bytes = ARRAY_PAGES.saturating_mul(PAGE);
    list.pages.extend([at, at.saturating_add(PAGE)]);
    let capacity = bytes.checked_div(len64(FileRaw::SIZE)).unwrap_or_default();
    if count == 0 || count > capacity {
        list.faults.push(Fault::BadCount { at, count });
        return list;
    }
    array(source, &mut list, at, count);
    list
}

/// Entries one after another, as far as they can be read.
fn array<T: Listed>(source: &dyn ReadAt, list: &mut List<T>, first: u64, count: u64) {
    let mut entry = vec![0; T::SIZE];
    for n in 0..count {
        let at = first.saturating_add(n.saturating_mul(len64(T::SIZE)));
        if source.read_at(at, &mut entry).is_err() {
            list.faults.push(Fault::Unreadable { at: gmfs_io::num::round_down(at, PAGE) });
            return;
        }
        list.add(gmfs_io::num::round_down(at, PAGE), &entry, 1);
    }
}
