//! Permission bits, owner and times of files and directories that are made outside, as a store records them.
//!
//! A file gets them before it has its name, a directory when all that is in it is made: what is put into a directory changes
//! its times. Directories that were there already keep what they have.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use gmfs_format::model::Inode;
use rustix::fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use crate::folder::{Folder, FolderError, Folders};

/// Bits with which a program runs as the owner or the group of its file.
const SET_ID: u32 = 0o6000;
/// The sticky bit. For a file it means nothing, and marks files in the making ([`crate::new_file`]).
const STICKY: u32 = 0o1000;

/// What a file or directory outside gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    mode: u32,
    uid: u32,
    gid: u32,
    accessed: u64,
    modified: u64,
}

impl Kept {
    /// What is recorded of a file or directory; `None` in a layout that records nothing.
    #[must_use]
    pub fn of(inode: &Inode) -> Option<Self> {
        let own = inode.attributes?;
        Some(Self { mode: own.mode.into(), uid: own.uid, gid: own.gid, accessed: own.accessed, modified: own.modified })
    }

    /// Gives a file all of this. Returns whether it has the owner and the group too, which may need root.
    pub(crate) fn give_file(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        self.give(file, !STICKY)
    }

    fn give(&self, to: BorrowedFd<'_>, allowed: u32) -> io::Result<bool> {
        // First: it takes the bits away that let programs run as their owner.
        let owned = self.give_owner(to)?;
        // Without the owner, such bits would let programs run as somebody else.
        let allowed = if owned { allowed } else { allowed & !SET_ID };
        rustix::fs::fchmod(to, Mode::from_raw_mode(self.mode & allowed & 0o7777))?;
        let times = Timestamps { last_access: time(self.accessed), last_modification: time(self.modified) };
        // A time that the filesystem outside cannot keep is no reason to fail.
        let _ = rustix::fs::futimens(to, &times);
        Ok(owned)
    }

    fn give_owner(&self, to: BorrowedFd<'_>) -> io::Result<bool> {
        let now = rustix::fs::fstat(to)?;
        if (now.st_uid, now.st_gid) == (self.uid, self.gid) {
            return Ok(true);
        }
        // To the system this number means that nothing is to change.
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Ok(false);
        }
        let gid = Some(Gid::from_raw(self.gid));
        match rustix::fs::fchown(to, Some(Uid::from_raw(self.uid)), gid) {
            Ok(()) => Ok(true),
            // Not allowed; or a number that this user namespace does not have.
            Err(Errno::PERM | Errno::INVAL) => {
                // One's own groups are allowed.
                let _ = rustix::fs::fchown(to, None, gid);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A time as the system takes it. 0 is never: the file keeps what it has.
fn time(nanoseconds: u64) -> Timespec {
    const SECOND: u64 = 1_000_000_000;
    let part = |of: Option<u64>| of.and_then(|part| part.try_into().ok()).unwrap_or_default();
    match nanoseconds {
        0 => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        _ => Timespec {
            tv_sec: part(nanoseconds.checked_div(SECOND)),
            tv_nsec: nanoseconds.checked_rem(SECOND).and_then(|part| part.try_into().ok()).unwrap_or_default(),
        },
    }
}

/// A directory that a walk went into.
#[derive(Debug)]
struct Entered {
    /// The place of its directory in the list; `None` if that is the top.
    parent: Option<usize>,
    name: OsString,
    identity: (u64, u64),
    /// What it gets, if it was made.
    kept: Option<Kept>,
}

/// The directories that a walk went into, until those that were made get their attributes.
#[derive(Debug)]
pub struct Directories {
    top: Arc<Folder>,
    /// What the top gets, if it was made.
    of_top: Option<Kept>,
    list: Vec<Entered>,
    /// The places of those from the top to the current one.
    way: Vec<usize>,
}

impl Directories {
    /// For a walk that starts in this directory, which gets `kept` too, if it was made.
    #[must_use]
    pub const fn new(top: Arc<Folder>, kept: Option<Kept>) -> Self {
        Self { top, of_top: kept, list: Vec::new(), way: Vec::new() }
    }

    /// Notes a directory that the walk goes into; entries of the top have depth 1. It gets `kept` if it was made.
    ///
    /// # Errors
    /// The system does not say which directory it is.
    pub fn enter(&mut self, depth: usize, name: &OsStr, folder: &Folder, kept: Option<Kept>) -> io::Result<()> {
        self.way.truncate(depth.saturating_sub(1));
        let entered =
            Entered { parent: self.way.last().copied(), name: name.to_owned(), identity: folder.identity()?, kept };
        self.way.push(self.list.len());
        self.list.push(entered);
        Ok(())
    }

    /// Gives all that were made their attributes, each after what is in it. Returns of how many the owner could not be set.
    ///
    /// # Errors
    /// One of them is not there any more, or the system refuses it.
    pub fn finish(self) -> Result<u64, FolderError> {
        let mut folders = Folders::from(Arc::clone(&self.top));
        let mut not_owned = 0_u64;
        let of_top = self.of_top.map(|kept| (None, kept));
        let made = self.list.iter().enumerate().rev().filter_map(|(place, entered)| Some((Some(place), entered.kept?)));
        for (place, kept) in made.chain(of_top) {
            let folder = folders.at(&self.way_to(place))?;
            let expected = place.and_then(|place| self.list.get(place)).map(|entered| entered.identity);
            let given = give(&folder, expected, &kept);
            let path = || folder.path_of(OsStr::new(""));
            let owned = given.map_err(|source| FolderError { path: path(), made: true, source })?;
            not_owned = not_owned.saturating_add(u64::from(!owned));
        }
        Ok(not_owned)
    }

    /// The names that lead from the top to a directory of the list.
    fn way_to(&self, place: Option<usize>) -> Vec<&OsStr> {
        let mut way = Vec::new();
        let mut here = place.and_then(|place| self.list.get(place));
        while let Some(entered) = here {
            way.push(entered.name.as_os_str());
            here = entered.parent.and_then(|place| self.list.get(place));
        }
        way.reverse();
        way
    }
}

fn give(folder: &Folder, expected: Option<(u64, u64)>, kept: &Kept) -> io::Result<bool> {
    use std::os::fd::AsFd as _;
    let folder_now = folder.identity()?;
    if expected.is_some_and(|expected| expected != folder_now) {
        return Err(io::Error::other("another directory has taken its place"));
    }
    kept.give(folder.open_itself()?.as_fd(), u32::MAX)
}
