//! What a repair of a store of the pkernfs driver writes.

use std::fmt;
use std::ops::Range;

use gmfs_format::chains::{Chain, inode_name};
use gmfs_format::native::units::{InodeNo, len64};
use gmfs_format::pkernfs::BLOCK_BYTES;
use gmfs_io::Span;

/// Bytes to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where, from the store's start.
    pub at: u64,
    /// What is there.
    pub before: Vec<u8>,
    /// What will be there: as many bytes.
    pub after: Vec<u8>,
}

impl Write {
    /// The bytes that are written.
    #[must_use]
    pub fn span(&self) -> Span {
        Span::new(self.at, len64(self.after.len()))
    }
}

/// What is done to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The magic is written.
    Magic,
    /// The root inode gets what the driver gives it.
    Root,
    /// A link of a chain that leads nowhere, or back, leads to what follows: an inode, or the end.
    Link {
        /// The chain.
        chain: Chain,
        /// The inode with the link; `None` for the superblock.
        holder: Option<InodeNo>,
        /// Where it will lead; `None` ends the chain.
        to: Option<InodeNo>,
    },
    /// Free inodes are taken out of a directory.
    Skip {
        /// The directory.
        directory: InodeNo,
    },
    /// The list of free inodes is rebuilt.
    FreeList,
    /// The file in the ghost inode gets an inode of its own.
    MoveGhost {
        /// Which.
        to: InodeNo,
    },
    /// Inodes that nothing leads to become entries of the root.
    Attach {
        /// Which, each called `lost+found-N` by its number.
        inodes: Vec<InodeNo>,
    },
    /// An entry gets another name.
    Rename {
        /// Which.
        ino: InodeNo,
        /// Its name.
        name: String,
    },
    /// An entry without content is taken out of its directory.
    Remove {
        /// Which.
        ino: InodeNo,
    },
    /// A file's count of blocks is written.
    Count {
        /// Which.
        ino: InodeNo,
        /// The count.
        count: u32,
    },
    /// A file loses entries that name blocks past the end of the region.
    Drop {
        /// Which.
        ino: InodeNo,
        /// How many.
        entries: u64,
    },
    /// Blocks are marked as used.
    Mark(Vec<Range<u32>>),
    /// Blocks that no file has are marked as free.
    Free(Vec<Range<u32>>),
    /// Marks past the end of the region are taken away.
    Unmark(Vec<Range<u32>>),
    /// Bytes that mean nothing become zero.
    Zero {
        /// The inode that they are in, if they are in one.
        ino: Option<InodeNo>,
    },
}

/// One repair of a store of the pkernfs driver: its steps are made one after the other, each durable before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkernfsEdit {
    /// What it does.
    pub action: Action,
    /// What each step writes, in any order.
    pub steps: Vec<Vec<Write>>,
}

impl PkernfsEdit {
    /// All that it writes, in order.
    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.steps.iter().flatten()
    }

    /// The bytes of the store that it writes or frees.
    #[must_use]
    pub fn touches(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.writes().map(Write::span).collect();
        if let Action::Free(blocks) = &self.action {
            let bytes = |blocks: u32| u64::from(blocks).saturating_mul(BLOCK_BYTES);
            let freed = blocks.iter().map(|run| Span::new(bytes(run.start), bytes(run.end.saturating_sub(run.start))));
            spans.extend(freed);
        }
        spans
    }

    /// Whether it is made once for all findings of its codes.
    #[must_use]
    pub const fn is_for_all(&self) -> bool {
        matches!(
            self.action,
            Action::FreeList | Action::Attach { .. } | Action::Mark(_) | Action::Free(_) | Action::Unmark(_)
        )
    }
}

/// `block 3`, `blocks 3-5 and 9`, the first few of them.
struct Blocks<'r>(&'r [Range<u32>]);

impl fmt::Display for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LISTED: usize = 8;
        let count: u64 = self.0.iter().map(|run| u64::from(run.end.saturating_sub(run.start))).sum();
        f.write_str(if count == 1 { "block " } else { "blocks " })?;
        for (n, run) in self.0.iter().take(LISTED).enumerate() {
            f.write_str(if n == 0 { "" } else { ", " })?;
            match run.end.saturating_sub(1) {
                last if last == run.start => write!(f, "{last}")?,
                last => write!(f, "{}-{last}", run.start)?,
            }
        }
        match self.0.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more runs"),
        }
    }
}

impl fmt::Display for PkernfsEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Magic => f.write_str("write the magic of the superblock"),
            Action::Root => f.write_str("write the root inode as the driver does; its entries stay"),
            Action::Link { chain, holder, to } => {
                match holder {
                    Some(ino) => write!(f, "in {chain}, let {} link to ", inode_name(*ino))?,
                    None => write!(f, "in {chain}, let the superblock link to ")?,
                }
                match to {
                    Some(to) => f.write_str(&inode_name(*to)),
                    None => f.write_str("nothing"),
                }
            }
            Action::Skip { directory } => {
                write!(f, "take the free inodes out of the entries of {}", inode_name(*directory))
            }
            Action::FreeList => f.write_str("rebuild the list of free inodes"),
            Action::MoveGhost { to } => write!(f, "move the file in inode -12 to {}", inode_name(*to)),
            Action::Attach { inodes } => {
                let list: Vec<String> = inodes.iter().take(8).map(|ino| format!("/lost+found-{ino}")).collect();
                write!(f, "make entries of the root of inodes in no directory: {}", list.join(", "))?;
                match inodes.len().saturating_sub(8) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Action::Rename { ino, name } => write!(f, "rename {} to '{name}'", inode_name(*ino)),
            Action::Remove { ino } => write!(f, "remove the entry of {}, which has no content", inode_name(*ino)),
            Action::Count { ino, count } => write!(f, "let {} count {count} allocated blocks", inode_name(*ino)),
            Action::Drop { ino, entries } => {
                let noun = if *entries == 1 { "entry" } else { "entries" };
                write!(f, "take from {} {entries} {noun} past the end of the region", inode_name(*ino))
            }
            Action::Mark(blocks) => write!(f, "mark {} as used", Blocks(blocks)),
            Action::Free(blocks) => write!(f, "mark {} as free", Blocks(blocks)),
            Action::Unmark(blocks) => write!(f, "take the marks of {} away", Blocks(blocks)),
            Action::Zero { ino: Some(ino) } => write!(f, "zero the bytes of {} that mean nothing", inode_name(*ino)),
            Action::Zero { ino: None } => f.write_str("zero the bytes that mean nothing"),
        }
    }
}
