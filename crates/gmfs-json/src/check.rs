//! `gmfs.fsck/1`, `gmfs.repair/1` and `gmfs.explain/1`.

use std::collections::BTreeMap;

use gmfs::content::Gaps;
use gmfs_check::plan::Refused;
use gmfs_check::problem::Fact;
use gmfs_check::{Code, Found, Outcome, Planned, Severity, Unchecked as Skipped};
use gmfs_format::native::units::CopyId;
use gmfs_io::Span;
use serde::Serialize;

use crate::render::json::actions::Gap;
use crate::render::json::region;
use gmfs::Place;

/// A place in the image.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct At {
    address: u64,
    length: u64,
    copy: Option<&'static str>,
}

impl At {
    fn new(base: u64, span: Span, copy: Option<CopyId>) -> Self {
        let copy = copy.map(|copy| match copy {
            CopyId::A => "A",
            CopyId::B => "B",
        });
        Self { address: base.saturating_add(span.offset), length: span.len, copy }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Value {
    Number(u64),
    Text(String),
}

impl From<Fact> for Value {
    fn from(fact: Fact) -> Self {
        match fact {
            Fact::Number(number) => Self::Number(number),
            Fact::Text(text) => Self::Text(text),
        }
    }
}

/// A finding.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Finding {
    code: &'static str,
    name: &'static str,
    severity: &'static str,
    message: String,
    subject: String,
    at: At,
    facts: BTreeMap<&'static str, Value>,
    repair: &'static str,
    repaired: bool,
}

impl Finding {
    pub(crate) fn new(base: u64, Found { finding: found, repaired, file, .. }: &Found) -> Self {
        let code = found.code();
        let mut facts: BTreeMap<&'static str, Value> =
            found.problem.facts().into_iter().map(|(name, fact)| (name, fact.into())).collect();
        if let Some(file) = file {
            facts.insert("path", Value::Text(file.shown()));
            if let Some(bytes) = file.bytes {
                facts.insert("offset", Value::Number(bytes.offset));
                facts.insert("length", Value::Number(bytes.len));
            }
        }
        Self {
            code: code.text(),
            name: code.name(),
            severity: code.severity().name(),
            message: found.to_string(),
            subject: found.subject.to_string(),
            at: At::new(base, found.at, found.copy()),
            facts,
            repair: code.repair().name(),
            repaired: *repaired,
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Unchecked {
    subject: String,
    at: At,
    reason: String,
}

impl Unchecked {
    fn new(base: u64, skipped: &Skipped) -> Self {
        Self {
            subject: skipped.subject.to_string(),
            at: At::new(base, skipped.at, skipped.subject.copy()),
            reason: skipped.why.to_string(),
        }
    }
}

/// An edit of a plan.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Edit {
    edit: String,
    subject: String,
    at: At,
    fields: Vec<Field>,
    because: Vec<&'static str>,
    class: &'static str,
    loses: Option<String>,
    losses: Vec<Loss>,
}

/// One thing that a repair loses.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Loss {
    loss: &'static str,
    message: String,
}

impl From<&gmfs_check::Loss> for Loss {
    fn from(loss: &gmfs_check::Loss) -> Self {
        Self { loss: loss.name(), message: loss.to_string() }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Field {
    name: &'static str,
    before: String,
    after: String,
}

impl Edit {
    fn new(base: u64, planned: &Planned) -> Self {
        let field = |change: gmfs_check::plan::FieldChange| Field {
            name: change.name,
            before: crate::render::json::hex(&change.before),
            after: crate::render::json::hex(&change.after),
        };
        Self {
            edit: planned.edit.to_string(),
            subject: planned.subject.to_string(),
            at: At::new(base, planned.at, planned.subject.copy()),
            fields: planned.edit.fields().into_iter().map(field).collect(),
            because: planned.because.iter().map(|code| code.text()).collect(),
            class: planned.class.name(),
            loses: planned.losses(),
            losses: planned.loses.iter().map(Loss::from).collect(),
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Left {
    code: &'static str,
    subject: String,
    reason: &'static str,
    why: String,
}

impl From<&Refused> for Left {
    fn from(refused: &Refused) -> Self {
        Self {
            code: refused.code.text(),
            subject: refused.subject.to_string(),
            reason: refused.why.name(),
            why: refused.why.to_string(),
        }
    }
}

/// The answer of `fsck`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Fsck {
    image: region::Image,
    store: region::Store,
    clean: bool,
    verdict: &'static str,
    findings: Vec<Finding>,
    /// By code, findings beyond those listed.
    not_listed: BTreeMap<&'static str, u64>,
    /// By severity, all that was found: listed or not, repaired or not.
    summary: BTreeMap<&'static str, u64>,
    /// How many of all findings are repaired.
    findings_repaired: u64,
    unchecked: Vec<Unchecked>,
    /// What could not be checked beyond what is listed.
    more_unchecked: u64,
    /// What the repairs that were made have lost.
    given_up: Vec<GivenUp>,
    /// Doubtful files that were accepted.
    accepted: Option<u64>,
    exit_status: u8,
}

/// What a repair that was made has lost.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GivenUp {
    because: Vec<&'static str>,
    loses: String,
    losses: Vec<Loss>,
}

impl Fsck {
    pub(crate) fn new(place: &Place, outcome: &Outcome, accepted: Option<u64>, exit_status: u8) -> Self {
        let store = region::Store::if_known(place.base, outcome.last.state.as_deref());
        Self { accepted, ..Self::of(place, store, place.base, outcome, exit_status) }
    }

    /// The answer about a store that is not native.
    pub(crate) fn other(store: &gmfs::Store, outcome: &Outcome, exit_status: u8) -> Self {
        Self::of(&store.place, store.into(), store.origin(), outcome, exit_status)
    }

    /// Offsets count from `base`.
    fn of(place: &Place, store: region::Store, base: u64, outcome: &Outcome, exit_status: u8) -> Self {
        let severities = [Severity::Note, Severity::Warning, Severity::Error, Severity::Fatal];
        let report = &outcome.last;
        Self {
            image: place.into(),
            store,
            clean: report.verdict() == gmfs_check::Verdict::Clean,
            verdict: report.verdict().name(),
            findings: outcome.found.iter().map(|found| Finding::new(base, found)).collect(),
            not_listed: outcome.more.iter().map(|(code, more)| (code.text(), more.found)).collect(),
            summary: severities
                .into_iter()
                .map(|severity| (severity.name(), outcome.count_severity(severity)))
                .collect(),
            findings_repaired: outcome.repaired(),
            unchecked: report.unchecked.iter().map(|skipped| Unchecked::new(base, skipped)).collect(),
            more_unchecked: report.more_unchecked,
            given_up: outcome.applied.iter().filter_map(GivenUp::of).collect(),
            accepted: None,
            exit_status,
        }
    }
}

impl GivenUp {
    fn of(planned: &Planned) -> Option<Self> {
        let because = planned.because.iter().map(|code| code.text()).collect();
        Some(Self { because, loses: planned.losses()?, losses: planned.loses.iter().map(Loss::from).collect() })
    }
}

/// The answer of `repair`: what `fsck` says, and the plan.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Repair {
    #[serde(flatten)]
    fsck: Fsck,
    dry_run: bool,
    /// The copy that a dry run would make.
    output: Option<String>,
    edits: Vec<Edit>,
    /// Edits that were made and are not listed.
    more_edits: u64,
    left: Vec<Left>,
    /// More will be planned once these edits are made.
    more: bool,
    applied: bool,
    /// Reserved blocks that were made free.
    released: Option<u64>,
    /// For a repair in a copy: what the image lacks of the blocks that may hold guest memory.
    absent: Vec<Gap>,
}

impl Repair {
    pub(crate) fn new(fsck: Fsck, place: &Place, edits: &[Planned], left: &[Refused], more: bool) -> Self {
        let edits = edits.iter().map(|planned| Edit::new(place.base, planned)).collect();
        Self {
            fsck,
            dry_run: false,
            output: None,
            edits,
            left: left.iter().map(Left::from).collect(),
            more,
            applied: true,
            released: None,
            more_edits: 0,
            absent: Vec::new(),
        }
    }

    /// The answer of a dry run. With `output`, a copy in that file would be repaired.
    pub(crate) fn planned(self, output: Option<String>) -> Self {
        Self { dry_run: true, applied: false, output, ..self }
    }

    pub(crate) fn more_edits(mut self, count: u64) -> Self {
        self.more_edits = count;
        self
    }

    pub(crate) fn released(mut self, blocks: Option<u64>) -> Self {
        self.released = blocks;
        self
    }

    pub(crate) fn absent(mut self, gaps: &Gaps) -> Self {
        self.absent = Gap::list(gaps, Some(0), None);
        self
    }
}

/// One problem of the catalogue.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Problem {
    code: &'static str,
    name: &'static str,
    severity: &'static str,
    repair: &'static str,
    since: &'static str,
    explanation: &'static str,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self {
            code: code.text(),
            name: code.name(),
            severity: code.severity().name(),
            repair: code.repair().name(),
            since: code.since(),
            explanation: code.explanation(),
        }
    }
}

/// The answer of `explain`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Explain {
    pub(crate) problems: Vec<Problem>,
}
