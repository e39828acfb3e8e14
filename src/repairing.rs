//! Checking, planning and applying in rounds, as `fsck` and `repair` both do it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use gmfs_check::finding::KEPT_PER_CODE;
use gmfs_check::plan::{Edit, Refused};
use gmfs_check::{Code, Finding, Options, Planned, Policy, Repair, Report, Severity, apply, check, plan};
use gmfs_io::{ReadAt, WriteAt};
use gmfs_volume::{Chosen, Class, OpenError, Stamp, Superblocks};

use crate::asking::{Answers, Key, key};
use crate::clock;
use crate::ctx::Ctx;
use crate::interrupt;
use crate::render::WRITER;
use crate::render::findings;
use crate::render::progress::Progress;
use crate::whose::{self, Whose};
use gmfs::in_use::Watch;

/// More rounds than any repair takes until there is less to do; a bound, so that no image can keep one busy for ever.
const ROUNDS: u32 = 64;
/// Edits that are told one by one; more of them are only counted.
const TOLD_EDITS: usize = 1000;
/// Findings of each code that a repair works on at a time.
pub(crate) const KEPT_FOR_REPAIR: usize = 16384;

/// What may be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: look only.
    Look,
    /// Whatever another copy or the rest of the metadata proves.
    Safe,
    /// Everything for which there is a repair.
    All,
    /// What the user says yes to.
    Ask,
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Contents against their CRCs too.
    pub(crate) data: bool,
    /// Show progress also where it would not be shown by itself.
    pub(crate) progress: bool,
    /// The region that is meant, where pages of several are left.
    pub(crate) region: Option<Chosen>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What was found, in any round: the first findings of each code.
    pub(crate) found: Vec<Found>,
    /// How many more were found of a code, and how many of these are gone.
    pub(crate) more: BTreeMap<Code, More>,
    /// What is there at the end.
    pub(crate) last: Report,
    /// Edits that were made: the first ones.
    pub(crate) applied: Vec<Planned>,
    /// How many more were made.
    pub(crate) more_applied: u64,
    /// What was left, and why.
    pub(crate) refused: Vec<Refused>,
    /// What the user was asked about and did not want.
    pub(crate) declined: Vec<Refused>,
    /// The user said stop.
    pub(crate) cancelled: bool,
}

/// A finding, and what is known besides.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    /// It is gone.
    pub(crate) repaired: bool,
    /// The file that it is about.
    pub(crate) whose: Option<Whose>,
    /// A question has named it.
    pub(crate) asked: bool,
}

/// Findings of one code that are only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct More {
    /// How many were found.
    pub(crate) found: u64,
    /// How many of them are gone.
    pub(crate) repaired: u64,
}

impl Outcome {
    /// What a look at `source` says: nothing is gone.
    pub(crate) fn looked<S: ReadAt + ?Sized>(report: Report, source: &S) -> Self {
        let findings: Vec<&Finding> = report.findings.iter().collect();
        let whose = match &report.state {
            Some(state) => whose::find(source, state, &findings),
            None => vec![None; findings.len()],
        };
        let one = |(finding, whose): (&&Finding, _)| Found {
            finding: (*finding).clone(),
            repaired: false,
            whose,
            asked: false,
        };
        let found = findings.iter().zip(whose).map(one).collect();
        let more = report.more.iter().map(|(code, found)| (*code, More { found: *found, repaired: 0 })).collect();
        Self { found, more, last: report, ..Self::default() }
    }

    /// How many findings are gone, those that are only counted included.
    pub(crate) fn repaired(&self) -> u64 {
        let listed = self.found.iter().filter(|found| found.repaired).count() as u64;
        listed + self.more.values().map(|more| more.repaired).sum::<u64>()
    }

    /// How many findings of a severity there were in any round, those that are only counted included.
    pub(crate) fn count(&self, severity: Severity) -> u64 {
        let listed = self.found.iter().filter(|found| found.finding.severity() == severity).count() as u64;
        let more = self.more.iter().filter(|(code, _)| code.severity() == severity);
        listed + more.map(|(_, more)| more.found).sum::<u64>()
    }
}

