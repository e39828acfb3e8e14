//! A place in a store as people and kernels name it: by physical address, by block, by page frame number.

use std::fmt;
use std::str::FromStr;

use gmfs_format::spec::{SpecError, parse_size};

/// A place in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// A physical address; an offset in the store where its base is not known.
    Bytes(u64),
    /// A block of the store.
    Block(u64),
    /// A page frame number of the kernel.
    Pfn(u64),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Another word than `block` or `pfn` is before the colon.
    #[error("'{0}:' is neither block: nor pfn:")]
    Unit(String),
    /// There is no number where one belongs.
    #[error(transparent)]
    Number(#[from] SpecError),
}

/// Makes an address from a number.
pub(crate) type Unit = fn(u64) -> Address;

/// The unit that a text begins with, and the rest of it.
pub(crate) fn unit(text: &str) -> Result<(Unit, &str), AddressError> {
    match text.split_once(':') {
        Some(("block", rest)) => Ok((Address::Block, rest)),
        Some(("pfn", rest)) => Ok((Address::Pfn, rest)),
        Some((other, _)) => Err(AddressError::Unit(other.to_owned())),
        None => Ok((Address::Bytes, text)),
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `ADDRESS`, `block:N` or `pfn:N`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (unit, number) = unit(text)?;
        Ok(unit(parse_size(number)?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(address) => write!(f, "{address:#x}"),
            Self::Block(block) => write!(f, "block:{block}"),
            Self::Pfn(pfn) => write!(f, "pfn:{pfn:#x}"),
        }
    }
}

impl Address {
    /// The offset of this place in a store of `size` bytes, if it is in it. `base` is the store's physical base, 0 if
    /// it is not known.
    #[must_use]
    pub fn offset(self, size: u64, block_bytes: u64, base: u64) -> Option<u64> {
        let offset = match self {
            Self::Bytes(address) => address.checked_sub(base)?,
            Self::Block(block) => block.checked_mul(block_bytes)?,
            Self::Pfn(pfn) => pfn.checked_mul(kernel_page(block_bytes))?.checked_sub(base)?,
        };
        (offset < size).then_some(offset)
    }
}

/// The size of the kernel's own pages, which follows from the size of its PMD pages: a page table that fills one page
/// has one entry for each 8 bytes, and a PMD page is as large as all the memory that such a table maps.
pub(crate) const fn kernel_page(block_bytes: u64) -> u64 {
    match block_bytes >> 20 {
        512 => 64 << 10,
        32 => 16 << 10,
        _ => 4 << 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_three_forms() {
        assert_eq!("0x1000".parse(), Ok(Address::Bytes(0x1000)));
        assert_eq!("block:7".parse(), Ok(Address::Block(7)));
        assert_eq!("pfn:0x10".parse(), Ok(Address::Pfn(16)));
        for wrong in ["", "block:", "page:3", "-1", "12:3"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn they_are_found_in_a_store() {
        let (size, block) = (64 << 20, 2 << 20);
        let base = 1 << 32;
        assert_eq!(Address::Block(3).offset(size, block, base), Some(6 << 20));
        assert_eq!(Address::Bytes(base + 5).offset(size, block, base), Some(5));
        assert_eq!(Address::Pfn((base >> 12) + 1).offset(size, block, base), Some(4096));
        let outside = [Address::Bytes(5), Address::Bytes(base + size), Address::Block(32), Address::Pfn(u64::MAX)];
        assert!(outside.iter().all(|address| address.offset(size, block, base).is_none()));
    }
}
