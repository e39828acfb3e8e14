//! What was done or found: `gmfs.mkfs/1`, `gmfs.scan/1`, `gmfs.save/1`, `gmfs.extract/1` and the commands that change
//! files.

use gmfs::Candidate;
use gmfs::changes::{Changes, One, State};
use gmfs::content::{self, Gaps};
use gmfs::put_back;
use serde::Serialize;

use crate::render::json::{dump, files, guestmemfs, region, text};

/// The answer of `mkfs`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Mkfs {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) region: region::Span,
    pub(crate) layout: &'static str,
    pub(crate) uuid: Option<String>,
    pub(crate) label: String,
    pub(crate) recorded_base: Option<u64>,
    pub(crate) geometry: Option<region::Geometry>,
    /// `None` if nothing was put into it.
    pub(crate) populated: Option<Populated>,
    pub(crate) dry_run: bool,
}

/// What was put into a new region.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Populated {
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) bytes: u64,
}

/// A region that was found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Region {
    layout: &'static str,
    base: u64,
    size: u64,
    size_recorded: bool,
    uuid: Option<String>,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_bytes: Option<String>,
    confidence: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    guestmemfs: Option<guestmemfs::GuestmemfsFound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<&Candidate> for Region {
    fn from(found: &Candidate) -> Self {
        let (label, label_bytes) = text(&found.label);
        Self {
            layout: found.layout.name(),
            base: found.base,
            size: found.size,
            size_recorded: found.size_recorded,
            uuid: found.uuid.map(|uuid| uuid.to_string()),
            label,
            label_bytes,
            confidence: found.confidence.name(),
            guestmemfs: found.guestmemfs.as_deref().map(Into::into),
            detail: found.detail.clone(),
        }
    }
}

/// The answer of `scan`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Scan {
    pub(crate) image: dump::ImageFacts,
    pub(crate) regions: Vec<Region>,
}

/// A range that is not in the image, or cannot be read.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Gap {
    offset: u64,
    length: u64,
    reason: &'static str,
    address: Option<u64>,
    physical: Option<u64>,
}

impl Gap {
    /// All gaps of a file, for a region at `base` of the image and at `physical` of the machine's memory.
    pub(crate) fn list(gaps: &Gaps, base: Option<u64>, physical: Option<u64>) -> Vec<Self> {
        let at = |base: Option<u64>, gap: &content::Gap| base.zip(gap.at).map(|(base, at)| base.saturating_add(at));
        let one = |gap: content::Gap| Self {
            offset: gap.span.offset,
            length: gap.span.len,
            reason: gap.why.name(),
            address: at(base, &gap),
            physical: at(physical, &gap),
        };
        gaps.iter().map(one).collect()
    }
}

/// The answer of `save`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Save {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) region: region::Span,
    pub(crate) dry_run: bool,
    pub(crate) output: String,
    /// `None` in a dry run: nothing was read.
    pub(crate) bytes_written: Option<u64>,
    pub(crate) absent: Vec<Gap>,
}

/// A file that was extracted, and its gaps.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Extracted {
    #[serde(flatten)]
    pub(crate) path: files::Path,
    pub(crate) output: String,
    pub(crate) size: u64,
    pub(crate) doubtful: bool,
    pub(crate) absent: Vec<Gap>,
}

/// The answer of `extract`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Extract {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) dry_run: bool,
    pub(crate) files: Vec<Extracted>,
    /// What was not extracted, because no file can have its name or no path leads to it.
    pub(crate) not_shown: Vec<files::NotShown>,
}

/// What a command did to a file or directory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Change {
    change: &'static str,
    #[serde(flatten)]
    path: files::Path,
    path_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_before_bytes: Option<String>,
    ino: u32,
    kind: &'static str,
    size_before: Option<u64>,
    size_after: Option<u64>,
    blocks_before: Option<u64>,
    blocks_after: Option<u64>,
    /// `None` if the file or directory was not there before.
    access_before: Option<Access>,
    access_after: Option<Access>,
}

/// Who may do what with a file or directory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Access {
    mode: String,
    uid: u32,
    gid: u32,
}

