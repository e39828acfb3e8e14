//! What is known of a store, and how requests that read are answered.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo};
use gmfs::content::{self, Each, Gap, Part};
use gmfs::open::ReadLock;
use gmfs::{ImageSpec, Store};
use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};
use gmfs_format::name;
use gmfs_image::{FileError, Locking};
use gmfs_io::ReadAt as _;
use gmfs_io::num::small;

use crate::changing::Changing;
use crate::trouble::{Report, Trouble};
use crate::view::View;

/// Bytes of the unit in which `stat` counts blocks.
const SECTOR: u64 = 512;

pub(crate) struct State {
    pub(crate) image: ImageSpec,
    /// How long to wait for a lock; `None` locks nothing.
    pub(crate) wait: Option<Duration>,
    pub(crate) report: Report,
    /// Who owns what has no owner.
    pub(crate) owner: (u32, u32),
    pub(crate) view: View,
    /// The last unknown stretch of each file that was reported.
    reported: HashMap<InodeNo, Range<u64>>,
    handles: HashMap<u64, Handle>,
    next_handle: u64,
    /// What changes the region; `None` if it is only read.
    pub(crate) changing: Option<Changing>,
}

/// What a program has open.
pub(crate) enum Handle {
    /// A file, and which life of its inode.
    File(InodeNo, u32),
    /// A directory, with its entries as they were when reading them began.
    Directory(Arc<Vec<Listed>>),
}

/// An entry of a directory.
pub(crate) struct Listed {
    pub(crate) ino: INodeNo,
    pub(crate) kind: FileType,
    pub(crate) name: Box<[u8]>,
}

/// The generation of an inode: it is another one when the number is used again.
pub(crate) fn generation(inode: &Inode) -> u32 {
    inode.attributes.map_or(0, |attributes| attributes.generation)
}

/// The kernel's number of an inode.
pub(crate) fn number(ino: InodeNo) -> INodeNo {
    INodeNo(u64::from(ino.0))
}

impl State {
    pub(crate) fn new(image: ImageSpec, view: View, wait: Option<Duration>, owner: (u32, u32), report: Report) -> Self {
        Self {
            image,
            wait,
            report,
            owner,
            view,
            reported: HashMap::new(),
            handles: HashMap::new(),
            next_handle: 1,
            changing: None,
        }
    }

    /// Locks the store for reading, and reads its metadata again if it was changed. What is locked stays so as long as
    /// the answer lives.
    pub(crate) fn locked(&mut self) -> Result<ReadLock, Errno> {
        let Some(wait) = self.wait else { return Ok(ReadLock::default()) };
        let locking = Locking { limit: wait, ..Locking::at_once() };
        let lock = self.image.lock_again(&self.view.store, &locking).map_err(|error| self.not_locked(error))?;
        if !self.view.is_current() {
            self.refresh(Some(&locking))?;
        }
        Ok(lock)
    }

    /// Reports that the region cannot be locked.
    pub(crate) fn not_locked(&self, error: FileError) -> Errno {
        let busy = matches!(error, FileError::Locked { .. });
        (self.report)(&Trouble::Lock(error));
        if busy { Errno::EBUSY } else { Errno::EIO }
    }

    /// Reads the metadata again. Without `locking` it is locked already.
    pub(crate) fn refresh(&mut self, locking: Option<&Locking<'_>>) -> Result<(), Errno> {
        let store = self.image.locate(locking, &()).and_then(Store::open);
        let store = store.map_err(|error| {
            (self.report)(&Trouble::Store(error));
            Errno::EIO
        })?;
        self.view = View::read(store);
        self.view.store.unlock();
        self.reported.clear();
        if let Some(changing) = &mut self.changing {
            changing.follow(&self.view, &self.report);
        }
        Ok(())
    }

    /// The inode with a number of the kernel's, with the size that it has in this mount.
    pub(crate) fn inode(&self, ino: INodeNo) -> Result<Inode, Errno> {
        let ino = u32::try_from(ino.0).map_err(|_| Errno::ENOENT)?;
        self.by_number(InodeNo(ino))
    }

    fn by_number(&self, ino: InodeNo) -> Result<Inode, Errno> {
        let mut inode = self.view.tree.get(ino).cloned().ok_or(Errno::ENOENT)?;
        if let Some(changing) = &self.changing {
            changing.complete(&mut inode);
        }
        Ok(inode)
    }

    /// The file that is open as `handle`: it must not have been removed by somebody else since.
    pub(crate) fn opened(&self, handle: u64) -> Result<Inode, Errno> {
        let Some(Handle::File(ino, opened)) = self.handles.get(&handle) else { return Err(Errno::EBADF) };
        let inode = self.by_number(*ino).map_err(|_| Errno::ESTALE)?;
        if generation(&inode) == *opened { Ok(inode) } else { Err(Errno::ESTALE) }
    }

    /// The inode of a file that is open as `handle`.
    pub(crate) fn file_of(&self, handle: u64) -> Option<InodeNo> {
        match self.handles.get(&handle)? {
            Handle::File(ino, _) => Some(*ino),
            Handle::Directory(_) => None,
        }
    }

