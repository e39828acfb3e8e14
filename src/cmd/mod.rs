//! The commands, a module each: its arguments, and what it does with them. To add one: a module here with `Args` and
//! `run`, a line in [`crate::cli`], types for its JSON in [`crate::render::json`], and its tests in `tests/it/`.

pub(crate) mod bad;
pub(crate) mod cat;
pub(crate) mod chmod;
pub(crate) mod chown;
pub(crate) mod complete;
pub(crate) mod completions;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod df;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod explain;
pub(crate) mod extract;
pub(crate) mod fsck;
pub(crate) mod inject;
pub(crate) mod inspect;
pub(crate) mod kho;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod map;
pub(crate) mod metrics;
pub(crate) mod mkdir;
pub(crate) mod mkfs;
pub(crate) mod mount;
pub(crate) mod mv;
pub(crate) mod plan;
pub(crate) mod preflight;
pub(crate) mod put;
pub(crate) mod repair;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod rm;
pub(crate) mod save;
pub(crate) mod scan;
pub(crate) mod seal;
mod sealing;
pub(crate) mod stat;
pub(crate) mod tree;
pub(crate) mod truncate;
pub(crate) mod tune;
pub(crate) mod umount;
pub(crate) mod undo;
pub(crate) mod unseal;
pub(crate) mod verify;
pub(crate) mod vm;
pub(crate) mod who;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use anyhow::Result;
use gmfs::changes::Changes;
use gmfs::put::{How, Plan, Unfit};
use gmfs::store::Inodes;
use gmfs::{Store, glob};
use gmfs_format::model::{Inode, InodeNo, Kind, Tree};
use gmfs_volume::ChangeError;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, Changing};
pub(crate) use crate::parse::{new_file, parse_mode, parse_size, region_path};
use crate::paths::{self, Why};
use crate::render::json::{self, actions, files};
use crate::render::{changes, size};

/// So many inodes are named in one message.
const NAMED: usize = 8;

/// Operands of one command, all of which are tried.
#[derive(Default)]
pub(crate) struct Tried {
    done: bool,
    /// What the last one failed with; of those before it is told already.
    failed: Option<anyhow::Error>,
}

impl Tried {
    /// Takes what came of an operand; gives what was done.
    pub(crate) fn add<T>(&mut self, result: Result<T, impl Into<anyhow::Error>>) -> Option<T> {
        match result {
            Ok(done) => {
                self.done = true;
                Some(done)
            }
            Err(error) => {
                if let Some(before) = self.failed.replace(error.into()) {
                    crate::report::tell(&before);
                }
                None
            }
        }
    }

    /// Takes what came of the change of an operand, which is named if it failed. An error of the medium is returned: after it,
    /// nothing more is tried.
    pub(crate) fn add_change<T>(
        &mut self,
        result: Result<T, ChangeError>,
        cannot: impl FnOnce() -> String,
    ) -> Result<Option<T>, ChangeError> {
        match result {
            Err(error @ (ChangeError::Write(_) | ChangeError::Read(_) | ChangeError::Unfinished)) => Err(error),
            done => Ok(self.add(done.map_err(|error| anyhow::Error::new(error).context(cannot())))),
        }
    }

    /// Notes that something was done.
    pub(crate) const fn succeeded(&mut self) {
        self.done = true;
    }

    /// Whether one of them has failed so far.
    pub(crate) const fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Notes that what was done has been undone.
    pub(crate) const fn nothing_done(&mut self) {
        self.done = false;
    }

