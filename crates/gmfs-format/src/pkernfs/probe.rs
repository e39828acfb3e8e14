//! Recognising a region.

use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{INODES_OFFSET, InodeRaw, MAGIC, ReadAt, SuperblockRaw};

/// How sure it is that a region starts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// The magic is there, and what should be the root inode is something else: 8 bytes that happen to be equal, a stale
    /// page, or a damaged region.
    RootDiffers,
    /// The magic is there; the root inode cannot be read.
    RootUnknown,
    /// Magic and root inode agree.
    RootAgrees,
}

/// A place where a region starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where, in bytes, in the space of the source.
    pub base: u64,
    /// How sure that is.
    pub confidence: Confidence,
    /// Head of the list of free inodes, as recorded.
    pub next_free_ino: u64,
}

/// Looks for a region that starts at `base`: the magic there, and the root inode 2 MiB further. Reads 16 bytes, and 288
/// more where the magic is. Nothing in a region says how large it is; see [`estimate_size`](super::estimate_size).
#[must_use]
pub fn probe(source: &dyn ReadAt, base: u64) -> Option<Found> {
    let mut superblock = SuperblockRaw::new_zeroed();
    source.read_at(base, superblock.as_mut_bytes()).ok()?;
    if superblock.magic != MAGIC {
        return None;
    }
    let mut root = InodeRaw::new_zeroed();
    let confidence = match base.checked_add(INODES_OFFSET).map(|at| source.read_at(at, root.as_mut_bytes())) {
        Some(Ok(())) if root.looks_like_root() => Confidence::RootAgrees,
        Some(Ok(())) => Confidence::RootDiffers,
        Some(Err(_)) | None => Confidence::RootUnknown,
    };
    Some(Found { base, confidence, next_free_ino: superblock.next_free_ino.get() })
}
