//! A file system of guestmemfs v1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gmfs_format::guestmemfs as layout;
use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};

use super::{Inodes, Owner, Runs, Usage, What};
use crate::find::guestmemfs::Found;

/// A file system of guestmemfs v1: its metadata as it was read from the memory of the machine.
pub struct Guestmemfs {
    pub(crate) found: Found,
    pub(crate) store: layout::Store,
    pub(crate) by: Option<layout::By>,
    /// The region's physical address.
    pub(crate) physical: Option<u64>,
    /// The image with the content, if it is another.
    pub(crate) elsewhere: Option<PathBuf>,
}

impl Guestmemfs {
    /// How it was found.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// What was read of it.
    #[must_use]
    pub const fn store(&self) -> &layout::Store {
        &self.store
    }

    /// Which mappings decide where files are. `None`: those of the device tree, and for files that it does not name,
    /// the inode's.
    #[must_use]
    pub const fn by(&self) -> Option<layout::By> {
        self.by
    }

    /// The image that the content of files is read from, if it is not that of the metadata.
    #[must_use]
    pub fn content_from(&self) -> Option<&Path> {
        self.elsewhere.as_deref()
    }

    /// Whether it is known where the content of files is.
    #[must_use]
    pub fn has_region(&self) -> bool {
        self.elsewhere.is_some() || self.store.region().is_some()
    }

    pub(super) const fn physical(&self) -> Option<u64> {
        self.physical
    }

    pub(super) fn size(&self) -> u64 {
        self.store.region().map_or_else(|| self.store.size_in_use(), |region| region.len)
    }

    pub(super) fn inodes(&self) -> Inodes {
        let mut tree = Tree::default();
        for node in self.store.nodes() {
            let kind = if node.kind == Some(layout::Kind::Directory) { Kind::Directory } else { Kind::File };
            let root = node.ino == InodeNo::ROOT;
            let extents = self.store.extents(node.ino, self.by);
            let mapped = extents.iter().filter(|extent| matches!(extent.place, layout::Place::Region { .. }));
            let mapped = mapped.fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
            tree.insert(Inode {
                ino: node.ino,
                kind,
                parent: if root { InodeNo::ROOT } else { node.parent.unwrap_or(InodeNo::NONE) },
                name: if root { Box::default() } else { node.name.clone() },
                size: self.store.size(node.ino, self.by).0,
                size_recorded: false,
                blocks: mapped.checked_div(layout::BLOCK_BYTES).unwrap_or_default(),
                attributes: None,
            });
        }
        let (lost_pages, broken_chains) = super::lost(self.store.chain_anomalies(), layout::INODE_BYTES);
        Inodes { tree, lost_pages, broken_chains }
    }

    pub(super) fn runs(&self, wanted: impl Fn(InodeNo) -> bool) -> Runs {
        let mut files = BTreeMap::new();
        for node in self.store.nodes().filter(|node| wanted(node.ino)) {
            let runs = super::runs_of(self.store.extents(node.ino, self.by));
            if !runs.is_empty() {
                files.insert(node.ino, runs);
            }
        }
        Runs { files, lost_pages: 0 }
    }

    pub(super) fn content(&self, inode: &Inode) -> Vec<Piece> {
        super::pieces(inode.size, self.store.extents(inode.ino, self.by))
    }

    pub(super) fn owner(&self, offset: u64) -> Owner {
        owner(self.store.owner(offset, self.by))
    }

    /// The part of the metadata that is at a physical address of the machine.
    #[must_use]
    pub fn metadata_at(&self, address: u64) -> Option<Owner> {
        let tree = self.found.parts.tree.as_ref();
        let in_tree = |at: &u64| {
            let size = tree.map_or(0, |tree| tree.tree_size);
            address.checked_sub(*at).is_some_and(|within| within < size)
        };
        if self.found.trees.iter().any(in_tree) {
            return Some(super::metadata(Some("device tree"), None));
        }
        self.store.metadata_at(address).map(owner)
    }

    pub(super) fn usage(&self) -> Usage {
        let found = self.store.usage(self.by);
        let used = [found.data, found.leaked, found.mark_unknown].into_iter().fold(0, u32::saturating_add);
        Usage {
            free: found.blocks.saturating_sub(used).into(),
            data: found.data.into(),
            bad: 0,
            reserved: 0,
            metadata: 0,
            leaked: found.leaked.into(),
            inodes_used: gmfs_io::num::len64(self.store.nodes().count()),
            inodes: layout::INODES.into(),
        }
    }
}

fn owner(owner: layout::Owner) -> Owner {
    let metadata = |kind, ino| super::metadata(Some(kind), ino);
    match owner {
        layout::Owner::File { ino, offset } => Owner { file: Some((ino, offset)), ..Owner::only(What::File) },
        layout::Owner::Leaked => Owner::only(What::Leaked),
        layout::Owner::Free => Owner::only(What::Free),
        layout::Owner::Unowned { .. } => Owner::only(What::Lost),
        layout::Owner::Unusable => Owner::only(What::Tail),
        layout::Owner::Outside => Owner::only(What::Outside),
        layout::Owner::Superblock => metadata("superblock", None),
        layout::Owner::Inode(ino) => metadata("inode", ino),
        layout::Owner::Bitmap => metadata("bitmap", None),
        layout::Owner::Page { ino } => metadata("mappings page", Some(ino)),
        layout::Owner::Table => metadata("page of inode numbers", None),
        _ => Owner::only(What::Unknown),
    }
}
