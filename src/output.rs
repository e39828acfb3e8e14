//! Files that a command makes. A file has its name only when it is whole: until then it is called `NAME.partial`, and it
//! is removed when the command fails or is interrupted. Only what cannot be caught leaves such a file behind.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
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
    let same = |path: &Path| {
        path.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
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
