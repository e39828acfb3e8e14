//! Reads the bitmaps: which pages were RAM, which pages are in the file, and the rank of a page among those in the
//! file.
//!
//! Neither map is kept in memory. The index has, for each group of 4096 pages, how many pages before it are in the
//! file: 8 bytes for 16 MiB of memory, a 64th of the map's size. In addition, the pieces of both maps that were read
//! last are kept, at most 512 KiB.
//!
//! A map may have as many runs as bits, so no code here does work, or a system call, for each run. Maps are read in
//! pieces of up to 64 KiB and processed in words of 64 pages.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use gmfs_io::{Absence, ReadAt, ReadError, Span};

use super::{Header, KdumpError};

/// How many pages share one entry of the index.
const GROUP: u64 = 4096;
/// A larger map, in bytes, is refused. This size describes 128 TiB of 4 KiB pages, and bounds the index to 64 MiB.
pub(super) const MAX_MAP: u64 = 4 << 30;
/// How many bytes of a map are read at once to count its bits.
const READ: usize = 256 << 10;
/// A group's number is a page's number shifted by this.
const GROUP_BITS: u32 = GROUP.trailing_zeros();
/// How many words of a map belong to a group.
const GROUP_WORDS: usize = 64;
/// Masks the number of a word within its group.
const GROUP_WORDS_MASK: u64 = 63;
/// How many pieces of a map are kept.
const WINDOWS: usize = 4;
/// How many words one read of a map takes at least: 4 KiB.
const LEAST_WINDOW: usize = 512;
/// How many words one read of a map takes at most: 64 KiB.
const LARGEST_WINDOW: usize = 8192;
/// After this many pages that were not RAM, the search asks the file whether its map has a hole there.
const HOLE: u64 = 1 << 15;

/// Names one of the two maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    /// The map whose bits say that a page was RAM.
    Ram,
    /// The map whose bits say that a page has a descriptor.
    Dumped,
}

/// What the bitmaps say about a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// They have descriptors.
    Dumped,
    /// They have none.
    Absent(Absence),
}

/// The two maps of a dump.
#[derive(Debug)]
pub(super) struct Bitmaps {
    /// The offset of the map of RAM, which equals `dumped` if there is only one map.
    ram: u64,
    dumped: u64,
    /// How many pages have readable bits in the file.
    known: u64,
    /// How many pages the header claims, bounded by the size of the map.
    claimed: u64,
    /// How many pages before each group are in the file. The last entry is the number of all pages in the file.
    counts: Vec<u64>,
    /// One past the last page that is in the file.
    end: u64,
    windows: BothWindows,
}

/// The kept pieces of both maps. If there is only one map, each side keeps its own pieces of it.
#[derive(Debug)]
struct BothWindows {
    ram: Mutex<Windows<u64>>,
    dumped: Mutex<Windows<u64>>,
}

impl Default for BothWindows {
    fn default() -> Self {
        let new = || Mutex::new(Windows::new(LEAST_WINDOW, LARGEST_WINDOW));
        Self { ram: new(), dumped: new() }
    }
}

impl Bitmaps {
    /// Counts the bits of the map in `file`. Nothing else is read.
    pub(super) fn read(file: &impl ReadAt, header: &Header) -> Result<Self, KdumpError> {
        let ram = header.bitmaps_at();
        let (dumped, bytes) = match header.half() {
            Some(half) => (ram.saturating_add(half), half),
            None => (ram, header.bitmap_blocks.saturating_mul(header.page)),
        };
        let claimed = header.pages.min(bytes.saturating_mul(8));
        let used = claimed.div_ceil(8);
        if used > MAX_MAP {
            return Err(KdumpError::TooLarge { bytes: used });
        }
        let there = match file.next_absent(dumped..dumped.saturating_add(used)) {
            Some((span, _)) => span.offset.saturating_sub(dumped).min(used),
            None => used,
        };
        let known = claimed.min(there.saturating_mul(8));
        let mut maps =
            Self { ram, dumped, known, claimed, counts: Vec::new(), end: 0, windows: BothWindows::default() };
        maps.count(file)?;
        Ok(maps)
    }

