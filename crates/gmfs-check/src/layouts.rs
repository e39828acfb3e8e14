//! Checks stores that are not native, which kernels leave. A check only reads. The modules of `gmfs-format` find what
//! is wrong; this module adds the code of the catalogue, the subject, and the path of the file that a finding is about.

mod claims;
mod driver;
mod guestmemfs;
mod handover;
mod pkernfs;

use std::collections::BTreeMap;

use gmfs_format::reading::Lack;
use gmfs_io::Span;

use crate::affected::AffectedFile;
use crate::finding::{Finding, KEPT_PER_CODE, Reason, Report, Subject, Unchecked};
use crate::problem::{Code, Problem};

pub use guestmemfs::check_guestmemfs;
pub use handover::{IsMemory, check_handover, check_handover_in};
pub use pkernfs::{Action, Examined, Law, PkernfsEdit, Write, check_pkernfs, examine_pkernfs, judge_pkernfs};

/// What a check of a store that is not native found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The findings, and what could not be checked.
    pub report: Report,
    /// The file that each finding is about, in the order of the findings.
    pub files: Vec<Option<AffectedFile>>,
}

/// The findings that have been collected so far.
#[derive(Default)]
struct Gathered {
    found: BTreeMap<Code, Vec<(Finding, Option<AffectedFile>)>>,
    more: BTreeMap<Code, u64>,
    unchecked: Vec<Unchecked>,
    more_unchecked: u64,
    incomplete: bool,
}

impl Gathered {
    /// Adds a finding. `path` is the path of the file that it is about.
    fn add(&mut self, problem: Problem, subject: Subject, at: Span, path: Option<Vec<u8>>) {
        let code = problem.code();
        let kept = self.found.entry(code).or_default();
        if kept.len() < KEPT_PER_CODE {
            let file = path.map(|path| AffectedFile { path, bytes: None });
            kept.push((Finding { problem, subject, at }, file));
        } else {
            let more = self.more.entry(code).or_default();
            *more = more.saturating_add(1);
        }
    }

    /// Adds something that could not be checked, so that the result of the check is uncertain.
    fn lack(&mut self, subject: Subject, at: Span, why: impl Into<Reason>) {
        self.incomplete = true;
        self.skip(subject, at, why.into());
    }

    /// Adds something that could not be checked, although the rest of the result is certain.
    fn skip(&mut self, subject: Subject, at: Span, why: Reason) {
        if self.unchecked.len() < KEPT_PER_CODE {
            self.unchecked.push(Unchecked { subject, at, why });
        } else {
            self.more_unchecked = self.more_unchecked.saturating_add(1);
        }
    }

    fn finish(self) -> Checked {
        let Self { found, more, unchecked, more_unchecked, incomplete } = self;
        let (mut findings, mut files) = (Vec::new(), Vec::new());
        for mut found in found.into_values() {
            found.sort_by_key(|(finding, _)| (finding.at.offset, finding.at.len));
            for (finding, file) in found {
                findings.push(finding);
                files.push(file);
            }
        }
        let report = Report { findings, more, unchecked, more_unchecked, incomplete, ..Report::default() };
        Checked { report, files }
    }
}

/// Why bytes could not be read.
const fn why(lack: Option<Lack>) -> Reason {
    match lack {
        Some(Lack::Absent(why)) => Reason::Absent(why),
        Some(Lack::Unreadable) => Reason::Unreadable,
        None => Reason::MetadataMissing,
    }
}
