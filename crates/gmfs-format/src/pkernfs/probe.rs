//! Recognising a region.

use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{GHOST_LINK, INODES, INODES_OFFSET, InodeRaw, Kind, MAGIC, ReadAt, SuperblockRaw};

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

/// Inodes after the root that have to be plausible where the magic is not there.
const PLAUSIBLE: usize = 13;

/// Whether the inodes of a region at `base` are there, whatever its superblock is: the root, and inodes after it with flags
/// and links that the driver writes. A fault of the driver has a guest overwrite the superblock.
#[must_use]
pub fn probe_inodes(source: &dyn ReadAt, base: u64) -> bool {
    let mut root = InodeRaw::new_zeroed();
    let read = base.checked_add(INODES_OFFSET).is_some_and(|at| source.read_at(at, root.as_mut_bytes()).is_ok());
    read && root.looks_like_root() && probe_after_root(source, base)
}

/// Whether the inodes after the root of a region at `base` are there, whatever its superblock and its root are.
#[must_use]
pub fn probe_after_root(source: &dyn ReadAt, base: u64) -> bool {
    let mut rest = [InodeRaw::new_zeroed(); PLAUSIBLE];
    let at = base.checked_add(INODES_OFFSET).and_then(|root| root.checked_add(super::INODE_BYTES));
    let read = at.is_some_and(|at| source.read_at(at, rest.as_mut_bytes()).is_ok());
    let linked = |link: u64| link <= INODES.into() || link == GHOST_LINK;
    let plausible = |inode: &InodeRaw| {
        let flags = inode.flags.get();
        let written = flags == 0 || Kind::of_flags(flags).map(Kind::flags) == Some(flags);
        // Only the last inode of a chain leads to none, so that zeros are none.
        written && linked(inode.sibling_ino.get()) && linked(inode.child_ino.get()) && inode.padding_1 == [0; 4]
    };
    let links = rest.iter().filter(|inode| inode.sibling_ino != 0).count();
    read && rest.iter().all(plausible) && links > PLAUSIBLE / 2
}
