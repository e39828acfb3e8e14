//! Reads dumps that makedumpfile and QEMU made.

use std::path::Path;

use super::*;
use crate::captured::{fixtures, truth, unpack};
use gmfs_image::probe::{Image, Kind, OpenError, open, open_parts};

/// Compares a dump, and the file that it is in, with all that is recorded about it.
fn check(dump: &str, fixture: &str, why: Absence) {
    let Some(dir) = fixtures() else { return };
    let truth = truth(&dir, dump);
    let file = unpack(&dir, fixture);
    let image = open(file.path(), None).unwrap();
    facts(&image, &truth.json["files"][0]);
    truth.check(&*image.source, why);
}

fn facts(image: &Image, file: &serde_json::Value) {
    assert_eq!(image.kind, Kind::Kdump);
    let facts = image.dump.as_ref().unwrap();
    let number = |name: &str| file[name].as_u64().unwrap();
    assert_eq!(facts.format, "kdump-compressed");
    assert_eq!(u64::from(facts.bits.unwrap()), number("word"));
    assert_eq!(facts.big_endian, Some(file["endian"] == ">"));
    assert_eq!(u64::from(facts.version.unwrap()), number("header_version"));
    assert_eq!(facts.page_size, Some(number("block_size")));
    assert_eq!(u64::from(facts.dump_level.unwrap()), number("dump_level"));
    let status = u32::from_str_radix(file["status"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(facts.incomplete, status & 8 != 0);
    let codec = codec::CODECS.iter().find(|(bit, _)| status & bit != 0).map_or("stored", |(_, codec)| codec.name());
    assert_eq!(facts.codec, Some(codec));
    let flattened = file["flattened"].as_bool().unwrap();
    assert_eq!(facts.flattened.is_some(), flattened);
    if let Some(flat) = &facts.flattened {
        assert_eq!((flat.records, flat.cut), (number("flat_records"), false));
    }
    let qemu = file["notes"].as_array().unwrap().iter().any(|note| note == "QEMU:0x0");
    assert_eq!(facts.qemu, qemu);
    let pages: u64 = image.memory(usize::MAX).iter().filter(|(_, why)| why.is_none()).map(|(span, _)| span.len).sum();
    assert_eq!(pages, number("bitmap2_set") * number("block_size"));
}

#[test]
fn qemu_aarch64_with_pages_of_64_kib() {
    check("arch/aarch64-kdump-zlib", "arch_aarch64-kdump-zlib", Absence::NotInDump);
}

#[test]
fn qemu_arm_with_a_packed_32_bit_header() {
    check("arch/arm32-kdump-zlib", "arch_arm32-kdump-zlib", Absence::NotInDump);
}

#[test]
fn qemu_lzo_flattened() {
    check("mini/mini-kdump-lzo", "mini_mini-kdump-lzo", Absence::NotInDump);
}

#[test]
fn qemu_snappy() {
    check("mini/mini-kdump-raw-snappy", "mini_mini-kdump-raw-snappy", Absence::NotInDump);
}

#[test]
fn qemu_zlib() {
    check("mini/mini-kdump-raw-zlib", "mini_mini-kdump-raw-zlib", Absence::NotInDump);
}

#[test]
fn makedumpfile_lzo() {
    check("mini/mini-mdf-l-d1", "mini_mini-mdf-l-d1", Absence::NotInDump);
}

#[test]
fn makedumpfile_without_compression() {
    check("mini/mini-mdf-none-d0", "mini_mini-mdf-none-d0", Absence::NotInDump);
}

#[test]
fn makedumpfile_zstd() {
    check("mini/mini-mdf-z-d1", "mini_mini-mdf-z-d1", Absence::NotInDump);
}

#[test]
fn makedumpfile_zstd_flattened() {
    check("mini/mini-mdf-z-d1.flat", "mini_mini-mdf-z-d1.flat", Absence::NotInDump);
}

#[test]
fn makedumpfile_on_a_full_disk() {
    check("mini/mini-incomplete-c-d1", "mini_mini-incomplete-c-d1", Absence::Truncated);
}

fn parts_of(paths: &[&Path]) -> Result<KdumpDump<gmfs_image::RegionFile>, KdumpError> {
    KdumpDump::parse_parts(paths.iter().map(|path| gmfs_image::RegionFile::open(path).unwrap()))
}

#[test]
fn the_parts_of_a_split_dump_in_any_order() {
    let Some(dir) = fixtures() else { return };
    let truth = truth(&dir, "mini/mini-split-l.*");
    let files: Vec<_> = (1..=3).map(|n| unpack(&dir, &format!("mini_mini-split-l.{n}"))).collect();
    let paths: Vec<&Path> = files.iter().map(|file| file.path()).collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let image = open_parts(&order.map(|n| paths[n])).unwrap();
        assert_eq!(image.dump.as_ref().unwrap().parts.len(), 3);
        truth.check(&*image.source, Absence::NotInDump);
    }
    for missing in 0..3 {
        let given: Vec<&Path> = (0..3).filter(|n| *n != missing).map(|n| paths[n]).collect();
        let error = parts_of(&given).unwrap_err();
        let KdumpError::MissingParts { ranges } = &error else { panic!("{error}") };
        assert_eq!(ranges.len(), 1);
        let file = &truth.json["files"][missing];
        let start = file["start_pfn"].as_u64().unwrap() * 4096;
        assert_eq!(ranges[0].offset, start);
    }
    let error = open(paths[1], None).unwrap_err();
    let OpenError::Dump { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains("give all parts"), "{source}");
    let error = parts_of(&[paths[0], paths[1], paths[1]]).unwrap_err();
    assert!(matches!(error, KdumpError::Overlap { number: 2, other: 1 }), "{error:?}");
}
