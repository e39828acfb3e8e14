//! The seal of a metadata page: making it, checking it, and naming what is wrong with a broken one.
//!
//! A seal records what a page is (kind, copy, page number, region, generation) and the layout of its region, and proves
//! it with a CRC-32. A page whose seal is good is exactly what some commit wrote for exactly that location. Any single
//! page shows where all the others are, and its trailer has a sum over all of them (see [`crate::native::sum`]).

use std::fmt;

use uuid::Uuid;

use crate::native::geometry::Geometry;
use crate::native::raw::{PageHeader, PageTrailer};
use crate::native::sum::Trailer;
use crate::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, PmdShift, len64, small};

/// The version of the page format that this crate writes and reads.
pub const PAGE_VERSION: u16 = 2;

/// The offset of the CRC in a page.
const CRC_OFFSET: usize = std::mem::offset_of!(PageHeader, crc);

/// The offset of the payload in a page.
const PAYLOAD: usize = size_of::<PageHeader>();

/// The kinds of metadata pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageKind {
    /// Page 0.
    Superblock,
    /// A page of the block table.
    BlockTable,
    /// A page of the inode table.
    InodeTable,
}

impl PageKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Superblock, Self::BlockTable, Self::InodeTable];

    /// The four bytes that a page of this kind starts with.
    #[must_use]
    pub const fn magic(self) -> [u8; 4] {
        match self {
            Self::Superblock => *b"GMsb",
            Self::BlockTable => *b"GMbt",
            Self::InodeTable => *b"GMit",
        }
    }

    /// The number of this kind in a page header.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Superblock => 1,
            Self::BlockTable => 2,
            Self::InodeTable => 3,
        }
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superblock => "superblock",
            Self::BlockTable => "block table",
            Self::InodeTable => "inode table",
        })
    }
}

/// What a page must record to be good at its location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind of page.
    pub kind: PageKind,
    /// The copy.
    pub copy: CopyId,
    /// The page number in the copy.
    pub page: PageNo,
    /// The UUID of the region.
    pub uuid: Uuid,
    /// The region's birth, which distinguishes it from other regions with the same UUID.
    pub birth: u64,
    /// The layout of the region. Bytes past its last block do not matter.
    pub geometry: Geometry,
}

/// What is wrong with a page's seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealFault {
    /// The page is all zero.
    Zeroed,
    /// The page does not start with the magic of a metadata page: something else was written there.
    Overwritten,
    /// One bit is flipped. The CRC proves it, because it matches if that one bit is changed.
    Flipped {
        /// The offset of the byte in the page.
        byte: u16,
        /// The bit in that byte; 0 is the least significant one.
        bit: u8,
    },
    /// The page starts like a metadata page, but its CRC does not match: it was torn or partly overwritten.
    Torn,
    /// The seal is good, but it has an unknown format version.
    Version(u16),
    /// The seal is good, but it is that of a region with another UUID.
    Foreign(Uuid),
    /// The seal is good, but the page is of another region with the same UUID: an older one, or one that was restored.
    OtherBirth(u64),
    /// The seal is good, but the page is past its own high-water mark: a commit prepared it and did not use it.
    Prepared,
    /// The seal is good, but the page belongs to another location in this region.
    Misplaced {
        /// The kind that its header records.
        kind: u8,
        /// The copy that its header records.
        copy: u8,
        /// The page number that its header records.
        page: u64,
    },
    /// The seal is good, but the page is of a region with the same UUID and another layout.
    OtherLayout {
        /// Blocks in that region.
        blocks: u32,
        /// Blocks of one metadata copy there.
        metadata_blocks: u32,
        /// Inodes in its table.
        inodes: u32,
    },
}

impl SealFault {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zeroed => "zeroed",
            Self::Overwritten => "overwritten",
            Self::Flipped { .. } => "flipped",
            Self::Torn => "torn",
            Self::Version(_) => "version",
            Self::Foreign(_) => "foreign",
            Self::OtherBirth(_) => "other-birth",
            Self::Prepared => "prepared",
            Self::Misplaced { .. } => "misplaced",
            Self::OtherLayout { .. } => "other-layout",
        }
    }
}

