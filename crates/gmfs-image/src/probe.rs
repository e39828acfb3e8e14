//! Recognises what an image is, by its content or its device number and never by its name, and opens it.
//!
//! `/dev/mem` and devdax are recognised by their device number. Then files and block devices are recognised by their
//! first bytes, if they are dumps. Any other file may hold a region, which the layers above find out.
//!
//! A dump can be inside a flattened stream ([`flat`](gmfs_dump::flat)), and a split dump consists of several files
//! ([`open_parts`]). Raw memory cannot be recognised, so the user has to name it ([`open_raw`]).
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
//! A new kind of dump needs a variant of [`Content`] and an arm in `open_dump`. If it has a row in [`formats`] as a
//! format that is not read, that row changes.

mod facts;
pub mod formats;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt};

use crate::file::{FileError, Node, RegionFile, WritableFile, node_of, wrong_device};
use crate::iomem::{IoMem, IoMemError};
use crate::lock::Locking;
use crate::mapped::{Joined, MapError, MappedWindow, WritableWindow};
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
    /// A regular file that is not a known dump: a region file, a raw image, or anything else.
    File,
    /// A block device.
    BlockDevice,
    /// `/dev/mem`.
    DevMem,
    /// A devdax device.
    DevDax,
    /// An ELF core dump of a machine.
    Elf,
    /// A kdump-compressed dump by makedumpfile or QEMU.
    Kdump,
    /// A LiME image, or AVML's compressed form of it.
    Lime,
    /// A file of raw memory whose physical address the user has given.
    Raw,
    /// A metadata dump of gmfs. Its offsets are those of the region.
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

/// What the first bytes of a file show it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// An ELF file. [`ElfDump::parse`] finds out whether it is a core.
    Elf,
    /// A kdump-compressed dump.
    Kdump,
    /// A flattened stream, which contains a dump in one of the other formats.
    Flattened,
    /// A LiME image, or a compressed AVML image.
    Lime,
    /// A metadata dump.
    MetaDump,
    /// A dump in a format that is recognised but cannot be read.
    Dump(DumpFormat),
    /// No known format: a region, a raw image, or anything else.
    Plain,
}

