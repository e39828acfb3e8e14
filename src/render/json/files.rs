//! Files of a region: `gmfs.ls/1`, `gmfs.tree/1`, `gmfs.stat/1`, `gmfs.map/1`, `gmfs.who/1`.

use gmfs::Store;
use gmfs::in_use::ByFile;
use gmfs::store::Run;
use gmfs_format::model::Inode as Found;
use gmfs_format::model::InodeNo;
use gmfs_format::native::tables::INODE_ALIGN_1G;
use gmfs_format::native::tables::INODE_IMMUTABLE;
use serde::Serialize;

use crate::in_use::{User, users as users_of};
use crate::paths::Why;
use crate::render::json::text;
use crate::render::json::{luo, region};
use crate::render::time;

/// A run of a file's blocks.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Extent {
    index: u64,
    block: u64,
    count: u64,
    offset: u64,
    length: u64,
    address: u64,
    physical: Option<u64>,
    hardware_error: bool,
}

impl Extent {
    pub(crate) fn new(run: &Run, store: &Store) -> Self {
        let block = store.block_bytes();
        let Run { offset, at, len, bad, .. } = *run;
        Self {
            index: offset / block,
            block: at / block,
            count: len / block,
            offset,
            length: len,
            address: store.place.base.saturating_add(at),
            physical: store.physical_base().map(|base| base.saturating_add(at)),
            hardware_error: bad,
        }
    }
}

/// A path, exact if it is UTF-8.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Path {
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl Path {
    /// `None` stands for an inode that no path from the root leads to.
    pub(crate) fn new(path: Option<&[u8]>) -> Self {
        let (path, path_bytes) = path.map(text).map_or((None, None), |(text, bytes)| (Some(text), bytes));
        Self { path, path_bytes }
    }
}

impl Path {
    /// The path as it may be shown.
    pub(crate) fn shown(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        // A path that is not UTF-8 is escaped already.
        Some(if self.path_bytes.is_some() { path.clone() } else { gmfs_format::name::escape(path.as_bytes()) })
    }
}

/// An inode with all that is recorded of it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Inode {
    ino: u32,
    kind: &'static str,
    parent: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    size: u64,
    blocks: u64,
    generation: Option<u32>,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    immutable: Option<bool>,
    align_1g: Option<bool>,
    doubtful: Option<bool>,
    accessed: Option<String>,
    modified: Option<String>,
    changed: Option<String>,
    created: Option<String>,
}

impl From<&Found> for Inode {
    fn from(found: &Found) -> Self {
        let (name, name_bytes) = text(&found.name);
        let attributes = found.attributes.as_ref();
        let when = |of: fn(&gmfs_format::model::Attributes) -> u64| attributes.and_then(|a| time::rfc3339(of(a)));
        Self {
            ino: found.ino.0,
            kind: found.kind.name(),
            parent: found.parent.0,
            name,
            name_bytes,
            size: found.size,
            blocks: found.blocks,
            generation: attributes.map(|a| a.generation),
            mode: attributes.map(|a| format!("{:04o}", a.mode)),
            uid: attributes.map(|a| a.uid),
            gid: attributes.map(|a| a.gid),
            immutable: attributes.map(|a| a.flags & INODE_IMMUTABLE != 0),
            align_1g: attributes.map(|a| a.flags & INODE_ALIGN_1G != 0),
            doubtful: attributes.map(|_| found.is_doubtful()),
            accessed: when(|a| a.accessed),
            modified: when(|a| a.modified),
            changed: when(|a| a.changed),
            created: when(|a| a.created),
        }
    }
}

/// A file or directory with its blocks.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct File {
    #[serde(flatten)]
    path: Path,
    ino: u32,
    kind: &'static str,
    size: u64,
    blocks: u64,
    doubtful: bool,
    extents: Vec<Extent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapped_by: Option<Vec<User>>,
}

