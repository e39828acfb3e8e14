use super::*;
use proptest::prelude::*;

const SIZE: usize = 6 << 20;

fn image(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; SIZE];
    for (at, bytes) in parts {
        image[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

fn found(parts: &[(usize, &[u8])]) -> Option<(&'static str, u64)> {
    identify(&image(parts)).map(|f| (f.name, f.offset))
}

#[test]
fn every_signature_of_the_table_is_found_where_it_belongs() {
    for (offset, magic, name) in SIGNATURES {
        assert!((4..=table::LONGEST).contains(&magic.len()), "{name}");
        assert_eq!(found(&[(*offset as usize, magic)]), Some((*name, *offset)));
    }
}

#[test]
fn nothing_known_is_found_in_nothing() {
    assert_eq!(found(&[]), None);
    assert_eq!(identify(&vec![0xff; SIZE]), None);
    for size in [0, 1, 511, 512, 1080, 4096, 8191] {
        assert_eq!(identify(&vec![0; size]), None);
        assert_eq!(identify(&vec![0x55; size]), None);
    }
}

/// The superblock of an ext filesystem with these feature words.
fn ext(compat: u32, incompat: u32) -> Vec<u8> {
    let mut sb = vec![0; 0x70];
    for (at, value) in [(0, 64_u32), (4, 1024), (0x18, 2), (0x4c, 1), (0x5c, compat), (0x60, incompat)] {
        sb[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    sb[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
    sb
}

#[test]
fn the_generations_of_ext_are_told_apart() {
    for (compat, incompat, name) in
        [(0x38, 0x2, "ext2 filesystem"), (0x3c, 0x2, "ext3 filesystem"), (0x3c, 0x2c2, "ext4 filesystem")]
    {
        assert_eq!(found(&[(0x400, &ext(compat, incompat))]), Some((name, 0x438)));
    }
    // The magic alone has two bytes, which other content may have too.
    assert_eq!(found(&[(0x438, &[0x53, 0xef])]), None);
}

#[test]
fn signatures_at_the_end_are_found() {
    let raid = b"\xfc\x4e\x2b\xa9\x01\0\0\0";
    assert_eq!(found(&[(SIZE - 8192, raid)]), Some(("Linux RAID member", SIZE as u64 - 8192)));
    let old = b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0";
    assert_eq!(found(&[(SIZE - 65536, old)]), Some(("Linux RAID member", SIZE as u64 - 65536)));
    assert_eq!(found(&[(SIZE - 512, b"EFI PART")]), Some(("GPT partition table", SIZE as u64 - 512)));
    assert_eq!(found(&[(SIZE - 1024, b"Intel Raid ISM Cfg Sig. ")]), Some(("Intel RAID member", SIZE as u64 - 1024)));
    assert_eq!(found(&[(SIZE - 4036, b"\x83\x74\x02\x6b")]), Some(("DRBD volume", SIZE as u64 - 4036)));
    assert_eq!(found(&[(SIZE - 512, b"conectix")]), Some(("VHD disk image", SIZE as u64 - 512)));
}

#[test]
fn zfs_is_found_in_each_of_its_labels() {
    for label in [0, 256 << 10, SIZE - (512 << 10), SIZE - (256 << 10)] {
        let at = label + (128 << 10) + 5 * 1024;
        for magic in [b"\x0c\xb1\xba\0\0\0\0\0", b"\0\0\0\0\0\xba\xb1\x0c"] {
            assert_eq!(found(&[(at, magic)]), Some(("ZFS pool member", at as u64)));
        }
    }
}

#[test]
fn a_device_tree_and_nilfs_need_more_than_their_magic() {
    let header = |version: u32| -> Vec<u8> {
        let fields = [0xd00d_feed_u32, 0x1000, 0x38, 0xf00, 0x28, version, 16];
        fields.iter().flat_map(|field| field.to_be_bytes()).collect()
    };
    assert_eq!(found(&[(0, &header(17))]), Some(("device tree blob", 0)));
    assert_eq!(found(&[(0, &header(18))]), None);
    assert_eq!(found(&[(0x400, b"\x02\0\0\0\0\0\x34\x34\x18\x01")]), Some(("NILFS2 filesystem", 0x406)));
    assert_eq!(found(&[(0x406, b"\x34\x34")]), None);
}

#[test]
fn an_mbr_needs_a_plausible_table() {
    let entry = b"\x80\x20\x21\0\x83\xff\xff\xff\0\x08\0\0\0\0\x10\0";
    assert_eq!(found(&[(446, entry), (510, b"\x55\xaa")]), Some(("MBR partition table", 510)));
    assert_eq!(found(&[(446, entry)]), None);
    assert_eq!(found(&[(510, b"\x55\xaa")]), None, "no partition");
    assert_eq!(found(&[(446, &[0x37; 64]), (510, b"\x55\xaa")]), None, "code, no table");
}

#[test]
fn a_filesystem_comes_before_the_partition_table_around_it() {
    let entry = b"\x80\x20\x21\0\x83\xff\xff\xff\0\x08\0\0\0\0\x10\0";
    let parts: [(usize, &[u8]); 3] = [(0x52, b"FAT32   "), (446, entry), (510, b"\x55\xaa")];
    assert_eq!(found(&parts), Some(("FAT filesystem", 0x52)));
}

#[test]
fn dumps_are_found_and_named_without_an_article() {
    assert_eq!(found(&[(0, b"\x7fELF\x02\x01")]), Some(("ELF file", 0)));
    assert_eq!(found(&[(0, b"KDUMP   ")]), Some(("kdump-compressed dump", 0)));
    assert_eq!(found(&[(0, b"\x28\xb5\x2f\xfd")]), Some(("compressed by zstd", 0)));
}

proptest! {
    #[test]
    fn random_memory_is_rarely_taken_for_something(seed in proptest::collection::vec(any::<u8>(), 256)) {
        // Every probe must accept random bytes without a panic.
        let image: Vec<u8> = seed.iter().cycle().take(3 << 18).copied().collect();
        let _ = identify(&image);
        crate::fuzzing::exercise_image(&seed);
    }
}
