//! The gate of a restore. It checks each write against the order in which a new region replaces an old one.
//!
//! The gate does not know how a restore works. From the superblock of the new region, it lets only these writes pass:
//!
//! - Each write is a page of the new region, sealed for its location: a superblock, or a table page before its marks.
//! - The first copy gets its superblock and then, after a barrier, its pages. Until all of them are durable, nothing is
//!   written to the other copy, which is the old region.
//! - The other copy is then written in the same order, and each of its pages equals that of the first copy.
//! - The superblocks that end a restore have the next generation and name no region to replace. They are written one at
//!   a time, when all pages of both copies are durable.

use std::ops::Range;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::seal::{self, Place};
use gmfs_format::native::sum::{Sum, Trailer};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::{
    CopyId, Generation, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, len64, small, to_usize,
};
use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

/// A target on which a new region replaces an old one.
#[derive(Debug)]
pub(crate) struct Handover<'t, T: ?Sized> {
    target: &'t mut T,
    /// The superblock of the new region.
    superblock: Superblock,
    /// The sum of the pages of the new region.
    sum: Sum,
    share: u32,
    /// The copy that is written first.
    first: Option<CopyId>,
    sides: [Side; 2],
    /// Whether anything was written since the last barrier.
    volatile: bool,
}

/// What one copy has received.
#[derive(Debug)]
struct Side {
    /// Which pages have been written, by page number. Page 0 is the superblock.
    stored: Vec<bool>,
    /// How many table pages are missing.
    left: u64,
    /// Whether the superblock is durable.
    opened: bool,
}

impl Side {
    fn has(&self, page: PageNo) -> bool {
        self.stored.get(to_usize(page.0)) == Some(&true)
    }

    fn add(&mut self, page: PageNo) {
        let Some(stored) = self.stored.get_mut(to_usize(page.0)) else { return };
        if !std::mem::replace(stored, true) && page != PageNo(0) {
            self.left = self.left.saturating_sub(1);
        }
    }
}

impl<'t, T: ReadAt + ?Sized> Handover<'t, T> {
    /// A gate in front of `target`, which gets the region of this superblock.
    pub(crate) fn new(target: &'t mut T, superblock: &Superblock) -> Self {
        let geometry = superblock.geometry();
        let pages = || superblock.marks().pages(geometry);
        let sum = pages().fold(Sum::default(), |sum, page| sum + Sum::of(page, superblock.generation));
        let side =
            || Side { stored: vec![false; small(geometry.pages())], left: len64(pages().count()), opened: false };
        Self {
            target,
            superblock: superblock.clone(),
            sum,
            share: seal::copy_share(),
            first: None,
            sides: [side(), side()],
            volatile: false,
        }
    }

    const fn side(&self, copy: CopyId) -> &Side {
        copy.pick(&self.sides)
    }

    fn geometry(&self) -> Geometry {
        self.superblock.geometry()
    }

    fn place(&self, copy: CopyId, page: PageNo) -> Option<Place> {
        let Superblock { uuid, birth, .. } = self.superblock;
        let geometry = self.geometry();
        Some(Place { kind: geometry.page_kind(page)?, copy, page, uuid, birth, geometry })
    }

    /// Whether a copy durably holds the whole new region.
    const fn is_complete(&self, copy: CopyId) -> bool {
        let side = self.side(copy);
        side.left == 0 && side.opened && !self.volatile
    }

