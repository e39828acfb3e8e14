//! Sums over all table pages of a region, by which any page of the last commit proves all the others.
//!
//! Each table page before the high-water marks contributes two numbers, computed from its page number and its
//! generation. A page that is lost, or older or newer than it should be, changes the sum. The first number can be
//! inverted. So if a sum differs by the share of one page, the generation that this page should have can be computed.

use std::ops::{Add, Sub};

use crate::native::geometry::Geometry;
use crate::native::raw::PageTrailer;
use crate::native::units::{Generation, PageNo};

/// How many groups of pages have a sum of their own in the superblock.
pub const GROUPS: usize = 64;

/// The golden ratio in 64 bits, as splitmix64 uses it.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// The factors of splitmix64's finalizer.
const FACTORS: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];
/// The inverses of these factors modulo 2⁶⁴.
const INVERSES: [u64; 2] = [inverse(FACTORS[0]), inverse(FACTORS[1])];

/// The inverse of an odd number modulo 2⁶⁴, by Newton's method: each round doubles the number of correct bits.
#[expect(clippy::arithmetic_side_effects, reason = "const evaluation: the loop has six rounds")]
const fn inverse(odd: u64) -> u64 {
    let mut found = odd;
    let mut round = 0;
    while round < 6 {
        found = found.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(found)));
        round += 1;
    }
    found
}

/// The finalizer of splitmix64: a permutation of all 64-bit numbers.
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(FACTORS[0]);
    x ^= x >> 27;
    x = x.wrapping_mul(FACTORS[1]);
    x ^ (x >> 31)
}

/// The inverse of [`mix`].
const fn unmix(mut x: u64) -> u64 {
    x ^= (x >> 31) ^ (x >> 62);
    x = x.wrapping_mul(INVERSES[1]);
    x ^= (x >> 27) ^ (x >> 54);
    x = x.wrapping_mul(INVERSES[0]);
    x ^ (x >> 30) ^ (x >> 60)
}

/// Two wrapping sums over pages and their generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sum {
    /// The sum of the first shares. A single share can be inverted.
    pub first: u64,
    /// The sum of the second shares. It confirms an inversion.
    pub second: u64,
}

impl Sum {
    /// The share of one page with this generation.
    #[must_use]
    pub fn of(page: PageNo, generation: Generation) -> Self {
        let first = mix(generation.0 ^ u64::from(page.0).wrapping_mul(STEP));
        Self { first, second: mix(first.wrapping_add(STEP)) }
    }

    /// The generation with which `page` has this share, if there is one.
    #[must_use]
    pub fn generation(self, page: PageNo) -> Option<Generation> {
        let generation = Generation(unmix(self.first) ^ u64::from(page.0).wrapping_mul(STEP));
        (generation.0 > 0 && Self::of(page, generation) == self).then_some(generation)
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { first: self.first.wrapping_add(other.first), second: self.second.wrapping_add(other.second) }
    }
}

impl Sub for Sum {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { first: self.first.wrapping_sub(other.first), second: self.second.wrapping_sub(other.second) }
    }
}

/// The group that a page belongs to.
#[must_use]
pub fn group(page: PageNo) -> usize {
    crate::native::units::to_usize(page.0) % GROUPS
}

/// The high-water marks of both tables: how many pages of each have been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Pages of the block table.
    pub table: u32,
    /// Pages of the inode table.
    pub inodes: u32,
}

impl Marks {
    /// The marks that cover all pages of both tables.
    #[must_use]
    pub fn all(geometry: Geometry) -> Self {
        Self { table: geometry.table_pages(), inodes: geometry.inode_pages() }
    }

    /// Whether a page is before the mark of its table. The superblock always is.
    #[must_use]
    pub fn cover(self, geometry: Geometry, page: PageNo) -> bool {
        let table = geometry.table_pages();
        match page.0 {
            0 => true,
            n if n <= table => n <= self.table,
            n => n.saturating_sub(table) <= self.inodes,
        }
    }

    /// The table pages before the marks.
    pub fn pages(self, geometry: Geometry) -> impl Iterator<Item = PageNo> + Clone {
        let [table, inodes] = self.ranges(geometry);
        table.chain(inodes).map(PageNo)
    }

    /// The table pages before the marks, as a range for the block table and one for the inode table.
    #[must_use]
    pub fn ranges(self, geometry: Geometry) -> [std::ops::Range<u32>; 2] {
        let table = geometry.first_table_page().0;
        let inodes = geometry.first_inode_page().0;
        [
            table..table.saturating_add(self.table.min(geometry.table_pages())),
            inodes..inodes.saturating_add(self.inodes.min(geometry.inode_pages())),
        ]
    }

    /// The higher of two marks, for each table.
    #[must_use]
    pub fn higher(self, other: Self) -> Self {
        Self { table: self.table.max(other.table), inodes: self.inodes.max(other.inodes) }
    }
}

