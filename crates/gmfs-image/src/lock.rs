//! Locks on the part of a file or device that a program uses: one writer, or any number of readers.
//!
//! They are open file description locks on a range of bytes (`F_OFD_SETLK` of `fcntl(2)`). They are advisory, are
//! released when the process ends, and do not affect other ranges. The same range is locked on every level below (see
//! `below`), so that `/dev/loop0` and its backing file exclude each other.
//!
//! A waiting process prevents others from overtaking it. Each range has a *queue*: the same range, 2⁶² bytes further
//! on. A writer holds the queue exclusively until it has the range, so that readers that come later do not get in
//! first. A waiting reader holds the queue shared, so that the next writer does not get in first.
//!
//! The memory of a virtual machine is locked in a third space, 2⁶¹ bytes further on (see [`usage`]). A process that
//! holds such a lock does not keep others from changing the rest of the region.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gmfs_io::Span;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::below::{Identity, System};
use crate::file::FileError;
use crate::processes::{self, Process};

pub mod usage;

/// The offset of the queue of offset 0.
const QUEUE: u64 = 1 << 62;
/// The offset of the usage lock of offset 0. No locked range reaches that far.
const USAGE: u64 = 1 << 61;
/// The shortest and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(25));
/// Waiting is announced to the user after this time.
const ANNOUNCED: Duration = Duration::from_millis(500);
/// At most this many processes that hold a lock are named.
const NAMED: usize = 3;

/// Which other locks may exist on the range at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those of other readers.
    Shared,
    /// None.
    Exclusive,
}

/// How to wait for a lock.
pub struct Locking<'a> {
    /// The range to lock, in bytes of the file or device. `None` is the whole of it, even if it grows.
    pub span: Option<Span>,
    /// How long to wait.
    pub limit: Duration,
    /// Called once, after some time of waiting for a lock, with the processes that hold it.
    pub announce: &'a dyn Fn(&Path, &Holders),
    /// Whether to continue waiting.
    pub go_on: &'a dyn Fn() -> bool,
}

impl Locking<'_> {
    /// Locks the whole file, without waiting.
    #[must_use]
    pub const fn at_once() -> Self {
        Self { span: None, limit: Duration::ZERO, announce: &|_, _| {}, go_on: &|| true }
    }

    fn span(&self) -> Span {
        self.span.unwrap_or(Span::new(0, u64::MAX))
    }
}

/// The processes that hold a lock. Some may be missing, because they could not be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders(pub Vec<Process>);

impl std::fmt::Display for Holders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str("another process") };
        write!(f, "{first}")?;
        let (named, more) = rest.split_at(rest.len().min(NAMED.saturating_sub(1)));
        for process in named {
            write!(f, ", {process}")?;
        }
        match more.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// One locked file or device.
#[derive(Debug)]
struct Held {
    file: File,
    path: PathBuf,
    span: Span,
    mode: Mode,
}

/// A lock on a range of a file or device, and on the same bytes on each level below. It is released on drop.
#[derive(Debug)]
pub struct RangeLock {
    held: Vec<Held>,
    /// Identifies the file or device that the path named.
    device: u64,
    inode: u64,
    complete: bool,
}

impl RangeLock {
    /// Locks a range of the file or device at `path`, and waits as `how` says.
    ///
    /// # Errors
    /// [`FileError::Locked`] with the processes that hold the lock, and the errors of opening the file for `mode`. If
    /// the filesystem does not support locks, a writer fails. A reader gets an incomplete lock (see
    /// [`is_complete`](Self::is_complete)).
    pub fn take(path: &Path, mode: Mode, how: &Locking<'_>) -> Result<Self, FileError> {
        let system = System::default();
        let failed = |source| FileError::Io { doing: "look at", path: path.to_owned(), source };
        let own = open(path, mode).map_err(|source| crate::file::explain_lock(path, mode, source))?;
        let meta = own.metadata().map_err(failed)?;
        let identity = Identity::of(&meta);
        let mut lock = Self { held: Vec::new(), device: meta.dev(), inode: meta.ino(), complete: true };
        let clock = Instant::now();
        let first = Held { file: own, path: path.to_owned(), span: how.span(), mode };
        lock.complete &= acquire(&first, how, clock)?;
        lock.held.push(first);
        let mut seen = vec![(meta.dev(), meta.ino())];
        let first = crate::below::Level { identity, path: path.to_owned(), span: how.span() };
        for level in system.levels_of(first) {
            // The node with the kernel's name for the device is locked as well, if it is a different node.
            for path in [Some(level.path.clone()), system.node(level.identity)].into_iter().flatten() {
                let Some(below) = open_below(&path, &level, mode, &seen) else { continue };
                let meta = below.file.metadata().map_err(failed)?;
                seen.push((meta.dev(), meta.ino()));
                lock.complete &= acquire(&below, how, clock)?;
                lock.held.push(below);
            }
        }
        Ok(lock)
    }

    /// Whether everything that should be locked is locked. Only a reader can have less.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether `path` still names the file or device that was locked.
    #[must_use]
    pub fn is_of(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
    }
}

