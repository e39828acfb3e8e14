//! Converts findings to edits: what is to be written, where, because of which problems, and what is lost by it.
//!
//! Planning writes nothing. Damaged pages are repaired first: while there are any, a plan has no other edits, because
//! the other edits depend on what these pages will contain. A repair therefore checks and plans in rounds.

use std::fmt;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{InodeRaw, OnMemory, SuperblockRaw};
use gmfs_format::native::seal::PageKind;
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PAGE_BYTES, PageNo};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::change::Assign;
use gmfs_volume::{OpenError, Superblocks};

use crate::finding::{Finding, Report, Subject, last_of};
use crate::layouts::PkernfsEdit;
use crate::pass;
use crate::problem::{Code, Coupling, Repair, Stage};

mod claims;
mod contents;
mod descriptors;
mod doubt;
mod loss;
mod lost;
mod places;
mod refusal;
mod rules;

pub use loss::{Claim, Listed, Loss};
pub use refusal::Refusal;

pub(crate) use descriptors::Descriptors;

/// One thing to write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// Rewrite pages of one copy from the other copy.
    Mend {
        /// Their kind.
        kind: PageKind,
        /// The first page.
        first: PageNo,
        /// How many pages.
        count: u32,
        /// The copy that is written.
        copy: CopyId,
    },
    /// Rewrite all pages before the marks, so that they are one proven state. On pages that are not proven, blocks that
    /// look free become reserved, and files are flagged doubtful.
    Settle {
        /// Whether no page counts as proven, because files contradict pages that should be proven.
        distrust: bool,
    },
    /// Write both superblocks as the pages of the tables prove them to be.
    Superblocks,
    /// Finish or undo the commit that a writer left unfinished.
    Recover,
    /// Write an inode.
    Inode {
        /// Which inode.
        ino: InodeNo,
        /// Its record as it is.
        before: Box<InodeRaw>,
        /// Its record as it will be.
        after: Box<InodeRaw>,
    },
    /// Write a run of descriptors.
    Blocks {
        /// The first block.
        first: BlockNo,
        /// How many blocks.
        count: u32,
        /// What each of them becomes.
        to: Assign,
        /// CRC-32 of the descriptors as they are.
        before: u32,
    },
    /// Write fields of the superblock.
    Superblock {
        /// The superblock as it is.
        before: Box<SuperblockRaw>,
        /// The superblock as it will be, without the changes that other edits make to its counts.
        after: Box<SuperblockRaw>,
    },
    /// Rewrite a page with its reserved bytes as zero.
    Rewrite {
        /// Which page.
        page: PageNo,
    },
    /// Write metadata of a store of the pkernfs driver.
    Pkernfs(Box<PkernfsEdit>),
}

/// An edit with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What is to be written.
    pub edit: Edit,
    /// What it is about.
    pub subject: Subject,
    /// Where this is in the region, in bytes. If both copies are written, it is the location in copy A.
    pub at: Span,
    /// The problems that it repairs.
    pub because: Vec<Code>,
    /// The worst class among them.
    pub class: Repair,
    /// What it loses.
    pub loses: Vec<Loss>,
}

/// A finding that is left as it is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The problem.
    pub code: Code,
    /// What the finding is about.
    pub subject: Subject,
    /// Why nothing is planned.
    pub why: Refusal,
}

/// What a repair would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The edits, in the order in which they are carried out.
    pub edits: Vec<Planned>,
    /// The findings that are left as they are.
    pub refused: Vec<Refused>,
    /// Whether more will be planned once these edits are made.
    pub more: bool,
}

/// How much a plan may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Only what another copy or the rest of the metadata proves.
    Safe,
    /// Also choices that lose something.
    Lossy,
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no region.
    #[error("cannot open the region")]
    Open(#[from] OpenError),
}

/// Plans the next round of a repair for what `report` found in the region that fills `source`.
///
/// # Errors
/// There is no region any more.
pub fn plan<S: ReadAt + ?Sized>(source: &S, report: &Report, policy: Policy) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let Some(state) = &report.state else { return Ok(plan) };
    let state: &Superblocks = state;
    let all = || report.findings.iter().filter(|finding| finding.code().repair() != Repair::None);
    if let Some(why) = unfit(source, state) {
        all().for_each(|finding| plan.refuse(finding, why.clone()));
        return Ok(plan);
    }
    let (pages, rest): (Vec<&Finding>, Vec<&Finding>) =
        report.findings.iter().partition(|finding| finding.code().stage() == Stage::Pages);
    if !state.decision().is_whole() {
        doubt::plan(source, state, &pages, policy, &mut plan);
    } else if !pages.is_empty() {
        rules::pages(&pages, state, policy, &mut plan);
    } else if doubt::contradicts(source, state, &rest) {
        doubt::distrust(source, state, &rest, policy, &mut plan);
    } else {
        contents::plan(source, state, &rest, policy, &mut plan);
    }
    if !pages.is_empty() || !state.decision().is_whole() {
        // What depends on a lost page can be checked only after the page has been rewritten.
        let unseen = report.incomplete && !plan.is_empty();
        plan.more = unseen || rest.iter().any(|f| matches!(f.code().repair(), Repair::Safe | Repair::Lossy));
    }
    for planned in &mut plan.edits {
        (planned.subject, planned.at) = planned.edit.subject_and_span(state);
    }
    Ok(plan)
}

