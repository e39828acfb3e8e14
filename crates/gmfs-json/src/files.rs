//! Files of a region: `gmfs.ls/1`, `gmfs.tree/1`, `gmfs.stat/1`, `gmfs.map/1`, `gmfs.who/1`.

use gmfs::Store;
use gmfs::bad::Marked;
use gmfs::in_use::ByFile;
use gmfs::store::{Run, gaps};
use gmfs::walk::Why;
use gmfs::whose::Whose;
use gmfs_format::model::Inode as Found;
use gmfs_format::model::{InodeNo, Kind};
use gmfs_format::native::tables::INODE_ALIGN_1G;
use gmfs_format::native::tables::INODE_IMMUTABLE;
use gmfs_io::Span;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::text;
use crate::time;
use crate::{luo, region};

/// A run of a file's blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Extent {
    /// Number of a block in its file, from 0; of a run, of its first.
    pub index: u64,
    /// Number of a block in the region; of a run, its first.
    pub block: u64,
    /// How many there are.
    pub count: u64,
    /// Place in the file, in bytes from its start. In what `save` and `repair -o` make, the file is the region's.
    pub offset: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
    /// Whether these blocks are marked as having hardware errors.
    pub hardware_error: bool,
}

impl Extent {
    /// The run of a file of this store.
    pub fn new(run: &Run, store: &Store) -> Self {
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Path {
    /// Path: of a file in the region, from its root, null if no path leads to it; of the image, on this machine.
    pub path: Option<String>,
    /// The path in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
}

impl Path {
    /// `None` stands for an inode that no path from the root leads to.
    pub fn new(path: Option<&[u8]>) -> Self {
        let (path, path_bytes) = path.map(text).map_or((None, None), |(text, bytes)| (Some(text), bytes));
        Self { path, path_bytes }
    }
}

impl Path {
    /// The path as it may be shown.
    pub fn shown(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        // A path that is not UTF-8 is escaped already.
        Some(if self.path_bytes.is_some() { path.clone() } else { gmfs_format::name::escape(path.as_bytes()) })
    }
}

/// A file or directory at two times, or in two images.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct BeforeAfter {
    /// Its path after the change; before it, if it is not there any more.
    #[serde(flatten)]
    pub path: Path,
    /// Path in the region before the change; null if it was not there.
    pub path_before: Option<String>,
    /// The path before the change in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_before_bytes: Option<String>,
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// What kind of thing it is, in a word.
    pub kind: Word,
    /// Bytes in the file before the change; null if it was not there.
    pub size_before: Option<u64>,
    /// Bytes in the file after the change; null if it is not there then.
    pub size_after: Option<u64>,
    /// How many blocks it had before the change; null if it was not there.
    pub blocks_before: Option<u64>,
    /// How many blocks it has after the change; null if it is not there then.
    pub blocks_after: Option<u64>,
}

/// A file or directory at one of the two times.
pub(crate) struct Side<'p> {
    /// `None` if no path leads to it.
    pub(crate) path: Option<&'p [u8]>,
    pub(crate) size: Option<u64>,
    pub(crate) blocks: Option<u64>,
}

impl BeforeAfter {
    /// `None` stands for a time at which it is not there.
    pub(crate) fn new(ino: InodeNo, kind: Kind, before: Option<Side<'_>>, after: Option<Side<'_>>) -> Self {
        let before_path = before.as_ref().and_then(|side| side.path);
        let (path_before, path_before_bytes) =
            before_path.map(text).map_or((None, None), |(text, bytes)| (Some(text), bytes));
        let now = after.as_ref().or(before.as_ref());
        Self {
            path: Path::new(now.and_then(|side| side.path)),
            path_before,
            path_before_bytes,
            ino: ino.0,
            kind: kind.name().into(),
            size_before: before.as_ref().and_then(|side| side.size),
            size_after: after.as_ref().and_then(|side| side.size),
            blocks_before: before.as_ref().and_then(|side| side.blocks),
            blocks_after: after.as_ref().and_then(|side| side.blocks),
        }
    }
}

/// A process that has a file mapped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct User {
    /// Number of the process.
    pub pid: u32,
    /// Name of the process.
    pub process: String,
}

