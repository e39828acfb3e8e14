//! `gmfs.inspect/1` of a guestmemfs v1, and what led to one.

use gmfs::Store;
use gmfs::find::guestmemfs::Found;
use gmfs::store::{Guestmemfs, Usage};
use gmfs_format::guestmemfs::HandOver;
use gmfs_io::Span;
use serde::{Deserialize, Serialize};

use crate::{Word, mask, region};

/// What led to a file system in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct GuestmemfsFound {
    /// Address of the array of inodes.
    pub inodes: u64,
    /// Address of the superblock; null if it was not found.
    pub superblock: Option<u64>,
    /// Addresses of the device trees that describe it.
    pub trees: Vec<u64>,
    /// Addresses of the boot loader's records that name one of the device trees.
    pub setup_data: Vec<u64>,
    /// Whether an earlier mount left it, and another file system took its place.
    pub stale: bool,
}

impl From<&Found> for GuestmemfsFound {
    fn from(found: &Found) -> Self {
        Self {
            inodes: found.parts.inodes,
            superblock: found.parts.superblock.map(|span| span.offset),
            trees: found.trees.clone(),
            setup_data: found.setup_data.clone(),
            stale: found.stale,
        }
    }
}

/// A range of memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct MemoryRange {
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
}

impl From<Span> for MemoryRange {
    fn from(span: Span) -> Self {
        Self { address: span.offset, length: span.len }
    }
}

/// What the device tree says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct GuestmemfsTree {
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// Whether all of the device tree was read, and not its first page only.
    pub whole: bool,
    /// Where the content of files is.
    pub region: MemoryRange,
    /// Where the superblock is.
    pub superblock: MemoryRange,
    /// Where the array of inodes is.
    pub inodes: MemoryRange,
    /// Where the bitmap is.
    pub bitmap: MemoryRange,
    /// Where the inode numbers of the pages of mappings are.
    pub to_inode: Option<MemoryRange>,
    /// How many inodes are in use, as the device tree says.
    pub num_inodes: Option<u64>,
    /// Addresses of the pages of mappings, one for each file.
    pub mapping_pages: Vec<u64>,
}

impl From<&HandOver> for GuestmemfsTree {
    fn from(tree: &HandOver) -> Self {
        Self {
            size: tree.tree_size,
            whole: tree.whole,
            region: tree.region.into(),
            superblock: tree.superblock.into(),
            inodes: tree.inodes.into(),
            bitmap: tree.bitmap.into(),
            to_inode: tree.to_inode.map(Into::into),
            num_inodes: tree.num_inodes,
            mapping_pages: tree.pages.iter().map(|page| page.offset).collect(),
        }
    }
}

/// What is recorded of the file system as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct GuestmemfsSuperblock {
    /// Head of the list of free inodes; null if it cannot be read.
    pub next_free_ino: u64,
    /// How many inodes are in use, as the superblock counts them: the root is not counted.
    pub allocated_inodes: u64,
    /// Whether the superblock says that the file system is handed over; null if the place of the mark is not known.
    pub serialised: Option<bool>,
}

/// How it is laid out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct GuestmemfsGeometry {
    /// Bytes in a block.
    pub block_size: u64,
    /// How many blocks the region has; without a device tree, how many are known to be in use.
    pub blocks: u32,
    /// Virtual less physical addresses in the kernel's direct map, in hexadecimal; null if nothing tells it.
    pub direct_map: Option<String>,
    /// Address of the bitmap; null if nothing tells it.
    pub bitmap: Option<u64>,
}

/// Blocks and inodes by what they are used for, as a pass over everything finds them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct GuestmemfsUsage {
    /// How many blocks are free.
    pub free: u64,
    /// How many blocks hold contents of files.
    pub data: u64,
    /// Blocks that are marked as used and that nothing owns.
    pub leaked: u64,
    /// How many inodes are in use.
    pub inodes_used: u64,
}

impl From<Usage> for GuestmemfsUsage {
    fn from(usage: Usage) -> Self {
        let Usage { free, data, leaked, inodes_used, .. } = usage;
        Self { free, data, leaked, inodes_used }
    }
}

/// Both pages of mappings of a file, of which one is named by the device tree and the other by the inode.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Differing {
    /// Inode number; null if it belongs to no file.
    pub ino: u32,
    /// Address of the page of mappings that the device tree names.
    pub by_tree: u64,
    /// Address of the page of mappings that the inode names.
    pub by_inode: u64,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct GuestmemfsInspect {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Where the content of files is in memory; null if no device tree tells it.
    pub region: Option<region::Span>,
    /// Layout of the region; null if no region can be read there.
    pub layout: Word,
    /// What led to the file system.
    pub led_to: GuestmemfsFound,
    /// What the device tree says; null if there is none.
    pub tree: Option<GuestmemfsTree>,
    /// What the superblock says; null if it cannot be read.
    pub superblock: Option<GuestmemfsSuperblock>,
    /// How the region is laid out.
    pub geometry: GuestmemfsGeometry,
    /// Blocks and inodes by what they are used for.
    pub usage: GuestmemfsUsage,
    /// Files whose page of mappings is one by the device tree and another by the inode.
    pub differing: Vec<Differing>,
    /// What is wrong with a store of another layout, in words.
    pub anomalies: Vec<String>,
    /// The view that was asked for, if it is a list.
    #[serde(flatten)]
    pub lists: region::Lists,
}

impl GuestmemfsInspect {
    /// The answer for a store, without the view that was asked for.
    pub fn new(store: &Store, found: &Guestmemfs) -> Self {
        let inner = found.store();
        let differing = inner.differing();
        Self {
            image: (&store.place).into(),
            store: store.into(),
            region: inner.region().map(|span| region::Span { base: span.offset, size: span.len }),
            layout: store.layout().name().into(),
            led_to: found.found().into(),
            tree: inner.parts().tree.as_ref().map(Into::into),
            superblock: inner.superblock().map(|superblock| GuestmemfsSuperblock {
                next_free_ino: superblock.next_free_ino,
                allocated_inodes: superblock.allocated_inodes,
                serialised: superblock.serialised.map(|flag| flag == 1),
            }),
            geometry: GuestmemfsGeometry {
                block_size: store.block_bytes(),
                blocks: inner.blocks(),
                direct_map: inner.direct_map().map(mask),
                bitmap: inner.bitmap_at(),
            },
            usage: store.usage().into(),
            differing: differing.map(|(ino, by_tree, by_inode)| Differing { ino: ino.0, by_tree, by_inode }).collect(),
            anomalies: inner.check().iter().map(ToString::to_string).collect(),
            lists: region::Lists::default(),
        }
    }
}
