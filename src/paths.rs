//! Paths within a region: as they are given, and as they are found. What a damaged region calls a path may be long
//! beyond use, so everything here is bounded.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use gmfs_format::model::{Inode, Tree};
use gmfs_format::units::InodeNo;

/// The longest path that is shown, as the kernel's `PATH_MAX`.
const MAX_PATH: usize = 4096;
/// No path of that length has more parts.
const MAX_DEPTH: u32 = 2048;

/// A path of the command line as bytes.
pub(crate) fn bytes(path: &OsStr) -> &[u8] {
    path.as_bytes()
}

/// A path or a name as it may be shown.
pub(crate) fn shown(path: &[u8]) -> String {
    gmfs_format::name::escape(path)
}

/// The last part of a path.
pub(crate) fn last(path: &[u8]) -> Option<&[u8]> {
    path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty())
}

/// `directory` and `name` joined.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Finds the paths of many inodes, each inode's depth only once.
pub(crate) struct Paths<'t> {
    tree: &'t Tree,
    /// Parts of each path; `None` for what the root does not lead to.
    depths: HashMap<InodeNo, Option<u32>>,
}

impl<'t> Paths<'t> {
    pub(crate) fn new(tree: &'t Tree) -> Self {
        Self { tree, depths: HashMap::new() }
    }

    /// The path of an inode, if the root leads to it.
    pub(crate) fn of(&mut self, ino: InodeNo) -> Option<Vec<u8>> {
        self.depth(ino).filter(|depth| *depth <= MAX_DEPTH)?;
        self.tree.path(ino).filter(|path| path.len() <= MAX_PATH)
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
            // A second visit on this way is a cycle: it finds this entry.
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

/// An inode met on a walk.
pub(crate) struct Step<'t> {
    pub(crate) inode: &'t Inode,
    /// Its path from the root.
    pub(crate) path: Vec<u8>,
    /// For each directory from the top down to the inode itself: whether it is the last entry of its directory.
    pub(crate) last: Vec<bool>,
}

/// Walks depth first through everything below `top`, by name, and hands each inode to `each`. Gives the number of
/// directories that it did not enter because their paths are too long.
pub(crate) fn walk<'t, E>(
    tree: &'t Tree,
    top: (&'t Inode, &[u8]),
    mut each: impl FnMut(&Step<'t>) -> Result<(), E>,
) -> Result<u64, E> {
    let (top, path) = top;
    let mut too_deep = 0;
    let mut open: Vec<(Vec<u8>, Vec<bool>, Vec<&'t Inode>)> = Vec::new();
    let entries = |ino: InodeNo| {
        let mut below: Vec<&Inode> = tree.children(ino).collect();
        below.reverse();
        below
    };
    open.push((path.to_vec(), Vec::new(), entries(top.ino)));
    while let Some((directory, last, below)) = open.last_mut() {
        let Some(inode) = below.pop() else {
            open.pop();
            continue;
        };
        let mut marks = last.clone();
        marks.push(below.is_empty());
        let step = Step { inode, path: join(directory, &inode.name), last: marks };
        each(&step)?;
        if inode.kind == gmfs_format::tables::InodeKind::Directory {
            if step.path.len() > MAX_PATH {
                too_deep += 1;
            } else {
                open.push((step.path, step.last, entries(inode.ino)));
            }
        }
    }
    Ok(too_deep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_format::tables::InodeKind;

    fn tree(inodes: &[(u32, u32, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (ino, parent, name) in inodes {
            tree.insert(Inode {
                ino: InodeNo(*ino),
                kind: InodeKind::Directory,
                parent: InodeNo(*parent),
                name: name.as_bytes().into(),
                size: 0,
                blocks: 0,
                attributes: None,
            });
        }
        tree
    }

    #[test]
    fn paths_are_found_and_cycles_are_not() {
        let tree = tree(&[(1, 1, "."), (2, 1, "a"), (3, 2, "b"), (4, 5, "x"), (5, 4, "y"), (6, 9, "z")]);
        let mut paths = Paths::new(&tree);
        assert_eq!(paths.of(InodeNo(3)).unwrap(), b"/a/b");
        assert_eq!(paths.of(InodeNo(1)).unwrap(), b"/");
        for lost in [4, 5, 6, 7] {
            assert_eq!(paths.of(InodeNo(lost)), None, "{lost}");
        }
    }

    #[test]
    fn a_chain_beyond_use_ends() {
        let mut chain = vec![(1, 1, ".")];
        chain.extend((2..9000).map(|ino| (ino, ino - 1, "d")));
        let tree = tree(&chain);
        let mut seen = 0;
        let top = (tree.get(InodeNo::ROOT).unwrap(), &b"/"[..]);
        let too_deep = walk(&tree, top, |_| {
            seen += 1;
            Ok::<(), ()>(())
        });
        assert_eq!(too_deep, Ok(1));
        assert!(seen < 2100);
        assert_eq!(Paths::new(&tree).of(InodeNo(8999)), None);
    }

    #[test]
    fn parts_of_paths() {
        assert_eq!(last(b"/a/b/"), Some(&b"b"[..]));
        assert_eq!(last(b"/"), None);
        assert_eq!(join(b"/", b"x"), b"/x");
        assert_eq!(join(b"/d", b"x"), b"/d/x");
    }
}
