//! `gmfs fsck`: checks a region, and repairs it when told to.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Store;
use gmfs_check::repair::FindingKey;
use gmfs_check::{Outcome, Repair, Report, Severity, Verdict, accept_doubtful};
use gmfs_format::Layout;
use gmfs_io::WriteAt;
use gmfs_volume::{Chosen, Stamp};

use crate::ctx::{Ctx, OutputError};
use crate::exit::{CANCELLED, Exit, OPERATIONAL};
use crate::failure::Failure;
use crate::in_use::InUseOk;
use crate::interrupt;
use crate::open::{self, ReadArgs};
use crate::render::json::{self, check};
use crate::render::{WRITER, findings, size};
use crate::repairing::{self, Look, Mode, Repaired};
use crate::report;

/// Status bit: repaired.
const REPAIRED: u8 = 1;
/// Status bit: something is left unrepaired.
const LEFT: u8 = 4;

/// Check a store, and repair a region when told to
///
/// Every metadata page of both copies, every inode, the directory tree, every block descriptor and all counts are
/// checked against each other. Without -n, -p or -y you are asked about each problem on the terminal; without a terminal
/// nothing is written. Of several images each is checked, also if one of them cannot be. The exit status is the sum of 0
/// clean, 1 repaired, 4 left unrepaired, 8 operational error or not checked to the end, 16 wrong usage, 32 cancelled; of
/// several images, each of these that applies to one of them. An unfinished change, which the next writer completes or
/// takes back, is no damage. Stores of pkernfs are repaired too. Those of guestmemfs v1, and what kernels hand over by KHO and
/// LUO, are checked and never written: -p and -y are refused.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs fsck -n region.img
  gmfs fsck -p /dev/mem --region 64M:0x10000000
  gmfs fsck -n --json vmcore | jq .findings
  gmfs fsck -n vmcore --store 2")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Further images, with the same options
    #[arg(value_name = "IMAGE", conflicts_with_all = ["json", "undo", "uuid", "parts", "over"])]
    images: Vec<PathBuf>,
    /// Only look; write nothing
    #[arg(short = 'n', long = "no", visible_alias = "dry-run", group = "mode")]
    look: bool,
    /// Make the repairs that are proven, without asking (also -a)
    #[arg(short = 'p', long = "preen", short_alias = 'a', group = "mode")]
    preen: bool,
    /// Make all repairs, also those that lose something
    #[arg(short = 'y', long = "yes", group = "mode")]
    yes: bool,
    /// Check even if marked clean: always so, taken for fsck(8)'s sake
    #[arg(short = 'f', long = "force")]
    force: bool,
    /// Ask before each repair: always so where nothing else is said, taken for fsck(8)'s sake
    #[arg(short = 'r', hide = true, group = "mode")]
    ask: bool,
    /// Also compare the contents of blocks with their recorded CRCs
    #[arg(long)]
    data: bool,
    /// Record what is overwritten, so that `gmfs undo` can take it back
    #[arg(long, value_name = "FILE", value_parser = super::new_file(), conflicts_with = "look")]
    undo: Option<PathBuf>,
    /// Which region it is, where pages of several are left: as messages name it
    #[arg(long, value_name = "UUID[.BIRTH]")]
    uuid: Option<Chosen>,
    /// Take the doubt off all files that are flagged doubtful: they are as they should be
    #[arg(long, conflicts_with = "look")]
    accept: bool,
    #[command(flatten)]
    in_use: InUseOk,
    /// Show progress from the start, if standard error is a terminal; the descriptor of fsck(8) (-C0, -C 0) is not used
    #[arg(short = 'C', long = "progress", value_name = "FD", allow_hyphen_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    progress: Option<i32>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if args.images.is_empty() {
        return Ok(Exit::Fsck(one(args, &args.image, ctx)?));
    }
    let mut status = 0;
    for path in std::iter::once(&args.image.image).chain(&args.images) {
        let mut image = args.image.clone();
        image.of.image.clone_from(path);
        status |= match one(args, &image, ctx) {
            Ok(status) => status,
            Err(error) if error.is::<OutputError>() => return Err(error),
            Err(error) => {
                ctx.finish()?;
                report::report(&error, ctx);
                if interrupt::asked() { CANCELLED } else { OPERATIONAL }
            }
        };
        if status & CANCELLED != 0 {
            break;
        }
    }
    Ok(Exit::Fsck(status))
}

