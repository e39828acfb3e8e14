//! `gmfs dump`: a region's metadata as a small file, or as text.

pub(in crate::cmd) mod out;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::metadump::{self, MetadumpError, Pages};

use self::out::Output;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::interrupt;
use crate::open::{self, ReadArgs};
use crate::output;
use crate::render::{json, size};

/// Copy the metadata into a small file, or print it as text
///
/// FILE gets every page of metadata that is in use, of both copies and exactly as it is, even if the region is damaged.
/// It gets no contents of files. Every command that reads takes FILE as an image, and `gmfs restore` puts it back.
/// Pages that IMAGE does not hold are not in FILE either; the exit status is 1 then. FILE gets its name only when it is
/// complete; a file that it replaces is there until then. `-` is standard output.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs dump region.img -o region.meta
  gmfs dump --obfuscate /dev/mem -o for-a-stranger.meta
  gmfs dump region.img -o - | zstd > region.meta.zst
  gmfs dump --text region.img > before.txt")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// The file to make, - for standard output
    #[arg(short, long, value_name = "FILE", required_unless_present = "text")]
    output: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(short, long)]
    force: bool,
    /// Replace each name by another of its length, and the label; damaged pages stay as damaged as they are
    #[arg(long)]
    obfuscate: bool,
    /// Print text, one fact a line, in an order that is always the same
    #[arg(long, conflicts_with_all = ["json", "dry_run"])]
    text: bool,
    /// Print what would be made, and make nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let cannot = || format!("cannot dump the metadata in {}", args.image.image.display());
    let standard = args.output.as_deref().is_none_or(out::is_standard);
    if standard && args.json && !args.dry_run {
        let failure = Failure::new("usage", "with --json, the answer goes to standard output, and the dump cannot");
        return Err(failure.hint("-o FILE names a file")).with_context(cannot);
    }
    if standard && !args.text && !args.dry_run {
        out::refuse_terminal("a dump").with_context(cannot)?;
    }
    interrupt::watch(Exit::Failed.code())?;
    let located = open::locate(&args.image, ctx)?;
    let superblocks = open::load_or_rebuild(&located).with_context(cannot)?;
    let facts = metadump::facts(&located, &superblocks, args.obfuscate).map_err(told).with_context(cannot)?;
    let go_on = || !interrupt::asked();
    let Pages { there: pages, absent } = if args.dry_run {
        if let Some(output) = args.output.as_deref().filter(|_| !standard) {
            out::check(output, args.force, &args.image).with_context(cannot)?;
        }
        metadump::count(&located.source, &superblocks, &go_on).map_err(told).with_context(cannot)?
    } else {
        let mut out = Output::open(args.output.as_deref(), args.force, &args.image, ctx).with_context(cannot)?;
        let done = if args.text {
            metadump::write_text(&located.source, &superblocks, args.obfuscate, &mut out, &go_on)
        } else {
            metadump::write(&located.source, &superblocks, &facts, args.obfuscate, &mut out, &go_on)
        };
        let done = done.map_err(|error| match error {
            MetadumpError::Write(error) => out.explain(error),
            error => told(error),
        });
        done.and_then(|done| out.finish().map(|()| done)).with_context(cannot)?
    };
    if absent > 0 {
        ctx.warn(&format!("{} of metadata cannot be read and are not in the dump", size::count(absent, "page")));
    }
    let output = args.output.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    if args.json {
        let answer = json::dump::Dumped {
            image: (&located.place).into(),
            store: json::region::Store::new(located.place.base, superblocks.current()),
            dry_run: args.dry_run,
            output,
            pages_dumped: pages,
            absent_pages: absent,
            obfuscated: facts.obfuscated,
        };
        json::print(ctx, "dump", &answer)?;
    } else if args.dry_run {
        let output = if standard { "standard output" } else { &output };
        let pages = size::count(pages, "page");
        ctx.line(&printable(&format!("{output}: {pages} of metadata would be dumped; nothing was written")))?;
    } else if !args.text && !standard {
        let how = if facts.obfuscated { ", obfuscated" } else { "" };
        ctx.success(&printable(&format!("{output}: {} of metadata{how}", size::count(pages, "page"))))?;
    }
    Ok(if absent > 0 { Exit::No } else { Exit::Done })
}

/// The error to report for an error of the library, or after an interrupt.
fn told(error: MetadumpError) -> anyhow::Error {
    match error {
        MetadumpError::File(error) => error.into(),
        MetadumpError::Image(error) => error.into(),
        MetadumpError::Region(error) => error.into(),
        MetadumpError::Stopped => output::go_on().err().map_or_else(|| error.into(), Into::into),
        error => error.into(),
    }
}
