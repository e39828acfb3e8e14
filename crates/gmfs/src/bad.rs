//! Blocks with hardware errors: as people, kernels and other programs name them, and as a region marks them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::str::FromStr;

use gmfs_format::model::InodeNo;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::to_u32;
use gmfs_format::spec::{SpecError, parse_size};
use gmfs_io::ReadAt;
use gmfs_volume::Region;

use crate::address::{Address, AddressError, unit};
use crate::error::Error;
use crate::store::Store;

/// Bytes in a sector, as the kernel's lists count them.
const SECTOR: u64 = 512;

/// A range as somebody named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Its first and its last address.
    Range(Address, Address),
    /// Its first and its last byte in the device that holds the region.
    InDevice(u64, u64),
}

/// Why a range cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// It is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No number, where one belongs.
    #[error(transparent)]
    Number(#[from] SpecError),
    /// It has no bytes, or more than there can be.
    #[error("'{0}' is no range of bytes")]
    Empty(String),
    /// The last address is before the first.
    #[error("'{0}' ends before it begins")]
    Reversed(String),
    /// Sectors that are none, or that no device can have.
    #[error("{count} sectors from {first} on are no range")]
    Sectors {
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
    },
    /// It is not in the region.
    #[error("{} is not in the region", spelled(*first, *last))]
    Outside {
        /// Its first address.
        first: Address,
        /// Its last address.
        last: Address,
    },
    /// Sectors were named, and the image is physical memory.
    #[error("sectors count from the start of a device, and IMAGE is physical memory")]
    NoDevice,
}

fn spelled(first: Address, last: Address) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

impl FromStr for Named {
    type Err = RangeError;

    /// Reads `ADDR`, `ADDR-LAST` or `ADDR+LENGTH`, each of them after `block:` or `pfn:` if blocks or page frame numbers
    /// are meant.
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (unit, rest) = unit(text)?;
        let (first, last) = match (rest.split_once('-'), rest.split_once('+')) {
            (Some((first, last)), _) => (parse_size(first)?, parse_size(last)?),
            (None, Some((first, length))) => {
                let (first, length) = (parse_size(first)?, parse_size(length)?);
                let last = length.checked_sub(1).and_then(|more| first.checked_add(more));
                (first, last.ok_or_else(|| RangeError::Empty(text.to_owned()))?)
            }
            (None, None) => (parse_size(rest)?, parse_size(rest)?),
        };
        if last < first {
            return Err(RangeError::Reversed(text.to_owned()));
        }
        Ok(Self::Range(unit(first), unit(last)))
    }
}

impl Named {
    /// `count` sectors of 512 bytes, counted from the start of the device.
    ///
    /// # Errors
    /// There are none, or more than a device can have.
    pub fn sectors(first: u64, count: u64) -> Result<Self, RangeError> {
        let bytes = |sectors: u64| sectors.checked_mul(SECTOR);
        let start = bytes(first);
        let last = first.checked_add(count).and_then(bytes).filter(|_| count > 0).and_then(|end| end.checked_sub(1));
        start.zip(last).map(|(start, last)| Self::InDevice(start, last)).ok_or(RangeError::Sectors { first, count })
    }

    /// A line of a list: the first sector and how many there are, as `/sys/block/*/badblocks` has them, or a range.
    ///
    /// # Errors
    /// It is neither.
    pub fn line(line: &str) -> Result<Self, RangeError> {
        match line.split_once(char::is_whitespace) {
            Some((sector, count)) => Self::sectors(parse_size(sector)?, parse_size(count.trim())?),
            None => line.parse(),
        }
    }
}

/// What addresses, and offsets in the device, are counted from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    geometry: Geometry,
    /// The region's physical base, 0 if that is not known.
    base: u64,
    /// Where the region begins in its device or file; `None` in an image of physical memory.
    in_device: Option<u64>,
}

impl Origin {
    /// Of an open store.
    ///
    /// # Errors
    /// The store is not native, so that no block of it can be marked.
    pub fn of(store: &Store) -> Result<Self, Error> {
        Ok(Self {
            geometry: store.native()?.geometry(),
            base: store.physical_base().unwrap_or(0),
            in_device: (!store.place.kind.is_physical()).then_some(store.place.base),
        })
    }
}

/// The blocks that ranges touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Runs of blocks, ascending, without overlap.
    pub runs: Vec<Range<u32>>,
    /// Ranges of the device that are not in the region.
    pub outside: u64,
}

