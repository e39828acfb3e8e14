//! One pass over metadata pages: reads both copies in large pieces, judges each page, and passes it to a visitor.
//!
//! Each thread needs memory for two buffers, whatever the region's size. Each thread takes a contiguous part of the
//! range, so a visitor sees ascending page numbers. This is not the reading ahead of [`gmfs_io::in_order`]: each thread
//! also processes the pages that it has read, with a visitor of its own, and the pages of different threads are not
//! brought into one order.

use std::num::NonZeroU32;
use std::ops::Range;

use gmfs_format::native::copies::{Found, Judgement};
use gmfs_format::native::seal::{self, PageKind, SealFault};
use gmfs_format::native::units::{
    CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, len64, range_len, to_u32, to_usize,
};
use gmfs_io::{ReadAt, ReadError};

use crate::superblocks::{Superblocks, condition_of, same_payload};

/// How many pages are read at once from each copy.
const BATCH: u32 = 32;

/// A page as the sweep found it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The number of the page.
    pub page: PageNo,
    /// The table that it belongs to.
    pub kind: PageKind,
    /// Its number in that table, counted from 1: the lowest mark that covers it.
    pub number: u32,
    /// The verdict on its two copies.
    pub judgement: Judgement,
    /// What was found in copy A and in copy B.
    pub found: [Found; 2],
    /// Whether both copies are good and equal.
    pub twins: bool,
    /// Whether both copies are good and of one generation, but differ.
    pub differ: bool,
    /// The offsets of the copies in the region.
    pub offsets: [u64; 2],
    copies: [&'a PageBytes; 2],
}

impl<'a> Frame<'a> {
    /// The page that counts, if either copy does.
    #[must_use]
    pub fn taken(&self) -> Option<&'a PageBytes> {
        self.judgement.take.map(|copy| self.bytes(copy))
    }

    /// The bytes that were read from a copy. They have no meaning if that copy is absent or unreadable.
    #[must_use]
    pub const fn bytes(&self, copy: CopyId) -> &'a PageBytes {
        match copy {
            CopyId::A => self.copies[0],
            CopyId::B => self.copies[1],
        }
    }
}

/// The work that a sweep does for each page.
pub trait Visit {
    /// Processes one page.
    fn visit(&mut self, frame: &Frame<'_>);
}

impl<F: FnMut(&Frame<'_>)> Visit for F {
    fn visit(&mut self, frame: &Frame<'_>) {
        self(frame);
    }
}

/// Sweeps `pages` (table pages without the superblock), with one thread for each of `visitors`. Returns the visitors in
/// the order of their parts.
pub fn sweep<S, V>(source: &S, superblocks: &Superblocks, pages: Range<u32>, mut visitors: Vec<V>) -> Vec<V>
where
    S: ReadAt + ?Sized,
    V: Visit + Send,
{
    let parts = split(&pages, visitors.len());
    if let [only] = visitors.as_mut_slice() {
        // A single visitor gets no thread, because starting a thread would take longer than sweeping most regions.
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

/// Splits a range into contiguous parts of about equal length.
fn split(pages: &Range<u32>, parts: usize) -> Vec<Range<u32>> {
    let parts = NonZeroU32::new(to_u32(len64(parts))).unwrap_or(NonZeroU32::MIN);
    let each = range_len(pages) / parts;
    // All but the last part have this length, and their total is at most the length of the range.
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
            let in_a = lacks_a.unwrap_or_else(|| condition_of(superblocks, CopyId::A, page, a));
            // If the copies are equal except for their seals, which is the usual case, only one CRC is computed.
            let twins = in_a.generation().is_some() && lacks_b.is_none() && seal::is_turned(a, b, CopyId::B, share);
            let in_b =
                if twins { in_a } else { lacks_b.unwrap_or_else(|| condition_of(superblocks, CopyId::B, page, b)) };
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

/// One copy, which is read batch by batch.
struct Side<'s, S: ?Sized> {
    source: &'s S,
    superblocks: &'s Superblocks,
    copy: CopyId,
    /// One past the last page of the sweep.
    end: u32,
    /// The batch that was read last.
    pages: Vec<PageBytes>,
    /// Up to this page the copy is a hole and its pages are zero, so nothing is read.
    hole: u32,
}

impl<'s, S: ReadAt + ?Sized> Side<'s, S> {
    fn new(source: &'s S, superblocks: &'s Superblocks, copy: CopyId, end: u32, batch: usize) -> Self {
        Self { source, superblocks, copy, end, pages: vec![[0; PAGE_SIZE]; batch], hole: 0 }
    }

    /// Reads pages into the batch. Returns for each page what it is, if that is known without examining it.
    fn read(&mut self, start: u32, count: usize) -> Vec<Option<Found>> {
        let next = start.saturating_add(to_u32(len64(count)));
        if next <= self.hole {
            return vec![Some(Found::Bad(SealFault::Zeroed)); count];
        }
        let batch = self.pages.get_mut(..count).unwrap_or_default();
        let lacks = read_pages(self.source, self.superblocks, self.copy, PageNo(start), batch);
        // The source is asked only after zeros, so that this costs nothing for a copy with content.
        if lacks.iter().all(Option::is_none) && self.pages.iter().all(|page| *page == [0; PAGE_SIZE]) {
            self.hole = self.end_of_hole(next);
        }
        lacks
    }

    /// The first page at or after `from` that may have content, as far as the source knows; `from` if it does not.
    fn end_of_hole(&self, from: u32) -> u32 {
        let offset = |page: u32| self.superblocks.geometry().page_offset(self.copy, PageNo(page));
        match self.source.next_data(offset(from)..offset(self.end)) {
            Ok(None) => self.end,
            Ok(Some(data)) => from.saturating_add(to_u32(data.start.saturating_sub(offset(from)) / PAGE_BYTES)),
            Err(_) => from,
        }
    }
}

/// Reads consecutive pages of one copy and examines each.
pub(crate) fn read_batch<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    copy: CopyId,
    first: PageNo,
    pages: &mut [PageBytes],
) -> Vec<Found> {
    let lacks = read_pages(source, superblocks, copy, first, pages);
    let numbered = (first.0..).map(PageNo).zip(pages).zip(lacks);
    numbered
        .map(|((page, bytes), lacks)| lacks.unwrap_or_else(|| condition_of(superblocks, copy, page, bytes)))
        .collect()
}

/// Reads consecutive pages of one copy: all at once if that works, and otherwise one by one, to find out which ones are
/// readable. Returns for each page why its bytes are missing, if they are.
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
