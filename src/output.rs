//! Files that a command makes. A file has its name only when it is whole: until then it is called `NAME.partial`, and it
//! is removed when the command fails or is interrupted. Only what cannot be caught (SIGKILL, a crash) leaves such a file,
//! and the next command that makes NAME takes it over.
//!
//! A file in the making is locked by its process, and its mode has the sticky bit, which means nothing for a file. So a
//! leftover is known: it has that bit, and nobody holds its lock. No other file called `NAME.partial` is touched.
//!
//! Every step goes through a handle of the directory ([`Folder`]), so that a directory or a symbolic link that somebody
//! puts in its place in the meantime is not followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use gmfs_io::Span;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::failure::{Failure, printable};
use crate::interrupt;

/// The mode of every file that a command makes: it may hold guest memory, or what tells about it.
const PRIVATE_FILE: u32 = 0o600;
/// The mode of every directory that a command makes.
const PRIVATE_FOLDER: u32 = 0o700;
/// The mode of a file in the making.
const UNFINISHED: u32 = PRIVATE_FILE | 0o1000;
/// How many names are tried for a file in the making: others of these names are in the making too, or are no leftovers.
const NAMES: u32 = 100;
/// What a second signal ends the program with: as the shell tells of SIGINT.
const KILLED: u8 = 130;

/// Refuses to go on after an interrupt.
pub(crate) fn go_on() -> Result<(), Failure> {
    if interrupt::asked() {
        return Err(Failure::new("interrupted", "interrupted: the file that was being made is removed"));
    }
    Ok(())
}

/// An open directory. Its methods take one name, never a path, and follow no symbolic link, so what they make is in this
/// directory, whatever others do to it.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: OwnedFd,
    /// How the directory is called in messages.
    path: PathBuf,
}

