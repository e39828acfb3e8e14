//! The bitmap, as it is.

use super::{BlockNo, Store};

impl Store {
    /// Whether the bitmap marks a block as used; `None` where that cannot be read.
    #[must_use]
    pub fn is_marked(&self, block: BlockNo) -> Option<bool> {
        self.bitmap.is_marked(block).ok()
    }
}
