//! The passes, in the order in which they run. Each one relies on the results of those before it.

pub(crate) mod blocks;
pub(crate) mod counts;
pub(crate) mod data;
pub(crate) mod inodes;
pub(crate) mod pages;
pub(crate) mod places;
pub(crate) mod superblock;
pub(crate) mod tree;

/// Times later than "now" by more than this are in the future. Clocks differ, and hosts move between time zones.
const FUTURE: u64 = 24 * 3600 * 1_000_000_000;

/// Whether a time is in the future.
fn in_future(time: u64, now: u64) -> bool {
    time > now.saturating_add(FUTURE)
}
