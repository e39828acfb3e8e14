//! The preserved map: which pages the next kernel must keep.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt;

use gmfs_io::num::small;
use gmfs_io::{ReadAt, Span};

use super::form;
use super::{ADDRESSES, PAGE, Page, Tree, Version, is_page, read, word, word32};

/// Records of the map (chunks, nodes of the tree) that are read. A tree for 100 TiB of single pages has fewer.
const MAX_RECORDS: usize = 1 << 20;
/// Bitmaps that are kept: each is for at least 16 MiB.
const MAX_ENTRIES: usize = 1 << 20;
/// The largest order of a preserved page: no machine has 512 TiB.
const MAX_ORDER: u32 = 37;
/// Bits of a bitmap of one page.
pub(super) const PAGE_BITS: u32 = 32768;
/// Bits of a bitmap of 512 bytes.
const SMALL_BITS: u32 = 4096;
/// Levels of tables above the bitmaps of the tree.
const LEVELS: u32 = 5;
/// Entries of a chunk.
const CHUNK_ENTRIES: u32 = 255;

/// What is wrong with a preserved map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MapFault {
    /// The root does not say where it is.
    NoAddress,
    /// It is not written yet: `kho-v1` writes it when it is finalised.
    NotWritten,
    /// The root has a version whose map is not known.
    UnknownForm,
    /// A link that cannot be the address of a page.
    BadLink {
        /// The record with the link; 0 for the device tree.
        holder: u64,
        /// The link's value.
        value: u64,
    },
    /// A record that the image does not hold.
    Unreadable {
        /// The record.
        at: u64,
    },
    /// A link to a record that another link led to before.
    Twice {
        /// The record with the second link.
        holder: u64,
        /// The record that both lead to.
        at: u64,
    },
    /// A chunk that says that it has more entries than fit into it.
    TooManyEntries {
        /// The chunk.
        at: u64,
        /// The count.
        count: u32,
    },
    /// An order or a start that no entry can have.
    BadEntry {
        /// The record.
        at: u64,
        /// What is impossible: the start of the entry, or the key.
        value: u64,
    },
    /// Two bitmaps for the same pages and the same order.
    Overlap {
        /// The record with the second.
        at: u64,
        /// The first page.
        start: u64,
    },
    /// There are more records than are read.
    TooLong,
}

impl fmt::Display for MapFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("the device tree does not say where the preserved map is"),
            Self::NotWritten => f.write_str("the preserved map is not written yet"),
            Self::UnknownForm => f.write_str("the preserved map has a form that is not known"),
            Self::BadLink { holder: 0, value } => {
                write!(f, "the device tree says that the preserved map is at {value:#x}, which is no page")
            }
            Self::BadLink { holder, value } => {
                write!(f, "the record at {holder:#x} of the preserved map links to {value:#x}, which is no page")
            }
            Self::Unreadable { at } => write!(f, "the record at {at:#x} of the preserved map cannot be read"),
            Self::Twice { holder, at } => {
                write!(
                    f,
                    "the record at {holder:#x} of the preserved map links to {at:#x}, which is in the map already"
                )
            }
            Self::TooManyEntries { at, count } => {
                write!(f, "the chunk at {at:#x} of the preserved map has a count of {count}; {CHUNK_ENTRIES} fit")
            }
            Self::BadEntry { at, value } => {
                write!(f, "the record at {at:#x} of the preserved map has an impossible entry, {value:#x}")
            }
            Self::Overlap { at, start } => {
                write!(
                    f,
                    "the record at {at:#x} of the preserved map has a second bitmap for the pages from {start:#x}"
                )
            }
            Self::TooLong => f.write_str("the preserved map has more records than can be true"),
        }
    }
}

/// How large the bitmaps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bitmaps {
    /// 512 bytes: `kho-v1` of 6.16 and 6.17.
    Small,
    /// One page: all others.
    Page,
}

impl Bitmaps {
    /// Bytes of a bitmap.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.bits() >> 3
    }

    /// Bits in a bitmap.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Small => SMALL_BITS,
            Self::Page => PAGE_BITS,
        }
    }
}

/// A bitmap of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Each bit stands for 2^order pages.
    pub order: u32,
    /// The address that the first bit stands for.
    pub start: u64,
    /// Where the bitmap is.
    pub bitmap: u64,
}

/// Consecutive preserved pages of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first address.
    pub start: u64,
    /// Each piece has 2^order pages.
    pub order: u32,
    /// How many pieces.
    pub count: u32,
}

