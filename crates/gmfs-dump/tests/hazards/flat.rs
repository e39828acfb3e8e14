//! Hazards of flattened streams.

use gmfs_dump::flat::{FlatError, FlatFile};
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::{MEMORY, read};

pub(crate) fn stream(records: &[(i64, i64, &[u8])], end: bool) -> Vec<u8> {
    let mut file = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
    file.resize(4096, 0);
    for (offset, size, bytes) in records {
        file.extend([offset.to_be_bytes(), size.to_be_bytes()].concat());
        file.extend_from_slice(bytes);
    }
    if end {
        file.extend([0xff; 16]);
    }
    file
}

pub(crate) fn records() {
    let lies = [(-2, 5), (5, -1), (-1, 5), (5, 0), (i64::MAX, 5), (5, i64::MAX), (i64::MIN, i64::MIN), (-1, 0)];
    for (offset, size) in lies {
        let flat = FlatFile::parse(stream(&[(0, 3, b"abc"), (offset, size, b"12345")], true)).unwrap();
        assert!(flat.facts().damaged, "{offset} {size}");
        assert_eq!(read(&flat, 0, 3).unwrap(), b"abc");
    }
    // Without the end of the stream, ranges between records are not zero. A record that is cut off has the bytes that
    // are left.
    let flat = FlatFile::parse(stream(&[(0, 3, b"abc"), (10, 9, b"123")], false)).unwrap();
    assert_eq!(read(&flat, 10, 9), Err((Span::new(13, 6), Absence::Truncated)));
    assert_eq!(read(&flat, 0, 9), Err((Span::new(3, 6), Absence::Truncated)));
    // A million records of one byte each must take less memory than three times the file.
    let storm: Vec<(i64, i64, &[u8])> = (0..1_000_000).rev().map(|n| (n * 3, 1, &b"x"[..])).collect();
    let file = stream(&storm, true);
    drop(storm);
    MEMORY.reset_peak_usage();
    let (before, size) = (MEMORY.current_usage(), file.len());
    let flat = FlatFile::parse(file).unwrap();
    let used = MEMORY.peak_usage() - before;
    assert!(used < 3 * size, "{used} bytes for a file of {size}");
    assert_eq!((flat.facts().records, flat.end()), (1_000_000, Some(2_999_998)));
    assert_eq!(read(&flat, 0, 6).unwrap(), b"x\0\0x\0\0");
}

pub(crate) fn overlaps() {
    // Each record is inside the previous one. Another record then covers all but the ends.
    let filled: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; 1000 - usize::from(n) * 4]).collect();
    let mut nested: Vec<(i64, i64, &[u8])> =
        (0..).zip(&filled).map(|(n, bytes)| (n * 2, bytes.len() as i64, &bytes[..])).collect();
    let read_all = |records: &[(i64, i64, &[u8])]| {
        let mut model = vec![0; 1000];
        for (at, _, bytes) in records {
            model[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
        }
        let flat = FlatFile::parse(stream(records, true)).unwrap();
        assert_eq!(read(&flat, 0, 1000).unwrap(), model);
    };
    read_all(&nested);
    nested.reverse();
    read_all(&nested);
    let middle = [0xaa; 998];
    nested.push((1, 998, &middle));
    read_all(&nested);
    // Records that are far apart cost no memory for the range between them.
    let flat = FlatFile::parse(stream(&[(1 << 62, 1, b"x"), (0, 1, b"y")], true)).unwrap();
    assert_eq!((flat.end(), read(&flat, (1 << 62) - 1, 2).unwrap()), (Some((1 << 62) + 1), vec![0, b'x']));
}

pub(crate) fn nested() {
    let inner = stream(&[(0, 3, b"abc")], true);
    let outer = stream(&[(0, inner.len() as i64, &inner)], true);
    assert!(matches!(FlatFile::parse(outer), Err(FlatError::Nested)));
}