impl fmt::Display for SealFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Zeroed => f.write_str("all zero"),
            Self::Overwritten => f.write_str("overwritten: not a metadata page"),
            Self::Flipped { byte, bit } => write!(f, "bit {bit} of byte {byte:#x} flipped"),
            Self::Torn => f.write_str("torn or partly overwritten: the CRC does not match"),
            Self::Version(version) => write!(f, "of unknown format version {version}"),
            Self::Foreign(uuid) => write!(f, "of another filesystem, {uuid}"),
            Self::OtherBirth(birth) => write!(f, "of another region with the same UUID, birth {birth:016x}"),
            Self::Prepared => f.write_str("past its own high-water mark: prepared for a change that did not use it"),
            Self::Misplaced { kind, copy, page } => {
                let kind = PageKind::ALL.into_iter().find(|k| k.byte() == kind);
                let copy = CopyId::BOTH.into_iter().find(|c| c.byte() == copy);
                match (kind, copy) {
                    (Some(kind), Some(copy)) => {
                        write!(f, "misplaced: it is {kind} page {page} of copy {copy}")
                    }
                    _ => write!(f, "misplaced: it is page {page} of an unknown kind"),
                }
            }
            Self::OtherLayout { blocks, metadata_blocks, inodes } => write!(
                f,
                "of a region with another layout: {blocks} blocks, {metadata_blocks} for each copy of the metadata, \
                 {inodes} inodes"
            ),
        }
    }
}

/// Checks the seal of `page` as the page for `place`. Returns its generation if the seal is good.
///
/// # Errors
/// What is wrong with the seal.
pub fn check(page: &PageBytes, place: &Place) -> Result<Generation, SealFault> {
    let Place { kind, copy, page: number, uuid, birth, geometry } = *place;
    let generation = check_identity(page, kind, copy, number, uuid)?;
    let trailer = Trailer::of(page);
    if trailer.birth != birth {
        return Err(SealFault::OtherBirth(trailer.birth));
    }
    check_layout(page, geometry)?;
    if trailer.marks.cover(geometry, number) { Ok(generation) } else { Err(SealFault::Prepared) }
}

/// Checks that the region that a page belongs to has this layout.
///
/// # Errors
/// [`SealFault::OtherLayout`].
pub(crate) fn check_layout(page: &PageBytes, geometry: Geometry) -> Result<(), SealFault> {
    let header = PageHeader::of(page);
    let (blocks, metadata_blocks, inodes) = (header.blocks.get(), header.metadata_blocks.get(), header.inodes.get());
    let here = blocks == geometry.blocks()
        && metadata_blocks == geometry.metadata_blocks()
        && inodes == geometry.inodes()
        && header.pmd_shift == geometry.pmd().bits();
    if here { Ok(()) } else { Err(SealFault::OtherLayout { blocks, metadata_blocks, inodes }) }
}

/// The layout of the region that a page says it belongs to, without the bytes past its last block; `None` if its
/// numbers are not consistent. It can be relied on only if the seal is good.
#[must_use]
pub fn layout_of(page: &PageBytes) -> Option<Geometry> {
    let header = PageHeader::of(page);
    let pmd = PmdShift::ALL.into_iter().find(|pmd| pmd.bits() == header.pmd_shift)?;
    let size = u64::from(header.blocks.get()).checked_mul(pmd.block_bytes())?;
    Geometry::recorded(size, pmd, header.metadata_blocks.get().into(), header.inodes.get())
}

