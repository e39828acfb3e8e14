//! Decides which of a page's two copies is the committed one, and in which state each copy is.
//!
//! This module implements the rule of `docs/FORMAT.md`, "Commit": a page counts if its seal is good and its generation
//! is not above that of the region. If both copies count, the one with the higher generation is used. Everything that
//! reads metadata (engine, checker, inspection) uses this module.

use crate::native::seal::SealFault;
use crate::native::units::{CopyId, Generation};
use gmfs_io::Absence;

/// What was found at a location of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A page with a good seal.
    Good(Generation),
    /// Bytes without a good seal.
    Bad(SealFault),
    /// The image does not hold these bytes.
    Absent(Absence),
    /// The medium returned an error.
    Unreadable,
}

impl Found {
    /// The generation of a good page.
    #[must_use]
    pub const fn generation(self) -> Option<Generation> {
        match self {
            Self::Good(generation) => Some(generation),
            _ => None,
        }
    }
}

/// What the superblocks show about a change in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No writer was at work, so a page that is not good is damaged.
    Idle,
    /// A writer was at work and copy B is complete. Pages of copy A may be incomplete (steps 1 and 2 of a commit).
    ToA,
    /// A commit is complete in copy A, and copy B may not have it yet (steps 3 and 4).
    ToB,
}

/// The state of one copy of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is good and current.
    Good,
    /// It is good, but of a commit that did not reach its commit point. Recovery restores the old page.
    Uncommitted,
    /// It is good but older than the other copy, which the phase explains. Recovery copies the newer page to it.
    Lagging,
    /// A crash interrupted a write, which the phase explains. Recovery rewrites the page.
    Interrupted,
    /// It is good but older than the other copy, although no commit was in progress: its content went back in time.
    Stale,
    /// Its seal is broken.
    Damaged(SealFault),
    /// It is not in the image.
    Absent(Absence),
    /// The medium returned an error.
    Unreadable,
}

impl Standing {
    /// Whether recovery repairs this. Each normal opening for writing includes recovery.
    #[must_use]
    pub const fn is_recovery(self) -> bool {
        matches!(self, Self::Uncommitted | Self::Lagging | Self::Interrupted)
    }

    /// A word for it, for tables and for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncommitted => "uncommitted",
            Self::Lagging => "lagging",
            Self::Interrupted => "interrupted",
            Self::Stale => "stale",
            Self::Damaged(fault) => fault.name(),
            Self::Absent(Absence::BeyondEnd) => "beyond-end",
            Self::Absent(_) => "absent",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether this is damage. What recovery repairs, and what is absent, is not damage.
    #[must_use]
    pub const fn is_damage(self) -> bool {
        matches!(self, Self::Stale | Self::Damaged(_) | Self::Unreadable)
    }
}

/// The verdict on both copies of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The copy to use, if any copy counts.
    pub take: Option<CopyId>,
    /// The state of copy A.
    pub a: Standing,
    /// The state of copy B.
    pub b: Standing,
    /// Whether both copies count with one generation but differ, so that it is unknown which is right.
    pub conflict: bool,
    /// Whether it is not proven that the copy to use is the newest state of the page. [`judge`] cannot know this, and
    /// sets false.
    pub uncertain: bool,
}

impl Judgement {
    /// The state of a copy.
    #[must_use]
    pub const fn of(&self, copy: CopyId) -> Standing {
        match copy {
            CopyId::A => self.a,
            CopyId::B => self.b,
        }
    }

    /// Whether both copies are good and equal, and there is no doubt about them.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.a == Standing::Good && self.b == Standing::Good && !self.conflict && !self.uncertain
    }

    /// Whether there is any damage to the page.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        self.conflict || self.uncertain || self.take.is_none() || self.a.is_damage() || self.b.is_damage()
    }
}

/// Judges a page by what was found at its two locations. `committed` is the region's generation. `equal` compares the
/// payloads; it is called only if both copies count with the same generation.
pub fn judge(a: Found, b: Found, committed: Generation, phase: Phase, equal: impl FnOnce() -> bool) -> Judgement {
    let counts = |found: Found| found.generation().filter(|generation| *generation <= committed);
    let alone = |copy: CopyId, found: Found| standing_alone(copy, found, committed, phase);
    match (counts(a), counts(b)) {
        (Some(in_a), Some(in_b)) if in_a == in_b => Judgement {
            take: Some(CopyId::A),
            a: Standing::Good,
            b: Standing::Good,
            conflict: !equal(),
            uncertain: false,
        },
        (Some(in_a), Some(in_b)) if in_a > in_b => {
            // Copy B may lack only the last commit.
            let expected = phase == Phase::ToB && in_a == committed;
            let b = if expected { Standing::Lagging } else { Standing::Stale };
            taken(CopyId::A, Standing::Good, b)
        }
        // Copy B is never ahead of copy A, so copy A went back in time.
        (Some(_), Some(_)) => taken(CopyId::B, Standing::Stale, Standing::Good),
        // A commit that raises the high-water marks prepares new pages in copy B, and completes them last.
        (Some(in_a), None) if b == Found::Bad(SealFault::Prepared) && phase == Phase::ToB && in_a == committed => {
            taken(CopyId::A, Standing::Good, Standing::Lagging)
        }
        (Some(_), None) => taken(CopyId::A, Standing::Good, alone(CopyId::B, b)),
        (None, Some(_)) => taken(CopyId::B, alone(CopyId::A, a), Standing::Good),
        (None, None) => {
            Judgement { take: None, a: alone(CopyId::A, a), b: alone(CopyId::B, b), conflict: false, uncertain: false }
        }
    }
}

