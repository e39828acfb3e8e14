//! Settles a doubt: rewrites all pages, so that they are one proven state again. This loses nothing.
//!
//! On pages that are not proven, blocks that belong to a file still do, and blocks that look free are reserved. Files
//! about which anything is not proven get the flag *doubtful*. Blocks whose inode is lost come back as files in
//! `lost+found`.
//!
//! Every chosen statement is kept until its page has been rewritten: each page is first written to the copy that does
//! not hold its chosen statement; then both superblocks are written, and then the other copies. After a crash in the
//! first part the doubt is there again, and so is every chosen statement. After that part the region is whole.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, INODES_PER_PAGE, InodeRaw, InodeTablePage};
use gmfs_format::native::seal::{self, PageKind};
use gmfs_format::native::sum::Trailer;
use gmfs_format::native::superblock::{STATE_ACTIVE, STATE_CLEAN, STATE_FLAGS, STATE_SEALED, Superblock, text_field};
use gmfs_format::native::tables::{BlockState, INODE_DOUBTFUL, INODE_LOST_DATA, InodeKind};
use gmfs_format::native::units::{
    CopyId, Generation, InodeNo, PAGE_SIZE, PageBytes, PageNo, follows, len64, to_u32, to_usize,
};
use gmfs_io::{ReadAt, WriteAt};

use crate::census::Census;
use crate::change::blank_page;
use crate::commit::{Stamp, session_generation};
use crate::decide::{Decision, group_sums};
use crate::region::page_descriptors;
use crate::superblocks::{OpenError, Superblocks};
use crate::sweep::{Frame, sweep};
use crate::unite::{end_union, merge, unite_page};

/// The directory for files whose inode is lost.
const LOST_FOUND: &[u8] = b"lost+found";
/// How many pages are written at once.
const BATCH: usize = 64;
/// The maximum number of runs of blocks, and of files, that are listed singly.
const LISTED: usize = 1000;

/// What is known about an inode.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// How many blocks it records.
    recorded: u64,
    /// How many blocks name it.
    found: u32,
    /// One past the highest file block among the blocks that name it.
    reach: u32,
    /// A sum of the flags below.
    is: u8,
}

const IN_USE: u8 = 1;
const FILE: u8 = 2;
/// It has the flag *doubtful* or *lost data*.
const FLAGGED: u8 = 4;
/// Its page is proven.
const PROVEN: u8 = 8;
/// It is named by a block on a page that is not proven, or by a block that another file claims too.
const SHAKY: u8 = 16;
/// It is the parent of another inode.
const PARENT: u8 = 32;
/// It has no record but blocks name it, so it gets a record in lost+found.
const ORPHAN: u8 = 64;
/// It is the new directory lost+found.
const HOME: u8 = 128;

/// The result of settling a doubt, computed before anything is written.
#[derive(Clone, Debug)]
pub struct Settlement {
    geometry: Geometry,
    decision: Decision,
    inodes: Vec<Known>,
    /// The directory for recovered files.
    home: InodeNo,
    /// Hashes of names that start like those of recovered files.
    names: HashSet<u64>,
    /// Pages that have no statement in either copy, as runs.
    pub lost: Vec<Range<u32>>,
    /// Pages of the inode table that are present but not proven, as runs. Files on them may have been removed or
    /// renamed.
    pub unproven_inodes: Vec<Range<u32>>,
    /// Blocks that look free, or are described on lost pages, and become reserved: the first runs.
    pub reserved: Vec<Range<u32>>,
    /// The number of all these blocks.
    pub reserved_blocks: u64,
    /// Files that become doubtful: the first ones.
    pub doubtful: Vec<InodeNo>,
    /// The number of all these files.
    pub doubtful_files: u64,
    /// Files whose inode is lost and that come back in lost+found.
    pub orphans: Vec<InodeNo>,
    /// Whether files contradict pages that should be proven, so that no page counts as proven.
    pub distrusted: bool,
}

