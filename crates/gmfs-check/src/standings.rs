//! Counts the pages of each copy by their state.

use gmfs_format::native::copies::{Judgement, Standing};
use gmfs_format::native::units::CopyId;

/// How many pages of one copy are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Good and current.
    pub good: u64,
    /// Left by a writer that did not end its session. The next writer recovers them.
    pub recovery: u64,
    /// Good but older than the other copy, without a reason.
    pub stale: u64,
    /// With a broken seal, or unreadable.
    pub damaged: u64,
    /// Not in the image.
    pub absent: u64,
}

impl Standings {
    /// Counts a page.
    fn add(&mut self, standing: Standing) {
        let place = match standing {
            Standing::Good => &mut self.good,
            Standing::Uncommitted | Standing::Lagging | Standing::Interrupted => &mut self.recovery,
            Standing::Stale => &mut self.stale,
            Standing::Damaged(_) | Standing::Unreadable => &mut self.damaged,
            Standing::Absent(_) => &mut self.absent,
        };
        *place = place.saturating_add(1);
    }

    /// Whether all pages are good.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.recovery == 0 && self.stale == 0 && self.damaged == 0 && self.absent == 0
    }

    /// The sum of both. No region has as many pages as a count can hold.
    const fn plus(self, other: Self) -> Self {
        Self {
            good: self.good.saturating_add(other.good),
            recovery: self.recovery.saturating_add(other.recovery),
            stale: self.stale.saturating_add(other.stale),
            damaged: self.damaged.saturating_add(other.damaged),
            absent: self.absent.saturating_add(other.absent),
        }
    }
}

/// The states of all pages in use in both copies, including superblocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageStandings {
    /// Those of copy A.
    pub a: Standings,
    /// Those of copy B.
    pub b: Standings,
}

impl PageStandings {
    /// Counts a page's two copies.
    pub(crate) fn add(&mut self, judged: &Judgement) {
        self.a.add(judged.of(CopyId::A));
        self.b.add(judged.of(CopyId::B));
    }

    /// The sum of two parts of the tables.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { a: self.a.plus(other.a), b: self.b.plus(other.b) }
    }
}
