//! What becomes of files when older metadata is put back: which of them come, go, and get other blocks. Metadata is put
//! back from an undo file, or from a metadata dump.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use gmfs_format::model::{Inode, InodeNo};
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PageNo, range_len};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::census::Identity;
use gmfs_volume::superblocks::used_ranges;
use gmfs_volume::{OpenError, Region, Superblocks, rebuild};
use uuid::Uuid;

/// Why the metadata of a metadata dump is not put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The target is smaller than the region.
    #[error("the metadata is of a region of {size} bytes, which the target cannot hold")]
    Short {
        /// Size of the region in bytes.
        size: u64,
    },
    /// The target holds no region that can be opened.
    #[error(transparent)]
    NoRegion(OpenError),
    /// The target holds another region, or one with another layout.
    #[error("the metadata is of region {dumped}, the target holds {there}, or one with another layout")]
    OtherRegion {
        /// UUID of the region in the metadata dump.
        dumped: Uuid,
        /// UUID of the region in the target.
        there: Uuid,
    },
}

/// The region in the target to which the metadata of `dump` is to be put back. If `force`, that may be any region, or
/// none.
///
/// # Errors
/// [`Refused`].
pub fn region_there<S: ReadAt>(dump: &Superblocks, target: &S, force: bool) -> Result<Option<Superblocks>, Refused> {
    let (geometry, uuid) = (dump.geometry(), dump.current().uuid);
    let size = geometry.size();
    if target.end().is_some_and(|end| end < u64::from(geometry.blocks()).saturating_mul(geometry.block_bytes())) {
        return Err(Refused::Short { size });
    }
    let found = match rebuild::load_or_rebuild(target) {
        Ok(found) => found,
        Err(_) if force => return Ok(None),
        Err(error) => return Err(Refused::NoRegion(error)),
    };
    // If the target holds several regions, one of them suffices: all of them are replaced.
    let mine = |identity: &Identity| identity.uuid == uuid && identity.geometry == geometry.without_tail();
    let same = found.current().uuid == uuid && (found.geometry() == geometry || found.are_rebuilt())
        || found.rivals().iter().any(mine);
    if same || force {
        return Ok(Some(found));
    }
    Err(Refused::OtherRegion { dumped: uuid, there: found.current().uuid })
}

/// Where the metadata of `superblocks` is put back, in bytes of the region.
#[must_use]
pub fn written(superblocks: &Superblocks) -> Vec<Span> {
    let geometry = superblocks.geometry();
    let ranges = used_ranges(superblocks).into_iter().flat_map(|range| CopyId::BOTH.map(|copy| (copy, range.clone())));
    let span = |(copy, range): (CopyId, std::ops::Range<u32>)| {
        let bytes = u64::from(range_len(&range)).saturating_mul(PAGE_BYTES);
        Span::new(geometry.page_offset(copy, PageNo(range.start)), bytes)
    };
    ranges.map(span).collect()
}

/// What is compared of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its size in bytes.
    pub size: u64,
    /// How many blocks it has.
    pub blocks: u64,
    /// A number that stands for which blocks these are, and in which order.
    which: u64,
}

/// A file that is not the same before and after.
#[derive(Clone, Debug)]
pub struct Becomes {
    /// Its path, or `inode N` where no path leads to it.
    pub path: Vec<u8>,
    /// How it was, if it was there.
    pub before: Option<File>,
    /// How it will be, if it will be there.
    pub after: Option<File>,
}

impl Becomes {
    /// Whether it will have other blocks than it has.
    #[must_use]
    pub fn has_other_blocks(&self) -> bool {
        let blocks = |file: &Option<File>| file.map(|file| (file.blocks, file.which));
        blocks(&self.before) != blocks(&self.after)
    }
}

/// The files that are not the same in the region before and in the region after: first those that are there afterwards.
pub fn compare<B: ReadAt, A: ReadAt>(before: &Region<B>, after: &Region<A>) -> Vec<Becomes> {
    let (mut now, then) = (files(before), files(after));
    let mut list = Vec::new();
    for (path, to) in then {
        let from = now.remove(&path);
        if from != Some(to) {
            list.push(Becomes { path, before: from, after: Some(to) });
        }
    }
    list.extend(now.into_iter().map(|(path, from)| Becomes { path, before: Some(from), after: None }));
    list
}

/// Files by their path. Memory grows with the number of files, and not with the number of their blocks.
fn files<S: ReadAt>(region: &Region<S>) -> BTreeMap<Vec<u8>, File> {
    let tree = region.inodes().tree;
    let mut mappings: BTreeMap<InodeNo, (u64, u64)> = BTreeMap::new();
    region.descriptors(|block, entry| {
        if entry.is_mapping() {
            let mut hasher = DefaultHasher::new();
            (entry.index.get(), block.0, entry.state).hash(&mut hasher);
            let (count, sum) = mappings.entry(entry.owner()).or_default();
            *count = count.saturating_add(1);
            *sum = sum.wrapping_add(hasher.finish());
        }
    });
    let path = |ino| tree.path(ino).unwrap_or_else(|| format!("inode {ino}").into_bytes());
    let blocks = |ino| mappings.get(&ino).copied().unwrap_or_default();
    let file = |inode: &Inode| {
        let (blocks, which) = blocks(inode.ino);
        File { size: inode.size, blocks, which }
    };
    tree.inodes().map(|inode| (path(inode.ino), file(inode))).collect()
}
