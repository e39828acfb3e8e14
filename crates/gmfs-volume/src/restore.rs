//! Metadata put back from a copy of it, so that a crash in between never leaves a mixture that passes for either.
//!
//! What is put back is older than what is there, or of another history altogether: its generations say nothing about
//! those in the region, and two pages of which one is from each could both count. So the way leads over a state of its
//! own: the same contents, in pages above every generation that was ever seen.
//!
//! 1. One copy's superblock goes. The other copy, as it was, is the region.
//! 2. The contents to come are written into the first copy with the new generation: nobody reads them yet.
//! 3. Its superblock follows: from here on the region is what was put back, for these pages are above all others.
//! 4. The second copy's superblock goes, its pages are written as they are to be, and its superblock.
//! 5. The first copy's superblock goes: the second copy is the region. Its pages are written as they are to be, and its
//!    superblock.
//!
//! There is a barrier behind each part. At no time do both copies count with different contents.
//!
//! The marks may go back by that. In the first copy, pages that are behind them then are zeroed in part 2: in both copies
//! they would pass for pages that a writer used without moving the marks ([`behind`](crate::behind)).

use gmfs_format::copies::Standing;
use gmfs_format::io::{ReadAt, ReadError, Span, WriteAt, WriteError};
use gmfs_format::seal;
use gmfs_format::units::{CopyId, Generation, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo};

use crate::region::{judge_page, read_page};
use crate::superblocks::{OpenError, Superblocks, used_ranges};

