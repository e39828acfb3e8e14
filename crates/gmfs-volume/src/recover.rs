//! Recovery at the opening for writing: finishes or undoes what a crash left, before anything new is written.

use gmfs_format::native::copies::{Phase, Standing};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::{CopyId, Generation, PageNo, follows, len64, to_u32};
use gmfs_io::{ReadAt, WriteAt};

use crate::census::Census;
use crate::commit::Ages;
use crate::gate::{Class, Gate};
use crate::mend::mend_pages;
use crate::superblocks::{OpenError, Superblocks, hinders};
use crate::sweep::{Frame, Visit};

/// What recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether the last writer did not end its session.
    pub interrupted: bool,
    /// Pages of an unfinished commit that were restored in copy A.
    pub rolled_back: u64,
    /// Pages of a finished commit that were copied to copy B.
    pub mirrored: u64,
}

/// What must be written to make both copies equal. It is collected in the pass that opens the region.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Pages to rewrite, and in which copy.
    mend: Vec<(PageNo, CopyId)>,
    damaged: u64,
    first_damaged: Option<PageNo>,
    census: Census,
}

/// The state from which the next commits of a recovered region start.
pub(crate) struct Recovered {
    pub(crate) recovery: Recovery,
    /// The highest generation of any statement.
    pub(crate) highest: Generation,
    pub(crate) ages: Ages,
}

impl Visit for Survey {
    fn visit(&mut self, frame: &Frame<'_>) {
        for copy in CopyId::BOTH {
            let standing = frame.judgement.of(copy);
            if standing.is_recovery() {
                self.mend.push((frame.page, copy));
            }
        }
        self.census.visit(frame);
        let absent = CopyId::BOTH.iter().any(|copy| matches!(frame.judgement.of(*copy), Standing::Absent(_)));
        if frame.judgement.is_damage() || absent {
            self.damaged = self.damaged.saturating_add(1);
            self.first_damaged.get_or_insert(frame.page);
        }
    }
}

impl Survey {
    /// Checks that the superblocks and the surveyed pages need no more than recovery.
    pub(crate) fn require_undamaged(&self, superblocks: &Superblocks) -> Result<(), OpenError> {
        let judged = superblocks.judgement();
        let superblock = hinders(judged.a) || hinders(judged.b) || judged.conflict;
        let first = if superblock { Some(PageNo(0)) } else { self.first_damaged };
        match first {
            Some(first) => {
                let pages = self.damaged.saturating_add(superblock.into());
                Err(OpenError::Damaged { pages, first })
            }
            None => Ok(()),
        }
    }

    /// The facts that the survey has collected.
    pub(crate) fn take_census(&mut self) -> Census {
        std::mem::take(&mut self.census)
    }

    /// Makes both copies equal. A crash at any write is harmless, because each page is written as it was judged.
    pub(crate) fn recover<S: WriteAt>(
        &self,
        source: &mut S,
        superblocks: &mut Superblocks,
    ) -> Result<Recovered, OpenError> {
        let mut done = Recovery { interrupted: superblocks.phase() != Phase::Idle, ..Recovery::default() };
        let census = superblocks.census().ok_or(OpenError::Doubt)?;
        let (highest, ages) = (census.top(), Ages::of(superblocks, census));
        let current = superblocks.current().clone();
        // A commit may have all its pages in copy A, but no superblock yet. Superblock A is then written first, as in a
        // commit.
        let untold = [&superblocks.a, &superblocks.b]
            .into_iter()
            .all(|slot| slot.good().is_none_or(|superblock| superblock.generation < current.generation));
        let lagging = |copy| superblocks.judgement().of(copy).is_recovery();
        if untold || !self.mend.is_empty() || CopyId::BOTH.into_iter().any(lagging) {
            let mut gate = Gate::new(&mut *source, superblocks, Class::Safe, false).ok_or(OpenError::Doubt)?;
            if untold {
                write_superblock(&mut gate, &current, CopyId::A)?;
            }
            for run in self.mend.chunk_by(|(page, copy), (next, other)| follows(page.0, next.0) && copy == other) {
                let Some((first, copy)) = run.first() else { continue };
                mend_pages(&mut gate, superblocks, *first, to_u32(len64(run.len())), *copy)?;
                let count = match copy {
                    CopyId::A => &mut done.rolled_back,
                    CopyId::B => &mut done.mirrored,
                };
                *count = count.saturating_add(len64(run.len()));
            }
            if !self.mend.is_empty() {
                gate.barrier()?;
            }
            // The superblocks come last, because they show which copy of a page is to be trusted.
            if CopyId::BOTH.into_iter().any(lagging) {
                for (copy, slot) in CopyId::BOTH.into_iter().zip([&superblocks.a, &superblocks.b]) {
                    // This includes a superblock of the same generation with other content, because it would contradict
                    // the other one.
                    if slot.good() != Some(&current) {
                        write_superblock(&mut gate, &current, copy)?;
                    }
                }
            }
        }
        superblocks.replace(current);
        Ok(Recovered { recovery: done, highest, ages })
    }
}

/// Writes a superblock and makes it durable.
fn write_superblock<S: WriteAt>(target: &mut S, superblock: &Superblock, copy: CopyId) -> Result<(), OpenError> {
    target.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy))?;
    target.barrier()?;
    Ok(())
}

/// Opens a region for writing: reads all of its pages with `gather`, and refuses the region if it is not whole.
///
/// The pass presumes that the superblocks are right. A second pass is needed only if they were not.
pub(crate) fn open_whole<S: ReadAt, G: AsMut<Survey>>(
    source: &S,
    mut gather: impl FnMut(&Superblocks) -> G,
) -> Result<(Superblocks, G), OpenError> {
    let mut superblocks = Superblocks::presume(source, None)?;
    require_writable(source, &superblocks)?;
    let mut gathered = gather(&superblocks);
    let census = gathered.as_mut().take_census();
    if !superblocks.confirm(source, census) {
        superblocks = Superblocks::decide(source, None)?;
        require_writable(source, &superblocks)?;
        gathered = gather(&superblocks);
    }
    gathered.as_mut().require_undamaged(&superblocks)?;
    if !superblocks.decision().is_whole() {
        return Err(OpenError::Doubt);
    }
    Ok((superblocks, gathered))
}

impl AsMut<Self> for Survey {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// Refuses a region that must not be written whatever its pages contain.
fn require_writable<S: ReadAt>(source: &S, superblocks: &Superblocks) -> Result<(), OpenError> {
    if superblocks.are_rebuilt() {
        return Err(Superblocks::load(source).map_or_else(|error| error, |_| OpenError::Doubt));
    }
    superblocks.require_readable()?;
    let features = superblocks.current().features();
    if !features.writable() {
        return Err(OpenError::ReadOnlyFeatures(features.unknown().ro_compat));
    }
    superblocks.require_uncontended()?;
    require_whole(source, superblocks)
}

/// Refuses to change a region that is partly past the end of the image.
fn require_whole<S: ReadAt>(source: &S, superblocks: &Superblocks) -> Result<(), OpenError> {
    let geometry = superblocks.geometry();
    let region = geometry.without_tail().size();
    match source.end() {
        Some(image) if image < region => Err(OpenError::Short { region: geometry.size(), image }),
        _ => Ok(()),
    }
}
