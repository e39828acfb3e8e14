//! Finds the store in an image if the user does not say where it is: by the kernel's parameters, or by its superblocks.

pub mod guestmemfs;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use gmfs_format::luo::{self, Moment};
use gmfs_format::native::seal::PageKind;
use gmfs_format::{Layout, name, pkernfs, spec};
use gmfs_image::{Image, Kind, probe};
use gmfs_io::{ReadAt, ReadError, Span, Window};
use gmfs_volume::Superblocks;
use gmfs_volume::locate::{self, Confidence};
use uuid::Uuid;

use crate::error::{Error, spelled};
use crate::lacking;
use crate::open::{At, Observer, Which};

pub use gmfs_volume::locate::DEFAULT_STEP;
pub use guestmemfs::Depth;

/// The smallest region: two copies and a block.
const SMALLEST: u64 = 3 * DEFAULT_STEP;

/// A store that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Its layout.
    pub layout: Layout,
    /// Where it starts in the image, in bytes.
    pub base: u64,
    /// Its size in bytes; in a layout that does not record it, how much of it is known to be in use.
    pub size: u64,
    /// Whether the layout records the size.
    pub size_recorded: bool,
    /// Its UUID, in a layout that has one.
    pub uuid: Option<Uuid>,
    /// Its label, up to the first NUL; empty in a layout that has none.
    pub label: Vec<u8>,
    /// How certain it is.
    pub confidence: Confidence,
    /// How it was found, in the layout whose metadata is elsewhere in the memory.
    pub guestmemfs: Option<Box<guestmemfs::Found>>,
    /// What else is known about it, in words. For a hand-over: which moment it shows, and what is in it.
    pub detail: Option<String>,
}

impl fmt::Display for Candidate {
    /// Where it is, what it is called, and how certain it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layout {
            Layout::Luo => write!(f, "{:#x} (", self.base)?,
            Layout::Native | Layout::Pkernfs | Layout::Guestmemfs => write!(f, "{} (", spelled(self.base, self.size))?,
        }
        match self.uuid {
            Some(uuid) => write!(f, "{uuid}")?,
            None => f.write_str(self.layout.name())?,
        }
        if let Some(found) = self.guestmemfs.as_deref() {
            write!(f, ", inodes at {:#x}", found.parts.inodes)?;
        }
        if !self.label.is_empty() {
            write!(f, " '{}'", name::escape(&self.label))?;
        }
        write!(f, ", {}", self.confidence.name())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        f.write_str(")")
    }
}

impl From<locate::Candidate> for Candidate {
    fn from(found: locate::Candidate) -> Self {
        let locate::Candidate { layout, base, size, uuid, label, confidence } = found;
        let uuid = Some(uuid);
        Self { layout, base, size, size_recorded: true, uuid, label, confidence, guestmemfs: None, detail: None }
    }
}

/// The regions that the kernel's command line names with their bases.
#[must_use]
pub fn kernel_parameters() -> Vec<Span> {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let named = spec::from_command_line(&line);
    named.into_iter().filter_map(|spec| Some(Span::new(spec.base?, spec.size))).collect()
}

/// The region in `/dev/mem` at `path`: what the kernel's parameters say, or what a search finds.
///
/// # Errors
/// Memory cannot be read, or it is not clear which region is meant.
pub fn in_memory(path: &Path, size: Option<u64>, observer: &dyn Observer) -> Result<Span, Error> {
    let fits = |span: &Span| size.is_none_or(|size| size == span.len);
    let named: Vec<Span> = kernel_parameters().into_iter().filter(fits).collect();
    match named.as_slice() {
        [only] => return Ok(*only),
        [] => {}
        _ => return Err(Error::Parameters(named)),
    }
    let mut found = Vec::new();
    for span in memory_ranges()? {
        let image = probe::open(path, Some(span))?;
        found.extend(search(&image, span.offset..span.end(), DEFAULT_STEP, Depth::Needed, observer)?);
    }
    let candidate = choose(found, size)?;
    Ok(Span::new(candidate.base, candidate.size))
}

