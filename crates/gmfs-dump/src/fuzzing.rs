//! Bodies of the fuzz targets. For any bytes, nothing may panic or loop forever, and what a reader reports about a
//! range must agree with what it reads.
//!
//! The bodies in this file interpret the bytes as a file. Those in [`made`] interpret them as choices, by which they
//! make a valid file and damage it in the places that matter; what was not damaged must read as it was. Those in
//! [`codecs`] decode one page with each codec, in Rust and in C.

mod choices;
pub mod codecs;
#[cfg_attr(not(test), expect(dead_code, reason = "tests make more kinds of files"))]
pub(crate) mod elf_file;
#[cfg_attr(not(test), expect(dead_code, reason = "tests make more kinds of files"))]
pub(crate) mod kdump_file;
pub mod made;
mod seeds;

use std::ops::Range;

use gmfs_io::{Absence, ReadAt, ReadError};

use crate::elf::ElfDump;
use crate::flat::FlatFile;
use crate::kdump::KdumpDump;
use crate::lime::LimeDump;

pub use seeds::seeds;

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// All bodies by name. The names are those of the fuzz targets.
pub const TARGETS: [(&str, Target); 12] = [
    ("elf", exercise_elf),
    ("kdump", exercise_kdump),
    ("flat", exercise_flat),
    ("lime", exercise_lime),
    ("made_elf", made::elf),
    ("made_kdump", made::kdump),
    ("made_flat", made::flat),
    ("made_lime", made::lime),
    ("codec_zlib", codecs::by_zlib),
    ("codec_lzo", codecs::by_lzo),
    ("codec_snappy", codecs::by_snappy),
    ("codec_zstd", codecs::by_zstd),
];

/// Reads `data` as an ELF core.
///
/// # Panics
/// If two answers contradict each other.
pub fn exercise_elf(data: &[u8]) {
    let Ok(dump) = ElfDump::parse(data.to_vec()) else {
        return;
    };
    let mut last = 0;
    for (span, why) in dump.ranges().take(256) {
        assert!(span.offset >= last && span.len > 0, "{span} overlaps what ends at {last:#x}");
        last = span.end();
        let from = span.offset.saturating_sub(3);
        check_read(&dump, from, 7);
        check_read(&dump, span.end().saturating_sub(5), 11);
        assert_eq!(dump.next_absent(span.offset..span.end()).is_some(), why.is_some(), "{span}");
    }
    let _ = dump.next_data(0..u64::MAX);
    check_read(&dump, u64::MAX - 3, 8);
}

/// A read succeeds exactly if nothing in its range is absent.
fn check_read(dump: &ElfDump<Vec<u8>>, from: u64, len: usize) {
    let mut buf = vec![0; len];
    let end = from.checked_add(u64::try_from(len).unwrap_or(0));
    let absent = end.is_none_or(|end| dump.next_absent(from..end).is_some());
    match dump.read_at(from, &mut buf) {
        Ok(()) => assert!(!absent, "read {from:#x}, which is absent"),
        Err(ReadError::Absent { .. }) => assert!(absent, "{from:#x} is said to be there"),
        Err(ReadError::Io { .. }) => {}
    }
}

/// Reads `data` as a kdump-compressed dump, alone and as the only part.
///
/// # Panics
/// If two answers contradict each other.
pub fn exercise_kdump(data: &[u8]) {
    let owned = data.to_vec();
    let _ = KdumpDump::parse_parts([&owned]);
    let Ok(mut dump) = KdumpDump::parse(owned) else { return };
    dump.set_threads(1);
    let end = dump.end().unwrap_or(0);
    for (span, _) in dump.ranges().take(64) {
        assert!(span.len > 0 && span.offset <= end.max(dump.facts().reach), "{span}");
        check_source(&dump, span.offset.saturating_sub(3)..span.offset.saturating_add(4));
        check_source(&dump, span.offset..span.end().min(span.offset.saturating_add(40_000)));
        check_source(&dump, span.end().saturating_sub(5)..span.end().saturating_add(6));
    }
    check_source(&dump, u64::MAX - 7..u64::MAX);
    check_totals(&dump);
    let _ = (dump.next_data(0..u64::MAX), dump.next_absent(0..u64::MAX));
}

