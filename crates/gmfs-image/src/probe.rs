//! What an image is, by its content or its device numbers, never by its name; and opening it.
//!
//! The order: `/dev/mem` and devdax by their device; then files and block devices by their first bytes (dumps); whatever
//! is left is a file that may hold a region. Whether it does is for the layers above to say.
//!
//! A new kind of dump is a row less in [`formats`], a variant of [`Content`] and an arm in `open_dump`.

pub mod formats;

use std::io;
use std::path::{Path, PathBuf};

use gmfs_format::io::{ReadAt, ReadError, Span, WriteAt};

use crate::elf::{ElfDump, ElfError, ElfFacts};
use crate::file::{FileError, Node, RegionFile, WritableFile, node_of, wrong_device};
use crate::iomem::{IoMem, IoMemError};
use crate::mapped::{MapError, MappedWindow, WritableWindow};
use crate::sysfs;
pub use formats::{DumpFormat, HEAD, recognise};

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file that is no known dump: a region file, a raw image, or anything else.
    File,
    /// A block device.
    BlockDevice,
    /// `/dev/mem`.
    DevMem,
    /// A devdax device.
    DevDax,
    /// An ELF core dump of a machine.
    Elf,
}

impl Kind {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::BlockDevice => "block-device",
            Self::DevMem => "dev-mem",
            Self::DevDax => "dev-dax",
            Self::Elf => "elf",
        }
    }

    /// Whether offsets in the image are physical addresses.
    #[must_use]
    pub const fn is_physical(self) -> bool {
        matches!(self, Self::DevMem | Self::Elf)
    }

    /// Whether the image is a crash dump, which cannot be written.
    #[must_use]
    pub const fn is_dump(self) -> bool {
        matches!(self, Self::Elf)
    }
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// An ELF file; whether it is a core is for [`ElfDump::parse`] to say.
    Elf,
    /// A dump in a format that is known by name, and not read.
    Dump(DumpFormat),
    /// Nothing known: a region, a raw image, or anything else.
    Plain,
}

