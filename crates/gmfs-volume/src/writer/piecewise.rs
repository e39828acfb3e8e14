//! Changes as programs make them that have files open: content at any offset, piece by piece, and entries by inode.

use std::ops::Range;

use gmfs_format::model::{Inode, Kind};
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::InodeRaw;
use gmfs_format::native::tables::INODE_ALIGN_1G;
use gmfs_format::native::units::{BlockNo, InodeNo, len64, range_len};
use gmfs_io::{Span, WriteAt};

use crate::change::Change;
use crate::content::ContentError;
use crate::region::Mapping;
use crate::used::span;
use crate::writer::attributes::NewAttributes;
use crate::writer::{ChangeError, Writer, blocks_from, release_all, shown};

/// What becomes of an entry that another one replaces.
#[derive(Clone, Copy, Debug)]
pub enum Replace<'n> {
    /// It is not replaced: the move is refused.
    Never,
    /// It is removed, and its blocks are free afterwards.
    Remove,
    /// A file moves to the root directory under this name, because a program still has it open. A directory is removed.
    Keep(&'n [u8]),
}

/// Runs of file blocks, each by its first one, with the blocks that are taken for it.
type Placed = Vec<(u32, Vec<Range<u32>>)>;

/// A part of a file: bytes of the file, and where they are in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Offset in the file.
    offset: u64,
    /// The same bytes in the region.
    span: Span,
}

impl<S: WriteAt> Writer<S> {
    /// Ends the session as [`close`](Self::close) does, and keeps the writer. The next change begins a session again.
    /// Whoever lets others change the region meanwhile must open a new writer if its generation is another one then.
    ///
    /// # Errors
    /// The medium failed, or an earlier change was not finished.
    pub fn pause(&mut self) -> Result<(), ChangeError> {
        self.store.close()
    }

    /// Writes `bytes` into a file at `offset`, in one commit. Blocks that are missing there are allocated, and are zero
    /// elsewhere. Seals of blocks that are overwritten are dropped first, in a commit of their own. `written` is the
    /// file's size so far: the recorded one, or a larger one if content was written after it.
    ///
    /// # Errors
    /// Space, an immutable inode, or memory in use; then nothing has changed but seals.
    pub fn write(&mut self, ino: InodeNo, written: u64, offset: u64, bytes: &[u8]) -> Result<(), ChangeError> {
        let end = offset.checked_add(len64(bytes.len())).ok_or(ChangeError::TooLarge(u64::MAX))?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.extend(ino, written, offset..end, Some(bytes))
    }

    /// Allocates the missing blocks of a range of a file, in one commit. They read as zeros. The file grows to the end of
    /// the range if it is smaller. `written` as in [`write`](Self::write).
    ///
    /// # Errors
    /// Space, an immutable inode, or memory in use; then nothing has changed.
    pub fn allocate(&mut self, ino: InodeNo, written: u64, range: Range<u64>) -> Result<(), ChangeError> {
        if range.start >= range.end {
            return Ok(());
        }
        self.extend(ino, written, range, None)
    }

