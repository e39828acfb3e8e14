//! The block table: checks each descriptor by itself, and collects a tally for each file.
//!
//! The common case, a data block whose file block is higher than the previous one of its file, costs one look-up. If
//! the file blocks of a file ascend, they are distinct. If they do not, the next pass examines the file.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{BLOCKS_PER_PAGE, BlockRaw, BlockTablePage};
use gmfs_format::native::tables::{BLOCK_FLAGS, BlockState};
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PAGE_BYTES, PageBytes, len64, to_usize};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::Superblocks;
use gmfs_volume::census::Census;
use gmfs_volume::region::page_descriptors;
use gmfs_volume::sweep::{Frame, Visit, sweep};

use crate::finding::{Reason, Subject};
use crate::pass::inodes::{Inodes, Known};
use crate::pass::pages;
use crate::problem::{Mask, Problem};
use crate::sink::Sink;
use crate::standings::PageStandings;

/// Progress is reported after this many pages.
const PROGRESS_PAGES: u64 = 256;
/// The bytes of a page in both copies.
const PAIR_BYTES: u64 = 2 * PAGE_BYTES;
/// Fewer pages than this are not worth a second thread.
const PAGES_PER_THREAD: usize = 512;

/// A summary of the blocks that name a file: 16 bytes for each file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// The lowest file block so far, if there is one.
    lowest: u32,
    /// One past the highest file block so far.
    next: u32,
    /// How many blocks name the file.
    pub(crate) count: u32,
    /// The file's size in blocks; 0 for anything but a file.
    limit: u32,
}

impl Tally {
    /// The file blocks from the lowest to the highest.
    pub(crate) const fn places(&self) -> Range<u32> {
        self.lowest..self.next
    }
}

/// The results of the pass.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// By inode, in number order.
    pub(crate) tallies: Vec<Tally>,
    /// Files whose file blocks do not ascend with their blocks, so that two blocks may have one file block.
    pub(crate) disordered: Vec<InodeNo>,
    /// By inode: whether a block with a contradictory descriptor names it, so that its count is uncertain.
    pub(crate) doubtful: Vec<bool>,
    /// The number of blocks in each state, in the order of the states' numbers.
    states: [u64; 4],
    /// Blocks with contradictory descriptors. They do not count for any state.
    pub(crate) contradicting: u64,
    pub(crate) missing_pages: u64,
    pub(crate) recovery: bool,
    pub(crate) standings: PageStandings,
    pub(crate) census: Census,
}

impl Blocks {
    /// How many blocks are in a state.
    pub(crate) const fn in_state(&self, state: BlockState) -> u64 {
        let [free, data, bad, reserved] = self.states;
        match state {
            BlockState::Free => free,
            BlockState::Data => data,
            BlockState::Bad => bad,
            BlockState::Reserved => reserved,
        }
    }

    /// Counts blocks in a state. There are fewer than 2³² blocks in total.
    const fn count(&mut self, state: BlockState, blocks: u64) {
        let [free, data, bad, reserved] = &mut self.states;
        let count = match state {
            BlockState::Free => free,
            BlockState::Data => data,
            BlockState::Bad => bad,
            BlockState::Reserved => reserved,
        };
        *count = count.saturating_add(blocks);
    }
}

/// The part of the pass that one thread does.
struct Scan<'a> {
    superblocks: &'a Superblocks,
    inodes: &'a Inodes,
    geometry: Geometry,
    progress: &'a Progress<'a>,
    blocks: Blocks,
    disorder: Vec<bool>,
    seen: pages::Seen,
    pages: u64,
    sink: Sink,
}

/// The progress of all threads.
struct Progress<'a> {
    done: AtomicU64,
    total: u64,
    tell: &'a (dyn Fn(u64, u64) + Sync),
}

/// Checks all descriptors in the used part of the table.
pub(crate) fn check<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    inodes: &Inodes,
    threads: NonZeroUsize,
    tell: &(dyn Fn(u64, u64) + Sync),
    sink: &mut Sink,
) -> Blocks {
    let used = superblocks.current().used_table_pages();
    let total = len64(used.len()).saturating_mul(PAIR_BYTES);
    let progress = Progress { done: AtomicU64::new(0), total, tell };
    let parts = gmfs_io::in_order::threads_for(threads.get(), used.len() / PAGES_PER_THREAD);
    let scans = (0..parts).map(|_| Scan::new(superblocks, inodes, &progress, sink.keep())).collect();
    let mut whole = Blocks { tallies: limits(inodes), doubtful: vec![false; inodes.len()], ..Blocks::default() };
    let mut disorder = vec![false; inodes.len()];
    for scan in sweep(source, superblocks, used, scans) {
        merge(&mut whole, &mut disorder, scan, sink);
    }
    // Blocks of pages past the mark are free. The last page may describe fewer blocks than it has room for.
    let described = superblocks.current().raw.table_used.get().saturating_mul(u64::from(BLOCKS_PER_PAGE));
    whole.count(BlockState::Free, u64::from(superblocks.geometry().data_blocks()).saturating_sub(described));
    let disordered = (1..).map(InodeNo).zip(&disorder).filter(|(_, disorder)| **disorder);
    whole.disordered = disordered.map(|(ino, _)| ino).collect();
    whole
}