/// Checks everything in a seal except the layout.
///
/// # Errors
/// What is wrong with the seal.
pub(crate) fn check_identity(
    page: &PageBytes,
    kind: PageKind,
    copy: CopyId,
    page_no: PageNo,
    uuid: Uuid,
) -> Result<Generation, SealFault> {
    let header = PageHeader::of(page);
    // The CRC of a page without a magic is not computed, because in a copy that is gone, every page is without one.
    if header.magic == [0; 4] || crc(page) != header.crc.get() {
        return Err(name_damage(page));
    }
    let version = header.version.get();
    if !PageKind::ALL.iter().any(|kind| kind.magic() == header.magic) {
        return Err(SealFault::Overwritten);
    }
    if version != PAGE_VERSION {
        return Err(SealFault::Version(version));
    }
    if header.uuid != uuid.into_bytes() {
        return Err(SealFault::Foreign(Uuid::from_bytes(header.uuid)));
    }
    let number = header.page.get();
    let here = header.magic == kind.magic()
        && header.kind == kind.byte()
        && header.copy == copy.byte()
        && number == u64::from(page_no.0);
    if here {
        Ok(Generation(header.generation.get()))
    } else {
        Err(SealFault::Misplaced { kind: header.kind, copy: header.copy, page: number })
    }
}

/// The location and generation that a page records, if its seal is good for them. This identifies a page without
/// knowing where it belongs.
#[must_use]
pub fn claim(page: &PageBytes) -> Option<(Place, Generation)> {
    let header = PageHeader::of(page);
    let kind = PageKind::ALL.into_iter().find(|kind| kind.magic() == header.magic)?;
    let copy = CopyId::BOTH.into_iter().find(|copy| copy.byte() == header.copy)?;
    let page_no = PageNo(u32::try_from(header.page.get()).ok()?);
    let uuid = Uuid::from_bytes(header.uuid);
    let birth = PageTrailer::of(page).birth.get();
    let place = Place { kind, copy, page: page_no, uuid, birth, geometry: layout_of(page)? };
    let generation = check(page, &place).ok()?;
    Some((place, generation))
}

/// Writes the header of `page` for `place` and `generation`, the region's birth, and the CRC over the whole page. The
/// payload must be final, and so must the marks and the sum in the trailer ([`Trailer::write`]).
pub fn seal(page: &mut PageBytes, place: &Place, generation: Generation) {
    let header = PageHeader::of_mut(page);
    header.magic = place.kind.magic();
    header.version = PAGE_VERSION.into();
    header.kind = place.kind.byte();
    header.copy = place.copy.byte();
    header.page = u64::from(place.page.0).into();
    header.uuid = place.uuid.into_bytes();
    header.generation = generation.0.into();
    header.blocks = place.geometry.blocks().into();
    header.metadata_blocks = place.geometry.metadata_blocks().into();
    header.inodes = place.geometry.inodes().into();
    header.pmd_shift = place.geometry.pmd().bits();
    header.reserved = [0; 7];
    PageTrailer::of_mut(page).birth = place.birth.into();
    renew_crc(page);
}

/// The difference between the CRCs of a page in the two copies. It is the same for all pages, because CRCs are linear.
#[must_use]
pub fn copy_share() -> u32 {
    let mut page = [0; PAGE_SIZE];
    let without = crc(&page);
    PageHeader::of_mut(&mut page).copy = CopyId::A.byte() ^ CopyId::B.byte();
    crc(&page) ^ without
}

/// Converts a sealed page from one copy to the other, `to`, by changing its header and patching its CRC. `share` is
/// [`copy_share`].
pub fn turn(page: &mut PageBytes, to: CopyId, share: u32) {
    let header = PageHeader::of_mut(page);
    header.copy = to.byte();
    header.crc = (header.crc.get() ^ share).into();
}

/// Whether `other` is what [`turn`] makes of `page` for the copy `to`. If the seal of `page` has been checked, that of
/// `other` then needs no computation of its CRC.
#[must_use]
pub fn is_turned(page: &PageBytes, other: &PageBytes, to: CopyId, share: u32) -> bool {
    let (mut header, turned) = (*PageHeader::of(page), PageHeader::of(other));
    header.copy = to.byte();
    header.crc = (header.crc.get() ^ share).into();
    header == *turned && page[PAYLOAD..] == other[PAYLOAD..]
}

