//! `gmfs cp`: copies inside a region.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::copy_within::{self, Copying, How};
use gmfs_format::model::Inode;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, WriteArgs};
use crate::paths;
use crate::render::progress::Progress;

/// Copy files and directories inside the region
///
/// Each file is copied in one commit: a crash leaves all of the copy or none of it. The copy has blocks of its own, holes stay
/// holes, and it has the permission bits of the file. Seals are not copied, because nothing has proven that the content is
/// still what was sealed: `gmfs seal` seals the copy. A copy of a doubtful file is doubtful, and the exit status is 1. A SRC
/// that is not there and has *, ? or [...] in it stands for all that it matches; quote it. If one SRC cannot be copied, the
/// others are.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs cp region.img /vms/a.mem /vms/b.mem
  gmfs cp region.img '/vms/*.mem' /saved
  gmfs cp -rp region.img /vms /saved")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// The files to copy, with -r directories too
    #[arg(value_name = "SRC", required = true, value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// The copy's path, or a directory that takes it; of several, an existing directory
    #[arg(value_name = "DEST", value_parser = super::region_path())]
    destination: OsString,
    /// Copy directories with all that is in them; one that exists takes what is in its namesake
    #[arg(short, long)]
    recursive: bool,
    /// Keep owner, group, and the times of access and change too; a directory that exists keeps its own
    #[arg(short, long)]
    preserve: bool,
    /// Replace the content of a file that exists
    #[arg(short, long)]
    force: bool,
    /// Lay each GiB of a copy at a multiple of 1 GiB of physical address, so that a VMM can map PUDs; holes get blocks
    #[arg(long = "align-1g")]
    align_1g: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let destination = paths::bytes(&args.destination);
    let cannot = || format!("cannot copy to '{}'", paths::shown(destination));
    let progress = Progress::new(ctx, "copying", 0);
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let mut tried = super::Tried::default();
        let wanted = super::expand(writer.tree(), &args.paths, &mut tried);
        if (wanted.len() > 1 || args.paths.len() > 1)
            && let Err(failure) = super::require_directory(writer.tree(), destination, "sources")
        {
            return Ok(Err(failure));
        }
        let how = how(args);
        let mut items = Vec::new();
        for path in wanted.iter().map(|path| paths::bytes(path)) {
            let found = copy_within::plan(writer.tree(), path, destination, how);
            let found = found.map_err(|error| anyhow::Error::new(error).context(cannot_copy(path)));
            items.push(tried.add(found).unwrap_or_default());
        }
        let total = items.iter().flatten().map(|item| item.inode.size).fold(0, u64::saturating_add);
        let show = |done| progress.at_of(done, total);
        let mut copying = Copying::new(how, &show);
        for items in &items {
            match copying.all(writer, items) {
                Err(failed) if failed.is_of_medium() => return Err(failed.source),
                done => tried.add(done),
            };
        }
        if !copying.made.is_empty() {
            tried.succeeded();
        }
        let made: Vec<&[u8]> = copying.made.iter().map(|(item, _)| item.to.as_slice()).collect();
        let doubtful: Vec<(Inode, String)> = copying
            .made
            .iter()
            .filter(|(item, _)| item.inode.is_doubtful())
            .map(|(item, _)| (item.inode.clone(), paths::shown(&item.to)))
            .collect();
        Ok(Ok((super::entries(writer, &made), tried, doubtful)))
    });
    let (done, changes) = changed.with_context(cannot)?;
    let (entries, tried, doubtful) = done.with_context(cannot)?;
    progress.done();
    let exit = super::tell_changes(ctx, "cp", tried.end(), (entries, changes))?;
    let mut doubt = exit;
    super::tell_doubtful(doubtful.iter().map(|(inode, path)| (inode, path.clone())), &mut doubt, ctx);
    Ok(if matches!(exit, Exit::Failed) { exit } else { doubt })
}

fn cannot_copy(path: &[u8]) -> String {
    format!("cannot copy '{}'", paths::shown(path))
}

fn how(args: &Args) -> How {
    let Args { recursive, preserve, force, align_1g, .. } = *args;
    How { recursive, preserve, replace: force, align_1g, owner: super::owner() }
}
