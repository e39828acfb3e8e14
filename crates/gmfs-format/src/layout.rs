//! The layouts that this crate knows.

use std::fmt;

/// The on-memory layout of a region. The enum is closed, so that the compiler finds every place that depends on the
/// layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// The format of gmfs, version 2, with seals and two copies of the metadata (`docs/FORMAT.md`).
    Native,
    /// The format of the pkernfs driver of 2024 ([`crate::pkernfs`]).
    Pkernfs,
    /// The format of the guestmemfs driver of 2024 ([`crate::guestmemfs`]).
    Guestmemfs,
    /// What mainline Linux hands from one kernel to the next ([`crate::kho`], [`crate::luo`]).
    Luo,
}

impl Layout {
    /// The word for it on command lines and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "gmfs2",
            Self::Pkernfs => "pkernfs",
            Self::Guestmemfs => "guestmemfs-v1",
            Self::Luo => "luo",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
