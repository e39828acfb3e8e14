//! `gmfs seal`: records what files hold, so that `gmfs verify` can tell later.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::seal::{Ended, How};
use gmfs_volume::ChangeError;

use crate::cmd::sealing;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::in_use::InUseOk;
use crate::interrupt;
use crate::open::{self, Changing, TargetArgs};
use crate::render::json::{self, seals};
use crate::render::progress::Progress;
use crate::render::size;
use crate::report;

/// Record what files hold, so that `gmfs verify` can tell later whether they still do
///
/// The command records a checksum of the content of each block: of all files, or of those that are named; a directory
/// stands for all files below it. Each file is one commit: if the command is interrupted, whole files are sealed, and
/// the same command goes on with the rest. A file that is sealed already is left as it is, unless --again says
/// otherwise. A command that changes the content of a file drops the seals of what it changes. A guest that runs in the
/// memory drops no seals, so that `gmfs verify` reports what the guest wrote as changed. The exit status is 1 if a part
/// of a file could not be sealed.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs seal /dev/dax0.0
  gmfs seal region.img --again /vms/a.mem")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// Files and directories in the region [default: all files]
    #[arg(value_name = "PATH", value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Seal files again that are sealed already: what they hold now counts from here on
    #[arg(long)]
    again: bool,
    /// Note also which blocks are all zero
    #[arg(long)]
    zero: bool,
    /// Seal files even if a process has them mapped
    ///
    /// What that process writes from now on is reported as changed, and what it writes meanwhile may be.
    #[arg(long)]
    in_use_ok: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was done.
struct Done {
    files: Vec<seals::Sealed>,
    tried: super::Tried,
    interrupted: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    interrupt::watch(sealing::KILLED)?;
    let progress = Progress::new(ctx, "sealing", 0);
    let in_use = InUseOk { in_use_ok: args.in_use_ok };
    let sealed = open::for_change(&args.image, in_use, ctx, |writer| Ok(seal(args, writer, &progress)));
    let (Done { files, tried, interrupted }, changes) = sealed.context("cannot seal")?;
    progress.done();
    let failed = tried.end().context("cannot seal")?;
    let partly = files.iter().any(|file| file.blocks_unsealed > 0);
    if ctx.json {
        let (image, store) = seals::subject(&changes);
        json::print(ctx, "seal", &seals::Seal { image, store, dry_run: changes.dry_run, interrupted, files })?;
    } else {
        let image = printable(&changes.place.path.display().to_string());
        tell(&image, &files, ctx.verbose, changes.dry_run, ctx)?;
        if interrupted {
            let failure = Failure::new("interrupted", "interrupted: not all files are sealed");
            ctx.finish()?;
            report::tell(&failure.hint("the same command goes on with the rest").into());
        }
    }
    Ok(match (failed || interrupted, partly) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::No,
        (false, false) => Exit::Done,
    })
}

/// Seals file by file.
fn seal(args: &Args, writer: &mut Changing<'_>, progress: &Progress) -> Done {
    let mut tried = super::Tried::default();
    let wanted = sealing::files(writer.tree(), &args.paths, &mut tried);
    let threads = sealing::threads();
    let (show, go_on) = (|read, total| progress.at_of(read, total), || !interrupt::asked());
    let dry_run = args.image.dry_run;
    let how = How { again: args.again, zero: args.zero, dry_run, threads, progress: &show, go_on: &go_on };
    let mut files = Vec::new();
    let ended = gmfs::seal::seal(writer, &wanted, &how, |writer, file| {
        let file = file.map(|file| seals::Sealed::new(writer.tree(), &file, args.zero));
        files.extend(tried.add(file.map_err(explained)));
    });
    Done { files, tried, interrupted: ended == Ended::Interrupted }
}

/// Adds what to do about memory in use. Sealing it does no harm, but what the process writes later is not what was
/// sealed.
fn explained(error: ChangeError) -> anyhow::Error {
    match error {
        ChangeError::InUse { .. } => {
            let hint =
                "end that process first: what it writes is not what was sealed; --in-use-ok seals what is there now";
            Failure::new("mapped", error.to_string()).hint(hint).into()
        }
        error => error.into(),
    }
}

fn tell(image: &str, files: &[seals::Sealed], verbose: bool, dry_run: bool, ctx: &mut Ctx) -> Result<()> {
    let count = |state: &str| files.iter().filter(|file| file.state == state).count() as u64;
    for file in files {
        let blocks = size::count(file.blocks_sealed, "block");
        let left = match file.blocks_unsealed {
            0 => String::new(),
            left => format!(", and {} cannot be read", size::count(left, "block")),
        };
        let text = match file.state.as_ref() {
            "sealed-before" => "is sealed already (--again seals it again)".to_owned(),
            "empty" => "has no blocks to seal".to_owned(),
            _ if dry_run => format!("would be sealed: {blocks}{left}"),
            _ => format!("sealed: {blocks}{left}"),
        };
        if verbose || file.blocks_unsealed > 0 {
            ctx.line(&format!("{}: {text}", file.shown()))?;
        }
    }
    let before = match count("sealed-before") {
        0 => String::new(),
        before => format!(", {before} before (--again seals them again)"),
    };
    let files = size::count(count("sealed") + count("partly"), "file");
    let text = if dry_run {
        format!("{files} would be sealed{before}; nothing was written")
    } else {
        format!("{files} sealed{before}")
    };
    Ok(ctx.success(&format!("{image}: {text}"))?)
}
