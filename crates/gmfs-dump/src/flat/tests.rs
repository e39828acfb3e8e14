use super::*;
use crate::captured::{fixtures, truth, unpack};
use crate::elf::ElfDump;

fn stream(records: &[(i64, &[u8])], end: bool) -> Vec<u8> {
    let mut file = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
    file.resize(4096, 0);
    for (offset, bytes) in records {
        file.extend(offset.to_be_bytes());
        file.extend((bytes.len() as i64).to_be_bytes());
        file.extend_from_slice(bytes);
    }
    if end {
        file.extend([0xff; 16]);
    }
    file
}

fn read(flat: &FlatFile<Vec<u8>>, at: u64, len: usize) -> Result<Vec<u8>, (Span, Absence)> {
    let mut buf = vec![0xee; len];
    match flat.read_at(at, &mut buf) {
        Ok(()) => Ok(buf),
        Err(ReadError::Absent { span, why }) => Err((span, why)),
        Err(other @ ReadError::Io { .. }) => panic!("{other}"),
    }
}

#[test]
fn records_in_any_order_of_which_the_last_wins_and_zeros_between() {
    let records: &[(i64, &[u8])] = &[(10, b"0123456789"), (0, b"abc"), (12, b"XY"), (30, b"end")];
    let mut file = stream(records, true);
    file.extend(b"anything");
    let flat = FlatFile::parse(file).unwrap();
    assert_eq!((flat.end(), flat.facts().clone()), (Some(33), FlatFacts { records: 4, cut: false, damaged: false }));
    assert_eq!(read(&flat, 0, 33).unwrap(), b"abc\0\0\0\0\0\0\x0001XY456789\0\0\0\0\0\0\0\0\0\0end");
    assert_eq!(read(&flat, 31, 4), Err((Span::new(33, 2), Absence::BeyondEnd)));
    assert_eq!(flat.next_data(3..33).unwrap(), Some(10..20));
    assert_eq!(flat.next_data(20..30).unwrap(), None);
    assert_eq!(flat.next_data(25..40).unwrap(), Some(30..33));
    assert_eq!(flat.next_data(40..50).unwrap(), Some(40..50));
}

#[test]
fn what_a_cut_stream_lacks_is_not_zero() {
    let whole = stream(&[(0, b"abc"), (10, b"0123456789")], false);
    let cut = |length: usize| FlatFile::parse(whole[..length].to_vec()).unwrap();
    let flat = cut(whole.len());
    assert!(flat.facts().cut);
    assert_eq!(read(&flat, 0, 12), Err((Span::new(3, 7), Absence::Truncated)));
    assert_eq!(read(&flat, 18, 4), Err((Span::new(20, 2), Absence::Truncated)));
    assert_eq!(flat.next_data(3..20).unwrap(), Some(3..20));
    let flat = cut(whole.len() - 4);
    assert_eq!(read(&flat, 10, 6).unwrap(), b"012345");
    assert_eq!(read(&flat, 10, 7), Err((Span::new(16, 1), Absence::Truncated)));
    assert!(matches!(FlatFile::parse(whole[..4110].to_vec()), Err(FlatError::Empty)));
    assert!(matches!(FlatFile::parse(whole[..30].to_vec()), Err(FlatError::Signature)));
}

#[test]
fn records_that_make_no_sense_end_the_stream() {
    for (offset, size) in
        [(-2_i64, 5_i64), (5, -1), (-1, 5), (5, 0), (i64::MAX, 5), (5, i64::MAX), (i64::MIN, i64::MIN)]
    {
        let mut file = stream(&[(0, b"abc")], false);
        file.extend(offset.to_be_bytes());
        file.extend(size.to_be_bytes());
        file.extend(b"12345");
        file.extend([0xff; 16]);
        let flat = FlatFile::parse(file).unwrap();
        assert!(flat.facts().damaged, "{offset} {size}");
        assert_eq!(read(&flat, 3, 1).unwrap_err().1, Absence::Undecodable);
        assert_eq!(read(&flat, 0, 3).unwrap(), b"abc");
    }
    // Records that are far apart cost no memory for the range between them.
    let flat = FlatFile::parse(stream(&[(1 << 62, b"x"), (0, b"y")], true)).unwrap();
    assert_eq!((flat.end(), read(&flat, (1 << 62) - 1, 2).unwrap()), (Some((1 << 62) + 1), vec![0, b'x']));
}

