//! Where the structures of a region are. This follows from region size, block size and inode count alone.

use std::ops::Range;

use crate::native::raw::{BLOCKS_PER_PAGE, INODES_PER_PAGE};
use crate::native::seal::PageKind;
use crate::native::units::{BlockNo, CopyId, InodeNo, PAGE_BYTES, PageNo, PmdShift, to_u32};

/// The maximum number of inodes of a region. A region holds a few large files, and the bound keeps the memory of a
/// check small.
pub const MAX_INODES: u32 = 1 << 20;
/// The minimum number of blocks of a region: two copies and one data block.
pub const MIN_BLOCKS: u32 = 3;

/// Why no region can have these sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// There are too few blocks for two copies of the metadata and a data block.
    #[error(
        "a region of {size} bytes is too small: with {inodes} inodes and blocks of {block_bytes} bytes it needs at least {needed} bytes"
    )]
    TooSmall {
        /// The size that was asked for, in bytes.
        size: u64,
        /// The inode count that was asked for.
        inodes: u32,
        /// Block size in bytes.
        block_bytes: u64,
        /// The minimum size in bytes.
        needed: u64,
    },
    /// There are more blocks than a block number can count.
    #[error("a region of {size} bytes has more blocks of {block_bytes} bytes than the format can number (2^32 - 2)")]
    TooLarge {
        /// The size that was asked for, in bytes.
        size: u64,
        /// Block size in bytes.
        block_bytes: u64,
    },
    /// The inode count is 0, or more than [`MAX_INODES`].
    #[error("the inode count is {0}; it must be from 1 to {MAX_INODES}")]
    Inodes(u64),
}

/// The layout of a region. Its fields are consistent by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pmd: PmdShift,
    size: u64,
    blocks: u32,
    metadata_blocks: u32,
    table_pages: u32,
    inodes: u32,
}

impl Geometry {
    /// Plans a region of `size` bytes, with the smallest metadata that has room for `inodes` inodes.
    ///
    /// # Errors
    /// [`GeometryError`].
    pub fn plan(size: u64, pmd: PmdShift, inodes: u32) -> Result<Self, GeometryError> {
        if inodes == 0 || inodes > MAX_INODES {
            return Err(GeometryError::Inodes(inodes.into()));
        }
        let block_bytes = pmd.block_bytes();
        let blocks = size >> pmd.bits();
        let blocks = u32::try_from(blocks)
            .ok()
            .filter(|blocks| *blocks < u32::MAX)
            .ok_or(GeometryError::TooLarge { size, block_bytes })?;
        // More metadata means fewer data blocks, and these need a smaller table. So the loop ends after a few rounds.
        let mut metadata_blocks: u32 = 1;
        loop {
            let data = blocks.saturating_sub(metadata_blocks.saturating_mul(2));
            let table_pages = data.div_ceil(BLOCKS_PER_PAGE);
            let planned = Self { pmd, size, blocks, metadata_blocks, table_pages, inodes };
            let needed = to_u32(planned.pages().saturating_mul(PAGE_BYTES).div_ceil(block_bytes));
            if data == 0 {
                let needed = u64::from(needed.max(metadata_blocks)).saturating_mul(2).saturating_add(1);
                let needed = needed.saturating_mul(block_bytes);
                return Err(GeometryError::TooSmall { size, inodes, block_bytes, needed });
            }
            if needed <= metadata_blocks {
                return Ok(planned);
            }
            metadata_blocks = needed;
        }
    }

    /// The default inode count of a region: one for every 16 blocks, from 1,024 to 65,536.
    #[must_use]
    pub fn default_inodes(size: u64, pmd: PmdShift) -> u32 {
        let blocks = size >> pmd.bits();
        to_u32((blocks / 16).clamp(1024, 65536)).next_multiple_of(INODES_PER_PAGE)
    }

