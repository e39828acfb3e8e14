//! Units as types, so that a block number cannot be used as a page number or a byte offset.

use std::fmt;

pub use crate::model::InodeNo;
pub use gmfs_io::num::{follows, len64, range_len, round_down, small, to_u32, to_usize};

/// The size of a metadata page in bytes. It is independent of the machine's page size.
pub const PAGE_SIZE: usize = 4096;
/// [`PAGE_SIZE`] for arithmetic with offsets.
pub const PAGE_BYTES: u64 = 4096;

/// The bytes of one metadata page.
pub type PageBytes = [u8; PAGE_SIZE];

/// Declares a unit: a number type with a meaning, which can be compared and printed.
macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unit! {
    /// A block of the region (one PMD page), counted from the region's start, including metadata.
    BlockNo(u32)
}
unit! {
    /// A metadata page of 4 KiB, counted from the start of its copy. Page 0 is the superblock.
    PageNo(u32)
}
unit! {
    /// The number of a commit. 0 means no commit.
    Generation(u64)
}

/// Which of the two copies of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyId {
    /// At the start of the region.
    A,
    /// At the end of the region.
    B,
}

impl CopyId {
    /// Both, in the order in which they are written.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The byte for the copy in a page header: the letter itself, so that it is visible in a hex dump.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::A => b'A',
            Self::B => b'B',
        }
    }

    /// Its index in [`BOTH`](Self::BOTH).
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The element of this copy in an array with one element for each copy, in the order of [`BOTH`](Self::BOTH).
    #[must_use]
    pub const fn pick<T>(self, [a, b]: &[T; 2]) -> &T {
        match self {
            Self::A => a,
            Self::B => b,
        }
    }

    /// Like [`pick`](Self::pick), for changes.
    #[must_use]
    pub const fn pick_mut<T>(self, [a, b]: &mut [T; 2]) -> &mut T {
        match self {
            Self::A => a,
            Self::B => b,
        }
    }

    /// The other copy.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for CopyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// The block size, as the power of two that the kernel calls `PMD_SHIFT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PmdShift {
    /// 2 MiB: x86-64, and arm64 with 4 KiB pages.
    M2,
    /// 32 MiB: arm64 with 16 KiB pages.
    M32,
    /// 512 MiB: arm64 with 64 KiB pages.
    M512,
}

impl PmdShift {
    /// All block sizes, smallest first.
    pub const ALL: [Self; 3] = [Self::M2, Self::M32, Self::M512];

    /// The shift: block size is `1 << bits`.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::M2 => 21,
            Self::M32 => 25,
            Self::M512 => 29,
        }
    }

    /// The block size in bytes.
    #[must_use]
    pub const fn block_bytes(self) -> u64 {
        1 << self.bits()
    }

    /// How many whole blocks come before an offset, and how many bytes follow the last of them.
    #[must_use]
    pub const fn split(self, offset: u64) -> (u64, u64) {
        (offset >> self.bits(), offset & !(u64::MAX << self.bits()))
    }

    /// The shift with this number of bits, if there is such a PMD size.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|shift| shift.bits() == bits)
    }

    /// The shift with this block size in bytes, if there is such a PMD size.
    #[must_use]
    pub fn from_block_bytes(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|shift| shift.block_bytes() == bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_split_as_by_division() {
        for pmd in PmdShift::ALL {
            for offset in [0, 1, pmd.block_bytes() - 1, pmd.block_bytes(), u64::MAX] {
                assert_eq!(pmd.split(offset), (offset / pmd.block_bytes(), offset % pmd.block_bytes()));
            }
        }
    }
}
