//! What was looked at, and what came of it.

use crate::kexec::Kexec;

/// Whether something is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is right.
    Ok,
    /// It is wrong.
    Fails,
    /// Nothing tells.
    Unknown,
}

impl Verdict {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// The region's metadata.
    Metadata,
    /// The seals of its files.
    Seals,
    /// Who has its memory mapped.
    Mappings,
    /// The kernel that is loaded.
    Kernel,
    /// The next kernel's command line.
    CommandLine,
    /// What else uses the memory.
    Overlaps,
    /// What the running kernel hands over.
    HandOver,
}

impl Subject {
    /// What it is called: stable, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Seals => "seals",
            Self::Mappings => "mappings",
            Self::Kernel => "kernel",
            Self::CommandLine => "command line",
            Self::Overlaps => "overlaps",
            Self::HandOver => "hand-over",
        }
    }
}

/// One thing that has to be right.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at.
    pub subject: Subject,
    /// Whether it is right.
    pub verdict: Verdict,
    /// In words: what was found.
    pub message: String,
    /// What to do about it; `None` if it is right.
    pub advice: Option<Advice>,
}

impl Check {
    pub(super) fn ok(subject: Subject, message: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Ok, message: message.into(), advice: None }
    }

    pub(super) fn fails(subject: Subject, message: impl Into<String>, advice: Advice) -> Self {
        Self { subject, verdict: Verdict::Fails, message: message.into(), advice: Some(advice) }
    }

    pub(super) fn unknown(subject: Subject, message: impl Into<String>, advice: Advice) -> Self {
        Self { subject, verdict: Verdict::Unknown, message: message.into(), advice: Some(advice) }
    }
}

/// What to do about what is not right. The words for it are those of the program that tells its user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Advice {
    /// Complete or take back a change that was interrupted: a repair does that.
    CompleteChange,
    /// Find out by a check which metadata is missing.
    FindMissing,
    /// Repair the metadata.
    Repair,
    /// Find out by a check which metadata is wrong.
    FindProblems,
    /// Seal the files, once nobody writes to them.
    Seal,
    /// End or save the guest that uses the memory.
    EndGuest,
    /// Look again as a user who may see all processes.
    SeeAllProcesses,
    /// Name the image that is loaded.
    NameLoadedKernel,
    /// Load a kernel.
    LoadKernel,
    /// Use a kernel that has kexec.
    UseKexecKernel,
    /// Look again as root.
    RunAsRoot,
    /// Look again as root, if the device is memory at all.
    RunAsRootOnMemory,
    /// Name the device that holds the region, in the place of a file.
    NameDevice,
    /// Look into the device tree.
    FindInDeviceTree,
    /// Say what the next kernel's command line is.
    SayCommandLine,
    /// Leave `memmap=exactmap` out of the command line.
    DropExactMap,
    /// Load the kernel again, with this word in its command line.
    PutIntoLine(String),
    /// Move the region into memory that is free.
    MoveRegion,
    /// Move the region into memory that the running kernel, too, leaves alone.
    SetApart,
    /// Name the image of the next kernel.
    NameNextKernel,
    /// Judge the kexec to see more.
    JudgeKexec,
    /// What the judgement of this kexec advises.
    TakeOver(Box<Kexec>),
}
