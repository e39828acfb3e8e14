//! A region's contents, free of how a layout records them.
//!
//! A layout may record ownership at the block (as [`Layout::Native`](crate::Layout::Native) does), or as forward
//! mappings in the inode with a bitmap beside them. Either way it comes to inodes in directories and extents of files;
//! what lists, shows and extracts is written against these.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::native::raw::InodeRaw;
use crate::native::tables::{INODE_DOUBTFUL, InodeKind};
use crate::native::units::{BlockNo, InodeNo};

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: InodeNo,
    /// File or directory.
    pub kind: InodeKind,
    /// The directory that it lies in. A layout with chains of children fills this in as it walks them.
    pub parent: InodeNo,
    /// Its name, not necessarily UTF-8.
    pub name: Box<[u8]>,
    /// Size in bytes. In a layout that does not record it: as far as the last mapped block reaches.
    pub size: u64,
    /// Blocks that it is recorded to own.
    pub blocks: u64,
    /// What a layout may leave out.
    pub attributes: Option<Attributes>,
}

/// What only some layouts record of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Grows each time the inode is used anew.
    pub generation: u32,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode flags.
    pub flags: u64,
    /// Last access, nanoseconds since the epoch.
    pub accessed: u64,
    /// Last change of the content.
    pub modified: u64,
    /// Last change of the inode.
    pub changed: u64,
    /// Creation.
    pub created: u64,
}

impl Inode {
    /// Whether a repair could not prove that the file's size and blocks are those of the last commit.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.attributes.is_some_and(|attributes| attributes.flags & INODE_DOUBTFUL != 0)
    }

    /// The inode of a native region, or `None` if it is free or of no known kind.
    #[must_use]
    pub fn from_raw(ino: InodeNo, raw: &InodeRaw) -> Option<Self> {
        let kind = raw.kind().filter(|kind| *kind != InodeKind::Free)?;
        Some(Self {
            ino,
            kind,
            parent: raw.parent(),
            name: raw.name().into(),
            size: raw.size.get(),
            blocks: raw.blocks.get(),
            attributes: Some(Attributes {
                generation: raw.generation.get(),
                mode: raw.mode.get(),
                uid: raw.uid.get(),
                gid: raw.gid.get(),
                flags: raw.flags.get(),
                accessed: raw.accessed.get(),
                modified: raw.modified.get(),
                changed: raw.changed.get(),
                created: raw.created.get(),
            }),
        })
    }
}

/// A run of a file's blocks that lie one behind the other, in the file and in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Place in the file, in blocks.
    pub index: u32,
    /// First block in the region.
    pub block: BlockNo,
    /// Length in blocks.
    pub count: u32,
    /// Whether the blocks have hardware errors.
    pub bad: bool,
}

impl Extent {
    /// One past the last place in the file.
    #[must_use]
    pub const fn end_index(&self) -> u32 {
        self.index.saturating_add(self.count)
    }

    /// One past the last block in the region. No block of a region has the number at which this saturates.
    #[must_use]
    pub const fn end_block(&self) -> BlockNo {
        BlockNo(self.block.0.saturating_add(self.count))
    }

    /// The block at a place of the file, if it is one of these.
    #[must_use]
    pub fn block_at(&self, index: u32) -> Option<BlockNo> {
        let inside = index.checked_sub(self.index).filter(|inside| *inside < self.count)?;
        self.block.0.checked_add(inside).map(BlockNo)
    }

    /// Whether a block that the file has at place `index` continues this extent. Nothing comes behind the last place that a
    /// number can name: a damaged descriptor may name it, and so may two of them.
    fn is_continued_by(&self, index: u32, block: BlockNo, bad: bool) -> bool {
        self.index.checked_add(self.count) == Some(index) && self.end_block() == block && self.bad == bad
    }
}

