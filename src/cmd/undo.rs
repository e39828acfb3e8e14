//! `gmfs undo`: takes back what `--undo FILE` recorded.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_image::undo::Undo;
use gmfs_io::Span;
use gmfs_volume::Region;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::open::{self, WriteArgs};
use crate::render::size;
use crate::taking_back;

/// Take back what a command run with --undo has written
///
/// Every page is put back as it was, bit for bit. The undo file is checked to its end before anything is written, and the
/// image must be as that command left it, or as an undo that was stopped left it; otherwise nothing is written.
///
/// With -f the image may have changed since. What was written to other pages in the meantime stays as it is; which files
/// come, go or get other blocks is said first. There must
/// still be a sign that it is the right image: one of the recorded pages is as it was before the command or after it; or
/// one of the pages that the undo file lists as not written, up to 96 all over the image, is what it was; or there is no
/// such page in the undo file, because the image held nothing else, and the image holds nothing else now.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs fsck -y --undo before.undo region.img
  gmfs undo before.undo region.img")]
pub(crate) struct Args {
    /// The undo file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    image: WriteArgs,
    /// Put back also into an image that has changed since, or from a file whose command was stopped
    #[arg(short = 'f', long)]
    force: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let cannot = || format!("cannot undo in {}", args.image.image.display());
    let undo = Undo::open(&args.file).with_context(cannot)?;
    let mut target = open::whole_for_writing(&args.image, ctx)?;
    let mut watch = open::watch(&args.image, &target, args.image.in_use);
    let pages: Vec<Span> = undo.pages().collect();
    watch.refuse_bytes(&target, &pages).with_context(cannot)?;
    if let Ok(before) = Region::open(&target) {
        let after = undo.over(&target).with_context(cannot)?;
        let after = Region::open(&after).ok();
        watch.refuse_taking(&before, after.as_ref()).with_context(cannot)?;
        if args.force {
            taking_back::tell(&before, after.as_ref(), ctx)?;
        }
    }
    let written = undo.revert(&mut target, args.force).with_context(cannot)?;
    let shown = args.image.image.display();
    let text = match written {
        0 => format!("{shown}: nothing to undo: it is as it was before"),
        pages => format!("{shown}: {} put back", size::count(pages, "page")),
    };
    ctx.success(&printable(&text))?;
    Ok(Exit::Done)
}