impl Content {
    /// What it is, with an article.
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
    /// The file or device could not be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// The window of memory could not be opened.
    #[error(transparent)]
    Map(#[from] MapError),
    /// `/dev/mem` has no size of its own, so a window must be given.
    #[error("{} is the whole physical memory: it needs the size and the physical address of a region", path.display())]
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
    /// The dump has a format that cannot be read.
    #[error("{} is {}, which cannot be read; {}", path.display(), format.describe(), format.hint())]
    Format {
        /// The dump.
        path: PathBuf,
        /// What it is.
        format: DumpFormat,
    },
    /// The ELF file cannot be read as a dump.
    #[error("{} is an ELF file, but cannot be read as a dump", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// The dump has a known format, but cannot be read.
    #[error("{} is {what}, but cannot be read", path.display())]
    Dump {
        /// The file.
        path: PathBuf,
        /// What it is, with an article.
        what: &'static str,
        /// What is wrong with it.
        source: DumpError,
    },
    /// Several files are not the parts of one dump.
    #[error("these are not the parts of one dump: {}", numbered(paths))]
    Parts {
        /// The files in the order in which they were given.
        paths: Vec<PathBuf>,
        /// What is wrong with them.
        source: KdumpError,
    },
    /// The file to be opened as raw memory is a dump.
    #[error("{} is {what}, not raw memory: open it without a base", path.display())]
    NotRaw {
        /// The dump.
        path: PathBuf,
        /// What it is, with an article.
        what: &'static str,
    },
    /// The file to be written is a dump.
    #[error("{} is {what}: a dump cannot be written; copy the region out of it and write the copy", path.display())]
    DumpForWriting {
        /// The dump.
        path: PathBuf,
        /// What it is, with an article.
        what: &'static str,
    },
    /// `/proc/iomem` could not be read. Without it, `/dev/mem` cannot be written.
    #[error("cannot read {}, which says what memory may be written", path.display())]
    IoMemRead {
        /// The file of procfs.
        path: PathBuf,
        /// The error that the system returned.
        source: io::Error,
    },
    /// `/proc/iomem` does not show which memory may be written.
    #[error("cannot find out which memory may be written")]
    IoMem(#[from] IoMemError),
}

/// Why a dump cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// It is a kdump-compressed dump.
    #[error(transparent)]
    Kdump(#[from] KdumpError),
    /// It is a flattened stream.
    #[error(transparent)]
    Flat(#[from] FlatError),
    /// It is a LiME or AVML image.
    #[error(transparent)]
    Lime(#[from] LimeError),
    /// It is a metadata dump.
    #[error(transparent)]
    Meta(#[from] MetaDumpError),
    /// The flattened stream contains no known dump. The reason may be that it was cut off.
    #[error("the flattened stream holds no ELF or kdump-compressed dump{}", if *cut { ": it was cut off" } else { "" })]
    Inside {
        /// Whether the stream's end is missing.
        cut: bool,
    },
}

/// Lists the files with the numbers that errors use for them.
fn numbered(paths: &[PathBuf]) -> String {
    let list = paths.iter().zip(1..).map(|(path, number)| format!("file {number} {}", path.display()));
    list.collect::<Vec<_>>().join(", ")
}

/// An image, open for reading.
#[non_exhaustive]
pub struct Image {
    /// What the image is.
    pub kind: Kind,
    /// The path that was opened.
    pub path: PathBuf,
    /// The bytes. Offsets are physical addresses if [`Kind::is_physical`], and offsets in the file or device otherwise.
    pub source: Box<dyn ReadAt>,
    /// What a dump says about itself; `None` for other images.
    pub dump: Option<DumpFacts>,
    /// What an ELF dump says in addition.
    pub elf: Option<ElfFacts>,
    /// The memory that an ELF dump describes: each range with `None` if it is present, or with the reason why it is
    /// absent. Empty for all other images; see [`Image::memory`].
    pub ranges: Vec<(Span, Option<Absence>)>,
    outline: Option<Arc<dyn Outline>>,
}

impl Image {
    /// An image that is not a dump.
    fn plain(kind: Kind, path: &Path, source: Box<dyn ReadAt>) -> Self {
        Self { kind, path: path.to_owned(), source, dump: None, elf: None, ranges: Vec::new(), outline: None }
    }

    /// A dump.
    fn dumped<D: ReadAt + Outline + 'static>(kind: Kind, path: &Path, facts: DumpFacts, dump: D) -> Self {
        let dump = Arc::new(dump);
        Self { outline: Some(Arc::<D>::clone(&dump)), dump: Some(facts), ..Self::plain(kind, path, Box::new(dump)) }
    }

    /// The memory that a dump of any format describes, ascending, at most `limit` ranges: each with `None` if the dump
    /// holds it, or with the reason why not. For a kdump-compressed dump this reads only the bitmaps, so pages that the
    /// dump lost count as held. Empty for an image that is not a dump.
    #[must_use]
    pub fn memory(&self, limit: usize) -> Vec<(Span, Option<Absence>)> {
        self.description().map(|description| description.memory(limit)).unwrap_or_default()
    }

    /// What a dump says about itself and its memory, without its bytes; `None` for an image that is not a dump.
    #[must_use]
    pub fn description(&self) -> Option<Description> {
        Some(Description::new(self.dump.clone()?, Arc::clone(self.outline.as_ref()?)))
    }
}

/// An image, open for reading and writing, and locked.
#[non_exhaustive]
pub struct WritableImage {
    /// What the image is; never a dump.
    pub kind: Kind,
    /// The path that was opened.
    pub path: PathBuf,
    /// Its bytes, with offsets as in [`Image::source`].
    pub target: Box<dyn WriteAt>,
}

/// What will happen to the present content of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A region in it is changed. Dumps of all formats are refused.
    Update,
    /// It is replaced, which the caller has decided (see [`foreign`](crate::foreign)). No content is refused.
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
/// `window` is the part of a character device to open. `/dev/mem` needs one, in physical addresses. For devdax it is in
/// offsets of the device, and the whole device is opened without one. Reads outside of the window are
/// [`BeyondEnd`](gmfs_io::Absence::BeyondEnd). Files, block devices and dumps are always opened whole; the caller can
/// use a [`Window`](gmfs_io::Window).
///
/// # Errors
/// [`OpenError`]. [`OpenError::Format`] names a format that is recognised but cannot be read.
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

/// Opens a dump. Each format has one arm.
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

/// The format in a flattened stream; [`Content::Plain`] if the start of the stream was lost.
fn inside(flat: &FlatFile<RegionFile>, path: &Path) -> Result<Content, OpenError> {
    match content_of(flat, path) {
        Err(OpenError::Read { source: ReadError::Absent { .. }, .. }) => Ok(Content::Plain),
        other => other,
    }
}

/// Opens the parts of a split dump (`makedumpfile --split`) as one image. They may be in any order, and may be
/// flattened. A single path is opened like [`open`] does.
///
/// # Errors
/// [`OpenError`]. [`OpenError::Parts`] says why the files do not belong together: a part is missing, was given twice,
/// or is of another dump.
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

/// Opens the file or block device at `path` as memory that starts at the physical address `base`.
///
/// # Errors
/// [`OpenError::NotRaw`] if the content is a dump, and for `/dev/mem` and devdax, which have addresses of their own.
pub fn open_raw(path: &Path, base: u64) -> Result<Image, OpenError> {
    if let Some(kind) = device_kind(path)? {
        return Err(not_raw(path, kind));
    }
    let file = raw_file(path)?;
    let facts = DumpFacts { format: "raw memory", ..DumpFacts::default() };
    Ok(Image::dumped(Kind::Raw, path, facts, RawMemory::new(file, base)))
}

/// Like [`open_raw`], for several layered files, the uppermost one first: for example a differential snapshot and the
/// snapshot below it. Where a file has a hole, the ones below it are read. `holes` says what a hole in all of them is.
///
/// # Errors
/// Those of [`open_raw`].
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

/// Opens a file that may be raw memory.
fn raw_file(path: &Path) -> Result<RegionFile, OpenError> {
    let file = RegionFile::open(path)?;
    match content_of(&file, path)? {
        Content::Plain => Ok(file),
        // The memory may start with a program, which is an ELF file too.
        Content::Elf if matches!(ElfDump::parse(&file), Err(ElfError::NotCore { .. })) => Ok(file),
        content => Err(OpenError::NotRaw { path: path.to_owned(), what: content.describe() }),
    }
}

fn not_raw(path: &Path, kind: Kind) -> OpenError {
    let what = if kind == Kind::DevMem { "live memory" } else { "a devdax device" };
    OpenError::NotRaw { path: path.to_owned(), what }
}

/// Opens the image at `path` for writing, and locks it as `how` says; for a character device, only the window is
/// locked. `window` is as for [`open`]. A window of `/dev/mem` must be in memory that `/proc/iomem` calls reserved or
/// persistent.
///
/// # Errors
/// [`OpenError::DumpForWriting`] for dumps; [`MapError::Held`] for memory in use; [`FileError::Locked`] and
/// [`FileError::InUse`] if another process uses it.
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
                // This comes before locking, so that a dump on a read-only medium is reported as a dump.
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

/// Opens the image at `path` for reading, for a dry run of a change. It refuses what [`open_for_writing`] refuses
/// because of its content or its location in memory. It needs no permission to write, and locks nothing.
///
/// # Errors
/// Those of [`open_for_writing`].
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

/// Maps parts of the image at `path` one after the other into one range of addresses, as memory for a VMM. It locks
/// nothing: see [`UsageLock`](crate::lock::usage::UsageLock). Parts of `/dev/mem` must be in memory that `/proc/iomem`
/// calls reserved or persistent.
///
/// # Errors
/// [`OpenError::DumpForWriting`] for dumps; [`MapError::Held`] for memory in use; [`MapError::Unaligned`],
/// [`MapError::Outside`] and [`MapError::Refused`] for parts that cannot be mapped.
pub fn join(path: &Path, parts: &[Span]) -> Result<Joined, OpenError> {
    match device_kind(path)? {
        Some(Kind::DevMem) => Ok(Joined::dev_mem(path, parts, &memory_map(Path::new("/proc/iomem"))?)?),
        Some(_) => Ok(Joined::dev_dax(path, parts)?),
        None => {
            refuse_dump(&RegionFile::open(path)?, path)?;
            Ok(Joined::file(path, parts)?)
        }
    }
}

fn refuse_dump(file: &impl ReadAt, path: &Path) -> Result<(), OpenError> {
    let content = content_of(file, path)?;
    if content == Content::Plain {
        return Ok(());
    }
    let what = content.describe();
    Err(OpenError::DumpForWriting { path: path.to_owned(), what })
}

/// The map of physical memory, read from `path`, which is `/proc/iomem`.
///
/// # Errors
/// [`OpenError::IoMemRead`], [`OpenError::IoMem`].
pub fn memory_map(path: &Path) -> Result<IoMem, OpenError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| OpenError::IoMemRead { path: path.to_owned(), source })?;
    Ok(IoMem::parse(&text)?)
}

/// Whether the path names `/dev/mem`, by its device number.
#[must_use]
pub fn is_dev_mem(path: &Path) -> bool {
    matches!(device_kind(path), Ok(Some(Kind::DevMem)))
}

/// The kind of the character device at `path`; `None` if it is not a character device.
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

/// What the first bytes of `file` show it to be. A file may be shorter than these.
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
