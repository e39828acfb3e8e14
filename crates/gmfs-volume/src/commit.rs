//! The four steps that make a change of many pages one change.
//!
//! 1. the changed pages into copy A,
//! 2. superblock A: the commit point,
//! 3. the same pages into copy B,
//! 4. superblock B,
//!
//! with a barrier behind each. A crash between any two stores leaves the state before or the state after.

use gmfs_format::io::WriteAt;
use gmfs_format::seal::{self, PageKind};
use gmfs_format::superblock::{STATE_ACTIVE, STATE_CLEAN, STATE_SEALED, Superblock, text_field};
use gmfs_format::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo};

use crate::change::{Balance, Change, blank_page};
use crate::recover::{Recovery, Survey, writable_superblocks};
use crate::superblocks::{OpenError, Superblocks, find_page, same_payload};
use crate::sweep::sweep;
use crate::writer::ChangeError;

/// Pages written at once.
const BATCH: usize = 64;

/// Who writes, and when: what a commit leaves in the superblock.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Nanoseconds since the epoch.
    pub now: u64,
    /// Name and version of the program.
    pub writer: String,
}

/// A region that is recovered and whole, and the only way to commit to it.
#[derive(Debug)]
pub struct Store<S> {
    source: S,
    superblocks: Superblocks,
    /// The highest generation in any good seal, committed or not: the next one is above it.
    highest: Generation,
    /// A commit was begun and not ended: nothing more may be written before recovery.
    unfinished: bool,
}

impl<S: WriteAt> Store<S> {
    /// Opens the region that fills `source` for commits, and recovers it.
    ///
    /// # Errors
    /// No region; features that forbid writing; pages that are damaged in either copy: nothing is written then.
    pub fn open(mut source: S) -> Result<(Self, Recovery), OpenError> {
        let mut superblocks = writable_superblocks(&source)?;
        let superblock = superblocks.current().clone();
        let mut surveys = vec![Survey::default()];
        for used in [superblock.used_inode_pages(), superblock.used_table_pages()] {
            surveys = sweep(&source, &superblocks, used, surveys);
        }
        let survey = surveys.pop().unwrap_or_default();
        survey.require_undamaged(&superblocks)?;
        let highest = survey.highest(&superblocks);
        let recovery = survey.recover(&mut source, &mut superblocks)?;
        Ok((Self::new(source, superblocks, highest), recovery))
    }

    /// Takes over a region whose two copies are equal.
    pub(crate) const fn new(source: S, superblocks: Superblocks, highest: Generation) -> Self {
        Self { source, superblocks, highest, unfinished: false }
    }

    /// The medium, for reading.
    pub const fn source(&self) -> &S {
        &self.source
    }

    pub(crate) const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Gives the medium back.
    pub fn into_source(self) -> S {
        self.source
    }

    /// The superblock as of the last commit.
    pub const fn superblock(&self) -> &Superblock {
        self.superblocks.current()
    }

    /// Carries out a change as one commit.
    ///
    /// # Errors
    /// Nothing has changed if the error comes from before the commit point; whatever was begun is put right by the next
    /// opening for writing. No further commit is possible on this store then.
    pub fn commit(&mut self, change: &Change, stamp: &Stamp) -> Result<(), ChangeError> {
        self.ensure_active()?;
        let pages = change.pages(self.superblock());
        self.blank_uncovered(&pages)?;
        let generation = self.next_generation()?;
        self.unfinished = true;
        let mut balance = Balance::default();
        for batch in batches(&pages) {
            self.write_changed(change, batch, generation, &mut balance)?;
        }
        self.source.barrier()?;
        let next = self.next_superblock(change, &pages, generation, &balance, stamp);
        self.write_superblock(&next, CopyId::A)?;
        for batch in batches(&pages) {
            self.mirror(batch, generation)?;
        }
        self.source.barrier()?;
        self.write_superblock(&next, CopyId::B)?;
        self.superblocks.replace(next);
        self.unfinished = false;
        Ok(())
    }

