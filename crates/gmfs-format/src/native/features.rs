//! Feature masks. They say what a tool may do if it does not know a bit.

/// A region's feature masks, as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A tool that does not know a bit may read and write.
    pub compat: u64,
    /// A tool that does not know a bit must not write.
    pub ro_compat: u64,
    /// A tool that does not know a bit may read nothing but the superblock.
    pub incompat: u64,
}

/// The features that this version of the format defines: none.
pub const KNOWN: Features = Features { compat: 0, ro_compat: 0, incompat: 0 };

impl Features {
    /// The bits that this crate does not know.
    #[must_use]
    pub const fn unknown(self) -> Self {
        Self {
            compat: self.compat & !KNOWN.compat,
            ro_compat: self.ro_compat & !KNOWN.ro_compat,
            incompat: self.incompat & !KNOWN.incompat,
        }
    }

    /// Whether the region's contents may be read.
    #[must_use]
    pub const fn readable(self) -> bool {
        self.unknown().incompat == 0
    }

    /// Whether the region may be changed.
    #[must_use]
    pub const fn writable(self) -> bool {
        self.readable() && self.unknown().ro_compat == 0
    }
}