    /// Whether one of them failed; an error if all did.
    pub(crate) fn end(self) -> Result<bool> {
        match self.failed {
            Some(error) if !self.done => Err(error),
            Some(error) => {
                crate::report::tell(&error);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// The paths that operands stand for: a path that is there stands for itself, otherwise one with `*`, `?` or `[` for all that
/// it matches. A pattern that matches nothing is an operand that failed.
pub(crate) fn expand(tree: &Tree, paths: &[OsString], tried: &mut Tried) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut seen: HashSet<OsString> = paths.iter().cloned().collect();
    for operand in paths {
        let pattern = paths::bytes(operand);
        if !glob::is_pattern(pattern) || at(tree, operand).is_ok() {
            all.push(operand.clone());
            continue;
        }
        let found = glob::expand(tree, pattern);
        if found.is_empty() {
            let message = format!("nothing in the region matches '{}'", paths::shown(pattern));
            let failure = Failure::new("not-found", message).hint("`gmfs tree IMAGE` shows what is there");
            tried.add(Err::<(), _>(failure));
        }
        // What is named beside the pattern is not meant twice.
        all.extend(found.into_iter().map(OsString::from_vec).filter(|path| seen.insert(path.clone())));
    }
    all
}

/// Does something to each path in a region, as far as it can be done; after an error of the medium nothing more is tried.
pub(crate) fn change_each(
    paths: &[OsString],
    mut tried: Tried,
    mut change: impl FnMut(&[u8]) -> Result<(), ChangeError>,
) -> Result<Tried, ChangeError> {
    for path in paths {
        match change(paths::bytes(path)) {
            Err(error @ (ChangeError::Write(_) | ChangeError::Read(_) | ChangeError::Unfinished)) => return Err(error),
            done => tried.add(done),
        };
    }
    Ok(tried)
}

/// The store's files; says so when some of them are lost.
pub(crate) fn inodes(store: &Store, ctx: &Ctx) -> (Inodes, Exit) {
    let inodes = store.inodes();
    let mut exit = tell_lost(inodes.lost_pages, "inode table", "listing", ctx);
    if inodes.broken_chains > 0 {
        let chains = size::count(inodes.broken_chains, "chain");
        let verb = if inodes.broken_chains == 1 { "is" } else { "are" };
        ctx.warn(&format!("{chains} of directory entries {verb} broken; the listing may be incomplete"));
        exit = Exit::No;
    }
    (inodes, exit)
}

/// Says that an answer is incomplete because pages are lost, and what the command ends with.
pub(crate) fn tell_lost(pages: u64, table: &str, what: &str, ctx: &Ctx) -> Exit {
    if pages == 0 {
        return Exit::Done;
    }
    let (pages, verb) = (size::count(pages, "page"), if pages == 1 { "is" } else { "are" });
    ctx.warn(&format!("{pages} of the {table} {verb} lost; the {what} is incomplete (`gmfs fsck` tells more)"));
    Exit::No
}

/// The inode at a path of the command line.
pub(crate) fn at<'t>(tree: &'t Tree, path: &OsStr) -> Result<&'t Inode, Failure> {
    let path = paths::bytes(path);
    if tree.get(InodeNo::ROOT).is_none() {
        let failure = Failure::new("no-root", "the root directory is lost, so no path leads anywhere");
        return Err(failure.hint("`gmfs inspect IMAGE files` shows what can be told"));
    }
    // A name can be typed as it is shown, or as it is. No two names are shown alike, so that the first comes first.
    let shown = gmfs_format::name::unescape(path).and_then(|path| tree.resolve(&path));
    let found = shown.or_else(|| tree.resolve(path)).ok_or_else(|| open::not_found(path))?;
    if path.ends_with(b"/") && found.kind != Kind::Directory {
        return Err(Failure::new("not-directory", format!("'{}' is not a directory", paths::shown(path))));
    }
    Ok(found)
}

/// The inode at a path of the command line. Where other inodes have the same path, which is damage, says so, and that the
/// answer is not all there is.
pub(crate) fn find<'t>(tree: &'t Tree, path: &OsStr, exit: &mut Exit, ctx: &Ctx) -> Result<&'t Inode, Failure> {
    let found = at(tree, path)?;
    if let Some(typed) = tree.resolve(paths::bytes(path)).filter(|typed| typed.ino != found.ino) {
        let [typed, found] = [typed, found].map(|inode| paths::shown(&tree.path(inode.ino).unwrap_or_default()));
        ctx.warn(&format!(
            "'{found}' is how a name is shown, and it is taken so; write '{typed}' for the one with these bytes"
        ));
    }
    let mut here = found;
    while here.ino != InodeNo::ROOT {
        let twins: Vec<String> = tree.twins(here).take(NAMED).map(|twin| format!("inode {}", twin.ino)).collect();
        if !twins.is_empty() {
            let more = tree.twins(here).count().saturating_sub(twins.len());
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            ctx.warn(&format!(
                "'{}' names more than one inode: inode {} is taken, not {}{more}; `gmfs fsck IMAGE` gives each its own name",
                paths::shown(&tree.path(here.ino).unwrap_or_default()),
                here.ino,
                twins.join(", ")
            ));
            *exit = Exit::No;
        }
        let Some(parent) = tree.get(here.parent) else { break };
        here = parent;
    }
    Ok(found)
}

