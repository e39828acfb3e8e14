//! Regions with arbitrary damage: nothing panics, ends late, or takes more than the layout allows.

use std::sync::OnceLock;

use gmfs_format::pkernfs::{
    BITMAP_OFFSET, BLOCK_BYTES, INODES_OFFSET, Owner, Place, Store, TABLE_ENTRIES, Usage, estimate_size, probe,
};
use proptest::prelude::{ProptestConfig, any, proptest};

use gmfs_format::fuzzing::pkernfs::{DIRECTORY, DOMAIN, IOMMU, ROOT, ROOT_TABLES, Region, inode};

/// A region with something of everything.
fn region() -> Region {
    static MADE: OnceLock<Region> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let mut region = Region::at(0x8000_0000, 48);
        let iommu = region.create(ROOT, b"iommu", IOMMU);
        region.create(iommu, b"root-pgtables", ROOT_TABLES);
        region.create(iommu, b"dom", DOMAIN);
        let directory = region.create(ROOT, b"dir", DIRECTORY);
        for count in 0..5 {
            region.file(if count % 2 == 0 { ROOT } else { directory }, format!("f{count}").as_bytes(), count);
        }
        let file = region.file(ROOT, b"twice", 3);
        region.truncate(file, 2);
        region.file(ROOT, b"gone", 2);
        region.unlink_first(ROOT);
        region
    });
    made.clone()
}

/// Numbers out of the input, zeros when it ends.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: u64) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte())) % limit
    }

    /// A number that is likely to hurt.
    fn value(&mut self) -> u64 {
        let small = u64::from(self.byte());
        match self.byte() % 10 {
            0 => 0,
            1 => 1,
            2 => 7281,
            3 => 7282,
            4 => 0xFFFF_FFFF_FFFF_FFF4,
            5 => u64::MAX - small,
            6 => 1 << (small % 64),
            7 => 46 + small % 4,
            _ => small % 16,
        }
    }
}

/// Damages the region as the input says.
fn damage(region: &mut Region, input: &mut Input<'_>) {
    while !input.0.is_empty() {
        let ino = gmfs_format::native::units::InodeNo(u32::from(input.byte()) % 24 + 1);
        match input.byte() % 8 {
            0 => {
                let field = [0, 8, 16, 24, 272, 280, 284][usize::from(input.byte() % 7)];
                let value = input.value();
                region.put64(inode(ino) + field, value);
            }
            // The bytes of a number at any place of the inode store.
            1 => {
                let (at, value) = (input.below(0x20_0000 - 8), input.value());
                region.put64(INODES_OFFSET + at, value);
            }
            // Noise over many inodes, or over a table.
            2 => {
                let (block, at, mut state) = (input.below(40), input.below(0x1F_0000), input.below(u64::MAX) | 1);
                let noise: Vec<u8> = std::iter::repeat_with(|| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 24) as u8 & (state >> 32) as u8 & if state.is_multiple_of(3) { 0x0f } else { 0 }
                })
                .take(1 + input.below(0x4000) as usize)
                .collect();
                region.put(block.max(1) * BLOCK_BYTES + at, &noise);
            }
            3 => {
                let (index, value) = (input.below(700), input.value());
                let table = u64::from(region.get32(inode(ino) + 280) % 48);
                region.put64(table * BLOCK_BYTES + index * 8, value);
            }
            4 => {
                let (at, byte) = (input.below(16), input.byte());
                region.put(BITMAP_OFFSET + at, &[byte]);
            }
            5 => {
                let page = (region.base + input.below(48) * BLOCK_BYTES) / 4096 + input.below(8);
                region.image.absent.insert(page);
            }
            6 => {
                let page = (region.base + INODES_OFFSET) / 4096 + input.below(4);
                region.image.poisoned.insert(page);
            }
            _ => {
                let (at, value) = (input.below(2) * 8, input.value());
                region.put64(at, value);
            }
        }
    }
}

