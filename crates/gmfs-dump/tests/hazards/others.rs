//! Mistakes of other readers, with files as tools write them.

use gmfs_dump::elf::ElfDump;
use gmfs_dump::flat::FlatFile;
use gmfs_dump::kdump::KdumpDump;
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::elf_file::{Builder, Load};
use crate::kdump::{memory, sample};
use crate::{kdump_file, put, read};

#[test]
fn program_headers_need_not_follow_the_header() {
    let _alone = crate::alone();
    let builder = Builder::new().loads([Load::new(0x1000, b"abcd")]);
    assert_ne!(builder.table(), 64);
    assert_eq!(read(&ElfDump::parse(builder.bytes()).unwrap(), 0x1000, 4).unwrap(), b"abcd");
}

#[test]
fn nonsense_in_the_sections_does_not_matter() {
    let _alone = crate::alone();
    // QEMU writes this in big-endian files: the string table has 0x0b00000000000000 bytes.
    let mut file = Builder::new().order(true, true).loads([Load::new(0x1000, b"abcd")]).bytes();
    put(&mut file, 58, &[0, 64, 0, 1, 0, 0]);
    put(&mut file, 64 + 24, &[0xff; 8]);
    put(&mut file, 64 + 32, &0x0b_u64.to_le_bytes());
    let dump = ElfDump::parse(file).unwrap();
    assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
}

#[test]
fn a_dump_without_the_kernels_words_is_read() {
    let _alone = crate::alone();
    // Page size, machine and addresses are in the headers of both formats, so VMCOREINFO is not needed.
    let mut elf = Builder::new().loads([Load::new(0x1000, b"abcd")]).bytes();
    put(&mut elf, 18, &183_u16.to_le_bytes());
    let dump = ElfDump::parse(elf).unwrap();
    assert!(!dump.facts().notes.vmcoreinfo);
    assert_eq!(read(&dump, 0x1001, 2).unwrap(), b"bc");
    let dump = KdumpDump::parse(sample().bytes()).unwrap();
    assert_eq!((dump.facts().machine.as_str(), dump.facts().notes.release.as_deref()), ("", None));
    assert_eq!(read(&dump, 3 << 12, 4096).unwrap(), memory(3));
}

#[test]
fn the_page_before_a_segment_is_not_zero() {
    let _alone = crate::alone();
    let dump = ElfDump::parse(Builder::new().loads([Load::new(0x2000, &[1; 4096])]).bytes()).unwrap();
    assert_eq!(read(&dump, 0x1000, 4096), Err((Span::new(0x1000, 4096), Absence::NotInDump)));
    assert_eq!(read(&dump, 0x1fff, 2), Err((Span::new(0x1fff, 1), Absence::NotInDump)));
}

#[test]
fn a_page_lies_in_two_records_that_are_far_apart() {
    let _alone = crate::alone();
    let plain = sample().bytes();
    // The records have a prime number of bytes, and are written backwards.
    let mut pieces: Vec<(i64, i64, &[u8])> =
        (0..).zip(plain.chunks(1021)).map(|(n, piece)| (n * 1021, piece.len() as i64, piece)).collect();
    pieces.reverse();
    let flat = FlatFile::parse(crate::flat::stream(&pieces, true)).unwrap();
    let dump = KdumpDump::parse(flat).unwrap();
    let whole: Vec<u8> = (0..12).flat_map(memory).chain([0; 4096]).collect();
    assert_eq!(read(&dump, 0, whole.len()).unwrap(), whole);
}

#[test]
fn every_codec_in_one_dump_with_a_timestamp_and_two_maps() {
    let _alone = crate::alone();
    let dump = KdumpDump::parse(sample().bytes()).unwrap();
    assert_eq!(dump.facts().timestamp, Some(1_700_000_000));
    for number in 0..12 {
        assert_eq!(read(&dump, number << 12, 4096).unwrap(), memory(number), "page {number}");
    }
    assert_eq!(dump.end(), Some(14 << 12));
}

#[test]
fn damaged_lzo_pages_are_refused_without_a_panic() {
    let _alone = crate::alone();
    let (good, _) = kdump_file::encode(&memory(1), crate::kdump::Codec::Lzo);
    let mut state = 1_u64;
    let mut builder = kdump_file::Builder::new();
    for number in 0..2000 {
        let mut data = good.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % data.len();
            data[at] = (state >> 25) as u8;
        }
        builder = builder.page(number, kdump_file::Page::Forged { size: data.len() as u32, data, flags: 2 });
    }
    let dump = KdumpDump::parse(builder.bytes()).unwrap();
    let refused = (0..2000).filter(|number| read(&dump, number << 12, 4096).is_err()).count();
    // Damaged literals look like valid ones, so such pages are not refused.
    assert!((100..2000).contains(&refused), "{refused}");
}