/// The processes that have a file mapped.
pub fn users(found: &ByFile, ino: InodeNo) -> Vec<User> {
    found.of(ino).map(|process| User { pid: process.pid, process: process.name.clone() }).collect()
}

/// An inode with all that is recorded of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Inode {
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// What kind of thing it is, in a word.
    pub kind: Word,
    /// Inode number of the directory that it is in.
    pub parent: u32,
    /// Name of the file, the field or the problem.
    pub name: String,
    /// The name in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_bytes: Option<String>,
    /// Bytes in it; null if unknown.
    pub size: Option<u64>,
    /// How many blocks the file has.
    pub blocks: Option<u64>,
    /// How often the inode number was given out.
    pub generation: Option<u32>,
    /// Permission bits in octal.
    pub mode: Option<String>,
    /// Number of the owning user.
    pub uid: Option<u32>,
    /// Number of the owning group.
    pub gid: Option<u32>,
    /// Whether the file has the immutable flag.
    pub immutable: Option<bool>,
    /// Whether the file's blocks are placed at multiples of 1 GiB.
    pub align_1g: Option<bool>,
    /// Whether a repair could not prove that the file's size and blocks are those of the last commit.
    pub doubtful: Option<bool>,
    /// When the file was last read (RFC 3339).
    pub accessed: Option<String>,
    /// When the content was last changed (RFC 3339).
    pub modified: Option<String>,
    /// When the inode was last changed (RFC 3339).
    pub changed: Option<String>,
    /// When it was made (RFC 3339).
    pub created: Option<String>,
}

impl Inode {
    /// The inode of a store, which may not tell its size any more.
    pub fn new(store: &Store, found: &Found) -> Self {
        Self { size: store.known_size(found), blocks: store.known_blocks(found), ..found.into() }
    }
}

impl From<&Found> for Inode {
    fn from(found: &Found) -> Self {
        let (name, name_bytes) = text(&found.name);
        let attributes = found.attributes.as_ref();
        let when = |of: fn(&gmfs_format::model::Attributes) -> u64| attributes.and_then(|a| time::rfc3339(of(a)));
        Self {
            ino: found.ino.0,
            kind: found.kind.name().into(),
            parent: found.parent.0,
            name,
            name_bytes,
            size: Some(found.size),
            blocks: Some(found.blocks),
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct File {
    /// Its path.
    #[serde(flatten)]
    pub path: Path,
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// What kind of thing it is, in a word.
    pub kind: Word,
    /// Bytes in it; null if unknown.
    pub size: Option<u64>,
    /// How many blocks the file has.
    pub blocks: Option<u64>,
    /// Whether a repair could not prove that the file's size and blocks are those of the last commit.
    pub doubtful: bool,
    /// Runs of the file's blocks, in the order of the file.
    pub extents: Vec<Extent>,
    /// Processes that have the file mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped_by: Option<Vec<User>>,
}

impl File {
    /// The file of an inode, whose path is `None` if the root does not lead to it.
    pub fn new(store: &Store, path: Option<&[u8]>, found: &Found, extents: Vec<Extent>) -> Self {
        let (size, blocks) = (store.known_size(found), store.known_blocks(found));
        let (path, kind, doubtful) = (Path::new(path), found.kind.name(), found.is_doubtful());
        Self { path, ino: found.ino.0, kind: kind.into(), size, blocks, doubtful, extents, mapped_by: None }
    }

    /// The same with the processes that have it mapped, if that was asked for.
    pub fn used(self, mapped: Option<&ByFile>, found: &Found) -> Self {
        Self { mapped_by: mapped.map(|mapped| users(mapped, found.ino)), ..self }
    }
}

/// An entry of a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Entry {
    /// Its path.
    #[serde(flatten)]
    pub path: Path,
    /// What is recorded of it.
    #[serde(flatten)]
    pub inode: Inode,
    /// What somebody calls it besides its name: systemd, of the files in its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_as: Option<String>,
    /// Processes that have the file mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped_by: Option<Vec<User>>,
}

impl Entry {
    /// The entry of an inode at this path.
    pub fn new(path: &[u8], found: &Found) -> Self {
        Self { path: Path::new(Some(path)), inode: found.into(), known_as: None, mapped_by: None }
    }

    /// The entry of an inode of this store, which may not tell its size any more.
    pub fn of(store: &Store, path: &[u8], found: &Found) -> Self {
        let known_as = store.known_as(found.ino).map(str::to_owned);
        Self { inode: Inode::new(store, found), known_as, ..Self::new(path, found) }
    }

    /// The same with what somebody calls it.
    pub fn known(self, name: Option<&str>) -> Self {
        Self { known_as: name.map(str::to_owned), ..self }
    }

    /// The same with the processes that have it mapped, if that was asked for.
    pub fn used(self, mapped: Option<&ByFile>, found: &Found) -> Self {
        Self { mapped_by: mapped.map(|mapped| users(mapped, found.ino)), ..self }
    }
}

/// An inode that a listing leaves out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct NotShown {
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// Name of the file, the field or the problem.
    pub name: String,
    /// The name in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_bytes: Option<String>,
    /// Why, in a word or a sentence.
    pub reason: Word,
}

impl NotShown {
    /// The inodes that a walk left out.
    pub fn list(hidden: &[(&Found, Why)]) -> Vec<Self> {
        let one = |(found, why): &(&Found, Why)| {
            let (name, name_bytes) = text(&found.name);
            Self { ino: found.ino.0, name, name_bytes, reason: why.name().into() }
        };
        hidden.iter().map(one).collect()
    }
}

/// The answer of `ls` and `tree`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Listing {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Files and directories.
    pub entries: Vec<Entry>,
    /// How many pages of the table cannot be read: the list is incomplete if it is not 0.
    pub lost_pages: u64,
    /// Files and directories that are left out, each with the reason.
    pub not_shown: Vec<NotShown>,
}

