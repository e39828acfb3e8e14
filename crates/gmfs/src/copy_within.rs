//! Copies of files and directories inside a region: what is copied, with the path that each copy gets, and copying it.
//!
//! ```
//! use gmfs::copy_within::{Copying, How, plan};
//! # use gmfs_format::native::geometry::Geometry;
//! # use gmfs_format::native::units::PmdShift;
//! # use gmfs_volume::{FormatOptions, Stamp, Writer, WriterOptions};
//! # let geometry = Geometry::plan(32 << 20, PmdShift::M2, 64)?;
//! # let stamp = Stamp { now: 0, writer: String::from("example 1.0") };
//! # let uuid = uuid::Uuid::from_u128(1);
//! # let label = String::from("example");
//! # let format = FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
//! # let mut region = vec![0; 32 << 20];
//! # gmfs_volume::format(&mut region, &format)?;
//! # let options = WriterOptions { writer: String::from("example 1.0"), base: None, clock: || 1 };
//! # let (mut writer, _) = Writer::open(&mut region, options)?;
//! # writer.mkdir(b"/vms/old", true, 0o700, (0, 0))?;
//! let how = How { recursive: true, ..How::default() };
//! let items = plan(writer.tree(), b"/vms", b"/saved", how)?;
//! let mut copying = Copying::new(how, &|bytes| println!("{bytes} bytes are copied"));
//! copying.all(&mut writer, &items)?;
//! assert!(writer.tree().resolve(b"/saved/old").is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::cell::Cell;

use gmfs_format::model::{Inode, InodeNo, Kind, Tree};
use gmfs_format::name::escape;
use gmfs_io::WriteAt;
use gmfs_volume::{ChangeError, CopyOptions, NewAttributes, Writer};

use crate::walk::{self, Go, join, last};

/// Permission bits of a copy of a directory that records none.
const NEW_DIRECTORY: u16 = 0o755;

/// How files and directories are copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Directories are copied too, with all that is in them.
    pub recursive: bool,
    /// What is made keeps owner, group, and the times of access and change. A directory that exists keeps its own.
    pub preserve: bool,
    /// The content of a file that exists is replaced.
    pub replace: bool,
    /// Each GiB of a copy is at a multiple of 1 GiB of physical address. Holes get blocks then.
    pub align_1g: bool,
    /// User and group of what is made.
    pub owner: (u32, u32),
}

/// A file or directory to copy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Item {
    /// What it is now.
    pub inode: Inode,
    /// Its path.
    pub from: Vec<u8>,
    /// The path that its copy gets.
    pub to: Vec<u8>,
}

/// What is to be copied for one path, each directory before what is in it. A destination that is a directory takes the copy
/// under its own name.
///
/// # Errors
/// There is no such path, it is a directory that is not to be copied, or its copy would be in itself.
pub fn plan(tree: &Tree, path: &[u8], destination: &[u8], how: How) -> Result<Vec<Item>, ChangeError> {
    let shown = || escape(path);
    let top = tree.resolve(path).ok_or_else(|| ChangeError::NotFound(shown()))?;
    let is_directory = top.kind == Kind::Directory;
    if path.ends_with(b"/") && !is_directory {
        return Err(ChangeError::NotDirectory(shown()));
    }
    if is_directory && !how.recursive {
        return Err(ChangeError::IsDirectory(shown()));
    }
    let from = tree.path(top.ino).ok_or_else(|| ChangeError::NotFound(shown()))?;
    let name = last(&from).filter(|_| takes_copies(tree, destination));
    let mut to = name.map_or_else(|| destination.to_vec(), |name| join(destination, name));
    while is_directory && to.ends_with(b"/") {
        to.pop();
    }
    if is_directory {
        refuse_into_itself(tree, top, &to)?;
    }
    Ok(items(tree, top, &from, &to))
}

/// Whether a destination is a directory, which takes copies under their own names.
fn takes_copies(tree: &Tree, destination: &[u8]) -> bool {
    tree.resolve(destination).is_some_and(|inode| inode.kind == Kind::Directory)
}

/// `top` and all that is below it.
fn items(tree: &Tree, top: &Inode, from: &[u8], to: &[u8]) -> Vec<Item> {
    let mut items = vec![Item { inode: top.clone(), from: from.to_vec(), to: to.to_vec() }];
    // Paths below the root start with the slash that is the root's own path.
    let above = if from == b"/" { &b""[..] } else { from };
    let Ok(_) = walk::walk(tree, (top, from), |step| {
        let rest = step.path.get(above.len()..).unwrap_or_default();
        items.push(Item { inode: step.inode.clone(), from: step.path.clone(), to: [to, rest].concat() });
        Ok::<_, std::convert::Infallible>(Go::In)
    });
    items
}

