//! `gmfs mkdir`: new directories.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use::InUseOk;
use crate::open::{self, TargetArgs};
use crate::paths;

/// Make directories
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs mkdir region.img -p /vms/production")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// Their paths in the region
    #[arg(value_name = "PATH", required = true, value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Make the directories above them too, and accept those that exist
    #[arg(short, long)]
    parents: bool,
    /// Permission bits in octal
    #[arg(long, default_value = "755", value_parser = super::parse_mode)]
    mode: u16,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let paths: Vec<&[u8]> = args.paths.iter().map(|path| paths::bytes(path)).collect();
    let changed = open::for_change(&args.image, InUseOk { in_use_ok: false }, ctx, |writer| {
        let make = |path: &[u8]| writer.mkdir(path, args.parents, args.mode, super::owner());
        let tried = super::change_each(&args.paths, super::Tried::default(), make)?;
        Ok((super::entries(writer, &paths), tried))
    });
    let ((entries, tried), changes) = changed.context("cannot make the directory")?;
    super::tell_changes(ctx, "mkdir", tried.end().context("cannot make the directory"), (entries, changes))
}
