//! A kexec before it happens: which kernels it is about, and what it does to memory that is handed over.
//!
//! [`Side`] finds out what is known of a kernel: of the one that runs, of an image, or of a release. [`Kexec`] judges a kexec
//! between two of them, and [`HandOver`] the next kexec of the machine that runs.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use gmfs_format::name::printable;
use gmfs_kernel::abi::Family;
use gmfs_kernel::cmdline::CommandLine;
use gmfs_kernel::compat::{self, Judgement, Next, Old, Remark, Uses, Which, Words};
use gmfs_kernel::image::Format;
use gmfs_kernel::{Codec, Kernel, Release};

pub use crate::kernel::{FileError, UnknownRelease, read_image};
use crate::kernel::{of_release, open};
use crate::running::{Running, RunningError};

/// The word that stands for the kernel that runs.
const RUNNING: &str = "running";

/// Why a kexec cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KexecError {
    /// A kernel image.
    #[error("cannot read the kernel image {}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: FileError,
    },
    /// The initrd.
    #[error("cannot find out how large the initrd {} is", path.display())]
    Initrd {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: FileError,
    },
    /// A release that stands for a kernel.
    #[error(transparent)]
    Release(#[from] UnknownRelease),
    /// The kernel that runs.
    #[error(transparent)]
    Running(#[from] RunningError),
    /// A region whose address was given.
    #[error("FROM has no region '{}'", printable(.0))]
    NoSuchRegion(String),
}

/// What is known of one of the kernels of a kexec, and where that is from.
#[derive(Clone, Debug)]
pub struct Side {
    /// What is known.
    pub kernel: Kernel,
    /// Where it is from.
    pub source: Source,
}

/// Where it is from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A kernel image.
    Image {
        /// The file.
        path: PathBuf,
        /// What kind of image it is.
        format: Format,
        /// How the kernel in it is compressed; `None` if it is not.
        codec: Option<Codec>,
    },
    /// What Linux itself does in that release.
    Release,
    /// The kernel that runs.
    Running(Box<Running>),
}

impl Side {
    /// Finds out what a text stands for: the word `running` for the kernel whose files are below `root`, a release such as
    /// `6.19.11`, or the path of a kernel image.
    ///
    /// # Errors
    /// What it stands for cannot be read, or is not known.
    pub fn of(text: &OsStr, root: &Path) -> Result<Self, KexecError> {
        if text == RUNNING {
            return Self::running_at(root);
        }
        if let Some(release) = text.to_str().and_then(Release::parse) {
            return Ok(Self { kernel: of_release(release)?, source: Source::Release });
        }
        Self::image(Path::new(text))
    }

    /// The kernel whose files are below `root`.
    ///
    /// # Errors
    /// As [`Running::look`].
    pub fn running_at(root: &Path) -> Result<Self, KexecError> {
        let running = Running::look(root)?;
        Ok(Self { kernel: running.kernel.clone(), source: Source::Running(Box::new(running)) })
    }

    /// The kernel in an image.
    ///
    /// # Errors
    /// The file cannot be read, or is no kernel image.
    pub fn image(path: &Path) -> Result<Self, KexecError> {
        let found = read_image(path).map_err(|source| KexecError::Image { path: path.to_owned(), source })?;
        let (path, format, codec) = (path.to_owned(), found.format, found.codec);
        Ok(Self { kernel: found.into(), source: Source::Image { path, format, codec } })
    }

    /// The kernel in a sentence: its release, or else how it was named.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.kernel.release, &self.source) {
            (Some(release), _) => release.to_string(),
            (None, Source::Image { path, .. }) => printable(&path.display().to_string()),
            (None, _) => "the running kernel".to_owned(),
        }
    }

    /// Where what is known is from, in words.
    #[must_use]
    pub fn origin(&self) -> String {
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

    /// The kernel that runs, if it is that.
    #[must_use]
    pub fn running(&self) -> Option<&Running> {
        match &self.source {
            Source::Running(running) => Some(running),
            _ => None,
        }
    }
}

/// What is asked about a kexec, beside its two kernels.
#[derive(Clone, Debug, Default)]
pub struct Question<'q> {
    /// The command line that the old kernel was started with; if it is the one that runs, `None` stands for its own.
    pub old_line: Option<CommandLine>,
    /// The command line that the next kernel is started with; `None` stands for that of the old one.
    pub next_line: Option<CommandLine>,
    /// The initrd that is loaded with the next kernel.
    pub initrd: Option<&'q Path>,
    /// What is in use; `None` stands for what is found to be in use, or for all that the old kernel can hand over.
    pub uses: Option<Uses>,
    /// Physical addresses of regions of the old kernel, by their labels.
    pub at: &'q [(String, u64)],
}

