//! What is wrong with the inodes, as data.

use std::fmt;

use super::{InodeNo, Lack};
use crate::native::units::BlockNo;

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

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(ino) => write!(f, "the entries of directory inode {ino}"),
            Self::Free => f.write_str("the list of free inodes"),
        }
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unterminated => "has no NUL at its end",
            Self::Empty => "is empty",
            Self::Slash => "contains a slash",
            Self::Dots => "is . or ..",
        })
    }
}

/// The name of an inode in a message. A number near the top is an error code that a driver took for an inode's number.
#[must_use]
pub fn inode_name(ino: InodeNo) -> String {
    let signed = ino.0.cast_signed();
    if (-4095..0).contains(&signed) { format!("inode {signed}") } else { format!("inode {ino}") }
}

/// The inode that has a link, or the superblock.
fn holder(holder: Option<InodeNo>) -> String {
    holder.map_or_else(|| "the superblock".to_owned(), |ino| format!("inode {ino}"))
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MagicDiffers { found } => write!(f, "the superblock's magic is {found:#x}, which is another"),
            Self::SuperblockUnknown { lack } => write!(f, "the superblock cannot be read: {lack}"),
            Self::RootDiffers => f.write_str("inode 1 is not the root that the driver writes"),
            Self::UnknownInodes { first, last, lack } => write!(f, "inodes {first} to {last} cannot be read: {lack}"),
            Self::BadLink { chain, holder: from, value } => {
                write!(f, "{chain}: {} links to {value:#x}, which is no inode", holder(*from))
            }
            Self::Cycle { chain, holder: from, ino } => {
                write!(f, "{chain}: {} links back to inode {ino}", holder(*from))
            }
            Self::LinkedTwice { ino, first, second } => write!(f, "inode {ino} is in {first} and in {second}"),
            Self::ChainLost { chain, ino, lack } => {
                write!(f, "{chain}: {} cannot be read, so what follows it is unknown: {lack}", holder(*ino))
            }
            Self::Orphan { ino } => write!(f, "inode {ino} is in use, and no directory has it"),
            Self::Unreached { ino } => {
                write!(f, "inode {ino} is in use, and no directory that could be read has it")
            }
            Self::FreeInDirectory { directory, first, count } => {
                write!(f, "directory inode {directory} has {count} free inodes, the first is {first}")
            }
            Self::UsedInFreeList { ino } => write!(f, "inode {ino} is in the list of free inodes, and in use"),
            Self::Unaccounted { first, last } => {
                write!(f, "inodes {first} to {last} are free, and not in the list of free inodes")
            }
            Self::OddFlags { ino, flags } => {
                write!(f, "inode {ino} has flags {flags:#x}, which the driver does not write")
            }
            Self::BadName { ino, fault } => write!(f, "the name of inode {ino} {fault}"),
            Self::DuplicateName { directory, first, second } => {
                write!(
                    f,
                    "inodes {first} and {second} have one name in directory inode {directory}; the first is found"
                )
            }
            Self::BadTable { ino, block } => {
                write!(f, "inode {ino} has its table in block {block}, which is metadata or past the end")
            }
        }
    }
}
