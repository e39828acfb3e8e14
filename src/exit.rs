//! Exit statuses, in one place.

use std::process::ExitCode;

/// Status bit of `fsck` and `repair`: the check could not be done, or not completely.
pub(crate) const OPERATIONAL: u8 = 8;
/// Status bit of `fsck` and `repair`: the command line was not understood.
pub(crate) const USAGE: u8 = 16;
/// Status bit of `fsck` and `repair`: the user stopped it.
pub(crate) const CANCELLED: u8 = 32;

/// How a command ends. `fsck` and `repair` have statuses of their own: the sum of 0 clean, 1 repaired, 4 left
/// unrepaired, 8 operational error, 16 usage, 32 cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Done, but the answer is "no" or incomplete.
    No,
    /// It could not be done.
    Failed,
    /// The sum of bits that `fsck` and `repair` end with.
    Fsck(u8),
}

impl Exit {
    /// The number that is returned to the system.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Failed => 2,
            Self::Fsck(bits) => bits,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
