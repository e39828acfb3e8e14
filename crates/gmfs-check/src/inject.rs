//! Makes any problem of the catalogue on purpose, in a clean region.
//!
//! This is for tests, packagers and documentation. The code ignores the rules of a commit intentionally.

use std::str::FromStr;

use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage, SuperblockRaw};
use gmfs_format::native::seal::{self, Place};
use gmfs_format::native::sum::{Sum, group};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::{BlockState, InodeKind};
use gmfs_format::native::units::{BlockNo, CopyId, Generation, InodeNo, PAGE_SIZE, PageBytes, PageNo};
use gmfs_io::{ReadAt, ReadError, Span, WriteAt, WriteError};
use gmfs_volume::region::page_descriptors;
use gmfs_volume::{OpenError, Region, Superblocks};

use crate::problem::Code;

mod blocks;
mod inodes;
mod pages;
mod superblock;

pub use pages::Damage;

/// Where a problem is made. What is not given is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// A metadata page.
    pub page: Option<PageNo>,
    /// The copy of the page.
    pub copy: Option<CopyId>,
    /// An inode.
    pub inode: Option<InodeNo>,
    /// A data block.
    pub block: Option<BlockNo>,
}

/// The text is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no place: write page:N, copy:A or copy:B, inode:N or block:N, with commas between")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    /// Parses a text like `page:3,copy:B`, `inode:5` or `block:17`.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        let mut target = Self::default();
        for part in text.split(',') {
            let (what, value) = part.split_once(':').ok_or_else(wrong)?;
            let number = || value.parse::<u32>().map_err(|_| wrong());
            match (what, value) {
                ("page", _) => target.page = Some(PageNo(number()?)),
                ("inode", _) => target.inode = Some(InodeNo(number()?)),
                ("block", _) => target.block = Some(BlockNo(number()?)),
                ("copy", "A" | "a") => target.copy = Some(CopyId::A),
                ("copy", "B" | "b") => target.copy = Some(CopyId::B),
                _ => return Err(wrong()),
            }
        }
        Ok(target)
    }
}

/// Why a problem was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// There is no region.
    #[error("cannot open the region")]
    Open(#[from] OpenError),
    /// The region has nothing in which the problem can be made.
    #[error("{code} cannot be made here: the region has no {missing}")]
    NoTarget {
        /// The problem.
        code: Code,
        /// What is missing for it.
        missing: &'static str,
    },
    /// The problem is one of stores that are not native.
    #[error("{0} is a problem of another layout; problems are made in native regions only")]
    OtherLayout(Code),
    /// Only a medium that fails can cause the problem.
    #[error("{0} comes from a medium that cannot be read; no bytes in a file cause it")]
    Medium(Code),
    /// Reading failed.
    #[error("cannot read the region")]
    Read(#[from] ReadError),
    /// Writing failed.
    #[error("cannot write the region")]
    Write(#[from] WriteError),
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// The problem has been made.
    Done,
    /// The caller must cut the image to this size in bytes, because this crate cannot change the size of an image.
    CutTo(u64),
}

/// Makes the problem `code` in the region that fills `image`.
///
/// # Errors
/// The region lacks what is needed, or is not clean; or the problem is not one of native regions.
pub fn inject<S: WriteAt>(image: &mut S, code: Code, target: Target) -> Result<Injected, InjectError> {
    if !code.is_native() {
        return Err(InjectError::OtherLayout(code));
    }
    let mut editor = Editor::open(image, code, target)?;
    match code.number() {
        1..100 => pages::inject(&mut editor),
        100..200 | 500..600 => superblock::inject(&mut editor),
        200..400 => inodes::inject(&mut editor),
        _ => blocks::inject(&mut editor),
    }
}

/// The codes of problems that a problem always causes as well.
#[must_use]
pub const fn companions(code: Code) -> &'static [Code] {
    match code {
        Code::GM0020 | Code::GM0021 | Code::GM0022 => &[Code::GM0021, Code::GM0023],
        _ => &[],
    }
}

/// A region in which a problem is made.
struct Editor<'a, S> {
    image: &'a mut S,
    superblock: Superblock,
    code: Code,
    target: Target,
}

impl<'a, S: WriteAt> Editor<'a, S> {
    fn open(image: &'a mut S, code: Code, target: Target) -> Result<Self, InjectError> {
        let superblocks = Superblocks::load(image)?;
        Ok(Self { superblock: superblocks.current().clone(), image, code, target })
    }

    const fn missing(&self, missing: &'static str) -> InjectError {
        InjectError::NoTarget { code: self.code, missing }
    }