/// Gathers single mappings, in any order, into extents ordered by their place in the file.
#[derive(Clone, Debug, Default)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// Adds a mapping. Mappings that continue the last one cost no memory.
    pub fn push(&mut self, index: u32, block: BlockNo, bad: bool) {
        if let Some(last) = self.0.last_mut()
            && last.is_continued_by(index, block, bad)
        {
            last.count = last.count.saturating_add(1);
            return;
        }
        self.0.push(Extent { index, block, count: 1, bad });
    }

    /// The extents, by their place in the file. Where two blocks claim one place, both are there.
    #[must_use]
    pub fn finish(mut self) -> Vec<Extent> {
        self.0.sort_unstable();
        let mut merged: Vec<Extent> = Vec::with_capacity(self.0.len());
        for extent in self.0 {
            match merged.last_mut() {
                Some(last) if last.is_continued_by(extent.index, extent.block, extent.bad) => {
                    last.count = last.count.saturating_add(extent.count);
                }
                _ => merged.push(extent),
            }
        }
        merged
    }
}

/// The directory tree: every inode in use, found by number, by path, and by directory.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    inodes: BTreeMap<InodeNo, Inode>,
    entries: BTreeMap<(InodeNo, Box<[u8]>), InodeNo>,
}

impl Tree {
    /// Adds an inode. Of two with one name in one directory, the lower number keeps the name.
    pub fn insert(&mut self, inode: Inode) {
        if inode.ino != InodeNo::ROOT {
            let holder = self.entries.entry((inode.parent, inode.name.clone())).or_insert(inode.ino);
            *holder = inode.ino.min(*holder);
        }
        self.inodes.insert(inode.ino, inode);
    }

    /// Takes an inode out.
    pub fn remove(&mut self, ino: InodeNo) -> Option<Inode> {
        let inode = self.inodes.remove(&ino)?;
        let key = (inode.parent, inode.name.clone());
        if self.entries.get(&key) == Some(&ino) {
            self.entries.remove(&key);
        }
        Some(inode)
    }

    /// An inode by its number.
    #[must_use]
    pub fn get(&self, ino: InodeNo) -> Option<&Inode> {
        self.inodes.get(&ino)
    }

    /// All inodes by number.
    pub fn inodes(&self) -> impl Iterator<Item = &Inode> {
        self.inodes.values()
    }

    /// How many inodes are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Whether there is not even a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// A directory's entry.
    #[must_use]
    pub fn lookup(&self, directory: InodeNo, name: &[u8]) -> Option<&Inode> {
        self.get(*self.entries.get(&(directory, name.into()))?)
    }

    /// The other inodes that have an inode's name in its directory: damage, and more than one path can lead to.
    pub fn twins(&self, inode: &Inode) -> impl Iterator<Item = &Inode> {
        let (own, parent, name) = (inode.ino, inode.parent, inode.name.clone());
        // The root is no entry. Where each other inode is one, there are no twins, and no pass over all of them.
        let root = usize::from(self.inodes.contains_key(&InodeNo::ROOT));
        let none = own == InodeNo::ROOT || self.entries.len().saturating_add(root) == self.inodes.len();
        let all = (!none).then(|| self.inodes.values()).into_iter().flatten();
        all.filter(move |other| {
            other.ino != own && other.ino != InodeNo::ROOT && other.parent == parent && other.name == name
        })
    }

    /// A directory's entries by name.
    pub fn children(&self, directory: InodeNo) -> impl Iterator<Item = &Inode> {
        let from = Bound::Included((directory, Box::<[u8]>::default()));
        let to = directory
            .0
            .checked_add(1)
            .map_or(Bound::Unbounded, |next| Bound::Excluded((InodeNo(next), Box::<[u8]>::default())));
        self.entries.range((from, to)).filter_map(|(_, ino)| self.get(*ino))
    }

