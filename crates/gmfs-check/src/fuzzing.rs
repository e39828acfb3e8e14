//! Shared by fuzzers and property tests: a small region with files, which is damaged as the input says, and then
//! opened, checked and repaired. It is not part of the crate's interface.
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "no part of the program: its numbers are its own, and a panic is what a fuzzer looks for"
)]

mod seeds;
mod stores;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use gmfs_format::model::{Inode, Kind};
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::seal::{self, Place};
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, CopyId, Generation, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, PmdShift};
use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};
use gmfs_volume::{Class, CreateOptions, FormatOptions, PutOptions, Region, Stamp, Writer, WriterOptions};
use uuid::Uuid;

use crate::{Code, Options, Policy, Repair, Report, Verdict, apply, check, plan};

pub use seeds::seeds;
pub use stores::{STORES, Seeds, exercise_guestmemfs, exercise_handover_check, exercise_pkernfs};

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// All bodies by name. The names are those of the fuzz targets.
pub const TARGETS: [(&str, Target); 2] = [("region_check", exercise_check), ("region_repair", exercise_repair)];

/// The region's birth.
const BIRTH: u64 = 0xb17;
/// The time of all changes.
pub const NOW: u64 = 1_700_000_000_000_000_000;

/// An image in memory. Only pages that were written take memory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pages: BTreeMap<u64, Box<PageBytes>>,
    size: u64,
    absent: Vec<Span>,
}

impl Image {
    /// An image of zeros.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { pages: BTreeMap::new(), size, absent: Vec::new() }
    }

    /// Removes a range from the image, as if a dump had left it out.
    pub fn lose(&mut self, span: Span) {
        self.absent.push(span);
    }

    /// Whether a span of the image has anything but zeros.
    #[must_use]
    pub fn has_content(&self, span: Span) -> bool {
        let pages = self.pages.range(span.offset / PAGE_BYTES..span.end().div_ceil(PAGE_BYTES));
        pages.into_iter().any(|(_, page)| page.iter().any(|byte| *byte != 0))
    }

    fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let inside = (at % PAGE_BYTES) as usize;
            let take = (PAGE_SIZE - inside).min(len - done);
            let piece = (take > 0).then_some((at / PAGE_BYTES, inside, done..done + take));
            done += take;
            piece
        })
    }
}

impl ReadAt for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = Span::new(offset, buf.len() as u64);
        if offset.checked_add(wanted.len).is_none_or(|end| end > self.size) {
            return Err(ReadError::Absent { span: wanted, why: Absence::BeyondEnd });
        }
        if self.absent.iter().any(|gone| gone.meets(wanted)) {
            return Err(ReadError::Absent { span: wanted, why: Absence::Excluded });
        }
        for (page, inside, range) in Self::pieces(offset, buf.len()) {
            let (Some(to), length) = (buf.get_mut(range.clone()), range.len()) else { continue };
            match self.pages.get(&page).and_then(|page| page.get(inside..inside + length)) {
                Some(bytes) => to.copy_from_slice(bytes),
                None => to.fill(0),
            }
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.size)
    }
}