impl From<gmfs::changes::Access> for Access {
    fn from(found: gmfs::changes::Access) -> Self {
        Self { mode: format!("{:04o}", found.mode), uid: found.uid, gid: found.gid }
    }
}

impl From<&One> for Change {
    fn from(one: &One) -> Self {
        let path = |state: &Option<State>| state.as_ref().and_then(|state| state.path.clone());
        let before = path(&one.before).map(|path| text(&path));
        let (path_before, path_before_bytes) = before.map_or((None, None), |(text, bytes)| (Some(text), bytes));
        let size = |state: &Option<State>| state.as_ref().map(|state| state.size);
        let blocks = |state: &Option<State>| state.as_ref().map(|state| state.blocks);
        Self {
            change: one.what.name(),
            path: files::Path::new(path(if one.after.is_some() { &one.after } else { &one.before }).as_deref()),
            path_before,
            path_before_bytes,
            ino: one.ino.0,
            kind: one.kind.name(),
            size_before: size(&one.before),
            size_after: size(&one.after),
            blocks_before: blocks(&one.before),
            blocks_after: blocks(&one.after),
            access_before: one.before.as_ref().and_then(|state| state.access).map(Access::from),
            access_after: one.after.as_ref().and_then(|state| state.access).map(Access::from),
        }
    }
}

/// The answer of a command that changed a region.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Changed {
    image: region::Image,
    store: region::Store,
    dry_run: bool,
    /// What the command changed, as it is now.
    entries: Vec<files::Entry>,
    changes: Vec<Change>,
    blocks_taken: u64,
    blocks_freed: u64,
    free_blocks: u64,
}

impl Changed {
    pub(crate) fn new(changes: &Changes, entries: Vec<files::Entry>) -> Self {
        Self {
            image: (&changes.place).into(),
            store: region::Store::of(changes.place.base, changes.uuid, changes.geometry),
            dry_run: changes.dry_run,
            entries,
            changes: changes.list.iter().map(Change::from).collect(),
            blocks_taken: changes.moved.taken,
            blocks_freed: changes.moved.freed,
            free_blocks: changes.free_blocks,
        }
    }
}

/// Consecutive blocks.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Run {
    pub(crate) block: u32,
    pub(crate) count: u64,
    pub(crate) address: u64,
}

/// The answer of `bad add`, `bad del` and `bad import`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Marked {
    #[serde(flatten)]
    pub(crate) changed: Changed,
    /// The blocks that were named.
    pub(crate) runs: Vec<Run>,
    /// How many of them this command marked or unmarked.
    pub(crate) blocks_marked: u64,
}

/// What becomes of a file whose metadata is put back.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Becomes {
    change: &'static str,
    #[serde(flatten)]
    path: files::Path,
    size_before: Option<u64>,
    size_after: Option<u64>,
    blocks_before: Option<u64>,
    blocks_after: Option<u64>,
}

impl From<&put_back::Becomes> for Becomes {
    fn from(becomes: &put_back::Becomes) -> Self {
        let size = |file: &Option<put_back::File>| file.map(|file| file.size);
        let blocks = |file: &Option<put_back::File>| file.map(|file| file.blocks);
        Self {
            change: match (&becomes.before, &becomes.after) {
                (None, _) => "created",
                (_, None) => "removed",
                _ => "changed",
            },
            path: files::Path::new(Some(&becomes.path)),
            size_before: size(&becomes.before),
            size_after: size(&becomes.after),
            blocks_before: blocks(&becomes.before),
            blocks_after: blocks(&becomes.after),
        }
    }
}

/// The answer of `undo` and `restore`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PutBack {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) dry_run: bool,
    /// Pages that were written.
    pub(crate) pages_written: u64,
    /// `None` if gmfs cannot tell which files there were before or will be afterwards.
    pub(crate) changes: Option<Vec<Becomes>>,
}

/// A problem that was made.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Made {
    pub(crate) code: Option<&'static str>,
    pub(crate) name: &'static str,
    /// The image's new size, if the problem is that it is shorter.
    pub(crate) cut_to: Option<u64>,
}

/// The answer of `inject`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Inject {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) dry_run: bool,
    pub(crate) problems: Vec<Made>,
}