    /// What a program gets that opens something.
    pub(crate) fn hold(&mut self, handle: Handle) -> u64 {
        let number = self.next_handle;
        self.next_handle = self.next_handle.wrapping_add(1).max(1);
        self.handles.insert(number, handle);
        number
    }

    /// Ends a handle. Gives the file that was open by it, if it is not open any more.
    pub(crate) fn let_go(&mut self, handle: u64) -> Option<InodeNo> {
        match self.handles.remove(&handle)? {
            Handle::File(ino, _) => (!self.is_open(ino)).then_some(ino),
            Handle::Directory(_) => None,
        }
    }

    /// Whether a program has a file open.
    pub(crate) fn is_open(&self, ino: InodeNo) -> bool {
        self.handles.values().any(|handle| matches!(handle, Handle::File(open, _) if *open == ino))
    }

    /// Whether an inode was removed, and is there only because a program has it open.
    pub(crate) fn is_removed(&self, ino: InodeNo) -> bool {
        self.changing.as_ref().is_some_and(|changing| changing.is_removed(ino))
    }

    pub(crate) fn attributes(&self, inode: &Inode) -> FileAttr {
        let directory = inode.kind == Kind::Directory;
        let recorded = inode.attributes;
        let time = |pick: fn(&gmfs::model::Attributes) -> u64| -> SystemTime {
            let time = recorded.as_ref().map(pick).map(Duration::from_nanos);
            time.and_then(|time| UNIX_EPOCH.checked_add(time)).unwrap_or(UNIX_EPOCH)
        };
        let block = self.view.store.block_bytes();
        let (uid, gid) = recorded.map_or(self.owner, |recorded| (recorded.uid, recorded.gid));
        let links = match inode.kind {
            Kind::Directory => 2,
            _ if self.is_removed(inode.ino) => 0,
            _ => 1,
        };
        FileAttr {
            ino: number(inode.ino),
            size: inode.size,
            blocks: inode.blocks.saturating_mul(block.checked_div(SECTOR).unwrap_or(0)),
            atime: time(|recorded| recorded.accessed),
            mtime: time(|recorded| recorded.modified),
            ctime: time(|recorded| recorded.changed),
            crtime: time(|recorded| recorded.created),
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: recorded.map_or(if directory { 0o500 } else { 0o400 }, |recorded| recorded.mode & 0o7777),
            nlink: links,
            uid,
            gid,
            rdev: 0,
            flags: 0,
            blksize: u32::try_from(block).unwrap_or(u32::MAX),
        }
    }

    /// The entry with a name in a directory, of those that can have their names in a filesystem.
    pub(crate) fn entry(&self, parent: INodeNo, name: &OsStr) -> Result<Inode, Errno> {
        let parent = self.inode(parent)?;
        if parent.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let name = name.as_bytes();
        match name::check(name) {
            Err(name::NameError::TooLong(_)) => return Err(Errno::ENAMETOOLONG),
            Err(_) => return Err(Errno::ENOENT),
            Ok(()) => {}
        }
        let tree = &self.view.tree;
        let found = tree.lookup(parent.ino, name).or_else(|| {
            // A name that stands for one that no file outside can have has one of these bytes.
            let may_stand = name.iter().any(|byte| matches!(byte, 0xc0 | b'\\' | b'~'));
            let mut named = tree.children(parent.ino).filter(|_| may_stand).filter(|inode| inode.name.contains(&0));
            named.find(|inode| mounted_name(tree, inode).as_deref() == Some(name))
        });
        let found = found.map(|inode| inode.ino);
        self.by_number(found.filter(|ino| !self.is_removed(*ino)).ok_or(Errno::ENOENT)?)
    }

    pub(crate) fn lookup(&mut self, parent: INodeNo, name: &OsStr) -> Result<(FileAttr, u32), Errno> {
        let _lock = self.locked()?;
        let inode = self.entry(parent, name)?;
        Ok((self.attributes(&inode), generation(&inode)))
    }

    pub(crate) fn attributes_of(&mut self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let _lock = self.locked()?;
        Ok(self.attributes(&self.inode(ino)?))
    }

    /// Opens a file, if it has content that can be read.
    pub(crate) fn open(&mut self, ino: INodeNo, to_write: bool) -> Result<u64, Errno> {
        let _lock = self.locked()?;
        let inode = self.inode(ino)?;
        if inode.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        if to_write {
            self.changing.as_ref().ok_or(Errno::EROFS)?;
            crate::changing::require_mutable(&inode)?;
        }
        let fault = self.view.store.content_fault(inode.ino);
        let fault = fault.or_else(|| (inode.kind != Kind::File).then(|| format!("it is {}", inode.kind.name())));
        let Some(why) = fault else { return Ok(self.hold(Handle::File(inode.ino, generation(&inode)))) };
        let path = self.path(inode.ino);
        (self.report)(&Trouble::Content { path, why });
        Err(Errno::EIO)
    }

