//! One bit for each block.

use super::{BlockNo, to_usize};

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

    /// Whether the block is in the set.
    pub(crate) fn contains(&self, block: BlockNo) -> bool {
        self.0.get(to_usize(block.0 >> 3)).is_some_and(|byte| byte & bit(block) != 0)
    }
}

/// The bit of a block in its byte, as in the allocation bitmap.
pub(crate) const fn bit(block: BlockNo) -> u8 {
    1_u8.rotate_left(block.0 & 7)
}
