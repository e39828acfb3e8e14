//! The content of one commit: runs of descriptors, and inodes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage, SuperblockRaw};
use gmfs_format::native::seal::PageKind;
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::{BLOCK_FLAGS, BlockState};
use gmfs_format::native::units::{BlockNo, InodeNo, PageBytes, PageNo, len64, to_u32, to_usize};

use crate::owner_pages::OwnerPages;
use crate::region::page_descriptors;

/// What the blocks of a run become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assign {
    /// They belong to no file. A block with a hardware error stays bad and loses its owner.
    Release,
    /// Consecutive file blocks of a file. The first one is `index`.
    Data {
        /// The file.
        owner: InodeNo,
        /// The file block of the first block.
        index: u32,
    },
    /// Reserved: they belong to no file and are not allocated, because they may hold guest memory whose owner is lost.
    Reserve,
    /// They have a hardware error. Blocks that belong to a file still do.
    Bad,
    /// They have no hardware error any more: data again if they belong to a file, and reserved otherwise.
    Healed,
    /// Data of the file, and at the file block, that the descriptor names already.
    Confirm,
    /// Unchanged, except that invalid flags and reserved bytes become zero.
    Scrub,
}

impl Assign {
    /// The descriptor of the `n`th block of the run; `old` is its present descriptor. A block that would be past the
    /// last possible file block belongs to no file, and is not allocated.
    fn descriptor(self, n: u32, old: &BlockRaw) -> BlockRaw {
        match self {
            Self::Release if old.state() == Some(BlockState::Bad) => BlockRaw::NOBODYS_BAD,
            Self::Release => BlockRaw::FREE,
            Self::Data { owner, index } => {
                index.checked_add(n).map_or(BlockRaw::RESERVED, |index| BlockRaw::data(owner, index))
            }
            Self::Bad if old.is_mapping() => {
                BlockRaw { state: BlockState::Bad.byte(), flags: 0, crc: 0.into(), ..scrubbed(old) }
            }
            Self::Bad => BlockRaw::NOBODYS_BAD,
            Self::Healed if old.state() != Some(BlockState::Bad) => *old,
            Self::Healed if old.is_mapping() => BlockRaw { state: BlockState::Data.byte(), ..*old },
            Self::Healed => BlockRaw::RESERVED,
            // A block with a hardware error stays bad, and belongs to no file.
            Self::Reserve if old.state() == Some(BlockState::Bad) => BlockRaw::NOBODYS_BAD,
            Self::Reserve => BlockRaw::RESERVED,
            Self::Confirm => BlockRaw { state: BlockState::Data.byte(), ..scrubbed(old) },
            Self::Scrub => scrubbed(old),
        }
    }
}

/// A descriptor without the bits that are not defined in it.
fn scrubbed(old: &BlockRaw) -> BlockRaw {
    let allowed = if old.state() == Some(BlockState::Data) { BLOCK_FLAGS } else { 0 };
    let mut new = BlockRaw { flags: old.flags & allowed, reserved: 0.into(), ..*old };
    if new.content_crc().is_none() {
        new.crc = 0.into();
    }
    if new.owner() == InodeNo::NONE {
        new.index = 0.into();
    }
    new
}

/// The content of one commit. An empty one changes only the superblock.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Runs by their first block, each with its end. They are not empty and do not overlap.
    runs: BTreeMap<u32, (u32, Assign)>,
    inodes: BTreeMap<InodeNo, InodeRaw>,
    /// Pages that are rewritten although no entry on them changes.
    touched: BTreeSet<PageNo>,
    superblock: Option<SuperblockRaw>,
}

/// How many more blocks and inodes a change leaves in each state. Negative numbers mean fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// By [`BlockState`], in numerical order.
    pub blocks: [i64; 4],
    /// Inodes in use.
    pub inodes: i64,
}

/// Blocks that changes gave to files and took from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlocksMoved {
    /// How many were given to files.
    pub taken: u64,
    /// How many were taken from files.
    pub freed: u64,
}

impl Change {
    /// Assigns a run of blocks. It must not overlap another run of this change.
    pub fn assign(&mut self, blocks: Range<u32>, to: Assign) {
        if !blocks.is_empty() {
            self.runs.insert(blocks.start, (blocks.end, to));
        }
    }

    /// Writes a whole inode.
    pub fn set_inode(&mut self, ino: InodeNo, raw: InodeRaw) {
        self.inodes.insert(ino, raw);
    }

    /// Rewrites a page: the reserved bytes of its header and the slots after its last entry become zero.
    pub fn touch(&mut self, page: PageNo) {
        self.touched.insert(page);
    }

    /// Sets the fields of the superblock to those of `raw`. Counts that the change alters are altered starting from
    /// these. The layout must be that of the region.
    pub fn set_superblock(&mut self, raw: SuperblockRaw) {
        self.superblock = Some(raw);
    }

    /// How many blocks this change gives to files, and how many it takes from their owners.
    #[must_use]
    pub fn blocks_moved(&self) -> BlocksMoved {
        let count = |wanted: fn(Assign) -> bool| {
            let runs = self.runs.iter().filter(|(_, (_, to))| wanted(*to));
            runs.map(|(start, (end, _))| u64::from(end.saturating_sub(*start))).sum()
        };
        BlocksMoved { taken: count(|to| matches!(to, Assign::Data { .. })), freed: count(|to| to == Assign::Release) }
    }

