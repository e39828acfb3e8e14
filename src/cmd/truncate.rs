//! `gmfs truncate`: another size for a file.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;

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
    /// Its new size in bytes, K, M, G, T
    #[arg(short, long, value_name = "SIZE", value_parser = super::parse_size)]
    size: u64,
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
        writer.truncate(path, args.size, args.sparse)?;
        Ok(super::changed(writer, &[path]))
    })
    .with_context(|| format!("cannot set the size of '{}'", paths::shown(path)))?;
    super::tell_change(ctx, "truncate", &changed)
}
