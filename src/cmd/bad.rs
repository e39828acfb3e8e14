//! `gmfs bad`: blocks with hardware errors.

mod ranges;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, Subcommand};
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, InodeNo};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use::InUseOk;
use crate::open::{self, Changing, ReadArgs, TargetArgs};
use crate::paths::Paths;
use crate::render::json::{self, actions, files};
use crate::render::size;
use crate::render::table::Table;
use ranges::Origin;

/// Mark blocks with hardware errors, unmark them, or list them
///
/// A marked block is never given out. If it is a file's, the file keeps it, and fsck, who and extract tell which file and
/// where in it.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs bad add /dev/mem 0x1000200000
  gmfs bad add region.img block:17-19 pfn:@bad-pfns
  ndctl list --media-errors -n namespace0.0 | gmfs bad add /dev/dax0.0 @-
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
    /// Take marks back: a file's block is its data again, any other becomes reserved
    Del(Change),
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
    /// /sys/block/pmemN/badblocks has them, or what `ndctl list --media-errors` prints; @- is standard input. Sectors count
    /// from the start of the device: IMAGE must be that device, and of a list of several devices it must be one.
    #[arg(value_name = "RANGE", required = true)]
    ranges: Vec<String>,
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
        Action::List(args) => list(args, ctx),
    }
}

/// Marks or unmarks.
fn mark(args: &Change, add: bool, ctx: &mut Ctx) -> Result<Exit> {
    // Ranges are read before anything is locked: they may come from a pipe.
    let device = args.image.image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let named = args.ranges.iter().map(|text| ranges::parse(text, &device)).collect::<Result<Vec<_>>>()?.concat();
    let opened = open::region(&ReadArgs { of: args.image.as_image(), no_lock: false }, ctx)?;
    let origin = Origin {
        geometry: opened.native().map_err(open::told)?.geometry(),
        base: opened.physical_base().unwrap_or(0),
        in_device: (!opened.place.kind.is_physical()).then_some(opened.place.base),
    };
    let (blocks, outside) = ranges::blocks(&named, &origin)?;
    drop(opened);
    if outside > 0 {
        ctx.note(&format!("{} of the device lie outside of the region", size::count(outside, "bad range")));
    }
    let bad = |writer: &Changing<'_>| writer.superblock().raw.bad_blocks.get();
    let (count, changes) = open::for_change(&args.image, InUseOk { in_use_ok: false }, ctx, |writer| {
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
        let base = changes.place.base;
        let run = |blocks: &std::ops::Range<u32>| actions::Run {
            block: blocks.start,
            count: blocks.len() as u64,
            address: base.saturating_add(changes.geometry.block_offset(BlockNo(blocks.start))),
        };
        let runs = blocks.iter().map(run).collect();
        let changed = actions::Changed::new(&changes, Vec::new());
        let answer = actions::Marked { changed, runs, blocks_marked: count };
        json::print(ctx, if add { "bad-add" } else { "bad-del" }, &answer)?;
        return Ok(Exit::Done);
    }
    let done = match (add, changes.dry_run) {
        (true, false) => "marked as bad",
        (true, true) => "would be marked as bad; nothing was written",
        (false, false) => "no longer marked as bad",
        (false, true) => "would no longer be marked as bad; nothing was written",
    };
    let image = crate::failure::printable(&args.image.image.display().to_string());
    ctx.success(&format!("{image}: {} {done}", size::count(count, "block")))?;
    Ok(Exit::Done)
}

/// Lists the marked blocks.
fn list(args: &List, ctx: &mut Ctx) -> Result<Exit> {
    let opened = open::region(&args.image, ctx)?;
    let (inodes, exit) = super::inodes(&opened, ctx);
    let mut found: Vec<(BlockNo, InodeNo, u32)> = Vec::new();
    let region = opened.native().map_err(open::told)?;
    region.descriptors(|block, entry| {
        if entry.state() == Some(BlockState::Bad) {
            found.push((block, entry.owner(), entry.index.get()));
        }
    });
    opened.unlock();
    let geometry = region.geometry();
    let base = opened.physical_base();
    let mut paths = Paths::new(&inodes.tree);
    let mut rows = Vec::new();
    for (block, owner, index) in found {
        let mut row = files::Owner::outside(format!("block:{block}"));
        row.what = "bad";
        row.block = Some(block.0.into());
        row.address = Some(opened.place.base.saturating_add(geometry.block_offset(block)));
        row.physical = base.map(|base| base.saturating_add(geometry.block_offset(block)));
        if owner != InodeNo::NONE {
            row.ino = files::ino(owner);
            row.offset = Some(u64::from(index) * geometry.block_bytes());
            row.path = files::Path::new(paths.of(owner).as_deref());
        }
        rows.push(row);
    }
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
