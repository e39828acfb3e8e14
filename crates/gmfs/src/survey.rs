//! What an image is, whether or not there is a store in it: a dump with its facts and its memory, a file or a device; which stores
//! are in it, and how much of a region it holds.
//!
//! ```
//! # fn example(path: &std::path::Path) -> Result<(), gmfs::Error> {
//! use gmfs::{ImageSpec, survey};
//! let (about, region) = survey::region(&ImageSpec::from(path), None, &())?;
//! println!("{}: {} bytes of memory", about.kind.name(), about.memory.whole.present);
//! if let Some(region) = region {
//!     println!("{} of {} bytes of the region are there", region.range.present, region.range.total());
//! }
//! # Ok(())
//! # }
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};

use gmfs_format::native::superblock::Superblock;
use gmfs_image::foreign::{self, Foreign};
use gmfs_image::{Description, DumpFacts, Image, Kind, Locking, OpenError};
use gmfs_io::num::len64;
use gmfs_io::{Absence, ReadAt as _, Span};
use gmfs_volume::{Region, Superblocks};

use crate::error::Error;
use crate::find::{self, Candidate, Depth};
use crate::open::{ImageSpec, Located, Observer};
use crate::presence::{self, Index, Presence, Tally};

/// So many ranges of a dump's memory are kept.
const LISTED: usize = 64;

/// What an image is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct About {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes; of a dump, the address past its last byte.
    pub end: Option<u64>,
    /// What it says of itself, if it is a dump.
    pub dump: Option<DumpFacts>,
    /// The memory that it describes, if it is a dump.
    pub memory: Memory,
    /// What else it holds, if it is no dump.
    pub other: Option<Foreign>,
}

/// The memory that a dump describes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Memory {
    /// The first ranges, each with why it is absent if it is.
    pub ranges: Vec<(Span, Option<Absence>)>,
    /// How many ranges there are.
    pub count: u64,
    /// Bytes of all of them.
    pub whole: Tally,
}

impl Memory {
    fn of(dump: &Description) -> Self {
        let totals = dump.totals(0..u64::MAX);
        let whole = Tally { present: totals.held, absent: totals.absent };
        Self { ranges: dump.memory(LISTED), count: totals.ranges, whole }
    }

    /// How many ranges are not listed.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.count.saturating_sub(len64(self.ranges.len()))
    }
}

impl About {
    /// What an open image is.
    #[must_use]
    pub fn image(image: &Image) -> Self {
        // What is not looked at without its size being known is memory.
        let is_looked_at = !image.kind.is_dump() && image.kind != Kind::DevMem;
        Self {
            kind: image.kind,
            path: image.path.clone(),
            end: image.source.end(),
            dump: image.dump.clone(),
            memory: image.description().map(|dump| Memory::of(&dump)).unwrap_or_default(),
            other: is_looked_at.then(|| foreign::identify(&*image.source)).flatten(),
        }
    }

    /// All of a running machine's memory, which is not opened as a whole.
    fn memory(path: &Path) -> Self {
        let (kind, path) = (Kind::DevMem, path.to_owned());
        Self { kind, path, end: None, dump: None, memory: Memory::default(), other: None }
    }
}

/// A region, and how much of it an image holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct There {
    /// Where it is in the image.
    pub span: Span,
    /// Its superblock, if one can be read.
    pub superblock: Option<Superblock>,
    /// How much of its range is there, used or not.
    pub range: Tally,
    /// How much of what is used in it is there, if its superblock can be read.
    pub presence: Option<Presence>,
    /// Bytes of it that are holes in a file of raw memory.
    pub holes: Option<u64>,
}

/// What an image is, and its region, if there is one. `locking` as for [`ImageSpec::locate`].
///
/// # Errors
/// The image cannot be opened, searched or locked.
pub fn region(
    spec: &ImageSpec,
    locking: Option<&Locking<'_>>,
    observer: &dyn Observer,
) -> Result<(About, Option<There>), Error> {
    let asked = spec.region;
    let exact = asked.and_then(|spec| Some(Span::new(spec.base?, spec.size)));
    let image = match spec.open(exact) {
        Err(OpenError::WindowNeeded { .. }) => return Ok((About::memory(&spec.path), None)),
        other => other?,
    };
    let about = About::image(&image);
    let span = match exact {
        Some(span) => Some(span),
        None if find::must_search(image.kind) => find::only(&image, asked.map(|spec| spec.size), observer)?,
        None => asked.map(|spec| Span::new(0, spec.size)).or(image.source.end().map(|end| Span::new(0, end))),
    };
    let Some(span) = span else { return Ok((about, None)) };
    let lock = spec.lock_range(&image, span, asked.is_some(), locking, observer)?;
    Ok((about, there(&Located::new(image, span, lock), span, exact.is_some())))
}

