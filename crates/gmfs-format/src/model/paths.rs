//! Paths of many inodes.

use std::collections::HashMap;

use super::{InodeNo, Tree};

/// Finds the paths of many inodes. It finds the depth of each directory only once, so that directories in a circle, and
/// chains of thousands, cost no more than others.
#[derive(Debug)]
pub struct Paths<'t> {
    tree: &'t Tree,
    /// How many parts the path of each inode has; `None` for inodes that the root does not lead to.
    depths: HashMap<InodeNo, Option<u32>>,
}

impl<'t> Paths<'t> {
    /// The maximum length of a path in bytes: the kernel's `PATH_MAX`. Longer paths are not returned.
    pub const MAX_LEN: usize = 4096;
    /// No path of that length has more parts.
    const MAX_DEPTH: u32 = 2048;

    /// Prepares to find the paths of the inodes of a tree.
    #[must_use]
    pub fn new(tree: &'t Tree) -> Self {
        Self { tree, depths: HashMap::new() }
    }

    /// The path of an inode, if the root leads to it.
    pub fn of(&mut self, ino: InodeNo) -> Option<Vec<u8>> {
        self.depth(ino).filter(|depth| *depth <= Self::MAX_DEPTH)?;
        self.tree.path(ino).filter(|path| path.len() <= Self::MAX_LEN)
    }

    fn depth(&mut self, ino: InodeNo) -> Option<u32> {
        let mut way = Vec::new();
        let mut here = ino;
        let mut depth = loop {
            if here == InodeNo::ROOT {
                break Some(0);
            }
            if let Some(known) = self.depths.get(&here) {
                break *known;
            }
            let Some(inode) = self.tree.get(here) else { break None };
            // If this walk comes here again, there is a cycle: the walk then finds this entry.
            self.depths.insert(here, None);
            way.push(here);
            here = inode.parent;
        };
        for ino in way.into_iter().rev() {
            depth = depth.map(|depth: u32| depth.saturating_add(1));
            self.depths.insert(ino, depth);
        }
        depth
    }
}
