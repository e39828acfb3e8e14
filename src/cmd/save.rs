//! `gmfs save`: copies the region out of any image.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::content::{Gap, Gaps};
use gmfs::copy::Copied;
use gmfs::save;
use gmfs::{Located, Store};
use gmfs_format::model::Piece;
use gmfs_io::Span;

use crate::cmd::dump::out::{is_standard, refuse_terminal};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::failure::printable;
use crate::open::{self, ReadArgs};
use crate::output::{self, MakeArgs, NewFile};
use crate::render::json::{self, actions};
use crate::render::progress::Progress;
use crate::render::size;
use crate::stdout;

/// Copy the region, byte for byte, into a region file
///
/// This rescues a region from a capture kernel or a dump. It works on any range that --region names, formatted or not.
/// Holes stay holes, and pages of zeros become holes. But if IMAGE is a region file on the filesystem of FILE, the
/// kernel copies it, or shares its blocks if the filesystem can, and pages of zeros are copied. Ranges that the image
/// does not hold, or that cannot be read, become holes too and are listed; the exit status is 1 then. FILE is called
/// FILE.partial until it is complete; after an error or an interrupt nothing is left of it. With - for FILE the region
/// goes to standard output, which must be a file that can have holes if the image does not hold all of the region. A kexec
/// handover is all over memory, so FILE becomes an ELF core with what it consists of, at its addresses.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs save vmcore -o region.img
  gmfs save part.1 --part part.2 --part part.3 -o region.img
  gmfs save /dev/mem --region 64G:0x1000000000 -o /mnt/region.img
  gmfs save vmcore -o - | zstd > region.img.zst")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    #[command(flatten)]
    make: MakeArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let cannot = || format!("cannot save the region in {}", args.image.image.display());
    if is_standard(&args.make.output) {
        return to_standard(args, ctx).with_context(cannot);
    }
    let located = open::locate_any(&args.image, ctx)?;
    if located.handover.is_some() {
        let store = open::open_located(&args.image, located, ctx)?;
        return handover(args, &store, ctx)
            .with_context(|| format!("cannot save the hand-over in {}", args.image.image.display()));
    }
    let source = cut(&args.image, located).with_context(cannot)?;
    let length = source.source.size();
    if args.make.dry_run {
        return planned(args, &source, ctx).with_context(cannot);
    }
    let file = NewFile::begin(&args.make.output, args.make.force, args.image.files()).with_context(cannot)?;
    let Copied { gaps, written, .. } = copy(&source, &file, ctx)
        .and_then(|done| file.keep().map(|()| done))
        .with_context(|| unfinished(&args.make.output))?;
    let exit = if gaps.is_empty() { Exit::Done } else { Exit::No };
    if args.json {
        json::print(ctx, "save", &answer(args, &source, &gaps, Some(written)))?;
        return Ok(exit);
    }
    let (whole, data) = (size::both(length), size::human(written));
    ctx.success(&printable(&format!("{}: {whole} saved, {data} of it data", args.make.output.display())))?;
    tell(&gaps, ctx);
    Ok(exit)
}

/// Saves what a hand-over consists of as an ELF core.
fn handover(args: &Args, store: &Store, ctx: &mut Ctx) -> Result<Exit> {
    let Some(luo) = store.luo() else { return Ok(Exit::Done) };
    let (length, known) = save::handover_planned(store, luo);
    let done = if args.make.dry_run {
        output::check(&args.make.output, args.make.force, args.image.files())?;
        None
    } else {
        let file = NewFile::begin(&args.make.output, args.make.force, args.image.files())?;
        let progress = Progress::new(ctx, "saving", length);
        let copied = save::handover(store, luo, file.file(), &progress).map_err(output::copying);
        progress.done();
        let copied = copied.with_context(|| unfinished(&args.make.output))?;
        file.keep()?;
        Some(copied)
    };
    let gaps = done.as_ref().map_or(&known, |copied| &copied.gaps);
    let exit = if gaps.is_empty() { Exit::Done } else { Exit::No };
    if args.json {
        let written = done.as_ref().map(|copied| copied.written);
        let output = args.make.output.to_string_lossy().into_owned();
        let answer = actions::Save::handover(store, length, output, gaps, written);
        json::print(ctx, "save", &answer)?;
        return Ok(exit);
    }
    let (to, whole) = (args.make.output.display(), size::both(length));
    match &done {
        Some(copied) => {
            let text =
                format!("{to}: {whole} of memory saved as an ELF core, {} of it data", size::human(copied.written));
            ctx.success(&printable(&text))?;
        }
        None => ctx.line(&printable(&format!("{to}: {whole} of memory would be saved; nothing was written")))?,
    }
    for Gap { span, at, why } in gaps.iter() {
        let at = at.map_or_else(String::new, |at| format!(" at {at:#x}"));
        ctx.warn(&format!(
            "{}{at} of the hand-over are not in the image ({why}), and not in FILE",
            size::human(span.len)
        ));
    }
    Ok(exit)
}

