//! Carries out a plan. This is the only part of a repair that writes.
//!
//! Damaged pages are rewritten from the other copy if its seal is good, and rebuilt otherwise. All other edits are made
//! in one commit. So wherever a repair is stopped, the next repair comes to the same result.

use std::ops::Range;

use gmfs_format::model::Inode;
use gmfs_format::native::copies::Standing;
use gmfs_format::native::seal::PageKind;
use gmfs_format::native::tables::{BlockState, INODE_DOUBTFUL};
use gmfs_format::native::units::{CopyId, InodeNo, len64};
use gmfs_io::{ReadAt, ReadError, WriteAt, WriteError};
use gmfs_volume::change::{Assign, Change};
use gmfs_volume::settle::settle;
use gmfs_volume::{ChangeError, Class, Gate, OpenError, Stamp, Store, Superblocks, mend_pages};

use crate::plan::{Descriptors, Edit, Planned};

/// Why a plan was not carried out, or not completely.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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

/// The corrections that the gate made because a plan forgot them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The first of them, in words.
    pub first: Vec<String>,
    /// How many more there were.
    pub more: u64,
}

/// Carries out the edits of one plan, in their order. `state` is what the plan was made from. Every write goes through
/// the [`Gate`], which refuses what this class of repair must not do.
///
/// # Errors
/// An unfinished repair does no harm: another repair finishes it.
pub fn apply<S: WriteAt>(
    target: &mut S,
    state: &Superblocks,
    edits: &[Planned],
    class: Class,
    stamp: &Stamp,
) -> Result<Forgotten, ApplyError> {
    state.require_uncontended()?;
    if !state.is_still_there(&*target) {
        return Err(ApplyError::Changed("its superblocks are not what they were".to_owned()));
    }
    let distrust = edits.iter().any(|planned| planned.edit == Edit::Settle { distrust: true });
    let mut gate = Gate::new(target, state, class, distrust).ok_or(OpenError::Doubt)?;
    carry_out(&mut gate, state, edits, stamp)?;
    let (first, more) = gate.forgot();
    Ok(Forgotten { first, more })
}

fn carry_out<S: WriteAt>(
    target: &mut S,
    state: &Superblocks,
    edits: &[Planned],
    stamp: &Stamp,
) -> Result<(), ApplyError> {
    let mut commit = false;
    for planned in edits {
        match &planned.edit {
            Edit::Superblocks => write_superblocks(target, state)?,
            Edit::Mend { kind: PageKind::Superblock, copy, .. } => {
                target.barrier()?;
                mend_superblock(target, state, *copy)?;
            }
            Edit::Mend { first, count, copy, .. } => {
                // It is enough to check the first page of the run: it was found damaged, and no other program may write
                // in the meantime.
                if gmfs_volume::region::judge_page(&*target, state, *first).is_whole() {
                    return Err(ApplyError::Changed(format!("page {first} is good in both copies")));
                }
                mend_pages(target, state, *first, *count, *copy)?;
            }
            Edit::Settle { distrust } => {
                settle(target, state, *distrust, stamp)?;
            }
            _ => commit = true,
        }
    }
    target.barrier()?;
    if commit { commit_rest(target, state, edits, stamp) } else { Ok(()) }
}

/// Makes all edits that belong in one commit.
///
/// The store is opened from what is on the medium now, not from `state`, which may have been read long before the user
/// answered a question. The opening reads all pages once more, refuses damage that is new, and recovers what a writer
/// left. It is the only time that a round loads the superblocks again. The [`Gate`] uses the facts on which `state` is
/// based, as it does for pages.
fn commit_rest<S: WriteAt>(
    target: &mut S,
    state: &Superblocks,
    edits: &[Planned],
    stamp: &Stamp,
) -> Result<(), ApplyError> {
    verify(&*target, state, edits)?;
    let mut change = Change::default();
    let mut empty = true;
    for planned in edits {
        match &planned.edit {
            Edit::Inode { ino, after, .. } => change.set_inode(*ino, **after),
            Edit::Blocks { first, count, to, .. } => {
                // A run that no region can hold is not cut to fit, because the plan cannot be for this region.
                let end = first.0.checked_add(*count);
                let end = end.ok_or_else(|| ApplyError::Changed(planned.edit.to_string()))?;
                change.assign(first.0..end, *to);
            }
            Edit::Superblock { after, .. } => change.set_superblock(**after),
            Edit::Rewrite { page } => change.touch(*page),
            _ => continue,
        }
        empty = false;
    }
    let (mut store, _) = Store::open(target)?;
    if !empty {
        store.commit(&change, stamp)?;
    }
    store.close()?;
    Ok(())
}

