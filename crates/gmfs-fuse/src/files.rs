//! What the kernel asks of a filesystem, answered from a store.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenAccMode,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, ReplyStatfs, Request,
};
use gmfs::content::{self, Each, Gap, Part, Why};
use gmfs::open::{Generations, ReadLock};
use gmfs::store::{Runs, Usage};
use gmfs::{Error, ImageSpec, Store};
use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};
use gmfs_format::name;
use gmfs_image::{FileError, Locking};
use gmfs_io::num::small;
use gmfs_io::{ReadAt as _, Span};

/// How long the kernel may believe attributes and names without asking again.
const BELIEVED: Duration = Duration::from_secs(1);
/// Bytes of the unit in which `stat` counts blocks.
const SECTOR: u64 = 512;
/// The longest name, which `statfs` tells.
const NAME_MAX: u32 = 255;

/// Why a request was answered with an error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// Bytes of a file are not known. One stretch is reported once.
    Unknown {
        /// The file's path.
        path: Vec<u8>,
        /// Which bytes of the file, from the first one that was asked for.
        span: Span,
        /// Why.
        why: Why,
    },
    /// A file has no content that can be read.
    Content {
        /// The file's path.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
    /// The region could not be locked.
    Lock(FileError),
    /// The store was changed, and cannot be read any more.
    Store(Error),
}

/// Is told of each request that was answered with an error.
pub type Report = Box<dyn Fn(&Trouble) + Send + Sync>;

/// The files of a store.
pub struct Files {
    state: Mutex<State>,
}

struct State {
    image: ImageSpec,
    /// How long to wait for a lock; `None` locks nothing.
    wait: Option<Duration>,
    report: Report,
    /// Who owns what has no owner.
    owner: (u32, u32),
    view: View,
    /// The last unknown stretch of each file that was reported.
    reported: HashMap<InodeNo, Range<u64>>,
}

/// What was read of a store's metadata.
struct View {
    store: Store,
    generations: Generations,
    tree: Tree,
    usage: Usage,
    /// Where all files are: read when the first file is.
    runs: Option<Runs>,
    pieces: HashMap<InodeNo, Arc<Vec<Piece>>>,
}

impl View {
    /// What `store` holds. It may be unlocked afterwards.
    fn read(store: Store) -> Self {
        let (generations, tree, usage) = (store.generations(), store.inodes().tree, store.usage());
        Self { store, generations, tree, usage, runs: None, pieces: HashMap::new() }
    }

    /// The pieces of a file, in order.
    fn pieces(&mut self, inode: &Inode) -> Result<Arc<Vec<Piece>>, Error> {
        if let Some(known) = self.pieces.get(&inode.ino) {
            return Ok(Arc::clone(known));
        }
        let runs = self.runs.get_or_insert_with(|| self.store.runs(|_| true));
        let pieces = Arc::new(self.store.content_of(inode, runs)?);
        self.pieces.insert(inode.ino, Arc::clone(&pieces));
        Ok(pieces)
    }
}

impl State {
    /// Locks the store for reading, and reads its metadata again if it was changed. What is locked stays so as long as
    /// the answer lives.
    fn locked(&mut self) -> Result<ReadLock, Errno> {
        let Some(wait) = self.wait else { return Ok(ReadLock::default()) };
        let locking = Locking { limit: wait, ..Locking::at_once() };
        let lock = self.image.lock_again(&self.view.store, &locking).map_err(|error| {
            let busy = matches!(error, FileError::Locked { .. });
            (self.report)(&Trouble::Lock(error));
            if busy { Errno::EBUSY } else { Errno::EIO }
        })?;
        if self.view.store.generations() != self.view.generations {
            let store = self.image.locate(Some(&locking), &()).and_then(Store::open);
            let store = store.map_err(|error| {
                (self.report)(&Trouble::Store(error));
                Errno::EIO
            })?;
            self.view = View::read(store);
            self.view.store.unlock();
            self.reported.clear();
        }
        Ok(lock)
    }

