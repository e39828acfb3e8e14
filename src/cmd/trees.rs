//! Files and directories outside, with all that is in them, on their way into a region: `gmfs put -r` and `gmfs mkfs
//! --populate`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gmfs_format::model::Kind;
use gmfs_format::spec::RegionSpec;
use gmfs_io::{Span, WriteAt};
use gmfs_volume::{ChangeError, CreateOptions, NewAttributes, PutOptions, Writer};

use super::{Tried, owner};
use crate::failure::Failure;
use crate::paths;
use crate::render::progress::{Counted, Progress};

/// Permission bits of a new directory.
const NEW_DIRECTORY: u16 = 0o755;

/// The attributes that files and directories keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    None,
    /// Permission bits, owner, group, and the time of the last change.
    WithoutAccess,
    /// The time of the last access too.
    All,
}

/// How files are put.
#[derive(Clone, Copy, Debug)]
pub(super) struct How<'a> {
    /// The image, which is never its own content.
    pub(super) image: &'a Path,
    /// Where in it the region is.
    pub(super) region: Option<RegionSpec>,
    /// Of each file, with its own size.
    pub(super) put: PutOptions,
    pub(super) keep: Keep,
}

impl How<'_> {
    /// How a file of this size is put.
    pub(super) const fn options(&self, size: u64) -> PutOptions {
        PutOptions { create: CreateOptions { size, ..self.put.create }, ..self.put }
    }

    /// The attributes that a file or directory keeps. A time before 1970 is not kept.
    pub(super) fn attributes(&self, meta: &Metadata) -> NewAttributes {
        if self.keep == Keep::None {
            return NewAttributes::default();
        }
        let time = |seconds: i64, nanoseconds: i64| {
            let whole = u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?;
            whole.checked_add(u64::try_from(nanoseconds).ok()?)
        };
        NewAttributes {
            mode: u16::try_from(meta.mode() & 0o7777).ok(),
            uid: Some(meta.uid()),
            gid: Some(meta.gid()),
            accessed: time(meta.atime(), meta.atime_nsec()).filter(|_| self.keep == Keep::All),
            modified: time(meta.mtime(), meta.mtime_nsec()),
        }
    }

    /// Refuses the image as its own content: what is written would be read, until no room is left.
    pub(super) fn refuse_itself(&self, source: &OsStr) -> Result<(), Failure> {
        let source = if source == "-" { Path::new("/proc/self/fd/0") } else { Path::new(source) };
        let region = self.region.map_or(Span::new(0, u64::MAX), |spec| Span::new(spec.base.unwrap_or(0), spec.size));
        if gmfs_image::share_bytes((source, Span::new(0, u64::MAX)), (self.image, region)) {
            let failure = Failure::new("same-file", "it is the image itself, or holds the same bytes");
            return Err(failure.hint("copy the region first: gmfs save IMAGE -o FILE"));
        }
        Ok(())
    }
}

pub(super) fn cannot_put(source: &OsStr, destination: &[u8]) -> String {
    let shown = if source == "-" { "standard input".to_owned() } else { source.display().to_string() };
    format!("cannot put {shown} as '{}'", paths::shown(destination))
}

/// A file or directory outside, and the path in the region that it gets: from the operand that led to it on.
pub(super) struct Item {
    pub(super) source: PathBuf,
    pub(super) path: Vec<u8>,
    pub(super) meta: Metadata,
}

/// What is to be copied, each directory before what is in it, by name.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    pub(super) tried: Tried,
    /// Bytes of all files.
    pub(super) total: u64,
}

impl Plan {
    /// Adds a file, or a directory and what is in it.
    pub(super) fn add(&mut self, how: &How<'_>, source: &Path) {
        self.below(how, source, Vec::new(), true);
    }

    /// The same of what is below an operand, in which symbolic links are not followed.
    fn below(&mut self, how: &How<'_>, source: &Path, path: Vec<u8>, top: bool) {
        let look = if top { std::fs::metadata(source) } else { std::fs::symlink_metadata(source) };
        let read = look.map_err(anyhow::Error::new).and_then(|meta| self.one(how, source, path.clone(), meta));
        if let Some(Some(entries)) = self.tried.add(read.with_context(|| cannot_put(source.as_os_str(), &path))) {
            for (name, source) in entries {
                let path = paths::join(&path, paths::bytes(&name));
                self.below(how, &source, path, false);
            }
        }
    }

    /// Adds one of them; gives the entries of a directory.
    fn one(
        &mut self,
        how: &How<'_>,
        source: &Path,
        path: Vec<u8>,
        meta: Metadata,
    ) -> Result<Option<BTreeMap<OsString, PathBuf>>> {
        let below = if meta.is_dir() {
            let entries = std::fs::read_dir(source)?.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())));
            Some(entries.collect::<io::Result<_>>()?)
        } else if meta.is_file() {
            how.refuse_itself(source.as_os_str())?;
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

/// What has been copied so far.
pub(super) struct Copying<'a> {
    how: How<'a>,
    progress: &'a Progress,
    copied: u64,
    /// Directories that could not be made: what is in them is not tried.
    failed: Vec<Vec<u8>>,
    /// What was made or taken, by its path, and whether it is new.
    pub(super) made: Vec<(Vec<u8>, &'a Item, bool)>,
}

impl<'a> Copying<'a> {
    pub(super) const fn new(how: How<'a>, progress: &'a Progress) -> Self {
        Self { how, progress, copied: 0, failed: Vec::new(), made: Vec::new() }
    }

    /// Copies a file, or makes a directory. After an error, what is below it is not tried.
    ///
    /// # Errors
    /// Why it could not be copied.
    pub(super) fn one<S: WriteAt>(
        &mut self,
        writer: &mut Writer<S>,
        item: &'a Item,
        path: &[u8],
    ) -> Result<(), ChangeError> {
        let below = |above: &Vec<u8>| path.strip_prefix(above.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
        if self.failed.iter().any(below) {
            return Ok(());
        }
        let made = self.make(writer, item, path);
        if made.is_err() {
            self.failed.push(path.to_vec());
        }
        self.made.push((path.to_vec(), item, made?));
        Ok(())
    }

    /// Returns whether it is new.
    fn make<S: WriteAt>(&mut self, writer: &mut Writer<S>, item: &Item, path: &[u8]) -> Result<bool, ChangeError> {
        if item.meta.is_dir() {
            // A directory that is there takes what is in this one.
            let new = writer.tree().resolve(path).is_none_or(|inode| inode.kind != Kind::Directory);
            if new {
                writer.mkdir(path, false, NEW_DIRECTORY, owner())?;
            }
            return Ok(new);
        }
        let file = std::fs::File::open(&item.source).map_err(ChangeError::Content)?;
        let mut content = Counted::from(file, self.progress, self.copied);
        writer.put_with(path, &mut content, &self.how.options(item.meta.len()), self.how.attributes(&item.meta))?;
        self.copied = self.copied.saturating_add(item.meta.len());
        Ok(true)
    }

    /// Gives directories that are new their attributes: each entry that was made has changed them.
    ///
    /// # Errors
    /// The medium.
    pub(super) fn finish<S: WriteAt>(&self, writer: &mut Writer<S>) -> Result<(), ChangeError> {
        if self.how.keep == Keep::None {
            return Ok(());
        }
        for (path, item, _) in self.made.iter().rev().filter(|(_, item, new)| *new && item.meta.is_dir()) {
            writer.set_attributes(path, false, &|_| self.how.attributes(&item.meta))?;
        }
        Ok(())
    }
}
