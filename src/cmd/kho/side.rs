//! FROM and TO: a kernel image, a release, or the kernel that runs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gmfs_io::PlainFile;
use gmfs_kernel::cmdline::CommandLine;
use gmfs_kernel::image::{self, Format, ImageError};
use gmfs_kernel::{Codec, Kernel, Release};

use super::running::Running;
use crate::failure::{Failure, printable};

/// What is known of a kernel, and where it is from.
pub(super) struct Side {
    pub(super) kernel: Kernel,
    pub(super) source: Source,
}

/// Where that is from.
pub(super) enum Source {
    Image { path: PathBuf, format: Format, codec: Option<Codec> },
    Release,
    Running(Box<Running>),
}

impl Side {
    /// Finds out what FROM or TO is.
    pub(super) fn of(text: &OsStr) -> Result<Self> {
        if text == "running" {
            return Self::running_at(Path::new("/"));
        }
        if let Some(release) = text.to_str().and_then(Release::parse) {
            return Ok(Self { kernel: of_release(release)?, source: Source::Release });
        }
        Self::image(Path::new(text))
    }

    /// The kernel whose files are below `root`.
    pub(super) fn running_at(root: &Path) -> Result<Self> {
        let running = Running::look(root)?;
        Ok(Self { kernel: running.kernel.clone(), source: Source::Running(Box::new(running)) })
    }

    /// The kernel in an image.
    pub(super) fn image(path: &Path) -> Result<Self> {
        let found = read(path).with_context(|| format!("cannot read the kernel image {}", path.display()))?;
        let (path, format, codec) = (path.to_owned(), found.format, found.codec);
        Ok(Self { kernel: found.into(), source: Source::Image { path, format, codec } })
    }

    /// The kernel in a sentence: its release, or else how it was named.
    pub(super) fn name(&self) -> String {
        match (&self.kernel.release, &self.source) {
            (Some(release), _) => release.to_string(),
            (None, Source::Image { path, .. }) => printable(&path.display().to_string()),
            (None, _) => "the running kernel".to_owned(),
        }
    }

    /// What it is, for the first lines.
    pub(super) fn kind(&self) -> String {
        match &self.source {
            Source::Image { path, format, codec } => {
                let codec = codec.map_or_else(String::new, |codec| format!(", {}", codec.name()));
                format!("{} ({}{codec})", printable(&path.display().to_string()), format.name())
            }
            Source::Release => "as Linux released it, with KHO and LUO configured".to_owned(),
            Source::Running(running) => match &running.image {
                Some(path) => format!("the running kernel ({})", printable(&path.display().to_string())),
                None => "the running kernel".to_owned(),
            },
        }
    }

    /// The running kernel, if it is that.
    pub(super) fn running(&self) -> Option<&Running> {
        match &self.source {
            Source::Running(running) => Some(running),
            _ => None,
        }
    }
}

/// What Linux does in a release.
pub(super) fn of_release(release: Release) -> Result<Kernel, Failure> {
    let text = release.to_string();
    Kernel::upstream(release).ok_or_else(|| {
        let message = format!("what Linux {text} hands over is not known: it is newer than this gmfs");
        Failure::new("unknown-release", message)
            .hint("give its kernel image instead of its release, or use a newer gmfs")
    })
}

/// Reads a kernel image.
pub(super) fn read(path: &Path) -> Result<image::KernelImage> {
    let file = open(path)?;
    Ok(image::read(&file).map_err(told)?)
}

/// The release of the kernel in an image, or that it does not say it.
pub(in crate::cmd) fn release_of(path: &Path) -> Result<String> {
    let found = read(path)?;
    Ok(found
        .release
        .map_or_else(|| "a kernel that does not say its release".to_owned(), |release| format!("Linux {release}")))
}

/// The length of a file.
pub(super) fn length(path: &Path) -> Result<u64> {
    let about = || format!("cannot find out how large the initrd {} is", path.display());
    open(path).and_then(|file| Ok(file.0.metadata()?.len())).with_context(about)
}

fn open(path: &Path) -> Result<PlainFile> {
    let failure = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Failure::new("not-found", "there is no such file")
            .hint("FROM and TO are kernel images, releases such as 6.19.11, or the word running"),
        ErrorKind::PermissionDenied => Failure::new("permission", "this user may not read it").hint("run it as root"),
        _ => Failure::new("io", error.to_string()),
    };
    // Looked at first: to open a pipe would wait for its writer.
    let is_file = path.metadata().map_err(failure)?.is_file();
    if !is_file {
        return Err(Failure::new("wrong-kind", "it is no file").into());
    }
    Ok(PlainFile(File::open(path).map_err(failure)?))
}

/// An image that cannot be read, with what to do.
fn told(error: ImageError) -> Failure {
    let (code, hint) = match &error {
        ImageError::NotKernel { efi: true } => (
            "not-kernel",
            Some(
                "if it is a unified kernel image, take the kernel out of it: `objcopy -O binary --only-section=.linux`",
            ),
        ),
        ImageError::NotKernel { .. } => ("not-kernel", Some("kernel images are in /boot or /usr/lib/modules")),
        ImageError::Cut => ("image-cut", Some("copy or build it again, whole")),
        ImageError::Damaged { .. } => ("image-damaged", Some("copy or build it again")),
        ImageError::NoPayload => ("image-old", None),
        ImageError::UnknownCodec => ("image-codec", Some("give the vmlinux that it was made from")),
        ImageError::TooLarge { .. } => ("image-large", None),
        _ => ("read", None),
    };
    // One message with its cause: a cause of its own would hide the code.
    let message = match &error {
        ImageError::Damaged { source, .. } => format!("{error}: {source}"),
        ImageError::Read(source) => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    let failure = Failure::new(code, message);
    if let Some(hint) = hint { failure.hint(hint) } else { failure }
}

/// `LABEL=ADDRESS`
pub(super) fn address(text: &str) -> Result<(String, u64), String> {
    let (label, address) = text.rsplit_once('=').ok_or("write LABEL=ADDRESS, such as guests=0x1680000000")?;
    Ok((label.to_owned(), gmfs_format::spec::parse_amount(address).map_err(|error| error.to_string())?))
}

/// A command line of a kernel. It need not be UTF-8: what decides is ASCII.
pub(super) fn line(text: &OsString) -> CommandLine {
    CommandLine::parse(&text.to_string_lossy())
}
