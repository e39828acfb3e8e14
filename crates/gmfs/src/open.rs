//! Opens an image, finds the store in it, and locks it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use gmfs_format::Layout;
use gmfs_format::guestmemfs;
use gmfs_format::luo;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::PAGE_BYTES;
use gmfs_format::spec::RegionSpec;
use gmfs_image::lock::Mode;
use gmfs_image::probe::{self, Intent};
use gmfs_image::{Description, FileError, Holes, Image, Kind, Locking, OpenError, RangeLock, WritableImage};
use gmfs_io::{Absence, Overlay, ReadAt, Span, Window, WriteAt};
use gmfs_volume::{Superblocks, rebuild};

use crate::error::Error;
use crate::find::Candidate;
use crate::find::guestmemfs::Found;
use crate::store::{Guestmemfs, other_layout};
use crate::{find, lacking};

/// Observes the opening of an image. Every method has a default that does nothing; `()` uses the defaults.
pub trait Observer {
    /// A search has come to byte `done` of `of`.
    fn searching(&self, done: u64, of: u64) {
        let _ = (done, of);
    }
    /// The search that was going on is over.
    fn searched(&self) {}
    /// This many bytes of the region are holes in a file of raw memory, and the user has not said what holes are.
    fn holes(&self, image: &Path, bytes: u64) {
        let _ = (image, bytes);
    }
    /// The region is read without a lock; [`Unlocked::has_changed`] says afterwards whether it has changed meanwhile.
    fn unlocked(&self, unlocked: Unlocked) {
        let _ = unlocked;
    }
}

impl Observer for () {}

/// An image, and what has to be known about it to open it.
#[derive(Clone, Debug, Default)]
pub struct ImageSpec {
    /// A region file, a device, or a memory dump.
    pub path: PathBuf,
    /// Where in it the region is; without it the region is found.
    pub region: Option<RegionSpec>,
    /// The other parts of a split dump, in any order.
    pub parts: Vec<PathBuf>,
    /// The image is raw memory whose first byte was at this physical address.
    pub base: Option<u64>,
    /// What holes in raw memory are; `None` takes them for zeros, and [`Observer::holes`] is told of them.
    pub holes: Option<Holes>,
    /// Snapshots of raw memory below this one, from the top down: holes are read from them.
    pub over: Vec<PathBuf>,
    /// Which of the stores in the image.
    pub which: Option<Which>,
    /// Where the content of files is, in a layout that keeps it apart from its metadata, if it is not in this image.
    pub data_from: Option<DataFrom>,
    /// Which of its mappings decides where files are, in the layout that has two of them.
    pub by: Option<guestmemfs::By>,
}

/// Which of several stores in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this number, counted from 1, as [`find::stores`] lists them.
    Number(usize),
    /// The one at this address: where a region starts, or where the device tree of a hand-over is.
    At(u64),
}

/// Another image with the content of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFrom {
    /// A file, or a dump.
    pub path: PathBuf,
    /// Where in it the region starts. Without it, a file is the region, and a dump has it where the metadata says.
    pub base: Option<u64>,
}

impl From<&Path> for ImageSpec {
    fn from(path: &Path) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }
}