impl Folder {
    /// Opens the directory that the user named; also through symbolic links.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let named = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(CWD, named, flags, Mode::empty())?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// Opens a directory in this one. A symbolic link is an error.
    pub(crate) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        // One name that is no `..`, and no link: that is what RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS come to, also on
        // kernels without openat2.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, single(name)?, flags, Mode::empty())?;
        Ok(Self { handle, path: self.path.join(name) })
    }

    /// Makes a directory in this one, unless there is one already, and opens it.
    pub(crate) fn make(&self, name: &OsStr) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.handle, single(name)?, Mode::from_raw_mode(PRIVATE_FOLDER)) {
            Ok(()) => self.enter(name),
            Err(Errno::EXIST) => self.enter(name).map_err(|error| match self.entry(name) {
                Ok(Some(found)) if FileType::from_raw_mode(found.st_mode).is_symlink() => {
                    io::Error::other("there is a symbolic link of this name, which is not followed")
                }
                _ => error,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// How an entry is called in messages.
    pub(crate) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Removes a file or a link, if it is there.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, single(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What has this name; of a link, the link itself.
    fn entry(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.handle, single(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new file that is in the making. Whatever has the name already, a dangling link too, is an error.
    fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(PRIVATE_FILE);
        let file = File::from(rustix::fs::openat(&self.handle, single(name)?, flags, mode)?);
        // Locked before it is marked: what is marked and not locked is a leftover. Where there are no locks or no modes,
        // it is made all the same.
        if file.try_lock().is_ok() {
            let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(UNFINISHED));
        }
        Ok(file)
    }

    /// Opens what a command left that was killed while it made a file, and locks it. `None` if the name is of anything else.
    fn leftover(&self, name: &OsStr) -> io::Result<Option<File>> {
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
        // Who held the lock until now may have given the file its name, or removed it.
        let same = |now: Stat| (now.st_dev, now.st_ino, now.st_mode) == (found.st_dev, found.st_ino, found.st_mode);
        Ok(self.entry(name)?.is_some_and(same).then_some(file))
    }

    fn rename(&self, from: &OsStr, to: &OsStr, replace: bool) -> io::Result<()> {
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

/// A file in the making.
pub(crate) struct NewFile {
    file: File,
    folder: Arc<Folder>,
    partial: OsString,
    name: OsString,
    replace: bool,
    kept: bool,
}

impl NewFile {
    /// Begins the file that is to be at `target`, a path that the user named. What is there is replaced in the end, if it
    /// may be: a regular file, and none of those that are read, `inputs`.
    pub(crate) fn begin<'p>(target: &Path, replace: bool, inputs: impl Iterator<Item = &'p Path>) -> Result<Self> {
        let inputs: Vec<&Path> = inputs.collect();
        check(target, replace, inputs.iter().copied())?;
        let cannot = || printable(&format!("cannot make {}", target.display()));
        let (folder, name) = folder_of(target).with_context(cannot)?;
        Self::begin_in(&Arc::new(folder), &name, replace, inputs.into_iter())
    }

    /// Likewise in a directory that is open.
    pub(crate) fn begin_in<'p>(
        folder: &Arc<Folder>,
        name: &OsStr,
        replace: bool,
        inputs: impl Iterator<Item = &'p Path>,
    ) -> Result<Self> {
        let cannot = || printable(&format!("cannot make {}", folder.path_of(name).display()));
        check_target(folder, name, replace, inputs).with_context(cannot)?;
        interrupt::watch(KILLED)?;
        let (file, partial) = partial(folder, name).with_context(cannot)?;
        Ok(Self { file, folder: Arc::clone(folder), partial, name: name.to_owned(), replace, kept: false })
    }

    /// Where bytes go.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// What the file is called until it is whole.
    pub(crate) fn partial(&self) -> PathBuf {
        self.folder.path_of(&self.partial)
    }

    /// Gives the file its name. It must be whole, and with the medium.
    pub(crate) fn keep(mut self) -> Result<()> {
        go_on()?;
        let cannot = || printable(&format!("cannot make {}", self.folder.path_of(&self.name).display()));
        // Where that fails, modes mean nothing.
        let _ = rustix::fs::fchmod(&self.file, Mode::from_raw_mode(PRIVATE_FILE));
        self.folder.rename(&self.partial, &self.name, self.replace).with_context(cannot)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // The error that is being told is the one that matters.
            let _ = self.folder.remove(&self.partial);
        }
    }
}

/// Whether a path ends in a slash, and so can only be a directory's.
pub(crate) fn demands_directory(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// Refuses what [`NewFile::begin`] would refuse, and makes nothing.
pub(crate) fn check<'p>(target: &Path, replace: bool, inputs: impl Iterator<Item = &'p Path>) -> Result<()> {
    let cannot = || printable(&format!("cannot make {}", target.display()));
    if demands_directory(target) {
        let failure = Failure::new("not-directory", "the slash at its end demands a directory");
        return Err(failure.hint("name a file")).with_context(cannot);
    }
    let (folder, name) = folder_of(target).with_context(cannot)?;
    check_target(&folder, &name, replace, inputs).with_context(cannot)
}

/// The directory of a path that the user named, open, and the last part of the path.
pub(crate) fn folder_of(target: &Path) -> Result<(Folder, OsString)> {
    let name = target.file_name().context("it has no name")?;
    let above = target.parent().unwrap_or_else(|| Path::new(""));
    Ok((Folder::open(above)?, name.to_owned()))
}

/// Refuses what cannot be made or must not be replaced.
fn check_target<'p>(
    folder: &Folder,
    name: &OsStr,
    replace: bool,
    mut inputs: impl Iterator<Item = &'p Path>,
) -> Result<()> {
    let Some(there) = folder.entry(name)? else { return Ok(()) };
    if !replace {
        return Err(Failure::new("exists", "it exists already").hint("-f replaces it").into());
    }
    let whole = Span::new(0, u64::MAX);
    let target = folder.path_of(name);
    let same = |path: &Path| {
        // Also a device whose bytes are in the file.
        gmfs_image::share_bytes((path, whole), (&target, whole))
            || path.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.st_dev, there.st_ino))
            || path.symlink_metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.st_dev, there.st_ino))
    };
    if inputs.any(same) {
        return Err(Failure::new("same-file", "it is the image itself").into());
    }
    // A link is replaced itself, and what it leads to stays as it is.
    if !matches!(FileType::from_raw_mode(there.st_mode), FileType::RegularFile | FileType::Symlink) {
        return Err(Failure::new("wrong-kind", "it is no regular file").into());
    }
    Ok(())
}

