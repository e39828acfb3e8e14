//! Finding regions in an image: a file, a device, memory, a dump.

use gmfs_format::Layout;
use gmfs_format::geometry::{Geometry, MAX_INODES};
use gmfs_format::io::{Absence, ReadAt, ReadError, Span, Window};
use gmfs_format::raw::INODES_PER_PAGE;
use gmfs_format::seal::{PageKind, claim};
use gmfs_format::superblock::{MAGIC, Superblock};
use gmfs_format::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, PmdShift, to_u32};
use std::ops::Range;
use uuid::Uuid;

use crate::superblocks::borne_out;

/// How sure it is that a region lies where one was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// One superblock is good, and nothing is where the other one belongs: perhaps a leftover.
    Possible,
    /// One superblock is good, and the other one's place is absent or damaged.
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
    /// Where it starts in the image, in bytes.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its label, up to the first NUL.
    pub label: Vec<u8>,
    /// How sure it is.
    pub confidence: Confidence,
}

/// The steps in which regions are looked for when nothing else is asked: they start at blocks.
pub const DEFAULT_STEP: u64 = PmdShift::M2.block_bytes();

/// Looks for superblocks at every multiple of `step` bytes in `range`; holes and absent stretches are skipped. Gives
/// what was found by rising base; a region is found once, whichever of its superblocks led to it.
///
/// Each place is read, eight bytes of it. Only where they are zero, or absent, the source is asked how far that goes:
/// a dump answers with a pass over its descriptors, which costs more than the places themselves.
///
/// `seen` is told how far the search has come, in bytes of the image.
///
/// # Errors
/// [`ReadError::Io`] if the source cannot tell where its holes are.
pub fn scan<S: ReadAt + ?Sized>(
    source: &S,
    range: Range<u64>,
    step: u64,
    mut seen: impl FnMut(u64),
) -> Result<Vec<Candidate>, ReadError> {
    let step = step.max(PAGE_BYTES);
    let behind = |at: u64| at.checked_next_multiple_of(step).unwrap_or(u64::MAX);
    let mut found: Vec<Candidate> = Vec::new();
    let mut at = behind(range.start);
    while at < range.end {
        let mut next = at.saturating_add(step);
        match magic(source, at) {
            Ok(MAGIC) => {
                if let Some(candidate) = look(source, at) {
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

/// The bytes where a superblock at `offset` has its magic.
fn magic<S: ReadAt + ?Sized>(source: &S, offset: u64) -> Result<[u8; 8], ReadError> {
    let mut magic = [0; 8];
    let beyond = || ReadError::Absent { span: Span::new(offset, 8), why: Absence::BeyondEnd };
    source.read_at(offset.checked_add(64).ok_or_else(beyond)?, &mut magic)?;
    Ok(magic)
}

/// Keeps the surer of two finds of one region.
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
pub fn look<S: ReadAt + ?Sized>(source: &S, offset: u64) -> Option<Candidate> {
    if magic(source, offset).ok()? != MAGIC {
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

/// Judges a find by the place of its other superblock.
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

/// At least so many bytes before the end of an image are searched for copy B.
const REACH: u64 = 16 << 30;
/// So many pages of copy A are looked at for what they say about copy B.
const PAGES_OF_A: u32 = 4096;
/// So many of them that are where they say are enough.
const ENOUGH: usize = 64;

/// Finds copy B's superblock of the region that begins with `source`, where copy A does not say where it is: from the end
/// backwards, and where the sealed pages of copy A put it. Of two, the one whose region has more of its pages in place.
pub(crate) fn copy_b<S: ReadAt + ?Sized>(source: &S) -> Option<Superblock> {
    let last = last_copy_b(source);
    let told = copy_b_of_pages(source);
    match (last, told) {
        (Some(last), Some(told)) => {
            let better = borne_out(source, &told) > borne_out(source, &last);
            Some(if better { told } else { last })
        }
        (last, told) => last.or(told),
    }
}

/// The superblock of copy B at an offset, if its own geometry puts copy B there.
fn copy_b_at<S: ReadAt + ?Sized>(source: &S, offset: u64, page: &mut PageBytes) -> Option<Superblock> {
    source.read_at(offset, page).ok()?;
    let superblock = Superblock::read(page, CopyId::B).ok()?;
    (superblock.geometry().copy_offset(CopyId::B) == offset).then_some(superblock)
}

/// How far before the end of an image of `end` bytes copy B of a region that ends with it can begin, in any block size.
fn reach(end: u64) -> u64 {
    let inode_table = u64::from(MAX_INODES.div_ceil(INODES_PER_PAGE)) * PAGE_BYTES;
    // A block has sixteen bytes of the block table, and its page has a header.
    let block_table = (end / DEFAULT_STEP).saturating_mul(17);
    // The copy takes whole blocks, and the tail is less than a block.
    let rounded = 2 * PmdShift::M512.block_bytes();
    (PAGE_BYTES + inode_table).saturating_add(block_table).saturating_add(rounded).max(REACH)
}

/// Looks for copy B's superblock from the end backwards. The end need not be the region's: the image may have been cut
/// short or grown.
fn last_copy_b<S: ReadAt + ?Sized>(source: &S) -> Option<Superblock> {
    let end = source.end()?;
    let step = DEFAULT_STEP;
    let lowest = end.saturating_sub(reach(end)) / step * step;
    let mut offset = end.checked_next_multiple_of(step).unwrap_or(end / step * step);
    // How far below a page of zeros a hole is looked for; it doubles while there is nothing but holes.
    let mut holes = step;
    let mut page = [0; PAGE_SIZE];
    while offset > lowest {
        offset -= step;
        if let Some(superblock) = copy_b_at(source, offset, &mut page) {
            return Some(superblock);
        }
        let below = offset.saturating_sub(holes).max(lowest);
        if page == [0; PAGE_SIZE] && matches!(source.next_data(below..offset), Ok(None)) {
            offset = below;
            holes = holes.saturating_mul(2);
        } else {
            holes = step;
        }
    }
    None
}

/// Looks for copy B's superblock where pages of copy A put it: each says how its region is laid out.
fn copy_b_of_pages<S: ReadAt + ?Sized>(source: &S) -> Option<Superblock> {
    let mut regions: Vec<(Geometry, Uuid)> = Vec::new();
    let mut page = [0; PAGE_SIZE];
    let (mut in_place, mut next) = (0, 1);
    let end = u64::from(PAGES_OF_A + 1) * PAGE_BYTES;
    while next <= PAGES_OF_A && in_place < ENOUGH {
        let number = next;
        next += 1;
        if source.read_at(u64::from(number) * PAGE_BYTES, &mut page).is_err() {
            continue;
        }
        if page == [0; PAGE_SIZE] {
            match source.next_data(u64::from(next) * PAGE_BYTES..end) {
                Ok(None) => break,
                Ok(Some(data)) => next = next.max(to_u32(data.start / PAGE_BYTES)),
                Err(_) => {}
            }
            continue;
        }
        let Some((place, _)) = claim(&page) else { continue };
        let kind = place.geometry.page_kind(PageNo(number));
        if place.copy != CopyId::A || place.page != PageNo(number) || kind != Some(place.kind) {
            continue;
        }
        in_place += 1;
        if !regions.contains(&(place.geometry, place.uuid)) {
            regions.push((place.geometry, place.uuid));
        }
    }
    regions.into_iter().find_map(|(geometry, uuid)| {
        let found = copy_b_at(source, geometry.copy_offset(CopyId::B), &mut page)?;
        (found.geometry() == geometry && found.uuid == uuid).then_some(found)
    })
}
