//! How much of a region an image holds: metadata and data, and why the rest is missing.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use gmfs_format::io::{Absence, ReadAt, Span};
use gmfs_format::units::{CopyId, PAGE_BYTES, PageNo};
use gmfs_image::{Description, Kind};
use gmfs_volume::Region;
use gmfs_volume::superblocks::used_tables;

use crate::open::{Place, Source};

/// So much at the end of each part of a dump tells whether its file was cut: pages are stored by their addresses.
const TAIL: u64 = 4 << 20;

/// Bytes that are there and bytes that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) present: u64,
    pub(crate) absent: BTreeMap<Absence, u64>,
}

impl Tally {
    /// Notes that bytes counted as present are not there.
    fn miss(&mut self, len: u64, why: Absence) {
        self.present = self.present.saturating_sub(len);
        let sum = self.absent.entry(why).or_default();
        *sum = sum.saturating_add(len);
    }

    /// All that was looked at.
    pub(crate) fn total(&self) -> u64 {
        self.absent.values().fold(self.present, |sum, len| sum.saturating_add(*len))
    }
}

/// Blocks by what of them is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) present: u64,
    pub(crate) partly: u64,
    pub(crate) absent: u64,
}

/// What of a region an image holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    /// Pages in use, of both copies.
    pub(crate) metadata: Tally,
    /// Blocks of files.
    pub(crate) data: Tally,
    pub(crate) blocks: Blocks,
    /// Pages of the block table that no copy gives: what files own by them is not counted.
    pub(crate) lost_pages: u64,
}

/// What the image says of where its bytes are.
pub(crate) struct Index<'a> {
    source: &'a Source,
    base: u64,
    /// A dump whose own index is enough, so that its descriptors need not be read.
    dump: Option<&'a Description>,
}

impl<'a> Index<'a> {
    /// Of a dump that is whole its index is believed; else the source is asked for each range.
    pub(crate) fn new(place: &Place, source: &'a Source, dump: Option<&'a Description>) -> Self {
        let indexed = dump.filter(|dump| place.kind == Kind::Kdump && !dump.facts.incomplete);
        let whole = indexed.filter(|dump| !is_cut(place, source, dump));
        Self { source, base: place.base, dump: whole }
    }

    /// Hands the absent stretches of ascending ranges over, in the region's space.
    fn absent(&self, ranges: &[Range<u64>], mut each: impl FnMut(Span, Absence)) {
        for range in self.doubtful(ranges) {
            let mut at = range.start;
            while let Some((span, why)) = self.source.next_absent(at..range.end) {
                let from = span.offset.max(at);
                let stop = span.end().min(range.end);
                each(Span::new(from, stop.saturating_sub(from)), why);
                at = stop.max(at.saturating_add(1));
            }
        }
    }

