//! What an image is, by its content or its device numbers, never by its name; and opening it.
//!
//! The order: `/dev/mem` and devdax by their device; then files and block devices by their first bytes (dumps); whatever
//! is left is a file that may hold a region. Whether it does is for the layers above to say.
//!
//! Dumps can be inside a flattened stream ([`flat`](gmfs_dump::flat)), and a split dump lies in several files
//! ([`open_parts`]). Raw memory is told by nothing but its user ([`open_raw`]).
//!
//! ```
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! let image = gmfs_image::open(Path::new("vmcore"), None)?;
//! if let Some(dump) = &image.dump {
//!     println!("{}, kernel {:?}, crashed at {:?}", dump.format, dump.release, dump.crash_time);
//! }
//! for (range, why) in image.memory(100) {
//!     println!("{range}: {}", why.map_or("present", |why| why.name()));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A new kind of dump is a row less in [`formats`], a variant of [`Content`] and an arm in `open_dump`.

mod facts;
pub mod formats;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt};

use crate::file::{FileError, Node, RegionFile, WritableFile, node_of, wrong_device};
use crate::iomem::{IoMem, IoMemError};
use crate::lock::Locking;
use crate::mapped::{MapError, MappedWindow, WritableWindow};
use crate::metadump::{MetaDump, MetaDumpError};
use crate::sysfs;
use facts::Outline;
pub use facts::{Description, DumpFacts};
pub use formats::{DumpFormat, HEAD, recognise};
use gmfs_dump::elf::{ElfDump, ElfError, ElfFacts};
use gmfs_dump::flat::{FlatError, FlatFacts, FlatFile};
use gmfs_dump::kdump::{KdumpDump, KdumpError};
use gmfs_dump::lime::{LimeDump, LimeError};
pub use gmfs_dump::raw::Holes;
use gmfs_dump::raw::RawMemory;

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
    /// A kdump-compressed dump, of makedumpfile or QEMU.
    Kdump,
    /// A LiME image, or AVML's compressed form of it.
    Lime,
    /// Memory as it is, whose physical address the user gave.
    Raw,
    /// A metadata dump of this program. Its offsets are those of the region.
    MetaDump,
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
            Self::Kdump => "kdump",
            Self::Lime => "lime",
            Self::Raw => "raw",
            Self::MetaDump => "metadata-dump",
        }
    }

    /// Whether offsets in the image are physical addresses.
    #[must_use]
    pub const fn is_physical(self) -> bool {
        matches!(self, Self::DevMem | Self::Elf | Self::Kdump | Self::Lime | Self::Raw)
    }

    /// Whether the image is a dump, of memory or of metadata, which cannot be written.
    #[must_use]
    pub const fn is_dump(self) -> bool {
        matches!(self, Self::Elf | Self::Kdump | Self::Lime | Self::Raw | Self::MetaDump)
    }
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// An ELF file; whether it is a core is for [`ElfDump::parse`] to say.
    Elf,
    /// A kdump-compressed dump.
    Kdump,
    /// A flattened stream: a dump in one of the other formats is inside.
    Flattened,
    /// A LiME image, or a compressed one of AVML.
    Lime,
    /// A metadata dump.
    MetaDump,
    /// A dump in a format that is known by name, and not read.
    Dump(DumpFormat),
    /// Nothing known: a region, a raw image, or anything else.
    Plain,
}

