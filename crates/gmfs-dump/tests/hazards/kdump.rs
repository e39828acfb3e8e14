//! Hazards of kdump-compressed dumps.

pub(crate) use gmfs_dump::kdump::Codec;
use gmfs_dump::kdump::{KdumpDump, KdumpError};
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::kdump_file::{Builder, Page, encode};
use crate::source::Large;
use crate::{put, read};

pub(crate) const ALL: [Codec; 5] = [Codec::Stored, Codec::Zlib, Codec::Lzo, Codec::Snappy, Codec::Zstd];

/// A page of which a third is random. It contains its number.
pub(crate) fn memory(number: u64) -> Vec<u8> {
    let mut page = vec![number as u8; 4096];
    let mut state = number + 1;
    for byte in &mut page[..1365] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    page
}

/// Pages 0 to 11 with all codecs. Page 12 is zero, 13 was lost, 14 was left out.
pub(crate) fn sample() -> Builder {
    let pages = (0..12).map(|number| (number, Page::Memory(memory(number), ALL[number as usize % 5])));
    let builder = pages.fold(Builder::new(), |builder, (number, page)| builder.page(number, page));
    builder.page(12, Page::SharedZero).page(13, Page::Lost).page(14, Page::Excluded)
}

fn patched(at: usize, bytes: &[u8]) -> Result<KdumpDump<Vec<u8>>, KdumpError> {
    let mut file = sample().bytes();
    put(&mut file, at, bytes);
    KdumpDump::parse(file)
}

fn page(dump: &KdumpDump<Vec<u8>>, number: u64) -> Result<Vec<u8>, Absence> {
    read(dump, number << 12, 4096).map_err(|(span, why)| {
        assert_eq!(span, Span::new(number << 12, 4096));
        why
    })
}

/// The result of reading one page with that descriptor and data.
fn forged(data: &[u8], size: u32, flags: u32) -> Result<Vec<u8>, Absence> {
    let builder = Builder::new().page(1, Page::Forged { data: data.to_vec(), size, flags });
    page(&KdumpDump::parse(builder.bytes()).unwrap(), 1)
}

fn stored(data: &[u8], flags: u32) -> Result<Vec<u8>, Absence> {
    forged(data, data.len() as u32, flags)
}

const BAD: Result<Vec<u8>, Absence> = Err(Absence::Undecodable);

pub(crate) fn sizes() {
    for size in [0_u32, 1, 3, 256, 4095, 12_288, 2 << 20, 1 << 31, u32::MAX] {
        assert!(matches!(patched(428, &size.to_le_bytes()), Err(KdumpError::Damaged)), "{size}");
    }
    for sub in [0_i32, -1, i32::MIN, 1 << 21] {
        assert!(matches!(patched(432, &sub.to_le_bytes()), Err(KdumpError::Damaged)), "{sub}");
    }
    // The product has 44 bits. What is at that offset was cut off.
    let dump = patched(432, &(1_u32 << 20).to_le_bytes()).unwrap();
    assert!(dump.facts().cut);
    assert_eq!(page(&dump, 0), Err(Absence::Truncated));
}

pub(crate) fn maps() {
    assert!(matches!(patched(436, &0_u32.to_le_bytes()), Err(KdumpError::Damaged)));
    // The maps have an odd number of blocks. The last one belongs to no map, but it comes before the descriptors.
    let odd = patched(436, &3_u32.to_le_bytes()).unwrap();
    assert_eq!(odd.end(), Some(14 << 12));
    for blocks in [1_u32 << 20, 1 << 31, u32::MAX] {
        let dump = patched(436, &blocks.to_le_bytes()).unwrap();
        assert!(dump.facts().cut);
        assert_eq!(page(&dump, 0), Err(Absence::Truncated), "{blocks}");
    }
    let mut file = sample().bytes();
    file.truncate(3 * 4096 + 1);
    let dump = KdumpDump::parse(file).unwrap();
    assert!(dump.facts().cut);
    // Eight bits are present without descriptors; the others are cut off.
    assert_eq!((page(&dump, 0), page(&dump, 9)), (Err(Absence::Truncated), Err(Absence::Truncated)));
    // This file is as large as its maps claim, which no machine needs.
    let mut head = sample().bytes();
    put(&mut head, 436, &(1_u32 << 25).to_le_bytes());
    put(&mut head, 440, &u32::MAX.to_le_bytes());
    put(&mut head, 4096 + 96, &u64::MAX.to_le_bytes());
    let found = KdumpDump::parse(Large { head, size: 1 << 42, rest: 0 }).err();
    assert!(matches!(found, Some(KdumpError::TooLarge { .. })), "{found:?}");
}

