//! Shared by the tests: media in memory, crash states, logical states, operations, and crafted pages.

pub(crate) mod craft;
pub(crate) mod media;
pub(crate) mod ops;
pub(crate) mod oracle;
pub(crate) mod reader;
pub(crate) mod session;
pub(crate) mod state;

pub(crate) use media::{crashes, memory, recorder, rng};

/// How many random cases a test tries: `usual`, multiplied by `GMFS_CRASH_CASES` if that is set.
pub(crate) fn cases(usual: u64) -> u64 {
    let times = std::env::var("GMFS_CRASH_CASES").ok();
    usual * times.and_then(|times| times.parse().ok()).unwrap_or(1)
}
