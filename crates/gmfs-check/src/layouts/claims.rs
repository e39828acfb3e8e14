//! Who has which preserved piece of memory: one bit for each piece of the preserved map that somebody has.

use std::collections::BTreeMap;

use gmfs_format::kho::{Entry, Map, PAGE};
use gmfs_io::ReadAt;
use gmfs_io::num::small;

/// Bitmaps of claims that are kept, each as large as one of the map: enough for 8 TiB of single pages.
const MAX_BITMAPS: usize = 1 << 16;

/// A preserved piece: 2^order pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its address.
    pub(super) start: u64,
    /// Its bytes.
    pub(super) bytes: u64,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The address is in no preserved piece.
    NotPreserved,
    /// A bitmap or another record of the map cannot be read, so that it is unknown.
    Unknown,
    /// The piece had no owner.
    First(Piece),
    /// The piece had an owner already.
    Again(Piece),
}

/// The claims to the pieces of a preserved map.
pub(super) struct Claims<'m> {
    map: &'m Map,
    source: &'m dyn ReadAt,
    /// The entries of each order: the position of the first, and how many.
    orders: Vec<(usize, usize)>,
    /// The bitmap of each order that was looked at last; `None` if it cannot be read.
    read: Vec<Option<(usize, Option<Vec<u8>>)>>,
    claimed: BTreeMap<usize, Box<[u8]>>,
    /// Nothing is known of memory that no bitmap stands for, because a record of the map could not be read.
    partial: bool,
    /// There were more claims than are kept.
    overflowed: bool,
}

impl<'m> Claims<'m> {
    pub(super) fn new(map: &'m Map, source: &'m dyn ReadAt) -> Self {
        let mut orders: Vec<(usize, usize)> = Vec::new();
        let mut last = None;
        for (position, entry) in map.entries().iter().enumerate() {
            match orders.last_mut() {
                Some((_, count)) if last == Some(entry.order) => *count = count.saturating_add(1),
                _ => orders.push((position, 1)),
            }
            last = Some(entry.order);
        }
        let read = orders.iter().map(|_| None).collect();
        let partial = !map.is_whole();
        Self { map, source, orders, read, claimed: BTreeMap::new(), partial, overflowed: false }
    }

    fn bytes(entry: &Entry) -> u64 {
        PAGE.checked_shl(entry.order).unwrap_or(u64::MAX)
    }

    /// Claims the piece that an address is in.
    pub(super) fn claim(&mut self, address: u64) -> Claim {
        let mut unknown = self.partial;
        for order in 0..self.orders.len() {
            match self.find(order, address) {
                Some(Ok((position, bit, piece))) => {
                    let first = self.mark(position, bit);
                    return if first { Claim::First(piece) } else { Claim::Again(piece) };
                }
                Some(Err(())) => unknown = true,
                None => {}
            }
        }
        if unknown { Claim::Unknown } else { Claim::NotPreserved }
    }

    /// Claims pieces of so many bytes one after another, the first of which starts at an address. Gives how many were claimed:
    /// those before the first one that is not a preserved piece of that size, that somebody has already, or that has to be
    /// claimed by itself because that cannot be seen at a glance.
    pub(super) fn claim_run(&mut self, address: u64, bytes: u64, count: u64) -> u64 {
        self.claim_alike(address, bytes, count).unwrap_or_default()
    }

    fn claim_alike(&mut self, address: u64, bytes: u64, count: u64) -> Option<u64> {
        let end = address.checked_add(bytes.checked_mul(count)?)?;
        let bits = u64::from(self.map.bitmaps().bits());
        for order in 0..self.orders.len() {
            let (first, entries) = self.of_order(order)?;
            let own = Self::bytes(entries.first()?);
            if own < bytes {
                // What smaller pieces are there comes first.
                let below = entries.partition_point(|entry| entry.start < end);
                let last = below.checked_sub(1).and_then(|last| entries.get(last));
                if last.is_some_and(|last| last.start.saturating_add(own.saturating_mul(bits)) > address) {
                    return None;
                }
                continue;
            }
            if own > bytes {
                return None;
            }
            let within = entries.partition_point(|entry| entry.start <= address).checked_sub(1)?;
            let entry = entries.get(within)?;
            let distance = address.checked_sub(entry.start)?;
            let bit = distance.checked_div(own).filter(|bit| *bit < bits && distance.checked_rem(own) == Some(0))?;
            // Another bitmap may begin before this one ends.
            let next = entries.get(within.saturating_add(1)).map_or(u64::MAX, |next| next.start);
            let room = next.saturating_sub(address).div_ceil(own).min(bits.saturating_sub(bit));
            return self.mark_run(order, first.saturating_add(within), bit, count.min(room));
        }
        None
    }