impl Listing {
    /// The entries of a store, of whose inode table `lost_pages` cannot be read, and what the listing leaves out.
    pub fn new(store: &Store, entries: Vec<Entry>, lost_pages: u64, hidden: &[(&Found, Why)]) -> Self {
        Self {
            image: (&store.place).into(),
            store: store.into(),
            entries,
            lost_pages,
            not_shown: NotShown::list(hidden),
        }
    }
}

/// A file as `stat` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Status {
    /// The file.
    #[serde(flatten)]
    pub entry: Entry,
    /// What a kernel recorded of a file that it hands over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handed: Option<luo::Handed>,
    /// Runs of the file's blocks, in the order of the file.
    pub extents: Vec<Extent>,
    /// Parts of the file whose blocks are lost.
    pub lost: Vec<Hole>,
    /// How many pages of the table cannot be read: the list is incomplete if it is not 0.
    pub lost_pages: u64,
}

impl Status {
    /// A file of a store at this path, with its runs; `lost_pages` of the tables that say where they are cannot be read.
    pub fn new(store: &Store, path: &[u8], found: &Found, runs: &[Run], lost_pages: u64) -> Self {
        Self {
            entry: Entry::of(store, path, found),
            handed: luo::Handed::of(store, found.ino),
            extents: runs.iter().map(|run| Extent::new(run, store)).collect(),
            lost: Vec::new(),
            lost_pages,
        }
    }

    /// The same with the parts of it that are lost.
    pub fn lost(self, lost: &[Span]) -> Self {
        Self { lost: lost.iter().map(Hole::from).collect(), ..self }
    }

    /// The same with the processes that have it mapped, if that was asked for.
    pub fn used(self, mapped: Option<&ByFile>, found: &Found) -> Self {
        Self { entry: self.entry.used(mapped, found), ..self }
    }
}

/// The answer of `stat`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Stat {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Files and directories, each with where its blocks are or what was made of it.
    pub files: Vec<Status>,
}

/// The answer of `map`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Map {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// The file.
    #[serde(flatten)]
    pub file: File,
    /// Bytes in a block.
    pub block_size: u64,
    /// Physical address of the region; null if unknown.
    pub physical_base: Option<u64>,
    /// Parts of the file that have no blocks and read as zeros.
    pub holes: Vec<Hole>,
    /// Parts of the file whose blocks are lost.
    pub lost: Vec<Hole>,
    /// Arguments of the VMM that map the file as a guest's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
}

