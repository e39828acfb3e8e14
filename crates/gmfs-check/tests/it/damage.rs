//! Random damage to a region with files. Nothing may panic or hang; a repair must end, leave nothing that it could plan
//! for, and free no block that was in use. `GMFS_DAMAGE_CASES` is the number of cases.

use gmfs_check::fuzzing::{Image, Patch, damage, exercise_check, exercise_repair, files, look, region, repair};
use gmfs_check::{Policy, Verdict, apply, plan};
use gmfs_format::model::Piece;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PAGE_SIZE, PageNo, PmdShift};
use gmfs_io::{ReadAt, ReadError, Span, WriteAt, WriteError};
use gmfs_volume::{Class, Stamp};
use proptest::prelude::*;

fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("GMFS_DAMAGE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

/// Damage of any kind. Half of it gets a good seal.
fn patch() -> impl Strategy<Value = Patch> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..24),
        prop::collection::vec(any::<u8>(), 4096),
        Just(vec![0; 4096]),
        (1..600_usize).prop_map(|n| vec![0; n]),
    ];
    (any::<u8>(), any::<u8>(), any::<u16>(), bytes).prop_map(|(page, how, offset, bytes)| Patch {
        page,
        how,
        offset,
        bytes,
    })
}

/// Damage without good seals: bytes that are overwritten, torn or flipped.
fn clobber() -> impl Strategy<Value = Patch> {
    patch().prop_map(|patch| Patch { how: patch.how & 3, ..patch })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_damage_is_repaired_to_the_end(patches in prop::collection::vec(patch(), 1..6)) {
        let mut image = region();
        for patch in &patches {
            damage(&mut image, patch);
        }
        repair(&mut image);
    }

    #[test]
    fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..3000)) {
        exercise_check(&data);
        exercise_repair(&data);
    }

    /// Damage to different pages of both copies, which is the common case, is undone bit for bit.
    #[test]
    fn damage_in_different_pages_of_both_copies_is_undone(
        in_a in prop::collection::vec(clobber(), 0..5),
        in_b in prop::collection::vec(clobber(), 0..5),
        split in prop::collection::vec(any::<bool>(), 14),
    ) {
        let healthy = region();
        let mut image = healthy.clone();
        for (patches, copy, side) in [(&in_a, 1, true), (&in_b, 2, false)] {
            for patch in patches.iter().filter(|patch| split[usize::from(patch.page % 14)] == side) {
                damage(&mut image, &Patch { how: copy, ..patch.clone() });
            }
        }
        prop_assert_eq!(repair(&mut image), Some(Verdict::Clean));
        prop_assert!(same(&image, &healthy));
    }
}

/// A block of a file: its number, its owner, its file block, and the content of its first page.
type Owned = (BlockNo, InodeNo, u32, [u8; PAGE_SIZE]);

/// Every block of a file in a region, by the page of the block table that describes it.
fn owned(image: &Image) -> Vec<(PageNo, Owned)> {
    let region = gmfs_volume::Region::open(image).unwrap();
    let geometry = region.geometry();
    let mut found = Vec::new();
    region.descriptors(|block, entry| {
        if entry.is_mapping() {
            let mut content = [0; PAGE_SIZE];
            image.read_at(geometry.block_offset(block), &mut content).unwrap();
            let page = geometry.descriptor_place(block).unwrap().0;
            found.push((page, (block, entry.owner(), entry.index.get(), content)));
        }
    });
    found
}

/// Whether a page is unchanged in one copy at least.
fn survives(image: &Image, healthy: &Image, page: PageNo) -> bool {
    let geometry = Geometry::plan(1536 << 20, PmdShift::M2, 61).unwrap();
    CopyId::BOTH.into_iter().any(|copy| {
        let at = geometry.page_offset(copy, page);
        let (mut is, mut was) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        image.read_at(at, &mut is).unwrap();
        healthy.read_at(at, &mut was).unwrap();
        is == was
    })
}

