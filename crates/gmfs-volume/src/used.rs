//! Memory of a region that processes have mapped. The region's tables do not record this. So the code that opens the
//! region reports it, and each operation asks just before it frees, overwrites or allocates blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, InodeNo, len64};
use gmfs_io::{ReadAt, Span, WriteAt};

use crate::alloc::single;
use crate::region::Region;
use crate::writer::{ChangeError, Writer, shown};

/// A part of a region that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The part, in bytes of the region.
    pub span: Span,
    /// Who uses it, for use in a sentence: `process 4711 (qemu-system-x86)`.
    pub by: String,
}

/// Reports which memory is in use.
pub trait Users: Send {
    /// The memory that is in use now, ordered by offset in the region. If it was not looked up again, this is the same
    /// list as before.
    fn used(&mut self) -> Arc<[Used]>;
}

/// Reports nothing as in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Users for Nobody {
    fn used(&mut self) -> Arc<[Used]> {
        Arc::default()
    }
}

/// What a writer knows about the users of the region.
pub(crate) struct Watched {
    users: Box<dyn Users>,
    /// What was in use when blocks were last allocated.
    seen: Arc<[Used]>,
    /// Free blocks that are not allocated, because they were in use at the last lookup.
    withheld: BTreeSet<u32>,
    /// One of their users.
    by: String,
}

impl Default for Watched {
    fn default() -> Self {
        Self { users: Box::new(Nobody), seen: Arc::default(), withheld: BTreeSet::new(), by: String::new() }
    }
}

impl Watched {
    /// How many free blocks are not allocated because they are in use.
    pub(crate) fn withheld(&self) -> u64 {
        len64(self.withheld.len())
    }

    /// What is in use right now.
    pub(crate) fn used(&mut self) -> Arc<[Used]> {
        self.users.used()
    }

    /// Forgets blocks that are no longer free.
    pub(crate) fn forget(&mut self, blocks: &Range<u32>) {
        self.withheld.retain(|block| !blocks.contains(block));
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("withheld", &self.withheld).finish_non_exhaustive()
    }
}

impl<S: WriteAt> Writer<S> {
    /// From now on, no block that `users` reports as used is freed, overwritten or allocated. Without this call,
    /// nothing counts as used.
    pub fn watch(&mut self, users: Box<dyn Users>) {
        self.watched.users = users;
    }

    /// Refuses to free or overwrite blocks of the file at `path` that are in use.
    pub(crate) fn require_unused(&mut self, path: &[u8], runs: &[Range<u32>]) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let spans: Vec<Span> = runs.iter().map(|run| span(geometry, run)).collect();
        self.require_unused_bytes(path, &spans)
    }

    /// Like [`require_unused`](Self::require_unused), for bytes of the region.
    pub(crate) fn require_unused_bytes(&mut self, path: &[u8], spans: &[Span]) -> Result<(), ChangeError> {
        if spans.is_empty() {
            return Ok(());
        }
        let used = self.watched.users.used();
        match used.iter().find(|used| spans.iter().any(|span| used.span.meets(*span))) {
            Some(used) => Err(ChangeError::InUse { path: shown(path), by: used.by.clone() }),
            None => Ok(()),
        }
    }

    /// Removes free blocks that are in use from the map of free blocks, and puts those back that are no longer in use.
    /// A free block can be in use because a removed file may still be mapped.
    pub(crate) fn withhold_used(&mut self) {
        let geometry = self.superblock().geometry();
        let used = self.watched.users.used();
        if Arc::ptr_eq(&used, &self.watched.seen) || used.is_empty() && self.watched.withheld.is_empty() {
            return;
        }
        self.watched.seen = Arc::clone(&used);
        for block in std::mem::take(&mut self.watched.withheld) {
            self.blocks.release(single(block));
        }
        for used in used.iter() {
            for block in blocks(geometry, used.span).filter(|block| self.blocks.is_free(single(*block))) {
                self.watched.withheld.insert(block);
                self.watched.by.clone_from(&used.by);
            }
        }
        for block in &self.watched.withheld {
            self.blocks.take(single(*block));
        }
    }

    /// Refuses a change that needs more blocks than can be allocated now: free blocks that are in use cannot.
    ///
    /// # Errors
    /// [`ChangeError::NoSpace`], [`ChangeError::SpaceInUse`].
    pub fn require_free(&mut self, needed: u64) -> Result<(), ChangeError> {
        self.withhold_used();
        let free = self.blocks.free();
        if needed > free { Err(self.no_space(needed, free)) } else { Ok(()) }
    }

    /// The error if too few blocks are free. It says so if there would be enough with the free blocks that are in use.
    pub(crate) fn no_space(&self, needed: u64, free: u64) -> ChangeError {
        let used = self.watched.withheld();
        // Where even those blocks would not do, to end their use would not help.
        if used == 0 || needed > free.saturating_add(used) {
            return ChangeError::NoSpace { needed, free };
        }
        ChangeError::SpaceInUse { needed, free, used, by: self.watched.by.clone() }
    }
}

