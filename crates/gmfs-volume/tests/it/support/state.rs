//! The content of a region, independent of how its two copies store it. Regions with equal snapshots look the same to
//! users.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;
use std::ops::ControlFlow;

use gmfs_format::model::Inode;
use gmfs_format::model::Kind;
use gmfs_format::model::Piece;
use gmfs_format::native::copies::Standing;
use gmfs_format::native::raw::{BlockRaw, OnMemory as _, SuperblockRaw};
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PAGE_BYTES};
use gmfs_io::{ReadAt, Span, WriteAt};
use gmfs_volume::content::pieces;
use gmfs_volume::region::Mapping;
use gmfs_volume::seals::{Verdict, compare, is_sealed};
use gmfs_volume::superblocks::used_tables;
use gmfs_volume::sweep::{Frame, sweep};
use gmfs_volume::{Region, Superblocks, Writer};

use super::memory::{Memory, digest};
use super::ops::{self, Tag};
use super::reader;

/// A file or directory.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) inode: Inode,
    /// A digest of the whole content up to the file's end.
    content: Option<u64>,
    /// The tags in all of its blocks, also past the file's end. They show who wrote the blocks.
    pub(crate) tags: BTreeSet<Tag>,
}

impl PartialEq for Entry {
    /// Content past a file's end is not visible, and may be zeroed before a change.
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode && self.content == other.content
    }
}

impl Eq for Entry {}

/// The logical state of a region.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Without flags that only show whether a writer is at work, and without the sums: they follow from the generations
    /// of pages, which a crash and its recovery change. Also without the birth that a restore in progress replaces.
    pub(crate) superblock: SuperblockRaw,
    pub(crate) entries: BTreeMap<Vec<u8>, Entry>,
    pub(crate) descriptors: Vec<(BlockNo, BlockRaw)>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let raw = &self.superblock;
        writeln!(f, "free {} data {} inodes {}", raw.free_blocks, raw.data_blocks, raw.used_inodes)?;
        writeln!(f, "marks {} {}, {} writes", raw.table_used, raw.inodes_used_pages, raw.write_count)?;
        for (path, Entry { inode, content, tags }) in &self.entries {
            let path = String::from_utf8_lossy(path);
            let (ino, size, blocks) = (inode.ino, inode.size, inode.blocks);
            writeln!(
                f,
                "{path}: {ino}, {size} bytes, {blocks} blocks, {content:x?}, {tags:?}, {:?}",
                inode.attributes
            )?;
        }
        for (block, entry) in self.descriptors.iter().take(20) {
            writeln!(f, "block {block}: {} place {} state {}", entry.owner, entry.index, entry.state)?;
        }
        Ok(())
    }
}

impl Snapshot {
    /// Reads the state of the region on a medium.
    pub(crate) fn read(memory: &Memory) -> Result<Self, String> {
        let region = Region::open(memory).map_err(|error| format!("does not open: {error}"))?;
        Self::of(&region)
    }

    /// Reads the state of an open region.
    pub(crate) fn of(region: &Region<&Memory>) -> Result<Self, String> {
        let mut superblock = region.superblock().raw;
        superblock.state = 0.into();
        superblock.group_sums = [[0.into(); 2]; 64];
        superblock.replaces = 0.into();
        let found = region.inodes();
        let mappings = region.mappings(|_| true);
        let mut descriptors = Vec::new();
        let lost = region.descriptors(|block, entry| {
            if *entry != BlockRaw::FREE {
                descriptors.push((block, *entry));
            }
        });
        if found.lost_pages + mappings.lost_pages + lost != 0 {
            return Err("pages are lost".to_owned());
        }
        let mut entries = BTreeMap::new();
        for inode in found.tree.inodes() {
            let path = found.tree.path(inode.ino).ok_or("an inode without a path")?;
            let extents = mappings.files.get(&inode.ino).cloned().unwrap_or_default();
            let mapping = Mapping { extents, lost_pages: 0 };
            if mapping.blocks() != inode.blocks {
                return Err(format!("inode {} has {} blocks", inode.ino, mapping.blocks()));
            }
            let entry = entry(region, inode, &mapping)?;
            if entries.insert(path, entry).is_some() {
                return Err("two inodes at one path".to_owned());
            }
        }
        let snapshot = Self { superblock, entries, descriptors };
        snapshot.counts_hold(region.geometry().data_blocks())?;
        Ok(snapshot)
    }

    /// Whether the counts in the superblock are correct.
    fn counts_hold(&self, data_blocks: u32) -> Result<(), String> {
        let mut counts = [0_u64; 4];
        counts[0] = u64::from(data_blocks) - self.descriptors.len() as u64;
        for (_, entry) in &self.descriptors {
            *counts.get_mut(usize::from(entry.state)).ok_or("a state that is none")? += 1;
        }
        let raw = &self.superblock;
        let says = [&raw.free_blocks, &raw.data_blocks, &raw.bad_blocks, &raw.reserved_blocks].map(|n| n.get());
        if says != counts || raw.used_inodes.get() != self.entries.len() as u64 {
            return Err(format!("the counts are wrong: {says:?} for {counts:?}"));
        }
        Ok(())
    }