/// Why nothing at all may be written to this region, if that is so.
fn unfit<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks) -> Option<Refusal> {
    if !superblocks.current().features().writable() {
        return Some(Refusal::UnknownFeatures);
    }
    if !superblocks.rivals().is_empty() {
        return Some(Refusal::SeveralRegions);
    }
    let geometry = superblocks.geometry();
    let region = geometry.without_tail().size();
    let image = source.end().filter(|end| *end < region)?;
    Some(Refusal::ImageTooSmall { region, image })
}

impl Planned {
    /// What the edit loses, in words; `None` if it loses nothing.
    #[must_use]
    pub fn losses(&self) -> Option<String> {
        let losses: Vec<String> = self.loses.iter().map(Loss::to_string).collect();
        (!losses.is_empty()).then(|| losses.join("; "))
    }
}

impl Plan {
    /// Adds an edit.
    fn push(&mut self, edit: Edit, because: Vec<Code>, loses: Vec<Loss>) {
        let class = because.iter().map(|code| code.repair()).max().unwrap_or(Repair::Safe);
        let (subject, at) = (Subject::Region, Span::new(0, 0));
        self.edits.push(Planned { edit, subject, at, because, class, loses });
    }

    /// Leaves a finding as it is.
    fn refuse(&mut self, finding: &Finding, why: Refusal) {
        self.refused.push(Refused { code: finding.code(), subject: finding.subject, why });
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}

impl Policy {
    /// Whether a repair of this class may be planned.
    pub(crate) fn allows(self, class: Repair) -> bool {
        match class {
            Repair::Safe => true,
            Repair::Lossy => self == Self::Lossy,
            Repair::Manual | Repair::None => false,
        }
    }
}

/// A field that an edit changes: its name, and its bytes before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The field's name.
    pub name: &'static str,
    /// Its bytes as they are.
    pub before: Vec<u8>,
    /// Its bytes as they will be.
    pub after: Vec<u8>,
}

/// The fields in which two structures differ.
fn differences<T: OnMemory>(before: &T, after: &T) -> Vec<FieldChange> {
    let fields = T::FIELDS.iter().filter_map(|field| {
        let range = field.offset..field.offset.checked_add(field.size)?;
        let (before, after) = (before.bytes().get(range.clone())?, after.bytes().get(range)?);
        (before != after).then(|| FieldChange { name: field.name, before: before.to_vec(), after: after.to_vec() })
    });
    fields.collect()
}

impl Edit {
    /// What the edit is about, and where this is in the region. If both copies are written, it is the location in copy
    /// A.
    fn subject_and_span(&self, superblocks: &Superblocks) -> (Subject, Span) {
        let geometry = superblocks.geometry();
        let pages = |kind: PageKind, first: PageNo, count: u32, copy: Option<CopyId>| {
            let offset = geometry.page_offset(copy.unwrap_or(CopyId::A), first);
            (Subject::Pages { kind, first, count, copy }, Span::new(offset, u64::from(count) * PAGE_BYTES))
        };
        match *self {
            Self::Mend { kind, first, count, copy } => pages(kind, first, count, Some(copy)),
            Self::Rewrite { page } => pages(geometry.page_kind(page).unwrap_or(PageKind::Superblock), page, 1, None),
            Self::Superblocks | Self::Superblock { .. } => (Subject::Superblock, Span::new(0, PAGE_BYTES)),
            Self::Recover | Self::Settle { .. } | Self::Pkernfs(_) => (Subject::Region, Span::new(0, geometry.size())),
            Self::Inode { ino, .. } => (Subject::Inode(ino), pass::tree::span_of(superblocks, ino)),
            Self::Blocks { first, count, .. } => {
                // This does not saturate: 2³² blocks of the largest size are 2⁶¹ bytes.
                let length = u64::from(count).saturating_mul(geometry.block_bytes());
                (Subject::Blocks { first, count }, Span::new(geometry.block_offset(first), length))
            }
        }
    }