    /// Marks the region as being written. From here to [`close`](Self::close), what a crash tears is recovery.
    fn ensure_active(&mut self) -> Result<(), ChangeError> {
        self.require_finished()?;
        if self.superblock().raw.state.get() & STATE_ACTIVE != 0 {
            return Ok(());
        }
        self.mark(STATE_CLEAN, STATE_ACTIVE)
    }

    /// Marks the region as left in order.
    ///
    /// # Errors
    /// The medium failed, or an earlier commit was not finished.
    pub fn close(&mut self) -> Result<(), ChangeError> {
        self.require_finished()?;
        if self.superblock().raw.state.get() & STATE_ACTIVE == 0 {
            return Ok(());
        }
        self.mark(STATE_ACTIVE, STATE_CLEAN)
    }

    /// Changes state flags and nothing else: such a store, torn, is known from the other copy.
    fn mark(&mut self, clear: u32, set: u32) -> Result<(), ChangeError> {
        let mut next = self.superblock().clone();
        next.generation = self.next_generation()?;
        self.unfinished = true;
        next.raw.state = (next.raw.state.get() & !clear | set).into();
        self.write_superblock(&next, CopyId::A)?;
        self.write_superblock(&next, CopyId::B)?;
        self.superblocks.replace(next);
        self.unfinished = false;
        Ok(())
    }

    /// A generation that was never used. There is none behind a page that lies about its own: no writer gets there.
    fn next_generation(&mut self) -> Result<Generation, ChangeError> {
        let next = self.highest.0.checked_add(1);
        self.highest = Generation(next.ok_or(ChangeError::Damaged { page: PageNo(0) })?);
        Ok(self.highest)
    }

    /// Refuses to go on behind a commit that was begun and not ended.
    pub(crate) const fn require_finished(&self) -> Result<(), ChangeError> {
        if self.unfinished {
            return Err(ChangeError::Unfinished);
        }
        Ok(())
    }

    /// Pages behind a mark hold anything, also good pages of an older region with the same UUID. Copy A's are
    /// overwritten before the commit; copy B's become blank pages here, so that from the commit point on they are what
    /// every other page of copy B is: older than copy A's.
    fn blank_uncovered(&mut self, pages: &[PageNo]) -> Result<(), ChangeError> {
        let uncovered: Vec<PageNo> = pages.iter().copied().filter(|page| !self.is_used(*page)).collect();
        let (geometry, committed) = (self.superblock().geometry(), self.superblocks.committed());
        for batch in batches(&uncovered) {
            let mut buffer = Vec::with_capacity(batch.len());
            for page in batch {
                let mut bytes = blank_page(geometry, *page);
                self.seal(CopyId::B, *page, &mut bytes, committed);
                buffer.push(bytes);
            }
            self.write_batch(CopyId::B, batch, &buffer)?;
        }
        // The barrier behind step 1 makes these durable, too: before the commit point nobody reads them.
        Ok(())
    }

    /// Whether a page lies before its table's mark.
    fn is_used(&self, page: PageNo) -> bool {
        let superblock = self.superblock();
        superblock.used_table_pages().contains(&page.0) || superblock.used_inode_pages().contains(&page.0)
    }