proptest! {
    #![proptest_config(cases(100))]

    /// Whatever else is lost: a block of a file whose descriptor survives in either copy must belong to that file at
    /// the end, at its file block and with its content, and a path must lead to it.
    #[test]
    fn what_survives_in_either_copy_is_there(patches in prop::collection::vec(clobber(), 1..12)) {
        let healthy = region();
        let mut image = healthy.clone();
        for patch in &patches {
            damage(&mut image, patch);
        }
        let mut before = owned(&healthy);
        let (all, marks) = (before.clone(), survives(&image, &healthy, PageNo(0)));
        before.retain(|(page, _)| survives(&image, &healthy, *page));
        if repair(&mut image).is_none() {
            // Nothing shows any more where the structures are.
            let first = Geometry::plan(1536 << 20, PmdShift::M2, 61).unwrap().first_inode_page();
            prop_assert!(!survives(&image, &healthy, PageNo(0)) && !survives(&image, &healthy, first));
            return Ok(());
        }
        let after: std::collections::BTreeMap<BlockNo, Owned> =
            owned(&image).into_iter().map(|(_, owned)| (owned.0, owned)).collect();
        let repaired = gmfs_volume::Region::open(&image).unwrap();
        let tree = repaired.inodes().tree;
        // Blocks that no copy describes any more are not free either, as long as a superblock shows how far the tables
        // reach.
        for (_, owned) in all.iter().filter(|_| marks) {
            let state = repaired.descriptor(owned.0).and_then(|entry| entry.state());
            prop_assert_ne!(state, Some(gmfs_format::native::tables::BlockState::Free), "block {}", owned.0);
        }
        for (_, owned) in before {
            prop_assert!(after.get(&owned.0) == Some(&owned), "block {} of {} is not there", owned.0, owned.1);
            let file = tree.get(owned.1).filter(|inode| inode.size > u64::from(owned.2) * (2 << 20));
            prop_assert!(file.is_some_and(|file| tree.path(file.ino).is_some()), "no path to block {}", owned.0);
        }
    }
}

/// Whether the used metadata of both copies is equal.
fn same(a: &Image, b: &Image) -> bool {
    let region = gmfs_volume::Region::open(b).unwrap();
    let (geometry, superblock) = (region.geometry(), region.superblock());
    let used = (0..1).chain(superblock.used_table_pages()).chain(superblock.used_inode_pages());
    used.map(PageNo).all(|page| {
        CopyId::BOTH.into_iter().all(|copy| {
            let at = geometry.page_offset(copy, page);
            let (mut in_a, mut in_b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
            a.read_at(at, &mut in_a).unwrap();
            b.read_at(at, &mut in_b).unwrap();
            in_a == in_b
        })
    })
}

fn wipe(image: &mut Image, copy: CopyId, pages: std::ops::Range<u32>) {
    let geometry = Geometry::plan(1536 << 20, PmdShift::M2, 61).unwrap();
    for page in pages.map(PageNo) {
        image.write_at(geometry.page_offset(copy, page), &[0xEE; PAGE_SIZE]).unwrap();
    }
}

#[test]
fn all_of_one_copy_comes_back_bit_for_bit() {
    for copy in CopyId::BOTH {
        let mut image = region();
        wipe(&mut image, copy, 0..14);
        assert_eq!(repair(&mut image), Some(Verdict::Clean));
        assert!(same(&image, &region()), "copy {copy}");
    }
}

#[test]
fn both_superblocks_come_back_from_the_tables() {
    let mut image = region();
    for copy in CopyId::BOTH {
        wipe(&mut image, copy, 0..1);
    }
    let before = files(&region());
    assert_eq!(repair(&mut image), Some(Verdict::Clean));
    assert_eq!(files(&image), before);
}

#[test]
fn a_lost_inode_page_gives_its_files_back_in_lost_and_found() {
    let geometry = Geometry::plan(1536 << 20, PmdShift::M2, 61).unwrap();
    let before = files(&region());
    let mut image = region();
    for copy in CopyId::BOTH {
        let first = geometry.first_inode_page().0;
        wipe(&mut image, copy, first..first + 1);
    }
    assert_eq!(repair(&mut image), Some(Verdict::Clean));
    let after = files(&image);
    for (path, (_, blocks)) in before.iter().filter(|(_, (_, blocks))| !blocks.is_empty()) {
        let found = after.values().any(|(_, others)| others == blocks);
        assert!(found, "the blocks of {} are not together any more", path.escape_ascii());
    }
    assert!(after.keys().any(|path| path.starts_with(b"/lost+found/#")));
}

#[test]
fn a_lost_table_page_leaves_its_blocks_reserved() {
    let mut image = region();
    for copy in CopyId::BOTH {
        wipe(&mut image, copy, 1..2);
    }
    assert_eq!(repair(&mut image), Some(Verdict::Clean));
    let region = gmfs_volume::Region::open(&image).unwrap();
    let geometry = region.geometry();
    let reserved = (geometry.first_data().0..geometry.first_data().0 + 250).map(BlockNo);
    for block in reserved {
        let state = region.descriptor(block).unwrap().state();
        assert_eq!(state, Some(gmfs_format::native::tables::BlockState::Reserved), "block {block}");
    }
    // Blocks that the files have lost must not read as zeros.
    let tree = region.inodes().tree;
    let guest = tree.resolve(b"/vms/guest7").unwrap();
    let pieces = region.content(guest).unwrap();
    assert!(pieces.iter().any(|piece| matches!(piece, Piece::Lost { .. })), "{pieces:?}");
    assert!(!pieces.iter().any(|piece| matches!(piece, Piece::Hole { .. })), "{pieces:?}");
}

/// A page of copy B has a good seal and a generation above that of both superblocks, and calls a block of a file free.
/// No superblock confirms it, and copy A's page is unchanged.
#[test]
fn a_page_newer_than_the_superblocks_frees_nothing_by_its_own_word() {
    let mut image = region();
    let newer = Patch { page: 1, how: 2 | 4 | 8, offset: 0, bytes: vec![0] };
    let freeing = Patch { offset: 34, bytes: vec![0; 43], ..newer.clone() };
    for patch in [newer, freeing] {
        damage(&mut image, &patch);
    }
    // The repair fails if a block that was in use is free afterwards.
    assert!(repair(&mut image).is_some());
}

/// Fails at the nth write, and does nothing after that.
struct Failing<'a> {
    inner: &'a mut Image,
    left: u32,
}