    fn hold(&mut self, offset: u64, bytes: &PageBytes) -> Result<(), &'static str> {
        let (copy, page) = self.geometry().page_at(offset).ok_or("it is no place of the region's metadata")?;
        let place = self.place(copy, page).ok_or("it is no place of the region's metadata")?;
        let generation = seal::check(bytes, &place).map_err(|_| "it is no page of the region that is put back")?;
        let is_first = *self.first.get_or_insert(copy) == copy;
        if !is_first && self.side(copy.other()).left > 0 {
            return Err("the other copy does not hold all that is put back yet");
        }
        if page == PageNo(0) {
            self.hold_superblock(copy, bytes, generation)?;
        } else {
            self.hold_page(&place, bytes, generation, is_first)?;
        }
        copy.pick_mut(&mut self.sides).add(page);
        self.volatile = true;
        Ok(())
    }

    fn hold_superblock(&self, copy: CopyId, bytes: &PageBytes, generation: Generation) -> Result<(), &'static str> {
        let Trailer { marks, sum, .. } = Trailer::of(bytes);
        if marks != self.superblock.marks() || sum != self.sum {
            return Err("it is a superblock, and its marks or its sum are not those of the pages");
        }
        if self.volatile {
            return Err("it is a superblock, and stores before it are not durable yet");
        }
        if !self.side(copy).has(PageNo(0)) {
            let same = generation == self.superblock.generation;
            return if same { Ok(()) } else { Err("it is a superblock of another generation than the pages") };
        }
        let ended = CopyId::BOTH.into_iter().all(|copy| self.is_complete(copy));
        if !ended || self.superblock.generation.0.checked_add(1) != Some(generation.0) {
            return Err("it is the superblock that ends a restore, and not all pages are there");
        }
        Ok(())
    }

    fn hold_page(
        &self,
        place: &Place,
        bytes: &PageBytes,
        generation: Generation,
        is_first: bool,
    ) -> Result<(), &'static str> {
        let Place { copy, page, .. } = *place;
        if generation != self.superblock.generation || !self.superblock.marks().cover(self.geometry(), page) {
            return Err("it is no page before the marks of what is put back, or one of another generation");
        }
        if !self.side(copy).opened {
            return Err("its copy has no durable superblock yet");
        }
        if !is_first {
            let mut other = [0; PAGE_SIZE];
            let offset = self.geometry().page_offset(copy.other(), page);
            let read = self.target.read_at(offset, &mut other).is_ok();
            if !read || !seal::is_turned(&other, bytes, copy, self.share) {
                return Err("it is not what the other copy has");
            }
        }
        Ok(())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Handover<'_, T> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.target.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.target.end()
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        self.target.next_data(range)
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        self.target.next_absent(range)
    }
}

