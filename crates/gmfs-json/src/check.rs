//! `gmfs.fsck/1`, `gmfs.repair/1` and `gmfs.explain/1`.

use std::collections::BTreeMap;

use gmfs::content::Gaps;
use gmfs_check::plan::Refused;
use gmfs_check::problem::Fact;
use gmfs_check::{Code, Found, Outcome, Planned, Severity, Unchecked as Skipped};
use gmfs_format::native::units::CopyId;
use gmfs_io::Span;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::actions::Gap;
use crate::region;
use gmfs::Place;

/// A place in the image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct At {
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
    /// Copy of the metadata, A or B; null if the place is in neither.
    pub copy: Option<Word>,
}

impl At {
    fn new(base: u64, span: Span, copy: Option<CopyId>) -> Self {
        let copy = copy.map(|copy| match copy {
            CopyId::A => "A",
            CopyId::B => "B",
        });
        Self { address: base.saturating_add(span.offset), length: span.len, copy: copy.map(Into::into) }
    }
}

/// A value that a finding states.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A text.
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Finding {
    /// Code of the problem, such as GM0402; of an error, a word.
    pub code: Word,
    /// Name of the file, the field or the problem.
    pub name: Word,
    /// Severity of the problem: note, warning, error or fatal.
    pub severity: Word,
    /// In words, for people.
    pub message: String,
    /// What it is about.
    pub subject: String,
    /// Where in the image.
    pub at: At,
    /// Values that the message of the finding is made of.
    pub facts: BTreeMap<Word, Value>,
    /// Class of the problem's repair: safe, lossy, manual or none.
    pub repair: Word,
    /// Whether the finding is repaired.
    pub repaired: bool,
}

impl Finding {
    /// A finding in a region at `base` of the image.
    pub fn new(base: u64, Found { finding: found, repaired, file, .. }: &Found) -> Self {
        let code = found.code();
        let mut facts: BTreeMap<Word, Value> =
            found.problem.facts().into_iter().map(|(name, fact)| (name.into(), fact.into())).collect();
        if let Some(file) = file {
            facts.insert("path".into(), Value::Text(file.shown()));
            if let Some(bytes) = file.bytes {
                facts.insert("offset".into(), Value::Number(bytes.offset));
                facts.insert("length".into(), Value::Number(bytes.len));
            }
        }
        Self {
            code: code.text().into(),
            name: code.name().into(),
            severity: code.severity().name().into(),
            message: found.to_string(),
            subject: found.subject.to_string(),
            at: At::new(base, found.at, found.copy()),
            facts,
            repair: code.repair().name().into(),
            repaired: *repaired,
        }
    }
}

/// What could not be checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Unchecked {
    /// What it is about.
    pub subject: String,
    /// Where in the image.
    pub at: At,
    /// Why, in a word or a sentence.
    pub reason: String,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Edit {
    /// The edit in words.
    pub edit: String,
    /// What it is about.
    pub subject: String,
    /// Where in the image.
    pub at: At,
    /// Fields of a structure.
    pub fields: Vec<Field>,
    /// Codes of the problems that are the reason.
    pub because: Vec<Word>,
    /// Class of the repair: safe, lossy, manual or none.
    pub class: Word,
    /// What is lost by it; null if nothing is.
    pub loses: Option<String>,
    /// What is lost by it, one by one.
    pub losses: Vec<Loss>,
}

/// One thing that a repair loses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Loss {
    /// What kind of thing is lost, in a word that stays the same.
    pub loss: Word,
    /// In words, for people.
    pub message: String,
}

impl From<&gmfs_check::Loss> for Loss {
    fn from(loss: &gmfs_check::Loss) -> Self {
        Self { loss: loss.name().into(), message: loss.to_string() }
    }
}

/// A field that an edit changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Field {
    /// Name of the file, the field or the problem.
    pub name: Word,
    /// Bytes of the field before the edit, in hexadecimal.
    pub before: String,
    /// Bytes of the field after the edit, in hexadecimal.
    pub after: String,
}

impl Edit {
    fn new(base: u64, planned: &Planned) -> Self {
        let field = |change: gmfs_check::plan::FieldChange| Field {
            name: change.name.into(),
            before: crate::hex(&change.before),
            after: crate::hex(&change.after),
        };
        Self {
            edit: planned.edit.to_string(),
            subject: planned.subject.to_string(),
            at: At::new(base, planned.at, planned.subject.copy()),
            fields: planned.edit.fields().into_iter().map(field).collect(),
            because: planned.because.iter().map(|code| code.text().into()).collect(),
            class: planned.class.name().into(),
            loses: planned.losses(),
            losses: planned.loses.iter().map(Loss::from).collect(),
        }
    }
}

/// A problem that stays, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Left {
    /// Code of the problem, such as GM0402; of an error, a word.
    pub code: Word,
    /// What it is about.
    pub subject: String,
    /// Why, in a word or a sentence.
    pub reason: Word,
    /// Why it is not repaired.
    pub why: String,
}

