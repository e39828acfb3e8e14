//! Finds what is not formatted unless the user insists: anything that somebody may still want.

use gmfs_format::Layout;
use gmfs_format::native::seal::{PageKind, SealFault, claim};
use gmfs_format::native::superblock::{MAGIC, Superblock, SuperblockFault};
use gmfs_format::native::units::{CopyId, PAGE_SIZE, PageBytes};
use gmfs_image::{Kind, foreign};
use gmfs_io::ReadAt;
use gmfs_io::num::{len64, small};
use gmfs_volume::{OpenError, Superblocks};
use uuid::Uuid;

use super::BlockSize;

/// How many bytes of a file are read before it counts as empty: half of them from its first data on, the rest in parts
/// of its further stretches of data.
const LOOKED_AT: u64 = 4 << 20;
/// How many of them in each stretch of data.
const PER_STRETCH: u64 = 64 << 10;
/// How many blocks of 2 MiB at the end are searched for a superblock of another format version.
const LAST_BLOCKS: u64 = 64;

/// What a target holds already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Holds {
    /// A region.
    #[error("it holds a guestmemfs region already: {size} bytes, UUID {uuid}, {used_inodes} inodes used")]
    Region {
        /// Its size in bytes.
        size: u64,
        /// Its UUID.
        uuid: Uuid,
        /// Its label.
        label: Vec<u8>,
        /// Its inodes in use.
        used_inodes: u64,
    },
    /// A region whose superblocks are both lost.
    #[error("it holds a damaged guestmemfs region: {size} bytes, UUID {uuid}; both superblocks are lost")]
    SuperblocksLost {
        /// Its size in bytes.
        size: u64,
        /// Its UUID.
        uuid: Uuid,
    },
    /// A region of a format version that this program cannot read.
    #[error("it holds a gmfs region of format version {0}, which this gmfs cannot read")]
    OtherVersion(u16),
    /// A superblock that cannot be used.
    #[error("it holds a damaged guestmemfs region: there is a superblock that cannot be used")]
    Superblock,
    /// A store of another layout.
    #[error("it holds a store of {0} already")]
    Layout(Layout),
    /// A filesystem, a dump, or something else that has a mark.
    #[error("it holds something else already: {name}, marked at offset {offset:#x}")]
    Other {
        /// What it is.
        name: &'static str,
        /// Where its mark is.
        offset: u64,
    },
    /// Bytes that are not zero.
    #[error("it holds data: the first byte that is not zero is at offset {0:#x}")]
    Data(u64),
}

/// What there is in `source`, which has `end` bytes, if it is something that somebody may still want.
pub(super) fn find(source: &dyn ReadAt, kind: Kind, end: u64) -> Option<Holds> {
    // A file that is one hole holds nothing.
    if matches!(source.next_data(0..end), Ok(None)) {
        return None;
    }
    region(source)
        .or_else(|| crate::store::other_layout(source).map(Holds::Layout))
        .or_else(|| foreign::identify(source).map(|found| Holds::Other { name: found.name, offset: found.offset }))
        // Memory is never all zero, and devices need not be.
        .or_else(|| if kind == Kind::File { data(source, end) } else { None })
}

/// What is, or was, a region.
fn region(source: &dyn ReadAt) -> Option<Holds> {
    match Superblocks::load_any(source, None) {
        Ok(found) => {
            let (size, uuid) = (found.geometry().size(), found.current().uuid);
            if found.are_rebuilt() {
                return Some(Holds::SuperblocksLost { size, uuid });
            }
            let superblock = found.current();
            let label = superblock.label().to_vec();
            Some(Holds::Region { size, uuid, label, used_inodes: superblock.raw.used_inodes.get() })
        }
        Err(OpenError::NoRegion { .. }) => other_version(source)
            .map(Holds::OtherVersion)
            .or_else(|| if looks_like_one(source) { Some(Holds::Superblock) } else { None }),
        Err(_) => None,
    }
}

/// Whether the payload of a page begins like that of a superblock.
fn has_magic(page: &PageBytes) -> bool {
    page.get(64..72).is_some_and(|bytes| bytes == MAGIC)
}

/// The format version of a superblock that is sealed and that this program does not read: at the start, where copy A
/// is, or at the start of one of the last blocks, where copy B is.
fn other_version(source: &dyn ReadAt) -> Option<u16> {
    let (blocks, _) = BlockSize::M2.split(source.end().unwrap_or(0));
    let last = (1..=LAST_BLOCKS).map_while(|n| blocks.checked_sub(n));
    let mut page = [0; PAGE_SIZE];
    std::iter::once(0).chain(last).find_map(|block: u64| {
        source.read_at(block.saturating_mul(BlockSize::M2.block_bytes()), &mut page).ok()?;
        match Superblock::read(&page, CopyId::A) {
            Err(SuperblockFault::Seal(SealFault::Version(version))) if has_magic(&page) => Some(version),
            _ => None,
        }
    })
}

/// Whether the first page looks like a page of a region, by its magics.
fn looks_like_one(source: &dyn ReadAt) -> bool {
    let mut page = [0; PAGE_SIZE];
    let read = source.read_at(0, &mut page).is_ok();
    read && (has_magic(&page) || claim(&page).is_some() || page.starts_with(&PageKind::Superblock.magic()))
}

/// The first byte of a file that is not zero, if a bounded search finds one.
fn data(source: &dyn ReadAt, end: u64) -> Option<Holds> {
    let mut left = LOOKED_AT;
    let mut at = 0;
    let mut buf = vec![0; small(PER_STRETCH)];
    while left > 0 && at < end {
        let stretch = source.next_data(at..end).ok()??;
        let stretch = stretch.start.max(at)..stretch.end.min(end);
        let length = stretch.end.saturating_sub(stretch.start).min(PER_STRETCH).min(left);
        let part = buf.get_mut(..small(length)).filter(|part| !part.is_empty())?;
        source.read_at(stretch.start, part).ok()?;
        if let Some(place) = part.iter().position(|byte| *byte != 0) {
            return Some(Holds::Data(stretch.start.saturating_add(len64(place))));
        }
        left = left.saturating_sub(length);
        // The first half of the bytes is read from the beginning on, the rest in a part of each stretch.
        at = if left > LOOKED_AT >> 1 { stretch.start.saturating_add(length) } else { stretch.end };
    }
    None
}
