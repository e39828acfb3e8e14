//! `gmfs bad`: blocks with hardware errors.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, Subcommand};
use gmfs_format::geometry::Geometry;
use gmfs_format::spec::parse_size;
use gmfs_format::tables::BlockState;
use gmfs_format::units::{BlockNo, InodeNo, to_u32};
use serde_json::Value;

use crate::cmd::who::Address;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, ImageArgs};
use crate::paths::Paths;
use crate::render::json::{self, files};
use crate::render::size;
use crate::render::table::Table;

/// Mark blocks with hardware errors, unmark them, or list them
///
/// A marked block is never given out. If it is a file's, the file keeps it, and fsck, who and extract tell which file and
/// where in it.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs bad add /dev/mem 0x1000200000
  gmfs bad add region.img block:17-19 pfn:@bad-pfns
  ndctl list --media-errors | gmfs bad add /dev/dax0.0 @-
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
    image: ImageArgs,
    /// ADDR, ADDR-LAST, ADDR+LENGTH, block:N[-M], pfn:N[-M], pfn:@FILE, or @FILE
    ///
    /// pfn:@FILE has one page frame number a line. @FILE has one RANGE a line, or sectors and lengths as
    /// /sys/block/pmemN/badblocks has them, or what `ndctl list --media-errors` prints; @- is standard input.
    #[arg(value_name = "RANGE", required = true)]
    ranges: Vec<String>,
}

#[derive(Arguments, Debug)]
struct List {
    #[command(flatten)]
    image: ImageArgs,
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
    let spans = args.ranges.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?.concat();
    let opened = open::region(&args.image, ctx)?;
    let (geometry, base) = (opened.region.geometry(), opened.physical_base().unwrap_or(0));
    let blocks = blocks(&spans, geometry, base)?;
    drop(opened);
    let count = blocks.iter().map(|run| run.len() as u64).sum();
    let changed = open::for_change(&args.image, ctx, |writer| {
        if add {
            writer.add_bad(&blocks)?
        } else {
            writer.remove_bad(&blocks)?
        }
        Ok(super::changed(writer, &[]))
    })
    .context("cannot change the marks")?;
    if ctx.json {
        return super::tell_change(ctx, if add { "bad-add" } else { "bad-del" }, &changed);
    }
    let done = if add { "marked as bad" } else { "no longer marked as bad" };
    ctx.line(&format!("{}: {} {done}", args.image.image.display(), size::count(count, "block")))?;
    Ok(Exit::Done)
}

/// A stretch as it was named: its first and its last address.
type Named = (Address, Address);

/// One RANGE of the command line.
fn parse(text: &str) -> Result<Vec<Named>> {
    if let Some(file) = text.strip_prefix("pfn:@") {
        return lines(&read(file)?, |line| Ok(vec![single(&format!("pfn:{line}"))?]));
    }
    let Some(file) = text.strip_prefix('@') else { return Ok(vec![single(text)?]) };
    let content = read(file)?;
    if let Ok(json) = serde_json::from_str::<Value>(&content) {
        let mut found = Vec::new();
        media_errors(&json, &mut found);
        return Ok(found);
    }
    lines(&content, |line| match line.split_once(char::is_whitespace) {
        Some((sector, count)) => Ok(vec![sectors(number(sector)?, number(count.trim())?)]),
        None => Ok(vec![single(line)?]),
    })
}

/// Reads a file, or standard input for `-`.
fn read(file: &str) -> Result<String> {
    if file == "-" {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(Path::new(file)).with_context(|| format!("cannot read {file}"))
}

fn lines(content: &str, parse: impl Fn(&str) -> Result<Vec<Named>>) -> Result<Vec<Named>> {
    let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(parse).collect::<Result<Vec<_>>>()?.concat())
}

fn number(text: &str) -> Result<u64> {
    Ok(parse_size(text)?)
}

/// `ADDR`, `ADDR-LAST`, `ADDR+LENGTH`, with what stands before it deciding the unit.
fn single(text: &str) -> Result<Named> {
    let (unit, rest): (fn(u64) -> Address, &str) = match text.split_once(':') {
        Some(("block", rest)) => (Address::Block, rest),
        Some(("pfn", rest)) => (Address::Pfn, rest),
        Some((other, _)) => {
            let message = format!("'{other}:' is neither block: nor pfn:");
            return Err(Failure::new("range", message).into());
        }
        None => (Address::Bytes, text),
    };
    let (first, last) = match (rest.split_once('-'), rest.split_once('+')) {
        (Some((first, last)), _) => (number(first)?, number(last)?),
        (None, Some((first, length))) => {
            let first = number(first)?;
            (first, first.saturating_add(number(length)?.saturating_sub(1)))
        }
        (None, None) => (number(rest)?, number(rest)?),
    };
    if last < first {
        return Err(Failure::new("range", format!("'{text}' ends before it begins")).into());
    }
    Ok((unit(first), unit(last)))
}

