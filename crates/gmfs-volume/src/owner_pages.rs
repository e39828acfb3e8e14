//! Where the descriptors of each file are: the format has no index by file, so that without this each question about one
//! file passes over the whole block table.

use std::ops::Range;

use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::units::{BlockNo, InodeNo, PageNo};

use crate::by_inode::ByInode;

/// For each file, the pages of the block table from the first to the last one that may describe a block of it. It is
/// never too short; it stays as long as it was when blocks are freed.
#[derive(Clone, Debug)]
pub(crate) struct OwnerPages {
    /// The highest number of an inode. Others, which only damaged descriptors name, are not kept.
    highest: InodeNo,
    pages: ByInode<Range<u32>>,
}

impl OwnerPages {
    /// Without any descriptor, for a region that has so many inodes.
    pub(crate) fn new(inodes: u32) -> Self {
        Self { highest: InodeNo(inodes), pages: ByInode::default() }
    }

    /// Adds the owners of a page's descriptors.
    pub(crate) fn add_page<'e>(&mut self, page: PageNo, entries: impl Iterator<Item = (BlockNo, &'e BlockRaw)>) {
        let mut last = InodeNo::NONE;
        for (_, entry) in entries.filter(|(_, entry)| entry.is_mapping()) {
            // Neighbours mostly have one owner.
            if entry.owner() != last {
                last = entry.owner();
                self.add(last, page.0..page.0.saturating_add(1));
            }
        }
    }

    /// Adds pages that describe blocks of a file.
    pub(crate) fn add(&mut self, owner: InodeNo, pages: Range<u32>) {
        if owner <= self.highest
            && let Some(known) = self.pages.get_or_insert_with(owner, || pages.clone())
        {
            *known = known.start.min(pages.start)..known.end.max(pages.end);
        }
    }

    /// The pages that may describe blocks of one of these files, each once, in rising order. `None` if that is not known.
    pub(crate) fn of(&self, inos: &[InodeNo]) -> Option<Vec<Range<u32>>> {
        if inos.iter().any(|ino| *ino > self.highest) {
            return None;
        }
        let mut all: Vec<Range<u32>> = inos.iter().filter_map(|ino| self.pages.get(*ino).cloned()).collect();
        all.sort_unstable_by_key(|pages| pages.start);
        let mut merged: Vec<Range<u32>> = Vec::new();
        for pages in all {
            match merged.last_mut().filter(|last| last.end >= pages.start) {
                Some(last) => last.end = last.end.max(pages.end),
                None => merged.push(pages),
            }
        }
        Some(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_several_files_are_named_once() {
        let mut pages = OwnerPages::new(9);
        for (owner, start, end) in [(1, 7, 8), (2, 3, 4), (1, 5, 6), (3, 8, 9), (4, 20, 21), (2, 3, 4), (10, 1, 2)] {
            pages.add(InodeNo(owner), start..end);
        }
        let of = |inos: &[u32]| pages.of(&inos.iter().copied().map(InodeNo).collect::<Vec<_>>());
        assert_eq!(of(&[1, 4]).unwrap(), [5..8, 20..21]);
        assert_eq!(of(&[4, 3, 1, 2, 9, 1]).unwrap(), [3..4, 5..9, 20..21]);
        assert_eq!(of(&[9]).unwrap(), []);
        assert_eq!(of(&[1, 10]), None);
    }
}
