mod captured;
mod hostile;
mod model;

use super::*;
use crate::fuzzing::elf_file::{Builder, Load};

fn parse(builder: &Builder) -> ElfDump<Vec<u8>> {
    ElfDump::parse(builder.bytes()).unwrap()
}

fn read<R: ReadAt>(dump: &ElfDump<R>, at: u64, len: usize) -> Result<Vec<u8>, (Span, Absence)> {
    let mut buf = vec![0xee; len];
    match dump.read_at(at, &mut buf) {
        Ok(()) => Ok(buf),
        Err(ReadError::Absent { span, why }) => Err((span, why)),
        Err(other @ ReadError::Io { .. }) => panic!("{other}"),
    }
}

fn kinds<R: ReadAt>(dump: &ElfDump<R>) -> Vec<(u64, u64, Option<Absence>)> {
    dump.ranges().map(|(span, why)| (span.offset, span.end(), why)).collect()
}

#[test]
fn a_read_is_put_together_from_several_segments() {
    let loads = [Load::new(0x2000, b"second"), Load::new(0x1ffd, b"one"), Load::new(0x9000, b"z")];
    let dump = parse(&Builder::new().loads(loads));
    assert_eq!(read(&dump, 0x1ffd, 9).unwrap(), b"onesecond");
    assert_eq!(read(&dump, 0x1fff, 2).unwrap(), b"es");
    assert_eq!(kinds(&dump), [(0x1ffd, 0x2006, None), (0x9000, 0x9001, None)]);
    assert_eq!(dump.end(), Some(0x9001));
    assert_eq!(dump.facts().loads, 3);
}

#[test]
fn what_no_segment_has_is_not_in_the_dump() {
    let dump = parse(&Builder::new().loads([Load::new(0x1000, b"abcd"), Load::new(0x1008, b"efgh")]));
    assert_eq!(read(&dump, 0x1002, 10), Err((Span::new(0x1004, 4), Absence::NotInDump)));
    assert_eq!(read(&dump, 0xffe, 4), Err((Span::new(0xffe, 2), Absence::NotInDump)));
    assert_eq!(read(&dump, 0x100a, 9), Err((Span::new(0x100c, 7), Absence::NotInDump)));
    assert_eq!(read(&dump, 0x5000, 9), Err((Span::new(0x5000, 9), Absence::NotInDump)));
    assert_eq!(dump.next_absent(0x1000..0x1004), None);
    assert_eq!(read(&dump, 0x7777, 0), Ok(vec![]));
}

#[test]
fn a_tail_without_bytes_was_left_out() {
    let dump = parse(&Builder::new().loads([Load::new(0x1000, b"abcd").memory(0x10), Load::new(0x1010, b"x")]));
    assert_eq!(read(&dump, 0x1002, 4), Err((Span::new(0x1004, 2), Absence::Excluded)));
    assert_eq!(read(&dump, 0x1002, 15), Err((Span::new(0x1004, 12), Absence::Excluded)));
    // The reported range ends where the reason changes.
    assert_eq!(dump.next_absent(0xff0..0x1020), Some((Span::new(0xff0, 0x10), Absence::NotInDump)));
    assert_eq!(
        kinds(&dump),
        [(0x1000, 0x1004, None), (0x1004, 0x1010, Some(Absence::Excluded)), (0x1010, 0x1011, None)]
    );
}

#[test]
fn bytes_in_the_file_beat_a_segment_that_only_claims_them() {
    // This is what QEMU writes with paging=on: the first segment claims all memory, and one-page segments hold the
    // data.
    let loads = [Load::new(0x1000, b"head").memory(0x100), Load::new(0x1080, b"real"), Load::new(0x1082, b"LATER")];
    let dump = parse(&Builder::new().loads(loads));
    assert_eq!(read(&dump, 0x1080, 4).unwrap(), b"real");
    assert_eq!(read(&dump, 0x1082, 5).unwrap(), b"alTER");
    assert_eq!(read(&dump, 0x1000, 5), Err((Span::new(0x1004, 1), Absence::Excluded)));
}

#[test]
fn a_cut_file_is_truncated_and_not_zero() {
    let mut bytes = Builder::new().loads([Load::new(0x1000, b"abcdefgh").memory(12)]).bytes();
    bytes.truncate(bytes.len() - 3);
    let dump = ElfDump::parse(bytes).unwrap();
    assert_eq!(read(&dump, 0x1000, 5).unwrap(), b"abcde");
    assert_eq!(read(&dump, 0x1004, 4), Err((Span::new(0x1005, 3), Absence::Truncated)));
    let reasons = [None, Some(Absence::Truncated), Some(Absence::Excluded)];
    assert_eq!(kinds(&dump).iter().map(|k| k.2).collect::<Vec<_>>(), reasons);
}

