//! `gmfs.inspect/1` of a store of the pkernfs driver.

use serde::Serialize;

use crate::render::json::region;

/// What is recorded of the store as a whole.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PkernfsSuperblock {
    pub(crate) magic: Option<String>,
    pub(crate) next_free_ino: Option<u64>,
}

/// How the store is laid out.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PkernfsGeometry {
    pub(crate) block_size: u64,
    pub(crate) blocks: u32,
}

/// Blocks and inodes by what they are used for, as a pass over everything finds them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PkernfsUsage {
    free: u64,
    data: u64,
    metadata: u64,
    leaked: u64,
    inodes_used: u64,
}

impl From<gmfs::store::Usage> for PkernfsUsage {
    fn from(usage: gmfs::store::Usage) -> Self {
        let gmfs::store::Usage { free, data, metadata, leaked, inodes_used, .. } = usage;
        Self { free, data, metadata, leaked, inodes_used }
    }
}

/// The answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PkernfsInspect {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) region: region::Span,
    pub(crate) layout: &'static str,
    pub(crate) superblock: PkernfsSuperblock,
    pub(crate) geometry: PkernfsGeometry,
    pub(crate) usage: PkernfsUsage,
    /// What is wrong with it, in words.
    pub(crate) anomalies: Vec<String>,
    #[serde(flatten)]
    pub(crate) lists: region::Lists,
}
