//! Moving and renaming.

use gmfs_format::model::Kind;
use gmfs_format::native::raw::InodeRaw;
use gmfs_format::native::units::InodeNo;
use gmfs_io::WriteAt;

use crate::change::Change;
use crate::writer::{ChangeError, Writer, blocks_from, release_all, require_kind, shown};

impl<S: WriteAt> Writer<S> {
    /// Moves `from` to `to`, or into `to` if that is a directory. With `replace`, a file may replace another one, whose
    /// blocks are free afterwards.
    ///
    /// # Errors
    /// A path cannot be used, or an inode is immutable; then nothing has changed.
    pub fn rename(&mut self, from: &[u8], to: &[u8], replace: bool) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let moved = self.at(from)?.clone();
        if moved.ino == InodeNo::ROOT {
            return Err(ChangeError::Root);
        }
        self.require_mutable(&moved)?;
        self.require_mutable_directory(moved.parent)?;
        let mut target = to.to_vec();
        if self.tree.resolve(to).is_some_and(|inode| inode.kind == Kind::Directory && inode.ino != moved.ino) {
            target.push(b'/');
            target.extend_from_slice(&moved.name);
        }
        let (parent, name) = self.parent_of(&target)?;
        require_kind(&target, moved.kind)?;
        if self.tree.is_below(parent, moved.ino) {
            return Err(ChangeError::IntoItself(shown(from)));
        }
        self.require_mutable_directory(parent)?;
        let mut change = Change::default();
        let mut freed = Vec::new();
        if let Some(there) = self.tree.lookup(parent, name).cloned() {
            if there.ino == moved.ino {
                return Ok(());
            }
            if !replace || there.kind != Kind::File || moved.kind != Kind::File {
                return Err(ChangeError::Exists(shown(&target)));
            }
            self.require_mutable(&there)?;
            freed = blocks_from(&self.mapping(&there)?.extents, 0);
            self.require_unused(&target, &freed)?;
            release_all(&mut change, &freed);
            let generation = there.attributes.map_or(0, |attributes| attributes.generation);
            change.set_inode(there.ino, InodeRaw::free(there.ino, generation));
        }
        let mut raw = self.inode_raw(moved.ino)?;
        raw.parent = parent.0.into();
        raw.set_name(name);
        raw.changed = now.into();
        change.set_inode(moved.ino, raw);
        self.touch_directory(&mut change, moved.parent, now)?;
        self.touch_directory(&mut change, parent, now)?;
        self.commit(&change, now)?;
        self.return_blocks(freed)
    }
}
