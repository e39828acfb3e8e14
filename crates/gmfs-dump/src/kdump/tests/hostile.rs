//! Reads hostile files: files with a single fault, and random mutations of whole dumps.

use super::*;

fn sample() -> Builder {
    let mut builder = Builder::new();
    for number in 0..12 {
        builder = builder.page(number, Page::Memory(memory(number, 4096), ALL[number as usize % 5]));
    }
    builder.page(12, Page::SharedZero).page(13, Page::Lost).page(14, Page::Excluded)
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The result of reading one page with that descriptor and data.
fn one(data: Vec<u8>, size: u32, flags: u32) -> Result<Vec<u8>, (Span, Absence)> {
    let dump = parse(&Builder::new().page(1, Page::Forged { data, size, flags }));
    read(&dump, 4096, 4096)
}

const BAD: Result<Vec<u8>, (Span, Absence)> = Err((Span::new(4096, 4096), Absence::Undecodable));

#[test]
fn page_sizes_that_make_no_sense() {
    for size in [0_u32, 1, 3, 256, 4095, 12288, 2 << 20, 1 << 31, u32::MAX] {
        let mut file = sample().bytes();
        put(&mut file, 428, &size.to_le_bytes());
        assert!(matches!(KdumpDump::parse(file), Err(KdumpError::Damaged)), "{size}");
    }
}

#[test]
fn sizes_of_the_sub_header_and_of_the_maps() {
    for sub in [0_i32, -1, i32::MIN, 1 << 21] {
        let mut file = sample().bytes();
        put(&mut file, 432, &sub.to_le_bytes());
        assert!(matches!(KdumpDump::parse(file), Err(KdumpError::Damaged)), "{sub}");
    }
    // The products of 32-bit numbers do not wrap. What is past the end of the file was cut off.
    for (at, value) in [(432, 1_u32 << 20), (436, u32::MAX), (436, 1 << 31)] {
        let mut file = sample().bytes();
        put(&mut file, at, &value.to_le_bytes());
        if let Ok(dump) = KdumpDump::parse(file) {
            assert!(read(&dump, 0, 4096).is_err());
        }
    }
    // The maps have an odd number of blocks. The last one belongs to neither map.
    let mut file = sample().bytes();
    put(&mut file, 436, &3_u32.to_le_bytes());
    assert!(KdumpDump::parse(file).is_ok());
    let mut file = sample().bytes();
    put(&mut file, 436, &0_u32.to_le_bytes());
    assert!(matches!(KdumpDump::parse(file), Err(KdumpError::Damaged)));
}

#[test]
fn a_map_that_is_cut_off() {
    let mut file = sample().bytes();
    file.truncate(3 * 4096 + 1);
    let dump = KdumpDump::parse(file).unwrap();
    assert!(dump.facts().cut);
    assert_eq!(read(&dump, 0, 4096), Err((Span::new(0, 4096), Absence::Truncated)));
    assert_eq!(read(&dump, 9 << 12, 4096), Err((Span::new(9 << 12, 4096), Absence::Truncated)));
}

#[test]
fn page_numbers_up_to_all_that_there_are() {
    for reach in [u64::MAX, 1 << 63, 1 << 40, 4096 * 8] {
        let dump = parse(&Builder { max_mapnr: Some(reach), ..sample() });
        assert_eq!(dump.facts().reach, 4096 * 8 * 4096);
        assert_eq!(read(&dump, 3 << 12, 4096).unwrap(), memory(3, 4096));
        assert_eq!(dump.end(), Some(14 << 12));
        assert_eq!(read(&dump, u64::MAX - 10, 11).unwrap_err().1, Absence::NotInDump);
        assert!(dump.next_absent(0..u64::MAX).is_some());
        assert!(dump.next_absent((20 << 12)..u64::MAX).is_some());
        assert!(dump.next_data(0..u64::MAX).unwrap().is_some());
        assert!(dump.ranges().count() < 10);
    }
    let dump = parse(&Builder { max_mapnr: Some(2), ..sample() });
    assert_eq!(dump.end(), Some(2 << 12));
    assert_eq!(read(&dump, 2 << 12, 1).unwrap_err().1, Absence::NotInDump);
}

#[test]
fn a_huge_sparse_file_is_opened_by_its_data() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut head = sample().bytes();
    head.truncate(8192);
    // Two maps of 2 GiB each describe 64 TiB of memory. None of it is present.
    put(&mut head, 436, &(1_u32 << 20).to_le_bytes());
    put(&mut head, 440, &u32::MAX.to_le_bytes());
    put(&mut head, 4096 + 96, &u64::MAX.to_le_bytes());
    std::fs::write(file.path(), &head).unwrap();
    file.as_file().set_len(1 << 33).unwrap();
    let dump = KdumpDump::parse(gmfs_image::RegionFile::open(file.path()).unwrap()).unwrap();
    assert_eq!((dump.end(), dump.facts().pages), (Some(0), 0));
    assert_eq!(dump.ranges().count(), 0);
    // A map that is larger than any machine needs is refused before memory is allocated for it.
    put(&mut head, 436, &(1_u32 << 25).to_le_bytes());
    std::fs::write(file.path(), &head).unwrap();
    file.as_file().set_len(1 << 42).unwrap();
    let error = KdumpDump::parse(gmfs_image::RegionFile::open(file.path()).unwrap()).unwrap_err();
    assert!(matches!(error, KdumpError::TooLarge { .. }), "{error}");
}

