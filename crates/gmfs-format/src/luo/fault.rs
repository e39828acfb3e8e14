//! What is wrong in what LUO left.

use std::fmt;

/// Something that a kernel would refuse, or that it never writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A link that cannot be the address of a page.
    BadLink {
        /// The page with the link.
        holder: u64,
        /// The link's value.
        value: u64,
    },
    /// A page that the image does not hold, or that cannot be read.
    Unreadable {
        /// The page.
        at: u64,
    },
    /// A link to a page that another link led to before.
    Twice {
        /// The page with the second link.
        holder: u64,
        /// The page that both lead to.
        at: u64,
    },
    /// A block or an area with a count that is 0 or more than fits.
    BadCount {
        /// The block.
        at: u64,
        /// The count.
        count: u64,
    },
    /// A block that is not full and not the last one.
    NotFull {
        /// The block.
        at: u64,
        /// The count.
        count: u64,
    },
    /// A chain with more blocks than the kernel follows.
    TooLong {
        /// The first block that is not followed.
        at: u64,
    },
    /// The blocks of a session have another number of files than the session says.
    OtherCount {
        /// What the session says.
        said: u64,
        /// What the blocks have.
        found: u64,
    },
    /// A session that says that it has files and does not say where, or the other way round.
    NoFiles {
        /// How many files it says that it has.
        count: u64,
    },
    /// A record of zeros, where records of files that user space has taken may be gone: an empty file, or nothing.
    Zeroed {
        /// The record.
        at: u64,
    },
    /// A size, a number of folios, seals or flags of a record that a kernel does not write.
    BadRecord {
        /// The record.
        at: u64,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The list of the pages of an array ends before the array does.
    ShortArray {
        /// The record.
        at: u64,
        /// How many folios it says that it has.
        said: u64,
        /// How many the list has room for.
        found: u64,
    },
    /// A folio without a page frame. The kernel passes over it, so its part of the file is lost.
    NoFrame {
        /// The record.
        at: u64,
        /// Which folio, counted from 0.
        number: u64,
    },
    /// A folio that does not begin where the one before it ends, or that begins before it.
    BadIndex {
        /// The record.
        at: u64,
        /// Which folio, counted from 0.
        number: u64,
        /// Its index.
        index: u64,
    },
    /// A folio that begins past the end of the file.
    PastEnd {
        /// The record.
        at: u64,
        /// Which folio, counted from 0.
        number: u64,
        /// Its index.
        index: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLink { holder, value } => {
                write!(f, "the page at {holder:#x} links to {value:#x}, which is no page")
            }
            Self::Unreadable { at } => write!(f, "the page at {at:#x} cannot be read"),
            Self::Twice { holder, at } => {
                write!(f, "the page at {holder:#x} links to {at:#x}, to which another link led before")
            }
            Self::BadCount { at, count } => write!(f, "the block at {at:#x} has a count of {count}"),
            Self::NotFull { at, count } => {
                write!(f, "the block at {at:#x} has {count} entries, is not full, and is not the last one")
            }
            Self::TooLong { at } => write!(f, "the chain is longer than the kernel follows, from {at:#x} on"),
            Self::OtherCount { said, found } => {
                write!(f, "the session says that it has {said} files, and its blocks have {found}")
            }
            Self::NoFiles { count } => {
                write!(f, "the session says that it has {count} files, and not where they are")
            }
            Self::Zeroed { at } => {
                write!(
                    f,
                    "the record at {at:#x} is zero: it is that of an empty file, or the file was taken and it is gone"
                )
            }
            Self::BadRecord { at, field, value } => {
                write!(f, "the record at {at:#x} has {field} {value:#x}, which no kernel writes")
            }
            Self::ShortArray { at, said, found } => {
                write!(f, "the record at {at:#x} has {said} folios, and its list has room for {found}")
            }
            Self::NoFrame { at, number } => write!(f, "folio {number} of the record at {at:#x} has no page"),
            Self::BadIndex { at, number, index } => {
                write!(
                    f,
                    "folio {number} of the record at {at:#x} begins at page {index}, and not where the one before it ends"
                )
            }
            Self::PastEnd { at, number, index } => {
                write!(f, "folio {number} of the record at {at:#x} begins at page {index}, past the end of the file")
            }
        }
    }
}
