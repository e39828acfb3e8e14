//! Memory of hostile hands, and memory of which pages are missing: everything ends, and nothing panics.

use gmfs_format::guestmemfs::{Anomaly, By, Lack, Remark, Store, array_at, setup_data_at, tree_at};
use gmfs_io::Absence;
use proptest::prelude::*;

use gmfs_format::fuzzing::guestmemfs::{Memory, PAGES, sample};

/// Asks everything.
fn ask(memory: &Memory) {
    let _ = array_at(&memory.image, memory.inodes);
    let _ = setup_data_at(&memory.image, memory.tree);
    let trees = tree_at(&memory.image, memory.tree).map(|tree| Store::read(&memory.image, tree.into()));
    for store in trees.into_iter().chain([memory.without_tree()]) {
        let found = store.check();
        assert!(found.iter().all(|anomaly| !anomaly.to_string().is_empty()));
        assert!(found.len() < 100_000);
        for by in [None, Some(By::Tree), Some(By::Inode)] {
            let usage = store.usage(by);
            assert!(usage.data <= usage.blocks);
            let _ = store.owner(3 << 20, by);
            for node in store.nodes() {
                assert!(store.extents(node.ino, by).len() <= 513);
                let _ = store.size(node.ino, by);
            }
        }
        let _ = store.metadata_at(memory.inodes + 700);
    }
}

/// Places where a wrong byte means something: superblock, first inodes, pages of mappings, table, device tree.
fn place(memory: &Memory, kind: u8, offset: u64) -> u64 {
    match kind % 5 {
        0 => memory.superblock + offset % 40,
        1 => memory.inodes + offset % 1800,
        2 => PAGES + offset % 0x3000,
        3 => memory.table + offset % 64,
        _ => memory.tree + offset % 700,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_hurts(
        damage in proptest::collection::vec((any::<u8>(), any::<u64>(), any::<[u8; 8]>()), 1..12),
        lost in proptest::collection::vec(0x5060_u64..0x5610, 0..4),
        restored in any::<bool>(),
    ) {
        let mut memory = sample();
        if restored {
            memory.restore();
        }
        for (kind, offset, bytes) in damage {
            let at = place(&memory, kind, offset);
            let length = usize::from(bytes[0] % 8) + 1;
            memory.put(at, &bytes[..length]);
        }
        for page in lost {
            memory.image.lose(page * 4096, 1);
        }
        ask(&memory);
    }
}

#[test]
fn pages_that_are_missing_are_unknown() {
    let absent = Lack::Absent(Absence::Excluded);
    let mut memory = sample();
    memory.image.lose(memory.table, 1);
    // As many files as pages: they are in one order.
    assert_eq!(memory.check(), [Anomaly::TableUnknown { lack: Some(absent) }]);
    let page = memory.page(gmfs_format::native::units::InodeNo(3));
    let mut memory = sample();
    memory.image.lose(page, 1);
    let ino = gmfs_format::native::units::InodeNo(3);
    assert_eq!(memory.check(), [Anomaly::PageUnknown { ino, page: Some(page), lack: Some(absent) }]);
    let mut memory = sample();
    memory.image.lose(memory.superblock & !0xFFF, 1);
    let store = memory.store();
    // The direct map is told by the pages that are named twice.
    assert_eq!(store.direct_map(), Some(gmfs_format::fuzzing::guestmemfs::DIRECT));
    assert!(store.superblock().is_none() && store.extents(ino, Some(By::Inode)).len() == 1);
    let mut memory = sample();
    memory.image.lose(memory.inodes, 512);
    let store = memory.store();
    assert!(!store.has_inodes() && store.nodes().count() == 1 && store.region() == Some(memory.region));
    assert!(
        !store
            .check()
            .iter()
            .any(|anomaly| matches!(anomaly, Anomaly::Blocks(Remark::Leaked { .. }) | Anomaly::Counts { .. }))
    );
}
