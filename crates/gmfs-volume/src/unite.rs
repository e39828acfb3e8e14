//! Two good copies of a page that differ, made one without losing what either of them knows.
//!
//! Nothing may be lost by a crash either, though each copy has to be overwritten while it alone knows something. So copy
//! B goes first, and before its payload its seal: the CRC that the united page will have. From there on, whatever part of
//! the payload is stored, copy A and the torn copy B come to the same united page, and that CRC proves it.

use gmfs_format::native::copies::Found;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeTablePage, PageHeader};
use gmfs_format::native::seal::{self, PageKind, Place, SealFault};
use gmfs_format::native::tables::{BlockState, INODE_DOUBTFUL};
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, len64};
use gmfs_io::{ReadAt, WriteAt};

use crate::superblocks::{OpenError, Superblocks, find_page, same_payload};

/// The word of the header that holds the CRC.
pub(crate) const CRC_WORD: std::ops::Range<usize> = 40..48;
const _: () = assert!(std::mem::offset_of!(PageHeader, crc) == CRC_WORD.start);

/// Makes of `bytes` what both pages come to: what they agree on stands, and what only one of them gives to somebody stays
/// with that one. A block that both give to somebody, and not to the same, is reserved; an inode that both use and describe
/// otherwise is kept as `bytes` has it, and is doubtful. Merging the result with either page changes nothing.
pub(crate) fn merge(kind: PageKind, bytes: &mut PageBytes, other: &PageBytes) {
    if kind == PageKind::BlockTable {
        let others = BlockTablePage::view(other).entries;
        for (entry, other) in BlockTablePage::view_mut(bytes).entries.iter_mut().zip(others) {
            *entry = merged(entry, &other);
        }
    } else {
        let others = InodeTablePage::view(other).inodes;
        for (inode, other) in InodeTablePage::view_mut(bytes).inodes.iter_mut().zip(others) {
            if *inode == other {
                continue;
            }
            if !inode.in_use() {
                *inode = other;
            } else if other.in_use() {
                inode.flags = (inode.flags.get() | INODE_DOUBTFUL).into();
            }
        }
    }
}

/// What two descriptors of one block come to.
fn merged(one: &BlockRaw, other: &BlockRaw) -> BlockRaw {
    let is_bad = |entry: &BlockRaw| entry.state() == Some(BlockState::Bad);
    if one == other || *other == BlockRaw::FREE {
        return *one;
    }
    if *one == BlockRaw::FREE {
        return *other;
    }
    let state = if is_bad(one) || is_bad(other) { BlockState::Bad } else { BlockState::Reserved };
    BlockRaw { state: state.byte(), ..BlockRaw::FREE }
}

/// Writes both copies of a page, each of which is good, as what both come to. A crash at any store is brought to the same end by [`mend_pages`](crate::mend_pages) or by this.
///
/// # Errors
/// A copy is not good, or the medium failed.
pub fn unite_page<S: WriteAt>(target: &mut S, superblocks: &Superblocks, page: PageNo) -> Result<(), OpenError> {
    let (mut a, mut b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    let generation_a = read_good(target, superblocks, CopyId::A, page, &mut a)?;
    let generation_b = read_good(target, superblocks, CopyId::B, page, &mut b)?;
    let damaged = || OpenError::Damaged { pages: 1, first: page };
    let place = superblocks.place(CopyId::B, page).ok_or_else(damaged)?;
    merge(place.kind, &mut a, &b);
    if !same_payload(&a, &b) {
        let mut sealed = a;
        seal::seal(&mut sealed, &place, generation_b);
        let offset = superblocks.geometry().page_offset(CopyId::B, page);
        let crc = sealed.get(CRC_WORD).ok_or_else(damaged)?;
        target.write_at(offset.saturating_add(len64(CRC_WORD.start)), crc)?;
        target.barrier()?;
    }
    finish(target, superblocks, page, &mut a, [generation_a, generation_b])
}

/// Writes the united page: into copy B under the seal that it has already, into copy A, and into copy B once more with
/// copy A's generation.
pub(crate) fn finish<S: WriteAt>(
    target: &mut S,
    superblocks: &Superblocks,
    page: PageNo,
    united: &mut PageBytes,
    [generation_a, generation_b]: [Generation; 2],
) -> Result<(), OpenError> {
    for (copy, generation) in [(CopyId::B, generation_b), (CopyId::A, generation_a), (CopyId::B, generation_a)] {
        let Some(place) = superblocks.place(copy, page) else { continue };
        seal::seal(united, &place, generation);
        target.write_at(superblocks.geometry().page_offset(copy, page), united.as_slice())?;
        target.barrier()?;
    }
    Ok(())
}

/// The united page, if copy B is what a crash leaves while it is being written, and copy B's generation. `a` is copy A,
/// good; `b` is copy B, and `found` what it was found to be.
pub(crate) fn half_united(
    place: &Place,
    a: &PageBytes,
    b: &PageBytes,
    found: Found,
) -> Option<(PageBytes, Generation)> {
    if !matches!(found, Found::Bad(SealFault::Torn | SealFault::Flipped { .. })) {
        return None;
    }
    let generation = Generation(PageHeader::of(b).generation.get());
    let mut united = *a;
    merge(place.kind, &mut united, b);
    seal::seal(&mut united, place, generation);
    let proven = PageHeader::of(&united).crc == PageHeader::of(b).crc && !same_payload(&united, a);
    proven.then_some((united, generation))
}

/// Ends the uniting of two copies of a page if a crash has interrupted it; gives whether that was so.
///
/// # Errors
/// The medium failed.
pub fn end_union<S: WriteAt>(target: &mut S, superblocks: &Superblocks, page: PageNo) -> Result<bool, OpenError> {
    let (mut a, mut b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    let [in_a, in_b] = find_page(target, superblocks, page, [&mut a, &mut b]);
    let place = superblocks.place(CopyId::B, page);
    let half = place.and_then(|place| half_united(&place, &a, &b, in_b));
    let Some((generation, (mut united, theirs))) = in_a.generation().zip(half) else { return Ok(false) };
    finish(target, superblocks, page, &mut united, [generation, theirs])?;
    Ok(true)
}

fn read_good<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    copy: CopyId,
    page: PageNo,
    bytes: &mut PageBytes,
) -> Result<Generation, OpenError> {
    source.read_at(superblocks.geometry().page_offset(copy, page), bytes.as_mut_slice())?;
    let good = superblocks.place(copy, page).and_then(|place| seal::check(bytes, &place).ok());
    good.ok_or(OpenError::Damaged { pages: 1, first: page })
}
