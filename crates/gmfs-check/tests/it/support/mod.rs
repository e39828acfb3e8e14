//! Shared by the tests: regions in memory with tagged file blocks, repairs in rounds, and the result of a repair in a
//! form that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use gmfs_check::{Code, Finding, Options, Policy, Report, apply, check, plan};
use gmfs_format::model::Kind;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PageNo, PmdShift};
use gmfs_io::{ReadAt, Span, WriteAt};
use gmfs_volume::superblocks::used_tables;
use gmfs_volume::{
    Chosen, Class, CreateOptions, FormatOptions, PutOptions, Region, Stamp, Superblocks, Writer, WriterOptions,
};
use uuid::Uuid;

#[allow(dead_code, reason = "the tests of gmfs-volume use the rest")]
#[path = "../../../../gmfs-volume/tests/it/support/media/mod.rs"]
pub(crate) mod media;

pub(crate) use media::memory::Memory;

/// The time of all changes.
pub(crate) const NOW: u64 = 1_700_000_000_000_000_000;
/// The birth of all regions that do not get another one.
pub(crate) const BIRTH: u64 = 0xb17;
/// The size of a block.
pub(crate) const BLOCK: u64 = 2 << 20;

pub(crate) fn stamp() -> Stamp {
    Stamp { now: NOW, writer: "test".into() }
}

pub(crate) fn format_options(size: u64, inodes: u32, uuid: u128) -> FormatOptions {
    FormatOptions {
        geometry: Geometry::plan(size, PmdShift::M2, inodes).unwrap(),
        uuid: Uuid::from_u128(uuid),
        birth: BIRTH,
        label: "test".into(),
        base: 0,
        owner: (0, 0),
        stamp: stamp(),
        forget: Vec::new(),
    }
}

pub(crate) fn open<S: WriteAt>(target: S) -> Writer<S> {
    Writer::open(target, WriterOptions { writer: "test".into(), base: None, clock: || NOW }).unwrap().0
}

pub(crate) const CREATE: CreateOptions =
    CreateOptions { size: 0, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };

/// Writes a file of that many blocks. Each block starts with the file's number and the file block.
pub(crate) fn put<S: WriteAt>(writer: &mut Writer<S>, path: &str, id: u8, blocks: u32) {
    let mut content = vec![0; blocks as usize * BLOCK as usize];
    for (block, index) in content.chunks_mut(BLOCK as usize).zip(0_u32..) {
        block[..4].copy_from_slice(&[0xA7, id, 1, 1]);
        block[4..8].copy_from_slice(&index.to_le_bytes());
    }
    let create = CreateOptions { size: content.len() as u64, ..CREATE };
    writer.put(path.as_bytes(), &mut content.as_slice(), &PutOptions { create, replace: false }).unwrap();
}

/// A region of 20 MiB in which every problem can be made: files, a directory, free blocks, and an inode table that ends
/// within a used page.
pub(crate) fn small() -> Memory {
    let mut image = Memory::new(20 << 20);
    gmfs_volume::format(&mut image, &format_options(20 << 20, 13, 0xfeed)).unwrap();
    let mut writer = open(&mut image);
    writer.mkdir(b"/dir", false, 0o755, (0, 0)).unwrap();
    writer.create(b"/empty", &CREATE).unwrap();
    put(&mut writer, "/dir/guest", 1, 3);
    for n in 0..6 {
        writer.create(format!("/f{n}").as_bytes(), &CREATE).unwrap();
    }
    writer.close().unwrap();
    image
}

/// A region of 1.5 GiB with three pages of block table and several of inode table in use, as it was after each of three
/// sessions. The last one is first.
pub(crate) fn wide() -> [Memory; 3] {
    let size = 1536 << 20;
    let mut image = Memory::new(size);
    gmfs_volume::format(&mut image, &format_options(size, 61, 0xf00d)).unwrap();
    let mut states = Vec::new();
    for session in 0..3_u8 {
        let mut writer = open(&mut image);
        let directory = format!("/vms{session}");
        writer.mkdir(directory.as_bytes(), false, 0o755, (0, 0)).unwrap();
        for n in 0..4 {
            put(&mut writer, &format!("{directory}/guest{n}"), session * 16 + n, 2 + u32::from(n));
        }
        // Each session fills another page of the block table.
        let filler = format!("{directory}/large");
        writer.create(filler.as_bytes(), &CreateOptions { size: 190 * BLOCK, ..CREATE }).unwrap();
        writer.remove(format!("{directory}/guest1").as_bytes(), false).unwrap();
        writer.rename(format!("{directory}/guest2").as_bytes(), format!("/moved{session}").as_bytes(), false).unwrap();
        writer.close().unwrap();
        states.insert(0, image.clone());
    }
    states.try_into().unwrap()
}