impl Settlement {
    /// Examines all pages of the state that was decided. With `distrust`, none of them counts as proven.
    #[must_use]
    pub fn of<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, distrust: bool) -> Self {
        let geometry = superblocks.geometry();
        let decision = superblocks.decision();
        let mut found = Self {
            geometry,
            decision: if distrust { decision.distrusted(geometry) } else { decision.clone() },
            inodes: vec![Known::default(); to_usize(geometry.inodes())],
            home: InodeNo::ROOT,
            names: HashSet::new(),
            lost: Vec::new(),
            unproven_inodes: Vec::new(),
            reserved: Vec::new(),
            reserved_blocks: 0,
            doubtful: Vec::new(),
            doubtful_files: 0,
            orphans: Vec::new(),
            distrusted: distrust,
        };
        let [table, inodes] = superblocks.decision().marks.ranges(geometry);
        let mut lost_found = None;
        let visit = |frame: &Frame<'_>| found.look_at_inodes(frame, &mut lost_found);
        sweep(source, superblocks, inodes.clone(), vec![visit]);
        let visit = |frame: &Frame<'_>| found.look_at_blocks(frame);
        sweep(source, superblocks, table.clone(), vec![visit]);
        if found.contradicts_itself(table.clone()) {
            found.distrusted = true;
            found.decision = found.decision.distrusted(geometry);
            for known in &mut found.inodes {
                known.is = known.is & !PROVEN | SHAKY;
            }
            found.unproven_inodes.clear();
            found.unproven_inodes.push(inodes.clone());
        }
        found.find_orphans(inodes, lost_found);
        let visit = |frame: &Frame<'_>| found.count_reserved(frame);
        sweep(source, superblocks, table, vec![visit]);
        let doubtful = (1..).map(InodeNo).zip(&found.inodes).filter(|(_, known)| known.is_doubtful());
        (found.doubtful, found.doubtful_files) = doubtful.fold((Vec::new(), 0_u64), |(mut first, count), (ino, _)| {
            if first.len() < LISTED {
                first.push(ino);
            }
            (first, count.saturating_add(1))
        });
        found
    }

    fn look_at_inodes(&mut self, frame: &Frame<'_>, lost_found: &mut Option<InodeNo>) {
        let Some(bytes) = chosen(frame, PageKind::InodeTable) else {
            push_run(&mut self.lost, frame.page.0);
            return;
        };
        let proven = self.decision.proven.contains(frame.page);
        if !proven {
            push_run(&mut self.unproven_inodes, frame.page.0);
        }
        let first = self.geometry.first_inode_of(frame.page).0;
        for (number, raw) in (first..).zip(&InodeTablePage::view(&bytes).inodes) {
            if !raw.in_use() {
                if let Some(known) = self.known(InodeNo(number)) {
                    known.is |= if proven { PROVEN } else { 0 };
                }
                continue;
            }
            let parent = raw.parent();
            if let Some(known) = self.known(parent) {
                known.is |= PARENT;
            }
            if raw.kind() == Some(InodeKind::Directory) && parent == InodeNo::ROOT && raw.name() == LOST_FOUND {
                lost_found.get_or_insert(InodeNo(number));
            }
            if raw.name().first() == Some(&b'#') {
                self.names.insert(hash(raw.name()));
            }
            let flags = raw.flags.get();
            let Some(known) = self.known(InodeNo(number)) else { continue };
            known.recorded = raw.blocks.get();
            known.is |= IN_USE | if proven { PROVEN } else { 0 };
            if raw.kind() == Some(InodeKind::File) {
                known.is |= FILE;
            }
            if flags & INODE_DOUBTFUL != 0 {
                known.is |= FLAGGED;
            }
        }
    }

    fn look_at_blocks(&mut self, frame: &Frame<'_>) {
        let Some(bytes) = chosen(frame, PageKind::BlockTable) else {
            push_run(&mut self.lost, frame.page.0);
            return;
        };
        let proven = self.decision.proven.contains(frame.page);
        for (_, entry) in page_descriptors(self.geometry, frame.page, &bytes) {
            if !entry.is_mapping() {
                continue;
            }
            let index = entry.index.get();
            if let Some(known) = self.known(entry.owner()) {
                known.found = known.found.saturating_add(1);
                known.reach = known.reach.max(index.saturating_add(1));
                known.is |= if proven { 0 } else { SHAKY };
            }
        }
        if frame.differ {
            // If two files claim one block, neither is certain to own it.
            for copy in CopyId::BOTH {
                let other = BlockTablePage::view(frame.bytes(copy.other())).entries;
                for (entry, other) in BlockTablePage::view(frame.bytes(copy)).entries.iter().zip(other) {
                    if *entry != other
                        && other != BlockRaw::FREE
                        && entry.is_mapping()
                        && let Some(known) = self.known(entry.owner())
                    {
                        known.is |= SHAKY;
                    }
                }
            }
        }
    }

    fn known(&mut self, ino: InodeNo) -> Option<&mut Known> {
        self.inodes.get_mut(ino.position()?)
    }

    fn get(&self, ino: InodeNo) -> Known {
        ino.position().and_then(|position| self.inodes.get(position)).copied().unwrap_or_default()
    }

    /// Whether pages that should be proven contradict each other. Then one of them has false values with a good seal.
    fn contradicts_itself(&self, table: Range<u32>) -> bool {
        if !table.map(PageNo).all(|page| self.decision.proven.contains(page)) {
            return false;
        }
        self.inodes.iter().any(|known| {
            let wrong = known.is & FILE != 0 && known.recorded != u64::from(known.found);
            let missing = known.is & IN_USE == 0 && known.found > 0;
            known.is & PROVEN != 0 && known.is & FLAGGED == 0 && (wrong || missing)
        })
    }

    /// Chooses which files come back in lost+found, and where that directory is.
    fn find_orphans(&mut self, inodes: Range<u32>, lost_found: Option<InodeNo>) {
        let slots = to_usize(to_u32(len64(inodes.len()).saturating_mul(INODES_PER_PAGE.into())));
        let mut free = None;
        for (number, known) in (1..).zip(&mut self.inodes).take(slots) {
            if known.is & IN_USE != 0 || number == InodeNo::ROOT.0 {
                continue;
            }
            if known.found > 0 {
                known.is |= ORPHAN;
                self.orphans.push(InodeNo(number));
            } else if known.is & PARENT == 0 {
                free.get_or_insert(InodeNo(number));
            }
        }
        if self.orphans.is_empty() {
            return;
        }
        match (lost_found, free) {
            (Some(home), _) => self.home = home,
            (None, Some(free)) => {
                self.home = free;
                if let Some(known) = self.known(free) {
                    known.is |= HOME;
                }
            }
            (None, None) => {}
        }
    }

    fn count_reserved(&mut self, frame: &Frame<'_>) {
        let before = chosen(frame, PageKind::BlockTable);
        let after = self.block_page(frame.page, before.as_ref());
        let blank = [0; PAGE_SIZE];
        let before = before.as_ref().unwrap_or(&blank);
        let was = page_descriptors(self.geometry, frame.page, before);
        for ((block, now), (_, was)) in page_descriptors(self.geometry, frame.page, &after).zip(was) {
            let reserved = |entry: &BlockRaw| entry.state() == Some(BlockState::Reserved);
            if reserved(now) && !reserved(was) {
                self.reserved_blocks = self.reserved_blocks.saturating_add(1);
                if self.reserved.len() < LISTED || self.reserved.last().is_some_and(|run| run.end == block.0) {
                    push_run(&mut self.reserved, block.0);
                }
            }
        }
    }

    /// The new content of a page of the block table, from the chosen statement.
    fn block_page(&self, page: PageNo, chosen: Option<&PageBytes>) -> PageBytes {
        let mut bytes = [0; PAGE_SIZE];
        let count = page_descriptors(self.geometry, page, &bytes).count();
        let entries = &mut BlockTablePage::view_mut(&mut bytes).entries;
        let proven = self.decision.proven.contains(page);
        let old = chosen.map(|bytes| &BlockTablePage::view(bytes).entries);
        for (slot, entry) in entries.iter_mut().enumerate().take(count) {
            let old = old.and_then(|entries| entries.get(slot)).copied();
            *entry = match old {
                None => BlockRaw::RESERVED,
                Some(BlockRaw::FREE) if !proven => BlockRaw::RESERVED,
                Some(old) if old.is_mapping() && self.is_nobodys(old.owner()) => match old.state() {
                    Some(BlockState::Bad) => BlockRaw::NOBODYS_BAD,
                    _ => BlockRaw::RESERVED,
                },
                Some(old) => old,
            };
        }
        bytes
    }

    /// Whether blocks that name this inode cannot be given an inode.
    fn is_nobodys(&self, owner: InodeNo) -> bool {
        self.get(owner).is & (IN_USE | ORPHAN) == 0
    }

    /// The new content of a page of the inode table.
    fn inode_page(&self, page: PageNo, chosen: Option<&PageBytes>, now: u64) -> PageBytes {
        let mut bytes = match chosen {
            Some(chosen) => *chosen,
            None => blank_page(self.geometry, page),
        };
        let first = self.geometry.first_inode_of(page).0;
        for (number, raw) in (first..).zip(&mut InodeTablePage::view_mut(&mut bytes).inodes) {
            let ino = InodeNo(number);
            if number > self.geometry.inodes() {
                break;
            }
            let known = self.get(ino);
            if ino == InodeNo::ROOT && chosen.is_none() {
                *raw = directory(ino, 1, b".", 0o755, now);
            } else if known.is & HOME != 0 {
                *raw = directory(ino, raw.generation.get().wrapping_add(1), LOST_FOUND, 0o700, now);
            } else if known.is & ORPHAN != 0 {
                *raw = self.orphan(ino, raw, now);
            } else if known.is_doubtful() {
                raw.flags = (raw.flags.get() | INODE_DOUBTFUL).into();
            }
        }
        bytes
    }

    /// A new record for a file whose own is lost. If a free record still has its name and its directory, these are
    /// used.
    fn orphan(&self, ino: InodeNo, old: &InodeRaw, now: u64) -> InodeRaw {
        let known = self.get(ino);
        let tells = old.number.get() == ino.0
            && gmfs_format::name::check(old.name()).is_ok()
            && self.get(old.parent()).is & (IN_USE | FILE) == IN_USE;
        let mut raw = InodeRaw::free(ino, old.generation.get().wrapping_add(1));
        raw.kind = InodeKind::File.number().into();
        raw.mode = 0o600.into();
        raw.parent = self.home.0.into();
        let reach = u64::from(known.reach).saturating_mul(self.geometry.block_bytes());
        raw.size = reach.into();
        raw.blocks = u64::from(known.found).into();
        // A lost page of the block table may have named the file too, so its content past the last block that was found
        // is unknown.
        let lost = known.found < known.reach || self.lost.iter().any(|run| run.start <= self.geometry.table_pages());
        raw.flags = (INODE_DOUBTFUL | if lost { INODE_LOST_DATA } else { 0 }).into();
        if tells {
            (raw.parent, raw.mode, raw.uid, raw.gid) = (old.parent, old.mode, old.uid, old.gid);
            if old.size.get().div_ceil(self.geometry.block_bytes()) == u64::from(known.reach) {
                raw.size = old.size;
            }
            raw.set_name(old.name());
            (raw.accessed, raw.modified, raw.changed, raw.created) =
                (old.accessed, old.modified, old.changed, old.created);
            return raw;
        }
        let mut name = format!("#{ino}");
        for attempt in 1.. {
            if !self.names.contains(&hash(name.as_bytes())) {
                break;
            }
            name = format!("#{ino}.{attempt}");
        }
        raw.set_name(name.as_bytes());
        (raw.accessed, raw.modified, raw.changed, raw.created) = (now.into(), now.into(), now.into(), now.into());
        raw
    }
}

