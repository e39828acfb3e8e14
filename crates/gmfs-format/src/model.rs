//! The content of a store, independent of its layout: inodes in directories, and the pieces that files consist of.
//!
//! A layout may record the owner of each block (as [`Layout::Native`](crate::Layout::Native) does), or mappings in the
//! inode with a bitmap of used blocks. Both are converted to a [`Tree`] and to [`Piece`]s in bytes, which the code that
//! lists, shows and extracts files uses.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};

use gmfs_io::Span;
use gmfs_io::num::to_usize;

mod paths;

pub use paths::Paths;

/// An inode number. 0 means no inode; 1 is the root directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNo(pub u32);

impl fmt::Display for InodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl InodeNo {
    /// No inode.
    pub const NONE: Self = Self(0);
    /// The root directory.
    pub const ROOT: Self = Self(1);

    /// The inode's index in a table that starts with inode 1, or `None` for [`InodeNo::NONE`].
    #[must_use]
    pub fn position(self) -> Option<usize> {
        self.0.checked_sub(1).map(to_usize)
    }

    /// The inode at an index of a table that starts with inode 1, or `None` past the last number.
    #[must_use]
    pub fn at_position(position: usize) -> Option<Self> {
        u32::try_from(position).ok()?.checked_add(1).map(Self)
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block with page tables of an IOMMU, which has a name like a file.
    PageTables,
    /// Something that a kernel hands over and that has no content as a file has.
    Object,
}

impl Kind {
    /// The word for it in tables and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::PageTables => "page-tables",
            Self::Object => "object",
        }
    }
}

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: InodeNo,
    /// Whether it is a file, a directory, or something else that the layout has.
    pub kind: Kind,
    /// The directory that contains it. A layout with linked lists of children fills this in while it reads them.
    pub parent: InodeNo,
    /// Its name, not necessarily UTF-8.
    pub name: Box<[u8]>,
    /// The size in bytes. In a layout that does not record it, this is the end of the last mapped block.
    pub size: u64,
    /// Whether the layout records the size.
    pub size_recorded: bool,
    /// How many blocks it owns, as the layout records it.
    pub blocks: u64,
    /// Fields that only some layouts have.
    pub attributes: Option<Attributes>,
}

/// Fields of an inode that only some layouts record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Grows each time the inode is reused.
    pub generation: u32,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode flags, with the numbers that the layout uses.
    pub flags: u64,
    /// Whether a repair could not prove that size and blocks are those of the last commit.
    pub doubtful: bool,
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
        self.attributes.is_some_and(|attributes| attributes.doubtful)
    }
}

/// A part of a file. The pieces of a file are in order and cover it without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the store.
    Data {
        /// The piece's range in the file.
        file: Span,
        /// The offset of its bytes in the store's source. They are as many as the piece has in the file.
        at: u64,
        /// Whether they are in a block with a hardware error, and must not be read.
        bad: bool,
    },
    /// A hole: no block holds this part, and it reads as zeros.
    Hole {
        /// The piece's range in the file.
        file: Span,
    },
    /// Data whose block is not known any more.
    Lost {
        /// The piece's range in the file.
        file: Span,
    },
}

impl Piece {
    /// The piece's range in the file.
    #[must_use]
    pub const fn file(self) -> Span {
        match self {
            Self::Data { file, .. } | Self::Hole { file } | Self::Lost { file } => file,
        }
    }

    /// The part of the piece that is within `range` of the file.
    #[must_use]
    pub fn clip(self, range: &Range<u64>) -> Option<Self> {
        let cut = |span: Span| {
            let from = span.offset.max(range.start);
            let len = span.end().min(range.end).checked_sub(from).filter(|len| *len > 0)?;
            Some(Span::new(from, len))
        };
        match self {
            Self::Data { file, at, bad } => {
                let inside = cut(file)?;
                let skipped = inside.offset.saturating_sub(file.offset);
                // The sum saturates at the last offset, past which nothing can be read.
                Some(Self::Data { file: inside, at: at.saturating_add(skipped), bad })
            }
            Self::Hole { file } => Some(Self::Hole { file: cut(file)? }),
            Self::Lost { file } => Some(Self::Lost { file: cut(file)? }),
        }
    }
}