/// The data blocks that a span touches.
fn blocks(geometry: Geometry, span: Span) -> Range<u32> {
    let data = geometry.first_data().0..geometry.end_data().0;
    let number = |block: u64| u32::try_from(block).unwrap_or(u32::MAX).clamp(data.start, data.end);
    number(geometry.pmd().split(span.offset).0)..number(span.end().div_ceil(geometry.block_bytes()))
}

/// The bytes of a run of blocks.
pub(crate) fn span(geometry: Geometry, run: &Range<u32>) -> Span {
    let start = geometry.block_offset(BlockNo(run.start));
    Span::new(start, geometry.block_offset(BlockNo(run.end)).saturating_sub(start))
}

/// The first block in use that `after` takes from its owner in `before`: the block, the inode that owns it (none for a
/// reserved block), and its user. A file that keeps a block at its file block does not lose it, and neither does a
/// block that becomes reserved. If the layouts differ, every block of a file in `before` counts as taken.
pub fn taken<B: ReadAt, A: ReadAt>(
    before: &Region<B>,
    after: Option<&Region<A>>,
    used: &[Used],
) -> Option<(BlockNo, InodeNo, Used)> {
    let geometry = before.geometry();
    let wanted: BTreeSet<u32> = used.iter().flat_map(|used| blocks(geometry, used.span)).collect();
    let after = after.filter(|after| after.geometry() == geometry);
    let (then, now) =
        (descriptors(before, &wanted), after.map(|after| descriptors(after, &wanted)).unwrap_or_default());
    // An inode that was freed and reused is another file.
    let (old, new) = (generations(before), after.map(generations).unwrap_or_default());
    let (block, entry) = then.iter().find(|(block, entry)| {
        let free = BlockRaw::FREE;
        let to = now.get(*block).unwrap_or(&free);
        let kept = entry.is_mapping() && to.is_mapping();
        let ino = entry.owner();
        let same = kept && (to.owner(), to.index.get()) == (ino, entry.index.get()) && old.get(&ino) == new.get(&ino);
        entry.state() != Some(BlockState::Free) && !same && to.state() != Some(BlockState::Reserved)
    })?;
    let whole = span(geometry, &single(*block));
    let by = used.iter().find(|used| used.span.meets(whole))?.clone();
    Some((BlockNo(*block), entry.owner(), by))
}

/// The generations of the inodes in use, as far as they are known.
fn generations<S: ReadAt>(region: &Region<S>) -> BTreeMap<InodeNo, u32> {
    let inodes = region.inodes();
    inodes.tree.inodes().filter_map(|inode| Some((inode.ino, inode.attributes?.generation))).collect()
}

/// The descriptors of some blocks. Those past the high-water mark are left out, because they are free.
fn descriptors<S: ReadAt>(region: &Region<S>, wanted: &BTreeSet<u32>) -> BTreeMap<u32, BlockRaw> {
    let mut found = BTreeMap::new();
    region.descriptors(|block, entry| {
        if wanted.contains(&block.0) {
            found.insert(block.0, *entry);
        }
    });
    found
}
