//! Reading bytes of which some may not be there.

use super::{Absence, PAGE_SIZE, ReadAt, ReadError, len64, to_u32};

/// Why bytes are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lack {
    /// The image does not hold them.
    Absent(Absence),
    /// The image holds them, and they cannot be read: the medium failed, or the memory is poisoned.
    Unreadable,
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
pub(super) fn read_pages(source: &dyn ReadAt, offset: u64, bytes: &mut [u8], mut missing: impl FnMut(u32, Lack)) {
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
