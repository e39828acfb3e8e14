//! Reads bytes, some of which may be missing.

use gmfs_io::num::{len64, to_u32};
use gmfs_io::{Absence, ReadAt, ReadError};

use crate::native::units::PAGE_SIZE;

/// Why bytes are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lack {
    /// The image does not hold them.
    Absent(Absence),
    /// The image holds them, and they cannot be read: the medium failed, or the memory is poisoned.
    Unreadable,
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent(why) => why.fmt(f),
            Self::Unreadable => f.write_str("it is there, and cannot be read"),
        }
    }
}

impl From<&ReadError> for Lack {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::Absent { why, .. } => Self::Absent(*why),
            ReadError::Io { .. } => Self::Unreadable,
        }
    }
}

/// Fills `bytes` from `offset`. If that fails, reads page by page: pages that are not there are zeroed in `bytes`, and
/// `missing` gets their numbers, counted from `offset`.
pub(crate) fn read_pages(source: &dyn ReadAt, offset: u64, bytes: &mut [u8], mut missing: impl FnMut(u32, Lack)) {
    if source.read_at(offset, bytes).is_ok() {
        return;
    }
    let mut at = offset;
    for (number, page) in bytes.chunks_mut(PAGE_SIZE).enumerate() {
        if let Err(error) = source.read_at(at, page) {
            page.fill(0);
            missing(to_u32(len64(number)), Lack::from(&error));
        }
        at = at.saturating_add(len64(page.len()));
    }
}