    /// The layout with these recorded numbers, if they are consistent. The region may have more metadata blocks than it
    /// needs, but the tables must fit into them and must cover all data blocks and inodes.
    #[must_use]
    pub fn recorded(size: u64, pmd: PmdShift, metadata_blocks: u64, inodes: u32) -> Option<Self> {
        let blocks = u32::try_from(size >> pmd.bits()).ok().filter(|n| (MIN_BLOCKS..u32::MAX).contains(n))?;
        let metadata_blocks = u32::try_from(metadata_blocks).ok().filter(|m| *m > 0)?;
        let data = blocks.checked_sub(metadata_blocks.checked_mul(2)?).filter(|d| *d > 0)?;
        if inodes == 0 || inodes > MAX_INODES {
            return None;
        }
        let table_pages = data.div_ceil(BLOCKS_PER_PAGE);
        let geometry = Self { pmd, size, blocks, metadata_blocks, table_pages, inodes };
        let room = u64::from(metadata_blocks).saturating_mul(pmd.block_bytes());
        (geometry.pages().saturating_mul(PAGE_BYTES) <= room).then_some(geometry)
    }

    /// The same layout without the bytes past the last whole block. Pages record the layout in this form.
    #[must_use]
    pub fn without_tail(self) -> Self {
        Self { size: self.size.saturating_sub(self.tail()), ..self }
    }

    /// The block size.
    #[must_use]
    pub const fn pmd(&self) -> PmdShift {
        self.pmd
    }

    /// The block size in bytes.
    #[must_use]
    pub const fn block_bytes(&self) -> u64 {
        self.pmd.block_bytes()
    }

    /// The size of the region in bytes, including the tail.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The number of bytes past the last whole block, which are not used.
    #[must_use]
    pub const fn tail(&self) -> u64 {
        self.pmd.split(self.size).1
    }

    /// N: blocks in the region.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// M: blocks of one metadata copy.
    #[must_use]
    pub const fn metadata_blocks(&self) -> u32 {
        self.metadata_blocks
    }

    /// D: data blocks.
    #[must_use]
    pub fn data_blocks(&self) -> u32 {
        self.blocks.saturating_sub(self.metadata_blocks.saturating_mul(2))
    }

    /// T: pages of the block table.
    #[must_use]
    pub const fn table_pages(&self) -> u32 {
        self.table_pages
    }

    /// I: pages of the inode table.
    #[must_use]
    pub fn inode_pages(&self) -> u32 {
        self.inodes.div_ceil(INODES_PER_PAGE)
    }

    /// Inodes in the table.
    #[must_use]
    pub const fn inodes(&self) -> u32 {
        self.inodes
    }

    /// Metadata pages of one copy: superblock and both tables.
    #[must_use]
    pub fn pages(&self) -> u64 {
        u64::from(self.table_pages).saturating_add(u64::from(self.inode_pages())).saturating_add(1)
    }

    /// The offset of a copy in the region.
    #[must_use]
    pub fn copy_offset(&self, copy: CopyId) -> u64 {
        match copy {
            CopyId::A => 0,
            CopyId::B => self.block_offset(BlockNo(self.blocks.saturating_sub(self.metadata_blocks))),
        }
    }

    /// The offset of a metadata page in the region.
    #[must_use]
    pub fn page_offset(&self, copy: CopyId, page: PageNo) -> u64 {
        self.copy_offset(copy).saturating_add(u64::from(page.0).saturating_mul(PAGE_BYTES))
    }

    /// The ranges of both copies of the metadata, in bytes.
    #[must_use]
    pub fn metadata(&self) -> [Range<u64>; 2] {
        let length = u64::from(self.metadata_blocks).saturating_mul(self.block_bytes());
        CopyId::BOTH.map(|copy| {
            let start = self.copy_offset(copy);
            start..start.saturating_add(length)
        })
    }

    /// The copy and page at an offset, if a metadata page starts there. This is the reverse of
    /// [`page_offset`](Self::page_offset).
    #[must_use]
    pub fn page_at(&self, offset: u64) -> Option<(CopyId, PageNo)> {
        CopyId::BOTH.into_iter().find_map(|copy| {
            let inside = offset.checked_sub(self.copy_offset(copy))?;
            let page = PageNo(u32::try_from(inside / PAGE_BYTES).ok()?);
            (inside.is_multiple_of(PAGE_BYTES) && u64::from(page.0) < self.pages()).then_some((copy, page))
        })
    }

