//! Converts inodes of the native layout to the neutral model.

use crate::model::{Attributes, Inode, InodeNo, Kind};
use crate::native::raw::InodeRaw;
use crate::native::tables::{INODE_DOUBTFUL, InodeKind};

impl Inode {
    /// The inode of a native region, or `None` if it is free or its kind is unknown.
    #[must_use]
    pub fn from_raw(ino: InodeNo, raw: &InodeRaw) -> Option<Self> {
        let kind = match raw.kind()? {
            InodeKind::Free => return None,
            InodeKind::File => Kind::File,
            InodeKind::Directory => Kind::Directory,
        };
        Some(Self {
            ino,
            kind,
            parent: raw.parent(),
            name: raw.name().into(),
            size: raw.size.get(),
            size_recorded: true,
            blocks: raw.blocks.get(),
            attributes: Some(Attributes {
                generation: raw.generation.get(),
                mode: raw.mode.get(),
                uid: raw.uid.get(),
                gid: raw.gid.get(),
                flags: raw.flags.get(),
                doubtful: raw.flags.get() & INODE_DOUBTFUL != 0,
                accessed: raw.accessed.get(),
                modified: raw.modified.get(),
                changed: raw.changed.get(),
                created: raw.created.get(),
            }),
        })
    }
}
