//! The bitmap, as it is.

use super::usage::each_bitmap_page;
use super::{BlockNo, ReadAt, Store};
use crate::marks::bit;

impl Store {
    /// Calls `each` with every block of the region and whether the bitmap marks it as used; `None` where that cannot be
    /// read.
    pub fn marks(&self, source: &dyn ReadAt, mut each: impl FnMut(BlockNo, Option<bool>)) {
        each_bitmap_page(source, self.base(), |first, bytes, lack| {
            for (block, byte) in (first.0..self.blocks()).zip(bytes.iter().flat_map(|byte| [byte; 8])) {
                let block = BlockNo(block);
                each(block, lack.is_none().then_some(byte & bit(block) != 0));
            }
        });
    }
}