#[test]
fn records_after_a_damaged_one_are_found_again() {
    let piece = |n: u8| vec![n; 100];
    let pieces: Vec<Vec<u8>> = (1..=9).map(piece).collect();
    let records: Vec<(i64, &[u8])> = pieces.iter().enumerate().map(|(n, piece)| (n as i64 * 100, &piece[..])).collect();
    let whole = stream(&records, true);
    let header = |n: usize| 4096 + n * 116;
    // Damages record 3: its offset, its length (too large, too small), or both.
    for (at, bytes) in
        [(0, &[0xff; 8][..]), (8, &[0, 0, 0, 0, 0, 0, 0, 107]), (8, &[0, 0, 0, 0, 0, 0, 0, 90]), (0, &[0xee; 16])]
    {
        let mut file = whole.clone();
        file[header(3) + at..header(3) + at + bytes.len()].copy_from_slice(bytes);
        let flat = FlatFile::parse(file).unwrap();
        assert!(flat.facts().damaged && !flat.facts().cut, "{at} {bytes:?}");
        for n in [0, 1, 2, 4, 5, 8] {
            assert_eq!(read(&flat, n * 100, 100).unwrap(), piece(n as u8 + 1), "{at} {n}");
        }
        match read(&flat, 300, 100) {
            Ok(bytes) => assert_eq!(bytes, piece(4)),
            Err((_, why)) => assert_eq!(why, Absence::Undecodable),
        }
        assert_eq!(flat.next_absent(900..1000), Some((Span::new(900, 100), Absence::BeyondEnd)));
    }
}

#[test]
fn another_version_or_another_stream_inside() {
    let mut file = stream(&[(0, b"abc")], true);
    file[31] = 2;
    assert!(matches!(FlatFile::parse(file), Err(FlatError::Version { kind: 1, version: 2 })));
    let inner = stream(&[(0, b"abc")], true);
    assert!(matches!(FlatFile::parse(stream(&[(0, &inner)], true)), Err(FlatError::Nested)));
}

#[test]
fn many_small_records() {
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let records: Vec<(i64, &[u8])> =
        bytes.chunks(3).enumerate().rev().map(|(n, piece)| (n as i64 * 3, piece)).collect();
    let flat = FlatFile::parse(stream(&records, true)).unwrap();
    assert_eq!(flat.facts().records, 66_667);
    assert_eq!(read(&flat, 0, bytes.len()).unwrap(), bytes);
}

#[test]
fn too_many_records_are_refused_with_the_remedy() {
    let file = stream(&[(0, b"a"), (1, b"b"), (2, b"c")], true);
    let size = file.len() as u64;
    assert_eq!(walk(&file, size, 3).unwrap().list.len(), 3);
    let error = walk(&file, size, 2).unwrap_err();
    assert!(matches!(error, FlatError::TooManyRecords) && error.to_string().contains("makedumpfile -R"), "{error}");
}

#[test]
fn mutations_neither_panic_nor_contradict_themselves() {
    let mut state = 1_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let whole = stream(&[(3000, &bytes[..999]), (0, &bytes[..3000]), (100, &bytes[..50]), (4500, &bytes[..400])], true);
    for _ in 0..4000 {
        let mut file = whole.clone();
        for _ in 0..1 + next(3) {
            // The offsets of the records' headers.
            let start = [4096, 4096 + 1015, 4096 + 4031, 4096 + 4097, 4096 + 4513][next(5)];
            let at = (start + next(16)).min(file.len() - 1);
            file[at] = [0, 0xff, 0x7f, next(256) as u8][next(4)];
        }
        if next(6) == 0 {
            file.truncate(next(file.len()));
        }
        crate::fuzzing::exercise_flat(&file);
    }
}

#[test]
fn a_flattened_elf_dump_of_makedumpfile() {
    let Some(dir) = fixtures() else { return };
    let truth = truth(&dir, "mini/mini-mdf-E-d1.flat");
    let file = unpack(&dir, "mini_mini-mdf-E-d1.flat");
    let image = gmfs_image::open(file.path(), None).unwrap();
    assert_eq!((image.kind, image.elf.as_ref().unwrap().machine), (gmfs_image::Kind::Elf, 62));
    let records = truth.json["files"][0]["flat_records"].as_u64().unwrap();
    let stream = image.dump.as_ref().unwrap().flattened.clone().unwrap();
    assert_eq!((stream.records, stream.cut, stream.damaged), (records, false, false));
    truth.check(&*image.source, Absence::Excluded);
    // A stream that was cut after its first kilobytes lacks the dump's header, because it is written last.
    let whole = std::fs::read(file.path()).unwrap();
    let cut = FlatFile::parse(whole[..100_000].to_vec()).unwrap();
    assert!(cut.facts().cut && ElfDump::parse(cut).is_err());
}
