//! Paths in a store, and walks through its directories. In a damaged store, paths can have any length, and directories
//! can form a cycle, so everything here is bounded.

use std::collections::{HashMap, HashSet};

use gmfs_format::model::{Inode, Kind, Tree};
use gmfs_format::native::units::InodeNo;

pub use gmfs_format::model::Paths;

/// `directory` and `name` joined.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The last part of a path: `b` of `/a/b/`; the root has none.
pub fn last(path: &[u8]) -> Option<&[u8]> {
    path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty())
}

/// An inode met on a walk.
#[non_exhaustive]
pub struct Step<'t> {
    /// The inode.
    pub inode: &'t Inode,
    /// Its path from the root.
    pub path: Vec<u8>,
    /// For each directory from the top down to the inode itself: whether it is the last entry of its directory.
    pub last: Vec<bool>,
}

/// Whether a walk goes into the directory that it has just met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// It goes in.
    In,
    /// It leaves out what is in it.
    Past,
}

/// What a walk has met.
#[derive(Debug, Default)]
pub struct Walked {
    /// The top, and every inode that was passed to the caller.
    met: HashSet<InodeNo>,
    /// Directories that the walk did not enter because their paths are too long.
    too_deep: HashSet<InodeNo>,
}

/// Walks depth first through everything below `top`, by name, and hands each inode to `each`.
pub fn walk<'t, E>(
    tree: &'t Tree,
    top: (&'t Inode, &[u8]),
    mut each: impl FnMut(&Step<'t>) -> Result<Go, E>,
) -> Result<Walked, E> {
    let (top, path) = top;
    let mut walked = Walked::default();
    walked.met.insert(top.ino);
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
        let go = each(&step)?;
        walked.met.insert(inode.ino);
        if inode.kind != Kind::Directory || go == Go::Past {
            continue;
        }
        if step.path.len() > Paths::MAX_LEN {
            walked.too_deep.insert(inode.ino);
        } else {
            open.push((step.path, step.last, entries(inode.ino)));
        }
    }
    Ok(walked)
}

/// The entries of one directory as what a walk has met.
pub fn listed(tree: &Tree, directory: &Inode) -> Walked {
    let met = tree.children(directory.ino).map(|child| child.ino).chain([directory.ino]).collect();
    Walked { met, ..Walked::default() }
}

/// Why an inode is not among what a walk has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// This inode has the same name in the same directory.
    SameName(InodeNo),
    /// The path of its directory is longer than any can be.
    TooDeep,
    /// It is in this inode, which is a file.
    InFile(InodeNo),
    /// No file can have its name.
    Name,
    /// Outside, this inode has the same name in the same directory, because a slash in a name becomes `\x2f` there.
    SameOutside(InodeNo),
    /// It has no content that can be read.
    NoContent,
    /// It is below something that is not shown.
    Below,
    /// Its directories form a cycle, or one of them is lost.
    NoPath,
}

impl Why {
    /// A word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SameName(_) => "same-name",
            Self::TooDeep => "too-deep",
            Self::InFile(_) => "in-file",
            Self::Name => "name",
            Self::SameOutside(_) => "same-name-outside",
            Self::NoContent => "no-content",
            Self::Below => "below",
            Self::NoPath => "no-path",
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SameName(other) => write!(f, "inode {other} has the same name in the same directory"),
            Self::TooDeep => write!(f, "its directory has a path of more than {} bytes", Paths::MAX_LEN),
            Self::InFile(file) => write!(f, "its directory, inode {file}, is a file"),
            Self::Name => f.write_str("no file can have its name"),
            Self::SameOutside(other) => write!(f, "inode {other} has the same name outside, where a slash is \\x2f"),
            Self::NoContent => f.write_str("its content cannot be read: its record is damaged, or what it is has none"),
            Self::Below => f.write_str("it is below one that is left out"),
            Self::NoPath => f.write_str("no path leads to it: its directories form a circle, or one of them is lost"),
        }
    }
}

/// All files of a tree, by number, also those that no path leads to.
pub fn files(tree: &Tree) -> impl Iterator<Item = &Inode> {
    tree.inodes().filter(|inode| inode.kind == Kind::File)
}

