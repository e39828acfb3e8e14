mod captured;
mod hostile;
mod model;

use super::*;
use crate::fuzzing::kdump_file::{self as build, Builder, Page};

const ALL: [Codec; 5] = [Codec::Stored, Codec::Zlib, Codec::Lzo, Codec::Snappy, Codec::Zstd];

/// A page of which half repeats. It contains its number.
fn memory(number: u64, size: usize) -> Vec<u8> {
    let mut page = vec![number as u8; size];
    let mut state = number + 1;
    for byte in &mut page[..size / 3] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    page
}

fn read<R: ReadAt>(dump: &KdumpDump<R>, at: u64, len: usize) -> Result<Vec<u8>, (Span, Absence)> {
    let mut buf = vec![0xee; len];
    match dump.read_at(at, &mut buf) {
        Ok(()) => Ok(buf),
        Err(ReadError::Absent { span, why }) => Err((span, why)),
        Err(other @ ReadError::Io { .. }) => panic!("{other}"),
    }
}

fn parse(builder: &Builder) -> KdumpDump<Vec<u8>> {
    KdumpDump::parse(builder.bytes()).unwrap()
}

/// Writes pages of all kinds in `builder`'s layout, and reads them back.
fn round_trip(mut builder: Builder) {
    let size = builder.page;
    for (number, codec) in (3..).zip(ALL) {
        builder = builder.page(number, Page::Memory(memory(number, size), codec));
    }
    builder = builder.page(8, Page::SharedZero).page(9, Page::Excluded).page(11, Page::SharedZero);
    let dump = parse(&builder);
    let shown = format!("{builder:?}").chars().take(150).collect::<String>();
    let facts = dump.facts();
    assert_eq!((facts.version, facts.big_endian, facts.page_size), (builder.version, builder.big, size as u64));
    assert_eq!(
        (facts.bits, facts.pages, facts.timestamp),
        (if builder.wide { 64 } else { 32 }, 7, Some(1_700_000_000))
    );
    assert_eq!(facts.notes.release.as_deref(), (builder.version >= 3).then_some("6.1"), "{shown}");
    assert_eq!(facts.notes.crash_time, (builder.version >= 3).then_some(77));
    let page = size as u64;
    for number in 3..8 {
        assert_eq!(read(&dump, number * page, size).unwrap(), memory(number, size), "page {number} of {shown}");
    }
    let whole: Vec<u8> = (3..8).flat_map(|n| memory(n, size)).chain(vec![0; size]).collect();
    assert_eq!(read(&dump, 3 * page, 6 * size).unwrap(), whole);
    assert_eq!(read(&dump, 3 * page + 5, 6 * size - 9).unwrap(), whole[5..6 * size - 4]);
    let kinds: Vec<_> = dump.ranges().map(|(span, why)| (span.offset / page, span.end() / page, why)).collect();
    assert_eq!(kinds, [(3, 9, None), (9, 10, Some(Absence::Excluded)), (11, 12, None)]);
    assert_eq!(read(&dump, 8 * page, 2 * size), Err((Span::new(9 * page, page), Absence::Excluded)));
    assert_eq!(read(&dump, 10 * page, size), Err((Span::new(10 * page, page), Absence::NotInDump)));
    assert_eq!(read(&dump, page, 1), Err((Span::new(page, 1), Absence::NotInDump)));
    assert_eq!(dump.end(), Some(12 * page));
    assert_eq!(dump.next_data(8 * page..9 * page).unwrap(), None);
    assert_eq!(dump.next_data(7 * page..8 * page).unwrap(), Some(7 * page..8 * page));
}

#[test]
fn every_version_layout_and_page_size() {
    for version in 0..=6 {
        for (big, wide, padded) in [
            (false, true, false),
            (true, true, false),
            (false, false, false),
            (true, false, false),
            (false, false, true),
        ] {
            for page in [512, 4096, 16 << 10, 64 << 10] {
                round_trip(Builder {
                    version,
                    big,
                    wide,
                    padded,
                    page,
                    info: "OSRELEASE=6.1\nCRASHTIME=77\n",
                    ..Builder::new()
                });
            }
        }
    }
}

