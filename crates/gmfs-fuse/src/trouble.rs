//! Why requests are answered with errors.

use std::fmt;

use fuser::Errno;
use gmfs::Error;
use gmfs::content::Why;
use gmfs_format::name::{NameError, escape};
use gmfs_image::FileError;
use gmfs_io::{Span, with_causes};
use gmfs_volume::{ChangeError, OpenError};

/// Why a request was answered with an error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// Bytes of a file are not known. One stretch is reported once.
    Unknown {
        /// The file's path.
        path: Vec<u8>,
        /// Which bytes of the file, from the first one that was asked for.
        span: Span,
        /// Why.
        why: Why,
    },
    /// A file has no content that can be read, or written.
    Content {
        /// The file's path.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
    /// The region could not be locked.
    Lock(FileError),
    /// The store was changed, and cannot be read any more.
    Store(Error),
    /// A change was not made.
    Change {
        /// The path of what was to be changed.
        path: Vec<u8>,
        /// Why.
        error: ChangeError,
    },
    /// The region cannot be opened for changing.
    Region(OpenError),
    /// Somebody else has changed the region, and it is damaged now.
    Damaged,
    /// Somebody else has changed a file while content was written to it, so its new size was not recorded.
    Overtaken {
        /// The file's path.
        path: Vec<u8>,
    },
    /// A file that was removed while a program had it open could not be removed at the end.
    Left {
        /// Its path.
        path: Vec<u8>,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { path, span, why } => {
                write!(f, "cannot read {} from byte {} on: {why}", escape(path), span.offset)
            }
            Self::Content { path, why } => write!(f, "cannot read {}: {why}", escape(path)),
            Self::Lock(error) => write!(f, "a request failed: {error}"),
            Self::Store(error) => write!(f, "cannot read the region, which was changed: {error}"),
            Self::Change { path, error } => write!(f, "cannot change {}: {}", escape(path), with_causes(error)),
            Self::Region(error) => write!(f, "cannot change the region: {error}"),
            Self::Damaged => f.write_str("cannot change the region, which is damaged now"),
            Self::Overtaken { path } => write!(
                f,
                "what was written to {} last may not be in it: another process has changed the file meanwhile",
                escape(path)
            ),
            Self::Left { path } => write!(
                f,
                "{} was removed while a program had it open, and is still there: remove it when the region can be changed",
                escape(path)
            ),
        }
    }
}

/// Is told of each request that was answered with an error.
pub type Report = Box<dyn Fn(&Trouble) + Send + Sync>;

/// What a program is told of a change that was not made, and whether the log is told too: of what the program could not
/// have expected.
pub(crate) fn of_change(error: &ChangeError) -> (Errno, bool) {
    match error {
        ChangeError::NotFound(_) => (Errno::ENOENT, false),
        ChangeError::Exists(_) => (Errno::EEXIST, false),
        ChangeError::NotDirectory(_) => (Errno::ENOTDIR, false),
        ChangeError::IsDirectory(_) => (Errno::EISDIR, false),
        ChangeError::NotEmpty(_) => (Errno::ENOTEMPTY, false),
        ChangeError::Root => (Errno::EBUSY, false),
        ChangeError::IntoItself(_) => (Errno::EINVAL, false),
        ChangeError::Immutable(_) => (Errno::EPERM, false),
        ChangeError::Name { source: NameError::TooLong(_), .. } => (Errno::ENAMETOOLONG, false),
        ChangeError::Name { .. } => (Errno::EINVAL, false),
        ChangeError::NoSpace { .. } | ChangeError::NoAlignedSpace { .. } | ChangeError::NoInodes(_) => {
            (Errno::ENOSPC, false)
        }
        ChangeError::SpaceInUse { .. } => (Errno::ENOSPC, true),
        ChangeError::TooLarge(_) => (Errno::EFBIG, false),
        ChangeError::InUse { .. } => (Errno::EBUSY, true),
        _ => (Errno::EIO, true),
    }
}
