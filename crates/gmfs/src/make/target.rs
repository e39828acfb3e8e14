//! What is to be formatted: found, made, opened and locked. A file that was made for it is removed again if that fails.

use std::fs::OpenOptions;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::{CopyId, PAGE_BYTES};
use gmfs_format::pkernfs;
use gmfs_image::foreign::{self, Foreign};
use gmfs_image::lock::Mode;
use gmfs_image::probe::{self, Intent};
use gmfs_image::undo::Recorded;
use gmfs_image::{Kind, Locking, OpenError, RangeLock, RegionFile, WritableFile};
use gmfs_io::{ReadAt, Span, Window, WriteAt};
use gmfs_volume::{FormatOptions, Superblocks, format};

use super::{Holds, MakeError, NewRegion, Request, holds, wipe};
use crate::in_use::{Mapped, Watch};
use crate::open::Place;

/// Bytes to format.
enum Bytes {
    /// There is nothing: what a dry run sees of a file that would be made.
    Nothing,
    Readable(Window<Box<dyn ReadAt>>),
    Writable(Window<Box<dyn WriteAt>>),
}

/// What is to be formatted.
pub struct Target {
    /// The image, and where in it the region starts.
    pub place: Place,
    /// The region's layout.
    pub geometry: Geometry,
    /// The physical base that the region records; 0 is not known.
    pub recorded_base: u64,
    /// The file was made here, so that all of it is a hole.
    fresh: bool,
    bytes: Bytes,
    made: Option<Made>,
    /// The lock of a dry run. A target that is written holds its lock itself.
    _lock: Option<RangeLock>,
}

impl Target {
    /// Refuses a target that holds anything that somebody may still want.
    ///
    /// # Errors
    /// What it holds.
    pub fn refuse_occupied(&self) -> Result<(), Holds> {
        let Some(source) = self.source().filter(|_| !self.fresh) else { return Ok(()) };
        let end = source.end().unwrap_or(self.geometry.size());
        holds::find(source, self.place.kind, end).map_or(Ok(()), Err)
    }

    /// Refuses memory that a process has mapped.
    ///
    /// # Errors
    /// What is mapped, and by whom.
    pub fn refuse_in_use(&self, watch: &mut Watch) -> Result<(), Mapped> {
        // Nobody has mapped a file that was made here.
        let Some(source) = self.source().filter(|_| !self.fresh) else { return Ok(()) };
        let mut spans = vec![Span::new(0, self.geometry.size())];
        spans.extend(self.old_superblocks().into_iter().map(|offset| Span::new(offset, PAGE_BYTES)));
        watch.refuse_bytes(source, &spans)
    }

    /// The bytes of the image for which [`refuse_in_use`](Self::refuse_in_use) has to know what is mapped: what an
    /// older, larger region has left is overwritten too.
    #[must_use]
    pub const fn reach(&self) -> Span {
        Span { offset: self.place.base, len: u64::MAX.saturating_sub(self.place.base) }
    }

    /// Makes the region. What is overwritten is recorded in the file `undo` first.
    ///
    /// # Errors
    /// The target cannot be read or written, or the undo file cannot be made; what was written until then stays.
    pub fn format(&mut self, region: &NewRegion, undo: Option<&Path>) -> Result<(), MakeError> {
        self.format_and_fill(region, undo, |_| Ok(()))
    }

    /// As [`format`](Self::format), and lets `fill` put something into the new region. If that fails, a file that was made
    /// for the region is removed.
    ///
    /// # Errors
    /// As [`format`](Self::format), or what `fill` returned.
    pub fn format_and_fill<E: From<MakeError>>(
        &mut self,
        region: &NewRegion,
        undo: Option<&Path>,
        fill: impl FnOnce(&mut dyn WriteAt) -> Result<(), E>,
    ) -> Result<(), E> {
        let (size, places) = (self.geometry.size(), self.marked());
        let NewRegion { uuid, birth, label, owner, stamp } = region.clone();
        let (geometry, base, forget) = (self.geometry, self.recorded_base, self.old_superblocks());
        let options = FormatOptions { geometry, uuid, birth, label, base, owner, stamp, forget };
        let Bytes::Writable(target) = &mut self.bytes else { return Err(MakeError::DryRun.into()) };
        let all = |target: &mut dyn WriteAt| {
            let mut target = target;
            format(&mut target, &options).map_err(MakeError::from)?;
            wipe::clear(&mut target, size, &places)?;
            fill(&mut Window::new(target, 0, size))
        };
        match undo {
            None => all(target)?,
            Some(file) => {
                let mut recorded = Recorded::new(target, file).map_err(MakeError::from)?;
                let done = all(&mut recorded);
                recorded.finish().map_err(MakeError::from)?;
                done?;
            }
        }
        // The region is complete: a file that was made for it stays.
        if let Some(made) = &mut self.made {
            made.keep = true;
        }
        Ok(())
    }

