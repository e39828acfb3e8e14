//! Locks on memory that a virtual machine uses. A writer's lock does not wait for these locks, so a region can be
//! changed while guests run in it. But nobody frees or overwrites what is locked here, and two VMMs cannot use the same
//! memory.
//!
//! They are locks of the same kind as those of readers and writers, on the same files and devices, 2⁶¹ bytes further
//! on. The kernel releases a lock when the last copy of its descriptor is closed. So a VMM that inherited the
//! descriptor holds the lock until the VMM ends, however it ends, and no other process has to run until then.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gmfs_io::Span;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::{Holders, Mode, USAGE, flock, holders_of, open, open_below, set};
use crate::below::{Identity, Level, System};
use crate::file::FileError;

/// At most this many locks of one image are listed.
const LISTED: usize = 1 << 16;

/// Memory that is locked as in use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Locked {
    /// The part, in bytes of the image.
    pub span: Span,
    /// Who has locked it.
    pub by: Holders,
}

/// Parts of an image that are locked as memory in use, until this value is dropped and each inherited copy of its
/// descriptors is closed.
#[derive(Debug)]
pub struct UsageLock {
    files: Vec<File>,
}

impl UsageLock {
    /// Locks `parts` of the bytes `whole` of the image at `path`, without waiting.
    ///
    /// # Errors
    /// [`FileError::Locked`] if a part is in use already; or the image cannot be opened for writing, or cannot be
    /// locked.
    pub fn take(path: &Path, whole: Span, parts: &[Span]) -> Result<Self, FileError> {
        let failed = |doing| move |source| FileError::Io { doing, path: path.to_owned(), source };
        let own = open(path, Mode::Exclusive);
        let own = own.map_err(|source| crate::file::explain_lock(path, Mode::Exclusive, source))?;
        let meta = own.metadata().map_err(failed("look at"))?;
        let first = Level { identity: Identity::of(&meta), path: path.to_owned(), span: whole };
        lock_parts((path, &own, Mode::Exclusive), whole, whole, parts)?;
        let mut lock = Self { files: vec![own] };
        let mut seen = vec![(meta.dev(), meta.ino())];
        let system = System::default();
        for level in system.levels_of(first) {
            for path in [Some(level.path.clone()), system.node(level.identity)].into_iter().flatten() {
                let Some(below) = open_below(&path, &level, Mode::Exclusive, &seen) else { continue };
                let meta = below.file.metadata().map_err(failed("look at"))?;
                seen.push((meta.dev(), meta.ino()));
                lock_parts((&path, &below.file, below.mode), whole, level.span, parts)?;
                lock.files.push(below.file);
            }
        }
        Ok(lock)
    }

    /// From now on, programs that this process starts inherit the lock.
    ///
    /// # Errors
    /// The error that the system returned.
    pub fn let_inherit(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| Ok(rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?))
    }

    /// The descriptors that hold it.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(File::as_fd)
    }
}

/// Locks the parts of an image on one of its levels, on which the bytes `whole` of the image are at `here`.
fn lock_parts(
    (path, file, mode): (&Path, &File, Mode),
    whole: Span,
    here: Span,
    parts: &[Span],
) -> Result<(), FileError> {
    for range in parts.iter().filter_map(|part| on_level(*part, whole, here)) {
        match set(file, mode, range) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let by = holders_of(file, mode, range, Span::new(u64::MAX, 0));
                return Err(FileError::Locked { path: path.to_owned(), by });
            }
            Err(errno) => {
                return Err(FileError::Io { doing: "lock", path: path.to_owned(), source: errno.into() });
            }
        }
    }
    Ok(())
}

/// The range that is locked for a part of an image. `None` if the level has none of it.
fn on_level(part: Span, whole: Span, here: Span) -> Option<Span> {
    let from = part.offset.checked_sub(whole.offset)?.checked_add(here.offset)?;
    let end = from.saturating_add(part.len).min(here.end()).min(USAGE);
    let len = end.checked_sub(from).filter(|len| *len > 0)?;
    Some(Span::new(from.saturating_add(USAGE), len))
}