impl ReadAt for Failing<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.inner.end()
    }
}

impl WriteAt for Failing<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, bytes.len() as u64);
        self.left = self.left.checked_sub(1).ok_or(WriteError { span, source: std::io::Error::other("stopped") })?;
        self.inner.write_at(offset, bytes)
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.inner.zero(span)
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        self.inner.barrier()
    }
}

proptest! {
    #![proptest_config(cases(12))]

    /// A repair that is stopped at any write must be completed by the next one with the same result.
    #[test]
    fn a_stopped_repair_is_ended_by_the_next(patches in prop::collection::vec(patch(), 1..4), first in 0_u32..7) {
        let mut damaged = region();
        for patch in &patches {
            damage(&mut damaged, patch);
        }
        let mut whole = damaged.clone();
        let Some(verdict) = repair(&mut whole) else { return Ok(()) };
        let end = files(&whole);
        for stop in (first..60).step_by(7) {
            let mut image = damaged.clone();
            if run_until(&mut image, stop) {
                break;
            }
            prop_assert_eq!(repair(&mut image), Some(verdict), "stopped at store {}", stop);
            prop_assert_eq!(files(&image), end.clone(), "stopped at store {}", stop);
        }
    }
}

/// Repairs with at most that many writes. Returns whether that was enough.
fn run_until(image: &mut Image, stores: u32) -> bool {
    let stamp = Stamp { now: gmfs_check::fuzzing::NOW, writer: "fuzz".into() };
    let mut target = Failing { inner: image, left: stores };
    for _ in 0..40 {
        let Some(report) = look(&target) else { return true };
        let Ok(next) = plan(&target, &report, Policy::Lossy) else { return true };
        if next.is_empty() {
            return true;
        }
        let Some(state) = report.state else { return true };
        if apply(&mut target, &state, &next.edits, Class::Lossy, &stamp).is_err() {
            return false;
        }
    }
    true
}
