//! How requests that change a region are answered.
//!
//! Each change is a commit of its own, and the region is locked as long as it takes. Content that is written where a file
//! has blocks without seals needs no commit: the new size and time of the file are recorded when it is flushed, or with
//! the next change of it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo, RenameFlags, TimeOrNow};
use gmfs::health;
use gmfs::in_use::Watch;
use gmfs_format::model::{Inode, InodeNo, Kind, Piece};
use gmfs_format::native::tables::INODE_IMMUTABLE;
use gmfs_format::native::units::BlockNo;
use gmfs_image::Locking;
use gmfs_io::{Span, WriteAt as _};
use gmfs_volume::{
    ChangeError, CreateOptions, NewAttributes, Replace, Superblocks, Used, Users, Writer, WriterOptions,
};

use crate::medium::{Locked, Medium};
use crate::state::{Handle, State, generation};
use crate::trouble::{Report, Trouble, of_change};
use crate::view::View;
use crate::watching::Watching;

/// What a writable mount has to know.
pub struct Writable {
    /// The name and version of the program, the region's address, and the clock.
    pub options: WriterOptions,
    /// Looks for processes that use memory of the region.
    pub watch: Watch,
}

/// The generations of both superblocks.
type Generations = Option<[Option<u64>; 2]>;

/// What changes a region.
pub(crate) struct Changing {
    options: WriterOptions,
    watch: Watching,
    medium: Medium,
    /// The writer of the last change. It is used again if nobody else has changed the region since.
    writer: Option<Writer<Medium>>,
    /// The generations that the last change, or reading the region, left.
    own: Generations,
    unsaved: HashMap<InodeNo, Unsaved>,
    /// Files that were removed while they were open.
    removed: HashSet<InodeNo>,
    /// Blocks that have no seal.
    unsealed: HashSet<u32>,
    /// Files of which something could not be recorded, because somebody else has changed them.
    overtaken: HashSet<InodeNo>,
}

/// What is not yet recorded of a file whose content was written.
struct Unsaved {
    /// The file's record when that began: if it is another one, somebody else has changed the file.
    base: Inode,
    size: u64,
    modified: u64,
}

/// Bits of the mode that fallocate(2) takes.
mod fallocate {
    pub(super) const KEEP_SIZE: i32 = 1;
    pub(super) const PUNCH_HOLE: i32 = 2;
}

/// The set-group-id bit: what is made in such a directory belongs to the directory's group.
const SET_GID: u16 = 0o2000;

/// The name of a file that was removed while it was open, in the root directory.
fn aside(inode: &Inode) -> Vec<u8> {
    format!(".gmfs-removed-{}-{}", inode.ino, generation(inode)).into_bytes()
}

/// Refuses an inode with the immutable flag.
pub(crate) fn require_mutable(inode: &Inode) -> Result<(), Errno> {
    let flags = inode.attributes.map_or(0, |attributes| attributes.flags);
    if flags & INODE_IMMUTABLE == 0 { Ok(()) } else { Err(Errno::EPERM) }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What `setattr` is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) accessed: Option<TimeOrNow>,
    pub(crate) modified: Option<TimeOrNow>,
}

/// What a program is that makes something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Changing {
    pub(crate) fn new(writable: Writable, view: &View) -> std::io::Result<Self> {
        Ok(Self {
            options: writable.options,
            watch: Watching::new(writable.watch)?,
            medium: Medium::default(),
            writer: None,
            own: view.generations,
            unsaved: HashMap::new(),
            removed: HashSet::new(),
            unsealed: HashSet::new(),
            overtaken: HashSet::new(),
        })
    }

    /// Adds to a file what is not recorded of it yet.
    pub(crate) fn complete(&self, inode: &mut Inode) {
        if let Some(unsaved) = self.unsaved.get(&inode.ino) {
            inode.size = inode.size.max(unsaved.size);
            if let Some(attributes) = &mut inode.attributes {
                attributes.modified = unsaved.modified;
                attributes.changed = attributes.changed.max(unsaved.modified);
            }
        }
    }

    pub(crate) fn is_removed(&self, ino: InodeNo) -> bool {
        self.removed.contains(&ino)
    }

    /// Takes note of what was read of the region. If somebody else has changed it, what is known of it may be wrong now.
    pub(crate) fn follow(&mut self, view: &View, report: &Report) {
        if view.generations == self.own {
            return;
        }
        self.own = view.generations;
        self.writer = None;
        self.unsealed.clear();
        let same = |ino: InodeNo, base: &Inode| view.tree.get(ino).is_some_and(|now| now == base);
        let overtaken = &mut self.overtaken;
        self.unsaved.retain(|ino, unsaved| {
            let kept = same(*ino, &unsaved.base);
            if !kept {
                overtaken.insert(*ino);
                report(&Trouble::Overtaken {
                    path: view.tree.path(*ino).unwrap_or_else(|| unsaved.base.name.to_vec()),
                });
            }
            kept
        });
        let name_kept = |ino: &InodeNo| view.tree.get(*ino).is_some_and(|now| aside(now)[..] == now.name[..]);
        self.removed.retain(name_kept);
    }

    /// What is used of the region now.
    fn used(&mut self) -> Arc<[Used]> {
        self.watch.used()
    }
}

