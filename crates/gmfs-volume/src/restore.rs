//! Puts metadata back from a copy of it. A crash in between never leaves a mixture that could be taken for the old or
//! the new state.
//!
//! What is put back is older than what is there, or has another history. So it becomes a region of its own with the
//! same UUID and a new birth, so that no page of the old region can be taken for one of its pages.
//!
//! 1. One copy, the less valuable one, gets the superblock of the new region. It names the birth of the region that it
//!    replaces.
//! 2. The pages follow. With the last of them the new region is whole and counts. Until then, the untouched other copy
//!    is the region.
//! 3. The other copy gets the superblock, and then the pages.
//! 4. Both superblocks are rewritten as clean, and without the birth of the replaced region.
//!
//! A barrier follows each part. If the old region was not whole in the other copy alone, a restore that was interrupted
//! in part 2 leaves two regions that contend. Running it again finishes it.

use gmfs_format::native::copies::Standing;
use gmfs_format::native::raw::SuperblockRaw;
use gmfs_format::native::seal::{self, PageKind, Place};
use gmfs_format::native::superblock::{STATE_ACTIVE, STATE_CLEAN, Superblock};
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, len64};
use gmfs_io::{ReadAt, ReadError, WriteAt, WriteError};
use zerocopy::FromZeros as _;

use crate::decide::group_sums;
use crate::gate::{Class, Gate};
use crate::handover::Handover;
use crate::region::{judge_page, read_page};
use crate::superblocks::{OpenError, Superblocks, same_content, used_ranges};

/// Why metadata was not put back, or not completely.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A page to be put back is missing in both copies.
    #[error(
        "{pages} metadata pages are missing in both copies (the first is page {first}): what is in the region would be mixed with what is put back"
    )]
    Missing {
        /// How many pages are missing.
        pages: u64,
        /// The first of them.
        first: PageNo,
    },
    /// A page has the highest possible generation, so no generation can be above it.
    #[error("there is no generation above those in the region")]
    Generations,
    /// The pages to be put back are not proven to be one state of a region.
    #[error("the pages to be put back do not prove that they are one state of a region: repair them first")]
    Doubt,
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

/// The metadata to be put back.
#[derive(Debug)]
pub struct Restore<'a, D: ?Sized> {
    from: &'a D,
    superblocks: &'a Superblocks,
    birth: u64,
}

impl<'a, D: ReadAt + ?Sized> Restore<'a, D> {
    /// The metadata in `from`, with its superblocks. `birth` is a random number, which becomes the region's new birth
    /// if anything is written.
    pub const fn new(from: &'a D, superblocks: &'a Superblocks, birth: u64) -> Self {
        Self { from, superblocks, birth }
    }

    /// How many pages of `target` differ from what they will be. Differences of births and generations do not count.
    ///
    /// # Errors
    /// [`RestoreError::Missing`] or [`RestoreError::Doubt`].
    pub fn differing<T: ReadAt + ?Sized>(&self, target: &T) -> Result<u64, RestoreError> {
        let (mut missing, mut first) = (0_u64, PageNo(0));
        for page in self.pages().filter(|page| read_page(self.from, self.superblocks, *page).is_none()) {
            first = if missing == 0 { page } else { first };
            missing = missing.saturating_add(1);
        }
        if missing > 0 {
            return Err(RestoreError::Missing { pages: missing, first });
        }
        if !self.superblocks.decision().is_whole() || !self.superblocks.rivals().is_empty() {
            return Err(RestoreError::Doubt);
        }
        // All pages of both copies, including superblocks.
        let all = len64(self.pages().count()).saturating_add(1).saturating_mul(2);
        let Some(there) = self.same_region(target) else { return Ok(all) };
        let mut count = 0_u64;
        for (copy, slot) in CopyId::BOTH.into_iter().zip([&there.a, &there.b]) {
            let same = slot.good().is_some_and(|superblock| says_the_same(superblock, self.superblocks.current()));
            let differs = !same || there.judgement().of(copy) != Standing::Good;
            count = count.saturating_add(differs.into());
        }
        for page in self.pages() {
            let wanted = read_page(self.from, self.superblocks, page);
            for copy in CopyId::BOTH {
                let is_there = page_at(target, &there, copy, page).zip(wanted.as_deref());
                let differs = is_there.is_none_or(|(bytes, wanted)| !same_content(&bytes, wanted));
                count = count.saturating_add(differs.into());
            }
        }
        Ok(count)
    }

