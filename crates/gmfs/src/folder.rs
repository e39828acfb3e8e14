//! Directories that are held open, so that what is made in them is made there, and nowhere else.
//!
//! Paths mean something else when somebody renames a directory or puts a symbolic link in its place. A [`Folder`] is a
//! handle: it takes one name at a time, and follows no link.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

/// The mode of every file that is made, because it may hold guest memory, or facts about it.
pub(crate) const PRIVATE_FILE: u32 = 0o600;
/// The mode of every directory that is made.
const PRIVATE_FOLDER: u32 = 0o700;
/// The mode of an unfinished file. The sticky bit means nothing for a file, so it serves as the mark of such a file.
const UNFINISHED: u32 = PRIVATE_FILE | 0o1000;

/// An open directory. Its methods take one name, never a path, and follow no symbolic link, so what they make is in
/// this directory, whatever others do to it.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
    /// The path of the directory in messages.
    path: PathBuf,
}

impl Folder {
    /// Opens the directory at a path; also through symbolic links. An empty path is the current directory.
    ///
    /// # Errors
    /// The system cannot open it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let named = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(CWD, named, flags, Mode::empty())?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// The system cannot open it, it is a symbolic link, or `name` is not exactly one name.
    pub fn enter(&self, name: &OsStr) -> io::Result<Self> {
        // One name that is neither `..` nor a link: this has the effect of RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS,
        // also on kernels without openat2.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, single(name)?, flags, Mode::empty())?;
        Ok(Self { handle, path: self.path.join(name) })
    }

    /// Makes a directory in this one, unless there is one already, and opens it. Only its owner may enter a new one.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn make(&self, name: &OsStr) -> io::Result<Self> {
        self.make_or_enter(name).map(|(folder, _)| folder)
    }

    /// As [`make`](Self::make); tells too whether the directory is new.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn make_or_enter(&self, name: &OsStr) -> io::Result<(Self, bool)> {
        match rustix::fs::mkdirat(&self.handle, single(name)?, Mode::from_raw_mode(PRIVATE_FOLDER)) {
            Ok(()) => Ok((self.enter(name)?, true)),
            Err(Errno::EXIST) => {
                self.enter(name).map(|folder| (folder, false)).map_err(|error| match self.entry(name) {
                    Ok(Some(found)) if FileType::from_raw_mode(found.st_mode).is_symlink() => {
                        io::Error::other("there is a symbolic link of this name, which is not followed")
                    }
                    _ => error,
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Which directory it is, whatever its name: the numbers of its device and its inode.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let found = rustix::fs::fstat(&self.handle)?;
        Ok((found.st_dev, found.st_ino))
    }

    /// Opens the directory itself once more, for what a handle for looking up names cannot do.
    pub(crate) fn open_itself(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.handle, ".", flags, Mode::empty())?)
    }

    /// The path of an entry in messages.
    #[must_use]
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Removes a file or a link, if it is there.
    ///
    /// # Errors
    /// The system cannot remove it, or `name` is not exactly one name.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, single(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The entry with this name; of a link, the link itself.
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.handle, single(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new, unfinished file. If anything has the name already, even a dangling link, that is an error.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(PRIVATE_FILE);
        let file = File::from(rustix::fs::openat(&self.handle, single(name)?, flags, mode)?);
        // The file is locked before it is marked, because a file that is marked and not locked is a leftover. If the
        // filesystem has no locks or no modes, the file is made nevertheless.
        if file.try_lock().is_ok() {
            let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(UNFINISHED));
        }
        Ok(file)
    }

    /// Opens and locks the file that a killed command left unfinished. `None` if something else has the name.
    pub(crate) fn leftover(&self, name: &OsStr) -> io::Result<Option<File>> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.handle, single(name)?, flags, Mode::empty()) else { return Ok(None) };
        let file = File::from(file);
        let found = rustix::fs::fstat(&file)?;
        let left = FileType::from_raw_mode(found.st_mode).is_file()
            && found.st_mode & 0o7777 == UNFINISHED
            && found.st_uid == rustix::process::geteuid().as_raw()
            && found.st_nlink == 1;
        if !left || file.try_lock().is_err() {
            return Ok(None);
        }
        // The process that held the lock until now may have given the file its name, or removed it.
        let same = |now: Stat| (now.st_dev, now.st_ino, now.st_mode) == (found.st_dev, found.st_ino, found.st_mode);
        Ok(self.entry(name)?.is_some_and(same).then_some(file))
    }

    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr, replace: bool) -> io::Result<()> {
        let (from, to) = (single(from)?, single(to)?);
        let plainly = || rustix::fs::renameat(&self.handle, from, &self.handle, to);
        if replace {
            return Ok(plainly()?);
        }
        match rustix::fs::renameat_with(&self.handle, from, &self.handle, to, RenameFlags::NOREPLACE) {
            // A filesystem that does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) if self.entry(to)?.is_none() => Ok(plainly()?),
            other => Ok(other?),
        }
    }
}