/// Checks one image.
fn one(args: &Args, image: &ReadArgs, ctx: &mut Ctx) -> Result<u8> {
    let how = Look { data: args.data, progress: args.progress.is_some(), region: args.uuid };
    let mut accepted = None;
    let (place, Repaired { outcome, asked: named }) = match args.mode() {
        Mode::Look => {
            let located = open::locate_any(image, ctx)?;
            if located.is_other() {
                return other(args, &open::open_located(image, located, ctx)?, ctx);
            }
            let report = open::check_region(&located, how, gmfs_check::finding::KEPT_PER_CODE, ctx)?;
            let outcome = Outcome::of_check(report, &located.source);
            (located.place, Repaired { outcome, asked: BTreeSet::new() })
        }
        mode => {
            refuse_no_lock(image)?;
            let done = open::for_repair(image, args.in_use, args.undo.as_deref(), ctx, |of, mut target, watch, ctx| {
                let options = [(args.data, "--data"), (args.uuid.is_some(), "--uuid"), (args.accept, "--accept")];
                refuse_native_options(&options, of.layout())?;
                let repaired = repairing::repair(of, &mut target, how, mode, watch, ctx)?;
                if args.accept {
                    accepted = Some(accept(&mut target)?);
                }
                Ok(repaired)
            });
            match done {
                Ok(done) => done,
                Err(error) => return other_instead(args, image, error, ctx),
            }
        }
    };
    let status = status(&outcome);
    let shown = place.path.display().to_string();
    if args.json {
        json::print(ctx, "fsck", &check::Fsck::new(&place, &outcome, accepted, status))?;
        return Ok(status);
    }
    // What a question has said is on the terminal already.
    let asked = args.mode() == Mode::Ask && std::io::stdout().is_terminal();
    if !asked {
        findings::lost(&outcome.applied, ctx)?;
    }
    if args.mode() != Mode::Look {
        findings::plan(&[], &outcome.refused, ctx)?;
    }
    if !asked {
        findings::plan(&[], &outcome.declined, ctx)?;
    }
    show(&shown, &outcome, &named, ctx)?;
    if let Some(files) = accepted {
        ctx.line(&format!("{shown}: {} accepted", size::count(files, "doubtful file")))?;
    }
    if ctx.verbose {
        more(&outcome, ctx)?;
    }
    if args.mode() == Mode::Look && !args.look {
        tell_nothing_written(&outcome, ctx)?;
    }
    Ok(status)
}

/// Refuses options for native regions, each with whether it was given, where a store has another layout.
pub(crate) fn refuse_native_options(options: &[(bool, &str)], layout: Layout) -> Result<(), Failure> {
    let given = options.iter().find(|(given, _)| *given).filter(|_| layout != Layout::Native);
    let Some((_, option)) = given else { return Ok(()) };
    let failure = Failure::new("usage", format!("{option} is for native regions, and this is a store of {layout}"));
    Err(failure.hint(format!("leave {option} out: `gmfs fsck -n IMAGE` checks the store")))
}

/// Checks a store that is not native.
fn other(args: &Args, store: &Store, ctx: &mut Ctx) -> Result<u8> {
    let layout = store.layout();
    let options = [(args.data, "--data"), (args.uuid.is_some(), "--uuid"), (args.undo.is_some(), "--undo")];
    refuse_native_options(&options, layout)?;
    let outcome = store.check().map(Outcome::of_layout).unwrap_or_default();
    let status = status(&outcome);
    if args.json {
        json::print(ctx, "fsck", &check::Fsck::other(store, &outcome, status))?;
        return Ok(status);
    }
    show(&store.place.path.display().to_string(), &outcome, &BTreeSet::new(), ctx)?;
    if layout == Layout::Pkernfs && args.mode() == Mode::Look && !args.look {
        tell_nothing_written(&outcome, ctx)?;
    }
    Ok(status)
}

/// What could not be opened for repair may be a store that is not native. Where a question would be asked it is checked;
/// a repair is refused.
fn other_instead(args: &Args, image: &ReadArgs, error: anyhow::Error, ctx: &mut Ctx) -> Result<u8> {
    if interrupt::asked() {
        return Err(error);
    }
    let Some(located) = open::locate_any(image, ctx).ok().filter(gmfs::Located::is_other) else { return Err(error) };
    let store = open::open_located(image, located, ctx)?;
    if args.mode() == Mode::Ask {
        return other(args, &store, ctx);
    }
    let message = format!("this is a store of {}: gmfs checks it, and does not repair it", store.layout());
    let hint = "`gmfs fsck -n IMAGE` checks it; `gmfs extract IMAGE / FOLDER` copies the files out";
    Err(Failure::new("layout", message).hint(hint).into())
}

