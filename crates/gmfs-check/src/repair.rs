//! A complete repair: check, plan, decide and apply, until there is nothing more to do.
//!
//! [`repair()`] goes through the rounds. [`Decide`] says which problems are repaired. [`Observe`] is called with the
//! progress of a repair, and can end it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use gmfs_io::{ReadAt, WriteAt};
use gmfs_volume::{Chosen, Class, OpenError, Stamp, Superblocks};

use crate::affected::{AffectedFile, affected_files};
use crate::apply::{ApplyError, Forgotten, apply};
use crate::check::{Options, check};
use crate::finding::{Finding, Report};
use crate::layouts::Checked;
use crate::plan::{PlanError, Planned, Policy, Refusal, Refused, plan};
use crate::problem::{Code, Severity};

mod pkernfs;
mod problems;
mod seen;

pub use pkernfs::repair_pkernfs;
pub use problems::Question;
pub use seen::FindingKey;

use problems::{Answers, whole_repairs};
use seen::Seen;

/// How many edits an [`Outcome`] lists. More are only counted.
const LISTED_EDITS: usize = 1000;
/// How many findings of each code a repair handles in one round. Later rounds handle the rest.
pub const KEPT_FOR_REPAIR: usize = 16384;

/// The options of a repair.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairOptions {
    /// What may be repaired.
    pub policy: Policy,
    /// Whether the contents of blocks are also compared with what is recorded about them. This reads all sealed data.
    pub data: bool,
    /// Threads for the pass over the block table.
    pub threads: NonZeroUsize,
    /// The region to repair, if pages of several are left.
    pub region: Option<Chosen>,
    /// Name and version of the program that repairs, for the superblock.
    pub writer: String,
    /// The clock: nanoseconds since the epoch.
    pub clock: fn() -> u64,
}

impl RepairOptions {
    /// One thread, no contents, and the only region that is there.
    #[must_use]
    pub fn new(policy: Policy, writer: impl Into<String>, clock: fn() -> u64) -> Self {
        let (threads, writer) = (NonZeroUsize::MIN, writer.into());
        Self { policy, data: false, threads, region: None, writer, clock }
    }
}

/// What is to be done about a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is repaired.
    Repair,
    /// It is repaired, and so are all problems of the same codes, without a further question.
    RepairAll,
    /// It stays as it is. The question is not asked again.
    Leave,
    /// The repair ends here: nothing of this round is written, and nothing more is asked.
    Stop,
}

/// An edit that must not be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Its index in the list of edits.
    pub edit: usize,
    /// Why not.
    pub why: Refusal,
}

