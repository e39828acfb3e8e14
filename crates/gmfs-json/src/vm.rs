//! Virtual machines: `gmfs.vm-list/1`, `gmfs.vm-save/1`, `gmfs.vm-resume/1`.

use serde::Serialize;

use crate::in_use::User;
use crate::render::json::{files, region};

/// A virtual machine.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Guest"))]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) path: files::Path,
    /// running, saved, stopped, damaged
    pub(crate) state: &'static str,
    pub(crate) memory_size: Option<u64>,
    pub(crate) saved_at: Option<String>,
    pub(crate) socket: Option<String>,
    pub(crate) mapped_by: Vec<User>,
}

/// The answer of `vm list`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "VmList"))]
pub(crate) struct List {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) guests: Vec<Listed>,
}

/// A virtual machine that was saved.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "SavedGuest"))]
pub(crate) struct SavedGuest {
    #[serde(flatten)]
    pub(crate) path: files::Path,
    pub(crate) memory_size: u64,
    pub(crate) state_size: u64,
    pub(crate) running: bool,
}

/// The answer of `vm save`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "VmSaved"))]
pub(crate) struct Saved {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) guests: Vec<SavedGuest>,
}

/// The answer of `vm resume`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "VmResumed"))]
pub(crate) struct Resumed {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    #[serde(flatten)]
    pub(crate) path: files::Path,
    pub(crate) running: bool,
}