/// Compares what is there with what the plan was made from.
fn verify<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, edits: &[Planned]) -> Result<(), ApplyError> {
    let mut descriptors = Descriptors::new(source, state);
    for planned in edits {
        let edit = &planned.edit;
        let same = match edit {
            Edit::Inode { ino, before, .. } => {
                gmfs_volume::region::read_inode(source, state, *ino).as_ref() == Some(&**before)
            }
            Edit::Blocks { first, count, before, .. } => descriptors.sum(*first, *count) == *before,
            Edit::Superblock { before, .. } => state.current().raw == **before,
            _ => true,
        };
        if !same {
            return Err(ApplyError::Changed(edit.to_string()));
        }
    }
    Ok(())
}

/// Writes both superblocks as the pages of the tables prove them to be.
fn write_superblocks<S: WriteAt>(target: &mut S, state: &Superblocks) -> Result<(), ApplyError> {
    target.barrier()?;
    let superblock = state.current();
    for copy in [CopyId::B, CopyId::A] {
        target.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
        target.barrier()?;
    }
    Ok(())
}

/// Rewrites one superblock from the one that is used, if it is not good.
fn mend_superblock<S: WriteAt>(target: &mut S, superblocks: &Superblocks, copy: CopyId) -> Result<(), ApplyError> {
    let judged = superblocks.judgement();
    if judged.of(copy) == Standing::Good && !judged.conflict {
        return Err(ApplyError::Changed(format!("superblock {copy} is good")));
    }
    let superblock = superblocks.current();
    target.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
    Ok(())
}

/// Makes all reserved blocks free, as the user has asked. They are zeroed when they are allocated. Returns how many
/// there were.
///
/// # Errors
/// The region is damaged, or the medium failed.
pub fn release_reserved<S: WriteAt>(target: &mut S, stamp: &Stamp) -> Result<u64, ApplyError> {
    let (mut store, _) = Store::open(target)?;
    let mut change = Change::default();
    let mut runs: Vec<Range<u32>> = Vec::new();
    let region = gmfs_volume::Region::with(store.source(), store.superblocks());
    region.descriptors(|block, entry| {
        // No block has the highest number.
        if entry.state() == Some(BlockState::Reserved)
            && let Some(end) = block.0.checked_add(1)
        {
            match runs.last_mut() {
                Some(run) if run.end == block.0 => run.end = end,
                _ => runs.push(block.0..end),
            }
        }
    });
    let released = runs.iter().map(|run| len64(run.len())).sum();
    for run in runs {
        change.assign(run, Assign::Release);
    }
    if released > 0 {
        store.commit(&change, stamp)?;
    }
    store.close()?;
    Ok(released)
}

/// How many inodes lose the flag in one commit. This bounds the memory of a change.
const ACCEPTED_AT_ONCE: usize = 1 << 10;

/// Clears the flag *doubtful* of all files, as the user has asked. Returns how many had it.
///
/// # Errors
/// The region is damaged, or the medium failed.
pub fn accept_doubtful<S: WriteAt>(target: &mut S, stamp: &Stamp) -> Result<u64, ApplyError> {
    let (mut store, _) = Store::open(target)?;
    let region = gmfs_volume::Region::with(store.source(), store.superblocks());
    let tree = region.inodes().tree;
    let is_doubtful = |inode: &&Inode| inode.attributes.is_some_and(|found| found.flags & INODE_DOUBTFUL != 0);
    let doubtful: Vec<InodeNo> = tree.inodes().filter(is_doubtful).map(|inode| inode.ino).collect();
    for batch in doubtful.chunks(ACCEPTED_AT_ONCE) {
        let mut change = Change::default();
        for ino in batch {
            if let Some(mut raw) = gmfs_volume::region::read_inode(store.source(), store.superblocks(), *ino) {
                raw.flags = (raw.flags.get() & !INODE_DOUBTFUL).into();
                change.set_inode(*ino, raw);
            }
        }
        store.commit(&change, stamp)?;
    }
    store.close()?;
    Ok(len64(doubtful.len()))
}
