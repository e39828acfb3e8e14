//! `gmfs chmod`: other permission bits.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::mode::{ModeChange, ModeError};
use gmfs_format::model::{Inode, Kind};
use gmfs_volume::NewAttributes;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use::InUseOk;
use crate::open::{self, TargetArgs};

/// Change the permission bits of files and directories
///
/// Each PATH is a commit of its own, with -R together with all that is below it. If one cannot be changed, the others are.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs chmod region.img 640 /vms/a.mem /vms/b.mem
  gmfs chmod -R region.img g+rX,o= /vms")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// Permission bits in octal, or changes of them such as u+w,go-rwx; X is x for directories only
    #[arg(value_parser = changes, allow_hyphen_values = true)]
    mode: ModeChange,
    /// Their paths in the region
    #[arg(value_name = "PATH", required = true, value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Change everything below directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn changes(text: &str) -> Result<ModeChange, String> {
    text.parse().map_err(|error: ModeError| error.to_string())
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let choose = |inode: &Inode| {
        let mode = inode.attributes.map(|attributes| args.mode.of(attributes.mode, inode.kind == Kind::Directory));
        NewAttributes { mode, ..NewAttributes::default() }
    };
    let cannot = "cannot change permission bits";
    change(&args.image, (&args.paths, args.recursive), &choose, ctx, ("chmod", cannot))
}

/// Gives each path other attributes.
pub(super) fn change(
    image: &TargetArgs,
    (paths, recursive): (&[OsString], bool),
    choose: &dyn Fn(&Inode) -> NewAttributes,
    ctx: &mut Ctx,
    (command, cannot): (&str, &'static str),
) -> Result<Exit> {
    let changed = open::for_change(image, InUseOk { in_use_ok: false }, ctx, |writer| {
        let mut tried = super::Tried::default();
        let paths = super::expand(writer.tree(), paths, &mut tried);
        let tried = super::change_each(&paths, tried, |path| writer.set_attributes(path, recursive, choose))?;
        let named: Vec<&[u8]> = paths.iter().map(|path| crate::paths::bytes(path)).collect();
        Ok((super::entries(writer, &named), tried))
    });
    let ((entries, tried), changes) = changed.context(cannot)?;
    super::tell_changes(ctx, command, tried.end().context(cannot), (entries, changes))
}