    /// The inode with a number of the kernel's.
    fn inode(&self, ino: INodeNo) -> Result<&Inode, Errno> {
        let ino = u32::try_from(ino.0).map_err(|_| Errno::ENOENT)?;
        self.view.tree.get(InodeNo(ino)).ok_or(Errno::ENOENT)
    }

    fn attributes(&self, inode: &Inode) -> FileAttr {
        let directory = inode.kind == Kind::Directory;
        let recorded = inode.attributes;
        let time = |pick: fn(&gmfs::model::Attributes) -> u64| -> SystemTime {
            let time = recorded.as_ref().map(pick).map(Duration::from_nanos);
            time.and_then(|time| UNIX_EPOCH.checked_add(time)).unwrap_or(UNIX_EPOCH)
        };
        let block = self.view.store.block_bytes();
        let (uid, gid) = recorded.map_or(self.owner, |recorded| (recorded.uid, recorded.gid));
        FileAttr {
            ino: INodeNo(u64::from(inode.ino.0)),
            size: inode.size,
            blocks: inode.blocks.saturating_mul(block.checked_div(SECTOR).unwrap_or(0)),
            atime: time(|recorded| recorded.accessed),
            mtime: time(|recorded| recorded.modified),
            ctime: time(|recorded| recorded.changed),
            crtime: time(|recorded| recorded.created),
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: recorded.map_or(if directory { 0o500 } else { 0o400 }, |recorded| recorded.mode & 0o7777),
            nlink: if directory { 2 } else { 1 },
            uid,
            gid,
            rdev: 0,
            flags: 0,
            blksize: u32::try_from(block).unwrap_or(u32::MAX),
        }
    }

    /// The entries of a directory that can have their names in a filesystem.
    fn entries(&self, directory: InodeNo) -> impl Iterator<Item = &Inode> {
        self.view
            .tree
            .children(directory)
            .filter(|inode| inode.ino != InodeNo::ROOT && name::check(&inode.name).is_ok())
    }

    fn lookup(&mut self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let _lock = self.locked()?;
        let parent = self.inode(parent)?;
        if parent.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let name = name.as_bytes();
        let found = self.view.tree.lookup(parent.ino, name).filter(|_| name::check(name).is_ok());
        found.map(|inode| self.attributes(inode)).ok_or(Errno::ENOENT)
    }

    fn attributes_of(&mut self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let _lock = self.locked()?;
        Ok(self.attributes(self.inode(ino)?))
    }

    /// Whether a file has content that can be read.
    fn open(&mut self, ino: INodeNo) -> Result<(), Errno> {
        let _lock = self.locked()?;
        let inode = self.inode(ino)?;
        if inode.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        let fault = self.view.store.content_fault(inode.ino);
        let fault = fault.or_else(|| (inode.kind != Kind::File).then(|| format!("it is {}", inode.kind.name())));
        let Some(why) = fault else { return Ok(()) };
        let path = self.view.tree.path(inode.ino).unwrap_or_default();
        (self.report)(&Trouble::Content { path, why });
        Err(Errno::EIO)
    }

    fn read(&mut self, ino: INodeNo, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let _lock = self.locked()?;
        let inode = self.inode(ino)?.clone();
        let range = offset..offset.saturating_add(u64::from(size)).min(inode.size);
        if range.start >= range.end {
            return Ok(Vec::new());
        }
        let pieces = self.view.pieces(&inode).map_err(|error| {
            let path = self.view.tree.path(inode.ino).unwrap_or_default();
            (self.report)(&Trouble::Content { path, why: error.to_string() });
            Errno::EIO
        })?;
        let first = pieces.partition_point(|piece| piece.file().end() <= range.start);
        let pieces = pieces.iter().skip(first).take_while(|piece| piece.file().offset < range.end);
        let pieces: Vec<Piece> = pieces.filter_map(|piece| piece.clip(&range)).collect();
        if let Some(bytes) = self.whole(&pieces, &range) {
            return Ok(bytes);
        }
        let gap = self.first_gap(&pieces);
        // What cannot be found again has no gap; the kernel asks again.
        if let Some(gap) = gap {
            self.tell(&inode, gap);
        }
        Err(Errno::EIO)
    }

