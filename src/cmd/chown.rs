//! `gmfs chown`: other owners.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::owner::{Owner, OwnerError};
use gmfs_format::model::Inode;
use gmfs_volume::NewAttributes;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::TargetArgs;

/// Change the owner and the group of files and directories
///
/// Each PATH is a commit of its own, with -R together with all that is below it. If one cannot be changed, the others are.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs chown region.img qemu:kvm /vms/a.mem
  gmfs chown -R region.img :64055 /vms")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// The owner, the owner and the group, or the group alone: numbers, or names from /etc/passwd and /etc/group here
    #[arg(value_name = "OWNER[:GROUP]")]
    owner: String,
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

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let owner = args.owner.parse().map_err(|error: OwnerError| Failure::new("no-owner", error.to_string()));
    let Owner { uid, gid } = owner.context("cannot change the owner")?;
    let choose = |_: &Inode| NewAttributes { uid, gid, ..NewAttributes::default() };
    super::chmod::change(&args.image, (&args.paths, args.recursive), &choose, ctx, ("chown", "cannot change the owner"))
}
