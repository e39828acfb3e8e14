//! The array of inodes: all of them, and which of them are unknown.

use std::collections::BTreeMap;

use zerocopy::IntoBytes as _;

use super::{InodeNo, Lack, Linked, PAGE_BYTES, ReadAt, len64, read_pages, small, to_u32, to_usize};

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The chain ends here.
    End,
    /// To an inode: one of the array but not the root, or the ghost.
    To(InodeNo),
    /// Nowhere: the value is no number of an inode, or the root's.
    Bad(u64),
}

impl Link {
    /// What the value of a link means.
    pub(super) fn of<R: Linked>(value: u64) -> Self {
        match (value, u32::try_from(value)) {
            (0, _) => Self::End,
            (ghost, _) if ghost == R::GHOST_LINK => Self::To(R::GHOST),
            (_, Ok(ino)) if ino > 1 && ino <= R::INODES => Self::To(InodeNo(ino)),
            _ => Self::Bad(value),
        }
    }
}

/// All inodes of a store.
#[derive(Debug)]
pub(crate) struct Inodes<R> {
    /// In the order of their numbers, from 1. Bytes that could not be read are zero.
    store: Box<[R]>,
    /// The pages of the array that could not be read, counted from the array's start.
    missing: BTreeMap<u32, Lack>,
    ghost: Result<R, Lack>,
}

impl<R: Linked> Inodes<R> {
    /// Reads the array at `at`, which starts a page, and the ghost.
    pub(crate) fn read(source: &dyn ReadAt, at: u64) -> Self {
        let mut store: Box<[R]> = vec![R::new_zeroed(); to_usize(R::INODES)].into();
        let mut missing = BTreeMap::new();
        read_pages(source, at, store.as_mut_bytes(), |page, lack| {
            missing.insert(page, lack);
        });
        let mut ghost = R::new_zeroed();
        // An array at the very start of the source has nothing before it.
        let ghost_at = at.checked_sub(R::GHOST_BEFORE);
        let read = ghost_at.map_or(Err(Lack::Absent(gmfs_io::Absence::NotInDump)), |at| {
            source.read_at(at, ghost.as_mut_bytes()).map_err(|error| Lack::from(&error))
        });
        Self { store, missing, ghost: read.map(|()| ghost) }
    }

    /// An inode, or why it is unknown. `None` if there is no inode with that number.
    pub(crate) fn get(&self, ino: InodeNo) -> Option<Result<&R, Lack>> {
        if ino == R::GHOST {
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
        let bytes = len64(size_of::<R>());
        let start = len64(position).saturating_mul(bytes);
        let last = start.saturating_add(bytes).saturating_sub(1);
        self.missing.range(page(start)..=page(last)).next().map(|(_, lack)| *lack)
    }

    /// All inodes of the array in the order of their numbers, without the ghost.
    pub(crate) fn all(&self) -> impl Iterator<Item = (InodeNo, Result<&R, Lack>)> {
        (1..=R::INODES).map(InodeNo).filter_map(|ino| Some((ino, self.get(ino)?)))
    }

    /// The inodes in use, the ghost included, the root not: all whose flags are not 0.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (InodeNo, &R)> {
        let ghost = self.get(R::GHOST).map(|inode| (R::GHOST, inode));
        let known = self.all().chain(ghost).filter_map(|(ino, inode)| Some((ino, inode.ok()?)));
        known.filter(|(ino, inode)| *ino != InodeNo::ROOT && inode.flags() != 0)
    }

    /// Which inode the byte at `offset` from the start of the array belongs to; `None` in the slack that follows the last.
    pub(crate) fn at_offset(offset: u64) -> Option<InodeNo> {
        let position = small(offset.checked_div(len64(size_of::<R>()))?);
        InodeNo::at_position(position).filter(|ino| ino.0 <= R::INODES)
    }
}
