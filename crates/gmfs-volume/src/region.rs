//! A region opened for reading.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use gmfs_format::model::{Inode, Tree};
use gmfs_format::native::copies::Judgement;
use gmfs_format::native::extents::{Extent, Extents};
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, InodeNo, PAGE_SIZE, PageBytes, PageNo, to_usize};
use gmfs_io::ReadAt;

use crate::by_inode::ByInode;
use crate::owner_pages::OwnerPages;
use crate::superblocks::{OpenError, Superblocks, find_page, same_payload};
use crate::sweep::{Frame, sweep};

/// A region opened for reading. Nothing is recovered; the copy of each page is chosen by the rule of two copies.
#[derive(Debug)]
pub struct Region<S, B = Superblocks> {
    source: S,
    superblocks: B,
    /// Where the descriptors of each file are, if that is known.
    owners: OnceLock<Arc<OwnerPages>>,
}

/// The content of the inode table, and how much of it could not be read.
#[derive(Debug, Default)]
pub struct Inodes {
    /// Every inode in use.
    pub tree: Tree,
    /// How many pages of the table cannot be read in either copy. The inodes on them are not in the tree.
    pub lost_pages: u64,
}

/// A file's mapping, and whether it may be incomplete.
#[derive(Debug, Default)]
pub struct Mapping {
    /// The extents, in file order.
    pub extents: Vec<Extent>,
    /// How many pages of the block table cannot be read in either copy. Blocks that they describe are not in the
    /// extents.
    pub lost_pages: u64,
}

impl Mapping {
    /// How many blocks the mapping has.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.count)).sum()
    }
}

impl<S: ReadAt> Region<S> {
    /// Opens the region that fills `source`.
    ///
    /// # Errors
    /// No superblock can be used, or the region's features forbid reading.
    pub fn open(source: S) -> Result<Self, OpenError> {
        Self::open_or_return(source).map_err(|(_, error)| error)
    }

    /// Like [`open`](Self::open). The error includes the source, which may hold something other than a region.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_or_return(source: S) -> Result<Self, (S, OpenError)> {
        let superblocks = Superblocks::load(&source).and_then(|found| found.require_readable().map(|()| found));
        match superblocks {
            Ok(superblocks) => Ok(Self::with(source, superblocks)),
            Err(error) => Err((source, error)),
        }
    }
}

impl<S: ReadAt, B: Borrow<Superblocks>> Region<S, B> {
    /// The region that fills `source`, with superblocks that have been loaded already.
    pub const fn with(source: S, superblocks: B) -> Self {
        Self { source, superblocks, owners: OnceLock::new() }
    }

    /// Knows where the descriptors of each file are, so that questions about some files do not pass over the whole block
    /// table.
    pub(crate) fn knowing(self, owners: Arc<OwnerPages>) -> Self {
        Self { owners: owners.into(), ..self }
    }

    /// Prepares for several questions about some files: one pass over the block table finds where their descriptors are, and
    /// each question reads those only. It is for a region that nobody changes meanwhile.
    pub fn index(&self) {
        if self.owners.get().is_some() {
            return;
        }
        let geometry = self.geometry();
        let mut owners = OwnerPages::new(geometry.inodes());
        let lost = self.frames(self.superblock().used_table_pages(), |page, bytes| {
            owners.add_page(page, page_descriptors(geometry, page, bytes));
        });
        // A file whose descriptors may be on a lost page is searched for everywhere.
        if lost == 0 {
            let _ = self.owners.set(Arc::new(owners));
        }
    }

    /// The source of the region's bytes.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Returns the source.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Both superblocks.
    pub fn superblocks(&self) -> &Superblocks {
        self.superblocks.borrow()
    }

    /// The superblock that is used.
    pub fn superblock(&self) -> &Superblock {
        self.superblocks().current()
    }

    /// The region's layout.
    pub fn geometry(&self) -> Geometry {
        self.superblocks().geometry()
    }

