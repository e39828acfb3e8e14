//! One pass over metadata pages: both copies read in large pieces, judged, and handed to a visitor.
//!
//! Memory is two buffers a thread, whatever the region's size. Threads take contiguous parts of the range, so that a
//! visitor sees rising page numbers. That is not reading ahead ([`gmfs_io::in_order`]): each thread also looks at what it
//! has read, with a visitor of its own, and nobody takes pages in order.

use std::num::NonZeroU32;
use std::ops::Range;

use gmfs_format::native::copies::{Found, Judgement};
use gmfs_format::native::seal::{self, PageKind, SealFault};
use gmfs_format::native::units::{
    CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, len64, range_len, to_u32, to_usize,
};
use gmfs_io::{ReadAt, ReadError};

use crate::superblocks::{Superblocks, look, same_payload};

/// Pages read at once from each copy.
const BATCH: u32 = 32;

/// A page as the sweep found it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Which page.
    pub page: PageNo,
    /// Which table it is of.
    pub kind: PageKind,
    /// Its place in that table, counted from 1: the mark that just covers it.
    pub number: u32,
    /// What its copies are worth.
    pub judgement: Judgement,
    /// What was found of copy A and copy B.
    pub found: [Found; 2],
    /// Whether both copies are good and the same.
    pub twins: bool,
    /// Whether both copies are good, of one generation, and not the same.
    pub differ: bool,
    /// Where the copies lie in the region, in bytes.
    pub offsets: [u64; 2],
    copies: [&'a PageBytes; 2],
}

impl<'a> Frame<'a> {
    /// The page that counts, if either copy does.
    #[must_use]
    pub fn taken(&self) -> Option<&'a PageBytes> {
        self.judgement.take.map(|copy| self.bytes(copy))
    }

    /// What was read of a copy. Meaningless where that copy is absent or unreadable.
    #[must_use]
    pub const fn bytes(&self, copy: CopyId) -> &'a PageBytes {
        match copy {
            CopyId::A => self.copies[0],
            CopyId::B => self.copies[1],
        }
    }
}

/// What a sweep does with each page.
pub trait Visit {
    /// Looks at one page.
    fn visit(&mut self, frame: &Frame<'_>);
}

impl<F: FnMut(&Frame<'_>)> Visit for F {
    fn visit(&mut self, frame: &Frame<'_>) {
        self(frame);
    }
}

/// Sweeps `pages` (table pages, not the superblock), one thread for each of `visitors`; gives them back in the order
/// of their parts.
pub fn sweep<S, V>(source: &S, superblocks: &Superblocks, pages: Range<u32>, mut visitors: Vec<V>) -> Vec<V>
where
    S: ReadAt + ?Sized,
    V: Visit + Send,
{
    let parts = split(&pages, visitors.len());
    if let [only] = visitors.as_mut_slice() {
        // No thread for one visitor: starting one would cost more than most regions take.
        sweep_part(source, superblocks, pages, only);
        return visitors;
    }
    std::thread::scope(|scope| {
        for (part, visitor) in parts.into_iter().zip(&mut visitors) {
            scope.spawn(move || sweep_part(source, superblocks, part, visitor));
        }
    });
    visitors
}

/// Cuts a range into contiguous parts of about equal length.
fn split(pages: &Range<u32>, parts: usize) -> Vec<Range<u32>> {
    let parts = NonZeroU32::new(to_u32(len64(parts))).unwrap_or(NonZeroU32::MIN);
    let each = range_len(pages) / parts;
    // All but the last part have this length, and all of these together are no more than the range.
    let cut = |n: u32| pages.start.saturating_add(each.saturating_mul(n));
    let (last, parts) = (parts.get().saturating_sub(1), parts.get());
    (0..parts).map(|n| cut(n)..if n == last { pages.end } else { cut(n.saturating_add(1)) }).collect()
}

/// Sweeps one part on the calling thread.
fn sweep_part<S, V>(source: &S, superblocks: &Superblocks, pages: Range<u32>, visitor: &mut V)
where
    S: ReadAt + ?Sized,
    V: Visit,
{
    let batch = to_usize(BATCH.min(range_len(&pages)));
    let [mut a, mut b] = CopyId::BOTH.map(|copy| Side::new(source, superblocks, copy, pages.end, batch));
    let share = seal::copy_share();
    for start in pages.clone().step_by(to_usize(BATCH)) {
        let count = to_usize(BATCH.min(pages.end.saturating_sub(start)));
        let (lacks_a, lacks_b) = (a.read(start, count), b.read(start, count));
        let pairs = a.pages.iter().zip(&b.pages).zip(lacks_a.into_iter().zip(lacks_b));
        for (number, ((a, b), (lacks_a, lacks_b))) in (start..).zip(pairs.take(count)) {
            let page = PageNo(number);
            let in_a = lacks_a.unwrap_or_else(|| look(superblocks, CopyId::A, page, a));
            // What the two copies have in common, which is nearly always everything, is summed up once.
            let twins = in_a.generation().is_some() && lacks_b.is_none() && seal::is_turned(a, b, CopyId::B, share);
            let in_b = if twins { in_a } else { lacks_b.unwrap_or_else(|| look(superblocks, CopyId::B, page, b)) };
            let same_age = in_a.generation().is_some() && in_a.generation() == in_b.generation();
            let differ = same_age && !twins && !same_payload(a, b);
            let judgement = superblocks.judge_page(page, in_a, in_b, || !differ);
            let offsets = CopyId::BOTH.map(|copy| superblocks.geometry().page_offset(copy, page));
            let found = [in_a, in_b];
            let kind = superblocks.geometry().page_kind(page).unwrap_or(PageKind::Superblock);
            let number = superblocks.geometry().number_in_table(page);
            visitor.visit(&Frame { page, kind, number, judgement, found, twins, differ, offsets, copies: [a, b] });
        }
    }
}

/// One copy, read batch by batch.
struct Side<'s, S: ?Sized> {
    source: &'s S,
    superblocks: &'s Superblocks,
    copy: CopyId,
    /// One past the last page of the sweep.
    end: u32,
    /// The batch that was read last.
    pages: Vec<PageBytes>,
    /// Up to this page the copy is a hole, and the batch is zeros: there is nothing to read.
    hole: u32,
}

