//! A region opened for changing: each operation is one commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use gmfs_format::model::{Inode, Kind, Tree};
use gmfs_format::name::NameError;
use gmfs_format::native::extents::Extent;
use gmfs_format::native::raw::{BlockRaw, InodeRaw, InodeTablePage};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::{INODE_IMMUTABLE, INODE_LOST_DATA};
use gmfs_format::native::units::{InodeNo, PageNo, to_usize};
use gmfs_io::{ReadAt, ReadError, WriteAt, WriteError};

use crate::alloc::{BlockMap, single};
use crate::change::{Assign, BlocksMoved, Change};
use crate::commit::{Stamp, Store};
use crate::owner_pages::OwnerPages;
use crate::recover::{Recovered, Recovery, Survey, open_whole};
use crate::region::{Mapping, Region, page_descriptors};
use crate::superblocks::{OpenError, Superblocks};
use crate::sweep::{Frame, Visit, sweep};
use crate::used::Watched;

mod attributes;
mod bad;
mod copy;
mod create;
mod piecewise;
mod put;
mod rename;
mod resize;
mod seal;

pub use attributes::NewAttributes;
pub use copy::CopyOptions;
pub use create::CreateOptions;
pub use piecewise::Replace;
pub use put::PutOptions;
pub use seal::{SealOptions, Sealed};

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The path does not exist.
    #[error("there is no '{0}' in the region")]
    NotFound(String),
    /// The path exists already.
    #[error("'{0}' exists already")]
    Exists(String),
    /// A directory was expected.
    #[error("'{0}' is not a directory")]
    NotDirectory(String),
    /// A file was expected.
    #[error("'{0}' is a directory")]
    IsDirectory(String),
    /// The directory has entries.
    #[error("the directory '{0}' is not empty")]
    NotEmpty(String),
    /// The root cannot be removed, moved or replaced.
    #[error("this cannot be done to the root directory")]
    Root,
    /// A directory cannot be moved into itself.
    #[error("'{0}' cannot be moved into itself")]
    IntoItself(String),
    /// A file cannot be copied onto itself.
    #[error("'{0}' and '{1}' are the same file")]
    SameFile(String, String),
    /// A part of the content is in a block with a hardware error, and is not read.
    #[error("bytes {bytes} of '{path}' are in a block with a hardware error")]
    HardwareError {
        /// The file, escaped.
        path: String,
        /// Which bytes of it.
        bytes: gmfs_io::Span,
    },
    /// The inode has the immutable flag.
    #[error("'{0}' is immutable")]
    Immutable(String),
    /// A part of the path is not a valid name.
    #[error("'{path}' is no path for a file: {source}")]
    Name {
        /// The path as it was given, escaped.
        path: String,
        /// What is wrong with the part.
        source: NameError,
    },
    /// There are too few free blocks.
    #[error("no space: {needed} more blocks are needed, {free} are free")]
    NoSpace {
        /// How many blocks were asked for.
        needed: u64,
        /// How many blocks are free.
        free: u64,
    },
    /// The blocks that would be freed or overwritten are in use.
    #[error("{path} is mapped by {by}")]
    InUse {
        /// The file that they belong to, escaped.
        path: String,
        /// Who uses them.
        by: String,
    },
    /// There are too few free blocks that are not in use.
    #[error(
        "no space: {needed} more blocks are needed, {free} are free; {used} more belong to no file, but are mapped by {by}"
    )]
    SpaceInUse {
        /// How many blocks were asked for.
        needed: u64,
        /// How many blocks can be allocated.
        free: u64,
        /// How many blocks are free but in use.
        used: u64,
        /// One of their users.
        by: String,
    },
    /// There are enough blocks, but not at multiples of 1 GiB.
    #[error("no space: {needed} blocks aligned to 1 GiB are needed; {free} blocks are free but do not lie so")]
    NoAlignedSpace {
        /// How many blocks were asked for.
        needed: u64,
        /// How many blocks are free.
        free: u64,
    },
    /// Every inode is in use.
    #[error("all {0} inodes are in use")]
    NoInodes(u32),
    /// The file has more blocks than a file block number can count.
    #[error("a file of {0} bytes has more blocks than the format can number (2^32 - 1)")]
    TooLarge(u64),
    /// The text cannot be a label.
    #[error(transparent)]
    Label(#[from] gmfs_format::native::superblock::LabelError),
    /// The file's mapping contradicts itself.
    #[error("the file's mapping is damaged: check the region")]
    Mapping(#[from] crate::content::ContentError),
    /// The block holds metadata, or is past the end of the region.
    #[error("block {0} is no data block")]
    NotData(gmfs_format::native::units::BlockNo),
    /// A metadata page has changed since the region was opened.
    #[error("metadata page {page} is damaged: check the region")]
    Damaged {
        /// Which page.
        page: PageNo,
    },
    /// An earlier commit failed half way.
    #[error("an earlier change could not be finished; the next program that opens the region puts it right")]
    Unfinished,
    /// The caller stopped the change.
    #[error("it was stopped before its end, and nothing of it was done")]
    Stopped,
    /// The source of the content could not be read.
    #[error("cannot read the content")]
    Content(#[source] std::io::Error),
    /// The region could not be read.
    #[error("cannot read the region")]
    Read(#[from] ReadError),
    /// The region could not be written.
    #[error("cannot write the region")]
    Write(#[from] WriteError),
}

/// The options of a writer.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Name and version of the program, for the superblock.
    pub writer: String,
    /// The region's physical base, if known. Alignment to 1 GiB is relative to it.
    pub base: Option<u64>,
    /// The clock: nanoseconds since the epoch.
    pub clock: fn() -> u64,
}

/// A region opened for changing.
///
/// Opening recovers what a crash left. Call [`close`](Self::close) at the end. A region that was changed and not closed
/// counts as interrupted, and the next opening recovers it.
#[derive(Debug)]
pub struct Writer<S> {
    store: Store<S>,
    tree: Tree,
    pub(crate) blocks: BlockMap,
    /// Inodes that must not be allocated: those in use, and those that a descriptor still names.
    taken: Vec<bool>,
    /// Inodes that reserved blocks or contradictory descriptors name. Whatever happens to files, these inodes remain
    /// named.
    named: Vec<bool>,
    /// Where the descriptors of each file are.
    owners: Arc<OwnerPages>,
    /// Every inode below this index is taken.
    lowest_free: usize,
    options: WriterOptions,
    pub(crate) watched: Watched,
    /// The total of all commits so far.
    moved: BlocksMoved,
    /// How many blocks have a seal, if that has been counted since the last commit that may have changed it.
    sealed: Option<u64>,
}

/// What the opening pass collects from the block table.
struct TableSurvey {
    survey: Survey,
    blocks: BlockMap,
    taken: Vec<bool>,
    named: Vec<bool>,
    owners: OwnerPages,
    superblock: Superblock,
}

impl Visit for TableSurvey {
    fn visit(&mut self, frame: &Frame<'_>) {
        self.survey.visit(frame);
        let Some(bytes) = frame.taken() else { return };
        let descriptors = || page_descriptors(self.superblock.geometry(), frame.page, bytes);
        self.owners.add_page(frame.page, descriptors());
        for (block, entry) in descriptors() {
            if *entry != BlockRaw::FREE {
                self.blocks.take(single(block.0));
                mark(&mut self.taken, entry.owner());
                if !entry.is_mapping() {
                    mark(&mut self.named, entry.owner());
                }
            }
        }
    }
}

/// Marks an inode in a table of all inodes. Numbers that the table does not have are ignored.
fn mark(table: &mut [bool], ino: InodeNo) {
    if let Some(place) = ino.position().and_then(|position| table.get_mut(position)) {
        *place = true;
    }
}

/// What the opening pass collects.
struct Opened {
    survey: Survey,
    tree: Tree,
    blocks: BlockMap,
    taken: Vec<bool>,
    named: Vec<bool>,
    owners: OwnerPages,
}

impl AsMut<Survey> for Opened {
    fn as_mut(&mut self) -> &mut Survey {
        &mut self.survey
    }
}

/// Reads both tables.
fn gather<S: ReadAt>(source: &S, superblocks: &Superblocks) -> Opened {
    let superblock = superblocks.current().clone();
    let geometry = superblock.geometry();
    let inodes = to_usize(geometry.inodes());
    let mut tree = Tree::default();
    let mut taken = vec![false; inodes];
    let mut survey = Survey::default();
    let visit = |frame: &Frame<'_>| {
        survey.visit(frame);
        let Some(bytes) = frame.taken() else { return };
        let first = geometry.first_inode_of(frame.page).0;
        for (number, raw) in (first..).zip(&InodeTablePage::view(bytes).inodes) {
            if raw.in_use() {
                mark(&mut taken, InodeNo(number));
            }
            if let Some(inode) = Inode::from_raw(InodeNo(number), raw) {
                tree.insert(inode);
            }
        }
    };
    sweep(source, superblocks, superblock.used_inode_pages(), vec![visit]);
    let pages = superblock.used_table_pages();
    let empty = |survey, taken| TableSurvey {
        survey,
        blocks: BlockMap::new(geometry),
        taken,
        named: vec![false; inodes],
        owners: OwnerPages::new(geometry.inodes()),
        superblock: superblock.clone(),
    };
    let table = empty(survey, taken);
    // The sweep returns the one visitor that it was given.
    let swept = sweep(source, superblocks, pages, vec![table]).pop();
    let TableSurvey { survey, blocks, taken, named, owners, .. } =
        swept.unwrap_or_else(|| empty(Survey::default(), vec![true; inodes]));
    Opened { survey, tree, blocks, taken, named, owners }
}

impl<S: WriteAt> Writer<S> {
    /// Opens the region that fills `source`, and recovers it.
    ///
    /// # Errors
    /// There is no region; its features forbid writing; or it is damaged and needs a repair. Nothing is written then.
    pub fn open(mut source: S, options: WriterOptions) -> Result<(Self, Recovery), OpenError> {
        let (mut superblocks, gathered) = open_whole(&source, |superblocks| gather(&source, superblocks))?;
        let Opened { survey, tree, blocks, taken, named, owners } = gathered;
        let owners = Arc::new(owners);
        let Recovered { recovery, highest, ages } = survey.recover(&mut source, &mut superblocks)?;
        let store = Store::new(source, superblocks, highest, ages);
        let watched = Watched::default();
        let moved = BlocksMoved::default();
        Ok((
            Self { store, tree, blocks, taken, named, owners, lowest_free: 0, options, watched, moved, sealed: None },
            recovery,
        ))
    }

    /// Ends the session: the region is marked as clean.
    ///
    /// # Errors
    /// The medium failed, or an earlier change was not finished.
    pub fn close(mut self) -> Result<S, ChangeError> {
        self.store.close()?;
        Ok(self.store.into_source())
    }

    /// The superblock after the last commit.
    pub const fn superblock(&self) -> &Superblock {
        self.store.superblock()
    }

    /// The region's files.
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The region after the last commit, for reading.
    pub fn region(&self) -> Region<&S, &Superblocks> {
        Region::with(self.store.source(), self.store.superblocks()).knowing(Arc::clone(&self.owners))
    }

    /// How many blocks are free, including those that are not allocated because they are in use.
    pub fn free_blocks(&self) -> u64 {
        self.blocks.free().saturating_add(self.watched.withheld())
    }

    /// How many blocks the changes so far have given to files and taken from them.
    pub const fn blocks_moved(&self) -> BlocksMoved {
        self.moved
    }

    /// The inode at a path.
    fn at(&self, path: &[u8]) -> Result<&Inode, ChangeError> {
        let found = self.tree.resolve(path).ok_or_else(|| ChangeError::NotFound(shown(path)))?;
        require_kind(path, found.kind)?;
        Ok(found)
    }

    /// The directory and the name that a new entry at `path` would have.
    fn parent_of<'p>(&self, path: &'p [u8]) -> Result<(InodeNo, &'p [u8]), ChangeError> {
        let mut trimmed = path;
        while let Some(shorter) = trimmed.strip_suffix(b"/") {
            trimmed = shorter;
        }
        let slash = trimmed.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = match slash.and_then(|slash| trimmed.split_at_checked(slash)) {
            Some((directory, rest)) => (directory, rest.strip_prefix(b"/").unwrap_or(rest)),
            None => (&b""[..], trimmed),
        };
        if name.is_empty() {
            return Err(ChangeError::Root);
        }
        gmfs_format::name::check(name).map_err(|source| ChangeError::Name { path: shown(path), source })?;
        let parent = self.at(directory)?;
        if parent.kind != Kind::Directory {
            return Err(ChangeError::NotDirectory(shown(directory)));
        }
        Ok((parent.ino, name))
    }

    /// The lowest inode that can be allocated, with its present record.
    fn free_inode(&mut self) -> Result<InodeNo, ChangeError> {
        let mut free = self.taken.iter().enumerate().skip(self.lowest_free).filter(|(_, taken)| !**taken);
        let none = ChangeError::NoInodes(self.superblock().geometry().inodes());
        let Some((position, _)) = free.next() else { return Err(none) };
        self.lowest_free = position;
        InodeNo::at_position(position).ok_or(none)
    }

    /// The present record of an inode.
    fn inode_raw(&self, ino: InodeNo) -> Result<InodeRaw, ChangeError> {
        let damaged = ChangeError::Damaged { page: PageNo(0) };
        let (page, slot) = self.superblock().geometry().inode_place(ino).ok_or(damaged)?;
        let bytes = self.store.page(page)?;
        InodeTablePage::view(&bytes).inodes.get(slot).copied().ok_or(ChangeError::Damaged { page })
    }

    /// The blocks of a file. They are checked to be complete and without contradiction.
    fn mapping(&self, inode: &Inode) -> Result<Mapping, ChangeError> {
        let mapping = self.region().mapping(inode.ino);
        require_complete(inode, &mapping)?;
        Ok(mapping)
    }

    /// Like [`mapping`](Self::mapping), for several files in one pass over the block table.
    fn mappings<'a>(&self, files: impl Iterator<Item = &'a Inode>) -> Result<Vec<Mapping>, ChangeError> {
        let files: BTreeMap<InodeNo, &Inode> = files.map(|file| (file.ino, file)).collect();
        let mut found = self.region().mappings(|ino| files.contains_key(&ino));
        let mapping = |(ino, inode): (&InodeNo, &&Inode)| {
            let extents = found.files.remove(ino).unwrap_or_default();
            let mapping = Mapping { extents, lost_pages: found.lost_pages };
            require_complete(inode, &mapping).map(|()| mapping)
        };
        files.iter().map(mapping).collect()
    }

    /// Updates the record of a directory whose entries have changed.
    fn touch_directory(&self, change: &mut Change, directory: InodeNo, now: u64) -> Result<(), ChangeError> {
        let mut raw = match change.inode(directory) {
            Some(raw) => *raw,
            None => self.inode_raw(directory)?,
        };
        raw.modified = now.into();
        raw.changed = now.into();
        change.set_inode(directory, raw);
        Ok(())
    }

    /// Refuses to change an inode with the immutable flag.
    fn require_mutable(&self, inode: &Inode) -> Result<(), ChangeError> {
        let flags = inode.attributes.map_or(0, |attributes| attributes.flags);
        if flags & INODE_IMMUTABLE == 0 {
            return Ok(());
        }
        Err(ChangeError::Immutable(shown(&self.tree.path(inode.ino).unwrap_or_default())))
    }

    /// Refuses to change the entries of a directory with the immutable flag.
    fn require_mutable_directory(&self, directory: InodeNo) -> Result<(), ChangeError> {
        match self.tree.get(directory) {
            Some(inode) => self.require_mutable(inode),
            None => Ok(()),
        }
    }

    /// Carries out a change and updates what is kept in memory.
    fn commit(&mut self, change: &Change, now: u64) -> Result<(), ChangeError> {
        let stamp = Stamp { now, writer: self.options.writer.clone() };
        self.sealed = None;
        // Before the commit: if it fails half way, the blocks may be the file's.
        change.add_owners(self.store.superblock().geometry(), Arc::make_mut(&mut self.owners));
        self.store.commit(change, &stamp)?;
        let moved = change.blocks_moved();
        self.moved.taken = self.moved.taken.saturating_add(moved.taken);
        self.moved.freed = self.moved.freed.saturating_add(moved.freed);
        for (ino, raw) in change.inodes() {
            self.tree.remove(ino);
            if let Some(position) = ino.position() {
                let named = self.named.get(position).is_some_and(|named| *named);
                if let Some(taken) = self.taken.get_mut(position) {
                    *taken = raw.in_use() || named;
                }
                self.lowest_free = self.lowest_free.min(position);
            }
            if let Some(inode) = Inode::from_raw(ino, raw) {
                self.tree.insert(inode);
            }
        }
        Ok(())
    }

    /// The time at which an operation begins. It fails after a commit that failed half way, because blocks that look
    /// free may belong to a file by that commit.
    fn begin(&self) -> Result<u64, ChangeError> {
        self.store.require_finished()?;
        Ok((self.options.clock)())
    }

    /// The physical base that alignment is relative to: from the options, or as recorded when the region was made.
    fn base(&self) -> u64 {
        self.options.base.unwrap_or_else(|| self.superblock().raw.base.get())
    }
}

