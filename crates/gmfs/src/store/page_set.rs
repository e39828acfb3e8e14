//! Pages of memory, in little memory however scattered they are: two bytes for each, and less where there are many.

use std::collections::BTreeMap;

use gmfs_format::kho::PAGE;
use gmfs_io::Span;
use gmfs_io::num::{len64, small};

/// Pages that are in one part of a set.
const PART: u64 = 1 << 15;
/// So many pages of a part are listed. More are a bitmap, which takes as much.
const LISTED: usize = 2048;
/// Larger pieces of memory are not taken apart into pages.
const MOST: u64 = 64;

/// A set of pages.
#[derive(Debug, Default)]
pub(super) struct PageSet(BTreeMap<u64, Part>);

#[derive(Debug)]
enum Part {
    /// Positions in the part, in rising order.
    Few(Vec<u16>),
    /// A bit for each page.
    Many(Box<[u64]>),
}

impl PageSet {
    /// Adds the pages of a piece of memory. Gives whether they were added: a large piece is not.
    pub(super) fn insert(&mut self, span: Span) -> bool {
        if span.len > MOST.saturating_mul(PAGE) {
            return false;
        }
        for page in pages(span) {
            self.0.entry(page / PART).or_insert(Part::Few(Vec::new())).insert(position(page));
        }
        true
    }

    /// Takes out the pages of a piece of memory.
    pub(super) fn remove(&mut self, span: Span) {
        self.parts(span, |part, from, to| part.remove(from, to));
    }

    /// How many bytes of a piece of memory are in the set.
    pub(super) fn bytes_in(&mut self, span: Span) -> u64 {
        let mut count = 0_u64;
        self.parts(span, |part, from, to| count = count.saturating_add(part.count(from, to)));
        count.saturating_mul(PAGE)
    }

    /// The parts of the set in a piece of memory, each with the positions from which and before which it is there.
    fn parts(&mut self, span: Span, mut each: impl FnMut(&mut Part, u64, u64)) {
        let std::ops::Range { start, end } = pages(span);
        if start >= end {
            return;
        }
        for (number, part) in self.0.range_mut(start / PART..end.div_ceil(PART)) {
            let first = number.saturating_mul(PART);
            each(part, start.saturating_sub(first), end.saturating_sub(first).min(PART));
        }
    }
}

/// The pages of a piece of memory.
fn pages(span: Span) -> std::ops::Range<u64> {
    span.offset / PAGE..span.end().div_ceil(PAGE)
}

/// The position of a page in its part.
fn position(page: u64) -> u16 {
    u16::try_from(page % PART).unwrap_or_default()
}

impl Part {
    fn insert(&mut self, position: u16) {
        match self {
            Self::Few(list) => {
                if let Err(at) = list.binary_search(&position) {
                    list.insert(at, position);
                }
                if list.len() > LISTED {
                    let mut many = Self::Many(vec![0; small(PART / 64)].into());
                    list.iter().for_each(|position| many.insert(*position));
                    *self = many;
                }
            }
            Self::Many(words) => {
                if let Some(word) = words.get_mut(usize::from(position / 64)) {
                    *word |= 1 << (position % 64);
                }
            }
        }
    }

    fn remove(&mut self, from: u64, to: u64) {
        match self {
            Self::Few(list) => list.retain(|position| !(from..to).contains(&u64::from(*position))),
            Self::Many(words) => masks(words, from, to, |word, mask| *word &= !mask),
        }
    }

    fn count(&mut self, from: u64, to: u64) -> u64 {
        match self {
            Self::Few(list) => {
                let below = |end: u64| list.partition_point(|position| u64::from(*position) < end);
                len64(below(to).saturating_sub(below(from)))
            }
            Self::Many(words) => {
                let mut count = 0_u64;
                masks(words, from, to, |word, mask| count = count.saturating_add((*word & mask).count_ones().into()));
                count
            }
        }
    }
}

/// The words with bits from one position to another, each with a mask of these bits.
fn masks(words: &mut [u64], from: u64, to: u64, mut each: impl FnMut(&mut u64, u64)) {
    let last = small(to.div_ceil(64)).min(words.len());
    for (number, word) in (0_u64..).zip(words).take(last).skip(small(from / 64)) {
        let first = number.saturating_mul(64);
        let below = |end: u64| match end.saturating_sub(first) {
            bits @ 0..64 => (1_u64 << bits).wrapping_sub(1),
            _ => u64::MAX,
        };
        each(word, below(to) & !below(from));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The same as a set of numbers, for few and for many pages.
    #[test]
    fn pages_are_counted_as_they_were_put_in() {
        for step in [1, 2, 3, 7, 100, 33_000] {
            let (mut set, mut known) = (PageSet::default(), BTreeSet::new());
            for n in (0..6000).rev() {
                let page = 30_000 + n * step;
                assert!(set.insert(Span::new(page * PAGE, PAGE)));
                known.insert(page);
            }
            assert!(set.insert(Span::new(29_990 * PAGE, 12 * PAGE)));
            known.extend(29_990..30_002);
            for taken in [30_100..30_101, 31_000..33_000, 32_760..32_770, 65_530..65_540] {
                set.remove(Span::new(taken.start * PAGE, (taken.end - taken.start) * PAGE));
                known.retain(|page| !taken.contains(page));
            }
            for range in [0..40_000, 30_000..30_001, 30_063..30_130, 32_000..32_768, 32_767..70_000, 0..1 << 40] {
                let span = Span::new(range.start * PAGE, (range.end - range.start) * PAGE);
                let wanted = known.range(range.clone()).count() as u64 * PAGE;
                assert_eq!(set.bytes_in(span), wanted, "{step} {range:?}");
            }
        }
        assert!(!PageSet::default().insert(Span::new(0, (MOST + 1) * PAGE)));
    }
}
