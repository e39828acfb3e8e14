//! What an operand becomes outside.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gmfs_format::model::{Inode, InodeNo};
use gmfs_format::name;

use super::Error;
use crate::folder::{Folder, FolderError};
use crate::new_file::{demands_directory, folder_of};

/// What is to be made outside of a file or a directory. Only the path that the user named is followed through symbolic links;
/// everything else is made, or entered, by name in a directory that is open.
#[derive(Debug)]
pub struct Target(Of);

#[derive(Debug)]
enum Of {
    /// This directory, which exists.
    Existing(Folder),
    /// An entry of this directory, and whether its name demands a directory.
    Entry { parent: Folder, name: OsString, slash: bool },
}

impl Target {
    /// What `top` becomes: an entry of the directory `destination` under its own name, or `destination` itself if that does not
    /// exist. An empty path is the current directory. The root has no name: it becomes the directory.
    ///
    /// # Errors
    /// No file can have its name, or the directory cannot be opened.
    pub fn new(destination: &Path, top: &Inode) -> Result<Self, Error> {
        if destination.as_os_str().is_empty() || destination.is_dir() {
            // The current directory is left out of the paths in messages.
            let named = if destination == Path::new(".") { Path::new("") } else { destination };
            return Self::inside(named, top);
        }
        let (parent, name) =
            folder_of(destination).map_err(|why| Error::Destination { path: destination.to_owned(), why })?;
        Ok(Self(Of::Entry { parent, name, slash: demands_directory(destination) }))
    }

    /// An entry of a directory.
    fn inside(directory: &Path, top: &Inode) -> Result<Self, Error> {
        let opened = Folder::open(directory);
        let parent = opened.map_err(|source| Error::Open { path: directory.to_owned(), source })?;
        if top.ino == InodeNo::ROOT {
            return Ok(Self(Of::Existing(parent)));
        }
        let name = name::outside(&top.name);
        name::check(&name).map_err(|source| Error::Name { name: top.name.to_vec(), source })?;
        Ok(Self(Of::Entry { parent, name: OsString::from_vec(name), slash: false }))
    }

    /// The path of what is to be made; of a directory that exists, its own.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.0 {
            Of::Existing(folder) => folder.path_of(OsStr::new("")),
            Of::Entry { parent, name, .. } => parent.path_of(name),
        }
    }

    /// The directory and the name of a file.
    pub(super) fn file(self) -> Result<(Arc<Folder>, OsString), Error> {
        match self.0 {
            Of::Entry { parent, name, slash: false } => Ok((Arc::new(parent), name)),
            Of::Entry { parent, name, .. } => Err(Error::NotDirectory(parent.path_of(&name))),
            Of::Existing(_) => Err(Error::IsDirectory),
        }
    }

    /// The directory, made if it is not there, and whether it was.
    pub(super) fn directory(self) -> Result<(Folder, bool), Error> {
        match self.0 {
            Of::Existing(folder) => Ok((folder, false)),
            Of::Entry { parent, name, .. } => {
                let made = parent.make_or_enter(&name);
                let path = || parent.path_of(&name);
                Ok(made.map_err(|source| FolderError { path: path(), made: true, source })?)
            }
        }
    }
}