    /// The inode at a path. Slashes separate, empty parts count for nothing; no part is special.
    #[must_use]
    pub fn resolve(&self, path: &[u8]) -> Option<&Inode> {
        let mut here = self.get(InodeNo::ROOT)?;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            here = self.lookup(here.ino, part)?;
        }
        Some(here)
    }

    /// The path of an inode from the root, or `None` if its parents do not lead there (a cycle, a lost directory).
    #[must_use]
    pub fn path(&self, ino: InodeNo) -> Option<Vec<u8>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut here = ino;
        while here != InodeNo::ROOT {
            let inode = self.get(here)?;
            parts.push(&inode.name);
            here = inode.parent;
            if parts.len() > self.inodes.len() {
                return None;
            }
        }
        parts.reverse();
        let mut path = vec![b'/'];
        path.extend_from_slice(&parts.join(&b'/'));
        Some(path)
    }

    /// Whether `ino` is `ancestor` or lies below it.
    #[must_use]
    pub fn is_below(&self, ino: InodeNo, ancestor: InodeNo) -> bool {
        let mut here = ino;
        for _ in 0..=self.inodes.len() {
            if here == ancestor {
                return true;
            }
            match self.get(here) {
                Some(inode) if here != InodeNo::ROOT => here = inode.parent,
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(ino: u32, kind: InodeKind, parent: u32, name: &str) -> Inode {
        let name = name.as_bytes().into();
        Inode { ino: InodeNo(ino), kind, parent: InodeNo(parent), name, size: 0, blocks: 0, attributes: None }
    }

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.insert(inode(1, InodeKind::Directory, 1, "."));
        tree.insert(inode(2, InodeKind::Directory, 1, "vms"));
        tree.insert(inode(3, InodeKind::File, 2, "a.mem"));
        tree.insert(inode(4, InodeKind::Directory, 5, "x"));
        tree.insert(inode(5, InodeKind::Directory, 4, "y"));
        tree
    }

    #[test]
    fn nothing_continues_behind_the_last_place() {
        let mut extents = Extents::default();
        for (index, block) in [(u32::MAX - 1, 7), (u32::MAX, 8), (u32::MAX, 9)] {
            extents.push(index, BlockNo(block), false);
        }
        let found = extents.finish();
        let extent = |index, block, count| Extent { index, block: BlockNo(block), count, bad: false };
        assert_eq!(found, [extent(u32::MAX - 1, 7, 2), extent(u32::MAX, 9, 1)]);
        assert_eq!(found[0].block_at(u32::MAX), Some(BlockNo(8)));
        assert_eq!(found[0].block_at(u32::MAX - 2), None);
        assert_eq!(extent(3, 7, 2).block_at(5), None);
    }

    #[test]
    fn paths_lead_both_ways() {
        let tree = sample();
        assert_eq!(tree.resolve(b"/vms//a.mem").unwrap().ino, InodeNo(3));
        assert_eq!(tree.resolve(b"").unwrap().ino, InodeNo(1));
        assert_eq!(tree.path(InodeNo(3)).unwrap(), b"/vms/a.mem");
        assert_eq!(tree.path(InodeNo(1)).unwrap(), b"/");
        assert!(tree.resolve(b"/vms/b").is_none());
        assert_eq!(tree.children(InodeNo(1)).map(|i| i.ino.0).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_cycle_of_parents_ends() {
        let tree = sample();
        assert_eq!(tree.path(InodeNo(4)), None);
        assert!(!tree.is_below(InodeNo(4), InodeNo(1)));
        assert!(tree.is_below(InodeNo(3), InodeNo(2)));
    }

    #[test]
    fn of_two_equal_names_the_lower_number_is_found() {
        let mut tree = sample();
        tree.insert(inode(9, InodeKind::File, 2, "a.mem"));
        let found = tree.lookup(InodeNo(2), b"a.mem").unwrap();
        assert_eq!(found.ino, InodeNo(3));
        assert_eq!(tree.twins(found).map(|twin| twin.ino.0).collect::<Vec<_>>(), [9]);
        assert_eq!(tree.twins(tree.get(InodeNo(2)).unwrap()).count(), 0);
        assert_eq!(sample().twins(sample().get(InodeNo(3)).unwrap()).count(), 0);
        tree.remove(InodeNo(3));
        assert_eq!(tree.len(), 5);
    }

    #[test]
    fn mappings_gather_into_extents() {
        let mut extents = Extents::default();
        for (index, block) in [(0, 10), (1, 11), (4, 14), (2, 12), (3, 13), (5, 30)] {
            extents.push(index, BlockNo(block), false);
        }
        let found = extents.finish();
        assert_eq!(found.iter().map(|e| (e.index, e.block.0, e.count)).collect::<Vec<_>>(), [(0, 10, 5), (5, 30, 1)]);
    }
}
