//! `gmfs truncate`: sets the size of a file.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::spec::{SizeChange, SpecError};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, WriteArgs};
use crate::paths;

/// Set the size of a file
///
/// What it grows by reads as zeros; what it shrinks by is lost, and its blocks are free.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs truncate region.img /vms/a.mem --size 8G")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// The file's path in the region
    #[arg(value_parser = super::region_path())]
    path: OsString,
    /// Its new size: bytes, or a number with K, M, G or T, such as 1.5G; +SIZE and -SIZE grow and shrink it
    #[arg(short, long, value_name = "SIZE", value_parser = parse_change, allow_hyphen_values = true)]
    size: SizeChange,
    /// Give no blocks to what it grows by: that is a hole
    #[arg(long)]
    sparse: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let path = paths::bytes(&args.path);
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        // If there is no such file, the writer reports that.
        let now = writer.tree().resolve(path).map_or(0, |inode| inode.size);
        let size = match (writer.tree().resolve(path), args.size.of(now)) {
            (Some(_), Err(error)) => return Ok(Err(error)),
            (_, size) => size.unwrap_or(0),
        };
        writer.truncate(path, size, args.sparse)?;
        Ok(Ok(super::entries(writer, &[path])))
    })
    .and_then(|(done, changes)| Ok((done?, changes)))
    .with_context(|| format!("cannot set the size of '{}'", paths::shown(path)))?;
    super::tell_change(ctx, "truncate", changed)
}

fn parse_change(text: &str) -> Result<SizeChange, String> {
    text.parse().map_err(|error: SpecError| error.to_string())
}
