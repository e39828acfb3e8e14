//! Files that no dump tool writes. Each is refused with an error that names the reason, or is read as far as it makes
//! sense.

use super::*;
use crate::fuzzing::exercise_elf;

fn error(bytes: Vec<u8>) -> ElfError {
    exercise_elf(&bytes);
    ElfDump::parse(bytes).unwrap_err()
}

fn one() -> Builder {
    Builder::new().loads([Load::new(0x1000, b"abcd")])
}

fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = one().bytes();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn a_file_of_any_length_is_survived() {
    let whole = one().note("VMCOREINFO", b"OSRELEASE=1\n").bytes();
    for len in 0..whole.len() {
        exercise_elf(&whole[..len]);
    }
    assert!(matches!(error(Vec::new()), ElfError::Short { size: 0 }));
    assert!(matches!(error(whole[..5].to_vec()), ElfError::Short { size: 5 }));
    assert!(matches!(error(whole[..63].to_vec()), ElfError::Short { size: 63 }));
    assert!(matches!(error(whole[..64].to_vec()), ElfError::NoHeaders { offset: 128, size: 64 }));
}

#[test]
fn header_bytes_that_have_no_meaning_are_named() {
    for (at, value) in [(4, 0), (4, 3), (5, 0), (5, 3), (0, 0)] {
        assert!(matches!(error(patched(at, &[value])), ElfError::Ident { .. }));
    }
    assert!(matches!(error(patched(16, &[2])), ElfError::NotCore { kind: 2 }));
    for size in [0_u16, 1, 55] {
        let found = error(patched(54, &size.to_le_bytes()));
        assert!(matches!(found, ElfError::HeaderSize { size: s } if s == size), "{found}");
    }
    assert!(matches!(error(patched(56, &[0])), ElfError::NoMemory));
    for table in [u64::MAX, u64::MAX - 55, 1 << 62] {
        assert!(matches!(error(patched(32, &table.to_le_bytes())), ElfError::NoHeaders { .. }));
    }
}

#[test]
fn larger_entries_and_headers_inside_the_header_are_read() {
    let dump = parse(&Builder { entry: 100, ..Builder::new().loads([Load::new(1, b"a"), Load::new(2, b"b")]) });
    assert_eq!(read(&dump, 1, 2).unwrap(), b"ab");
    for table in 0..64_u64 {
        exercise_elf(&patched(32, &table.to_le_bytes()));
    }
}

#[test]
fn headers_past_the_end_are_counted_and_the_others_used() {
    let file = patched(56, &200_u16.to_le_bytes());
    let dump = ElfDump::parse(file).unwrap();
    // Four bytes of memory follow the only program header.
    assert_eq!(dump.facts().missing_headers, 199);
    assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
}

#[test]
fn an_extended_count_that_is_not_there_is_survived() {
    for (sections, count) in [(0_u64, 5_u32), (u64::MAX, 5), (1 << 40, 5), (64, 0), (64, u32::MAX), (64, 65_535)] {
        let mut file = Builder { extended: true, ..one() }.bytes();
        file[40..48].copy_from_slice(&sections.to_le_bytes());
        file[64 + 44..64 + 48].copy_from_slice(&count.to_le_bytes());
        exercise_elf(&file);
        let dump = ElfDump::parse(file).unwrap();
        assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
        assert!(dump.facts().missing_headers > 0);
    }
}

/// A file of any size that is empty after its head.
#[derive(Debug)]
struct Sparse(Vec<u8>, u64);

impl ReadAt for Sparse {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        for (at, byte) in (offset..).zip(buf) {
            *byte = usize::try_from(at).ok().and_then(|at| self.0.get(at)).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.1)
    }
}

#[test]
fn a_huge_sparse_file_does_not_make_us_read_all_of_its_table() {
    let mut file = Builder { extended: true, ..one() }.bytes();
    file[64 + 44..64 + 48].copy_from_slice(&u32::MAX.to_le_bytes());
    let found = ElfDump::parse(Sparse(file, 1 << 46)).unwrap_err();
    assert!(matches!(found, ElfError::TooManyHeaders { count: 0xffff_ffff }), "{found}");
}

#[test]
fn offsets_that_wrap_or_pass_the_end_are_cut_there() {
    for place in [u64::MAX, u64::MAX - 2, 1 << 62, 10_000] {
        let builder = Builder::new().loads([Load::new(0x1000, b"abcd").at(place), Load::new(0x2000, b"x")]);
        exercise_elf(&builder.bytes());
        let dump = parse(&builder);
        assert_eq!(read(&dump, 0x1000, 4), Err((Span::new(0x1000, 4), Absence::Truncated)));
        assert_eq!(read(&dump, 0x2000, 1).unwrap(), b"x");
    }
    let huge = Builder::new().loads([Load::new(0x1000, b"abcd").file(u64::MAX - 0x2000)]);
    let dump = parse(&huge);
    assert_eq!(read(&dump, 0x1000, 5), Err((Span::new(0x1004, 1), Absence::Truncated)));
}