/// The files that an inode stands for: itself if it is one, or those below a directory. Below the root are also those that no path
/// leads to.
pub fn files_of<'t>(tree: &'t Tree, top: &'t Inode) -> Vec<&'t Inode> {
    if top.kind == Kind::File {
        return vec![top];
    }
    if top.ino == InodeNo::ROOT {
        return files(tree).collect();
    }
    let mut found = Vec::new();
    let Ok(_) = walk(tree, (top, &tree.path(top.ino).unwrap_or_default()), |step| {
        found.extend(Some(step.inode).filter(|inode| inode.kind == Kind::File));
        Ok::<_, std::convert::Infallible>(Go::In)
    });
    found
}

/// Whether the root leads to an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached<'p> {
    /// It does, by this path.
    By(&'p [u8]),
    /// It does not, for this reason; there is none if the root itself is lost.
    Not(Option<Why>),
}

/// Passes every inode of a tree to `each`: first the root and what it leads to, in the order of a walk, then the others by
/// number.
pub fn every<'t>(tree: &'t Tree, mut each: impl FnMut(&'t Inode, Reached<'_>)) {
    let Some(root) = tree.get(InodeNo::ROOT) else {
        return tree.inodes().for_each(|inode| each(inode, Reached::Not(None)));
    };
    each(root, Reached::By(b"/"));
    let Ok(walked) = walk(tree, (root, b"/"), |step| {
        each(step.inode, Reached::By(&step.path));
        Ok::<_, std::convert::Infallible>(Go::In)
    });
    for (inode, why) in hidden(tree, root, &walked) {
        each(inode, Reached::Not(Some(why)));
    }
}

/// The inodes below `top` that a walk through all of it has not met, by number. Inodes that no path leads to count as
/// below the root.
pub fn hidden<'t>(tree: &'t Tree, top: &Inode, walked: &Walked) -> Vec<(&'t Inode, Why)> {
    let mut chains = Chains { tree, top: top.ino, known: HashMap::new() };
    let mut found = Vec::new();
    for inode in tree.inodes().filter(|inode| !walked.met.contains(&inode.ino)) {
        let reached = chains.lead_to_top(inode.ino);
        if reached || top.ino == InodeNo::ROOT {
            found.push((inode, reason(tree, walked, inode, reached)));
        }
    }
    found
}

/// The inodes that a listing of one directory leaves out. For the root, these include the inodes that no path leads to.
pub fn hidden_in<'t>(tree: &'t Tree, directory: &Inode) -> Vec<(&'t Inode, Why)> {
    let walked = listed(tree, directory);
    let is_root = directory.ino == InodeNo::ROOT;
    let mut chains = Chains { tree, top: InodeNo::ROOT, known: HashMap::new() };
    let mut found = Vec::new();
    for inode in tree.inodes().filter(|inode| !walked.met.contains(&inode.ino)) {
        let own = inode.parent == directory.ino;
        if own || is_root && !chains.lead_to_top(inode.ino) {
            found.push((inode, reason(tree, &walked, inode, own)));
        }
    }
    found
}

/// Why a walk has not met an inode. `reached`: its chain of directories ends at the top.
fn reason(tree: &Tree, walked: &Walked, inode: &Inode, reached: bool) -> Why {
    let parent = inode.parent;
    if !reached {
        return Why::NoPath;
    }
    if walked.too_deep.contains(&parent) {
        return Why::TooDeep;
    }
    if !walked.met.contains(&parent) {
        return Why::Below;
    }
    if tree.get(parent).is_some_and(|parent| parent.kind != Kind::Directory) {
        return Why::InFile(parent);
    }
    let holder = tree.lookup(parent, &inode.name).filter(|holder| holder.ino != inode.ino);
    holder.map_or(Why::Below, |holder| Why::SameName(holder.ino))
}

/// Finds whether chains of parents lead to one inode. It follows each link only once.
struct Chains<'t> {
    tree: &'t Tree,
    top: InodeNo,
    known: HashMap<InodeNo, bool>,
}

