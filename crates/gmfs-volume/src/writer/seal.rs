//! Seals of content: records what the blocks of a file hold in their descriptors, and removes such records.

use std::ops::Range;

use gmfs_format::model::Kind;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage};
use gmfs_format::native::superblock::{STATE_SEALED, Superblock};
use gmfs_format::native::tables::{BLOCK_CRC_VALID, BLOCK_FLAGS, BLOCK_ZERO, BlockState};
use gmfs_format::native::units::{BlockNo, InodeNo, PageBytes, PageNo};
use gmfs_io::{ReadAt, WriteAt};

use crate::commit::{Edit, Stamp};
use crate::region::page_descriptors;
use crate::seals::{FileSeals, Seals, block_span, is_sealed, sum_blocks};
use crate::sweep::{Frame, sweep};
use crate::writer::{ChangeError, Writer, shown};

/// How content is sealed.
#[derive(Clone, Copy)]
pub struct SealOptions<'o> {
    /// Whether a block that is all zero is recorded as zero, in addition to its CRC.
    pub zero: bool,
    /// How many threads read blocks and compute their checksums.
    pub threads: usize,
    /// Called for each block that has been read, with its length in bytes.
    pub progress: &'o dyn Fn(u64),
    /// Whether to continue. Called for each block, before its seal is recorded.
    pub go_on: &'o dyn Fn() -> bool,
}

impl std::fmt::Debug for SealOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealOptions").field("zero", &self.zero).field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// The result of sealing a file, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Blocks that have a seal now.
    pub sealed: u64,
    /// How many of these blocks are all zero.
    pub zero: u64,
    /// Blocks that could not be read. They have no seal.
    pub unreadable: u64,
    /// Blocks with hardware errors. They are not read, and have no seal.
    pub bad: u64,
}

impl<S: WriteAt> Writer<S> {
    /// How much of each file is sealed. No content is read.
    pub fn seals(&mut self) -> Seals {
        let seals = self.region().seals();
        self.sealed = Some(seals.sealed);
        seals
    }

    /// Seals each block of a file, in one commit. `seals` is what [`seals`](Self::seals) returned for the file; it says
    /// where the file's descriptors are. For a file without blocks, nothing is committed. Seals that the file has
    /// already are replaced. A block that cannot be read loses its seal.
    ///
    /// # Errors
    /// [`ChangeError::Stopped`], [`ChangeError::InUse`], or there is no such file; then nothing has changed.
    pub fn seal(&mut self, ino: InodeNo, seals: &FileSeals, options: &SealOptions<'_>) -> Result<Sealed, ChangeError> {
        let now = self.begin()?;
        let path = self.require_file(ino)?;
        let pages = self.pages_of(ino, &seals.pages, |entry| entry.state() == Some(BlockState::Data))?;
        self.require_pages_unused(&path, ino, &pages)?;
        let mut sealing = Sealing {
            geometry: self.superblock().geometry(),
            ino,
            now,
            options: *options,
            done: Sealed { bad: seals.bad, ..Sealed::default() },
            dropped: 0,
            sealed_elsewhere: self.count_sealed(),
        };
        if !pages.is_empty() {
            self.commit_seals(&pages, &mut sealing, now)?;
            self.sealed = Some(sealing.total());
        }
        Ok(sealing.done)
    }

    /// Removes the seals of a file, in one commit. Returns how many there were. If there are none, nothing is
    /// committed.
    ///
    /// # Errors
    /// There is no such file; then nothing has changed.
    pub fn unseal(&mut self, ino: InodeNo, seals: &FileSeals) -> Result<u64, ChangeError> {
        self.require_file(ino)?;
        self.drop_seals(&seals.pages, |_, entry| entry.owner() == ino)
    }

    /// Removes the seal of a block whose content is about to change. A block may be without a seal, but it must not
    /// have the seal of other content.
    pub(super) fn unseal_block(&mut self, block: BlockNo) -> Result<(), ChangeError> {
        let Some((page, _)) = self.superblock().geometry().descriptor_place(block) else { return Ok(()) };
        self.drop_seals(&(page.0..page.0.saturating_add(1)), |number, _| number == block).map(drop)
    }

