//! `gmfs scan`: all regions in an image.

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::find::{Candidate, DEFAULT_STEP};
use gmfs::survey::{self, Stores};
use gmfs_format::Layout;
use gmfs_volume::locate::Confidence;

use crate::cmd::inspect::image;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::locate;
use crate::open::{ReadArgs, Watching, told};
use crate::paths;
use crate::render::json::{self, actions};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

/// Find all regions and kexec handovers in an image
///
/// Looks for superblocks at every multiple of the step, in the range that --region names or in all of the image; in
/// /dev/mem without --region, in all memory that the kernel calls reserved or persistent. A region is certain if both of
/// its superblocks are there, likely if one is and the other is damaged or not in the image, possible if nothing is where
/// the other one belongs: perhaps a leftover. In dumps, file systems of guestmemfs v1 are found by the device tree of their
/// hand-over, at every multiple of 64 KiB or of a smaller step, and by their inodes: certain if both are there, likely if
/// only one is, possible if the memory is used otherwise now, or if an earlier mount left it. In dumps all memory is also
/// searched for what mainline Linux hands to its next kernel: the device tree of a kexec handover (KHO), and the sessions of
/// the live update orchestrator (LUO). The number of a store is what --store takes. The exit status is 1 if there is none.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs scan vmcore
  gmfs scan disk.img --step 4K")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Distance of the places that are looked at, a multiple of 4K
    #[arg(long, value_name = "SIZE", value_parser = super::parse_size, default_value = "2M")]
    step: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if args.step == 0 || !args.step.is_multiple_of(4096) {
        let message = format!("a step of {} is not possible", size::both(args.step));
        return Err(Failure::new("step", message).hint("superblocks lie at multiples of 4 KiB").into());
    }
    if args.image.store.is_some() || args.image.at.is_some() {
        let failure = Failure::new("usage", "--store and --at choose one store, and scan lists all of them");
        return Err(failure.hint("--region SIZE:BASE is the part of IMAGE that is searched").into());
    }
    let locking = args.image.locking();
    let all = survey::stores(&args.image.spec(), args.step, locking.as_ref(), &Watching::new(ctx)).map_err(told);
    let Stores { about, found, other, .. } =
        all.with_context(|| format!("cannot scan {}", args.image.image.display()))?;
    let exit = if found.is_empty() { Exit::No } else { Exit::Done };
    if args.json {
        let regions = found.iter().map(actions::Region::from).collect();
        json::print(ctx, "scan", &actions::Scan { image: (&about).into(), regions })?;
        return Ok(exit);
    }
    if let Some(line) = image::line(&about) {
        ctx.line(&line)?;
    }
    if found.is_empty() {
        let finer = if args.step > DEFAULT_STEP / 512 { "; a smaller --step looks at more places" } else { "" };
        let other = other.map(|found| format!("; the image holds something else: {}", found.name)).unwrap_or_default();
        ctx.note(&format!("no region was found{finer}{other}"));
        return Ok(exit);
    }
    // The second column is what --region takes, or --at, and exact.
    let mut table = Table::new(&["Store", "Region", "Layout", "UUID", "Label", "Found"])
        .right(&[0])
        .dispensable(&["Layout", "Label", "UUID"]);
    for (n, region) in found.iter().enumerate() {
        let place = match region.layout {
            Layout::Luo => format!("at {:#x}", region.base),
            Layout::Native | Layout::Pkernfs | Layout::Guestmemfs => locate::spelled(region.base, region.size),
        };
        table.styled([
            (&(n + 1).to_string(), Role::Plain),
            (&place, Role::Plain),
            (region.layout.name(), Role::Plain),
            (&region.uuid.map_or_else(String::new, |uuid| uuid.to_string()), Role::Plain),
            (&paths::shown(&region.label), Role::Plain),
            (&found_text(region), role(region.confidence)),
        ]);
    }
    table.print(ctx)?;
    Ok(exit)
}

/// How sure a find is, and whether its size is.
fn found_text(found: &Candidate) -> String {
    let sure = found.confidence.name();
    if let Some(found) = found.guestmemfs.as_deref() {
        let tree = match found.trees.as_slice() {
            [] => "no device tree".to_owned(),
            trees => format!("device tree at {}", trees.iter().map(|at| size::hex(*at)).collect::<Vec<_>>().join(", ")),
        };
        let stale = if found.stale { "; left by an earlier mount" } else { "" };
        return format!("{sure}; inodes at {:#x}, {tree}{stale}", found.parts.inodes);
    }
    if let Some(detail) = &found.detail {
        return format!("{sure}; {detail}");
    }
    if found.size_recorded { sure.to_owned() } else { format!("{sure}; size not recorded, this much is in use") }
}

const fn role(confidence: Confidence) -> Role {
    match confidence {
        Confidence::Certain => Role::Good,
        Confidence::Likely => Role::Warn,
        Confidence::Possible => Role::Dim,
    }
}
