//! Repairs a region in a copy, which gets its name only after it was repaired.

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

/// Copies the region into a new file, repairs the copy, and then gives it its name: a file with that name was repaired.
pub(super) fn in_copy<T>(
    args: &ReadArgs,
    output: &Path,
    ctx: &mut Ctx,
    work: impl FnOnce(&mut dyn WriteAt, &mut Watch, &mut Ctx) -> Result<T>,
) -> Result<(Place, T, Gaps)> {
    let cannot = || format!("cannot repair a copy in {}", output.display());
    interrupt::watch(exit::CANCELLED)?;
    require_new(output)?;
    let file = NewFile::begin(output, false, args.files())?;
    let gaps = save::into_file(args, &file, ctx).with_context(cannot)?;
    let copy = ImageArgs::file(file.partial());
    // No other process knows the copy yet.
    let nobody = InUseOk { in_use_ok: true };
    let (_, done) = open::for_repair(&copy, nobody, None, ctx, work).with_context(cannot)?;
    let gaps = within_files(gaps, &file.partial())?;
    file.keep()?;
    Ok((Place { kind: Kind::File, path: output.to_owned(), base: 0 }, done, gaps))
}

/// The gaps of a copy that are in blocks that may hold guest memory: a repair does not bring back what is missing
/// there.
fn within_files(gaps: Gaps, copy: &Path) -> Result<Gaps> {
    let mut kept = Gaps::default();
    if gaps.is_empty() {
        return Ok(kept);
    }
    // If the copy could not be repaired, nothing says what its blocks are.
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