impl Known {
    /// Whether something about the file is not proven, and the file does not have the flag *doubtful* yet.
    fn is_doubtful(&self) -> bool {
        let wrong = self.recorded != u64::from(self.found);
        self.is & FILE != 0 && self.is & FLAGGED == 0 && (self.is & PROVEN == 0 || self.is & SHAKY != 0 || wrong)
    }
}

fn directory(ino: InodeNo, generation: u32, name: &[u8], mode: u16, now: u64) -> InodeRaw {
    let mut raw = InodeRaw::free(ino, generation);
    raw.kind = InodeKind::Directory.number().into();
    raw.mode = mode.into();
    raw.parent = InodeNo::ROOT.0.into();
    raw.set_name(name);
    (raw.accessed, raw.modified, raw.changed, raw.created) = (now.into(), now.into(), now.into(), now.into());
    raw
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn push_run(runs: &mut Vec<Range<u32>>, number: u32) {
    match runs.last_mut() {
        Some(run) if run.end == number => run.end = run.end.saturating_add(1),
        _ => runs.push(number..number.saturating_add(1)),
    }
}

/// The chosen statement of a page. If the two copies contradict each other, it is the merge of both.
fn chosen(frame: &Frame<'_>, kind: PageKind) -> Option<PageBytes> {
    let mut bytes = *frame.taken()?;
    if frame.judgement.conflict {
        merge(kind, &mut bytes, frame.bytes(CopyId::B));
    }
    Some(bytes)
}

/// Settles a doubt. Returns what was done.
///
/// # Errors
/// The medium failed: the next call finishes what was begun. Or the decision was not made from all pages.
pub fn settle<S: WriteAt>(
    target: &mut S,
    superblocks: &Superblocks,
    distrust: bool,
    stamp: &Stamp,
) -> Result<Settlement, OpenError> {
    let census = superblocks.census().ok_or(OpenError::Doubt)?;
    let geometry = superblocks.geometry();
    let pages: Vec<PageNo> = superblocks.decision().marks.pages(geometry).collect();
    let generation = session_generation(census.top()).ok_or(OpenError::Doubt)?;
    // If copies contradict each other, both have information that overwriting one would lose, so they are merged first.
    for page in census.conflicts() {
        unite_page(target, superblocks, *page)?;
    }
    // A crash may have interrupted such a merge: copy B is then torn and has information that copy A does not.
    let half = |page: &&PageNo| census.is_torn(CopyId::B, **page) && census.statement(CopyId::A, **page).is_some();
    for page in pages.iter().filter(half) {
        end_union(target, superblocks, *page)?;
    }
    let settlement = Settlement::of(target, superblocks, distrust);
    let mut next = superblocks.current().clone();
    next.generation = generation;
    next.set_marks(superblocks.decision().marks);
    next.set_group_sums(&group_sums(pages.iter().map(|page| (*page, generation))));
    let tally = settlement.write_first(target, superblocks, census, &pages, &next, stamp)?;
    target.barrier()?;
    tally.into_superblock(&mut next, geometry, stamp);
    for copy in oldest_first(superblocks) {
        write_superblock(target, &next, copy)?;
    }
    for (copy, batch) in batches(&pages, census) {
        mirror(target, superblocks, copy, batch, generation)?;
    }
    target.barrier()?;
    next.generation = Generation(generation.0.checked_add(1).ok_or(OpenError::Doubt)?);
    next.raw.state = (next.raw.state.get() & !STATE_ACTIVE | STATE_CLEAN).into();
    for copy in CopyId::BOTH {
        write_superblock(target, &next, copy)?;
    }
    Ok(settlement)
}

/// The copy that a page is written to first: the one without its chosen statement, or copy A if both have it.
fn first_copy(census: &Census, page: PageNo) -> CopyId {
    match census.newest(page) {
        Some((newest, CopyId::A)) if census.statement(CopyId::B, page) != Some(newest) => CopyId::B,
        _ => CopyId::A,
    }
}

/// Splits a sorted list of pages into runs of at most [`BATCH`] consecutive pages that are written to the same copy
/// first.
fn batches<'a>(pages: &'a [PageNo], census: &'a Census) -> impl Iterator<Item = (CopyId, &'a [PageNo])> {
    let copy = |page: &PageNo| first_copy(census, *page);
    let runs = pages.chunk_by(move |a, b| follows(a.0, b.0) && copy(a) == copy(b));
    let with_copy = runs.filter_map(move |run| Some((run.first().map(copy)?, run)));
    with_copy.flat_map(|(copy, run)| run.chunks(BATCH).map(move |batch| (copy, batch)))
}

