//! `gmfs.inspect/1` of a guestmemfs v1, and what led to one.

use gmfs::find::guestmemfs::Found;
use gmfs::store::Usage;
use gmfs_format::guestmemfs::HandOver;
use gmfs_io::Span;
use serde::Serialize;

use crate::render::json::region;

/// What led to a file system in memory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuestmemfsFound {
    inodes: u64,
    superblock: Option<u64>,
    trees: Vec<u64>,
    setup_data: Vec<u64>,
    stale: bool,
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MemoryRange {
    address: u64,
    length: u64,
}

impl From<Span> for MemoryRange {
    fn from(span: Span) -> Self {
        Self { address: span.offset, length: span.len }
    }
}

/// What the device tree says.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuestmemfsTree {
    size: u64,
    whole: bool,
    region: MemoryRange,
    superblock: MemoryRange,
    inodes: MemoryRange,
    bitmap: MemoryRange,
    to_inode: Option<MemoryRange>,
    num_inodes: Option<u64>,
    mapping_pages: Vec<u64>,
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuestmemfsSuperblock {
    pub(crate) next_free_ino: u64,
    pub(crate) allocated_inodes: u64,
    pub(crate) serialised: Option<bool>,
}

/// How it is laid out.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuestmemfsGeometry {
    pub(crate) block_size: u64,
    pub(crate) blocks: u32,
    pub(crate) direct_map: Option<String>,
    pub(crate) bitmap: Option<u64>,
}

/// Blocks and inodes by what they are used for, as a pass over everything finds them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuestmemfsUsage {
    free: u64,
    data: u64,
    leaked: u64,
    inodes_used: u64,
}

impl From<Usage> for GuestmemfsUsage {
    fn from(usage: Usage) -> Self {
        let Usage { free, data, leaked, inodes_used, .. } = usage;
        Self { free, data, leaked, inodes_used }
    }
}

/// Both pages of mappings of a file, of which one is named by the device tree and the other by the inode.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Differing {
    pub(crate) ino: u32,
    pub(crate) by_tree: u64,
    pub(crate) by_inode: u64,
}

/// The answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GuestmemfsInspect {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) region: Option<region::Span>,
    pub(crate) layout: &'static str,
    pub(crate) led_to: GuestmemfsFound,
    pub(crate) tree: Option<GuestmemfsTree>,
    pub(crate) superblock: Option<GuestmemfsSuperblock>,
    pub(crate) geometry: GuestmemfsGeometry,
    pub(crate) usage: GuestmemfsUsage,
    pub(crate) differing: Vec<Differing>,
    /// What is wrong with it, in words.
    pub(crate) anomalies: Vec<String>,
    #[serde(flatten)]
    pub(crate) lists: region::Lists,
}
