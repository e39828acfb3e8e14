//! The allocation bitmap of the drivers pkernfs and guestmemfs, compared with the files that own the blocks.

use std::fmt;

use crate::chains::inode_name;
use crate::native::units::{BlockNo, InodeNo, follows, to_usize};

/// A set of blocks below a limit.
#[derive(Debug)]
pub(crate) struct Bits(Box<[u8]>);

impl Bits {
    /// The empty set of blocks below `blocks`.
    pub(crate) fn new(blocks: u32) -> Self {
        Self(vec![0; to_usize(blocks.div_ceil(8))].into())
    }

    /// Adds a block. Returns whether it was new; a block past the limit is not added, and not new.
    pub(crate) fn insert(&mut self, block: BlockNo) -> bool {
        let mask = bit(block);
        let Some(byte) = self.0.get_mut(to_usize(block.0 >> 3)) else { return false };
        let new = *byte & mask == 0;
        *byte |= mask;
        new
    }

    /// Whether the set has any of the eight blocks of a byte of the bitmap.
    pub(crate) fn any_of_byte(&self, byte: u32) -> bool {
        self.0.get(to_usize(byte)).is_some_and(|blocks| *blocks != 0)
    }

    /// Whether the set has any of the blocks of so many bytes of the bitmap.
    pub(crate) fn any_of_bytes(&self, first: u32, count: usize) -> bool {
        let rest = self.0.get(to_usize(first)..).unwrap_or_default();
        rest.iter().take(count).any(|blocks| *blocks != 0)
    }

    /// Whether the block is in the set.
    pub(crate) fn contains(&self, block: BlockNo) -> bool {
        self.0.get(to_usize(block.0 >> 3)).is_some_and(|byte| byte & bit(block) != 0)
    }
}

/// The bit of a block in its byte, as in the allocation bitmap.
pub(crate) const fn bit(block: BlockNo) -> u8 {
    1_u8.rotate_left(block.0 & 7)
}

/// Blocks whose mark in the bitmap and owner do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Remark {
    /// Blocks are marked, and nothing owns them. The drivers leak blocks in normal use.
    Leaked {
        /// The first.
        first: BlockNo,
        /// How many.
        count: u32,
    },
    /// Blocks have an owner, and are not marked: the driver will hand them out again.
    Unmarked {
        /// The first.
        first: BlockNo,
        /// How many.
        count: u32,
    },
    /// Blocks past the end of the region are marked.
    MarkedPastEnd {
        /// The first.
        first: BlockNo,
        /// How many.
        count: u32,
    },
    /// A block that has an owner is claimed once more.
    Contested {
        /// The block.
        block: BlockNo,
        /// Who claims it.
        ino: InodeNo,
        /// Where in that file it would be, in bytes; `None` if the file claims it for its table or page tables.
        offset: Option<u64>,
    },
    /// The part of the bitmap that the driver does not use is not zero.
    BitmapRest,
}

impl Remark {
    /// Whether the drivers leave this in normal use: memory is lost, and no content.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Leaked { .. })
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let them = |count: u32| if count == 1 { "it" } else { "them" };
        match self {
            Self::Leaked { first, count } => {
                write!(f, "{} marked, and no file has {}", blocks_are(*first, *count), them(*count))
            }
            Self::Unmarked { first, count } => write!(
                f,
                "{} in use and not marked: the driver will hand {} out again",
                blocks_are(*first, *count),
                them(*count)
            ),
            Self::MarkedPastEnd { first, count } => {
                write!(f, "{} marked, and past the end of the region", blocks_are(*first, *count))
            }
            Self::Contested { block, ino, .. } => {
                write!(f, "block {block} has an owner, and {} claims it too", inode_name(*ino))
            }
            Self::BitmapRest => f.write_str("the part of the bitmap that is not used is not zero"),
        }
    }
}

/// `block 3 is`, `blocks 3 to 5 are`.
fn blocks_are(first: BlockNo, count: u32) -> String {
    let last = first.0.saturating_add(count).saturating_sub(1);
    if count == 1 { format!("block {first} is") } else { format!("blocks {first} to {last} are") }
}

/// What is wrong with the mark of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Leaked,
    Unmarked,
    PastEnd,
}

/// Compares marks with owners, and passes on runs of blocks in which they do not agree.
pub(crate) struct Runs<'r> {
    /// Blocks of the region.
    blocks: u32,
    remark: &'r mut dyn FnMut(Remark),
    /// Consecutive blocks in one state: that state, the first, how many.
    run: Option<(State, BlockNo, u32)>,
}

impl<'r> Runs<'r> {
    /// For a region of so many blocks.
    pub(crate) fn new(blocks: u32, remark: &'r mut dyn FnMut(Remark)) -> Self {
        Self { blocks, remark, run: None }
    }

    /// The next block: whether it is marked, and whether something owns it.
    pub(crate) fn add(&mut self, block: BlockNo, marked: bool, owned: bool) {
        let state = match (marked, owned) {
            (true, _) if block.0 >= self.blocks => State::PastEnd,
            (true, false) => State::Leaked,
            (false, true) => State::Unmarked,
            _ => return self.end(),
        };
        match &mut self.run {
            Some((same, first, count)) if *same == state => {
                debug_assert!(follows(first.0.saturating_add(*count).saturating_sub(1), block.0));
                *count = count.saturating_add(1);
            }
            _ => {
                self.end();
                self.run = Some((state, block, 1));
            }
        }
    }

    /// Passes on the run that ends here.
    pub(crate) fn end(&mut self) {
        let Some((state, first, count)) = self.run.take() else { return };
        (self.remark)(match state {
            State::Leaked => Remark::Leaked { first, count },
            State::Unmarked => Remark::Unmarked { first, count },
            State::PastEnd => Remark::MarkedPastEnd { first, count },
        });
    }
}
