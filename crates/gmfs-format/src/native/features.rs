//! Feature masks: what a tool that does not know a bit may still do.

/// A region's feature masks, as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Unknown bits here hinder nobody.
    pub compat: u64,
    /// Unknown bits here forbid writing.
    pub ro_compat: u64,
    /// Unknown bits here forbid everything but looking at the superblock.
    pub incompat: u64,
}

/// What this version of the format knows: no feature has been defined yet.
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