    /// Step 1 for consecutive pages.
    fn write_changed(
        &mut self,
        change: &Change,
        batch: &[PageNo],
        generation: Generation,
        balance: &mut Balance,
    ) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let mut buffer = vec![[0; PAGE_SIZE]; batch.len()];
        for (page, bytes) in batch.iter().zip(&mut buffer) {
            *bytes = if self.is_used(*page) { self.whole_page(*page)? } else { blank_page(geometry, *page) };
            change.apply(geometry, *page, bytes, balance);
            self.seal(CopyId::A, *page, bytes, generation);
        }
        self.write_batch(CopyId::A, batch, &buffer)
    }

    /// Step 3 for consecutive pages: what stands in copy A, sealed for copy B.
    fn mirror(&mut self, batch: &[PageNo], generation: Generation) -> Result<(), ChangeError> {
        let mut buffer = vec![[0; PAGE_SIZE]; batch.len()];
        for (page, bytes) in batch.iter().zip(&mut buffer) {
            self.source.read_at(self.superblock().geometry().page_offset(CopyId::A, *page), bytes)?;
            let place = self.superblocks.place(CopyId::A, *page);
            if place.is_none_or(|place| seal::check(bytes, &place) != Ok(generation)) {
                return Err(ChangeError::Damaged { page: *page });
            }
            self.seal(CopyId::B, *page, bytes, generation);
        }
        self.write_batch(CopyId::B, batch, &buffer)
    }

    fn write_batch(&mut self, copy: CopyId, batch: &[PageNo], buffer: &[PageBytes]) -> Result<(), ChangeError> {
        if let Some(first) = batch.first() {
            let offset = self.superblock().geometry().page_offset(copy, *first);
            self.source.write_at(offset, buffer.as_flattened())?;
        }
        Ok(())
    }

    fn seal(&self, copy: CopyId, page: PageNo, bytes: &mut PageBytes, generation: Generation) {
        if let Some(place) = self.superblocks.place(copy, page) {
            seal::seal(bytes, &place, generation);
        }
    }

    /// A page both copies of which are good and equal: only such a page may be overwritten in copy A.
    fn whole_page(&self, page: PageNo) -> Result<PageBytes, ChangeError> {
        let (mut a, mut b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        let [in_a, in_b] = find_page(&self.source, &self.superblocks, page, [&mut a, &mut b]);
        if self.superblocks.judge_page(in_a, in_b, || same_payload(&a, &b)).is_whole() {
            return Ok(a);
        }
        Err(ChangeError::Damaged { page })
    }

    /// The committed page for reading; behind the mark, the blank one.
    pub(crate) fn page(&self, page: PageNo) -> Result<PageBytes, ChangeError> {
        if self.is_used(page) { self.whole_page(page) } else { Ok(blank_page(self.superblock().geometry(), page)) }
    }

    /// The superblock after a change.
    fn next_superblock(
        &self,
        change: &Change,
        pages: &[PageNo],
        generation: Generation,
        by: &Balance,
        stamp: &Stamp,
    ) -> Superblock {
        let mut next = self.superblock().clone();
        if let Some(raw) = change.superblock() {
            next.raw = *raw;
            // A repair of the state flags must not hide that it is itself under way.
            next.raw.state = (raw.state.get() & !STATE_CLEAN | STATE_ACTIVE).into();
        }
        let geometry = next.geometry();
        next.generation = generation;
        let raw = &mut next.raw;
        let counts = [&mut raw.free_blocks, &mut raw.data_blocks, &mut raw.bad_blocks, &mut raw.reserved_blocks];
        for (count, by) in counts.into_iter().zip(by.blocks) {
            *count = count.get().saturating_add_signed(by).into();
        }
        raw.used_inodes = raw.used_inodes.get().saturating_add_signed(by.inodes).into();
        for page in pages {
            let (mark, first) = match geometry.page_kind(*page) {
                Some(PageKind::BlockTable) => (&mut raw.table_used, geometry.first_table_page()),
                Some(PageKind::InodeTable) => (&mut raw.inodes_used_pages, geometry.first_inode_page()),
                Some(PageKind::Superblock) | None => continue,
            };
            *mark = mark.get().max(u64::from(page.0 - first.0) + 1).into();
        }
        raw.state = (raw.state.get() & !STATE_SEALED).into();
        raw.written = stamp.now.into();
        raw.write_count = raw.write_count.get().saturating_add(1).into();
        raw.writer = text_field(&stamp.writer);
        next
    }

    fn write_superblock(&mut self, superblock: &Superblock, copy: CopyId) -> Result<(), ChangeError> {
        self.source.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
        self.source.barrier()?;
        Ok(())
    }
}

/// Cuts a sorted list of pages into consecutive stretches of at most [`BATCH`].
fn batches(pages: &[PageNo]) -> impl Iterator<Item = &[PageNo]> {
    pages.chunk_by(|a, b| a.0 + 1 == b.0).flat_map(|run| run.chunks(BATCH))
}