/// Refuses everything that is not exactly one name.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    use std::os::unix::ffi::OsStrExt as _;
    match name.as_bytes() {
        b"" | b"." | b".." => Err(io::Error::new(ErrorKind::InvalidInput, "it is no name of a file")),
        bytes if bytes.contains(&b'/') => Err(io::Error::new(ErrorKind::InvalidInput, "it is a path, not a name")),
        _ => Ok(name),
    }
}

/// How many directories on the way to the current one are held open. They are file descriptors, of which a process has
/// few; one further up is opened again when the walk comes back to it.
const HELD: usize = 64;

/// A directory could not be made or entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} {}", if *.made { "make" } else { "enter" }, path.display())]
#[non_exhaustive]
pub struct FolderError {
    /// Its path.
    pub path: PathBuf,
    /// Whether it was to be made. Otherwise it was to be entered.
    pub made: bool,
    /// What the system said.
    pub source: io::Error,
}

impl From<Arc<Folder>> for Folders {
    fn from(top: Arc<Folder>) -> Self {
        Self { top, names: Vec::new(), held: VecDeque::new() }
    }
}

/// The directories that a walk is in, open. A walk may be deeper than a process has file descriptors.
#[derive(Debug)]
pub struct Folders {
    top: Arc<Folder>,
    /// The names from the top down to the current directory.
    names: Vec<OsString>,
    /// The handles of the last few of them, with their depth.
    held: VecDeque<(usize, Arc<Folder>)>,
}

impl Folders {
    /// For a walk that starts in this directory.
    #[must_use]
    pub fn new(top: Folder) -> Self {
        Self::from(Arc::new(top))
    }

    /// The directory of an entry at this depth below the current path; entries of the top have depth 1.
    ///
    /// # Errors
    /// A directory further up that is opened again is not there any more.
    pub fn parent(&mut self, depth: usize) -> Result<Arc<Folder>, FolderError> {
        self.names.truncate(depth.saturating_sub(1));
        while self.held.back().is_some_and(|(held, _)| *held > self.names.len()) {
            self.held.pop_back();
        }
        let (from, mut folder) = match self.held.back() {
            Some((held, folder)) => (*held, Arc::clone(folder)),
            None => (0, Arc::clone(&self.top)),
        };
        for (depth, name) in (1..).zip(&self.names).skip(from) {
            let next = folder.enter(name);
            let path = || folder.path_of(name);
            folder = Arc::new(next.map_err(|source| FolderError { path: path(), made: false, source })?);
            Self::hold(&mut self.held, depth, &folder);
        }
        Ok(folder)
    }

    /// Makes a directory in `parent`, which [`parent`](Self::parent) gave, and goes into it. It may be there already,
    /// but not as a link.
    ///
    /// # Errors
    /// The system cannot make it.
    pub fn make(&mut self, parent: &Folder, name: &OsStr) -> Result<(), FolderError> {
        self.make_or_enter(parent, name).map(drop)
    }

    /// As [`make`](Self::make); gives the directory, and whether it is new.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn make_or_enter(&mut self, parent: &Folder, name: &OsStr) -> Result<(Arc<Folder>, bool), FolderError> {
        let made = parent.make_or_enter(name);
        let (folder, new) = made.map_err(|source| FolderError { path: parent.path_of(name), made: true, source })?;
        let folder = Arc::new(folder);
        self.names.push(name.to_owned());
        Self::hold(&mut self.held, self.names.len(), &folder);
        Ok((folder, new))
    }

    /// The directory to which these names lead from the top.
    pub(crate) fn at(&mut self, way: &[&OsStr]) -> Result<Arc<Folder>, FolderError> {
        let common = self.names.iter().zip(way).take_while(|(own, name)| own.as_os_str() == **name).count();
        // Closes what is not on the way.
        self.parent(common.saturating_add(1))?;
        self.names.extend(way.iter().skip(common).map(|name| (*name).to_owned()));
        self.parent(way.len().saturating_add(1))
    }

    fn hold(held: &mut VecDeque<(usize, Arc<Folder>)>, depth: usize, folder: &Arc<Folder>) {
        if held.len() >= HELD {
            held.pop_front();
        }
        held.push_back((depth, Arc::clone(folder)));
    }
}
