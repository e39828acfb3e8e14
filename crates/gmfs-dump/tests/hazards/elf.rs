//! Hazards of ELF cores.

use gmfs_dump::elf::{ElfDump, ElfError, MAX_HEADERS};
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::elf_file::{Builder, Load};
use crate::source::Large;
use crate::{put, read};

fn one() -> Builder {
    Builder::new().loads([Load::new(0x1000, b"abcd")])
}

fn parse(builder: &Builder) -> ElfDump<Vec<u8>> {
    ElfDump::parse(builder.bytes()).unwrap()
}

fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = one().bytes();
    put(&mut file, at, bytes);
    file
}

fn error(file: Vec<u8>) -> ElfError {
    ElfDump::parse(file).unwrap_err()
}

pub(crate) fn data_past_the_end() {
    for place in [u64::MAX, u64::MAX - 2, 1 << 63, 1 << 62, 10_000] {
        let dump = parse(&Builder::new().loads([Load::new(0x1000, b"abcd").at(place), Load::new(0x2000, b"x")]));
        assert_eq!(read(&dump, 0x1000, 4), Err((Span::new(0x1000, 4), Absence::Truncated)));
        assert_eq!(read(&dump, 0x2000, 1).unwrap(), b"x");
    }
    let dump = parse(&Builder::new().loads([Load::new(0x1000, b"abcd").file(u64::MAX - 0x2000)]));
    assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
    assert_eq!(read(&dump, 0x1002, 9), Err((Span::new(0x1004, 7), Absence::Truncated)));
    // Bytes that were cut off are reported differently from bytes that the writer left out.
    let mut file = Builder::new().loads([Load::new(0x1000, b"abcdefgh").memory(12)]).bytes();
    file.truncate(file.len() - 3);
    let dump = ElfDump::parse(file).unwrap();
    assert_eq!(dump.next_absent(0x1000..0x1008), Some((Span::new(0x1005, 3), Absence::Truncated)));
    assert_eq!(dump.next_absent(0x1008..0x100c), Some((Span::new(0x1008, 4), Absence::Excluded)));
}

pub(crate) fn addresses_that_wrap() {
    let loads = [
        Load::new(u64::MAX, b"none"),
        Load::new(u64::MAX - 2, b"wraps"),
        Load::new(0x1000, b"abcd").memory(u64::MAX),
        Load::new(0x2000, b"good"),
    ];
    let dump = parse(&Builder::new().loads(loads));
    let ranges: Vec<_> = dump.ranges().collect();
    assert_eq!((ranges, dump.facts().without_address), (vec![(Span::new(0x2000, 4), None)], 3));
    let last = parse(&Builder::new().loads([Load::new(u64::MAX - 4, b"last")]));
    assert_eq!(read(&last, u64::MAX - 4, 4).unwrap(), b"last");
    assert_eq!(read(&last, u64::MAX - 1, 8), Err((Span::new(u64::MAX, 7), Absence::NotInDump)));
}

pub(crate) fn more_in_the_file_than_in_memory() {
    let dump = parse(&Builder::new().loads([Load::new(0x1000, b"abcdef").memory(2), Load::new(0x1003, b"X")]));
    assert_eq!(read(&dump, 0x1000, 3), Err((Span::new(0x1002, 1), Absence::NotInDump)));
    assert_eq!(read(&dump, 0x1003, 1).unwrap(), b"X");
}

pub(crate) fn overlaps() {
    // Bytes in the file beat a claim, in whatever order they are; among equals the first in the file wins.
    let claim = || Load::new(0x1000, b"head").memory(0x100);
    let (real, later) = (Load::new(0x1080, b"real"), Load::new(0x1082, b"LATER"));
    for loads in [vec![claim(), real.clone(), later.clone()], vec![real, later, claim()]] {
        let dump = parse(&Builder::new().loads(loads));
        assert_eq!(read(&dump, 0x1080, 7).unwrap(), b"realTER");
        assert_eq!(read(&dump, 0x1000, 5), Err((Span::new(0x1004, 1), Absence::Excluded)));
    }
    let count = 1_000_000_u64;
    let same = Builder::new().loads((0..count).map(|_| Load::new(0x1000, &[]).file(64).at(0)));
    assert_eq!(parse(&same).ranges().collect::<Vec<_>>(), [(Span::new(0x1000, 64), None)]);
    drop(same);
    // Each segment is inside the previous one.
    let nested = (0..count).map(|i| Load::new(i, &[]).file(2 * (count - i)).at(i * 3 % 1000));
    let dump = parse(&Builder { extended: true, ..Builder::new().loads(nested) });
    assert_eq!((dump.facts().loads, dump.end()), (count, Some(2 * count)));
    assert!(read(&dump, count, 100).is_ok());
}

