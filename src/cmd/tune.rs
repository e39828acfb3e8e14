//! `gmfs tune`: what a region as a whole is called.

use anyhow::{Context as _, Result};
use clap::Args as Arguments;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::in_use::InUseOk;
use crate::open::{self, TargetArgs};
use crate::render::json::{self, actions, space};

/// Change the label of a region
///
/// The label is in both superblocks, and one commit changes it in both. The UUID cannot be changed: the checksum of every
/// page of metadata includes it, so that a region with another UUID is another region. A crash in the middle of such a
/// change would leave the pages of two regions in one place, and neither of them could be trusted. `gmfs mkfs --uuid` makes
/// a new region with the UUID that is wanted, and `gmfs extract` and `gmfs put` move the files.
///
/// A region has nothing else that could be tuned: the format defines no features, the flags of its state follow from commits
/// and seals, and the base that it records is where it was when it was made.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs tune region.img --label guests")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// The new label, up to 63 bytes; an empty one removes it
    #[arg(short = 'L', long, required = true)]
    label: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let image = printable(&args.image.image.display().to_string());
    let changed = open::for_change(&args.image, InUseOk { in_use_ok: false }, ctx, |writer| {
        let before = writer.superblock().label().to_vec();
        writer.set_label(&args.label)?;
        Ok(before)
    });
    let (before, changes) = changed.with_context(|| format!("cannot change the label of the region in {image}"))?;
    if args.json {
        let changed = actions::Changed::new(&changes, Vec::new());
        json::print(ctx, "tune", &space::Tuned::new(changed, &before, &args.label))?;
    } else if changes.dry_run {
        let before = crate::paths::shown(&before);
        let label = crate::paths::shown(args.label.as_bytes());
        ctx.line(&format!("{image}: the label would be '{label}' instead of '{before}'; nothing was written"))?;
    }
    Ok(Exit::Done)
}
