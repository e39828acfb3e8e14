//! `gmfs bad`: blocks with hardware errors.

mod lists;

pub(in crate::cmd) use lists::{Poison, poison, told};

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, Subcommand};
use gmfs::bad::{self, Marked, Origin};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use::InUseOk;
use crate::open::{self, Changing, ReadArgs, TargetArgs};
use crate::paths::Paths;
use crate::render::json::{self, actions, files};
use crate::render::size;
use crate::render::table::Table;

/// Mark blocks with hardware errors, unmark them, or list them
///
/// A marked block is never allocated. If it belongs to a file, the file keeps it, and fsck, who and extract report the
/// file and the place in it.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs bad add /dev/mem 0x1000200000
  gmfs bad add region.img block:17-19 pfn:@bad-pfns
  ndctl list --media-errors -n namespace0.0 | gmfs bad add /dev/dax0.0 @-
  dmesg | gmfs bad import /dev/mem - --region 64G:0x1000000000
  gmfs bad list region.img")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Mark blocks
    Add(Change),
    /// Remove marks: a block of a file becomes its data again, any other block becomes reserved
    Del(Change),
    /// Mark what a list of poisoned memory names, as far as it is in the region
    Import(Import),
    /// List marked blocks and whose they are
    List(List),
}

#[derive(Arguments, Debug)]
struct Change {
    #[command(flatten)]
    image: TargetArgs,
    /// ADDR, ADDR-LAST, ADDR+LENGTH, block:N[-M], pfn:N[-M], pfn:@FILE, or @FILE
    ///
    /// pfn:@FILE has one page frame number a line. @FILE has one RANGE a line, or sectors and lengths as
    /// /sys/block/pmemN/badblocks has them, or what `ndctl list --media-errors` prints; @- is standard input. Sectors
    /// count from the start of the device: IMAGE must be that device, and of a list of several devices it must be one.
    #[arg(value_name = "RANGE", required = true)]
    ranges: Vec<String>,
}

#[derive(Arguments, Debug)]
struct Import {
    #[command(flatten)]
    image: TargetArgs,
    /// A list of poisoned memory; - is standard input
    ///
    /// LIST is one of these: a log of the kernel (`dmesg`), in which the lines "Memory failure: 0xPFN" count;
    /// /proc/kpageflags, with the page frames that this kernel has found poisoned; /proc/iomem, in which "Unusable memory"
    /// counts; page frame numbers, one per line; lines with a first sector and a number of sectors, as in
    /// /sys/block/pmemN/badblocks; or the output of `ndctl list -M`. What is not in the region is left out. Blocks of
    /// metadata cannot be marked: the command reports them, and the exit status is 1.
    #[arg(value_name = "LIST")]
    list: String,
}

#[derive(Arguments, Debug)]
struct List {
    #[command(flatten)]
    image: ReadArgs,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    match &args.action {
        Action::Add(change) => mark(change, true, ctx),
        Action::Del(change) => mark(change, false, ctx),
        Action::Import(args) => import(args, ctx),
        Action::List(args) => list(args, ctx),
    }
}

/// Marks or unmarks the blocks of the ranges on the command line.
fn mark(args: &Change, add: bool, ctx: &mut Ctx) -> Result<Exit> {
    // Ranges are read before anything is locked: they may come from a pipe.
    let device = device(&args.image.image);
    let named = args.ranges.iter().map(|text| lists::parse(text, &device)).collect::<Result<Vec<_>>>()?.concat();
    let opened = open::region(&ReadArgs { of: args.image.as_image(), no_lock: false }, ctx)?;
    let origin = Origin::of(&opened).map_err(open::told)?;
    let touched = bad::touched(&named, &origin).map_err(told)?;
    drop(opened);
    if touched.outside > 0 {
        ctx.note(&format!("{} of the device lie outside of the region", size::count(touched.outside, "bad range")));
    }
    change(&args.image, touched.runs, add, if add { "bad-add" } else { "bad-del" }, ctx)?;
    Ok(Exit::Done)
}

