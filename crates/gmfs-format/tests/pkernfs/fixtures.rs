//! Images that the driver itself wrote, compared with what an independent reader found in them and the running kernel listed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::OnceLock;

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_format::pkernfs::{
    Anomaly, BLOCK_BYTES, Confidence, Extent, Kind, Magic, Node, Owner, Place, Remark, Store, estimate_size, probe,
};
use gmfs_io::ReadAt as _;
use serde_json::Value;

use gmfs_format::fuzzing::pkernfs::{Image, ROOT};

/// Appends to an image.
struct Append<'i>(&'i mut Image);

impl Write for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(image) = self;
        image.write(image.size, bytes);
        image.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An image with its truth.
struct Case {
    name: &'static str,
    image: Image,
    truth: Value,
}

/// All images, unpacked once for all tests.
fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(unpack_all)
}

fn unpack_all() -> Vec<Case> {
    let Some(dir) = gmfs_testing::fixtures("kernel-layouts") else { return Vec::new() };
    let names = ["pk_flat/empty", "pk_flat/main", "pk_iommu/main", "pk_quirks/c1", "pk_quirks/c2", "pk_quirks/c3"];
    names
        .map(|name| {
            let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
            let truth: Value = serde_json::from_str(&text).unwrap();
            let truth = truth["found"][0].clone();
            let mut image = Image::new(0);
            gmfs_testing::unpack(&dir.join(format!("{name}.raw.zst")), &mut Append(&mut image));
            Case { name, image, truth }
        })
        .into()
}

impl Case {
    fn number(&self, path: &str) -> u64 {
        number(self.truth.pointer(path).unwrap())
    }

    fn store(&self) -> Store {
        Store::read(&self.image, self.number("/base"), self.number("/size")).unwrap()
    }

    /// Single numbers.
    fn numbers(&self, path: &str) -> Vec<u64> {
        self.truth.pointer(path).unwrap().as_array().unwrap().iter().map(number).collect()
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::IommuDirectory => "iommu-dir",
        Kind::IommuRootPageTables => "iommu-root-pgtables",
        Kind::IommuDomainPageTables => "iommu-domain-pgtables",
    }
}

/// The blocks of an extent.
fn blocks(extent: &Extent) -> Vec<u64> {
    let first = match extent.place {
        Place::Region { address } => address / BLOCK_BYTES,
        Place::PastEnd { block } => block,
        other => panic!("{other:?}"),
    };
    (first..first + extent.length / BLOCK_BYTES).collect()
}

#[test]
fn they_are_found() {
    for case in cases() {
        let found = probe(&case.image, case.number("/base")).unwrap();
        assert_eq!(found.confidence, Confidence::RootAgrees, "{}", case.name);
        assert_eq!(found.next_free_ino, case.number("/superblock/next_free_ino"), "{}", case.name);
        let magics = (0..case.image.size).step_by(4096).filter(|at| probe(&case.image, *at).is_some()).count();
        assert_eq!(magics, 1, "{}", case.name);
        let ranges = case.truth["bitmap"]["ranges"].as_array().unwrap();
        let last = ranges.iter().map(|range| number(&range[1])).max().unwrap();
        let estimate = estimate_size(&case.image, case.number("/base")).unwrap();
        assert_eq!((estimate.at_least, estimate.complete), ((last + 1) * BLOCK_BYTES, true), "{}", case.name);
    }
}

#[test]
fn the_tree_is_the_truth() {
    for case in cases() {
        let store = case.store();
        assert_eq!((store.magic(), u64::from(store.blocks())), (Magic::Right, case.number("/blocks")), "{}", case.name);
        let root = store.raw_inode(ROOT).unwrap().unwrap();
        assert_eq!(root.sibling_ino.get(), case.number("/root/sibling"), "{}", case.name);
        assert_eq!(root.child_ino.get(), case.number("/root/child"), "{}", case.name);
        assert_eq!(u64::from(store.free_inodes()), case.number("/free_list/count"), "{}", case.name);
        assert_eq!((case.number("/unaccounted_inodes"), case.numbers("/ghost_inodes")), (0, vec![]), "{}", case.name);
        let truth = case.truth["tree"].as_object().unwrap();
        assert_eq!(store.nodes().count(), truth.len() + 1, "{}", case.name);
        for (path, truth) in truth {
            let node = store.node(InodeNo(u32::try_from(number(&truth["ino"])).unwrap())).unwrap();
            // The second of two equal names is called so in the truth.
            let path = path.strip_suffix("#dup").unwrap_or(path);
            assert_eq!(String::from_utf8(store.path(node.ino).unwrap()).unwrap(), path, "{}", case.name);
            let order = store.children(node.parent.unwrap()).iter().position(|ino| *ino == node.ino).unwrap();
            assert_eq!(order as u64, number(&truth["order"]), "{} {path}", case.name);
            compare_inode(case, &store, node, truth);
        }
    }
}