    fn extend(
        &mut self,
        ino: InodeNo,
        written: u64,
        range: Range<u64>,
        content: Option<&[u8]>,
    ) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let (path, inode, mapping) = self.changeable(ino)?;
        let size = inode.size.max(written);
        let geometry = self.superblock().geometry();
        let wanted = block_of(geometry, range.start)?..self.file_blocks(range.end)?;
        let missing = missing(&mapping, wanted);
        let added: u64 = missing.iter().map(|run| u64::from(range_len(run))).sum();
        // What follows the old end in its block may be left from an earlier, longer life of the file.
        let tail = size..if content.is_some() { range.start } else { range.end };
        let zeroed = parts(geometry, &mapping, &tail);
        let overwritten = if content.is_some() { parts(geometry, &mapping, &range) } else { Vec::new() };
        let touched: Vec<Span> = zeroed.iter().chain(&overwritten).map(|part| part.span).collect();
        self.require_unused_bytes(&path, &touched)?;
        let runs = self.reserve_missing(&inode, &mapping, &missing)?;
        let all = || runs.iter().flat_map(|(_, blocks)| blocks.clone()).collect::<Vec<_>>();
        let made = (|| {
            self.unseal_spans(&touched)?;
            for part in &zeroed {
                self.store.source_mut().zero(part.span)?;
            }
            let mut change = Change::default();
            let bytes = content.map(|bytes| (range.start, bytes));
            for part in &overwritten {
                self.put_part(*part, bytes)?;
            }
            for (index, blocks) in &runs {
                self.fill_new(*index, blocks, bytes)?;
                Self::assign_places(&mut change, ino, *index, blocks);
            }
            self.store.source_mut().barrier()?;
            let mut raw = self.inode_raw(ino)?;
            raw.size = size.max(range.end).into();
            raw.blocks = inode.blocks.saturating_add(added).into();
            (raw.modified, raw.changed) = (now.into(), now.into());
            change.set_inode(ino, raw);
            self.commit(&change, now)
        })();
        self.keep_or_return(made, all())
    }

    /// Takes free blocks for missing file blocks: those that follow the file's last block if they are free. The result
    /// has each run of file blocks with its blocks.
    fn reserve_missing(
        &mut self,
        inode: &Inode,
        mapping: &Mapping,
        missing: &[Range<u32>],
    ) -> Result<Placed, ChangeError> {
        let aligned = inode.attributes.is_some_and(|attributes| attributes.flags & INODE_ALIGN_1G != 0);
        let mut found = Placed::new();
        for run in missing {
            let before = run.start.checked_sub(1);
            let holder = before.and_then(|before| mapping.extents.iter().find_map(|extent| extent.block_at(before)));
            let after = holder.and_then(|block| block.0.checked_add(1)).map(BlockNo);
            let count = range_len(run);
            self.withhold_used();
            let next = after.and_then(|after| Some(after.0..after.0.checked_add(count)?));
            let reserved = match next.filter(|next| !aligned && self.blocks.is_free(next.clone())) {
                Some(next) => {
                    self.blocks.take(next.clone());
                    Ok(Vec::from([next]))
                }
                None => self.reserve_places(run.start, count, aligned, after),
            };
            match reserved {
                Ok(blocks) => found.push((run.start, blocks)),
                Err(error) => {
                    for blocks in found.into_iter().flat_map(|(_, blocks)| blocks) {
                        self.blocks.release(blocks);
                    }
                    return Err(error);
                }
            }
        }
        Ok(found)
    }

    /// Writes the content of new blocks, from file block `index` on: `bytes` with the offset in the file at which they
    /// start, and zeros elsewhere.
    fn fill_new(&mut self, index: u32, runs: &[Range<u32>], bytes: Option<(u64, &[u8])>) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let mut offset = u64::from(index).saturating_mul(geometry.block_bytes());
        for run in runs {
            let whole = span(geometry, run);
            let part = Part { offset, span: whole };
            offset = offset.saturating_add(whole.len);
            let inside = bytes.and_then(|(start, bytes)| part.clip(start..start.saturating_add(len64(bytes.len()))));
            let covers = inside.map(|part| part.span);
            for zeros in whole.without(covers) {
                self.store.source_mut().zero(zeros)?;
            }
            if let Some(inside) = inside {
                self.put_part(inside, bytes)?;
            }
        }
        Ok(())
    }

    /// Writes the bytes of one part. `bytes` start at an offset in the file, and cover the part.
    fn put_part(&mut self, part: Part, bytes: Option<(u64, &[u8])>) -> Result<(), ChangeError> {
        let Some((start, bytes)) = bytes else { return Ok(()) };
        let from = usize::try_from(part.offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let len = usize::try_from(part.span.len).unwrap_or(usize::MAX);
        if let Some(bytes) = bytes.get(from..from.saturating_add(len)) {
            self.store.source_mut().write_at(part.span.offset, bytes)?;
        }
        Ok(())
    }

    /// Drops the seals of the blocks that these spans of the region touch, in one commit.
    ///
    /// # Errors
    /// The medium failed.
    pub fn unseal_spans(&mut self, spans: &[Span]) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let (Some(first), Some(end)) =
            (spans.iter().map(|span| span.offset).min(), spans.iter().map(|span| span.end()).max())
        else {
            return Ok(());
        };
        let page = |offset: u64| {
            let block = u32::try_from(geometry.pmd().split(offset).0).ok()?;
            geometry.descriptor_place(BlockNo(block)).map(|(page, _)| page.0)
        };
        let (Some(from), Some(to)) = (page(first), page(end.saturating_sub(1))) else { return Ok(()) };
        self.drop_seals(&(from..to.saturating_add(1)), |block, _| {
            let whole = span(geometry, &crate::alloc::single(block.0));
            spans.iter().any(|span| span.meets(whole))
        })
        .map(drop)
    }

    /// Frees the whole blocks in a range of a file and zeroes what is left of it, in one commit: the range reads as
    /// zeros afterwards, and the file's size stays. `written` as in [`write`](Self::write).
    ///
    /// # Errors
    /// An immutable inode, or memory in use; then nothing has changed but seals.
    pub fn punch(&mut self, ino: InodeNo, written: u64, range: Range<u64>) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let (path, inode, mapping) = self.changeable(ino)?;
        let size = inode.size.max(written);
        let geometry = self.superblock().geometry();
        let range = range.start..if range.end >= size { u64::MAX } else { range.end };
        if range.start >= size {
            return Ok(());
        }
        let block_bytes = geometry.block_bytes();
        let first = u32::try_from(range.start.div_ceil(block_bytes)).unwrap_or(u32::MAX);
        let end = u32::try_from(range.end.checked_div(block_bytes).unwrap_or(0)).unwrap_or(u32::MAX);
        let freed: Vec<Range<u32>> = if first < end {
            let keep = |extent: &gmfs_format::native::extents::Extent| {
                let (from, to) = (extent.index.max(first), extent.end_index().min(end));
                let start = extent.block_at(from).filter(|_| from < to)?;
                Some(start.0..start.0.saturating_add(to.saturating_sub(from)))
            };
            mapping.extents.iter().filter_map(keep).collect()
        } else {
            Vec::new()
        };
        let gone: Vec<Span> = freed.iter().map(|run| span(geometry, run)).collect();
        let edges = parts(geometry, &mapping, &range);
        let edges: Vec<Span> = edges.iter().flat_map(|part| part.span.without(gone.iter().copied())).collect();
        self.require_unused(&path, &freed)?;
        self.require_unused_bytes(&path, &edges)?;
        self.unseal_spans(&edges)?;
        for edge in &edges {
            self.store.source_mut().zero(*edge)?;
        }
        self.store.source_mut().barrier()?;
        let lost = freed.iter().map(|run| u64::from(range_len(run))).sum();
        let mut change = Change::default();
        release_all(&mut change, &freed);
        let mut raw = self.inode_raw(ino)?;
        let owned = inode.blocks.checked_sub(lost);
        raw.blocks = owned.ok_or_else(|| ContentError::lost(&inode, &mapping, Span::new(0, inode.size)))?.into();
        raw.size = size.into();
        (raw.modified, raw.changed) = (now.into(), now.into());
        change.set_inode(ino, raw);
        self.commit(&change, now)?;
        self.return_blocks(freed)
    }

    /// Makes content durable that was written into the blocks of files. Then it records what of this file is known outside
    /// only: its size, if content was written after its end, and attributes. One commit, or none if nothing changes.
    ///
    /// # Errors
    /// An immutable inode; then nothing has changed.
    pub fn save(&mut self, ino: InodeNo, written: u64, attributes: NewAttributes) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let inode = self.by_number(ino)?;
        // A size must not be recorded before the content that it covers is durable.
        self.store.source_mut().barrier()?;
        let mut raw = self.inode_raw(ino)?;
        let mut changed = attributes.put(&mut raw, now);
        if inode.kind == Kind::File && written > inode.size {
            self.file_blocks(written)?;
            raw.size = written.into();
            changed = true;
        }
        if !changed {
            return Ok(());
        }
        self.require_mutable(&inode)?;
        raw.changed = now.into();
        let mut change = Change::default();
        change.set_inode(ino, raw);
        self.commit(&change, now)
    }

    /// Gives an inode another name and directory, as rename(2) does, in one commit.
    ///
    /// # Errors
    /// The paths, or an immutable inode; then nothing has changed.
    pub fn move_entry(
        &mut self,
        ino: InodeNo,
        parent: InodeNo,
        name: &[u8],
        replace: Replace<'_>,
    ) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let moved = self.by_number(ino)?;
        self.require_mutable(&moved)?;
        self.require_mutable_directory(moved.parent)?;
        self.require_place(&moved, parent, name)?;
        let mut change = Change::default();
        let mut freed = Vec::new();
        if let Some(there) = self.tree.lookup(parent, name).cloned() {
            if there.ino == ino {
                return Ok(());
            }
            let there_at = self.tree.path(there.ino).unwrap_or_default();
            let path = shown(&there_at);
            match (replace, moved.kind, there.kind) {
                (Replace::Never, ..) => return Err(ChangeError::Exists(path)),
                (_, Kind::File, Kind::Directory) => return Err(ChangeError::IsDirectory(path)),
                (_, Kind::Directory, Kind::File) => return Err(ChangeError::NotDirectory(path)),
                (_, _, Kind::Directory) if self.tree.children(there.ino).next().is_some() => {
                    return Err(ChangeError::NotEmpty(path));
                }
                _ => {}
            }
            self.require_mutable(&there)?;
            let mut raw = self.inode_raw(there.ino)?;
            if let (Replace::Keep(aside), Kind::File) = (replace, there.kind) {
                self.require_place(&there, InodeNo::ROOT, aside)?;
                raw.parent = InodeNo::ROOT.0.into();
                raw.set_name(aside);
                raw.changed = now.into();
            } else {
                freed = blocks_from(&self.mapping(&there)?.extents, 0);
                self.require_unused(&there_at, &freed)?;
                release_all(&mut change, &freed);
                raw = InodeRaw::free(there.ino, raw.generation.get());
            }
            change.set_inode(there.ino, raw);
        }
        let mut raw = self.inode_raw(ino)?;
        raw.parent = parent.0.into();
        raw.set_name(name);
        raw.changed = now.into();
        change.set_inode(ino, raw);
        self.touch_directory(&mut change, moved.parent, now)?;
        self.touch_directory(&mut change, parent, now)?;
        self.commit(&change, now)?;
        self.return_blocks(freed)
    }

    /// Exchanges the names and directories of two inodes, in one commit.
    ///
    /// # Errors
    /// One of them contains the other, or an immutable inode; then nothing has changed.
    pub fn exchange(&mut self, one: InodeNo, other: InodeNo) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let both = [self.by_number(one)?, self.by_number(other)?];
        let mut change = Change::default();
        for (inode, place) in both.iter().zip(both.iter().rev()) {
            self.require_mutable(inode)?;
            self.require_mutable_directory(inode.parent)?;
            self.require_place(inode, place.parent, &place.name)?;
            let mut raw = self.inode_raw(inode.ino)?;
            raw.parent = place.parent.0.into();
            raw.set_name(&place.name);
            raw.changed = now.into();
            change.set_inode(inode.ino, raw);
        }
        for inode in &both {
            self.touch_directory(&mut change, inode.parent, now)?;
        }
        self.commit(&change, now)
    }

    /// Refuses to give an inode a name in a directory that cannot hold it.
    fn require_place(&self, moved: &Inode, parent: InodeNo, name: &[u8]) -> Result<(), ChangeError> {
        if moved.ino == InodeNo::ROOT {
            return Err(ChangeError::Root);
        }
        let path = |ino| shown(&self.tree.path(ino).unwrap_or_default());
        gmfs_format::name::check(name).map_err(|source| ChangeError::Name { path: shown(name), source })?;
        match self.tree.get(parent) {
            Some(directory) if directory.kind == Kind::Directory => {}
            Some(_) => return Err(ChangeError::NotDirectory(path(parent))),
            None => return Err(ChangeError::NotFound(path(parent))),
        }
        if self.tree.is_below(parent, moved.ino) {
            return Err(ChangeError::IntoItself(path(moved.ino)));
        }
        self.require_mutable_directory(parent)
    }

    /// The inode with a number.
    fn by_number(&self, ino: InodeNo) -> Result<Inode, ChangeError> {
        self.tree.get(ino).cloned().ok_or_else(|| ChangeError::NotFound(format!("inode {ino}")))
    }

    /// The file with a number, whose content may be changed: its path, its inode, and its blocks.
    fn changeable(&self, ino: InodeNo) -> Result<(Vec<u8>, Inode, Mapping), ChangeError> {
        let path = self.require_file(ino)?;
        let inode = self.by_number(ino)?;
        self.require_mutable(&inode)?;
        let mapping = self.mapping(&inode)?;
        require_inside(&mapping, self.file_blocks(inode.size)?)?;
        Ok((path, inode, mapping))
    }
}

