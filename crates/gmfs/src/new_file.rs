//! Files that get their name only when they are complete.
//!
//! Until then such a file is called `NAME.partial`, and it is removed when it is dropped. Only what cannot be caught
//! (SIGKILL, a crash) leaves such a file behind, and the next [`NewFile`] of that name takes it over.
//!
//! An unfinished file is locked by its process, and its mode has the sticky bit, which means nothing for a file. So a
//! leftover can be recognised: it has that bit, and nobody holds its lock. No other file called `NAME.partial` is
//! touched.
//!
//! Every step goes through a handle of the directory ([`Folder`]), so that a directory or a symbolic link that somebody
//! puts in its place in the meantime is not followed.
//!
//! ```
//! use std::io::Write as _;
//! use gmfs::new_file::NewFile;
//! # let dir = tempfile::tempdir()?;
//! let target = dir.path().join("copy");
//! let new = NewFile::begin(&target, false, [])?;
//! new.file().write_all(b"half")?;
//! drop(new);
//! assert!(!target.exists());
//! let new = NewFile::begin(&target, false, [])?;
//! new.file().write_all(b"whole")?;
//! new.file().sync_all()?;
//! new.keep()?;
//! assert_eq!(std::fs::read(&target)?, b"whole");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gmfs_io::Span;
use rustix::fs::{FileType, Mode};

use crate::attributes::Kept;
use crate::folder::{Folder, PRIVATE_FILE};

/// How many names are tried for an unfinished file. A name is taken if its file is being written, or is no leftover.
const NAMES: u32 = 100;

/// A file that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {}", path.display())]
#[non_exhaustive]
pub struct NewFileError {
    /// The path that the file was to have.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub why: Refused,
}

/// Why a file was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The path ends in a slash, so that only a directory can be meant.
    #[error("the slash at its end demands a directory")]
    Slash,
    /// The path has no last part that could be a name.
    #[error("it has no name")]
    NoName,
    /// There is a file of this name, which was not to be replaced.
    #[error("it exists already")]
    Exists,
    /// It is one of the files that are read, or holds the same bytes.
    #[error("it is the image itself")]
    Input,
    /// What has this name is a directory, a device, or the like, and is not replaced.
    #[error("it is no regular file")]
    WrongKind,
    /// All names that the unfinished file could have are taken.
    #[error("{0} files named .partial are beside it")]
    Partials(u32),
    /// What the system said.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Refused {
    /// As the error of the file at `path`.
    fn at(self, path: impl Into<PathBuf>) -> NewFileError {
        NewFileError { path: path.into(), why: self }
    }
}

/// An unfinished file.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    folder: Arc<Folder>,
    partial: OsString,
    name: OsString,
    replace: bool,
    kept: bool,
}

impl NewFile {
    /// Begins the file that is to be at `target`. With `replace`, a regular file or a link that has this name is
    /// replaced in the end, but none of the files that are read, `inputs`.
    ///
    /// # Errors
    /// [`NewFileError`]; nothing is made then.
    pub fn begin<'p>(
        target: &Path,
        replace: bool,
        inputs: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Self, NewFileError> {
        let (folder, name) = target_of(target, replace, inputs)?;
        Self::make(&Arc::new(folder), &name, replace)
    }

    /// As [`begin`](Self::begin), in a directory that is open.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_in<'p>(
        folder: &Arc<Folder>,
        name: &OsStr,
        replace: bool,
        inputs: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Self, NewFileError> {
        check_target(folder, name, replace, inputs).map_err(|why| why.at(folder.path_of(name)))?;
        Self::make(folder, name, replace)
    }

    fn make(folder: &Arc<Folder>, name: &OsStr, replace: bool) -> Result<Self, NewFileError> {
        let (file, partial) = partial(folder, name).map_err(|why| why.at(folder.path_of(name)))?;
        Ok(Self { file, folder: Arc::clone(folder), partial, name: name.to_owned(), replace, kept: false })
    }

    /// The file that bytes are written to.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The path of the file until it is complete.
    #[must_use]
    pub fn partial(&self) -> PathBuf {
        self.folder.path_of(&self.partial)
    }

    /// Gives the file its name. It must be complete and durable.
    ///
    /// # Errors
    /// The system refuses it, or, where nothing was to be replaced, another file has the name by now.
    pub fn keep(self) -> Result<(), NewFileError> {
        self.keep_with(PRIVATE_FILE)
    }

    /// As [`keep`](Self::keep), with these permission bits, for a file that others may read.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn keep_with(self, mode: u32) -> Result<(), NewFileError> {
        // If this fails, the filesystem has no modes.
        let _ = rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode));
        self.name_it()
    }

    /// As [`keep`](Self::keep), with attributes that a store records. Returns whether the file has its owner and group too,
    /// which may need root.
    ///
    /// # Errors
    /// As [`keep`](Self::keep), or the system does not take the permission bits.
    pub fn keep_as(self, kept: &Kept) -> Result<bool, NewFileError> {
        let given = kept.give_file(self.file.as_fd());
        let owned = given.map_err(|error| Refused::from(error).at(self.folder.path_of(&self.name)))?;
        self.name_it()?;
        Ok(owned)
    }

    fn name_it(mut self) -> Result<(), NewFileError> {
        let named = self.folder.rename(&self.partial, &self.name, self.replace);
        named.map_err(|error| Refused::from(error).at(self.folder.path_of(&self.name)))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // There is an error already, and that is the one that matters.
            let _ = self.folder.remove(&self.partial);
        }
    }
}

