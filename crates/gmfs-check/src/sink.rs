//! Collects what the passes find. Runs with one cause become one finding, and no code can fill the memory.

use std::collections::{BTreeMap, VecDeque};

use gmfs_io::Span;

use crate::finding::{Finding, KEPT_PER_CODE, Reason, Report, Subject, Unchecked};
use crate::problem::{Code, Problem};
use crate::standings::PageStandings;

/// How many runs of what could not be checked may still be continued. There are two, because the two copies of a page
/// are reported in turn.
const OPEN_RUNS: usize = 2;

/// Collects findings.
#[derive(Debug)]
pub(crate) struct Sink {
    keep: usize,
    findings: BTreeMap<Code, Findings>,
    skipped: Skipped,
}

/// What could not be checked.
#[derive(Debug, Default)]
struct Skipped {
    /// The first runs.
    kept: Vec<Unchecked>,
    /// How many more runs there are.
    more: u64,
    /// The last of these runs, as far as they may be continued.
    last: VecDeque<Unchecked>,
}

impl Skipped {
    fn add(&mut self, next: Unchecked) {
        let beyond = self.last.iter_mut().rev();
        for run in beyond.chain(self.kept.iter_mut().rev()).take(OPEN_RUNS) {
            if run.why == next.why && join(&mut run.subject, &next.subject) {
                reach(&mut run.at, next.at);
                return;
            }
        }
        if self.kept.len() < KEPT_PER_CODE {
            self.kept.push(next);
        } else {
            self.more = self.more.saturating_add(1);
            self.hold(next);
        }
    }

    /// Adds what another sink skipped after this one.
    fn append(&mut self, other: Self) {
        for skipped in other.kept {
            self.add(skipped);
        }
        self.more = self.more.saturating_add(other.more);
        for skipped in other.last {
            self.hold(skipped);
        }
    }

    fn hold(&mut self, last: Unchecked) {
        if self.last.len() == OPEN_RUNS {
            self.last.pop_front();
        }
        self.last.push_back(last);
    }
}

/// The findings of one code.
#[derive(Debug, Default)]
struct Findings {
    /// The first findings.
    kept: Vec<Finding>,
    /// How many more findings there are.
    more: u64,
    /// The last of these. What follows it directly extends it, and is not another finding.
    last: Option<Finding>,
}

impl Findings {
    fn add(&mut self, found: Finding, keep: usize) {
        let last = if self.more > 0 { self.last.as_mut() } else { self.kept.last_mut() };
        if let Some(last) = last
            && last.problem == found.problem
            && join(&mut last.subject, &found.subject)
        {
            reach(&mut last.at, found.at);
        } else if self.kept.len() < keep {
            self.kept.push(found);
        } else {
            self.more = self.more.saturating_add(1);
            self.last = Some(found);
        }
    }

    /// Adds what another sink found after these.
    fn append(&mut self, other: Self, keep: usize) {
        if self.kept.is_empty() {
            // The first part is moved and not copied, because a copy would be the largest use of memory in a check.
            *self = other;
            return;
        }
        for found in other.kept {
            self.add(found, keep);
        }
        if other.more > 0 {
            self.more = self.more.saturating_add(other.more);
            self.last = other.last;
        }
    }
}

impl Sink {
    /// A sink that keeps at most `keep` findings of each code.
    pub(crate) fn new(keep: usize) -> Self {
        Self { keep, findings: BTreeMap::new(), skipped: Skipped::default() }
    }

    /// How many findings of each code it keeps.
    pub(crate) const fn keep(&self) -> usize {
        self.keep
    }

    /// Adds a finding. If it continues the last one of its code, that one is extended.
    pub(crate) fn add(&mut self, problem: Problem, subject: Subject, at: Span) {
        let code = problem.code();
        self.findings.entry(code).or_default().add(Finding { problem, subject, at }, self.keep);
    }

    /// Adds something that could not be checked. Runs are joined in the same way.
    pub(crate) fn skip(&mut self, subject: Subject, at: Span, why: Reason) {
        self.skipped.add(Unchecked { subject, at, why });
    }

    /// Whether anything could not be checked.
    pub(crate) const fn has_skipped(&self) -> bool {
        !self.skipped.kept.is_empty()
    }

    /// Adds what another sink collected after this one.
    pub(crate) fn append(&mut self, other: Self) {
        for (code, findings) in other.findings {
            self.findings.entry(code).or_default().append(findings, self.keep);
        }
        self.skipped.append(other.skipped);
    }