/// The copies in the order in which their superblocks are written. The older one is first.
fn oldest_first(superblocks: &Superblocks) -> [CopyId; 2] {
    let [a, b] = [&superblocks.a, &superblocks.b].map(|slot| slot.good().map(|superblock| superblock.generation));
    if b < a { [CopyId::B, CopyId::A] } else { [CopyId::A, CopyId::B] }
}

impl Settlement {
    /// Writes each page to the copy that does not hold its chosen statement. Counts what the pages then contain.
    fn write_first<S: WriteAt>(
        &self,
        target: &mut S,
        superblocks: &Superblocks,
        census: &Census,
        pages: &[PageNo],
        next: &Superblock,
        stamp: &Stamp,
    ) -> Result<Tally, OpenError> {
        let mut tally = Tally::default();
        let trailer = next.trailer();
        for (copy, batch) in batches(pages, census) {
            let mut buffer = Vec::with_capacity(batch.len());
            for page in batch {
                let mut bytes = self.page(target, superblocks, *page, stamp.now);
                tally.add(self.geometry, *page, &bytes);
                seal_as(&mut bytes, superblocks, copy, *page, next.generation, trailer);
                buffer.push(bytes);
            }
            write_batch(target, self.geometry, copy, batch, &buffer)?;
        }
        Ok(tally)
    }