/// A judgement that uses one copy without a doubt.
fn taken(take: CopyId, a: Standing, b: Standing) -> Judgement {
    Judgement { take: Some(take), a, b, conflict: false, uncertain: false }
}

/// The state of a copy that does not count.
fn standing_alone(copy: CopyId, found: Found, committed: Generation, phase: Phase) -> Standing {
    let being_written = matches!((phase, copy), (Phase::ToA, CopyId::A) | (Phase::ToB, CopyId::B));
    match found {
        Found::Good(generation) if generation > committed => Standing::Uncommitted,
        Found::Good(_) => Standing::Good,
        Found::Bad(SealFault::Torn | SealFault::Flipped { .. }) if being_written => Standing::Interrupted,
        Found::Bad(fault) => Standing::Damaged(fault),
        Found::Absent(why) => Standing::Absent(why),
        Found::Unreadable => Standing::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Found = Found::Good(Generation(3));
    const NOW: Found = Found::Good(Generation(5));
    const NEXT: Found = Found::Good(Generation(6));
    const TORN: Found = Found::Bad(SealFault::Torn);
    const G: Generation = Generation(5);

    fn at(a: Found, b: Found, phase: Phase) -> Judgement {
        judge(a, b, G, phase, || true)
    }

    #[test]
    fn equal_pages_are_whole_and_different_ones_a_conflict() {
        assert!(at(NOW, NOW, Phase::Idle).is_whole());
        assert!(at(OLD, OLD, Phase::ToB).is_whole());
        let split = judge(NOW, NOW, G, Phase::Idle, || false);
        assert!(split.conflict && split.is_damage());
    }

    #[test]
    fn an_aborted_page_is_rolled_back() {
        let judged = at(NEXT, OLD, Phase::ToA);
        assert_eq!((judged.take, judged.a), (Some(CopyId::B), Standing::Uncommitted));
        assert!(!judged.is_damage());
    }

    #[test]
    fn a_lagging_mirror_is_recovery_only_while_a_commit_is_half_done() {
        assert_eq!(at(NOW, OLD, Phase::ToB).b, Standing::Lagging);
        assert_eq!(at(NOW, OLD, Phase::Idle).b, Standing::Stale);
        let older_commit = at(Found::Good(Generation(4)), OLD, Phase::ToB);
        assert_eq!(older_commit.b, Standing::Stale);
        assert_eq!(at(OLD, NOW, Phase::ToB).a, Standing::Stale);
    }

    #[test]
    fn a_prepared_page_waits_for_the_commit_that_has_prepared_it() {
        const PREPARED: Found = Found::Bad(SealFault::Prepared);
        assert_eq!(at(NOW, PREPARED, Phase::ToB).b, Standing::Lagging);
        for (a, phase) in [(OLD, Phase::ToB), (NOW, Phase::ToA), (NOW, Phase::Idle)] {
            assert_eq!(at(a, PREPARED, phase).b, Standing::Damaged(SealFault::Prepared));
        }
        // Only copy B has prepared pages.
        assert_eq!(at(PREPARED, OLD, Phase::ToA).a, Standing::Damaged(SealFault::Prepared));
    }

    #[test]
    fn a_torn_page_is_recovery_only_where_a_writer_was() {
        assert_eq!(at(TORN, OLD, Phase::ToA).a, Standing::Interrupted);
        assert_eq!(at(TORN, OLD, Phase::Idle).a, Standing::Damaged(SealFault::Torn));
        assert_eq!(at(OLD, TORN, Phase::ToB).b, Standing::Interrupted);
        assert_eq!(at(OLD, TORN, Phase::ToA).b, Standing::Damaged(SealFault::Torn));
    }

    #[test]
    fn nothing_is_taken_when_nothing_counts() {
        assert_eq!(at(NEXT, TORN, Phase::ToA).take, None);
        assert_eq!(at(TORN, Found::Absent(Absence::BeyondEnd), Phase::Idle).take, None);
    }
}
