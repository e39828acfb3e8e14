//! `gmfs dump`: a region's metadata as a small file, or as text.

mod obfuscate;
pub(in crate::cmd) mod out;
mod text;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::native::units::{CopyId, PAGE_SIZE, PageBytes, PageNo, to_usize};
use gmfs_image::metadump::{MetaDump, MetaDumpWriter, MetaFacts};
use gmfs_image::{Kind, RegionFile};
use gmfs_io::ReadAt;
use gmfs_volume::Superblocks;
use gmfs_volume::rebuild;
use gmfs_volume::superblocks::used_ranges;
use serde::Serialize;

use self::obfuscate::{Names, Obfuscated};
use self::out::Output;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::interrupt;
use crate::open::{self, ReadArgs};
use crate::output;
use crate::render::{json, size};
use gmfs::Located;

/// Pages read at once.
const BATCH: u32 = 64;

/// Copy the metadata into a small file, or print it as text
///
/// Every page of metadata that is in use, of both copies and exactly as it is, also of a damaged region; no contents of
/// files. Every command that reads takes FILE as an image, and `gmfs restore` puts it back. Pages that IMAGE does not hold
/// are not in FILE either; the exit status is 1 then. FILE is there when it is whole, and what it replaces until then; `-`
/// is standard output.
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

/// What was dumped.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Answer {
    image: json::region::Image,
    store: json::region::Store,
    dry_run: bool,
    output: String,
    /// Pages in the dump.
    pages_dumped: u64,
    /// Pages that the image does not hold or that cannot be read.
    absent_pages: u64,
    obfuscated: bool,
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
    let facts = facts(&located, &superblocks, args.obfuscate).with_context(cannot)?;
    let (pages, absent) = if args.dry_run {
        if let Some(output) = args.output.as_deref().filter(|_| !standard) {
            out::check(output, args.force, &args.image).with_context(cannot)?;
        }
        let mut pages = 0;
        let absent = walk(&located.source, &superblocks, None, |_, _| {
            pages += 1;
            true
        });
        (pages, absent.with_context(cannot)?)
    } else {
        let mut out = Output::open(args.output.as_deref(), args.force, &args.image, ctx).with_context(cannot)?;
        if args.text {
            text(&located.source, &superblocks, args.obfuscate, &mut out)
        } else {
            binary(&located.source, &superblocks, &facts, args.obfuscate, &mut out)
        }
        .and_then(|done| out.finish().map(|()| done))
        .with_context(cannot)?
    };
    if absent > 0 {
        ctx.warn(&format!("{} of metadata cannot be read and are not in the dump", size::count(absent, "page")));
    }
    let output = args.output.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    if args.json {
        let answer = Answer {
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

/// What the dump says of the region.
fn facts(located: &Located, superblocks: &Superblocks, obfuscated: bool) -> Result<MetaFacts> {
    let (geometry, current) = (superblocks.geometry(), superblocks.current());
    let mut facts = MetaFacts {
        obfuscated,
        end: located.source.end().unwrap_or(geometry.size()),
        size: geometry.size(),
        base: located.place.address().unwrap_or_else(|| current.raw.base.get()),
        uuid: current.uuid.into_bytes(),
    };
    if located.place.kind == Kind::MetaDump {
        // What a dump was made of does not change by copying it.
        let first = *MetaDump::parse(RegionFile::open(&located.place.path)?)?.facts();
        facts.obfuscated |= first.obfuscated;
        facts.base = first.base;
    }
    Ok(facts)
}

/// Writes the dump page by page. Gives the numbers of pages that are in it, and that are absent.
fn binary<S: ReadAt>(
    source: &S,
    superblocks: &Superblocks,
    facts: &MetaFacts,
    obfuscated: bool,
    out: &mut Output<'_>,
) -> Result<(u64, u64)> {
    let mut names = obfuscated.then(Names::default);
    let mut failed = None;
    let mut writer = match MetaDumpWriter::new(&mut *out, facts) {
        Ok(writer) => writer,
        Err(error) => return Err(out.explain(error)),
    };
    let absent = walk(source, superblocks, names.as_mut(), |offset, page| {
        writer.page(offset, page).map_err(|error| failed = Some(error)).is_ok()
    })?;
    let pages = writer.pages();
    let ended = match failed {
        Some(error) => Err(error),
        None => writer.finish().map(|_| ()),
    };
    ended.map_err(|error| out.explain(error))?;
    Ok((pages, absent))
}

/// Writes the text. Names become in it what they become in a dump.
fn text<S: ReadAt>(
    source: &S,
    superblocks: &Superblocks,
    obfuscated: bool,
    out: &mut Output<'_>,
) -> Result<(u64, u64)> {
    let mut names = obfuscated.then(Names::default);
    let mut pages = 0;
    let absent = walk(source, superblocks, names.as_mut(), |_, _| {
        pages += 1;
        true
    })?;
    let mut lines = io::BufWriter::with_capacity(1 << 16, &mut *out);
    let written = match names {
        None => text::write(source, superblocks, &mut lines),
        Some(names) => {
            let shown = Obfuscated { source, superblocks, names: Mutex::new(names) };
            text::write(&shown, &rebuild::load(&shown)?, &mut lines)
        }
    };
    let written = written.and_then(|()| lines.flush());
    drop(lines);
    written.map_err(|error| out.explain(error))?;
    output::go_on()?;
    Ok((pages, absent))
}

/// Hands each page of metadata in use that is there to `each`, copy A's first, until that gives false. Gives the number of
/// those that are not there.
fn walk<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    mut names: Option<&mut Names>,
    mut each: impl FnMut(u64, &PageBytes) -> bool,
) -> Result<u64> {
    let geometry = superblocks.geometry();
    let mut buffer = vec![[0; PAGE_SIZE]; to_usize(BATCH)];
    let mut absent = 0;
    for (copy, range) in
        CopyId::BOTH.iter().flat_map(|copy| used_ranges(superblocks).into_iter().map(move |r| (*copy, r)))
    {
        for first in range.clone().step_by(to_usize(BATCH)) {
            output::go_on()?;
            let pages = first..range.end.min(first.saturating_add(BATCH));
            let batch = buffer.get_mut(..pages.len()).unwrap_or_default().as_flattened_mut();
            let whole = source.read_at(geometry.page_offset(copy, PageNo(first)), batch).is_ok();
            for (page, bytes) in pages.map(PageNo).zip(&mut buffer) {
                let offset = geometry.page_offset(copy, page);
                let there = whole || source.read_at(offset, bytes).is_ok();
                let Some(place) = superblocks.place(copy, page).filter(|_| there) else {
                    absent += 1;
                    continue;
                };
                if let Some(names) = &mut names {
                    obfuscate::page(bytes, &place, names);
                }
                if !each(offset, bytes) {
                    return Ok(absent);
                }
            }
        }
    }
    Ok(absent)
}