/// The counts of a dump must agree with its lists.
fn check_totals(dump: &KdumpDump<Vec<u8>>) {
    let listed: Vec<_> = dump.ranges().take(300).collect();
    let Some((last, _)) = listed.last().copied() else { return };
    for range in [0..last.end(), last.offset / 3..last.end().saturating_sub(5)] {
        let mut sums = crate::Totals::default();
        let mut held = None;
        for (span, why) in &listed {
            let (from, to) = (span.offset.max(range.start), span.end().min(range.end));
            if from < to {
                sums.add(to.saturating_sub(from), 1, *why);
                held = why.is_none().then_some(to).or(held);
            }
        }
        assert_eq!(dump.totals(&range).expect("it is in memory"), sums, "{range:?}");
        let end = dump.last_held(&range, 4096).expect("it is in memory").map(|span| span.end());
        assert_eq!(end, held, "{range:?}");
        let tally = dump.tally(&range).expect("it is in memory");
        let lost: u64 = tally.absent.values().sum();
        let left_out: u64 = sums.absent.values().sum();
        assert_eq!(tally.held + lost, sums.held + left_out, "{range:?}");
    }
    let first = dump.held().take(20);
    let named = listed.iter().filter(|(_, why)| why.is_none()).map(|(span, _)| *span);
    assert!(first.zip(named).all(|(one, other)| one == other));
}

/// Reads `data` as a flattened stream, and the rearranged file as a dump.
///
/// # Panics
/// If two answers contradict each other.
pub fn exercise_flat(data: &[u8]) {
    let Ok(flat) = FlatFile::parse(data.to_vec()) else { return };
    let end = flat.end().unwrap_or(0);
    for range in [0..1000, 4090..9000, end.saturating_sub(300)..end, end.saturating_sub(5)..end.saturating_add(5)] {
        check_source(&flat, range);
    }
    let _ = flat.next_data(0..u64::MAX);
    let _ = ElfDump::parse(&flat);
    if let Ok(dump) = KdumpDump::parse(&flat) {
        for (span, _) in dump.ranges().take(16) {
            check_source(&dump, span.offset..span.end().min(span.offset.saturating_add(20_000)));
        }
    }
}

/// Reads `data` as a LiME or AVML image.
///
/// # Panics
/// If two answers contradict each other.
pub fn exercise_lime(data: &[u8]) {
    let Ok(image) = LimeDump::parse(data.to_vec()) else { return };
    for (span, _) in image.ranges().take(64) {
        check_source(&image, span.offset.saturating_sub(3)..span.offset.saturating_add(4));
        check_source(&image, span.offset..span.end().min(span.offset.saturating_add(140_000)));
        check_source(&image, span.end().saturating_sub(5)..span.end().saturating_add(6));
    }
    let _ = image.next_data(0..u64::MAX);
}

/// What is reported about a range in advance must agree with what reading it gives. Only damage that decoding shows may
/// be missing from the report.
fn check_source(source: &dyn ReadAt, range: Range<u64>) {
    let reported = source.next_absent(range.clone());
    if let Some((span, _)) = reported {
        assert!(span.len > 0 && range.start <= span.offset && span.end() <= range.end, "{span} in {range:?}");
    }
    let mut buf = vec![0xee; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)];
    match source.read_at(range.start, &mut buf) {
        Ok(()) => assert!(reported.is_none() || buf.is_empty(), "read {range:?}, of which {reported:?} is absent"),
        Err(ReadError::Absent { span, why: Absence::Undecodable }) => {
            assert!(
                reported.is_none_or(|(reported, _)| span.offset <= reported.offset),
                "{span} comes after {reported:?}"
            );
        }
        Err(ReadError::Absent { span, why }) => {
            assert_eq!(reported.map(|(reported, why)| (reported.offset, why)), Some((span.offset, why)), "{range:?}");
        }
        Err(ReadError::Io { .. }) => {}
    }
    if let Ok(Some(data)) = source.next_data(range.clone()) {
        assert!(range.start <= data.start && data.start < data.end && data.end <= range.end);
    }
}

#[cfg(test)]
mod tests;