/// The answer for programs.
fn answer(args: &Args, source: &Located, gaps: &Gaps, written: Option<u64>) -> actions::Save {
    actions::Save::region(source, args.make.output.to_string_lossy().into_owned(), gaps, written)
}

/// Prints what would be made. No content of the region is read: the index of the image says what is absent.
fn planned(args: &Args, source: &Located, ctx: &mut Ctx) -> Result<Exit> {
    let length = source.source.size();
    let target = if is_standard(&args.make.output) {
        "standard output".to_owned()
    } else {
        output::check(&args.make.output, args.make.force, args.image.files())?;
        args.make.output.display().to_string()
    };
    let gaps = save::known(source);
    let exit = if gaps.is_empty() { Exit::Done } else { Exit::No };
    if args.json {
        json::print(ctx, "save", &answer(args, source, &gaps, None))?;
        return Ok(exit);
    }
    let text = format!("{target}: {} would be saved; nothing was written", size::both(length));
    ctx.line(&printable(&text))?;
    for Gap { span, why, .. } in gaps.iter() {
        ctx.warn(&format!("{span} of the region would be a hole ({}): {why}", size::human(span.len)));
    }
    Ok(exit)
}

/// Writes the region to standard output.
fn to_standard(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if args.json && !args.make.dry_run {
        let failure = Failure::new("usage", "with --json, the answer goes to standard output, and the region cannot");
        return Err(failure.hint("-o FILE names a file").into());
    }
    let located = open::locate_any(&args.image, ctx)?;
    if located.handover.is_some() {
        let failure =
            Failure::new("usage", "a hand-over is saved into a file, whose table of segments is written last");
        return Err(failure.hint("-o FILE names a file").into());
    }
    let source = cut(&args.image, located)?;
    if args.make.dry_run {
        return planned(args, &source, ctx);
    }
    refuse_terminal("a region")?;
    let length = source.source.size();
    let whole = [Piece::Data { file: Span::new(0, length), at: 0, bad: false }];
    let base = source.place.address();
    let hint = "-o FILE makes such a file, and lists the holes";
    let allow = |gaps: &Gaps, ctx: &mut Ctx| stdout::require_holes(gaps, base, hint, ctx);
    let gaps = stdout::write(&source.source, &whole, allow, ctx)?;
    if gaps.is_empty() {
        return Ok(Exit::Done);
    }
    tell(&gaps, ctx);
    Ok(Exit::No)
}

/// Copies the region into a file that another command makes. Reports and returns what the image does not hold.
pub(crate) fn into_file(image: &ReadArgs, to: &NewFile, ctx: &Ctx) -> Result<Gaps> {
    let cannot = || format!("cannot copy the region in {}", image.image.display());
    let source = cut(image, open::locate(image, ctx)?).with_context(cannot)?;
    let gaps = copy(&source, to, ctx)?.gaps;
    tell(&gaps, ctx);
    Ok(gaps)
}

/// What is said of a file that could not be written.
fn unfinished(to: &Path) -> String {
    format!("cannot write {} (what was written is removed)", to.display())
}

/// Lists everything that could not be saved.
fn tell(gaps: &Gaps, ctx: &Ctx) {
    for Gap { span, why, .. } in gaps.iter() {
        ctx.warn(&format!("{span} of the region is a hole now ({}): {why}", size::human(span.len)));
    }
}

/// The part to save: exactly what `--region` names, or otherwise the region, as long as its superblock says, or one
/// that is rebuilt.
fn cut(args: &ReadArgs, located: Located) -> Result<Located> {
    if args.region.is_some() || located.guestmemfs.is_some() {
        return Ok(located);
    }
    let size = located.store_size().map_err(|error| open::no_superblock(&located, error))?;
    Ok(located.cut(size))
}

fn copy(source: &Located, file: &NewFile, ctx: &Ctx) -> Result<Copied> {
    let progress = Progress::new(ctx, "saving", source.source.size());
    let copied = save::into(source, file.file(), &progress).map_err(output::copying)?;
    progress.done();
    Ok(copied)
}