/// Why an image could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file or the device.
    #[error(transparent)]
    File(#[from] FileError),
    /// The window of memory.
    #[error(transparent)]
    Map(#[from] MapError),
    /// `/dev/mem` has no size of its own: the window must be said.
    #[error("{} is the whole of physical memory: it takes the size and the physical address of a region", path.display())]
    WindowNeeded {
        /// The device.
        path: PathBuf,
    },
    /// The first bytes could not be read.
    #[error("cannot read the start of {}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// What went wrong.
        source: ReadError,
    },
    /// A dump in a format that cannot be read.
    #[error("{} is {}, which cannot be read; {}", path.display(), format.describe(), format.hint())]
    Format {
        /// The dump.
        path: PathBuf,
        /// What it is.
        format: DumpFormat,
    },
    /// An ELF file that is no usable dump.
    #[error("{} is an ELF file, but no dump that can be read", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// A dump was to be written.
    #[error("{} is {what}: a dump cannot be written; copy the region out of it and write the copy", path.display())]
    DumpForWriting {
        /// The dump.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// `/proc/iomem`, without which `/dev/mem` is not written, could not be read.
    #[error("cannot read {}, which says what memory may be written", path.display())]
    IoMemRead {
        /// The file of procfs.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `/proc/iomem` does not say what memory may be written.
    #[error("cannot tell what memory may be written")]
    IoMem(#[from] IoMemError),
}

/// An image, open for reading.
pub struct Image {
    /// What it is.
    pub kind: Kind,
    /// What it was opened by.
    pub path: PathBuf,
    /// Its bytes. Offsets are physical addresses if [`Kind::is_physical`], else offsets in the file or device.
    pub source: Box<dyn ReadAt>,
    /// What an ELF dump says of itself.
    pub elf: Option<ElfFacts>,
    /// The memory that a dump describes, each range with the reason why its bytes are absent, or `None`. Empty for
    /// what is no dump.
    pub ranges: Vec<(Span, Option<gmfs_format::io::Absence>)>,
}

/// An image, open for reading and writing, and locked.
pub struct WritableImage {
    /// What it is; never a dump.
    pub kind: Kind,
    /// What it was opened by.
    pub path: PathBuf,
    /// Its bytes, with offsets as in [`Image::source`].
    pub target: Box<dyn WriteAt>,
}

/// What is to be done with what the image holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To change a region in it: dumps of all formats are refused.
    Update,
    /// To put something new in its place, which is the caller's decision (see [`foreign`](crate::foreign)). Nothing is
    /// refused for its content.
    Replace,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("kind", &self.kind).field("path", &self.path).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WritableImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WritableImage").field("kind", &self.kind).field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens the image at `path` for reading.
///
/// `window` is the part of a character device that is to be seen: physical addresses for `/dev/mem`, which needs it;
/// offsets in the device for devdax, which is seen whole without it. Reads outside it are
/// [`BeyondEnd`](gmfs_format::io::Absence::BeyondEnd). Files, block devices and dumps are always seen whole: a window of
/// them is the caller's [`Window`](gmfs_format::io::Window).
///
/// # Errors
/// [`OpenError`], of which [`OpenError::Format`] names the formats that are not read.
pub fn open(path: &Path, window: Option<Span>) -> Result<Image, OpenError> {
    let path_owned = path.to_owned();
    let plain = |kind, source| Image { kind, path: path_owned, source, elf: None, ranges: Vec::new() };
    match device_kind(path)? {
        Some(Kind::DevMem) => {
            let window = window.ok_or_else(|| OpenError::WindowNeeded { path: path.to_owned() })?;
            Ok(plain(Kind::DevMem, Box::new(MappedWindow::dev_mem(path, window)?)))
        }
        Some(kind) => Ok(plain(kind, Box::new(MappedWindow::dev_dax(path, window)?))),
        None => {
            let file = RegionFile::open(path)?;
            match content_of(&file, path)? {
                Content::Plain => {
                    let kind = if file.is_block_device() { Kind::BlockDevice } else { Kind::File };
                    Ok(plain(kind, Box::new(file)))
                }
                content => open_dump(content, file, path),
            }
        }
    }
}

/// The seam for formats of dumps: one arm each.
fn open_dump(content: Content, file: RegionFile, path: &Path) -> Result<Image, OpenError> {
    let path = path.to_owned();
    match content {
        Content::Elf => match ElfDump::parse(file) {
            Ok(dump) => Ok(Image {
                kind: Kind::Elf,
                path,
                elf: Some(dump.facts().clone()),
                ranges: dump.ranges().collect(),
                source: Box::new(dump),
            }),
            Err(source) => Err(OpenError::Elf { path, source }),
        },
        Content::Dump(format) => Err(OpenError::Format { path, format }),
        Content::Plain => Ok(Image { kind: Kind::File, path, source: Box::new(file), elf: None, ranges: Vec::new() }),
    }
}

/// Opens the image at `path` for writing and locks it. `window` is as for [`open`]; one of `/dev/mem` must lie in
/// memory that `/proc/iomem` calls reserved or persistent.
///
/// # Errors
/// [`OpenError::DumpForWriting`] for dumps; [`MapError::Held`] for memory in use; [`FileError::Locked`] and
/// [`FileError::InUse`] if somebody else has it.
pub fn open_for_writing(path: &Path, window: Option<Span>, intent: Intent) -> Result<WritableImage, OpenError> {
    let done = |kind, target| WritableImage { kind, path: path.to_owned(), target };
    match device_kind(path)? {
        Some(Kind::DevMem) => {
            let window = window.ok_or_else(|| OpenError::WindowNeeded { path: path.to_owned() })?;
            let resources = memory_map(Path::new("/proc/iomem"))?;
            Ok(done(Kind::DevMem, Box::new(WritableWindow::dev_mem(path, window, &resources)?)))
        }
        Some(kind) => Ok(done(kind, Box::new(WritableWindow::dev_dax(path, window)?))),
        None => {
            if intent == Intent::Update {
                // Before the lock, so that a dump on a read-only medium is called a dump.
                refuse_dump(&RegionFile::open(path)?, path)?;
            }
            let file = WritableFile::open(path)?;
            if intent == Intent::Update {
                refuse_dump(&file, path)?;
            }
            let kind = if file.is_block_device() { Kind::BlockDevice } else { Kind::File };
            Ok(done(kind, Box::new(file)))
        }
    }
}

fn refuse_dump(file: &impl ReadAt, path: &Path) -> Result<(), OpenError> {
    let what = match content_of(file, path)? {
        Content::Plain => return Ok(()),
        Content::Elf => "an ELF file",
        Content::Dump(format) => format.describe(),
    };
    Err(OpenError::DumpForWriting { path: path.to_owned(), what })
}

/// What physical memory belongs to whom, read from `path`, which is `/proc/iomem`.
///
/// # Errors
/// [`OpenError::IoMemRead`], [`OpenError::IoMem`].
pub fn memory_map(path: &Path) -> Result<IoMem, OpenError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| OpenError::IoMemRead { path: path.to_owned(), source })?;
    Ok(IoMem::parse(&text)?)
}

/// What kind of image the character device at `path` is; `None` for what is no character device.
fn device_kind(path: &Path) -> Result<Option<Kind>, OpenError> {
    match node_of(path)? {
        Node::Regular | Node::Block => Ok(None),
        Node::Char { major: 1, minor: 1 } => Ok(Some(Kind::DevMem)),
        Node::Char { major, minor } => {
            match sysfs::dev_dax(Path::new("/sys"), major, minor).map_err(MapError::from)? {
                Some(_) => Ok(Some(Kind::DevDax)),
                None => Err(wrong_device(path).into()),
            }
        }
    }
}

/// What the first bytes of `file` say. A file may have fewer of them than are wanted.
fn content_of(file: &impl ReadAt, path: &Path) -> Result<Content, OpenError> {
    let mut head = [0; HEAD];
    let there = file.end().map_or(HEAD, |end| usize::try_from(end).map_or(HEAD, |end| end.min(HEAD)));
    let head = head.get_mut(..there).unwrap_or_default();
    match file.read_at(0, head) {
        Ok(()) => Ok(recognise(head)),
        Err(source) => Err(OpenError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