/// The store in a dump.
///
/// # Errors
/// The dump cannot be read, or it is not clear which store is meant.
pub(crate) fn in_dump(image: &Image, size: Option<u64>, observer: &dyn Observer) -> Result<At, Error> {
    let end = image.source.end().unwrap_or(u64::MAX);
    let mut found = search(image, 0..end, DEFAULT_STEP, Depth::Needed, observer)?;
    // To find hand-overs, all of memory has to be read. That is done only if no region was found; finding regions takes
    // a read of only one page in 512.
    if size.is_none() && !found.iter().any(|candidate| candidate.confidence > Confidence::Possible) {
        let mut stores = handovers(image, observer)?;
        found.extend(stores.iter().map(|(candidate, _)| candidate.clone()));
        if !stores.is_empty() {
            let candidate = choose(found, None)?;
            let at = stores.iter().position(|(_, store)| store.tree.at == candidate.base);
            if let Some(at) = at.filter(|_| candidate.layout == Layout::Luo) {
                return Ok(whole(image, Box::new(stores.swap_remove(at).1)));
            }
            return Ok(candidate.into());
        }
    }
    let fits = |candidate: &Candidate| size.is_none_or(|size| size == candidate.size);
    if let Some(dump) = image.description().filter(|_| !found.iter().any(fits)) {
        return Err(lacking::nowhere(image.kind, &dump, size).into());
    }
    Ok(choose(found, size)?.into())
}

/// A hand-over with all of the memory that it is in.
fn whole(image: &Image, store: Box<luo::Store>) -> At {
    let span = Span::new(0, image.source.end().unwrap_or(u64::MAX));
    At { handover: Some(store), ..span.into() }
}

/// Every store in an image: regions by rising base, then hand-overs. Reads all of the image if its offsets are physical
/// addresses.
///
/// # Errors
/// The image cannot be read.
pub fn stores(image: &Image, observer: &dyn Observer) -> Result<(Vec<Candidate>, Vec<luo::Store>), Error> {
    let end = image.source.end().unwrap_or(u64::MAX);
    let mut found = search(image, 0..end, DEFAULT_STEP, Depth::Full, observer)?;
    let mut stores = Vec::new();
    if must_search(image.kind) {
        for (candidate, store) in handovers(image, observer)? {
            found.push(candidate);
            stores.push(store);
        }
    }
    Ok((found, stores))
}

/// The store that the user means.
pub(crate) fn which(image: &Image, which: Option<Which>, observer: &dyn Observer) -> Result<At, Error> {
    let source: &dyn ReadAt = &image.source;
    if let Some(Which::At(at)) = which {
        if let Ok(mut store) = luo::Store::read(source, at) {
            tell_release(image, &mut store);
            if store.is_complete() {
                return Ok(whole(image, Box::new(store)));
            }
            let all = handovers(image, observer)?;
            let found = all.into_iter().map(|(_, found)| found).find(|found| found.tree.at == at);
            return Ok(whole(image, Box::new(found.unwrap_or(store))));
        }
        let found = scan(source, at..at.saturating_add(1), DEFAULT_STEP, |_| {});
        let found = found.ok().into_iter().flatten().find(|candidate| candidate.base == at);
        if let Some(region) = found {
            return Ok(region.into());
        }
        let span = Span::new(at, u64::MAX.saturating_sub(at));
        let guestmemfs = guestmemfs_at(image, span, observer)?.ok_or(Error::NotAt(at))?;
        return Ok(guestmemfs.candidate(&image.source).into());
    }
    let (candidates, mut stores) = stores(image, observer)?;
    let found = candidates.len();
    let asked = match which {
        Some(Which::Number(number)) => number,
        _ => 0,
    };
    let candidate = asked.checked_sub(1).and_then(|at| candidates.get(at));
    let candidate = candidate.ok_or(Error::NotNumbered { asked, found })?;
    match stores.iter().position(|store| candidate.layout == Layout::Luo && store.tree.at == candidate.base) {
        Some(at) => Ok(whole(image, Box::new(stores.swap_remove(at)))),
        None => Ok(candidate.clone().into()),
    }
}