impl Range {
    /// The bytes that it stands for.
    #[must_use]
    pub fn span(&self) -> Span {
        Span::new(self.start, u64::from(self.count).saturating_mul(piece(self.order)))
    }
}

/// Bytes of a piece of 2^order pages.
pub(super) fn piece(order: u32) -> u64 {
    PAGE.checked_shl(order).unwrap_or(u64::MAX)
}

/// A preserved map: its bitmaps by order and address. The bitmaps themselves are read when they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    bitmaps: Bitmaps,
    certain: bool,
    entries: Vec<Entry>,
    /// Pages of the map's own records, bitmaps included.
    records: Vec<u64>,
    faults: Vec<MapFault>,
}

impl Map {
    /// Reads the map that a root leads to, without its bitmaps.
    #[must_use]
    pub fn read(source: &dyn ReadAt, tree: &Tree) -> Self {
        let mut reader = Reader { source, seen: HashSet::new(), entries: Vec::new(), faults: Vec::new() };
        match (&tree.version, tree.map) {
            (_, None) => reader.faults.push(MapFault::NoAddress),
            (Version::Other(_), _) => reader.faults.push(MapFault::UnknownForm),
            (Version::V1, Some(0)) => reader.faults.push(MapFault::NotWritten),
            (Version::V1, Some(first)) => reader.chunks(first),
            (_, Some(root)) => reader.table(0, root, LEVELS, 0),
        }
        let Reader { seen, entries: mut held, mut faults, .. } = reader;
        let (bitmaps, certain) = match tree.version {
            Version::V1 => form::of(source, tree, held.iter().map(|(entry, _)| *entry).collect(), &seen),
            _ => (Bitmaps::Page, true),
        };
        if tree.version == Version::V1 {
            share(&mut held, &seen, bitmaps, &mut faults);
        }
        let mut entries: Vec<Entry> = held.into_iter().map(|(entry, _)| entry).collect();
        entries.sort_unstable();
        entries.dedup_by(|second, first| {
            let same = (second.order, second.start) == (first.order, first.start);
            if same && faults.len() < 64 {
                faults.push(MapFault::Overlap { at: second.bitmap, start: second.start });
            }
            same
        });
        let mut records: Vec<u64> = seen.into_iter().collect();
        if tree.version == Version::V1 {
            records.extend(entries.iter().map(|entry| gmfs_io::num::round_down(entry.bitmap, PAGE)));
        }
        records.sort_unstable();
        records.dedup();
        Self { bitmaps, certain, entries, records, faults }
    }

    /// A map with these bitmaps and nothing else.
    pub(super) fn with(bitmaps: Bitmaps, mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable();
        Self { bitmaps, certain: false, entries, records: Vec::new(), faults: Vec::new() }
    }

    /// How large its bitmaps are.
    #[must_use]
    pub const fn bitmaps(&self) -> Bitmaps {
        self.bitmaps
    }

