//! The bitmaps: which pages were RAM, which are in the file, and the how-many-th a page is.
//!
//! Neither map is kept in memory. What is kept is, for each 4096 pages, how many pages before them are in the file: 8
//! bytes for 16 MiB of memory, a 64th of the map. The rest of the count is read where it is needed, 512 bytes at most.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use gmfs_format::io::{Absence, ReadAt, ReadError, Span};

use super::{Header, KdumpError};

/// So many pages share one entry of the index.
const GROUP: u64 = 4096;
/// A map with more bytes is refused: that is 128 TiB of 4 KiB pages. It bounds the index to 64 MiB.
pub(super) const MAX_MAP: u64 = 4 << 30;
/// How much of a map is read at once to count it.
const READ: usize = 256 << 10;
/// How many words of a map are read at once to search it.
const WORDS: usize = 512;

/// Which of the two maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    /// The page was RAM.
    Ram,
    /// The page has a descriptor.
    Dumped,
}

/// What the bitmaps say of a run of pages.
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
    /// Where the map of RAM is; the same as `dumped` if there is only one.
    ram: u64,
    dumped: u64,
    /// The pages that the map in the file speaks of: all that it has bits for, as far as they can be read.
    known: u64,
    /// The pages that the header speaks of, as far as the map has room for them.
    claimed: u64,
    /// How many pages before each group are in the file, and at the end how many there are at all.
    counts: Vec<u64>,
    /// One past the last page that is in the file.
    end: u64,
}