    /// The bytes of a range, unless one of them is unknown. A short answer would be filled up with zeros by the kernel.
    fn whole(&self, pieces: &[Piece], range: &Range<u64>) -> Option<Vec<u8>> {
        let mut bytes = vec![0; small(range.end.saturating_sub(range.start))];
        let mut rest = bytes.as_mut_slice();
        for piece in pieces {
            let (now, later) = rest.split_at_mut_checked(small(piece.file().len))?;
            match *piece {
                Piece::Hole { .. } => {}
                Piece::Data { at, bad: false, .. } => self.view.store.source().read_at(at, now).ok()?,
                Piece::Data { .. } | Piece::Lost { .. } => return None,
            }
            rest = later;
        }
        rest.is_empty().then_some(bytes)
    }

    /// The first unknown stretch in pieces of a file.
    fn first_gap(&self, pieces: &[Piece]) -> Option<Gap> {
        let mut first = None;
        let mut sink = Each(|part: Part<'_>| match part {
            Part::Gap(gap) => {
                first = Some(gap);
                Err(())
            }
            _ => Ok(()),
        });
        let _ = content::read(self.view.store.source(), pieces, &mut sink);
        first
    }

    /// Reports an unknown stretch, unless it continues the last one.
    fn tell(&mut self, inode: &Inode, gap: Gap) {
        let span = gap.span;
        match self.reported.get_mut(&inode.ino) {
            Some(known) if span.offset >= known.start && span.offset <= known.end => {
                known.end = known.end.max(span.end());
            }
            _ => {
                self.reported.insert(inode.ino, span.offset..span.end());
                let path = self.view.tree.path(inode.ino).unwrap_or_default();
                (self.report)(&Trouble::Unknown { path, span, why: gap.why });
            }
        }
    }
}

impl Files {
    /// The files of a store that was opened from `image`. It is unlocked. `wait`: how long a request waits for the lock; `None`
    /// locks nothing. `owner`: user and group of what has no owner recorded.
    #[must_use]
    pub fn new(image: ImageSpec, store: Store, wait: Option<Duration>, owner: (u32, u32), report: Report) -> Self {
        let view = View::read(store);
        view.store.unlock();
        Self { state: Mutex::new(State { image, wait, report, owner, view, reported: HashMap::new() }) }
    }

    fn with<T>(&self, answer: impl FnOnce(&mut State) -> T) -> T {
        // A request that panicked has not left anything half done: what is kept is only read.
        answer(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.with(|state| state.lookup(parent, name)) {
            Ok(attributes) => reply.entry(&BELIEVED, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|state| state.attributes_of(ino)) {
            Ok(attributes) => reply.attr(&BELIEVED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        match self.with(|state| state.open(ino)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(|state| state.read(ino, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.with(|state| {
            let _lock = state.locked()?;
            let directory = state.inode(ino)?;
            let number = |ino: InodeNo| INodeNo(u64::from(ino.0));
            let parent = number(directory.parent);
            let dots = [(ino, FileType::Directory, &b"."[..]), (parent, FileType::Directory, &b".."[..])];
            let below = state.entries(directory.ino).map(|inode| {
                let directory = inode.kind == Kind::Directory;
                (number(inode.ino), if directory { FileType::Directory } else { FileType::RegularFile }, &*inode.name)
            });
            for (next, (ino, kind, name)) in (1..).zip(dots.into_iter().chain(below)).skip(small(offset)) {
                if reply.add(ino, next, kind, OsStr::from_bytes(name)) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let told = self.with(|state| {
            let _lock = state.locked()?;
            let (store, usage) = (&state.view.store, state.view.usage);
            Ok((store.size(), store.block_bytes(), usage))
        });
        match told {
            Ok((size, block, usage)) => {
                let blocks = size.checked_div(block).unwrap_or(0);
                let unit = u32::try_from(block).unwrap_or(u32::MAX);
                let inodes = usage.inodes.saturating_sub(usage.inodes_used);
                reply.statfs(blocks, usage.free, usage.free, usage.inodes, inodes, unit, NAME_MAX, unit);
            }
            Err(error) => reply.error(error),
        }
    }
}
