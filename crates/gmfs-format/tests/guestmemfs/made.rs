//! File systems that are made from the rules: read, and each thing that can be wrong with one.

use gmfs_format::chains;
use gmfs_format::guestmemfs::Remark;
use gmfs_format::guestmemfs::{
    Anomaly, BLOCK_BYTES, By, Chain, GHOST, INODES, Owner, Place, Words, array_at, setup_data_at, tree_at,
};
use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_io::Span;

use gmfs_format::fuzzing::guestmemfs::{DIRECT, DIRECTORY, FILE, Memory, ROOT, sample};

/// The blocks of a file.
fn blocks(memory: &Memory, ino: InodeNo, by: Option<By>) -> Vec<u64> {
    let mut blocks = Vec::new();
    for extent in memory.store().extents(ino, by) {
        let Place::Region { address } = extent.place else { panic!("{extent:?}") };
        blocks.extend((0..extent.length / BLOCK_BYTES).map(|n| address / BLOCK_BYTES + n));
    }
    blocks
}

const A: InodeNo = InodeNo(2);
const B: InodeNo = InodeNo(3);
const C: InodeNo = InodeNo(4);

#[test]
fn a_file_system_that_was_handed_over_is_clean() {
    let memory = sample();
    assert_eq!(memory.check(), []);
    let store = memory.store();
    assert_eq!((store.region(), store.blocks()), (Some(memory.region), 64));
    assert_eq!(store.direct_map(), Some(DIRECT));
    let names: Vec<_> = store.children(ROOT).iter().map(|ino| store.node(*ino).unwrap().name.to_vec()).collect();
    assert_eq!(names, [b"c", b"b", b"a"]);
    assert_eq!([A, B, C].map(|ino| blocks(&memory, ino, None)), [vec![0, 1], vec![2], vec![3, 4, 5]]);
    assert_eq!(store.size(C, None), (3 * BLOCK_BYTES, false));
    let owner = |address| store.owner(address, None);
    assert_eq!(owner(4 * BLOCK_BYTES + 7), Owner::File { ino: C, offset: BLOCK_BYTES + 7 });
    assert_eq!((owner(6 * BLOCK_BYTES), owner(64 * BLOCK_BYTES)), (Owner::Free, Owner::Outside));
    let metadata = |address| store.metadata_at(address);
    assert_eq!(metadata(memory.superblock + 8), Some(Owner::Superblock));
    assert_eq!(metadata(memory.at(B) + 295), Some(Owner::Inode(Some(B))));
    assert_eq!(metadata(memory.inodes + (2 << 20) - 1), Some(Owner::Inode(None)));
    assert_eq!(metadata(memory.bitmap), Some(Owner::Bitmap));
    assert_eq!(metadata(memory.page(C) + 4095), Some(Owner::Page { ino: C }));
    assert_eq!((metadata(memory.table), metadata(0)), (Some(Owner::Table), None));
    // The same without a device tree, but for the region.
    let alone = memory.without_tree();
    assert_eq!((alone.region(), alone.blocks(), alone.direct_map()), (None, 6, Some(DIRECT)));
    assert_eq!(alone.extents(C, None), store.extents(C, None));
    assert_eq!(alone.check(), []);
    assert_eq!(alone.bitmap_at(), Some(memory.bitmap));
}

