//! The ELF header and the numbers in it, for both classes and both byte orders.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use gmfs_io::ReadAt;

use super::ElfError;

/// How numbers are encoded in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Whether numbers are big-endian.
    pub(crate) big: bool,
    /// Whether the class is 64-bit: addresses and offsets have 8 bytes.
    pub(crate) wide: bool,
}

impl Order {
    /// The `N` bytes at `at`, or zeros where that is past the end of `bytes`.
    fn bytes<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; N])
    }

    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let raw = Self::bytes(bytes, at);
        if self.big { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) }
    }

    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let raw = Self::bytes(bytes, at);
        if self.big { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
    }

    pub(crate) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let raw = Self::bytes(bytes, at);
        if self.big { u64::from_be_bytes(raw) } else { u64::from_le_bytes(raw) }
    }

    /// An address or an offset, which is at `narrow` in the 32-bit class and at `wide` in the 64-bit class.
    pub(crate) fn word(self, bytes: &[u8], narrow: usize, wide: usize) -> u64 {
        if self.wide { self.u64(bytes, wide) } else { self.u32(bytes, narrow).into() }
    }
}

/// The fields of the ELF header that are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) order: Order,
    pub(super) machine: u16,
    pub(super) flags: u32,
    /// `e_phoff`
    pub(super) table: u64,
    /// `e_phentsize`
    pub(super) entry: u16,
    /// How many program headers the file claims, with PN_XNUM resolved. It is not yet bounded.
    pub(super) count: u64,
}

impl Header {
    pub(super) fn read(file: &impl ReadAt, size: u64) -> Result<Self, ElfError> {
        let mut ident = [0; 6];
        if size < 6 {
            return Err(ElfError::Short { size });
        }
        file.read_at(0, &mut ident)?;
        let [m0, m1, m2, m3, class, data] = ident;
        if [m0, m1, m2, m3] != *b"\x7fELF" || !matches!(class, 1 | 2) || !matches!(data, 1 | 2) {
            return Err(ElfError::Ident { class, order: data });
        }
        let order = Order { big: data == 2, wide: class == 2 };
        let mut raw = [0; 64];
        let raw = raw.get_mut(..if order.wide { 64 } else { 52 }).unwrap_or_default();
        if size < u64::try_from(raw.len()).unwrap_or(u64::MAX) {
            return Err(ElfError::Short { size });
        }
        file.read_at(0, raw)?;
        let kind = order.u16(raw, 16);
        if kind != 4 {
            return Err(ElfError::NotCore { kind });
        }
        let at = |narrow: usize, wide: usize| if order.wide { wide } else { narrow };
        let count = order.u16(raw, at(44, 56));
        let header = Self {
            order,
            machine: order.u16(raw, 18),
            flags: order.u32(raw, at(36, 48)),
            table: order.word(raw, 28, 32),
            entry: order.u16(raw, at(42, 54)),
            count: count.into(),
        };
        let sections = order.word(raw, 32, 40);
        Ok(if count == u16::MAX { header.extended(file, sections, size) } else { header })
    }

    /// If `e_phnum` is PN_XNUM, the count is `sh_info` of section 0, if there is one.
    fn extended(self, file: &impl ReadAt, sections: u64, size: u64) -> Self {
        let mut raw = [0; 4];
        let at = sections.checked_add(if self.order.wide { 44 } else { 28 });
        let count = match at {
            Some(at) if sections != 0 && at.saturating_add(4) <= size && file.read_at(at, &mut raw).is_ok() => {
                self.order.u32(&raw, 0)
            }
            _ => 0,
        };
        // Without a count in section 0, the 65,535 of the header are the best that is known.
        if count == 0 { self } else { Self { count: count.into(), ..self } }
    }
}