    /// Makes a region of the pkernfs driver instead, byte for byte as the driver makes it: its first two blocks are
    /// written, and the blocks that follow stay as they are, but for what would make another program, or gmfs, take the
    /// region for something else. What is overwritten is recorded in the file `undo` first.
    ///
    /// # Errors
    /// The target is too small, cannot be read or written, or the undo file cannot be made; what was written until then
    /// stays.
    pub fn format_pkernfs(&mut self, undo: Option<&Path>) -> Result<(), MakeError> {
        let (size, places, forget) = (self.geometry.size(), self.marked(), self.old_superblocks());
        pkernfs::check_size(size)?;
        let Bytes::Writable(target) = &mut self.bytes else { return Err(MakeError::DryRun) };
        match undo {
            None => pkernfs_in(target, size, &places, &forget)?,
            Some(file) => {
                let mut recorded = Recorded::new(target, file)?;
                let done = pkernfs_in(&mut recorded, size, &places, &forget);
                recorded.finish()?;
                done?;
            }
        }
        if let Some(made) = &mut self.made {
            made.keep = true;
        }
        Ok(())
    }

    /// Where the two copies of the metadata are, in bytes of the image.
    #[must_use]
    pub fn copies(&self) -> [u64; 2] {
        CopyId::BOTH.map(|copy| self.place.base.saturating_add(self.geometry.copy_offset(copy)))
    }

    /// What the image still holds outside of the region, if programs that look at the image as a whole recognise it.
    #[must_use]
    pub fn left_outside(&self) -> Option<Foreign> {
        let whole = self.place.base == 0 && !self.fresh && !self.place.kind.is_physical();
        let found = foreign::identify(self.source().filter(|_| whole)?)?;
        (found.offset >= self.geometry.size()).then_some(found)
    }

    /// What is there now. It reaches to the image's end, so that leftovers past a smaller region are seen too.
    fn source(&self) -> Option<&dyn ReadAt> {
        match &self.bytes {
            Bytes::Nothing => None,
            Bytes::Readable(window) => Some(window),
            Bytes::Writable(window) => Some(window),
        }
    }

    /// Where superblocks of an older region are, which must not be found any more.
    fn old_superblocks(&self) -> Vec<u64> {
        let Some(source) = self.source().filter(|_| !self.fresh) else { return Vec::new() };
        let Ok(old) = Superblocks::load(source) else { return Vec::new() };
        let offsets = CopyId::BOTH.map(|copy| old.geometry().copy_offset(copy));
        let end = source.end().unwrap_or(0);
        offsets.into_iter().filter(|offset| offset.saturating_add(PAGE_BYTES) <= end).collect()
    }

    /// Where other formats have marks, so that the region is not taken for one of them. Only files and block devices
    /// are recognised by such marks.
    fn marked(&self) -> Vec<Range<u64>> {
        if self.fresh || !matches!(self.place.kind, Kind::File | Kind::BlockDevice) {
            return Vec::new();
        }
        wipe::places(self.geometry.size())
    }
}

/// Makes a region of pkernfs. `forget`: pages of older superblocks.
fn pkernfs_in(target: &mut dyn WriteAt, size: u64, places: &[Range<u64>], forget: &[u64]) -> Result<(), MakeError> {
    pkernfs::make(target)?;
    let metadata = 0..pkernfs::BLOCK_BYTES.saturating_mul(2);
    for offset in forget.iter().filter(|offset| !metadata.contains(offset)) {
        target.zero(Span::new(*offset, PAGE_BYTES))?;
    }
    target.barrier()?;
    wipe::clear_but(target, size, places, &[metadata])
}

/// A file that was made or grown here. When this is dropped, the file becomes what it was, unless it is kept.
struct Made {
    path: PathBuf,
    /// The file was not there before. Otherwise it was empty.
    new: bool,
    keep: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        // Best effort: the error that is being reported is the one that matters.
        let _ = match self {
            Self { keep: true, .. } => Ok(()),
            Self { path, new: true, .. } => std::fs::remove_file(path),
            Self { path, .. } => OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)),
        };
    }
}

/// Opens, or makes, what is to be formatted. A dry run opens for reading and makes nothing.
pub(super) fn open(request: &Request, locking: &Locking<'_>) -> Result<Target, MakeError> {
    match std::fs::metadata(&request.image) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(request, locking, true),
        Ok(meta) if meta.is_file() && meta.len() == 0 => make(request, locking, false),
        // Opening it reports what else is wrong with it.
        _ => existing(request, locking),
    }
}