impl From<&Refused> for Left {
    fn from(refused: &Refused) -> Self {
        Self {
            code: refused.code.text().into(),
            subject: refused.subject.to_string(),
            reason: refused.why.name().into(),
            why: refused.why.to_string(),
        }
    }
}

/// The answer of `fsck`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Fsck {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether the region was checked to its end and is without a problem.
    pub clean: bool,
    /// State of the region: clean, recovery, damaged or unknown.
    pub verdict: Word,
    /// Problems that were found: the first of each code.
    pub findings: Vec<Finding>,
    /// By code, how many findings are not listed.
    pub not_listed: BTreeMap<Word, u64>,
    /// By severity, how many problems were found in all.
    pub summary: BTreeMap<Word, u64>,
    /// How many of all findings are repaired, listed or not.
    pub findings_repaired: u64,
    /// Places that could not be checked.
    pub unchecked: Vec<Unchecked>,
    /// How many places that could not be checked are not listed.
    pub more_unchecked: u64,
    /// What the repairs that were made have lost.
    pub given_up: Vec<GivenUp>,
    /// How many doubtful files were accepted; null if that was not asked for.
    pub accepted: Option<u64>,
    /// The exit status of the command.
    pub exit_status: u8,
}

/// What a repair that was made has lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct GivenUp {
    /// Codes of the problems that are the reason.
    pub because: Vec<Word>,
    /// What is lost by it; null if nothing is.
    pub loses: String,
    /// What is lost by it, one by one.
    pub losses: Vec<Loss>,
}

impl Fsck {
    /// The answer about a native region: how the check or the repair ended, how many doubtful files were accepted, and the exit
    /// status of the command.
    pub fn new(place: &Place, outcome: &Outcome, accepted: Option<u64>, exit_status: u8) -> Self {
        let store = region::Store::if_known(place.base, outcome.last.state.as_deref());
        Self { accepted, ..Self::of(place, store, place.base, outcome, exit_status) }
    }

    /// The answer about a store that is not native.
    pub fn other(store: &gmfs::Store, outcome: &Outcome, exit_status: u8) -> Self {
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
            verdict: report.verdict().name().into(),
            findings: outcome.found.iter().map(|found| Finding::new(base, found)).collect(),
            not_listed: outcome.more.iter().map(|(code, more)| (code.text().into(), more.found)).collect(),
            summary: severities
                .into_iter()
                .map(|severity| (severity.name().into(), outcome.count_severity(severity)))
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
        let because = planned.because.iter().map(|code| code.text().into()).collect();
        Some(Self { because, loses: planned.losses()?, losses: planned.loses.iter().map(Loss::from).collect() })
    }
}

/// The answer of `repair`: what `fsck` says, and the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Repair {
    /// What was found, as `fsck` answers it.
    #[serde(flatten)]
    pub fsck: Fsck,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// The file that was made; null if none is.
    pub output: Option<String>,
    /// Edits that were made, or in a dry run would be.
    pub edits: Vec<Edit>,
    /// How many edits are not listed.
    pub more_edits: u64,
    /// Problems that are not repaired, each with the reason.
    pub left: Vec<Left>,
    /// Whether more will be planned once these edits are made.
    pub more: bool,
    /// Whether the edits were made.
    pub applied: bool,
    /// How many reserved blocks were given back; null if that was not asked for.
    pub released: Option<u64>,
    /// Ranges that the image does not hold or that cannot be read.
    pub absent: Vec<Gap>,
}

impl Repair {
    /// The answer of a repair that was made.
    pub fn new(fsck: Fsck, place: &Place, edits: &[Planned], left: &[Refused], more: bool) -> Self {
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
    pub fn planned(self, output: Option<String>) -> Self {
        Self { dry_run: true, applied: false, output, ..self }
    }

    /// The same with the number of edits that were made and are not listed.
    pub fn more_edits(mut self, count: u64) -> Self {
        self.more_edits = count;
        self
    }

    /// The same with the number of reserved blocks that were made free.
    pub fn released(mut self, blocks: Option<u64>) -> Self {
        self.released = blocks;
        self
    }

    /// The same with what the image lacks, for a repair in a copy.
    pub fn absent(mut self, gaps: &Gaps) -> Self {
        self.absent = Gap::list(gaps, Some(0), None);
        self
    }
}

/// One problem of the catalogue.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Problem {
    /// Code of the problem, such as GM0402; of an error, a word.
    pub code: Word,
    /// Name of the file, the field or the problem.
    pub name: Word,
    /// Severity of the problem: note, warning, error or fatal.
    pub severity: Word,
    /// Class of the problem's repair: safe, lossy, manual or none.
    pub repair: Word,
    /// Version of gmfs that first found the problem.
    pub since: Word,
    /// The explanation, in Markdown.
    pub explanation: Word,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self {
            code: code.text().into(),
            name: code.name().into(),
            severity: code.severity().name().into(),
            repair: code.repair().name().into(),
            since: code.since().into(),
            explanation: code.explanation().into(),
        }
    }
}

/// The answer of `explain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Explain {
    /// Problems of the catalogue.
    pub problems: Vec<Problem>,
}
