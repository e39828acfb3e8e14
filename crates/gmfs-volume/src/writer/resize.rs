//! Makes files longer and shorter, and allocates and frees blocks for that.

use gmfs_format::model::Kind;
use std::ops::Range;

use gmfs_format::native::extents::Extent;
use gmfs_format::native::tables::INODE_ALIGN_1G;
use gmfs_format::native::units::{BlockNo, InodeNo, range_len};
use gmfs_io::{Span, WriteAt};

use crate::alloc::single;
use crate::change::{Assign, Change};
use crate::content::ContentError;
use crate::used::span;
use crate::writer::{ChangeError, Writer, blocks_from, release_all, shown};

impl<S: WriteAt> Writer<S> {
    /// Sets a file's size. If it grows, the new part reads as zeros: its blocks are allocated and zeroed before the
    /// commit, or, if `sparse`, it is a hole. If it shrinks, blocks past the new end are free afterwards.
    ///
    /// # Errors
    /// The path cannot be used, there are too few free blocks, or the inode is immutable; then nothing has changed.
    pub fn truncate(&mut self, path: &[u8], size: u64, sparse: bool) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let inode = self.at(path)?.clone();
        if inode.kind != Kind::File {
            return Err(ChangeError::IsDirectory(shown(path)));
        }
        self.require_mutable(&inode)?;
        let (old_blocks, new_blocks) = (self.file_blocks(inode.size)?, self.file_blocks(size)?);
        let mapping = self.mapping(&inode)?;
        if size > inode.size {
            require_none_behind(&mapping.extents, old_blocks)?;
        }
        let mut change = Change::default();
        let freed = blocks_from(&mapping.extents, new_blocks);
        let grown = if sparse { 0 } else { new_blocks.saturating_sub(old_blocks) };
        let lost = freed.iter().map(|run| u64::from(range_len(run))).sum();
        // A file with lost data may record any number of lost blocks.
        let owned = inode.blocks.saturating_sub(lost).checked_add(grown.into());
        let whole = Span::new(0, inode.size);
        let owned = owned.ok_or_else(|| ContentError::lost(&inode, &mapping, whole))?;
        self.require_unused(path, &freed)?;
        release_all(&mut change, &freed);
        let aligned = inode.attributes.is_some_and(|attributes| attributes.flags & INODE_ALIGN_1G != 0);
        let last = mapping.extents.last().filter(|extent| extent.end_index() == old_blocks);
        let after = last.map(Extent::end_block);
        let runs = self.reserve_places(old_blocks, grown, aligned, after)?;
        Self::assign_places(&mut change, inode.ino, old_blocks, &runs);
        // From here on only the medium can fail.
        let made = self
            .zero_tail(path, &mapping.extents, inode.size, size)
            .and_then(|()| self.finish_truncate(&mut change, inode.ino, size, owned, &runs, now));
        self.keep_or_return(made, runs)?;
        self.return_blocks(freed)
    }

    fn finish_truncate(
        &mut self,
        change: &mut Change,
        ino: InodeNo,
        size: u64,
        blocks: u64,
        runs: &[Range<u32>],
        now: u64,
    ) -> Result<(), ChangeError> {
        self.zero_blocks(runs)?;
        let mut raw = self.inode_raw(ino)?;
        raw.size = size.into();
        raw.blocks = blocks.into();
        (raw.modified, raw.changed) = (now.into(), now.into());
        change.set_inode(ino, raw);
        self.commit(change, now)
    }

    /// Zeroes the bytes after a file's end in its last block, up to the new end. There may be old content, because the
    /// file may have been longer before. A seal of the block is dropped first.
    fn zero_tail(&mut self, path: &[u8], extents: &[Extent], old_size: u64, new_size: u64) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let block_bytes = geometry.block_bytes();
        let (index, inside) = geometry.pmd().split(old_size);
        let index = u32::try_from(index).ok();
        let holder = index.and_then(|index| extents.iter().find_map(|extent| extent.block_at(index)));
        let (Some(block), 1.., true) = (holder, inside, new_size > old_size) else {
            return Ok(());
        };
        // This is as far as the file grows, but not past the end of the block.
        let len = new_size.saturating_sub(old_size).min(block_bytes.saturating_sub(inside));
        let span = Span::new(geometry.block_offset(block).saturating_add(inside), len);
        self.require_unused_bytes(path, &[span])?;
        self.unseal_block(block)?;
        self.store.source_mut().zero(span)?;
        self.store.source_mut().barrier()?;
        Ok(())
    }

    /// How many blocks a file of `size` bytes has.
    pub(super) fn file_blocks(&self, size: u64) -> Result<u32, ChangeError> {
        self.superblock().geometry().file_blocks(size).ok_or(ChangeError::TooLarge(size))
    }

    /// Takes blocks out of the map for the file blocks from `index` on.
    pub(super) fn reserve_places(
        &mut self,
        index: u32,
        count: u32,
        aligned: bool,
        after: Option<BlockNo>,
    ) -> Result<Vec<Range<u32>>, ChangeError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let needed = u64::from(count);
        self.require_free(needed)?;
        let free = self.blocks.free();
        if !aligned {
            return self.blocks.allocate(count).map_err(|_| self.no_space(needed, free));
        }
        let (geometry, base) = (self.superblock().geometry(), self.base());
        let runs = self.blocks.allocate_aligned(geometry, base, index, count, after);
        runs.map_err(|_| ChangeError::NoAlignedSpace { needed, free })
    }

    /// Adds to a change that these runs belong to a file, from file block `index` on.
    pub(super) fn assign_places(change: &mut Change, owner: InodeNo, index: u32, runs: &[Range<u32>]) {
        let mut index = index;
        for run in runs {
            change.assign(run.clone(), Assign::Data { owner, index });
            // The caller has checked that the file blocks can be counted.
            index = index.saturating_add(range_len(run));
        }
    }

    /// Zeroes blocks and makes that durable, before a commit may assign them to a new owner.
    pub(super) fn zero_blocks(&mut self, runs: &[Range<u32>]) -> Result<(), ChangeError> {
        if runs.is_empty() {
            return Ok(());
        }
        let geometry = self.superblock().geometry();
        for run in runs {
            self.store.source_mut().zero(span(geometry, run))?;
        }
        self.store.source_mut().barrier()?;
        Ok(())
    }

    /// Returns blocks to the map if the change that should have used them was not made.
    pub(super) fn keep_or_return<T>(
        &mut self,
        made: Result<T, ChangeError>,
        runs: Vec<Range<u32>>,
    ) -> Result<T, ChangeError> {
        if made.is_err() {
            for run in runs {
                self.blocks.release(run);
            }
        }
        made
    }

    /// Returns blocks that a commit has freed to the map, except those with hardware errors.
    pub(super) fn return_blocks(&mut self, runs: Vec<Range<u32>>) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        for mut run in runs {
            while !run.is_empty() {
                let Some((page, slot)) = geometry.descriptor_place(BlockNo(run.start)) else {
                    break;
                };
                let bytes = self.store.page(page)?;
                let entries = gmfs_format::native::raw::BlockTablePage::view(&bytes).entries.iter().skip(slot);
                // These are the blocks that this page describes. The loop then reads the next page.
                for (entry, block) in entries.zip(&mut run) {
                    if *entry == gmfs_format::native::raw::BlockRaw::FREE {
                        self.blocks.release(single(block));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Refuses a file with a block at or past file block `end`.
pub(super) fn require_none_behind(extents: &[Extent], end: u32) -> Result<(), ContentError> {
    let behind = extents.iter().find_map(|extent| {
        let index = extent.index.max(end);
        extent.block_at(index).map(|block| ContentError::BehindEnd { index, block })
    });
    behind.map_or(Ok(()), Err)
}