    /// Reads all inodes in use, in one pass over the used part of the inode table.
    pub fn inodes(&self) -> Inodes {
        let geometry = self.geometry();
        let mut inodes = Inodes::default();
        let visit = |frame: &Frame<'_>| {
            let Some(bytes) = frame.taken() else {
                inodes.lost_pages = inodes.lost_pages.saturating_add(1);
                return;
            };
            let first = geometry.first_inode_of(frame.page).0;
            for (number, raw) in (first..).zip(&InodeTablePage::view(bytes).inodes) {
                if let Some(inode) = Inode::from_raw(InodeNo(number), raw) {
                    inodes.tree.insert(inode);
                }
            }
        };
        sweep(&self.source, self.superblocks(), self.superblock().used_inode_pages(), vec![visit]);
        inodes
    }

    /// Calls `each` with every descriptor in the used part of the block table, in block order. Returns how many pages
    /// cannot be read in either copy.
    pub fn descriptors(&self, mut each: impl FnMut(BlockNo, &BlockRaw) + Send) -> u64 {
        self.descriptor_pages(|first, entries| {
            for (block, entry) in (first.0..).map(BlockNo).zip(entries) {
                each(block, entry);
            }
        })
    }

    /// As [`descriptors`](Self::descriptors), with all descriptors of a page at once, and the block of the first.
    pub fn descriptor_pages(&self, mut each: impl FnMut(BlockNo, &[BlockRaw]) + Send) -> u64 {
        let geometry = self.geometry();
        self.frames(self.superblock().used_table_pages(), |page, bytes| {
            each(geometry.first_block_of(page), entries_of(geometry, page, bytes));
        })
    }

    /// Calls `each` with all descriptors of these files, in block order, and with others that are on the same pages.
    /// Returns how many of the pages that were read cannot be read in either copy.
    pub(crate) fn descriptors_of(&self, inos: &[InodeNo], mut each: impl FnMut(BlockNo, &BlockRaw) + Send) -> u64 {
        let geometry = self.geometry();
        self.frames_of(inos, |page, bytes| {
            for (block, entry) in page_descriptors(geometry, page, bytes) {
                each(block, entry);
            }
        })
    }

    /// Calls `each` with the pages of the block table that may describe blocks of these files, in order. Returns how many
    /// of the pages that were read cannot be read in either copy.
    pub(crate) fn frames_of(&self, inos: &[InodeNo], mut each: impl FnMut(PageNo, &PageBytes) + Send) -> u64 {
        let used = self.superblock().used_table_pages();
        let known = self.owners.get().and_then(|owners| owners.of(inos)).unwrap_or_else(|| vec![used.clone()]);
        let within = |pages: Range<u32>| pages.start.max(used.start)..pages.end.min(used.end);
        let pages = known.into_iter().map(within).filter(|pages| !pages.is_empty());
        pages.map(|pages| self.frames(pages, &mut each)).fold(0, u64::saturating_add)
    }

    /// Calls `each` with the bytes of these metadata pages. Returns how many cannot be read in either copy.
    pub(crate) fn frames(&self, pages: Range<u32>, mut each: impl FnMut(PageNo, &PageBytes) + Send) -> u64 {
        let mut lost = 0_u64;
        let visit = |frame: &Frame<'_>| match frame.taken() {
            Some(bytes) => each(frame.page, bytes),
            None => lost = lost.saturating_add(1),
        };
        sweep(&self.source, self.superblocks(), pages, vec![visit]);
        lost
    }

    /// Finds a file's blocks, in one pass over the used part of the block table.
    pub fn mapping(&self, ino: InodeNo) -> Mapping {
        let mut extents = Extents::default();
        let lost_pages = self.descriptors_of(&[ino], |block, entry| {
            if entry.owner() == ino && entry.is_mapping() {
                extents.push(entry.index.get(), block, entry.state() == Some(BlockState::Bad));
            }
        });
        Mapping { extents: extents.finish(), lost_pages }
    }

    /// Finds the blocks of several files in one pass. The result has no entry for files without blocks.
    pub fn mappings(&self, wanted: impl Fn(InodeNo) -> bool + Send + Sync) -> Mappings {
        let mut files: ByInode<Extents> = ByInode::default();
        let lost_pages = self.descriptors(|block, entry| {
            if entry.is_mapping()
                && wanted(entry.owner())
                && let Some(extents) = files.get_or_insert_with(entry.owner(), Extents::default)
            {
                extents.push(entry.index.get(), block, entry.state() == Some(BlockState::Bad));
            }
        });
        Mappings { files: files.into_values().map(|(ino, extents)| (ino, extents.finish())).collect(), lost_pages }
    }

    /// The descriptor of one block. `None` for metadata blocks, for blocks past the end of the region, and if neither
    /// copy of the page can be used. Blocks past the mark are free.
    pub fn descriptor(&self, block: BlockNo) -> Option<BlockRaw> {
        let (page, slot) = self.geometry().descriptor_place(block)?;
        if !self.superblock().used_table_pages().contains(&page.0) {
            return Some(BlockRaw::FREE);
        }
        let bytes = self.page(page)?;
        BlockTablePage::view(&bytes).entries.get(slot).copied()
    }

    /// One metadata page, if either copy can be used.
    pub fn page(&self, page: PageNo) -> Option<Box<[u8; PAGE_SIZE]>> {
        read_page(&self.source, self.superblocks(), page)
    }
}

