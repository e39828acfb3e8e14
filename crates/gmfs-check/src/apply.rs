//! Carrying a plan out: the only part of a repair that writes.
//!
//! Pages are mended from a copy whose seal is good, or written where neither copy is; everything else goes through one
//! commit. So a repair that is stopped anywhere leaves a region that the next one brings to the same end.

use std::ops::Range;

use gmfs_format::copies::Standing;
use gmfs_format::io::{ReadAt, ReadError, WriteAt, WriteError};
use gmfs_format::raw::{BlockRaw, BlockTablePage, SuperblockRaw};
use gmfs_format::seal::{self, PageKind, Place};
use gmfs_format::tables::BlockState;
use gmfs_format::units::{CopyId, PAGE_SIZE, PageBytes, PageNo};
use gmfs_volume::change::{Assign, Change};
use gmfs_volume::rebuild::load;
use gmfs_volume::{ChangeError, OpenError, Stamp, Store, Superblocks, mend_pages};

use crate::plan::{Descriptors, Edit, Planned};

/// Why a plan was not carried out, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The region is not what the plan was made for.
    #[error("the region has changed since the plan was made ({0}): check it again")]
    Changed(String),
    /// The region cannot be opened.
    #[error("cannot open the region")]
    Open(#[from] OpenError),
    /// The commit failed.
    #[error("cannot commit the repair")]
    Commit(#[from] ChangeError),
    /// Reading failed.
    #[error("cannot read the region")]
    Read(#[from] ReadError),
    /// Writing failed.
    #[error("cannot write the region")]
    Write(#[from] WriteError),
}

/// Carries out the edits of one plan, in their order.
///
/// # Errors
/// What was begun is safe: a further repair ends it.
pub fn apply<S: WriteAt>(target: &mut S, edits: &[Planned], stamp: &Stamp) -> Result<(), ApplyError> {
    let superblocks = load(target)?;
    // Whatever is to be written, a region that the image does not hold whole is not changed.
    let region = u64::from(superblocks.geometry().blocks()) * superblocks.geometry().block_bytes();
    if let Some(image) = target.end().filter(|image| *image < region) {
        return Err(OpenError::Short { region, image }.into());
    }
    let mut commit = false;
    for planned in edits {
        match &planned.edit {
            Edit::Superblocks => write_superblocks(target, &superblocks)?,
            Edit::Mend { kind: PageKind::Superblock, copy, .. } => {
                target.barrier()?;
                mend_superblock(target, &superblocks, *copy)?;
            }
            Edit::Mend { first, count, copy, .. } => {
                // The first page stands for the run: it was found damaged, and nobody else may write meanwhile.
                if gmfs_volume::region::judge_page(&*target, &superblocks, *first).is_whole() {
                    return Err(ApplyError::Changed(format!("page {first} is good in both copies")));
                }
                mend_pages(target, &superblocks, *first, *count, *copy)?;
            }
            Edit::Replace { first, count, .. } => {
                for page in (first.0..first.0 + count).map(PageNo) {
                    replace_page(target, &superblocks, page)?;
                }
            }
            Edit::Reconcile { first, count, .. } => {
                for page in (first.0..first.0 + count).map(PageNo) {
                    reconcile_page(target, &superblocks, page)?;
                }
            }
            _ => commit = true,
        }
    }
    target.barrier()?;
    if commit { commit_rest(target, edits, stamp) } else { Ok(()) }
}

/// Everything that is one commit.
fn commit_rest<S: WriteAt>(target: &mut S, edits: &[Planned], stamp: &Stamp) -> Result<(), ApplyError> {
    verify(&*target, edits)?;
    let moved = if edits.iter().any(|planned| matches!(planned.edit, Edit::Uncover { .. })) {
        Some(move_marks(target)?)
    } else {
        None
    };
    let (mut store, _) = Store::open(target)?;
    let mut change = Change::default();
    let mut empty = moved.is_none();
    if let Some(moved) = moved {
        change.set_superblock(moved);
    }
    for planned in edits {
        match &planned.edit {
            Edit::Inode { ino, after, .. } => change.set_inode(*ino, **after),
            Edit::Blocks { first, count, to, .. } => change.assign(first.0..first.0 + count, *to),
            Edit::Superblock { after, .. } => change.set_superblock(**after),
            Edit::Rewrite { page } => change.touch(*page),
            _ => continue,
        }
        empty = false;
    }
    if !empty {
        store.commit(&change, stamp)?;
    }
    store.close()?;
    Ok(())
}

/// Compares what is there with what the plan was made from.
fn verify<S: ReadAt + ?Sized>(source: &S, edits: &[Planned]) -> Result<(), ApplyError> {
    let superblocks = load(source)?;
    let mut descriptors = Descriptors::new(source, &superblocks);
    let changed = |what: &Edit| Err(ApplyError::Changed(what.to_string()));
    for planned in edits {
        let edit = &planned.edit;
        let same = match edit {
            Edit::Inode { ino, before, .. } => {
                gmfs_volume::region::read_inode(source, &superblocks, *ino).as_ref() == Some(&**before)
            }
            Edit::Blocks { first, count, before, .. } => descriptors.sum(*first, *count) == *before,
            Edit::Uncover { first, count, .. } => {
                let found = gmfs_volume::behind::used_behind_marks(source, &superblocks);
                found.iter().any(|run| run.start == first.0 && run.len() == *count as usize)
            }
            Edit::Superblock { before, .. } => superblocks.current().raw == **before,
            _ => true,
        };
        if !same {
            return changed(edit);
        }
    }
    Ok(())
}

/// Makes pages behind the marks good as far as the marks are to move; gives the superblock with the marks moved. What is
/// written here nobody reads before that superblock is committed.
///
/// A page that is good in either copy stays what it is, for it may be this region's, and its blocks in use. Where neither
/// is and something lies there, every block is reserved; only what is empty becomes a blank page.
fn move_marks<S: WriteAt>(target: &mut S) -> Result<SuperblockRaw, ApplyError> {
    let superblocks = load(target)?;
    let geometry = superblocks.geometry();
    let found = gmfs_volume::behind::used_behind_marks(&*target, &superblocks);
    let mut raw = superblocks.current().raw;
    for (kind, used) in gmfs_volume::superblocks::used_tables(superblocks.current()) {
        let of_table = |run: &&Range<u32>| geometry.page_kind(PageNo(run.start)) == Some(kind);
        let Some(end) = found.iter().filter(of_table).map(|run| run.end).max() else { continue };
        let unused = (used.end..end).filter(|page| !found.iter().any(|run| run.contains(page)));
        for page in unused.map(PageNo) {
            if gmfs_volume::region::read_page(&*target, &superblocks, page).is_some() {
                continue;
            }
            let mut bytes = match gmfs_volume::rebuild::holds_something(&*target, geometry, page) {
                true => substitute(&superblocks, page),
                false => gmfs_volume::change::blank_page(geometry, page),
            };
            write_both(target, &superblocks, page, &mut bytes, CopyId::B)?;
        }
        let mark = if kind == PageKind::BlockTable { &mut raw.table_used } else { &mut raw.inodes_used_pages };
        *mark = u64::from(end - used.start).into();
    }
    Ok(raw)
}

/// Writes both superblocks as they were made anew, if neither is there.
fn write_superblocks<S: WriteAt>(target: &mut S, superblocks: &Superblocks) -> Result<(), ApplyError> {
    if !superblocks.are_rebuilt() {
        return Err(ApplyError::Changed("there is a superblock".to_owned()));
    }
    let superblock = superblocks.current();
    for copy in [CopyId::B, CopyId::A] {
        target.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
        target.barrier()?;
    }
    Ok(())
}

/// Writes one superblock from the one that counts, if it is not good.
fn mend_superblock<S: WriteAt>(target: &mut S, superblocks: &Superblocks, copy: CopyId) -> Result<(), ApplyError> {
    let judged = superblocks.judgement();
    if judged.of(copy) == Standing::Good && !judged.conflict {
        return Err(ApplyError::Changed(format!("superblock {copy} is good")));
    }
    let superblock = superblocks.current();
    target.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
    Ok(())
}

/// Writes a page that neither copy gives.
fn replace_page<S: WriteAt>(target: &mut S, superblocks: &Superblocks, page: PageNo) -> Result<(), ApplyError> {
    if gmfs_volume::region::read_page(&*target, superblocks, page).is_some() {
        return Err(ApplyError::Changed(format!("page {page} has a good copy")));
    }
    let (from, mut bytes) =
        salvage(&*target, superblocks, page).unwrap_or_else(|| (CopyId::B, substitute(superblocks, page)));
    write_both(target, superblocks, page, &mut bytes, from)
}

/// Writes a page from what both copies know. Where only one of two copies is good, and may be older than it should be,
/// what it says is free may have been given out since: it is reserved.
fn reconcile_page<S: WriteAt>(target: &mut S, superblocks: &Superblocks, page: PageNo) -> Result<(), ApplyError> {
    let judged = gmfs_volume::region::judge_page(&*target, superblocks, page);
    if !judged.conflict && !judged.uncertain {
        return Err(ApplyError::Changed(format!("page {page} is not in doubt")));
    }
    if judged.conflict {
        return Ok(gmfs_volume::unite_page(target, superblocks, page)?);
    }
    if gmfs_volume::end_union(target, superblocks, page)? {
        return Ok(());
    }
    let read = gmfs_volume::region::read_page(&*target, superblocks, page);
    let Some((from, mut bytes)) = judged.take.zip(read) else {
        return Err(ApplyError::Changed(format!("page {page} has no good copy")));
    };
    reserve_free(superblocks, page, &mut bytes);
    write_both(target, superblocks, page, &mut bytes, from)
}

/// Writes a page into both copies with the region's generation. The copy that it comes from is last: it must stand until
/// the other one does.
fn write_both<S: WriteAt>(
    target: &mut S,
    superblocks: &Superblocks,
    page: PageNo,
    bytes: &mut PageBytes,
    from: CopyId,
) -> Result<(), ApplyError> {
    for copy in [from.other(), from] {
        let Some(place) = superblocks.place(copy, page) else { continue };
        seal::seal(bytes, &place, superblocks.committed());
        target.write_at(superblocks.geometry().page_offset(copy, page), bytes.as_slice())?;
        target.barrier()?;
    }
    Ok(())
}

/// The page as a commit that did not happen would have left it, if its seal is good in either copy. What that commit was
/// about to free is a file's still: it is reserved.
fn salvage<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, page: PageNo) -> Option<(CopyId, PageBytes)> {
    let good = |copy: CopyId| {
        let place: Place = superblocks.place(copy, page)?;
        let mut bytes = [0; PAGE_SIZE];
        source.read_at(superblocks.geometry().page_offset(copy, page), &mut bytes).ok()?;
        seal::check(&bytes, &place).ok().map(|_| (copy, bytes))
    };
    let (copy, mut bytes) = good(CopyId::A).or_else(|| good(CopyId::B))?;
    reserve_free(superblocks, page, &mut bytes);
    Some((copy, bytes))
}

/// Reserves what a page of the block table calls free.
fn reserve_free(superblocks: &Superblocks, page: PageNo, bytes: &mut PageBytes) {
    let geometry = superblocks.geometry();
    if geometry.page_kind(page) != Some(PageKind::BlockTable) {
        return;
    }
    let here = gmfs_volume::region::page_descriptors(geometry, page, bytes).count();
    for entry in BlockTablePage::view_mut(bytes).entries.iter_mut().take(here) {
        if *entry == BlockRaw::FREE {
            *entry = BlockRaw { state: BlockState::Reserved.byte(), ..BlockRaw::FREE };
        }
    }
}

/// What is known of a page of which nothing is left: of its blocks, that they may hold guest memory; of its inodes,
/// nothing, so that their blocks bring them back.
fn substitute(superblocks: &Superblocks, page: PageNo) -> PageBytes {
    let mut bytes = gmfs_volume::change::blank_page(superblocks.geometry(), page);
    reserve_free(superblocks, page, &mut bytes);
    bytes
}

/// Gives reserved blocks back, on the user's word: they become free, and are zeroed when they are given out.
///
/// # Errors
/// The region must be in order.
pub fn release_reserved<S: WriteAt>(target: &mut S, stamp: &Stamp) -> Result<u64, ApplyError> {
    let (mut store, _) = Store::open(target)?;
    gmfs_volume::behind::require_none(store.source(), &load(store.source())?)?;
    let mut change = Change::default();
    let mut runs: Vec<Range<u32>> = Vec::new();
    let region = gmfs_volume::Region::open(store.source())?;
    region.descriptors(|block, entry| {
        if entry.state() == Some(BlockState::Reserved) {
            match runs.last_mut() {
                Some(run) if run.end == block.0 => run.end += 1,
                _ => runs.push(block.0..block.0 + 1),
            }
        }
    });
    let released = runs.iter().map(|run| run.len() as u64).sum();
    for run in runs {
        change.assign(run, Assign::Release);
    }
    if released > 0 {
        store.commit(&change, stamp)?;
    }
    store.close()?;
    Ok(released)
}