/// Reads everything there is to read, and compares the answers with each other.
fn exercise(region: &Region) {
    let (image, base) = (&region.image, region.base);
    let _ = probe(image, base);
    let Ok(store) = Store::read(image, base, region.size) else { return };
    assert!(store.nodes().count() <= 7282 && store.anomalies().len() <= 8 * 7283);
    let listed: usize = store.nodes().map(|node| store.children(node.ino).len()).sum();
    assert_eq!(listed, store.nodes().filter(|node| node.parent.is_some()).count());
    for node in store.nodes() {
        assert_eq!(store.path(node.ino).is_some(), node.parent.is_some() || node.ino == ROOT);
        let mut end = 0;
        for (number, extent) in store.extents(image, node.ino).enumerate() {
            assert!(number < TABLE_ENTRIES as usize && extent.length > 0);
            assert_eq!(extent.offset, end);
            end = extent.offset + extent.length;
            if let Place::Region { address } = extent.place {
                assert!(address + extent.length <= region.size);
            }
        }
        assert!(end <= u64::from(TABLE_ENTRIES) * BLOCK_BYTES);
    }
    let mut remarks = 0;
    let usage = store.usage(image, &mut |_| remarks += 1);
    assert!(remarks <= usage.contested + 3 * (1 << 20));
    compare_owners(&store, region, &usage);
    let estimate = estimate_size(image, base);
    assert!(estimate.is_none_or(|estimate| (2 * BLOCK_BYTES..=2 << 40).contains(&estimate.at_least)));
}

/// Compares the owner of each block with the counts.
fn compare_owners(store: &Store, region: &Region, usage: &Usage) {
    let mut counts = [0; 6];
    for block in 0..u64::from(store.blocks()) {
        let owned = store.owner(&region.image, block * BLOCK_BYTES);
        let place = match owned.owner {
            Owner::Table { .. } => 0,
            Owner::File { .. } => 1,
            Owner::PageTables { .. } => 2,
            Owner::Leaked => 3,
            Owner::Free | Owner::Unowned { .. } => 4,
            _ => 5,
        };
        counts[place] += 1;
        assert_eq!(owned.complete || block < 2, usage.complete || block < 2, "block {block}");
    }
    let [tables, data, iommu, leaked, rest, metadata] = counts;
    assert_eq!((tables, data, iommu, metadata), (usage.tables, usage.data, usage.iommu, usage.metadata));
    assert_eq!(tables + data + iommu + leaked + rest + metadata, usage.blocks);
    if usage.mark_unknown == 0 {
        // Metadata is not looked up in the bitmap by `owner`, and always owned.
        assert_eq!(leaked, usage.leaked);
        assert_eq!(usage.marked - usage.leaked + usage.unmarked, tables + data + iommu + metadata);
    }
}

#[test]
fn the_region_of_these_tests_is_whole() {
    let region = region();
    assert_eq!(region.store().anomalies(), []);
    exercise(&region);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_hurts(input in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut region = region();
        damage(&mut region, &mut Input(&input));
        exercise(&region);
    }
}

#[test]
fn many_files_with_one_table_are_read_once() {
    // Each of 7280 files names the same table, with all entries in use.
    let mut region = Region::new(48);
    for ino in 2..=7281_u32 {
        let at = inode(gmfs_format::native::units::InodeNo(ino));
        region.put64(at + 8, if ino == 7281 { 0 } else { u64::from(ino) + 1 });
        region.put32(at, 1);
        region.put(at + 24, format!("f{ino}").as_bytes());
        region.put32(at + 280, 2);
    }
    region.put64(inode(ROOT) + 16, 2);
    region.put64(8, 0);
    let entries: Vec<u8> = (0..u64::from(TABLE_ENTRIES)).flat_map(|index| (index * 7 % 50).to_le_bytes()).collect();
    region.put(2 * BLOCK_BYTES, &entries);
    let store = region.store();
    assert_eq!(store.children(ROOT).len(), 7280);
    let usage = store.usage(&region.image, &mut |_| {});
    assert_eq!((usage.tables, usage.data), (1, 45));
    let found = store.owner(&region.image, 5 * BLOCK_BYTES);
    assert!(matches!(found.owner, Owner::File { ino, .. } if ino.0 == 2) && found.others > 7280 * 5000);
    assert!(estimate_size(&region.image, 0).unwrap().at_least >= 48 * BLOCK_BYTES);
}
