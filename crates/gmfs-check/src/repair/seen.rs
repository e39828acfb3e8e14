//! Collects what the rounds of a repair have found, and decides whether another round may make progress.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use gmfs_format::native::units::len64;
use gmfs_io::ReadAt;
use gmfs_volume::Superblocks;

use crate::affected::{AffectedFile, affected_files};
use crate::finding::{Finding, KEPT_PER_CODE, Report};
use crate::problem::Code;
use crate::repair::{Found, More};

/// The maximum number of rounds in a row in which the number of findings reaches no new minimum. No repair takes so
/// many. The bound keeps a hostile image from occupying a program for ever.
pub(super) const ROUNDS: u32 = 64;

/// Identifies a finding from round to round: its code, and a hash of all that it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingKey(Code, u64);

impl Finding {
    /// The key by which the finding is recognised when the region is checked again.
    #[must_use]
    pub fn key(&self) -> FindingKey {
        FindingKey(self.code(), hash(&(self.to_string(), self.at.offset)))
    }
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What the rounds of a repair have found: the first findings of each code, and how many of all are gone.
#[derive(Default)]
pub(super) struct Seen {
    first: BTreeMap<Code, Vec<Finding>>,
    /// The findings among these that the last round added.
    fresh: Vec<Finding>,
    /// The findings that the last round kept, and how many it found of each code.
    last: BTreeSet<FindingKey>,
    totals: BTreeMap<Code, u64>,
    repaired: BTreeMap<Code, u64>,
    /// The lowest number of findings in any round, and how many rounds there have been since.
    fewest: Option<u64>,
    rounds: u32,
    /// The files that the first findings are about.
    files: BTreeMap<FindingKey, AffectedFile>,
}

impl Seen {
    /// Adds the findings of a round. Returns whether another round may make progress.
    pub(super) fn add(&mut self, report: &Report) -> bool {
        let now: BTreeSet<FindingKey> = report.findings.iter().map(Finding::key).collect();
        self.fresh.clear();
        for finding in report.findings.iter().filter(|finding| !self.last.contains(&finding.key())) {
            let first = self.first.entry(finding.code()).or_default();
            // A finding that was gone and came back is listed only once.
            if first.len() < KEPT_PER_CODE && !first.contains(finding) {
                first.push(finding.clone());
                self.fresh.push(finding.clone());
            }
        }
        let mut totals = report.more.clone();
        for finding in &report.findings {
            let total = totals.entry(finding.code()).or_default();
            *total = total.saturating_add(1);
        }
        for (code, before) in &self.totals {
            let listed = len64(self.last.iter().filter(|key| key.0 == *code && !now.contains(key)).count());
            // Some findings may be gone that were never listed.
            let fewer = before.saturating_sub(totals.get(code).copied().unwrap_or_default());
            let repaired = self.repaired.entry(*code).or_default();
            *repaired = repaired.saturating_add(listed.max(fewer));
        }
        let total = totals.values().copied().fold(0, u64::saturating_add);
        (self.last, self.totals) = (now, totals);
        if self.fewest.is_none_or(|fewest| total < fewest) {
            (self.fewest, self.rounds) = (Some(total), 0);
        }
        self.rounds = self.rounds.saturating_add(1);
        self.rounds <= ROUNDS
    }

    /// Finds the files that the last round's new findings are about.
    pub(super) fn locate<S: ReadAt + ?Sized>(&mut self, source: &S, state: &Superblocks) {
        let fresh: Vec<&Finding> = self.fresh.iter().collect();
        for (finding, file) in fresh.iter().zip(affected_files(source, state, &fresh)) {
            if let Some(file) = file {
                self.files.insert(finding.key(), file);
            }
        }
    }

    /// Adds the files of findings that are known already.
    pub(super) fn set_files(&mut self, files: impl Iterator<Item = (FindingKey, AffectedFile)>) {
        let fresh: BTreeSet<FindingKey> = self.fresh.iter().map(Finding::key).collect();
        self.files.extend(files.filter(|(key, _)| fresh.contains(key)));
    }

    /// The files that the first findings are about.
    pub(super) const fn files(&self) -> &BTreeMap<FindingKey, AffectedFile> {
        &self.files
    }

    /// The first findings of each code, and how many more there were.
    pub(super) fn told(mut self) -> (Vec<Found>, BTreeMap<Code, More>) {
        let (mut told, mut more) = (Vec::new(), BTreeMap::new());
        for (code, first) in self.first {
            let (listed, mut listed_gone) = (len64(first.len()), 0_u64);
            for finding in first {
                let key = finding.key();
                let repaired = !self.last.contains(&key);
                listed_gone = listed_gone.saturating_add(repaired.into());
                told.push(Found { finding, repaired, file: self.files.remove(&key) });
            }
            let gone = self.repaired.get(&code).copied().unwrap_or_default();
            let left = self.totals.get(&code).copied().unwrap_or_default();
            let found = gone.saturating_add(left).saturating_sub(listed);
            if found > 0 {
                more.insert(code, More { found, repaired: gone.saturating_sub(listed_gone).min(found) });
            }
        }
        (told, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Subject;
    use crate::problem::{Problem, Severity};
    use crate::repair::Outcome;
    use gmfs_format::native::units::{BlockNo, InodeNo};
    use gmfs_io::Span;

    /// Findings about these blocks, and how many more were not kept.
    fn report(blocks: std::ops::Range<u32>, more: u64) -> Report {
        let finding = |block| Finding {
            problem: Problem::OwnerMissing { owner: InodeNo(7) },
            subject: Subject::Blocks { first: BlockNo(block), count: 1 },
            at: Span::new(u64::from(block), 1),
        };
        let more = BTreeMap::from([(Code::GM0402, more)]);
        Report { findings: blocks.map(finding).collect(), more, ..Report::default() }
    }

    #[test]
    fn findings_that_were_never_listed_count_too() {
        let mut seen = Seen::default();
        assert!(seen.add(&report(0..10, 90)));
        assert!(seen.add(&report(10..20, 80)));
        assert_eq!(seen.repaired[&Code::GM0402], 10);
        assert!(seen.add(&report(20..21, 1)));
        let (found, more) = seen.told();
        assert_eq!((found.len(), found.iter().filter(|found| found.repaired).count()), (21, 20));
        assert_eq!(more[&Code::GM0402], More { found: 79, repaired: 78 });
        let outcome = Outcome { found, more, ..Outcome::default() };
        assert_eq!((outcome.count_severity(Severity::Error), outcome.repaired()), (100, 98));
    }

    #[test]
    fn a_repair_goes_on_as_long_as_there_is_less_to_do() {
        let mut seen = Seen::default();
        for left in (100..1000).rev() {
            assert!(seen.add(&report(0..1, left)));
        }
        let idle = (0..1000).take_while(|_| seen.add(&report(0..1, 100))).count();
        assert_eq!(idle, 63);
        assert_eq!(ROUNDS, 64);
    }
}
