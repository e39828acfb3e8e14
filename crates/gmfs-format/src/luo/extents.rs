//! Where the content of a memfd is.

use std::collections::VecDeque;

use gmfs_io::ReadAt;

use super::folios::{Folio, FolioRun, Folios};
use super::memfd::Memfd;
use crate::kho::{Map, PAGE};

/// The largest folio of a file in memory, in pages: the page cache of Linux has none above order 11.
const MAX_FOLIO: u64 = 1 << 11;

impl Memfd {
    /// Where the content is. A map that is known to be the hand-over's makes it exact where records are missing.
    #[must_use]
    pub fn extents<'s>(&self, source: &'s dyn ReadAt, map: Option<&'s Map>) -> Extents<'s> {
        let (folios, ready) = (self.folios(source), VecDeque::new());
        Extents { folios, source, map, size: self.size, held: None, covered: 0, ready, last: None, done: false }
    }
}

/// Whether so many pages can be one folio that begins with this page frame.
const fn is_folio(frame: u64, pages: u64) -> bool {
    pages.is_power_of_two() && pages <= MAX_FOLIO && frame & pages.wrapping_sub(1) == 0
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
    /// The physical address of its bytes; `None` if nothing says where they are.
    pub at: Option<u64>,
}

/// Where the content of a file is: extents that cover the file, in order. What adjoins in the file and in memory is one.
pub struct Extents<'s> {
    folios: Folios<'s>,
    source: &'s dyn ReadAt,
    map: Option<&'s Map>,
    size: u64,
    /// The last folio: how long it is shows only in what follows.
    held: Option<Folio>,
    /// The file is covered up to here, in bytes.
    covered: u64,
    /// What is not handed out yet.
    ready: VecDeque<Extent>,
    /// The last folio, once it is known to be that.
    last: Option<Folio>,
    done: bool,
}

impl Extents<'_> {
    /// What the last folio has past the end of the file: known once all extents were handed out. Without a map that is the
    /// rest of a page.
    #[must_use]
    pub fn tail(&self) -> Option<Extent> {
        let last = self.last?;
        let at = last.frame.checked_mul(PAGE)?;
        let start = last.index.checked_mul(PAGE)?;
        let order = self.map.and_then(|map| map.order_of(self.source, at));
        let least = self.size.checked_sub(start)?;
        let len = PAGE.checked_shl(order.unwrap_or(0)).unwrap_or(PAGE).max(least.checked_next_multiple_of(PAGE)?);
        let rest = len.checked_sub(least).filter(|rest| *rest > 0)?;
        Some(Extent { offset: self.size, len: rest, at: at.checked_add(least) })
    }

    /// Pages of a folio, after which the file goes on at page `next`.
    fn length(&self, folio: &Folio, next: u64, last: bool) -> u64 {
        let room = next.saturating_sub(folio.index);
        let known = || {
            let order = self.map?.order_of(self.source, folio.frame.checked_mul(PAGE)?)?;
            1_u64.checked_shl(order)
        };
        if last {
            // The last one may reach past the end of the file.
            let least = room.checked_next_power_of_two().unwrap_or(u64::MAX);
            return match known() {
                Some(pages) => pages.min(room),
                None if is_folio(folio.frame, least) => room,
                // Too short to reach the end: folios are missing.
                None => 1,
            };
        }
        if is_folio(folio.frame, room) {
            return room;
        }
        known().unwrap_or(0).min(room)
    }

    /// Covers what the folios of a run but the last one have: each ends where the next one begins.
    fn cover_run(&mut self, run: &FolioRun) {
        let bytes = |pages: u64| pages.saturating_mul(PAGE);
        let last = run.last();
        // Whole folios, which adjoin: as if they were one.
        if is_folio(run.first.frame, run.step) {
            return self.cover(bytes(last.index), run.first.frame.checked_mul(PAGE));
        }
        for n in 0..run.count.saturating_sub(1) {
            let (folio, next) = (run.get(n), run.get(n.saturating_add(1)).index);
            let end = folio.index.saturating_add(self.length(&folio, next, false));
            self.cover(bytes(end), folio.frame.checked_mul(PAGE));
            self.cover(bytes(next), None);
        }
    }

    /// Covers the file from where it is covered up to byte `to` with what is at `at`.
    fn cover(&mut self, to: u64, at: Option<u64>) {
        let to = to.min(self.size);
        let Some(len) = to.checked_sub(self.covered).filter(|len| *len > 0) else { return };
        let offset = std::mem::replace(&mut self.covered, to);
        if let Some(last) = self.ready.back_mut() {
            let adjoins = match (last.at, at) {
                (Some(before), Some(at)) => before.checked_add(last.len) == Some(at),
                (None, None) => true,
                _ => false,
            };
            if adjoins {
                last.len = last.len.saturating_add(len);
                return;
            }
        }
        self.ready.push_back(Extent { offset, len, at });
    }
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let bytes = |pages: u64| pages.saturating_mul(PAGE);
        // More may adjoin to the last one.
        while self.ready.len() < 2 && !self.done {
            let next = self.folios.next_run().and_then(Result::ok);
            self.done = next.is_none();
            let until = next.map_or(self.size.div_ceil(PAGE), |run| run.first.index);
            if let Some(held) = std::mem::replace(&mut self.held, next.map(|run| run.last())) {
                if next.is_none() {
                    self.last = Some(held);
                }
                let end = held.index.saturating_add(self.length(&held, until, next.is_none()));
                self.cover(bytes(end), held.frame.checked_mul(PAGE));
            }
            // A folio that ends early, or a first one that does not begin the file.
            self.cover(bytes(until), None);
            if let Some(run) = next {
                self.cover_run(&run);
            }
        }
        self.ready.pop_front()
    }
}
