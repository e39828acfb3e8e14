//! What is to be formatted: found, made, opened and locked; and, if it was made here, removed again if that fails.

use std::fs::OpenOptions;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use gmfs_format::native::units::{CopyId, PmdShift};
use gmfs_format::spec;
use gmfs_image::foreign;
use gmfs_image::probe::{self, Intent};
use gmfs_image::{Kind, RangeLock, RegionFile, WritableFile};
use gmfs_io::{ReadAt, Span, Window, WriteAt};
use gmfs_volume::Superblocks;

use super::Args;
use crate::failure::Failure;
use crate::render::size;

/// What the command line asks for.
pub(super) struct Wanted {
    /// Size in bytes, if given.
    size: Option<u64>,
    /// Where in the image, if given.
    base: Option<u64>,
    pmd: PmdShift,
}

impl Wanted {
    pub(super) fn new(args: &Args, pmd: PmdShift) -> Result<Self> {
        let counted = args.blocks.as_deref().map(|text| blocks(text, pmd)).transpose()?;
        let size = args.size.or(counted).or(args.region.map(|region| region.size));
        Ok(Self { size, base: args.region.and_then(|region| region.base), pmd })
    }
}

/// mkfs(8) counts in blocks; with a suffix, or in hexadecimal, it is bytes.
fn blocks(text: &str, pmd: PmdShift) -> Result<u64, Failure> {
    let wrong = |message: String| Failure::new("size", message);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let count: Option<u64> = text.parse().ok();
        let bytes = count.and_then(|count| count.checked_mul(pmd.block_bytes()));
        return bytes.ok_or_else(|| wrong(format!("{text} blocks are too many")));
    }
    spec::parse_amount(text).map_err(|error| wrong(error.to_string()))
}

/// Bytes to format.
enum Bytes {
    /// There is nothing: what a dry run sees of a file that is to be made.
    Nothing,
    Readable(Window<Box<dyn ReadAt>>),
    Writable(Window<Box<dyn WriteAt>>),
}

/// What is to be formatted.
pub(super) struct Target {
    pub(super) kind: Kind,
    /// Size of the region in bytes.
    pub(super) size: u64,
    /// Where in the image it starts.
    pub(super) base: u64,
    /// All that lies there now is a hole: the file was made here.
    pub(super) fresh: bool,
    bytes: Bytes,
    made: Option<Made>,
    /// A dry run's lock; what is written has its own.
    _look: Option<RangeLock>,
}

impl Target {
    /// What lies there now. Reaches to the image's end, so that leftovers behind a smaller region are seen too.
    pub(super) fn source(&self) -> Option<&dyn ReadAt> {
        match &self.bytes {
            Bytes::Nothing => None,
            Bytes::Readable(window) => Some(window),
            Bytes::Writable(window) => Some(window),
        }
    }

    /// Where superblocks of an older region lie, which must not be found any more.
    pub(super) fn old_superblocks(&self) -> Vec<u64> {
        let Some(source) = self.source().filter(|_| !self.fresh) else { return Vec::new() };
        let Ok(old) = Superblocks::load(source) else { return Vec::new() };
        let offsets = CopyId::BOTH.map(|copy| old.geometry().copy_offset(copy));
        let end = source.end().unwrap_or(0);
        offsets.into_iter().filter(|offset| offset.saturating_add(4096) <= end).collect()
    }

    /// Where other formats have marks, which the region must not be taken for: in files and block devices, of which
    /// programs tell what they hold by these.
    pub(super) fn marked(&self) -> Vec<Range<u64>> {
        if self.fresh || !matches!(self.kind, Kind::File | Kind::BlockDevice) {
            return Vec::new();
        }
        super::wipe::places(self.size)
    }

    /// What the image still holds beside the region, if programs that look at the image as a whole see it: a name, and
    /// where its mark is.
    pub(super) fn left_outside(&self) -> Option<(&'static str, u64)> {
        let source = self.source().filter(|_| self.base == 0 && !self.fresh && !self.kind.is_physical())?;
        let found = foreign::identify(source).filter(|found| found.offset >= self.size)?;
        Some((found.name, found.offset))
    }

    pub(super) fn writable(&mut self) -> Result<&mut Window<Box<dyn WriteAt>>, Failure> {
        match &mut self.bytes {
            Bytes::Writable(window) => Ok(window),
            _ => Err(Failure::new("read-only", "it was opened for looking only")),
        }
    }

    /// The region stands: a file that was made for it stays.
    pub(super) fn keep(&mut self) {
        self.made = None;
    }
}

/// A file that was made or grown here. Unless it is kept, it becomes what it was.
enum Made {
    New(PathBuf),
    Grown(PathBuf),
}

struct Undo(Option<Made>);

impl Drop for Target {
    fn drop(&mut self) {
        Undo(self.made.take()).undo();
    }
}

impl Undo {
    fn undo(self) {
        // Best effort: the error that is being told is the one that matters.
        let _ = match self.0 {
            Some(Made::New(path)) => std::fs::remove_file(path),
            Some(Made::Grown(path)) => OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)),
            None => Ok(()),
        };
    }
}

/// Opens, or makes, what is to be formatted. A dry run opens for reading and makes nothing.
pub(super) fn open(args: &Args, wanted: &Wanted) -> Result<Target> {
    let meta = std::fs::metadata(&args.image);
    match &meta {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(args, wanted, true),
        Ok(meta) if meta.is_file() && meta.len() == 0 => make(args, wanted, false),
        // Whatever else is wrong with it is told by whoever opens it.
        _ => existing(args, wanted),
    }
}