/// Decides what is repaired. The simplest implementation is a closure that takes a [`Question`].
pub trait Decide {
    /// Says what is to be done about one problem. The edits of one problem are made together or not at all.
    fn decide(&mut self, question: &Question<'_>) -> Decision;

    /// Names the edits that must not be made now, because what they write is in use. It is called after it has been
    /// decided which edits are wanted. `source` is the region to repair, and `state` describes it.
    fn hold_back(&mut self, source: &dyn ReadAt, state: &Superblocks, edits: &[Planned]) -> Vec<HeldBack> {
        let _ = (source, state, edits);
        Vec::new()
    }

    /// The same for a store of another layout, which `source` is.
    fn hold_back_bytes(&mut self, source: &dyn ReadAt, edits: &[Planned]) -> Vec<HeldBack> {
        let _ = (source, edits);
        Vec::new()
    }
}

impl<F: FnMut(&Question<'_>) -> Decision> Decide for F {
    fn decide(&mut self, question: &Question<'_>) -> Decision {
        self(question)
    }
}

/// Is called with the progress of a repair, and can end the repair. `()` ignores all calls and ends nothing.
pub trait Observe: Sync {
    /// A check has examined `done` of `total` bytes. It may be called from several threads, so `done` does not always
    /// ascend.
    fn checking(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// The check is over.
    fn checked(&self) {}

    /// The gate made corrections that a plan had forgotten. The region is right, but the planner has a fault that
    /// should be reported.
    fn forgotten(&self, what: &Forgotten) {
        let _ = what;
    }

    /// Whether the repair is to end. It is called before a round writes; a round that has begun to write is always
    /// finished.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Observe for () {}

/// Why a repair was not finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The region could not be checked.
    #[error("cannot check the region")]
    Check(#[source] OpenError),
    /// There is no store of the pkernfs driver.
    #[error("cannot check the store")]
    Pkernfs(#[source] gmfs_format::pkernfs::StoreError),
    /// No plan could be made.
    #[error("cannot plan the repair")]
    Plan(#[source] PlanError),
    /// A plan was not carried out completely.
    #[error("the repair did not come to its end; run it again")]
    Apply(#[source] ApplyError),
}

/// The result of a repair, or of a check alone.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// What was found, in any round: the first findings of each code.
    pub found: Vec<Found>,
    /// How many more were found of a code, and how many of these are gone.
    pub more: BTreeMap<Code, More>,
    /// The report of the last check.
    pub last: Report,
    /// The first edits that were made.
    pub applied: Vec<Planned>,
    /// How many more edits were made.
    pub more_applied: u64,
    /// The findings that were left as they are, and why.
    pub refused: Vec<Refused>,
    /// The findings that were left because [`Decide`] did not want their repair.
    pub declined: Vec<Refused>,
    /// Whether [`Decide`] or [`Observe`] ended the repair.
    pub cancelled: bool,
}

/// A finding, and what else is known about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// The finding.
    pub finding: Finding,
    /// Whether it is gone.
    pub repaired: bool,
    /// The file that it is about.
    pub file: Option<AffectedFile>,
}

/// Findings of one code that are only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// How many were found.
    pub found: u64,
    /// How many of them are gone.
    pub repaired: u64,
}

impl Outcome {
    /// The outcome of a check of `source`: no finding is gone.
    #[must_use]
    pub fn of_check<S: ReadAt + ?Sized>(report: Report, source: &S) -> Self {
        let findings: Vec<&Finding> = report.findings.iter().collect();
        let files = match &report.state {
            Some(state) => affected_files(source, state, &findings),
            None => vec![None; findings.len()],
        };
        let one = |(finding, file): (&&Finding, _)| Found { finding: (*finding).clone(), repaired: false, file };
        let found = findings.iter().zip(files).map(one).collect();
        let more = report.more.iter().map(|(code, found)| (*code, More { found: *found, repaired: 0 })).collect();
        Self { found, more, last: report, ..Self::default() }
    }

    /// The outcome of a check of a store of another layout.
    #[must_use]
    pub fn of_layout(checked: Checked) -> Self {
        let Checked { report, files } = checked;
        let found = report.findings.iter().cloned().zip(files);
        let found = found.map(|(finding, file)| Found { finding, repaired: false, file }).collect();
        let more = report.more.iter().map(|(code, found)| (*code, More { found: *found, repaired: 0 })).collect();
        Self { found, more, last: report, ..Self::default() }
    }

    /// How many findings are gone, including those that are only counted.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        let listed = self.found.iter().map(|found| u64::from(found.repaired));
        sum(listed.chain(self.more.values().map(|more| more.repaired)))
    }

    /// How many findings with a fitting code there were in any round, including those that are only counted.
    pub fn count(&self, fits: impl Fn(Code) -> bool) -> u64 {
        let listed = self.found.iter().map(|found| u64::from(fits(found.finding.code())));
        let more = self.more.iter().filter(|(code, _)| fits(**code));
        sum(listed.chain(more.map(|(_, more)| more.found)))
    }

    /// How many findings of a severity there were in any round, including those that are only counted.
    #[must_use]
    pub fn count_severity(&self, severity: Severity) -> u64 {
        self.count(|code| code.severity() == severity)
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Repairs the region that fills `target`: checks it, plans, lets `decide` choose, and applies the edits, until there
/// is nothing more to do. Each round that writes leaves the region in a state from which another repair comes to the
/// same result.
///
/// ```
/// use gmfs_check::{Decision, Policy, Question, RepairOptions, Verdict, repair};
/// use gmfs_format::native::geometry::Geometry;
/// use gmfs_format::native::units::{CopyId, PageNo, PmdShift};
/// use gmfs_volume::{FormatOptions, Stamp};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A region of 20 MiB in memory; the page of its first copy that holds the inode of "/" is overwritten.
/// let geometry = Geometry::plan(20 << 20, PmdShift::M2, 64)?;
/// let mut region = vec![0; 20 << 20];
/// # let options = FormatOptions {
/// #     geometry,
/// #     uuid: uuid::Uuid::from_u128(1),
/// #     birth: 1,
/// #     label: "example".into(),
/// #     base: 0,
/// #     owner: (0, 0),
/// #     stamp: Stamp { now: 1, writer: "example".into() },
/// #     forget: Vec::new(),
/// # };
/// gmfs_volume::format(&mut region, &options)?;
/// let healthy = region.clone();
/// let page = usize::try_from(geometry.page_offset(CopyId::A, PageNo(2)))?;
/// region[page..page + 100].fill(0xff);
///
/// // One question for each problem.
/// let mut asked = Vec::new();
/// let mut decide = |question: &Question<'_>| {
///     asked.extend(question.findings().map(|(finding, _)| format!("{} {finding}", finding.code())));
///     Decision::Repair
/// };
/// let options = RepairOptions::new(Policy::Safe, "example 1.0", || 1);
/// let outcome = repair(&mut region, &options, &mut decide, &())?;
///
/// assert_eq!(outcome.repaired(), 1);
/// assert_eq!(outcome.last.verdict(), Verdict::Clean);
/// assert!(asked.len() == 1 && asked[0].contains("page 2 of copy A"), "{asked:?}");
/// assert!(region == healthy);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// There is no region, or the medium failed. An unfinished repair does no harm: another repair finishes it.
pub fn repair<T: WriteAt, D: Decide + ?Sized>(
    target: &mut T,
    options: &RepairOptions,
    decide: &mut D,
    observe: &dyn Observe,
) -> Result<Outcome, RepairError> {
    let mut outcome = Outcome::default();
    let mut answers = Answers::default();
    let mut seen = Seen::default();
    loop {
        // The old report is dropped before the check, because two reports at once would be the largest use of memory in
        // a repair.
        outcome.last = Report::default();
        outcome.last = check_round(target, options, observe).map_err(RepairError::Check)?;
        if !seen.add(&outcome.last) {
            break;
        }
        let next = plan(target, &outcome.last, options.policy).map_err(RepairError::Plan)?;
        outcome.refused = next.refused;
        let Some(state) = outcome.last.state.take() else { break };
        seen.locate(target, &state);
        // What the policy does not allow is not even asked about.
        let (allowed, beyond) = next.edits.into_iter().partition(|planned| options.policy.allows(planned.class));
        let (allowed, apart) = whole_repairs(allowed, &beyond, &outcome.last.findings);
        outcome.refused.extend(beyond.iter().chain(&apart).flat_map(not_wanted));
        let (wanted, unwanted) = answers.choose(allowed, &outcome.last.findings, seen.files(), decide);
        let (wanted, apart) = whole_repairs(wanted, &unwanted, &outcome.last.findings);
        outcome.declined = unwanted.iter().chain(&apart).flat_map(not_wanted).collect();
        let accepted = keep_apart(target, &state, wanted, decide, &mut outcome);
        outcome.cancelled = answers.stopped() || observe.is_cancelled();
        if accepted.is_empty() || outcome.cancelled {
            outcome.last.state = Some(state);
            break;
        }
        let stamp = Stamp { now: (options.clock)(), writer: options.writer.clone() };
        let forgotten = apply(target, &state, &accepted, options.policy.into(), &stamp).map_err(RepairError::Apply)?;
        if forgotten != Forgotten::default() {
            observe.forgotten(&forgotten);
        }
        outcome.list(accepted);
    }
    (outcome.found, outcome.more) = seen.told();
    Ok(outcome)
}

impl Outcome {
    /// Lists edits that were made, up to [`LISTED_EDITS`], and counts the others.
    fn list(&mut self, edits: Vec<Planned>) {
        let room = LISTED_EDITS.saturating_sub(self.applied.len());
        let more = gmfs_format::native::units::len64(edits.len().saturating_sub(room));
        self.more_applied = self.more_applied.saturating_add(more);
        self.applied.extend(edits.into_iter().take(room));
    }
}

fn check_round<T: ReadAt>(target: &T, options: &RepairOptions, observe: &dyn Observe) -> Result<Report, OpenError> {
    let RepairOptions { data, threads, region, .. } = *options;
    let options = Options { now: (options.clock)(), threads, data, keep: KEPT_FOR_REPAIR, region };
    let report = check(target, &options, &|done, total| observe.checking(done, total));
    observe.checked();
    report
}

/// Leaves out the edits that must not be made now, and those that are no complete repair without them. The former are
/// added to `outcome.refused`.
fn keep_apart<T: WriteAt, D: Decide + ?Sized>(
    target: &T,
    state: &Superblocks,
    edits: Vec<Planned>,
    decide: &mut D,
    outcome: &mut Outcome,
) -> Vec<Planned> {
    let held: BTreeMap<usize, Refusal> =
        decide.hold_back(target, state, &edits).into_iter().map(|held| (held.edit, held.why)).collect();
    let (mut free, mut apart) = (Vec::new(), Vec::new());
    for (at, planned) in edits.into_iter().enumerate() {
        match held.get(&at) {
            Some(why) => {
                outcome.refused.extend(refuse(&planned, why));
                apart.push(planned);
            }
            None => free.push(planned),
        }
    }
    whole_repairs(free, &apart, &outcome.last.findings).0
}

/// The refusals for an edit that is not wanted: one for each of its problems.
fn not_wanted(planned: &Planned) -> Vec<Refused> {
    refuse(planned, &Refusal::Declined { edit: planned.edit.to_string() }).collect()
}

fn refuse<'p>(planned: &'p Planned, why: &'p Refusal) -> impl Iterator<Item = Refused> + 'p {
    planned.because.iter().map(move |code| Refused { code: *code, subject: planned.subject, why: why.clone() })
}

impl From<Policy> for Class {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Safe => Self::Safe,
            Policy::Lossy => Self::Lossy,
        }
    }
}