/// The name of a device in lists.
pub(in crate::cmd) fn device(image: &Path) -> String {
    image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Marks what a list names.
fn import(args: &Import, ctx: &mut Ctx) -> Result<Exit> {
    let list = poison(&args.list, &device(&args.image.image))?;
    let opened = open::region(&ReadArgs { of: args.image.as_image(), no_lock: false }, ctx)?;
    let origin = Origin::of(&opened).map_err(open::told)?;
    let named = list.named(&opened, &origin, ctx)?;
    let hits = bad::hits(&named, &origin).map_err(told)?;
    drop(opened);
    let (blocks, metadata) = bad::blocks_of(&hits.spans, &origin);
    if hits.outside > 0 {
        ctx.note(&format!("{} not in the region", are(hits.outside, "entry of the list", "entries of the list")));
    }
    change(&args.image, blocks, true, "bad-import", ctx)?;
    if metadata.is_empty() {
        return Ok(Exit::Done);
    }
    let count = metadata.iter().map(|run| run.len() as u64).sum();
    ctx.warn(&format!(
        "{} hit and cannot be marked: metadata exists twice; `gmfs fsck IMAGE` says whether both copies are whole",
        are(count, "block of metadata", "blocks of metadata")
    ));
    Ok(Exit::No)
}

/// A count with its noun and its verb.
fn are(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one} is") } else { format!("{count} {many} are") }
}

/// Marks or unmarks blocks, and reports that.
fn change(image: &TargetArgs, blocks: Vec<Range<u32>>, add: bool, schema: &str, ctx: &mut Ctx) -> Result<()> {
    let bad = |writer: &Changing<'_>| writer.superblock().raw.bad_blocks.get();
    let (count, changes) = open::for_change(image, InUseOk { in_use_ok: false }, ctx, |writer| {
        let before = bad(writer);
        if add {
            writer.add_bad(&blocks)?
        } else {
            writer.remove_bad(&blocks)?
        }
        Ok(bad(writer).abs_diff(before))
    })
    .context("cannot change the marks")?;
    if ctx.json {
        json::print(ctx, schema, &actions::Marked::new(&changes, &blocks, count))?;
        return Ok(());
    }
    let done = match (add, changes.dry_run) {
        (true, false) => "marked as bad",
        (true, true) => "would be marked as bad; nothing was written",
        (false, false) => "no longer marked as bad",
        (false, true) => "would no longer be marked as bad; nothing was written",
    };
    let name = crate::failure::printable(&image.image.display().to_string());
    ctx.success(&format!("{name}: {} {done}", size::count(count, "block")))?;
    Ok(())
}

/// Lists the marked blocks.
fn list(args: &List, ctx: &mut Ctx) -> Result<Exit> {
    let opened = open::region(&args.image, ctx)?;
    let (inodes, exit) = super::inodes(&opened, ctx);
    let found = bad::marked(opened.native().map_err(open::told)?);
    opened.unlock();
    let mut paths = Paths::new(&inodes.tree);
    let row = |marked: &Marked| {
        let path = marked.file.and_then(|(ino, _)| paths.of(ino));
        files::Owner::bad(marked, &opened, path.as_deref())
    };
    let rows: Vec<files::Owner> = found.iter().map(row).collect();
    if ctx.json {
        let answer = files::Who { image: (&opened.place).into(), store: (&opened).into(), addresses: rows };
        json::print(ctx, "bad-list", &answer)?;
        return Ok(exit);
    }
    let mut table = Table::new(&["Block", "Address", "Offset", "File"]).right(&[0]).dispensable(&["Address"]);
    for row in &rows {
        let address = row.physical.or(row.address).map_or_else(String::new, size::hex);
        let whose = match row.ino {
            Some(ino) => row.path.shown().unwrap_or_else(|| format!("inode {ino}")),
            None => "nobody".to_owned(),
        };
        let offset = row.offset.map_or_else(String::new, size::hex);
        table.row([&row.block.unwrap_or(0).to_string(), &address, &offset, &whose]);
    }
    table.print(ctx)?;
    Ok(exit)
}