    /// Whether every block of every file, also past the file's end, holds only zeros and what a block of this file
    /// holds in one of these states.
    pub(crate) fn shows_only_its_own(&self, states: &[Self]) -> Result<(), String> {
        for (path, entry) in &self.entries {
            let own = |tag: &Tag| {
                let entries = states.iter().flat_map(|state| state.entries.values());
                let mut same = entries.filter(|known| known.inode.ino == entry.inode.ino);
                same.any(|known| known.tags.contains(tag))
            };
            if let Some(foreign) = entry.tags.iter().find(|tag| !own(tag)) {
                return Err(format!("{} holds {foreign:?}", String::from_utf8_lossy(path)));
            }
        }
        Ok(())
    }

    /// Whether the second implementation of reading finds the same descriptors and inodes.
    pub(crate) fn is_seen_by_the_other_reader(&self, memory: &Memory) -> Result<(), String> {
        let seen = reader::read(memory, memory.end().unwrap_or_default())?;
        let raw = &self.superblock;
        let marks = [raw.table_used.get(), raw.inodes_used_pages.get()];
        let descriptors: BTreeMap<u32, [u8; 16]> =
            self.descriptors.iter().map(|(block, entry)| (block.0, entry.bytes().try_into().unwrap())).collect();
        if seen.marks != marks || seen.descriptors != descriptors {
            return Err(format!("the other reader sees {seen:?}"));
        }
        let found = self.entries.values().map(|entry| &entry.inode);
        let mut numbers: Vec<u32> = found.clone().map(|inode| inode.ino.0).collect();
        numbers.sort_unstable();
        let same = found.clone().all(|inode| {
            let raw = &seen.inodes[&inode.ino.0];
            let field =
                |at: usize, len: usize| raw[at..at + len].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            let name = &raw[81..81 + usize::from(raw[80])];
            *name == *inode.name
                && (field(0, 4), field(20, 4)) == (inode.ino.0.into(), inode.parent.0.into())
                && (field(24, 8), field(32, 8)) == (inode.size, inode.blocks)
        });
        let all = seen.inodes.keys().copied().eq(numbers);
        if all && same { Ok(()) } else { Err(format!("the other reader sees other inodes: {:?}", seen.inodes.keys())) }
    }

    /// The state without what may be dropped ahead of a change: the seals of blocks that it overwrites, and what the
    /// superblock says of the commit that drops them.
    pub(crate) fn without_seals(&self) -> Self {
        let mut bare = self.clone();
        for (_, entry) in &mut bare.descriptors {
            (entry.crc, entry.flags) = (0.into(), 0);
        }
        let raw = &mut bare.superblock;
        (raw.write_count, raw.written, raw.sealed) = (0.into(), 0.into(), 0.into());
        raw.writer = [0; 32];
        bare
    }

    /// Whether a block that has a seal in `before` has none here, though it is the same file's.
    pub(crate) fn drops_seals(&self, before: &Self) -> bool {
        let now: BTreeMap<BlockNo, BlockRaw> = self.descriptors.iter().copied().collect();
        before.descriptors.iter().any(|(block, was)| {
            let same = now.get(block).filter(|is| (is.owner, is.index, is.state) == (was.owner, was.index, was.state));
            is_sealed(was) && same.is_some_and(|is| !is_sealed(is))
        })
    }

    /// Whether each seal is one of `other`.
    pub(crate) fn has_only_seals_of(&self, other: &Self) -> bool {
        let mut sealed = self.descriptors.iter().filter(|(_, entry)| is_sealed(entry));
        sealed.all(|sealed| other.descriptors.contains(sealed))
    }

    /// The entry at a path.
    pub(crate) fn at(&self, path: &[u8]) -> &Entry {
        self.entries.get(path).unwrap_or_else(|| panic!("no {}", String::from_utf8_lossy(path)))
    }
}

/// What is found by way of where descriptors are must be what a pass over the whole block table finds.
pub(crate) fn require_found<S: WriteAt>(writer: &Writer<S>, told: &dyn Fn() -> String) {
    let known = writer.region();
    let plain = Region::with(known.source(), known.superblocks());
    let inos: Vec<InodeNo> = writer.tree().inodes().map(|inode| inode.ino).collect();
    require_same(&known, &plain, &inos, told);
    let indexed = Region::with(known.source(), known.superblocks());
    indexed.index();
    require_same(&indexed, &plain, &inos, told);
}

