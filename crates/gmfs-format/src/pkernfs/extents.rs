//! Where the bytes of a file are.

use super::table::{Run, Table, Value};
use super::{
    BLOCK_BYTES, BlockNo, InodeNo, Kind, Lack, Node, ReadAt, Store, TABLE_ENTRIES, block_offset, store::can_be_owned,
};

/// Where the bytes of an extent are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the region, at this offset in bytes from its start.
    Region {
        /// The offset of the first byte.
        address: u64,
    },
    /// In blocks past the end of the region, which belong to something else: a driver whose region is full hands out
    /// block numbers all the same. The bytes are not the file's.
    PastEnd {
        /// The first of the blocks.
        block: u64,
    },
    /// Nowhere: the table has no block for them, and has one for bytes that follow. Only a damaged table has such holes.
    NoBlock,
    /// Unknown: the entries of the table cannot be read.
    Unknown {
        /// Why.
        lack: Lack,
    },
    /// Unknown: the block that should hold the table (of an IOMMU file: its content) is past the end of the region, or
    /// holds metadata of another kind.
    NoTable,
}

/// Consecutive bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// Where they start in the file, in bytes.
    pub offset: u64,
    /// How many bytes: whole blocks of 2 MiB.
    pub length: u64,
    /// Where they are.
    pub place: Place,
}

/// What is known of the size of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeBound {
    /// All entries of the table are known.
    Exact,
    /// Some entries are unknown, and the inode says that the file never had so many. A region without damage has no
    /// blocks in them.
    Probable,
    /// Entries that may hold blocks are unknown.
    AtLeast,
}

/// The size of a file as far as it can be derived: to the end of its last block. pkernfs does not record the size in bytes,
/// which may be up to a block smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DerivedSize {
    /// Bytes, up to the end of the last block that is known.
    pub bytes: u64,
    /// Whether there may be more.
    pub bound: SizeBound,
}

/// The extents of a file, in the order of the file, as the table is read. What adjoins in the file and in the region is one
/// extent, so there are at most 262144.
///
/// Entries that cannot be read are extents with [`Place::Unknown`], as far as `num_mappings` of the inode says that the
/// file may have had blocks there; the unknown entries that follow are taken for empty.
pub struct Extents<'a> {
    blocks: u32,
    /// A single extent, of a file without a table.
    single: Option<Extent>,
    table: Option<Table<'a>>,
    /// Runs that were joined so far.
    pending: Option<Run>,
}

impl std::fmt::Debug for Extents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extents").field("single", &self.single).field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl<'a> Extents<'a> {
    /// No extents.
    pub(super) const fn none() -> Self {
        Self { blocks: 0, single: None, table: None, pending: None }
    }

    /// The extents of a file in the region of `blocks` blocks at `base`.
    pub(super) fn of(source: &'a dyn ReadAt, base: u64, blocks: u32, node: &Node) -> Self {
        let block = node.mappings_block;
        let none = Self { blocks, ..Self::none() };
        let most = node.num_mappings.min(TABLE_ENTRIES);
        let bytes = |blocks: u32| block_offset(BlockNo(blocks));
        match node.kind {
            Some(Kind::File) if can_be_owned(block, blocks) => {
                let table = Table::new(source, base.saturating_add(block_offset(block)), blocks, most);
                Self { table: Some(table), ..none }
            }
            Some(Kind::File) if most > 0 => {
                Self { single: Some(Extent { offset: 0, length: bytes(most), place: Place::NoTable }), ..none }
            }
            Some(Kind::IommuRootPageTables | Kind::IommuDomainPageTables) => {
                let place = if can_be_owned(block, blocks) {
                    Place::Region { address: block_offset(block) }
                } else if block.0 >= blocks {
                    Place::PastEnd { block: block.0.into() }
                } else {
                    Place::NoTable
                };
                Self { single: Some(Extent { offset: 0, length: BLOCK_BYTES, place }), ..none }
            }
            Some(Kind::File | Kind::Directory | Kind::IommuDirectory) | None => none,
        }
    }

    /// The size that follows from the extents that are left, of all of them if none was taken.
    #[must_use]
    pub fn derived_size(self) -> DerivedSize {
        self.measure().0
    }

    /// The size that follows from the extents, and how many bytes of them are in blocks of the region.
    #[must_use]
    pub fn measure(mut self) -> (DerivedSize, u64) {
        let (mut bytes, mut mapped, mut unknown) = (0, 0_u64, false);
        for extent in self.by_ref() {
            if matches!(extent.place, Place::Region { .. }) {
                mapped = mapped.saturating_add(extent.length);
            }
            match extent.place {
                Place::Region { .. } | Place::PastEnd { .. } => bytes = extent.offset.saturating_add(extent.length),
                Place::Unknown { .. } | Place::NoTable => unknown = true,
                Place::NoBlock => {}
            }
        }
        let assumed = self.table.is_some_and(|table| table.assumed);
        let bound = match (unknown, assumed) {
            (true, _) => SizeBound::AtLeast,
            (false, true) => SizeBound::Probable,
            (false, false) => SizeBound::Exact,
        };
        (DerivedSize { bytes, bound }, mapped)
    }

    /// The extent of a run.
    fn extent(&self, run: Run) -> Extent {
        let place = match run.value {
            Value::None => Place::NoBlock,
            Value::Unknown(lack) => Place::Unknown { lack },
            Value::Block(block) => match u32::try_from(block) {
                Ok(inside) if inside < self.blocks => Place::Region { address: block_offset(BlockNo(inside)) },
                _ => Place::PastEnd { block },
            },
        };
        Extent { offset: block_offset(BlockNo(run.first)), length: block_offset(BlockNo(run.count)), place }
    }
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        if let Some(single) = self.single.take() {
            return Some(single);
        }
        let blocks = self.blocks;
        while let Some(run) = self.table.as_mut().and_then(Table::next) {
            let joined = self.pending.as_mut().is_some_and(|pending| pending.extend(run, blocks));
            if !joined && let Some(done) = self.pending.replace(run) {
                return Some(self.extent(done));
            }
        }
        // Entries without a block at the end of the table are no part of the file.
        let last = self.pending.take().filter(|run| run.value != Value::None)?;
        Some(self.extent(last))
    }
}

impl Store {
    /// The size of a file, derived from its last block; that of an IOMMU file is one block. `None` for directories, and for
    /// numbers that are not in use. Reads the whole table.
    #[must_use]
    pub fn derived_size(&self, source: &dyn ReadAt, ino: InodeNo) -> Option<DerivedSize> {
        let node = self.node(ino)?;
        node.kind.filter(|kind| !kind.is_directory())?;
        Some(self.extents(source, ino).derived_size())
    }
}
