//! The four steps by which a change of many pages takes effect as a whole:
//!
//! 1. the changed pages into copy A,
//! 2. superblock A: the commit point,
//! 3. the same pages into copy B,
//! 4. superblock B.
//!
//! A barrier follows each step. A crash between any two writes leaves the state before or the state after.

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::seal::{self, PageKind};
use gmfs_format::native::sum::{GROUPS, Marks, Sum, Trailer, group};
use gmfs_format::native::superblock::{STATE_ACTIVE, STATE_CLEAN, STATE_SEALED, Superblock, text_field};
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, follows, to_usize};
use gmfs_io::WriteAt;

use crate::census::Census;
use crate::change::{Balance, Change, blank_page};
use crate::decide::Outcome;
use crate::recover::{Recovery, Survey, open_whole};
use crate::superblocks::{OpenError, Superblocks, find_page, same_payload};
use crate::sweep::sweep;
use crate::writer::ChangeError;

/// How many pages are written at once.
const BATCH: usize = 64;

/// The time and the writer's name, which a commit records in the superblock.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Nanoseconds since the epoch.
    pub now: u64,
    /// Name and version of the program.
    pub writer: String,
}

/// A region that is recovered and whole. Only this type commits to it.
#[derive(Debug)]
pub struct Store<S> {
    source: S,
    superblocks: Superblocks,
    /// The highest generation with a good seal, committed or not. The next one is above it.
    highest: Generation,
    /// The generation of each table page before the marks.
    ages: Ages,
    /// Whether the mark that begins this session has been written.
    begun: bool,
    /// Whether a commit was begun and not ended. If so, nothing more may be written before recovery.
    unfinished: bool,
}

impl<S: WriteAt> Store<S> {
    /// Opens the region that fills `source` for commits, and recovers it.
    ///
    /// # Errors
    /// There is no region; its features forbid writing; or pages are damaged in either copy. Nothing is written then.
    pub fn open(mut source: S) -> Result<(Self, Recovery), OpenError> {
        let (mut superblocks, survey) = open_whole(&source, |superblocks| {
            let mut surveys = vec![Survey::default()];
            for used in [superblocks.current().used_inode_pages(), superblocks.current().used_table_pages()] {
                surveys = sweep(&source, superblocks, used, surveys);
            }
            surveys.pop().unwrap_or_default()
        })?;
        let store = survey.recover(&mut source, &mut superblocks)?;
        Ok((Self::new(source, superblocks, store.highest, store.ages), store.recovery))
    }

    /// Takes a region whose two copies are equal.
    pub(crate) const fn new(source: S, superblocks: Superblocks, highest: Generation, ages: Ages) -> Self {
        Self { source, superblocks, highest, ages, begun: false, unfinished: false }
    }

    /// The medium, for reading.
    pub const fn source(&self) -> &S {
        &self.source
    }

    pub(crate) const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Returns the medium.
    pub fn into_source(self) -> S {
        self.source
    }

    /// The superblock after the last commit.
    pub const fn superblock(&self) -> &Superblock {
        self.superblocks.current()
    }

    /// Both superblocks after the last commit, by which the region is read.
    pub const fn superblocks(&self) -> &Superblocks {
        &self.superblocks
    }

    /// Carries out a change as one commit.
    ///
    /// # Errors
    /// If the error is from before the commit point, nothing has changed. The next opening for writing undoes or
    /// finishes what was begun. This store then accepts no more commits.
    pub fn commit(&mut self, change: &Change, stamp: &Stamp) -> Result<(), ChangeError> {
        let pages = change.pages(self.superblock());
        self.commit_edit(
            &pages,
            &mut Applied { geometry: self.superblock().geometry(), change, balance: Balance::default() },
            stamp,
        )
    }

