//! `gmfs put -r`: directories with all that is in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gmfs_format::model::Kind;
use gmfs_volume::{ChangeError, NewAttributes};

use super::{Args, attributes_of, cannot_put, options, refuse_itself};
use crate::cmd::{Tried, entries, owner, tell_change};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, Changing};
use crate::paths;
use crate::render::progress::{Counted, Progress};

/// Permission bits of a new directory.
const NEW_DIRECTORY: u16 = 0o755;

/// A file or directory outside, and the path in the region that it gets.
struct Item {
    source: PathBuf,
    path: Vec<u8>,
    meta: Metadata,
}

/// What is to be copied, each directory before what is in it, by name.
#[derive(Default)]
struct Plan {
    items: Vec<Item>,
    tried: Tried,
    total: u64,
}

impl Plan {
    /// Adds a file, or a directory and what is in it. Symbolic links in it are not followed.
    fn add(&mut self, args: &Args, source: PathBuf, path: Vec<u8>, top: bool) {
        let look = if top { std::fs::metadata(&source) } else { std::fs::symlink_metadata(&source) };
        let read = look.map_err(anyhow::Error::new).and_then(|meta| self.one(args, &source, path.clone(), meta));
        let shown = source.as_os_str();
        if let Some(Some(below)) = self.tried.add(read.with_context(|| cannot_put(shown, &path))) {
            for (name, source) in below {
                let path = paths::join(&path, paths::bytes(&name));
                self.add(args, source, path, false);
            }
        }
    }

    /// Adds one of them; gives the entries of a directory.
    fn one(
        &mut self,
        args: &Args,
        source: &Path,
        path: Vec<u8>,
        meta: Metadata,
    ) -> Result<Option<BTreeMap<OsString, PathBuf>>> {
        let below = if meta.is_dir() {
            let entries = std::fs::read_dir(source)?.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())));
            Some(entries.collect::<std::io::Result<_>>()?)
        } else if meta.is_file() {
            refuse_itself(args, source.as_os_str())?;
            self.total = self.total.saturating_add(meta.len());
            None
        } else {
            let what = if meta.is_symlink() { "a symbolic link" } else { "no file and no directory" };
            let failure = Failure::new("wrong-kind", format!("it is {what}, and a region has none of those"));
            return Err(failure.hint("put what it leads to by its own name").into());
        };
        self.items.push(Item { source: source.to_owned(), path, meta });
        Ok(below)
    }
}

/// Copies files and directories. All of them are tried.
pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let destination = paths::bytes(&args.destination);
    let cannot = || format!("cannot put them into '{}'", paths::shown(destination));
    let sources = &args.sources;
    if sources.iter().any(|source| source == "-") {
        let failure = Failure::new("no-name", "standard input has no name that it could have in a directory");
        return Err(failure.hint("without -r, it is put as DEST")).with_context(cannot);
    }
    let mut plan = Plan::default();
    for source in sources {
        plan.add(args, PathBuf::from(source), Vec::new(), true);
    }
    let Plan { items, mut tried, total } = plan;
    let progress = Progress::new(ctx, "copying", total);
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let is_directory = writer.tree().resolve(destination).map(|inode| inode.kind == Kind::Directory);
        if sources.len() > 1 && is_directory != Some(true) {
            let message = format!("'{}' is no directory, and several sources need one", paths::shown(destination));
            return Ok(Err(Failure::new("not-directory", message).hint("make it first: gmfs mkdir")));
        }
        let mut copying = Copying { args, progress: &progress, copied: 0, failed: Vec::new(), made: Vec::new() };
        let mut top: Vec<u8> = Vec::new();
        for item in &items {
            if item.path.is_empty() {
                // What is below it has paths that start with a slash, or that go on from the root.
                let name = item.source.file_name().filter(|_| is_directory == Some(true));
                top = name.map_or_else(|| destination.to_vec(), |name| paths::join(destination, paths::bytes(name)));
                while item.meta.is_dir() && top.ends_with(b"/") {
                    top.pop();
                }
            }
            let path = [top.as_slice(), item.path.as_slice()].concat();
            match copying.one(writer, item, &path) {
                Ok(()) => {}
                Err(error @ (ChangeError::Write(_) | ChangeError::Read(_) | ChangeError::Unfinished)) => {
                    return Err(error);
                }
                Err(error) => {
                    copying.failed.push(path.clone());
                    let error = anyhow::Error::new(error).context(cannot_put(item.source.as_os_str(), &path));
                    tried.add(Err::<(), _>(error));
                }
            }
        }
        let made = std::mem::take(&mut copying.made);
        if args.preserve {
            // A directory's time of change, which each entry that was made has changed.
            for (path, item) in made.iter().rev().filter(|(_, item)| item.meta.is_dir()) {
                writer.set_attributes(path, false, &|_| attributes_of(&item.meta))?;
            }
        }
        if !made.is_empty() {
            tried.succeeded();
        }
        let made: Vec<&[u8]> = made.iter().map(|(path, _)| path.as_slice()).collect();
        Ok(Ok((entries(writer, &made), tried)))
    });
    let (done, changes) = changed.with_context(cannot)?;
    let (entries, tried) = done.map_err(anyhow::Error::new).with_context(cannot)?;
    progress.done();
    let failed = tried.end()?;
    let exit = tell_change(ctx, "put", (entries, changes))?;
    Ok(if failed { Exit::Failed } else { exit })
}

/// What has been copied so far.
struct Copying<'a> {
    args: &'a Args,
    progress: &'a Progress,
    copied: u64,
    /// Directories that could not be made: what is in them is not tried.
    failed: Vec<Vec<u8>>,
    made: Vec<(Vec<u8>, &'a Item)>,
}

impl<'a> Copying<'a> {
    fn one(&mut self, writer: &mut Changing<'_>, item: &'a Item, path: &[u8]) -> Result<(), ChangeError> {
        let below = |above: &Vec<u8>| path.strip_prefix(above.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
        if self.failed.iter().any(below) {
            return Ok(());
        }
        if item.meta.is_dir() {
            // A directory that is there takes what is in this one.
            if writer.tree().resolve(path).is_none_or(|inode| inode.kind != Kind::Directory) {
                writer.mkdir(path, false, NEW_DIRECTORY, owner())?;
            }
        } else {
            let file = std::fs::File::open(&item.source).map_err(ChangeError::Content)?;
            let mut content = Counted::from(file, self.progress, self.copied);
            let attributes = if self.args.preserve { attributes_of(&item.meta) } else { NewAttributes::default() };
            writer.put_with(path, &mut content, &options(self.args, item.meta.len()), attributes)?;
            self.copied = self.copied.saturating_add(item.meta.len());
        }
        self.made.push((path.to_vec(), item));
        Ok(())
    }
}
