//! Everything that an undamaged region satisfies: one change each, and what is found of it.

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_format::pkernfs::Remark;
use gmfs_format::pkernfs::{
    Anomaly, BITMAP_OFFSET, BLOCK_BYTES, Finding, GHOST_OFFSET, INODE_BYTES, INODES, INODES_OFFSET,
};

use gmfs_format::fuzzing::pkernfs::{DIRECTORY, FILE, ROOT, Region, inode};

const A: InodeNo = InodeNo(2);
const B: InodeNo = InodeNo(3);

/// Two files and a directory: their tables are blocks 2 and 5, their content is blocks 3, 4 and 6.
fn sample() -> Region {
    let mut region = Region::new(16);
    region.file(ROOT, b"a", 2);
    region.file(ROOT, b"b", 1);
    region.create(ROOT, b"d", DIRECTORY);
    region
}

fn check(region: &Region) -> Vec<Finding> {
    region.store().check(&region.image)
}

/// What is found once something was changed.
fn after(change: impl FnOnce(&mut Region)) -> Vec<Finding> {
    let mut region = sample();
    change(&mut region);
    check(&region)
}

#[test]
fn what_the_driver_leaves_is_clean_but_for_leaks() {
    assert_eq!((check(&Region::new(4)), check(&sample())), (vec![], vec![]));
    let mut region = sample();
    region.truncate(A, 1);
    region.unlink_first(ROOT);
    let found = check(&region);
    assert_eq!(found, [Finding::Blocks(Remark::Leaked { first: BlockNo(3), count: 1 })]);
    assert!(found.iter().all(Finding::is_normal));
}

#[test]
fn each_damage_is_found_and_nothing_else() {
    let not_zero = |ino| vec![Finding::NotZero { ino: InodeNo(ino) }];
    assert_eq!(after(|r| r.put(inode(A) + 200, b"x")), not_zero(2));
    assert_eq!(after(|r| r.put64(inode(B) + 16, 4)), not_zero(3));
    assert_eq!(after(|r| r.put32(inode(InodeNo(4)) + 280, 9)), not_zero(4));
    assert_eq!(after(|r| r.put32(inode(InodeNo(90)) + 284, 1)), not_zero(90));
    assert_eq!(after(|r| r.put32(inode(InodeNo(90)) + 4, 1)), not_zero(90));
    let count = after(|r| r.put32(inode(A) + 284, 1));
    assert_eq!(count, [Finding::CountTooSmall { ino: A, count: 1, blocks: 2 }]);
    let hole = after(|r| r.put64(r.entry(A, 0), 0));
    assert_eq!(
        hole,
        [Finding::Hole { ino: A, entry: 0, count: 1 }, Finding::Blocks(Remark::Leaked { first: BlockNo(3), count: 1 })]
    );
    let past = after(|r| r.put64(r.entry(A, 1), 16));
    assert_eq!(
        past,
        [
            Finding::PastEnd { ino: A, entry: 1, count: 1 },
            Finding::Blocks(Remark::Leaked { first: BlockNo(4), count: 1 })
        ]
    );
    let contested = after(|r| r.put64(r.entry(B, 0), 3));
    assert_eq!(
        contested,
        [
            Finding::Blocks(Remark::Contested { block: BlockNo(3), ino: B, offset: Some(0) }),
            Finding::Blocks(Remark::Leaked { first: BlockNo(6), count: 1 })
        ]
    );
    let marks = |byte| move |r: &mut Region| r.put(BITMAP_OFFSET, &[byte]);
    assert_eq!(after(marks(0b0110_0111)), [Finding::Blocks(Remark::Unmarked { first: BlockNo(3), count: 2 })]);
    assert_eq!(after(marks(0b1111_1111)), [Finding::Blocks(Remark::Leaked { first: BlockNo(7), count: 1 })]);
    let past = after(|r| r.put(BITMAP_OFFSET + 2, &[3]));
    assert_eq!(past, [Finding::Blocks(Remark::MarkedPastEnd { first: BlockNo(16), count: 2 })]);
    assert_eq!(after(|r| r.put(BITMAP_OFFSET + 0x2_0000, &[1])), [Finding::Blocks(Remark::BitmapRest)]);
    let ghost = after(|r| r.put(GHOST_OFFSET, &[1]));
    assert!(ghost.contains(&Finding::Ghost) && !ghost.contains(&Finding::Blocks(Remark::BitmapRest)), "{ghost:?}");
    let slack = INODES_OFFSET + u64::from(INODES) * INODE_BYTES;
    assert_eq!(after(|r| r.put(slack, &[1])), [Finding::Slack]);
    assert_eq!(after(|r| r.put(slack + 223, &[1])), [Finding::Slack]);
    assert_eq!(slack + 224, INODES_OFFSET + BLOCK_BYTES);
    let flags = after(|r| r.put32(inode(A), 3));
    assert!(flags.contains(&Finding::Inodes(Anomaly::OddFlags { ino: A, flags: 3 })), "{flags:?}");
}

#[test]
fn a_region_without_free_inodes_has_the_ghost() {
    let mut region = sample();
    region.put64(8, 0);
    for ino in 5..=INODES {
        region.put64(inode(InodeNo(ino)) + 8, 0);
    }
    region.create(ROOT, b"late", FILE);
    let found = check(&region);
    assert!(found.contains(&Finding::Ghost) && !found.contains(&Finding::Blocks(Remark::BitmapRest)), "{found:?}");
}

#[test]
fn what_cannot_be_read_accuses_nobody() {
    let mut region = sample();
    let table = region.entry(A, 0);
    region.image.lose(table, 1);
    let found = check(&region);
    assert!(matches!(found[..], [Finding::EntriesUnknown { ino: A, count: 2, .. }]), "{found:?}");
    assert!(found.iter().all(|finding| !finding.to_string().is_empty()));
}
