//! One metadata page of a native region as it is, whatever it holds.

use gmfs_format::native::fields::{Listed, list};
use gmfs_format::native::raw::{PageHeader, PageTrailer};
use gmfs_format::native::seal::{self, PageKind, Place, SealFault};
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo};
use gmfs_io::{ReadAt, ReadError};
use gmfs_volume::Superblocks;
use uuid::Uuid;

/// A metadata page.
#[derive(Clone, Debug)]
pub struct RawPage {
    /// Its number in its copy.
    pub page: u32,
    /// Its copy.
    pub copy: CopyId,
    /// Its offset in the region, in bytes.
    pub offset: u64,
    /// What its seal proves.
    pub seal: Seal,
    /// Its fields.
    pub listed: Listed,
}

/// What the seal of a page proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seal {
    /// It is good, and of the commit with this generation.
    Good(u64),
    /// It is not good.
    Broken(SealFault),
    /// Nothing says how the region is laid out, not even the page.
    NoLayout,
}

/// Why a page cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RawPageError {
    /// A copy has fewer pages.
    #[error("there is no page {page}: the last one is page {last}")]
    NoPage {
        /// The page that was asked for.
        page: u32,
        /// The last page of a copy.
        last: u64,
    },
    /// It cannot be read.
    #[error("cannot read page {page} of copy {copy}")]
    Read {
        /// The page.
        page: u32,
        /// Its copy.
        copy: CopyId,
        /// Why.
        source: ReadError,
    },
}

/// Reads a page. Without superblocks, copy A is taken to be at the start of `source`, and nothing is known about copy
/// B. `copy` is the copy that is wanted. If it is not given, it is the copy of the superblock that counts, or otherwise
/// copy A.
///
/// # Errors
/// [`RawPageError`].
pub fn read<S: ReadAt>(
    source: &S,
    superblocks: Option<&Superblocks>,
    page: u32,
    copy: Option<CopyId>,
) -> Result<RawPage, RawPageError> {
    let number = PageNo(page);
    let counts = superblocks.filter(|_| page == 0).and_then(|found| found.judgement().take);
    let copy = copy.or(counts).unwrap_or(CopyId::A);
    let geometry = superblocks.map(Superblocks::geometry);
    let (kind, offset) = match geometry {
        Some(geometry) => {
            let last = geometry.pages().saturating_sub(1);
            let kind = geometry.page_kind(number).ok_or(RawPageError::NoPage { page, last })?;
            (Some(kind), geometry.page_offset(copy, number))
        }
        None => (None, u64::from(page).saturating_mul(PAGE_BYTES)),
    };
    let mut bytes: PageBytes = [0; PAGE_SIZE];
    source.read_at(offset, &mut bytes).map_err(|source| RawPageError::Read { page, copy, source })?;
    let kind = kind.or_else(|| claimed(&bytes)).unwrap_or(PageKind::Superblock);
    let seal = seal_of(&bytes, kind, copy, number, superblocks);
    Ok(RawPage { page, copy, offset, seal, listed: list(&bytes, kind) })
}

/// The kind that a page's magic says it is.
fn claimed(page: &PageBytes) -> Option<PageKind> {
    let magic = PageHeader::of(page).magic;
    PageKind::ALL.into_iter().find(|kind| kind.magic() == magic)
}

fn seal_of(page: &PageBytes, kind: PageKind, copy: CopyId, number: PageNo, found: Option<&Superblocks>) -> Seal {
    // If no superblock gives identity and layout, what the page itself says is used.
    let uuid = found.map_or_else(|| Uuid::from_bytes(PageHeader::of(page).uuid), |found| found.current().uuid);
    let birth = found.map_or_else(|| PageTrailer::of(page).birth.get(), |found| found.current().birth);
    let Some(geometry) = found.map(Superblocks::geometry).or_else(|| seal::layout_of(page)) else {
        return Seal::NoLayout;
    };
    match seal::check(page, &Place { kind, copy, page: number, uuid, birth, geometry }) {
        Ok(generation) => Seal::Good(generation.0),
        Err(fault) => Seal::Broken(fault),
    }
}