    /// Carries out a commit that changes `pages`, which are in ascending order. Each page is edited shortly before it
    /// is written, so the memory that a commit needs does not grow with the number of its pages.
    ///
    /// # Errors
    /// As [`commit`](Self::commit). After [`ChangeError::Stopped`], which only the edit returns, the region is as it
    /// was, and further commits are possible.
    pub(crate) fn commit_edit<E: Edit<S>>(
        &mut self,
        pages: &[PageNo],
        edit: &mut E,
        stamp: &Stamp,
    ) -> Result<(), ChangeError> {
        self.ensure_active()?;
        self.blank_uncovered(pages)?;
        let generation = self.next_generation()?;
        let mut next = self.superblock().clone();
        next.generation = generation;
        next.set_marks(self.marks_after(pages));
        next.set_group_sums(&self.sums_after(pages, generation));
        let trailer = next.trailer();
        self.unfinished = true;
        for (done, batch) in batches(pages).enumerate() {
            match self.write_changed(edit, batch, generation, trailer) {
                Err(ChangeError::Stopped) => {
                    self.take_back(batches(pages).take(done))?;
                    return Err(ChangeError::Stopped);
                }
                done => done?,
            }
        }
        self.source.barrier()?;
        edit.superblock(&mut next);
        sign(&mut next, stamp);
        self.write_superblock(&next, CopyId::A)?;
        for batch in batches(pages) {
            self.mirror(batch, generation)?;
        }
        self.source.barrier()?;
        self.write_superblock(&next, CopyId::B)?;
        for page in pages {
            self.ages.set(*page, generation);
        }
        self.superblocks.replace(next);
        self.unfinished = false;
        Ok(())
    }

    /// Marks the region as active. What a crash interrupts from here until [`close`](Self::close) is handled by
    /// recovery. A session begins at a round generation, so that the generation of a torn commit, which may be
    /// unreadable, is never reused.
    fn ensure_active(&mut self) -> Result<(), ChangeError> {
        self.require_finished()?;
        if self.begun {
            return Ok(());
        }
        let round = session_generation(self.highest).ok_or(ChangeError::Damaged { page: PageNo(0) })?;
        // One less, because the mark takes the next generation.
        self.highest = Generation(round.0.saturating_sub(1));
        self.mark(STATE_CLEAN, STATE_ACTIVE)?;
        self.begun = true;
        Ok(())
    }

    /// Marks the region as clean.
    ///
    /// # Errors
    /// The medium failed, or an earlier commit was not finished.
    pub fn close(&mut self) -> Result<(), ChangeError> {
        self.require_finished()?;
        if self.superblock().raw.state.get() & STATE_ACTIVE == 0 {
            return Ok(());
        }
        self.mark(STATE_ACTIVE, STATE_CLEAN)?;
        self.begun = false;
        Ok(())
    }

    /// Changes state flags and nothing else. If a crash tears this write, it is recognised by means of the other copy.
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

    /// A generation that was never used. If a page has a false generation close to the highest number, there may be
    /// none left; no writer gets that far by itself. The highest number is not used, because it stands for a torn page
    /// in a census.
    fn next_generation(&mut self) -> Result<Generation, ChangeError> {
        let next = self.highest.0.checked_add(1).filter(|next| *next < u64::MAX);
        self.highest = Generation(next.ok_or(ChangeError::Damaged { page: PageNo(0) })?);
        Ok(self.highest)
    }

    /// Refuses to continue after a commit that was begun and not ended.
    pub(crate) const fn require_finished(&self) -> Result<(), ChangeError> {
        if self.unfinished {
            return Err(ChangeError::Unfinished);
        }
        Ok(())
    }

    /// Pages past a mark may contain anything. Those of copy A are overwritten before the commit point. Those of copy B
    /// become blank pages here. They carry the present marks, so that they are not statements: a page past its own
    /// marks never counts.
    fn blank_uncovered(&mut self, pages: &[PageNo]) -> Result<(), ChangeError> {
        let uncovered: Vec<PageNo> = pages.iter().copied().filter(|page| !self.is_used(*page)).collect();
        let (geometry, committed) = (self.superblock().geometry(), self.superblocks.committed());
        let trailer = self.superblock().trailer();
        for batch in batches(&uncovered) {
            let mut buffer = Vec::with_capacity(batch.len());
            for page in batch {
                let mut bytes = blank_page(geometry, *page);
                trailer.write(&mut bytes);
                self.seal(CopyId::B, *page, &mut bytes, committed);
                buffer.push(bytes);
            }
            self.write_batch(CopyId::B, batch, &buffer)?;
        }
        // The barrier after step 1 makes these durable too. They are not read before the commit point.
        Ok(())
    }

    /// Whether a page is before its table's mark.
    fn is_used(&self, page: PageNo) -> bool {
        let superblock = self.superblock();
        superblock.used_table_pages().contains(&page.0) || superblock.used_inode_pages().contains(&page.0)
    }

