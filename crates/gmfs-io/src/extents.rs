//! Pieces of one space that are stored in another: the records of a flattened stream, the blocks of a LiME image.

use std::collections::BinaryHeap;
use std::ops::Range;

/// `len` bytes from `start` of one space, which are at `place` in another space. `start + len` does not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte, in the space that is put together.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Where its first byte is in the other space.
    pub place: u64,
}

impl Extent {
    /// One past its last byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Where the byte at `at` is in the other space.
    #[must_use]
    pub const fn place_of(&self, at: u64) -> u64 {
        self.place.saturating_add(at.saturating_sub(self.start))
    }
}

/// Which of two extents holds the bytes that both claim, by their places in the other space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wins {
    /// The one whose bytes come first.
    First,
    /// The one whose bytes come last.
    Last,
}

/// Extents, ascending by their start, none empty, that do not overlap.
#[derive(Debug, Default)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// Sorts `list` and resolves overlaps. O(n log n), and no memory beyond the list where none overlap.
    #[must_use]
    pub fn new(mut list: Vec<Extent>, wins: Wins) -> Self {
        list.retain(|extent| extent.len > 0);
        if !list.is_sorted_by_key(|extent| extent.start) {
            list.sort_unstable_by_key(|extent| (extent.start, extent.place));
        }
        let overlap = list.windows(2).any(|pair| match pair {
            [one, other] => one.end() > other.start,
            _ => false,
        });
        Self(if overlap { sweep(&list, wins) } else { list })
    }

    /// One past the last byte of the last extent.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, Extent::end)
    }

    /// The extents from the one that holds `at` on, or from the first one past it.
    #[must_use]
    pub fn from(&self, at: u64) -> &[Extent] {
        let index = self.0.partition_point(|extent| extent.end() <= at);
        self.0.get(index..).unwrap_or_default()
    }

    /// The first stretch of `range` that no extent holds.
    #[must_use]
    pub fn gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut at = range.start;
        for extent in self.from(range.start) {
            if at >= range.end {
                return None;
            }
            if extent.start > at {
                return Some(at..extent.start.min(range.end));
            }
            at = extent.end();
        }
        (at < range.end).then_some(at..range.end)
    }

    /// The first stretch of `range` that extents hold.
    #[must_use]
    pub fn held(&self, range: Range<u64>) -> Option<Range<u64>> {
        let first = self.from(range.start).first().filter(|extent| extent.start < range.end)?;
        let start = first.start.max(range.start);
        let end = self.gap(start..range.end).map_or(range.end, |gap| gap.start);
        Some(start..end)
    }
}

/// Fills `buf` with the bytes of `pieces` from `offset` on. The first piece holds `offset` or starts past it. `read`
/// gets the place of some bytes in the other space, their offset in this one, and the buffer for them. Bytes between
/// pieces become zeros. Returns the offset past the last piece, and the rest of `buf`, which is unchanged.
///
/// # Errors
/// The first error of `read`.
pub fn fill<E>(
    pieces: impl IntoIterator<Item = Extent>,
    offset: u64,
    buf: &mut [u8],
    mut read: impl FnMut(u64, u64, &mut [u8]) -> Result<(), E>,
) -> Result<(u64, &mut [u8]), E> {
    let (mut at, mut rest) = (offset, buf);
    for piece in pieces {
        if rest.is_empty() {
            break;
        }
        let before = usize::try_from(piece.start.saturating_sub(at)).unwrap_or(usize::MAX);
        let (zeros, later) = rest.split_at_mut(before.min(rest.len()));
        zeros.fill(0);
        at = at.max(piece.start);
        let left = usize::try_from(piece.end().saturating_sub(at)).unwrap_or(usize::MAX);
        let (now, later) = later.split_at_mut(left.min(later.len()));
        if !now.is_empty() {
            read(piece.place_of(at), at, now)?;
        }
        (at, rest) = (piece.end(), later);
    }
    Ok((at, rest))
}

/// Cuts a sorted list so that nothing overlaps. Each turn of the loop passes the start or the end of an extent.
fn sweep(list: &[Extent], wins: Wins) -> Vec<Extent> {
    let mut waiting = list.iter().peekable();
    // The extents that cover `at`; the one that wins is on top.
    let mut open: BinaryHeap<(u64, u64, u64)> = BinaryHeap::new();
    let rank = |place: u64| if wins == Wins::Last { place } else { u64::MAX.saturating_sub(place) };
    let mut done: Vec<Extent> = Vec::with_capacity(list.len());
    let mut at = 0;
    loop {
        while open.peek().is_some_and(|(_, end, _)| *end <= at) {
            open.pop();
        }
        if open.is_empty() {
            match waiting.peek() {
                Some(next) => at = next.start,
                None => return done,
            }
        }
        while let Some(extent) = waiting.next_if(|extent| extent.start <= at) {
            open.push((rank(extent.place), extent.end(), extent.start));
        }
        let Some((best, end, start)) = open.peek().copied() else { continue };
        let until = waiting.peek().map_or(end, |next| next.start.min(end));
        let first = rank(best);
        let place = first.saturating_add(at.saturating_sub(start));
        match done.last_mut() {
            Some(last) if last.end() == at && last.place_of(at) == place => {
                last.len = last.len.saturating_add(until.saturating_sub(at));
            }
            _ => done.push(Extent { start: at, len: until.saturating_sub(at), place }),
        }
        at = until;
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
