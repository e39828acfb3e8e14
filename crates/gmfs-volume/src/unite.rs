//! Merges two good copies of a page that differ, without losing what only one of them records.
//!
//! A crash must not lose anything either, although each copy has to be overwritten while it alone records something. So
//! copy B is written first. Before its payload, its header gets the CRC that the merged page will have. From then on,
//! whatever part of the payload has been written, the merge of copy A and the torn copy B is the same page, and that
//! CRC proves it.

use gmfs_format::native::copies::Found;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeTablePage, PageHeader};
use gmfs_format::native::seal::{self, PageKind, Place, SealFault};
use gmfs_format::native::tables::{BlockState, INODE_DOUBTFUL};
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, len64};
use gmfs_io::{ReadAt, WriteAt};

use crate::superblocks::{OpenError, Superblocks, find_page, same_payload};

/// The word of the header that contains the CRC.
pub(crate) const CRC_WORD: std::ops::Range<usize> = 40..48;
const _: () = assert!(std::mem::offset_of!(PageHeader, crc) == CRC_WORD.start);

/// Merges `other` into `bytes`. What both pages agree on is kept. What only one of them assigns to an owner stays with
/// that owner. A block with two different owners becomes reserved. An inode that both pages use with different content
/// is kept as in `bytes`, and becomes doubtful. Merging the result with either page again changes nothing.
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

/// The merge of two descriptors of one block.
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

/// Writes the merge of both copies of a page to both; each copy must be good. If a crash interrupts it,
/// [`mend_pages`](crate::mend_pages) or another call of this function gives the same result.
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

/// Writes the merged page: to copy B under the seal that is there already, to copy A, and to copy B once more with copy
/// A's generation.
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

/// The merged page and copy B's generation, if copy B is in a state that a crash leaves while the merged page is being
/// written. `a` is copy A, which is good; `b` is copy B, and `found` is what it was found to be.
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

/// Finishes the merge of two copies of a page if a crash interrupted it. Returns whether there was such a merge.
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
