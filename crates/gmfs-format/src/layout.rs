//! The layouts that this crate knows.

use std::fmt;

/// Which on-memory layout a region has. Closed: every place that depends on the layout is found by the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// The sealed, doubled format of this project, version 2 (`docs/FORMAT.md`).
    Native,
    /// That of the pkernfs driver of 2024 ([`crate::pkernfs`]).
    Pkernfs,
    /// What mainline Linux hands from one kernel to the next ([`crate::kho`], [`crate::luo`]).
    Luo,
}

impl Layout {
    /// The word for it in command lines and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "gmfs2",
            Self::Pkernfs => "pkernfs",
            Self::Luo => "luo",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