/// The file that is written first, beside its later name: a new one, or one that a command left that was killed.
fn partial(folder: &Folder, name: &OsStr) -> Result<(File, OsString)> {
    let mut made: Option<(File, OsString)> = None;
    for number in 1..=NAMES {
        let Some(partial) = partial_name(folder, name, number)? else { continue };
        let taken = folder.entry(&partial)?.is_some();
        match &made {
            // Further leftovers have further numbers.
            Some(_) if !taken => break,
            Some(_) => {
                if let Some(file) = folder.leftover(&partial)? {
                    folder.remove(&partial)?;
                    drop(file);
                }
            }
            None if taken => {
                if let Some(file) = folder.leftover(&partial)? {
                    file.set_len(0)?;
                    made = Some((file, partial));
                }
            }
            None => match folder.create(&partial) {
                Ok(file) => made = Some((file, partial)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
    if let Some(made) = made {
        return Ok(made);
    }
    let message = format!("{NAMES} files named .partial are beside it");
    Err(Failure::new("exists", message).hint("wait until they are whole, or remove those that nobody is making").into())
}

/// What a file in the making is called, the `number`th of that name; `None` if there can be no such name.
fn partial_name(folder: &Folder, name: &OsStr, number: u32) -> Result<Option<OsString>> {
    let ending = if number == 1 { ".partial".to_owned() } else { format!(".partial-{number}") };
    // A name of the greatest length has no room for an ending.
    for stem in [name, "gmfs".as_ref()] {
        let mut partial = stem.to_owned();
        partial.push(&ending);
        match folder.entry(&partial) {
            Ok(_) => return Ok(Some(partial)),
            Err(error) if error.kind() == ErrorKind::InvalidFilename => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn begin(path: &Path, replace: bool, inputs: &[&Path]) -> Result<NewFile> {
        NewFile::begin(path, replace, inputs.iter().copied())
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (target, partial) = (dir.path().join("out"), dir.path().join("out.partial"));
        let file = begin(&target, false, &[]).unwrap();
        (&mut file.file()).write_all(b"half").unwrap();
        assert!(partial.exists() && !target.exists());
        drop(file);
        assert!(!partial.exists() && !target.exists(), "nothing is left of what was not kept");
        // What somebody else has left there stays.
        fs::write(&partial, b"left").unwrap();
        let file = begin(&target, false, &[]).unwrap();
        (&mut file.file()).write_all(b"whole").unwrap();
        file.keep().unwrap();
        assert_eq!((fs::read(&target).unwrap(), fs::read(&partial).unwrap()), (b"whole".to_vec(), b"left".to_vec()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_a_killed_command_left_is_taken_over_unless_somebody_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let names = || {
            let mut names: Vec<OsString> =
                fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        // As a kill leaves it: the lock goes with the process, and the file stays.
        let killed = |number: u32| {
            let file = begin(&target, false, &[]).unwrap();
            (&mut file.file()).write_all(b"half of it").unwrap();
            assert!(file.partial().to_string_lossy().ends_with(&number.to_string()) || number == 1);
            assert_eq!(fs::metadata(file.partial()).unwrap().mode() & 0o777, 0o600);
            file
        };
        let (first, second, third) = (killed(1), killed(2), killed(3));
        assert_eq!(names(), ["out.partial", "out.partial-2", "out.partial-3"]);
        let kill = |mut file: NewFile| {
            file.kept = true;
        };
        kill(second);
        kill(third);
        // The first is in the making still.
        let next = begin(&target, false, &[]).unwrap();
        assert_eq!(names(), ["out.partial", "out.partial-2"], "one is taken over, and the other goes");
        assert_eq!(fs::metadata(next.partial()).unwrap().len(), 0);
        kill(next);
        kill(first);
        begin(&target, false, &[]).unwrap().keep().unwrap();
        assert_eq!(names(), ["out"]);
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn nothing_is_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let late = begin(&target, false, &[]).unwrap();
        fs::write(&target, b"old").unwrap();
        assert!(begin(&target, false, &[]).err().unwrap().root_cause().to_string().contains("exists"));
        assert!(late.keep().is_err(), "what came meanwhile stays");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let refused = begin(&target, true, &[&target]).err().unwrap();
        assert!(refused.root_cause().to_string().contains("the image itself"));
        drop(begin(&target, true, &[]).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"old", "not replaced before the new one is whole");
        begin(&target, true, &[]).unwrap().keep().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert!(begin(dir.path(), true, &[]).is_err());
    }

    #[test]
    fn a_folder_takes_names_only_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        symlink("elsewhere", dir.path().join("link")).unwrap();
        symlink("elsewhere/dangling", dir.path().join("out.partial")).unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        for wrong in ["", ".", "..", "a/b", "/", "link/x"] {
            let name = OsStr::new(wrong);
            assert!(folder.make(name).is_err() && folder.enter(name).is_err(), "{wrong}");
            assert!(NewFile::begin_in(&folder, name, true, std::iter::empty()).is_err(), "{wrong}");
        }
        assert!(folder.make("link".as_ref()).is_err() && folder.enter("link".as_ref()).is_err());
        let made = folder.make("made".as_ref()).unwrap();
        // The path means something else now, and the folder does not.
        fs::rename(dir.path().join("made"), dir.path().join("moved")).unwrap();
        symlink("elsewhere", dir.path().join("made")).unwrap();
        NewFile::begin_in(&Arc::new(made), "in".as_ref(), false, std::iter::empty()).unwrap().keep().unwrap();
        assert!(dir.path().join("moved/in").exists());
        NewFile::begin_in(&folder, "out".as_ref(), false, std::iter::empty()).unwrap().keep().unwrap();
        assert_eq!(fs::metadata(dir.path().join("out")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("elsewhere")).unwrap().count(), 0);
    }

    #[test]
    fn a_name_may_be_as_long_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("n".repeat(255));
        begin(&target, false, &[]).unwrap().keep().unwrap();
        assert!(target.exists());
    }
}
