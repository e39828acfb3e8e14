//! `gmfs restore`: puts a metadata dump back.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::put_back::{self, Refused};
use gmfs_image::RegionFile;
use gmfs_image::metadump::{MetaDump, is_metadump};
use gmfs_io::WriteAt;
use gmfs_volume::Region;
use gmfs_volume::rebuild::load_or_rebuild;
use gmfs_volume::restore::Restore;

use crate::ctx::{Ctx, OutputError};
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::open::{self, WriteArgs};
use crate::prompt::{self, Answer};
use crate::render::changes::tell_put_back;
use crate::render::json::{self, actions, region};
use crate::render::size;

/// Put the metadata of a dump back
///
/// IMAGE and FILE may be given in either order. The command first prints what has changed since the dump was made, and
/// asks. The contents of files are not in a dump: a file that was changed since gets its old blocks back, with whatever
/// is in them now. If the command is stopped in the middle, running it again completes it.
#[derive(Arguments, Clone, Debug)]
#[command(after_long_help = "Example:
  gmfs dump region.img -o region.meta
  gmfs restore --undo before.undo region.img region.meta")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// The metadata dump
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put it back also where there is no region, or another one
    #[arg(short, long)]
    force: bool,
    /// Do not ask
    #[arg(short = 'y', long = "yes")]
    yes: bool,
    /// Print JSON; takes -y or -n
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let args = &args.in_order();
    let cannot = || format!("cannot restore {}", args.file.display());
    let dump = MetaDump::parse(RegionFile::open(&args.file)?).with_context(cannot)?;
    if dump.facts().obfuscated {
        let failure = Failure::new("obfuscated", "its names are obfuscated, so it is not what the region was");
        return Err(failure).with_context(cannot);
    }
    let superblocks = load_or_rebuild(&dump).with_context(cannot)?;
    let restore = Restore::new(&dump, &superblocks, crate::random::birth()?);
    // The region stays locked from here to the end, so what is compared is what is overwritten.
    let opening = open::whole(&args.image, Some(superblocks.geometry()), ctx);
    let mut opening = opening.map_err(|error| open::about(error, "open", &args.image.image))?;
    let place = opening.place(&args.image);
    let target = &mut opening.target;
    let mut watch = open::watch(&args.image.image, target, args.image.in_use);
    let there = put_back::region_there(&superblocks, &*target, args.force).map_err(told).with_context(cannot)?;
    let pages = restore.differing(&*target).with_context(cannot)?;
    let changes = match there {
        Some(there) => {
            let after = Region::with(&dump, load_or_rebuild(&dump)?);
            Some(put_back::compare(&Region::with(&*target, there), &after))
        }
        None => None,
    };
    let mut answer = actions::PutBack {
        image: (&place).into(),
        store: region::Store::new(place.base, superblocks.current()),
        dry_run: args.image.dry_run,
        pages_written: 0,
        changes: changes.as_deref().map(|changes| changes.iter().map(Into::into).collect()),
    };
    if pages > 0 {
        if !ctx.json {
            ctx.line(&format!("{} have changed since the dump was made", size::count(pages, "page")))?;
            if changes.is_some() {
                tell_put_back(changes.as_deref(), ctx)?;
            }
            ctx.writer().flush().map_err(OutputError::from)?;
        }
        require_yes(args, ctx).with_context(cannot)?;
        // A process may have mapped what is restored while the question was open.
        watch.refuse_bytes(&*target, &put_back::written(&superblocks)).with_context(cannot)?;
        if let Ok(before) = load_or_rebuild(&*target) {
            let after = Region::with(&dump, load_or_rebuild(&dump)?);
            watch.refuse_taking(&Region::with(&*target, before), Some(&after)).with_context(cannot)?;
        }
        let work = |target: &mut dyn WriteAt, _: &mut Ctx| Ok(restore.put_back(target)?);
        answer.pages_written = open::recorded(target, args.image.undo.as_deref(), ctx, work).with_context(cannot)?;
    }
    if ctx.json {
        json::print(ctx, "restore", &answer)?;
        return Ok(Exit::Done);
    }
    if pages == 0 {
        ctx.success("nothing has changed since the dump was made")?;
        return Ok(Exit::Done);
    }
    let shown = args.image.image.display();
    let (is, end) = if args.image.dry_run { ("would be", "; nothing was written") } else { ("is", "") };
    ctx.success(&printable(&format!("{shown}: the metadata {is} what it was in the dump{end}")))?;
    Ok(Exit::Done)
}

impl Args {
    /// IMAGE and FILE in the right order: their contents tell which is the metadata dump.
    fn in_order(&self) -> Self {
        let mut args = self.clone();
        open::in_order(&mut args.image.of.image, &mut args.file, is_metadump);
        args
    }
}

/// Refuses to write unless somebody said yes, on the command line or now. A dry run needs none.
fn require_yes(args: &Args, ctx: &Ctx) -> Result<()> {
    if args.yes || args.image.dry_run || !ctx.json && agreed()? {
        return Ok(());
    }
    let failure = Failure::new("not-confirmed", "nothing was written: nobody said yes");
    Err(failure.hint("-y says it").into())
}

/// The error for metadata that is not put back, with what to do next.
fn told(refused: Refused) -> Failure {
    const FORCE: &str = "-f puts it back nevertheless";
    match refused {
        Refused::Short { size } => {
            Failure::new("short", format!("the dump is of a region of {}, which IMAGE cannot hold", size::both(size)))
        }
        Refused::NoRegion(error) => Failure::new("no-region", error.to_string()).hint(FORCE),
        Refused::OtherRegion { dumped, there } => {
            let message = format!("the dump is of region {dumped}, IMAGE holds {there}, or one laid out otherwise");
            Failure::new("other-region", message).hint(FORCE)
        }
        other => Failure::new("restore", other.to_string()),
    }
}

/// Asks on a terminal; elsewhere nobody can say yes.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let answer = prompt::ask("Put the metadata back? [y]es, [n]o: ")?;
    Ok(matches!(answer, Answer::Line(line) if matches!(line.as_str(), "y" | "yes")))
}
