//! Seals of content: `gmfs.seal/1`, `gmfs.unseal/1`, `gmfs.verify/1`.

use gmfs_format::model::{InodeNo, Tree};
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::{diff, files, region, time};
use gmfs::changes::Changes;
use gmfs::diff::Sameness;
use gmfs::seal::{File, State};

/// The image and the region that were changed.
pub fn subject(changes: &Changes) -> (region::Image, region::Store) {
    let store = region::Store::of(changes.place.base, changes.uuid, changes.geometry);
    ((&changes.place).into(), store)
}

/// A file that was to be sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Sealed {
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// State, in a word.
    pub state: Word,
    /// How many blocks the file has.
    pub blocks: u64,
    /// How many of the file's blocks have a seal.
    pub blocks_sealed: u64,
    /// How many of the file's blocks have no seal because they cannot be read.
    pub blocks_unsealed: u64,
    /// How many of the file's blocks are noted as all zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks_zero: Option<u64>,
}

/// An inode number with the path that leads to it.
fn named(tree: &Tree, ino: InodeNo) -> files::Path {
    files::Path::new(tree.path(ino).as_deref())
}

fn shown(path: &files::Path, ino: u32) -> String {
    path.shown().unwrap_or_else(|| format!("inode {ino}"))
}

impl Sealed {
    /// A file that was to be sealed; with `zero`, its blocks that are all zero were noted.
    pub fn new(tree: &Tree, file: &File, zero: bool) -> Self {
        let before = &file.before;
        let (sealed, unsealed, zeros) = match file.state {
            State::Sealed(done) => (done.sealed, done.unreadable.saturating_add(done.bad), zero.then_some(done.zero)),
            _ => (before.blocks, before.bad, None),
        };
        let state = match file.state {
            State::Empty => "empty",
            State::Before => "sealed-before",
            _ if unsealed == 0 => "sealed",
            _ => "partly",
        };
        Self {
            path: named(tree, file.ino),
            ino: file.ino.0,
            state: state.into(),
            blocks: before.blocks.saturating_add(before.bad),
            blocks_sealed: sealed,
            blocks_unsealed: unsealed,
            blocks_zero: zeros,
        }
    }

    /// The name of the file in messages.
    pub fn shown(&self) -> String {
        shown(&self.path, self.ino)
    }
}

/// The answer of `seal`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Seal {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// Whether the command was interrupted before all files were done.
    pub interrupted: bool,
    /// Files and directories, each with where its blocks are or what was made of it.
    pub files: Vec<Sealed>,
}

/// A file whose seals were dropped.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Unsealed {
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// How many blocks of the file had a seal, and have none now.
    pub seals_dropped: u64,
}

impl Unsealed {
    /// The file with how many seals it has lost.
    pub fn new(tree: &Tree, ino: InodeNo, seals_dropped: u64) -> Self {
        Self { path: named(tree, ino), ino: ino.0, seals_dropped }
    }

    /// The name of the file in messages.
    pub fn shown(&self) -> String {
        shown(&self.path, self.ino)
    }
}

/// The answer of `unseal`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Unseal {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// Files and directories, each with where its blocks are or what was made of it.
    pub files: Vec<Unsealed>,
}

/// A range of a file that is not known to be the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Differing {
    /// The range, and why it is not known to be the same.
    #[serde(flatten)]
    pub range: diff::Differing,
    /// Number of a block in the region; of a run, its first.
    pub block: u64,
    /// How many there are.
    pub count: u64,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
}

/// A file that was compared with its seals.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Verified {
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// State, in a word.
    pub state: Word,
    /// Why, in a word or a sentence.
    pub reason: Option<Word>,
    /// How many blocks the file has.
    pub blocks: u64,
    /// How many of the file's blocks have a seal.
    pub blocks_sealed: u64,
    /// How many of the file's blocks hold what they held when they were sealed.
    pub blocks_same: u64,
    /// How many of the file's sealed blocks hold something else than when they were sealed.
    pub blocks_changed: u64,
    /// What is not known to be the same, in the order of the region.
    pub ranges: Vec<Differing>,
    /// How many ranges are not listed.
    pub more_ranges: u64,
}

impl Verified {
    /// The result for a file of a store.
    pub fn new(store: &gmfs::Store, tree: &Tree, file: &gmfs::verify::Verified) -> Self {
        use gmfs::verify::{State, Unknown, What};
        let reason = match file.state {
            State::Unknown(Unknown::Lost) => Some("lost"),
            State::Unknown(Unknown::Doubtful) => Some("doubtful"),
            State::Unknown(Unknown::Absent) => Some("absent"),
            State::Unknown(Unknown::Unreadable) => Some("unreadable"),
            State::Unknown(Unknown::Partly) => Some("unsealed"),
            _ => None,
        };
        let physical = store.physical_base();
        let ranges = file.ranges.iter().map(|range| {
            let (state, reason) = match range.what {
                What::Changed => ("changed", None),
                What::Absent(why) => ("unknown", Some(why.name())),
                What::HardwareError => ("unknown", Some("bad-block")),
                What::Unsealed => ("unsealed", None),
                _ => ("unknown", Some("unreadable")),
            };
            Differing {
                range: diff::Differing {
                    state: state.into(),
                    reason: reason.map(Into::into),
                    offset: range.offset,
                    length: range.length,
                },
                block: range.block.into(),
                count: range.count,
                address: store.place.base.saturating_add(range.at),
                physical: physical.map(|base| base.saturating_add(range.at)),
            }
        });
        Self {
            path: named(tree, file.ino),
            ino: file.ino.0,
            state: file.state.name().into(),
            reason: reason.map(Into::into),
            blocks: file.seals.blocks.saturating_add(file.seals.bad),
            blocks_sealed: file.seals.sealed,
            blocks_same: file.same,
            blocks_changed: file.changed,
            ranges: ranges.collect(),
            more_ranges: file.more_ranges,
        }
    }
}

/// The answer of `verify`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Verify {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Of all that was compared: same, changed, or unknown if nothing is changed and not all could be compared.
    pub result: Word,
    /// When the region was sealed (RFC 3339).
    pub sealed_at: Option<String>,
    /// Files and directories, each with where its blocks are or what was made of it.
    pub files: Vec<Verified>,
}

impl Verify {
    /// The answer for files of a store, of which the whole is `result`.
    pub fn new(store: &gmfs::Store, tree: &Tree, files: &[gmfs::verify::Verified], result: Sameness) -> Self {
        let sealed_at = store.native().ok().and_then(|region| time::rfc3339(region.superblock().raw.sealed.get()));
        Self {
            image: (&store.place).into(),
            store: store.into(),
            result: result.name().into(),
            sealed_at,
            files: files.iter().map(|file| Verified::new(store, tree, file)).collect(),
        }
    }
}