/// Empty tallies with the size of each file.
fn limits(inodes: &Inodes) -> Vec<Tally> {
    inodes.iter().map(|(_, record)| Tally { limit: record.size_blocks, ..Tally::default() }).collect()
}

/// Adds the part of a thread. It must follow what `whole` has already.
fn merge(whole: &mut Blocks, disorder: &mut [bool], scan: Scan<'_>, sink: &mut Sink) {
    for (((sum, part), disorder), in_part) in
        whole.tallies.iter_mut().zip(&scan.blocks.tallies).zip(disorder).zip(&scan.disorder)
    {
        sum.count = sum.count.saturating_add(part.count);
        if part.next > 0 {
            *disorder |= *in_part || part.lowest < sum.next;
            sum.lowest = if sum.next == 0 { part.lowest } else { sum.lowest.min(part.lowest) };
            sum.next = sum.next.max(part.next);
        }
    }
    for (doubtful, part) in whole.doubtful.iter_mut().zip(&scan.blocks.doubtful) {
        *doubtful |= part;
    }
    for state in BlockState::ALL {
        whole.count(state, scan.blocks.in_state(state));
    }
    whole.contradicting = whole.contradicting.saturating_add(scan.blocks.contradicting);
    whole.missing_pages = whole.missing_pages.saturating_add(scan.seen.missing);
    whole.recovery |= scan.seen.recovery;
    whole.standings = whole.standings.plus(scan.seen.standings);
    whole.census.append(scan.seen.census);
    sink.append(scan.sink);
}

impl<'a> Scan<'a> {
    fn new(superblocks: &'a Superblocks, inodes: &'a Inodes, progress: &'a Progress<'a>, keep: usize) -> Self {
        Self {
            superblocks,
            inodes,
            geometry: superblocks.geometry(),
            progress,
            blocks: Blocks { tallies: limits(inodes), doubtful: vec![false; inodes.len()], ..Blocks::default() },
            disorder: vec![false; inodes.len()],
            seen: pages::Seen::default(),
            pages: 0,
            sink: Sink::new(keep),
        }
    }

    /// Counts a block for its file. Returns false if the owner does not have that file block.
    fn tally(&mut self, owner: InodeNo, index: u32) -> bool {
        // Inode 0, which means no owner, gets an index past the end of any table. That saves a comparison for every
        // block.
        let position = to_usize(owner.0).wrapping_sub(1);
        let Some(tally) = self.blocks.tallies.get_mut(position).filter(|tally| index < tally.limit) else {
            return false;
        };
        if index >= tally.next {
            if tally.next == 0 {
                tally.lowest = index;
            }
            // The sum is exact, because the file block is below the limit.
            tally.next = index.saturating_add(1);
        } else {
            tally.lowest = tally.lowest.min(index);
            if let Some(disorder) = self.disorder.get_mut(position) {
                *disorder = true;
            }
        }
        tally.count = tally.count.saturating_add(1);
        true
    }

    /// Checks a descriptor that is neither free nor plain data.
    #[cold]
    fn check_closely(&mut self, block: BlockNo, entry: &BlockRaw) {
        let owner = entry.owner();
        let state = entry.state();
        let contradicts = matches!(state, None | Some(BlockState::Free));
        match state {
            Some(state) if !contradicts => self.blocks.count(state, 1),
            _ => self.blocks.contradicting = self.blocks.contradicting.saturating_add(1),
        }
        match state {
            None => self.say(block, Problem::BlockStateUnknown { state: entry.state }),
            Some(BlockState::Free) => self.say(block, Problem::FreeBlockNotEmpty { owner }),
            Some(BlockState::Data) if owner == InodeNo::NONE => self.say(block, Problem::DataBlockUnowned {}),
            Some(BlockState::Reserved) if owner != InodeNo::NONE => {
                self.say(block, Problem::ReservedBlockOwned { owner });
            }
            Some(BlockState::Bad) if owner != InodeNo::NONE => {
                self.say(block, Problem::BadBlockInFile { owner, index: entry.index.get() });
            }
            Some(_) => {}
        }
        if contradicts
            && let Some(doubtful) = owner.position().and_then(|position| self.blocks.doubtful.get_mut(position))
        {
            *doubtful = true;
        }
        let holds_place = contradicts || entry.is_mapping();
        if owner != InodeNo::NONE && holds_place && !self.tally(owner, entry.index.get()) {
            self.check_owner(block, owner, contradicts);
        }
        if !contradicts {
            self.check_rest(block, entry);
        }
    }