/// This is what QEMU writes with paging=on: one segment claims all memory, and 71,680 segments of one page hold the
/// bytes.
fn many_segments(wide: bool, big: bool) {
    let page = |n: u64| 0x20_0000 + n * 4096;
    let mut loads = vec![Load::new(0, b"low memory").memory(page(80_000))];
    loads.extend((0..71_680).rev().map(|n| Load::new(page(n), &n.to_le_bytes()).memory(4096)));
    let builder = Builder { extended: true, ..Builder::new().order(wide, big).loads(loads) };
    let dump = parse(&builder);
    assert_eq!((dump.facts().loads, dump.facts().missing_headers), (71_681, 0));
    assert_eq!(read(&dump, 0, 10).unwrap(), b"low memory");
    for n in [0, 1, 65_533, 65_534, 65_535, 65_536, 71_679] {
        assert_eq!(read(&dump, page(n), 8).unwrap(), n.to_le_bytes(), "{n}");
        assert_eq!(dump.next_absent(page(n)..page(n) + 9), Some((Span::new(page(n) + 8, 1), Absence::Excluded)));
    }
}

pub(crate) fn counts_of_headers() {
    many_segments(true, false);
    many_segments(false, true);
    for size in [0_u16, 1, 55] {
        assert!(matches!(error(patched(54, &size.to_le_bytes())), ElfError::HeaderSize { .. }));
    }
    let dump = ElfDump::parse(patched(56, &200_u16.to_le_bytes())).unwrap();
    assert_eq!((dump.facts().missing_headers, read(&dump, 0x1000, 4).unwrap()), (199, b"abcd".to_vec()));
    for (sections, count) in [(0_u64, 5_u32), (u64::MAX, 5), (1 << 40, 5), (64, 0), (64, u32::MAX), (64, 65_535)] {
        let mut file = Builder { extended: true, ..one() }.bytes();
        put(&mut file, 40, &sections.to_le_bytes());
        put(&mut file, 64 + 44, &count.to_le_bytes());
        let dump = ElfDump::parse(file).unwrap();
        assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
        assert!(dump.facts().missing_headers > 0);
    }
    // This file is large enough for the count that it claims.
    let mut head = Builder { extended: true, ..one() }.bytes();
    put(&mut head, 64 + 44, &u32::MAX.to_le_bytes());
    let found = ElfDump::parse(Large { head, size: 1 << 46, rest: 0 }).err();
    assert!(matches!(found, Some(ElfError::TooManyHeaders { count }) if count > MAX_HEADERS), "{found:?}");
}

pub(crate) fn notes() {
    for (name, text) in [(u32::MAX, 0), (u32::MAX - 2, u32::MAX), (0, u32::MAX), (5, u32::MAX - 3), (1 << 31, 1 << 31)]
    {
        let mut builder = one().note("QEMU", b"xyz");
        builder.notes.extend([name.to_le_bytes(), text.to_le_bytes(), [0; 4]].concat());
        builder.notes.extend([0; 40]);
        let dump = parse(&builder);
        assert!(dump.facts().notes.damaged && dump.facts().notes.qemu, "{name} {text}");
        assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
    }
    let mut builder = one();
    builder.notes = vec![0; 12 * 1000];
    assert!(!parse(&builder).facts().notes.damaged);
    // A PT_NOTE of 1 TiB, with a note of 2 GiB in it.
    let mut head = one().note("VMCOREINFO", b"OSRELEASE=5\n").bytes();
    put(&mut head, 128 + 32, &(1_u64 << 40).to_le_bytes());
    put(&mut head, 128 + 112 + 4, &(1_u32 << 31).to_le_bytes());
    let dump = ElfDump::parse(Large { head, size: 1 << 41, rest: 0 }).unwrap();
    assert_eq!(dump.facts().notes.release.as_deref(), Some("5"));
    // The number of notes that are read is limited, even if a TiB of them fits into the file.
    let mut head = one().note("CORE", b"").bytes();
    put(&mut head, 128 + 32, &(1_u64 << 40).to_le_bytes());
    assert!(ElfDump::parse(Large { head, size: 1 << 41, rest: 0 }).is_ok());
}

pub(crate) fn headers() {
    let whole = one().note("VMCOREINFO", b"OSRELEASE=1\n").bytes();
    for length in 0..whole.len() {
        let cut = ElfDump::parse(whole[..length].to_vec());
        assert!(length >= 64 || matches!(cut, Err(ElfError::Short { .. })), "{length}");
    }
    assert!(matches!(error(whole[..64].to_vec()), ElfError::NoHeaders { offset: 128, size: 64 }));
    for (at, value) in [(4, 0), (4, 3), (5, 0), (5, 3), (0, 0)] {
        assert!(matches!(error(patched(at, &[value])), ElfError::Ident { .. }));
    }
    assert!(matches!(error(patched(16, &[2])), ElfError::NotCore { kind: 2 }));
}

pub(crate) fn headers_anywhere() {
    // A program header table that overlaps the header or the memory is read like any other.
    for table in 0..240_u64 {
        let _ = ElfDump::parse(patched(32, &table.to_le_bytes()));
    }
    for table in [u64::MAX, u64::MAX - 55, 1 << 62] {
        assert!(matches!(error(patched(32, &table.to_le_bytes())), ElfError::NoHeaders { .. }));
    }
    let plain = one().bytes();
    let at = plain.len();
    let mut moved = [plain.clone(), plain[128..184].to_vec()].concat();
    put(&mut moved, 32, &(at as u64).to_le_bytes());
    assert_eq!(read(&ElfDump::parse(moved).unwrap(), 0x1000, 4).unwrap(), b"abcd");
}
