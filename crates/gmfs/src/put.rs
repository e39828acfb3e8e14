//! Files and directories from outside, with all that is in them, on their way into a region.
//!
//! ```
//! use gmfs::put::{Copying, How, Plan};
//! use gmfs_format::native::geometry::Geometry;
//! use gmfs_format::native::units::PmdShift;
//! use gmfs_volume::{FormatOptions, Stamp, Writer, WriterOptions};
//! # let folder = tempfile::tempdir()?;
//! # std::fs::write(folder.path().join("a.mem"), b"content")?;
//! # let (folder, image) = (folder.path(), std::path::Path::new("region.img"));
//! # let geometry = Geometry::plan(32 << 20, PmdShift::M2, 64)?;
//! # let stamp = Stamp { now: 0, writer: String::from("example 1.0") };
//! # let uuid = uuid::Uuid::from_u128(1);
//! # let label = String::from("example");
//! # let format = FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
//! # let mut region = vec![0; 32 << 20];
//! # gmfs_volume::format(&mut region, &format)?;
//!
//! let how = How::new(image);
//! let mut plan = Plan::default();
//! plan.add(&how, folder, |_, _, read| read.unwrap_or_else(|error| eprintln!("left out: {error}")));
//! let options = WriterOptions { writer: String::from("example 1.0"), base: None, clock: || 1 };
//! let (mut writer, _) = Writer::open(&mut region, options)?;
//! let mut copying = Copying::new(how, &());
//! for item in &plan.items {
//!     copying.one(&mut writer, item, &[b"/vms", item.path.as_slice()].concat())?;
//! }
//! copying.finish(&mut writer)?;
//! # assert!(writer.tree().resolve(b"/vms/a.mem").is_some());
//! writer.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gmfs_format::model::{Kind, Tree};
use gmfs_format::spec::RegionSpec;
use gmfs_io::num::len64;
use gmfs_io::{Span, WriteAt};
use gmfs_volume::{ChangeError, CreateOptions, NewAttributes, PutOptions, Writer};

use crate::copy::Progress;
use crate::walk::join;

/// Permission bits of a file, if nothing else is said.
const PRIVATE: u16 = 0o600;
/// Permission bits of a new directory.
const NEW_DIRECTORY: u16 = 0o755;

/// The attributes that files and directories keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// None: they get those of new files.
    None,
    /// Permission bits, owner, group, and the time of the last change.
    WithoutAccess,
    /// The time of the last access too.
    All,
}

/// How files are put.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// The image, which is never its own content.
    pub image: &'a Path,
    /// Where in it the region is.
    pub region: Option<RegionSpec>,
    /// Of each file, with its own size.
    pub put: PutOptions,
    /// What they keep.
    pub keep: Keep,
}

/// Why something outside cannot be put into a region.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// What is written would be read, until no room is left.
    #[error("it is the image itself, or holds the same bytes")]
    Itself,
    /// A symbolic link.
    #[error("it is a symbolic link, and a region has none of those")]
    Link,
    /// A device, a pipe, a socket.
    #[error("it is no file and no directory, and a region has none of those")]
    Special,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<'a> How<'a> {
    /// New files that only root can read, with none of the attributes that they have outside, into a region that is all of
    /// this image.
    #[must_use]
    pub const fn new(image: &'a Path) -> Self {
        let create = CreateOptions { size: 0, sparse: false, align_1g: false, mode: PRIVATE, owner: (0, 0) };
        Self { image, region: None, put: PutOptions { create, replace: false }, keep: Keep::None }
    }

    /// How a file of this size is put.
    pub const fn options(&self, size: u64) -> PutOptions {
        PutOptions { create: CreateOptions { size, ..self.put.create }, ..self.put }
    }

    /// The attributes that a file or directory keeps. A time before 1970 is not kept.
    pub fn attributes(&self, meta: &Metadata) -> NewAttributes {
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
    ///
    /// # Errors
    /// [`Unfit::Itself`].
    pub fn refuse_itself(&self, source: &Path) -> Result<(), Unfit> {
        let region = self.region.map_or(Span::new(0, u64::MAX), |spec| Span::new(spec.base.unwrap_or(0), spec.size));
        if gmfs_image::share_bytes((source, Span::new(0, u64::MAX)), (self.image, region)) {
            return Err(Unfit::Itself);
        }
        Ok(())
    }
}

/// A file or directory outside, and the path in the region that it gets: from the operand that led to it on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Item {
    /// Where it is.
    pub source: PathBuf,
    /// Empty for what was named; what is below has a path that starts with a slash.
    pub path: Vec<u8>,
    /// What the system says of it.
    pub meta: Metadata,
}

/// What is to be copied, each directory before what is in it, by name.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Plan {
    /// What can be copied.
    pub items: Vec<Item>,
    /// Bytes of all files.
    pub total: u64,
}

