//! `gmfs.kho-compat/1`.

use serde::Serialize;

/// One of the two kernels.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KhoKernel {
    /// `image`, `release` or `running`.
    pub(crate) source: &'static str,
    pub(crate) path: Option<String>,
    pub(crate) release: Option<String>,
    pub(crate) format: Option<&'static str>,
    pub(crate) codec: Option<&'static str>,
    pub(crate) architecture: Option<&'static str>,
    /// Bytes of memory in one piece that a load takes.
    pub(crate) load_size: Option<u64>,
    /// `kho-v4` and the like.
    pub(crate) versions: Vec<String>,
    pub(crate) kho: bool,
    pub(crate) liveupdate: bool,
}

/// What becomes of what one mechanism hands over.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KhoRuling {
    pub(crate) mechanism: &'static str,
    pub(crate) verdict: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) evidence: &'static str,
    pub(crate) message: String,
    pub(crate) advice: Option<String>,
}

/// What becomes of one `reserve_mem=` region.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KhoRegion {
    pub(crate) label: String,
    pub(crate) size: u64,
    pub(crate) physical: Option<u64>,
    pub(crate) verdict: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) advice: Option<String>,
}

/// The answer of `kho compat`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KhoCompat {
    pub(crate) kept: bool,
    pub(crate) from: KhoKernel,
    pub(crate) to: KhoKernel,
    pub(crate) rulings: Vec<KhoRuling>,
    pub(crate) reserved_regions: Vec<KhoRegion>,
    pub(crate) scratch_areas: Option<Vec<u64>>,
    pub(crate) initrd_size: Option<u64>,
    pub(crate) notes: Vec<String>,
}
