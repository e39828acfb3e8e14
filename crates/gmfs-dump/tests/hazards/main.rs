//! Every known way in which a crash dump, or the file that it is in, harms a reader. Each is one test.
//!
//! The list in this file is the complete one. Each test has a limit on the memory that is allocated while it runs,
//! including the file itself, because no number that a file claims may decide on an allocation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use gmfs_io::{Absence, ReadAt, ReadError, Span};
use peak_alloc::PeakAlloc;

mod elf;
#[path = "../../src/fuzzing/elf_file.rs"]
mod elf_file;
mod environment;
mod flat;
mod kdump;
#[path = "../../src/fuzzing/kdump_file.rs"]
#[expect(dead_code, reason = "other tests make more kinds of files")]
mod kdump_file;
mod lime;
mod opening;
mod others;
mod source;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Held by the test whose memory is measured.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

/// While the guard is held, no other test allocates memory.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`, and checks that at most `limit` bytes are allocated at any time.
fn bounded(limit: usize, work: impl FnOnce()) {
    let alone = alone();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    work();
    let used = MEMORY.peak_usage() - before;
    drop(alone);
    assert!(used <= limit, "{used} bytes were allocated, {limit} are allowed");
}

macro_rules! hazards {
    ($($name:ident, $limit:expr, $what:literal => $body:path;)*) => {
        $(#[test]
        fn $name() {
            bounded($limit, $body);
        })*

        const LIST: &[(&str, &str)] = &[$((stringify!($name), $what)),*];
    };
}

hazards! {
    hazard_01, MIB, "ELF: p_offset + p_filesz wraps or passes the end" => elf::data_past_the_end;
    hazard_02, MIB, "ELF: p_paddr + p_memsz wraps, or there is no address" => elf::addresses_that_wrap;
    hazard_03, MIB, "ELF: p_filesz > p_memsz" => elf::more_in_the_file_than_in_memory;
    hazard_04, 400 * MIB, "ELF: overlaps, duplicates, a million segments" => elf::overlaps;
    hazard_05, 64 * MIB, "ELF: e_phentsize, e_phnum, PN_XNUM, false and real ones" => elf::counts_of_headers;
    hazard_06, MIB, "ELF: notes of absurd sizes" => elf::notes;
    hazard_07, MIB, "ELF: empty, a header only, no core, class and order" => elf::headers;
    hazard_08, MIB, "ELF: program headers anywhere" => elf::headers_anywhere;
    hazard_09, MIB, "kdump: page size, sub header, products beyond 32 bits" => kdump::sizes;
    hazard_10, 2 * MIB, "kdump: maps of an odd number of blocks, none, or beyond the end" => kdump::maps;
    hazard_11, 2 * MIB, "kdump: max_mapnr beyond the maps" => kdump::reach;
    hazard_12, 2 * MIB, "kdump: fewer descriptors than bits" => kdump::missing_descriptors;
    hazard_13, 2 * MIB, "kdump: descriptors that point anywhere" => kdump::offsets;
    hazard_14, 2 * MIB, "kdump: sizes and flags that contradict each other" => kdump::descriptors;
    hazard_15, 4 * MIB, "kdump: pages that decode to more than a page" => kdump::bombs;
    hazard_16, 2 * MIB, "kdump: parts that overlap, lack, or are of another dump" => kdump::parts;
    hazard_17, 2 * MIB, "kdump: the end within the headers, notes anywhere" => kdump::ends_and_notes;
    hazard_18, 2 * MIB, "kdump: lost pages without the mark of an incomplete dump" => kdump::lost_pages;
    hazard_19, 128 * MIB, "flattened: offsets, sizes and ends that are false; a million records" => flat::records;
    hazard_20, MIB, "flattened: overlaps, and places far apart" => flat::overlaps;
    hazard_21, MIB, "flattened: a flattened stream inside" => flat::nested;
    hazard_22, 2 * MIB, "LiME and AVML: blocks and chunks with false values" => lime::blocks_and_chunks;
    hazard_23, MIB, "a file that shrinks or grows while it is open" => environment::a_file_that_changes;
    hazard_24, 2 * MIB, "sparse files" => environment::sparse_files;
    hazard_25, MIB, "character devices and proc files" => environment::no_regular_files;
}

#[test]
fn none_is_missing() {
    let names: Vec<&str> = LIST.iter().map(|(name, _)| *name).collect();
    let wanted: Vec<String> = (1..=25).map(|number| format!("hazard_{number:02}")).collect();
    assert_eq!(names, wanted);
}

#[test]
fn the_bound_bites() {
    let too_much = std::panic::catch_unwind(|| bounded(MIB, || drop(std::hint::black_box(vec![1_u8; 2 * MIB]))));
    assert!(too_much.is_err());
}

/// The bytes, or the range that is absent and why.
fn read(dump: &dyn ReadAt, at: u64, length: usize) -> Result<Vec<u8>, (Span, Absence)> {
    let mut buf = vec![0xee; length];
    match dump.read_at(at, &mut buf) {
        Ok(()) => Ok(buf),
        Err(ReadError::Absent { span, why }) => Err((span, why)),
        Err(other @ ReadError::Io { .. }) => panic!("{other}"),
    }
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