pub(crate) fn reach() {
    for reach in [u64::MAX, 1 << 63, 1 << 40, 4096 * 8] {
        let dump = KdumpDump::parse(Builder { max_mapnr: Some(reach), ..sample() }.bytes()).unwrap();
        // The map has one block.
        assert_eq!((dump.facts().reach, dump.end()), (4096 * 8 * 4096, Some(14 << 12)));
        assert_eq!(page(&dump, 3).unwrap(), memory(3));
        assert_eq!(read(&dump, u64::MAX - 10, 11).unwrap_err().1, Absence::NotInDump);
        assert_eq!(dump.next_absent((20 << 12)..u64::MAX).unwrap().1, Absence::NotInDump);
        assert!(dump.next_data(0..u64::MAX).unwrap().is_some());
        assert!(dump.ranges().count() < 10);
    }
    // Bits past the claimed number of pages do not count.
    let dump = KdumpDump::parse(Builder { max_mapnr: Some(2), ..sample() }.bytes()).unwrap();
    assert_eq!((dump.end(), page(&dump, 2)), (Some(2 << 12), Err(Absence::NotInDump)));
}

pub(crate) fn missing_descriptors() {
    let whole = sample().bytes();
    for length in [4 * 4096, 4 * 4096 + 5, 4 * 4096 + 24 * 3 + 5] {
        let dump = KdumpDump::parse(whole[..length].to_vec()).unwrap();
        assert!((0..14).all(|number| page(&dump, number) == Err(Absence::Truncated)));
        assert_eq!(dump.next_absent(0..14 << 12), Some((Span::new(0, 14 << 12), Absence::Truncated)));
    }
    // All bits of the map are set, but there are descriptors for only 14 of 32,768 pages. The bytes after these are
    // taken for descriptors, and are invalid ones.
    let mut file = whole;
    file[3 * 4096..4 * 4096].fill(0xff);
    put(&mut file, 440, &u32::MAX.to_le_bytes());
    put(&mut file, 4096 + 96, &u64::from(u32::MAX).to_le_bytes());
    let dump = KdumpDump::parse(file).unwrap();
    assert_eq!(page(&dump, 3).unwrap(), memory(3));
    assert_eq!(page(&dump, 32_767), Err(Absence::Truncated));
}

pub(crate) fn offsets() {
    let pointed = |offset: u64, size, flags| {
        let builder = Builder::new().page(1, Page::Pointed { offset, size, flags });
        let dump = KdumpDump::parse(builder.bytes()).unwrap();
        let reported = dump.next_absent(4096..8192).map(|(_, why)| why);
        let found = page(&dump, 1);
        assert_eq!(reported, found.as_ref().err().copied(), "{offset:#x}");
        found
    };
    for (size, flags) in [(4096, 0), (100, 1)] {
        assert_eq!(pointed(1 << 40, size, flags), Err(Absence::Truncated));
        assert_eq!(pointed(u64::MAX, size, flags), BAD);
        assert_eq!(pointed(u64::MAX - 50, size, flags), BAD);
        assert_eq!(pointed(1 << 63, size, flags), BAD);
    }
    // A descriptor that points at the headers gives their bytes.
    assert!(pointed(1, 4096, 0).unwrap().starts_with(b"DUMP   "));
    // Several descriptors point at one offset.
    let twin = (1..5).fold(Builder::new(), |builder, number| {
        builder.page(number, Page::Pointed { offset: 4 * 4096, size: 4096, flags: 0 })
    });
    let dump = KdumpDump::parse(twin.bytes()).unwrap();
    assert_eq!(read(&dump, 4096, 4 * 4096).unwrap()[..4096], page(&dump, 4).unwrap());
}

pub(crate) fn descriptors() {
    let sizes = [(4095, 0), (4097, 0), (u32::MAX, 0), (4096, 1), (5000, 2), (u32::MAX, 4)];
    let flags = [3, 0x22, 0x27, 8, 0x10, 0x40, 1 << 31, u32::MAX].map(|flags| (10, flags));
    for (size, flags) in sizes.into_iter().chain(flags) {
        assert_eq!(forged(&[7; 6000], size, flags), BAD, "{size} {flags:#x}");
    }
    for flags in [0, 1, 0x20] {
        assert_eq!(forged(&[7; 6000], 0, flags), Err(Absence::NoData), "{flags:#x}");
    }
}

pub(crate) fn bombs() {
    for (flag, codec) in [(1, Codec::Zlib), (2, Codec::Lzo), (4, Codec::Snappy), (0x20, Codec::Zstd)] {
        for size in [4095, 4097, 8192, 900_000] {
            let (mut data, _) = encode(&vec![3; size], codec);
            data.truncate(4095);
            assert_eq!(stored(&data, flag), BAD, "{codec:?} {size}");
        }
        let (good, _) = encode(&memory(1), codec);
        assert_eq!(stored(&good, flag).unwrap(), memory(1), "{codec:?}");
        for length in (1..good.len()).step_by(7).chain([good.len() - 1]) {
            assert_eq!(stored(&good[..length], flag), BAD, "{codec:?} {length}");
        }
    }
    // zlib with a wrong checksum, and with a dictionary; Snappy with another length; LZO with bytes after its end.
    let (mut zlib, _) = encode(&memory(1), Codec::Zlib);
    *zlib.last_mut().unwrap() ^= 1;
    assert_eq!(stored(&zlib, 1), BAD);
    assert_eq!(stored(&[&[0x78, 0x20, 0, 0, 0, 1], &zlib[2..]].concat(), 1), BAD);
    assert_eq!(stored(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 4), BAD);
    let (lzo, _) = encode(&memory(1), Codec::Lzo);
    assert_eq!(stored(&[&lzo[..], &[0]].concat(), 2), BAD);
    frames();
}