    /// The parts of the ranges of which the index does not say that they are there.
    fn doubtful(&self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let (Some(dump), Some(first), Some(last)) = (self.dump, ranges.first(), ranges.last()) else {
            return ranges.to_vec();
        };
        let mut doubtful = Vec::new();
        let mut left = ranges.iter().cloned().peekable();
        let whole = self.base.saturating_add(first.start)..self.base.saturating_add(last.end);
        dump.visit(whole, |span, why| {
            if why.is_some() {
                return ControlFlow::Continue(());
            }
            let held = span.offset.saturating_sub(self.base)..span.end().saturating_sub(self.base);
            while let Some(range) = left.peek_mut() {
                if range.start < held.start {
                    doubtful.push(range.start..range.end.min(held.start));
                }
                range.start = range.start.max(held.end);
                if range.start < range.end {
                    break;
                }
                left.next();
            }
            if left.peek().is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        doubtful.extend(left);
        doubtful.retain(|range| range.start < range.end);
        doubtful
    }
}

/// Whether pages at the end of a part are lost, of those in the region. The index of a dump comes before its pages, and
/// may be whole then.
fn is_cut(place: &Place, source: &Source, dump: &Description) -> bool {
    let region = place.base..place.base.saturating_add(source.size());
    let all = [Span::new(0, u64::MAX)];
    let parts = if dump.facts.parts.is_empty() { all.as_slice() } else { dump.facts.parts.as_slice() };
    parts.iter().any(|part| {
        let mut last = None;
        dump.visit(part.offset.max(region.start)..part.end().min(region.end), |span, why| {
            last = if why.is_none() { Some(span) } else { last };
            ControlFlow::Continue(())
        });
        last.is_some_and(|last| {
            let start = last.end().saturating_sub(TAIL).max(last.offset);
            source.next_absent(start.saturating_sub(place.base)..last.end().saturating_sub(place.base)).is_some()
        })
    })
}

/// How much of any range of the region is there.
pub(crate) fn of_range(index: &Index<'_>, range: Range<u64>) -> Tally {
    let mut tally = Tally { present: range.end.saturating_sub(range.start), ..Tally::default() };
    index.absent(std::slice::from_ref(&range), |span, why| tally.miss(span.len, why));
    tally
}

/// How much of a region is there.
pub(crate) fn of_region<S: ReadAt>(index: &Index<'_>, region: &Region<S>) -> Presence {
    let superblocks = region.superblocks();
    let (owned, lost_pages) = owned(region);
    let owned = owned.as_slice();
    let mut found = Presence { lost_pages, ..Presence::default() };
    let geometry = superblocks.geometry();
    for copy in CopyId::BOTH {
        let tables = used_tables(superblocks.current()).map(|(_, pages)| pages);
        for pages in std::iter::once(0..1).chain(tables) {
            let start = geometry.page_offset(copy, PageNo(pages.start));
            let len = u64::from(pages.end.saturating_sub(pages.start)).saturating_mul(PAGE_BYTES);
            let part = of_range(index, start..start.saturating_add(len));
            found.metadata.present = found.metadata.present.saturating_add(part.present);
            for (why, len) in part.absent {
                let sum = found.metadata.absent.entry(why).or_default();
                *sum = sum.saturating_add(len);
            }
        }
    }
    let block = geometry.block_bytes();
    let bytes: u64 = owned.iter().map(|run| run.end.saturating_sub(run.start)).sum();
    found.data.present = bytes;
    let mut counted = Counted { block, ..Counted::default() };
    index.absent(owned, |span, why| {
        found.data.miss(span.len, why);
        counted.miss(span);
    });
    found.blocks = counted.finish(bytes / block.max(1));
    found
}

/// The blocks that files own, in bytes of the region, and how many pages of the block table are lost.
fn owned<S: ReadAt>(region: &Region<S>) -> (Vec<Range<u64>>, u64) {
    let geometry = region.geometry();
    let mut owned: Vec<Range<u64>> = Vec::new();
    let lost = region.descriptors(|block, entry| {
        if !entry.is_mapping() {
            return;
        }
        let start = geometry.block_offset(block);
        let end = start.saturating_add(geometry.block_bytes());
        match owned.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => owned.push(start..end),
        }
    });
    (owned, lost)
}

/// Counts blocks by their absent stretches, which come in ascending order.
#[derive(Default)]
struct Counted {
    block: u64,
    /// The block that was seen last, and how much of it is absent.
    last: Option<(u64, u64)>,
    partly: u64,
    absent: u64,
}

impl Counted {
    fn miss(&mut self, span: Span) {
        let mut at = span.offset;
        while at < span.end() {
            let number = at / self.block.max(1);
            let stop = number.saturating_add(1).saturating_mul(self.block.max(1)).min(span.end());
            if self.last.is_none_or(|(last, _)| last != number) {
                self.close();
                self.last = Some((number, 0));
            }
            if let Some((_, absent)) = &mut self.last {
                *absent = absent.saturating_add(stop - at);
            }
            at = stop;
        }
    }

    fn close(&mut self) {
        match self.last.take() {
            Some((_, absent)) if absent >= self.block => self.absent += 1,
            Some(_) => self.partly += 1,
            None => {}
        }
    }

    fn finish(mut self, owned: u64) -> Blocks {
        self.close();
        let present = owned.saturating_sub(self.partly).saturating_sub(self.absent);
        Blocks { present, partly: self.partly, absent: self.absent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_present_partly_or_absent() {
        let mut counted = Counted { block: 100, ..Counted::default() };
        for (from, to) in [(150, 200), (250, 260), (270, 300), (300, 500), (590, 600)] {
            counted.miss(Span::new(from, to - from));
        }
        assert_eq!(counted.finish(10), Blocks { present: 5, partly: 3, absent: 2 });
    }
}
