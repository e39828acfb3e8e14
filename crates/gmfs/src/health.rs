//! The state of a region's metadata: of every page in use, in both copies.

use std::num::NonZeroUsize;

use gmfs_check::{Options, PageStandings, Verdict, check};
use gmfs_io::ReadAt;
use gmfs_volume::{OpenError, Region};

/// The state of a region's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The verdict of a check.
    pub verdict: Verdict,
    /// The states of the pages of each copy.
    pub pages: PageStandings,
}

impl Health {
    /// Whether a check finds damage.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.verdict == Verdict::Damaged
    }
}

/// Judges every page in use and what it says. The verdict is clean only if a check would call the region clean. `now`
/// is the present time in nanoseconds since the epoch.
///
/// # Errors
/// The region cannot be opened any more.
pub fn assess<S: ReadAt>(region: &Region<S>, now: u64, threads: NonZeroUsize) -> Result<Health, OpenError> {
    let mut options = Options::new(now);
    (options.threads, options.keep) = (threads, 1);
    let report = check(region.source(), &options, &|_, _| {})?;
    Ok(Health { verdict: report.verdict(), pages: report.pages })
}
