//! Finds memory that processes have mapped, or have locked as memory in use (see [`usage`]). A VMM that was started
//! without gmfs takes no such lock, so its mappings are the only sign that it uses memory. `/proc/PID/maps` lists the
//! file or device of each mapping of a process, and its offset. A mapping shows bytes of an image if both have the same
//! bytes at their lowest level (see `below`). So a guest that maps a loop device is found by a program that works on
//! the backing file, and the other way round.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use gmfs_io::Span;

use crate::below::{Identity, Level, System};
use crate::file::FileError;
use crate::lock::usage::{self, Locked};
use crate::processes::{self, Process};

/// A part of an image that a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mapped {
    /// The part, in bytes of the image.
    pub span: Span,
    /// The process that has mapped it.
    pub process: Process,
}

/// The parts of an image that processes have mapped at one moment.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    mapped: Vec<Mapped>,
    locked: Vec<Locked>,
    unseen: u64,
}

impl InUse {
    /// Searches the mappings of all processes but this one for parts of `span` of the image at `path`.
    ///
    /// # Errors
    /// The image or procfs cannot be examined.
    pub fn find(path: &Path, span: Span) -> Result<Self, FileError> {
        let failed = |doing| move |source| FileError::Io { doing, path: path.to_owned(), source };
        let system = System::default();
        let levels = system.levels(path, span).map_err(failed("look at"))?;
        let Some(bottom) = levels.last() else { return Ok(Self::default()) };
        let mut search =
            Search { system: &system, bottom, base: span.offset, known: BTreeMap::new(), answered: BTreeMap::new() };
        let mut found = Self::default();
        let pids = processes::all().map_err(failed("look through /proc for processes that map"))?;
        // If procfs hides other users' processes, not even process 1 is listed.
        found.unseen = u64::from(pids.first() != Some(&1));
        for pid in pids {
            if pid == std::process::id() {
                continue;
            }
            match std::fs::read(processes::directory(pid).join("maps")) {
                Ok(text) => found.mapped.extend(search.process(pid, &text)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    found.unseen = found.unseen.saturating_add(u64::from(has_memory(pid)));
                }
                // The process has ended.
                Err(_) => {}
            }
        }
        found.locked = usage::locked(path, span);
        found.mapped.sort_by(|a, b| (a.span, &a.process).cmp(&(b.span, &b.process)));
        Ok(found)
    }

    /// All mapped parts, in image order.
    #[must_use]
    pub fn mapped(&self) -> &[Mapped] {
        &self.mapped
    }

    /// The parts that are locked as memory in use, whether or not the holders have mapped them, in image order.
    #[must_use]
    pub fn locked(&self) -> &[Locked] {
        &self.locked
    }

    /// How many more processes, at least, may have mapped it. This process is not allowed to read their mappings.
    #[must_use]
    pub const fn unseen(&self) -> u64 {
        self.unseen
    }
}

/// Whether a process has memory of its own. Kernel threads have none, and have no command line.
fn has_memory(pid: u32) -> bool {
    std::fs::read(processes::directory(pid).join("cmdline")).is_ok_and(|line| !line.is_empty())
}

struct Search<'a> {
    system: &'a System,
    /// The lowest level of the image.
    bottom: &'a Level,
    /// The offset in the image of these bytes.
    base: u64,
    /// Device and inode numbers in mappings that have been resolved already.
    known: BTreeMap<(u64, u64), Option<Identity>>,
    /// Device numbers of filesystems, and whether a process answers for each.
    answered: BTreeMap<u64, bool>,
}