/// As many threads as there are CPUs for this process.
pub(crate) fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Looks at a region.
pub(crate) fn look<S: ReadAt + ?Sized>(source: &S, look: Look, keep: usize, ctx: &Ctx) -> Result<Report, OpenError> {
    let options = Options { now: clock::now(), threads: threads(), data: look.data, keep, region: look.region };
    let bar = Mutex::new(Progress::forced(ctx, "checking", look.progress));
    let done = AtomicU64::new(0);
    let report = check(source, &options, &|now, of| {
        let now = done.fetch_max(now, Ordering::Relaxed).max(now);
        // Whoever finds the bar in another thread's hands goes on.
        if let Ok(bar) = bar.try_lock() {
            bar.at_of(now, of);
        }
    })?;
    if let Ok(bar) = bar.lock() {
        bar.done();
    }
    Ok(report)
}

/// Asks, plans and applies until nothing more is to be done.
pub(crate) fn repair<T: WriteAt>(
    target: &mut T,
    how: Look,
    mode: Mode,
    watch: &mut Watch,
    ctx: &mut Ctx,
) -> Result<Outcome> {
    clock::check()?;
    interrupt::watch(crate::exit::CANCELLED)?;
    let mut outcome = Outcome::default();
    let mut answers = Answers::default();
    let mut seen = Seen::default();
    loop {
        // Two reports at once would be the most that a repair keeps in memory.
        outcome.last = Report::default();
        outcome.last = look(target, how, KEPT_FOR_REPAIR, ctx)?;
        if !seen.add(&outcome.last) {
            break;
        }
        let policy = if mode == Mode::Safe { Policy::Safe } else { Policy::Lossy };
        let next = plan(target, &outcome.last, policy)?;
        outcome.refused = next.refused;
        seen.locate(target, outcome.last.state.as_deref());
        let (accepted, unwanted) = match mode {
            Mode::All => (next.edits, Vec::new()),
            Mode::Safe => next.edits.into_iter().partition(|planned| planned.class == Repair::Safe),
            Mode::Look => (Vec::new(), next.edits),
            Mode::Ask => {
                let describe = |finding: &Finding| findings::describe(finding, seen.whose.get(&key(finding)));
                answers.choose(next.edits, &outcome.last.findings, describe, ctx)?
            }
        };
        let (accepted, apart) = whole_repairs(accepted, &unwanted);
        let not_wanted = unwanted.iter().chain(&apart).flat_map(not_wanted).collect();
        let mut declined = Vec::new();
        if mode == Mode::Ask {
            outcome.declined = not_wanted;
        } else {
            declined = not_wanted;
        }
        // What a process has mapped stays as it is, and the rest is repaired.
        let (accepted, apart, why) = watch.keep_apart(target, accepted);
        let (accepted, _) = whole_repairs(accepted, &apart);
        declined.extend(why);
        outcome.cancelled = answers.quit || interrupt::asked();
        outcome.refused.extend(declined);
        if accepted.is_empty() || outcome.cancelled {
            break;
        }
        let stamp = Stamp { now: clock::now(), writer: WRITER.to_owned() };
        let Some(state) = outcome.last.state.take() else { break };
        let class = if mode == Mode::Safe { Class::Safe } else { Class::Lossy };
        let forgot = apply(target, &state, &accepted, class, &stamp)
            .context("the repair did not come to its end; run it again")?;
        forgot.first.iter().for_each(|what| ctx.warn(what));
        if forgot.more > 0 {
            ctx.warn(&format!("{} more like this", forgot.more));
        }
        let room = TOLD_EDITS.saturating_sub(outcome.applied.len());
        outcome.more_applied += accepted.len().saturating_sub(room) as u64;
        outcome.applied.extend(accepted.into_iter().take(room));
    }
    (outcome.found, outcome.more) = seen.told(&answers.told);
    Ok(outcome)
}

/// What the rounds of a repair have found: the first findings of each code, and how many of all are gone.
#[derive(Default)]
struct Seen {
    first: BTreeMap<Code, Vec<Finding>>,
    /// Those of the first ones that the last round has added.
    fresh: Vec<Finding>,
    /// The last round's: those that it kept, and how many there were of each code.
    last: BTreeSet<Key>,
    totals: BTreeMap<Code, u64>,
    repaired: BTreeMap<Code, u64>,
    /// The fewest findings of any round, and the rounds since.
    fewest: Option<u64>,
    rounds: u32,
    /// The files that the first findings are about.
    whose: BTreeMap<Key, Whose>,
}