impl Part {
    /// The part of it that is in a range of the file.
    fn clip(self, range: Range<u64>) -> Option<Self> {
        let inside = Span::new(self.offset, self.span.len)
            .common(Span::new(range.start, range.end.saturating_sub(range.start)))?;
        let skipped = inside.offset.saturating_sub(self.offset);
        let span = Span::new(self.span.offset.saturating_add(skipped), inside.len);
        Some(Self { offset: inside.offset, span })
    }
}

/// The parts of a range of a file that blocks hold.
fn parts(geometry: Geometry, mapping: &Mapping, range: &Range<u64>) -> Vec<Part> {
    if range.start >= range.end {
        return Vec::new();
    }
    let bytes = |blocks: u32| u64::from(blocks).saturating_mul(geometry.block_bytes());
    let held = mapping.extents.iter().filter_map(|extent| {
        let span = Span::new(geometry.block_offset(extent.block), bytes(extent.count));
        Part { offset: bytes(extent.index), span }.clip(range.clone())
    });
    held.collect()
}

/// The file blocks of a range that no block holds, run by run. Extents are in the order of the file.
fn missing(mapping: &Mapping, wanted: Range<u32>) -> Vec<Range<u32>> {
    let mut found = Vec::new();
    let mut at = wanted.start;
    for extent in &mapping.extents {
        let next = extent.index.min(wanted.end);
        if next > at {
            found.push(at..next);
        }
        at = at.max(extent.end_index());
    }
    if at < wanted.end {
        found.push(at..wanted.end);
    }
    found
}

/// The file block that holds an offset.
fn block_of(geometry: Geometry, offset: u64) -> Result<u32, ChangeError> {
    u32::try_from(geometry.pmd().split(offset).0).map_err(|_| ChangeError::TooLarge(offset))
}

/// Refuses a file with a block at or past file block `end`.
fn require_inside(mapping: &Mapping, end: u32) -> Result<(), ContentError> {
    super::resize::require_none_behind(&mapping.extents, end)
}