/// Makes the CRC of `page` match its bytes, whatever its header says.
pub fn renew_crc(page: &mut PageBytes) {
    PageHeader::of_mut(page).crc = 0.into();
    let sum = crc32fast::hash(page);
    PageHeader::of_mut(page).crc = sum.into();
}

/// Whether a page is all zero. It compares pieces of 64 bytes, for which the compiler uses wide instructions.
fn is_zero(page: &PageBytes) -> bool {
    page.chunks(64).all(|piece| piece.iter().fold(0, |any, byte| any | byte) == 0)
}

/// Finds out what happened to a page whose CRC does not match.
fn name_damage(page: &PageBytes) -> SealFault {
    if is_zero(page) {
        return SealFault::Zeroed;
    }
    let magic = u32::from_le_bytes(PageHeader::of(page).magic);
    let near = PageKind::ALL.iter().any(|kind| (u32::from_le_bytes(kind.magic()) ^ magic).count_ones() <= 1);
    if !near {
        return SealFault::Overwritten;
    }
    find_flip(page).unwrap_or(SealFault::Torn)
}

/// The CRC-32 of `page` with its CRC field as zero.
///
/// CRCs are linear, so what the stored field adds to the checksum of the whole page is removed afterwards. This is
/// cheaper than computing the checksum of three pieces.
fn crc(page: &PageBytes) -> u32 {
    let [b0, b1, b2, b3] = PageHeader::of(page).crc.get().to_le_bytes();
    let share = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
    let [t0, t1, t2, t3] = &FIELD_SHARES;
    crc32fast::hash(page) ^ share(t0, b0) ^ share(t1, b1) ^ share(t2, b2) ^ share(t3, b3)
}

/// The one flipped bit that explains why the CRC does not match, if there is one.
///
/// A flipped bit changes the CRC's register when its byte is processed, and each byte from there on advances the change
/// by one step. So the search goes back from the difference, [`STRIDE`] steps at a time, until it finds a register to
/// which one flipped bit and at most [`STRIDE`] steps lead. A table lists all such registers. Several flipped bits are
/// mistaken for one with a probability of about 2⁻¹⁷.
fn find_flip(page: &PageBytes) -> Option<SealFault> {
    let stored = PageHeader::of(page).crc.get();
    let difference = crc(page) ^ stored;
    if difference.is_power_of_two() {
        // The flipped bit is in the stored CRC.
        let bit = difference.trailing_zeros();
        return Some(flip(CRC_OFFSET.saturating_add(small(u64::from(bit >> 3))), bit & 7));
    }
    let mut register = difference;
    for end in (STRIDE..=PAGE_SIZE).rev().step_by(STRIDE) {
        if let Some((steps, bit)) = near(register) {
            let byte = end.saturating_sub(steps);
            let in_field = byte >= CRC_OFFSET && byte < CRC_OFFSET.saturating_add(4);
            return (!in_field).then(|| flip(byte, bit));
        }
        register = stride_back(register);
    }
    None
}

/// If one flipped bit and 1 to [`STRIDE`] steps lead to this register: the number of steps, and the bit.
fn near(register: u32) -> Option<(usize, u32)> {
    let (before, after) = NEAR.split_at(near_slot(register));
    let slots = after.iter().chain(before).take_while(|(found, ..)| *found != 0);
    let found = slots.into_iter().find(|(found, ..)| *found == register);
    found.map(|(_, steps, bit)| (usize::from(*steps), u32::from(*bit)))
}

/// The fault for a flipped bit of a byte in a page.
fn flip(byte: usize, bit: u32) -> SealFault {
    SealFault::Flipped {
        byte: u16::try_from(len64(byte)).unwrap_or_default(),
        bit: u8::try_from(bit).unwrap_or_default(),
    }
}

/// The CRC's register before it was fed [`STRIDE`] zero bytes.
fn stride_back(register: u32) -> u32 {
    let [b0, b1, b2, b3] = register.to_le_bytes();
    let share = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
    let [t0, t1, t2, t3] = &STRIDES_BACK;
    share(t0, b0) ^ share(t1, b1) ^ share(t2, b2) ^ share(t3, b3)
}