/// The base to record in a region that is not in memory.
fn recorded_base(request: &Request) -> Result<u64, MakeError> {
    let base = request.base.unwrap_or(0);
    let block_bytes = request.block_size.block_bytes();
    if base.is_multiple_of(block_bytes) {
        Ok(base)
    } else {
        Err(MakeError::Unaligned { base, block_bytes, range: false })
    }
}

/// A file that is not there, or empty.
fn make(request: &Request, locking: &Locking<'_>, new: bool) -> Result<Target, MakeError> {
    let path = request.image.clone();
    let Some(size) = request.size.filter(|_| request.region.is_none()) else {
        return Err(if new { MakeError::Missing(path) } else { MakeError::Empty(path) });
    };
    // Everything that can be wrong is found before there is a file, which would have to be removed again.
    let geometry = request.geometry(size)?;
    let recorded_base = recorded_base(request)?;
    let (mut bytes, mut made) = (Bytes::Nothing, None);
    if !request.dry_run {
        let file = WritableFile::create_new(&path, size, &Locking { span: None, ..*locking })?;
        made = Some(Made { path: path.clone(), new, keep: false });
        bytes = Bytes::Writable(Window::new(Box::new(file), 0, size));
    }
    let place = Place { kind: Kind::File, path, base: 0 };
    Ok(Target { place, geometry, recorded_base, fresh: true, bytes, made, _lock: None })
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

/// Opens an image as what it is, and a dump as the file that it is: what it holds is judged later.
fn open_whole(request: &Request, window: Option<Span>, locking: &Locking<'_>) -> Result<(Kind, Whole), MakeError> {
    let path = &request.image;
    if !request.dry_run {
        let image = probe::open_for_writing(path, window, Intent::Replace, locking)?;
        return Ok((image.kind, Whole::Writable(image.target)));
    }
    match probe::open(path, window) {
        Ok(image) if !image.kind.is_dump() => Ok((image.kind, Whole::Readable(image.source))),
        Ok(_) | Err(OpenError::Format { .. } | OpenError::Elf { .. } | OpenError::Dump { .. }) => {
            Ok((Kind::File, Whole::Readable(Box::new(RegionFile::open(path)?))))
        }
        Err(error) => Err(error.into()),
    }
}

/// An image with something in it.
fn existing(request: &Request, locking: &Locking<'_>) -> Result<Target, MakeError> {
    let path = &request.image;
    let (size, base) = request.wanted();
    let memory = if probe::is_dev_mem(path) { Some(memory_span(request)?) } else { None };
    let window = memory.or_else(|| Some(Span::new(base?, size?)));
    let base = memory.map_or(base.unwrap_or(0), |span| span.offset);
    // In a file, what an older region has left past this one is removed too.
    let locking = Locking { span: Some(memory.unwrap_or(Span::new(base, u64::MAX))), ..*locking };
    let lock = if request.dry_run { Some(RangeLock::take(path, Mode::Shared, &locking)?) } else { None };
    let (kind, whole) = open_whole(request, window, &locking)?;
    let room = whole.end().map(|end| end.saturating_sub(base));
    let size = memory.map(|span| span.len).or(size).or(room).unwrap_or(0);
    if let Some(room) = room.filter(|room| *room < size) {
        return Err(MakeError::TooSmall { size, room });
    }
    let geometry = request.geometry(size)?;
    let recorded_base = if kind.is_physical() { base } else { recorded_base(request)? };
    // In memory not a byte outside of the range is ours; in a file leftovers past it count.
    let reach = if kind.is_physical() { size } else { room.unwrap_or(size) };
    let bytes = whole.cut(base, reach);
    let place = Place { kind, path: path.clone(), base };
    Ok(Target { place, geometry, recorded_base, fresh: false, bytes, made: None, _lock: lock })
}

/// The range of physical memory that is asked for, or that the kernel's parameter names.
fn memory_span(request: &Request) -> Result<Span, MakeError> {
    let span = match request.wanted() {
        (Some(size), Some(base)) => Span::new(base, size),
        (size, _) => {
            let named = crate::find::kernel_parameters();
            let mut fitting = named.iter().filter(|span| size.is_none_or(|size| size == span.len));
            match (fitting.next(), fitting.next()) {
                (Some(only), None) => *only,
                _ => return Err(MakeError::NoRange),
            }
        }
    };
    if let Some(base) = request.base.filter(|base| *base != span.offset) {
        return Err(MakeError::OtherBase { base, start: span.offset });
    }
    let block_bytes = request.block_size.block_bytes();
    if !span.offset.is_multiple_of(block_bytes) {
        return Err(MakeError::Unaligned { base: span.offset, block_bytes, range: true });
    }
    Ok(span)
}