    /// Reads a part of a file that is open into a buffer, which grows if need be. Gives the length of what was read.
    pub(crate) fn read(&mut self, handle: u64, offset: u64, size: u32, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        let _lock = self.locked()?;
        let inode = self.opened(handle)?;
        let range = offset..offset.saturating_add(u64::from(size)).min(inode.size);
        if range.start >= range.end {
            return Ok(0);
        }
        let pieces = self.pieces(&inode, &range)?;
        let len = small(range.end.saturating_sub(range.start));
        // It grows to the largest request, and is not zeroed for each.
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        if buffer.get_mut(..len).is_some_and(|bytes| self.is_read(&pieces, bytes)) {
            return Ok(len);
        }
        // What cannot be found again has no gap; the kernel asks again.
        if let Some(gap) = self.first_gap(&pieces) {
            self.tell(&inode, gap);
        }
        Err(Errno::EIO)
    }

    /// The pieces of a file in a range that is inside it.
    pub(crate) fn pieces(&mut self, inode: &Inode, range: &Range<u64>) -> Result<Vec<Piece>, Errno> {
        let pieces = self.view.pieces(inode).map_err(|error| {
            let path = self.path(inode.ino);
            (self.report)(&Trouble::Content { path, why: error.to_string() });
            Errno::EIO
        })?;
        let first = pieces.partition_point(|piece| piece.file().end() <= range.start);
        let pieces = pieces.iter().skip(first).take_while(|piece| piece.file().offset < range.end);
        Ok(pieces.filter_map(|piece| piece.clip(range)).collect())
    }

    /// Reads pieces that make up a range into `bytes`; false if a byte is unknown. A short answer would be filled up with
    /// zeros by the kernel.
    fn is_read(&self, pieces: &[Piece], bytes: &mut [u8]) -> bool {
        let mut rest = bytes;
        for piece in pieces {
            let Some((now, later)) = rest.split_at_mut_checked(small(piece.file().len)) else { return false };
            match *piece {
                Piece::Hole { .. } => now.fill(0),
                Piece::Data { at, bad: false, .. } => {
                    if self.view.store.source().read_at(at, now).is_err() {
                        return false;
                    }
                }
                Piece::Data { .. } | Piece::Lost { .. } => return false,
            }
            rest = later;
        }
        rest.is_empty()
    }

    /// The first unknown stretch in pieces of a file.
    pub(crate) fn first_gap(&self, pieces: &[Piece]) -> Option<Gap> {
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
    pub(crate) fn tell(&mut self, inode: &Inode, gap: Gap) {
        let span = gap.span;
        match self.reported.get_mut(&inode.ino) {
            Some(known) if span.offset >= known.start && span.offset <= known.end => {
                known.end = known.end.max(span.end());
            }
            _ => {
                self.reported.insert(inode.ino, span.offset..span.end());
                let path = self.path(inode.ino);
                (self.report)(&Trouble::Unknown { path, span, why: gap.why });
            }
        }
    }

    /// The path of an inode, for messages.
    pub(crate) fn path(&self, ino: InodeNo) -> Vec<u8> {
        self.view.tree.path(ino).unwrap_or_default()
    }

    /// The entries of a directory, as it is now when `offset` is 0, and as they were then otherwise: removing some
    /// meanwhile does not hide others.
    pub(crate) fn listing(&mut self, ino: INodeNo, handle: u64, offset: u64) -> Result<Arc<Vec<Listed>>, Errno> {
        if let (Some(Handle::Directory(listing)), 1..) = (self.handles.get(&handle), offset) {
            return Ok(Arc::clone(listing));
        }
        let _lock = self.locked()?;
        let directory = self.inode(ino)?;
        let kind = |kind: Kind| if kind == Kind::Directory { FileType::Directory } else { FileType::RegularFile };
        let dots = [(ino, &b"."[..]), (number(directory.parent), &b".."[..])];
        let dots = dots.map(|(ino, name)| Listed { ino, kind: FileType::Directory, name: name.into() });
        let tree = &self.view.tree;
        let shown =
            tree.children(directory.ino).filter(|inode| inode.ino != InodeNo::ROOT && !self.is_removed(inode.ino));
        let entries = shown.filter_map(|inode| {
            let name = mounted_name(tree, inode)?;
            Some(Listed { ino: number(inode.ino), kind: kind(inode.kind), name: name.into() })
        });
        let listing = Arc::new(dots.into_iter().chain(entries).collect::<Vec<_>>());
        self.handles.insert(handle, Handle::Directory(Arc::clone(&listing)));
        Ok(listing)
    }
}

/// The name of an inode in a filesystem: its own if that is possible, otherwise one that no other entry has. `None` if its name
/// is damaged.
fn mounted_name<'t>(tree: &Tree, inode: &'t Inode) -> Option<Cow<'t, [u8]>> {
    if name::check(&inode.name).is_ok() {
        return Some(Cow::Borrowed(&inode.name));
    }
    let names = name::substitutes(&inode.name);
    let numbered = names.last().map(|last| [last, format!("~{}", inode.ino).as_bytes()].concat());
    let free = |name: &Vec<u8>| name::check(name).is_ok() && tree.lookup(inode.parent, name).is_none();
    names.into_iter().chain(numbered).find(free).map(Cow::Owned)
}
