//! Two images compared: `gmfs.diff/1`.

use gmfs::Store;
use gmfs::diff::{Compared as Found, Content, Difference, Sameness, Side};
use gmfs_format::model::InodeNo;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::{files, region};

/// The image that the first one was compared with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Other {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
}

/// A part of a file that is not known to be the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Differing {
    /// State, in a word.
    pub state: Word,
    /// Why, in a word or a sentence.
    pub reason: Option<Word>,
    /// Place in the file, in bytes from its start. In what `save` and `repair -o` make, the file is the region's.
    pub offset: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
}

/// A file or directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Compared {
    /// What is there in the other image instead: created, removed, moved, changed, or none if it is the same.
    pub change: Word,
    /// Of the file: same, changed, or unknown if not all could be compared.
    pub result: Word,
    /// The file or directory in both images.
    #[serde(flatten)]
    pub file: files::BeforeAfter,
    /// Permission bits, owner and flags of the file: same, changed, unknown, or not-compared.
    pub attributes: Word,
    /// Where the file's blocks are: same, changed, unknown, or not-compared.
    pub mapping: Word,
    /// Content of the file: same, changed, unknown, or not-compared.
    pub content: Word,
    /// What is not known to be the same, in the order of the region.
    pub ranges: Vec<Differing>,
    /// How many ranges are not listed.
    pub more_ranges: u64,
}

/// A fact about the regions that is not the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Fact {
    /// Name of the file, the field or the problem.
    pub name: Word,
    /// Value in the image; null if it has none.
    pub value_before: Option<String>,
    /// Value in the other image; null if it has none.
    pub value_after: Option<String>,
}

/// The answer of `diff`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Diff {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// The image that it was compared with, and the region in it.
    pub other: Other,
    /// Of all that was compared: same, changed, or unknown if nothing is changed and not all could be compared.
    pub result: Word,
    /// How content was compared: no, seals, or read.
    pub content_compared: Word,
    /// What the regions themselves state differently.
    pub facts_differing: Vec<Fact>,
    /// Files and directories, each with where its blocks are or what was made of it.
    pub files: Vec<Compared>,
}

impl Diff {
    /// The answer for the difference of two stores, of which this content was compared.
    pub fn new(a: &Store, b: &Store, content: Content, found: &Difference) -> Self {
        let fact = |(name, [before, after]): &(&'static str, [Option<String>; 2])| Fact {
            name: Word::Borrowed(name),
            value_before: before.clone(),
            value_after: after.clone(),
        };
        Self {
            image: (&a.place).into(),
            store: a.into(),
            other: Other { image: (&b.place).into(), store: b.into() },
            result: found.sameness().name().into(),
            content_compared: Word::Borrowed(match content {
                Content::Read => "read",
                Content::Seals => "seals",
                _ => "no",
            }),
            facts_differing: found.facts.iter().map(fact).collect(),
            files: found.files.iter().map(Compared::from).collect(),
        }
    }
}

impl From<&Found> for Compared {
    fn from(found: &Found) -> Self {
        fn side(side: &Side) -> files::Side<'_> {
            files::Side { path: side.path.as_deref(), size: side.size, blocks: side.blocks }
        }
        let [before, after] = &found.sides;
        let ino = after.as_ref().or(before.as_ref()).map_or(InodeNo::NONE, |side| side.ino);
        let change = match (before, after) {
            (None, _) => "created",
            (_, None) => "removed",
            (Some(before), Some(after)) if before.path != after.path => "moved",
            _ if found.sameness() == Sameness::Differs => "changed",
            _ => "none",
        };
        let range = |range: &gmfs::diff::Range| {
            let reason = match range.lacking {
                [false, false] => None,
                [true, false] => Some("not-in-image"),
                [false, true] => Some("not-in-other"),
                [true, true] => Some("not-in-either"),
            };
            let state = if reason.is_some() { "unknown" } else { "changed" };
            Differing {
                state: state.into(),
                reason: reason.map(Into::into),
                offset: range.offset,
                length: range.length,
            }
        };
        Self {
            change: change.into(),
            result: found.sameness().name().into(),
            file: files::BeforeAfter::new(ino, found.kind, before.as_ref().map(side), after.as_ref().map(side)),
            attributes: found.attributes.name().into(),
            mapping: found.extents.name().into(),
            content: found.content.name().into(),
            ranges: found.ranges.iter().map(range).collect(),
            more_ranges: found.more_ranges,
        }
    }
}