/// Says that nothing was written because nobody can be asked, and what would have been.
fn tell_nothing_written(outcome: &Outcome, ctx: &mut Ctx) -> Result<()> {
    let of = |class: Repair| outcome.count(|code| code.repair() == class);
    if outcome.last.verdict() != Verdict::Damaged {
        return Ok(());
    }
    let how = match (of(Repair::Safe), of(Repair::Lossy)) {
        (0, 0) => "`gmfs explain CODE` says what you can do",
        (_, 0) => "`gmfs fsck -p IMAGE` makes the repairs, which are proven",
        (0, _) => "`gmfs fsck -y IMAGE` makes the repairs, which lose something",
        _ => {
            "`gmfs fsck -p IMAGE` makes the repairs that are proven, `gmfs fsck -y IMAGE` also those that lose something"
        }
    };
    ctx.finish()?;
    ctx.note(&format!("nothing was written: standard input is no terminal to ask on; {how}"));
    Ok(())
}

/// Takes the flag off all files that are doubtful.
fn accept<T: WriteAt>(target: &mut T) -> Result<u64> {
    let stamp = Stamp { now: crate::clock::now(), writer: WRITER.to_owned() };
    accept_doubtful(target, &stamp).context("cannot accept the doubtful files")
}

/// Whoever writes holds the lock.
pub(crate) fn refuse_no_lock(image: &ReadArgs) -> Result<(), Failure> {
    if image.no_lock {
        let failure = Failure::new("usage", "--no-lock is for reading only, and this may write");
        return Err(failure.hint("leave it out; `gmfs fsck -n --no-lock IMAGE` only looks"));
    }
    Ok(())
}

impl Args {
    fn mode(&self) -> Mode {
        // Asking is what is done without any of these.
        let _ = (self.force, self.ask);
        match (self.look, self.preen || self.accept && !self.yes, self.yes) {
            (_, true, _) => Mode::Safe,
            (_, _, true) => Mode::All,
            (false, false, false) if !self.json && std::io::stdin().is_terminal() => Mode::Ask,
            _ => Mode::Look,
        }
    }
}

/// What -v prints besides: how the pages stand, and what is in use.
fn more(outcome: &Outcome, ctx: &mut Ctx) -> Result<()> {
    let pages = &outcome.last.pages;
    for (name, copy) in [("A", pages.a), ("B", pages.b)] {
        let kinds = [
            (copy.good, "good"),
            (copy.recovery, "left by an unfinished change"),
            (copy.stale, "stale"),
            (copy.damaged, "damaged"),
            (copy.absent, "not in the image"),
        ];
        let text: Vec<String> =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        ctx.line(&format!("  pages of metadata in copy {name}: {}", text.join(", ")))?;
    }
    if let Some(used) = in_use(&outcome.last) {
        ctx.line(&format!("  {used}"))?;
    }
    Ok(())
}

/// What of a region is in use, as its superblock has it.
fn in_use(report: &Report) -> Option<String> {
    let found = report.state.as_ref().filter(|found| !found.are_rebuilt())?;
    let (raw, geometry) = (&found.current().raw, found.geometry());
    let free = raw.free_blocks.get();
    Some(format!(
        "in use: {} of {} inodes, {} of {} data blocks",
        raw.used_inodes.get(),
        geometry.inodes(),
        u64::from(geometry.data_blocks()).saturating_sub(free),
        geometry.data_blocks()
    ))
}

/// Prints what was found and what it comes to. `named`: the findings that a question has named, on a terminal.
pub(crate) fn show(image: &str, outcome: &Outcome, named: &BTreeSet<FindingKey>, ctx: &mut Ctx) -> Result<()> {
    if outcome.cancelled {
        ctx.note("cancelled; what was begun is whole, and a further run does the rest");
    }
    let again = !std::io::stdout().is_terminal();
    findings::findings(outcome.found.iter().filter(|found| again || !named.contains(&found.finding.key())), ctx)?;
    findings::rest(outcome, ctx)?;
    findings::summary(image, &outcome.last, outcome.repaired(), ctx)?;
    let first = outcome.found.iter().map(|found| &found.finding).find(|finding| finding.severity() > Severity::Note);
    if let Some(finding) = first.filter(|_| outcome.last.verdict() == Verdict::Damaged) {
        ctx.line(&format!("`gmfs explain {}` says what that means and what a repair does", finding.code()))?;
    }
    Ok(())
}

/// The exit status as fsck(8) has it.
pub(crate) fn status(outcome: &Outcome) -> u8 {
    let mut status = if outcome.repaired() > 0 { REPAIRED } else { 0 };
    status |= match outcome.last.verdict() {
        Verdict::Clean | Verdict::Recovery => 0,
        Verdict::Unknown => OPERATIONAL,
        Verdict::Damaged => LEFT,
    };
    if outcome.cancelled { status | CANCELLED } else { status }
}
