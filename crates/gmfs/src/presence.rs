//! How much of a region an image holds: metadata and data, and why the rest is missing.

use std::collections::BTreeMap;
use std::ops::Range;

use gmfs_format::native::units::{CopyId, PAGE_BYTES, PageNo};
use gmfs_image::{Description, Kind};
use gmfs_io::{Absence, ReadAt, Span};
use gmfs_volume::Region;
use gmfs_volume::superblocks::used_tables;

use crate::open::{Place, Source};
use crate::store::Store;

/// How much memory at the end of each part of a dump is examined to see whether the file was cut: pages are stored by
/// address.
const TAIL: u64 = 4 << 20;

/// How many blocks are examined together at first, because most of them are present.
const ALIKE: u64 = 1024;

/// In regions up to this size, all entries of a dump are read: that takes 96 MiB of the file.
const READ_ENTRIES: u64 = 16 << 30;

/// Bytes that are there and bytes that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes that are there.
    pub present: u64,
    /// Bytes that are not, by the reason.
    pub absent: BTreeMap<Absence, u64>,
}

impl Tally {
    /// Notes that bytes counted as present are not there.
    fn miss(&mut self, len: u64, why: Absence) {
        self.present = self.present.saturating_sub(len);
        let sum = self.absent.entry(why).or_default();
        *sum = sum.saturating_add(len);
    }

    /// All bytes that were counted.
    pub fn total(&self) -> u64 {
        self.absent.values().fold(self.present, |sum, len| sum.saturating_add(*len))
    }
}

/// Blocks, counted by how much of them is present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocks {
    /// All of them is there.
    pub present: u64,
    /// A part of them is there.
    pub partly: u64,
    /// Nothing of them is there.
    pub absent: u64,
}

/// What of a region an image holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// Pages in use, of both copies.
    pub metadata: Tally,
    /// Blocks of files.
    pub data: Tally,
    /// The same blocks, counted.
    pub blocks: Blocks,
    /// Pages of the block table that are good in neither copy. The blocks that they assign to files are not counted.
    pub lost_pages: u64,
}

/// What the image says about which bytes it holds.
pub struct Index<'a> {
    source: &'a Source,
    base: u64,
    dump: Option<&'a Description>,
    /// The dump's own index is enough, so that its descriptors need not be read.
    believed: bool,
}

impl<'a> Index<'a> {
    /// If the region is large and the dump is complete, the dump's index is believed. Otherwise each of its entries is
    /// read, or the source is asked.
    pub fn new(place: &Place, source: &'a Source, dump: Option<&'a Description>) -> Self {
        let dump = dump.filter(|_| place.kind == Kind::Kdump);
        let large = source.size() > READ_ENTRIES;
        let believed = dump
            .is_some_and(|dump| large && !dump.facts.incomplete && !dump.facts.damaged && !is_cut(place, source, dump));
        Self { source, base: place.base, dump, believed }
    }

    /// Passes on the absent stretches of ascending ranges, in the region's space.
    fn absent(&self, ranges: &[Range<u64>], mut each: impl FnMut(Span, Absence)) {
        for range in ranges {
            let mut at = range.start;
            while let Some((span, why)) = self.source.next_absent(at..range.end) {
                let from = span.offset.max(at);
                let stop = span.end().min(range.end);
                each(Span::new(from, stop.saturating_sub(from)), why);
                at = stop.max(at.saturating_add(1));
            }
        }
    }

    /// How much of a range is there, if the dump can count that at once: by its index alone, if that can be believed.
    fn counted(&self, range: &Range<u64>) -> Option<Tally> {
        let place = self.base.saturating_add(range.start)..self.base.saturating_add(range.end);
        let totals = match self.dump {
            Some(dump) if self.believed => dump.totals(place),
            dump => dump?.tally(place)?,
        };
        let mut tally = Tally { present: totals.held, absent: totals.absent };
        // What the index does not describe was no RAM.
        let unknown = range.end.saturating_sub(range.start).saturating_sub(tally.total());
        if unknown > 0 {
            let sum = tally.absent.entry(Absence::NotInDump).or_default();
            *sum = sum.saturating_add(unknown);
        }
        Some(tally)
    }
}

