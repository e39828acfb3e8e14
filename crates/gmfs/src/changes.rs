//! What a change did to the files of a region, found by comparing its tree before and after.

use gmfs_format::model::{Inode, InodeNo, Kind, Tree};
use gmfs_format::native::geometry::Geometry;
use gmfs_io::WriteAt;
use gmfs_volume::Writer;
use gmfs_volume::change::BlocksMoved;
use uuid::Uuid;

use crate::open::Place;

/// What a change did to one file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Created,
    /// It is gone.
    Removed,
    /// It has another path; its size may be another one too.
    Moved,
    /// Its size, its blocks, its content, its permission bits or its owner.
    Changed,
}

impl What {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Removed => "removed",
            Self::Moved => "moved",
            Self::Changed => "changed",
        }
    }
}

/// One file or directory, before and after.
#[derive(Clone, Debug)]
pub struct One {
    /// What the change did to it.
    pub what: What,
    /// Its inode.
    pub ino: InodeNo,
    /// What it is.
    pub kind: Kind,
    /// How it was, unless it is new.
    pub before: Option<State>,
    /// How it is, unless it is gone.
    pub after: Option<State>,
}

/// How a file or directory is at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `None` if no path leads to it.
    pub path: Option<Vec<u8>>,
    /// Its size in bytes.
    pub size: u64,
    /// How many blocks it has.
    pub blocks: u64,
    /// Permission bits, owner and group, in a layout that has them.
    pub access: Option<Access>,
}

/// Who may do what with a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u16,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
}

impl Access {
    fn of(inode: &Inode) -> Option<Self> {
        inode.attributes.map(|attributes| Self { mode: attributes.mode, uid: attributes.uid, gid: attributes.gid })
    }
}

impl State {
    fn of(tree: &Tree, inode: &Inode) -> Self {
        Self { path: tree.path(inode.ino), size: inode.size, blocks: inode.blocks, access: Access::of(inode) }
    }
}

/// All that an operation changed.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Where the region is.
    pub place: Place,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its layout.
    pub geometry: Geometry,
    /// The change was made in memory only.
    pub dry_run: bool,
    /// Files and directories. Empty unless the tree before the change was given.
    pub list: Vec<One>,
    /// Blocks that files took and lost.
    pub moved: BlocksMoved,
    /// Blocks that are free now.
    pub free_blocks: u64,
}

impl Changes {
    /// What a writer has changed. `before` is its tree before that; without it, files are not listed.
    #[must_use]
    pub fn new<S: WriteAt>(place: Place, dry_run: bool, before: Option<&Tree>, writer: &Writer<S>) -> Self {
        let superblock = writer.superblock();
        Self {
            place,
            uuid: superblock.uuid,
            geometry: superblock.geometry(),
            dry_run,
            list: before.map(|before| compare(before, writer.tree())).unwrap_or_default(),
            moved: writer.blocks_moved(),
            free_blocks: writer.free_blocks(),
        }
    }
}

/// What differs between two states of a region's tree, by inode: first what was there before, then what is new.
#[must_use]
pub fn compare(before: &Tree, after: &Tree) -> Vec<One> {
    let mut list = Vec::new();
    for old in before.inodes() {
        let new = after.get(old.ino).filter(|new| is_same(old, new));
        let Some(new) = new else {
            let state = Some(State::of(before, old));
            list.push(One { what: What::Removed, ino: old.ino, kind: old.kind, before: state, after: None });
            continue;
        };
        let moved = (old.parent, &old.name) != (new.parent, &new.name);
        if moved || is_changed(old, new) {
            let what = if moved { What::Moved } else { What::Changed };
            let (from, to) = (Some(State::of(before, old)), Some(State::of(after, new)));
            list.push(One { what, ino: new.ino, kind: new.kind, before: from, after: to });
        }
    }
    for new in after.inodes().filter(|new| before.get(new.ino).is_none_or(|old| !is_same(old, new))) {
        let state = Some(State::of(after, new));
        list.push(One { what: What::Created, ino: new.ino, kind: new.kind, before: None, after: state });
    }
    list
}

/// Whether an inode number still stands for the same file. A number that is used again has another generation.
fn is_same(old: &Inode, new: &Inode) -> bool {
    let generation = |inode: &Inode| inode.attributes.map(|attributes| attributes.generation);
    old.kind == new.kind && generation(old) == generation(new)
}

/// Whether a file's content, or the access to a file or directory, may have changed. The content of directories does
/// not count: their entries are in the list themselves.
fn is_changed(old: &Inode, new: &Inode) -> bool {
    let modified = |inode: &Inode| inode.attributes.map(|attributes| attributes.modified);
    let content = (old.size, old.blocks) != (new.size, new.blocks) || modified(old) != modified(new);
    (old.kind == Kind::File && content) || Access::of(old) != Access::of(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(inodes: &[(u32, u32, &[u8], Kind, u64)]) -> Tree {
        let mut tree = Tree::default();
        for (ino, parent, name, kind, size) in inodes {
            tree.insert(Inode {
                ino: InodeNo(*ino),
                parent: InodeNo(*parent),
                name: (*name).into(),
                kind: *kind,
                size: *size,
                size_recorded: true,
                blocks: 0,
                attributes: None,
            });
        }
        tree
    }

    #[test]
    fn what_was_done_to_each_file_is_told() {
        let root = (1, 1, &b"."[..], Kind::Directory, 0);
        let before = tree(&[
            root,
            (2, 1, b"stays", Kind::File, 1),
            (3, 1, b"grows", Kind::File, 1),
            (4, 1, b"moves", Kind::File, 1),
            (5, 1, b"goes", Kind::Directory, 0),
            (6, 1, b"becomes", Kind::Directory, 0),
        ]);
        let after = tree(&[
            root,
            (2, 1, b"stays", Kind::File, 1),
            (3, 1, b"grows", Kind::File, 2),
            (4, 1, b"moved", Kind::File, 1),
            (6, 1, b"becomes", Kind::File, 0),
        ]);
        let found: Vec<_> = compare(&before, &after).iter().map(|one| (one.ino.0, one.what)).collect();
        let expected =
            [(3, What::Changed), (4, What::Moved), (5, What::Removed), (6, What::Removed), (6, What::Created)];
        assert_eq!(found, expected);
    }
}