impl Content {
    /// What it is, with its article.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Elf => "an ELF file",
            Self::Kdump => "a kdump-compressed dump",
            Self::Flattened => "a flattened dump",
            Self::Lime => "a LiME or AVML image",
            Self::MetaDump => "a metadata dump",
            Self::Dump(format) => format.describe(),
            Self::Plain => "a file",
        }
    }
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
    /// A dump of a known format that is no usable one.
    #[error("{} is {what}, but no dump that can be read", path.display())]
    Dump {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
        /// What is wrong with it.
        source: DumpError,
    },
    /// Several files that are not the parts of one dump.
    #[error("these are not the parts of one dump: {}", numbered(paths))]
    Parts {
        /// The files in the order in which they were given.
        paths: Vec<PathBuf>,
        /// What is wrong with them.
        source: KdumpError,
    },
    /// A dump was to be opened as raw memory.
    #[error("{} is {what}, not raw memory: open it without a base", path.display())]
    NotRaw {
        /// The dump.
        path: PathBuf,
        /// What it is.
        what: &'static str,
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

/// What is wrong with a dump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// With a kdump-compressed one.
    #[error(transparent)]
    Kdump(#[from] KdumpError),
    /// With a flattened stream.
    #[error(transparent)]
    Flat(#[from] FlatError),
    /// With a LiME or AVML image.
    #[error(transparent)]
    Lime(#[from] LimeError),
    /// With a metadata dump.
    #[error(transparent)]
    Meta(#[from] MetaDumpError),
    /// A flattened stream holds nothing that is known. It may be because it was cut.
    #[error("the flattened stream holds no ELF or kdump-compressed dump{}", if *cut { ": it was cut off" } else { "" })]
    Inside {
        /// Whether the stream's end is missing.
        cut: bool,
    },
}

/// The files with the numbers by which errors call them.
fn numbered(paths: &[PathBuf]) -> String {
    let list = paths.iter().zip(1..).map(|(path, number)| format!("file {number} {}", path.display()));
    list.collect::<Vec<_>>().join(", ")
}

/// An image, open for reading.
#[non_exhaustive]
pub struct Image {
    /// What it is.
    pub kind: Kind,
    /// What it was opened by.
    pub path: PathBuf,
    /// Its bytes. Offsets are physical addresses if [`Kind::is_physical`], else offsets in the file or device.
    pub source: Box<dyn ReadAt>,
    /// What a dump says of itself.
    pub dump: Option<DumpFacts>,
    /// What an ELF dump says besides.
    pub elf: Option<ElfFacts>,
    /// The memory that an ELF dump describes, each range with the reason why its bytes are absent, or `None`. Empty for
    /// everything else: see [`Image::memory`].
    pub ranges: Vec<(Span, Option<Absence>)>,
    outline: Option<Arc<dyn Outline>>,
}

impl Image {
    /// What is no dump.
    fn plain(kind: Kind, path: &Path, source: Box<dyn ReadAt>) -> Self {
        Self { kind, path: path.to_owned(), source, dump: None, elf: None, ranges: Vec::new(), outline: None }
    }

    /// A dump.
    fn dumped<D: ReadAt + Outline + 'static>(kind: Kind, path: &Path, facts: DumpFacts, dump: D) -> Self {
        let dump = Arc::new(dump);
        Self { outline: Some(Arc::<D>::clone(&dump)), dump: Some(facts), ..Self::plain(kind, path, Box::new(dump)) }
    }

    /// The memory that a dump of any format describes, ascending, `limit` ranges at most: each with `None` if the dump
    /// holds it, or with the reason why not. Of a kdump-compressed dump this reads the bitmaps only, so pages that it
    /// lost count as held. Empty for what is no dump.
    #[must_use]
    pub fn memory(&self, limit: usize) -> Vec<(Span, Option<Absence>)> {
        self.description().map(|description| description.memory(limit)).unwrap_or_default()
    }

    /// What a dump says of itself and of its memory, for whoever hands the bytes on; `None` for what is no dump.
    #[must_use]
    pub fn description(&self) -> Option<Description> {
        Some(Description::new(self.dump.clone()?, Arc::clone(self.outline.as_ref()?)))
    }
}

/// An image, open for reading and writing, and locked.
#[non_exhaustive]
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
/// [`BeyondEnd`](gmfs_io::Absence::BeyondEnd). Files, block devices and dumps are always seen whole: a window of
/// them is the caller's [`Window`](gmfs_io::Window).
///
/// # Errors
/// [`OpenError`], of which [`OpenError::Format`] names the formats that are not read.
pub fn open(path: &Path, window: Option<Span>) -> Result<Image, OpenError> {
    match device_kind(path)? {
        Some(Kind::DevMem) => {
            let window = window.ok_or_else(|| OpenError::WindowNeeded { path: path.to_owned() })?;
            Ok(Image::plain(Kind::DevMem, path, Box::new(MappedWindow::dev_mem(path, window)?)))
        }
        Some(kind) => Ok(Image::plain(kind, path, Box::new(MappedWindow::dev_dax(path, window)?))),
        None => {
            let file = RegionFile::open(path)?;
            match content_of(&file, path)? {
                Content::Plain => {
                    let kind = if file.is_block_device() { Kind::BlockDevice } else { Kind::File };
                    Ok(Image::plain(kind, path, Box::new(file)))
                }
                content => open_dump(content, file, path),
            }
        }
    }
}

/// The seam for formats of dumps: one arm each.
fn open_dump(content: Content, file: RegionFile, path: &Path) -> Result<Image, OpenError> {
    match content {
        Content::Elf => open_elf(file, path, None),
        Content::Kdump => open_kdump(file, path, None),
        Content::Flattened => {
            let failed =
                |source: DumpError| OpenError::Dump { path: path.to_owned(), what: content.describe(), source };
            let flat = FlatFile::parse(file).map_err(|error| failed(error.into()))?;
            let facts = Some(flat.facts().clone());
            match inside(&flat, path)? {
                Content::Elf => open_elf(flat, path, facts),
                Content::Kdump => open_kdump(flat, path, facts),
                _ => Err(failed(DumpError::Inside { cut: flat.facts().cut })),
            }
        }
        Content::Lime => match LimeDump::parse(file) {
            Ok(dump) => Ok(Image::dumped(Kind::Lime, path, dump.facts().into(), dump)),
            Err(error) => {
                Err(OpenError::Dump { path: path.to_owned(), what: content.describe(), source: error.into() })
            }
        },
        Content::MetaDump => match MetaDump::parse(file) {
            Ok(dump) => Ok(Image::dumped(Kind::MetaDump, path, dump.facts().into(), dump)),
            Err(error) => {
                Err(OpenError::Dump { path: path.to_owned(), what: content.describe(), source: error.into() })
            }
        },
        Content::Dump(format) => Err(OpenError::Format { path: path.to_owned(), format }),
        Content::Plain => Ok(Image::plain(Kind::File, path, Box::new(file))),
    }
}

fn open_elf<R: ReadAt + 'static>(file: R, path: &Path, flattened: Option<FlatFacts>) -> Result<Image, OpenError> {
    let dump = ElfDump::parse(file).map_err(|source| OpenError::Elf { path: path.to_owned(), source })?;
    let (elf, ranges) = (dump.facts().clone(), dump.ranges().collect());
    let facts = DumpFacts::from(&elf).within(flattened);
    Ok(Image { elf: Some(elf), ranges, ..Image::dumped(Kind::Elf, path, facts, dump) })
}

fn open_kdump<R: ReadAt + 'static>(file: R, path: &Path, flattened: Option<FlatFacts>) -> Result<Image, OpenError> {
    let what = Content::Kdump.describe();
    let dump = KdumpDump::parse(file).map_err(|error| OpenError::Dump {
        path: path.to_owned(),
        what,
        source: error.into(),
    })?;
    let facts = DumpFacts::from(dump.facts()).within(flattened);
    Ok(Image::dumped(Kind::Kdump, path, facts, dump))
}

/// What a flattened stream holds; [`Content::Plain`] if its beginning was lost.
fn inside(flat: &FlatFile<RegionFile>, path: &Path) -> Result<Content, OpenError> {
    match content_of(flat, path) {
        Err(OpenError::Read { source: ReadError::Absent { .. }, .. }) => Ok(Content::Plain),
        other => other,
    }
}

/// Opens the parts of a split dump (`makedumpfile --split`), in any order and flattened or not, as one image. A single
/// path is opened as [`open`] does.
///
/// # Errors
/// [`OpenError`], of which [`OpenError::Parts`] tells what is wrong with them together: a part that is missing, given
/// twice, or of another dump.
pub fn open_parts(paths: &[&Path]) -> Result<Image, OpenError> {
    if let [path] = paths {
        return open(path, None);
    }
    let owned = || paths.iter().map(|path| (*path).to_owned()).collect();
    let mut files: Vec<Box<dyn ReadAt>> = Vec::new();
    let mut flattened = None;
    for (number, path) in paths.iter().enumerate() {
        let file = RegionFile::open(path)?;
        match content_of(&file, path)? {
            Content::Kdump => files.push(Box::new(file)),
            content @ Content::Flattened => {
                let flat = FlatFile::parse(file).map_err(|error| OpenError::Dump {
                    path: (*path).to_owned(),
                    what: content.describe(),
                    source: error.into(),
                })?;
                flattened = Some(flat.facts().clone());
                files.push(Box::new(flat));
            }
            _ => return Err(OpenError::Parts { paths: owned(), source: KdumpError::NotSplit { number } }),
        }
    }
    let dump = KdumpDump::parse_parts(files).map_err(|source| OpenError::Parts { paths: owned(), source })?;
    let facts = DumpFacts::from(dump.facts()).within(flattened);
    let path = paths.first().map_or(Path::new(""), |path| *path);
    Ok(Image::dumped(Kind::Kdump, path, facts, dump))
}

/// Opens the file or block device at `path` as memory that begins at the physical address `base`.
///
/// # Errors
/// [`OpenError::NotRaw`] for what is a dump by its content, and for `/dev/mem` and devdax, which have addresses of their
/// own.
pub fn open_raw(path: &Path, base: u64) -> Result<Image, OpenError> {
    if let Some(kind) = device_kind(path)? {
        return Err(not_raw(path, kind));
    }
    let file = raw_file(path)?;
    let facts = DumpFacts { format: "raw memory", ..DumpFacts::default() };
    Ok(Image::dumped(Kind::Raw, path, facts, RawMemory::new(file, base)))
}

/// As [`open_raw`], of several files that lie over one another, the uppermost one first: a differential snapshot and the
/// one below it, for one. Where a file has a hole the ones below it are read; `holes` says what a hole of all of them is.
///
/// # Errors
/// As for [`open_raw`].
pub fn open_layers(path: &Path, below: &[&Path], base: u64, holes: Holes) -> Result<Image, OpenError> {
    let mut layers = Vec::new();
    for path in std::iter::once(path).chain(below.iter().copied()) {
        if let Some(kind) = device_kind(path)? {
            return Err(not_raw(path, kind));
        }
        layers.push(raw_file(path)?);
    }
    let facts = DumpFacts { format: "raw memory", ..DumpFacts::default() };
    Ok(Image::dumped(Kind::Raw, path, facts, RawMemory::layered(layers, base, holes)))
}

/// A file that may be raw memory.
fn raw_file(path: &Path) -> Result<RegionFile, OpenError> {
    let file = RegionFile::open(path)?;
    match content_of(&file, path)? {
        Content::Plain => Ok(file),
        // Memory may begin with a program.
        Content::Elf if matches!(ElfDump::parse(&file), Err(ElfError::NotCore { .. })) => Ok(file),
        content => Err(OpenError::NotRaw { path: path.to_owned(), what: content.describe() }),
    }
}

fn not_raw(path: &Path, kind: Kind) -> OpenError {
    let what = if kind == Kind::DevMem { "live memory" } else { "a devdax device" };
    OpenError::NotRaw { path: path.to_owned(), what }
}

/// Opens the image at `path` for writing and locks it as `how` says; of memory the window is locked. `window` is as for
/// [`open`]; one of `/dev/mem` must lie in memory that `/proc/iomem` calls reserved or persistent.
///
/// # Errors
/// [`OpenError::DumpForWriting`] for dumps; [`MapError::Held`] for memory in use; [`FileError::Locked`] and
/// [`FileError::InUse`] if somebody else has it.
pub fn open_for_writing(
    path: &Path,
    window: Option<Span>,
    intent: Intent,
    how: &Locking<'_>,
) -> Result<WritableImage, OpenError> {
    let done = |kind, target| WritableImage { kind, path: path.to_owned(), target };
    match device_kind(path)? {
        Some(Kind::DevMem) => {
            let window = window.ok_or_else(|| OpenError::WindowNeeded { path: path.to_owned() })?;
            let resources = memory_map(Path::new("/proc/iomem"))?;
            Ok(done(Kind::DevMem, Box::new(WritableWindow::dev_mem(path, window, &resources, how)?)))
        }
        Some(kind) => Ok(done(kind, Box::new(WritableWindow::dev_dax(path, window, how)?))),
        None => {
            if intent == Intent::Update {
                // Before the lock, so that a dump on a read-only medium is called a dump.
                refuse_dump(&RegionFile::open(path)?, path)?;
            }
            let file = WritableFile::open(path, how)?;
            if intent == Intent::Update {
                refuse_dump(&file, path)?;
            }
            let kind = if file.is_block_device() { Kind::BlockDevice } else { Kind::File };
            Ok(done(kind, Box::new(file)))
        }
    }
}

/// Opens the image at `path` for reading, for a dry run of a change: what [`open_for_writing`] refuses to change for what
/// it is, or for where it lies in memory, is refused here too. Permission to write is not needed. Nothing is locked.
///
/// # Errors
/// As [`open_for_writing`].
pub fn open_for_dry_run(path: &Path, window: Option<Span>) -> Result<Image, OpenError> {
    match device_kind(path)? {
        Some(Kind::DevMem) => {
            let span = window.ok_or_else(|| OpenError::WindowNeeded { path: path.to_owned() })?;
            memory_map(Path::new("/proc/iomem"))?.writable(span).map_err(MapError::from)?;
        }
        Some(_) => {}
        None => refuse_dump(&RegionFile::open(path)?, path)?,
    }
    open(path, window)
}

fn refuse_dump(file: &impl ReadAt, path: &Path) -> Result<(), OpenError> {
    let content = content_of(file, path)?;
    if content == Content::Plain {
        return Ok(());
    }
    let what = content.describe();
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