impl Chains<'_> {
    fn lead_to_top(&mut self, ino: InodeNo) -> bool {
        let mut way = Vec::new();
        let mut here = ino;
        let reached = loop {
            if here == self.top {
                break true;
            }
            if let Some(known) = self.known.get(&here) {
                break *known;
            }
            let Some(inode) = self.tree.get(here).filter(|_| here != InodeNo::ROOT) else { break false };
            // A second visit on this path means a cycle. It finds this entry.
            self.known.insert(here, false);
            way.push(here);
            here = inode.parent;
        };
        for ino in way {
            self.known.insert(ino, reached);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(inodes: &[(u32, u32, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (ino, parent, name) in inodes {
            tree.insert(Inode {
                ino: InodeNo(*ino),
                kind: Kind::Directory,
                parent: InodeNo(*parent),
                name: name.as_bytes().into(),
                size: 0,
                size_recorded: true,
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
    fn what_a_walk_does_not_meet_is_known() {
        let tree = tree(&[
            (1, 1, "."),
            (2, 1, "a"),
            (3, 2, "b"),
            (4, 5, "x"),
            (5, 4, "y"),
            (6, 9, "z"),
            (7, 1, "a"),
            (8, 7, "in"),
            (10, 2, "b"),
        ]);
        let all = |top: u32| {
            let top = tree.get(InodeNo(top)).unwrap();
            let walked = walk(&tree, (top, b"/"), |_| Ok::<Go, ()>(Go::In)).unwrap();
            hidden(&tree, top, &walked).into_iter().map(|(inode, why)| (inode.ino.0, why)).collect::<Vec<_>>()
        };
        let same = |ino| Why::SameName(InodeNo(ino));
        let lost = [(4, Why::NoPath), (5, Why::NoPath), (6, Why::NoPath)];
        assert_eq!(all(1), [&lost[..], &[(7, same(2)), (8, Why::Below), (10, same(3))]].concat());
        assert_eq!(all(2), [(10, same(3))]);
        assert_eq!(all(3), []);
        let listed = |top: u32| {
            let found = hidden_in(&tree, tree.get(InodeNo(top)).unwrap());
            found.into_iter().map(|(inode, why)| (inode.ino.0, why)).collect::<Vec<_>>()
        };
        assert_eq!(listed(1), [&lost[..], &[(7, same(2))]].concat());
        assert_eq!(listed(2), [(10, same(3))]);
    }

    #[test]
    fn every_inode_is_passed_once() {
        let list = |tree: &Tree| {
            let mut list = Vec::new();
            every(tree, |inode, reached| {
                list.push(match reached {
                    Reached::By(path) => (inode.ino.0, Ok(String::from_utf8(path.to_vec()).unwrap())),
                    Reached::Not(why) => (inode.ino.0, Err(why)),
                });
            });
            list
        };
        let by = |path: &str| Ok(path.to_owned());
        let whole = tree(&[(1, 1, "."), (4, 9, "z"), (5, 1, "a"), (6, 5, "b")]);
        assert_eq!(list(&whole), [(1, by("/")), (5, by("/a")), (6, by("/a/b")), (4, Err(Some(Why::NoPath)))]);
        assert_eq!(list(&tree(&[(4, 9, "z"), (5, 1, "a")])), [(4, Err(None)), (5, Err(None))]);
    }

    #[test]
    fn a_chain_beyond_use_ends() {
        let mut chain = vec![(1, 1, ".")];
        chain.extend((2..9000).map(|ino| (ino, ino - 1, "d")));
        let tree = tree(&chain);
        let mut seen = 0;
        let top = (tree.get(InodeNo::ROOT).unwrap(), &b"/"[..]);
        let walked = walk(&tree, top, |_| {
            seen += 1;
            Ok::<Go, ()>(Go::In)
        });
        assert!(seen < 2100);
        let hidden = hidden(&tree, top.0, &walked.unwrap());
        assert_eq!(hidden.len(), 8998 - seen);
        assert_eq!((hidden[0].1, hidden[1].1), (Why::TooDeep, Why::Below));
        assert_eq!(Paths::new(&tree).of(InodeNo(8999)), None);
    }

    #[test]
    fn the_last_part_of_a_path() {
        assert_eq!(last(b"/a/b/"), Some(&b"b"[..]));
        assert_eq!(last(b"/"), None);
    }

    #[test]
    fn names_are_joined() {
        assert_eq!(join(b"/", b"x"), b"/x");
        assert_eq!(join(b"/d", b"x"), b"/d/x");
    }
}