    /// Whether it is certain how large they are: nothing records it in `kho-v1`, and not always does anything show it.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        self.certain
    }

    /// Takes it from the release of the kernel that wrote the map how large its bitmaps are, if that is not certain.
    pub(crate) fn written_by(&mut self, release: &str) {
        if !self.certain
            && let Some(bitmaps) = form::of_release(release)
        {
            (self.bitmaps, self.certain) = (bitmaps, true);
        }
    }

    /// Its bitmaps, by order, then by address.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The pages of its own records, which are not preserved themselves, in rising order.
    #[must_use]
    pub fn records(&self) -> &[u64] {
        &self.records
    }

    /// What is wrong with it.
    #[must_use]
    pub fn faults(&self) -> &[MapFault] {
        &self.faults
    }

    /// Whether all of its records were read. What a record that the image does not hold leads to may be preserved too.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.faults.iter().any(|fault| matches!(fault, MapFault::Unreadable { .. }))
    }

    /// Whether it is the map of this root, and not what is left in pages that somebody else uses now: a kernel preserves the
    /// root's own page in each map.
    #[must_use]
    pub fn is_of(&self, source: &dyn ReadAt, tree: &Tree) -> bool {
        self.order_of(source, tree.at).is_some()
    }

    /// Whether a page of it that the image does not hold is why it does not preserve its own root. What is wrong otherwise, or
    /// leads out of all memory, is another one's.
    pub(crate) fn lacks_page_for(&self, source: &dyn ReadAt, tree: &Tree) -> bool {
        if !self.faults.is_empty() {
            return self.faults.iter().all(|fault| matches!(fault, MapFault::Unreadable { .. }));
        }
        let bytes = u64::from(self.bitmaps.bits() >> 3);
        self.entries.iter().filter(|entry| entry.order == 0 && entry.start <= tree.at).any(|entry| {
            let byte = tree.at.saturating_sub(entry.start) >> 15;
            byte < bytes && read::<[u8; 1]>(source, entry.bitmap.saturating_add(byte)).is_err()
        })
    }

    /// The order of the preserved piece that an address is in; `None` if it is in none, or if a bitmap cannot be read.
    #[must_use]
    pub fn order_of(&self, source: &dyn ReadAt, address: u64) -> Option<u32> {
        let mut from = 0;
        while let Some(first) = self.entries.get(from) {
            let order = first.order;
            let rest = self.entries.get(from..).unwrap_or_default();
            let of_order = rest.partition_point(|entry| entry.order == order);
            let below = rest.get(..of_order).unwrap_or_default().partition_point(|entry| entry.start <= address);
            if let Some(entry) = below.checked_sub(1).and_then(|at| rest.get(at))
                && self.holds(source, entry, address)
            {
                return Some(order);
            }
            from = from.saturating_add(of_order.max(1));
        }
        None
    }

    fn holds(&self, source: &dyn ReadAt, entry: &Entry, address: u64) -> bool {
        let shift = entry.order.saturating_add(12);
        let bit = address.saturating_sub(entry.start).checked_shr(shift).unwrap_or(u64::MAX);
        if bit >= self.bitmaps.bits().into() {
            return false;
        }
        let byte = bit >> 3;
        let held: Result<[u8; 1], _> = read(source, entry.bitmap.saturating_add(byte));
        held.is_ok_and(|[held]| held >> (bit & 7) & 1 == 1)
    }

    /// A preserved piece that another one of a different order has memory of: the bitmap that it is in, and where it starts.
    /// It is the one with the lowest address.
    #[must_use]
    pub fn overlap(&self, source: &dyn ReadAt) -> Option<(u64, u64)> {
        let by_order = self.entries.chunk_by(|one, other| one.order == other.order);
        let mut orders: Vec<_> = by_order.map(|entries| self.pieces(source, entries)).collect();
        if orders.len() < 2 {
            return None;
        }
        let mut next = BinaryHeap::new();
        for (n, pieces) in orders.iter_mut().enumerate() {
            next.extend(pieces.next().map(|pieces| Reverse((pieces, n))));
        }
        let mut end = 0;
        while let Some(Reverse(((start, stop, bitmap), n))) = next.pop() {
            if start < end {
                return Some((bitmap, start));
            }
            end = stop;
            next.extend(orders.get_mut(n).and_then(Iterator::next).map(|pieces| Reverse((pieces, n))));
        }
        None
    }

    /// A preserved piece that reaches past the end of all memory: the bitmap that it is in, and where it starts.
    #[must_use]
    pub fn outside(&self, source: &dyn ReadAt) -> Option<(u64, u64)> {
        let all = u64::from(self.bitmaps.bits());
        let reaches = |entry: &&Entry| {
            let end = piece(entry.order).checked_mul(all).and_then(|bytes| entry.start.checked_add(bytes));
            end.is_none_or(|end| end > ADDRESSES)
        };
        let entries = self.entries.iter().filter(reaches);
        let mut pieces = entries.flat_map(|entry| self.pieces(source, std::slice::from_ref(entry)));
        let (start, _, bitmap) = pieces.find(|(_, end, _)| *end > ADDRESSES)?;
        Some((bitmap, start))
    }

    /// The runs of preserved pieces in bitmaps of one order: where each starts and ends, and the bitmap.
    fn pieces<'m>(
        &self,
        source: &'m dyn ReadAt,
        entries: &'m [Entry],
    ) -> impl Iterator<Item = (u64, u64, u64)> + use<'m> {
        let bytes = small(u64::from(self.bitmaps.bits() >> 3));
        entries.iter().flat_map(move |entry| {
            let mut bitmap = vec![0; bytes];
            let held = source.read_at(entry.bitmap, &mut bitmap).is_ok();
            let runs: Vec<(u32, u32)> = if held { bits(&bitmap).collect() } else { Vec::new() };
            runs.into_iter().map(|(first, count)| {
                let start = entry.start.saturating_add(u64::from(first).saturating_mul(piece(entry.order)));
                (start, start.saturating_add(u64::from(count).saturating_mul(piece(entry.order))), entry.bitmap)
            })
        })
    }

    /// How many of its bitmaps cannot be read: what they preserve is not known.
    #[must_use]
    pub fn unread(&self, source: &dyn ReadAt) -> u64 {
        let mut page: Page = [0; 4096];
        let bytes = small(u64::from(self.bitmaps.bits() >> 3));
        let mut missing =
            |entry: &&Entry| page.get_mut(..bytes).is_some_and(|held| source.read_at(entry.bitmap, held).is_err());
        gmfs_io::num::len64(self.entries.iter().filter(|entry| missing(entry)).count())
    }

    /// Hands all preserved pages to `each`, by order, then by address, in runs. Gives whether all bitmaps could be read.
    pub fn ranges(&self, source: &dyn ReadAt, mut each: impl FnMut(Range)) -> bool {
        let mut complete = true;
        let mut page: Page = [0; 4096];
        let bytes = small(u64::from(self.bitmaps.bits() >> 3));
        let mut run: Option<Range> = None;
        for entry in &self.entries {
            let Some(bitmap) = page.get_mut(..bytes) else { break };
            if source.read_at(entry.bitmap, bitmap).is_err() {
                complete = false;
                continue;
            }
            for (start, count) in bits(bitmap) {
                let start = entry.start.saturating_add(u64::from(start).saturating_mul(piece(entry.order)));
                match &mut run {
                    Some(run) if run.order == entry.order && run.span().end() == start => {
                        run.count = run.count.saturating_add(count);
                    }
                    _ => {
                        let next = Range { start, order: entry.order, count };
                        if let Some(before) = run.replace(next) {
                            each(before);
                        }
                    }
                }
            }
        }
        if let Some(last) = run {
            each(last);
        }
        complete
    }
}