impl<T: WriteAt + ?Sized> WriteAt for Handover<'_, T> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let refuse = |span, why: &str| {
            let message = format!("the restore was stopped before it wrote here: {why}");
            WriteError { span, source: std::io::Error::other(message) }
        };
        let (pages, rest) = bytes.as_chunks::<PAGE_SIZE>();
        if !rest.is_empty() {
            return Err(refuse(Span::new(offset, len64(bytes.len())), "it is not a whole page"));
        }
        for (number, page) in pages.iter().enumerate() {
            let at = offset.saturating_add(len64(number).saturating_mul(PAGE_BYTES));
            self.hold(at, page).map_err(|why| refuse(Span::new(at, PAGE_BYTES), why))?;
        }
        self.target.write_at(offset, bytes)
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        let message = "the restore was stopped before it wrote here: a restore zeroes nothing";
        Err(WriteError { span, source: std::io::Error::other(message) })
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        self.target.barrier()?;
        self.volatile = false;
        for side in &mut self.sides {
            side.opened |= side.has(PageNo(0));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use gmfs_format::native::units::PmdShift;
    use uuid::Uuid;

    use super::*;
    use crate::{FormatOptions, Stamp, format};

    #[derive(Clone, Debug)]
    enum Step {
        Store(u64, Box<PageBytes>),
        Barrier,
    }

    /// A region, and all writes of a restore over it, in order.
    fn right() -> (Vec<u8>, Superblock, Vec<Step>) {
        let geometry = Geometry::plan(16 << 20, PmdShift::M2, 16).unwrap();
        let mut image = vec![0; 16 << 20];
        let options = FormatOptions {
            geometry,
            uuid: Uuid::from_u128(7),
            birth: 3,
            label: String::new(),
            base: 0,
            owner: (0, 0),
            stamp: Stamp { now: 1, writer: "test".into() },
            forget: Vec::new(),
        };
        let mut comes = format(&mut image, &options).unwrap();
        (comes.birth, comes.generation) = (4, Generation(9));
        let pages: Vec<PageNo> = comes.marks().pages(geometry).collect();
        assert!(!pages.is_empty());
        let groups = crate::decide::group_sums(pages.iter().map(|page| (*page, comes.generation)));
        comes.set_group_sums(&groups);
        let superblock = |comes: &Superblock, copy| {
            [Step::Store(geometry.copy_offset(copy), Box::new(comes.page(copy))), Step::Barrier]
        };
        let mut steps = Vec::new();
        for copy in CopyId::BOTH {
            steps.extend(superblock(&comes, copy));
            for page in &pages {
                let mut bytes = Box::new([0; PAGE_SIZE]);
                let offset = geometry.page_offset(CopyId::A, *page);
                image.read_at(offset, bytes.as_mut_slice()).unwrap();
                comes.trailer().write(&mut bytes);
                let (kind, Superblock { uuid, birth, .. }) = (geometry.page_kind(*page).unwrap(), &comes);
                seal::seal(
                    &mut bytes,
                    &Place { kind, copy, page: *page, uuid: *uuid, birth: *birth, geometry },
                    comes.generation,
                );
                steps.push(Step::Store(geometry.page_offset(copy, *page), bytes));
            }
            steps.push(Step::Barrier);
        }
        let mut last = comes.clone();
        last.generation = Generation(10);
        steps.extend(CopyId::BOTH.into_iter().flat_map(|copy| superblock(&last, copy)));
        (image, comes, steps)
    }

    fn pass(image: &[u8], comes: &Superblock, steps: &[Step]) -> Result<(), String> {
        let mut image = image.to_vec();
        let mut handover = Handover::new(&mut image, comes);
        for step in steps {
            match step {
                Step::Store(offset, bytes) => handover.write_at(*offset, bytes.as_slice()),
                Step::Barrier => handover.barrier(),
            }
            .map_err(|error| error.source.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn the_order_of_a_restore_passes() {
        let (image, comes, steps) = right();
        assert_eq!(pass(&image, &comes, &steps), Ok(()));
    }

    #[test]
    fn nothing_may_be_left_out_before_the_end() {
        let (image, comes, steps) = right();
        // The writes that end a restore may be missing, because the region is whole without them.
        for left_out in 0..steps.len().saturating_sub(4) {
            let mut wrong = steps.clone();
            wrong.remove(left_out);
            assert!(pass(&image, &comes, &wrong).is_err(), "without step {left_out}");
        }
    }

    #[test]
    fn the_other_copy_is_not_touched_early() {
        let (image, comes, steps) = right();
        let b = CopyId::B;
        let of_b = |step: &Step| matches!(step, Step::Store(at, _) if *at >= comes.geometry().copy_offset(b));
        let first = steps.iter().position(of_b).unwrap();
        for early in 1..first {
            let mut wrong = steps.clone();
            let step = wrong.remove(first);
            wrong.insert(early, step);
            let moved = pass(&image, &comes, &wrong);
            assert!(moved.is_err(), "superblock B before step {early}");
        }
    }

    #[test]
    fn what_is_not_the_region_that_comes_is_refused() {
        let (image, comes, steps) = right();
        for (number, step) in steps.iter().enumerate() {
            let Step::Store(offset, bytes) = step else { continue };
            let mut foreign = bytes.clone();
            gmfs_format::native::raw::PageHeader::of_mut(&mut foreign).uuid = [1; 16];
            seal::renew_crc(&mut foreign);
            let mut wrong = steps.clone();
            wrong.splice(number..number.saturating_add(1), [Step::Store(*offset, foreign)]);
            assert!(pass(&image, &comes, &wrong).is_err(), "a foreign page at step {number}");
            let data = comes.geometry().block_offset(comes.geometry().first_data());
            wrong.splice(number..number.saturating_add(1), [Step::Store(data, bytes.clone())]);
            assert!(pass(&image, &comes, &wrong).is_err(), "over a file's memory at step {number}");
        }
        assert!(Handover::new(&mut image.clone(), &comes).zero(Span::new(0, 4096)).is_err());
    }
}
