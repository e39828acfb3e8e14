//! The inode store: all inodes, and which of them are unknown.

use std::collections::BTreeMap;

use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{
    GHOST, GHOST_LINK, GHOST_OFFSET, INODE_BYTES, INODES, INODES_OFFSET, InodeNo, InodeRaw, Lack, PAGE_BYTES, ReadAt,
    len64, small, to_u32, to_usize,
};
use crate::reading::read_pages;

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The chain ends here.
    End,
    /// To an inode: one of the store but not the root, or the ghost.
    To(InodeNo),
    /// Nowhere: the value is no number of an inode, or the root's.
    Bad(u64),
}

impl Link {
    /// What the value of a link means.
    pub(super) fn of(value: u64) -> Self {
        match (value, u32::try_from(value)) {
            (0, _) => Self::End,
            (GHOST_LINK, _) => Self::To(GHOST),
            (_, Ok(ino @ 2..=INODES)) => Self::To(InodeNo(ino)),
            _ => Self::Bad(value),
        }
    }
}

/// All inodes of a region.
#[derive(Debug)]
pub(super) struct Inodes {
    /// In the order of their numbers, from 1. Bytes that could not be read are zero.
    store: Box<[InodeRaw]>,
    /// The pages of the store that could not be read.
    missing: BTreeMap<u32, Lack>,
    ghost: Result<InodeRaw, Lack>,
}

impl Inodes {
    /// Reads the inode store and the ghost of the region at `base`.
    pub(super) fn read(source: &dyn ReadAt, base: u64) -> Self {
        let mut store: Box<[InodeRaw]> = vec![InodeRaw::new_zeroed(); to_usize(INODES)].into();
        let mut missing = BTreeMap::new();
        read_pages(source, base.saturating_add(INODES_OFFSET), store.as_mut_bytes(), |page, lack| {
            missing.insert(page, lack);
        });
        let mut ghost = InodeRaw::new_zeroed();
        let read = source.read_at(base.saturating_add(GHOST_OFFSET), ghost.as_mut_bytes());
        let ghost = read.map(|()| ghost).map_err(|error| Lack::from(&error));
        Self { store, missing, ghost }
    }

    /// An inode, or why it is unknown. `None` if there is no inode with that number.
    pub(super) fn get(&self, ino: InodeNo) -> Option<Result<&InodeRaw, Lack>> {
        if ino == GHOST {
            return Some(self.ghost.as_ref().map_err(|lack| *lack));
        }
        let position = ino.position()?;
        let inode = self.store.get(position)?;
        Some(self.lack_at(position).map_or(Ok(inode), Err))
    }

    /// Why the inode at a position is unknown: one of its pages is.
    fn lack_at(&self, position: usize) -> Option<Lack> {
        if self.missing.is_empty() {
            return None;
        }
        let page = |byte: u64| to_u32(byte.checked_div(PAGE_BYTES).unwrap_or_default());
        let start = len64(position).saturating_mul(INODE_BYTES);
        let last = start.saturating_add(INODE_BYTES).saturating_sub(1);
        self.missing.range(page(start)..=page(last)).next().map(|(_, lack)| *lack)
    }

    /// All inodes of the store in the order of their numbers, without the ghost.
    pub(super) fn all(&self) -> impl Iterator<Item = (InodeNo, Result<&InodeRaw, Lack>)> {
        (1..=INODES).map(InodeNo).filter_map(|ino| Some((ino, self.get(ino)?)))
    }

    /// The inodes in use, the ghost included, the root not: all whose flags are not 0.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (InodeNo, &InodeRaw)> {
        let ghost = self.get(GHOST).map(|inode| (GHOST, inode));
        let known = self.all().chain(ghost).filter_map(|(ino, inode)| Some((ino, inode.ok()?)));
        known.filter(|(ino, inode)| *ino != InodeNo::ROOT && inode.flags != 0)
    }

    /// Which inode the byte at `offset` from the start of the store belongs to; `None` in the slack that follows the last.
    pub(super) fn at_offset(offset: u64) -> Option<InodeNo> {
        let position = small(offset.checked_div(INODE_BYTES)?);
        InodeNo::at_position(position).filter(|ino| ino.0 <= INODES)
    }
}
