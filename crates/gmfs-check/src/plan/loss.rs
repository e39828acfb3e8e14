//! What a repair loses, as data; [`fmt::Display`] puts it into words.

use std::fmt;
use std::ops::Range;

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_io::Span;

use crate::finding::last_of;

/// The first few of many things, and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The first ones.
    pub first: Vec<T>,
    /// How many more there are.
    pub more: u64,
}

/// Consecutive blocks that were consecutive blocks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The first block.
    pub first: BlockNo,
    /// How many blocks.
    pub count: u32,
    /// The file's inode.
    pub owner: InodeNo,
    /// The file block that the first one was.
    pub index: u32,
}

/// What an edit loses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Label, times and features of the region, which only the superblocks recorded.
    SuperblockFields,
    /// What superblock B says, where it differs from superblock A.
    SuperblockB,
    /// The owners of blocks, by pages of the block table.
    BlockOwners(Listed<Range<u32>>),
    /// Inodes, by pages of the inode table.
    Inodes(Listed<Range<u32>>),
    /// The certainty that pages of the inode table are the newest.
    NewestInodes(Listed<Range<u32>>),
    /// The certainty that blocks are free. They become reserved.
    FreeBlocks {
        /// How many blocks.
        count: u64,
        /// Which blocks.
        blocks: Listed<Range<u32>>,
    },
    /// The records of files that come back in lost+found.
    Records(Listed<InodeNo>),
    /// The certainty that files are as they should be. They are flagged doubtful. Paths are escaped.
    Certainty(Listed<String>),
    /// The owners of blocks that become reserved.
    Claims {
        /// The runs that are listed.
        known: Vec<Claim>,
        /// Whether there are more.
        more: bool,
    },
    /// A name, escaped.
    Name(String),
    /// The directory that a file was in.
    Directory,
    /// A name and the directory that it was in.
    NameAndDirectory,
    /// The size of a file in bytes. It becomes that of its blocks.
    Size,
    /// What is in blocks that no file of a pkernfs store has.
    LeakedBlocks {
        /// How many.
        count: u64,
        /// Which.
        blocks: Listed<Range<u32>>,
    },
    /// Bytes that mean nothing to the driver that wrote the store: which.
    Unused(&'static str),
    /// Bytes of a file.
    FileBytes {
        /// Its path, escaped.
        path: String,
        /// Which bytes.
        bytes: Listed<Span>,
    },
}

impl Loss {
    /// A name for programs, which never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SuperblockFields => "superblock-fields",
            Self::SuperblockB => "superblock-b",
            Self::BlockOwners(_) => "block-owners",
            Self::Inodes(_) => "inodes",
            Self::NewestInodes(_) => "newest-inodes",
            Self::FreeBlocks { .. } => "free-blocks",
            Self::Records(_) => "records",
            Self::Certainty(_) => "certainty",
            Self::Claims { .. } => "claims",
            Self::Name(_) => "name",
            Self::Directory => "directory",
            Self::NameAndDirectory => "name-and-directory",
            Self::Size => "size",
            Self::LeakedBlocks { .. } => "leaked-blocks",
            Self::Unused(_) => "unused-bytes",
            Self::FileBytes { .. } => "file-bytes",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuperblockFields => f.write_str("the label, the times and the features of the region"),
            Self::SuperblockB => f.write_str("what superblock B says where the two differ"),
            Self::BlockOwners(pages) => {
                f.write_str("the owners of the blocks on block table pages ")?;
                runs(f, pages)
            }
            Self::Inodes(pages) => {
                f.write_str("names, sizes and directories of the inodes on inode table pages ")?;
                runs(f, pages)
            }
            Self::NewestInodes(pages) => {
                f.write_str("the certainty that inode table pages ")?;
                runs(f, pages)?;
                f.write_str(" are the newest: files may be missing there")
            }
            Self::FreeBlocks { count, blocks } => {
                write!(f, "{count} blocks that look free and are reserved: ")?;
                runs(f, blocks)
            }
            Self::Records(inodes) => {
                f.write_str("the inodes of files that come back in lost+found as ")?;
                listed(f, &inodes.first, |f, ino| write!(f, "#{ino}"))?;
                more(f, inodes.more, "")
            }
            Self::Certainty(paths) => {
                f.write_str("the certainty of ")?;
                listed(f, &paths.first, |f, path| f.write_str(path))?;
                more(f, paths.more, "")?;
                f.write_str(": they are flagged doubtful")
            }
            Self::Claims { known, more } => claims(f, known, *more),
            Self::Name(name) => write!(f, "its name '{name}'"),
            Self::Directory => f.write_str("the directory that it was in"),
            Self::NameAndDirectory => f.write_str("its name, and the directory that it was in"),
            Self::Size => f.write_str("its size in bytes"),
            Self::LeakedBlocks { count, blocks } => {
                write!(f, "what {count} blocks hold that no file has: ")?;
                runs(f, blocks)
            }
            Self::Unused(what) => f.write_str(what),
            Self::FileBytes { path, bytes } => {
                write!(f, "the content of '{path}' at bytes ")?;
                listed(f, &bytes.first, |f, span| write!(f, "{span}"))?;
                more(f, bytes.more, " ranges")
            }
        }
    }
}

