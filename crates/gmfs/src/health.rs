//! How a region's metadata is: every page in use, both copies.

use std::num::NonZeroUsize;

use gmfs_check::{Options, PageStandings, Verdict, check};
use gmfs_io::ReadAt;
use gmfs_volume::{OpenError, Region};

/// The state of a region's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// What a check comes to.
    pub verdict: Verdict,
    /// How the pages of each copy are.
    pub pages: PageStandings,
}

impl Health {
    /// Whether a check finds damage.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.verdict == Verdict::Damaged
    }
}

/// Judges every page in use and what it says: nothing is called clean that a check would not call clean. `now` is the
/// present time in nanoseconds since the epoch.
///
/// # Errors
/// The region cannot be opened any more.
pub fn assess<S: ReadAt>(region: &Region<S>, now: u64, threads: NonZeroUsize) -> Result<Health, OpenError> {
    let mut options = Options::new(now);
    (options.threads, options.keep) = (threads, 1);
    let report = check(region.source(), &options, &|_, _| {})?;
    Ok(Health { verdict: report.verdict(), pages: report.pages })
}
