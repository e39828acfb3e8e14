//! The structures of LUO as they are in memory. Any bytes are a value of them.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::native::raw::{Field, OnMemory, on_memory};

on_memory! {
    /// The root of LUO from 7.2 on.
    LuoRaw[32] {
        /// `luo-v5`, then NULs.
        compatible: [u8; 8],
        /// Number of this live update; 1 in what the first kernel leaves.
        number: U64,
        /// First block of sessions; 0 until the reboot system call, and if there are no sessions.
        sessions: U64,
        /// Page of the objects that files depend on.
        flbs: U64,
    }
}

on_memory! {
    /// The head of a block of sessions or files, from 7.2 on.
    BlockRaw[16] {
        /// The next block; 0 in the last one.
        next: U64,
        /// Entries in this block.
        count: U64,
    }
}

on_memory! {
    /// A session.
    SessionRaw[80] {
        /// Name of at most 63 bytes and a NUL.
        name: [u8; 64],
        /// First block of its files, or their array; 0 if it has none.
        files: U64,
        /// How many files it has.
        count: U64,
    }
}

on_memory! {
    /// A file of a session.
    FileRaw[64] {
        /// What hands the file over, such as `memfd-v2`, ended by a NUL.
        handler: [u8; 48],
        /// What the handler left; of a memfd the address of its record.
        data: U64,
        /// The number that user space chose.
        token: U64,
    }
}

on_memory! {
    /// An array of pages that are not next to one another.
    VmallocRaw[16] {
        /// First page of the list of pages.
        first: U64,
        /// Pages of the array.
        pages: U32,
        /// 1, and 2 for huge mappings.
        flags: U16,
        /// Each entry of the list stands for 2^order pages.
        order: U16,
    }
}

on_memory! {
    /// The record of a memfd, `memfd-v1`.
    MemfdV1Raw[40] {
        /// Position in the file.
        position: U64,
        /// Size in bytes.
        size: U64,
        /// Folios in the array.
        folios: U64,
        /// The array of folios.
        array: VmallocRaw,
    }
}

on_memory! {
    /// The record of a memfd, `memfd-v2`.
    MemfdV2Raw[48] {
        /// Position in the file.
        position: U64,
        /// Size in bytes.
        size: U64,
        /// Seals, as `F_GET_SEALS` gives them.
        seals: U32,
        /// 0.
        flags: U32,
        /// Folios in the array.
        folios: U64,
        /// The array of folios.
        array: VmallocRaw,
    }
}

on_memory! {
    /// A folio of a memfd.
    FolioRaw[16] {
        /// Bits 0 to 51: page frame number. Bits 52 and 53: dirty, up to date.
        frame: U64,
        /// Index of its first page in the file.
        index: U64,
    }
}

impl FolioRaw {
    /// Its two numbers: page frame number with flags, and index.
    pub(super) const fn halves(bytes: &[u8; 16]) -> (u64, u64) {
        let raw: Self = zerocopy::transmute!(*bytes);
        (raw.frame.get(), raw.index.get())
    }
}

on_memory! {
    /// An object that files depend on.
    FlbRaw[64] {
        /// Its name, ended by a NUL.
        name: [u8; 48],
        /// What its owner left.
        data: U64,
        /// Files that depend on it.
        count: U64,
    }
}

/// The bytes before the first NUL; `None` if there is none.
pub(super) fn before_nul(field: &[u8]) -> Option<&[u8]> {
    field.get(..field.iter().position(|byte| *byte == 0)?)
}

/// Whether a field is a string of at least one byte, then NULs to its end.
pub(super) fn is_padded(field: &[u8]) -> bool {
    before_nul(field).is_some_and(|text| {
        !text.is_empty() && field.get(text.len()..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    })
}