    /// The region in `target`, if it is whole and has the marks and the layout of what is put back.
    fn same_region<T: ReadAt + ?Sized>(&self, target: &T) -> Option<Superblocks> {
        let there = Superblocks::load_any(target, None).ok().filter(|there| there.rivals().is_empty())?;
        let same = there.identity().uuid == self.superblocks.identity().uuid
            && there.geometry() == self.superblocks.geometry()
            && there.decision().is_whole()
            && there.decision().marks == self.superblocks.decision().marks;
        same.then_some(there)
    }

    /// Puts everything back. Returns the number of pages that were written.
    ///
    /// # Errors
    /// The medium failed, or the metadata cannot be put back. The next call finishes what was begun.
    pub fn put_back<T: WriteAt + ?Sized>(&self, target: &mut T) -> Result<u64, RestoreError> {
        if self.differing(target)? == 0 {
            return Ok(0);
        }
        let there = Superblocks::decide(&*target, None).ok();
        let first = self.expendable(&*target, there.as_ref());
        let mut written = 0_u64;
        if let Some(there) = there.as_ref().filter(|there| there.decision().is_whole() && there.rivals().is_empty()) {
            mend_copy(target, there, first.other())?;
        }
        let superblock = self.superblock(there.as_ref())?;
        let target = &mut Handover::new(target, &superblock);
        for copy in [first, first.other()] {
            self.store(target, &superblock, copy)?;
            for page in self.pages() {
                let Some(mut bytes) = read_page(self.from, self.superblocks, page) else { continue };
                superblock.trailer().write(&mut bytes);
                seal::seal(&mut bytes, &place_of(&superblock, copy, page), superblock.generation);
                target.write_at(self.offset(copy, page), bytes.as_slice())?;
                written = written.saturating_add(1);
            }
            target.barrier()?;
        }
        let mut last = superblock;
        last.raw.replaces = 0.into();
        last.raw.state = at_rest(self.superblocks.current().raw.state.get()).into();
        last.generation = Generation(last.generation.0.checked_add(1).ok_or(RestoreError::Generations)?);
        for copy in CopyId::BOTH {
            self.store(target, &last, copy)?;
            written = written.saturating_add(1);
        }
        Ok(written)
    }

    /// The superblock of the new region while the restore is in progress.
    fn superblock(&self, there: Option<&Superblocks>) -> Result<Superblock, RestoreError> {
        let mut superblock = self.superblocks.current().clone();
        superblock.generation = self.superblocks.committed();
        let replaced = there.map(|there| there.identity().birth);
        superblock.birth = self.birth;
        while [replaced, Some(self.superblocks.identity().birth), Some(0)].contains(&Some(superblock.birth)) {
            superblock.birth = superblock.birth.wrapping_add(1);
        }
        superblock.raw.replaces = replaced.unwrap_or_default().into();
        superblock.raw.state = (superblock.raw.state.get() & !STATE_CLEAN | STATE_ACTIVE).into();
        let generation = superblock.generation;
        superblock.set_group_sums(&group_sums(self.pages().map(|page| (page, generation))));
        if generation.0 == u64::MAX { Err(RestoreError::Generations) } else { Ok(superblock) }
    }

    fn store<T: WriteAt + ?Sized>(
        &self,
        target: &mut T,
        superblock: &Superblock,
        copy: CopyId,
    ) -> Result<(), WriteError> {
        target.write_at(self.offset(copy, PageNo(0)), &superblock.page(copy))?;
        target.barrier()
    }