/// Whether pages of the region are lost at the end of a part. The index of a dump comes before its pages, so it may be
/// complete nevertheless.
fn is_cut(place: &Place, source: &Source, dump: &Description) -> bool {
    let region = place.base..place.base.saturating_add(source.size());
    let all = [Span::new(0, u64::MAX)];
    let parts = if dump.facts.parts.is_empty() { all.as_slice() } else { dump.facts.parts.as_slice() };
    parts.iter().any(|part| {
        let held = dump.last_held(part.offset.max(region.start)..part.end().min(region.end), TAIL);
        held.is_some_and(|last| {
            let start = last.end().saturating_sub(TAIL).max(last.offset);
            source.next_absent(start.saturating_sub(place.base)..last.end().saturating_sub(place.base)).is_some()
        })
    })
}

/// How much of any range of the region is there.
pub fn of_range(index: &Index<'_>, range: Range<u64>) -> Tally {
    if let Some(tally) = index.counted(&range) {
        return tally;
    }
    let mut tally = Tally { present: range.end.saturating_sub(range.start), ..Tally::default() };
    index.absent(std::slice::from_ref(&range), |span, why| tally.miss(span.len, why));
    tally
}

/// How much of a native region is there, of an image that may lack some of it: a dump, or a file that is too short. `None` of
/// any other image, and of a store of another layout.
pub fn of_store(store: &Store) -> Option<Presence> {
    let region = store.native().ok()?;
    let source = region.source();
    let is_short = source.end().is_some_and(|end| end < region.geometry().size());
    let dump = store.dump.as_ref();
    (dump.is_some() || is_short).then(|| of_region(&Index::new(&store.place, source, dump), region))
}

/// How much of a region is there.
pub fn of_region<S: ReadAt>(index: &Index<'_>, region: &Region<S>) -> Presence {
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
    let mut counted = Counted { block, ..Counted::default() };
    if index.dump.is_some() {
        for run in owned {
            for many in pieces(run.clone(), block.saturating_mul(ALIKE)) {
                let all = of_range(index, many.clone());
                if all.absent.is_empty() {
                    found.data.present = found.data.present.saturating_add(all.present);
                    continue;
                }
                for one in pieces(many, block) {
                    let start = one.start;
                    let part = of_range(index, one);
                    found.data.present = found.data.present.saturating_add(part.present);
                    for (why, len) in part.absent {
                        let sum = found.data.absent.entry(why).or_default();
                        *sum = sum.saturating_add(len);
                        counted.miss(Span::new(start, len));
                    }
                }
            }
        }
        found.blocks = counted.finish(bytes.checked_div(block).unwrap_or_default());
        return found;
    }
    found.data.present = bytes;
    index.absent(owned, |span, why| {
        found.data.miss(span.len, why);
        counted.miss(span);
    });
    found.blocks = counted.finish(bytes.checked_div(block).unwrap_or_default());
    found
}

/// Cuts a range into pieces of `len` bytes.
fn pieces(range: Range<u64>, len: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = at.saturating_add(len.max(1)).min(range.end);
        (start < at).then_some(start..at)
    })
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
            let number = at.checked_div(self.block.max(1)).unwrap_or_default();
            let stop = number.saturating_add(1).saturating_mul(self.block.max(1)).min(span.end());
            if self.last.is_none_or(|(last, _)| last != number) {
                self.close();
                self.last = Some((number, 0));
            }
            if let Some((_, absent)) = &mut self.last {
                *absent = absent.saturating_add(stop.saturating_sub(at));
            }
            at = stop;
        }
    }

    fn close(&mut self) {
        match self.last.take() {
            Some((_, absent)) if absent >= self.block => self.absent = self.absent.saturating_add(1),
            Some(_) => self.partly = self.partly.saturating_add(1),
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
