//! Locks on the part of a file or device that a program works on: one writer, or any number of readers.
//!
//! They are locks of an open file description on a range of bytes (`F_OFD_SETLK` of `fcntl(2)`): advisory, gone with the
//! process, and no obstacle for whoever works on another range. The same range is locked on every level below (see
//! `below`), so that `/dev/loop0` and its backing file exclude each other.
//!
//! Whoever waits keeps others from overtaking: beside each range lies its *queue*, the same range 2⁶² further on. A
//! writer holds the queue exclusively until it has the range, so readers that come later do not get in before it; a
//! reader that waits holds the queue shared, so the next writer does not get in before it.

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

/// Where the queue of offset 0 is. No range that is locked reaches as far.
const QUEUE: u64 = 1 << 62;
/// Pauses between two attempts: short at first.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(25));
/// Whoever waits is told so after this time.
const ANNOUNCED: Duration = Duration::from_millis(500);
/// More processes that hold a lock than this are not named.
const NAMED: usize = 3;

/// Who else may have the range at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Others that only read.
    Shared,
    /// Nobody.
    Exclusive,
}

/// How to wait for a lock.
pub struct Locking<'a> {
    /// The range to lock, in bytes of the file or device; `None` is all of it, however long it becomes.
    pub span: Option<Span>,
    /// How long to wait.
    pub limit: Duration,
    /// Is told, once, that a lock has been waited for for a while, and who holds it.
    pub announce: &'a dyn Fn(&Path, &Holders),
    /// Whether to go on waiting.
    pub go_on: &'a dyn Fn() -> bool,
}

impl Locking<'_> {
    /// All of the file, without waiting.
    #[must_use]
    pub const fn at_once() -> Self {
        Self { span: None, limit: Duration::ZERO, announce: &|_, _| {}, go_on: &|| true }
    }

    fn span(&self) -> Span {
        self.span.unwrap_or(Span::new(0, u64::MAX))
    }
}

/// The processes that hold a lock, as far as they can be found.
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

/// One file or device with the lock on it.
#[derive(Debug)]
struct Held {
    file: File,
    path: PathBuf,
    span: Span,
    mode: Mode,
}

/// A lock on a range of a file or device and of what is below it. It is released when this is dropped.
#[derive(Debug)]
pub struct RangeLock {
    held: Vec<Held>,
    /// What was locked first: the file or device that the path named.
    device: u64,
    inode: u64,
    complete: bool,
}

impl RangeLock {
    /// Locks a range of what `path` names, and waits for it as `how` says.
    ///
    /// # Errors
    /// [`FileError::Locked`] with those that hold the lock; what opening the file for `mode` says. Where the filesystem
    /// has no locks, a reader goes on without, which [`is_complete`](Self::is_complete) tells, and a writer does not.
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
            // By the name that the kernel gives it, too, where that is another node.
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

    /// Whether everything that was to be locked is locked. Only readers can have less.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether `path` still names what was locked.
    #[must_use]
    pub fn is_of(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
    }
}

/// Opens for locking, which changes nothing: without waiting for anybody.
fn open(path: &Path, mode: Mode) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(mode == Mode::Exclusive)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// A level below, open for the strongest lock that its permissions allow; `None` if it has been locked already, or cannot
/// be opened at all: who may use the device need not be allowed to use the file behind it.
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

/// Waits for a range. Gives false if there are no locks here, which only a reader gets over.
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
                // Where that fails, the queue is left when the file is closed.
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

/// A range and its queue; `None` for a range without a byte that could be locked.
fn ranges(span: Span) -> Option<(Span, Span)> {
    let end = span.end().min(QUEUE);
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
    let number = |n: u64| libc::off_t::try_from(n).map_err(|_| Errno::EOVERFLOW);
    let flock = libc::flock {
        l_type: i16::try_from(kind).map_err(|_| Errno::EINVAL)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?,
        l_start: number(range.offset)?,
        l_len: number(range.len)?,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&flock)).map(drop)
}

/// Who holds what is in the way. `F_OFD_GETLK` does not tell: such a lock is an open file's, and no process's.
fn holders(wanted: &Held, range: Span, queue: Span) -> Holders {
    let Ok(meta) = wanted.file.metadata() else { return Holders::default() };
    let own = (meta.dev(), meta.ino());
    let mut found = Vec::new();
    for pid in processes::all().unwrap_or_default() {
        let directory = processes::directory(pid);
        let Ok(files) = std::fs::read_dir(directory.join("fd")) else { continue };
        let holds = files.filter_map(Result::ok).any(|entry| {
            let same = std::fs::metadata(entry.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == own);
            let info = || std::fs::read_to_string(directory.join("fdinfo").join(entry.file_name()));
            same && info().is_ok_and(|info| info.lines().any(|line| is_in_the_way(line, wanted.mode, range, queue)))
        });
        // The own attempt may hold the queue.
        if holds && pid != std::process::id() {
            found.push(Process::new(pid));
        }
    }
    Holders(found)
}

/// Whether a line of fdinfo is about a lock that excludes the wanted one:
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