impl ImageSpec {
    /// All files that the image consists of.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.parts.iter().chain(&self.over).map(PathBuf::as_path))
    }

    /// The same image by paths that stay right in another directory.
    ///
    /// # Errors
    /// The current directory cannot be found out.
    pub fn absolute(self) -> Result<Self, Error> {
        let absolute = |path: &Path| {
            let found = std::path::absolute(path);
            found.map_err(|source| Error::Absolute { path: path.to_owned(), source })
        };
        let all = |paths: &[PathBuf]| paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>();
        let (path, parts, over) = (absolute(&self.path)?, all(&self.parts)?, all(&self.over)?);
        let data = self.data_from.as_ref().map(|data| absolute(&data.path)).transpose()?;
        let data_from = self.data_from.zip(data).map(|(data, path)| DataFrom { path, ..data });
        Ok(Self { path, parts, over, data_from, ..self })
    }

    /// Opens the image for reading; `window` is the part of `/dev/mem` that is to be seen.
    ///
    /// # Errors
    /// The image cannot be opened, or is of no known kind.
    pub fn open(&self, window: Option<Span>) -> Result<Image, OpenError> {
        match self.base {
            Some(base) => {
                let below: Vec<&Path> = self.over.iter().map(PathBuf::as_path).collect();
                probe::open_layers(&self.path, &below, base, self.holes.unwrap_or(Holes::Zero))
            }
            None if self.parts.is_empty() => probe::open(&self.path, window),
            None => probe::open_parts(&self.files().collect::<Vec<_>>()),
        }
    }

    /// Opens the image for reading and writing, as [`open`](Self::open) does, and locks it.
    fn open_for_writing(&self, window: Option<Span>, locking: &Locking<'_>) -> Result<WritableImage, OpenError> {
        let what = match (self.base, self.parts.as_slice()) {
            (None, []) => return probe::open_for_writing(&self.path, window, Intent::Update, locking),
            (Some(_), _) => "raw memory with a base",
            (None, _) => "a split dump",
        };
        // An error about what the image itself is comes first.
        self.open(window)?;
        Err(OpenError::DumpForWriting { path: self.path.clone(), what })
    }

    /// What is known about where the region is: its exact range, and its size.
    fn asked(&self) -> (Option<Span>, Option<u64>) {
        let exact = self.region.and_then(|spec| Some(Span::new(spec.base?, spec.size)));
        (exact, self.region.map(|spec| spec.size))
    }

    /// Opens the image for reading, finds the store's place in it, and locks that, unless `locking` is `None`.
    ///
    /// # Errors
    /// The image cannot be opened or locked, or it is not clear where in it the store is.
    pub fn locate(&self, locking: Option<&Locking<'_>>, observer: &dyn Observer) -> Result<Located, Error> {
        let (image, place, lock) = self.find(locking, observer)?;
        match place.guestmemfs {
            None => Ok(Located { handover: place.handover, ..Located::new(image, place.span, lock) }),
            Some(found) => self.guestmemfs(image, place.span, *found, lock),
        }
    }

    /// Locates a file system of guestmemfs. Its metadata is read from all of the image, and its region is what is
    /// located.
    fn guestmemfs(&self, image: Image, span: Span, found: Found, lock: ReadLock) -> Result<Located, Error> {
        let store = guestmemfs::Store::read(&image.source, found.parts.clone());
        let dump = image.description();
        let place = Place { kind: image.kind, path: image.path.clone(), base: span.offset };
        let region = store.region();
        let (source, physical, elsewhere) = match (&self.data_from, region) {
            (Some(other), _) => {
                let (data, base, physical) = other.open(region)?;
                // If nothing says how large the region is, its size is what is known to be in use.
                let size = region.map_or_else(|| store.size_in_use(), |region| region.len);
                (Window::new(data.source, base, size), physical, Some(data.path))
            }
            (None, Some(region)) => (Window::new(image.source, region.offset, region.len), Some(region.offset), None),
            (None, None) => (Window::new(image.source, 0, 0), None, None),
        };
        let store =
            Guestmemfs { found, store, by: self.by, physical: physical.or(region.map(|r| r.offset)), elsewhere };
        Ok(Located { place, source, dump, lock, guestmemfs: Some(Box::new(store)), handover: None })
    }

    fn find(&self, locking: Option<&Locking<'_>>, observer: &dyn Observer) -> Result<(Image, At, ReadLock), Error> {
        loop {
            let (image, at) = self.find_unlocked(observer)?;
            let span = at.span;
            let lock = self.lock_range(&image, span, self.region.is_some(), locking, observer)?;
            // What was found in a file before it was locked is searched for again: a writer may have changed it.
            if locking.is_none() || !matches!(image.kind, Kind::File | Kind::BlockDevice) {
                return Ok((image, at, lock));
            }
            let (image, at) = self.find_unlocked(observer)?;
            if lock.is_of(self) {
                return Ok((image, at, lock));
            }
        }
    }

    /// Takes a read lock on `span` of an image, or, unless the user has said where the region is (`asked`), on all of a
    /// file. If nothing can be locked, the observer is told.
    ///
    /// # Errors
    /// A file cannot be opened, or somebody else keeps it locked.
    pub fn lock_range(
        &self,
        image: &Image,
        span: Span,
        asked: bool,
        locking: Option<&Locking<'_>>,
        observer: &dyn Observer,
    ) -> Result<ReadLock, FileError> {
        // Nobody writes to a dump, except that mkfs may be told to write over a file of raw memory.
        let changeable = !image.kind.is_dump() || image.kind == Kind::Raw;
        let unlocked = || {
            if changeable {
                observer.unlocked(Unlocked::begin(self, span, &image.source));
            }
        };
        let Some(locking) = locking else {
            unlocked();
            return Ok(ReadLock::default());
        };
        let locks = self.locks(self.locked(image.kind, span, asked), locking)?;
        if !locks.iter().all(RangeLock::is_complete) {
            unlocked();
        }
        Ok(ReadLock(RefCell::new(locks)))
    }

    /// Locks a store again that was opened from this image and [unlocked](crate::Store::unlock), for a caller that
    /// keeps it open and reads now and then. What was read of it before may have changed meanwhile. A dump is not
    /// locked: nobody writes to it.
    ///
    /// # Errors
    /// A file cannot be opened, or somebody else keeps it locked.
    pub fn lock_again(&self, store: &crate::Store, locking: &Locking<'_>) -> Result<ReadLock, FileError> {
        let Place { kind, base, .. } = store.place;
        if kind.is_dump() {
            return Ok(ReadLock::default());
        }
        let asked = self.asked().0.filter(|_| kind != Kind::DevMem);
        let span = asked.unwrap_or(Span::new(base, store.source().end().unwrap_or(u64::MAX)));
        let range = self.locked(kind, span, self.region.is_some());
        Ok(ReadLock(RefCell::new(self.locks(range, locking)?)))
    }

    /// The range of the image's file that a reader of the store at `span` locks; `None` is all of it.
    fn locked(&self, kind: Kind, span: Span, asked: bool) -> Option<Span> {
        match kind {
            Kind::File | Kind::BlockDevice | Kind::DevDax => Some(span).filter(|_| asked),
            Kind::DevMem => Some(span),
            Kind::Raw => self.base.filter(|_| asked).map(|base| Span::new(span.offset.saturating_sub(base), span.len)),
            _ => None,
        }
    }

    fn locks(&self, range: Option<Span>, locking: &Locking<'_>) -> Result<Vec<RangeLock>, FileError> {
        let ranged = Locking { span: range, ..*locking };
        self.files().map(|file| RangeLock::take(file, Mode::Shared, &ranged)).collect()
    }

    /// The image, open for reading, and the part of it that is the region.
    fn find_unlocked(&self, observer: &dyn Observer) -> Result<(Image, At), Error> {
        let (exact, size) = self.asked();
        let image = match self.open(exact) {
            Err(OpenError::WindowNeeded { .. }) if self.which.is_none() => {
                let span = find::in_memory(&self.path, size, observer)?;
                return Ok((self.open(Some(span))?, span.into()));
            }
            other => other?,
        };
        let at = match (exact, size) {
            (None, _) if self.which.is_some() => find::which(&image, self.which, observer)?,
            (Some(span), _) => At { guestmemfs: find::guestmemfs_at(&image, span, observer)?, ..span.into() },
            (None, _) if find::must_search(image.kind) => find::in_dump(&image, size, observer)?,
            (None, Some(size)) => Span::new(0, size).into(),
            (None, None) => Span::new(0, image.source.end().unwrap_or(u64::MAX)).into(),
        };
        let span = at.span;
        if let (Some(dump), Some(span), None) = (image.description(), exact, &at.guestmemfs) {
            lacking::require(&image, &dump, span)?;
        }
        if self.holes.is_none() && self.over.is_empty() && at.handover.is_none() {
            let holes = image.description().and_then(|dump| dump.holes(span.offset..span.end())).unwrap_or(0);
            if holes > 0 {
                observer.holes(&image.path, holes);
            }
        }
        Ok((image, at))
    }

    /// The image, open for writing and locked, cut to the region.
    ///
    /// # Errors
    /// The image cannot be opened or locked for writing, or it is not clear where in it the region is.
    pub fn locate_for_writing(&self, locking: &Locking<'_>, observer: &dyn Observer) -> Result<(Kind, Target), Error> {
        if self.which.is_some() {
            return self.chosen(observer)?.locate_for_writing(locking, observer);
        }
        let (exact, size) = self.asked();
        // Only the locked part of a file may be changed.
        let lock = exact.or(size.map(|size| Span::new(0, size)));
        let open = |window: Option<Span>| {
            let span = if window == exact { lock } else { None };
            self.open_for_writing(window, &Locking { span, ..*locking })
        };
        let (image, span) = self.place_for_writing(observer, open, |image| image.target.end())?;
        Ok((image.kind, Window::new(image.target, span.offset, span.len)))
    }

    /// As [`locate_for_writing`](Self::locate_for_writing), for a dry run: the image is opened and locked for reading. What is
    /// written to metadata stays in memory, and all other writes are dropped. Metadata is that of the region that is there, and
    /// that of a region with the geometry `also`, which is to replace it.
    ///
    /// # Errors
    /// As [`locate_for_writing`](Self::locate_for_writing).
    pub fn locate_for_dry_run(
        &self,
        also: Option<Geometry>,
        locking: &Locking<'_>,
        observer: &dyn Observer,
    ) -> Result<(Kind, Target, ReadLock), Error> {
        if self.which.is_some() {
            return self.chosen(observer)?.locate_for_dry_run(also, locking, observer);
        }
        let open = |window| probe::open_for_dry_run(&self.path, window);
        let (image, span) = self.place_for_writing(observer, open, |image| image.source.end())?;
        let lock = self.lock_range(&image, span, self.region.is_some(), Some(locking), observer)?;
        let there = Superblocks::load(&Window::new(&image.source, span.offset, span.len));
        let geometries = there.ok().map(|found| found.geometry()).into_iter().chain(also);
        let shift = |at: u64| span.offset.saturating_add(at);
        let metadata = geometries.flat_map(|geometry| geometry.metadata());
        let kept = metadata.map(|range| shift(range.start)..shift(range.end)).collect();
        let overlay: Box<dyn WriteAt> = Box::new(Overlay::keeping(image.source, kept));
        Ok((image.kind, Window::new(overlay, span.offset, span.len), lock))
    }

    /// The same image with the place of the store that was chosen.
    fn chosen(&self, observer: &dyn Observer) -> Result<Self, Error> {
        let found = find::which(&self.open(None)?, self.which, observer)?;
        let other = found.guestmemfs.map(|_| Layout::Guestmemfs).or(found.handover.map(|_| Layout::Luo));
        match other {
            Some(layout) => Err(Error::NotNative(layout)),
            None => {
                let region = RegionSpec { size: found.span.len, base: Some(found.span.offset) };
                Ok(Self { region: Some(region), which: None, ..self.clone() })
            }
        }
    }

    /// Opens an image that is to be written, and says where the region is. Only physical memory is searched for it.
    fn place_for_writing<I>(
        &self,
        observer: &dyn Observer,
        open: impl Fn(Option<Span>) -> Result<I, OpenError>,
        end: impl Fn(&I) -> Option<u64>,
    ) -> Result<(I, Span), Error> {
        let (exact, size) = self.asked();
        match open(exact) {
            Err(OpenError::WindowNeeded { .. }) => {
                let span = find::in_memory(&self.path, size, observer)?;
                Ok((open(Some(span))?, span))
            }
            other => {
                let image = other?;
                let size = size.or_else(|| end(&image)).unwrap_or(u64::MAX);
                Ok((image, exact.unwrap_or(Span::new(0, size))))
            }
        }
    }
}

