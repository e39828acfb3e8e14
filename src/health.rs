//! How a region's metadata stands: every page in use, both copies.

use anyhow::{Context as _, Result};
use gmfs_check::{Options, PageStandings, check};
use gmfs_format::io::ReadAt;
use gmfs_volume::Region;

use crate::{clock, repairing};

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every page is good.
    Clean,
    /// A writer did not finish; whoever opens the region for writing puts that right.
    Recovery,
    /// Pages are lost or contradict each other.
    Damaged,
}

impl Verdict {
    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Recovery => "recovery",
            Self::Damaged => "damaged",
        }
    }
}

/// The state of a region's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) verdict: Verdict,
    pub(crate) pages: PageStandings,
}

/// Judges every page in use, and what the pages say: nothing is called clean here that the checker would not.
pub(crate) fn assess<S: ReadAt>(region: &Region<S>) -> Result<Health> {
    let options = Options { now: clock::now(), threads: repairing::threads(), data: false, keep: 1 };
    let report = check(region.source(), &options, &|_, _| {}).context("cannot check the region")?;
    let PageStandings { a, b } = report.pages;
    // What is absent is no damage as long as one copy is there from end to end.
    let incomplete = a.absent + b.absent > 0 && !a.is_whole() && !b.is_whole();
    let verdict = match (report.verdict() == gmfs_check::Verdict::Damaged || incomplete, report.interrupted) {
        (true, _) => Verdict::Damaged,
        (false, true) => Verdict::Recovery,
        (false, false) => Verdict::Clean,
    };
    Ok(Health { verdict, pages: report.pages })
}