impl<'s, S: ReadAt + ?Sized> Side<'s, S> {
    fn new(source: &'s S, superblocks: &'s Superblocks, copy: CopyId, end: u32, batch: usize) -> Self {
        Self { source, superblocks, copy, end, pages: vec![[0; PAGE_SIZE]; batch], hole: 0 }
    }

    /// Reads pages into the batch. Gives for each page what it is, as far as that is known without a look at it.
    fn read(&mut self, start: u32, count: usize) -> Vec<Option<Found>> {
        let next = start.saturating_add(to_u32(len64(count)));
        if next <= self.hole {
            return vec![Some(Found::Bad(SealFault::Zeroed)); count];
        }
        let batch = self.pages.get_mut(..count).unwrap_or_default();
        let lacks = read_pages(self.source, self.superblocks, self.copy, PageNo(start), batch);
        // Asked only where there are zeros: a copy that is there costs nothing by this.
        if lacks.iter().all(Option::is_none) && self.pages.iter().all(|page| *page == [0; PAGE_SIZE]) {
            self.hole = self.end_of_hole(next);
        }
        lacks
    }

    /// The first page from here on that may hold anything, as far as the source knows; `from` if it does not.
    fn end_of_hole(&self, from: u32) -> u32 {
        let offset = |page: u32| self.superblocks.geometry().page_offset(self.copy, PageNo(page));
        match self.source.next_data(offset(from)..offset(self.end)) {
            Ok(None) => self.end,
            Ok(Some(data)) => from.saturating_add(to_u32(data.start.saturating_sub(offset(from)) / PAGE_BYTES)),
            Err(_) => from,
        }
    }
}

/// Reads consecutive pages of one copy and looks at each.
pub(crate) fn read_batch<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    copy: CopyId,
    first: PageNo,
    pages: &mut [PageBytes],
) -> Vec<Found> {
    let lacks = read_pages(source, superblocks, copy, first, pages);
    let numbered = (first.0..).map(PageNo).zip(pages).zip(lacks);
    numbered.map(|((page, bytes), lacks)| lacks.unwrap_or_else(|| look(superblocks, copy, page, bytes))).collect()
}

/// Reads consecutive pages of one copy, at once if that works, else one by one to tell those that are there from the
/// rest. Gives for each page why its bytes are not there, if so.
fn read_pages<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    copy: CopyId,
    first: PageNo,
    pages: &mut [PageBytes],
) -> Vec<Option<Found>> {
    let offset = |page: PageNo| superblocks.geometry().page_offset(copy, page);
    if source.read_at(offset(first), pages.as_flattened_mut()).is_ok() {
        return vec![None; pages.len()];
    }
    let one = |(page, bytes): (PageNo, &mut PageBytes)| match source.read_at(offset(page), bytes.as_mut_slice()) {
        Ok(()) => None,
        Err(ReadError::Absent { why, .. }) => Some(Found::Absent(why)),
        Err(ReadError::Io { .. }) => Some(Found::Unreadable),
    };
    (first.0..).map(PageNo).zip(pages).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_once() {
        assert_eq!(split(&(1..8), 1), std::iter::once(1..8).collect::<Vec<_>>());
        assert_eq!(split(&(1..8), 2), [1..4, 4..8]);
        assert_eq!(split(&(5..6), 3), [5..5, 5..5, 5..6]);
        assert_eq!(split(&(0..u32::MAX), 2).last().unwrap().end, u32::MAX);
    }
}