/// Refuses a mapping that contradicts itself, or that lacks blocks although the file does not record lost data.
fn require_complete(inode: &Inode, mapping: &Mapping) -> Result<(), ChangeError> {
    crate::content::require_distinct(mapping)?;
    let lost = inode.attributes.is_some_and(|attributes| attributes.flags & INODE_LOST_DATA != 0);
    if !lost && mapping.blocks() != inode.blocks {
        let whole = gmfs_io::Span::new(0, inode.size);
        return Err(crate::content::ContentError::lost(inode, mapping, whole).into());
    }
    Ok(())
}

/// The runs of blocks from file block `from` on.
fn blocks_from(extents: &[Extent], from: u32) -> Vec<std::ops::Range<u32>> {
    let behind = |extent: &Extent| {
        let first = extent.block_at(extent.index.max(from))?;
        Some(first.0..extent.end_block().0)
    };
    extents.iter().filter_map(behind).collect()
}

/// Adds the release of these blocks to a change.
fn release_all(change: &mut Change, runs: &[std::ops::Range<u32>]) {
    for run in runs {
        change.assign(run.clone(), Assign::Release);
    }
}

/// Refuses a path that ends with a slash if it does not name a directory.
fn require_kind(path: &[u8], kind: Kind) -> Result<(), ChangeError> {
    if path.ends_with(b"/") && kind != Kind::Directory {
        return Err(ChangeError::NotDirectory(shown(path)));
    }
    Ok(())
}

/// A path for messages.
pub(crate) fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { gmfs_format::name::escape(path) }
}
