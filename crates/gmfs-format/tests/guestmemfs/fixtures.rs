//! Memory of kernels that ran the driver, compared with what an independent reader found in it.

use std::path::Path;

use gmfs_format::guestmemfs::Remark;
use gmfs_format::guestmemfs::{Anomaly, BLOCK_BYTES, By, Place, Store, array_at, setup_data_at, tree_at};
use gmfs_format::native::units::InodeNo;
use gmfs_io::ReadAt as _;
use serde_json::Value;

use gmfs_format::fuzzing::sparse::Image;

/// The memory in an ELF core: its parts at their physical addresses, nothing elsewhere.
fn unpack(path: &Path) -> Image {
    let mut core = Vec::new();
    gmfs_testing::unpack(path, &mut core);
    let word = |at: usize| u64::from_le_bytes(core[at..at + 8].try_into().unwrap());
    let headers = usize::from(u16::from_le_bytes(core[56..58].try_into().unwrap()));
    let mut image = Image::new(0);
    let mut next = 0;
    for header in (64..).step_by(56).take(headers) {
        let (offset, physical, length) = (word(header + 8), word(header + 24), word(header + 32));
        image.absent.extend(next / 4096..physical / 4096);
        let from = usize::try_from(offset).unwrap();
        image.write(physical, &core[from..from + usize::try_from(length).unwrap()]);
        next = physical + length;
    }
    image.size = next;
    image
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// An image with the file systems that are in it.
fn cases() -> Vec<(&'static str, Image, Vec<Value>)> {
    let Some(dir) = gmfs_testing::fixtures("kernel-layouts") else { return Vec::new() };
    ["gm_flat/main", "gm_restore/before", "gm_restore/after"]
        .map(|name| {
            let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
            let truth: Value = serde_json::from_str(&text).unwrap();
            let found = truth["found"].as_array().unwrap().clone();
            (name, unpack(&dir.join(format!("{name}.mini.elf.zst"))), found)
        })
        .into()
}

#[test]
fn what_the_driver_made_is_the_truth() {
    for (name, image, all) in cases() {
        for truth in all {
            let tree = tree_at(&image, number(&truth["fdt"])).unwrap();
            assert_eq!(tree.tree_size, number(&truth["fdt_size"]), "{name}");
            let pages: Vec<_> = tree.pages.iter().map(|page| page.offset).collect();
            let wanted: Vec<_> =
                truth["mappings_blocks"].as_array().unwrap().iter().map(|page| number(&page[0])).collect();
            assert_eq!((pages, tree.num_inodes), (wanted, truth["num_inodes"].as_u64()), "{name}");
            let store = Store::read(&image, tree.into());
            let region = store.region().unwrap();
            assert_eq!((region.offset, region.len), (number(&truth["base"]), number(&truth["size"])), "{name}");
            compare(name, &store, &truth);
            for (path, file) in truth["tree"].as_object().unwrap() {
                compare_file(&format!("{name} {path}"), &image, &store, path, file);
            }
            for record in truth["setup_data"].as_array().unwrap() {
                let found = setup_data_at(&image, number(&record["at"])).unwrap();
                assert_eq!(found.tree.offset, number(&record["dt_addr"]), "{name}");
                assert_eq!(found.mem_cache.len, number(&record["mem_cache_size"]), "{name}");
            }
            assert!(array_at(&image, store.parts().inodes).is_some(), "{name}");
        }
    }
}

fn compare(name: &str, store: &Store, truth: &Value) {
    let superblock = store.superblock().unwrap();
    let wanted = &truth["superblock"];
    assert_eq!(superblock.next_free_ino, number(&wanted["next_free_ino"]), "{name}");
    assert_eq!(superblock.allocated_inodes, number(&wanted["allocated_inodes"]), "{name}");
    assert_eq!(superblock.serialised.map(u64::from), wanted["serialised"].as_u64(), "{name}");
    assert_eq!(superblock.lock.map(u64::from), wanted["lock"].as_u64(), "{name}");
    let offset = store.direct_map().map(|offset| format!("{offset:#018x}"));
    assert_eq!(offset.as_deref(), truth["direct_map_offset"].as_str(), "{name}");
    assert_eq!(u64::from(store.blocks()), number(&truth["blocks"]), "{name}");
    assert_eq!(u64::from(store.free_inodes()), number(&truth["free_list"]["count"]), "{name}");
    assert_eq!(store.nodes().count(), truth["tree"].as_object().unwrap().len() + 1, "{name}");
    let found = store.check();
    let leaked: Vec<u64> = found
        .iter()
        .filter_map(|anomaly| {
            if let Anomaly::Blocks(Remark::Leaked { first, count }) = anomaly { Some((first.0, *count)) } else { None }
        })
        .flat_map(|(first, count)| (first..first + count).map(u64::from))
        .collect();
    let wanted: Vec<u64> = truth["leaked_blocks"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(leaked, wanted, "{name}");
    let others = found.iter().filter(|anomaly| !anomaly.is_normal()).count();
    assert_eq!(others > 0, name == "gm_restore/after", "{name}: {found:?}");
}

fn compare_file(what: &str, image: &Image, store: &Store, path: &str, truth: &Value) {
    let ino = InodeNo(u32::try_from(number(&truth["ino"])).unwrap());
    let node = store.node(ino).unwrap();
    assert_eq!(&*node.name, path.trim_start_matches('/').as_bytes(), "{what}");
    assert_eq!(u64::from(node.num_mappings), number(&truth["num_mappings"]), "{what}");
    assert_eq!(store.page(ino, Some(By::Inode)), truth["mappings_phys"].as_u64(), "{what}");
    let order = store.children(InodeNo::ROOT).iter().position(|child| *child == ino).unwrap();
    assert_eq!(order as u64, number(&truth["order"]), "{what}");
    let mut blocks = Vec::new();
    for extent in store.extents(ino, None) {
        let Place::Region { address } = extent.place else { panic!("{what}: {extent:?}") };
        blocks.extend((0..extent.length / BLOCK_BYTES).map(|n| address / BLOCK_BYTES + n));
    }
    let wanted: Vec<u64> = truth["blocks"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(blocks, wanted, "{what}");
    for (index, tag) in truth["pattern"].as_object().unwrap() {
        let block = blocks[index.parse::<usize>().unwrap()];
        let tag = tag.as_str().unwrap();
        let mut bytes = vec![0; tag.len()];
        let at = store.region().unwrap().offset + block * BLOCK_BYTES;
        image.read_at(at, &mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), tag, "{what}");
    }
}