    /// Undoes what step 1 of a commit has written so far, by writing the pages of copy B to copy A. A crash during this
    /// leaves the same as a crash in step 1. Afterwards no page of the commit is left, so its generation is used again.
    fn take_back<'p>(&mut self, written: impl Iterator<Item = &'p [PageNo]>) -> Result<(), ChangeError> {
        for batch in written {
            let mut buffer = vec![[0; PAGE_SIZE]; batch.len()];
            for (page, bytes) in batch.iter().zip(&mut buffer) {
                let damaged = ChangeError::Damaged { page: *page };
                let Some(age) = self.ages.get(*page) else { return Err(damaged) };
                self.source.read_at(self.superblock().geometry().page_offset(CopyId::B, *page), bytes)?;
                let place = self.superblocks.place(CopyId::B, *page);
                if place.is_none_or(|place| seal::check(bytes, &place) != Ok(age)) {
                    return Err(damaged);
                }
                self.seal(CopyId::A, *page, bytes, age);
            }
            self.write_batch(CopyId::A, batch, &buffer)?;
        }
        self.source.barrier()?;
        self.highest = Generation(self.highest.0.saturating_sub(1));
        self.unfinished = false;
        Ok(())
    }

    /// Step 1 for consecutive pages.
    fn write_changed<E: Edit<S>>(
        &mut self,
        edit: &mut E,
        batch: &[PageNo],
        generation: Generation,
        trailer: Trailer,
    ) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let mut buffer = vec![[0; PAGE_SIZE]; batch.len()];
        for (page, bytes) in batch.iter().zip(&mut buffer) {
            *bytes = if self.is_used(*page) { self.whole_page(*page)? } else { blank_page(geometry, *page) };
            edit.page(&self.source, *page, bytes)?;
            trailer.write(bytes);
            self.seal(CopyId::A, *page, bytes, generation);
        }
        self.write_batch(CopyId::A, batch, &buffer)
    }

    /// Step 3 for consecutive pages: copies them from copy A, sealed for copy B.
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

    /// A page whose two copies are good and equal. Only such a page may be overwritten in copy A.
    fn whole_page(&self, page: PageNo) -> Result<PageBytes, ChangeError> {
        let (mut a, mut b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        let [in_a, in_b] = find_page(&self.source, &self.superblocks, page, [&mut a, &mut b]);
        let whole = self.superblocks.judge_page(page, in_a, in_b, || same_payload(&a, &b)).is_whole();
        // No other program has written the page: its generation is that at the opening, or that of this store's last
        // write to it.
        if whole && in_a.generation() == self.ages.get(page) {
            return Ok(a);
        }
        Err(ChangeError::Damaged { page })
    }

    /// The committed page, for reading. Past the mark it is a blank one.
    pub(crate) fn page(&self, page: PageNo) -> Result<PageBytes, ChangeError> {
        if self.is_used(page) { self.whole_page(page) } else { Ok(blank_page(self.superblock().geometry(), page)) }
    }

    /// The marks after these pages have been written.
    fn marks_after(&self, pages: &[PageNo]) -> Marks {
        let geometry = self.superblock().geometry();
        let mut marks = self.superblock().marks();
        for page in pages {
            match geometry.page_kind(*page) {
                Some(PageKind::BlockTable) => marks.table = marks.table.max(page.0),
                Some(PageKind::InodeTable) => marks.inodes = marks.inodes.max(geometry.number_in_table(*page)),
                Some(PageKind::Superblock) | None => {}
            }
        }
        marks
    }

    /// The sums of all groups after these pages have been written with this generation.
    fn sums_after(&self, pages: &[PageNo], generation: Generation) -> [Sum; GROUPS] {
        let mut sums = self.superblock().group_sums();
        for page in pages {
            let Some(sum) = sums.get_mut(group(*page)) else { continue };
            if let Some(age) = self.ages.get(*page) {
                *sum = *sum - Sum::of(*page, age);
            }
            *sum = *sum + Sum::of(*page, generation);
        }
        sums
    }

    fn write_superblock(&mut self, superblock: &Superblock, copy: CopyId) -> Result<(), ChangeError> {
        self.source.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
        self.source.barrier()?;
        Ok(())
    }
}

/// Splits a sorted list of pages into runs of consecutive pages, of at most [`BATCH`] pages each.
fn batches(pages: &[PageNo]) -> impl Iterator<Item = &[PageNo]> {
    pages.chunk_by(|a, b| follows(a.0, b.0)).flat_map(|run| run.chunks(BATCH))
}

