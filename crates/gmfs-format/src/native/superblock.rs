//! The meaning of a superblock, after its seal has been checked.

use uuid::Uuid;

use crate::native::features::Features;
use crate::native::geometry::Geometry;
use crate::native::raw::{PageHeader, SuperblockPage, SuperblockRaw};
use crate::native::seal::{self, PageKind, Place, SealFault};
use crate::native::sum::{GROUPS, Marks, Sum, Trailer};
use crate::native::units::{CopyId, Generation, InodeNo, PAGE_SIZE, PageBytes, PageNo, PmdShift, len64};

/// The eight bytes that follow the page header in every superblock.
pub const MAGIC: [u8; 8] = *b"gmfs-rgn";
/// The version of the region format.
pub const VERSION: u32 = 2;
/// The maximum length of a label in bytes.
pub const MAX_LABEL: usize = 63;

/// State flag: the last writer ended its session.
pub const STATE_CLEAN: u32 = 1;
/// State flag: a writer is at work, or was stopped.
pub const STATE_ACTIVE: u32 = 2;
/// State flag: the contents have been sealed, and have not been changed since.
pub const STATE_SEALED: u32 = 4;
/// All state flags that are defined.
pub const STATE_FLAGS: u32 = STATE_CLEAN | STATE_ACTIVE | STATE_SEALED;

/// Why a page cannot be used as a superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockFault {
    /// The page's seal is not good.
    #[error("the page is {0}")]
    Seal(SealFault),
    /// The seal is good, but the region magic is missing.
    #[error("the region magic is missing")]
    Magic,
    /// The format version is unknown.
    #[error("the region has format version {0}; gmfs knows only version {VERSION}")]
    Version(u32),
    /// The PMD size does not exist.
    #[error("the PMD shift is {0}; it must be 21, 25 or 29")]
    PmdShift(u8),
    /// Size, metadata blocks and inode count are not consistent.
    #[error("a region of {size} bytes with {metadata_blocks} metadata blocks a copy and {inodes} inodes cannot exist")]
    Impossible {
        /// The recorded region size in bytes.
        size: u64,
        /// The recorded M.
        metadata_blocks: u64,
        /// The recorded inode count.
        inodes: u32,
    },
    /// The value of a field contradicts those from which it follows.
    #[error("{field} is {found}; by the region's size and inode count it must be {expected}")]
    Derived {
        /// The field's name in [`SuperblockRaw`].
        field: &'static str,
        /// The recorded value.
        found: u64,
        /// The value that it must have.
        expected: u64,
    },
    /// A high-water mark is past the end of its table.
    #[error("{field} is {found}; the table has {table} pages")]
    Mark {
        /// The field's name in [`SuperblockRaw`].
        field: &'static str,
        /// The recorded value.
        found: u64,
        /// The number of pages of that table.
        table: u64,
    },
    /// The root directory is not inode 1.
    #[error("the root directory is inode {0}; it must be inode 1")]
    Root(u32),
    /// The marks in the trailer differ from those in the superblock's fields.
    #[error("the high-water marks in its trailer differ from those in its fields")]
    Trailer,
    /// The other copy, which is used, has another layout.
    #[error("its layout of the region differs from that of the other copy")]
    Disagrees,
}

/// A superblock with a good seal and a consistent structure, with all of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Every byte of the payload.
    pub raw: SuperblockRaw,
    /// The UUID of the region.
    pub uuid: Uuid,
    /// The region's birth.
    pub birth: u64,
    /// The commit that wrote it.
    pub generation: Generation,
    /// The sum over all table pages before the marks, after that commit.
    pub sum: Sum,
    geometry: Geometry,
}

impl Superblock {
    /// Reads page 0 of a copy.
    ///
    /// # Errors
    /// The broken seal, or the first fault in the structure. Counts, flags and times are not checked here; the checker
    /// does that.
    pub fn read(page: &PageBytes, copy: CopyId) -> Result<Self, SuperblockFault> {
        let uuid = Uuid::from_bytes(PageHeader::of(page).uuid);
        let identity = seal::check_identity(page, PageKind::Superblock, copy, PageNo(0), uuid);
        let generation = identity.map_err(SuperblockFault::Seal)?;
        let raw = SuperblockPage::view(page).superblock;
        let geometry = geometry_of(&raw)?;
        seal::check_layout(page, geometry).map_err(SuperblockFault::Seal)?;
        let Trailer { birth, marks, sum } = Trailer::of(page);
        let superblock = Self { raw, uuid, birth, generation, sum, geometry };
        if superblock.marks() == marks { Ok(superblock) } else { Err(SuperblockFault::Trailer) }
    }

    /// A superblock with these contents instead of its own.
    ///
    /// # Errors
    /// The first fault in the structure of the contents.
    pub fn with_raw(&self, raw: SuperblockRaw) -> Result<Self, SuperblockFault> {
        let geometry = geometry_of(&raw)?;
        Ok(Self { raw, geometry, ..self.clone() })
    }

