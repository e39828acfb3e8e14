//! `gmfs mkfs --layout pkernfs`: an empty region as the pkernfs driver makes it.

use anyhow::Result;
use gmfs::make::{BlockSize, Target};
use gmfs_format::Layout;
use gmfs_format::pkernfs::{BLOCK_BYTES, INODES, LARGEST};

use super::{Args, warn_outside, words};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::render::json::{self, actions, region};
use crate::render::size;
use crate::render::table::Table;

/// Refuses what a region of pkernfs does not record.
pub(super) fn refuse_options(args: &Args) -> Result<()> {
    let other_block = args.pmd_size.is_some_and(|size| size != BlockSize::M2);
    let options = [
        (!args.label.is_empty(), "--label"),
        (args.uuid.is_some(), "--uuid"),
        (args.inodes.is_some(), "--inodes"),
        (other_block, "--pmd-size"),
        (args.base.is_some(), "--base"),
        (args.populate.is_some(), "--populate"),
    ];
    if let Some((_, option)) = options.into_iter().find(|(given, _)| *given) {
        let message = format!("{option} cannot be given with --layout pkernfs, which has no place for it");
        let hint = format!("leave {option} out: blocks have 2 MiB, and there are {INODES} inodes");
        return Err(Failure::new("usage", message).hint(hint).into());
    }
    Ok(())
}

/// Makes the region, and shows it.
pub(super) fn make(args: &Args, target: &mut Target, ctx: &mut Ctx) -> Result<Exit> {
    let size = target.geometry.size();
    gmfs_format::pkernfs::check_size(size).map_err(|error| words::told(error.into()))?;
    if !args.dry_run {
        target.format_pkernfs(args.undo.as_deref()).map_err(words::told)?;
        warn_outside(target, ctx);
    }
    if size > LARGEST {
        ctx.warn(&format!("the driver can use {} of the region, and no more", size::both(LARGEST)));
    }
    let place = &target.place;
    if args.json {
        let answer = actions::Mkfs {
            image: place.into(),
            store: region::Store::of_layout(Layout::Pkernfs, place.base, size),
            region: region::Span { base: place.base, size },
            layout: Layout::Pkernfs.name().into(),
            uuid: None,
            label: String::new(),
            recorded_base: None,
            geometry: None,
            populated: None,
            dry_run: args.dry_run,
        };
        json::print(ctx, "mkfs", &answer)?;
        return Ok(Exit::Done);
    }
    if ctx.quiet {
        return Ok(Exit::Done);
    }
    let done = if args.dry_run { "would be formatted; nothing was written" } else { "formatted" };
    ctx.line(&printable(&format!("{}: {done}", place.path.display())))?;
    let blocks = size.min(LARGEST).checked_div(BLOCK_BYTES).unwrap_or_default();
    let mut table = Table::bare(&[]);
    table.row(["Layout", Layout::Pkernfs.name()]);
    table.row(["Size", &size::both(size)]);
    table.row(["Blocks", &format!("{blocks} of {}, 2 of them metadata", size::human(BLOCK_BYTES))]);
    table.row(["Inodes", &INODES.to_string()]);
    table.print(ctx)?;
    Ok(Exit::Done)
}
