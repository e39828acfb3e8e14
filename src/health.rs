//! How a region's metadata stands: every page in use, both copies.

use anyhow::{Context as _, Result};
use gmfs_check::{Options, PageStandings, Verdict, check};
use gmfs_io::ReadAt;
use gmfs_volume::Region;

use crate::{clock, repairing};

/// The state of a region's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) verdict: Verdict,
    pub(crate) pages: PageStandings,
}

/// Judges every page in use, and what the pages say: nothing is called clean here that the checker would not.
pub(crate) fn assess<S: ReadAt>(region: &Region<S>) -> Result<Health> {
    let mut options = Options::new(clock::now());
    (options.threads, options.keep) = (repairing::threads(), 1);
    let report = check(region.source(), &options, &|_, _| {}).context("cannot check the region")?;
    Ok(Health { verdict: report.verdict(), pages: report.pages })
}
