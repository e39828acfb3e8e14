//! The result of a check: findings with their locations, what could not be checked, and the verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gmfs_format::native::seal::PageKind;
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PageNo, len64};
use gmfs_format::reading::Lack;
use gmfs_io::{Absence, Span};

use gmfs_volume::Superblocks;

use crate::problem::{Code, Problem, Severity};
use crate::standings::PageStandings;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subject {
    /// The region as a whole.
    Region,
    /// A run of metadata pages, in one copy or in both.
    Pages {
        /// The kind of the first.
        kind: PageKind,
        /// The first page.
        first: PageNo,
        /// How many pages.
        count: u32,
        /// Which copy; `None` for both.
        copy: Option<CopyId>,
    },
    /// The superblock, whichever copy is used.
    Superblock,
    /// An inode.
    Inode(InodeNo),
    /// A run of data blocks.
    Blocks {
        /// The first block.
        first: BlockNo,
        /// How many blocks.
        count: u32,
    },
    /// A part of a store that is not native, by its name.
    Part(&'static str),
    /// A page of memory, by its address.
    Page(u64),
    /// The record of a file that is handed over, by its address.
    Record(u64),
}

impl Subject {
    /// The copy that it is in, if it is in one.
    #[must_use]
    pub const fn copy(&self) -> Option<CopyId> {
        match self {
            Self::Pages { copy, .. } => *copy,
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Region => f.write_str("region"),
            Self::Superblock => f.write_str("superblock"),
            Self::Inode(ino) => write!(f, "inode {ino}"),
            Self::Part(name) => f.write_str(name),
            Self::Page(at) => write!(f, "page at {at:#x}"),
            Self::Record(at) => write!(f, "record at {at:#x}"),
            Self::Blocks { first, count: 1 } => write!(f, "block {first}"),
            Self::Blocks { first, count } => {
                write!(f, "blocks {first}-{}", last_of(first.0, count))
            }
            Self::Pages { kind, first, count, copy } => {
                match count {
                    1 => write!(f, "{kind} page {first}")?,
                    _ => write!(f, "{kind} pages {first}-{}", last_of(first.0, count))?,
                }
                copy.map_or(Ok(()), |copy| write!(f, " of copy {copy}"))
            }
        }
    }
}

/// The last number of a run of `count` from `first`, for display. A subject that was built by hand may have a count of
/// 0.
pub(crate) const fn last_of(first: u32, count: u32) -> u32 {
    first.saturating_add(count.saturating_sub(1))
}

/// One thing that is wrong, or that the user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// What is affected.
    pub subject: Subject,
    /// Where it is in the region, in bytes. For a metadata page that is wrong in both copies, this is its location in
    /// copy A.
    pub at: Span,
}

impl Finding {
    /// The problem's code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.problem.code()
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.problem.code().severity()
    }

    /// The copy that it is about, if it is about one.
    #[must_use]
    pub const fn copy(&self) -> Option<CopyId> {
        self.subject.copy()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)
    }
}

/// What could not be checked, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    /// What could not be checked.
    pub subject: Subject,
    /// Where it would be in the region, in bytes.
    pub at: Span,
    /// Why it could not be checked.
    pub why: Reason,
}

/// Why something could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The image does not hold it.
    Absent(Absence),
    /// It depends on metadata pages that are lost or absent.
    MetadataMissing,
    /// The check ended at a fatal finding.
    Stopped,
    /// The image holds it, but it cannot be read.
    Unreadable,
    /// The kernel has not written it yet.
    NotWritten,
    /// A later kernel uses the memory for something else.
    Overwritten,
    /// Its form is not known.
    UnknownForm,
    /// No record in memory leads to it.
    NotFound,
    /// What leads to it leads to something else: it is not there yet, or not there any more.
    SomethingElse,
    /// There is more of it than this program examines.
    TooMuch,
}

impl From<Lack> for Reason {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Absent(why) => Self::Absent(why),
            Lack::Unreadable => Self::Unreadable,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(why) => write!(f, "absent: {why}"),
            Self::MetadataMissing => f.write_str("depends on metadata that is missing"),
            Self::Stopped => f.write_str("the check could not go on"),
            Self::Unreadable => f.write_str("it is in the image, and cannot be read"),
            Self::NotWritten => f.write_str("the kernel has not written it yet"),
            Self::Overwritten => f.write_str("a later kernel has overwritten it"),
            Self::UnknownForm => f.write_str("its form is not known to this program"),
            Self::NotFound => f.write_str("no record in memory says where"),
            Self::SomethingElse => f.write_str("a record says where, and something else is there"),
            Self::TooMuch => f.write_str("there is more of it than this program looks at"),
        }
    }
}

/// The verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing is wrong, and enough was read to be certain.
    Clean,
    /// Nothing is wrong, except that a change was interrupted. The next writer recovers the region.
    Recovery,
    /// Nothing wrong was found, but metadata is missing from the image, so that the state is unknown.
    Unknown,
    /// Something is wrong.
    Damaged,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Recovery => "recovery",
            Self::Unknown => "unknown",
            Self::Damaged => "damaged",
        }
    }
}

/// The default number of findings of one code that are kept singly. More are only counted.
pub const KEPT_PER_CODE: usize = 1000;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The findings, by code and then by location. At most [`Options::keep`](crate::Options) of each code.
    pub findings: Vec<Finding>,
    /// How many more findings there were of each code.
    pub more: BTreeMap<Code, u64>,
    /// What could not be checked: the first [`KEPT_PER_CODE`] runs.
    pub unchecked: Vec<Unchecked>,
    /// How many more runs could not be checked.
    pub more_unchecked: u64,
    /// Whether a page that the check needs is in neither copy of the image.
    pub incomplete: bool,
    /// Whether a writer did not end its session.
    pub interrupted: bool,
    /// How many pages in use are in which state, as far as the check got.
    pub pages: PageStandings,
    /// What was decided about the region. A repair starts from this.
    pub state: Option<Arc<Superblocks>>,
}

impl Report {
    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.worst().is_some_and(|severity| severity >= Severity::Warning) {
            Verdict::Damaged
        } else if self.incomplete {
            Verdict::Unknown
        } else if self.interrupted {
            Verdict::Recovery
        } else {
            Verdict::Clean
        }
    }

    /// The worst severity of all findings, including those that were only counted.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        let only_counted = self.more.keys().map(|code| code.severity());
        self.findings.iter().map(Finding::severity).chain(only_counted).max()
    }

    /// How many findings have a severity, including those that were only counted.
    #[must_use]
    pub fn count(&self, severity: Severity) -> u64 {
        let kept = len64(self.findings.iter().filter(|finding| finding.severity() == severity).count());
        let more = self.more.iter().filter(|(code, _)| code.severity() == severity);
        more.fold(kept, |all, (_, count)| all.saturating_add(*count))
    }

    /// How many runs could not be checked, including those that were only counted.
    #[must_use]
    pub fn count_unchecked(&self) -> u64 {
        len64(self.unchecked.len()).saturating_add(self.more_unchecked)
    }
}
