//! A region that is repaired in a copy, which gets its name when it was repaired.

use std::path::Path;

use anyhow::{Context as _, Result};
use gmfs::Place;
use gmfs::in_use::Watch;
use gmfs_format::native::tables::BlockState;
use gmfs_image::{Kind, RegionFile};
use gmfs_io::{Span, WriteAt};
use gmfs_volume::Region;

use crate::cmd::save;
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::in_use::InUseOk;
use crate::open::{self, ImageArgs, ReadArgs};
use crate::output::NewFile;
use crate::repairing::Repairable;
use crate::{exit, interrupt};
use gmfs::content::{Gap, Gaps};

/// Refuses to repair a copy in a file that exists.
pub(super) fn require_new(output: &Path) -> Result<()> {
    if output.symlink_metadata().is_ok() {
        let failure = Failure::new("exists", format!("{} exists already", output.display()));
        return Err(failure.hint("name a new file: the copy replaces none"))
            .with_context(|| format!("cannot repair a copy in {}", output.display()));
    }
    Ok(())
}

/// Copies the region into a new file, repairs that, and gives it its name: what has the name was repaired.
pub(super) fn in_copy<T>(
    args: &ReadArgs,
    output: &Path,
    ctx: &mut Ctx,
    work: impl FnOnce(Repairable, &mut dyn WriteAt, &mut Watch, &mut Ctx) -> Result<T>,
) -> Result<(Place, T, Gaps)> {
    let cannot = || format!("cannot repair a copy in {}", output.display());
    interrupt::watch(exit::CANCELLED)?;
    require_new(output)?;
    let file = NewFile::begin(output, false, args.files())?;
    let gaps = save::into_file(args, &file, ctx).with_context(cannot)?;
    let copy = ImageArgs::file(file.partial());
    refuse_unproven(&gaps, &file.partial()).with_context(cannot)?;
    // Nobody else knows the copy yet.
    let nobody = InUseOk { in_use_ok: true };
    let (_, done) = open::for_repair(&copy, nobody, None, ctx, work).with_context(cannot)?;
    let gaps = within_files(gaps, &file.partial())?;
    file.keep()?;
    Ok((Place { kind: Kind::File, path: output.to_owned(), base: 0 }, done, gaps))
}

/// Refuses a copy of a store that has no seals, if parts of it are missing: there they would count as zeros.
fn refuse_unproven(gaps: &Gaps, copy: &Path) -> Result<()> {
    if gaps.is_empty() || gmfs::store::other_layout(&RegionFile::open(copy)?).is_none() {
        return Ok(());
    }
    let message = "the image lacks parts of the store, and nothing in it proves what else is right";
    let hint = "`gmfs extract IMAGE / FOLDER` copies the files out, and names what is missing";
    Err(Failure::new("absent", message).hint(hint).into())
}

/// Those of a copy's gaps that lie in blocks that may hold guest memory: what a repair does not bring back.
fn within_files(gaps: Gaps, copy: &Path) -> Result<Gaps> {
    let mut kept = Gaps::default();
    if gaps.is_empty() {
        return Ok(kept);
    }
    // A copy that could not be repaired has nothing to tell what its blocks are.
    let Ok(region) = Region::open(RegionFile::open(copy)?) else { return Ok(gaps) };
    let geometry = region.geometry();
    let mut rest = gaps.iter().peekable();
    region.descriptors(|block, entry| {
        let start = geometry.block_offset(block);
        let end = start.saturating_add(geometry.block_bytes());
        if entry.state() == Some(BlockState::Free) {
            return;
        }
        while rest.next_if(|gap| gap.span.end() <= start).is_some() {}
        let mut ahead = rest.clone();
        while let Some(gap) = ahead.next_if(|gap| gap.span.offset < end) {
            let from = gap.span.offset.max(start);
            let span = Span::new(from, gap.span.end().min(end).saturating_sub(from));
            kept.add(Gap { span, at: Some(from), why: gap.why });
        }
    });
    Ok(kept)
}