fn require_same<S: ReadAt, T: ReadAt>(
    region: &Region<S, &Superblocks>,
    plain: &Region<T, &Superblocks>,
    inos: &[InodeNo],
    told: &dyn Fn() -> String,
) {
    for ino in inos {
        assert_eq!(region.mapping(*ino).extents, plain.mapping(*ino).extents, "{}: inode {ino}", told());
    }
    assert_eq!(region.seals_of(inos), plain.seals_of(inos), "{}", told());
    let some = inos.get(inos.len() / 2..).unwrap_or_default();
    let all = plain.seals().files;
    let among = all.iter().filter(|(ino, _)| some.contains(ino)).map(|(ino, seals)| (*ino, seals.clone())).collect();
    assert_eq!(region.seals_among(some).files, among, "{}", told());
}

/// The files of which a block is not as it was sealed.
pub(crate) fn changed(memory: &Memory) -> BTreeSet<InodeNo> {
    let mut found = BTreeSet::new();
    let Ok(region) = Region::open(memory) else { return found };
    compare(
        memory,
        region.superblocks(),
        region.superblock().used_table_pages(),
        |_| true,
        1,
        |compared| {
            if matches!(compared.verdict, Verdict::Changed { .. }) {
                found.insert(compared.owner);
            }
            ControlFlow::Continue(())
        },
    );
    found
}

fn entry(region: &Region<&Memory>, inode: &Inode, mapping: &Mapping) -> Result<Entry, String> {
    let geometry = region.geometry();
    let mut tags = BTreeSet::new();
    let blocks = mapping
        .extents
        .iter()
        .flat_map(|extent| (0..extent.count).map(move |n| (extent.index + n, extent.block.0 + n)));
    for (index, block) in blocks {
        let span = Span::new(geometry.block_offset(BlockNo(block)), geometry.block_bytes());
        for tag in region.source().stored(span).flat_map(|(offset, page)| ops::tags_of(offset, page.bytes())) {
            if tag.index != index {
                return Err(format!("place {index} of inode {} holds what was written to {tag:?}", inode.ino));
            }
            tags.insert(tag);
        }
    }
    let content = match inode.kind {
        Kind::File => {
            let pieces = pieces(geometry, inode, mapping).map_err(|error| error.to_string())?;
            Some(content(region.source(), &pieces))
        }
        _ => None,
    };
    Ok(Entry { inode: inode.clone(), content, tags })
}

/// A digest of a file's bytes: of the pages that are not zero, with their offsets.
fn content(memory: &Memory, pieces: &[Piece]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for piece in pieces {
        let Piece::Data { file, at, .. } = piece else {
            continue;
        };
        let span = Span::new(*at, file.len);
        for (offset, page) in memory.stored(span) {
            let kept = usize::try_from(PAGE_BYTES.min(span.end() - offset)).unwrap();
            let whole = kept == page.bytes().len();
            if !whole && page.bytes()[..kept].iter().all(|byte| *byte == 0) {
                continue;
            }
            hasher.write_u64(file.offset + (offset - at));
            hasher.write_u64(if whole { page.digest() } else { digest(&page.bytes()[..kept]) });
        }
    }
    hasher.finish()
}

/// The states of the copies of a region's pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// The damaged pages, including superblocks.
    pub(crate) damage: Vec<String>,
    /// How many copies of pages recovery has to write.
    pub(crate) recovery: u64,
    /// Whether all pages are good in both copies, and both superblocks are equal.
    pub(crate) whole: bool,
}

/// Judges all pages in use.
pub(crate) fn health(memory: &Memory) -> Result<Health, String> {
    let superblocks = Superblocks::load(memory).map_err(|error| error.to_string())?;
    let mut health = Health { whole: superblocks.judgement().is_whole(), ..Health::default() };
    if superblocks.judgement().is_damage() {
        health.damage.push(format!("superblock: {:?} in {:?}", superblocks.judgement(), superblocks.phase()));
    }
    let recovered = |standing: Standing| u64::from(standing.is_recovery());
    health.recovery += CopyId::BOTH.iter().map(|copy| recovered(superblocks.judgement().of(*copy))).sum::<u64>();
    for (_, pages) in used_tables(superblocks.current()) {
        let visit = |frame: &Frame<'_>| {
            health.whole &= frame.judgement.is_whole();
            health.recovery += CopyId::BOTH.iter().map(|copy| recovered(frame.judgement.of(*copy))).sum::<u64>();
            if frame.judgement.is_damage() {
                health.damage.push(format!("page {}: {:?}", frame.page, frame.judgement));
            }
        };
        sweep(memory, &superblocks, pages, vec![visit]);
    }
    Ok(health)
}

/// Fails unless both copies of every page are good and equal.
pub(crate) fn require_whole(memory: &Memory) -> Result<(), String> {
    let health = health(memory)?;
    if health.whole { Ok(()) } else { Err(format!("not whole: {health:?}")) }
}