/// Why metadata was not put back, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Neither copy of a page is there to be put back.
    #[error(
        "{pages} metadata pages are missing in both copies (the first is page {first}): what is in the region would be mixed with what is put back"
    )]
    Missing {
        /// How many.
        pages: u64,
        /// The first of them.
        first: PageNo,
    },
    /// A page carries the highest number that there is; nothing can be above it.
    #[error("there is no generation above those in the region")]
    Generations,
    /// Neither copy of the region can be read.
    #[error("cannot open what is to be put back")]
    Open(#[from] OpenError),
    /// Reading failed.
    #[error("cannot read the metadata")]
    Read(#[from] ReadError),
    /// Writing failed.
    #[error("cannot write the region; it is not whole: put the metadata back again")]
    Write(#[from] WriteError),
}

/// Metadata that is to be put back.
#[derive(Debug)]
pub struct Restore<'a, D: ?Sized> {
    from: &'a D,
    superblocks: &'a Superblocks,
}

impl<'a, D: ReadAt + ?Sized> Restore<'a, D> {
    /// What `from` holds, judged by its superblocks.
    pub const fn new(from: &'a D, superblocks: &'a Superblocks) -> Self {
        Self { from, superblocks }
    }

    /// How many pages of `target` are not what they will be.
    ///
    /// # Errors
    /// [`RestoreError::Missing`].
    pub fn differing<T: ReadAt + ?Sized>(&self, target: &T) -> Result<u64, RestoreError> {
        let (mut count, mut missing, mut first) = (0, 0, PageNo(0));
        for page in self.pages() {
            for copy in CopyId::BOTH {
                match self.to_be(copy, page) {
                    Some(bytes) => count += u64::from(!self.is_there(target, copy, page, &bytes)),
                    // Counted once.
                    None if copy == CopyId::B => {
                        first = if missing == 0 { page } else { first };
                        missing += 1;
                    }
                    None => {}
                }
            }
        }
        if missing > 0 { Err(RestoreError::Missing { pages: missing, first }) } else { Ok(count) }
    }

    /// Puts everything back. Gives the number of pages written.
    ///
    /// # Errors
    /// What was begun is ended by the next call.
    pub fn put_back<T: WriteAt + ?Sized>(&self, target: &mut T) -> Result<u64, RestoreError> {
        if self.differing(target)? == 0 {
            return Ok(0);
        }
        let there = Superblocks::load(&*target).ok();
        let above = self.above(&*target, there.as_ref()).ok_or(RestoreError::Generations)?;
        let first = self.expendable(&*target, there.as_ref());
        let second = if first == CopyId::A { CopyId::B } else { CopyId::A };
        let changing: Vec<PageNo> = self.changing(&*target);
        let mut written = 0;
        if let Some(there) = &there {
            mend_copy(target, there, second)?;
        }
        self.drop_superblock(target, first)?;
        for page in self.uncovered(there.as_ref()) {
            target.zero(Span::new(self.offset(first, page), PAGE_BYTES))?;
        }
        for page in tables(&changing) {
            if let Some(bytes) = self.lifted(first, page, above) {
                target.write_at(self.offset(first, page), bytes.as_slice())?;
                written += 1;
            }
        }
        target.barrier()?;
        let mut superblock = self.superblocks.current().clone();
        superblock.generation = above;
        target.write_at(self.offset(first, PageNo(0)), &superblock.page(first))?;
        target.barrier()?;
        for copy in [second, first] {
            self.drop_superblock(target, copy)?;
            for page in tables(&changing).chain([PageNo(0)]) {
                if page == PageNo(0) {
                    target.barrier()?;
                }
                if let Some(bytes) = self.to_be(copy, page) {
                    target.write_at(self.offset(copy, page), bytes.as_slice())?;
                    written += 1;
                }
            }
            target.barrier()?;
        }
        Ok(written)
    }

    /// The pages that are in use in what is put back; all where nobody recorded which are.
    fn pages(&self) -> impl Iterator<Item = PageNo> + use<D> {
        used_pages(self.superblocks)
    }

    /// The pages that are not, in one copy or both, what they are to be.
    fn changing<T: ReadAt + ?Sized>(&self, target: &T) -> Vec<PageNo> {
        let differs =
            |page: PageNo, copy| self.to_be(copy, page).is_some_and(|to| !self.is_there(target, copy, page, &to));
        self.pages().filter(|page| CopyId::BOTH.iter().any(|copy| differs(*page, *copy))).collect()
    }

    /// The pages in use in what is there that will be behind the marks.
    fn uncovered(&self, there: Option<&Superblocks>) -> Vec<PageNo> {
        let Some(there) = there.filter(|there| there.geometry() == self.superblocks.geometry()) else {
            return Vec::new();
        };
        let kept = used_ranges(self.superblocks);
        used_pages(there).filter(|page| !kept.iter().any(|range| range.contains(&page.0))).collect()
    }

    fn offset(&self, copy: CopyId, page: PageNo) -> u64 {
        self.superblocks.geometry().page_offset(copy, page)
    }

    fn is_there<T: ReadAt + ?Sized>(&self, target: &T, copy: CopyId, page: PageNo, bytes: &PageBytes) -> bool {
        let mut own = [0; PAGE_SIZE];
        target.read_at(self.offset(copy, page), &mut own).is_ok() && own == *bytes
    }

    /// What a page is to be in the end: exactly what it was, or, where only the other copy of it is there, its mirror.
    fn to_be(&self, copy: CopyId, page: PageNo) -> Option<Box<PageBytes>> {
        let mut bytes = Box::new([0; PAGE_SIZE]);
        if self.from.read_at(self.offset(copy, page), bytes.as_mut_slice()).is_ok() {
            return Some(bytes);
        }
        let place = self.superblocks.place(copy, page)?;
        if page == PageNo(0) {
            return Some(Box::new(self.superblocks.current().page(copy)));
        }
        let mut bytes = read_page(self.from, self.superblocks, page)?;
        let generation = Generation(gmfs_format::raw::PageHeader::of(&bytes).generation.get());
        seal::seal(&mut bytes, &place, generation);
        Some(bytes)
    }

    /// A page's contents with another generation; where nothing counts, what lies there.
    fn lifted(&self, copy: CopyId, page: PageNo, generation: Generation) -> Option<Box<PageBytes>> {
        let Some(mut bytes) = read_page(self.from, self.superblocks, page) else { return self.to_be(copy, page) };
        seal::seal(&mut bytes, &self.superblocks.place(copy, page)?, generation);
        Some(bytes)
    }

    /// A generation above any in a good page of either.
    fn above<T: ReadAt + ?Sized>(&self, target: &T, there: Option<&Superblocks>) -> Option<Generation> {
        // Pages of what is put back may lie behind the marks of what is there: both are looked at by both.
        let mut highest = highest(self.from, self.superblocks).max(highest(target, self.superblocks));
        if let Some(there) = there {
            highest = highest.max(self::highest(target, there));
        }
        highest.0.checked_add(1).map(Generation)
    }

    /// The copy to begin with. The other one has to carry the region by itself twice: as it is in the region, while the
    /// first is written, and in the end as it will be.
    fn expendable<T: ReadAt + ?Sized>(&self, target: &T, there: Option<&Superblocks>) -> CopyId {
        let [a, b] = broken(self.from, self.superblocks);
        let [now_a, now_b] = there.map_or([0, 0], |there| broken(target, there));
        if (a, now_a) > (b, now_b) { CopyId::A } else { CopyId::B }
    }

    fn drop_superblock<T: WriteAt + ?Sized>(&self, target: &mut T, copy: CopyId) -> Result<(), WriteError> {
        target.zero(Span::new(self.offset(copy, PageNo(0)), PAGE_BYTES))?;
        target.barrier()
    }
}

/// Writes the pages of one copy that only the other one has: it will have to carry the region by itself.
fn mend_copy<T: WriteAt + ?Sized>(target: &mut T, there: &Superblocks, copy: CopyId) -> Result<(), WriteError> {
    let mut mended = false;
    for page in used_pages(there).filter(|page| *page != PageNo(0)) {
        let judged = judge_page(&*target, there, page);
        let alone = judged.take == Some(copy.other()) && judged.of(copy) != Standing::Good && !judged.uncertain;
        let Some((mut bytes, place)) =
            alone.then(|| read_page(&*target, there, page)).flatten().zip(there.place(copy, page))
        else {
            continue;
        };
        let generation = Generation(gmfs_format::raw::PageHeader::of(&bytes).generation.get());
        seal::seal(&mut bytes, &place, generation);
        target.write_at(there.geometry().page_offset(copy, page), bytes.as_slice())?;
        mended = true;
    }
    if mended { target.barrier() } else { Ok(()) }
}

/// Pages without the superblock.
fn tables(pages: &[PageNo]) -> impl Iterator<Item = PageNo> + '_ {
    pages.iter().copied().filter(|page| *page != PageNo(0))
}

