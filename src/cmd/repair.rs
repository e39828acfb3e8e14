//! `gmfs repair`: plans repairs and applies them, in place or in a copy.

mod in_copy;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Place;
use gmfs::content::Gaps;
use gmfs_check::repair::KEPT_FOR_REPAIR;
use gmfs_check::{Outcome, Plan, Policy, plan, release_reserved};
use gmfs_format::Layout;
use gmfs_io::WriteAt;
use gmfs_volume::{Chosen, Stamp};

use crate::cmd::fsck;
use crate::ctx::Ctx;
use crate::exit::{Exit, OPERATIONAL};
use crate::failure::Failure;
use crate::in_use::InUseOk;
use crate::open::{self, ReadArgs};
use crate::render::json::{self, check};
use crate::render::{WRITER, findings, size};
use crate::repairing::{self, Look, Mode, Repairable};
use gmfs::in_use::Watch;

/// Plan repairs and apply them, in place or in a copy
///
/// Makes every repair for which another copy or the rest of the metadata proves what is right; with -y also those that
/// lose something. No repair marks a block free that may hold guest memory: such blocks are reserved, until
/// --release-lost makes them free. The exit status is that of fsck. With -o, it also includes 8 if IMAGE does not hold all
/// memory of the files: what is missing is a hole in FILE.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs repair -n region.img
  gmfs repair -y --undo before.undo region.img
  gmfs repair -y vmcore -o repaired.img")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Print the plan as a list of edits, and write nothing
    #[arg(short = 'n', long, visible_alias = "plan")]
    dry_run: bool,
    /// Also make repairs that lose something
    #[arg(short = 'y', long = "yes")]
    yes: bool,
    /// Leave IMAGE as it is; copy the region into FILE and repair it there
    #[arg(short = 'o', long, value_name = "FILE", value_parser = super::new_file(), conflicts_with = "undo")]
    output: Option<PathBuf>,
    /// Record what is overwritten, so that `gmfs undo` can take it back
    #[arg(long, value_name = "FILE", value_parser = super::new_file(), conflicts_with = "dry_run")]
    undo: Option<PathBuf>,
    #[command(flatten)]
    in_use: InUseOk,
    /// Free the blocks that repairs have reserved: what they hold is lost
    #[arg(long, conflicts_with = "dry_run")]
    release_lost: bool,
    /// Which region it is, where pages of several are left: as messages name it
    #[arg(long, value_name = "UUID[.BIRTH]")]
    uuid: Option<Chosen>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    const fn look(&self) -> Look {
        Look { data: false, progress: false, region: self.uuid }
    }
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if args.dry_run {
        return show_plan(args, ctx);
    }
    let mode = if args.yes { Mode::All } else { Mode::Safe };
    let release = args.release_lost;
    let work = |of: Repairable, target: &mut dyn WriteAt, watch: &mut Watch, ctx: &mut Ctx| {
        let mut target = target;
        refuse_native_options(args, of.layout())?;
        let outcome = repairing::repair(of, &mut target, args.look(), mode, watch, ctx)?.outcome;
        let released = if release { Some(release_lost(&mut target, watch)?) } else { None };
        anyhow::Ok((outcome, released))
    };
    let (place, (outcome, released), gaps) = match &args.output {
        Some(output) => in_copy::in_copy(&args.image, output, ctx, work)?,
        None => {
            fsck::refuse_no_lock(&args.image)?;
            let (place, done) = open::for_repair(&args.image, args.in_use, args.undo.as_deref(), ctx, work)?;
            (place, done, Gaps::default())
        }
    };
    let shown = place.path.display().to_string();
    let incomplete = if gaps.is_empty() { 0 } else { OPERATIONAL };
    let status = fsck::status(&outcome) | incomplete;
    if !gaps.is_empty() {
        let lost = size::human(gaps.bytes());
        ctx.warn(&format!("{shown}: {lost} in blocks that hold guest memory are holes, for IMAGE does not hold them"));
    }
    if args.json {
        let fsck = check::Fsck::new(&place, &outcome, None, status);
        let answer = check::Repair::new(fsck, &place, &outcome.applied, &outcome.refused, false);
        json::print(ctx, "repair", &answer.more_edits(outcome.more_applied).released(released).absent(&gaps))?;
        return Ok(Exit::Fsck(status));
    }
    findings::plan(&outcome.applied, &outcome.refused, ctx)?;
    if outcome.more_applied > 0 {
        ctx.line(&format!("{}, not listed", size::count(outcome.more_applied, "more edit")))?;
    }
    fsck::show(&shown, &outcome, &BTreeSet::new(), ctx)?;
    if let Some(blocks) = released {
        ctx.success(&format!("{shown}: {} given back", size::count(blocks, "reserved block")))?;
    }
    Ok(Exit::Fsck(status))
}