    /// Adds the pages that will describe blocks of files to those that describe them now.
    pub(crate) fn add_owners(&self, geometry: Geometry, owners: &mut OwnerPages) {
        let page_of = |block: u32| geometry.descriptor_place(BlockNo(block)).map(|(page, _)| page.0);
        for (first, (end, to)) in &self.runs {
            if let Assign::Data { owner, .. } = to
                && let (Some(from), Some(to)) = (page_of(*first), end.checked_sub(1).and_then(page_of))
            {
                owners.add(*owner, from..to.saturating_add(1));
            }
        }
    }

    /// The fields of the superblock, without the effect of this change on counts and marks.
    pub(crate) const fn superblock(&self) -> Option<&SuperblockRaw> {
        self.superblock.as_ref()
    }

    /// The inode as this change writes it, if it does.
    #[must_use]
    pub fn inode(&self, ino: InodeNo) -> Option<&InodeRaw> {
        self.inodes.get(&ino)
    }

    /// The inodes that this change writes.
    pub fn inodes(&self) -> impl Iterator<Item = (InodeNo, &InodeRaw)> {
        self.inodes.iter().map(|(ino, raw)| (*ino, raw))
    }

    /// The pages to write, in order: those with changes, and all pages between a mark and a changed page past it.
    #[must_use]
    pub fn pages(&self, superblock: &Superblock) -> Vec<PageNo> {
        let geometry = superblock.geometry();
        let mut pages: Vec<u32> = self.touched.iter().map(|page| page.0).collect();
        let page_of = |block: u32| geometry.descriptor_place(BlockNo(block)).map(|(page, _)| page.0);
        for (first, (end, _)) in &self.runs {
            let last = end.checked_sub(1);
            if let (Some(from), Some(to)) = (page_of(*first), last.and_then(page_of)) {
                pages.extend(from..=to);
            }
        }
        for ino in self.inodes.keys() {
            pages.extend(geometry.inode_place(*ino).map(|(page, _)| page.0));
        }
        for used in [superblock.used_table_pages(), superblock.used_inode_pages()] {
            let kind = geometry.page_kind(PageNo(used.start));
            let same_table = |page: &u32| geometry.page_kind(PageNo(*page)) == kind;
            if let Some(last) = pages.iter().copied().filter(same_table).max() {
                pages.extend(used.end..=last);
            }
        }
        // Each commit writes the superblock by itself.
        pages.retain(|page| *page != 0);
        pages.sort_unstable();
        pages.dedup();
        pages.into_iter().map(PageNo).collect()
    }

    /// Changes the payload of one page, and adds the effect on the counts.
    pub fn apply(&self, geometry: Geometry, page: PageNo, bytes: &mut PageBytes, balance: &mut Balance) {
        match geometry.page_kind(page) {
            Some(PageKind::BlockTable) => self.apply_runs(geometry, page, bytes, balance),
            Some(PageKind::InodeTable) => self.apply_inodes(geometry, page, bytes, balance),
            Some(PageKind::Superblock) | None => {}
        }
    }

    fn apply_runs(&self, geometry: Geometry, page: PageNo, bytes: &mut PageBytes, balance: &mut Balance) {
        let first = geometry.first_block_of(page).0;
        let here = page_descriptors(geometry, page, bytes).count();
        let page_end = first.saturating_add(to_u32(len64(here)));
        let entries = &mut BlockTablePage::view_mut(bytes).entries;
        for entry in entries.iter_mut().skip(here) {
            *entry = BlockRaw::FREE;
        }
        let mut tally = |entry: &BlockRaw, by: i64| {
            if let Some(count) = balance.blocks.get_mut(usize::from(entry.state)) {
                *count = count.saturating_add(by);
            }
        };
        // A run that starts before the page may reach into it: the last run that starts at or before the page's first
        // block.
        let from = self.runs.range(..=first).next_back().map_or(first, |(start, _)| *start);
        for (start, (end, to)) in self.runs.range(from..page_end) {
            let blocks = (*start).max(first)..(*end).min(page_end);
            // The offset of the run in the page, and of the page in the run. One of the two is 0.
            let (slot, n) = (blocks.start.saturating_sub(first), blocks.start.saturating_sub(*start));
            let here = entries.iter_mut().skip(to_usize(slot)).take(blocks.len());
            for (n, entry) in (n..).zip(here) {
                let new = to.descriptor(n, entry);
                tally(entry, -1);
                tally(&new, 1);
                *entry = new;
            }
        }
    }

    fn apply_inodes(&self, geometry: Geometry, page: PageNo, bytes: &mut PageBytes, balance: &mut Balance) {
        let first = geometry.first_inode_of(page);
        let slots = InodeTablePage::view_mut(bytes).inodes.iter_mut();
        for (number, slot) in (first.0..).zip(slots) {
            if number > geometry.inodes() {
                *slot = zerocopy::FromZeros::new_zeroed();
            }
            if let Some(raw) = self.inodes.get(&InodeNo(number)) {
                let by = i64::from(raw.in_use()).saturating_sub(slot.in_use().into());
                balance.inodes = balance.inodes.saturating_add(by);
                *slot = *raw;
            }
        }
    }
}

/// A table page that was never written, without a seal: all its blocks or inodes are free.
#[must_use]
pub fn blank_page(geometry: Geometry, page: PageNo) -> PageBytes {
    let mut bytes = [0; gmfs_format::native::units::PAGE_SIZE];
    if geometry.page_kind(page) == Some(PageKind::InodeTable) {
        let first = geometry.first_inode_of(page).0;
        let slots = &mut InodeTablePage::view_mut(&mut bytes).inodes;
        for (number, slot) in (first..).zip(slots).take_while(|(number, _)| *number <= geometry.inodes()) {
            *slot = InodeRaw::free(InodeNo(number), 0);
        }
    }
    bytes
}