/// Sectors of 512 bytes, counted from the start of the device.
const fn sectors(first: u64, count: u64) -> Named {
    let start = first.saturating_mul(512);
    let length = count.saturating_mul(512);
    let last = start.saturating_add(if length == 0 { 0 } else { length - 1 });
    (Address::Bytes(start), Address::Bytes(last))
}

/// All `badblocks` lists in what ndctl prints, however deep.
fn media_errors(json: &Value, found: &mut Vec<Named>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| media_errors(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let Value::Array(items) = value else {
                    media_errors(value, found);
                    continue;
                };
                for item in items {
                    let field = |name: &str| item.get(name).and_then(Value::as_u64);
                    match (name.as_str(), field("offset"), field("length")) {
                        ("badblocks", Some(offset), Some(length)) => found.push(sectors(offset, length)),
                        _ => media_errors(item, found),
                    }
                }
            }
        }
        _ => {}
    }
}

/// The blocks that stretches touch, as runs without overlap.
fn blocks(named: &[Named], geometry: Geometry, base: u64) -> Result<Vec<Range<u32>>> {
    let mut set = BTreeSet::new();
    for (first, last) in named {
        let place = |address: &Address| address.offset(geometry, base).map(|at| to_u32(at / geometry.block_bytes()));
        let Some((first, last)) = place(first).zip(place(last)) else {
            let message = format!("{first} to {last} does not lie in the region");
            return Err(Failure::new("outside", message).hint("`gmfs inspect IMAGE` shows its base and size").into());
        };
        set.extend(first..=last);
    }
    let mut runs: Vec<Range<u32>> = Vec::new();
    for block in set {
        match runs.last_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    Ok(runs)
}

/// Lists the marked blocks.
fn list(args: &List, ctx: &mut Ctx) -> Result<Exit> {
    let opened = open::region(&args.image, ctx)?;
    let (inodes, exit) = super::inodes(&opened.region, ctx);
    let mut found: Vec<(BlockNo, InodeNo, u32)> = Vec::new();
    opened.region.descriptors(|block, entry| {
        if entry.state() == Some(BlockState::Bad) {
            found.push((block, entry.owner(), entry.index.get()));
        }
    });
    let geometry = opened.region.geometry();
    let base = opened.physical_base();
    let mut paths = Paths::new(&inodes.tree);
    let mut rows = Vec::new();
    for (block, owner, index) in found {
        let mut row = files::Owner::outside(format!("block:{block}"));
        row.what = "bad";
        row.block = Some(block.0);
        row.offset = Some(geometry.block_offset(block));
        row.physical = base.map(|base| base.saturating_add(geometry.block_offset(block)));
        if owner != InodeNo::NONE {
            row.ino = files::ino(owner);
            row.file_offset = Some(u64::from(index) * geometry.block_bytes());
            row.path = files::Path::new(paths.of(owner).as_deref());
        }
        rows.push(row);
    }
    if ctx.json {
        json::print(ctx, "bad-list", &files::Who { addresses: rows })?;
        return Ok(exit);
    }
    let mut table = Table::new(&["Block", "Address", "File", "Offset"]).right(&[0]);
    for row in &rows {
        let address = row.physical.or(row.offset).map_or_else(String::new, size::hex);
        let whose = match row.ino {
            Some(ino) => row.path.shown().unwrap_or_else(|| format!("inode {ino}")),
            None => "nobody".to_owned(),
        };
        let offset = row.file_offset.map_or_else(String::new, size::hex);
        table.row([&row.block.unwrap_or(0).to_string(), &address, &whose, &offset]);
    }
    table.print(ctx)?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_every_spelling() {
        let bytes = |first, last| vec![(Address::Bytes(first), Address::Bytes(last))];
        assert_eq!(parse("0x1000").unwrap(), bytes(4096, 4096));
        assert_eq!(parse("4K-8191").unwrap(), bytes(4096, 8191));
        assert_eq!(parse("2M+2M").unwrap(), bytes(2 << 20, (4 << 20) - 1));
        assert_eq!(parse("block:3-5").unwrap(), [(Address::Block(3), Address::Block(5))]);
        assert_eq!(parse("pfn:0x10").unwrap(), [(Address::Pfn(16), Address::Pfn(16))]);
        for wrong in ["5-3", "frame:1", "", "block:", "x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_ndctl_prints_is_understood() {
        let text =
            r#"[{"dev":"region0","badblock_count":8,"badblocks":[{"offset":4096,"length":8,"dimms":["nmem0"]}]}]"#;
        let mut found = Vec::new();
        media_errors(&serde_json::from_str(text).unwrap(), &mut found);
        assert_eq!(found, [(Address::Bytes(2 << 20), Address::Bytes((2 << 20) + 4095))]);
    }

    #[test]
    fn stretches_become_runs_of_blocks() {
        let geometry = Geometry::plan(64 << 20, gmfs_format::units::PmdShift::M2, 64).unwrap();
        let named = [parse("0x200000").unwrap(), parse("block:2-3").unwrap(), parse("block:3").unwrap()].concat();
        let runs = blocks(&named, geometry, 0).unwrap();
        assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(blocks(&parse("1G").unwrap(), geometry, 0).is_err());
    }
}
