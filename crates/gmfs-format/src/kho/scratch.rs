//! How the root's address is handed over, and the areas in which the next kernel is put.

use gmfs_io::num::small;
use gmfs_io::{ReadAt, Span};
use thiserror::Error;

use super::{ADDRESSES, PAGE, Page, is_page, word, word32};

/// Scratch areas start and end at multiples of this.
pub const AREA_ALIGN: u64 = 4 << 20;
/// The least that a kernel with pages of 4 KiB aligns an area to, whatever it was built with: a block of pages.
const LEAST_ALIGN: u64 = 2 << 20;
/// More areas than this there are not: low, global, and one for each of 1024 nodes.
const MAX_AREAS: u64 = 1026;

/// The largest device tree of a machine: what arm64 allows.
const MAX_MACHINE_TREE: u64 = 2 << 20;

/// What hands a root over: on x86 a record of the boot protocol (`setup_data`, type 10), on arm64 the node `/chosen` of the
/// machine's device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setup {
    /// The address of the record, or of the machine's device tree.
    pub at: u64,
    /// The root's.
    pub tree: u64,
    /// That of the array of scratch areas.
    pub scratch: u64,
    /// Bytes of that array.
    pub scratch_bytes: u64,
}

impl Setup {
    /// The records in a page.
    pub fn find(at: u64, page: &Page) -> impl Iterator<Item = Self> {
        let places = (0..4096_usize).step_by(8).filter(|offset| offset.checked_add(48).is_some_and(|end| end <= 4096));
        places.filter_map(move |offset| {
            let bytes = page.get(offset..)?;
            // Type and length, then an address and the one size that a root has.
            if word32(bytes, 8) != 10 || word32(bytes, 12) != 32 || word(bytes, 24) != PAGE {
                return None;
            }
            let found = Self {
                at: at.saturating_add(gmfs_io::num::len64(offset)),
                tree: word(bytes, 16),
                scratch: word(bytes, 32),
                scratch_bytes: word(bytes, 40),
            };
            found.is_possible().then_some(found)
        })
    }

    /// What the device tree of an arm64 machine hands over, in `linux,kho-fdt` and `linux,kho-scratch` of `/chosen`.
    #[must_use]
    pub fn in_machine_tree(source: &dyn ReadAt, at: u64) -> Option<Self> {
        let tree = crate::fdt::Fdt::read(source, at, MAX_MACHINE_TREE).ok()?;
        let chosen = tree.root().child(b"chosen")?;
        // Numbers of 32 bits, big-endian, as many for an address and for a size as the root says.
        let cells = |name: &[u8], otherwise: u32| {
            let value = tree.root().property(name).and_then(|value| value.try_into().ok());
            small(value.map_or(otherwise, u32::from_be_bytes).into())
        };
        let (address, size) = (cells(b"#address-cells", 2), cells(b"#size-cells", 1));
        let number = |bytes: &[u8]| {
            let (cells, rest) = bytes.as_chunks::<4>();
            let wide = (1..=2).contains(&cells.len()) && rest.is_empty();
            wide.then(|| cells.iter().fold(0_u64, |sum, cell| sum << 32 | u64::from(u32::from_be_bytes(*cell))))
        };
        let pair = |name: &[u8]| {
            let value = chosen.property(name)?;
            let (first, second) = value.split_at_checked(address.checked_mul(4)?)?;
            (second.len() == size.checked_mul(4)?).then_some(())?;
            Some((number(first)?, number(second)?))
        };
        let (root, bytes) = pair(b"linux,kho-fdt")?;
        let (scratch, scratch_bytes) = pair(b"linux,kho-scratch")?;
        let found = Self { at, tree: root, scratch, scratch_bytes };
        (bytes == PAGE && found.is_possible()).then_some(found)
    }

    /// Whether its numbers can be what they are to be.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let areas = self.scratch_bytes.checked_div(16).unwrap_or_default();
        is_page(self.tree)
            && self.scratch != 0
            && self.scratch.trailing_zeros() >= 3
            && self.scratch_bytes.trailing_zeros() >= 4
            && (1..=MAX_AREAS).contains(&areas)
    }
}

/// The scratch areas: memory in which nothing is preserved, and into which the next kernel is put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// In the order of the array: low memory, global, then one for each node. Entries that can be none are left out.
    pub areas: Vec<Span>,
    /// The first entry of the array that no kernel writes.
    pub odd: Option<OddArea>,
}

/// An entry of the array of scratch areas that no kernel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OddArea {
    /// Where the array is.
    pub array: u64,
    /// Which entry, counted from 0.
    pub entry: u64,
    /// What it says.
    pub area: Span,
    /// What is wrong with it, in words.
    pub why: &'static str,
}

/// Why the scratch areas are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoScratch {
    /// Nothing that hands the root over was found.
    #[error("no record in memory leads to them")]
    NoRecord,
    /// The image does not hold the array.
    #[error("the array at {at:#x}, to which a record leads, cannot be read")]
    Unreadable {
        /// Where it is.
        at: u64,
    },
    /// The array has no entry that can be an area: so it is before the jump into the next kernel, when other bytes are there.
    #[error("a record leads to {at:#x}, and there is no array of areas there")]
    NoArray {
        /// Where it is to be.
        at: u64,
    },
}

impl Scratch {
    /// The areas that a record leads to.
    ///
    /// # Errors
    /// The array is not there: before the jump into the next kernel other bytes are where it will be.
    pub fn read(source: &dyn ReadAt, setup: &Setup) -> Result<Self, NoScratch> {
        let at = setup.scratch;
        if !setup.is_possible() {
            return Err(NoScratch::NoArray { at });
        }
        let mut bytes = vec![0; small(setup.scratch_bytes)];
        source.read_at(at, &mut bytes).map_err(|_| NoScratch::Unreadable { at })?;
        let mut found = Self::default();
        let mut any_aligned = false;
        for (entry, bytes) in (0_u64..).zip(bytes.as_chunks::<16>().0) {
            let area = Span::new(word(bytes, 0), word(bytes, 8));
            let why = impossible(area).or_else(|| found.meets(area).then_some("overlaps an area before it"));
            let aligned = (area.offset | area.len).trailing_zeros() >= LEAST_ALIGN.trailing_zeros();
            if why.is_none() {
                found.areas.push(area);
                any_aligned |= aligned;
            }
            if let Some(why) = why.or_else(|| (!aligned).then_some("does not start and end at a multiple of 2 MiB")) {
                found.odd.get_or_insert(OddArea { array: at, entry, area, why });
            }
        }
        // Numbers of something else are no areas, even if some look like pages.
        if any_aligned || found.odd.is_none() { Ok(found) } else { Err(NoScratch::NoArray { at }) }
    }

    /// Whether a range has bytes in one of the areas.
    #[must_use]
    pub fn meets(&self, span: Span) -> bool {
        self.areas.iter().any(|area| area.meets(span))
    }
}

/// Why a range cannot be an area, if it cannot.
fn impossible(area: Span) -> Option<&'static str> {
    let whole = |number: u64| number.trailing_zeros() >= PAGE.trailing_zeros();
    if area.len == 0 {
        Some("has no bytes")
    } else if !whole(area.offset) || !whole(area.len) {
        Some("does not consist of whole pages")
    } else if area.offset.checked_add(area.len).is_none_or(|end| end > ADDRESSES) {
        Some("is past the end of all memory")
    } else {
        None
    }
}