/// Opens a file or device only to lock it. This neither changes it nor blocks.
fn open(path: &Path, mode: Mode) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(mode == Mode::Exclusive)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Opens a level below for the strongest lock that its permissions allow. Returns `None` if it has been locked already,
/// or cannot be opened: a user who may use the device need not have permission for its backing file.
fn open_below(path: &Path, level: &crate::below::Level, mode: Mode, seen: &[(u64, u64)]) -> Option<Held> {
    let meta = std::fs::metadata(path).ok()?;
    if seen.contains(&(meta.dev(), meta.ino())) || Identity::of(&meta) != level.identity {
        return None;
    }
    let (file, mode) = match open(path, mode) {
        Ok(file) => (file, mode),
        Err(_) => (open(path, Mode::Shared).ok()?, Mode::Shared),
    };
    (Identity::of(&file.metadata().ok()?) == level.identity).then_some(())?;
    Some(Held { file, path: path.to_owned(), span: level.span, mode })
}

/// Waits for a range. Returns false if the filesystem does not support locks; only readers accept that.
fn acquire(held: &Held, how: &Locking<'_>, clock: Instant) -> Result<bool, FileError> {
    let Some((range, queue)) = ranges(held.span) else { return Ok(true) };
    let mut announced = false;
    let mut pause = PAUSES.0;
    let mut queued = false;
    loop {
        let outcome = if queued { Ok(()) } else { set(&held.file, held.mode, queue) };
        let outcome = outcome.and_then(|()| {
            queued = true;
            set(&held.file, held.mode, range)
        });
        match outcome {
            Ok(()) => {
                // If that fails, the queue is released when the file is closed.
                let _ = release(&held.file, queue);
                return Ok(true);
            }
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(Errno::EINTR) => continue,
            Err(Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL) if held.mode == Mode::Shared => {
                return Ok(false);
            }
            Err(errno) => {
                return Err(FileError::Io { doing: "lock", path: held.path.clone(), source: errno.into() });
            }
        }
        let waited = clock.elapsed();
        if waited >= how.limit {
            return Err(FileError::Locked { path: held.path.clone(), by: holders(held, range, queue) });
        }
        if !(how.go_on)() {
            return Err(FileError::NotWaited { path: held.path.clone() });
        }
        if !announced && waited >= ANNOUNCED {
            announced = true;
            (how.announce)(&held.path, &holders(held, range, queue));
        }
        std::thread::sleep(pause.min(how.limit.saturating_sub(waited)));
        pause = pause.saturating_mul(2).min(PAUSES.1);
    }
}

/// A range and its queue. `None` if the range has no byte that could be locked.
fn ranges(span: Span) -> Option<(Span, Span)> {
    let end = span.end().min(USAGE);
    let range = Span::new(span.offset, end.checked_sub(span.offset).filter(|len| *len > 0)?);
    Some((range, Span::new(range.offset.saturating_add(QUEUE), range.len)))
}

fn set(file: &File, mode: Mode, range: Span) -> Result<(), Errno> {
    lock(file, if mode == Mode::Shared { libc::F_RDLCK } else { libc::F_WRLCK }, range)
}

fn release(file: &File, range: Span) -> Result<(), Errno> {
    lock(file, libc::F_UNLCK, range)
}

fn lock(file: &File, kind: i32, range: Span) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&flock(kind, range)?)).map(drop)
}

fn flock(kind: i32, range: Span) -> Result<libc::flock, Errno> {
    let number = |n: u64| libc::off_t::try_from(n).map_err(|_| Errno::EOVERFLOW);
    Ok(libc::flock {
        l_type: i16::try_from(kind).map_err(|_| Errno::EINVAL)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?,
        l_start: number(range.offset)?,
        l_len: number(range.len)?,
        l_pid: 0,
    })
}

/// Finds the processes that hold the conflicting lock. `F_OFD_GETLK` does not report them, because such a lock belongs
/// to an open file and not to a process.
fn holders(wanted: &Held, range: Span, queue: Span) -> Holders {
    holders_of(&wanted.file, wanted.mode, range, queue)
}

fn holders_of(file: &File, mode: Mode, range: Span, queue: Span) -> Holders {
    let Ok(meta) = file.metadata() else { return Holders::default() };
    let own = (meta.dev(), meta.ino());
    let mut found = Vec::new();
    for pid in processes::all().unwrap_or_default() {
        let directory = processes::directory(pid);
        let Ok(files) = std::fs::read_dir(directory.join("fd")) else { continue };
        let holds = files.filter_map(Result::ok).any(|entry| {
            let same = processes::identity(&entry.path()).is_some_and(|(_, numbers)| numbers == own);
            let info = || std::fs::read_to_string(directory.join("fdinfo").join(entry.file_name()));
            same && info().is_ok_and(|info| info.lines().any(|line| is_in_the_way(line, mode, range, queue)))
        });
        // This process may hold the queue itself.
        if holds && pid != std::process::id() {
            found.push(Process::new(pid));
        }
    }
    Holders(found)
}

/// Whether a line of fdinfo shows a lock that conflicts with the wanted one:
/// `lock:   1: OFDLCK ADVISORY WRITE -1 08:01:1234 0 EOF`.
fn is_in_the_way(line: &str, wanted: Mode, range: Span, queue: Span) -> bool {
    let Some(rest) = line.strip_prefix("lock:") else { return false };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [.., first, last] = words.as_slice() else { return false };
    let Ok(first) = first.parse::<u64>() else { return false };
    let last = last.parse().unwrap_or(u64::MAX);
    let kind = words.get(1).is_some_and(|kind| matches!(*kind, "OFDLCK" | "POSIX"));
    let excludes = wanted == Mode::Exclusive || words.contains(&"WRITE");
    let meets = |span: Span| first < span.end() && last >= span.offset;
    kind && excludes && (meets(range) || meets(queue))
}

#[cfg(test)]
mod tests;