#[test]
fn a_file_that_shrinks_later_is_truncated_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = Builder::new().loads([Load::new(0x1000, b"abcdefgh")]).bytes();
    std::fs::write(file.path(), &bytes).unwrap();
    let dump = ElfDump::parse(gmfs_image::RegionFile::open(file.path()).unwrap()).unwrap();
    file.as_file().set_len(bytes.len() as u64 - 3).unwrap();
    assert_eq!(read(&dump, 0x1002, 6), Err((Span::new(0x1005, 3), Absence::Truncated)));
}

#[test]
fn both_classes_and_both_byte_orders_are_read() {
    for (wide, big) in [(true, false), (true, true), (false, false), (false, true)] {
        let builder = Builder::new().order(wide, big).loads([Load::new(0x1000, b"abcd").memory(8)]);
        let dump = parse(&builder.note("QEMU", b"x").note("VMCOREINFO", b"OSRELEASE=6.1.0\nCRASHTIME=17\n"));
        assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
        assert_eq!(dump.next_absent(0x1000..0x1008), Some((Span::new(0x1004, 4), Absence::Excluded)));
        let facts = dump.facts();
        assert_eq!((facts.bits, facts.big_endian), (if wide { 64 } else { 32 }, big));
        assert!(facts.notes.qemu && facts.notes.vmcoreinfo && !facts.notes.damaged && !facts.notes.xen);
        assert_eq!((facts.notes.release.as_deref(), facts.notes.crash_time), (Some("6.1.0"), Some(17)));
    }
}

#[test]
fn more_headers_than_the_field_counts_are_read() {
    for wide in [true, false] {
        let loads = (0..70_000_u64).map(|i| Load::new(0x1000 + i * 2, &[i as u8]));
        let builder = Builder { extended: true, ..Builder::new().order(wide, wide).loads(loads) };
        let dump = parse(&builder);
        assert_eq!(dump.facts().loads, 70_000);
        assert_eq!(read(&dump, 0x1000 + 69_999 * 2, 1).unwrap(), [69_999_u64 as u8]);
    }
}

#[test]
fn an_incomplete_dump_says_so() {
    let builder = Builder { flags: 1, ..Builder::new().loads([Load::new(0x1000, b"a")]) };
    assert!(parse(&builder).facts().incomplete);
    assert!(!parse(&Builder::new().loads([Load::new(0, b"a")])).facts().incomplete);
}

#[test]
fn memory_of_a_guest_without_an_address_is_counted() {
    let body = vec![7; 3 << 20];
    let all = Builder::new().note("QEMU", b"").loads([Load::new(0x1000, &body)]);
    assert_eq!(parse(&all).facts().unaddressed, 0);
    // The segments map two of three MiB. One of these MiB is mapped twice.
    let mut paging = all.clone();
    paging.loads[0].in_file = Some(1 << 20);
    paging.loads[0].in_memory = Some(1 << 20);
    let mapped = Load { bytes: Vec::new(), ..paging.loads[0].clone() };
    paging.loads.push(mapped.clone());
    paging.loads.push(mapped);
    let third = paging.body() + (2 << 20);
    paging.loads[1].place = Some(third);
    paging.loads[2] = Load { address: 0x80_0000, place: Some(third), ..paging.loads[1].clone() };
    assert_eq!(parse(&paging).facts().unaddressed, 1 << 20);
    // Memory without a segment is reported only for QEMU, because no other writer stores it.
    paging.notes.clear();
    assert_eq!(parse(&paging).facts().unaddressed, 0);
}

#[test]
fn holes_of_the_file_are_zeros_of_the_memory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut builder = Builder::new().loads([Load::new(0x10_0000, &[]), Load::new(0x80_0000, b"tail")]);
    builder.loads[0].place = Some(0x10_0000);
    builder.loads[0].in_file = Some(0x40_0000);
    builder.loads[0].in_memory = Some(0x40_1000);
    std::fs::write(file.path(), builder.bytes()).unwrap();
    file.as_file().set_len(0x60_0000).unwrap();
    let dump = ElfDump::parse(gmfs_image::RegionFile::open(file.path()).unwrap()).unwrap();
    assert_eq!(dump.next_data(0x10_0000..0x50_0000).unwrap(), None);
    assert_eq!(dump.next_data(0x20_0000..0x50_0800).unwrap(), Some(0x50_0000..0x50_0800));
    assert_eq!(dump.next_data(0x0..0x50_0000).unwrap(), Some(0x0..0x10_0000));
    let tail = dump.next_data(0x80_0000..0x80_0004).unwrap();
    assert_eq!(tail, Some(0x80_0000..0x80_0004));
    assert_eq!(dump.next_data(9..9).unwrap(), None);
}
