//! Finds regions in an image: a file, a device, memory, or a dump.

use gmfs_format::Layout;
use gmfs_format::native::seal::{PageKind, claim};
use gmfs_format::native::superblock::{MAGIC, Superblock};
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PmdShift};
use gmfs_io::{Absence, ReadAt, ReadError, Span, Window};
use std::ops::Range;
use uuid::Uuid;

/// How certain it is that a region is where one was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// One superblock is good, and there is nothing at the location of the other one: it may be a leftover.
    Possible,
    /// One superblock is good, and the other one is absent or damaged.
    Likely,
    /// Both superblocks are good and agree.
    Certain,
}

impl Confidence {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// A region that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its layout.
    pub layout: Layout,
    /// The offset in the image where it starts.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its label, up to the first NUL.
    pub label: Vec<u8>,
    /// How certain it is.
    pub confidence: Confidence,
}

/// The default distance of offsets at which regions are searched for. Regions start at blocks.
pub const DEFAULT_STEP: u64 = PmdShift::M2.block_bytes();

/// Searches every multiple of `step` bytes in `range` for superblocks. Holes and absent ranges are skipped. Returns
/// what was found by ascending base. A region is returned once, whichever of its superblocks was found.
///
/// At each offset a few bytes are read, up to those where a superblock has its magic. Only if the magic is zero or the
/// bytes are absent, the source is asked for the end of the hole, because a dump has to read its descriptors to answer,
/// which costs more than reading the bytes at one offset.
///
/// `seen` is called with the offset in the image that the search has reached.
///
/// # Errors
/// [`ReadError::Io`] if the source cannot report its holes.
pub fn scan<S: ReadAt + ?Sized>(
    source: &S,
    range: Range<u64>,
    step: u64,
    seen: impl FnMut(u64),
) -> Result<Vec<Candidate>, ReadError> {
    scan_with(source, range, step, seen, |_, _| {})
}

/// Like [`scan`]. `other` is called with each offset that was read and its first eight bytes, little-endian: other
/// layouts have their magic there.
///
/// # Errors
/// Those of [`scan`].
pub fn scan_with<S: ReadAt + ?Sized>(
    source: &S,
    range: Range<u64>,
    step: u64,
    mut seen: impl FnMut(u64),
    mut other: impl FnMut(u64, u64),
) -> Result<Vec<Candidate>, ReadError> {
    let step = step.max(PAGE_BYTES);
    let behind = |at: u64| at.checked_next_multiple_of(step).unwrap_or(u64::MAX);
    let mut found: Vec<Candidate> = Vec::new();
    let mut at = behind(range.start);
    while at < range.end {
        let mut next = at.saturating_add(step);
        let head = head(source, at);
        if let Ok((first, _)) = head {
            other(at, u64::from_le_bytes(first));
        }
        match head.map(|(_, magic)| magic) {
            Ok(MAGIC) => {
                if let Some(candidate) = candidate_at(source, at) {
                    add(&mut found, candidate);
                }
            }
            Ok(magic) if magic == [0; 8] => match source.next_data(at..range.end)? {
                None => break,
                Some(data) => next = next.max(behind(data.start)),
            },
            Err(ReadError::Absent { .. }) => {
                if let Some((absent, _)) = source.next_absent(at..range.end)
                    && absent.offset <= at
                {
                    next = next.max(behind(absent.end()));
                }
            }
            Ok(_) | Err(ReadError::Io { .. }) => {}
        }
        seen(at);
        at = next;
    }
    found.sort_by_key(|candidate| candidate.base);
    Ok(found)
}

/// The first eight bytes at `offset`, and the eight bytes where a superblock has its magic.
fn head<S: ReadAt + ?Sized>(source: &S, offset: u64) -> Result<([u8; 8], [u8; 8]), ReadError> {
    let mut head = [[0; 8]; 9];
    let beyond = || ReadError::Absent { span: Span::new(offset, 72), why: Absence::BeyondEnd };
    offset.checked_add(72).ok_or_else(beyond)?;
    source.read_at(offset, head.as_flattened_mut())?;
    let [first, .., magic] = head;
    Ok((first, magic))
}

/// Adds a find. Of two finds of the same region, only the more certain one is kept.
fn add(found: &mut Vec<Candidate>, candidate: Candidate) {
    let twin = found.iter_mut().find(|other| other.base == candidate.base && other.uuid == candidate.uuid);
    match twin {
        Some(twin) if twin.confidence < candidate.confidence => *twin = candidate,
        Some(_) => {}
        None => found.push(candidate),
    }
}

/// The region that a superblock at `offset` belongs to.
#[must_use]
pub fn candidate_at<S: ReadAt + ?Sized>(source: &S, offset: u64) -> Option<Candidate> {
    if head(source, offset).ok()?.1 != MAGIC {
        return None;
    }
    let mut page = [0; PAGE_SIZE];
    source.read_at(offset, &mut page).ok()?;
    let (place, _) = claim(&page).filter(|(place, _)| place.kind == PageKind::Superblock)?;
    let superblock = Superblock::read(&page, place.copy).ok()?;
    let geometry = superblock.geometry();
    let base = offset.checked_sub(geometry.copy_offset(place.copy))?;
    let other = Window::new(source, base, geometry.size());
    let confidence = confidence(&other, &superblock, place.copy.other());
    Some(Candidate {
        layout: Layout::Native,
        base,
        size: geometry.size(),
        uuid: superblock.uuid,
        label: superblock.label().to_vec(),
        confidence,
    })
}

/// How certain a find is, by what is at the location of its other superblock.
fn confidence<S: ReadAt>(region: &S, superblock: &Superblock, other: CopyId) -> Confidence {
    let mut page: PageBytes = [0; PAGE_SIZE];
    if region.read_at(superblock.geometry().copy_offset(other), &mut page).is_err() {
        return Confidence::Likely;
    }
    match Superblock::read(&page, other) {
        Ok(twin) if twin.uuid == superblock.uuid && twin.geometry() == superblock.geometry() => Confidence::Certain,
        Ok(_) => Confidence::Possible,
        Err(_) if page[64..72] == MAGIC => Confidence::Likely,
        Err(_) => Confidence::Possible,
    }
}
