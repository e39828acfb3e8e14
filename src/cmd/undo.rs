//! `gmfs undo`: takes back what `--undo FILE` recorded.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::put_back;
use gmfs_image::undo::{Undo, is_undo_file};
use gmfs_io::{Overlay, Span, WriteAt};
use gmfs_volume::Region;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::open::{self, Opening, WriteArgs};
use crate::render::changes::tell_put_back;
use crate::render::json::{self, actions, region};
use crate::render::size;

/// Take back what a command run with --undo has written
///
/// IMAGE and FILE may be given in either order. Every page is put back as it was, bit for bit. The undo file is checked
/// to its end before anything is written, and the image must be as that command left it, or as an undo that was stopped
/// left it; otherwise nothing is written.
///
/// With -f the image may have changed since. What was written to other pages in the meantime stays as it is; the
/// command first prints which files come, go or get other blocks. There must still be a sign that it is the right
/// image: one of the recorded pages is as it was before the command or after it; or one of the pages that the undo file
/// lists as not written, up to 96 all over the image, is what it was; or there is no such page in the undo file,
/// because the image held nothing else, and the image holds nothing else now.
#[derive(Arguments, Clone, Debug)]
#[command(after_long_help = "Example:
  gmfs fsck -y --undo before.undo region.img
  gmfs undo region.img before.undo")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// The undo file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put back also into an image that has changed since, or from a file whose command was stopped
    #[arg(short = 'f', long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let args = &args.in_order();
    let cannot = || format!("cannot undo in {}", args.image.image.display());
    let undo = Undo::open(&args.file).with_context(cannot)?;
    let opening = open::whole(&args.image, None, ctx);
    let mut opening = opening.map_err(|error| open::about(error, "open", &args.image.image))?;
    if let Some(length) = undo.cut_from(&opening.target) {
        opening = lengthen(args, &undo, opening, length, ctx).with_context(cannot)?;
    }
    let place = opening.place(&args.image);
    let target = &mut opening.target;
    let mut watch = open::watch(&args.image.image, target, args.image.in_use);
    let pages: Vec<Span> = undo.pages().collect();
    watch.refuse_bytes(&*target, &pages).with_context(cannot)?;
    let mut store = region::Store::unknown(place.base, None);
    let mut changes = None;
    if let Ok(before) = Region::open(&*target) {
        let after = undo.over(&*target).with_context(cannot)?;
        let after = Region::open(&after).ok();
        watch.refuse_taking(&before, after.as_ref()).with_context(cannot)?;
        let told = args.force || ctx.json || args.image.dry_run;
        changes = after.as_ref().filter(|_| told).map(|after| put_back::compare(&before, after));
        if told && !ctx.json {
            tell_put_back(changes.as_deref(), ctx)?;
        }
        store = region::Store::new(place.base, after.as_ref().map_or(before.superblock(), Region::superblock));
    }
    let work = |target: &mut dyn WriteAt, _: &mut Ctx| Ok(undo.revert(&mut { target }, args.force)?);
    let written = open::recorded(target, args.image.undo.as_deref(), ctx, work).with_context(cannot)?;
    if ctx.json {
        let changes = changes.as_deref().map(|changes| changes.iter().map(Into::into).collect());
        let (image, dry_run) = ((&place).into(), args.image.dry_run);
        json::print(ctx, "undo", &actions::PutBack { image, store, dry_run, pages_written: written, changes })?;
        return Ok(Exit::Done);
    }
    let shown = args.image.image.display();
    let text = match (written, args.image.dry_run) {
        (0, _) => format!("{shown}: nothing to undo: it is as it was before"),
        (pages, false) => format!("{shown}: {} put back", size::count(pages, "page")),
        (pages, true) => format!("{shown}: {} would be put back; nothing was written", size::count(pages, "page")),
    };
    ctx.success(&printable(&text))?;
    Ok(Exit::Done)
}

impl Args {
    /// IMAGE and FILE in the right order: their contents tell which is the undo file.
    fn in_order(&self) -> Self {
        let mut args = self.clone();
        open::in_order(&mut args.image.of.image, &mut args.file, is_undo_file);
        args
    }
}

/// If the recorded command made the file shorter, gives the file its old length back, once it is certain that it is
/// that file. Until the recorded pages are put back, what was cut off reads as zeros. A dry run does not change the
/// file, but sees it with the old length.
fn lengthen(args: &Args, undo: &Undo, short: Opening, length: u64, ctx: &Ctx) -> Result<Opening> {
    let base = short.target.base();
    let longer = short
        .map(|target| Box::new(Overlay::keeping(target, Vec::new()).reaching(base.saturating_add(length))), length);
    undo.check(&longer.target, args.force)?;
    if args.image.dry_run {
        return Ok(longer);
    }
    drop(longer);
    let file = std::fs::OpenOptions::new().write(true).open(&args.image.image);
    file.and_then(|file| file.set_len(base.saturating_add(length)))
        .with_context(|| format!("cannot lengthen {}", args.image.image.display()))?;
    open::whole(&args.image, None, ctx)
}
