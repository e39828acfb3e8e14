//! What one commit changes: runs of descriptors, and inodes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage, SuperblockRaw};
use gmfs_format::native::seal::PageKind;
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::{BLOCK_FLAGS, BlockState};
use gmfs_format::native::units::{BlockNo, InodeNo, PageBytes, PageNo, len64, to_u32, to_usize};

use crate::region::page_descriptors;

/// What a run of descriptors becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assign {
    /// Nobody's. A block with a hardware error stays bad, and loses its owner.
    Release,
    /// Consecutive places of a file, the first of which is `index`.
    Data {
        /// The file.
        owner: InodeNo,
        /// Place of the first block.
        index: u32,
    },
    /// Withheld from allocation and nobody's: what it holds may be guest memory whose owner is lost.
    Reserve,
    /// With a hardware error; a block that is a file's stays its.
    Bad,
    /// No longer with a hardware error: a file's data again, or, as nobody's, reserved.
    Healed,
    /// Data of the file and at the place that the descriptor names already.
    Confirm,
    /// As it is, less flags that do not fit and reserved bytes.
    Scrub,
}

impl Assign {
    /// The descriptor of the `n`th block of the run, which was `old`. One that would be behind the last place that a file
    /// can have is nobody's, and is not given out.
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
            // A block with a hardware error stays bad, and nobody's.
            Self::Reserve if old.state() == Some(BlockState::Bad) => BlockRaw::NOBODYS_BAD,
            Self::Reserve => BlockRaw::RESERVED,
            Self::Confirm => BlockRaw { state: BlockState::Data.byte(), ..scrubbed(old) },
            Self::Scrub => scrubbed(old),
        }
    }
}

/// A descriptor less what is not defined in it.
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

/// The content of one commit. An empty one changes nothing but the superblock.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Runs by their first block, each with one past its last; they are not empty, and do not overlap.
    runs: BTreeMap<u32, (u32, Assign)>,
    inodes: BTreeMap<InodeNo, InodeRaw>,
    /// Pages to write anew though no entry on them changes.
    touched: BTreeSet<PageNo>,
    superblock: Option<SuperblockRaw>,
}

/// How many blocks and inodes a change puts into each state, less those it takes out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// By [`BlockState`], in the order of their numbers.
    pub blocks: [i64; 4],
    /// Inodes in use.
    pub inodes: i64,
}

/// Blocks that changes gave to files and took from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlocksMoved {
    /// Given to files.
    pub taken: u64,
    /// Taken from files.
    pub freed: u64,
}

impl Change {
    /// Assigns a run of blocks. It must not overlap another run of this change.
    pub fn assign(&mut self, blocks: Range<u32>, to: Assign) {
        if !blocks.is_empty() {
            self.runs.insert(blocks.start, (blocks.end, to));
        }
    }

    /// Writes an inode whole.
    pub fn set_inode(&mut self, ino: InodeNo, raw: InodeRaw) {
        self.inodes.insert(ino, raw);
    }

    /// Writes a page anew: its header's reserved bytes and the slots behind its last entry become zero.
    pub fn touch(&mut self, page: PageNo) {
        self.touched.insert(page);
    }

    /// Writes the superblock's fields as in `raw`. Counts that the change itself alters are altered on top of these; the
    /// layout must be the region's.
    pub fn set_superblock(&mut self, raw: SuperblockRaw) {
        self.superblock = Some(raw);
    }

    /// How many blocks this change gives to files, and how many it takes from whoever had them.
    #[must_use]
    pub fn blocks_moved(&self) -> BlocksMoved {
        let count = |wanted: fn(Assign) -> bool| {
            let runs = self.runs.iter().filter(|(_, (_, to))| wanted(*to));
            runs.map(|(start, (end, _))| u64::from(end.saturating_sub(*start))).sum()
        };
        BlocksMoved { taken: count(|to| matches!(to, Assign::Data { .. })), freed: count(|to| to == Assign::Release) }
    }

    /// The superblock's fields before counts and marks are brought up to this change.
    pub(crate) const fn superblock(&self) -> Option<&SuperblockRaw> {
        self.superblock.as_ref()
    }

    /// The inode as this change leaves it, if it touches it.
    #[must_use]
    pub fn inode(&self, ino: InodeNo) -> Option<&InodeRaw> {
        self.inodes.get(&ino)
    }

    /// The inodes that this change writes.
    pub fn inodes(&self) -> impl Iterator<Item = (InodeNo, &InodeRaw)> {
        self.inodes.iter().map(|(ino, raw)| (*ino, raw))
    }

    /// The pages to write, in order: those that hold what changes, and, where that lies behind a mark, those between.
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
        // The superblock is written by each commit, and by nothing else.
        pages.retain(|page| *page != 0);
        pages.sort_unstable();
        pages.dedup();
        pages.into_iter().map(PageNo).collect()
    }

    /// Changes one page's payload; adds what that does to the counts.
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
        // A run that starts before the page may reach into it: the last one that starts at or before its first block.
        let from = self.runs.range(..=first).next_back().map_or(first, |(start, _)| *start);
        for (start, (end, to)) in self.runs.range(from..page_end) {
            let blocks = (*start).max(first)..(*end).min(page_end);
            // How far into the page the run begins, and how far into the run the page does: one of the two is 0.
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

/// A table page that has never been written, unsealed: every block, every inode free.
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