impl File {
    pub(crate) fn new(path: Option<&[u8]>, found: &Found, extents: Vec<Extent>) -> Self {
        let Found { ino, kind, size, blocks, .. } = found;
        let (path, kind, doubtful) = (Path::new(path), kind.name(), found.is_doubtful());
        Self { path, ino: ino.0, kind, size: *size, blocks: *blocks, doubtful, extents, mapped_by: None }
    }

    /// The same with the processes that have it mapped, if that was asked for.
    pub(crate) fn used(self, users: Option<&ByFile>, found: &Found) -> Self {
        Self { mapped_by: users.map(|users| users_of(users, found.ino)), ..self }
    }
}

/// An entry of a listing.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Entry {
    #[serde(flatten)]
    path: Path,
    #[serde(flatten)]
    inode: Inode,
    /// What somebody calls it besides its name: systemd, of the files in its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_as: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapped_by: Option<Vec<User>>,
}

impl Entry {
    pub(crate) fn new(path: &[u8], found: &Found) -> Self {
        Self { path: Path::new(Some(path)), inode: found.into(), known_as: None, mapped_by: None }
    }

    /// The same with what somebody calls it.
    pub(crate) fn known(self, name: Option<&str>) -> Self {
        Self { known_as: name.map(str::to_owned), ..self }
    }

    /// The same with the processes that have it mapped, if that was asked for.
    pub(crate) fn used(self, users: Option<&ByFile>, found: &Found) -> Self {
        Self { mapped_by: users.map(|users| users_of(users, found.ino)), ..self }
    }
}

/// An inode that a listing leaves out.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NotShown {
    ino: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    reason: &'static str,
}

impl NotShown {
    pub(crate) fn list(hidden: &[(&Found, Why)]) -> Vec<Self> {
        let one = |(found, why): &(&Found, Why)| {
            let (name, name_bytes) = text(&found.name);
            Self { ino: found.ino.0, name, name_bytes, reason: why.name() }
        };
        hidden.iter().map(one).collect()
    }
}

/// The answer of `ls` and `tree`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Listing {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) entries: Vec<Entry>,
    pub(crate) lost_pages: u64,
    pub(crate) not_shown: Vec<NotShown>,
}

/// A file as `stat` shows it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) entry: Entry,
    /// The record of a file that a kernel hands over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handed: Option<luo::Handed>,
    pub(crate) extents: Vec<Extent>,
    pub(crate) lost_pages: u64,
}

/// The answer of `stat`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Stat {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) files: Vec<Status>,
}

/// The answer of `map`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Map {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    #[serde(flatten)]
    pub(crate) file: File,
    pub(crate) block_size: u64,
    pub(crate) physical_base: Option<u64>,
    pub(crate) holes: Vec<Hole>,
    /// The parts that held data and have no block any more.
    pub(crate) lost: Vec<Hole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<Vec<String>>,
}

/// A part of a file that no block holds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Hole {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The owner of an address.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Owner {
    /// The address as it was asked for.
    pub(crate) asked: String,
    pub(crate) address: Option<u64>,
    pub(crate) physical: Option<u64>,
    pub(crate) block: Option<u64>,
    /// file, metadata, free, bad, reserved, tail, lost, outside
    pub(crate) what: &'static str,
    #[serde(flatten)]
    pub(crate) path: Path,
    pub(crate) ino: Option<u32>,
    pub(crate) offset: Option<u64>,
    /// Past the file's end, in its last block.
    pub(crate) beyond_end: bool,
    pub(crate) copy: Option<String>,
    pub(crate) page: Option<u64>,
    pub(crate) page_kind: Option<String>,
}

impl Owner {
    /// The answer for an address that is not in the region.
    pub(crate) fn outside(asked: String) -> Self {
        Self {
            asked,
            address: None,
            physical: None,
            block: None,
            what: "outside",
            path: Path::new(None),
            ino: None,
            offset: None,
            beyond_end: false,
            copy: None,
            page: None,
            page_kind: None,
        }
    }
}

/// The answer of `who`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Who {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) addresses: Vec<Owner>,
}

/// An inode number, or none.
pub(crate) fn ino(ino: InodeNo) -> Option<u32> {
    Some(ino.0).filter(|number| *number != 0)
}