#[test]
fn it_is_found_by_its_looks() {
    let memory = sample();
    let array = array_at(&memory.image, memory.inodes).unwrap();
    assert_eq!((array.at, array.in_use), (memory.inodes, 3));
    assert!(array_at(&memory.image, memory.bitmap).is_none() && array_at(&memory.image, memory.inodes + 296).is_none());
    assert!(tree_at(&memory.image, memory.tree + 4096).is_none());
    let mut words = Words::new(vec![memory.inodes, 0x20_0000]);
    let mut bytes = vec![0; 4096];
    gmfs_io::ReadAt::read_at(&memory.image, memory.superblock & !0xFFF, &mut bytes).unwrap();
    words.look(memory.superblock & !0xFFF, &bytes);
    assert_eq!(words.superblock_of(&memory.image, memory.inodes), Some(memory.superblock));
    assert_eq!(words.superblock_of(&memory.image, 0x20_0000), None);
    // A free inode that the restore gave a pointer is no reason to miss the array.
    let mut restored = sample();
    restored.restore();
    assert!(array_at(&restored.image, restored.inodes).is_some());
    let record = [0, 10 | 48 << 32, memory.tree, 4096, 0x1000_0000, 1 << 20, 0x1100_0000, 80];
    let mut handed = sample();
    for (at, word) in (0x1000..).step_by(8).zip(record) {
        handed.put64(at, word);
    }
    let found = setup_data_at(&handed.image, 0x1000).unwrap();
    assert_eq!((found.tree, found.mem_cache), (Span::new(memory.tree, 4096), Span::new(0x1100_0000, 80)));
    handed.put64(0x1010, memory.tree + 4096);
    assert_eq!(setup_data_at(&handed.image, 0x1000), None);
}

#[test]
fn a_store_of_pkernfs_is_no_array() {
    // Its inodes have 8 bytes less, so the second one is 8 bytes too early.
    let mut memory = Memory::new(4);
    let at = 0xC0_0000;
    for ino in 1..200_u64 {
        memory.put64(at + (ino - 1) * 288 + 8, ino + 1);
    }
    memory.put(at, &[2]);
    memory.put(at + 24, b".");
    assert!(array_at(&memory.image, at).is_none());
}

#[test]
fn both_mappings_after_a_restore() {
    let mut memory = sample();
    memory.restore();
    let both = |ino| (blocks(&memory, ino, Some(By::Tree)), blocks(&memory, ino, Some(By::Inode)));
    assert_eq!(both(A), (vec![0, 1], vec![0, 1]));
    assert_eq!(both(B), (vec![2], vec![0]));
    assert_eq!(both(C), (vec![3, 4, 5], vec![2]));
    assert_eq!(blocks(&memory, C, None), [3, 4, 5]);
    let differ = Anomaly::MappingsDiffer { files: 2, shifted: true };
    assert_eq!(memory.check(), [differ, Anomaly::NotSerialised, Anomaly::FreeNotZero { ino: InodeNo(5) }]);
    // A file that the tree does not know has what its inode says.
    let new = memory.create(ROOT, b"new", FILE);
    memory.truncate(new, 1);
    assert_eq!(blocks(&memory, new, None), [6]);
    assert!(memory.store().extents(new, Some(By::Tree)).iter().all(|extent| extent.place == Place::NoTable));
}

#[test]
fn a_second_size_counts_too_much() {
    let mut memory = Memory::new(64);
    let ino = memory.file(b"f", 3);
    memory.truncate(ino, 1);
    memory.serialise();
    assert_eq!(blocks(&memory, ino, None), [3, 1, 2]);
    let surplus = Anomaly::Surplus { ino, count: 4, blocks: 3 };
    assert_eq!(memory.check(), [surplus, Anomaly::Blocks(Remark::Leaked { first: BlockNo(0), count: 1 })]);
    assert!(memory.check().iter().all(Anomaly::is_normal));
}

#[test]
fn a_file_that_was_made_after_the_hand_over_is_the_ghost() {
    let mut memory = sample();
    let ghost = memory.create(ROOT, b"late", FILE);
    assert_eq!(ghost, GHOST);
    let store = memory.store();
    assert_eq!(store.children(ROOT).len(), 4);
    assert_eq!(&*store.node(GHOST).unwrap().name, b"late");
    assert_eq!(
        memory.check(),
        [
            Anomaly::TreeFiles { missing: 1, extra: 0, first: GHOST },
            Anomaly::Counts { superblock: Some(3), tree: Some(3), linked: 4 },
        ]
    );
}

