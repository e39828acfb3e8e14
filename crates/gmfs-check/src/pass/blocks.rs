//! The block table: each descriptor by itself, and a tally for each file.
//!
//! The common case, a data block at a rising place of its file, costs one look-up. That the places of a file are
//! distinct follows from their rising; where they do not rise, the next pass looks closer.

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

/// Pages between two words about progress.
const PROGRESS_PAGES: u64 = 256;
/// Bytes of a page in both copies.
const PAIR_BYTES: u64 = 2 * PAGE_BYTES;
/// Fewer pages than this are not worth a second thread.
const PAGES_PER_THREAD: usize = 512;

/// What names a file, summed up: 16 bytes a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// The lowest place so far, if there is a block.
    lowest: u32,
    /// One past the highest place so far.
    next: u32,
    /// Blocks that name the file.
    pub(crate) count: u32,
    /// The file's size in blocks; 0 for what is no file.
    limit: u32,
}

impl Tally {
    /// The places between the lowest and the highest that the file has, both included.
    pub(crate) const fn places(&self) -> Range<u32> {
        self.lowest..self.next
    }
}

/// What the pass has established.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// By inode, in the order of their numbers.
    pub(crate) tallies: Vec<Tally>,
    /// Files whose places do not rise with their blocks, and may hold a place twice.
    pub(crate) disordered: Vec<InodeNo>,
    /// By inode: whether a block that contradicts itself names it, so that nobody knows whether it counts.
    pub(crate) doubtful: Vec<bool>,
    /// Blocks by state, in the order of the states' numbers.
    states: [u64; 4],
    /// Blocks whose descriptor contradicts itself, so that they count for no state.
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

    /// Counts blocks in a state. There are fewer than 2³² in all.
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

/// One thread's part of the pass.
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

/// How far all threads have come.
struct Progress<'a> {
    done: AtomicU64,
    total: u64,
    tell: &'a (dyn Fn(u64, u64) + Sync),
}

/// Checks every descriptor of the used part.
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
    let parts = threads.get().min(used.len() / PAGES_PER_THREAD).max(1);
    let scans = (0..parts).map(|_| Scan::new(superblocks, inodes, &progress, sink.keep())).collect();
    let mut whole = Blocks { tallies: limits(inodes), doubtful: vec![false; inodes.len()], ..Blocks::default() };
    let mut disorder = vec![false; inodes.len()];
    for scan in sweep(source, superblocks, used, scans) {
        merge(&mut whole, &mut disorder, scan, sink);
    }
    // Pages behind the mark are free. The last page may describe fewer blocks than there is room for.
    let described = superblocks.current().raw.table_used.get().saturating_mul(u64::from(BLOCKS_PER_PAGE));
    whole.count(BlockState::Free, u64::from(superblocks.geometry().data_blocks()).saturating_sub(described));
    let disordered = (1..).map(InodeNo).zip(&disorder).filter(|(_, disorder)| **disorder);
    whole.disordered = disordered.map(|(ino, _)| ino).collect();
    whole
}

/// Empty tallies with the files' limits.
fn limits(inodes: &Inodes) -> Vec<Tally> {
    inodes.iter().map(|(_, record)| Tally { limit: record.size_blocks, ..Tally::default() }).collect()
}

/// Adds a thread's part, which lies behind what `whole` has already.
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

    /// Counts a block for its file. Gives false if the owner has no such place.
    fn tally(&mut self, owner: InodeNo, index: u32) -> bool {
        // No inode (0) gets a position that no table has: that spares every block a comparison.
        let position = to_usize(owner.0).wrapping_sub(1);
        let Some(tally) = self.blocks.tallies.get_mut(position).filter(|tally| index < tally.limit) else {
            return false;
        };
        if index >= tally.next {
            if tally.next == 0 {
                tally.lowest = index;
            }
            // Exact: the place lies before the limit.
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

    /// Everything that is not plainly free and not plainly a file's data.
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

    /// Why an owner has no such place.
    fn check_owner(&mut self, block: BlockNo, owner: InodeNo, contradicts: bool) {
        match self.inodes.get(owner).kind {
            // Said already: the block contradicts itself, and the name of an owner is part of that.
            _ if contradicts => {}
            Known::Free => self.say(block, Problem::OwnerMissing { owner }),
            Known::Directory => self.say(block, Problem::OwnerNotFile { owner }),
            Known::File => {
                if let Some(tally) = owner.position().and_then(|position| self.blocks.tallies.get_mut(position)) {
                    tally.count = tally.count.saturating_add(1);
                }
                self.say(block, Problem::BlockBehindSize { owner });
            }
            Known::Other | Known::Lost => {
                let (subject, at) = (Subject::Blocks { first: block, count: 1 }, self.place(block));
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
        let at = self.place(block);
        self.sink.add(problem, Subject::Blocks { first: block, count: 1 }, at);
    }

    /// Where a block lies.
    fn place(&self, block: BlockNo) -> Span {
        Span::new(self.geometry.block_offset(block), self.geometry.block_bytes())
    }

    /// Slots of the last page that describe no block.
    fn check_unused_slots(&mut self, frame: &Frame<'_>, bytes: &PageBytes) {
        let used = page_descriptors(self.geometry, frame.page, bytes).count();
        let behind = BlockTablePage::view(bytes).entries.iter().skip(used);
        if behind.into_iter().any(|entry| *entry != BlockRaw::FREE) {
            let at = pages::place(self.superblocks, CopyId::A, frame.page);
            self.sink.add(Problem::BlockSlotBehindEnd {}, pages::subject(self.superblocks, frame.page, None), at);
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
            // By how often each is the case.
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

/// Whether a descriptor is that of a data block with nothing unusual.
fn is_plain_data(entry: &BlockRaw) -> bool {
    entry.state == BlockState::Data.byte()
        && entry.flags & !BLOCK_FLAGS == 0
        && entry.reserved.get() == 0
        && (entry.crc.get() == 0 || entry.content_crc().is_some())
}

/// Whether a descriptor holds a place without a file, or a CRC that its flags do not vouch for.
fn has_leftover(entry: &BlockRaw) -> bool {
    let unowned = entry.owner() == InodeNo::NONE;
    (unowned && entry.index.get() != 0) || (entry.crc.get() != 0 && entry.content_crc().is_none())
}
