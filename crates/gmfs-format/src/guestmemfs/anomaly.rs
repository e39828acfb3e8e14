//! What is wrong in a file system, as data.

use std::fmt;

use super::{InodeNo, Lack, Remark, Span};
use crate::chains::{self, inode_name as inode};

/// Something that a file system does not have when it was just handed over, or a part of it that is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Anomaly {
    /// Something is wrong with inodes, names or chains.
    Inodes(chains::Anomaly),
    /// Only the first page of the device tree could be read.
    TreeCut,
    /// There is a device tree, and it cannot be read.
    TreeDamaged {
        /// Where it is.
        at: u64,
    },
    /// The device tree says that it is of another version.
    OtherForm {
        /// What it says.
        version: Box<[u8]>,
    },
    /// The region is where no memory is, or is larger than its bitmap.
    RegionImpossible {
        /// The region, by the tree.
        region: Span,
    },
    /// The region is not marked as memory without page structures.
    RegionFlag,
    /// A part has another length in the tree than the driver gives it.
    Length {
        /// Which part.
        what: &'static str,
        /// Where it is, by the tree.
        span: Span,
    },
    /// The tree names no page with the inode numbers of the pages of mappings, or this cannot be read.
    TableUnknown {
        /// Why, if the tree names it.
        lack: Option<Lack>,
    },
    /// The superblock's pointers to the array and to the bitmap are not those that the tree gives.
    Pointers {
        /// The offset of the direct map, by the pointer to the array.
        inodes: u64,
        /// The same by the pointer to the bitmap.
        bitmap: u64,
    },
    /// The superblock does not say that it is handed over: the file system was restored from the tree, or the hand-over was
    /// called off.
    NotSerialised,
    /// The superblock's lock is held.
    Locked,
    /// The tree and the inodes name other pages of mappings: so it is after a restore, when the driver has stored each
    /// pointer one inode too far.
    MappingsDiffer {
        /// How many files have two different pages.
        files: u32,
        /// Whether each inode has the page of the file before it: the driver's own error.
        shifted: bool,
    },
    /// The tree names other inodes than there are files.
    TreeFiles {
        /// Files that the tree does not name.
        missing: u32,
        /// Numbers in the tree that are no files.
        extra: u32,
        /// The first of either.
        first: InodeNo,
    },
    /// The inode numbers in the tree are not ascending, or numbers follow the last one.
    TableOrder {
        /// The entry.
        entry: u32,
    },
    /// Counts that should be equal are not.
    Counts {
        /// Allocated inodes by the superblock, if it is known.
        superblock: Option<u64>,
        /// By the tree, if there is one.
        tree: Option<u64>,
        /// Inodes that directories lead to.
        linked: u64,
    },
    /// A free inode is not zero apart from its link.
    FreeNotZero {
        /// The inode.
        ino: InodeNo,
    },
    /// A file's link to children is not 0.
    FileWithChild {
        /// The inode.
        ino: InodeNo,
    },
    /// A file's page of mappings cannot be read.
    PageUnknown {
        /// The file.
        ino: InodeNo,
        /// The address of the page; `None` if the file has none.
        page: Option<u64>,
        /// Why.
        lack: Option<Lack>,
    },
    /// A page of mappings has more than one owner.
    PageShared {
        /// The page.
        page: u64,
        /// One owner.
        first: InodeNo,
        /// Another.
        second: InodeNo,
    },
    /// A file has more blocks than its page of mappings has entries: the driver wrote into memory that is somebody else's.
    TooManyBlocks {
        /// The file.
        ino: InodeNo,
        /// Its count of blocks.
        count: u32,
    },
    /// Entries behind those that the file's count covers hold something.
    BeyondCount {
        /// The file.
        ino: InodeNo,
        /// The first such entry.
        entry: u32,
    },
    /// A file's count is larger than what it has: the driver shows the surplus as block 0, which is another file's.
    Surplus {
        /// The file.
        ino: InodeNo,
        /// Its count.
        count: u32,
        /// Blocks that it has.
        blocks: u32,
    },
    /// Entries name blocks past the end of the region.
    PastEnd {
        /// The file.
        ino: InodeNo,
        /// The first such block.
        block: u64,
        /// How many.
        count: u64,
    },
    /// The bitmap and the owners of blocks do not agree.
    Blocks(Remark),
    /// A part of the bitmap cannot be read.
    BitmapUnknown {
        /// Why.
        lack: Lack,
    },
}

impl Anomaly {
    /// Whether the driver leaves this in normal use: it loses memory, and no content.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        match self {
            Self::Blocks(remark) => remark.is_normal(),
            Self::Surplus { .. } => true,
            _ => false,
        }
    }
}