    /// The table pages in use in what is put back.
    fn pages(&self) -> impl Iterator<Item = PageNo> + use<D> {
        self.superblocks.decision().marks.pages(self.superblocks.geometry()).collect::<Vec<_>>().into_iter()
    }

    fn offset(&self, copy: CopyId, page: PageNo) -> u64 {
        self.superblocks.geometry().page_offset(copy, page)
    }

    /// The copy to write first. The other one must hold the old region alone until this one is whole.
    fn expendable<T: ReadAt + ?Sized>(&self, target: &T, there: Option<&Superblocks>) -> CopyId {
        let [a, b] = there.map_or([0, 0], |there| broken(target, there));
        if a > b { CopyId::A } else { CopyId::B }
    }
}

/// Whether two superblocks describe the same state, whatever pages they are computed from. Sums are ignored because
/// they follow from generations, and so are state flags because a restored region is left clean.
fn says_the_same(one: &Superblock, other: &Superblock) -> bool {
    let said = |superblock: &Superblock| {
        let mut raw = superblock.raw;
        raw.group_sums = SuperblockRaw::new_zeroed().group_sums;
        raw.state = at_rest(raw.state.get()).into();
        raw
    };
    one.raw.state.get() & STATE_ACTIVE == 0 && said(one) == said(other)
}

/// The state flags after a session has ended.
const fn at_rest(state: u32) -> u32 {
    state & !STATE_ACTIVE | STATE_CLEAN
}

/// The location of a page of a superblock's region, and what it must record there.
fn place_of(superblock: &Superblock, copy: CopyId, page: PageNo) -> Place {
    let Superblock { uuid, birth, .. } = *superblock;
    let geometry = superblock.geometry();
    let kind = geometry.page_kind(page).unwrap_or(PageKind::Superblock);
    Place { kind, copy, page, uuid, birth, geometry }
}

/// The page at a location in a copy, if it is a page of the region.
fn page_at<T: ReadAt + ?Sized>(
    target: &T,
    superblocks: &Superblocks,
    copy: CopyId,
    page: PageNo,
) -> Option<Box<PageBytes>> {
    let mut bytes = Box::new([0; PAGE_SIZE]);
    target.read_at(superblocks.geometry().page_offset(copy, page), bytes.as_mut_slice()).ok()?;
    seal::check(&bytes, &superblocks.place(copy, page)?).ok()?;
    Some(bytes)
}

/// Writes those pages of one copy that only the other one has, because this copy will have to hold the region alone.
fn mend_copy<T: WriteAt + ?Sized>(target: &mut T, there: &Superblocks, copy: CopyId) -> Result<(), RestoreError> {
    let target = &mut Gate::new(target, there, Class::Safe, false).ok_or(OpenError::Doubt)?;
    let mut mended = false;
    for page in used_pages(there).filter(|page| *page != PageNo(0)) {
        let judged = judge_page(&*target, there, page);
        let alone = judged.take == Some(copy.other()) && judged.of(copy) != Standing::Good;
        let Some((mut bytes, place)) =
            alone.then(|| read_page(&*target, there, page)).flatten().zip(there.place(copy, page))
        else {
            continue;
        };
        let generation = Generation(gmfs_format::native::raw::PageHeader::of(&bytes).generation.get());
        seal::seal(&mut bytes, &place, generation);
        target.write_at(there.geometry().page_offset(copy, page), bytes.as_slice())?;
        mended = true;
    }
    if mended {
        target.barrier()?;
    }
    let standing = there.judgement().of(copy);
    if standing != Standing::Good {
        target.write_at(there.geometry().copy_offset(copy), &there.current().page(copy))?;
        target.barrier()?;
    }
    Ok(())
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
            *count = count.saturating_add((standing != Standing::Good).into());
        }
    }
    broken
}
