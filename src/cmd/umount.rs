//! `gmfs umount`: takes away what `gmfs mount` has mounted.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueHint};
use gmfs_fuse::mounts;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;

/// Unmount what `gmfs mount` has mounted
///
/// umount(8) does the same. A filesystem that a program uses stays mounted, unless --lazy is given.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs umount /mnt
  gmfs umount --lazy /mnt")]
pub(crate) struct Args {
    /// Where it is mounted
    #[arg(value_name = "DIRECTORY", required = true, value_hint = ValueHint::DirPath)]
    directories: Vec<PathBuf>,
    /// Take it out of the directory tree at once; it ends when no program uses it any more
    #[arg(short, long)]
    lazy: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let mut tried = super::Tried::default();
    for directory in &args.directories {
        tried.add(one(directory, args.lazy, ctx).with_context(|| format!("cannot unmount {}", directory.display())));
    }
    Ok(if tried.end()? { Exit::Failed } else { Exit::Done })
}

fn one(directory: &Path, lazy: bool, ctx: &Ctx) -> Result<()> {
    // A mount whose process has died cannot even be looked at, so that its path is taken as it was given.
    let given = std::path::absolute(directory)?;
    let path = if is_mounted(&given)? { given } else { directory.canonicalize()? };
    if !is_mounted(&path)? {
        let failure = Failure::new("not-mounted", "it is no mount of gmfs");
        return Err(failure.hint("`findmnt -t fuse,fuse.gmfs` lists the mounts of gmfs").into());
    }
    mounts::unmount(&path, lazy).map_err(|error| match error.kind() {
        ErrorKind::ResourceBusy => Failure::new("busy", "a program uses it")
            .hint("end that program (`fuser -vm DIRECTORY` names it), or use --lazy")
            .into(),
        _ => anyhow::Error::new(error),
    })?;
    ctx.detail(&format!("unmounted {}", path.display()));
    Ok(())
}

/// Whether a directory is one on which gmfs has mounted something.
fn is_mounted(directory: &Path) -> Result<bool> {
    mounts::is_mounted(directory).context("cannot read /proc/self/mountinfo")
}