/// A kexec that was judged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Kexec {
    /// The kernel that hands over, and where what is known of it is from.
    pub from: Side,
    /// The kernel that takes over.
    pub to: Side,
    /// What the judgement is about: the kernel that hands over as it was started.
    pub old: Old,
    /// The kernel that takes over as it will be started.
    pub next: Next,
    /// What the kexec does.
    pub judgement: Judgement,
    /// What else is to be known.
    pub remarks: Vec<Remark>,
}

impl Kexec {
    /// Finds out what is asked, and judges it.
    ///
    /// # Errors
    /// The initrd cannot be looked at, or the old kernel has no region whose address is given.
    pub fn judge(from: Side, to: Side, question: &Question<'_>) -> Result<Self, KexecError> {
        let found = || from.running().map_or(Uses::ALL, Running::uses);
        let uses = question.uses.unwrap_or_else(found);
        let own_line = |side: &Side| side.running().map(|running| running.line.clone());
        let old_line = question.old_line.clone().or_else(|| own_line(&from));
        let given = question.next_line.clone().or_else(|| own_line(&to));
        let mut remarks = Vec::new();
        if old_line.is_none() {
            remarks.push(Remark::OldLineAssumed);
        }
        if given.is_none() {
            remarks.push(Remark::NextLineAssumed { as_old: old_line.is_some() });
        }
        let next_line = given.or_else(|| old_line.clone());
        for (line, which, side) in [(&old_line, Which::From, &from), (&next_line, Which::To, &to)] {
            remarks.extend(line.iter().flat_map(|line| Remark::of_line(line, which, &side.kernel)));
        }
        let mut old = Old::new(from.kernel.clone(), old_line.as_ref(), uses);
        if let Some(running) = from.running().filter(|_| question.old_line.is_none()) {
            old.kho = running.kho.unwrap_or(old.kho);
            old.regions = Some(running.regions.clone());
            old.scratch = running.scratch.clone().or(old.scratch);
            old.memory_end = running.memory_end;
        }
        place(&mut old, question.at)?;
        let mut next = Next::new(to.kernel.clone(), next_line.as_ref());
        next.initrd = question.initrd.map(initrd_size).transpose()?;
        let judgement = compat::judge(&old, &next, uses);
        remarks.extend(Remark::of_kexec(&old, &next, &judgement));
        Ok(Self { from, to, old, next, judgement, remarks })
    }

    /// The words for it.
    #[must_use]
    pub fn words(&self) -> Words<'_> {
        Words::new(&self.old, &self.next, self.from.name(), self.to.name())
    }
}

/// Bytes in an initrd.
fn initrd_size(path: &Path) -> Result<u64, KexecError> {
    let size = || Ok(open(path)?.0.metadata()?.len());
    size().map_err(|source| KexecError::Initrd { path: path.to_owned(), source })
}

/// Takes the addresses of regions that somebody knows.
fn place(old: &mut Old, at: &[(String, u64)]) -> Result<(), KexecError> {
    for (label, address) in at {
        let found = old.regions.iter_mut().flatten().find(|region| region.label == *label);
        found.ok_or_else(|| KexecError::NoSuchRegion(label.clone()))?.address = Some(*address);
    }
    Ok(())
}

/// What becomes of what the running kernel hands over at its next kexec.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HandOver {
    /// Nothing is handed over.
    Nothing(Nothing),
    /// Something is handed over, and it is not known to which kernel.
    NoKernel,
    /// The next kernel was judged.
    Judged(Box<Kexec>),
}

/// Why nothing is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nothing {
    /// The kernel cannot.
    NoKho,
    /// The kernel was started without `kho=on`.
    KhoOff,
    /// Nothing is in use.
    NothingInUse,
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKho => "the running kernel has no kexec handover",
            Self::KhoOff => "kexec handover is off (no kho=on)",
            Self::NothingInUse => "kexec handover is on, and hands nothing over",
        })
    }
}

impl HandOver {
    /// For the kernel whose files are below `root`, and the image and the command line of the next one, as far as they are
    /// known.
    ///
    /// # Errors
    /// What the kernel has or the image of the next kernel cannot be read.
    pub fn of_running(root: &Path, next: Option<&Path>, line: Option<&CommandLine>) -> Result<Self, KexecError> {
        let from = Side::running_at(root)?;
        if let Some(nothing) = from.running().and_then(Nothing::of) {
            return Ok(Self::Nothing(nothing));
        }
        let Some(next) = next else { return Ok(Self::NoKernel) };
        let question = Question { next_line: line.cloned(), ..Question::default() };
        Ok(Self::Judged(Box::new(Kexec::judge(from, Side::image(next)?, &question)?)))
    }
}

impl Nothing {
    fn of(running: &Running) -> Option<Self> {
        let uses = running.uses();
        if !running.kernel.abi.has(Family::Kho) {
            return Some(Self::NoKho);
        }
        if !running.has_kho_on() {
            return Some(Self::KhoOff);
        }
        (!uses.regions && !uses.luo && !uses.sessions).then_some(Self::NothingInUse)
    }
}