#[test]
fn a_deletion_after_the_hand_over_shows() {
    let mut memory = sample();
    assert_eq!(memory.unlink_first(), C);
    assert_eq!(
        memory.check(),
        [
            Anomaly::TreeFiles { missing: 0, extra: 1, first: C },
            Anomaly::Counts { superblock: Some(2), tree: Some(3), linked: 2 },
            Anomaly::Blocks(Remark::Leaked { first: BlockNo(3), count: 3 }),
        ]
    );
}

#[test]
fn the_last_inode_is_never_handed_over() {
    let mut memory = Memory::new(64);
    // All inodes but the last are in directories' hands already.
    memory.put64(memory.superblock, INODES.into());
    let ino = memory.file(b"last", 1);
    assert_eq!(ino, InodeNo(INODES));
    memory.serialise();
    let found = memory.check();
    assert!(found.contains(&Anomaly::TreeFiles { missing: 1, extra: 0, first: ino }), "{found:?}");
    assert_eq!(blocks(&memory, ino, None), [0]);
}

#[test]
fn a_file_with_more_blocks_than_entries() {
    let mut memory = Memory::new(600);
    let ino = memory.file(b"f", 513);
    memory.serialise();
    let extents = memory.store().extents(ino, None);
    assert_eq!(
        extents.last().map(|extent| (extent.offset, extent.length, extent.place)),
        Some((512 * BLOCK_BYTES, BLOCK_BYTES, Place::NoTable))
    );
    assert_eq!(
        memory.check(),
        [Anomaly::TooManyBlocks { ino, count: 513 }, Anomaly::Blocks(Remark::Leaked { first: BlockNo(512), count: 1 })]
    );
}

#[test]
fn blocks_past_the_end() {
    let mut memory = Memory::new(4);
    let ino = memory.file(b"f", 6);
    memory.serialise();
    assert_eq!(memory.store().extents(ino, None)[1].place, Place::PastEnd { block: 4 });
    assert_eq!(
        memory.check(),
        [
            Anomaly::PastEnd { ino, block: 4, count: 2 },
            Anomaly::Blocks(Remark::MarkedPastEnd { first: BlockNo(4), count: 2 })
        ]
    );
}

/// What is found once something was changed in a clean file system.
fn after(change: impl FnOnce(&mut Memory)) -> Vec<Anomaly> {
    let mut memory = sample();
    change(&mut memory);
    memory.check()
}