/// Refuses a copy of the directory `top` that would be in that directory.
fn refuse_into_itself(tree: &Tree, top: &Inode, to: &[u8]) -> Result<(), ChangeError> {
    let above = to.iter().rposition(|byte| *byte == b'/').and_then(|slash| to.get(..slash)).unwrap_or_default();
    let is_inside = |path: &[u8]| {
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
    if is_inside(above) || is_inside(to) {
        return Err(ChangeError::IntoItself(escape(&tree.path(top.ino).unwrap_or_default())));
    }
    Ok(())
}

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy '{}'", escape(path))]
#[non_exhaustive]
pub struct Failed {
    /// The path of what was to be copied.
    pub path: Vec<u8>,
    /// Why.
    pub source: ChangeError,
}

impl Failed {
    /// Whether the medium failed, so that nothing more can be copied.
    #[must_use]
    pub const fn is_of_medium(&self) -> bool {
        matches!(self.source, ChangeError::Write(_) | ChangeError::Unfinished)
    }
}

/// Copies what was planned, and what has been copied so far.
pub struct Copying<'a> {
    how: How,
    progress: &'a dyn Fn(u64),
    copied: Cell<u64>,
    /// What was copied, and whether it is new.
    pub made: Vec<(&'a Item, bool)>,
}

impl<'a> Copying<'a> {
    /// Nothing is copied yet. `progress` is called with how many bytes have been copied in all.
    #[must_use]
    pub const fn new(how: How, progress: &'a dyn Fn(u64)) -> Self {
        Self { how, progress, copied: Cell::new(0), made: Vec::new() }
    }

    /// Copies these items up to the first error, each file in one commit.
    ///
    /// # Errors
    /// Which of them could not be copied; those before it are.
    pub fn all<S: WriteAt>(&mut self, writer: &mut Writer<S>, items: &'a [Item]) -> Result<(), Failed> {
        let failed = |item: &Item, source| Failed { path: item.from.clone(), source };
        let first = self.made.len();
        for item in items {
            let new = self.one(writer, item).map_err(|error| failed(item, error))?;
            self.made.push((item, new));
        }
        if self.how.preserve {
            // Each entry that was made has changed the times of its directory.
            let made = self.made.iter().skip(first).rev();
            for (item, _) in made.filter(|(item, new)| *new && item.inode.kind == Kind::Directory) {
                let kept = attributes(&item.inode);
                writer.set_attributes(&item.to, false, &|_| kept).map_err(|error| failed(item, error))?;
            }
        }
        Ok(())
    }

    /// Copies a file or makes a directory; whether it is new.
    fn one<S: WriteAt>(&self, writer: &mut Writer<S>, item: &Item) -> Result<bool, ChangeError> {
        let How { preserve, replace, align_1g, owner, .. } = self.how;
        if item.inode.kind == Kind::Directory {
            let new = !takes_copies(writer.tree(), &item.to);
            if new {
                let mode = item.inode.attributes.map_or(NEW_DIRECTORY, |own| own.mode);
                writer.mkdir(&item.to, false, mode, owner)?;
            }
            return Ok(new);
        }
        let progress = |bytes: u64| {
            self.copied.set(self.copied.get().saturating_add(bytes));
            (self.progress)(self.copied.get());
        };
        writer.copy(&item.from, &item.to, &CopyOptions { owner, preserve, replace, align_1g, progress: &progress })?;
        Ok(true)
    }
}

/// The attributes that a copy keeps.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{open, region};

    fn paths(path: &str, destination: &str, recursive: bool) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(&region(dir.path())).unwrap().inodes().tree;
        let how = How { recursive, ..How::default() };
        let items = plan(&tree, path.as_bytes(), destination.as_bytes(), how).map_err(|error| error.to_string())?;
        let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
        Ok(items.iter().map(|item| (text(&item.from), text(&item.to))).collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(list.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect())
    }

    #[test]
    fn a_directory_takes_the_copy_under_its_own_name() {
        assert_eq!(paths("/vms/a", "/b", false), pairs(&[("/vms/a", "/b")]));
        assert_eq!(paths("/vms/a", "/empty", false), pairs(&[("/vms/a", "/empty/a")]));
        let deep = [("/vms/deep", "/empty/deep"), ("/vms/deep/b", "/empty/deep/b")];
        assert_eq!(paths("/vms/deep/", "/empty/", true), pairs(&deep));
        assert_eq!(paths("/vms/deep", "/new/", true), pairs(&[("/vms/deep", "/new"), ("/vms/deep/b", "/new/b")]));
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        for (path, destination, recursive, why) in [
            ("/vms", "/b", false, "is a directory"),
            ("/none", "/b", true, "there is no"),
            ("/vms/a/", "/b", true, "is not a directory"),
            ("/vms", "/vms/deep", true, "into itself"),
            ("/vms", "/vms/new", true, "into itself"),
            ("/", "/empty", true, "into itself"),
        ] {
            let error = paths(path, destination, recursive).unwrap_err();
            assert!(error.contains(why), "{path} {destination}: {error}");
        }
    }
}