/// What a page records about all pages: its trailer, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trailer {
    /// The region's birth.
    pub birth: u64,
    /// The marks after the page's commit.
    pub marks: Marks,
    /// The sum over all table pages before these marks, after that commit.
    pub sum: Sum,
}

impl Trailer {
    /// Reads a trailer. It can be relied on only if the page's seal is good.
    #[must_use]
    pub fn of(page: &crate::native::units::PageBytes) -> Self {
        let raw = PageTrailer::of(page);
        let [first, second] = raw.sum.map(zerocopy::little_endian::U64::get);
        Self {
            birth: raw.birth.get(),
            marks: Marks { table: raw.table_used.get(), inodes: raw.inodes_used.get() },
            sum: Sum { first, second },
        }
    }

    /// Writes the trailer into a page that is sealed later.
    pub fn write(self, page: &mut crate::native::units::PageBytes) {
        *PageTrailer::of_mut(page) = PageTrailer {
            birth: self.birth.into(),
            table_used: self.marks.table.into(),
            inodes_used: self.marks.inodes.into(),
            sum: [self.sum.first.into(), self.sum.second.into()],
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_value() {
        // The value of splitmix64's finalizer for 1, and the inverse of one value.
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
        assert_eq!(unmix(mix(0)), 0);
    }

    /// Computes shares with plain arithmetic, as the description of the format states them.
    #[test]
    fn shares_are_what_the_description_says() {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let finalizer = |mut x: u64| {
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        for (page, generation) in [(1, 1), (1, 256), (250, 3), (134_217, 1 << 40), (u32::MAX, u64::MAX)] {
            let first = finalizer(generation ^ step.wrapping_mul(u64::from(page)));
            let second = finalizer(first.wrapping_add(step));
            assert_eq!(Sum::of(PageNo(page), Generation(generation)), Sum { first, second });
        }
    }

    #[test]
    fn marks_cover_the_pages_before_them() {
        let geometry = Geometry::plan(5 << 30, crate::native::units::PmdShift::M2, 100).unwrap();
        let (table, inodes) = (geometry.table_pages(), geometry.inode_pages());
        assert!(table > 3 && inodes > 3);
        let marks = Marks { table: 2, inodes: 3 };
        let covered: Vec<u32> = (0..=table + inodes).filter(|page| marks.cover(geometry, PageNo(*page))).collect();
        assert_eq!(covered, [0, 1, 2, table + 1, table + 2, table + 3]);
        assert_eq!(marks.pages(geometry).map(|page| page.0).collect::<Vec<_>>(), covered[1..]);
        assert_eq!(marks.higher(Marks { table: 1, inodes: 9 }), Marks { table: 2, inodes: 9 });
        assert_eq!(crate::native::units::len64(Marks::all(geometry).pages(geometry).count()) + 1, geometry.pages());
        assert_eq!(Marks::default().pages(geometry).count(), 0);
    }

    proptest! {
        #[test]
        fn a_share_gives_its_generation_back(page in any::<u32>(), generation in 1..=u64::MAX) {
            let share = Sum::of(PageNo(page), Generation(generation));
            prop_assert_eq!(share.generation(PageNo(page)), Some(Generation(generation)));
            prop_assert_eq!(share + share - share, share);
        }

        /// For another page there is a generation too, but it is far above those of any region, so callers must bound
        /// it.
        #[test]
        fn a_share_of_another_page_gives_no_generation_that_a_region_has(
            page in any::<u32>(), other in any::<u32>(), generation in 1_u64..1 << 24,
        ) {
            prop_assume!(page != other);
            let found = Sum::of(PageNo(page), Generation(generation)).generation(PageNo(other));
            prop_assert!(found.is_none_or(|found| found.0 > 1 << 24), "{found:?}");
        }

        /// The sum of two shares is not the share of any page, because the second number does not fit.
        #[test]
        fn two_shares_are_not_taken_for_one(
            page in any::<u32>(), other in any::<u32>(), third in any::<u32>(), one: u64, two: u64,
        ) {
            prop_assume!(page != other);
            let both = Sum::of(PageNo(page), Generation(one)) + Sum::of(PageNo(other), Generation(two));
            prop_assert_eq!(both.generation(PageNo(third)), None);
        }

        #[test]
        fn a_trailer_reads_back(birth: u64, table: u32, inodes: u32, first: u64, second: u64) {
            let trailer = Trailer { birth, marks: Marks { table, inodes }, sum: Sum { first, second } };
            let mut page = [0x5A; crate::native::units::PAGE_SIZE];
            trailer.write(&mut page);
            prop_assert_eq!(Trailer::of(&page), trailer);
            prop_assert!(page[..4064].iter().all(|byte| *byte == 0x5A));
        }
    }
}
