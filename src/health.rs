//! How a region's metadata stands: every page in use, both copies.

use std::num::NonZeroUsize;

use gmfs_check::{Options, check};
use gmfs_format::copies::{Judgement, Phase, Standing};
use gmfs_format::io::ReadAt;
use gmfs_format::units::CopyId;
use gmfs_volume::Region;
use gmfs_volume::superblocks::used_tables;
use gmfs_volume::sweep::{Frame, sweep};

use crate::clock;

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

/// Pages of one copy by what they are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) good: u64,
    pub(crate) recovery: u64,
    pub(crate) stale: u64,
    pub(crate) damaged: u64,
    pub(crate) absent: u64,
}

impl Counts {
    fn add(&mut self, standing: Standing) {
        let place = match standing {
            Standing::Good => &mut self.good,
            Standing::Uncommitted | Standing::Lagging | Standing::Interrupted => &mut self.recovery,
            Standing::Stale => &mut self.stale,
            Standing::Damaged(_) | Standing::Unreadable => &mut self.damaged,
            Standing::Absent(_) => &mut self.absent,
        };
        *place += 1;
    }

    /// Whether there is nothing but good pages.
    const fn is_whole(&self) -> bool {
        self.recovery == 0 && self.stale == 0 && self.damaged == 0 && self.absent == 0
    }
}

/// The state of a region's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) verdict: Verdict,
    pub(crate) a: Counts,
    pub(crate) b: Counts,
}

#[derive(Default)]
struct Tally {
    a: Counts,
    b: Counts,
    damage: bool,
}

impl Tally {
    fn add(&mut self, judged: &Judgement) {
        self.a.add(judged.of(CopyId::A));
        self.b.add(judged.of(CopyId::B));
        self.damage |= judged.is_damage();
    }
}

/// Whether the checker finds anything wrong.
fn finds_damage<S: ReadAt>(region: &Region<S>) -> bool {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = Options { now: clock::now(), threads, data: false, keep: 1 };
    check(region.source(), &options, &|_, _| {}).map_or(true, |report| report.verdict() == gmfs_check::Verdict::Damaged)
}

/// Judges every page in use, and what the pages say.
pub(crate) fn assess<S: ReadAt>(region: &Region<S>) -> Health {
    let superblocks = region.superblocks();
    let mut tally = Tally::default();
    tally.add(&superblocks.judgement());
    for (_, pages) in used_tables(region.superblock()) {
        sweep(region.source(), superblocks, pages, vec![|frame: &Frame<'_>| tally.add(&frame.judgement)]);
    }
    let absent = tally.a.absent + tally.b.absent > 0;
    // What is absent is no damage as long as one copy is there from end to end.
    let incomplete = absent && !tally.a.is_whole() && !tally.b.is_whole();
    let recovery = tally.a.recovery + tally.b.recovery > 0 || superblocks.phase() != Phase::Idle;
    // Pages may be good and say what cannot be: nothing is called clean that the checker would not.
    let unsound = finds_damage(region);
    let verdict = match (tally.damage || incomplete || unsound, recovery) {
        (true, _) => Verdict::Damaged,
        (false, true) => Verdict::Recovery,
        (false, false) => Verdict::Clean,
    };
    Health { verdict, a: tally.a, b: tally.b }
}
