//! `gmfs unseal`: forgets what files held when they were sealed.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_volume::ChangeError;

use crate::cmd::sealing;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::in_use::InUseOk;
use crate::open::{self, Changing, TargetArgs};
use crate::render::json::{self, seals};
use crate::render::size;

/// Drop the seals of files: what they held when they were sealed is forgotten
///
/// Before a guest runs again in memory that was sealed: what it writes would be reported as changed. Content is neither
/// read nor written.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs unseal /dev/dax0.0 /vms/a.mem")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// Files and directories in the region [default: all files]
    #[arg(value_name = "PATH", value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    // Nothing is freed or overwritten.
    let in_use = InUseOk { in_use_ok: true };
    let done = open::for_change(&args.image, in_use, ctx, |writer| unseal(&args.paths, writer));
    let ((files, tried), changes) = done.context("cannot drop the seals")?;
    let failed = tried.end().context("cannot drop the seals")?;
    if ctx.json {
        let (image, store) = seals::subject(&changes);
        json::print(ctx, "unseal", &seals::Unseal { image, store, dry_run: changes.dry_run, files })?;
    } else {
        let verb = if changes.dry_run { "would lose" } else { "lost" };
        let mut count = 0;
        for file in &files {
            count += u64::from(file.seals_dropped > 0);
            if ctx.verbose {
                let line = format!("{}: {verb} {}", file.shown(), size::count(file.seals_dropped, "seal"));
                ctx.line(&line)?;
            }
        }
        let image = printable(&changes.place.path.display().to_string());
        let written = if changes.dry_run { "; nothing was written" } else { "" };
        ctx.success(&format!("{image}: {} {verb} their seals{written}", size::count(count, "file")))?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn unseal(paths: &[OsString], writer: &mut Changing<'_>) -> Result<(Vec<seals::Unsealed>, super::Tried), ChangeError> {
    let mut tried = super::Tried::default();
    let wanted = sealing::files(writer.tree(), paths, &mut tried);
    let found = writer.seals();
    let mut files = Vec::new();
    for ino in wanted {
        let seals = found.files.get(&ino).cloned().unwrap_or_default();
        let dropped = if seals.sealed == 0 { 0 } else { writer.unseal(ino, &seals)? };
        files.push(seals::Unsealed::new(writer.tree(), ino, dropped));
    }
    Ok((files, tried))
}