/// Every hand-over in an image whose offsets are physical addresses, by rising address of its root.
///
/// # Errors
/// The image cannot be read.
pub fn handovers(image: &Image, observer: &dyn Observer) -> Result<Vec<(Candidate, luo::Store)>, Error> {
    let end = image.source.end().unwrap_or(u64::MAX);
    let finds = luo::scan(image.source.as_ref(), 0..end, &mut |at| observer.searching(at, end));
    observer.searched();
    let finds = finds.map_err(|source| Error::Search { path: image.path.clone(), source })?;
    let mut stores = luo::Store::read_all(image.source.as_ref(), &finds);
    stores.iter_mut().for_each(|store| tell_release(image, store));
    let full = stores.iter().any(|store| !store.sessions.is_empty());
    let counts: Vec<u64> = stores.iter().filter(|store| !store.sessions.is_empty()).map(luo::Store::count).collect();
    // A kernel that has taken a hand-over counts its own one further. What counts otherwise may be that of a guest, whose
    // memory is in the image too.
    let taken =
        |store: &luo::Store| counts.iter().any(|count| *count > 0 && count.checked_add(1) == Some(store.count()));
    let confidence = |store: &luo::Store| confidence(store, full, taken(store));
    Ok(stores.into_iter().map(|store| (handover(&store, confidence(&store)), store)).collect())
}

/// Whether the image lacks a part of the lists of sessions and files.
fn lacks_lists(store: &luo::Store) -> bool {
    let faults = store.faults.iter().chain(store.sessions.iter().flat_map(|session| &session.faults));
    faults.into_iter().any(|fault| matches!(fault, luo::Fault::Unreadable { .. }))
}

/// Tells a hand-over which kernel runs in the image, if the image says so.
fn tell_release(image: &Image, store: &mut luo::Store) {
    if let Some(release) = image.description().and_then(|dump| dump.facts.release.clone()) {
        store.written_by(&release);
    }
}

/// How certain it is that a hand-over is the one that is meant. `full`: a hand-over in the image has sessions; `taken`: such a
/// one is what the kernel that wrote this one was started with, so that one without sessions is not meant.
fn confidence(store: &luo::Store, full: bool, taken: bool) -> Confidence {
    match (store.confidence, store.sessions.is_empty()) {
        (luo::Confidence::Stale, _) | (luo::Confidence::Scan, true) => Confidence::Possible,
        (luo::Confidence::Scan, false) => Confidence::Likely,
        // Which sessions and files there are is not known.
        (luo::Confidence::Complete, _) if lacks_lists(store) => Confidence::Likely,
        (luo::Confidence::Complete, true) if taken => Confidence::Possible,
        (luo::Confidence::Complete, true) if full => Confidence::Likely,
        // The root is one, and what it led to is lost.
        (luo::Confidence::Complete, true) if matches!(store.luo, Some(Err(_))) => Confidence::Likely,
        (luo::Confidence::Complete, _) => Confidence::Certain,
    }
}

/// The candidate for a hand-over.
fn handover(store: &luo::Store, confidence: Confidence) -> Candidate {
    let sizes = store.files().filter_map(|(_, file)| file.memfd.as_ref()?.as_ref().ok()).map(|memfd| memfd.size);
    let moment = match store.moment {
        _ if !store.knows_moment() => "at a moment that is not known",
        Moment::Running => "before the reboot",
        Moment::Frozen if lacks_lists(store) => "not all of it in the image",
        Moment::Frozen => "complete",
        Moment::Later => "in a later kernel",
    };
    let release = store.metadata.as_ref().map(|metadata| format!("Linux {}, ", name::escape(&metadata.release)));
    let (sessions, files) = (store.sessions.len(), store.files().count());
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let detail = format!(
        "{moment}; {}{}, {}, {}",
        release.unwrap_or_default(),
        store.tree.version,
        counted(sessions, "session"),
        counted(files, "file")
    );
    Candidate {
        layout: Layout::Luo,
        base: store.tree.at,
        size: sizes.fold(0, u64::saturating_add),
        size_recorded: true,
        uuid: None,
        label: Vec::new(),
        confidence,
        guestmemfs: None,
        detail: Some(detail),
    }
}

