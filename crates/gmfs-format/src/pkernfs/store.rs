//! A region that has been read: its inodes as a tree, and what is wrong with them.

use std::collections::BTreeMap;

use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::chains::{self, Walked};

use super::{
    Anomaly, BLOCK_BYTES, BlockNo, Extents, FIRST_BLOCK, INODES_OFFSET, InodeNo, InodeRaw, Inodes, Kind, Lack, MAGIC,
    MAX_BLOCKS, ReadAt, SuperblockRaw, to_u32,
};

/// Why a range cannot be read as a pkernfs region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The range is smaller than the metadata.
    #[error("a pkernfs region of {size} bytes is too small: its metadata alone takes {} bytes", 2 * BLOCK_BYTES)]
    TooSmall {
        /// The size that was given, in bytes.
        size: u64,
    },
    /// The range passes the end of the 64-bit space.
    #[error("a region of {size} bytes at {base:#x} passes the end of the address space")]
    PastAddressSpace {
        /// Where the range starts.
        base: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// Neither the magic nor the root inode is there.
    #[error("no pkernfs region at {base:#x}: neither the superblock's magic nor the root inode was found")]
    NotFound {
        /// Where the range starts.
        base: u64,
    },
}

/// What the magic of the superblock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// The right one.
    Right,
    /// Another value.
    Wrong(u64),
    /// It cannot be read.
    Unknown(Lack),
}

/// An inode in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number; [`GHOST`](super::GHOST) for the ghost.
    pub ino: InodeNo,
    /// The directory whose chain it is in. `None` for the root, and for an inode that no directory leads to.
    pub parent: Option<InodeNo>,
    /// What it is; `None` if the flags are none that the driver knows.
    pub kind: Option<Kind>,
    /// The flags as recorded.
    pub flags: u32,
    /// The name: the bytes before the first NUL, at most 255. Not necessarily UTF-8; a damaged one may be empty or contain
    /// `/` (see [`Anomaly::BadName`]).
    pub name: Box<[u8]>,
    /// Files: block of the mappings table. IOMMU files: block of the page tables.
    pub mappings_block: BlockNo,
    /// How many blocks were ever allocated for the file's content: at least as many as it has.
    pub num_mappings: u32,
}

impl Node {
    /// The node of a known inode.
    pub(super) fn new(ino: InodeNo, parent: Option<InodeNo>, raw: &InodeRaw) -> Self {
        Self {
            ino,
            parent,
            kind: Kind::of_flags(raw.flags.get()),
            flags: raw.flags.get(),
            name: raw.name().into(),
            mappings_block: BlockNo(raw.mappings_block.get()),
            num_mappings: raw.num_mappings.get(),
        }
    }
}

/// A region that has been read. Holds the inode store (2 MiB) and the tree; the mappings tables and the bitmap are read from
/// the source each time something asks for them, so in live memory they may be newer than the tree.
#[derive(Debug)]
pub struct Store {
    base: u64,
    size: u64,
    magic: Magic,
    next_free_ino: Option<u64>,
    pub(super) inodes: Inodes,
    walked: Walked,
    nodes: BTreeMap<InodeNo, Node>,
}

impl Store {
    /// Reads the region of `size` bytes that starts at `base` of the source. A wrong or unreadable magic does not keep it
    /// from being read, if the root inode is there: a driver that was hit by one of its own defects writes file data over
    /// the superblock.
    ///
    /// # Errors
    /// [`StoreError`]. Damage is no error: see [`anomalies`](Self::anomalies).
    pub fn read(source: &dyn ReadAt, base: u64, size: u64) -> Result<Self, StoreError> {
        if size < 2 * BLOCK_BYTES {
            return Err(StoreError::TooSmall { size });
        }
        if base.checked_add(size).is_none() {
            return Err(StoreError::PastAddressSpace { base, size });
        }
        let mut superblock = SuperblockRaw::new_zeroed();
        let read = source.read_at(base, superblock.as_mut_bytes()).map_err(|error| Lack::from(&error));
        let magic = match read {
            Ok(()) if superblock.magic == MAGIC => Magic::Right,
            Ok(()) => Magic::Wrong(superblock.magic.get()),
            Err(lack) => Magic::Unknown(lack),
        };
        let next_free = read.map(|()| superblock.next_free_ino.get());
        let inodes = Inodes::read(source, base.saturating_add(INODES_OFFSET));
        let rooted = matches!(inodes.get(InodeNo::ROOT), Some(Ok(root)) if root.looks_like_root());
        if magic != Magic::Right && !rooted {
            return Err(StoreError::NotFound { base });
        }
        let other_magic = if let Magic::Wrong(found) = magic { Some(found) } else { None };
        let mut walked = chains::walk(&inodes, chains::Superblock { other_magic, next_free });
        let nodes = nodes(&inodes, &walked);
        walked.anomalies.extend(bad_tables(&nodes, usable_blocks(size)));
        Ok(Self { base, size, magic, next_free_ino: next_free.ok(), inodes, walked, nodes })
    }

