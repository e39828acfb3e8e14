//! Files of a region: `gmfs.ls/1`, `gmfs.tree/1`, `gmfs.stat/1`, `gmfs.map/1`, `gmfs.who/1`.

use gmfs_format::model::Inode as Found;
use gmfs_format::native::extents::Extent as Run;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::tables::INODE_ALIGN_1G;
use gmfs_format::native::tables::INODE_IMMUTABLE;
use gmfs_format::native::units::InodeNo;
use serde::Serialize;

use crate::in_use::{ByFile, User};
use crate::paths::Why;
use crate::render::json::text;
use crate::render::time;

/// A run of a file's blocks.
#[derive(Serialize)]
pub(crate) struct Extent {
    pub(crate) index: u32,
    pub(crate) block: u32,
    pub(crate) count: u32,
    /// Physical address, if the region's base is known.
    pub(crate) physical: Option<u64>,
    /// Offset in the region.
    pub(crate) offset: u64,
    pub(crate) bad: bool,
}

impl Extent {
    pub(crate) fn new(run: &Run, geometry: Geometry, base: Option<u64>) -> Self {
        let offset = geometry.block_offset(run.block);
        let physical = base.map(|base| base.saturating_add(offset));
        Self { index: run.index, block: run.block.0, count: run.count, physical, offset, bad: run.bad }
    }
}

/// A path, exact if it is UTF-8.
#[derive(Serialize)]
pub(crate) struct Path {
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl Path {
    /// `None` is an inode that the root does not lead to.
    pub(crate) fn new(path: Option<&[u8]>) -> Self {
        let (path, path_bytes) = path.map(text).map_or((None, None), |(text, bytes)| (Some(text), bytes));
        Self { path, path_bytes }
    }
}

impl Path {
    /// The path as it may be shown.
    pub(crate) fn shown(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        // What is no UTF-8 is escaped already.
        Some(if self.path_bytes.is_some() { path.clone() } else { gmfs_format::name::escape(path.as_bytes()) })
    }
}

/// An inode with all that is recorded of it.
#[derive(Serialize)]
pub(crate) struct Inode {
    ino: u32,
    kind: &'static str,
    parent: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    size: u64,
    blocks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    align_1g: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
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

    /// With those who have it mapped, if somebody wants to know.
    pub(crate) fn used(self, users: Option<&ByFile>, found: &Found) -> Self {
        Self { mapped_by: users.map(|users| users.of(found.ino)), ..self }
    }
}

/// An entry of a listing.
#[derive(Serialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    path: Path,
    #[serde(flatten)]
    inode: Inode,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapped_by: Option<Vec<User>>,
}

impl Entry {
    pub(crate) fn new(path: &[u8], found: &Found) -> Self {
        Self { path: Path::new(Some(path)), inode: found.into(), mapped_by: None }
    }

    /// With those who have it mapped, if somebody wants to know.
    pub(crate) fn used(self, users: Option<&ByFile>, found: &Found) -> Self {
        Self { mapped_by: users.map(|users| users.of(found.ino)), ..self }
    }
}

/// An inode that a listing leaves out.
#[derive(Serialize)]
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
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    pub(crate) lost_pages: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_shown: Vec<NotShown>,
}

/// A file as `stat` shows it.
#[derive(Serialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) entry: Entry,
    pub(crate) extents: Vec<Extent>,
    pub(crate) lost_pages: u64,
}

/// The answer of `stat`.
#[derive(Serialize)]
pub(crate) struct Stat {
    pub(crate) files: Vec<Status>,
}

/// The answer of `map`.
#[derive(Serialize)]
pub(crate) struct Map {
    #[serde(flatten)]
    pub(crate) file: File,
    pub(crate) block_size: u64,
    pub(crate) base: Option<u64>,
    pub(crate) holes: Vec<Hole>,
    /// What no block stands for any more, though it held data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lost: Vec<Hole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<Vec<String>>,
}

/// A part of a file that no block holds.
#[derive(Serialize)]
pub(crate) struct Hole {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Whose an address is.
#[derive(Serialize)]
pub(crate) struct Owner {
    /// The address as it was asked for.
    pub(crate) asked: String,
    /// Offset in the region.
    pub(crate) offset: Option<u64>,
    /// Physical address, if the base is known.
    pub(crate) physical: Option<u64>,
    pub(crate) block: Option<u32>,
    /// file, metadata, free, bad, reserved, tail, lost, outside
    pub(crate) what: &'static str,
    #[serde(flatten)]
    pub(crate) path: Path,
    pub(crate) ino: Option<u32>,
    pub(crate) file_offset: Option<u64>,
    /// Behind the file's end, in its last block.
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
            offset: None,
            physical: None,
            block: None,
            what: "outside",
            path: Path::new(None),
            ino: None,
            file_offset: None,
            beyond_end: false,
            copy: None,
            page: None,
            page_kind: None,
        }
    }
}

/// The answer of `who`.
#[derive(Serialize)]
pub(crate) struct Who {
    pub(crate) addresses: Vec<Owner>,
}

/// An inode number, or none.
pub(crate) fn ino(ino: InodeNo) -> Option<u32> {
    Some(ino.0).filter(|number| *number != 0)
}