impl Search<'_> {
    /// The parts of the image that a process has mapped. Adjacent ones are joined.
    fn process(&mut self, pid: u32, maps: &[u8]) -> Vec<Mapped> {
        let mut spans: Vec<Span> = Vec::new();
        for line in maps.split(|byte| *byte == b'\n').filter_map(Line::parse) {
            let Some(span) = self.shown(pid, &line) else { continue };
            match spans.last_mut() {
                Some(last) if last.end() == span.offset => last.len = last.len.saturating_add(span.len),
                _ => spans.push(span),
            }
        }
        if spans.is_empty() {
            return Vec::new();
        }
        let process = Process::new(pid);
        spans.into_iter().map(|span| Mapped { span, process: process.clone() }).collect()
    }

    /// The part of the image that a mapping shows.
    fn shown(&mut self, pid: u32, line: &Line<'_>) -> Option<Span> {
        let numbers = (line.device, line.inode);
        let identity = match self.known.get(&numbers) {
            Some(known) => *known,
            None => {
                let found = Some(self.identity(pid, line));
                let found = found.filter(|found| self.meets_bottom(*found));
                self.known.insert(numbers, found);
                found
            }
        }?;
        let first = Level { identity, path: PathBuf::new(), span: line.span };
        let levels = self.system.levels_of(first);
        let last = levels.last().filter(|last| last.identity == self.bottom.identity)?;
        let from = last.span.offset.max(self.bottom.span.offset);
        let end = last.span.end().min(self.bottom.span.end());
        let len = end.checked_sub(from).filter(|len| *len > 0)?;
        Some(Span::new(from.saturating_sub(self.bottom.span.offset).saturating_add(self.base), len))
    }

    /// Whether a file or device can hold the image's bytes.
    fn meets_bottom(&self, identity: Identity) -> bool {
        let whole = Level { identity, path: PathBuf::new(), span: Span::new(0, u64::MAX) };
        self.system.levels_of(whole).last().is_some_and(|last| last.identity == self.bottom.identity)
    }

    /// What a mapping is of. The numbers in its line are those of the node by which a device was opened, and some
    /// filesystems report other numbers to `stat(2)`. So the mapped file is examined through its link in `map_files`,
    /// or otherwise by its path. On a filesystem whose answers come from a process, no path is looked up: that process
    /// may be this one, which would wait for itself.
    fn identity(&mut self, pid: u32, line: &Line<'_>) -> Identity {
        let directory = processes::directory(pid);
        if let Some((identity, _)) = processes::identity(&directory.join("map_files").join(line.addresses)) {
            return identity;
        }
        let answered = self.answered.entry(line.device).or_insert_with(|| processes::is_answered(pid, line.device));
        let path = line.path.strip_prefix('/').filter(|path| !*answered && !path.ends_with(" (deleted)"));
        let found = path.and_then(|path| processes::identity(&directory.join("root").join(path)));
        match found.filter(|(_, (_, inode))| *inode == line.inode) {
            Some((identity, _)) => identity,
            None => Identity::File { device: line.device, inode: line.inode },
        }
    }
}

/// A line of `/proc/PID/maps` that names a file or device.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    /// The range of addresses, which is also the name of the link in `map_files`.
    addresses: &'a str,
    /// The part of the file that is mapped, in bytes.
    span: Span,
    /// The device number of the filesystem, and the inode number.
    device: u64,
    inode: u64,
    path: &'a str,
}

impl<'a> Line<'a> {
    /// Parses a line. Returns `None` for memory without a file.
    fn parse(line: &'a [u8]) -> Option<Self> {
        // A path that is not UTF-8 is not used; the file is then found by its link only.
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(line.get(..error.valid_up_to())?).ok()?,
        };
        let mut rest = text;
        let mut word = || {
            let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = behind;
            word
        };
        let (addresses, _, offset, device, inode) = (word(), word(), word(), word(), word());
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (start, end) = addresses.split_once('-')?;
        let len = hex(end)?.checked_sub(hex(start)?)?;
        let (major, minor) = device.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        let inode: u64 = inode.parse().ok().filter(|inode| *inode != 0)?;
        let device = rustix::fs::makedev(number(major)?, number(minor)?);
        Some(Self { addresses, span: Span::new(hex(offset)?, len), device, inode, path: rest.trim_start() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn lines_of_maps_are_understood() {
        let line =
            b"7f0000200000-7f0000600000 rw-s 00400000 fe:01 131081                     /vms/with space (deleted)";
        let parsed = Line::parse(line).unwrap();
        assert_eq!(parsed.addresses, "7f0000200000-7f0000600000");
        assert_eq!(parsed.span, Span::new(4 << 20, 4 << 20));
        assert_eq!((parsed.device, parsed.inode), (rustix::fs::makedev(0xfe, 1), 131_081));
        assert_eq!(parsed.path, "/vms/with space (deleted)");
        assert_eq!(Line::parse(b"7ffd0-7ffd1 rw-p 00000000 00:00 0    [stack]"), None);
        assert_eq!(Line::parse(b"7ffd0-7ffd1 rw-p 00000000 00:05 7    /dev/\xffx").unwrap().path, "/dev/");
        for nonsense in [&b""[..], b"x", b"2-1 r--p 0 0:0 1 /x", b"1-2 r--p z 0:0 1 /x"] {
            assert_eq!(Line::parse(nonsense), None);
        }
    }

    /// Maps a file by running a program from it, because a shell cannot map a file.
    #[test]
    fn a_program_that_runs_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("a program");
        std::fs::copy("/bin/cat", &program).unwrap();
        let whole = Span::new(0, u64::MAX);
        assert_eq!(InUse::find(&program, whole).unwrap().mapped(), []);
        let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Once it answers, the new program has replaced the one that started it.
        Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let found = InUse::find(&program, whole).unwrap();
        assert!(found.mapped().iter().all(|mapped| mapped.process.pid == child.id()), "{found:?}");
        assert_eq!(found.mapped().first().unwrap().span.offset, 0);
        assert_eq!(found.mapped().first().unwrap().process.name, "a program");
        let part = InUse::find(&program, Span::new(0, 100)).unwrap();
        assert_eq!(part.mapped().first().unwrap().span, Span::new(0, 100), "cut to what was asked for");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(InUse::find(&program, whole).unwrap().mapped(), []);
    }
}
