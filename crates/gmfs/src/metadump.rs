//! Metadata dumps: all metadata of a region that is in use in one small file, or as text. Every reader takes the file
//! as an image of its own.

mod obfuscate;
mod text;

use std::io::{self, Write};
use std::sync::Mutex;

use gmfs_format::native::units::{CopyId, PAGE_SIZE, PageBytes, PageNo, to_usize};
use gmfs_image::metadump::{MetaDump, MetaDumpError, MetaDumpWriter, MetaFacts};
use gmfs_image::{FileError, Kind, RegionFile};
use gmfs_io::ReadAt;
use gmfs_volume::superblocks::used_ranges;
use gmfs_volume::{OpenError, Superblocks, rebuild};

use crate::open::Located;
use obfuscate::{Names, Obfuscated};

/// How many pages are read at once.
const BATCH: u32 = 64;

/// Why a metadata dump was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadumpError {
    /// The output could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// It was to be made from a metadata dump, which could not be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// It was to be made from a metadata dump, which could not be read.
    #[error(transparent)]
    Image(#[from] MetaDumpError),
    /// With its names obfuscated, the region cannot be opened.
    #[error(transparent)]
    Region(#[from] OpenError),
    /// `go_on` returned false.
    #[error("stopped before all metadata was read")]
    Stopped,
}

/// How much metadata there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Pages in use that are there.
    pub there: u64,
    /// Pages in use that the image does not hold, or that cannot be read.
    pub absent: u64,
}

/// What a metadata dump says of the region that it is made from.
///
/// # Errors
/// The region is in a metadata dump itself, and that cannot be read.
pub fn facts(located: &Located, superblocks: &Superblocks, obfuscated: bool) -> Result<MetaFacts, MetadumpError> {
    let (geometry, current) = (superblocks.geometry(), superblocks.current());
    let mut facts = MetaFacts {
        obfuscated,
        end: located.source.end().unwrap_or(geometry.size()),
        size: geometry.size(),
        base: located.place.address().unwrap_or_else(|| current.raw.base.get()),
        uuid: current.uuid.into_bytes(),
    };
    if located.place.kind == Kind::MetaDump {
        // A dump that is made from another one says what the other one says.
        let first = *MetaDump::parse(RegionFile::open(&located.place.path)?)?.facts();
        facts.obfuscated |= first.obfuscated;
        facts.base = first.base;
    }
    Ok(facts)
}

/// Counts the pages of metadata. `go_on` is asked now and then whether to go on.
///
/// # Errors
/// [`MetadumpError::Stopped`].
pub fn count<S: ReadAt>(
    source: &S,
    superblocks: &Superblocks,
    go_on: &dyn Fn() -> bool,
) -> Result<Pages, MetadumpError> {
    walk(source, superblocks, None, go_on, |_, _| Ok(()))
}

/// Writes a metadata dump. If `obfuscated`, names and label are replaced, while pages stay exactly as damaged as they
/// are. `go_on` is asked now and then whether to go on.
///
/// # Errors
/// [`MetadumpError::Write`] or [`MetadumpError::Stopped`]: what was written is no image, because it has no end.
pub fn write<S: ReadAt>(
    source: &S,
    superblocks: &Superblocks,
    facts: &MetaFacts,
    obfuscated: bool,
    out: &mut dyn Write,
    go_on: &dyn Fn() -> bool,
) -> Result<Pages, MetadumpError> {
    let mut names = obfuscated.then(Names::default);
    let mut writer = MetaDumpWriter::new(out, facts)?;
    let pages = walk(source, superblocks, names.as_mut(), go_on, |offset, page| writer.page(offset, page))?;
    let there = writer.pages();
    writer.finish()?;
    Ok(Pages { there, ..pages })
}

/// Writes the metadata as text: one fact a line, in an order that is always the same. If `obfuscated`, names and label
/// are those of the metadata dump. `go_on` is asked now and then whether to go on.
///
/// # Errors
/// [`MetadumpError::Write`], [`MetadumpError::Stopped`] or [`MetadumpError::Region`].
pub fn write_text<S: ReadAt>(
    source: &S,
    superblocks: &Superblocks,
    obfuscated: bool,
    out: &mut (dyn Write + Send),
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Pages, MetadumpError> {
    let mut names = obfuscated.then(Names::default);
    // Names are numbered in the order of this pass, as in the metadata dump.
    let pages = walk(source, superblocks, names.as_mut(), go_on, |_, _| Ok(()))?;
    let mut lines = io::BufWriter::with_capacity(1 << 16, out);
    match names {
        None => text::write(source, superblocks, &mut lines, go_on)?,
        Some(names) => {
            let shown = Obfuscated { source, superblocks, names: Mutex::new(names) };
            text::write(&shown, &rebuild::load_or_rebuild(&shown)?, &mut lines, go_on)?;
        }
    }
    lines.flush()?;
    if go_on() { Ok(pages) } else { Err(MetadumpError::Stopped) }
}

/// Passes each page of metadata in use that is there to `each`, those of copy A first.
fn walk<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    mut names: Option<&mut Names>,
    go_on: &dyn Fn() -> bool,
    mut each: impl FnMut(u64, &PageBytes) -> io::Result<()>,
) -> Result<Pages, MetadumpError> {
    let geometry = superblocks.geometry();
    let mut buffer = vec![[0; PAGE_SIZE]; to_usize(BATCH)];
    let mut found = Pages::default();
    let ranges = || used_ranges(superblocks).into_iter();
    for (copy, range) in CopyId::BOTH.into_iter().flat_map(|copy| ranges().map(move |range| (copy, range))) {
        for first in range.clone().step_by(to_usize(BATCH)) {
            if !go_on() {
                return Err(MetadumpError::Stopped);
            }
            let pages = first..range.end.min(first.saturating_add(BATCH));
            let batch = buffer.get_mut(..pages.len()).unwrap_or_default().as_flattened_mut();
            let whole = source.read_at(geometry.page_offset(copy, PageNo(first)), batch).is_ok();
            for (page, bytes) in pages.map(PageNo).zip(&mut buffer) {
                let offset = geometry.page_offset(copy, page);
                let there = whole || source.read_at(offset, bytes).is_ok();
                let Some(place) = superblocks.place(copy, page).filter(|_| there) else {
                    found.absent = found.absent.saturating_add(1);
                    continue;
                };
                if let Some(names) = &mut names {
                    obfuscate::page(bytes, &place, names);
                }
                each(offset, bytes)?;
                found.there = found.there.saturating_add(1);
            }
        }
    }
    Ok(found)
}