/// The runs of set bits: where each starts, and how many bits it has.
pub(super) fn bits(bitmap: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    let words = bitmap.as_chunks::<8>().0;
    let bit =
        move |at: u32| -> Option<u64> { Some(u64::from_le_bytes(*words.get(small(u64::from(at >> 6)))?) >> (at & 63)) };
    let end = move |mut at: u32, flip: u64| loop {
        let Some(rest) = bit(at) else { return at };
        let rest = rest ^ flip;
        if rest != 0 {
            // Of flipped bits those that were shifted in are none of the word's.
            return at.saturating_add(rest.trailing_zeros()).min((at | 63).saturating_add(1));
        }
        at = (at | 63).saturating_add(1);
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = end(at, 0);
        bit(start)?;
        let mut stop = start;
        while bit(stop).is_some_and(|rest| rest & 1 == 1) {
            stop = end(stop, u64::MAX);
        }
        at = stop;
        Some((start, stop.saturating_sub(start)))
    })
}

/// Leaves out entries whose bitmap has bytes of another entry's, or of a chunk, so that no bitmap is read for more than one.
/// Each entry comes with its chunk.
fn share(entries: &mut Vec<(Entry, u64)>, chunks: &HashSet<u64>, bitmaps: Bitmaps, faults: &mut Vec<MapFault>) {
    let bytes = u64::from(bitmaps.bits() >> 3);
    entries.sort_unstable_by_key(|(entry, _)| (entry.bitmap, *entry));
    let mut end = 0;
    entries.retain(|(entry, holder)| {
        let stop = entry.bitmap.saturating_add(bytes);
        let pages = [entry.bitmap, stop.saturating_sub(1)].map(|at| gmfs_io::num::round_down(at, PAGE));
        let alone = entry.bitmap >= end && !pages.iter().any(|page| chunks.contains(page));
        if alone {
            end = stop;
        } else if faults.len() < 64 {
            faults.push(MapFault::Twice { holder: *holder, at: entry.bitmap });
        }
        alone
    });
}

struct Reader<'s> {
    source: &'s dyn ReadAt,
    seen: HashSet<u64>,
    /// Each with the record that names it.
    entries: Vec<(Entry, u64)>,
    faults: Vec<MapFault>,
}