/// How many steps, one for each byte, the search for a flipped bit goes back at once.
const STRIDE: usize = 64;
/// The number of slots of [`NEAR`]. A quarter of them is used.
const NEAR_SLOTS: usize = 4 * 8 * STRIDE;
/// Registers to which one flipped bit of a byte and 1 to [`STRIDE`] steps lead, with the steps and the bit. A register
/// is in its slot, or in the first one after it that was free; 0, to which nothing leads, marks a free slot.
static NEAR: [(u32, u8, u8); NEAR_SLOTS] = near_registers();
/// For each of the register's four bytes and each value of it: its share of the register [`STRIDE`] steps before.
static STRIDES_BACK: [[u32; 256]; 4] = strides_back();

/// The CRC-32 table: what each value of the register's low byte adds.
const TABLE: [u32; 256] = crc_table();
/// The register's low byte before a step, by its high byte after it: the high bytes in [`TABLE`] are all different.
const LOW_BYTES: [u8; 256] = low_bytes();
/// What each value of each of the four bytes of the CRC field adds to the page's CRC.
const FIELD_SHARES: [[u32; 256]; 4] = field_shares();

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "const evaluation: the loop is bounded by 256"
)]
const fn low_bytes() -> [u8; 256] {
    let mut low = [0; 256];
    let mut n = 0;
    while n < 256 {
        low[(TABLE[n] >> 24) as usize] = n as u8;
        n += 1;
    }
    low
}

#[expect(clippy::as_conversions, reason = "const evaluation: the result is below the number of slots")]
const fn near_slot(register: u32) -> usize {
    register as usize % NEAR_SLOTS
}

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "const evaluation: STRIDE is below 256, and three quarters of the slots stay free"
)]
const fn near_registers() -> [(u32, u8, u8); NEAR_SLOTS] {
    let mut slots = [(0, 0, 0); NEAR_SLOTS];
    let mut bit = 0;
    while bit < 8 {
        let (mut register, mut steps) = (1_u32 << bit, 1);
        while steps <= STRIDE {
            register = TABLE[(register & 0xFF) as usize] ^ (register >> 8);
            let mut slot = near_slot(register);
            while slots[slot].0 != 0 {
                slot = (slot + 1) % NEAR_SLOTS;
            }
            slots[slot] = (register, steps as u8, bit as u8);
            steps += 1;
        }
        bit += 1;
    }
    slots
}

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "const evaluation: loops are bounded by 256 and by STRIDE"
)]
const fn strides_back() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 4 {
        let mut value = 1_usize;
        while value < 256 {
            // The steps are linear: a value with several bits is the sum of values with one bit.
            let (low, rest) = (value & value.wrapping_neg(), value & (value - 1));
            tables[byte][value] = if rest == 0 {
                let (mut register, mut steps) = ((low as u32) << (8 * byte), 0);
                while steps < STRIDE {
                    let before = LOW_BYTES[(register >> 24) as usize];
                    register = (register ^ TABLE[before as usize]) << 8 | before as u32;
                    steps += 1;
                }
                register
            } else {
                tables[byte][low] ^ tables[byte][rest]
            };
            value += 1;
        }
        byte += 1;
    }
    tables
}

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "const evaluation: loops are bounded by 256"
)]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut value = n as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
}

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "const evaluation: loops are bounded"
)]
const fn field_shares() -> [[u32; 256]; 4] {
    let table = crc_table();
    let mut shares = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 4 {
        // Each bit passes through all bytes after its own. The share of a byte is the sum of those of its bits.
        let mut bit = 0;
        while bit < 8 {
            let mut register = table[1 << bit];
            let mut behind = PAGE_SIZE - 1 - CRC_OFFSET - byte;
            while behind > 0 {
                register = (register >> 8) ^ table[(register & 0xFF) as usize];
                behind -= 1;
            }
            let mut value = 0;
            while value < 256 {
                if value >> bit & 1 == 1 {
                    shares[byte][value] ^= register;
                }
                value += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    shares
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