#[test]
fn a_segment_without_a_physical_address_is_passed_over() {
    let loads = [
        Load::new(u64::MAX, b"none"),
        Load::new(u64::MAX - 2, b"wraps"),
        Load::new(0x1000, b"abcd").memory(u64::MAX),
        Load::new(0x2000, b"good"),
    ];
    let builder = Builder::new().loads(loads);
    exercise_elf(&builder.bytes());
    let dump = parse(&builder);
    assert_eq!(kinds(&dump), [(0x2000, 0x2004, None)]);
    assert_eq!((dump.facts().without_address, dump.facts().loads), (3, 4));
    let only = Builder::new().loads([Load::new(u64::MAX, b"none")]);
    assert!(matches!(error(only.bytes()), ElfError::NoMemory));
    let narrow = Builder::new().order(false, false);
    let narrow = narrow.loads([Load::new(u64::from(u32::MAX), b"none"), Load::new(0x10, b"ok")]);
    assert_eq!(kinds(&parse(&narrow)), [(0x10, 0x12, None)]);
}

#[test]
fn the_last_byte_of_the_address_space_can_be_had() {
    let dump = parse(&Builder::new().loads([Load::new(u64::MAX - 4, b"last")]));
    assert_eq!(read(&dump, u64::MAX - 4, 4).unwrap(), b"last");
    assert_eq!(read(&dump, u64::MAX - 4, 5), Err((Span::new(u64::MAX, 1), Absence::NotInDump)));
    assert_eq!(read(&dump, u64::MAX - 1, 8), Err((Span::new(u64::MAX, 7), Absence::NotInDump)));
    assert!(read(&dump, u64::MAX, 1).is_err());
}

#[test]
fn more_bytes_in_the_file_than_in_memory_are_not_memory() {
    let dump = parse(&Builder::new().loads([Load::new(0x1000, b"abcdef").memory(2)]));
    assert_eq!(kinds(&dump), [(0x1000, 0x1002, None)]);
}

#[test]
fn addresses_that_are_all_zero_are_unknown() {
    let two = Builder::new().loads([Load::new(0, b"a"), Load::new(0, b"b")]);
    assert!(matches!(error(two.bytes()), ElfError::NoPhysicalAddresses { count: 2 }));
    let one = Builder::new().loads([Load::new(0, b"a")]);
    assert_eq!(read(&parse(&one), 0, 1).unwrap(), b"a");
}

#[test]
fn a_xen_core_is_named() {
    let found = error(Builder::new().note("Xen", b"x").bytes());
    assert!(matches!(found, ElfError::Xen), "{found}");
}

#[test]
fn a_million_segments_are_sorted_in_time() {
    let count = 1_000_000_u64;
    let same = Builder::new().loads((0..count).map(|_| Load::new(0x1000, &[]).file(64).at(0)));
    let dump = parse(&same);
    assert_eq!(kinds(&dump), [(0x1000, 0x1040, None)]);
    // Each segment is inside the previous one, and each has its own offset in the file.
    let nested = (0..count).map(|i| Load::new(i, &[]).file(count * 2 - 2 * i).at(i * 3 % 1000));
    let builder = Builder { extended: true, ..Builder::new().loads(nested) };
    let dump = parse(&builder);
    assert_eq!(dump.end(), Some(count * 2));
    assert!(read(&dump, count, 100).is_ok());
}

#[test]
fn notes_of_absurd_sizes_end_the_reading_of_notes() {
    for (name, text) in [(u32::MAX, 0), (u32::MAX - 2, u32::MAX), (0, u32::MAX), (5, u32::MAX - 3), (1 << 31, 1 << 31)]
    {
        let mut builder = one().note("QEMU", b"xyz");
        builder.notes.extend(name.to_le_bytes());
        builder.notes.extend(text.to_le_bytes());
        builder.notes.extend([0; 40]);
        exercise_elf(&builder.bytes());
        let dump = parse(&builder);
        assert!(dump.facts().notes.damaged && dump.facts().notes.qemu, "{name} {text}");
        assert_eq!(read(&dump, 0x1000, 4).unwrap(), b"abcd");
    }
    // Empty notes of 12 bytes each must not loop forever.
    let mut builder = one();
    builder.notes = vec![0; 12 * 1000];
    assert!(!parse(&builder).facts().notes.damaged);
}

#[test]
fn a_note_segment_of_gigabytes_is_not_read_into_memory() {
    let mut file = one().note("VMCOREINFO", b"OSRELEASE=5\n").bytes();
    // Changes p_filesz of the PT_NOTE, which is the first program header, and n_descsz of its only note.
    file[128 + 32..128 + 40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    file[128 + 112 + 4..128 + 112 + 8].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    let dump = ElfDump::parse(Sparse(file, 1 << 41)).unwrap();
    assert_eq!(dump.facts().notes.release.as_deref(), Some("5"));
}

#[test]
fn what_the_kernel_says_of_itself_cannot_hurt_a_terminal() {
    let text = b"OSRELEASE=6.1\x1b[2J\nCRASHTIME=x\n\xff\xfe=\nOSRELEASE=later\nNOEQ\n";
    let dump = parse(&one().note("VMCOREINFO", text));
    assert_eq!(dump.facts().notes.release.as_deref(), Some("6.1[2J"));
    assert_eq!(dump.facts().notes.crash_time, None);
}