    /// Where the region starts in the source, in bytes.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The region's size in bytes, as given.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Blocks of 2 MiB that the region has, and the driver can use: at most [`MAX_BLOCKS`]. A tail smaller than a block is
    /// not used.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        usable_blocks(self.size)
    }

    /// What the magic of the superblock is.
    #[must_use]
    pub const fn magic(&self) -> Magic {
        self.magic
    }

    /// Head of the list of free inodes as recorded; `None` if the superblock cannot be read.
    #[must_use]
    pub const fn next_free_ino(&self) -> Option<u64> {
        self.next_free_ino
    }

    /// How many inodes the list of free inodes has, as far as it can be followed.
    #[must_use]
    pub const fn free_inodes(&self) -> u32 {
        self.walked.free
    }

    /// Everything that is wrong with inodes, names and chains, and which inodes are unknown.
    #[must_use]
    pub fn anomalies(&self) -> &[Anomaly] {
        &self.walked.anomalies
    }

    /// Whether all inodes are known: those of the store, and the ghost if something links to it.
    #[must_use]
    pub fn inodes_known(&self) -> bool {
        !self.anomalies().iter().any(|anomaly| matches!(anomaly, Anomaly::UnknownInodes { .. }))
    }

    /// The inodes in use that are known, by number: those that a directory leads to, the root, and those that nothing leads
    /// to. The root is always there, even if its inode is unknown.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// An inode in use by its number.
    #[must_use]
    pub fn node(&self, ino: InodeNo) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// The entries of a directory in the order of its chain: newest first.
    #[must_use]
    pub fn children(&self, directory: InodeNo) -> &[InodeNo] {
        self.walked.children.get(&directory).map_or(&[], Vec::as_slice)
    }

    /// The path of an inode in use, from the root: `/` for the root itself. `None` for an inode that no directory leads to.
    #[must_use]
    pub fn path(&self, ino: InodeNo) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut node = self.node(ino)?;
        while node.ino != InodeNo::ROOT {
            names.push(&node.name);
            node = self.node(node.parent?)?;
        }
        if names.is_empty() {
            return Some(b"/".into());
        }
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Some(path)
    }

    /// The bytes of an inode, in use or not, or why they are unknown. `None` if there is no inode with that number.
    #[must_use]
    pub fn raw_inode(&self, ino: InodeNo) -> Option<Result<&InodeRaw, Lack>> {
        self.inodes.get(ino)
    }

    /// The extents of a file in the order of the file, read from its mappings table as they are asked for. None for
    /// directories, and for numbers that are not in use.
    #[must_use]
    pub fn extents<'a>(&self, source: &'a dyn ReadAt, ino: InodeNo) -> Extents<'a> {
        let node = self.node(ino);
        node.map_or_else(Extents::none, |node| Extents::of(source, self.base, self.blocks(), node))
    }

    /// Files by the block of their mappings table, as far as it is a block of the region that can be one. Several files have
    /// one block only in a damaged region.
    pub(super) fn tables(&self) -> BTreeMap<BlockNo, Vec<&Node>> {
        let mut tables: BTreeMap<BlockNo, Vec<&Node>> = BTreeMap::new();
        let files = self.nodes().filter(|node| node.kind == Some(Kind::File));
        for node in files.filter(|node| can_be_owned(node.mappings_block, self.blocks())) {
            tables.entry(node.mappings_block).or_default().push(node);
        }
        tables
    }
}

/// The nodes of the inodes in use.
fn nodes(inodes: &Inodes, walked: &Walked) -> BTreeMap<InodeNo, Node> {
    let node = |(ino, parent): (&InodeNo, &Option<InodeNo>)| {
        let raw = inodes.get(*ino).and_then(Result::ok).copied();
        let mut node = Node::new(*ino, *parent, &raw.unwrap_or_else(zerocopy::FromZeros::new_zeroed));
        if *ino == InodeNo::ROOT {
            // Whatever its inode holds.
            node.kind = Some(Kind::Directory);
            node.name = b".".as_slice().into();
        }
        (*ino, node)
    };
    walked.parents.iter().map(node).collect()
}

/// Files whose block is none that a file may own.
fn bad_tables(nodes: &BTreeMap<InodeNo, Node>, blocks: u32) -> impl Iterator<Item = Anomaly> {
    let owns = |node: &&Node| node.kind.is_some_and(|kind| !kind.is_directory());
    let bad = nodes.values().filter(owns).filter(move |node| !can_be_owned(node.mappings_block, blocks));
    bad.map(|node| Anomaly::BadTable { ino: node.ino, block: node.mappings_block })
}

/// Whether a file may own the block: it is in the region and not metadata at a fixed place.
pub(super) fn can_be_owned(block: BlockNo, blocks: u32) -> bool {
    block >= FIRST_BLOCK && block.0 < blocks
}

/// The blocks of a region that the driver can use.
fn usable_blocks(size: u64) -> u32 {
    to_u32(size.checked_div(BLOCK_BYTES).unwrap_or_default()).min(MAX_BLOCKS)
}