fn generations(medium: &Medium) -> Generations {
    let found = Superblocks::load(medium).ok()?;
    Some([&found.a, &found.b].map(|slot| slot.good().map(|superblock| superblock.generation.0)))
}

impl State {
    fn changing(&mut self) -> Result<&mut Changing, Errno> {
        self.changing.as_mut().ok_or(Errno::EROFS)
    }

    /// Locks the region for changing, and reads its metadata again if it was changed.
    fn exclusive(&mut self) -> Result<Locked, Errno> {
        let medium = self.changing()?.medium.clone();
        let locking = Locking { limit: self.wait.unwrap_or_default(), ..Locking::at_once() };
        let (_, target) = self.image.locate_for_writing(&locking, &()).map_err(|error| match error {
            gmfs::Error::File(error) | gmfs::Error::Image(gmfs_image::OpenError::File(error)) => self.not_locked(error),
            error => {
                (self.report)(&Trouble::Store(error));
                Errno::EIO
            }
        })?;
        let locked = medium.lock(target);
        self.refresh_if_changed()?;
        let Self { view, report, changing, .. } = self;
        if let Some(changing) = changing {
            changing.follow(view, report);
        }
        Ok(locked)
    }

    fn refresh_if_changed(&mut self) -> Result<(), Errno> {
        if self.view.is_current() { Ok(()) } else { self.refresh(None) }
    }

    /// Finishes or takes back what a crash left unfinished. If that is not possible now, the first change does it.
    pub(crate) fn recover(&mut self) {
        // What goes wrong is in the log.
        if let Ok(_locked) = self.exclusive() {
            let _ = self.change(InodeNo::ROOT, |_| Ok(()));
        }
    }

    /// Makes one change. The region is locked.
    fn change<T>(
        &mut self,
        of: InodeNo,
        work: impl FnOnce(&mut Writer<Medium>) -> Result<T, ChangeError>,
    ) -> Result<T, Errno> {
        let mut writer = self.writer()?;
        let done = work(&mut writer);
        let paused = writer.pause();
        let changing = self.changing()?;
        changing.own = generations(&changing.medium);
        let done = match (done, paused) {
            (Ok(done), Ok(())) => {
                changing.writer = Some(writer);
                return Ok(done);
            }
            (Err(error), Ok(())) => {
                changing.writer = Some(writer);
                error
            }
            // The writer is not used again: the next one finishes what was begun.
            (Err(error), Err(_)) | (Ok(_), Err(error)) => error,
        };
        let (errno, told) = of_change(&done);
        if told {
            let path = self.path(of);
            (self.report)(&Trouble::Change { path, error: done });
        }
        Err(errno)
    }

    /// The writer of the last change, or a new one if somebody else has changed the region since.
    fn writer(&mut self) -> Result<Writer<Medium>, Errno> {
        let changing = self.changing()?;
        if let Some(writer) = changing.writer.take() {
            return Ok(writer);
        }
        let (medium, options, watch) = (changing.medium.clone(), changing.options.clone(), changing.watch.clone());
        let native = self.view.store.native().map_err(|_| Errno::EROFS)?;
        // A change would be built on what is not so.
        let damaged = health::assess(native, (options.clock)(), NonZeroUsize::MIN);
        if damaged.map_or(true, |health| health.is_damaged()) {
            (self.report)(&Trouble::Damaged);
            return Err(Errno::EIO);
        }
        let opened = Writer::open(medium, options);
        let (mut writer, _) = opened.map_err(|error| {
            (self.report)(&Trouble::Region(error));
            Errno::EIO
        })?;
        writer.watch(Box::new(watch));
        Ok(writer)
    }

    /// Refuses bytes of the region that somebody uses.
    fn require_unused(&mut self, of: InodeNo, spans: &[Span]) -> Result<(), Errno> {
        let used = self.changing()?.used();
        let found = used.iter().find(|used| spans.iter().any(|span| used.span.meets(*span)));
        let Some(used) = found else { return Ok(()) };
        let path = self.path(of);
        let shown = gmfs_format::name::escape(&path);
        (self.report)(&Trouble::Change { path, error: ChangeError::InUse { path: shown, by: used.by.clone() } });
        Err(Errno::EBUSY)
    }

