//! Repairs a region in a copy, which gets its name only after it was repaired.

use std::path::Path;

use anyhow::{Context as _, Result};
use gmfs::Place;
use gmfs::in_use::Watch;
use gmfs_image::{Kind, RegionFile};
use gmfs_io::WriteAt;
use gmfs_volume::Region;

use crate::cmd::save;
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::in_use::InUseOk;
use crate::open::{self, ImageArgs, ReadArgs};
use crate::output::NewFile;
use crate::repairing::Repairable;
use crate::{exit, interrupt};
use gmfs::content::Gaps;
use gmfs::save::in_use;

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
    work: impl FnOnce(Repairable, &mut dyn WriteAt, &mut Watch, &mut Ctx) -> Result<T>,
) -> Result<(Place, T, Gaps)> {
    let cannot = || format!("cannot repair a copy in {}", output.display());
    interrupt::watch(exit::CANCELLED)?;
    require_new(output)?;
    let file = NewFile::begin(output, false, args.files())?;
    let gaps = save::into_file(args, &file, ctx).with_context(cannot)?;
    let copy = ImageArgs::file(file.partial());
    refuse_unproven(&gaps, &file.partial()).with_context(cannot)?;
    // No other process knows the copy yet.
    let nobody = InUseOk { in_use_ok: true };
    let (_, done) = open::for_repair(&copy, nobody, None, ctx, work).with_context(cannot)?;
    let gaps = if gaps.is_empty() { gaps } else { within_files(gaps, &file.partial())? };
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

/// The gaps of a copy that are in blocks that may hold guest memory: a repair does not bring back what is missing there.
fn within_files(gaps: Gaps, copy: &Path) -> Result<Gaps> {
    // If the copy could not be repaired, nothing says what its blocks are.
    Ok(match Region::open(RegionFile::open(copy)?) {
        Ok(region) => in_use(&gaps, &region),
        Err(_) => gaps,
    })
}