/// Compares the fields and the content of an inode with the truth.
fn compare_inode(case: &Case, store: &Store, node: &Node, truth: &Value) {
    let what = format!("{} inode {}", case.name, node.ino);
    assert_eq!(kind_name(node.kind.unwrap()), truth["kind"].as_str().unwrap(), "{what}");
    let raw = store.raw_inode(node.ino).unwrap().unwrap();
    assert_eq!(raw.sibling_ino.get(), number(&truth["sibling"]), "{what}");
    assert_eq!(raw.child_ino.get(), number(&truth["child"]), "{what}");
    assert_eq!(u64::from(node.mappings_block.0), number(&truth["mappings_block"]), "{what}");
    assert_eq!(u64::from(node.num_mappings), number(&truth["num_mappings"]), "{what}");
    let extents: Vec<_> = store.extents(&case.image, node.ino).collect();
    let found: Vec<u64> = extents.iter().flat_map(blocks).collect();
    if node.kind == Some(Kind::File) {
        let wanted: Vec<u64> = truth["blocks"].as_array().unwrap().iter().map(number).collect();
        assert_eq!((found.len() as u64, &found), (number(&truth["nonzero_entries"]), &wanted), "{what}");
        let size = store.derived_size(&case.image, node.ino).unwrap();
        assert_eq!(size.bytes, wanted.len() as u64 * BLOCK_BYTES, "{what}");
        compare_content(case, store, node.ino, truth);
    } else if let Some(pages) = truth["page_bitmap"].as_array() {
        assert_eq!(found, [u64::from(node.mappings_block.0)], "{what}");
        let bitmap: [u8; 64] = case.image.read(found[0] * BLOCK_BYTES);
        let used = (0..512_u64).filter(|page| bitmap[(page / 8) as usize] & 1 << (page % 8) != 0);
        assert_eq!(used.collect::<Vec<_>>(), pages.iter().map(number).collect::<Vec<_>>(), "{what}");
    } else {
        assert!(found.is_empty(), "{what}");
    }
}

/// Compares the tags in the blocks of a file, and asks whom the blocks belong to.
fn compare_content(case: &Case, store: &Store, ino: InodeNo, truth: &Value) {
    for extent in store.extents(&case.image, ino) {
        for (index, block) in (extent.offset / BLOCK_BYTES..).zip(blocks(&extent)) {
            let tag = truth["pattern"][index.to_string()].as_str();
            if matches!(extent.place, Place::PastEnd { .. }) {
                assert_eq!(tag, Some("outside"), "{}", case.name);
                continue;
            }
            if let Some(tag) = tag {
                let mut bytes = vec![0; tag.len()];
                case.image.read_at(block * BLOCK_BYTES, &mut bytes).unwrap();
                assert_eq!(String::from_utf8(bytes).unwrap(), tag, "{}", case.name);
            }
            let found = store.owner(&case.image, block * BLOCK_BYTES + 77);
            let owner = Owner::File { ino, offset: index * BLOCK_BYTES + 77 };
            assert_eq!((found.owner, found.others, found.complete), (owner, 0, true), "{}", case.name);
        }
    }
}

#[test]
fn blocks_in_use_and_leaks_are_the_truth() {
    for case in cases() {
        let (store, mut leaked, mut past) = (case.store(), Vec::new(), Vec::new());
        let each = |first: BlockNo, count: u32| (first.0..first.0 + count).map(u64::from);
        let usage = store.usage(&case.image, &mut |remark| match remark {
            Remark::Leaked { first, count } => leaked.extend(each(first, count)),
            Remark::MarkedPastEnd { first, count } => past.extend(each(first, count)),
            other => panic!("{}: {other:?}", case.name),
        });
        assert_eq!(leaked, case.numbers("/leaked_blocks"), "{}", case.name);
        assert_eq!(past, case.numbers("/bitmap/beyond_region"), "{}", case.name);
        assert_eq!(u64::from(usage.marked + usage.marked_past_end), case.number("/bitmap/set"), "{}", case.name);
        assert_eq!((usage.leaked as usize, usage.past_end), (leaked.len(), past.len() as u64), "{}", case.name);
        let owned = usage.metadata + usage.tables + usage.data + usage.iommu;
        assert_eq!((owned + usage.leaked, usage.complete), (usage.marked, true), "{}", case.name);
        for block in leaked {
            assert_eq!(store.owner(&case.image, block * BLOCK_BYTES).owner, Owner::Leaked, "{}", case.name);
        }
    }
}

#[test]
fn only_the_names_that_are_twice_are_odd() {
    let twice =
        |first, second| Anomaly::DuplicateName { directory: ROOT, first: InodeNo(first), second: InodeNo(second) };
    let odd = BTreeMap::from([("pk_quirks/c2", twice(9, 7)), ("pk_quirks/c3", twice(9, 7))]);
    for case in cases() {
        let expected: Vec<_> = odd.get(case.name).cloned().into_iter().collect();
        assert_eq!(case.store().anomalies(), expected, "{}", case.name);
    }
}

#[test]
fn a_region_that_is_made_here_is_the_one_that_the_driver_made() {
    let Some(case) = cases().iter().find(|case| case.name == "pk_flat/empty") else { return };
    let made = crate::made::formatted(4);
    // What is between the superblock and the bitmap the driver leaves as it was.
    for at in std::iter::once(0).chain((0x10_0000..0x40_0000).step_by(4096)) {
        let page: [u8; 4096] = case.image.read(at);
        let length = if at == 0 { 16 } else { 4096 };
        let at = usize::try_from(at).unwrap();
        assert!(made[at..at + length] == page[..length], "page at {at:#x}");
    }
}

#[test]
fn what_the_driver_leaves_is_clean_but_for_its_own_quirks() {
    for case in cases() {
        let found = case.store().check(&case.image);
        let odd: Vec<_> = found.into_iter().filter(|finding| !finding.is_normal()).collect();
        let expected = match case.name {
            "pk_quirks/c2" => 1,
            "pk_quirks/c3" => 3,
            _ => 0,
        };
        assert_eq!(odd.len(), expected, "{}: {odd:?}", case.name);
    }
}