#[test]
fn each_damage_is_found_and_nothing_else() {
    let page_of = |memory: &Memory, ino| memory.page(ino);
    let unmarked = after(|m| m.put(m.bitmap, &[0b0011_1011]));
    assert_eq!(unmarked, [Anomaly::Blocks(Remark::Unmarked { first: BlockNo(2), count: 1 })]);
    let leaked = after(|m| m.put(m.bitmap + 1, &[0b11]));
    assert_eq!(leaked, [Anomaly::Blocks(Remark::Leaked { first: BlockNo(8), count: 2 })]);
    assert_eq!(after(|m| m.put(m.bitmap + 0x2_0000, &[1])), [Anomaly::Blocks(Remark::BitmapRest)]);
    assert_eq!(after(|m| m.put(m.superblock + 32, &[1])), [Anomaly::Locked]);
    assert_eq!(after(|m| m.put(m.superblock + 36, &[0])), [Anomaly::NotSerialised]);
    let pointers = after(|m| m.put64(m.superblock + 24, m.bitmap + DIRECT + (1 << 30)));
    assert_eq!(pointers, [Anomaly::Pointers { inodes: DIRECT, bitmap: DIRECT + (1 << 30) }]);
    let counts = after(|m| m.put64(m.superblock + 8, 9));
    assert_eq!(counts, [Anomaly::Counts { superblock: Some(9), tree: Some(3), linked: 3 }]);
    let free = after(|m| m.put(m.at(InodeNo(9)) + 24, b"left"));
    assert_eq!(free, [Anomaly::FreeNotZero { ino: InodeNo(9) }]);
    let beyond = after(|m| m.put64(page_of(m, B) + 5 * 8, 9));
    assert_eq!(beyond, [Anomaly::BeyondCount { ino: B, entry: 5 }]);
    let contested = after(|m| m.put64(page_of(m, B), 3));
    assert_eq!(
        contested,
        [
            Anomaly::Blocks(Remark::Contested { block: BlockNo(3), ino: C, offset: Some(0) }),
            Anomaly::Blocks(Remark::Leaked { first: BlockNo(2), count: 1 })
        ]
    );
    let order = after(|m| {
        m.put32(m.table, 3);
        m.put32(m.table + 4, 2);
    });
    assert_eq!(
        order,
        [
            Anomaly::TableOrder { entry: 1 },
            Anomaly::MappingsDiffer { files: 2, shifted: false },
            Anomaly::Surplus { ino: A, count: 2, blocks: 1 },
            Anomaly::BeyondCount { ino: B, entry: 1 },
            Anomaly::Blocks(Remark::Leaked { first: BlockNo(1), count: 1 }),
        ]
    );
    let tail = after(|m| m.put32(m.table + 12, 77));
    assert_eq!(tail, [Anomaly::TableOrder { entry: 3 }]);
    let other = after(|m| m.put64(m.at(C) + 280, 0x507_0000 + DIRECT));
    assert_eq!(other, [Anomaly::MappingsDiffer { files: 1, shifted: false }]);
    let link = after(|m| m.put64(m.at(A) + 8, 9999));
    let bad = chains::Anomaly::BadLink { chain: Chain::Directory(ROOT), holder: Some(A), value: 9999 };
    assert_eq!(link, [Anomaly::Inodes(bad)]);
    let region = after(|m| {
        let at =
            m.tree + m.device_tree().windows(8).position(|word| word == 0x1000_1001_u64.to_le_bytes()).unwrap() as u64;
        m.put(at, &[0]);
    });
    assert_eq!(region, [Anomaly::RegionFlag]);
}

#[test]
fn shared_pages_and_pages_that_are_not_there() {
    let mut memory = Memory::new(8);
    memory.file(b"a", 1);
    memory.file(b"b", 1);
    let page = memory.page(A);
    memory.put64(memory.at(B) + 280, page + DIRECT);
    memory.serialise();
    let found = memory.check();
    assert!(found.contains(&Anomaly::PageShared { page, first: A, second: B }), "{found:?}");
    assert!(
        found.contains(&Anomaly::Blocks(Remark::Contested { block: BlockNo(0), ino: B, offset: Some(0) })),
        "{found:?}"
    );
    let mut none = Memory::new(8);
    none.file(b"a", 1);
    none.put64(none.at(A) + 280, 0);
    assert_eq!(none.without_tree().check(), [Anomaly::PageUnknown { ino: A, page: None, lack: None }]);
    assert_eq!(none.without_tree().extents(A, None)[0].place, Place::NoTable);
}

#[test]
fn directories_are_walked_though_the_driver_makes_none() {
    let mut memory = Memory::new(8);
    let directory = memory.create(ROOT, b"d", DIRECTORY);
    let file = memory.create(directory, b"f", FILE);
    memory.truncate(file, 1);
    memory.serialise();
    assert_eq!(memory.check(), []);
    assert_eq!(memory.store().node(file).unwrap().parent, Some(directory));
}

#[test]
fn of_a_scattered_tree_the_first_page_is_enough() {
    let mut memory = Memory::new(512);
    for n in 0..400_u32 {
        memory.file(n.to_string().as_bytes(), 1);
    }
    memory.serialise();
    assert!(memory.device_tree().len() > 4096);
    assert_eq!(memory.check(), []);
    // What follows in memory is somebody else's.
    memory.put(memory.tree + 4096, &[0xA5; 4096]);
    let tree = tree_at(&memory.image, memory.tree).unwrap();
    assert!(!tree.whole && tree.region == memory.region && tree.to_inode.is_none());
    let store = memory.store();
    assert_eq!(store.check(), [Anomaly::TreeCut, Anomaly::TableUnknown { lack: None }]);
    assert_eq!(store.extents(InodeNo(300), None).len(), 1);
}
