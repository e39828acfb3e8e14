//! What pkernfs and guestmemfs v1 have in common: an array of inodes that are linked into chains.
//!
//! Each directory's entries are a chain, and so are the free inodes. There is no checksum, so a chain ends at the first
//! number that cannot be an inode or was met before. Memory is bounded by the array. What is wrong is returned as
//! [`Anomaly`].

mod anomaly;
mod inodes;
mod walk;

// What this module uses from the rest of the crate; its files import from here.
use crate::native::units::{InodeNo, PAGE_BYTES, len64, small, to_u32, to_usize};
use crate::reading::{Lack, read_pages};
use gmfs_io::ReadAt;

pub use anomaly::{Anomaly, Chain, NameFault, inode_name};
pub(crate) use inodes::Inodes;
pub(crate) use walk::{Superblock, Walked, walk};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An inode of a driver, as it is in memory.
pub(crate) trait Linked: FromBytes + IntoBytes + KnownLayout + Immutable + Copy {
    /// Inodes in the array. Their numbers start at 1, the root's.
    const INODES: u32;
    /// The ghost: the number under which the inode is listed that the driver makes of an error code that it takes for a
    /// number. It is in the memory before the array.
    const GHOST: InodeNo;
    /// The value of a link to the ghost.
    const GHOST_LINK: u64;
    /// How far before the array the ghost is, in bytes.
    const GHOST_BEFORE: u64;

    /// What it is; 0 is free.
    fn flags(&self) -> u32;
    /// Next inode of the directory, or next free inode.
    fn sibling(&self) -> u64;
    /// First inode of the directory.
    fn child(&self) -> u64;
    /// The name and what follows it.
    fn filename(&self) -> &[u8; 255];
    /// Whether flags are those of a directory.
    fn is_directory(flags: u32) -> bool;
    /// Whether flags are such as the driver writes for an inode in use.
    fn is_written(flags: u32) -> bool;

    /// The name: the bytes before the first NUL, all 255 if there is none.
    fn name_bytes(&self) -> &[u8] {
        self.filename().split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Whether these are the bytes that the drivers give the root inode: a directory, called `.`, whose sibling is 2 (the
    /// list of free inodes started here, and nothing ever clears the link).
    fn is_root(&self) -> bool {
        self.flags() == 2 && self.sibling() == 2 && self.name_bytes() == b"."
    }
}