    /// Refuses to write where it is not known what a file holds, or where its blocks have hardware errors.
    fn require_known(&mut self, inode: &Inode, range: &Range<u64>) -> Result<(), Errno> {
        let inside = range.start..range.end.min(inode.size);
        if inside.start >= inside.end {
            return Ok(());
        }
        let pieces = self.pieces(inode, &inside)?;
        let unknown = |piece: &&Piece| matches!(piece, Piece::Lost { .. } | Piece::Data { bad: true, .. });
        let Some(piece) = pieces.iter().find(unknown).copied() else { return Ok(()) };
        if let Some(gap) = self.first_gap(&[piece]) {
            self.tell(inode, gap);
        }
        Err(Errno::EIO)
    }

    /// Writes content into a file that is open.
    pub(crate) fn write(&mut self, handle: u64, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let _locked = self.exclusive()?;
        let inode = self.opened(handle)?;
        require_mutable(&inode)?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let range = offset..offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.require_known(&inode, &range)?;
        let held = self.view.held(inode.ino, &range).filter(|_| offset <= inode.size);
        if let Some(spans) = held
            && self.are_unsealed(&spans)
        {
            return self.overwrite(&inode, range.end, &spans, bytes);
        }
        self.change(inode.ino, |writer| writer.write(inode.ino, inode.size, offset, bytes))?;
        self.changing()?.unsaved.remove(&inode.ino);
        Ok(())
    }

    /// Whether none of the blocks in which these spans are has a seal.
    fn are_unsealed(&mut self, spans: &[Span]) -> bool {
        let Self { view, changing: Some(changing), .. } = self else { return false };
        let Ok(native) = view.store.native() else { return false };
        let geometry = native.geometry();
        let block = |offset: u64| u32::try_from(geometry.pmd().split(offset).0).unwrap_or(u32::MAX);
        spans.iter().all(|span| {
            (block(span.offset)..=block(span.end().saturating_sub(1))).all(|block| {
                if changing.unsealed.contains(&block) {
                    return true;
                }
                let entry = native.descriptor(BlockNo(block));
                let unsealed = entry.is_some_and(|entry| entry.content_crc().is_none());
                if unsealed {
                    changing.unsealed.insert(block);
                }
                unsealed
            })
        })
    }

    /// Writes into blocks that the file has. What changes in its record is recorded later.
    fn overwrite(&mut self, inode: &Inode, end: u64, spans: &[Span], bytes: &[u8]) -> Result<(), Errno> {
        self.require_unused(inode.ino, spans)?;
        let recorded = self.view.tree.get(inode.ino).cloned().ok_or(Errno::ESTALE)?;
        let changing = self.changing()?;
        let mut rest = bytes;
        for span in spans {
            let Some((now, later)) = rest.split_at_checked(usize::try_from(span.len).unwrap_or(usize::MAX)) else {
                break;
            };
            if let Err(error) = changing.medium.write_at(span.offset, now) {
                let path = self.path(inode.ino);
                (self.report)(&Trouble::Change { path, error: ChangeError::Write(error) });
                return Err(Errno::EIO);
            }
            rest = later;
        }
        let now = (changing.options.clock)();
        let unsaved = Unsaved { base: recorded, size: inode.size.max(end), modified: now };
        changing.unsaved.insert(inode.ino, unsaved);
        Ok(())
    }

    /// Records what is not recorded of a file yet, and makes what was written durable.
    fn save(&mut self, ino: InodeNo, attributes: NewAttributes) -> Result<(), Errno> {
        let unsaved = self.changing()?.unsaved.get(&ino);
        let (size, modified) = unsaved.map_or((0, None), |unsaved| (unsaved.size, Some(unsaved.modified)));
        let attributes = NewAttributes { modified: attributes.modified.or(modified), ..attributes };
        self.change(ino, |writer| writer.save(ino, size, attributes))?;
        self.changing()?.unsaved.remove(&ino);
        Ok(())
    }