    /// A new superblock for a region of this layout: all blocks free, no inodes, no times.
    #[must_use]
    pub fn new(geometry: Geometry, uuid: Uuid, birth: u64, generation: Generation) -> Self {
        let mut raw: SuperblockRaw = zerocopy::FromZeros::new_zeroed();
        raw.magic = MAGIC;
        raw.version = VERSION.into();
        raw.pmd_shift = geometry.pmd().bits();
        raw.region_size = geometry.size().into();
        raw.blocks = u64::from(geometry.blocks()).into();
        raw.metadata_blocks = u64::from(geometry.metadata_blocks()).into();
        raw.table_pages = u64::from(geometry.table_pages()).into();
        raw.inode_pages = u64::from(geometry.inode_pages()).into();
        raw.inodes = geometry.inodes().into();
        raw.root_inode = InodeNo::ROOT.0.into();
        raw.free_blocks = u64::from(geometry.data_blocks()).into();
        raw.state = STATE_CLEAN.into();
        Self { raw, uuid, birth, generation, sum: Sum::default(), geometry }
    }

    /// The sealed page of this superblock for a copy.
    #[must_use]
    pub fn page(&self, copy: CopyId) -> PageBytes {
        let mut page = [0; PAGE_SIZE];
        SuperblockPage::view_mut(&mut page).superblock = self.raw;
        self.trailer().write(&mut page);
        let (uuid, birth, geometry) = (self.uuid, self.birth, self.geometry);
        let place = Place { kind: PageKind::Superblock, copy, page: PageNo(0), uuid, birth, geometry };
        seal::seal(&mut page, &place, self.generation);
        page
    }

    /// The trailer of the pages that are written together with this superblock.
    #[must_use]
    pub fn trailer(&self) -> Trailer {
        Trailer { birth: self.birth, marks: self.marks(), sum: self.sum }
    }

    /// The high-water marks.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let small = |mark: zerocopy::little_endian::U64| crate::native::units::to_u32(mark.get());
        Marks { table: small(self.raw.table_used), inodes: small(self.raw.inodes_used_pages) }
    }

    /// Sets the high-water marks.
    pub fn set_marks(&mut self, marks: Marks) {
        self.raw.table_used = u64::from(marks.table).into();
        self.raw.inodes_used_pages = u64::from(marks.inodes).into();
    }

    /// The sum over the pages of each group.
    #[must_use]
    pub fn group_sums(&self) -> [Sum; GROUPS] {
        self.raw.group_sums.map(|[first, second]| Sum { first: first.get(), second: second.get() })
    }

    /// Sets the sums of the groups, and the sum over all pages.
    pub fn set_group_sums(&mut self, sums: &[Sum; GROUPS]) {
        self.raw.group_sums = sums.map(|sum| [sum.first.into(), sum.second.into()]);
        self.sum = sums.iter().fold(Sum::default(), |all, sum| all + *sum);
    }

    /// The region's layout.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The feature masks.
    #[must_use]
    pub fn features(&self) -> Features {
        Features {
            compat: self.raw.feature_compat.get(),
            ro_compat: self.raw.feature_ro_compat.get(),
            incompat: self.raw.feature_incompat.get(),
        }
    }

    /// The label, up to the first NUL. In a damaged region it may not be UTF-8.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        until_nul(&self.raw.label)
    }

    /// The writer's name and version, up to the first NUL.
    #[must_use]
    pub fn writer(&self) -> &[u8] {
        until_nul(&self.raw.writer)
    }

    /// The pages of the block table that have been written.
    #[must_use]
    pub fn used_table_pages(&self) -> std::ops::Range<u32> {
        let first = self.geometry.first_table_page().0;
        first..first.saturating_add(crate::native::units::to_u32(self.raw.table_used.get()))
    }

    /// The pages of the inode table that have been written.
    #[must_use]
    pub fn used_inode_pages(&self) -> std::ops::Range<u32> {
        let first = self.geometry.first_inode_page().0;
        first..first.saturating_add(crate::native::units::to_u32(self.raw.inodes_used_pages.get()))
    }

    /// Metadata pages of one copy that are in use, superblock included.
    #[must_use]
    pub fn used_pages(&self) -> u64 {
        self.raw.table_used.get().saturating_add(self.raw.inodes_used_pages.get()).saturating_add(1)
    }
}

/// A text field of fixed size, up to its first NUL.
fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// `text` as a field of fixed size. It is cut if necessary, and padded with at least one NUL.
#[must_use]
pub fn text_field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    for (place, byte) in field.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *place = byte;
    }
    field
}