/// The pages in use, superblock first.
fn used_pages(superblocks: &Superblocks) -> impl Iterator<Item = PageNo> + use<> {
    used_ranges(superblocks).into_iter().flatten().map(PageNo)
}

/// How many pages of each copy are not good.
fn broken<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks) -> [u64; 2] {
    let mut broken = CopyId::BOTH.map(|copy| u64::from(superblocks.judgement().of(copy) != Standing::Good));
    for page in used_pages(superblocks).filter(|page| page.0 > 0) {
        let judged = judge_page(source, superblocks, page);
        for (count, standing) in broken.iter_mut().zip([judged.a, judged.b]) {
            *count += u64::from(standing != Standing::Good);
        }
    }
    broken
}

/// The highest generation in the superblocks and in any good page.
fn highest<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks) -> Generation {
    let mut highest = superblocks.committed();
    for slot in [&superblocks.a, &superblocks.b] {
        highest = highest.max(slot.good().map_or(highest, |superblock| superblock.generation));
    }
    for page in used_pages(superblocks) {
        for copy in CopyId::BOTH {
            let mut bytes = [0; PAGE_SIZE];
            let read = source.read_at(superblocks.geometry().page_offset(copy, page), &mut bytes);
            let good = superblocks.place(copy, page).filter(|_| read.is_ok()).map(|place| seal::check(&bytes, &place));
            if let Some(Ok(generation)) = good {
                highest = highest.max(generation);
            }
        }
    }
    highest
}
