//! `gmfs verify`: whether files still hold what they held when they were sealed.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::diff::Sameness;
use gmfs::verify::{Options, State, Unknown, Verified, What, sameness, verify};
use gmfs_format::model::{Inode, Tree};

use crate::cmd::sealing;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::open::{self, ReadArgs};
use crate::paths;
use crate::render::json::{self, seals};
use crate::render::progress::Progress;
use crate::render::{size, time};
use crate::report;

/// Tell whether files still hold what they held when they were sealed
///
/// The content of each sealed block is read and compared with its seal: of all files, or of those that are named. What
/// differs is listed with its place in the file, its block and its address; memory that a guest has written to since is
/// changed, not damaged. A file of which a part has no seal, is not in the dump, or cannot be read is never called the
/// same. The exit status is 0 if all files are the same, 1 if one is changed, and 2 if none is known to be changed, but
/// not all could be compared.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs verify /dev/dax0.0
  gmfs verify vmcore /vms/a.mem --json | jq .files[].ranges")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Files and directories in the region [default: all files]
    #[arg(value_name = "PATH", value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::region(&args.image, ctx)?;
    let (inodes, listed) = super::inodes(&store, ctx);
    let mut tried = super::Tried::default();
    let wanted = sealing::files(&inodes.tree, &args.paths, &mut tried);
    let wanted: Vec<&Inode> = wanted.into_iter().filter_map(|ino| inodes.tree.get(ino)).collect();
    if !wanted.is_empty() {
        tried.succeeded();
    }
    let failed = tried.end().context("cannot compare")?;
    let progress = std::sync::Mutex::new(Progress::new(ctx, "comparing", 0));
    let show = |done, total| {
        if let Ok(progress) = progress.lock() {
            progress.at_of(done, total);
        }
    };
    let options = Options { threads: sealing::threads(), progress: &show };
    let files = verify(&store, &wanted, &options).map_err(open::told).context("cannot compare")?;
    store.unlock();
    if let Ok(progress) = progress.into_inner() {
        progress.done();
    }
    let result = sameness(&files, !failed && listed == Exit::Done);
    let exit = match result {
        Sameness::Differs => Exit::No,
        Sameness::Unknown | Sameness::Ignored => Exit::Failed,
        Sameness::Same => Exit::Done,
    };
    let sealed_at = store.native().map_err(open::told)?.superblock().raw.sealed.get();
    if ctx.json {
        json::print(ctx, "verify", &seals::Verify::new(&store, &inodes.tree, &files, result))?;
        return Ok(exit);
    }
    for file in &files {
        tell(&store, &inodes.tree, file, ctx.verbose, ctx)?;
    }
    let image = printable(&store.place.path.display().to_string());
    ctx.success(&format!("{image}: {}", summary(&files, sealed_at)))?;
    if exit == Exit::Failed && !failed {
        ctx.finish()?;
        report::tell(&untold().into());
    }
    Ok(exit)
}

/// The error if the answer is neither yes nor no.
fn untold() -> Failure {
    let failure = Failure::new("unknown", "cannot tell of every file whether it is the same as when it was sealed");
    failure.hint("name the files that matter; `gmfs seal IMAGE` seals what has no seal, before a kexec")
}

/// Prints a file, and what is not the same in it.
fn tell(store: &gmfs::Store, tree: &Tree, file: &Verified, verbose: bool, ctx: &mut Ctx) -> Result<()> {
    if file.state == State::Same && !verbose {
        return Ok(());
    }
    let path = tree.path(file.ino).map_or_else(|| format!("inode {}", file.ino), |path| paths::shown(&path));
    let blocks = file.seals.blocks.saturating_add(file.seals.bad);
    let text = match file.state {
        State::Same => format!("the same ({})", size::count(blocks, "block")),
        State::Changed => {
            format!("changed since it was sealed: {} of {blocks} differ", size::count(file.changed, "block"))
        }
        State::Unsealed => "not sealed: there is nothing to compare it with".to_owned(),
        State::Unknown(why) => format!("cannot be compared: {}", because(why)),
        _ => file.state.name().to_owned(),
    };
    ctx.line(&format!("{path}: {text}"))?;
    for range in &file.ranges {
        let bytes = size::range(range.offset, range.offset.saturating_add(range.length));
        let last = u64::from(range.block).saturating_add(range.count).saturating_sub(1);
        let blocks = if range.count == 1 { format!("block {last}") } else { format!("blocks {}-{last}", range.block) };
        let address = store.place.base.saturating_add(range.at);
        let address = match store.physical_base() {
            Some(base) => format!("memory at {}", size::hex(base.saturating_add(range.at))),
            None => format!("offset {}", size::hex(address)),
        };
        ctx.line(&format!("  {bytes} ({blocks}, {address}): {}", what(range.what)))?;
    }
    if file.more_ranges > 0 {
        ctx.line(&format!("  {}, not listed", size::count(file.more_ranges, "more range")))?;
    }
    Ok(())
}

fn because(why: Unknown) -> &'static str {
    match why {
        Unknown::Lost => "blocks of it are lost",
        Unknown::Doubtful => "it is doubtful: a repair could not prove that its blocks are those of the last commit",
        Unknown::Absent => "not all of it is in this image",
        Unknown::Unreadable => "not all of it can be read",
        Unknown::Partly => "not all of its blocks are sealed",
        _ => "it is not known why",
    }
}

/// The words for the state of a range.
fn what(what: What) -> String {
    match what {
        What::Changed => "changed".to_owned(),
        What::Absent(why) => why.to_string(),
        What::Unreadable => "cannot be read".to_owned(),
        What::HardwareError => "in a block with a hardware error".to_owned(),
        What::Unsealed => "not sealed".to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn summary(files: &[Verified], sealed_at: u64) -> String {
    let count = |state: &str| files.iter().filter(|file| file.state.name() == state).count() as u64;
    let mut parts = vec![format!("{} the same", size::count(count("same"), "file"))];
    for (state, word) in [("changed", "changed"), ("unsealed", "not sealed"), ("unknown", "not comparable")] {
        if count(state) > 0 {
            parts.push(format!("{} {word}", count(state)));
        }
    }
    let when = if sealed_at == 0 { String::new() } else { format!("; last sealed {}", time::human(sealed_at)) };
    format!("{}{when}", parts.join(", "))
}
