//! What is wrong in a region, as data.

use super::{BlockNo, InodeNo, Lack};

/// A chain of inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// The entries of a directory.
    Directory(InodeNo),
    /// The free inodes, from the superblock on.
    Free,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameFault {
    /// No NUL ends it: it takes all 255 bytes.
    Unterminated,
    /// It has no bytes.
    Empty,
    /// It contains `/`.
    Slash,
    /// It is `.` or `..`, which no entry may be called.
    Dots,
}

/// Something that an undamaged region does not have, or a part of the region that is unknown.
///
/// The number of anomalies is bounded by the layout: a few for each inode.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Anomaly {
    /// The superblock has another magic. The driver would format the region when it is mounted next.
    MagicDiffers {
        /// What is there.
        found: u64,
    },
    /// The superblock cannot be read: the magic and the head of the list of free inodes are unknown.
    SuperblockUnknown {
        /// Why.
        lack: Lack,
    },
    /// The root inode is not what the driver writes. Its entries are read nevertheless.
    RootDiffers,
    /// Inodes that cannot be read, whole or in part. The ghost counts only if a link leads to it.
    UnknownInodes {
        /// The first.
        first: InodeNo,
        /// The last.
        last: InodeNo,
        /// Why the first page of the range is missing.
        lack: Lack,
    },
    /// A link that leads to no inode: above 7281, or to the root. What followed in the chain is not reached.
    BadLink {
        /// The chain.
        chain: Chain,
        /// The inode with the link; `None` for the superblock.
        holder: Option<InodeNo>,
        /// The link's value.
        value: u64,
    },
    /// A chain leads back into itself. All its inodes were reached before.
    Cycle {
        /// The chain.
        chain: Chain,
        /// The inode with the link that leads back; `None` for the superblock.
        holder: Option<InodeNo>,
        /// Where it leads.
        ino: InodeNo,
    },
    /// An inode that two chains lead to. It counts in the first; the second ends before it.
    LinkedTwice {
        /// The inode.
        ino: InodeNo,
        /// The chain in which it counts.
        first: Chain,
        /// The other.
        second: Chain,
    },
    /// A chain leads through an inode that cannot be read. The inodes that follow it are unknown.
    ChainLost {
        /// The chain.
        chain: Chain,
        /// The unreadable inode; `None` for the superblock.
        ino: Option<InodeNo>,
        /// Why it cannot be read.
        lack: Lack,
    },
    /// An inode in use that no directory and not the list of free inodes leads to. All chains of directories were read
    /// to their ends.
    Orphan {
        /// The inode.
        ino: InodeNo,
    },
    /// An inode in use that was not reached. It may be in a chain of which a part is unknown.
    Unreached {
        /// The inode.
        ino: InodeNo,
    },
    /// Inodes with flags 0 in the chain of a directory. They are not listed, and the chain is followed through them. One at the head of a directory is what a crash in the middle of a creation leaves.
    FreeInDirectory {
        /// The directory.
        directory: InodeNo,
        /// The first of them.
        first: InodeNo,
        /// How many.
        count: u32,
    },
    /// An inode in the list of free inodes with flags that say that it is in use.
    UsedInFreeList {
        /// The inode.
        ino: InodeNo,
    },
    /// Inodes with flags 0 that are not in the list of free inodes, though that list was read to its end. The driver does
    /// not use them again.
    Unaccounted {
        /// The first.
        first: InodeNo,
        /// The last.
        last: InodeNo,
    },
    /// Flags that the driver does not write: several, or unknown ones.
    OddFlags {
        /// The inode.
        ino: InodeNo,
        /// Its flags.
        flags: u32,
    },
    /// A name that cannot be a name.
    BadName {
        /// The inode.
        ino: InodeNo,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// Two inodes of a directory with one name. Both are listed. The driver finds the one that comes first. It makes such
    /// pairs itself from names of 255 bytes, of which it stores 254.
    DuplicateName {
        /// The directory.
        directory: InodeNo,
        /// The one that the driver finds.
        first: InodeNo,
        /// The other.
        second: InodeNo,
    },
    /// The block of a file's mappings table, or of an IOMMU file's page tables, is metadata or past the end of the
    /// region. A driver that creates a file in a full region leaves one that is past the end.
    BadTable {
        /// The file.
        ino: InodeNo,
        /// The block.
        block: BlockNo,
    },
}