#[test]
fn the_machine_settles_what_the_numbers_leave_open() {
    let named = |machine| Builder { machine, ..Builder::new() }.page(1, Page::SharedZero);
    assert_eq!(parse(&named("x86_64")).facts().machine, "x86_64");
    let arm = Builder { wide: false, release: "5.4", phys_base: 0x4000_0000, ..named("armv7l") };
    let dump = parse(&arm);
    assert_eq!(dump.end(), Some(0x4000_2000));
    assert_eq!(read(&dump, 0x4000_1000, 4096).unwrap(), vec![0; 4096]);
    assert_eq!(read(&dump, 0x3fff_fffe, 4), Err((Span::new(0x3fff_fffe, 0x1002 - 0x1000 + 2), Absence::NotInDump)));
    assert_eq!(parse(&Builder { release: "", ..arm }).end(), Some(0x2000));
}

#[test]
fn many_pages_are_read_alike_by_one_thread_and_by_several() {
    let mut builder = Builder::new();
    for number in 0..1000 {
        let page = match number % 7 {
            0 => Page::SharedZero,
            n => Page::Memory(memory(number, 4096), ALL[n as usize % 5]),
        };
        builder = builder.page(number, page);
    }
    let whole: Vec<u8> = (0..1000).flat_map(|n| if n % 7 == 0 { vec![0; 4096] } else { memory(n, 4096) }).collect();
    let mut dump = parse(&builder);
    for threads in [1, 2, 5] {
        dump.set_threads(threads);
        assert_eq!(read(&dump, 0, whole.len()).unwrap(), whole);
        assert_eq!(read(&dump, 100, whole.len() - 300).unwrap(), whole[100..whole.len() - 200]);
    }
    // If two pages fail, the first one is reported.
    for number in [400, 900] {
        builder = builder.page(number, Page::Forged { data: vec![9; 100], size: 100, flags: 1 });
    }
    let mut dump = parse(&builder);
    for threads in [1, 4] {
        dump.set_threads(threads);
        let failed = read(&dump, 0, whole.len());
        assert_eq!(failed, Err((Span::new(400 * 4096, 4096), Absence::Undecodable)));
    }
}

#[test]
fn large_holes_are_reported_and_small_ones_are_not() {
    let mut builder = Builder::new().page(0, Page::Memory(memory(0, 4096), Codec::Zlib));
    for number in 1..200 {
        builder = builder.page(number, Page::SharedZero);
    }
    let dump = parse(&builder.page(200, Page::Memory(memory(0, 4096), Codec::Lzo)).page(202, Page::SharedZero));
    let at = |page: u64| page * 4096;
    assert_eq!(dump.next_data(0..at(201)).unwrap(), Some(0..at(1)));
    assert_eq!(dump.next_data(at(1)..at(201)).unwrap(), Some(at(200)..at(201)));
    assert_eq!(dump.next_data(at(1) + 7..at(150)).unwrap(), None);
    assert_eq!(dump.next_data(at(180)..at(201)).unwrap(), Some(at(180)..at(201)));
    // Absent pages count as data, because they are not zero.
    assert_eq!(dump.next_data(at(201)..at(202)).unwrap(), Some(at(201)..at(202)));
}

#[test]
fn repeated_questions_about_the_rest_are_answered_from_memory() {
    let mut builder = Builder::new();
    for number in 0..100 {
        builder = builder.page(number, Page::SharedZero);
    }
    let dump = parse(&builder.page(60, Page::Lost).page(61, Page::Lost));
    let lost = Some((Span::new(60 * 4096, 2 * 4096), Absence::NoData));
    for at in [0, 4096, 30 * 4096, 60 * 4096] {
        assert_eq!(dump.next_absent(at..100 * 4096), lost);
    }
    assert_eq!(dump.next_absent(0..60 * 4096 + 5), Some((Span::new(60 * 4096, 5), Absence::NoData)));
    assert_eq!(dump.next_absent(0..61 * 4096 + 5), Some((Span::new(60 * 4096, 4101), Absence::NoData)));
    assert_eq!(dump.next_absent(0..60 * 4096), None);
    assert_eq!(dump.next_absent(62 * 4096..100 * 4096), None);
    assert_eq!(dump.next_absent(0..100 * 4096), lost);
}