impl Seen {
    /// Adds the findings of a round. Says whether a further round may bring the repair on.
    fn add(&mut self, report: &Report) -> bool {
        let now: BTreeSet<Key> = report.findings.iter().map(key).collect();
        self.fresh.clear();
        for finding in report.findings.iter().filter(|finding| !self.last.contains(&key(finding))) {
            let first = self.first.entry(finding.code()).or_default();
            // What was gone and came back is told once.
            if first.len() < KEPT_PER_CODE && !first.contains(finding) {
                first.push(finding.clone());
                self.fresh.push(finding.clone());
            }
        }
        let mut totals = report.more.clone();
        for finding in &report.findings {
            *totals.entry(finding.code()).or_default() += 1;
        }
        for (code, before) in &self.totals {
            let listed = self.last.iter().filter(|key| key.0 == *code && !now.contains(key)).count() as u64;
            // Some may have gone without ever having been listed.
            let fewer = before.saturating_sub(totals.get(code).copied().unwrap_or_default());
            *self.repaired.entry(*code).or_default() += listed.max(fewer);
        }
        let total = totals.values().sum();
        (self.last, self.totals) = (now, totals);
        if self.fewest.is_none_or(|fewest| total < fewest) {
            (self.fewest, self.rounds) = (Some(total), 0);
        }
        self.rounds += 1;
        self.rounds <= ROUNDS
    }
}

impl Seen {
    /// Finds the files that the last round's new findings are about.
    fn locate<S: ReadAt + ?Sized>(&mut self, source: &S, state: Option<&Superblocks>) {
        let Some(state) = state else { return };
        let fresh: Vec<&Finding> = self.fresh.iter().collect();
        for (finding, whose) in fresh.iter().zip(whose::find(source, state, &fresh)) {
            if let Some(whose) = whose {
                self.whose.insert(key(finding), whose);
            }
        }
    }

    /// The first findings of each code, and how many more there were. `asked`: those that a question has named.
    fn told(mut self, asked: &BTreeSet<Key>) -> (Vec<Found>, BTreeMap<Code, More>) {
        let (mut told, mut more) = (Vec::new(), BTreeMap::new());
        for (code, first) in self.first {
            let (listed, mut listed_gone) = (first.len() as u64, 0);
            for finding in first {
                let key = key(&finding);
                let (repaired, asked) = (!self.last.contains(&key), asked.contains(&key));
                listed_gone += u64::from(repaired);
                told.push(Found { finding, repaired, whose: self.whose.remove(&key), asked });
            }
            let gone = self.repaired.get(&code).copied().unwrap_or_default();
            let left = self.totals.get(&code).copied().unwrap_or_default();
            let found = (gone + left).saturating_sub(listed);
            if found > 0 {
                more.insert(code, More { found, repaired: gone.saturating_sub(listed_gone).min(found) });
            }
        }
        (told, more)
    }
}

/// What is said of an edit that is not wanted, for each of its problems.
fn not_wanted(planned: &Planned) -> Vec<Refused> {
    let why = format!("not wanted: {}", planned.edit);
    planned.because.iter().map(|code| Refused { code: *code, subject: planned.subject, why: why.clone() }).collect()
}

/// Takes out what is no repair by itself without the edits that are not wanted: what becomes of blocks and what their file
/// records of them go together.
fn whole_repairs(accepted: Vec<Planned>, declined: &[Planned]) -> (Vec<Planned>, Vec<Planned>) {
    let of_both = |planned: &&Planned| matches!(planned.edit, Edit::Blocks { .. } | Edit::Inode { .. });
    let coupled: BTreeSet<Code> = declined.iter().filter(of_both).flat_map(|planned| planned.because.clone()).collect();
    let of_blocks = |code: &Code| matches!(code, Code::GM0404 | Code::GM0405);
    accepted.into_iter().partition(|planned| {
        let half = of_both(&planned) && planned.because.iter().any(|code| of_blocks(code) && coupled.contains(code));
        !half
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_check::{Problem, Subject};
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
        let (found, more) = seen.told(&BTreeSet::new());
        assert_eq!((found.len(), found.iter().filter(|found| found.repaired).count()), (21, 20));
        assert_eq!(more[&Code::GM0402], More { found: 79, repaired: 78 });
        let outcome = Outcome { found, more, ..Outcome::default() };
        assert_eq!((outcome.count(Severity::Error), outcome.repaired()), (100, 98));
    }

    #[test]
    fn a_repair_goes_on_as_long_as_there_is_less_to_do() {
        let mut seen = Seen::default();
        for left in (100..1000).rev() {
            assert!(seen.add(&report(0..1, left)));
        }
        let idle = (0..1000).take_while(|_| seen.add(&report(0..1, 100))).count();
        assert_eq!(idle, ROUNDS as usize - 1);
    }
}
