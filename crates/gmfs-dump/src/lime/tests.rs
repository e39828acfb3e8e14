use std::io::Write as _;

use super::*;

fn block(magic: &[u8; 4], version: u32, start: u64, last: u64, body: &[u8]) -> Vec<u8> {
    let mut file = magic.to_vec();
    file.extend(version.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend(last.to_le_bytes());
    file.extend([0; 8]);
    file.extend_from_slice(body);
    file
}

fn lime(start: u64, bytes: &[u8]) -> Vec<u8> {
    block(b"EMiL", 1, start, start + bytes.len() as u64 - 1, bytes)
}

fn avml(start: u64, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    let mut body = encoder.into_inner().unwrap();
    body.extend((body.len() as u64).to_le_bytes());
    block(b"AVML", 2, start, start + bytes.len() as u64 - 1, &body)
}

fn read<R: ReadAt>(image: &LimeDump<R>, at: u64, len: usize) -> Result<Vec<u8>, (Span, Absence)> {
    let mut buf = vec![0xee; len];
    match image.read_at(at, &mut buf) {
        Ok(()) => Ok(buf),
        Err(ReadError::Absent { span, why }) => Err((span, why)),
        Err(other @ ReadError::Io { .. }) => panic!("{other}"),
    }
}

/// Bytes of which half are compressible.
fn memory(size: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(|n| if n / 100_000 % 2 == 0 { 5 } else { random() }).collect()
}

#[test]
fn blocks_and_what_is_between_them() {
    let file = [lime(0x3000, b"third"), lime(0x1000, b"first"), lime(0x1005, b"second")].concat();
    let image = LimeDump::parse(file).unwrap();
    assert_eq!(image.facts(), &LimeFacts { blocks: 3, ..LimeFacts::default() });
    assert_eq!(read(&image, 0x1000, 11).unwrap(), b"firstsecond");
    assert_eq!(read(&image, 0x1009, 9), Err((Span::new(0x100b, 7), Absence::NotInDump)));
    assert_eq!(read(&image, 0, 1), Err((Span::new(0, 1), Absence::NotInDump)));
    let ranges: Vec<_> = image.ranges().collect();
    assert_eq!(ranges, [(Span::new(0x1000, 11), None), (Span::new(0x3000, 5), None)]);
    assert_eq!(image.end(), Some(0x3005));
}

#[test]
fn streams_of_avml_are_read_at_any_offset() {
    let bytes = memory(500_001);
    let file = [avml(0x10_0000, &bytes), avml(0x100_0000, &bytes[..70_000]), lime(0x200_0000, b"plain")].concat();
    let image = LimeDump::parse(file).unwrap();
    assert_eq!(image.facts(), &LimeFacts { compressed: true, blocks: 3, ..LimeFacts::default() });
    for (from, to) in [(0, 500_001), (65_535, 65_537), (65_536, 131_072), (199_990, 400_100), (500_000, 500_001)] {
        assert_eq!(read(&image, 0x10_0000 + from as u64, to - from).unwrap(), bytes[from..to]);
    }
    assert_eq!(read(&image, 0x100_0000 + 65_000, 5000).unwrap(), bytes[65_000..70_000]);
    assert_eq!(read(&image, 0x200_0000, 5).unwrap(), b"plain");
    assert_eq!(read(&image, 0x10_0000 + 500_000, 2).unwrap_err().1, Absence::NotInDump);
}

#[test]
fn a_damaged_chunk_is_found_by_its_checksum_and_the_others_are_read() {
    let bytes = memory(400_000);
    let file = avml(0, &bytes);
    // Damages a byte in the first stored chunk. Only the checksum protects these bytes.
    let at = file.windows(64).position(|window| bytes[150_000..].starts_with(window)).unwrap();
    let mut bad = file.clone();
    bad[at] ^= 1;
    let image = LimeDump::parse(bad).unwrap();
    let chunk = Span::new(131_072, 65_536);
    assert_eq!(read(&image, 131_072, 65_536), Err((chunk, Absence::Undecodable)));
    assert_eq!(read(&image, 0, 131_072).unwrap(), bytes[..131_072]);
    assert_eq!(read(&image, 196_608, 203_392).unwrap(), bytes[196_608..]);
}

#[test]
fn images_that_are_cut_anywhere() {
    let bytes = memory(150_000);
    let whole = [lime(0x1000, &bytes[..5000]), avml(0x10_0000, &bytes), lime(0x100_0000, b"last")].concat();
    for length in (0..40).chain((40..whole.len()).step_by(331)) {
        let Ok(image) = LimeDump::parse(whole[..length].to_vec()) else {
            assert!(length <= 32, "{length}");
            continue;
        };
        assert!(image.facts().cut || image.facts().inconsistent || length == 5032, "{length}");
        for (base, size) in [(0x1000, 5000), (0x10_0000, 150_000)] {
            match read(&image, base, size) {
                Ok(read) => assert_eq!(read, bytes[..size]),
                Err((_, why)) if length == 5032 => assert_eq!(why, Absence::NotInDump),
                Err((_, why)) => assert_eq!(why, Absence::Truncated, "{length} {base:#x}"),
            }
        }
    }
}

#[test]
fn headers_with_false_values() {
    let after = |block: Vec<u8>| LimeDump::parse([lime(0x1000, b"good"), block].concat()).unwrap();
    let wraps = after(block(b"EMiL", 1, 0, u64::MAX, b"x"));
    assert!(wraps.facts().damaged && !wraps.facts().cut);
    let back = after(block(b"EMiL", 1, 9, 8, b"x"));
    assert!(back.facts().damaged);
    let long = after(block(b"EMiL", 1, 0x2000, 1 << 50, b"x"));
    assert!(long.facts().cut);
    assert_eq!(read(&long, 0x2000, 2), Err((Span::new(0x2001, 1), Absence::Truncated)));
    assert_eq!(read(&long, 0x1000, 4).unwrap(), b"good");
    assert!(after(vec![0; 100]).facts().damaged);
    assert!(after(block(b"AVML", 1, 0, 8, b"x")).facts().damaged);
    assert!(after(block(b"EMiL", 1, 0x2000, 1 << 60, b"x")).facts().damaged);
    assert!(matches!(LimeDump::parse(vec![]), Err(LimeError::Signature)));
    for first in [vec![0; 40], block(b"EMiL", 1, 9, 8, b"x")] {
        assert!(matches!(LimeDump::parse(first), Err(LimeError::Empty)));
    }
    let overlap = [lime(0x1000, b"first"), lime(0x1003, b"XXXX")].concat();
    assert_eq!(read(&LimeDump::parse(overlap).unwrap(), 0x1000, 7).unwrap(), b"firstXX");
}

#[test]
fn chunks_with_false_values() {
    let good = avml(0, &[7; 1000]);
    let stream = &good[32..good.len() - 8];
    let with = |pieces: &[&[u8]], len: u64| {
        let mut body = pieces.concat();
        body.extend((body.len() as u64).to_le_bytes());
        LimeDump::parse([lime(1 << 40, b"good"), block(b"AVML", 2, 0, len - 1, &body)].concat()).unwrap()
    };
    let padding = [0xfe, 3, 0, 0, 1, 2, 3];
    let skipped = [0x80, 1, 0, 0, 9];
    // The stream identifier may appear again, and padding may be anywhere before the last chunk.
    let image = with(&[&stream[..10], &padding, &skipped, stream], 1000);
    assert_eq!((read(&image, 0, 1000).unwrap(), image.facts().damaged), (vec![7; 1000], false));
    // Chunk types that must not be skipped, a chunk larger than the block, wrong lengths of a chunk and inside a chunk.
    for bad in [
        &[2, 1, 0, 0, 0][..],
        &[0x7f, 0, 0, 0],
        &[0, 4, 0, 0, 0, 0, 0, 0],
        &[0, 9, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 6, 0, 0, b'x', 0, 0, 0, 0, 0],
    ] {
        let image = with(&[&stream[..10], bad, &stream[10..]], 1000);
        assert!(image.facts().damaged, "{bad:?}");
        assert_eq!(read(&image, 0, 1000).unwrap_err().1, Absence::Undecodable);
    }
    assert!(with(&[stream], 900).facts().damaged);
    let huge = with(&[&stream[..10], &[1, 0xff, 0xff, 0xff]], 1000);
    assert!(huge.facts().cut);
    // Damages the length after the stream.
    let mut file = good.clone();
    let at = file.len() - 8;
    file[at] ^= 1;
    let image = LimeDump::parse([file, lime(0x10_0000, b"next")].concat()).unwrap();
    assert!(image.facts().inconsistent && !image.facts().damaged);
    assert_eq!(read(&image, 0x10_0000, 4).unwrap(), b"next");
}

#[test]
fn mutations_neither_panic_nor_contradict_themselves() {
    let mut state = 3_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let bytes = memory(130_000);
    let whole = [lime(0x1000, b"some"), avml(0x2000, &bytes[90_000..]), avml(0x10_0000, &bytes)].concat();
    for _ in 0..3000 {
        let mut file = whole.clone();
        for _ in 0..1 + next(3) {
            let at = if next(2) == 0 { next(120) } else { next(file.len()) };
            file[at] = [0, 0xff, 0x7f, next(256) as u8][next(4)];
        }
        if next(6) == 0 {
            file.truncate(next(file.len()));
        }
        crate::fuzzing::exercise_lime(&file);
    }
}

/// A block with a header as LiME writes it on a big-endian machine.
fn lime_big(start: u64, bytes: &[u8]) -> Vec<u8> {
    let mut file = b"LiME\0\0\0\x01".to_vec();
    file.extend(start.to_be_bytes());
    file.extend((start + bytes.len() as u64 - 1).to_be_bytes());
    file.extend([0; 8]);
    file.extend_from_slice(bytes);
    file
}

#[test]
fn headers_are_in_either_byte_order() {
    let file = [lime_big(0x1000, b"first"), lime_big(0x1005, b"second")].concat();
    let image = LimeDump::parse(file).unwrap();
    assert_eq!(image.facts(), &LimeFacts { blocks: 2, big_endian: true, ..LimeFacts::default() });
    assert_eq!(read(&image, 0x1000, 11).unwrap(), b"firstsecond");
}

#[test]
fn unknown_versions_are_reported() {
    for (magic, version, expected) in
        [(b"EMiL", 2, "a LiME image of version 2"), (b"AVML", 1, "an AVML image of version 1")]
    {
        let error = LimeDump::parse(block(magic, version, 0, 4, b"12345")).unwrap_err();
        assert!(matches!(error, LimeError::Version { .. }) && error.to_string().contains(expected), "{error}");
    }
}

/// The ranges that `next_absent` reports within `range`.
fn absent_in(image: &LimeDump<Vec<u8>>, range: Range<u64>) -> Vec<(u64, u64, Absence)> {
    let mut at = range.start;
    let mut list = Vec::new();
    while let Some((span, why)) = image.next_absent(at..range.end) {
        list.push((span.offset, span.end(), why));
        at = span.end();
    }
    list
}

#[test]
fn a_block_whose_stream_contradicts_its_header_is_damaged_and_no_other() {
    const SIZE: usize = 200_000;
    let bytes = memory(4 * SIZE);
    let at = |n: usize| 0x10_0000 + (n * SIZE) as u64;
    let piece = |n: usize| &bytes[n * SIZE..(n + 1) * SIZE];
    let long = [piece(1), &[b'z'; 70_000]].concat();
    let streams: [&[u8]; 4] = [&piece(1)[..SIZE / 2], &piece(1)[..65_536], &long, &[piece(1), b"z"].concat()];
    for stream in streams {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(stream).unwrap();
        let mut body = encoder.into_inner().unwrap();
        body.extend((body.len() as u64).to_le_bytes());
        let bad = block(b"AVML", 2, at(1), at(2) - 1, &body);
        let image =
            LimeDump::parse([avml(at(0), piece(0)), bad, avml(at(2), piece(2)), avml(at(3), piece(3))].concat());
        let image = image.unwrap();
        assert!(image.facts().damaged && !image.facts().cut && image.facts().blocks == 4, "{}", stream.len());
        assert_eq!(
            absent_in(&image, at(0)..at(4) + 9),
            [(at(1), at(2), Absence::Undecodable), (at(4), at(4) + 9, Absence::NotInDump)]
        );
        for n in [0, 2, 3] {
            assert_eq!(read(&image, at(n), SIZE).unwrap(), piece(n));
        }
        let listed: Vec<_> = image.ranges().map(|(span, why)| (span.offset, span.end(), why)).collect();
        assert_eq!(listed, [(at(0), at(1), None), (at(1), at(2), Some(Absence::Undecodable)), (at(2), at(4), None)]);
    }
}

#[test]
fn damage_in_a_chained_image_takes_its_own_piece_only() {
    const SIZE: usize = 300_000;
    let bytes = memory(5 * SIZE);
    // The address space has a hole between blocks 1 and 2.
    let at = |n: usize| 0x10_0000 + (n * SIZE) as u64 + if n > 1 { 0x100_0000 } else { 0 };
    let piece = |n: usize| &bytes[n * SIZE..(n + 1) * SIZE];
    for compressed in [false, true] {
        let make = if compressed { avml } else { lime };
        let blocks: Vec<Vec<u8>> = (0..5).map(|n| make(at(n), piece(n))).collect();
        let start = |n: usize| blocks[..n].iter().map(Vec::len).sum::<usize>();
        let mut places = vec![0, 5, 23];
        if compressed {
            // The type and the length in a chunk's header.
            places.extend([32 + 10, 32 + 12]);
        }
        for n in [1, 2, 3] {
            for place in &places {
                let mut file = blocks.concat();
                file[start(n) + place] ^= 0x55;
                let image = LimeDump::parse(file).unwrap();
                let expected = format!("block {n}, byte {place}, {compressed}");
                assert!(image.facts().damaged && !image.facts().cut, "{expected}: {:?}", image.facts());
                for other in (0..5).filter(|other| *other != n) {
                    assert_eq!(read(&image, at(other), SIZE).unwrap(), piece(other), "{expected}: {other}");
                }
                let (span, why) = image.next_absent(at(n)..at(n) + SIZE as u64).unwrap();
                assert_eq!((span.end(), why), (at(n) + SIZE as u64, Absence::Undecodable), "{expected}");
                assert_eq!(image.next_absent(0..1).unwrap().1, Absence::NotInDump);
            }
        }
    }
}

#[test]
fn damage_at_the_end_is_no_cut_and_a_cut_is_no_damage() {
    let bytes = memory(300_000);
    let mut file = [avml(0x1000, &bytes), avml(0x10_0000, &bytes)].concat();
    let second = file.len() - avml(0x10_0000, &bytes).len();
    let cut = LimeDump::parse(file[..file.len() - 100_000].to_vec()).unwrap();
    assert_eq!((cut.facts().cut, cut.facts().damaged), (true, false));
    assert_eq!(cut.next_absent(0x10_0000..0x20_0000).unwrap().1, Absence::Truncated);
    file[second] = b'X';
    let damaged = LimeDump::parse(file).unwrap();
    assert_eq!((damaged.facts().cut, damaged.facts().damaged), (false, true));
    assert_eq!(damaged.next_absent(0x10_0000..0x20_0000).unwrap().1, Absence::Undecodable);
}