/// The region in a dump, if there is one, and it is clear which.
///
/// # Errors
/// The dump cannot be read.
pub fn only(image: &Image, size: Option<u64>, observer: &dyn Observer) -> Result<Option<Span>, Error> {
    let end = image.source.end().unwrap_or(u64::MAX);
    let found = search(image, 0..end, DEFAULT_STEP, Depth::Needed, observer)?;
    Ok(choose(found, size).ok().map(|candidate| Span::new(candidate.base, candidate.size)))
}

/// The file system of guestmemfs that an address names (see [`guestmemfs::Found::is_at`]), of an image with physical
/// addresses in which no other store starts there.
///
/// # Errors
/// The dump cannot be read.
pub fn guestmemfs_at(
    image: &Image,
    at: Span,
    observer: &dyn Observer,
) -> Result<Option<Box<guestmemfs::Found>>, Error> {
    if !must_search(image.kind) || pkernfs_at(&image.source, at.offset).is_some() {
        return Ok(None);
    }
    let native = Superblocks::load(&Window::new(&image.source, at.offset, at.len));
    if !matches!(native, Err(gmfs_volume::OpenError::NoRegion { .. })) {
        return Ok(None);
    }
    let end = image.source.end().unwrap_or(u64::MAX);
    let found = search(image, 0..end, DEFAULT_STEP, Depth::Full, observer)?;
    let named = found.into_iter().filter(|candidate| candidate.guestmemfs.as_ref().is_some_and(|f| f.is_at(at.offset)));
    // The most certain one, if an address names several generations of one region.
    Ok(named.max_by_key(|candidate| candidate.confidence).and_then(|candidate| candidate.guestmemfs))
}

/// The parts of physical memory in which a region can be.
///
/// # Errors
/// The kernel's map of memory cannot be read.
pub fn memory_ranges() -> Result<Vec<Span>, Error> {
    let map = probe::memory_map(Path::new("/proc/iomem"))?;
    Ok(map.writable_ranges().into_iter().filter(|span| span.len >= SMALLEST).collect())
}

/// Every store in a part of an image, of every layout, by rising base.
///
/// # Errors
/// The image cannot tell where its holes are.
pub fn search(
    image: &Image,
    range: Range<u64>,
    step: u64,
    depth: Depth,
    observer: &dyn Observer,
) -> Result<Vec<Candidate>, Error> {
    let len = range.end.saturating_sub(range.start);
    let start = range.start;
    let seen = |at: u64| observer.searching(at.saturating_sub(start), len);
    let (source, physical) = (image.source.as_ref(), must_search(image.kind));
    let found = gather(source, range, step, physical.then_some(depth), seen);
    observer.searched();
    found.map_err(|source| Error::Search { path: image.path.clone(), source })
}

/// Every store in a part of a source, of every layout that is in one piece, at multiples of `step`, by rising base.
/// `seen` is called with the offset that the search has reached, in bytes of the source.
///
/// # Errors
/// The source cannot tell where its holes are.
pub fn scan<S: ReadAt + ?Sized>(
    source: &S,
    range: Range<u64>,
    step: u64,
    seen: impl FnMut(u64),
) -> Result<Vec<Candidate>, ReadError> {
    gather(&source, range, step, None, seen)
}

/// Every store in a part of a source. Stores whose parts are found by their physical addresses are included only if
/// `physical` says how far to look for them.
fn gather(
    source: &dyn ReadAt,
    range: Range<u64>,
    step: u64,
    physical: Option<Depth>,
    mut progress: impl FnMut(u64),
) -> Result<Vec<Candidate>, ReadError> {
    let (mut other, mut seen) = (Vec::new(), guestmemfs::Seen::default());
    let native = locate::scan_with(source, range.clone(), step, &mut progress, |at, first| {
        if first == pkernfs::MAGIC {
            other.extend(pkernfs_at(source, at));
        } else if physical.is_some() {
            seen.look(source, at, first);
        }
    })?;
    let mut found: Vec<Candidate> = native.into_iter().map(Candidate::from).chain(other).collect();
    if let Some(depth) = physical.filter(|depth| guestmemfs::is_wanted(&found, &seen, *depth)) {
        let in_memory = guestmemfs::search(source, &range, step, &seen, depth, progress)?;
        found.extend(in_memory.into_iter().map(|found| found.candidate(source)));
    }
    found.sort_by_key(|candidate| candidate.base);
    Ok(found)
}