/// The parts of `span` of the image at `path` that are locked as in use, on any level. A level that cannot be opened
/// counts as having none.
#[must_use]
pub fn locked(path: &Path, span: Span) -> Vec<Locked> {
    let system = System::default();
    let mut found: Vec<Locked> = Vec::new();
    for level in system.levels(path, span).unwrap_or_default() {
        let nodes: [Option<PathBuf>; 2] = [Some(level.path.clone()), system.node(level.identity)];
        for file in nodes.into_iter().flatten().filter_map(|path| open(&path, Mode::Shared).ok()) {
            let Some(range) = on_level(span, span, level.span) else { continue };
            for part in conflicts(&file, range) {
                let at = part.offset.saturating_sub(range.offset).saturating_add(span.offset);
                let part_of_image = Span::new(at, part.len);
                if found.iter().all(|known| !known.span.meets(part_of_image)) {
                    let by = holders_of(&file, Mode::Exclusive, part, Span::new(u64::MAX, 0));
                    found.push(Locked { span: part_of_image, by });
                }
            }
        }
    }
    found.sort_by_key(|locked| (locked.span.offset, locked.span.len));
    found
}

/// The locks of others within a range. The kernel reports one of them at a time.
fn conflicts(file: &File, range: Span) -> Vec<Span> {
    let (mut found, mut open) = (Vec::new(), vec![range]);
    while let Some(range) = open.pop().filter(|_| found.len() < LISTED) {
        let Ok(mut answer) = flock(libc::F_WRLCK, range) else { continue };
        if fcntl(file, FcntlArg::F_OFD_GETLK(&mut answer)).is_err() || i32::from(answer.l_type) == libc::F_UNLCK {
            continue;
        }
        let number = |n: libc::off_t| u64::try_from(n).unwrap_or_default();
        let start = number(answer.l_start).max(range.offset);
        let end = match number(answer.l_len) {
            0 => range.end(),
            len => number(answer.l_start).saturating_add(len).min(range.end()),
        };
        let Some(len) = end.checked_sub(start).filter(|len| *len > 0) else { continue };
        found.push(Span::new(start, len));
        let rest = [(range.offset, start), (end, range.end())];
        open.extend(
            rest.iter().filter(|(from, to)| from < to).map(|(from, to)| Span::new(*from, to.saturating_sub(*from))),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Locking, RangeLock};

    const MIB: u64 = 1 << 20;

    fn whole() -> Span {
        Span::new(MIB, 64 * MIB)
    }

    #[test]
    fn memory_in_use_is_locked_apart_from_readers_and_writers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let parts = [Span::new(3 * MIB, MIB), Span::new(9 * MIB, 2 * MIB)];
        let lock = UsageLock::take(path, whole(), &parts).unwrap();
        drop(RangeLock::take(path, Mode::Exclusive, &Locking::at_once()).unwrap());
        let again = UsageLock::take(path, whole(), &[Span::new(10 * MIB, MIB)]);
        assert!(matches!(again, Err(FileError::Locked { .. })), "{again:?}");
        UsageLock::take(path, whole(), &[Span::new(4 * MIB, 5 * MIB)]).unwrap();
        let found: Vec<Span> = locked(path, whole()).iter().map(|locked| locked.span).collect();
        assert_eq!(found, parts);
        let cut: Vec<Span> = locked(path, Span::new(10 * MIB, 30 * MIB)).iter().map(|locked| locked.span).collect();
        assert_eq!(cut, [Span::new(10 * MIB, MIB)]);
        drop(lock);
        assert_eq!(locked(path, whole()), []);
    }

    #[test]
    fn a_program_that_inherited_the_lock_holds_it_until_it_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let lock = UsageLock::take(path, whole(), &[Span::new(3 * MIB, MIB)]).unwrap();
        lock.let_inherit().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(lock);
        // Another test may start a program at the same moment, which inherits the lock too, and names itself here.
        let found = locked(path, whole());
        assert_eq!(found.len(), 1);
        assert!(found[0].by.0.iter().any(|process| process.pid == child.id()), "{found:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        for _ in 0..1000 {
            if locked(path, whole()).is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{:?}", locked(path, whole()));
    }
}