#[test]
fn descriptors_that_are_cut_off_or_point_nowhere() {
    let mut file = sample().bytes();
    file.truncate(4 * 4096 + 24 * 3 + 5);
    let dump = KdumpDump::parse(file).unwrap();
    for number in 0..14 {
        assert_eq!(read(&dump, number << 12, 4096).unwrap_err().1, Absence::Truncated, "{number}");
    }
    assert_eq!(dump.next_absent(0..14 << 12), Some((Span::new(0, 14 << 12), Absence::Truncated)));
    let point = |offset: u64, size, flags| {
        let dump = parse(&Builder::new().page(1, Page::Pointed { offset, size, flags }));
        (read(&dump, 4096, 4096).map_err(|(_, why)| why), dump.next_absent(4096..8192).map(|(_, why)| why))
    };
    let both = |why| (Err(why), Some(why));
    assert_eq!(point(1 << 40, 4096, 0), both(Absence::Truncated));
    assert_eq!(point(1 << 40, 100, 1), both(Absence::Truncated));
    assert_eq!(point(u64::MAX, 4096, 0), both(Absence::Undecodable));
    assert_eq!(point(1 << 63, 10, 2), both(Absence::Undecodable));
    assert_eq!(point(0, 4096, 0), both(Absence::NoData));
    assert_eq!(point(5000, 0, 0), both(Absence::NoData));
    assert_eq!(point(5000, 0, 1), both(Absence::NoData));
    // A descriptor that points at the headers gives their bytes.
    let (header, absent) = point(1, 4096, 0);
    assert!(header.unwrap().starts_with(b"DUMP   ") && absent.is_none());
}

#[test]
fn sizes_and_flags_that_contradict_each_other() {
    for (size, flags) in [
        (4095, 0),
        (4097, 0),
        (u32::MAX, 0),
        (4096, 1),
        (5000, 2),
        (u32::MAX, 4),
        (10, 3),
        (10, 0x22),
        (10, 0x27),
        (10, 8),
        (10, 0x10),
        (10, 0x40),
        (4096, 1 << 31),
    ] {
        assert_eq!(one(vec![7; 6000], size, flags), BAD, "{size} {flags:#x}");
    }
}

#[test]
fn no_codec_makes_more_or_less_than_a_page() {
    for (flag, codec) in codec::CODECS {
        for size in [4095, 4097, 8192, 1 << 20] {
            let (mut data, _) = build::encode(&vec![3; size], codec);
            data.truncate(4095);
            assert_eq!(one(data.clone(), data.len() as u32, flag), BAD, "{codec:?} {size}");
        }
        for data in [vec![0; 1], vec![0xff; 1], vec![0; 200], vec![0xff; 200], vec![0x11, 0, 0], vec![0x80, 0x20]] {
            assert_eq!(one(data.clone(), data.len() as u32, flag), BAD, "{codec:?} {data:?}");
        }
        // Pages that are cut short anywhere, or followed by more bytes.
        let (whole, _) = build::encode(&memory(1, 4096), codec);
        for length in 1..whole.len() {
            assert_eq!(one(whole[..length].to_vec(), length as u32, flag), BAD, "{codec:?} {length}");
        }
    }
}

#[test]
fn a_zlib_page_with_a_wrong_checksum() {
    let (mut data, flag) = build::encode(&memory(1, 4096), Codec::Zlib);
    *data.last_mut().unwrap() ^= 1;
    assert_eq!(one(data.clone(), data.len() as u32, flag), BAD);
}

