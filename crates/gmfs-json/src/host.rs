//! A machine's memory before a kexec: `gmfs.plan/1`, `gmfs.preflight/1`.

use serde::Serialize;

use crate::render::json::region;

/// A place for a region.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PlannedWindow {
    pub(crate) physical: u64,
    pub(crate) size: u64,
    pub(crate) numa_node: Option<u32>,
    pub(crate) alignment: u64,
}

/// Kernel parameters that reserve the windows.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KernelParameter {
    pub(crate) way: &'static str,
    pub(crate) words: String,
    pub(crate) words_for_grub: String,
    pub(crate) struct_pages: Option<u64>,
    pub(crate) message: String,
}

/// Memory that the running kernel leaves alone already.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SetApart {
    pub(crate) physical: u64,
    pub(crate) size: u64,
    pub(crate) held_as: String,
}

/// The answer of `plan`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Plan {
    pub(crate) windows: Vec<PlannedWindow>,
    pub(crate) parameters: Vec<KernelParameter>,
    pub(crate) host_memory: u64,
    pub(crate) host_memory_left: u64,
    pub(crate) set_apart: Vec<SetApart>,
    pub(crate) notes: Vec<String>,
}

/// One condition that must hold before a kexec.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PreflightCheck {
    pub(crate) check: &'static str,
    pub(crate) verdict: &'static str,
    pub(crate) message: String,
    pub(crate) advice: Option<String>,
}

/// The memory that has to be kept.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KeptWindow {
    pub(crate) physical: u64,
    pub(crate) size: u64,
}

/// The answer of `preflight`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Preflight {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) result: &'static str,
    pub(crate) window: Option<KeptWindow>,
    pub(crate) checks: Vec<PreflightCheck>,
}
