//! Files that a command makes. A file has its name only when it is whole: until then it is called `NAME.partial`, and it
//! is removed when the command fails or is interrupted. Only what cannot be caught leaves such a file behind.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gmfs_format::io::Span;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::failure::{Failure, printable};
use crate::interrupt;

/// So many leftovers of commands that were killed are passed over.
const LEFTOVERS: u32 = 100;
/// What a second signal ends the program with: as the shell tells of SIGINT.
const KILLED: u8 = 130;

/// Refuses to go on after an interrupt.
pub(crate) fn go_on() -> Result<(), Failure> {
    if interrupt::asked() {
        return Err(Failure::new("interrupted", "interrupted: the file that was being made is removed"));
    }
    Ok(())
}

/// A file in the making.
pub(crate) struct NewFile {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    replace: bool,
    kept: bool,
}

impl NewFile {
    /// Begins the file that is to be at `target`. What is there is replaced in the end, if it may be: a regular file, and
    /// none of those that are read, `inputs`.
    pub(crate) fn begin<'p>(
        target: &Path,
        replace: bool,
        mode: u32,
        inputs: impl Iterator<Item = &'p Path>,
    ) -> Result<Self> {
        let cannot = || printable(&format!("cannot make {}", target.display()));
        check_target(target, replace, inputs).with_context(cannot)?;
        interrupt::watch(KILLED)?;
        let (file, partial) = partial(target, mode).with_context(cannot)?;
        Ok(Self { file, partial, target: target.to_owned(), replace, kept: false })
    }

    /// Where bytes go.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// What the file is called until it is whole.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Gives the file its name. It must be whole, and with the medium.
    pub(crate) fn keep(mut self) -> Result<()> {
        go_on()?;
        let cannot = || printable(&format!("cannot make {}", self.target.display()));
        let done = if self.replace {
            fs::rename(&self.partial, &self.target)
        } else {
            match renameat_with(CWD, &self.partial, CWD, &self.target, RenameFlags::NOREPLACE) {
                // A filesystem that does not know the flag.
                Err(Errno::INVAL | Errno::NOSYS) if self.target.symlink_metadata().is_err() => {
                    fs::rename(&self.partial, &self.target)
                }
                other => other.map_err(io::Error::from),
            }
        };
        done.with_context(cannot)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // The error that is being told is the one that matters.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Refuses what cannot be made or must not be replaced.
fn check_target<'p>(target: &Path, replace: bool, mut inputs: impl Iterator<Item = &'p Path>) -> Result<()> {
    let there = match target.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !replace {
        return Err(Failure::new("exists", "it exists already").hint("-f replaces it").into());
    }
    let whole = Span::new(0, u64::MAX);
    let same = |path: &Path| {
        // Also a device whose bytes are in the file.
        gmfs_image::share_bytes((path, whole), (target, whole))
            || path.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
            || path.symlink_metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
    };
    if inputs.any(same) {
        return Err(Failure::new("same-file", "it is the image itself").into());
    }
    if !there.is_file() && !there.is_symlink() {
        return Err(Failure::new("wrong-kind", "it is no regular file").into());
    }
    Ok(())
}

/// The file that is written first, beside its later name.
fn partial(target: &Path, mode: u32) -> Result<(File, PathBuf)> {
    let name = target.file_name().context("it has no name")?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    for number in 1..=LEFTOVERS {
        let ending = if number == 1 { ".partial".to_owned() } else { format!(".partial-{number}") };
        // A name of the greatest length has no room for an ending.
        for stem in [name, "gmfs".as_ref()] {
            let mut name = OsString::from(stem);
            name.push(&ending);
            let path = target.with_file_name(name);
            match options.open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == ErrorKind::InvalidFilename => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    let message = format!("{LEFTOVERS} files named .partial are beside it, left by commands that were killed");
    Err(Failure::new("exists", message).hint("remove them").into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn begin(path: &Path, replace: bool, inputs: &[&Path]) -> Result<NewFile> {
        NewFile::begin(path, replace, 0o600, inputs.iter().copied())
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
    fn a_name_may_be_as_long_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("n".repeat(255));
        begin(&target, false, &[]).unwrap().keep().unwrap();
        assert!(target.exists());
    }
}
