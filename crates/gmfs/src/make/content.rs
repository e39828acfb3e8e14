//! What a new region holds from the start: files and directories from outside.

use std::io;
use std::path::{Path, PathBuf};

use gmfs_format::native::geometry::Geometry;
use gmfs_format::size;
use gmfs_io::WriteAt;
use gmfs_io::num::len64;
use gmfs_volume::used::Users;
use gmfs_volume::{ChangeError, OpenError, Writer, WriterOptions};

use crate::copy::Progress;
use crate::put::{Copying, How, Item, Plan, Unfit};

/// What is put into a new region: what is in a directory, with its attributes. The directory itself becomes the root.
#[derive(Debug)]
pub struct Content<'a> {
    how: How<'a>,
    plan: Plan,
}

/// How much that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Files.
    pub files: u64,
    /// Directories, the root not counted.
    pub directories: u64,
    /// Bytes in the files.
    pub bytes: u64,
}

/// Why a directory cannot be the content of a region.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It is none.
    #[error("it is no directory")]
    NotDirectory,
    /// It cannot be looked at.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a region cannot hold that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRoom {
    /// It has too few blocks.
    #[error("its files need {} of {}, and the region has {room}", size::count(*needed, "block"), size::human(*block_bytes))]
    Blocks {
        /// How many blocks the files need.
        needed: u64,
        /// Bytes in a block.
        block_bytes: u64,
        /// How many blocks the region has for data.
        room: u64,
    },
    /// It has too few inodes.
    #[error("{needed} files and directories are in it, and the region has {room} inodes")]
    Inodes {
        /// How many files and directories there are.
        needed: u64,
        /// How many inodes the region has.
        room: u64,
    },
}

/// Why a new region was not filled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// The new region cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file or directory cannot be put.
    #[error("cannot put {}", outside.display())]
    Item {
        /// Where it is.
        outside: PathBuf,
        /// The path that it was to get.
        path: Vec<u8>,
        /// Why not.
        source: ChangeError,
    },
    /// The region cannot be changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl<'a> Content<'a> {
    /// Looks at a directory. `tell` is told of each file and directory in it whether it can be put, as by [`Plan::add`].
    ///
    /// # Errors
    /// The directory cannot be looked at, or is none.
    pub fn plan(
        from: &Path,
        how: How<'a>,
        tell: impl FnMut(&Path, &[u8], Result<(), Unfit>),
    ) -> Result<Self, ContentError> {
        if !std::fs::metadata(from)?.is_dir() {
            return Err(ContentError::NotDirectory);
        }
        let mut plan = Plan::default();
        plan.add(&how, from, tell);
        Ok(Self { how, plan })
    }

    /// Refuses what a region with this geometry cannot hold.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn require_room(&self, geometry: Geometry) -> Result<(), NoRoom> {
        let block_bytes = geometry.block_bytes();
        let blocks = |item: &Item| if item.meta.is_dir() { 0 } else { item.meta.len().div_ceil(block_bytes) };
        let needed = self.plan.items.iter().map(blocks).fold(0, u64::saturating_add);
        let room = u64::from(geometry.data_blocks());
        if needed > room {
            return Err(NoRoom::Blocks { needed, block_bytes, room });
        }
        let (needed, room) = (len64(self.plan.items.len()), u64::from(geometry.inodes()));
        if needed > room { Err(NoRoom::Inodes { needed, room }) } else { Ok(()) }
    }

    /// How much it is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let items = &self.plan.items;
        let files = len64(items.iter().filter(|item| !item.meta.is_dir()).count());
        let directories = len64(items.len()).saturating_sub(files).saturating_sub(1);
        Counts { files, directories, bytes: self.plan.total }
    }

    /// Puts it into a new region: what [`Target::format_and_fill`](super::Target::format_and_fill) gives. `users` tells what of
    /// it is in use outside.
    ///
    /// # Errors
    /// A file cannot be read, or the region cannot be written.
    pub fn put(
        &self,
        bytes: &mut dyn WriteAt,
        options: WriterOptions,
        users: Box<dyn Users>,
        progress: &dyn Progress,
    ) -> Result<(), FillError> {
        let (mut writer, _) = Writer::open(bytes, options)?;
        writer.watch(users);
        let mut copying = Copying::new(self.how, progress);
        for item in &self.plan.items {
            let path = if item.path.is_empty() { b"/" } else { item.path.as_slice() };
            copying.one(&mut writer, item, path).map_err(|source| FillError::Item {
                outside: item.source.clone(),
                path: path.to_vec(),
                source,
            })?;
        }
        copying.finish(&mut writer)?;
        if let Some(top) = self.plan.items.first() {
            writer.set_attributes(b"/", false, &|_| self.how.attributes(&top.meta))?;
        }
        Ok(writer.close().map(drop)?)
    }
}
