//! Conversions and steps of numbers that do not wrap: a wrong number fails the bounds check that follows.

use std::ops::Range;

/// A `u32` as an index. Lossless on every target that has files (32 and 64 bits).
#[must_use]
pub fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A `u64` that is known to be small (bounded by a page or a buffer) as an index; saturates, so that a wrong one fails
/// its bounds check.
#[must_use]
pub fn small(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A length in memory as a number of bytes.
#[must_use]
pub fn len64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A count that the geometry bounds by 2³² as a `u32`; saturates, so that a wrong one fails its bounds check.
#[must_use]
pub fn to_u32(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// How many numbers a range holds; none, if it ends before it starts.
#[must_use]
pub const fn range_len(range: &Range<u32>) -> u32 {
    range.end.saturating_sub(range.start)
}

/// Whether `after` follows `before` directly. No number follows the largest one.
#[must_use]
pub const fn follows(before: u32, after: u32) -> bool {
    matches!(before.checked_add(1), Some(next) if next == after)
}

/// The highest multiple of `unit` that is not above `n`; `n` itself if the unit is 0.
#[must_use]
pub fn round_down(n: u64, unit: u64) -> u64 {
    n.saturating_sub(n.checked_rem(unit).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_ends_do_not_wrap() {
        assert!(follows(3, 4) && !follows(4, 3) && !follows(u32::MAX, 0) && !follows(u32::MAX, u32::MAX));
        assert_eq!([range_len(&(2..5)), range_len(&Range { start: 5, end: 2 })], [3, 0]);
        assert_eq!([round_down(4097, 4096), round_down(4096, 4096), round_down(5, 0)], [4096, 4096, 5]);
        assert_eq!(round_down(u64::MAX, 4096), u64::MAX << 12);
    }
}
