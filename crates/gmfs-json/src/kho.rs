//! `gmfs.kho-compat/1`.

use serde::{Deserialize, Serialize};

use crate::Word;

/// One of the two kernels.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct KhoKernel {
    /// What is known of the kernel is from its image, from its release, or from the running kernel: image, release or
    /// running.
    pub source: Word,
    /// Path: of a file in the region, from its root, null if no path leads to it; of the image, on this machine.
    pub path: Option<String>,
    /// Release of the kernel; null if unknown.
    pub release: Option<String>,
    /// What kind of kernel image it is: bzImage, vmlinux, arm64-image or efi-zboot; null if it was not read from one.
    pub format: Option<Word>,
    /// How the kernel in the image is compressed; null if it is not, or if it was not read from an image.
    pub codec: Option<Word>,
    /// Architecture that the kernel is for: x86 or arm64; null if unknown.
    pub architecture: Option<Word>,
    /// Bytes of memory in one piece that the kernel takes when it is loaded; null if unknown.
    pub load_size: Option<u64>,
    /// The versions of KHO, LUO and what belongs to them that the kernel has, such as kho-v4.
    pub versions: Vec<String>,
    /// Whether KHO is on in the kernel.
    pub kho: bool,
    /// Whether LUO is on in the kernel.
    pub liveupdate: bool,
}

/// What becomes of what one mechanism hands over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct KhoRuling {
    /// What hands memory over: regions, luo or sessions.
    pub mechanism: Word,
    /// What becomes of it: none, kept, refused, held, not-known, lost, revived-but-free, corrupt or panic.
    pub verdict: Word,
    /// Why, in a word or a sentence.
    pub reason: Word,
    /// Where the rule is from: run, source or assumed.
    pub evidence: Word,
    /// In words, for people.
    pub message: String,
    /// What to do about it; null if nothing is to be done, or nothing helps.
    pub advice: Option<String>,
}

/// What becomes of one `reserve_mem=` region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct KhoRegion {
    /// Label of the region.
    pub label: String,
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
    /// What becomes of the region: one of the words of a ruling.
    pub verdict: Word,
    /// Why, in a word or a sentence.
    pub reason: Word,
    /// In words, for people.
    pub message: String,
    /// What to do about it; null if nothing is to be done, or nothing helps.
    pub advice: Option<String>,
}

/// The answer of `kho compat`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct KhoCompat {
    /// Whether all that is in use is kept.
    pub kept: bool,
    /// The kernel that hands over.
    pub from: KhoKernel,
    /// The kernel that takes over.
    pub to: KhoKernel,
    /// What becomes of what is in use.
    pub rulings: Vec<KhoRuling>,
    /// The reserve_mem= regions of the kernel that hands over.
    pub reserved_regions: Vec<KhoRegion>,
    /// Sizes of the scratch areas of the kernel that hands over, in bytes; null if unknown.
    pub scratch_areas: Option<Vec<u64>>,
    /// Bytes in the initrd; null if none was named.
    pub initrd_size: Option<u64>,
    /// What else is to be known, in words.
    pub notes: Vec<String>,
}