    fn place(&self, copy: CopyId, page: PageNo) -> Result<(Place, u64), InjectError> {
        let geometry = self.superblock.geometry();
        let kind = geometry.page_kind(page).ok_or_else(|| self.missing("such page"))?;
        let Superblock { uuid, birth, .. } = self.superblock;
        Ok((Place { kind, copy, page, uuid, birth, geometry }, geometry.page_offset(copy, page)))
    }

    fn read_page(&self, copy: CopyId, page: PageNo) -> Result<PageBytes, InjectError> {
        let mut bytes = [0; PAGE_SIZE];
        self.image.read_at(self.place(copy, page)?.1, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes bytes without sealing them.
    fn write_page(&mut self, copy: CopyId, page: PageNo, bytes: &PageBytes) -> Result<(), InjectError> {
        let (_, offset) = self.place(copy, page)?;
        self.image.write_at(offset, bytes)?;
        Ok(())
    }

    /// Seals and writes a page in one copy.
    fn seal_page(
        &mut self,
        copy: CopyId,
        page: PageNo,
        bytes: &mut PageBytes,
        generation: Generation,
    ) -> Result<(), InjectError> {
        let (place, _) = self.place(copy, page)?;
        seal::seal(bytes, &place, generation);
        self.write_page(copy, page, bytes)
    }

    /// Changes a page in both copies, with good seals of its present generation.
    fn edit_page(&mut self, page: PageNo, edit: impl FnOnce(&mut PageBytes)) -> Result<Injected, InjectError> {
        let mut bytes = self.read_page(CopyId::A, page)?;
        let generation = Generation(gmfs_format::native::raw::PageHeader::of(&bytes).generation.get());
        edit(&mut bytes);
        for copy in CopyId::BOTH {
            self.seal_page(copy, page, &mut bytes, generation)?;
        }
        Ok(Injected::Done)
    }

    /// Changes the superblock in both copies.
    fn edit_superblock(&mut self, edit: impl FnOnce(&mut SuperblockRaw)) -> Result<Injected, InjectError> {
        edit(&mut self.superblock.raw);
        for copy in CopyId::BOTH {
            let page = self.superblock.page(copy);
            self.write_page(copy, PageNo(0), &page)?;
        }
        Ok(Injected::Done)
    }

    /// Changes an inode in both copies.
    fn edit_inode(&mut self, ino: InodeNo, edit: impl FnOnce(&mut InodeRaw)) -> Result<Injected, InjectError> {
        let place = self.superblock.geometry().inode_place(ino);
        let (page, slot) = place.ok_or_else(|| self.missing("such inode"))?;
        self.edit_page(page, |bytes| {
            if let Some(raw) = InodeTablePage::view_mut(bytes).inodes.get_mut(slot) {
                edit(raw);
            }
        })
    }

    /// Changes a descriptor in both copies, and the counts in the superblock.
    fn edit_block(&mut self, block: BlockNo, edit: impl FnOnce(&mut BlockRaw)) -> Result<Injected, InjectError> {
        let place = self.superblock.geometry().descriptor_place(block);
        let (page, slot) = place.ok_or_else(|| self.missing("such data block"))?;
        let mut states = [None; 2];
        self.edit_page(page, |bytes| {
            if let Some(raw) = BlockTablePage::view_mut(bytes).entries.get_mut(slot) {
                let before = raw.state();
                edit(raw);
                states = [before, raw.state()];
            }
        })?;
        match states {
            [Some(before), Some(after)] if before != after => self.edit_superblock(|raw| {
                *count(raw, before) = count(raw, before).get().wrapping_sub(1).into();
                *count(raw, after) = count(raw, after).get().wrapping_add(1).into();
            }),
            _ => Ok(Injected::Done),
        }
    }

    /// The chosen inode, or the first matching one in use.
    fn inode(&mut self, missing: &'static str, fits: impl Fn(&InodeRaw) -> bool) -> Result<InodeNo, InjectError> {
        match self.target.inode {
            Some(ino) => Ok(ino),
            None => self.find_inode(fits).ok_or_else(|| self.missing(missing)),
        }
    }

    /// The first matching inode after the root.
    fn find_inode(&mut self, fits: impl Fn(&InodeRaw) -> bool) -> Option<InodeNo> {
        let geometry = self.superblock.geometry();
        for page in self.superblock.used_inode_pages().map(PageNo) {
            let bytes = self.read_page(CopyId::A, page).ok()?;
            let slots = (geometry.first_inode_of(page).0..).zip(&InodeTablePage::view(&bytes).inodes);
            let found = slots.filter(|(ino, _)| *ino > 1 && *ino <= geometry.inodes()).find(|(_, raw)| fits(raw));
            if let Some((ino, _)) = found {
                return Some(InodeNo(ino));
            }
        }
        None
    }

    /// The chosen block, or the first matching one that has a descriptor.
    fn block(
        &mut self,
        missing: &'static str,
        fits: impl Fn(&BlockRaw) -> bool + Send + Sync,
    ) -> Result<BlockNo, InjectError> {
        if let Some(block) = self.target.block {
            return Ok(block);
        }
        let geometry = self.superblock.geometry();
        for page in self.superblock.used_table_pages().map(PageNo) {
            let bytes = self.read_page(CopyId::A, page)?;
            let found = page_descriptors(geometry, page, &bytes).find(|(_, entry)| fits(entry));
            if let Some((block, _)) = found {
                return Ok(block);
            }
        }
        Err(self.missing(missing))
    }

    /// Sets state and generation of both superblocks so that a commit seems to be in progress. `page` is one that the
    /// commit of copy A's superblock seems to have written, with its previous generation.
    fn pretend(
        &mut self,
        a: Generation,
        b: Generation,
        state: u32,
        page: Option<(PageNo, Generation)>,
    ) -> Result<(), InjectError> {
        self.superblock.raw.state = state.into();
        let commits = self.superblock.raw.write_count.get();
        let before = self.superblock.group_sums();
        for (copy, generation) in CopyId::BOTH.into_iter().zip([a, b]) {
            let mut sums = before;
            if let Some((page, age)) = page.filter(|_| copy == CopyId::A)
                && let Some(sum) = sums.get_mut(group(page))
            {
                *sum = renewed(*sum, page, age, generation);
            }
            self.superblock.set_group_sums(&sums);
            self.superblock.generation = generation;
            self.superblock.raw.write_count = commits.wrapping_add(u64::from(generation > b)).into();
            let page = self.superblock.page(copy);
            self.write_page(copy, PageNo(0), &page)?;
        }
        Ok(())
    }

    /// An inode number that is not in use.
    fn unused_inode(&mut self) -> Result<InodeNo, InjectError> {
        let last = InodeNo(self.superblock.geometry().inodes());
        let free = |raw: &InodeRaw| raw.kind() == Some(InodeKind::Free);
        let behind = !self
            .superblock
            .used_inode_pages()
            .contains(&self.superblock.geometry().inode_place(last).map_or(0, |(page, _)| page.0));
        if behind { Ok(last) } else { self.find_inode(free).ok_or_else(|| self.missing("free inode")) }
    }

    /// Whether a block has anything but zeros in the image.
    fn has_content(&self, block: BlockNo) -> bool {
        let geometry = self.superblock.geometry();
        let span = Span::new(geometry.block_offset(block), geometry.block_bytes());
        let mut bytes = vec![0; usize::try_from(span.len).unwrap_or(0)];
        self.image.read_at(span.offset, &mut bytes).is_ok() && bytes.iter().any(|byte| *byte != 0)
    }

    /// All matching descriptors, with their blocks.
    fn descriptors(
        &self,
        fits: impl Fn(&BlockRaw) -> bool + Send + Sync,
    ) -> Result<Vec<(BlockNo, BlockRaw)>, InjectError> {
        let region = Region::open(&*self.image)?;
        let mut found = Vec::new();
        region.descriptors(|block, entry| {
            if fits(entry) {
                found.push((block, *entry));
            }
        });
        Ok(found)
    }
}

/// The sum after one page has got another generation.
fn renewed(sum: Sum, page: PageNo, before: Generation, after: Generation) -> Sum {
    sum - Sum::of(page, before) + Sum::of(page, after)
}

/// The superblock's count of blocks in a state.
fn count(raw: &mut SuperblockRaw, state: BlockState) -> &mut zerocopy::little_endian::U64 {
    match state {
        BlockState::Free => &mut raw.free_blocks,
        BlockState::Data => &mut raw.data_blocks,
        BlockState::Bad => &mut raw.bad_blocks,
        BlockState::Reserved => &mut raw.reserved_blocks,
    }
}

/// Damages one copy of a metadata page, by its number, in a region that fills `image`.
///
/// # Errors
/// There is no such page, or the medium failed.
pub fn damage_page<S: WriteAt>(image: &mut S, page: u32, in_copy_b: bool, how: Damage) -> Result<(), InjectError> {
    let code = Code::GM0001;
    let copy = if in_copy_b { CopyId::B } else { CopyId::A };
    let mut editor = Editor::open(image, code, Target::default())?;
    pages::damage(&mut editor, copy, PageNo(page), how).map(|_| ())
}
