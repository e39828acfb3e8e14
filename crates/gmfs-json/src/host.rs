//! A machine's memory before a kexec: `gmfs.plan/1`, `gmfs.preflight/1`.

use gmfs::Store;
use gmfs_host::plan::{self, Parameter, Window};
use gmfs_host::preflight::{self, Advice};
use gmfs_io::Span;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::region;

/// A place for a region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct PlannedWindow {
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: u64,
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// Number of the NUMA node that has the window; null if nodes are not known.
    pub numa_node: Option<u32>,
    /// What the address is a multiple of.
    pub alignment: u64,
}

/// Kernel parameters that reserve the windows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct KernelParameter {
    /// How the memory is set apart: memmap-reserved, memmap-persistent, guestmemfs or reserve_mem.
    pub way: Word,
    /// What belongs into the kernel's command line.
    pub words: String,
    /// The same as GRUB has to read it, with a backslash before each dollar sign.
    pub words_for_grub: String,
    /// Bytes at most that the kernel takes to describe the windows' pages; null if unknown.
    pub struct_pages: Option<u64>,
    /// In words, for people.
    pub message: String,
}

/// Memory that the running kernel leaves alone already.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct SetApart {
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: u64,
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// What the kernel calls the memory.
    pub held_as: String,
}

/// The answer of `plan`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Plan {
    /// The memory for each region.
    pub windows: Vec<PlannedWindow>,
    /// Ways to set the windows apart, of which one is chosen.
    pub parameters: Vec<KernelParameter>,
    /// Bytes of memory that the kernel uses as its own.
    pub host_memory: u64,
    /// Bytes of it that are left when the windows are set apart.
    pub host_memory_left: u64,
    /// Memory that the running kernel leaves alone already, although the firmware calls it RAM.
    pub set_apart: Vec<SetApart>,
    /// What else is to be known, in words.
    pub notes: Vec<String>,
}

/// One condition that must hold before a kexec.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct PreflightCheck {
    /// What was looked at: metadata, seals, mappings, kernel, command-line, overlap or hand-over.
    pub check: Word,
    /// Whether it is right: ok, fails, or unknown if that cannot be told.
    pub verdict: Word,
    /// In words, for people.
    pub message: String,
    /// What to do about it; null if nothing is to be done, or nothing helps.
    pub advice: Option<String>,
}

/// The memory that has to be kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct KeptWindow {
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: u64,
    /// Bytes in it; null if unknown.
    pub size: u64,
}

/// The answer of `preflight`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Preflight {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Of all checks: ok, fails if one fails, or unknown if none fails and one cannot tell.
    pub result: Word,
    /// The memory that has to be kept; null if it is not known where it is.
    pub window: Option<KeptWindow>,
    /// What has to be right before a kexec, in the order in which it was looked at.
    pub checks: Vec<PreflightCheck>,
}

impl From<&Window> for PlannedWindow {
    fn from(window: &Window) -> Self {
        let Window { span, node, align } = window;
        Self { physical: span.offset, size: span.len, numa_node: *node, alignment: *align }
    }
}

impl Plan {
    /// The answer about a plan and the ways to set its windows apart, with the words for what each way means, and the notes
    /// in words.
    #[must_use]
    pub fn new(
        found: &plan::Plan,
        parameters: &[Parameter],
        words: impl Fn(&Parameter) -> String,
        notes: Vec<String>,
    ) -> Self {
        let parameter = |parameter: &Parameter| KernelParameter {
            way: parameter.way.name().into(),
            words: parameter.words.clone(),
            words_for_grub: parameter.words_for_grub(),
            struct_pages: parameter.struct_pages,
            message: words(parameter),
        };
        let apart =
            |(span, name): &(Span, String)| SetApart { physical: span.offset, size: span.len, held_as: name.clone() };
        Self {
            windows: found.windows.iter().map(Into::into).collect(),
            parameters: parameters.iter().map(parameter).collect(),
            host_memory: found.ram,
            host_memory_left: found.left,
            set_apart: found.already.iter().map(apart).collect(),
            notes,
        }
    }
}

impl From<Span> for KeptWindow {
    fn from(span: Span) -> Self {
        Self { physical: span.offset, size: span.len }
    }
}

impl Preflight {
    /// The answer about a store, with the words for what to do.
    #[must_use]
    pub fn new(store: &Store, found: &preflight::Preflight, words: impl Fn(&Advice) -> String) -> Self {
        let check = |check: &preflight::Check| PreflightCheck {
            check: check.subject.name().into(),
            verdict: check.verdict.name().into(),
            message: check.message.clone(),
            advice: check.advice.as_ref().map(&words),
        };
        Self {
            image: (&store.place).into(),
            store: store.into(),
            result: found.result().name().into(),
            window: found.window.span().map(Into::into),
            checks: found.checks.iter().map(check).collect(),
        }
    }
}
