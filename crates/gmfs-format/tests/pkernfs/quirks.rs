//! What the driver's defects leave, and what damage leaves: links, names, flags, blocks.

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_format::pkernfs::{
    Anomaly, BLOCK_BYTES, Chain, GHOST, GHOST_LINK, Kind, Magic, NameFault, Place, Remark, estimate_size,
};

use crate::made::{in_blocks, usage};
use gmfs_format::fuzzing::pkernfs::{DIRECTORY, FILE, IOMMU, ROOT, ROOT_TABLES, Region, inode};

const IN_ROOT: Chain = Chain::Directory(ROOT);

/// A region with the files `a`, `b`, `c` (inodes 2, 3, 4) of one block each; the chain is `c`, `b`, `a`.
fn three() -> (Region, [InodeNo; 3]) {
    let mut region = Region::new(32);
    let files = [b"a", b"b", b"c"].map(|name| region.file(ROOT, name, 1));
    assert_eq!(files.map(|ino| ino.0), [2, 3, 4]);
    assert_eq!(region.store().anomalies(), []);
    (region, files)
}

#[test]
fn setting_the_size_again_leaks_blocks_and_mixes_old_with_new() {
    let mut region = Region::new(32);
    let file = region.file(ROOT, b"f", 3);
    region.truncate(file, 1);
    let store = region.store();
    assert_eq!(store.anomalies(), []);
    assert_eq!(in_blocks(store.extents(&region.image, file)), [(0, 1, Some(6)), (1, 2, Some(4))]);
    assert_eq!(store.node(file).unwrap().num_mappings, 4);
    let (usage, remarks) = usage(&region);
    assert_eq!((usage.leaked, usage.data), (1, 3));
    assert_eq!(remarks, [Remark::Leaked { first: BlockNo(3), count: 1 }]);
}

#[test]
fn a_full_region_hands_out_blocks_past_its_end() {
    let mut region = Region::new(8);
    let file = region.file(ROOT, b"f", 7);
    let store = region.store();
    assert_eq!(store.anomalies(), []);
    let places: Vec<_> = store.extents(&region.image, file).map(|extent| (extent.length, extent.place)).collect();
    let inside = (5 * BLOCK_BYTES, Place::Region { address: 3 * BLOCK_BYTES });
    assert_eq!(places, [inside, (2 * BLOCK_BYTES, Place::PastEnd { block: 8 })]);
    assert_eq!(store.derived_size(&region.image, file).unwrap().bytes, 7 * BLOCK_BYTES);
    let (usage_of, remarks) = usage(&region);
    assert_eq!((usage_of.marked, usage_of.marked_past_end, usage_of.past_end), (8, 2, 2));
    assert_eq!(remarks, [Remark::MarkedPastEnd { first: BlockNo(8), count: 2 }]);
    assert_eq!(estimate_size(&region.image, 0).unwrap().at_least, 10 * BLOCK_BYTES);
    // A file that is created now gets a table past the end.
    let late = region.create(ROOT, b"late", FILE);
    let store = region.store();
    assert_eq!(store.anomalies(), [Anomaly::BadTable { ino: late, block: BlockNo(10) }]);
    assert_eq!(in_blocks(store.extents(&region.image, late)), []);
    assert!(!usage(&region).0.complete);
    region.put32(inode(late) + 284, 3);
    let extents: Vec<_> = region.store().extents(&region.image, late).collect();
    assert_eq!((extents.len(), extents[0].length, extents[0].place), (1, 3 * BLOCK_BYTES, Place::NoTable));
}

#[test]
fn the_ghost_is_listed() {
    let mut region = Region::new(32);
    let old = region.file(ROOT, b"old", 1);
    region.put64(8, 0);
    let ghost = region.file(ROOT, b"ghost", 2);
    assert_eq!((ghost, region.get64(inode(ROOT) + 16)), (GHOST, GHOST_LINK));
    let store = region.store();
    assert_eq!(store.children(ROOT), [GHOST, old]);
    assert_eq!(store.anomalies(), [Anomaly::Unaccounted { first: InodeNo(3), last: InodeNo(7281) }]);
    assert_eq!(store.path(GHOST).unwrap(), b"/ghost");
    assert_eq!(in_blocks(store.extents(&region.image, GHOST)), [(0, 2, Some(5))]);
    // The second creation takes the same inode, and links it to itself.
    region.file(ROOT, b"again", 1);
    let store = region.store();
    assert_eq!(store.children(ROOT), [GHOST]);
    assert_eq!(store.path(GHOST).unwrap(), b"/again");
    let cycle = Anomaly::Cycle { chain: IN_ROOT, holder: Some(GHOST), ino: GHOST };
    assert_eq!(store.anomalies()[..2], [cycle, Anomaly::Orphan { ino: old }]);
}

