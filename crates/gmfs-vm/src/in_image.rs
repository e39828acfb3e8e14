//! A guest's memory in the image that holds its region: where it is, and who uses it.

use std::borrow::Borrow;
use std::io;
use std::path::{Path, PathBuf};

use gmfs::Store;
use gmfs_format::model::Tree;
use gmfs_image::lock::usage::UsageLock;
use gmfs_image::{FileError, InUse};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::{Region, Superblocks};

use crate::arguments::{self, ArgumentsError, Memory};
use crate::files::{Machine, PartsError, memory_parts};

/// The place of a region in an image.
#[derive(Clone, Debug)]
pub struct InImage {
    path: PathBuf,
    /// The region, in bytes of the image.
    whole: Span,
    block: u64,
}

/// Why a guest's memory is not locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody uses it.
    #[error("its memory is in use by {0}")]
    InUse(String),
    /// The image cannot be locked.
    #[error(transparent)]
    File(FileError),
}

/// Why QEMU cannot be told of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Where this process is, is not known.
    #[error("cannot tell QEMU where the image is")]
    Directory(#[from] io::Error),
    /// The path is not UTF-8.
    #[error("the image's path is not UTF-8")]
    Encoding,
}

impl InImage {
    /// Of a store in its image.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let whole = Span::new(store.place.base, store.size());
        Self { path: store.place.path.clone(), whole, block: store.block_bytes() }
    }

    /// Where the region's bytes begin in the image.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.whole.offset
    }

    /// Bytes in a block of the region, of which a guest's memory has a whole number.
    #[must_use]
    pub const fn block(&self) -> u64 {
        self.block
    }

    /// The image as QEMU is told of it, whatever directory it runs in.
    ///
    /// # Errors
    /// The path is not UTF-8, or cannot be made absolute.
    pub fn name(&self) -> Result<String, NameError> {
        let path = std::path::absolute(&self.path)?;
        path.into_os_string().into_string().map_err(|_| NameError::Encoding)
    }

    /// Whether a path that QEMU tells names the image.
    #[must_use]
    pub fn is_named(&self, path: &str) -> bool {
        let whole = Span::new(0, u64::MAX);
        gmfs_image::share_bytes((Path::new(path), whole), (&self.path, whole))
    }

    /// The parts of a guest's memory, in bytes of the image.
    ///
    /// # Errors
    /// A byte of the file has no memory that a guest could use.
    pub fn memory<S: ReadAt, B: Borrow<Superblocks>>(
        &self,
        region: &Region<S, B>,
        tree: &Tree,
        machine: &Machine,
    ) -> Result<Vec<Span>, PartsError> {
        let parts = memory_parts(region, tree, &machine.memory())?;
        Ok(parts.iter().map(|part| Span::new(part.offset.saturating_add(self.base()), part.len)).collect())
    }

    /// Who uses memory of the region.
    ///
    /// # Errors
    /// The image or the processes cannot be looked at.
    pub fn users(&self) -> Result<InUse, FileError> {
        InUse::find(&self.path, self.whole)
    }

    /// Locks memory as in use, and refuses memory that a process has mapped without a lock.
    ///
    /// # Errors
    /// Somebody uses it, or the image cannot be locked.
    pub fn lock(&self, parts: &[Span]) -> Result<UsageLock, LockError> {
        if let Some(mapped) = self.users().ok().and_then(|found| mapped_by(&found, parts)) {
            return Err(LockError::InUse(mapped));
        }
        self.lock_mapped(parts).map_err(|error| match error {
            FileError::Locked { by, .. } => LockError::InUse(by.to_string()),
            error => LockError::File(error),
        })
    }

    /// Locks memory as in use that the process has mapped for which it is locked.
    ///
    /// # Errors
    /// Somebody else has locked it, or the image cannot be locked.
    pub fn lock_mapped(&self, parts: &[Span]) -> Result<UsageLock, FileError> {
        UsageLock::take(&self.path, self.whole, parts)
    }

    /// QEMU's arguments for the memory that is the inode's.
    ///
    /// # Errors
    /// QEMU cannot be told of its size, or of the image.
    pub fn arguments(&self, ino: u32, parts: &[Span]) -> Result<Vec<String>, ArgumentsError> {
        let image = self.name().map_err(|_| ArgumentsError::Path(self.path.display().to_string()))?;
        arguments::memory(&Memory { image: &image, ino, parts, align: self.block })
    }
}

/// Whether a process has locked or mapped one of these parts of an image.
#[must_use]
pub fn is_used(found: &InUse, parts: &[Span]) -> bool {
    let locked = found.locked().iter().map(|locked| locked.span);
    locked.chain(found.mapped().iter().map(|mapped| mapped.span)).any(|span| parts.iter().any(|part| part.meets(span)))
}

/// A process that has mapped one of these parts.
pub(crate) fn mapped_by(found: &InUse, parts: &[Span]) -> Option<String> {
    let mapped = found.mapped().iter().find(|mapped| parts.iter().any(|part| part.meets(mapped.span)));
    mapped.map(|mapped| mapped.process.to_string())
}