#[test]
fn what_a_writer_without_space_left_out_was_cut_off() {
    // The status bit of the header that says so.
    let incomplete = Builder { status: 1 | 8, ..Builder::new() };
    let dump = parse(&incomplete.page(3, Page::SharedZero).page(4, Page::Lost));
    let lost = (Span::new(4 << 12, 4096), Absence::Truncated);
    assert_eq!(read(&dump, 4 << 12, 4096), Err(lost));
    assert_eq!(dump.next_absent(3 << 12..5 << 12), Some(lost));
    assert_eq!(dump.tally(&(3 << 12..5 << 12)).unwrap().absent, [(Absence::Truncated, 4096)].into());
}

fn parts(ranges: &[(u64, u64)]) -> Vec<Vec<u8>> {
    let mut builder = Builder::new();
    for number in 0..30 {
        builder = builder.page(number, Page::Memory(memory(number, 4096), ALL[number as usize % 5]));
    }
    builder = builder.page(12, Page::SharedZero).page(50, Page::Excluded);
    let part = |split| Builder { split: Some(split), ..builder.clone() }.bytes();
    ranges.iter().copied().map(part).collect()
}

#[test]
fn parts_are_joined_in_any_order_and_a_missing_one_is_named() {
    let files = parts(&[(0, 10), (10, 10), (10, 25), (25, 51)]);
    let all = KdumpDump::parse_parts([2, 0, 3, 1].map(|n: usize| files[n].clone())).unwrap();
    let whole: Vec<u8> = (0..30).flat_map(|n| if n == 12 { vec![0; 4096] } else { memory(n, 4096) }).collect();
    assert_eq!(read(&all, 0, whole.len()).unwrap(), whole);
    assert_eq!(all.facts().parts.len(), 4);
    // The empty part is not needed.
    KdumpDump::parse_parts([&files[0], &files[2], &files[3]]).unwrap();
    let missing = |given: &[usize]| match KdumpDump::parse_parts(given.iter().map(|n| &files[*n])) {
        Err(KdumpError::MissingParts { ranges }) => ranges.iter().map(|r| (r.offset >> 12, r.end() >> 12)).collect(),
        other => panic!("{other:?}"),
    };
    let none: Vec<(u64, u64)> = missing(&[2]);
    assert_eq!(none, [(0, 10), (25, 30)]);
    assert_eq!(missing(&[0, 3]), [(10, 25)]);
    assert_eq!(missing(&[0, 2]), [(25, 30)]);
    let error = KdumpDump::parse(files[0].clone()).unwrap_err();
    assert!(error.to_string().contains("0xa000..0x1e000 is missing"), "{error}");
}

#[test]
fn parts_that_do_not_belong_together_are_reported() {
    let files = parts(&[(0, 10), (10, 51), (5, 51), (40, 10)]);
    let join = |given: &[&Vec<u8>]| KdumpDump::parse_parts(given.iter().copied()).unwrap_err();
    assert!(matches!(join(&[]), KdumpError::NoParts));
    assert!(matches!(join(&[&files[0], &files[0], &files[1]]), KdumpError::Overlap { number: 1, other: 0 }));
    assert!(matches!(join(&[&files[2], &files[0]]), KdumpError::Overlap { number: 0, other: 1 }));
    assert!(matches!(join(&[&files[3], &files[0]]), KdumpError::MissingParts { .. }));
    let whole = Builder::new().page(1, Page::SharedZero).bytes();
    assert!(matches!(join(&[&files[0], &whole]), KdumpError::NotSplit { number: 1 }));
    assert!(matches!(join(&[&whole, &files[0]]), KdumpError::NotSplit { number: 0 }));
    let mut other = files[1].clone();
    other[272] = b'x';
    assert!(matches!(join(&[&files[0], &other]), KdumpError::Stranger { number: 1, other: 0 }));
    let mut other = files[1].clone();
    other[3 * 4096 + 2] ^= 1;
    assert!(matches!(join(&[&files[0], &other]), KdumpError::Stranger { .. }));
    assert!(matches!(join(&[&files[0], &vec![1]]), KdumpError::Part { number: 1, .. }));
}