/// What a store is read from.
pub type Source = Window<Box<dyn ReadAt>>;
/// What a store is written to.
pub type Target = Window<Box<dyn WriteAt>>;

/// What an image is, and where in it the store starts.
#[derive(Clone, Debug)]
pub struct Place {
    /// What the image is.
    pub kind: Kind,
    /// Its path.
    pub path: PathBuf,
    /// Where the store starts: a physical address if the image has such, or an offset.
    pub base: u64,
}

impl Place {
    /// The store's physical address, if the image tells it.
    #[must_use]
    pub fn address(&self) -> Option<u64> {
        self.kind.is_physical().then_some(self.base)
    }
}

/// Where in an image a store is, and what was found there.
pub(crate) struct At {
    /// The part of the image that the store is read from: a region, or, of a hand-over, all of the memory.
    pub(crate) span: Span,
    /// How it was found, in the layout whose metadata is elsewhere in the memory.
    pub(crate) guestmemfs: Option<Box<Found>>,
    /// The hand-over, if it is one.
    pub(crate) handover: Option<Box<luo::Store>>,
}

impl From<Span> for At {
    fn from(span: Span) -> Self {
        Self { span, guestmemfs: None, handover: None }
    }
}

impl From<Candidate> for At {
    fn from(found: Candidate) -> Self {
        Self { span: Span::new(found.base, found.size), guestmemfs: found.guestmemfs, handover: None }
    }
}