    pub(super) fn drop_seals(
        &mut self,
        range: &Range<u32>,
        which: impl Fn(BlockNo, &BlockRaw) -> bool + Send + Sync,
    ) -> Result<u64, ChangeError> {
        let now = self.begin()?;
        let geometry = self.superblock().geometry();
        let fits = |block: BlockNo, entry: &BlockRaw| is_sealed(entry) && which(block, entry);
        let pages = self.pages_with(range, fits)?;
        if pages.is_empty() {
            return Ok(0);
        }
        let mut dropping = Dropping { geometry, fits, dropped: 0 };
        let sealed = self.count_sealed();
        self.commit_seals(&pages, &mut dropping, now)?;
        self.sealed = Some(sealed.saturating_sub(dropping.dropped));
        Ok(dropping.dropped)
    }

    fn commit_seals<E: Edit<S>>(&mut self, pages: &[PageNo], edit: &mut E, now: u64) -> Result<(), ChangeError> {
        let stamp = Stamp { now, writer: self.options.writer.clone() };
        self.sealed = None;
        self.store.commit_edit(pages, edit, &stamp)
    }

    /// The path of a file, for messages.
    pub(super) fn require_file(&self, ino: InodeNo) -> Result<Vec<u8>, ChangeError> {
        let path = self.tree.path(ino).unwrap_or_else(|| format!("inode {ino}").into_bytes());
        match self.tree.get(ino) {
            Some(inode) if inode.kind == Kind::File => Ok(path),
            Some(_) => Err(ChangeError::IsDirectory(shown(&path))),
            None => Err(ChangeError::NotFound(shown(&path))),
        }
    }

    /// How many blocks of the region have a seal.
    fn count_sealed(&mut self) -> u64 {
        self.sealed.unwrap_or_else(|| self.seals().sealed)
    }

    /// The pages of a range of the block table with a descriptor of this file for which `fits` returns true.
    fn pages_of(
        &self,
        ino: InodeNo,
        range: &Range<u32>,
        fits: impl Fn(&BlockRaw) -> bool + Send + Sync,
    ) -> Result<Vec<PageNo>, ChangeError> {
        self.pages_with(range, |_, entry| entry.owner() == ino && fits(entry))
    }

    /// The pages of a range of the block table with a descriptor for which `fits` returns true.
    fn pages_with(
        &self,
        range: &Range<u32>,
        fits: impl Fn(BlockNo, &BlockRaw) -> bool + Send + Sync,
    ) -> Result<Vec<PageNo>, ChangeError> {
        let geometry = self.superblock().geometry();
        let used = self.superblock().used_table_pages();
        let range = range.start.max(used.start)..range.end.min(used.end);
        let (mut pages, mut damaged) = (Vec::new(), None);
        if range.is_empty() {
            return Ok(pages);
        }
        let visit = |frame: &Frame<'_>| match frame.taken() {
            None => damaged = damaged.or(Some(frame.page)),
            Some(bytes) => {
                if page_descriptors(geometry, frame.page, bytes).any(|(block, entry)| fits(block, entry)) {
                    pages.push(frame.page);
                }
            }
        };
        sweep(self.store.source(), self.store.superblocks(), range, vec![visit]);
        match damaged {
            Some(page) => Err(ChangeError::Damaged { page }),
            None => Ok(pages),
        }
    }

    /// Refuses a file if one of its blocks is in use, because its content may then change while it is read, and the
    /// seal would be wrong.
    fn require_pages_unused(&mut self, path: &[u8], ino: InodeNo, pages: &[PageNo]) -> Result<(), ChangeError> {
        let used = self.watched.used();
        let geometry = self.superblock().geometry();
        if used.is_empty() {
            return Ok(());
        }
        for page in pages {
            let bytes = self.store.page(*page)?;
            for (block, entry) in page_descriptors(geometry, *page, &bytes) {
                let span = block_span(geometry, block);
                let of_file = entry.is_mapping() && entry.owner() == ino;
                if let Some(used) = used.iter().find(|used| of_file && used.span.meets(span)) {
                    return Err(ChangeError::InUse { path: shown(path), by: used.by.clone() });
                }
            }
        }
        Ok(())
    }
}