impl Plan {
    /// Adds a file, or a directory and what is in it. `tell` is told of each whether it could be read: where it is, and its
    /// path as in [`Item`].
    pub fn add(&mut self, how: &How<'_>, source: &Path, mut tell: impl FnMut(&Path, &[u8], Result<(), Unfit>)) {
        // Not by recursion: directories can be nested deeper than the stack is.
        let mut left = vec![(source.to_owned(), Vec::new())];
        while let Some((source, path)) = left.pop() {
            // Below what was named, symbolic links are not followed.
            let look = if path.is_empty() { std::fs::metadata(&source) } else { std::fs::symlink_metadata(&source) };
            match look.map_err(Unfit::Io).and_then(|meta| self.one(how, &source, path.clone(), meta)) {
                Ok(entries) => {
                    tell(&source, &path, Ok(()));
                    let entries = entries.into_iter().flatten().rev();
                    left.extend(entries.map(|(name, source)| (source, join(&path, name.as_bytes()))));
                }
                Err(error) => tell(&source, &path, Err(error)),
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
    ) -> Result<Option<BTreeMap<OsString, PathBuf>>, Unfit> {
        let below = if meta.is_dir() {
            let entries = std::fs::read_dir(source)?.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())));
            Some(entries.collect::<io::Result<_>>()?)
        } else if meta.is_file() {
            how.refuse_itself(source)?;
            self.total = self.total.saturating_add(meta.len());
            None
        } else {
            return Err(if meta.is_symlink() { Unfit::Link } else { Unfit::Special });
        };
        self.items.push(Item { source: source.to_owned(), path, meta });
        Ok(below)
    }
}

/// The path in a region of what is outside at `source`: the destination, or, if that is a directory, an entry of it under the
/// same name.
#[must_use]
pub fn path_for(tree: &Tree, source: &Path, destination: &[u8]) -> Vec<u8> {
    let into = tree.resolve(destination).is_some_and(|inode| inode.kind == Kind::Directory);
    let name = source.file_name().filter(|_| into);
    name.map_or_else(|| destination.to_vec(), |name| join(destination, name.as_bytes()))
}

/// Copies what a [`Plan`] has, and what has been copied so far.
pub struct Copying<'a> {
    how: How<'a>,
    progress: &'a dyn Progress,
    copied: u64,
    /// Directories that could not be made: what is in them is not tried.
    failed: Vec<Vec<u8>>,
    /// What was made or taken, by its path, and whether it is new.
    pub made: Vec<(Vec<u8>, &'a Item, bool)>,
}

impl<'a> Copying<'a> {
    /// Nothing is copied yet.
    pub const fn new(how: How<'a>, progress: &'a dyn Progress) -> Self {
        Self { how, progress, copied: 0, failed: Vec::new(), made: Vec::new() }
    }

    /// Copies a file, or makes a directory. After an error, what is below it is not tried.
    ///
    /// # Errors
    /// Why it could not be copied.
    pub fn one<S: WriteAt>(&mut self, writer: &mut Writer<S>, item: &'a Item, path: &[u8]) -> Result<(), ChangeError> {
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
                writer.mkdir(path, false, NEW_DIRECTORY, self.how.put.create.owner)?;
            }
            return Ok(new);
        }
        let file = std::fs::File::open(&item.source).map_err(ChangeError::Content)?;
        let mut content = Counted::new(file, self.progress, self.copied);
        writer.put_with(path, &mut content, &self.how.options(item.meta.len()), self.how.attributes(&item.meta))?;
        self.copied = self.copied.saturating_add(item.meta.len());
        Ok(true)
    }

    /// Gives directories that are new their attributes: each entry that was made has changed them.
    ///
    /// # Errors
    /// The medium.
    pub fn finish<S: WriteAt>(&self, writer: &mut Writer<S>) -> Result<(), ChangeError> {
        if self.how.keep == Keep::None {
            return Ok(());
        }
        for (path, item, _) in self.made.iter().rev().filter(|(_, item, new)| *new && item.meta.is_dir()) {
            writer.set_attributes(path, false, &|_| self.how.attributes(&item.meta))?;
        }
        Ok(())
    }
}

/// A reader that reports how much has been read.
pub struct Counted<'p, R> {
    inner: R,
    progress: &'p dyn Progress,
    done: u64,
}

impl<'p, R> Counted<'p, R> {
    /// `done` bytes of the work are done already.
    pub const fn new(inner: R, progress: &'p dyn Progress, done: u64) -> Self {
        Self { inner, progress, done }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buf)?;
        self.done = self.done.saturating_add(len64(length));
        self.progress.at(self.done);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{open, region};

    #[test]
    fn a_directory_takes_what_is_put_under_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(&region(dir.path())).unwrap().inodes().tree;
        let of = |source: &str, destination: &str| path_for(&tree, Path::new(source), destination.as_bytes());
        assert_eq!(of("dir/x.mem", "/new"), b"/new");
        assert_eq!(of("dir/x.mem", "/vms/a"), b"/vms/a");
        assert_eq!(of("dir/x.mem", "/vms"), b"/vms/x.mem");
        assert_eq!(of("/", "/vms"), b"/vms");
    }
}