    /// The bytes of the region that it writes or frees, in all copies.
    #[must_use]
    pub fn touches(&self, geometry: Geometry) -> Vec<Span> {
        let pages = |copies: &[CopyId], first: PageNo, count: u32| {
            let length = u64::from(count).saturating_mul(PAGE_BYTES);
            copies.iter().map(|copy| Span::new(geometry.page_offset(*copy, first), length)).collect::<Vec<_>>()
        };
        let both = CopyId::BOTH.as_slice();
        match self {
            Self::Mend { first, count, copy, .. } => pages(&[*copy], *first, *count),
            Self::Settle { .. } => pages(both, PageNo(0), u32::try_from(geometry.pages()).unwrap_or(u32::MAX)),
            Self::Superblocks | Self::Superblock { .. } | Self::Recover => pages(both, PageNo(0), 1),
            Self::Rewrite { page } => pages(both, *page, 1),
            Self::Pkernfs(edit) => edit.touches(),
            Self::Inode { ino, .. } => {
                geometry.inode_place(*ino).map(|(page, _)| pages(both, page, 1)).unwrap_or_default()
            }
            Self::Blocks { first, count, to, .. } => {
                let last = BlockNo(last_of(first.0, *count));
                let ends = [*first, last].map(|block| geometry.descriptor_place(block).map(|(page, _)| page));
                let [Some(from), Some(until)] = ends else { return Vec::new() };
                let mut spans = pages(both, from, until.0.saturating_sub(from.0).saturating_add(1));
                if *to == Assign::Release {
                    let length = u64::from(*count).saturating_mul(geometry.block_bytes());
                    spans.push(Span::new(geometry.block_offset(*first), length));
                }
                spans
            }
        }
    }

    /// Whether this is one of the edits that a coupling keeps together.
    #[must_use]
    pub const fn is_coupled_by(&self, coupling: Coupling) -> bool {
        match coupling {
            Coupling::BlocksWithInode => matches!(self, Self::Blocks { .. } | Self::Inode { .. }),
        }
    }

    /// Whether it writes one superblock from the other one.
    #[must_use]
    pub const fn is_of_superblock(&self) -> bool {
        matches!(self, Self::Mend { kind: PageKind::Superblock, .. })
    }

    /// The fields that the edit changes, if it changes single fields.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldChange> {
        match self {
            Self::Inode { before, after, .. } => differences(before.as_ref(), after.as_ref()),
            Self::Superblock { before, after } => differences(before.as_ref(), after.as_ref()),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.name, Value(self.name, &self.before), Value(self.name, &self.after))
    }
}

/// Shows a field's bytes: names and labels as text, numbers as numbers, the rest in hexadecimal.
struct Value<'a>(&'static str, &'a [u8]);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, bytes) = self;
        if matches!(*name, "name" | "label" | "writer") {
            let last = bytes.iter().rposition(|byte| *byte != 0);
            let text = last.and_then(|last| bytes.get(..=last)).unwrap_or_default();
            return write!(f, "'{}'", gmfs_format::name::escape(text));
        }
        if bytes.len() <= 8 {
            let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            return write!(f, "{number}");
        }
        write!(f, "{} bytes", bytes.len())
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = |kind: &PageKind, first: &PageNo, count: &u32| {
            let subject = Subject::Pages { kind: *kind, first: *first, count: *count, copy: None };
            subject.to_string()
        };
        match self {
            Self::Mend { kind, first, count, copy } => {
                write!(f, "write {} of copy {copy} from copy {}", pages(kind, first, count), copy.other())
            }
            Self::Settle { distrust: false } => f.write_str(
                "write all metadata pages once more: reserve what looks free on pages that are not proven, and flag files that hang on them as doubtful",
            ),
            Self::Settle { distrust: true } => {
                f.write_str("take nothing for proven: reserve all blocks that look free, and flag all files as doubtful")
            }
            Self::Superblocks => f.write_str("write both superblocks as the pages of the tables prove them to be"),
            Self::Recover => f.write_str("finish or take back what a writer left"),
            Self::Inode { ino, .. } => write!(f, "write inode {ino}"),
            Self::Superblock { .. } => f.write_str("write the superblock"),
            Self::Pkernfs(edit) => edit.fmt(f),
            Self::Rewrite { page } => {
                write!(f, "write page {page} with its reserved bytes as zero")
            }
            Self::Blocks { first, count, to, .. } => {
                let run = Subject::Blocks { first: *first, count: *count };
                match to {
                    Assign::Reserve => write!(f, "mark {run} as reserved"),
                    Assign::Confirm => write!(f, "mark {run} as data of the file named there"),
                    Assign::Bad => write!(f, "mark {run} as bad"),
                    Assign::Healed => write!(f, "mark {run} as no longer bad"),
                    Assign::Scrub => {
                        write!(f, "clear what is not defined in the descriptors of {run}")
                    }
                    Assign::Release => write!(f, "free {run}"),
                    Assign::Data { owner, index } => {
                        write!(f, "give {run} to inode {owner} from place {index} on")
                    }
                }
            }
        }?;
        let fields = self.fields();
        if !fields.is_empty() {
            let listed: Vec<String> = fields.iter().map(ToString::to_string).collect();
            write!(f, ": {}", listed.join(", "))?;
        }
        Ok(())
    }
}