/// Says which inodes a listing or a copy leaves out, the first few by number and name.
pub(crate) fn tell_hidden(hidden: &[(&Inode, Why)], done: &str, exit: &mut Exit, ctx: &Ctx) {
    if hidden.is_empty() {
        return;
    }
    *exit = Exit::No;
    let named = hidden.iter().take(NAMED);
    let named: Vec<String> =
        named.map(|(inode, why)| format!("inode {} '{}' ({why})", inode.ino, paths::shown(&inode.name))).collect();
    let more = hidden.len().saturating_sub(named.len());
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    let (count, verb) = (hidden.len() as u64, if hidden.len() == 1 { "is" } else { "are" });
    ctx.warn(&format!(
        "{} {verb} not {done}: {}{more}; `gmfs inspect IMAGE inodes` lists all, `gmfs fsck IMAGE` tells what can be done",
        if count == 1 { "1 file or directory".to_owned() } else { format!("{count} files or directories") },
        named.join("; ")
    ));
}

/// Says which of these files are doubtful, the first few by path: their content is given, and may not be the right one.
pub(crate) fn tell_doubtful<'i>(shown: impl Iterator<Item = (&'i Inode, String)>, exit: &mut Exit, ctx: &Ctx) {
    let mut named = Vec::new();
    let mut count = 0_u64;
    for (_, path) in shown.filter(|(inode, _)| inode.is_doubtful()) {
        count += 1;
        if named.len() < NAMED {
            named.push(format!("'{path}'"));
        }
    }
    let Some(last) = named.pop() else { return };
    *exit = Exit::No;
    let more = count.saturating_sub(named.len() as u64 + 1);
    let list = match (named.is_empty(), more) {
        (true, 0) => last,
        (_, 0) => format!("{} and {last}", named.join(", ")),
        (..) => format!("{}{}{last} and {more} more", named.join(", "), if named.is_empty() { "" } else { ", " }),
    };
    let (verb, whose) = if count == 1 { ("is", "its size and its") } else { ("are", "their sizes and their") };
    ctx.warn(&format!(
        "{list} {verb} doubtful: a repair could not prove that {whose} blocks are those of the last commit; compare the content before it is used"
    ));
}

/// Refuses a destination of several `what` that is no directory of the region.
pub(crate) fn require_directory(tree: &Tree, destination: &[u8], what: &str) -> Result<(), Failure> {
    if tree.resolve(destination).is_some_and(|inode| inode.kind == Kind::Directory) {
        return Ok(());
    }
    let message = format!("'{}' is no directory, and several {what} need one", paths::shown(destination));
    Err(Failure::new("not-directory", message).hint("make it first: gmfs mkdir"))
}

/// Adds what is to be put into a region to a plan, and what cannot be put to the operands that failed.
pub(crate) fn plan_put(plan: &mut Plan, how: &How<'_>, source: &Path, tried: &mut Tried) {
    plan.add(how, source, |source, path, read| add_put(tried, source, path, read));
}

/// Adds what cannot be put into a region to the operands that failed.
pub(crate) fn add_put(tried: &mut Tried, source: &Path, path: &[u8], read: Result<(), Unfit>) {
    tried.add(read.map_err(|error| anyhow::Error::new(error).context(cannot_put(source.as_os_str(), path))));
}

/// What could not be done to a file that was to be put into a region.
pub(crate) fn cannot_put(source: &OsStr, destination: &[u8]) -> String {
    let shown = if source == "-" { "standard input".to_owned() } else { source.display().to_string() };
    format!("cannot put {shown} as '{}'", paths::shown(destination))
}

/// The user and group that new files belong to.
pub(crate) fn owner() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// What a change has made of these paths.
pub(crate) fn entries(writer: &Changing<'_>, paths: &[&[u8]]) -> Vec<files::Entry> {
    let found = paths.iter().filter_map(|path| Some((*path, writer.tree().resolve(path)?)));
    let entry = |(path, inode): (&[u8], &Inode)| {
        let path = writer.tree().path(inode.ino).unwrap_or_else(|| path.to_vec());
        files::Entry::new(&path, inode)
    };
    found.map(entry).collect()
}

/// Ends a command that changed several operands, of which some may have failed: reports the change, as
/// [`tell_change`] does. If all of them failed, `failed` is the error.
pub(crate) fn tell_changes(
    ctx: &mut Ctx,
    command: &str,
    failed: Result<bool>,
    changed: (Vec<files::Entry>, Changes),
) -> Result<Exit> {
    let failed = failed?;
    let exit = tell_change(ctx, command, changed)?;
    Ok(if failed { Exit::Failed } else { exit })
}

/// Reports a change in JSON, or what a dry run would change. Without either a change that was made prints nothing, as is
/// the custom.
pub(crate) fn tell_change(
    ctx: &mut Ctx,
    command: &str,
    (entries, changed): (Vec<files::Entry>, Changes),
) -> Result<Exit> {
    if ctx.json {
        json::print(ctx, command, &actions::Changed::new(&changed, entries))?;
    } else if changed.dry_run {
        changes::tell(&changed, ctx)?;
    }
    Ok(Exit::Done)
}