/// Refuses options for native regions where a store has another layout.
fn refuse_native_options(args: &Args, layout: Layout) -> Result<(), Failure> {
    fsck::refuse_native_options(&[(args.uuid.is_some(), "--uuid"), (args.release_lost, "--release-lost")], layout)
}

/// Makes reserved blocks free.
fn release_lost<T: WriteAt>(target: &mut T, watch: &mut Watch) -> Result<u64> {
    watch.refuse_release(target).context("cannot give the reserved blocks back")?;
    let stamp = Stamp { now: crate::clock::now(), writer: WRITER.to_owned() };
    release_reserved(target, &stamp).context("cannot give the reserved blocks back")
}

/// Prints what would be done.
fn show_plan(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if let Some(output) = &args.output {
        in_copy::require_new(output)?;
    }
    let located = open::locate(&args.image, ctx)?;
    let policy = if args.yes { Policy::Lossy } else { Policy::Safe };
    if located.layout_if_other() == Some(Layout::Pkernfs) && located.is_other() {
        refuse_native_options(args, Layout::Pkernfs)?;
        let store = open::open_located(&args.image, located, ctx)?;
        let Some((checked, planned)) = store.plan_pkernfs(policy) else { return Ok(Exit::Done) };
        return tell_plan(args, &store.place, &Outcome::of_layout(checked), &planned, ctx);
    }
    let report = open::check_region(&located, args.look(), KEPT_FOR_REPAIR, ctx)?;
    let planned = plan(&located.source, &report, policy)?;
    let outcome = Outcome::of_check(report, &located.source);
    tell_plan(args, &located.place, &outcome, &planned, ctx)
}

fn tell_plan(args: &Args, place: &Place, outcome: &Outcome, planned: &Plan, ctx: &mut Ctx) -> Result<Exit> {
    let status = fsck::status(outcome);
    if args.json {
        let fsck = check::Fsck::new(place, outcome, None, status);
        let answer = check::Repair::new(fsck, place, &planned.edits, &planned.refused, planned.more);
        let output = args.output.as_ref().map(|output| output.to_string_lossy().into_owned());
        json::print(ctx, "repair", &answer.planned(output))?;
        return Ok(Exit::Fsck(status));
    }
    findings::plan(&planned.edits, &planned.refused, ctx)?;
    if planned.more {
        ctx.line("more is planned once these edits are made")?;
    }
    let rest: u64 = outcome.more.values().map(|more| more.found).sum();
    if rest > 0 {
        ctx.line(&format!(
            "{} more are not in this list; a repair takes them in its further rounds",
            size::count(rest, "finding")
        ))?;
    }
    let image = place.path.display().to_string();
    findings::summary(&image, &outcome.last, 0, ctx)?;
    if let Some(output) = &args.output {
        let output = crate::failure::printable(&output.display().to_string());
        ctx.line(&format!("{output} would be made, a copy of the region that is repaired so; nothing was written"))?;
    }
    Ok(Exit::Fsck(status))
}