fn listed<T>(
    f: &mut fmt::Formatter<'_>,
    things: &[T],
    one: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (n, thing) in things.iter().enumerate() {
        f.write_str(if n == 0 { "" } else { ", " })?;
        one(f, thing)?;
    }
    Ok(())
}

fn more(f: &mut fmt::Formatter<'_>, count: u64, what: &str) -> fmt::Result {
    if count > 0 { write!(f, " and {count} more{what}") } else { Ok(()) }
}

fn runs(f: &mut fmt::Formatter<'_>, runs: &Listed<Range<u32>>) -> fmt::Result {
    listed(f, &runs.first, |f, run| match run.end.saturating_sub(1) {
        last if last == run.start => write!(f, "{last}"),
        last => write!(f, "{}-{last}", run.start),
    })?;
    more(f, runs.more, " runs")
}

fn claims(f: &mut fmt::Formatter<'_>, known: &[Claim], more: bool) -> fmt::Result {
    f.write_str("the claim of these blocks to a place in a file")?;
    f.write_str(if known.is_empty() { "" } else { " (" })?;
    listed(f, known, |f, &Claim { first, count, owner, index }| match count {
        1 => write!(f, "block {first} was file block {index} of inode {owner}"),
        _ => {
            let (last, end) = (last_of(first.0, count), last_of(index, count));
            write!(f, "blocks {first}-{last} were file blocks {index}-{end} of inode {owner}")
        }
    })?;
    f.write_str(match (known.is_empty(), more) {
        (true, _) => "",
        (false, true) => ", and more)",
        (false, false) => ")",
    })?;
    f.write_str("; their content stays")
}

impl<T: Clone> Listed<T> {
    /// The first `most` of these.
    pub(crate) fn first(all: &[T], most: usize) -> Self {
        let first: Vec<T> = all.iter().take(most).cloned().collect();
        let more = gmfs_format::native::units::len64(all.len().saturating_sub(first.len()));
        Self { first, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_as_far_as_they_are_listed() {
        let run = |more| Listed { first: vec![1..2, 4..7], more };
        assert_eq!(
            Loss::FreeBlocks { count: 9, blocks: run(3) }.to_string(),
            "9 blocks that look free and are reserved: 1, 4-6 and 3 more runs"
        );
        let known = vec![Claim { first: BlockNo(4), count: 2, owner: InodeNo(7), index: 0 }];
        assert_eq!(
            Loss::Claims { known, more: true }.to_string(),
            "the claim of these blocks to a place in a file (blocks 4-5 were file blocks 0-1 of inode 7, and more); their \
             content stays"
        );
        assert_eq!(Listed::first(&[1, 2, 3], 2), Listed { first: vec![1, 2], more: 1 });
    }
}