#[test]
fn a_superblock_that_was_overwritten_does_not_hide_the_files() {
    let (mut region, files) = three();
    region.put(0, b"guest data here!");
    let store = region.store();
    let found = u64::from_le_bytes(*b"guest da");
    assert_eq!(store.magic(), Magic::Wrong(found));
    assert_eq!(store.children(ROOT), [files[2], files[1], files[0]]);
    assert_eq!(store.anomalies()[0], Anomaly::MagicDiffers { found });
    let value = u64::from_le_bytes(*b"ta here!");
    assert_eq!(store.anomalies()[1], Anomaly::BadLink { chain: Chain::Free, holder: None, value });
}

#[test]
fn links_that_lead_nowhere_end_a_chain() {
    for value in [1, 7282, 0x1_0000_0003, u64::MAX, 0xFFFF_FFF4] {
        let (mut region, [a, b, c]) = three();
        region.put64(inode(c) + 8, value);
        let store = region.store();
        assert_eq!(store.children(ROOT), [c]);
        let bad = Anomaly::BadLink { chain: IN_ROOT, holder: Some(c), value };
        assert_eq!(store.anomalies(), [bad, Anomaly::Orphan { ino: a }, Anomaly::Orphan { ino: b }]);
        // Orphans are there, with their blocks, and without a path.
        assert_eq!((store.node(a).unwrap().parent, store.path(a)), (None, None));
        assert_eq!(in_blocks(store.extents(&region.image, a)), [(0, 1, Some(3))]);
        assert_eq!(usage(&region).0.leaked, 0);
    }
}

#[test]
fn the_sibling_of_the_root_is_ignored() {
    let (mut region, _) = three();
    region.put64(inode(ROOT) + 8, 77);
    assert_eq!(region.store().anomalies(), [Anomaly::RootDiffers]);
    assert_eq!(region.store().children(ROOT).len(), 3);
}

#[test]
fn circles_and_shared_tails_are_found() {
    let (mut region, [a, b, c]) = three();
    region.put64(inode(a) + 8, 3);
    let store = region.store();
    assert_eq!(store.children(ROOT), [c, b, a]);
    assert_eq!(store.anomalies(), [Anomaly::Cycle { chain: IN_ROOT, holder: Some(a), ino: b }]);

    let (mut region, [a, b, c]) = three();
    let directory = region.create(ROOT, b"d", DIRECTORY);
    region.put64(inode(directory) + 16, 3);
    let store = region.store();
    assert_eq!((store.children(ROOT), store.children(directory)), ([directory, c, b, a].as_slice(), [].as_slice()));
    let twice = Anomaly::LinkedTwice { ino: b, first: IN_ROOT, second: Chain::Directory(directory) };
    assert_eq!(store.anomalies(), [twice]);

    // A directory in itself.
    region.put64(inode(directory) + 16, directory.0.into());
    let twice = Anomaly::LinkedTwice { ino: directory, first: IN_ROOT, second: Chain::Directory(directory) };
    assert_eq!(region.store().anomalies(), [twice]);

    // The free list, in use and in a circle.
    let (mut region, [_, b, _]) = three();
    region.put64(8, b.0.into());
    let twice = Anomaly::LinkedTwice { ino: b, first: IN_ROOT, second: Chain::Free };
    let unaccounted = Anomaly::Unaccounted { first: InodeNo(5), last: InodeNo(7281) };
    assert_eq!(region.store().anomalies(), [twice, unaccounted]);
    let (mut region, _) = three();
    region.put64(inode(InodeNo(7281)) + 8, 5);
    let cycle = Anomaly::Cycle { chain: Chain::Free, holder: Some(InodeNo(7281)), ino: InodeNo(5) };
    assert_eq!(region.store().anomalies(), [cycle]);
    assert_eq!(region.store().free_inodes(), 7277);
}

#[test]
fn a_crash_in_the_middle_of_a_creation() {
    // Popped, and not linked.
    let (mut region, _) = three();
    let ino = region.take_inode();
    assert_eq!(region.store().anomalies(), [Anomaly::Unaccounted { first: ino, last: ino }]);
    // Linked, and without flags: what follows it is still there.
    let (mut region, files) = three();
    let ino = region.create(ROOT, b"", 0);
    let store = region.store();
    assert_eq!(store.anomalies(), [Anomaly::FreeInDirectory { directory: ROOT, first: ino, count: 1 }]);
    assert_eq!(store.children(ROOT), [files[2], files[1], files[0]]);
    // In use, linked by nothing.
    let (mut region, [_, _, c]) = three();
    region.put64(inode(ROOT) + 16, 3);
    assert_eq!(region.store().anomalies(), [Anomaly::Orphan { ino: c }]);
    // In use, in the list of free inodes.
    let (mut region, _) = three();
    region.put32(inode(InodeNo(9)), FILE);
    region.put(inode(InodeNo(9)) + 24, b"x");
    let store = region.store();
    let table = Anomaly::BadTable { ino: InodeNo(9), block: BlockNo(0) };
    assert_eq!(store.anomalies(), [Anomaly::UsedInFreeList { ino: InodeNo(9) }, table]);
    assert_eq!(store.node(InodeNo(9)).unwrap().parent, None);
    // A chain that leads into the list of free inodes.
    let (mut region, [a, _, _]) = three();
    region.put64(inode(a) + 8, 7000);
    let store = region.store();
    assert_eq!(
        store.anomalies(),
        [
            Anomaly::FreeInDirectory { directory: ROOT, first: InodeNo(7000), count: 282 },
            Anomaly::LinkedTwice { ino: InodeNo(7000), first: IN_ROOT, second: Chain::Free },
        ]
    );
    assert_eq!(store.children(ROOT).len(), 3);
}