/// Every metadata page in use.
pub(crate) fn used_pages(image: &Memory) -> Vec<PageNo> {
    let superblocks = Superblocks::load(image).unwrap();
    let tables = used_tables(superblocks.current()).into_iter().flat_map(|(_, pages)| pages);
    (0..1).chain(tables).map(PageNo).collect()
}

/// The offset of a copy of a page.
pub(crate) fn offset(image: &Memory, copy: CopyId, page: PageNo) -> u64 {
    Superblocks::load(image).unwrap().geometry().page_offset(copy, page)
}

pub(crate) fn look<S: ReadAt>(image: &S) -> Report {
    try_look(image).unwrap()
}

fn try_look<S: ReadAt>(image: &S) -> Result<Report, String> {
    look_at(image, None)
}

fn look_at<S: ReadAt>(image: &S, region: Option<Chosen>) -> Result<Report, String> {
    let mut options = Options::new(NOW);
    options.region = region;
    check(image, &options, &|_, _| {}).map_err(|error| error.to_string())
}

pub(crate) fn codes(report: &Report) -> BTreeSet<Code> {
    report.findings.iter().map(Finding::code).collect()
}

/// Repairs in rounds, as the program does. Returns the last report, and the codes that were refused last.
pub(crate) fn repair<S: WriteAt>(image: &mut S, policy: Policy) -> Result<(Report, BTreeSet<Code>), String> {
    repair_region(image, policy, None)
}

/// Like [`repair`], for a region that the user has chosen.
pub(crate) fn repair_region<S: WriteAt>(
    image: &mut S,
    policy: Policy,
    region: Option<Chosen>,
) -> Result<(Report, BTreeSet<Code>), String> {
    for _ in 0..40 {
        let report = look_at(image, region)?;
        let next = plan(image, &report, policy).map_err(|error| error.to_string())?;
        if next.is_empty() {
            return Ok((report, next.refused.iter().map(|refused| refused.code).collect()));
        }
        let state = report.state.clone().expect("a report of a region has its state");
        apply(image, &state, &next.edits, if policy == Policy::Safe { Class::Safe } else { Class::Lossy }, &stamp())
            .map_err(|error| format!("{error:?}: {:?}", next.edits))?;
    }
    Err(format!("a repair does not end: {:?}", look(image).findings))
}

/// The content of a region, as its users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// By path: number, kind, size, whether it reads completely, and a digest of the content with its file blocks.
    pub(crate) files: BTreeMap<Vec<u8>, (InodeNo, Kind, u64, bool, u64)>,
    /// Data blocks that are not free, with their state, owner and file block.
    pub(crate) used: BTreeMap<u32, (u8, InodeNo, u32)>,
    /// What a check finds.
    pub(crate) left: BTreeSet<Code>,
}

impl End {
    pub(crate) fn of(image: &Memory) -> Result<Self, String> {
        let left = codes(&try_look(image)?);
        let region = Region::open(image).map_err(|error| error.to_string())?;
        let mut used = BTreeMap::new();
        region.descriptors(|block, entry| {
            if entry.state() != Some(BlockState::Free) {
                used.insert(block.0, (entry.state, entry.owner(), entry.index.get()));
            }
        });
        let tree = region.inodes().tree;
        let mut mappings = region.mappings(|_| true).files;
        let mut files = BTreeMap::new();
        for inode in tree.inodes() {
            let Some(path) = tree.path(inode.ino) else { continue };
            let extents = mappings.remove(&inode.ino).unwrap_or_default();
            let blocks = extents.iter().flat_map(|e| (0..e.count).map(|n| (e.index + n, e.block.0 + n)));
            let digest = digest(image, region.geometry(), blocks);
            let whole = region.content(inode).is_ok();
            files.insert(path, (inode.ino, inode.kind, inode.size, whole, digest));
        }
        Ok(Self { files, used, left })
    }
}

/// A digest of blocks, with their file blocks.
fn digest(image: &Memory, geometry: Geometry, blocks: impl Iterator<Item = (u32, u32)>) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = std::hash::DefaultHasher::new();
    for (index, block) in blocks {
        let span = Span::new(geometry.block_offset(BlockNo(block)), geometry.block_bytes());
        for (offset, page) in image.stored(span) {
            hasher.write_u32(index);
            hasher.write_u64(offset - span.offset);
            hasher.write_u64(page.digest());
        }
    }
    hasher.finish()
}
