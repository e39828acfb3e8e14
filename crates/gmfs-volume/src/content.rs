//! The content of a file: which bytes of the region hold which bytes of the file, and what is unknown.

use std::borrow::Borrow;

use gmfs_format::model::{Inode, Piece};
use gmfs_format::native::extents::Extent;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::tables::INODE_LOST_DATA;
use gmfs_format::native::units::BlockNo;
use gmfs_io::{ReadAt, Span};

use crate::region::{Mapping, Region};
use crate::superblocks::Superblocks;

/// Why a file's content is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Descriptors are missing, so what looks like a hole may be lost data.
    #[error(
        "mappings of the file are lost ({found} of {recorded} blocks are found): bytes {hole} may be data, not a hole"
    )]
    MappingLost {
        /// How many blocks the inode records.
        recorded: u64,
        /// How many blocks name it.
        found: u64,
        /// The first range that no block holds.
        hole: Span,
    },
    /// Two blocks claim one file block.
    #[error("blocks {first} and {second} both claim place {index} of the file")]
    TwoBlocks {
        /// The file block.
        index: u32,
        /// One block.
        first: BlockNo,
        /// The other.
        second: BlockNo,
    },
    /// A block has a file block past the end of the file. If the file grew, it would have that file block twice, or
    /// with old content.
    #[error("block {block} is at place {index} of the file, which is past its end")]
    BehindEnd {
        /// The file block.
        index: u32,
        /// The block.
        block: BlockNo,
    },
}

/// Splits a whole file into pieces, in order and without gaps.
///
/// # Errors
/// [`ContentError::TwoBlocks`]: if two blocks claim one file block, the content would be a guess.
pub fn pieces(geometry: Geometry, inode: &Inode, mapping: &Mapping) -> Result<Vec<Piece>, ContentError> {
    require_distinct(mapping)?;
    let lost = has_lost(geometry, inode, mapping);
    let gap = |file| if lost { Piece::Lost { file } } else { Piece::Hole { file } };
    let block_bytes = geometry.block_bytes();
    let mut pieces = Vec::new();
    let mut next = 0_u64;
    // File blocks and counts have 32 bits, and a block has at most 2^29 bytes, so no product comes near 2^64.
    let bytes = |blocks: u32| u64::from(blocks).saturating_mul(block_bytes);
    for extent in &mapping.extents {
        let start = bytes(extent.index);
        if start >= inode.size {
            break;
        }
        pieces.extend(stretch(next, start).map(gap));
        next = start.saturating_add(bytes(extent.count));
        let at = geometry.block_offset(extent.block);
        let file = stretch(start, next.min(inode.size));
        pieces.extend(file.map(|file| Piece::Data { file, at, bad: extent.bad }));
    }
    pieces.extend(stretch(next, inode.size).map(gap));
    Ok(pieces)
}

/// The range from one offset to another, unless it is empty.
fn stretch(from: u64, to: u64) -> Option<Span> {
    to.checked_sub(from).filter(|len| *len > 0).map(|len| Span::new(from, len))
}

/// Whether what looks like a hole may be lost data. Holes are reliable only if all blocks that the file owns have been
/// found, and no repair has said otherwise. A block past the file's size may belong in the hole.
#[must_use]
pub fn has_lost(geometry: Geometry, inode: &Inode, mapping: &Mapping) -> bool {
    let spanned = u32::try_from(inode.size.div_ceil(geometry.block_bytes())).unwrap_or(u32::MAX);
    let inside = |extent: &Extent| u64::from(extent.end_index().min(spanned).saturating_sub(extent.index));
    let flagged = inode.attributes.is_some_and(|attributes| attributes.flags & INODE_LOST_DATA != 0);
    flagged || mapping.extents.iter().map(inside).sum::<u64>() < inode.blocks
}

/// Refuses a mapping in which two blocks claim one file block.
///
/// # Errors
/// [`ContentError::TwoBlocks`].
pub fn require_distinct(mapping: &Mapping) -> Result<(), ContentError> {
    for pair in mapping.extents.windows(2) {
        if let [before, extent] = pair
            && let Some(first) = before.block_at(extent.index)
        {
            return Err(ContentError::TwoBlocks { index: extent.index, first, second: extent.block });
        }
    }
    Ok(())
}

impl ContentError {
    /// The error for an inode whose mapping lacks blocks that it records.
    pub(crate) fn lost(inode: &Inode, mapping: &Mapping, hole: Span) -> Self {
        Self::MappingLost { recorded: inode.blocks, found: mapping.blocks(), hole }
    }
}

impl<S: ReadAt, B: Borrow<Superblocks>> Region<S, B> {
    /// The content of a file as pieces.
    ///
    /// # Errors
    /// Those of [`pieces`].
    pub fn content(&self, inode: &Inode) -> Result<Vec<Piece>, ContentError> {
        pieces(self.geometry(), inode, &self.mapping(inode.ino))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_format::model::Kind;
    use gmfs_format::native::units::{InodeNo, PmdShift};

    const MIB2: u64 = 2 << 20;

    fn file(size: u64, blocks: u64) -> Inode {
        let (ino, parent) = (InodeNo(2), InodeNo(1));
        Inode {
            ino,
            kind: Kind::File,
            parent,
            name: (*b"f").into(),
            size,
            size_recorded: true,
            blocks,
            attributes: None,
        }
    }

    fn mapped(extents: &[(u32, u32, u32)]) -> Mapping {
        let extent = |&(index, block, count)| Extent { index, block: BlockNo(block), count, bad: false };
        Mapping { extents: extents.iter().map(extent).collect(), lost_pages: 0 }
    }

    fn cut(size: u64, blocks: u64, extents: &[(u32, u32, u32)]) -> Result<Vec<Piece>, ContentError> {
        let geometry = Geometry::plan(64 << 20, PmdShift::M2, 64).unwrap();
        pieces(geometry, &file(size, blocks), &mapped(extents))
    }

    #[test]
    fn pieces_cover_the_file_and_end_with_it() {
        let found = cut(2 * MIB2 + 5, 2, &[(0, 3, 1), (2, 9, 1)]).unwrap();
        assert_eq!(
            found,
            [
                Piece::Data { file: Span::new(0, MIB2), at: 3 * MIB2, bad: false },
                Piece::Hole { file: Span::new(MIB2, MIB2) },
                Piece::Data { file: Span::new(2 * MIB2, 5), at: 9 * MIB2, bad: false },
            ]
        );
        assert_eq!(cut(0, 0, &[]).unwrap(), []);
        assert_eq!(cut(7, 0, &[]).unwrap(), [Piece::Hole { file: Span::new(0, 7) }]);
    }

    #[test]
    fn a_lost_mapping_is_no_hole() {
        let lost = cut(2 * MIB2, 2, &[(0, 3, 1)]).unwrap();
        assert_eq!(lost[1..], [Piece::Lost { file: Span::new(MIB2, MIB2) }]);
    }

    #[test]
    fn two_blocks_for_one_place_are_an_error() {
        let two = cut(2 * MIB2, 3, &[(0, 3, 2), (1, 9, 1)]);
        assert_eq!(two, Err(ContentError::TwoBlocks { index: 1, first: BlockNo(4), second: BlockNo(9) }));
    }

    #[test]
    fn two_blocks_for_the_last_place_are_an_error() {
        let two = cut(u64::MAX, 2, &[(u32::MAX, 3, 1), (u32::MAX, 4, 1)]);
        assert_eq!(two, Err(ContentError::TwoBlocks { index: u32::MAX, first: BlockNo(3), second: BlockNo(4) }));
    }
}