impl DataFrom {
    /// Opens it: the image, where in it the region starts, and the region's physical address, if the image tells it.
    fn open(&self, region: Option<Span>) -> Result<(Image, u64, Option<u64>), OpenError> {
        let image = probe::open(&self.path, None)?;
        let physical = image.kind.is_physical();
        let recorded = region.map(|region| region.offset).filter(|_| physical);
        let base = self.base.or(recorded).unwrap_or(0);
        Ok((image, base, physical.then_some(base)))
    }
}

/// A part of an image that holds, or may hold, a store.
#[non_exhaustive]
pub struct Located {
    /// Where it is.
    pub place: Place,
    /// Its bytes.
    pub source: Source,
    /// What the image says of itself, if it is a dump.
    pub dump: Option<Description>,
    /// The lock on it.
    pub lock: ReadLock,
    /// The metadata, in the layout that keeps it apart from the region: it is read already.
    pub guestmemfs: Option<Box<Guestmemfs>>,
    /// The hand-over that was found in memory, if the store is one: then the bytes are all of the memory.
    pub handover: Option<Box<luo::Store>>,
}

impl Located {
    /// The part of an image that is the store.
    #[must_use]
    pub fn new(image: Image, span: Span, lock: ReadLock) -> Self {
        let dump = image.description();
        let place = Place { kind: image.kind, path: image.path, base: span.offset };
        Self {
            place,
            source: Window::new(image.source, span.offset, span.len),
            dump,
            lock,
            guestmemfs: None,
            handover: None,
        }
    }

