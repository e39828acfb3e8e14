//! Bodies for fuzz targets: any bytes, no panic, no loop without end, and what is said of a range agrees with itself.

use gmfs_format::io::{ReadAt, ReadError};

use crate::elf::ElfDump;
use crate::{foreign, iomem, probe};

/// Reads `data` in all the ways that a hostile file can be read here.
///
/// # Panics
/// If two answers contradict each other.
pub fn exercise(data: &[u8]) {
    let owned = data.to_vec();
    let _ = foreign::identify(&owned);
    let _ = probe::recognise(data);
    if let Some(map) = std::str::from_utf8(data).ok().and_then(|text| iomem::IoMem::parse(text).ok()) {
        for span in map.writable_ranges() {
            assert_eq!(map.writable(span), Ok(()), "{span}");
        }
    }
    let Ok(dump) = ElfDump::parse(owned) else {
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

/// A read succeeds if and only if nothing of its range is absent.
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