/// The layout that a superblock records, if its numbers are consistent.
fn geometry_of(raw: &SuperblockRaw) -> Result<Geometry, SuperblockFault> {
    if raw.magic != MAGIC {
        return Err(SuperblockFault::Magic);
    }
    if raw.version.get() != VERSION {
        return Err(SuperblockFault::Version(raw.version.get()));
    }
    let pmd = PmdShift::from_bits(raw.pmd_shift).ok_or(SuperblockFault::PmdShift(raw.pmd_shift))?;
    let (size, metadata_blocks, inodes) = (raw.region_size.get(), raw.metadata_blocks.get(), raw.inodes.get());
    let geometry = Geometry::recorded(size, pmd, metadata_blocks, inodes).ok_or(SuperblockFault::Impossible {
        size,
        metadata_blocks,
        inodes,
    })?;
    let derived = [
        ("blocks", raw.blocks.get(), geometry.blocks()),
        ("table_pages", raw.table_pages.get(), geometry.table_pages()),
        ("inode_pages", raw.inode_pages.get(), geometry.inode_pages()),
    ];
    for (field, found, expected) in derived {
        if found != u64::from(expected) {
            return Err(SuperblockFault::Derived { field, found, expected: expected.into() });
        }
    }
    let marks = [
        ("table_used", raw.table_used.get(), geometry.table_pages()),
        ("inodes_used_pages", raw.inodes_used_pages.get(), geometry.inode_pages()),
    ];
    for (field, found, table) in marks {
        if found > u64::from(table) {
            return Err(SuperblockFault::Mark { field, found, table: table.into() });
        }
    }
    match InodeNo(raw.root_inode.get()) {
        InodeNo::ROOT => Ok(geometry),
        other => Err(SuperblockFault::Root(other.0)),
    }
}

/// Checks that `label` fits and has no control characters.
///
/// # Errors
/// [`LabelError`].
pub fn check_label(label: &str) -> Result<(), LabelError> {
    if label.len() > MAX_LABEL {
        return Err(LabelError::TooLong(len64(label.len())));
    }
    if label.chars().any(char::is_control) {
        return Err(LabelError::Control);
    }
    Ok(())
}

/// Why a text cannot be a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The label has more than [`MAX_LABEL`] bytes.
    #[error("the label has {0} bytes; it may have at most {MAX_LABEL}")]
    TooLong(u64),
    /// The label contains a control character.
    #[error("the label contains a control character")]
    Control,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Superblock {
        let geometry = Geometry::plan(64 << 20, PmdShift::M2, 1024).unwrap();
        Superblock::new(geometry, Uuid::from_u128(7), 9, Generation(1))
    }

    /// Reads a superblock whose payload was changed before it was sealed: false values with a good seal.
    fn lying(change: impl FnOnce(&mut SuperblockRaw)) -> Result<Superblock, SuperblockFault> {
        let mut sb = fresh();
        change(&mut sb.raw);
        Superblock::read(&sb.page(CopyId::A), CopyId::A)
    }

    #[test]
    fn a_superblock_reads_back() {
        let sb = fresh();
        for copy in CopyId::BOTH {
            assert_eq!(Superblock::read(&sb.page(copy), copy), Ok(sb.clone()));
        }
        assert!(matches!(Superblock::read(&sb.page(CopyId::A), CopyId::B), Err(SuperblockFault::Seal(_))));
    }

    #[test]
    fn lies_under_a_good_seal_are_named() {
        assert_eq!(lying(|raw| raw.magic = *b"gmfs-xxx"), Err(SuperblockFault::Magic));
        assert_eq!(lying(|raw| raw.version = 9.into()), Err(SuperblockFault::Version(9)));
        for shift in [0, 12, 22, 63, 255] {
            assert_eq!(lying(|raw| raw.pmd_shift = shift), Err(SuperblockFault::PmdShift(shift)));
        }
        for size in [0, 1, 1 << 63, u64::MAX] {
            assert!(matches!(lying(|raw| raw.region_size = size.into()), Err(SuperblockFault::Impossible { .. })));
        }
        assert!(matches!(lying(|raw| raw.blocks = 0.into()), Err(SuperblockFault::Derived { field: "blocks", .. })));
        assert!(matches!(lying(|raw| raw.table_used = 99.into()), Err(SuperblockFault::Mark { .. })));
        assert!(matches!(lying(|raw| raw.inodes = u32::MAX.into()), Err(SuperblockFault::Impossible { .. })));
        assert_eq!(lying(|raw| raw.root_inode = 2.into()), Err(SuperblockFault::Root(2)));
    }

    #[test]
    fn labels() {
        assert_eq!(check_label("guests"), Ok(()));
        assert_eq!(check_label(&"x".repeat(64)), Err(LabelError::TooLong(64)));
        assert_eq!(check_label("a\nb"), Err(LabelError::Control));
        assert_eq!(until_nul(&text_field::<8>("too long for it")), b"too lon");
    }
}
