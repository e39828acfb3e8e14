//! Virtual machines: `gmfs.vm-list/1`, `gmfs.vm-save/1`, `gmfs.vm-resume/1`.

use serde::{Deserialize, Serialize};

use crate::Word;
use crate::{
    files::{self, User},
    region,
};

/// A virtual machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(any(test, feature = "schema"), schemars(rename = "Guest"))]
pub struct Listed {
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// State, in a word.
    pub state: Word,
    /// Size of the guest's memory in bytes; null if there is none.
    pub memory_size: Option<u64>,
    /// When the guest was saved (RFC 3339); null if it was not, or was resumed since.
    pub saved_at: Option<String>,
    /// Path of the QMP socket of its QEMU; null if unknown.
    pub socket: Option<String>,
    /// Processes that have the file mapped.
    pub mapped_by: Vec<User>,
}

/// The answer of `vm list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(any(test, feature = "schema"), schemars(rename = "VmList"))]
pub struct List {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// The virtual machines of the region.
    pub guests: Vec<Listed>,
}

/// A virtual machine that was saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(any(test, feature = "schema"), schemars(rename = "SavedGuest"))]
pub struct SavedGuest {
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// Size of the guest's memory in bytes; null if there is none.
    pub memory_size: u64,
    /// Size of the guest's state in bytes.
    pub state_size: u64,
    /// Whether the guest was running when it was saved, and runs when it is resumed.
    pub running: bool,
}

/// The answer of `vm save`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(any(test, feature = "schema"), schemars(rename = "VmSaved"))]
pub struct Saved {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// The virtual machines of the region.
    pub guests: Vec<SavedGuest>,
}

/// The answer of `vm resume`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(any(test, feature = "schema"), schemars(rename = "VmResumed"))]
pub struct Resumed {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// Whether the guest was running when it was saved, and runs when it is resumed.
    pub running: bool,
}
