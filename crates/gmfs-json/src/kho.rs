//! `gmfs.kho-compat/1`.

use gmfs_host::kexec::{Kexec, Side, Source};
use gmfs_kernel::abi::Family;
use gmfs_kernel::compat::{RegionRuling, Ruling, Words};
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

impl KhoKernel {
    fn new(side: &Side, kho: bool, luo: bool) -> Self {
        let kernel = &side.kernel;
        let (source, path, image) = match &side.source {
            Source::Image { path, format, codec } => ("image", Some(path), Some((format, codec))),
            Source::Running(running) => ("running", running.image.as_ref(), None),
            _ => ("release", None, None),
        };
        Self {
            source: source.into(),
            path: path.map(|path| path.display().to_string()),
            release: kernel.release.as_ref().map(ToString::to_string),
            format: image.map(|(format, _)| format.name().into()),
            codec: image.and_then(|(_, codec)| Some(codec.as_ref()?.name().into())),
            architecture: kernel.architecture.map(|architecture| architecture.name().into()),
            load_size: kernel.load_size,
            versions: kernel.abi.iter().map(|version| version.to_string()).collect(),
            kho: kho && kernel.abi.has(Family::Kho),
            liveupdate: luo && kernel.abi.has(Family::Luo),
        }
    }
}

impl KhoRuling {
    fn new(ruling: &Ruling, words: &Words<'_>) -> Self {
        Self {
            mechanism: ruling.mechanism.name().into(),
            verdict: ruling.verdict.name().into(),
            reason: ruling.reason.name().into(),
            evidence: ruling.evidence.name().into(),
            message: words.why(ruling),
            advice: words.advice(ruling),
        }
    }
}

impl KhoRegion {
    fn new(region: &RegionRuling, words: &Words<'_>) -> Self {
        let (message, advice) = words.of_region(region);
        Self {
            label: region.region.label.clone(),
            size: region.region.size,
            physical: region.region.address,
            verdict: region.verdict.name().into(),
            reason: region.reason.name().into(),
            message,
            advice,
        }
    }
}

impl KhoCompat {
    /// The answer about a kexec, with the words for it, and its remarks in words.
    #[must_use]
    pub fn new(kexec: &Kexec, words: &Words<'_>, notes: Vec<String>) -> Self {
        let Kexec { from, to, old, next, judgement, .. } = kexec;
        Self {
            kept: judgement.is_kept(),
            from: KhoKernel::new(from, old.kho, old.luo),
            to: KhoKernel::new(to, next.kho, next.kho && next.luo),
            rulings: judgement.rulings.iter().map(|ruling| KhoRuling::new(ruling, words)).collect(),
            reserved_regions: judgement.regions.iter().map(|region| KhoRegion::new(region, words)).collect(),
            scratch_areas: old.scratch.clone(),
            initrd_size: next.initrd,
            notes,
        }
    }
}