    fn count(&mut self, file: &impl ReadAt) -> Result<(), ReadError> {
        let groups = self.known.div_ceil(GROUP);
        let mut total = 0;
        let mut buf = vec![0; READ.min(usize::try_from(groups.saturating_mul(GROUP >> 3)).unwrap_or(READ))];
        // Holes of a sparse file are skipped. Asking for holes costs more than reading if there are none, so the file
        // is asked only after a piece that was zero.
        let mut data = 0..u64::MAX;
        let mut group = 0;
        self.counts.reserve_exact(usize::try_from(groups.saturating_add(1)).unwrap_or(0));
        while group < groups {
            let from = self.dumped.saturating_add(group.saturating_mul(GROUP >> 3));
            let to = self.dumped.saturating_add(self.known.div_ceil(8));
            if data.end <= from {
                data = file.next_data(from..to)?.unwrap_or(to..to);
            }
            let left = usize::try_from(to.saturating_sub(from)).unwrap_or(READ);
            let now = buf.get_mut(..left.min(READ)).unwrap_or_default();
            let end = from.saturating_add(u64::try_from(now.len()).unwrap_or(0));
            let holds = data.start < end;
            if holds {
                file.read_at(from, now)?;
            }
            let before = total;
            for chunk in now.chunks(512) {
                self.counts.push(total);
                if holds {
                    self.take_group(chunk, group, &mut total);
                }
                group = group.saturating_add(1);
            }
            if holds && total == before {
                data = 0..end;
            }
        }
        self.counts.push(total);
        Ok(())
    }

    fn take_group(&mut self, chunk: &[u8], group: u64, total: &mut u64) {
        let base = group.saturating_mul(GROUP);
        let limit = self.known.saturating_sub(base);
        for (index, word) in (0_u64..).zip(chunk.chunks(8)) {
            let first = index.saturating_mul(64);
            let word = masked(word, limit.saturating_sub(first));
            if word != 0 {
                *total = total.saturating_add(word.count_ones().into());
                let top = 64_u64.saturating_sub(word.leading_zeros().into());
                self.end = base.saturating_add(first).saturating_add(top);
            }
        }
    }

    /// One past the last page that is in the file.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// How many pages the maps have bits for.
    pub(super) const fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Whether the map is cut off.
    pub(super) const fn is_cut(&self) -> bool {
        self.known < self.claimed
    }

    /// How many pages are in the file.
    pub(super) fn total(&self) -> u64 {
        self.counts.last().copied().unwrap_or(0)
    }