/// A file that is not there, or empty.
fn make(args: &Args, wanted: &Wanted, new: bool) -> Result<Target> {
    let path = &args.image;
    let Some(size) = wanted.size.filter(|_| args.region.is_none()) else {
        let (code, what) = if new { ("not-found", "does not exist") } else { ("empty", "is empty") };
        let message = format!("{} {what}", path.display());
        return Err(Failure::new(code, message).hint("--size SIZE makes a region file of that size").into());
    };
    // Before there is a file that would have to be removed again.
    super::plan(args, wanted.pmd, size)?;
    let mut target =
        Target { kind: Kind::File, size, base: 0, fresh: true, bytes: Bytes::Nothing, made: None, _look: None };
    if !args.dry_run {
        let file = WritableFile::create_new(path, size, &args.wait.locking(None))?;
        target.made = Some(if new { Made::New(path.clone()) } else { Made::Grown(path.clone()) });
        target.bytes = Bytes::Writable(Window::new(Box::new(file), 0, size));
    }
    Ok(target)
}

/// An image with something in it, opened whole.
enum Whole {
    Readable(Box<dyn ReadAt>),
    Writable(Box<dyn WriteAt>),
}

impl Whole {
    fn end(&self) -> Option<u64> {
        match self {
            Self::Readable(source) => source.end(),
            Self::Writable(target) => target.end(),
        }
    }

    fn cut(self, base: u64, length: u64) -> Bytes {
        match self {
            Self::Readable(source) => Bytes::Readable(Window::new(source, base, length)),
            Self::Writable(target) => Bytes::Writable(Window::new(target, base, length)),
        }
    }
}

/// Opens an image as what it is; a dump as the file that it is, too: its content is judged later.
fn open_whole(args: &Args, window: Option<Span>, lock: Span) -> Result<(Kind, Whole)> {
    let path = &args.image;
    if !args.dry_run {
        let image = probe::open_for_writing(path, window, Intent::Replace, &args.wait.locking(Some(lock)))?;
        return Ok((image.kind, Whole::Writable(image.target)));
    }
    match probe::open(path, window) {
        Ok(image) if !image.kind.is_dump() => Ok((image.kind, Whole::Readable(image.source))),
        Ok(_) | Err(probe::OpenError::Format { .. } | probe::OpenError::Elf { .. } | probe::OpenError::Dump { .. }) => {
            Ok((Kind::File, Whole::Readable(Box::new(RegionFile::open(path)?))))
        }
        Err(error) => Err(error.into()),
    }
}

/// An image with something in it.
fn existing(args: &Args, wanted: &Wanted) -> Result<Target> {
    let path = &args.image;
    let memory = if is_memory(path) { Some(memory_span(args, wanted)?) } else { None };
    let window = memory.or_else(|| Some(Span::new(wanted.base?, wanted.size?)));
    let base = memory.map_or(wanted.base.unwrap_or(0), |span| span.offset);
    // In a file, what an older region has left past this one goes too.
    let lock = memory.unwrap_or(Span::new(base, u64::MAX));
    let look = if args.dry_run { Some(args.wait.shared(path, Some(lock))?) } else { None };
    let (kind, whole) = open_whole(args, window, lock)?;
    let room = whole.end().map(|end| end.saturating_sub(base));
    let size = memory.map(|span| span.len).or(wanted.size).or(room).unwrap_or(0);
    if let Some(room) = room.filter(|room| *room < size) {
        let (size, room) = (size::both(size), size::both(room));
        let message = format!("the region of {size} does not fit: the image has {room}");
        let hint = "make the image larger (truncate -s), or give a smaller size";
        return Err(Failure::new("too-small", message).hint(hint).into());
    }
    // In memory not a byte beside the range is ours; in a file leftovers behind it count.
    let reach = if kind.is_physical() { size } else { room.unwrap_or(size) };
    let bytes = whole.cut(base, reach);
    Ok(Target { kind, size, base, fresh: false, bytes, made: None, _look: look })
}

/// The range of physical memory that is asked for, or that the kernel's parameter names.
fn memory_span(args: &Args, wanted: &Wanted) -> Result<Span, Failure> {
    let span = match (wanted.base, wanted.size) {
        (Some(base), Some(size)) => Span::new(base, size),
        (_, size) => {
            let named = gmfs::find::kernel_parameters();
            let mut fitting = named.iter().filter(|span| size.is_none_or(|size| size == span.len));
            match (fitting.next(), fitting.next()) {
                (Some(only), None) => *only,
                _ => {
                    let message = "it is the whole of physical memory, and the kernel's command line does not say \
                                   which range of it is meant";
                    let hint = "give --region SIZE:BASE, or boot with guestmemfs=SIZE:BASE";
                    return Err(Failure::new("no-window", message).hint(hint));
                }
            }
        }
    };
    if args.base.is_some_and(|base| base != span.offset) {
        let message = format!("--base contradicts the range that is formatted, which starts at {:#x}", span.offset);
        return Err(Failure::new("base", message).hint("leave --base out: the range's own base is recorded"));
    }
    let block = wanted.pmd.block_bytes();
    if span.offset % block != 0 {
        let message =
            format!("the base {:#x} is not a multiple of the block size, {}", span.offset, size::human(block));
        return Err(Failure::new("base", message).hint("the kernel maps whole PMD pages: reserve an aligned range"));
    }
    Ok(span)
}

/// Whether this is `/dev/mem`, by its device number.
fn is_memory(path: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    std::fs::metadata(path).is_ok_and(|meta| {
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        meta.file_type().is_char_device() && (major, minor) == (1, 1)
    })
}
