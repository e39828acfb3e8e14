//! A store of the pkernfs driver.

use std::collections::BTreeMap;

use gmfs_format::Layout;
use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};
use gmfs_format::pkernfs as layout;
use gmfs_volume::OpenError;

use super::{Inodes, Owner, Runs, Usage, What};
use crate::error::Error;
use crate::open::Source;

/// A store of the pkernfs driver, with the source that it is read from.
pub struct Pkernfs {
    store: layout::Store,
    source: Source,
}

impl Pkernfs {
    /// Opens the store that fills `source`, in which no native region was found (`error`). If it does not look like a
    /// store of the driver, returns that error and the source.
    pub(super) fn open(source: Source, error: OpenError) -> Result<Self, (Source, Error)> {
        let none = matches!(error, OpenError::NoRegion { .. });
        if !none || super::other_layout(&source) != Some(Layout::Pkernfs) {
            return Err((source, error.into()));
        }
        // A window onto a file may be larger than the file.
        let size = gmfs_io::ReadAt::end(&source).unwrap_or_else(|| source.size());
        match layout::Store::read(&source, 0, size) {
            Ok(store) => Ok(Self { store, source }),
            Err(error) => Err((source, Error::Pkernfs(error))),
        }
    }

    /// What was read of it.
    #[must_use]
    pub const fn store(&self) -> &layout::Store {
        &self.store
    }

    /// What is wrong with it. Everything that holds in an undamaged store is checked.
    #[must_use]
    pub fn check(&self) -> Vec<layout::Finding> {
        self.store.check(&self.source)
    }

    pub(super) const fn source(&self) -> &Source {
        &self.source
    }

    pub(super) const fn size(&self) -> u64 {
        self.store.size()
    }

    pub(super) fn inodes(&self) -> Inodes {
        let mut tree = Tree::default();
        for node in self.store.nodes() {
            let kind = match node.kind {
                Some(layout::Kind::Directory | layout::Kind::IommuDirectory) => Kind::Directory,
                Some(layout::Kind::IommuRootPageTables | layout::Kind::IommuDomainPageTables) => Kind::PageTables,
                Some(layout::Kind::File) | None => Kind::File,
            };
            // Directories have no extents, so that their size is 0.
            let (size, mapped) = self.store.extents(&self.source, node.ino).measure();
            let root = node.ino == InodeNo::ROOT;
            tree.insert(Inode {
                ino: node.ino,
                kind,
                parent: if root { InodeNo::ROOT } else { node.parent.unwrap_or(InodeNo::NONE) },
                name: if root { Box::default() } else { node.name.clone() },
                size: size.bytes,
                size_recorded: false,
                blocks: mapped.checked_div(layout::BLOCK_BYTES).unwrap_or_default(),
                attributes: None,
            });
        }
        let (lost_pages, broken_chains) = super::lost(self.store.anomalies(), layout::INODE_BYTES);
        Inodes { tree, lost_pages, broken_chains }
    }

    pub(super) fn runs(&self, wanted: impl Fn(InodeNo) -> bool) -> Runs {
        let mut files = BTreeMap::new();
        for node in self.store.nodes().filter(|node| wanted(node.ino)) {
            let runs = super::runs_of(self.store.extents(&self.source, node.ino));
            if !runs.is_empty() {
                files.insert(node.ino, runs);
            }
        }
        Runs { files, lost_pages: 0 }
    }

    /// A file's pieces. An entry of its table that names no block, or one past the end of the store, or that cannot be
    /// read, says nothing of what the file had there: that is lost, and never a hole.
    pub(super) fn content(&self, inode: &Inode) -> Vec<Piece> {
        super::pieces(inode.size, self.store.extents(&self.source, inode.ino))
    }

    pub(super) fn owner(&self, offset: u64) -> Owner {
        let owner = self.store.owner(&self.source, offset).owner;
        match owner {
            layout::Owner::Superblock => super::metadata(Some("superblock"), None),
            layout::Owner::Bitmap { .. } => super::metadata(Some("bitmap"), None),
            layout::Owner::Inode { ino } => super::metadata(Some("inode"), Some(ino)),
            layout::Owner::Table { ino, .. } => super::metadata(Some("mappings table"), Some(ino)),
            layout::Owner::UnusedMetadata => super::metadata(None, None),
            layout::Owner::PageTables { ino, offset } | layout::Owner::File { ino, offset } => {
                Owner { file: Some((ino, offset)), ..Owner::only(What::File) }
            }
            layout::Owner::Leaked => Owner::only(What::Leaked),
            layout::Owner::Free => Owner::only(What::Free),
            layout::Owner::Unowned { .. } => Owner::only(What::Lost),
            layout::Owner::Unusable => Owner::only(What::Tail),
            layout::Owner::Outside => Owner::only(What::Outside),
            _ => Owner::only(What::Unknown),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let found = self.store.usage(&self.source, &mut |_| {});
        let used = [found.metadata, found.tables, found.data, found.iommu, found.leaked, found.mark_unknown];
        let used = used.into_iter().fold(0, u32::saturating_add);
        let metadata = [found.metadata, found.tables, found.iommu].into_iter().fold(0, u32::saturating_add);
        Usage {
            free: found.blocks.saturating_sub(used).into(),
            data: found.data.into(),
            bad: 0,
            reserved: 0,
            metadata: metadata.into(),
            leaked: found.leaked.into(),
            inodes_used: gmfs_io::num::len64(self.store.nodes().count()),
            inodes: layout::INODES.into(),
        }
    }
}