    /// Whether `other` has the same pages, as far as the counts show.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.known, self.end, &self.counts) == (other.known, other.end, &other.counts)
    }

    /// How many pages before `page` are in the file.
    pub(super) fn rank(&self, file: &impl ReadAt, page: u64) -> Result<u64, ReadError> {
        let page = page.min(self.known);
        let group = page >> GROUP_BITS;
        let mut rank = self.counts.get(usize::try_from(group).unwrap_or(usize::MAX)).copied().unwrap_or(0);
        let base = group.saturating_mul(GROUP);
        let bits = page.saturating_sub(base);
        if bits == 0 {
            return Ok(rank);
        }
        let words = self.group(file, Map::Dumped, group)?;
        for (index, word) in (0_u64..).zip(words) {
            let keep = low_bits(bits.saturating_sub(index.saturating_mul(64)));
            rank = rank.saturating_add((word & keep).count_ones().into());
        }
        Ok(rank)
    }

    /// Whether every page in `[from, to)` is in the file.
    pub(super) fn all_dumped(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<bool, ReadError> {
        Ok(to <= self.known && self.dumped_until(file, from, to)? >= to)
    }

    /// What the maps say about `page`.
    pub(super) fn class(&self, file: &impl ReadAt, page: u64) -> Result<Class, ReadError> {
        self.class_by(page, |map| self.word(file, map, page >> 6))
    }

    /// What the words with a page's bits say about the page.
    fn class_by(&self, page: u64, mut word: impl FnMut(Map) -> Result<u64, ReadError>) -> Result<Class, ReadError> {
        if page >= self.claimed {
            return Ok(Class::Absent(Absence::NotInDump));
        }
        if page >= self.known {
            return Ok(Class::Absent(Absence::Truncated));
        }
        let bit = 1_u64.checked_shl(low(page)).unwrap_or(0);
        Ok(if word(Map::Dumped)? & bit != 0 {
            Class::Dumped
        } else if word(Map::Ram)? & bit != 0 {
            Class::Absent(Absence::Excluded)
        } else {
            Class::Absent(Absence::NotInDump)
        })
    }

    /// What the maps say about `from`, and where that changes, at most at `to`. `from` must be less than `to`.
    pub(super) fn run(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<(u64, Class), ReadError> {
        let mut walk = Walk::new(self, file);
        let class = self.class_by(from, |map| walk.word(map, from >> 6))?;
        let end = match class {
            _ if from >= self.claimed => to,
            _ if from >= self.known => to.min(self.claimed),
            Class::Dumped => self.dumped_end(&mut walk, from, to.min(self.known))?,
            Class::Absent(why) => self.absent_end(&mut walk, from, to.min(self.known), why)?,
        };
        Ok((end, class))
    }

    /// The first page at or after `from` that is not in the file, or `to`.
    pub(super) fn dumped_until(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<u64, ReadError> {
        self.dumped_end(&mut Walk::new(self, file), from, to)
    }

    fn dumped_end(&self, walk: &mut Walk<'_, impl ReadAt>, from: u64, to: u64) -> Result<u64, ReadError> {
        let mut at = from;
        while at < to {
            if at & (GROUP - 1) == 0 && self.in_group(at >> GROUP_BITS) == GROUP {
                at = at.saturating_add(GROUP);
                continue;
            }
            let clear = !walk.word(Map::Dumped, at >> 6)? & !low_bits(at & 63);
            at &= !63;
            if clear != 0 {
                return Ok(at.saturating_add(clear.trailing_zeros().into()).min(to));
            }
            at = at.saturating_add(64);
        }
        Ok(to)
    }

    /// The first page at or after `from` that is in the file or is not absent because of `why`, or `to`. The search
    /// reads the map of RAM step by step, because it has no index.
    fn absent_end(&self, walk: &mut Walk<'_, impl ReadAt>, from: u64, to: u64, why: Absence) -> Result<u64, ReadError> {
        // The bits in the map of RAM that continue the run.
        let same = if why == Absence::Excluded { u64::MAX } else { 0 };
        let mut at = from;
        let mut probe = HOLE;
        while at < to {
            if at >= from.saturating_add(probe) && same == 0 {
                let data = self.skip_hole(walk.file, at, to)?;
                // If there is no hole, the distance to the next question grows.
                probe = data.saturating_sub(from).saturating_add(if data == at { probe } else { HOLE });
                let group = self.next_in_file(at >> GROUP_BITS);
                at = data.min(group.saturating_mul(GROUP)).clamp(at, to);
                if at >= to {
                    break;
                }
            }
            let dumped = walk.word(Map::Dumped, at >> 6)?;
            let other = ((walk.word(Map::Ram, at >> 6)? ^ same) | dumped) & !low_bits(at & 63);
            at &= !63;
            if other != 0 {
                return Ok(at.saturating_add(other.trailing_zeros().into()).min(to));
            }
            at = at.saturating_add(64);
        }
        Ok(to)
    }

    /// The first run of at least `least` pages that are in the file, among those that begin in `[from, to)`. Runs are
    /// cut to that range; `least` must be at least 1. Shorter runs are skipped a word at a time.
    pub(super) fn long_run(
        &self,
        file: &impl ReadAt,
        from: u64,
        to: u64,
        least: u64,
    ) -> Result<Option<Range<u64>>, ReadError> {
        let to = to.min(self.known);
        let mut walk = Walk::new(self, file);
        // The pages of `[start, at)` are in the file.
        let (mut start, mut at) = (from, from);
        while at < to {
            if at & (GROUP - 1) == 0 && start == at {
                at = self.next_in_file(at >> GROUP_BITS).saturating_mul(GROUP).max(at).min(to);
                start = at;
                if at >= to {
                    break;
                }
            }
            let base = at & !63;
            let cut = low_bits(to.saturating_sub(base)) & !low_bits(at & 63);
            let word = walk.word(Map::Dumped, at >> 6)? & cut;
            let mut gaps = cut & !word;
            if gaps != 0 {
                let first = base.saturating_add(gaps.trailing_zeros().into());
                if first.saturating_sub(start) >= least {
                    return Ok(Some(start..first));
                }
                let last = base.saturating_add(63_u64.saturating_sub(gaps.leading_zeros().into()));
                // Most words have no run between their gaps that is long enough, so they are skipped.
                while gaps != 0 && has_run(word, least) {
                    let gap = base.saturating_add(gaps.trailing_zeros().into());
                    if gap.saturating_sub(start) >= least {
                        return Ok(Some(start..gap));
                    }
                    start = gap.saturating_add(1);
                    gaps &= gaps.wrapping_sub(1);
                }
                start = last.saturating_add(1);
            }
            at = base.saturating_add(64).min(to);
            if at.saturating_sub(start) >= least {
                return Ok(Some(start..self.dumped_until(file, at, to)?));
            }
        }
        Ok(None)
    }

    /// The last run of pages in `[from, to)` that are in the file. Only the end of a run that is longer than `longest`
    /// is returned.
    pub(super) fn last_run(
        &self,
        file: &impl ReadAt,
        from: u64,
        to: u64,
        longest: u64,
    ) -> Result<Option<Range<u64>>, ReadError> {
        let to = to.min(self.known);
        let Some(last) = self.last(file, from, to, 0)? else { return Ok(None) };
        let end = last.saturating_add(1);
        let from = from.max(end.saturating_sub(longest));
        let start = self.last(file, from, last, u64::MAX)?.map_or(from, |gap| gap.saturating_add(1));
        Ok(Some(start..end))
    }

    /// The last page in `[from, to)` whose bit in the map of dumped pages, after XOR with `flip`, is set.
    fn last(&self, file: &impl ReadAt, from: u64, to: u64, flip: u64) -> Result<Option<u64>, ReadError> {
        let mut walk = Walk::new(self, file);
        let mut to = to;
        while to > from {
            let base = to.saturating_sub(1) & !63;
            let group = base >> GROUP_BITS;
            if self.in_group(group) == flip & GROUP {
                to = group.saturating_mul(GROUP);
                continue;
            }
            let kept = low_bits(to.saturating_sub(base)) & !low_bits(from.saturating_sub(base));
            let word = (walk.word(Map::Dumped, base >> 6)? ^ flip) & kept;
            if word != 0 {
                return Ok(Some(base.saturating_add(63_u64.saturating_sub(word.leading_zeros().into()))));
            }
            to = base;
        }
        Ok(None)
    }

    /// Counts the pages of `[from, to)` and their runs, word by word.
    pub(super) fn totals(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<PageTotals, ReadError> {
        let mut totals = PageTotals::default();
        let mut walk = Walk::new(self, file);
        let to = to.min(self.claimed);
        let known = to.min(self.known);
        // State of the last page of the previous word: whether it is in the file, and whether it was left out.
        let (mut held, mut left) = (0, 0);
        let mut at = from;
        while at < known {
            let group = at >> GROUP_BITS;
            if at & (GROUP - 1) == 0 && at.saturating_add(GROUP) <= known && self.in_group(group) == GROUP {
                totals.dumped.add(GROUP, u64::from(held == 0));
                (held, left) = (1, 0);
                at = at.saturating_add(GROUP);
                continue;
            }
            if at & (GROUP - 1) == 0 && self.in_group(group) == 0 && group & 15 == 0 {
                // A hole of the file in the map of RAM describes no memory.
                let data = self.skip_hole(file, at, known)?;
                let groups = self.next_in_file(group).min(data >> GROUP_BITS);
                if groups > group {
                    (held, left) = (0, 0);
                    at = groups.saturating_mul(GROUP).min(known);
                    continue;
                }
            }
            let base = at & !63;
            let cut = low_bits(known.saturating_sub(base)) & !low_bits(at & 63);
            let dumped = walk.word(Map::Dumped, at >> 6)? & cut;
            let ram = if dumped == cut { 0 } else { walk.word(Map::Ram, at >> 6)? & cut & !dumped };
            totals.dumped.add(dumped.count_ones().into(), begins(dumped, held));
            totals.excluded.add(ram.count_ones().into(), begins(ram, left));
            (held, left) = (dumped >> 63, ram >> 63);
            at = base.saturating_add(64).min(known);
        }
        let lost = to.saturating_sub(at.max(self.known));
        totals.truncated.add(lost, u64::from(lost > 0));
        Ok(totals)
    }

    /// How many pages of a group are in the file.
    fn in_group(&self, group: u64) -> u64 {
        let index = usize::try_from(group).unwrap_or(usize::MAX);
        match self.counts.get(index..).unwrap_or_default() {
            [before, after, ..] => after.saturating_sub(*before),
            _ => 0,
        }
    }

    /// The first group at or after `group` with pages in the file, or one past the last group.
    fn next_in_file(&self, group: u64) -> u64 {
        let index = usize::try_from(group).unwrap_or(usize::MAX);
        let counts = self.counts.get(index..).unwrap_or_default();
        // The counts ascend: the first one that is larger ends the groups without pages.
        let before = counts.first().copied().unwrap_or(0);
        let none = counts.partition_point(|count| *count <= before).saturating_sub(1);
        group.saturating_add(u64::try_from(none).unwrap_or(u64::MAX))
    }

    /// Skips a hole of the file in the map of RAM.
    fn skip_hole(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<u64, ReadError> {
        let place = |page: u64| self.ram.saturating_add(page >> 3);
        let data = file.next_data(place(from)..place(to).saturating_add(1))?;
        let first = data.map_or(to, |data| data.start.saturating_sub(self.ram).saturating_mul(8));
        Ok(first.clamp(from, to))
    }

    /// One word of a map.
    fn word(&self, file: &impl ReadAt, map: Map, index: u64) -> Result<u64, ReadError> {
        let windows = match map {
            Map::Ram => &self.windows.ram,
            Map::Dumped => &self.windows.dumped,
        };
        let held =
            windows.lock().unwrap_or_else(PoisonError::into_inner).find(index).and_then(|held| held.first().copied());
        match held {
            Some(word) => Ok(word),
            None => {
                let words = self.group(file, map, index >> (GROUP_BITS - 6))?;
                let inside = usize::try_from(index & GROUP_WORDS_MASK).unwrap_or(0);
                Ok(words.get(inside).copied().unwrap_or(0))
            }
        }
    }

    /// The words of a map for a group of pages. Bits that are unknown are 0.
    fn group(&self, file: &impl ReadAt, map: Map, group: u64) -> Result<[u64; GROUP_WORDS], ReadError> {
        let mut words = [0; GROUP_WORDS];
        let known = self.known.saturating_sub(group.saturating_mul(GROUP));
        if known == 0 || map == Map::Dumped && self.in_group(group) == 0 {
            return Ok(words);
        }
        if map == Map::Dumped && self.in_group(group) == GROUP {
            return Ok([u64::MAX; GROUP_WORDS]);
        }
        let windows = match map {
            Map::Ram => &self.windows.ram,
            Map::Dumped => &self.windows.dumped,
        };
        let first = group.saturating_mul(64);
        let take = |held: &[u64], words: &mut [u64; GROUP_WORDS]| {
            for (to, from) in words.iter_mut().zip(held) {
                *to = *from;
            }
        };
        let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = windows.find(first) {
            take(held, &mut words);
            return Ok(words);
        }
        let (count, mut list) = windows.room(first, self.known.div_ceil(64));
        let from = first.saturating_mul(8);
        let bytes = self.known.div_ceil(8).saturating_sub(from);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(count.saturating_mul(8));
        let mut raw = vec![0; bytes];
        let at = match map {
            Map::Ram => self.ram,
            Map::Dumped => self.dumped,
        };
        match map {
            Map::Ram => {
                read_what_is_there(file, at.saturating_add(from), &mut raw)?;
            }
            // The whole map was present when it was counted. If the file was truncated since, its pages must not look
            // left out.
            Map::Dumped => file.read_at(at.saturating_add(from), &mut raw)?,
        }
        let (whole, rest) = raw.as_chunks::<8>();
        list.extend(whole.iter().map(|word| u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            list.push(masked(rest, 64));
        }
        // Bits of the last word past the end of the map mean nothing.
        let bits = known.saturating_sub(u64::try_from(list.len()).unwrap_or(0).saturating_sub(1).saturating_mul(64));
        if let Some(last) = list.last_mut() {
            *last &= low_bits(bits);
        }
        take(&list, &mut words);
        windows.keep(first, list);
        Ok(words)
    }
}

/// The bits of a word that begin a run. `before` is the last bit of the previous word.
fn begins(word: u64, before: u64) -> u64 {
    (word & !(word << 1 | before)).count_ones().into()
}

/// Whether the word has `least` consecutive set bits. `least` is at most 64.
fn has_run(word: u64, least: u64) -> bool {
    let mut left = least.saturating_sub(1);
    let mut bits = word;
    let mut step = 1;
    while left > 0 && bits != 0 {
        let now = left.min(step);
        bits &= bits.checked_shr(u32::try_from(now).unwrap_or(u32::MAX)).unwrap_or(0);
        left = left.saturating_sub(now);
        step = step.saturating_mul(2);
    }
    bits != 0
}

/// The number of a page's bit in its word.
fn low(page: u64) -> u32 {
    u32::try_from(page & 63).unwrap_or(0)
}

/// Pages and the runs that they form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) pages: u64,
    pub(super) runs: u64,
}

impl Runs {
    const fn add(&mut self, pages: u64, runs: u64) {
        self.pages = self.pages.saturating_add(pages);
        self.runs = self.runs.saturating_add(runs);
    }
}

/// Counts of what the maps say about a range of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageTotals {
    pub(super) dumped: Runs,
    pub(super) excluded: Runs,
    pub(super) truncated: Runs,
}

/// Reads both maps, one group of pages at a time.
struct Walk<'m, R> {
    maps: &'m Bitmaps,
    file: &'m R,
    ram: (u64, [u64; GROUP_WORDS]),
    dumped: (u64, [u64; GROUP_WORDS]),
}

impl<'m, R: ReadAt> Walk<'m, R> {
    const fn new(maps: &'m Bitmaps, file: &'m R) -> Self {
        let none = (u64::MAX, [0; GROUP_WORDS]);
        Self { maps, file, ram: none, dumped: none }
    }

    /// A word of a map.
    fn word(&mut self, map: Map, index: u64) -> Result<u64, ReadError> {
        let group = index >> (GROUP_BITS - 6);
        let (held, words) = match map {
            Map::Ram => &mut self.ram,
            Map::Dumped => &mut self.dumped,
        };
        if *held != group {
            *words = self.maps.group(self.file, map, group)?;
            *held = group;
        }
        let inside = usize::try_from(index & (GROUP_WORDS_MASK)).unwrap_or(0);
        Ok(words.get(inside).copied().unwrap_or(0))
    }
}

/// The pieces of a list in the file that were read last: words of a map, or descriptors. A piece that follows another
/// one is twice as long. So a sequential reader reads large pieces, and a random reader reads small ones.
#[derive(Debug)]
pub(super) struct Windows<T> {
    kept: VecDeque<(u64, Vec<T>)>,
    least: usize,
    largest: usize,
}

impl<T: Clone + Default> Windows<T> {
    pub(super) const fn new(least: usize, largest: usize) -> Self {
        Self { kept: VecDeque::new(), least, largest }
    }

    /// The part of the list from `from` on, if a kept piece holds its start.
    pub(super) fn find(&mut self, from: u64) -> Option<&[T]> {
        let inside = |start: u64| usize::try_from(from.checked_sub(start)?).ok();
        let index = self.kept.iter().position(|(start, list)| inside(*start).is_some_and(|at| at < list.len()))?;
        self.kept.swap(0, index);
        let (start, list) = self.kept.front()?;
        list.get(inside(*start)?..)
    }

    /// How many entries to read from `from` on, of a list of `all` entries, and a buffer that is reused for them.
    pub(super) fn room(&mut self, from: u64, all: u64) -> (usize, Vec<T>) {
        let end = |start: u64, list: &Vec<T>| start.saturating_add(u64::try_from(list.len()).unwrap_or(0));
        let before = self.kept.iter().find(|(start, list)| end(*start, list) == from).map_or(0, |(_, list)| list.len());
        let mut room = if self.kept.len() < WINDOWS { None } else { self.kept.pop_back() }.unwrap_or_default().1;
        room.clear();
        let there = usize::try_from(all.saturating_sub(from)).unwrap_or(usize::MAX);
        (before.saturating_mul(2).clamp(self.least, self.largest).min(there), room)
    }

    pub(super) fn keep(&mut self, from: u64, list: Vec<T>) {
        self.kept.push_front((from, list));
    }
}

/// Up to eight bytes of a map as a word. Only the first `limit` bits count.
fn masked(raw: &[u8], limit: u64) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(raw) {
        *to = *from;
    }
    u64::from_le_bytes(bytes) & low_bits(limit)
}

/// The lowest `count` bits.
const fn low_bits(count: u64) -> u64 {
    if count >= 64 { u64::MAX } else { !(u64::MAX << count) }
}

/// Reads `buf` from `at`. Bytes that are absent read as zeros. Returns whether none was absent.
pub(super) fn read_what_is_there(file: &impl ReadAt, at: u64, buf: &mut [u8]) -> Result<bool, ReadError> {
    match file.read_at(at, buf) {
        Err(ReadError::Absent { .. }) => {}
        done => return done.map(|()| true),
    }
    buf.fill(0);
    let end = at.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
    let mut from = at;
    let part = |from: u64, to: u64| {
        let index = |p: u64| usize::try_from(p.saturating_sub(at)).unwrap_or(usize::MAX);
        index(from)..index(to)
    };
    while from < end {
        let absent = file.next_absent(from..end).map(|(span, _)| span).unwrap_or(Span::new(end, 0));
        let there = buf.get_mut(part(from, absent.offset.min(end))).unwrap_or_default();
        match file.read_at(from, there) {
            // These bytes were present a moment ago, so the file is being truncated.
            Err(ReadError::Absent { .. }) => there.fill(0),
            done => done?,
        }
        from = absent.end().max(from.saturating_add(1));
    }
    Ok(false)
}