/// The pkernfs store that starts at `base`.
fn pkernfs_at<S: ReadAt + ?Sized>(source: &S, base: u64) -> Option<Candidate> {
    let source: &dyn ReadAt = &source;
    let found = pkernfs::probe(source, base)?;
    let size = pkernfs::estimate_size(source, base)?.at_least;
    let confidence = match found.confidence {
        pkernfs::Confidence::RootAgrees => Confidence::Certain,
        pkernfs::Confidence::RootUnknown => Confidence::Likely,
        pkernfs::Confidence::RootDiffers if pkernfs::probe_after_root(source, base) => Confidence::Likely,
        pkernfs::Confidence::RootDiffers => Confidence::Possible,
    };
    let (layout, label) = (Layout::Pkernfs, Vec::new());
    Some(Candidate {
        layout,
        base,
        size,
        size_recorded: false,
        uuid: None,
        label,
        confidence,
        guestmemfs: None,
        detail: None,
    })
}

/// The one store among those found: the only one that is certain, or, if none is, the only likely one.
///
/// # Errors
/// There is none, or more than one.
pub fn choose(found: Vec<Candidate>, size: Option<u64>) -> Result<Candidate, Error> {
    let fitting: Vec<Candidate> =
        found.into_iter().filter(|candidate| size.is_none_or(|size| size == candidate.size)).collect();
    for confidence in [Confidence::Certain, Confidence::Likely] {
        let mut of_it = fitting.iter().filter(|candidate| candidate.confidence == confidence);
        match (of_it.next(), of_it.next()) {
            (Some(only), None) => return Ok(only.clone()),
            (Some(_), Some(_)) => break,
            (None, _) => {}
        }
    }
    Err(if fitting.is_empty() { Error::NotFound { size } } else { Error::Several(fitting) })
}

/// Whether the image's offsets are physical addresses that have to be searched when nobody says where the region is.
#[must_use]
pub const fn must_search(kind: Kind) -> bool {
    kind.is_physical()
}

/// Whether a regular file begins like a superblock of a native region. Reads four bytes: the superblock may be damaged.
#[must_use]
pub fn begins_with_superblock(path: &Path) -> bool {
    let mut start = [0; 4];
    let is_file = path.metadata().is_ok_and(|meta| meta.is_file());
    is_file
        && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == PageKind::Superblock.magic()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(base: u64, size: u64, confidence: Confidence) -> Candidate {
        let uuid = Some(Uuid::from_u128(base.into()));
        let label = b"x\x1b".to_vec();
        let (guestmemfs, detail) = (None, None);
        Candidate {
            layout: Layout::Native,
            base,
            size,
            size_recorded: true,
            uuid,
            label,
            confidence,
            guestmemfs,
            detail,
        }
    }

    #[test]
    fn one_certain_region_is_chosen_and_two_are_not() {
        let sure = candidate(1 << 30, 64 << 20, Confidence::Certain);
        let leftover = candidate(2 << 30, 64 << 20, Confidence::Possible);
        let likely = candidate(3 << 30, 32 << 20, Confidence::Likely);
        let all = vec![sure.clone(), leftover.clone(), likely.clone()];
        assert_eq!(choose(all.clone(), None).unwrap(), sure);
        assert_eq!(choose(all, Some(32 << 20)).unwrap(), likely);
        assert!(choose(vec![leftover.clone()], None).is_err());
        let two = choose(vec![sure.clone(), candidate(4 << 30, 8 << 20, Confidence::Certain)], None);
        let message = two.unwrap_err().to_string();
        assert!(message.contains("64M:0x40000000") && message.contains("8M:0x100000000"), "{message}");
        assert!(message.contains("'x\\x1b'"), "{message}");
        assert!(choose(Vec::new(), None).unwrap_err().to_string().contains("no region"));
    }
}