impl WriteAt for Image {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, bytes.len() as u64);
        if offset.checked_add(span.len).is_none_or(|end| end > self.size) {
            return Err(WriteError { span, source: std::io::ErrorKind::UnexpectedEof.into() });
        }
        for (page, inside, range) in Self::pieces(offset, bytes.len()) {
            let page = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE_SIZE]));
            let length = range.len();
            if let (Some(to), Some(from)) = (page.get_mut(inside..inside + length), bytes.get(range)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        let whole = span.offset.div_ceil(PAGE_BYTES)..span.end() / PAGE_BYTES;
        let inside: Vec<u64> =
            self.pages.range(span.offset / PAGE_BYTES..span.end().div_ceil(PAGE_BYTES)).map(|p| *p.0).collect();
        for page in inside {
            if whole.contains(&page) {
                self.pages.remove(&page);
                continue;
            }
            let from = span.offset.max(page * PAGE_BYTES);
            let to = span.end().min((page + 1) * PAGE_BYTES);
            self.write_at(from, &vec![0; (to - from) as usize])?;
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

/// A region of 1.5 GiB with three pages of block table, directories, fragmented files, and free blocks.
#[must_use]
pub fn region() -> Image {
    static REGION: OnceLock<Image> = OnceLock::new();
    REGION.get_or_init(|| make().unwrap_or_default()).clone()
}

fn make() -> Result<Image, Box<dyn std::error::Error>> {
    let size = 1536 << 20;
    let mut image = Image::new(size);
    let options = FormatOptions {
        geometry: Geometry::plan(size, PmdShift::M2, 61)?,
        uuid: Uuid::from_u128(0xf00d),
        birth: BIRTH,
        label: "fuzz".into(),
        base: 0,
        owner: (0, 0),
        stamp: Stamp { now: NOW, writer: "fuzz".into() },
        forget: Vec::new(),
    };
    gmfs_volume::format(&mut image, &options)?;
    let (mut writer, _) = Writer::open(&mut image, WriterOptions { writer: "fuzz".into(), base: None, clock: || NOW })?;
    let create = CreateOptions { size: 0, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
    writer.mkdir(b"/vms", false, 0o755, (0, 0))?;
    writer.mkdir(b"/vms/old", false, 0o755, (0, 0))?;
    for n in 0..12_u8 {
        let path = format!("/vms/guest{n}");
        let content = vec![n + 1; (usize::from(n) << 20) + 5000];
        let expected = CreateOptions { size: content.len() as u64, ..create };
        writer.put(path.as_bytes(), &mut content.as_slice(), &PutOptions { create: expected, replace: false })?;
    }
    writer.create(b"/large", &CreateOptions { size: 600 << 21, ..create })?;
    writer.rename(b"/vms/guest3", b"/vms/old/third", false)?;
    writer.remove(b"/vms/guest5", false)?;
    writer.truncate(b"/vms/guest11", 3 << 20, false)?;
    writer.close()?;
    Ok(image)
}

/// Damage to one page: which page, in which copies, with which bytes, and whether the page gets a good seal afterwards.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Selects the page.
    pub page: u8,
    /// Bit 0: copy A; bit 1: copy B; bit 2: seal the page again; bit 3: with the next generation.
    pub how: u8,
    /// The offset in the page.
    pub offset: u16,
    /// The bytes that are written there.
    pub bytes: Vec<u8>,
}

impl Patch {
    /// The bytes from which [`patches`] reads this patch. It may have at most 255 bytes of content.
    #[must_use]
    pub fn input(&self) -> Vec<u8> {
        let [low, high] = self.offset.to_le_bytes();
        let length = u8::try_from(self.bytes.len()).unwrap_or(u8::MAX);
        let bytes = self.bytes.iter().take(length.into());
        [self.page, self.how, low, high, length].iter().chain(bytes).copied().collect()
    }
}

/// Reads patches from the fuzzer's input.
#[must_use]
pub fn patches(mut data: &[u8]) -> Vec<Patch> {
    let mut patches = Vec::new();
    while let [page, how, low, high, len, rest @ ..] = data {
        let len = usize::from(*len).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        patches.push(Patch {
            page: *page,
            how: *how,
            offset: u16::from_le_bytes([*low, *high]),
            bytes: bytes.to_vec(),
        });
        data = rest;
    }
    patches
}

/// The number of pages that a patch can select: the superblock, three pages of block table, eight of inode table, and
/// one past each high-water mark.
const PAGES: u8 = 14;

/// The layout of the region that [`region`] makes.
fn geometry(image: &Image) -> Option<Geometry> {
    Geometry::plan(image.size, PmdShift::M2, 61).ok()
}

/// Damages an image.
pub fn damage(image: &mut Image, patch: &Patch) {
    let Some(geometry) = geometry(image) else { return };
    let page = PageNo(u32::from(patch.page % PAGES));
    let Some(kind) = geometry.page_kind(page) else { return };
    for (bit, copy) in [(1, CopyId::A), (2, CopyId::B)] {
        if patch.how & bit == 0 {
            continue;
        }
        let at = geometry.page_offset(copy, page);
        let mut bytes = [0; PAGE_SIZE];
        if image.read_at(at, &mut bytes).is_err() {
            continue;
        }
        let from = usize::from(patch.offset) % PAGE_SIZE;
        for (place, byte) in bytes.iter_mut().skip(from).zip(&patch.bytes) {
            *place = *byte;
        }
        if patch.how & 4 != 0 {
            let generation = PageHeader::of(&bytes).generation.get();
            let generation = generation.saturating_add(u64::from(patch.how >> 3 & 1));
            let place = Place { kind, copy, page, uuid: Uuid::from_u128(0xf00d), birth: BIRTH, geometry };
            seal::seal(&mut bytes, &place, Generation(generation));
        }
        // Writing a page of the image cannot fail.
        let _ = image.write_at(at, &bytes);
    }
}

/// Checks an image; `None` if there is no region.
#[must_use]
pub fn look<S: ReadAt>(image: &S) -> Option<Report> {
    let options = Options { now: NOW, threads: NonZeroUsize::MIN, data: false, keep: 1000, region: None };
    check(image, &options, &|_, _| {}).ok()
}

/// Reads everything that can be read of a region.
pub fn read_all<S: ReadAt>(image: &S) {
    let Ok(region) = Region::open(image) else { return };
    let inodes = region.inodes();
    for inode in inodes.tree.inodes() {
        let _ = inodes.tree.path(inode.ino);
        let _ = region.content(inode);
    }
}

/// Opens, checks and reads a damaged image.
pub fn exercise_check(data: &[u8]) {
    let mut image = region();
    for patch in patches(data) {
        damage(&mut image, &patch);
    }
    let _ = look(&image);
    read_all(&image);
}

/// The data blocks that are free in a region, by their descriptors.
fn free_blocks<S: ReadAt>(image: &S) -> Option<Vec<bool>> {
    let region = Region::open(image).ok()?;
    let geometry = region.geometry();
    let state = |block| region.descriptor(BlockNo(block)).and_then(|entry| entry.state());
    Some((0..geometry.blocks()).map(|block| state(block) == Some(BlockState::Free)).collect())
}

/// Repairs a damaged image in rounds, as a program does, and checks the laws of a repair.
///
/// # Panics
/// If a law is broken: a repair does not end, leaves what it planned to repair, or frees a block with content.
#[expect(clippy::panic, reason = "what a fuzzer and a property test look for")]
pub fn repair(image: &mut Image) -> Option<Verdict> {
    let before = used_blocks(image);
    let stamp = Stamp { now: NOW, writer: "fuzz".into() };
    let mut report = look(image)?;
    for _ in 0..40 {
        let next = plan(image, &report, Policy::Lossy).ok()?;
        if next.is_empty() {
            assert_laws(image, &report, &before);
            return Some(report.verdict());
        }
        let state = report.state.clone()?;
        if let Err(error) = apply(image, &state, &next.edits, Class::Lossy, &stamp) {
            panic!("a plan cannot be carried out: {error:?}: {:?}", next.edits);
        }
        report = look(image)?;
    }
    panic!("a repair does not end: {:?}", report.findings);
}

/// Data blocks that are not free, by the copy that counts. Empty if a page of the table cannot be read.
fn used_blocks(image: &Image) -> Vec<BlockNo> {
    let Some(free) = free_blocks(image) else { return Vec::new() };
    let Ok(region) = Region::open(image) else { return Vec::new() };
    let blocks = (0..region.geometry().blocks()).map(BlockNo).filter(|block| region.geometry().is_data(*block));
    blocks
        .zip(free.iter().skip(region.geometry().first_data().0 as usize))
        .filter(|(_, free)| !**free)
        .map(|(b, _)| b)
        .collect()
}

#[expect(clippy::panic, reason = "what a fuzzer and a property test look for")]
fn assert_laws(image: &Image, report: &Report, used: &[BlockNo]) {
    let planned = |code: Code| matches!(code.repair(), Repair::Safe | Repair::Lossy);
    let Ok(region) = Region::open(image) else { return };
    let writable = region.superblock().features().writable();
    if let Some(left) = report.findings.iter().find(|finding| planned(finding.code()) && writable) {
        panic!("left after a repair that ended: {left:?}");
    }
    let Some(free) = free_blocks(image) else { return };
    for block in used {
        assert!(free.get(block.0 as usize) != Some(&true), "block {block} was in use and is free");
    }
}

/// Repairs a region that was damaged by the patches in `data`.
pub fn exercise_repair(data: &[u8]) {
    let mut image = region();
    for patch in patches(data) {
        damage(&mut image, &patch);
    }
    let _ = repair(&mut image);
}

/// The files of a region: path, number, and the blocks that hold them.
#[must_use]
pub fn files<S: ReadAt>(image: &S) -> BTreeMap<Vec<u8>, (u64, Vec<BlockNo>)> {
    let Ok(region) = Region::open(image) else { return BTreeMap::new() };
    let tree = region.inodes().tree;
    let regular = tree.inodes().filter(|inode| inode.kind == Kind::File);
    let blocks = |inode: &Inode| {
        let extents = region.mapping(inode.ino).extents;
        extents.iter().flat_map(|e| (e.block.0..e.block.0 + e.count).map(BlockNo)).collect()
    };
    regular.filter_map(|inode| Some((tree.path(inode.ino)?, (inode.size, blocks(inode))))).collect()
}

#[cfg(test)]
mod tests;