/// A file that is being sealed.
struct Sealing<'o> {
    geometry: Geometry,
    ino: InodeNo,
    now: u64,
    options: SealOptions<'o>,
    done: Sealed,
    /// How many seals the blocks of the file had before.
    dropped: u64,
    /// How many blocks of the region had a seal before the commit, including those of this file.
    sealed_elsewhere: u64,
}

impl Sealing<'_> {
    /// How many blocks of the region have a seal after the commit.
    const fn total(&self) -> u64 {
        self.sealed_elsewhere.saturating_sub(self.dropped).saturating_add(self.done.sealed)
    }
}

impl<S: ReadAt> Edit<S> for Sealing<'_> {
    fn page(&mut self, source: &S, page: PageNo, bytes: &mut PageBytes) -> Result<(), ChangeError> {
        let Self { geometry, ino, options, done, dropped, .. } = self;
        let first = geometry.first_block_of(page).0;
        let here = page_descriptors(*geometry, page, bytes).count();
        let entries = BlockTablePage::view_mut(bytes).entries.iter_mut().take(here);
        let blocks = (first..).map(BlockNo).zip(entries);
        let of_file = blocks.filter(|(_, entry)| entry.owner() == *ino && entry.state() == Some(BlockState::Data));
        sum_blocks(source, *geometry, of_file, options.threads, |_, entry, sum| {
            if !(options.go_on)() {
                return Err(ChangeError::Stopped);
            }
            *dropped = dropped.saturating_add(is_sealed(entry).into());
            match sum {
                Ok(sum) => {
                    entry.crc = sum.crc.into();
                    let zero = if options.zero && sum.zero { BLOCK_ZERO } else { 0 };
                    entry.flags = entry.flags & !BLOCK_FLAGS | BLOCK_CRC_VALID | zero;
                    done.sealed = done.sealed.saturating_add(1);
                    done.zero = done.zero.saturating_add(sum.zero.into());
                }
                Err(_) => {
                    unseal(entry);
                    done.unreadable = done.unreadable.saturating_add(1);
                }
            }
            (options.progress)(geometry.block_bytes());
            Ok(())
        })
    }

    fn superblock(&mut self, next: &mut Superblock) {
        let all = self.total() == next.raw.data_blocks.get();
        let raw = &mut next.raw;
        raw.state = (raw.state.get() & !STATE_SEALED | if all { STATE_SEALED } else { 0 }).into();
        raw.sealed = self.now.into();
    }
}

/// Seals that are being removed.
struct Dropping<F> {
    geometry: Geometry,
    fits: F,
    dropped: u64,
}

impl<S, F: Fn(BlockNo, &BlockRaw) -> bool> Edit<S> for Dropping<F> {
    fn page(&mut self, _: &S, page: PageNo, bytes: &mut PageBytes) -> Result<(), ChangeError> {
        let first = self.geometry.first_block_of(page).0;
        let here = page_descriptors(self.geometry, page, bytes).count();
        let entries = BlockTablePage::view_mut(bytes).entries.iter_mut().take(here);
        for (block, entry) in (first..).map(BlockNo).zip(entries) {
            if (self.fits)(block, entry) {
                unseal(entry);
                self.dropped = self.dropped.saturating_add(1);
            }
        }
        Ok(())
    }

    fn superblock(&mut self, next: &mut Superblock) {
        next.raw.state = (next.raw.state.get() & !STATE_SEALED).into();
    }
}

/// Removes the seal from a descriptor.
fn unseal(entry: &mut BlockRaw) {
    entry.crc = 0.into();
    entry.flags &= !BLOCK_FLAGS;
}