impl Bitmaps {
    /// Counts the map in `file`, from which nothing else is read.
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
        let mut maps = Self { ram, dumped, known, claimed, counts: Vec::new(), end: 0 };
        maps.count(file)?;
        Ok(maps)
    }

    fn count(&mut self, file: &impl ReadAt) -> Result<(), ReadError> {
        let groups = self.known.div_ceil(GROUP);
        let mut total = 0;
        let mut buf = vec![0; READ.min(usize::try_from(groups.saturating_mul(GROUP >> 3)).unwrap_or(READ))];
        // Through a file with holes one gets at the pace of its data. To ask for them costs a file without holes more than
        // reading does, so it is asked only behind a stretch of zeros.
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

    /// One past the last page that the maps speak of.
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

    /// Whether `other` has the same pages, as far as the counts tell.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.known, self.end, &self.counts) == (other.known, other.end, &other.counts)
    }

    /// How many pages before `page` are in the file.
    pub(super) fn rank(&self, file: &impl ReadAt, page: u64) -> Result<u64, ReadError> {
        let page = page.min(self.known);
        let group = page >> 12;
        let mut rank = self.counts.get(usize::try_from(group).unwrap_or(usize::MAX)).copied().unwrap_or(0);
        let base = group.saturating_mul(GROUP);
        let bits = page.saturating_sub(base);
        let mut words = [0; 64];
        let words = words.get_mut(..usize::try_from(bits.div_ceil(64)).unwrap_or(64)).unwrap_or_default();
        self.load(file, Map::Dumped, base >> 6, words)?;
        for (index, word) in (0_u64..).zip(words) {
            let keep = low_bits(bits.saturating_sub(index.saturating_mul(64)));
            rank = rank.saturating_add((*word & keep).count_ones().into());
        }
        Ok(rank)
    }

    /// Whether every page in `[from, to)` is in the file.
    pub(super) fn all_dumped(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<bool, ReadError> {
        Ok(to <= self.known && self.find(file, Map::Dumped, from, to, false)? >= to)
    }

    /// What the maps say of `from`, and how far they say the same; `to` at most. `from < to`.
    pub(super) fn run(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<(u64, Class), ReadError> {
        if from >= self.claimed {
            return Ok((to, Class::Absent(Absence::NotInDump)));
        }
        if from >= self.known {
            return Ok((to.min(self.claimed), Class::Absent(Absence::Truncated)));
        }
        let to = to.min(self.known);
        let set = self.find(file, Map::Dumped, from, to, true)?;
        if set == from {
            return Ok((self.find(file, Map::Dumped, from, to, false)?, Class::Dumped));
        }
        let ram = self.find(file, Map::Ram, from, set, true)?;
        if ram > from {
            return Ok((ram, Class::Absent(Absence::NotInDump)));
        }
        Ok((self.find(file, Map::Ram, from, set, false)?, Class::Absent(Absence::Excluded)))
    }

    /// The first page from `from` whose bit is `value`, or `to`.
    fn find(&self, file: &impl ReadAt, map: Map, from: u64, to: u64, value: bool) -> Result<u64, ReadError> {
        let mut at = from;
        let mut words = [0; WORDS];
        // Most searches end soon.
        let mut take = 8;
        while at < to {
            if map == Map::Dumped && at & (GROUP - 1) == 0 {
                at = self.skip(at, to, value);
                if at >= to {
                    break;
                }
            }
            let first = at >> 6;
            let left = usize::try_from(to.div_ceil(64).saturating_sub(first)).unwrap_or(WORDS);
            let words = words.get_mut(..left.min(take)).unwrap_or_default();
            self.load(file, map, first, words)?;
            let mut base = first.saturating_mul(64);
            for word in words {
                let word = if value { *word } else { !*word } & !low_bits(at.saturating_sub(base));
                if word != 0 {
                    return Ok(base.saturating_add(word.trailing_zeros().into()).min(to));
                }
                base = base.saturating_add(64);
            }
            at = base;
            take = WORDS;
            if value && map == Map::Ram && at < to {
                at = self.skip_hole(file, at, to)?;
            }
        }
        Ok(to)
    }

    /// Passes over whole groups without a bit of that value.
    fn skip(&self, from: u64, to: u64, value: bool) -> u64 {
        let index = usize::try_from(from >> 12).unwrap_or(usize::MAX);
        let counts = self.counts.get(index..).unwrap_or_default();
        let none = if value { 0 } else { GROUP };
        let groups = counts.windows(2).take_while(|pair| match pair {
            [before, after] => after.saturating_sub(*before) == none,
            _ => false,
        });
        let wanted = usize::try_from(to.saturating_sub(from).div_ceil(GROUP)).unwrap_or(usize::MAX);
        let passed = u64::try_from(groups.take(wanted).count()).unwrap_or(0);
        from.saturating_add(passed.saturating_mul(GROUP))
    }

    /// Passes over a hole of the file in the map of RAM, for which there is no index.
    fn skip_hole(&self, file: &impl ReadAt, from: u64, to: u64) -> Result<u64, ReadError> {
        let place = |page: u64| self.ram.saturating_add(page >> 3);
        let data = file.next_data(place(from)..place(to).saturating_add(1))?;
        let first = data.map_or(to, |data| data.start.saturating_sub(self.ram).saturating_mul(8));
        Ok(first.clamp(from, to))
    }

    /// Words of a map; bits that are not known are 0.
    fn load(&self, file: &impl ReadAt, map: Map, first: u64, words: &mut [u64]) -> Result<(), ReadError> {
        let at = match map {
            Map::Ram => self.ram,
            Map::Dumped => self.dumped,
        };
        let from = at.saturating_add(first.saturating_mul(8));
        let bits = self.known.saturating_sub(first.saturating_mul(64));
        let bytes = usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX);
        let mut buf = [0; WORDS * 8];
        let wanted = words.len().saturating_mul(8).min(bytes);
        let buf = buf.get_mut(..wanted).unwrap_or_default();
        match map {
            Map::Ram => read_what_is_there(file, from, buf)?,
            Map::Dumped if buf.is_empty() => {}
            // All of it was there when it was counted: a file that is being cut must not make pages look left out.
            Map::Dumped => file.read_at(from, buf)?,
        }
        let mut raw = buf.chunks(8);
        for (index, word) in (0_u64..).zip(words) {
            *word = masked(raw.next().unwrap_or_default(), bits.saturating_sub(index.saturating_mul(64)));
        }
        Ok(())
    }
}

/// Up to eight bytes of a map, of which `limit` bits count.
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

/// Reads `buf` from `at`; what is absent reads as zero.
pub(super) fn read_what_is_there(file: &impl ReadAt, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
    match file.read_at(at, buf) {
        Err(ReadError::Absent { .. }) => {}
        done => return done,
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
            // What was there a moment ago is not: the file is being cut.
            Err(ReadError::Absent { .. }) => there.fill(0),
            done => done?,
        }
        from = absent.end().max(from.saturating_add(1));
    }
    Ok(())
}