    /// Makes what was written to a file durable, and records what is not recorded of it yet.
    pub(crate) fn flush(&mut self, handle: u64) -> Result<(), Errno> {
        let (Some(changing), Some(ino)) = (&self.changing, self.file_of(handle)) else { return Ok(()) };
        if changing.unsaved.contains_key(&ino) {
            let _locked = self.exclusive()?;
            if self.changing()?.unsaved.contains_key(&ino) {
                self.save(ino, NewAttributes::default())?;
            }
        }
        // The program is told once, and the log was told why.
        if self.changing()?.overtaken.remove(&ino) { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Ends the use of a file. One that was removed meanwhile goes with its last user.
    pub(crate) fn release(&mut self, handle: u64) -> Result<(), Errno> {
        let flushed = self.flush(handle);
        if let Some(ino) = self.let_go(handle).filter(|ino| self.is_removed(*ino)) {
            let _locked = self.exclusive()?;
            self.remove_at_last(ino)?;
        }
        flushed
    }

    /// Removes a file that was removed while it was open.
    fn remove_at_last(&mut self, ino: InodeNo) -> Result<(), Errno> {
        if !self.is_removed(ino) {
            return Ok(());
        }
        let path = self.path(ino);
        let done = self.change(ino, |writer| writer.remove(&path, false));
        let changing = self.changing()?;
        changing.unsaved.remove(&ino);
        changing.removed.remove(&ino);
        done.inspect_err(|_| (self.report)(&Trouble::Left { path }))
    }

    /// Records everything that is not recorded yet: the filesystem is unmounted.
    pub(crate) fn end(&mut self) {
        let Some(changing) = &self.changing else { return };
        let unsaved: Vec<InodeNo> = changing.unsaved.keys().copied().collect();
        let removed: Vec<InodeNo> = changing.removed.iter().copied().collect();
        if unsaved.is_empty() && removed.is_empty() {
            return;
        }
        // What goes wrong is in the log.
        let Ok(_locked) = self.exclusive() else { return };
        for ino in removed {
            let _ = self.remove_at_last(ino);
        }
        for ino in unsaved {
            if self.changing.as_ref().is_some_and(|changing| changing.unsaved.contains_key(&ino)) {
                let _ = self.save(ino, NewAttributes::default());
            }
        }
    }

    /// Sets attributes and the size of what has a number.
    pub(crate) fn set_attributes(&mut self, ino: INodeNo, wanted: Wanted) -> Result<FileAttr, Errno> {
        let _locked = self.exclusive()?;
        let inode = self.inode(ino)?;
        require_mutable(&inode)?;
        let now = (self.changing()?.options.clock)();
        let time = |time: TimeOrNow| match time {
            TimeOrNow::SpecificTime(time) => nanoseconds(time),
            TimeOrNow::Now => now,
        };
        let attributes = NewAttributes {
            mode: wanted.mode.and_then(|mode| u16::try_from(mode & 0o7777).ok()),
            uid: wanted.uid,
            gid: wanted.gid,
            accessed: wanted.accessed.map(time),
            modified: wanted.modified.map(time),
        };
        if let Some(size) = wanted.size {
            if inode.kind == Kind::Directory {
                return Err(Errno::EISDIR);
            }
            if self.changing()?.unsaved.contains_key(&inode.ino) {
                self.save(inode.ino, NewAttributes::default())?;
            }
            let path = self.path(inode.ino);
            self.change(inode.ino, |writer| writer.truncate(&path, size, true))?;
        }
        if attributes != NewAttributes::default() {
            self.save(inode.ino, attributes)?;
        }
        self.refresh_if_changed()?;
        Ok(self.attributes(&self.inode(ino)?))
    }

    /// Gives blocks to a part of a file, or takes them from it.
    pub(crate) fn allocate(&mut self, handle: u64, offset: u64, len: u64, mode: i32) -> Result<(), Errno> {
        let _locked = self.exclusive()?;
        let inode = self.opened(handle)?;
        let (ino, size) = (inode.ino, inode.size);
        require_mutable(&inode)?;
        let mut range = offset..offset.checked_add(len).ok_or(Errno::EFBIG)?;
        self.require_known(&inode, &range)?;
        match mode {
            0 => {}
            fallocate::KEEP_SIZE => {
                // A file has no blocks past its end.
                let block = self.view.store.block_bytes();
                if range.end > size.div_ceil(block).saturating_mul(block) {
                    return Err(Errno::EOPNOTSUPP);
                }
                range.end = range.end.min(size);
            }
            _ if mode == fallocate::KEEP_SIZE | fallocate::PUNCH_HOLE => {
                self.change(ino, |writer| writer.punch(ino, size, range))?;
                self.changing()?.unsaved.remove(&ino);
                return Ok(());
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if range.start >= range.end {
            return Ok(());
        }
        self.change(ino, |writer| writer.allocate(ino, size, range))?;
        self.changing()?.unsaved.remove(&ino);
        Ok(())
    }

    /// Makes a file or a directory.
    pub(crate) fn make(&mut self, parent: INodeNo, name: &OsStr, kind: FileType, maker: Maker) -> Result<Inode, Errno> {
        let _locked = self.exclusive()?;
        let directory = self.inode(parent)?;
        match self.entry(parent, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        if self.is_removed(directory.ino) {
            return Err(Errno::ENOENT);
        }
        let mut path = self.path(directory.ino);
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        let mut mode = u16::try_from(maker.mode & 0o7777).unwrap_or(0);
        let mut owner = (maker.uid, maker.gid);
        if let Some(above) = directory.attributes.filter(|above| above.mode & SET_GID != 0) {
            owner.1 = above.gid;
            if kind == FileType::Directory {
                mode |= SET_GID;
            }
        }
        self.change(directory.ino, |writer| match kind {
            FileType::Directory => writer.mkdir(&path, false, mode, owner),
            _ => {
                let options = CreateOptions { size: 0, sparse: true, align_1g: false, mode, owner };
                writer.create(&path, &options).map(drop)
            }
        })?;
        self.refresh_if_changed()?;
        self.entry(parent, name)
    }

    /// Opens a file that was just made.
    pub(crate) fn hold_new(&mut self, inode: &Inode) -> u64 {
        self.hold(Handle::File(inode.ino, generation(inode)))
    }

    /// Removes a file, or a directory that is empty.
    pub(crate) fn remove(&mut self, parent: INodeNo, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        let _locked = self.exclusive()?;
        let inode = self.entry(parent, name)?;
        match (kind, inode.kind) {
            (Kind::Directory, Kind::File) => return Err(Errno::ENOTDIR),
            (Kind::File, Kind::Directory) => return Err(Errno::EISDIR),
            _ => {}
        }
        let ino = inode.ino;
        if self.is_open(ino) {
            // A guest must not find the file gone when it is closed.
            let blocks: Vec<Span> = self.view.runs(ino).iter().map(|run| Span::new(run.at, run.len)).collect();
            self.require_unused(ino, &blocks)?;
            self.change(ino, |writer| writer.move_entry(ino, InodeNo::ROOT, &aside(&inode), Replace::Never))?;
            self.changing()?.removed.insert(ino);
            return self.rebase(ino);
        }
        let path = self.path(ino);
        self.change(ino, |writer| writer.remove(&path, false))?;
        self.changing()?.unsaved.remove(&ino);
        Ok(())
    }

    /// After a change of a file's name: what is not recorded of it stays.
    fn rebase(&mut self, ino: InodeNo) -> Result<(), Errno> {
        self.refresh_if_changed()?;
        let now = self.view.tree.get(ino).cloned();
        if let (Some(unsaved), Some(now)) = (self.changing()?.unsaved.get_mut(&ino), now) {
            unsaved.base = now;
        }
        Ok(())
    }

    /// Gives something another name or directory.
    pub(crate) fn rename(
        &mut self,
        (parent, name): (INodeNo, &OsStr),
        (new_parent, new_name): (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let _locked = self.exclusive()?;
        let moved = self.entry(parent, name)?;
        let directory = self.inode(new_parent)?;
        let there = match self.entry(new_parent, new_name) {
            Ok(there) => Some(there),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error),
        };
        if flags == RenameFlags::RENAME_EXCHANGE {
            let there = there.ok_or(Errno::ENOENT)?;
            self.change(moved.ino, |writer| writer.exchange(moved.ino, there.ino))?;
            self.rebase(there.ino)?;
            return self.rebase(moved.ino);
        }
        if !flags.difference(RenameFlags::RENAME_NOREPLACE).is_empty() {
            return Err(Errno::EINVAL);
        }
        let kept = there.as_ref().filter(|there| there.kind == Kind::File && self.is_open(there.ino)).map(aside);
        let replace = match &kept {
            _ if flags.contains(RenameFlags::RENAME_NOREPLACE) => Replace::Never,
            Some(name) => Replace::Keep(name),
            None => Replace::Remove,
        };
        let other = there.map(|there| there.ino).filter(|ino| *ino != moved.ino);
        if let (Some(ino), Some(_)) = (other, &kept) {
            let blocks: Vec<Span> = self.view.runs(ino).iter().map(|run| Span::new(run.at, run.len)).collect();
            self.require_unused(ino, &blocks)?;
        }
        self.change(moved.ino, |writer| writer.move_entry(moved.ino, directory.ino, new_name.as_bytes(), replace))?;
        if let Some(ino) = other {
            let changing = self.changing()?;
            if kept.is_some() {
                changing.removed.insert(ino);
                self.rebase(ino)?;
            } else {
                changing.unsaved.remove(&ino);
            }
        }
        self.rebase(moved.ino)
    }
}