    /// Claims pieces of one bitmap, up to the first one that is not preserved or has an owner. Gives how many.
    fn mark_run(&mut self, order: usize, position: usize, bit: u64, count: u64) -> Option<u64> {
        self.look(order, position)?;
        let Some(Some((_, Some(held)))) = self.read.get(order) else { return None };
        // A bitmap of claims is made for a piece that is there, as for a single claim.
        if !is_set(held, bit) || (!self.claimed.contains_key(&position) && self.claimed.len() >= MAX_BITMAPS) {
            return None;
        }
        let claimed = self.claimed.entry(position).or_insert_with(|| vec![0; held.len()].into());
        let mut done = 0;
        while done < count {
            let at = bit.saturating_add(done);
            let (byte, shift) = (small(at >> 3), at & 7);
            let width = count.saturating_sub(done).min(8_u64.saturating_sub(shift));
            let (Some(held), Some(claimed)) = (held.get(byte), claimed.get_mut(byte)) else { break };
            let free = (held & !*claimed) >> shift;
            let pieces = u64::from(free.trailing_ones()).min(width);
            *claimed |= low_bits(pieces) << shift;
            done = done.saturating_add(pieces);
            if pieces < width {
                break;
            }
        }
        Some(done)
    }

    /// The entries of an order, and the position of the first.
    fn of_order(&self, order: usize) -> Option<(usize, &'m [Entry])> {
        let (first, count) = *self.orders.get(order)?;
        Some((first, self.map.entries().get(first..first.checked_add(count)?)?))
    }

    /// Reads the bitmap of an entry, unless it is the one of its order that was looked at last.
    fn look(&mut self, order: usize, position: usize) -> Option<()> {
        let (map, source) = (self.map, self.source);
        let read = self.read.get_mut(order)?;
        if read.as_ref().is_none_or(|(of, _)| *of != position) {
            *read = Some((position, bitmap(map, source, map.entries().get(position)?)));
        }
        Some(())
    }

    /// The piece of an order that an address is in: its entry, its bit, itself. An error if the bitmap cannot be read.
    fn find(&mut self, order: usize, address: u64) -> Option<Result<(usize, u64, Piece), ()>> {
        let (first, entries) = self.of_order(order)?;
        let within = entries.partition_point(|entry| entry.start <= address).checked_sub(1)?;
        let entry = entries.get(within)?;
        let bytes = Self::bytes(entry);
        let bit = address.checked_sub(entry.start)?.checked_div(bytes)?;
        if bit >= self.map.bitmaps().bits().into() {
            return None;
        }
        let position = first.checked_add(within)?;
        self.look(order, position)?;
        let Some((_, Some(bits))) = self.read.get(order)? else { return Some(Err(())) };
        if !is_set(bits, bit) {
            return None;
        }
        let start = entry.start.saturating_add(bit.saturating_mul(bytes));
        Some(Ok((position, bit, Piece { start, bytes })))
    }

    /// Marks a piece as claimed. Gives whether it was not before.
    fn mark(&mut self, position: usize, bit: u64) -> bool {
        if !self.claimed.contains_key(&position) && self.claimed.len() >= MAX_BITMAPS {
            self.overflowed = true;
            return true;
        }
        let bytes = small(u64::from(self.map.bitmaps().bits() >> 3));
        let bits = self.claimed.entry(position).or_insert_with(|| vec![0; bytes].into());
        let first = !is_set(bits, bit);
        if let Some(byte) = bits.get_mut(small(bit >> 3)) {
            *byte |= mask(bit);
        }
        first
    }

    /// What was claimed: the bits of each bitmap.
    #[cfg(test)]
    pub(super) fn into_claimed(self) -> BTreeMap<usize, Box<[u8]>> {
        self.claimed
    }

    /// Bytes of preserved pieces that nobody has claimed, and where the first of them is. `None` if that is unknown because
    /// there were more claims than are kept, or because a bitmap cannot be read.
    pub(super) fn unowned(&self) -> Option<(u64, u64)> {
        if self.overflowed {
            return None;
        }
        let (mut sum, mut first) = (0_u64, u64::MAX);
        for (position, entry) in self.map.entries().iter().enumerate() {
            let bits = bitmap(self.map, self.source, entry)?;
            let claimed = self.claimed.get(&position);
            for (n, byte) in bits.iter().enumerate() {
                let left = byte & !claimed.and_then(|claimed| claimed.get(n)).copied().unwrap_or_default();
                if left == 0 {
                    continue;
                }
                let bytes = Self::bytes(entry);
                sum = sum.saturating_add(bytes.saturating_mul(left.count_ones().into()));
                let bit = gmfs_io::num::len64(n).saturating_mul(8).saturating_add(left.trailing_zeros().into());
                first = first.min(entry.start.saturating_add(bit.saturating_mul(bytes)));
            }
        }
        Some((sum, first))
    }
}

/// The bitmap of an entry, if it can be read.
fn bitmap(map: &Map, source: &dyn ReadAt, entry: &Entry) -> Option<Vec<u8>> {
    let mut bits = vec![0; small(u64::from(map.bitmaps().bits() >> 3))];
    source.read_at(entry.bitmap, &mut bits).ok().map(|()| bits)
}

/// A byte with so many of its lowest bits set.
const fn low_bits(count: u64) -> u8 {
    match count {
        0 => 0,
        1..8 => mask(count).wrapping_sub(1),
        _ => u8::MAX,
    }
}

const fn mask(bit: u64) -> u8 {
    match bit & 7 {
        0 => 1,
        1 => 2,
        2 => 4,
        3 => 8,
        4 => 16,
        5 => 32,
        6 => 64,
        _ => 128,
    }
}

fn is_set(bits: &[u8], bit: u64) -> bool {
    bits.get(small(bit >> 3)).is_some_and(|byte| byte & mask(bit) != 0)
}