    /// The offset of a block in the region.
    #[must_use]
    pub fn block_offset(&self, block: BlockNo) -> u64 {
        u64::from(block.0).saturating_mul(self.block_bytes())
    }

    /// The kind of the page with this number, or `None` past the last page.
    #[must_use]
    pub fn page_kind(&self, page: PageNo) -> Option<PageKind> {
        match u64::from(page.0) {
            0 => Some(PageKind::Superblock),
            n if n <= u64::from(self.table_pages) => Some(PageKind::BlockTable),
            n if n < self.pages() => Some(PageKind::InodeTable),
            _ => None,
        }
    }

    /// The number of a table page in its table, counted from 1: the lowest mark that covers the page. 0 for the
    /// superblock.
    #[must_use]
    pub fn number_in_table(&self, page: PageNo) -> u32 {
        page.0.checked_sub(self.table_pages).filter(|number| *number > 0).unwrap_or(page.0)
    }

    /// The first page of the block table.
    #[must_use]
    pub const fn first_table_page(&self) -> PageNo {
        PageNo(1)
    }

    /// The first page of the inode table.
    #[must_use]
    pub const fn first_inode_page(&self) -> PageNo {
        PageNo(self.table_pages.saturating_add(1))
    }

    /// The first data block.
    #[must_use]
    pub const fn first_data(&self) -> BlockNo {
        BlockNo(self.metadata_blocks)
    }

    /// One past the last data block.
    #[must_use]
    pub const fn end_data(&self) -> BlockNo {
        BlockNo(self.blocks.saturating_sub(self.metadata_blocks))
    }

    /// Whether a block is a data block.
    #[must_use]
    pub fn is_data(&self, block: BlockNo) -> bool {
        block >= self.first_data() && block < self.end_data()
    }

    /// The page with the descriptor of a data block, and its index in that page; `None` for other blocks.
    #[must_use]
    pub fn descriptor_place(&self, block: BlockNo) -> Option<(PageNo, usize)> {
        let k = block.0.checked_sub(self.metadata_blocks).filter(|_| self.is_data(block))?;
        let slot = usize::try_from(k % BLOCKS_PER_PAGE).ok()?;
        Some((PageNo((k / BLOCKS_PER_PAGE).saturating_add(1)), slot))
    }

    /// The first block that a page of the block table describes. Meaningful for pages of that kind only.
    #[must_use]
    pub fn first_block_of(&self, page: PageNo) -> BlockNo {
        let k = page.0.saturating_sub(1).saturating_mul(BLOCKS_PER_PAGE);
        BlockNo(self.metadata_blocks.saturating_add(k))
    }

    /// The page with an inode, and its index in that page; `None` for numbers that the table does not have.
    #[must_use]
    pub fn inode_place(&self, ino: InodeNo) -> Option<(PageNo, usize)> {
        let k = ino.0.checked_sub(1).filter(|_| ino.0 <= self.inodes)?;
        let slot = usize::try_from(k % INODES_PER_PAGE).ok()?;
        Some((PageNo(self.first_inode_page().0.saturating_add(k / INODES_PER_PAGE)), slot))
    }

    /// The first inode of a page of the inode table. Meaningful for pages of that kind only.
    #[must_use]
    pub fn first_inode_of(&self, page: PageNo) -> InodeNo {
        let k = page.0.saturating_sub(self.first_inode_page().0).saturating_mul(INODES_PER_PAGE);
        InodeNo(k.saturating_add(1))
    }

    /// How many blocks a file of `size` bytes has, or `None` if there are more than a file block number can count.
    #[must_use]
    pub fn file_blocks(&self, size: u64) -> Option<u32> {
        u32::try_from(size.div_ceil(self.block_bytes())).ok()
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