impl Reader<'_> {
    fn fault(&mut self, fault: MapFault) {
        // The first few tell enough.
        if self.faults.len() < 64 {
            self.faults.push(fault);
        }
    }

    /// The record that a link leads to, if it is one that no link led to before.
    fn follow(&mut self, holder: u64, at: u64) -> Option<Box<Page>> {
        if !is_page(at) {
            self.fault(MapFault::BadLink { holder, value: at });
            return None;
        }
        if self.seen.len() >= MAX_RECORDS {
            self.fault(MapFault::TooLong);
            return None;
        }
        if !self.seen.insert(at) {
            self.fault(MapFault::Twice { holder, at });
            return None;
        }
        let page: Result<Page, _> = read(self.source, at);
        if page.is_err() {
            self.fault(MapFault::Unreadable { at });
        }
        page.ok().map(Box::new)
    }

    fn entry(&mut self, holder: u64, entry: Entry) {
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push((entry, holder));
        } else {
            self.fault(MapFault::TooLong);
        }
    }

    /// `kho-v1`: chunks, each with entries of one order.
    fn chunks(&mut self, first: u64) {
        let (mut holder, mut at) = (0, first);
        while at != 0 {
            let Some(chunk) = self.follow(holder, at) else { return };
            let (order, count) = (word32(&*chunk, 8), word32(&*chunk, 12));
            if count > CHUNK_ENTRIES {
                self.fault(MapFault::TooManyEntries { at, count });
                return;
            }
            if order > MAX_ORDER {
                self.fault(MapFault::BadEntry { at, value: order.into() });
                return;
            }
            let least = u64::from(SMALL_BITS).saturating_mul(piece(order));
            for n in 0..count {
                let offset = small(u64::from(n).saturating_mul(16).saturating_add(16));
                let (start, bitmap) = (word(&*chunk, offset), word(&*chunk, offset.saturating_add(8)));
                if start.checked_rem(least) != Some(0)
                    || bitmap == 0
                    || bitmap.trailing_zeros() < 3
                    || bitmap >> 52 != 0
                {
                    self.fault(MapFault::BadEntry { at, value: start });
                    continue;
                }
                self.entry(at, Entry { order, start, bitmap });
            }
            (holder, at) = (at, word(&*chunk, 0));
        }
    }

    /// `kho-v3` and later: tables of five levels above the bitmaps. `key` is what the tables above say of the key.
    fn table(&mut self, holder: u64, at: u64, level: u32, key: u64) {
        let Some(table) = self.follow(holder, at) else { return };
        for (n, link) in (0_u64..).zip(table.as_chunks::<8>().0) {
            let link = u64::from_le_bytes(*link);
            if link == 0 {
                continue;
            }
            let shift = level.saturating_sub(1).saturating_mul(9);
            let key = key | n.checked_shl(shift).unwrap_or_default();
            if level > 1 {
                self.table(at, link, level.saturating_sub(1), key);
            } else {
                self.leaf(at, link, key);
            }
            if self.faults.last() == Some(&MapFault::TooLong) {
                return;
            }
        }
    }

    /// A bitmap of the tree. `key` is the key of its first bit without its lowest 15 bits.
    fn leaf(&mut self, holder: u64, at: u64, key: u64) {
        if !is_page(at) {
            self.fault(MapFault::BadLink { holder, value: at });
            return;
        }
        // The highest bit of a key says the order: bit 52 for single pages.
        let order = key.checked_ilog2().and_then(|highest| 37_u32.checked_sub(highest));
        let Some(order) = order else {
            self.fault(MapFault::BadEntry { at: holder, value: key.checked_shl(15).unwrap_or(u64::MAX) });
            return;
        };
        if self.seen.len() >= MAX_RECORDS {
            self.fault(MapFault::TooLong);
            return;
        }
        if !self.seen.insert(at) {
            self.fault(MapFault::Twice { holder, at });
            return;
        }
        // The bit of the order falls off at the top.
        let start = key.checked_shl(order.saturating_add(27)).unwrap_or_default();
        self.entry(holder, Entry { order, start, bitmap: at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_bits_are_found() {
        let mut bitmap = vec![0_u8; 512];
        bitmap[0] = 0b1010_0001;
        bitmap[1] = 1;
        for byte in &mut bitmap[8..24] {
            *byte = 0xff;
        }
        bitmap[511] = 0x80;
        let found: Vec<_> = bits(&bitmap).collect();
        assert_eq!(found, [(0, 1), (5, 1), (7, 2), (64, 128), (4095, 1)]);
        assert_eq!(bits(&[0xff; 4096]).collect::<Vec<_>>(), [(0, 32768)]);
        assert_eq!(bits(&[0; 4096]).count(), 0);
    }
}
