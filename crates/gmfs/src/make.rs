//! Making a region: in a file, a device or a range of memory.
//!
//! ```
//! # fn example(image: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs::make::{BlockSize, NewRegion, Request};
//! let request = Request { size: Some(64 << 20), ..Request::new(image, BlockSize::M2) };
//! let mut target = request.open(&gmfs_image::Locking::at_once())?;
//! target.refuse_occupied()?;
//! # let (birth, now) = (1, 0);
//! let stamp = gmfs_volume::Stamp { now, writer: "example 1.0".to_owned() };
//! let region = NewRegion { uuid: uuid::Uuid::nil(), birth, label: "guests".to_owned(), owner: (0, 0), stamp };
//! target.format(&region, None)?;
//! # Ok(())
//! # }
//! # let dir = tempfile::tempdir().unwrap();
//! # example(&dir.path().join("region.img")).unwrap();
//! ```

mod content;
mod holds;
mod target;
mod wipe;

use std::path::{Path, PathBuf};

use gmfs_format::native::geometry::{Geometry, GeometryError};
use gmfs_format::native::sum::Sum;
use gmfs_format::native::superblock::{LabelError, check_label};
use gmfs_format::native::units::{Generation, PageNo};
use gmfs_format::spec::RegionSpec;
use gmfs_image::undo::UndoError;
use gmfs_image::{FileError, Locking, OpenError};
use gmfs_io::{ReadError, WriteError};
use gmfs_volume::Stamp;
use uuid::Uuid;

pub use content::{Content, ContentError, Counts, FillError, NoRoom};
pub use gmfs_format::native::units::PmdShift as BlockSize;
pub use holds::Holds;
pub use target::Target;

/// Where a region is to be made, and how it is to be laid out.
#[derive(Clone, Debug)]
pub struct Request {
    /// A file, a block device, a devdax device, or `/dev/mem`.
    pub image: PathBuf,
    /// Size of the region in bytes. A file that is missing or empty is made that large.
    pub size: Option<u64>,
    /// Where in the image the region is to be, with its size. In `/dev/mem` the base is a physical address.
    pub region: Option<RegionSpec>,
    /// Size of a block.
    pub block_size: BlockSize,
    /// How many files and directories the region can hold; by its size, if that is not given.
    pub inodes: Option<u32>,
    /// Physical address to record as the region's base, for a file that will be loaded there.
    pub base: Option<u64>,
    /// Label; see [`check_label`].
    pub label: String,
    /// Open for reading only, and make no file: [`Target::format`] is then refused.
    pub dry_run: bool,
}

impl Request {
    /// A region that takes all of an image.
    #[must_use]
    pub fn new(image: &Path, block_size: BlockSize) -> Self {
        let label = String::new();
        let image = image.to_owned();
        Self { image, size: None, region: None, block_size, inodes: None, base: None, label, dry_run: false }
    }

    /// Opens and locks the target; makes the file, if there is none. What the target holds is not examined:
    /// [`Target::refuse_occupied`] does that.
    ///
    /// # Errors
    /// The target cannot be opened or locked, is too small, or cannot be laid out as it is asked for.
    pub fn open(&self, locking: &Locking<'_>) -> Result<Target, MakeError> {
        check_label(&self.label)?;
        target::open(self, locking)
    }

    fn geometry(&self, size: u64) -> Result<Geometry, GeometryError> {
        let inodes = self.inodes.unwrap_or_else(|| Geometry::default_inodes(size, self.block_size));
        Geometry::plan(size, self.block_size, inodes)
    }

    /// Size of the region, and where in the image it starts, as far as they are given.
    fn wanted(&self) -> (Option<u64>, Option<u64>) {
        (self.size.or(self.region.map(|region| region.size)), self.region.and_then(|region| region.base))
    }
}

/// What tells a new region apart from others.
#[derive(Clone, Debug)]
pub struct NewRegion {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its birth: a random number, or [`derived_birth`] where each run is to write the same bytes.
    pub birth: u64,
    /// Its label, as in [`Request::label`].
    pub label: String,
    /// Owner and group of the root directory.
    pub owner: (u32, u32),
    /// When it is made, and by which program.
    pub stamp: Stamp,
}

/// A birth that is derived from UUID and time.
#[must_use]
pub fn derived_birth(uuid: Uuid, now: u64) -> u64 {
    let (high, low) = uuid.as_u64_pair();
    let sum = Sum::of(PageNo(0), Generation(high ^ now));
    sum.first ^ low.rotate_left(32) ^ sum.second
}

/// The block size for a kernel with pages of this many bytes: the size of its PMD pages.
#[must_use]
pub const fn block_size_of_kernel(page_bytes: usize) -> BlockSize {
    match page_bytes {
        0x4000 => BlockSize::M32,
        0x1_0000 => BlockSize::M512,
        _ => BlockSize::M2,
    }
}

/// Why no region was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// The image could not be opened.
    #[error(transparent)]
    Image(#[from] OpenError),
    /// A file could not be made, opened or locked.
    #[error(transparent)]
    File(#[from] FileError),
    /// No region can be laid out like this.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// No region of the pkernfs driver can have this size.
    #[error(transparent)]
    Pkernfs(#[from] gmfs_format::pkernfs::StoreError),
    /// No region can have this label.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// There is no such file, and no size to make it with.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// The file is empty, and there is no size for it.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// The image is smaller than the region is to be.
    #[error("the region of {size} bytes does not fit: the image has {room} bytes")]
    TooSmall {
        /// Size of the region in bytes.
        size: u64,
        /// Bytes of the image from the region's start on.
        room: u64,
    },
    /// The image is physical memory, and nothing says which range of it is meant.
    #[error(
        "it is the whole of physical memory, and the kernel's command line does not say which range of it is meant"
    )]
    NoRange,
    /// The base that is to be recorded is not where the region will be.
    #[error("the base {base:#x} contradicts the range that is formatted, which starts at {start:#x}")]
    OtherBase {
        /// The base that is to be recorded.
        base: u64,
        /// Where the region will start.
        start: u64,
    },
    /// A region in memory starts with a whole block of the kernel.
    #[error("the base {base:#x} is not a multiple of the block size, {block_bytes} bytes")]
    Unaligned {
        /// The base.
        base: u64,
        /// Size of a block in bytes.
        block_bytes: u64,
        /// Whether it is the start of a range of memory, and not a base that is only recorded.
        range: bool,
    },
    /// The target was opened for a dry run.
    #[error("the target was opened for reading only")]
    DryRun,
    /// The target could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What is overwritten could not be recorded.
    #[error(transparent)]
    Undo(#[from] UndoError),
    /// The region that was just made cannot be read.
    #[error(transparent)]
    Region(#[from] gmfs_volume::OpenError),
}

#[cfg(test)]
mod tests;