/// How much of a region is there. An image without a region has none, unless the user has said where it is.
fn there(located: &Located, mut span: Span, is_named: bool) -> Option<There> {
    let Located { place, source, dump, .. } = located;
    let superblocks = Superblocks::load(source).ok().filter(|found| found.require_readable().is_ok());
    match &superblocks {
        Some(found) if !is_named => span.len = found.geometry().size(),
        None if !is_named => return None,
        _ => {}
    }
    let index = Index::new(place, source, dump.as_ref());
    let range = presence::of_range(&index, 0..span.len);
    let superblock = superblocks.as_ref().map(|found| found.current().clone());
    let presence = superblocks.map(|found| presence::of_region(&index, &Region::with(source, found)));
    let holes = dump.as_ref().and_then(|dump| dump.holes(span.offset..span.end()));
    Some(There { span, superblock, range, presence, holes })
}

/// All stores in an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stores {
    /// What the image is.
    pub about: About,
    /// Regions by rising base, then hand-overs. [`Which::Number`](crate::open::Which::Number) counts them from 1.
    pub found: Vec<Candidate>,
    /// What a file or device without a store holds instead.
    pub other: Option<Foreign>,
}

/// Every store in an image, at multiples of `step` bytes: in the range that the region names, or in all of it; in a running machine's
/// memory, in all parts that can hold a region. `locking` as for [`ImageSpec::locate`].
///
/// # Errors
/// The image cannot be opened, searched or locked.
pub fn stores(
    spec: &ImageSpec,
    step: u64,
    locking: Option<&Locking<'_>>,
    observer: &dyn Observer,
) -> Result<Stores, Error> {
    let range = spec.region.map(|spec| {
        let base = spec.base.unwrap_or(0);
        base..base.saturating_add(spec.size)
    });
    let window = range.as_ref().map(span_of);
    let search = |image: &Image, range| find::search(image, range, step, Depth::Full, observer);
    let image = match spec.open(window) {
        Err(OpenError::WindowNeeded { .. }) => {
            let mut found = Vec::new();
            for span in find::memory_ranges()? {
                let image = spec.open(Some(span))?;
                let _lock = spec.lock_range(&image, span, true, locking, observer)?;
                found.extend(search(&image, span.offset..span.end())?);
            }
            return Ok(Stores { about: About::memory(&spec.path), found, other: None });
        }
        image => image?,
    };
    let end = image.source.end();
    let range = range.or(end.map(|end| 0..end)).unwrap_or(0..u64::MAX);
    let _lock = spec.lock_range(&image, span_of(&range), window.is_some(), locking, observer)?;
    let range = range.start..range.end.min(end.unwrap_or(u64::MAX));
    let mut found = search(&image, range.clone())?;
    if find::must_search(image.kind) {
        let handovers = find::handovers(&image, observer)?.into_iter();
        found.extend(handovers.map(|(candidate, _)| candidate).filter(|found| range.contains(&found.base)));
    }
    let other = foreign::identify(&*image.source).filter(|_| found.is_empty() && !image.kind.is_dump());
    Ok(Stores { about: About::image(&image), found, other })
}

fn span_of(range: &Range<u64>) -> Span {
    Span::new(range.start, range.end.saturating_sub(range.start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use gmfs_format::spec::RegionSpec;

    #[test]
    fn a_region_file_is_surveyed_with_and_without_a_region() {
        let dir = tempfile::tempdir().unwrap();
        let spec = ImageSpec::from(testing::region(dir.path()).as_path());
        let (about, there) = region(&spec, None, &()).unwrap();
        assert_eq!((about.kind, about.end, about.memory.more()), (Kind::File, Some(32 << 20), 0));
        let there = there.unwrap();
        assert_eq!((there.span, there.range.present), (Span::new(0, 32 << 20), 32 << 20));
        assert!(there.presence.unwrap().data.absent.is_empty() && there.superblock.is_some());
        let all = stores(&spec, find::DEFAULT_STEP, None, &()).unwrap();
        assert_eq!((all.found.len(), all.found[0].base), (1, 0));
        // A part of it without a superblock is shown if it is named.
        let named = |base| ImageSpec { region: Some(RegionSpec { size: 4 << 20, base }), ..spec.clone() };
        let there = region(&named(Some(8 << 20)), None, &()).unwrap().1.unwrap();
        assert_eq!((there.span, there.presence.is_some()), (Span::new(8 << 20, 4 << 20), false));
        assert!(stores(&named(Some(8 << 20)), find::DEFAULT_STEP, None, &()).unwrap().found.is_empty());
    }
}