    /// The new content of a page, without its seal.
    fn page<S: ReadAt + ?Sized>(&self, source: &S, superblocks: &Superblocks, page: PageNo, now: u64) -> PageBytes {
        let chosen = crate::region::read_page(source, superblocks, page);
        match self.geometry.page_kind(page) {
            Some(PageKind::BlockTable) => self.block_page(page, chosen.as_deref()),
            _ => self.inode_page(page, chosen.as_deref(), now),
        }
    }
}

fn seal_as(
    bytes: &mut PageBytes,
    superblocks: &Superblocks,
    copy: CopyId,
    page: PageNo,
    generation: Generation,
    trailer: Trailer,
) {
    trailer.write(bytes);
    if let Some(place) = superblocks.place(copy, page) {
        seal::seal(bytes, &place, generation);
    }
}

fn write_batch<S: WriteAt>(
    target: &mut S,
    geometry: Geometry,
    copy: CopyId,
    batch: &[PageNo],
    buffer: &[PageBytes],
) -> Result<(), OpenError> {
    if let Some(first) = batch.first() {
        target.write_at(geometry.page_offset(copy, *first), buffer.as_flattened())?;
    }
    Ok(())
}

/// Writes to the other copy what was written to this one.
fn mirror<S: WriteAt>(
    target: &mut S,
    superblocks: &Superblocks,
    from: CopyId,
    batch: &[PageNo],
    generation: Generation,
) -> Result<(), OpenError> {
    let geometry = superblocks.geometry();
    let share = seal::copy_share();
    let mut buffer = vec![[0; PAGE_SIZE]; batch.len()];
    for (page, bytes) in batch.iter().zip(&mut buffer) {
        target.read_at(geometry.page_offset(from, *page), bytes)?;
        let place = superblocks.place(from, *page);
        if place.is_none_or(|place| seal::check(bytes, &place) != Ok(generation)) {
            return Err(OpenError::Damaged { pages: 1, first: *page });
        }
        seal::turn(bytes, from.other(), share);
    }
    write_batch(target, geometry, from.other(), batch, &buffer)
}

