//! Two images compared: `gmfs.diff/1`.

use gmfs::Store;
use gmfs::diff::{Compared as Found, Content, Difference, Sameness, Side};
use serde::Serialize;

use crate::render::json::{files, region, text};

/// The image that the first one was compared with.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Other {
    image: region::Image,
    store: region::Store,
}

/// A part of a file that is not known to be the same.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Differing {
    state: &'static str,
    reason: Option<&'static str>,
    offset: u64,
    length: u64,
}

/// A file or directory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Compared {
    change: &'static str,
    result: &'static str,
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
    attributes: &'static str,
    mapping: &'static str,
    content: &'static str,
    ranges: Vec<Differing>,
    more_ranges: u64,
}

/// A fact about the regions that is not the same.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Fact {
    name: &'static str,
    value_before: Option<String>,
    value_after: Option<String>,
}

/// The answer of `diff`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Diff {
    image: region::Image,
    store: region::Store,
    other: Other,
    result: &'static str,
    content_compared: &'static str,
    facts_differing: Vec<Fact>,
    files: Vec<Compared>,
}

impl Diff {
    pub(crate) fn new(a: &Store, b: &Store, content: Content, found: &Difference) -> Self {
        let fact = |(name, [before, after]): &(&'static str, [Option<String>; 2])| Fact {
            name,
            value_before: before.clone(),
            value_after: after.clone(),
        };
        Self {
            image: (&a.place).into(),
            store: a.into(),
            other: Other { image: (&b.place).into(), store: b.into() },
            result: found.sameness().name(),
            content_compared: match content {
                Content::Read => "read",
                Content::Seals => "seals",
                _ => "no",
            },
            facts_differing: found.facts.iter().map(fact).collect(),
            files: found.files.iter().map(Compared::from).collect(),
        }
    }
}

impl From<&Found> for Compared {
    fn from(found: &Found) -> Self {
        let [before, after] = &found.sides;
        let change = match (before, after) {
            (None, _) => "created",
            (_, None) => "removed",
            (Some(before), Some(after)) if before.path != after.path => "moved",
            _ if found.sameness() == Sameness::Differs => "changed",
            _ => "none",
        };
        let path = |side: &Option<Side>| side.as_ref().and_then(|side| side.path.clone());
        let (path_before, path_before_bytes) = path(before).map_or((None, None), |path| {
            let (text, bytes) = text(&path);
            (Some(text), bytes)
        });
        let range = |range: &gmfs::diff::Range| {
            let reason = match range.lacking {
                [false, false] => None,
                [true, false] => Some("not-in-image"),
                [false, true] => Some("not-in-other"),
                [true, true] => Some("not-in-either"),
            };
            let state = if reason.is_some() { "unknown" } else { "changed" };
            Differing { state, reason, offset: range.offset, length: range.length }
        };
        Self {
            change,
            result: found.sameness().name(),
            path: files::Path::new(path(if after.is_some() { after } else { before }).as_deref()),
            path_before,
            path_before_bytes,
            ino: after.as_ref().or(before.as_ref()).map_or(0, |side| side.ino.0),
            kind: found.kind.name(),
            size_before: before.as_ref().map(|side| side.size),
            size_after: after.as_ref().map(|side| side.size),
            blocks_before: before.as_ref().map(|side| side.blocks),
            blocks_after: after.as_ref().map(|side| side.blocks),
            attributes: found.attributes.name(),
            mapping: found.extents.name(),
            content: found.content.name(),
            ranges: found.ranges.iter().map(range).collect(),
            more_ranges: found.more_ranges,
        }
    }
}