/// The directory tree: all inodes in use. They can be found by number, by path, and by directory.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    inodes: BTreeMap<InodeNo, Inode>,
    entries: BTreeMap<(InodeNo, Box<[u8]>), InodeNo>,
}

impl Tree {
    /// Adds an inode. If two inodes have one name in one directory, the lower number is found by that name.
    pub fn insert(&mut self, inode: Inode) {
        if inode.ino != InodeNo::ROOT {
            let holder = self.entries.entry((inode.parent, inode.name.clone())).or_insert(inode.ino);
            *holder = inode.ino.min(*holder);
        }
        self.inodes.insert(inode.ino, inode);
    }

    /// Removes an inode.
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

    /// Whether there are no inodes, not even a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// The inode with a name in a directory.
    #[must_use]
    pub fn lookup(&self, directory: InodeNo, name: &[u8]) -> Option<&Inode> {
        self.get(*self.entries.get(&(directory, name.into()))?)
    }

    /// The other inodes with the same name in the same directory. This is damage: a path leads to only one of them.
    pub fn twins(&self, inode: &Inode) -> impl Iterator<Item = &Inode> {
        let (own, parent, name) = (inode.ino, inode.parent, inode.name.clone());
        // The root has no entry. If all other inodes have one, there are no twins, and the search is not needed.
        let root = usize::from(self.inodes.contains_key(&InodeNo::ROOT));
        let none = own == InodeNo::ROOT || self.entries.len().saturating_add(root) == self.inodes.len();
        let all = (!none).then(|| self.inodes.values()).into_iter().flatten();
        all.filter(move |other| {
            other.ino != own && other.ino != InodeNo::ROOT && other.parent == parent && other.name == name
        })
    }

    /// The inodes in a directory, by name.
    pub fn children(&self, directory: InodeNo) -> impl Iterator<Item = &Inode> {
        let from = Bound::Included((directory, Box::<[u8]>::default()));
        let to = directory
            .0
            .checked_add(1)
            .map_or(Bound::Unbounded, |next| Bound::Excluded((InodeNo(next), Box::<[u8]>::default())));
        self.entries.range((from, to)).filter_map(|(_, ino)| self.get(*ino))
    }

    /// The inode at a path. Parts are separated by slashes, and empty parts are ignored. `.` and `..` are not special.
    #[must_use]
    pub fn resolve(&self, path: &[u8]) -> Option<&Inode> {
        let mut here = self.get(InodeNo::ROOT)?;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            here = self.lookup(here.ino, part)?;
        }
        Some(here)
    }

    /// The path of an inode from the root, or `None` if its parents do not lead there (because of a cycle or a lost
    /// directory).
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

    /// Whether `ino` is `ancestor` or below it.
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

    fn inode(ino: u32, kind: Kind, parent: u32, name: &str) -> Inode {
        let name = name.as_bytes().into();
        Inode {
            ino: InodeNo(ino),
            kind,
            parent: InodeNo(parent),
            name,
            size: 0,
            size_recorded: true,
            blocks: 0,
            attributes: None,
        }
    }

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.insert(inode(1, Kind::Directory, 1, "."));
        tree.insert(inode(2, Kind::Directory, 1, "vms"));
        tree.insert(inode(3, Kind::File, 2, "a.mem"));
        tree.insert(inode(4, Kind::Directory, 5, "x"));
        tree.insert(inode(5, Kind::Directory, 4, "y"));
        tree
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
        tree.insert(inode(9, Kind::File, 2, "a.mem"));
        let found = tree.lookup(InodeNo(2), b"a.mem").unwrap();
        assert_eq!(found.ino, InodeNo(3));
        assert_eq!(tree.twins(found).map(|twin| twin.ino.0).collect::<Vec<_>>(), [9]);
        assert_eq!(tree.twins(tree.get(InodeNo(2)).unwrap()).count(), 0);
        assert_eq!(sample().twins(sample().get(InodeNo(3)).unwrap()).count(), 0);
        tree.remove(InodeNo(3));
        assert_eq!(tree.len(), 5);
    }
}
