//! What is known of a kernel from its image or from its release.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use gmfs_io::PlainFile;
use gmfs_kernel::image::{self, ImageError, KernelImage};
use gmfs_kernel::{Kernel, Release};

/// Why a file cannot be used in a kexec.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is none.
    #[error("there is no such file")]
    NotFound,
    /// This user may not read it.
    #[error("this user may not read it")]
    Denied,
    /// It is a directory, a pipe or a device.
    #[error("it is no file")]
    NotFile,
    /// The system.
    #[error(transparent)]
    Io(io::Error),
    /// It is no kernel image, or one that cannot be read. The message has the causes.
    #[error("{}", gmfs_io::with_causes(.0))]
    Image(ImageError),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Io(error),
        }
    }
}

/// A release that is newer than this version of gmfs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what Linux {0} hands over is not known: it is newer than this gmfs")]
pub struct UnknownRelease(pub Release);

/// What Linux does in a release.
pub(crate) fn of_release(release: Release) -> Result<Kernel, UnknownRelease> {
    Kernel::upstream(release.clone()).ok_or(UnknownRelease(release))
}

/// Reads a kernel image.
///
/// # Errors
/// The file cannot be read, or is no kernel image.
pub fn read_image(path: &Path) -> Result<KernelImage, FileError> {
    image::read(&open(path)?).map_err(FileError::Image)
}

/// Opens what has to be a file.
pub(crate) fn open(path: &Path) -> Result<PlainFile, FileError> {
    // Looked at first: to open a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(FileError::NotFile);
    }
    Ok(PlainFile(File::open(path)?))
}
