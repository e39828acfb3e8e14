//! What the kernel asks of a filesystem, answered from a store.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use gmfs::{ImageSpec, Store};
use gmfs_format::model::{Inode, Kind, Piece};
use gmfs_io::num::small;

use crate::changing::{Changing, Maker, Wanted, Writable};
use crate::state::{Handle, State, generation};
use crate::trouble::Report;
use crate::view::View;

/// How long the kernel may believe attributes and names without asking again.
const BELIEVED: Duration = Duration::from_secs(1);
/// The longest name, which `statfs` tells.
const NAME_MAX: u32 = 255;
/// The most bytes that a request reads or writes. The kernel takes no more.
const LARGEST: u32 = 1 << 20;
/// Bits of a mode that say what kind a file is, and the value for regular files.
const KIND: (u32, u32) = (0o170_000, 0o100_000);

thread_local! {
    /// What a thread has read last.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The files of a store.
pub struct Files {
    state: Mutex<State>,
}

impl Files {
    /// The files of a store that was opened from `image`. It is unlocked. `wait`: how long a request waits for the lock; `None`
    /// locks nothing. `owner`: user and group of what has no owner recorded.
    #[must_use]
    pub fn new(image: ImageSpec, store: Store, wait: Option<Duration>, owner: (u32, u32), report: Report) -> Self {
        let view = View::read(store);
        view.store.unlock();
        Self { state: Mutex::new(State::new(image, view, wait, owner, report)) }
    }

    /// The same for reading and writing. What a crash left unfinished is finished or taken back. The store must be a native region that is not damaged, in a file or a device.
    ///
    /// # Errors
    /// The thread that looks for memory in use cannot be started.
    pub fn writable(self, writable: Writable) -> io::Result<Self> {
        self.with(|state| {
            state.changing = Some(Changing::new(writable, &state.view)?);
            state.recover();
            Ok::<_, io::Error>(())
        })?;
        Ok(self)
    }

    fn with<T>(&self, answer: impl FnOnce(&mut State) -> T) -> T {
        // A request that panicked has not left anything half done: what is kept is only read, and a commit that was not
        // finished is finished or taken back by the next one.
        answer(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers with an entry.
fn entry(state: &State, inode: &Inode) -> (fuser::FileAttr, Generation) {
    (state.attributes(inode), Generation(u64::from(generation(inode))))
}

/// Answers a request that asks for nothing but to be done.
fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // As much as the kernel allows: what it takes less of, it says.
        let _ = config.set_max_write(LARGEST);
        if let Err(most) = config.set_max_readahead(LARGEST) {
            let _ = config.set_max_readahead(most);
        }
        Ok(())
    }

    fn destroy(&mut self) {
        self.with(State::end);
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.with(|state| state.lookup(parent, name)) {
            Ok((attributes, generation)) => {
                reply.entry(&BELIEVED, &attributes, Generation(u64::from(generation)));
            }
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|state| state.attributes_of(ino)) {
            Ok(attributes) => reply.attr(&BELIEVED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let wanted = Wanted { mode, uid, gid, size, accessed, modified };
        match self.with(|state| state.set_attributes(ino, wanted)) {
            Ok(attributes) => reply.attr(&BELIEVED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(&self, by: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        if mode & KIND.0 != KIND.1 && mode & KIND.0 != 0 {
            return reply.error(Errno::EPERM);
        }
        self.make((by, parent, name, FileType::RegularFile, mode), reply);
    }

    fn mkdir(&self, by: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        self.make((by, parent, name, FileType::Directory, mode), reply);
    }

    fn create(&self, by: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let maker = Maker { uid: by.uid(), gid: by.gid(), mode };
        let made = self.with(|state| {
            let inode = state.make(parent, name, FileType::RegularFile, maker)?;
            Ok((entry(state, &inode), state.hold_new(&inode)))
        });
        match made {
            Ok(((attributes, generation), handle)) => {
                reply.created(&BELIEVED, &attributes, generation, FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.with(|state| state.remove(parent, name, Kind::File)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.with(|state| state.remove(parent, name, Kind::Directory)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        done(self.with(|state| state.rename((parent, name), (new_parent, new_name), flags)), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.with(|state| state.open(ino, flags.acc_mode() != OpenAccMode::O_RDONLY)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // The kernel copies the answer while another thread reads for the next one.
        BUFFER.with_borrow_mut(|buffer| match self.with(|state| state.read(handle.0, offset, size, buffer)) {
            Ok(len) => reply.data(buffer.get(..len).unwrap_or_default()),
            Err(error) => reply.error(error),
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with(|state| state.write(handle.0, offset, bytes)) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        done(self.with(|state| state.flush(handle.0)), reply);
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.with(|state| state.flush(handle.0)), reply);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        done(self.with(|state| state.release(handle.0)), reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        done(self.with(|state| state.allocate(handle.0, offset, length, mode)), reply);
    }

    fn lseek(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        match self.with(|state| state.seek(handle.0, offset, whence)) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(error),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let handle = self.with(|state| state.hold(Handle::Directory(std::sync::Arc::default())));
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.with(|state| state.let_go(handle.0));
        reply.ok();
    }

    /// Each change of a directory is durable when it is made.
    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.with(|state| state.listing(ino, handle.0, offset)) {
            Ok(listing) => {
                for (next, listed) in (1..).zip(listing.iter()).skip(small(offset)) {
                    if reply.add(listed.ino, next, listed.kind, OsStr::from_bytes(&listed.name)) {
                        break;
                    }
                }
                reply.ok();
            }
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

impl Files {
    fn make(&self, (by, parent, name, kind, mode): (&Request, INodeNo, &OsStr, FileType, u32), reply: ReplyEntry) {
        let maker = Maker { uid: by.uid(), gid: by.gid(), mode };
        let made = self.with(|state| {
            let inode = state.make(parent, name, kind, maker)?;
            Ok::<_, Errno>(entry(state, &inode))
        });
        match made {
            Ok((attributes, generation)) => reply.entry(&BELIEVED, &attributes, generation),
            Err(error) => reply.error(error),
        }
    }
}

impl State {
    /// Where the next data or the next hole of a file is. What is not known counts as data.
    fn seek(&mut self, handle: u64, offset: i64, whence: i32) -> Result<i64, Errno> {
        /// `SEEK_DATA` and `SEEK_HOLE` of lseek(2).
        const WANTED: (i32, i32) = (3, 4);
        let _lock = self.locked()?;
        let inode = self.opened(handle)?;
        let from = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        if from >= inode.size {
            return Err(Errno::ENXIO);
        }
        let hole = match whence {
            _ if whence == WANTED.0 => false,
            _ if whence == WANTED.1 => true,
            _ => return Err(Errno::EINVAL),
        };
        let pieces = self.pieces(&inode, &(from..inode.size))?;
        let found = pieces.iter().find(|piece| matches!(piece, Piece::Hole { .. }) == hole);
        let found = match found {
            Some(piece) => piece.file().offset,
            // There is a hole at the end of each file.
            None if hole => inode.size,
            None => return Err(Errno::ENXIO),
        };
        i64::try_from(found).map_err(|_| Errno::EOVERFLOW)
    }
}
