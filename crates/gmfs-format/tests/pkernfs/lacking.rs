//! Images that do not hold all of a region.

use gmfs_format::native::units::InodeNo;
use gmfs_format::pkernfs::{
    Anomaly, BITMAP_OFFSET, BLOCK_BYTES, Chain, GHOST, GHOST_LINK, GHOST_OFFSET, INODES_OFFSET, Lack, Magic, Owner,
    Place, SizeBound, estimate_size,
};
use gmfs_io::Absence;

use crate::made::{in_blocks, usage};
use gmfs_format::fuzzing::pkernfs::{FILE, ROOT, Region, inode};

const ABSENT: Lack = Lack::Absent(Absence::Excluded);
const IN_ROOT: Chain = Chain::Directory(ROOT);

/// A region with 60 files without content; the chain leads from inode 61 to inode 2.
fn many() -> Region {
    let mut region = Region::new(80);
    for number in 0..60 {
        region.create(ROOT, format!("f{number}").as_bytes(), FILE);
    }
    region
}

#[test]
fn a_chain_through_a_missing_page_is_lost() {
    let mut region = many();
    // Inodes 15 (its last bytes) to 29 (its first bytes) are in the second page.
    region.image.lose(INODES_OFFSET + 4096, 1);
    let store = region.store();
    let unknown = Anomaly::UnknownInodes { first: InodeNo(15), last: InodeNo(29), lack: ABSENT };
    let lost = Anomaly::ChainLost { chain: IN_ROOT, ino: Some(InodeNo(29)), lack: ABSENT };
    assert_eq!(store.anomalies()[..2], [unknown, lost]);
    let unreached: Vec<_> = (2..15).map(|ino| Anomaly::Unreached { ino: InodeNo(ino) }).collect();
    assert_eq!(store.anomalies()[2..], unreached);
    assert_eq!(store.children(ROOT).len(), 32);
    assert!(!store.inodes_known());
    assert!(store.raw_inode(InodeNo(15)).unwrap().is_err() && store.raw_inode(InodeNo(14)).unwrap().is_ok());
    assert!(store.raw_inode(InodeNo(7282)).is_none() && store.raw_inode(InodeNo(0)).is_none());
    // The tables of the unknown inodes look leaked, and that is not sure.
    let (usage, _) = usage(&region);
    assert_eq!((usage.leaked, usage.tables, usage.complete), (15, 45, false));
    let found = store.owner(&region.image, 20 * BLOCK_BYTES);
    assert_eq!((found.owner, found.complete), (Owner::Leaked, false));
    assert!(!estimate_size(&region.image, 0).unwrap().complete);
}

#[test]
fn pages_of_the_root_the_superblock_and_the_ghost() {
    let mut region = many();
    region.image.lose(INODES_OFFSET, 1);
    region.image.poisoned.insert(GHOST_OFFSET / 4096);
    let store = region.store();
    let unknown = |first, last, lack| Anomaly::UnknownInodes { first: InodeNo(first), last: InodeNo(last), lack };
    let lost = |ino, lack| Anomaly::ChainLost { chain: IN_ROOT, ino: Some(ino), lack };
    assert_eq!(store.anomalies()[..2], [unknown(1, 15, ABSENT), lost(ROOT, ABSENT)]);
    assert_eq!(store.path(ROOT).unwrap(), b"/");
    assert_eq!(store.nodes().count(), 1 + 46);

    // The ghost's page matters if something links to the ghost.
    let mut region = many();
    region.image.poisoned.insert(GHOST_OFFSET / 4096);
    let store = region.store();
    assert_eq!((store.anomalies(), store.inodes_known()), ([].as_slice(), true));
    region.put64(inode(ROOT) + 16, GHOST_LINK);
    let store = region.store();
    let found = [unknown(GHOST.0, GHOST.0, Lack::Unreadable), lost(GHOST, Lack::Unreadable)];
    assert_eq!((&store.anomalies()[..2], store.inodes_known()), (found.as_slice(), false));

    let mut region = many();
    region.image.poisoned.insert(0);
    let store = region.store();
    assert_eq!((store.magic(), store.next_free_ino()), (Magic::Unknown(Lack::Unreadable), None));
    let lost = Anomaly::ChainLost { chain: Chain::Free, ino: None, lack: Lack::Unreadable };
    assert_eq!(store.anomalies(), [Anomaly::SuperblockUnknown { lack: Lack::Unreadable }, lost]);
    assert_eq!(store.children(ROOT).len(), 60);
}

#[test]
fn a_missing_part_of_the_free_list_accuses_nobody() {
    let mut region = many();
    region.image.lose(INODES_OFFSET + 300 * 4096, 1);
    let anomalies = region.store().anomalies().to_vec();
    assert_eq!(anomalies.len(), 2);
    assert!(matches!(anomalies[1], Anomaly::ChainLost { chain: Chain::Free, ino: Some(_), lack: ABSENT }));
}

#[test]
fn missing_pages_of_a_table() {
    let mut region = Region::at(0x10_0000, 2000);
    let file = region.file(ROOT, b"f", 1100);
    let table = region.entry(file, 0);
    // What follows the file's entries is missing: by the inode, there is nothing.
    region.image.lose(region.base + table + 3 * 4096, 509);
    let store = region.store();
    assert_eq!(in_blocks(store.extents(&region.image, file)), [(0, 1100, Some(3))]);
    let size = store.derived_size(&region.image, file).unwrap();
    assert_eq!((size.bytes, size.bound), (1100 * BLOCK_BYTES, SizeBound::Probable));
    assert!(usage(&region).0.complete);
    // Entries in the middle and at the end.
    region.image.lose(region.base + table + 4096, 2);
    let extents: Vec<_> = store.extents(&region.image, file).collect();
    assert_eq!(extents[1].place, Place::Unknown { lack: ABSENT });
    assert_eq!(in_blocks(extents.into_iter()), [(0, 512, Some(3)), (512, 588, None)]);
    let size = store.derived_size(&region.image, file).unwrap();
    assert_eq!((size.bytes, size.bound), (512 * BLOCK_BYTES, SizeBound::AtLeast));
    let (usage_of, _) = usage(&region);
    assert_eq!((usage_of.unknown_entries, usage_of.leaked, usage_of.complete), (588, 588, false));
    let found = store.owner(&region.image, 600 * BLOCK_BYTES);
    assert_eq!((found.owner, found.complete), (Owner::Leaked, false));
    // A known entry past the inode's count is believed, a missing page before it too.
    region.image.absent.clear();
    region.put32(inode(file) + 284, 1);
    region.image.poisoned.insert((region.base + table) / 4096 + 1);
    let store = region.store();
    let found = in_blocks(store.extents(&region.image, file));
    assert_eq!(found, [(0, 512, Some(3)), (512, 512, None), (1024, 76, Some(1027))]);
}

#[test]
fn missing_pages_of_the_bitmap() {
    let mut region = Region::new(40_000);
    let file = region.file(ROOT, b"f", 3);
    region.image.lose(BITMAP_OFFSET + 4096, 1);
    let (usage_of, remarks) = usage(&region);
    assert_eq!((usage_of.mark_unknown, usage_of.marked, remarks), (40_000 - 32_768, 6, vec![]));
    let store = region.store();
    let owner = |block: u64| store.owner(&region.image, block * BLOCK_BYTES).owner;
    assert_eq!(owner(32_767), Owner::Free);
    assert_eq!(owner(32_768), Owner::Unowned { lack: ABSENT });
    assert_eq!(owner(5), Owner::File { ino: file, offset: 2 * BLOCK_BYTES });
}
