//! `gmfs mv`: gives a file or directory another name or directory.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::model::Kind;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, WriteArgs};
use crate::paths;

/// Rename or move a file or directory
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs mv region.img /vms/a.mem /retired")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// Its path in the region
    #[arg(value_parser = super::region_path())]
    from: OsString,
    /// Its new path, or the directory that it is to go into
    #[arg(value_parser = super::region_path())]
    to: OsString,
    /// Replace a file that exists; its content is lost
    #[arg(short, long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let (from, to) = (paths::bytes(&args.from), paths::bytes(&args.to));
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let into = writer.tree().resolve(to).is_some_and(|inode| inode.kind == Kind::Directory);
        writer.rename(from, to, args.force)?;
        let name = paths::last(from).filter(|_| into);
        let path = name.map_or_else(|| to.to_vec(), |name| paths::join(to, name));
        Ok(super::entries(writer, &[&path]))
    })
    .with_context(|| format!("cannot move '{}' to '{}'", paths::shown(from), paths::shown(to)))?;
    super::tell_change(ctx, "mv", changed)
}
