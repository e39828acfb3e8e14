//! Seals of content: `gmfs.seal/1`, `gmfs.unseal/1`, `gmfs.verify/1`.

use gmfs_format::model::{InodeNo, Tree};
use gmfs_volume::seals::FileSeals;
use serde::Serialize;

use crate::render::json::{files, region};
use gmfs::changes::Changes;

/// The image and the region that were changed.
pub(crate) fn subject(changes: &Changes) -> (region::Image, region::Store) {
    let store = region::Store::of(changes.place.base, changes.uuid, changes.geometry);
    ((&changes.place).into(), store)
}

/// A file that was to be sealed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Sealed {
    #[serde(flatten)]
    path: files::Path,
    ino: u32,
    /// sealed, partly, sealed-before, empty
    pub(crate) state: &'static str,
    pub(crate) blocks: u64,
    pub(crate) blocks_sealed: u64,
    pub(crate) blocks_unsealed: u64,
    /// Given only if zero blocks are noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks_zero: Option<u64>,
}

/// An inode number with the path that leads to it.
fn named(tree: &Tree, ino: InodeNo) -> files::Path {
    files::Path::new(tree.path(ino).as_deref())
}

fn shown(path: &files::Path, ino: u32) -> String {
    path.shown().unwrap_or_else(|| format!("inode {ino}"))
}

impl Sealed {
    /// The file as it is, and as it will be if all of it can be read.
    pub(crate) fn new(tree: &Tree, ino: InodeNo, seals: &FileSeals) -> Self {
        Self {
            path: named(tree, ino),
            ino: ino.0,
            state: if seals.bad == 0 { "sealed" } else { "partly" },
            blocks: seals.blocks.saturating_add(seals.bad),
            blocks_sealed: seals.blocks,
            blocks_unsealed: seals.bad,
            blocks_zero: None,
        }
    }

    /// Adds the result of sealing the file.
    pub(crate) fn add(&mut self, sealed: &gmfs_volume::Sealed, zero: bool) {
        self.blocks_sealed = sealed.sealed;
        self.blocks_unsealed = sealed.unreadable.saturating_add(sealed.bad);
        self.blocks_zero = zero.then_some(sealed.zero);
        self.state = if self.blocks_unsealed == 0 { "sealed" } else { "partly" };
    }

    /// The name of the file in messages.
    pub(crate) fn shown(&self) -> String {
        shown(&self.path, self.ino)
    }
}

/// The answer of `seal`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Seal {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) dry_run: bool,
    pub(crate) interrupted: bool,
    pub(crate) files: Vec<Sealed>,
}

/// A file whose seals were dropped.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Unsealed {
    #[serde(flatten)]
    path: files::Path,
    ino: u32,
    pub(crate) seals_dropped: u64,
}

impl Unsealed {
    pub(crate) fn new(tree: &Tree, ino: InodeNo, seals_dropped: u64) -> Self {
        Self { path: named(tree, ino), ino: ino.0, seals_dropped }
    }

    /// The name of the file in messages.
    pub(crate) fn shown(&self) -> String {
        shown(&self.path, self.ino)
    }
}

/// The answer of `unseal`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Unseal {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) dry_run: bool,
    pub(crate) files: Vec<Unsealed>,
}

/// A range of a file that is not known to be the same.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Differing {
    state: &'static str,
    reason: Option<&'static str>,
    offset: u64,
    length: u64,
    block: u64,
    count: u64,
    address: u64,
    physical: Option<u64>,
}

/// A file that was compared with its seals.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Verified {
    #[serde(flatten)]
    path: files::Path,
    ino: u32,
    state: &'static str,
    reason: Option<&'static str>,
    blocks: u64,
    blocks_sealed: u64,
    blocks_same: u64,
    blocks_changed: u64,
    ranges: Vec<Differing>,
    more_ranges: u64,
}

impl Verified {
    pub(crate) fn new(store: &gmfs::Store, tree: &Tree, file: &gmfs::verify::Verified) -> Self {
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
                state,
                reason,
                offset: range.offset,
                length: range.length,
                block: range.block.into(),
                count: range.count,
                address: store.place.base.saturating_add(range.at),
                physical: physical.map(|base| base.saturating_add(range.at)),
            }
        });
        Self {
            path: named(tree, file.ino),
            ino: file.ino.0,
            state: file.state.name(),
            reason,
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Verify {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) result: &'static str,
    pub(crate) sealed_at: Option<String>,
    pub(crate) files: Vec<Verified>,
}