impl From<chains::Anomaly> for Anomaly {
    fn from(found: chains::Anomaly) -> Self {
        Self::Inodes(found)
    }
}

/// A number as words: `1 file`, `3 files`.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for Anomaly {
    #[expect(clippy::too_many_lines, reason = "one sentence for each anomaly")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inodes(found) => found.fmt(f),
            Self::TreeCut => f.write_str("only the first page of the device tree can be read"),
            Self::TreeDamaged { at } => write!(f, "the device tree at {at:#x} cannot be read"),
            Self::OtherForm { version } => {
                write!(f, "the device tree has the form '{}', which is not known", crate::name::escape(version))
            }
            Self::RegionImpossible { region } => {
                write!(f, "the region is said to have {} bytes at {:#x}, which cannot be", region.len, region.offset)
            }
            Self::RegionFlag => f.write_str("the region is not marked as memory without page structures"),
            Self::Length { what, span } => {
                write!(f, "{what} has {} bytes at {:#x} by the device tree, which is not its size", span.len, span.offset)
            }
            Self::TableUnknown { lack: None } => {
                f.write_str("the device tree does not say which file each page of mappings belongs to")
            }
            Self::TableUnknown { lack: Some(lack) } => {
                write!(f, "which file each page of mappings belongs to cannot be read: {lack}")
            }
            Self::Pointers { inodes, bitmap } => write!(
                f,
                "the superblock's pointers belong to different direct maps: {inodes:#x} by the array of inodes, {bitmap:#x} by the bitmap"
            ),
            Self::NotSerialised => f.write_str(
                "the superblock does not say that it is handed over: it was restored from this device tree, or the hand-over was called off",
            ),
            Self::Locked => f.write_str("the superblock's lock is held"),
            Self::MappingsDiffer { files, shifted } => {
                let (files, verb) = (count(u64::from(*files), "file"), if *files == 1 { "has" } else { "have" });
                write!(f, "{files} {verb} one page of mappings by the device tree and another by the inode")?;
                f.write_str(if *shifted { ": the driver restored each pointer one inode too far" } else { "" })
            }
            Self::TreeFiles { missing, extra, first } => write!(
                f,
                "the device tree does not name {}, and names {} that {} no file; the first is {}",
                count(u64::from(*missing), "file"),
                count(u64::from(*extra), "inode"),
                if *extra == 1 { "is" } else { "are" },
                inode(*first)
            ),
            Self::TableOrder { entry } => {
                write!(f, "the inode numbers of the pages of mappings are not ascending at entry {entry}")
            }
            Self::Counts { superblock, tree, linked } => {
                let say = |n: &Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
                write!(
                    f,
                    "inodes in use: {} by the superblock, {} by the device tree, and directories lead to {linked}",
                    say(superblock),
                    say(tree)
                )
            }
            Self::FreeNotZero { ino } => write!(f, "{} is free, and not zero", inode(*ino)),
            Self::FileWithChild { ino } => write!(f, "{} is a file, and leads to a child", inode(*ino)),
            Self::PageUnknown { ino, page, lack } => {
                write!(f, "the page of mappings of {}", inode(*ino))?;
                match (page, lack) {
                    (Some(page), Some(lack)) => write!(f, " at {page:#x} cannot be read: {lack}"),
                    (Some(page), None) => write!(f, " cannot be at {page:#x}"),
                    (None, _) => f.write_str(" is nowhere"),
                }
            }
            Self::PageShared { page, first, second } => {
                write!(f, "{} and {} have one page of mappings, at {page:#x}", inode(*first), inode(*second))
            }
            Self::TooManyBlocks { ino, count } => {
                write!(f, "{} has {count} blocks by its count, and its page of mappings has 512 entries", inode(*ino))
            }
            Self::BeyondCount { ino, entry } => {
                write!(f, "entry {entry} of {} holds a block, and is behind those that its count covers", inode(*ino))
            }
            Self::Surplus { ino, count, blocks } => write!(
                f,
                "{} counts {count} blocks and has {blocks}: the driver shows block 0 for the rest",
                inode(*ino)
            ),
            Self::PastEnd { ino, block, count: n } => write!(
                f,
                "{} of {} {} past the end of the region, the first is block {block}",
                count(*n, "block"),
                inode(*ino),
                if *n == 1 { "is" } else { "are" }
            ),
            Self::Blocks(remark) => remark.fmt(f),
            Self::BitmapUnknown { lack } => write!(f, "a part of the bitmap cannot be read: {lack}"),
        }
    }
}
