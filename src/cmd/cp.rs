//! `gmfs cp`: copies inside a region.

use std::cell::Cell;
use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::model::{Inode, InodeNo, Kind, Tree};
use gmfs_volume::{ChangeError, CopyOptions, NewAttributes};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, Changing, WriteArgs};
use crate::paths::{self, Go};
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

/// A file or directory to copy, and the path that its copy gets.
struct Item {
    inode: Inode,
    from: Vec<u8>,
    to: Vec<u8>,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let destination = paths::bytes(&args.destination);
    let cannot = || format!("cannot copy to '{}'", paths::shown(destination));
    let progress = Progress::new(ctx, "copying", 0);
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let mut tried = super::Tried::default();
        let wanted = super::expand(writer.tree(), &args.paths, &mut tried);
        let into = writer.tree().resolve(destination).is_some_and(|inode| inode.kind == Kind::Directory);
        if (wanted.len() > 1 || args.paths.len() > 1) && !into {
            let message = format!("'{}' is no directory, and several sources need one", paths::shown(destination));
            return Ok(Err(Failure::new("not-directory", message).hint("make it first: gmfs mkdir")));
        }
        let mut items = Vec::new();
        for path in &wanted {
            let found = plan(args, writer.tree(), paths::bytes(path), into);
            let found = found.map_err(anyhow::Error::new).with_context(|| cannot_copy(paths::bytes(path)));
            items.push(tried.add(found).unwrap_or_default());
        }
        let total = items.iter().flatten().map(|item| item.inode.size).fold(0, u64::saturating_add);
        let mut copying = Copying { args, progress: &progress, total, done: Cell::new(0), made: Vec::new() };
        for items in &items {
            if let Err(error) = copying.all(writer, items, &mut tried)? {
                tried.add(Err::<(), _>(error));
            }
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
    let (entries, tried, doubtful) = done.map_err(anyhow::Error::new).with_context(cannot)?;
    progress.done();
    let exit = super::tell_changes(ctx, "cp", tried.end(), (entries, changes))?;
    let mut doubt = exit;
    super::tell_doubtful(doubtful.iter().map(|(inode, path)| (inode, path.clone())), &mut doubt, ctx);
    Ok(if matches!(exit, Exit::Failed) { exit } else { doubt })
}

fn cannot_copy(path: &[u8]) -> String {
    format!("cannot copy '{}'", paths::shown(path))
}

/// What is to be copied of one operand, each directory before what is in it. `into`: the destination is a directory that
/// takes the copy.
fn plan(args: &Args, tree: &Tree, path: &[u8], into: bool) -> Result<Vec<Item>, ChangeError> {
    let shown = || paths::shown(path);
    let top = tree.resolve(path).ok_or_else(|| ChangeError::NotFound(shown()))?;
    if path.ends_with(b"/") && top.kind != Kind::Directory {
        return Err(ChangeError::NotDirectory(shown()));
    }
    if top.kind == Kind::Directory && !args.recursive {
        return Err(ChangeError::IsDirectory(shown()));
    }
    let destination = paths::bytes(&args.destination);
    let from = tree.path(top.ino).ok_or_else(|| ChangeError::NotFound(shown()))?;
    let name = paths::last(&from).filter(|_| into);
    let mut to = name.map_or_else(|| destination.to_vec(), |name| paths::join(destination, name));
    while top.kind == Kind::Directory && to.ends_with(b"/") {
        to.pop();
    }
    refuse_into_itself(tree, top, &to)?;
    let mut items = vec![Item { inode: top.clone(), from: from.clone(), to: to.clone() }];
    let below = usize::from(from != b"/").saturating_mul(from.len());
    let Ok(_) = paths::walk(tree, (top, &from), |step| {
        let rest = step.path.get(below..).unwrap_or_default();
        items.push(Item { inode: step.inode.clone(), from: step.path.clone(), to: [to.as_slice(), rest].concat() });
        Ok::<_, std::convert::Infallible>(Go::In)
    });
    Ok(items)
}

/// Refuses a copy of a directory that would be in that directory.
fn refuse_into_itself(tree: &Tree, top: &Inode, to: &[u8]) -> Result<(), ChangeError> {
    if top.kind != Kind::Directory {
        return Ok(());
    }
    let above = to.iter().rposition(|byte| *byte == b'/').and_then(|slash| to.get(..slash)).unwrap_or_default();
    let inside = |path: &[u8]| {
        let mut here = tree.resolve(path);
        while let Some(inode) = here.filter(|inode| inode.ino != InodeNo::ROOT) {
            if inode.ino == top.ino {
                return true;
            }
            here = tree.get(inode.parent);
        }
        // The root has everything in it.
        top.ino == InodeNo::ROOT
    };
    if inside(above) || inside(to) {
        return Err(ChangeError::IntoItself(paths::shown(&tree.path(top.ino).unwrap_or_default())));
    }
    Ok(())
}

/// What has been copied so far.
struct Copying<'a> {
    args: &'a Args,
    progress: &'a Progress,
    total: u64,
    done: Cell<u64>,
    /// What was copied, and whether it is new.
    made: Vec<(&'a Item, bool)>,
}

impl<'a> Copying<'a> {
    /// Copies what belongs to one operand, up to the first error. That of the medium ends everything.
    fn all(
        &mut self,
        writer: &mut Changing<'_>,
        items: &'a [Item],
        tried: &mut super::Tried,
    ) -> Result<Result<(), anyhow::Error>, ChangeError> {
        let from = self.made.len();
        for item in items {
            match self.one(writer, item) {
                Ok(new) => self.made.push((item, new)),
                Err(error @ (ChangeError::Write(_) | ChangeError::Unfinished)) => return Err(error),
                Err(error) => return Ok(Err(anyhow::Error::new(error).context(cannot_copy(&item.from)))),
            }
            tried.succeeded();
        }
        if self.args.preserve {
            // Each entry that was made has changed the times of its directory.
            let new =
                self.made.iter().skip(from).rev().filter(|(item, new)| *new && item.inode.kind == Kind::Directory);
            for (item, _) in new {
                writer.set_attributes(&item.to, false, &|_| attributes(&item.inode))?;
            }
        }
        Ok(Ok(()))
    }

    /// Copies a file or makes a directory; whether it is new.
    fn one(&self, writer: &mut Changing<'_>, item: &Item) -> Result<bool, ChangeError> {
        if item.inode.kind == Kind::Directory {
            let new = writer.tree().resolve(&item.to).is_none_or(|inode| inode.kind != Kind::Directory);
            if new {
                let mode = item.inode.attributes.map_or(0o755, |own| own.mode);
                writer.mkdir(&item.to, false, mode, super::owner())?;
            }
            return Ok(new);
        }
        let progress = |bytes: u64| {
            self.done.set(self.done.get().saturating_add(bytes));
            self.progress.at_of(self.done.get(), self.total);
        };
        let Args { preserve, force, align_1g, .. } = *self.args;
        let owner = super::owner();
        let options = CopyOptions { owner, preserve, replace: force, align_1g, progress: &progress };
        writer.copy(&item.from, &item.to, &options)?;
        Ok(true)
    }
}

/// The attributes that -p keeps.
fn attributes(inode: &Inode) -> NewAttributes {
    let own = inode.attributes;
    NewAttributes {
        mode: own.map(|own| own.mode),
        uid: own.map(|own| own.uid),
        gid: own.map(|own| own.gid),
        accessed: own.map(|own| own.accessed),
        modified: own.map(|own| own.modified),
    }
}
