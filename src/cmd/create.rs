//! `gmfs create`: a new file that reads as zeros.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_volume::CreateOptions;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, WriteArgs};
use crate::paths;

/// Make a file that reads as zeros, or an empty one
///
/// Its blocks are zeroed before it gets them: no guest sees what another one left.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs create region.img /vms/a.mem --size 4G
  gmfs create /dev/mem /vms/b.mem --size 16G --align-1g --region 64G:0x1000000000")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// The new file's path in the region
    #[arg(value_parser = super::region_path())]
    path: OsString,
    /// Its size: bytes, or a number with K, M, G or T, such as 1.5G [default: 0, an empty file]
    #[arg(short, long, value_name = "SIZE", value_parser = super::parse_size, default_value = "0", hide_default_value = true)]
    size: u64,
    /// Give it no blocks: all of it is a hole
    #[arg(long, requires = "size")]
    sparse: bool,
    /// Lay each GiB of it at a multiple of 1 GiB of physical address, so that a VMM can map PUDs
    #[arg(long = "align-1g")]
    align_1g: bool,
    /// Permission bits in octal
    #[arg(long, default_value = "600", value_parser = super::parse_mode)]
    mode: u16,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let path = paths::bytes(&args.path);
    let options = CreateOptions {
        size: args.size,
        sparse: args.sparse,
        align_1g: args.align_1g,
        mode: args.mode,
        owner: super::owner(),
    };
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        writer.create(path, &options)?;
        Ok(super::entries(writer, &[path]))
    })
    .with_context(|| format!("cannot create '{}'", paths::shown(path)))?;
    super::tell_change(ctx, "create", changed)
}
