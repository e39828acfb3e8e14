//! Where a dump goes: standard output, a pipe, or a file that gets its name when it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::ctx::{Ctx, OutputError};
use crate::failure::Failure;
use crate::open::ImageArgs;
use crate::output::NewFile;

/// Where bytes go.
pub(in crate::cmd) enum Output<'c> {
    /// Standard output.
    Standard(&'c mut Ctx),
    /// A pipe or a device, which takes bytes as they come.
    Stream(File, PathBuf),
    /// A file that is being written.
    File(NewFile, PathBuf),
}

impl<'c> Output<'c> {
    /// Opens FILE as a user names it: `-` and /dev/stdout are standard output.
    pub(in crate::cmd) fn open(path: Option<&Path>, force: bool, image: &ImageArgs, ctx: &'c mut Ctx) -> Result<Self> {
        let Some(path) = path.filter(|path| !is_standard(path)) else { return Ok(Self::Standard(ctx)) };
        let kind = std::fs::metadata(path).map(|found| found.file_type());
        if kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device()) {
            let file = OpenOptions::new().write(true).open(path);
            return Ok(Self::Stream(file.with_context(|| format!("cannot open {}", path.display()))?, path.to_owned()));
        }
        Ok(Self::File(NewFile::begin(path, force, image.files())?, path.to_owned()))
    }

    /// Says what could not be written.
    pub(in crate::cmd) fn explain(&self, error: io::Error) -> anyhow::Error {
        match self {
            Self::Standard(_) => OutputError::from(error).into(),
            Self::Stream(_, path) => anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
            Self::File(_, path) => anyhow::Error::new(error).context(cannot_write(path)),
        }
    }

    /// Writes out everything that is buffered, and gives a file its name.
    pub(in crate::cmd) fn finish(mut self) -> Result<()> {
        if let Err(error) = self.flush() {
            return Err(self.explain(error));
        }
        match self {
            Self::File(file, path) => {
                file.file().sync_all().with_context(|| cannot_write(&path))?;
                file.keep()
            }
            Self::Standard(_) | Self::Stream(..) => Ok(()),
        }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(ctx) => ctx.writer().write(bytes),
            Self::Stream(file, _) => file.write(bytes),
            Self::File(file, _) => file.file().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(ctx) => ctx.writer().flush(),
            Self::Stream(..) | Self::File(..) => Ok(()),
        }
    }
}

/// Whether a name stands for standard output.
pub(in crate::cmd) fn is_standard(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Refuses a file that could not be made. Pipes and devices take what comes.
pub(in crate::cmd) fn check(path: &Path, force: bool, inputs: &ImageArgs) -> Result<()> {
    let streams = |meta: std::fs::Metadata| meta.file_type().is_fifo() || meta.file_type().is_char_device();
    if path.metadata().is_ok_and(streams) {
        return Ok(());
    }
    Ok(crate::output::check(path, force, inputs.files())?)
}

/// Refuses to write binary data to a terminal.
pub(in crate::cmd) fn refuse_terminal(what: &str) -> Result<()> {
    if io::stdout().is_terminal() {
        let failure = Failure::new("terminal", format!("standard output is a terminal, and {what} is no text"));
        let text = if what == "a dump" { ", --text makes text" } else { "" };
        return Err(failure.hint(format!("-o FILE names a file{text}")).into());
    }
    Ok(())
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {} (what was written is removed)", path.display())
}