impl Map {
    /// Where a file of a store is: the file with its runs. `lost`: what no run covers is lost data, not a hole.
    pub fn new(store: &Store, path: Option<&[u8]>, found: &Found, runs: &[Run], lost: bool) -> Self {
        let extents = runs.iter().map(|run| Extent::new(run, store)).collect();
        let gaps = gaps(runs, found.size).into_iter();
        let gaps = gaps.map(|gap| Hole::from(&gap)).collect();
        let (holes, lost) = if lost { (Vec::new(), gaps) } else { (gaps, Vec::new()) };
        Self {
            image: (&store.place).into(),
            store: store.into(),
            file: File::new(store, path, found, extents),
            block_size: store.block_bytes(),
            physical_base: store.physical_base(),
            holes,
            lost,
            arguments: None,
        }
    }
}

/// A part of a file that no block holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Hole {
    /// Place in the file, in bytes from its start. In what `save` and `repair -o` make, the file is the region's.
    pub offset: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
}

impl From<&Span> for Hole {
    fn from(span: &Span) -> Self {
        Self { offset: span.offset, length: span.len }
    }
}

/// The owner of an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Owner {
    /// The address as it was asked for.
    pub asked: String,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: Option<u64>,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
    /// Number of a block in the region; of a run, its first.
    pub block: Option<u64>,
    /// What the address belongs to: file, metadata, free, bad, reserved, tail, lost, outside or unknown.
    pub what: Word,
    /// Its path.
    #[serde(flatten)]
    pub path: Path,
    /// Inode number; null if it belongs to no file.
    pub ino: Option<u32>,
    /// Place in the file, in bytes from its start. In what `save` and `repair -o` make, the file is the region's.
    pub offset: Option<u64>,
    /// Whether the address is past the end of the file, in its last block.
    pub beyond_end: bool,
    /// Copy of the metadata, A or B; null if the place is in neither.
    pub copy: Option<String>,
    /// Number of a metadata page, from 0, the superblock; of a run, of its first.
    pub page: Option<u64>,
    /// What a metadata page holds.
    pub page_kind: Option<String>,
}

impl Owner {
    /// The answer for an address that is not in the region.
    pub fn outside(asked: String) -> Self {
        Self {
            asked,
            address: None,
            physical: None,
            block: None,
            what: "outside".into(),
            path: Path::new(None),
            ino: None,
            offset: None,
            beyond_end: false,
            copy: None,
            page: None,
            page_kind: None,
        }
    }

    /// The answer for an address, as it was asked for.
    pub fn new(asked: String, whose: &Whose) -> Self {
        let metadata = whose.owner.metadata.as_ref();
        Self {
            asked,
            address: whose.address,
            physical: whose.physical,
            block: whose.block,
            what: whose.owner.what.name().into(),
            path: Path::new(whose.path.as_deref()),
            ino: whose.ino().and_then(ino),
            offset: whose.offset(),
            beyond_end: whose.is_past_end,
            copy: metadata.and_then(|metadata| metadata.copy).map(|copy| copy.to_string()),
            page: metadata.and_then(|metadata| metadata.page).map(|page| u64::from(page.0)),
            page_kind: metadata.and_then(|metadata| metadata.kind.clone()),
        }
    }

    /// The answer for a block of a store that is marked as bad, and the path of the file that has it.
    pub fn bad(marked: &Marked, store: &Store, path: Option<&[u8]>) -> Self {
        let at = u64::from(marked.block).saturating_mul(store.block_bytes());
        Self {
            what: "bad".into(),
            block: Some(marked.block.into()),
            address: Some(store.place.base.saturating_add(at)),
            physical: store.physical_base().map(|base| base.saturating_add(at)),
            ino: marked.file.and_then(|(file, _)| ino(file)),
            offset: marked.file.map(|(_, offset)| offset),
            path: Path::new(path),
            ..Self::outside(format!("block:{}", marked.block))
        }
    }
}

/// The answer of `who`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Who {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// An answer for each address that was asked for.
    pub addresses: Vec<Owner>,
}

/// An inode number, or none.
pub fn ino(ino: InodeNo) -> Option<u32> {
    Some(ino.0).filter(|number| *number != 0)
}