/// The verdict on the two copies of a table page.
pub fn judge_page<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, page: PageNo) -> Judgement {
    let (mut a, mut b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    let [in_a, in_b] = find_page(source, superblocks, page, [&mut a, &mut b]);
    superblocks.judge_page(page, in_a, in_b, || same_payload(&a, &b))
}

/// One metadata page of a region, if either copy can be used.
pub fn read_page<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    page: PageNo,
) -> Option<Box<[u8; PAGE_SIZE]>> {
    let mut a = Box::new([0; PAGE_SIZE]);
    let mut b = Box::new([0; PAGE_SIZE]);
    let [in_a, in_b] = find_page(source, superblocks, page, [&mut a, &mut b]);
    let judged = superblocks.judge_page(page, in_a, in_b, || same_payload(&a, &b));
    match judged.take? {
        gmfs_format::native::units::CopyId::A => Some(a),
        gmfs_format::native::units::CopyId::B => Some(b),
    }
}

/// The record of an inode. Past the mark it is that of a free one. `None` for numbers that the table does not have, and
/// if neither copy of the page can be used.
pub fn read_inode<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, ino: InodeNo) -> Option<InodeRaw> {
    let (page, slot) = superblocks.geometry().inode_place(ino)?;
    if !superblocks.current().used_inode_pages().contains(&page.0) {
        return Some(InodeRaw::free(ino, 0));
    }
    let bytes = read_page(source, superblocks, page)?;
    InodeTablePage::view(&bytes).inodes.get(slot).copied()
}

/// The mappings of several files.
#[derive(Debug, Default)]
pub struct Mappings {
    /// Extents by file.
    pub files: std::collections::BTreeMap<InodeNo, Vec<Extent>>,
    /// How many pages of the block table cannot be read in either copy.
    pub lost_pages: u64,
}

/// The descriptors on a page of the block table, with their blocks. Slots after the last data block are left out.
pub fn page_descriptors(
    geometry: Geometry,
    page: PageNo,
    bytes: &[u8; PAGE_SIZE],
) -> impl Iterator<Item = (BlockNo, &BlockRaw)> {
    (geometry.first_block_of(page).0..).map(BlockNo).zip(entries_of(geometry, page, bytes))
}

/// The descriptors in a page, without those of blocks that the region does not have.
fn entries_of(geometry: Geometry, page: PageNo, bytes: &[u8; PAGE_SIZE]) -> &[BlockRaw] {
    let here = geometry.end_data().0.saturating_sub(geometry.first_block_of(page).0);
    let entries = &BlockTablePage::view(bytes).entries;
    entries.get(..entries.len().min(to_usize(here))).unwrap_or_default()
}
