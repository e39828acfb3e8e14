//! Opening for writing: what a crash left is put right before anything new is written.

use gmfs_format::copies::{Phase, Standing};
use gmfs_format::io::{ReadAt, WriteAt};
use gmfs_format::raw::PageHeader;
use gmfs_format::units::{CopyId, Generation, PageNo, len64, to_u32};

use crate::mend::mend_pages;
use crate::superblocks::{OpenError, Superblocks, hinders};
use crate::sweep::{Frame, Visit};

/// What recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The region was left by a writer that did not finish.
    pub interrupted: bool,
    /// Pages of an unfinished change taken back in copy A.
    pub rolled_back: u64,
    /// Pages of a finished change carried over to copy B.
    pub mirrored: u64,
}

/// What has to be written to make both copies equal, gathered in the pass that opens the region.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Pages to write anew, and in which copy.
    mend: Vec<(PageNo, CopyId)>,
    damaged: u64,
    first_damaged: Option<PageNo>,
    highest: Generation,
}

impl Visit for Survey {
    fn visit(&mut self, frame: &Frame<'_>) {
        for copy in CopyId::BOTH {
            let standing = frame.judgement.of(copy);
            if standing.is_recovery() {
                self.mend.push((frame.page, copy));
            }
            if matches!(standing, Standing::Good | Standing::Uncommitted | Standing::Lagging) {
                let generation = PageHeader::of(frame.bytes(copy)).generation.get();
                self.highest = self.highest.max(Generation(generation));
            }
        }
        let absent = CopyId::BOTH.iter().any(|copy| matches!(frame.judgement.of(*copy), Standing::Absent(_)));
        if frame.judgement.is_damage() || absent {
            self.damaged += 1;
            self.first_damaged.get_or_insert(frame.page);
        }
    }
}

impl Survey {
    /// Checks that the superblocks and the surveyed pages hold nothing but good pages and recovery.
    pub(crate) fn require_undamaged(&self, superblocks: &Superblocks) -> Result<(), OpenError> {
        let judged = superblocks.judgement();
        let superblock = hinders(judged.a) || hinders(judged.b) || judged.conflict;
        let first = if superblock { Some(PageNo(0)) } else { self.first_damaged };
        match first {
            Some(first) => Err(OpenError::Damaged { pages: self.damaged + u64::from(superblock), first }),
            None => Ok(()),
        }
    }

    /// The highest generation in any good seal.
    pub(crate) fn highest(&self, superblocks: &Superblocks) -> Generation {
        let in_superblocks = [&superblocks.a, &superblocks.b].map(|slot| slot.good().map(|sb| sb.generation));
        in_superblocks.into_iter().flatten().fold(self.highest, Ord::max)
    }

    /// Makes both copies equal. Safe to stop at any store: what is written is what each page is judged to be.
    pub(crate) fn recover<S: WriteAt>(
        &self,
        source: &mut S,
        superblocks: &mut Superblocks,
    ) -> Result<Recovery, OpenError> {
        let mut done = Recovery { interrupted: superblocks.phase() != Phase::Idle, ..Recovery::default() };
        for run in self.mend.chunk_by(|(page, copy), (next, other)| page.0 + 1 == next.0 && copy == other) {
            let Some((first, copy)) = run.first() else { continue };
            mend_pages(source, superblocks, *first, to_u32(len64(run.len())), *copy)?;
            match copy {
                CopyId::A => done.rolled_back += len64(run.len()),
                CopyId::B => done.mirrored += len64(run.len()),
            }
        }
        if !self.mend.is_empty() {
            source.barrier()?;
        }
        // Last, for the superblocks tell which copy of a page is to be trusted.
        let current = superblocks.current().clone();
        let mut mended = false;
        for copy in CopyId::BOTH {
            if superblocks.judgement().of(copy).is_recovery() {
                source.write_at(current.geometry().copy_offset(copy), &current.page(copy))?;
                mended = true;
            }
        }
        if mended {
            source.barrier()?;
        }
        superblocks.replace(current);
        Ok(done)
    }
}

/// Loads the superblocks of a region that may be written.
pub(crate) fn writable_superblocks<S: ReadAt>(source: &S) -> Result<Superblocks, OpenError> {
    let superblocks = Superblocks::load(source)?;
    superblocks.require_readable()?;
    let features = superblocks.current().features();
    if !features.writable() {
        return Err(OpenError::ReadOnlyFeatures(features.unknown().ro_compat));
    }
    require_whole(source, &superblocks)?;
    Ok(superblocks)
}

/// Refuses to change a region of which a part lies behind the image's end.
fn require_whole<S: ReadAt>(source: &S, superblocks: &Superblocks) -> Result<(), OpenError> {
    let geometry = superblocks.geometry();
    let region = u64::from(geometry.blocks()) * geometry.block_bytes();
    match source.end() {
        Some(image) if image < region => Err(OpenError::Short { region: geometry.size(), image }),
        _ => Ok(()),
    }
}
