//! What a change did to the files of a region: for answers in JSON, and for what a dry run prints.

use gmfs_format::model::Kind;
use gmfs_format::model::{Inode, Tree};
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::InodeNo;
use gmfs_volume::change::BlocksMoved;
use uuid::Uuid;

use crate::ctx::{Ctx, OutputError};
use crate::failure::printable;
use crate::open::Changing;
use crate::paths;
use crate::render::size;
use gmfs::Place;

/// What a change did to one file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Created,
    Removed,
    /// It has another path; its size may be another one too.
    Moved,
    /// Its size, its blocks or its content.
    Changed,
}

impl What {
    /// The word for programs.
    pub(crate) const fn name(self) -> &'static str {
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
pub(crate) struct One {
    pub(crate) what: What,
    pub(crate) ino: InodeNo,
    pub(crate) kind: Kind,
    pub(crate) before: Option<State>,
    pub(crate) after: Option<State>,
}

/// How a file or directory is at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// `None` if the root does not lead to it.
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
}

impl State {
    fn of(tree: &Tree, inode: &Inode) -> Self {
        Self { path: tree.path(inode.ino), size: inode.size, blocks: inode.blocks }
    }
}

/// All that a command changed.
pub(crate) struct Changes {
    pub(crate) place: Place,
    pub(crate) uuid: Uuid,
    pub(crate) geometry: Geometry,
    pub(crate) dry_run: bool,
    /// Empty unless somebody wants to know.
    pub(crate) list: Vec<One>,
    pub(crate) moved: BlocksMoved,
    pub(crate) free_blocks: u64,
}

impl Changes {
    /// What has become of `before`.
    pub(crate) fn new(place: Place, dry_run: bool, before: Option<&Tree>, writer: &Changing<'_>) -> Self {
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

    /// What a dry run says: a line for each file and directory, and one for the blocks.
    pub(crate) fn tell(&self, ctx: &mut Ctx) -> Result<(), OutputError> {
        for one in &self.list {
            ctx.line(&one.sentence())?;
        }
        let image = printable(&self.place.path.display().to_string());
        let (taken, freed) = (size::count(self.moved.taken, "block"), self.moved.freed);
        ctx.line(&format!("{image}: {taken} would be taken and {freed} freed; nothing was written"))
    }
}

impl One {
    /// What would become of it, in words.
    fn sentence(&self) -> String {
        let path = |state: &Option<State>| match state.as_ref().and_then(|state| state.path.as_ref()) {
            Some(path) => format!("'{}'", paths::shown(path)),
            None => format!("inode {}", self.ino),
        };
        let content = |state: &State| format!("{} in {}", size::human(state.size), size::count(state.blocks, "block"));
        let directory = self.kind == Kind::Directory;
        let noun = if directory { "the directory " } else { "" };
        let of = |state: &Option<State>| match state {
            Some(state) if !directory => format!(": {}", content(state)),
            _ => String::new(),
        };
        let both = match (&self.before, &self.after) {
            (Some(before), Some(after)) if (before.size, before.blocks) != (after.size, after.blocks) => {
                format!(": {} instead of {}", content(after), content(before))
            }
            (_, after) if self.what == What::Changed => of(after),
            _ => String::new(),
        };
        match self.what {
            What::Created => format!("would create {noun}{}{}", path(&self.after), of(&self.after)),
            What::Removed => format!("would remove {noun}{}{}", path(&self.before), of(&self.before)),
            What::Moved => format!("would move {noun}{} to {}{both}", path(&self.before), path(&self.after)),
            What::Changed => format!("would change {noun}{}{both}", path(&self.after)),
        }
    }
}

/// What differs between two states of a region's tree, by inode.
fn compare(before: &Tree, after: &Tree) -> Vec<One> {
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

/// Whether an inode number still stands for the same file: it is given out again under another generation.
fn is_same(old: &Inode, new: &Inode) -> bool {
    let generation = |inode: &Inode| inode.attributes.map(|attributes| attributes.generation);
    old.kind == new.kind && generation(old) == generation(new)
}

/// Whether a file's content may be another one. A directory's time of change tells of its entries, which are in the list
/// themselves.
fn is_changed(old: &Inode, new: &Inode) -> bool {
    let modified = |inode: &Inode| inode.attributes.map(|attributes| attributes.modified);
    let content = (old.size, old.blocks) != (new.size, new.blocks) || modified(old) != modified(new);
    old.kind == Kind::File && content
}
