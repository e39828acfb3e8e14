//! What was read of a store's metadata.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use gmfs::open::Generations;
use gmfs::store::{Run, Runs, Usage};
use gmfs::{Error, Store};
use gmfs_format::model::{Inode, InodeNo, Piece, Tree};
use gmfs_format::native::units::{CopyId, PAGE_SIZE, PageNo};
use gmfs_io::{ReadAt as _, Span};

/// What was read of a store's metadata, and what it said then.
pub(crate) struct View {
    pub(crate) store: Store,
    /// The generations of both superblocks when it was read.
    pub(crate) generations: Generations,
    pub(crate) tree: Tree,
    pub(crate) usage: Usage,
    /// Where all files are: read when the first file is.
    runs: Option<Runs>,
    /// The pieces of files, each with the size that they are for.
    pieces: HashMap<InodeNo, (u64, Arc<Vec<Piece>>)>,
    /// The bytes of both superblocks of a native region.
    superblocks: Option<Box<[Page; 2]>>,
}

/// A page of a superblock.
type Page = [u8; PAGE_SIZE];

impl View {
    /// What `store` holds. It may be unlocked afterwards.
    pub(crate) fn read(store: Store) -> Self {
        let superblocks = superblocks(&store);
        let (generations, tree, usage) = (store.generations(), store.inodes().tree, store.usage());
        Self { store, generations, tree, usage, runs: None, pieces: HashMap::new(), superblocks }
    }

    /// Whether the store is as it was when it was read: no byte of its superblocks is another one. Each commit writes them.
    pub(crate) fn is_current(&self) -> bool {
        superblocks(&self.store) == self.superblocks
    }

    /// The pieces of a file, in order, up to the size that `inode` has.
    pub(crate) fn pieces(&mut self, inode: &Inode) -> Result<Arc<Vec<Piece>>, Error> {
        if let Some((_, known)) = self.pieces.get(&inode.ino).filter(|(size, _)| *size == inode.size) {
            return Ok(Arc::clone(known));
        }
        let runs = self.runs.get_or_insert_with(|| self.store.runs(|_| true));
        let pieces = Arc::new(self.store.content_of(inode, runs)?);
        self.pieces.insert(inode.ino, (inode.size, Arc::clone(&pieces)));
        Ok(pieces)
    }

    /// The blocks of a file, run by run.
    pub(crate) fn runs(&mut self, ino: InodeNo) -> &[Run] {
        let runs = self.runs.get_or_insert_with(|| self.store.runs(|_| true));
        runs.files.get(&ino).map(Vec::as_slice).unwrap_or_default()
    }

    /// Where the bytes of a range of a file are in the store, in order; `None` if no block holds one of them.
    pub(crate) fn held(&mut self, ino: InodeNo, range: &Range<u64>) -> Option<Vec<Span>> {
        let mut spans = Vec::new();
        let mut next = range.start;
        for run in self.runs(ino) {
            let end = run.offset.saturating_add(run.len);
            if end <= next {
                continue;
            }
            if next >= range.end || run.offset > next {
                break;
            }
            let len = end.min(range.end).saturating_sub(next);
            let skipped = next.saturating_sub(run.offset);
            spans.push(Span::new(run.at.saturating_add(skipped), len));
            next = next.saturating_add(len);
        }
        (next >= range.end).then_some(spans)
    }
}

/// The bytes of both superblocks; `None` in other layouts, and if they cannot be read.
fn superblocks(store: &Store) -> Option<Box<[Page; 2]>> {
    let geometry = store.native().ok()?.geometry();
    let mut pages = Box::new([[0; PAGE_SIZE]; 2]);
    for (copy, page) in [CopyId::A, CopyId::B].into_iter().zip(pages.iter_mut()) {
        store.source().read_at(geometry.page_offset(copy, PageNo(0)), page).ok()?;
    }
    Some(pages)
}
