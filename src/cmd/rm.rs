//! `gmfs rm`: removes files and directories.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, WriteArgs};

/// Remove files and directories
///
/// Each PATH is removed in one commit, with all that is below it. Its blocks are free then; they are zeroed when they
/// are allocated again, not before. A PATH that is not there and has *, ? or [...] in it stands for all that it matches; quote
/// it, so that the shell does not take it for a pattern of its own.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs rm region.img -r /retired
  gmfs rm region.img '/vms/*.old'")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// Their paths in the region
    #[arg(value_name = "PATH", required = true, value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Remove directories with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let mut tried = super::Tried::default();
        let paths = super::expand(writer.tree(), &args.paths, &mut tried);
        let tried = super::change_each(&paths, tried, |path| writer.remove(path, args.recursive))?;
        Ok((Vec::new(), tried))
    });
    let ((entries, tried), changes) = changed.context("cannot remove it")?;
    super::tell_changes(ctx, "rm", tried.end().context("cannot remove it"), (entries, changes))
}