    /// The report of everything that was collected.
    pub(crate) fn report(self, incomplete: bool, interrupted: bool, pages: PageStandings) -> Report {
        let beyond = self.findings.iter().filter(|(_, findings)| findings.more > 0);
        let more = beyond.map(|(code, findings)| (*code, findings.more)).collect();
        let mut findings = Vec::with_capacity(self.findings.values().map(|findings| findings.kept.len()).sum());
        findings.extend(self.findings.into_values().flat_map(|findings| findings.kept));
        let Skipped { kept: unchecked, more: more_unchecked, .. } = self.skipped;
        Report { findings, more, unchecked, more_unchecked, incomplete, interrupted, pages, state: None }
    }
}

/// Extends `run` by `next` if `next` follows it directly.
fn join(run: &mut Subject, next: &Subject) -> bool {
    let (both, count) = match (run, next) {
        (Subject::Blocks { first, count }, Subject::Blocks { first: next, count: more }) => {
            (together(first.0, *count, next.0, *more), count)
        }
        (
            Subject::Pages { kind, first, count, copy },
            Subject::Pages { kind: next_kind, first: next, count: more, copy: next_copy },
        ) if kind == next_kind && copy == next_copy => (together(first.0, *count, next.0, *more), count),
        _ => return false,
    };
    if let Some(both) = both {
        *count = both;
    }
    both.is_some()
}

/// The length of a run of `count` from `first` together with one of `more` from `next`, if that follows directly.
fn together(first: u32, count: u32, next: u32, more: u32) -> Option<u32> {
    first.checked_add(count).filter(|end| *end == next)?;
    count.checked_add(more)
}

/// Extends a span to the end of another one that does not start before it.
fn reach(span: &mut Span, other: Span) {
    // The end of a span is never before its start.
    span.len = other.end().max(span.end()).saturating_sub(span.offset);
}

#[cfg(test)]
mod tests {
    use gmfs_format::native::seal::PageKind;
    use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PageNo};
    use gmfs_io::Absence;

    use super::*;

    /// Adds one finding for each block of `blocks`. Each 16 consecutive blocks have one owner.
    fn fill(sink: &mut Sink, blocks: std::ops::Range<u32>) {
        for block in blocks {
            let problem = Problem::OwnerMissing { owner: InodeNo(block / 16) };
            let subject = Subject::Blocks { first: BlockNo(block), count: 1 };
            sink.add(problem, subject, Span::new(u64::from(block) << 21, 1 << 21));
        }
    }

    #[test]
    fn what_is_not_kept_is_counted_in_runs_too_however_it_was_gathered() {
        let mut whole = Sink::new(3);
        fill(&mut whole, 0..160);
        let whole = whole.report(false, false, PageStandings::default());
        assert_eq!((whole.findings.len(), whole.more[&Code::GM0402]), (3, 7));
        for cut in 0..=160 {
            let (mut sink, mut behind) = (Sink::new(3), Sink::new(3));
            fill(&mut sink, 0..cut);
            fill(&mut behind, cut..160);
            sink.append(behind);
            let report = sink.report(false, false, PageStandings::default());
            assert_eq!((&report.findings, &report.more), (&whole.findings, &whole.more), "cut at {cut}");
        }
    }

    #[test]
    fn what_could_not_be_checked_is_counted_beyond_what_is_listed_however_it_was_gathered() {
        // Runs of two pages with gaps between them, with both copies of each page in turn.
        let fill = |sink: &mut Sink, pages: std::ops::Range<u32>| {
            for page in pages.filter(|page| page % 3 > 0) {
                for copy in CopyId::BOTH {
                    let subject =
                        Subject::Pages { kind: PageKind::BlockTable, first: PageNo(page), count: 1, copy: Some(copy) };
                    sink.skip(subject, Span::new(u64::from(page) << 12, 1 << 12), Reason::Absent(Absence::Excluded));
                }
            }
        };
        const RUNS: u32 = 600;
        let mut whole = Sink::new(1);
        fill(&mut whole, 0..3 * RUNS);
        let whole = whole.report(true, false, PageStandings::default());
        assert_eq!(whole.unchecked.len(), KEPT_PER_CODE);
        assert_eq!(whole.count_unchecked(), u64::from(2 * RUNS));
        for cut in (0..=3 * RUNS).step_by(7) {
            let (mut sink, mut behind) = (Sink::new(1), Sink::new(1));
            fill(&mut sink, 0..cut);
            fill(&mut behind, cut..3 * RUNS);
            sink.append(behind);
            let report = sink.report(true, false, PageStandings::default());
            let counted = (&report.unchecked, report.more_unchecked);
            assert_eq!(counted, (&whole.unchecked, whole.more_unchecked), "cut at {cut}");
        }
    }
}