/// The first generation of a session: the first multiple of 256 above `highest + 1`, where `highest` is the highest
/// generation that was found. A commit that a crash destroyed may have used `highest + 1`.
#[must_use]
pub(crate) fn session_generation(highest: Generation) -> Option<Generation> {
    const STEP: u64 = 256;
    let torn = highest.0.checked_add(1)?;
    (torn / STEP).checked_add(1)?.checked_mul(STEP).map(Generation)
}

/// What a commit does to the pages that it writes.
pub(crate) trait Edit<S> {
    /// Changes one page, which is not sealed yet.
    fn page(&mut self, source: &S, page: PageNo, bytes: &mut PageBytes) -> Result<(), ChangeError>;

    /// Changes the superblock after all pages have been changed. Its generation, marks and sums are set already, and
    /// must stay as they are.
    fn superblock(&mut self, next: &mut Superblock);
}

/// A change that is being committed.
struct Applied<'c> {
    geometry: Geometry,
    change: &'c Change,
    balance: Balance,
}

impl<S> Edit<S> for Applied<'_> {
    fn page(&mut self, _: &S, page: PageNo, bytes: &mut PageBytes) -> Result<(), ChangeError> {
        self.change.apply(self.geometry, page, bytes, &mut self.balance);
        Ok(())
    }

    fn superblock(&mut self, next: &mut Superblock) {
        complete(next, self.change, &self.balance);
    }
}

/// Updates the counts and flags in the superblock of a commit by what the change does to them.
fn complete(next: &mut Superblock, change: &Change, by: &Balance) {
    let (marks, sums) = (next.marks(), next.group_sums());
    if let Some(raw) = change.superblock() {
        next.raw = *raw;
        // A repair that changes the state flags must not hide that it is still in progress.
        next.raw.state = (raw.state.get() & !STATE_CLEAN | STATE_ACTIVE).into();
        next.set_marks(marks);
        next.set_group_sums(&sums);
    }
    let raw = &mut next.raw;
    let counts = [&mut raw.free_blocks, &mut raw.data_blocks, &mut raw.bad_blocks, &mut raw.reserved_blocks];
    for (count, by) in counts.into_iter().zip(by.blocks) {
        *count = count.get().saturating_add_signed(by).into();
    }
    raw.used_inodes = raw.used_inodes.get().saturating_add_signed(by.inodes).into();
    raw.state = (raw.state.get() & !STATE_SEALED).into();
}

/// Notes in the superblock who made the commit, and when.
fn sign(next: &mut Superblock, stamp: &Stamp) {
    let raw = &mut next.raw;
    raw.written = stamp.now.into();
    raw.write_count = raw.write_count.get().saturating_add(1).into();
    raw.writer = text_field(&stamp.writer);
}

/// The generations of the table pages before the marks: eight bytes for each.
#[derive(Clone, Debug)]
pub(crate) struct Ages {
    geometry: Geometry,
    table: Vec<u64>,
    inodes: Vec<u64>,
}

impl Ages {
    /// The generations in the state that was decided.
    pub(crate) fn of(superblocks: &Superblocks, census: &Census) -> Self {
        let geometry = superblocks.geometry();
        let decision = superblocks.decision();
        let [table, inodes] = decision.marks.ranges(geometry).map(|pages| {
            let age = |page| match decision.outcome {
                Outcome::RolledBack => census.statement(CopyId::B, page),
                _ => census.newest(page).map(|(generation, _)| generation),
            };
            pages.map(|page| age(PageNo(page)).unwrap_or_default().0).collect()
        });
        Self { geometry, table, inodes }
    }

    /// The index of a page in its column.
    fn index_of(&self, page: PageNo) -> usize {
        let first = if page.0 > self.geometry.table_pages() { self.geometry.first_inode_page().0 } else { 1 };
        to_usize(page.0.saturating_sub(first))
    }

    fn get(&self, page: PageNo) -> Option<Generation> {
        let column = if page.0 > self.geometry.table_pages() { &self.inodes } else { &self.table };
        column.get(self.index_of(page)).copied().map(Generation)
    }

    fn set(&mut self, page: PageNo, generation: Generation) {
        let place = self.index_of(page);
        let column = if page.0 > self.geometry.table_pages() { &mut self.inodes } else { &mut self.table };
        if column.len() <= place {
            column.resize(place.saturating_add(1), 0);
        }
        if let Some(age) = column.get_mut(place) {
            *age = generation.0;
        }
    }
}
