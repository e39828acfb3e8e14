//! Files that a command makes, and what an interrupt means for them.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use gmfs::copy::CopyError;
use gmfs::folder::Folder;
use gmfs::new_file::{self, NewFileError};

use crate::failure::Failure;
use crate::interrupt;
use crate::render::progress::Progress;

/// The options of a command that makes one file of a region.
#[derive(Args, Debug)]
pub(crate) struct MakeArgs {
    /// The file to make, - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace FILE if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Print what would be made, and make nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// The exit status after a second signal: as the shell reports SIGINT.
const KILLED: u8 = 130;

/// Refuses to go on after an interrupt.
pub(crate) fn go_on() -> Result<(), Failure> {
    if interrupt::asked() { Err(interrupted()) } else { Ok(()) }
}

fn interrupted() -> Failure {
    Failure::new("interrupted", "interrupted: the file that was being made is removed")
}

/// From here on an interrupt is caught, so that it leaves no incomplete file.
pub(crate) fn watch() -> Result<()> {
    interrupt::watch(KILLED)
}

/// An error of copying, as it is reported.
pub(crate) fn copying(error: CopyError) -> anyhow::Error {
    match error {
        CopyError::Stopped => interrupted().into(),
        CopyError::Write(error) => error.into(),
        error => error.into(),
    }
}

impl gmfs::Progress for Progress {
    fn at(&self, done: u64) {
        self.at(done);
    }

    fn skipped_to(&self, done: u64) {
        self.skip_to(done);
    }

    fn should_stop(&self) -> bool {
        interrupt::asked()
    }
}

/// A file that is being written. It is removed after an interrupt.
pub(crate) struct NewFile(new_file::NewFile);

impl NewFile {
    /// Begins the file that is to be at `target`. See [`new_file::NewFile::begin`].
    pub(crate) fn begin<'p>(target: &Path, replace: bool, inputs: impl Iterator<Item = &'p Path>) -> Result<Self> {
        watch()?;
        Ok(Self(new_file::NewFile::begin(target, replace, inputs)?))
    }

    /// Begins the file in a directory that is open.
    pub(crate) fn begin_in<'p>(
        folder: &Arc<Folder>,
        name: &OsStr,
        replace: bool,
        inputs: impl Iterator<Item = &'p Path>,
    ) -> Result<Self> {
        watch()?;
        Ok(Self(new_file::NewFile::begin_in(folder, name, replace, inputs)?))
    }

    /// The file that the bytes go to.
    pub(crate) const fn file(&self) -> &File {
        self.0.file()
    }

    /// The path of the file until it is complete.
    pub(crate) fn partial(&self) -> PathBuf {
        self.0.partial()
    }

    /// Gives the file its name. It must be complete and durable.
    pub(crate) fn keep(self) -> Result<()> {
        go_on()?;
        Ok(self.0.keep()?)
    }

    /// As [`keep`](Self::keep), with these permission bits, for a file that others may read.
    pub(crate) fn keep_with(self, mode: u32) -> Result<()> {
        go_on()?;
        Ok(self.0.keep_with(mode)?)
    }
}

/// Refuses what [`NewFile::begin`] would refuse, and makes nothing.
pub(crate) fn check<'p>(
    target: &Path,
    replace: bool,
    inputs: impl Iterator<Item = &'p Path>,
) -> Result<(), NewFileError> {
    new_file::check(target, replace, inputs)
}