#[test]
fn names_are_shown_as_they_are() {
    for (name, fault) in [
        (b"".as_slice(), Some(NameFault::Empty)),
        (b"a/b", Some(NameFault::Slash)),
        (b".", Some(NameFault::Dots)),
        (b"..", Some(NameFault::Dots)),
        (&[b'x'; 255], Some(NameFault::Unterminated)),
        (&[b'x'; 254], None),
        (b"...", None),
    ] {
        let mut region = Region::new(32);
        let ino = region.create(ROOT, name, FILE);
        let store = region.store();
        let found: Vec<_> = fault.map(|fault| Anomaly::BadName { ino, fault }).into_iter().collect();
        assert_eq!(store.anomalies(), found);
        assert_eq!(&*store.node(ino).unwrap().name, name);
    }
    // One name twice: both stay visible.
    let mut region = Region::new(32);
    let [first, second] = [b"same", b"same"].map(|name| region.file(ROOT, name, 1));
    let store = region.store();
    assert_eq!(store.children(ROOT), [second, first]);
    assert_eq!(store.anomalies(), [Anomaly::DuplicateName { directory: ROOT, first: second, second: first }]);
}

#[test]
fn flags_are_read_as_the_driver_reads_them() {
    for (flags, kind) in
        [(3, Some(Kind::Directory)), (17, Some(Kind::File)), (32, None), (u32::MAX, Some(Kind::Directory))]
    {
        let mut region = Region::new(32);
        let ino = region.create(ROOT, b"f", FILE);
        region.put32(inode(ino), flags);
        let store = region.store();
        assert_eq!(store.node(ino).unwrap().kind, kind);
        assert_eq!(store.anomalies(), [Anomaly::OddFlags { ino, flags }]);
        assert_eq!(usage(&region).0.complete, kind.is_some());
    }
}

#[test]
fn entries_of_a_damaged_table() {
    let (mut region, [a, b, _]) = three();
    for (index, value) in [(2, 20), (3, 21), (4, 1 << 40), (5, (1 << 40) + 1), (6, 31), (7, 32), (9, u64::MAX)] {
        let at = region.entry(a, index);
        region.put64(at, value);
    }
    let at = region.entry(b, 262_143);
    region.put64(at, 25);
    let store = region.store();
    let found = in_blocks(store.extents(&region.image, a));
    let past = [(4, 2, Some(1 << 40)), (6, 1, Some(31)), (7, 1, Some(32)), (8, 1, None), (9, 1, Some(u64::MAX))];
    assert_eq!(found[..3], [(0, 1, Some(3)), (1, 1, None), (2, 2, Some(20))]);
    assert_eq!(found[3..], past);
    let found = in_blocks(store.extents(&region.image, b));
    assert_eq!(found, [(0, 1, Some(5)), (1, 262_142, None), (262_143, 1, Some(25))]);
    let (usage, remarks) = usage(&region);
    assert_eq!((usage.data, usage.past_end, usage.unmarked, usage.contested), (7, 4, 4, 0));
    assert_eq!(remarks.len(), 3);
    assert_eq!(remarks[0], Remark::Unmarked { first: BlockNo(20), count: 2 });
    // Numbers that no allocator can have given do not make the region larger.
    assert_eq!(estimate_size(&region.image, 0).unwrap().at_least, 33 * BLOCK_BYTES);
}

#[test]
fn blocks_with_two_owners_and_blocks_of_metadata() {
    let (mut region, [a, b, c]) = three();
    let at = region.entry(a, 0);
    region.put64(at, 5);
    let at = region.entry(c, 0);
    region.put64(at, 1);
    let (usage_of, remarks) = usage(&region);
    assert_eq!((usage_of.contested, usage_of.leaked), (2, 2));
    let contested = |block, ino| Remark::Contested { block: BlockNo(block), ino, offset: Some(0) };
    assert_eq!(remarks[..2], [contested(5, b), contested(1, c)]);
    // Two files with one table, and page tables in metadata.
    let table = region.get32(inode(a) + 280);
    region.put32(inode(b) + 280, table);
    let iommu = region.create(ROOT, b"iommu", IOMMU);
    let tables = region.create(iommu, b"root-pgtables", ROOT_TABLES);
    region.put32(inode(tables) + 280, 1);
    let store = region.store();
    assert_eq!(store.anomalies(), [Anomaly::BadTable { ino: tables, block: BlockNo(1) }]);
    assert_eq!(store.extents(&region.image, tables).next().unwrap().place, Place::NoTable);
    let (_, remarks) = usage(&region);
    assert_eq!(remarks[0], Remark::Contested { block: BlockNo(table), ino: b, offset: None });
    assert_eq!(store.owner(&region.image, 5 * BLOCK_BYTES).others, 1);
}