/// Whether a path ends in a slash, and so can only be a directory's.
#[must_use]
pub fn demands_directory(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// Refuses what [`NewFile::begin`] would refuse, and makes nothing.
///
/// # Errors
/// As [`NewFile::begin`].
pub fn check<'p>(target: &Path, replace: bool, inputs: impl IntoIterator<Item = &'p Path>) -> Result<(), NewFileError> {
    target_of(target, replace, inputs).map(drop)
}

/// The directory of a path, open, and the last part of the path.
///
/// # Errors
/// The path has no last part, or its directory cannot be opened.
pub fn folder_of(target: &Path) -> Result<(Folder, OsString), Refused> {
    let name = target.file_name().ok_or(Refused::NoName)?;
    let above = target.parent().unwrap_or_else(|| Path::new(""));
    Ok((Folder::open(above)?, name.to_owned()))
}

/// The directory and the name of a file that may be made.
fn target_of<'p>(
    target: &Path,
    replace: bool,
    inputs: impl IntoIterator<Item = &'p Path>,
) -> Result<(Folder, OsString), NewFileError> {
    if demands_directory(target) {
        return Err(Refused::Slash.at(target));
    }
    let found = folder_of(target).and_then(|(folder, name)| {
        check_target(&folder, &name, replace, inputs)?;
        Ok((folder, name))
    });
    found.map_err(|why| why.at(target))
}

/// Refuses what cannot be made or must not be replaced.
fn check_target<'p>(
    folder: &Folder,
    name: &OsStr,
    replace: bool,
    inputs: impl IntoIterator<Item = &'p Path>,
) -> Result<(), Refused> {
    let Some(there) = folder.entry(name)? else { return Ok(()) };
    if !replace {
        return Err(Refused::Exists);
    }
    let whole = Span::new(0, u64::MAX);
    let target = folder.path_of(name);
    let same = |path: &Path| {
        // This also finds a device whose bytes are in the file.
        gmfs_image::share_bytes((path, whole), (&target, whole))
            || path.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.st_dev, there.st_ino))
            || path.symlink_metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.st_dev, there.st_ino))
    };
    if inputs.into_iter().any(same) {
        return Err(Refused::Input);
    }
    // A link is itself replaced, and what it leads to stays as it is.
    if !matches!(FileType::from_raw_mode(there.st_mode), FileType::RegularFile | FileType::Symlink) {
        return Err(Refused::WrongKind);
    }
    Ok(())
}

/// The file that is written first, beside its later name: a new one, or one that a killed command left.
fn partial(folder: &Folder, name: &OsStr) -> Result<(File, OsString), Refused> {
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
    made.ok_or(Refused::Partials(NAMES))
}

/// The `number`th name for the unfinished file; `None` if there can be no such name.
fn partial_name(folder: &Folder, name: &OsStr, number: u32) -> io::Result<Option<OsString>> {
    let ending = if number == 1 { ".partial".to_owned() } else { format!(".partial-{number}") };
    // A name of the greatest length has no room for an ending.
    for stem in [name, "gmfs".as_ref()] {
        let mut partial = stem.to_owned();
        partial.push(&ending);
        match folder.entry(&partial) {
            Ok(_) => return Ok(Some(partial)),
            Err(error) if error.kind() == ErrorKind::InvalidFilename => {}
            Err(error) => return Err(error),
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

    fn begin(path: &Path, replace: bool, inputs: &[&Path]) -> Result<NewFile, NewFileError> {
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
        // The first file is still being written.
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
        assert!(begin(&target, false, &[]).err().unwrap().why.to_string().contains("exists"));
        assert!(late.keep().is_err(), "what came meanwhile stays");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let refused = begin(&target, true, &[&target]).err().unwrap();
        assert!(refused.why.to_string().contains("the image itself"));
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
            assert!(NewFile::begin_in(&folder, name, true, []).is_err(), "{wrong}");
        }
        assert!(folder.make("link".as_ref()).is_err() && folder.enter("link".as_ref()).is_err());
        let made = folder.make("made".as_ref()).unwrap();
        // The path means something else now, and the folder does not.
        fs::rename(dir.path().join("made"), dir.path().join("moved")).unwrap();
        symlink("elsewhere", dir.path().join("made")).unwrap();
        NewFile::begin_in(&Arc::new(made), "in".as_ref(), false, []).unwrap().keep().unwrap();
        assert!(dir.path().join("moved/in").exists());
        NewFile::begin_in(&folder, "out".as_ref(), false, []).unwrap().keep().unwrap();
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
