//! What was done or found: `gmfs.mkfs/1`, `gmfs.scan/1`, `gmfs.save/1`, `gmfs.extract/1` and the commands that change
//! files.

use gmfs::Candidate;
use serde::Serialize;

use crate::content::{self, Gaps};
use crate::render::json::{dump, files, region, text};

/// The answer of `mkfs`.
#[derive(Serialize)]
pub(crate) struct Mkfs {
    pub(crate) image: region::Image,
    pub(crate) region: region::Span,
    pub(crate) layout: &'static str,
    pub(crate) uuid: String,
    pub(crate) label: String,
    /// Recorded physical base; 0 is not known.
    pub(crate) recorded_base: u64,
    pub(crate) geometry: region::Geometry,
    pub(crate) dry_run: bool,
}

/// A region that was found.
#[derive(Serialize)]
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
        }
    }
}

/// The answer of `scan`.
#[derive(Serialize)]
pub(crate) struct Scan {
    pub(crate) image: dump::Image,
    pub(crate) regions: Vec<Region>,
}

/// A range that is not in the image, or cannot be read.
#[derive(Serialize)]
pub(crate) struct Gap {
    offset: u64,
    length: u64,
    reason: &'static str,
    /// Physical address, of a file's gap in a region whose base is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    physical: Option<u64>,
}

impl Gap {
    /// All gaps of a file, for a region at this base.
    pub(crate) fn list(gaps: &Gaps, base: Option<u64>) -> Vec<Self> {
        let one = |gap: content::Gap| Self {
            offset: gap.span.offset,
            length: gap.span.len,
            reason: gap.why.name(),
            physical: base.zip(gap.at).map(|(base, at)| base.saturating_add(at)),
        };
        gaps.iter().map(one).collect()
    }
}

/// The answer of `save`.
#[derive(Serialize)]
pub(crate) struct Save {
    pub(crate) image: region::Image,
    pub(crate) region: region::Span,
    pub(crate) output: String,
    pub(crate) written: u64,
    pub(crate) absent: Vec<Gap>,
}

/// A file that was taken out, and what of it was not.
#[derive(Serialize)]
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
pub(crate) struct Extract {
    pub(crate) files: Vec<Extracted>,
    /// What was not taken out, because its name can be no file's or no path leads to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_shown: Vec<files::NotShown>,
}

/// The answer of a command that changed a region.
#[derive(Serialize)]
pub(crate) struct Changed {
    /// What it changed, as it is now.
    pub(crate) entries: Vec<files::Entry>,
    pub(crate) free_blocks: u64,
}