#[test]
fn headers_of_zstd_frames_are_looked_at_first() {
    let (good, flag) = build::encode(&[3; 4096], Codec::Zstd);
    assert!(one(good.clone(), good.len() as u32, flag).is_ok());
    let forged = |head: &[u8]| {
        let data = [&[0x28, 0xb5, 0x2f, 0xfd], head, &good[9..]].concat();
        one(data.clone(), data.len() as u32, 0x20)
    };
    assert!(forged(&[0xa0, 0, 16, 0, 0]).is_ok());
    // Another size, a window of 3.75 TiB, one of 128 MiB, a dictionary, no size, the reserved bit, a size of eight
    // bytes.
    for head in [
        &[0xa0, 0, 16, 1, 0][..],
        &[0x80, 0xff, 0, 16, 0, 0],
        &[0x80, 0x88, 0, 16, 0, 0],
        &[0xa1, 5, 0, 16, 0, 0],
        &[0x00, 0x10],
        &[0xa8, 0, 16, 0, 0],
        &[0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(forged(head), BAD, "{head:x?}");
    }
    // A skippable frame, alone and before a valid one.
    let skip = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9];
    assert_eq!(one(skip.to_vec(), 9, 0x20), BAD);
    let data = [&skip[..], &good].concat();
    assert_eq!(one(data.clone(), data.len() as u32, 0x20), BAD);
    // A page, followed by as many runs of 128 KiB as fit.
    let mut bomb = good.clone();
    bomb[9] &= !1;
    for _ in 0..900 {
        bomb.extend([2, 0, 16, 7]);
    }
    bomb.extend([3, 0, 16, 7]);
    assert_eq!(one(bomb.clone(), bomb.len() as u32, 0x20), BAD);
}

#[test]
fn files_that_end_early() {
    let whole = sample().bytes();
    for length in (0..600).chain(4000..4400).chain(8100..8300).chain((8300..whole.len()).step_by(97)) {
        let result = KdumpDump::parse(whole[..length].to_vec());
        if length < 4096 + 104 {
            assert!(matches!(result, Err(KdumpError::Short { .. })), "{length}");
        }
        let Ok(dump) = result else { continue };
        for number in 0..14 {
            match read(&dump, number << 12, 4096) {
                Ok(page) if number < 12 => assert_eq!(page, memory(number, 4096)),
                Ok(page) => assert_eq!(page, vec![0; 4096]),
                Err((_, why)) if number == 13 => {
                    assert!(matches!(why, Absence::NoData | Absence::Truncated), "{length}")
                }
                Err((_, why)) => assert_eq!(why, Absence::Truncated, "{length} {number}"),
            }
        }
    }
}

#[test]
fn versions_that_are_not_known() {
    let mut file = sample().bytes();
    file[8] = 7;
    assert!(matches!(KdumpDump::parse(file), Err(KdumpError::Version { version: 7 })));
    assert!(matches!(KdumpDump::parse(vec![0; 8192]), Err(KdumpError::Signature)));
    assert!(matches!(KdumpDump::parse(vec![]), Err(KdumpError::Short { size: 0 })));
}

#[test]
fn notes_that_are_anywhere() {
    for (at, value) in [(32, u64::MAX), (40, u64::MAX), (48, u64::MAX), (56, u64::MAX), (48, 1), (32, 1 << 40)] {
        let mut file = Builder { info: "OSRELEASE=1\n", ..sample() }.bytes();
        put(&mut file, 4096 + at, &value.to_le_bytes());
        let dump = KdumpDump::parse(file).unwrap();
        assert_eq!(read(&dump, 0, 4096).unwrap(), memory(0, 4096));
    }
}

#[test]
fn mutations_neither_panic_nor_contradict_themselves() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let samples = [
        sample().bytes(),
        Builder { big: true, ..sample() }.bytes(),
        Builder { wide: false, padded: true, ..sample() }.bytes(),
        Builder { split: Some((0, 15)), info: "OSRELEASE=1\n", ..sample() }.bytes(),
    ];
    // Places where a mutation matters: the headers, the first bytes of the maps, the descriptors, the pages.
    let places = [0..8, 8..12, 400..460, 4096..4250, 8192..8200, 12288..12296, 16384..16384 + 24 * 15, 20800..27000];
    for round in 0..4000 {
        let mut file = samples[round % samples.len()].clone();
        for _ in 0..1 + next(4) {
            let place = places[next(places.len())].clone();
            let at = (place.start + next(place.len())).min(file.len() - 1);
            file[at] = match next(4) {
                0 => 0xff,
                1 => 0,
                2 => file[at] ^ (1 << next(8)),
                _ => next(256) as u8,
            };
        }
        if next(8) == 0 {
            file.truncate(next(file.len()));
        }
        crate::fuzzing::exercise_kdump(&file);
    }
}