/// False values in the header of a zstd frame.
fn frames() {
    let (good, _) = encode(&[3; 4096], Codec::Zstd);
    assert!(stored(&good, 0x20).is_ok());
    let headed = |head: &[u8]| stored(&[&[0x28, 0xb5, 0x2f, 0xfd], head, &good[9..]].concat(), 0x20);
    // Another size, windows of 3.75 TiB and 128 MiB, a dictionary, no size, the reserved bit, a size of 2^64 - 1.
    for head in [
        &[0xa0, 0, 16, 1, 0][..],
        &[0x80, 0xff, 0, 16, 0, 0],
        &[0x80, 0x88, 0, 16, 0, 0],
        &[0xa1, 5, 0, 16, 0, 0],
        &[0x00, 0x10],
        &[0xa8, 0, 16, 0, 0],
        &[0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(headed(head), BAD, "{head:x?}");
    }
    // A skippable frame, alone, before and after a valid one, and a second, empty frame.
    let skip = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9];
    let empty = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0];
    for frames in [&[&skip[..]][..], &[&skip, &good], &[&good, &skip], &[&good, &empty], &[&empty, &good]] {
        assert_eq!(stored(&frames.concat(), 0x20), BAD, "{frames:x?}");
    }
    // A page, followed by as many runs of 128 KiB as fit.
    let mut bomb = good;
    bomb[9] &= !1;
    bomb.extend([2, 0, 16, 7].repeat(900));
    bomb.extend([3, 0, 16, 7]);
    assert_eq!(stored(&bomb, 0x20), BAD);
}

pub(crate) fn parts() {
    let file = |start, end| Builder { split: Some((start, end)), ..sample() }.bytes();
    let files = [file(0, 5), file(5, 15), file(3, 15), file(9, 2), file(5, 9), file(0, u64::MAX)];
    let join = |given: &[usize]| KdumpDump::parse_parts(given.iter().map(|number| files[*number].clone()));
    let whole = join(&[1, 0]).unwrap();
    assert!((0..12).all(|number| page(&whole, number).unwrap() == memory(number)));
    assert_eq!((page(&whole, 13), page(&whole, 14)), (Err(Absence::NoData), Err(Absence::Excluded)));
    assert!(matches!(join(&[0, 2]), Err(KdumpError::Overlap { .. })));
    assert!(matches!(join(&[0, 0, 1]), Err(KdumpError::Overlap { .. })));
    assert!(matches!(join(&[0, 3]), Err(KdumpError::MissingParts { .. })));
    assert!(matches!(join(&[3]), Err(KdumpError::MissingParts { .. })));
    let Err(KdumpError::MissingParts { ranges }) = join(&[0, 4]) else { panic!("a part is missing") };
    assert_eq!(ranges, [Span::new(9 << 12, 5 << 12)]);
    assert_eq!(page(&join(&[5]).unwrap(), 3).unwrap(), memory(3));
    let mut stranger = files[1].clone();
    stranger[272] = b'x';
    let joined = KdumpDump::parse_parts([files[0].clone(), stranger]);
    assert!(matches!(joined, Err(KdumpError::Stranger { .. })));
    let joined = KdumpDump::parse_parts([files[0].clone(), sample().bytes()]);
    assert!(matches!(joined, Err(KdumpError::NotSplit { number: 1 })));
}

pub(crate) fn ends_and_notes() {
    let whole = sample().bytes();
    for length in (0..600).chain(4000..4300) {
        let cut = KdumpDump::parse(whole[..length].to_vec());
        assert_eq!(matches!(cut, Err(KdumpError::Short { .. })), length < 4096 + 104, "{length}");
    }
    for (at, value) in [(32, u64::MAX), (40, u64::MAX), (48, u64::MAX), (56, u64::MAX), (48, 1), (32, 1 << 40), (64, 1)]
    {
        let mut file = Builder { info: "OSRELEASE=1\n", ..sample() }.bytes();
        put(&mut file, 4096 + at, &value.to_le_bytes());
        let dump = KdumpDump::parse(file).unwrap();
        assert_eq!(page(&dump, 0).unwrap(), memory(0));
    }
    // Notes that claim to be as long as a large file.
    let mut head = sample().bytes();
    put(&mut head, 4096 + 40, &(1_u64 << 40).to_le_bytes());
    put(&mut head, 4096 + 32, &4096_u64.to_le_bytes());
    assert!(KdumpDump::parse(Large { head, size: 1 << 41, rest: 0 }).is_ok());
}

pub(crate) fn lost_pages() {
    for status in [1, 9] {
        let dump = KdumpDump::parse(Builder { status, ..sample() }.bytes()).unwrap();
        assert_eq!(dump.facts().incomplete, status == 9);
        let why = if status == 9 { Absence::Truncated } else { Absence::NoData };
        assert_eq!(page(&dump, 13), Err(why));
        assert_eq!(dump.next_absent(0..14 << 12), Some((Span::new(13 << 12, 4096), why)));
    }
}