fn write_superblock<S: WriteAt>(target: &mut S, superblock: &Superblock, copy: CopyId) -> Result<(), OpenError> {
    target.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
    target.barrier()?;
    Ok(())
}

/// Counts blocks by state, and inodes in use.
#[derive(Default)]
struct Tally {
    blocks: [u64; 4],
    described: u64,
    inodes: u64,
    created: u64,
}

impl Tally {
    fn add(&mut self, geometry: Geometry, page: PageNo, bytes: &PageBytes) {
        if geometry.page_kind(page) == Some(PageKind::BlockTable) {
            for (_, entry) in page_descriptors(geometry, page, bytes) {
                self.described = self.described.saturating_add(1);
                if let Some(count) = self.blocks.get_mut(usize::from(entry.state)) {
                    *count = count.saturating_add(1);
                }
            }
            return;
        }
        let inodes = &InodeTablePage::view(bytes).inodes;
        self.inodes = self.inodes.saturating_add(len64(inodes.iter().filter(|inode| inode.in_use()).count()));
        if page == geometry.first_inode_page() {
            self.created = inodes.first().map_or(0, |root| root.created.get());
        }
    }

    fn into_superblock(self, next: &mut Superblock, geometry: Geometry, stamp: &Stamp) {
        let [free, data, bad, reserved] = self.blocks;
        let raw = &mut next.raw;
        let past = u64::from(geometry.data_blocks()).saturating_sub(self.described);
        raw.free_blocks = free.saturating_add(past).into();
        (raw.data_blocks, raw.bad_blocks, raw.reserved_blocks) = (data.into(), bad.into(), reserved.into());
        raw.used_inodes = self.inodes.into();
        if raw.created.get() == 0 {
            raw.created = self.created.into();
        }
        raw.state = (raw.state.get() & STATE_FLAGS & !(STATE_CLEAN | STATE_SEALED) | STATE_ACTIVE).into();
        raw.written = stamp.now.into();
        raw.write_count = raw.write_count.get().saturating_add(1).into();
        raw.writer = text_field(&stamp.writer);
    }
}
