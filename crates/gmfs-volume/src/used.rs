//! Memory of a region that somebody outside uses: processes that have it mapped. The region's own tables know nothing of
//! them, so whoever opens the region says who they are, and each operation asks just before it frees, overwrites or
//! hands out blocks.

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
    /// Which, in bytes of the region.
    pub span: Span,
    /// By whom, as a part of a sentence: `process 4711 (qemu-system-x86)`.
    pub by: String,
}

/// Tells what is in use.
pub trait Users: Send {
    /// What is in use right now, by its place in the region; the same list again where nobody has looked anew.
    fn used(&mut self) -> Arc<[Used]>;
}

/// Nobody uses anything, or nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Users for Nobody {
    fn used(&mut self) -> Arc<[Used]> {
        Arc::default()
    }
}

/// What a writer knows of those who use the region.
pub(crate) struct Watched {
    users: Box<dyn Users>,
    /// What was in use when blocks were last handed out.
    seen: Arc<[Used]>,
    /// Free blocks that are not handed out because they were in use when it was last looked.
    withheld: BTreeSet<u32>,
    /// One of those who use them.
    by: String,
}

impl Default for Watched {
    fn default() -> Self {
        Self { users: Box::new(Nobody), seen: Arc::default(), withheld: BTreeSet::new(), by: String::new() }
    }
}

impl Watched {
    /// How many free blocks are not handed out.
    pub(crate) fn withheld(&self) -> u64 {
        len64(self.withheld.len())
    }

    /// What is in use right now.
    pub(crate) fn used(&mut self) -> Arc<[Used]> {
        self.users.used()
    }

    /// Blocks that are not free any more.
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
    /// From here on no block is freed, overwritten or handed out that `users` calls used. Without this, all are.
    pub fn watch(&mut self, users: Box<dyn Users>) {
        self.watched.users = users;
    }

    /// Refuses to free or overwrite blocks of the file at `path` that somebody uses.
    pub(crate) fn require_unused(&mut self, path: &[u8], runs: &[Range<u32>]) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let spans: Vec<Span> = runs.iter().map(|run| span(geometry, run)).collect();
        self.require_unused_bytes(path, &spans)
    }

    /// The same for bytes of the region.
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

    /// Takes free blocks that somebody uses out of the map, and gives back those that nobody uses any more. A file that
    /// was removed may be mapped still.
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

    /// The error for blocks that are not there, or that are there and in use.
    pub(crate) fn no_space(&self, needed: u64, free: u64) -> ChangeError {
        match self.watched.withheld() {
            0 => ChangeError::NoSpace { needed, free },
            used => ChangeError::SpaceInUse { needed, free, used, by: self.watched.by.clone() },
        }
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

/// The first block in use that `after` takes from whoever has it in `before`: which block, the inode that has it (none
/// for a reserved block), and who uses it. A file that keeps a block at its place keeps it; so does a block that only
/// becomes reserved. Where the two are laid out differently, all that a file has in `before` is taken.
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
    // An inode that was freed and given out again is another file.
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

/// The generation of each inode in use, as far as that is known.
fn generations<S: ReadAt>(region: &Region<S>) -> BTreeMap<InodeNo, u32> {
    let inodes = region.inodes();
    inodes.tree.inodes().filter_map(|inode| Some((inode.ino, inode.attributes?.generation))).collect()
}

/// The descriptors of some blocks; those past the high-water mark are left out: they are free.
fn descriptors<S: ReadAt>(region: &Region<S>, wanted: &BTreeSet<u32>) -> BTreeMap<u32, BlockRaw> {
    let mut found = BTreeMap::new();
    region.descriptors(|block, entry| {
        if wanted.contains(&block.0) {
            found.insert(block.0, *entry);
        }
    });
    found
}
