//! `gmfs.inspect/1` of a store of the pkernfs driver.

use gmfs::Store;
use gmfs::store::Pkernfs;
use gmfs_format::pkernfs::{MAGIC, Magic};
use serde::{Deserialize, Serialize};

use crate::{Word, mask, region};

/// What is recorded of the store as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct PkernfsSuperblock {
    /// Magic of the superblock, in hexadecimal; null if it cannot be read.
    pub magic: Option<String>,
    /// Head of the list of free inodes; null if it cannot be read.
    pub next_free_ino: Option<u64>,
}

/// How the store is laid out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct PkernfsGeometry {
    /// Bytes in a block.
    pub block_size: u64,
    /// How many blocks the store has.
    pub blocks: u32,
}

/// Blocks and inodes by what they are used for, as a pass over everything finds them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PkernfsUsage {
    /// How many blocks are free.
    pub free: u64,
    /// How many blocks hold contents of files.
    pub data: u64,
    /// How many blocks hold metadata, both copies together.
    pub metadata: u64,
    /// Blocks that are marked as used and that nothing owns.
    pub leaked: u64,
    /// How many inodes are in use.
    pub inodes_used: u64,
}

impl From<gmfs::store::Usage> for PkernfsUsage {
    fn from(usage: gmfs::store::Usage) -> Self {
        let gmfs::store::Usage { free, data, metadata, leaked, inodes_used, .. } = usage;
        Self { free, data, metadata, leaked, inodes_used }
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct PkernfsInspect {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Where the region is in the image.
    pub region: region::Span,
    /// Layout of the region; null if no region can be read there.
    pub layout: Word,
    /// The superblock that counts.
    pub superblock: PkernfsSuperblock,
    /// How the region is laid out.
    pub geometry: PkernfsGeometry,
    /// Blocks and inodes by what they are used for.
    pub usage: PkernfsUsage,
    /// What is wrong with a store of another layout, in words.
    pub anomalies: Vec<String>,
    /// The view that was asked for, if it is a list.
    #[serde(flatten)]
    pub lists: region::Lists,
}

impl PkernfsInspect {
    /// The answer for a store, without the view that was asked for.
    pub fn new(store: &Store, found: &Pkernfs) -> Self {
        let inner = found.store();
        let magic = match inner.magic() {
            Magic::Right => Some(MAGIC),
            Magic::Wrong(other) => Some(other),
            Magic::Unknown(_) => None,
        };
        Self {
            image: (&store.place).into(),
            store: store.into(),
            region: region::Span { base: store.place.base, size: store.size() },
            layout: store.layout().name().into(),
            superblock: PkernfsSuperblock { magic: magic.map(mask), next_free_ino: inner.next_free_ino() },
            geometry: PkernfsGeometry { block_size: store.block_bytes(), blocks: inner.blocks() },
            usage: store.usage().into(),
            anomalies: found.check().iter().map(ToString::to_string).collect(),
            lists: region::Lists::default(),
        }
    }
}