    /// Finds out why an owner does not have that file block.
    fn check_owner(&mut self, block: BlockNo, owner: InodeNo, contradicts: bool) {
        match self.inodes.get(owner).kind {
            // The contradiction has been reported. The owner is part of it.
            _ if contradicts => {}
            Known::Free => self.say(block, Problem::OwnerMissing { owner }),
            Known::Directory => self.say(block, Problem::OwnerNotFile { owner }),
            Known::File => {
                if let Some(tally) = owner.position().and_then(|position| self.blocks.tallies.get_mut(position)) {
                    tally.count = tally.count.saturating_add(1);
                }
                self.say(block, Problem::BlockPastSize { owner });
            }
            Known::Other | Known::Lost => {
                let (subject, at) = (Subject::Blocks { first: block, count: 1 }, self.descriptor_span(block));
                self.sink.skip(subject, at, Reason::MetadataMissing);
            }
        }
    }

    /// Flags and reserved bytes.
    fn check_rest(&mut self, block: BlockNo, entry: &BlockRaw) {
        let allowed = if entry.state() == Some(BlockState::Data) { BLOCK_FLAGS } else { 0 };
        if entry.flags & !allowed != 0 {
            self.say(block, Problem::BlockFlagsUnknown { flags: Mask(entry.flags.into()) });
        }
        if entry.reserved.get() != 0 {
            self.say(block, Problem::BlockReserved {});
        }
        if has_leftover(entry) {
            self.say(block, Problem::DescriptorLeftover {});
        }
    }

    fn say(&mut self, block: BlockNo, problem: Problem) {
        let at = self.descriptor_span(block);
        self.sink.add(problem, Subject::Blocks { first: block, count: 1 }, at);
    }

    /// Where a block is in the region.
    fn descriptor_span(&self, block: BlockNo) -> Span {
        Span::new(self.geometry.block_offset(block), self.geometry.block_bytes())
    }

    /// Checks slots of the last page that describe no block.
    fn check_unused_slots(&mut self, frame: &Frame<'_>, bytes: &PageBytes) {
        let used = page_descriptors(self.geometry, frame.page, bytes).count();
        let behind = BlockTablePage::view(bytes).entries.iter().skip(used);
        if behind.into_iter().any(|entry| *entry != BlockRaw::FREE) {
            let at = pages::span_of(self.superblocks, CopyId::A, frame.page);
            self.sink.add(Problem::BlockSlotPastEnd {}, pages::subject(self.superblocks, frame.page, None), at);
        }
    }
}

impl Visit for Scan<'_> {
    fn visit(&mut self, frame: &Frame<'_>) {
        pages::check(frame, self.superblocks, &mut self.seen, &mut self.sink);
        self.pages = self.pages.saturating_add(1);
        if self.pages.is_multiple_of(PROGRESS_PAGES) {
            const BYTES: u64 = PROGRESS_PAGES * PAIR_BYTES;
            let done = self.progress.done.fetch_add(BYTES, Ordering::Relaxed).saturating_add(BYTES);
            (self.progress.tell)(done, self.progress.total);
        }
        let Some(bytes) = frame.taken() else { return };
        let (mut free, mut data) = (0_u64, 0_u64);
        for (block, entry) in page_descriptors(self.geometry, frame.page, bytes) {
            // The cases are in order of their frequency.
            if entry.is_plain() && self.tally(entry.owner(), entry.index.get()) {
                data = data.saturating_add(1);
            } else if *entry == BlockRaw::FREE {
                free = free.saturating_add(1);
            } else if !entry.is_plain() && is_plain_data(entry) && self.tally(entry.owner(), entry.index.get()) {
                data = data.saturating_add(1);
            } else {
                self.check_closely(block, entry);
            }
        }
        self.blocks.count(BlockState::Free, free);
        self.blocks.count(BlockState::Data, data);
        if frame.page.0 == self.geometry.table_pages() {
            self.check_unused_slots(frame, bytes);
        }
    }
}

/// Whether a descriptor is that of a plain data block.
fn is_plain_data(entry: &BlockRaw) -> bool {
    entry.state == BlockState::Data.byte()
        && entry.flags & !BLOCK_FLAGS == 0
        && entry.reserved.get() == 0
        && (entry.crc.get() == 0 || entry.content_crc().is_some())
}

/// Whether a descriptor has a file block but no file, or a CRC that is not flagged as valid.
fn has_leftover(entry: &BlockRaw) -> bool {
    let unowned = entry.owner() == InodeNo::NONE;
    (unowned && entry.index.get() != 0) || (entry.crc.get() != 0 && entry.content_crc().is_none())
}