    /// Its layout, if that is clear without opening it, and not native.
    #[must_use]
    pub fn layout_if_other(&self) -> Option<Layout> {
        let in_memory = self.guestmemfs.is_some().then_some(Layout::Guestmemfs);
        let in_memory = in_memory.or(self.handover.is_some().then_some(Layout::Luo));
        in_memory.or_else(|| other_layout(&self.source))
    }

    /// The superblocks of a native region.
    ///
    /// # Errors
    /// None of them can be used.
    pub fn superblocks(&self) -> Result<Superblocks, gmfs_volume::OpenError> {
        Superblocks::load(&self.source)
    }

    /// The first part of the first superblock's page that the image lacks, and why; `None` if the whole page is there.
    #[must_use]
    pub fn absent_superblock(&self) -> Option<(Span, Absence)> {
        self.source.next_absent(0..PAGE_BYTES)
    }

    /// The superblocks of a native region; where both are lost, one that is rebuilt from what is left.
    ///
    /// # Errors
    /// None of them can be used, and none can be rebuilt.
    pub fn superblocks_or_rebuilt(&self) -> Result<Superblocks, gmfs_volume::OpenError> {
        rebuild::load_or_rebuild(&self.source)
    }
}

/// The lock of a reader, for as long as it reads.
#[derive(Default)]
pub struct ReadLock(RefCell<Vec<RangeLock>>);

impl ReadLock {
    /// Whether the image's files are those that are locked.
    fn is_of(&self, spec: &ImageSpec) -> bool {
        self.0.borrow().iter().zip(spec.files()).all(|(lock, file)| lock.is_of(file))
    }

    /// Releases the lock, so that writers can go on: everything has been read.
    pub fn release(&self) {
        self.0.take();
    }
}

/// Both superblocks' generations; `None` for one that cannot be used.
pub type Generations = Option<[Option<u64>; 2]>;

/// A region that is read without a lock, with the generations of its superblocks when that began.
#[derive(Debug)]
pub struct Unlocked {
    image: ImageSpec,
    span: Span,
    began: Generations,
}

impl Unlocked {
    fn begin<S: ReadAt>(image: &ImageSpec, span: Span, source: S) -> Self {
        Self { image: image.clone(), span, began: generations(source, span) }
    }

    /// The image.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.image.path
    }

    /// Whether the region has another generation now than when reading began: what was read may mix two states.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let now = self.image.open(Some(self.span)).ok().map(|image| generations(image.source, self.span));
        now != Some(self.began)
    }
}

fn generations<S: ReadAt>(source: S, span: Span) -> Generations {
    generations_of(&Window::new(source, span.offset, span.len))
}

/// The generations of the region that this source is.
pub(crate) fn generations_of<S: ReadAt>(source: &S) -> Generations {
    let found = Superblocks::load(source).ok()?;
    Some([&found.a, &found.b].map(|slot| slot.good().map(|superblock| superblock.generation.0)))
}