/// The blocks that ranges touch.
///
/// # Errors
/// A range of addresses is not in the region, or offsets in a device are named in an image that has none.
pub fn touched(named: &[Named], origin: &Origin) -> Result<Touched, RangeError> {
    let geometry = origin.geometry;
    let (mut set, mut outside) = (BTreeSet::new(), 0_u64);
    for named in named {
        let (first, last) = match *named {
            Named::Range(first, last) => {
                let place = |address: Address| address.offset(geometry.size(), geometry.block_bytes(), origin.base);
                place(first).zip(place(last)).ok_or(RangeError::Outside { first, last })?
            }
            Named::InDevice(first, last) => {
                let start = origin.in_device.ok_or(RangeError::NoDevice)?;
                let end = start.saturating_add(geometry.size());
                let (first, last) = (first.max(start), last.min(end.saturating_sub(1)));
                if first > last {
                    outside = outside.saturating_add(1);
                    continue;
                }
                (first.saturating_sub(start), last.saturating_sub(start))
            }
        };
        let block = |at: u64| to_u32(at.checked_div(geometry.block_bytes()).unwrap_or_default());
        set.extend(block(first)..=block(last));
    }
    let mut runs: Vec<Range<u32>> = Vec::new();
    for block in set {
        match runs.last_mut() {
            Some(run) if run.end == block => run.end = run.end.saturating_add(1),
            _ => runs.push(block..block.saturating_add(1)),
        }
    }
    Ok(Touched { runs, outside })
}

/// A block that is marked as bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub block: u32,
    /// The file that it belongs to, and the offset in it, in bytes.
    pub file: Option<(InodeNo, u64)>,
}

/// The blocks of a region that are marked as bad, ascending.
pub fn marked<S: ReadAt>(region: &Region<S>) -> Vec<Marked> {
    let block_bytes = region.geometry().block_bytes();
    let mut found = Vec::new();
    region.descriptors(|block, entry| {
        if entry.state() == Some(BlockState::Bad) {
            let owner = Some(entry.owner()).filter(|owner| *owner != InodeNo::NONE);
            let file = owner.map(|ino| (ino, u64::from(entry.index.get()).saturating_mul(block_bytes)));
            found.push(Marked { block: block.0, file });
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use gmfs_format::native::units::PmdShift;

    use super::*;

    fn origin(base: u64, in_device: Option<u64>) -> Origin {
        Origin { geometry: Geometry::plan(64 << 20, PmdShift::M2, 64).unwrap(), base, in_device }
    }

    #[test]
    fn ranges_are_read_in_every_spelling() {
        let bytes = |first, last| Ok(Named::Range(Address::Bytes(first), Address::Bytes(last)));
        assert_eq!("0x1000".parse(), bytes(4096, 4096));
        assert_eq!("4K-8191".parse(), bytes(4096, 8191));
        assert_eq!("2M+2M".parse(), bytes(2 << 20, (4 << 20) - 1));
        assert_eq!("block:3-5".parse(), Ok(Named::Range(Address::Block(3), Address::Block(5))));
        assert_eq!("pfn:0x10".parse(), Ok(Named::Range(Address::Pfn(16), Address::Pfn(16))));
        for wrong in ["5-3", "frame:1", "", "block:", "x", "0x200000+0"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_of_the_kernel_count_sectors() {
        assert_eq!(Named::line("8 2"), Ok(Named::InDevice(4096, 5119)));
        assert_eq!(Named::line("block:3"), "block:3".parse());
        for wrong in ["8 0", "36028797018963968 1", "1 18446744073709551615", "x 1"] {
            assert!(Named::line(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sectors_count_from_the_start_of_the_device_whatever_the_base_is() {
        let named = [Named::InDevice(72 << 20, (72 << 20) + 511), Named::InDevice(0, 511)];
        let found = touched(&named, &origin(1 << 32, Some(64 << 20))).unwrap();
        assert_eq!(found, Touched { runs: std::iter::once(4..5).collect(), outside: 1 });
        assert_eq!(touched(&named, &origin(1 << 32, None)), Err(RangeError::NoDevice));
        let past = [Named::InDevice(128 << 20, (128 << 20) + 511)];
        assert_eq!(touched(&past, &origin(0, Some(64 << 20))).unwrap().outside, 1);
    }

    #[test]
    fn ranges_become_runs_of_blocks() {
        let named: Vec<Named> =
            ["0x200000", "block:2-3", "block:3", "block:9"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(touched(&named, &origin(0, Some(0))).unwrap().runs, [1..4, 9..10]);
        assert!(touched(&["1G".parse().unwrap()], &origin(0, Some(0))).is_err());
    }
}
