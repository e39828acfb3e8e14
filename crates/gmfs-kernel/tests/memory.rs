//! How much memory an image can make gmfs take: images that name windows of gigabytes, or that never end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::io::Write as _;

use gmfs_kernel::image::{self, ImageError};
use peak_alloc::PeakAlloc;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// A window of 128 MiB, and what a decoder needs while its window grows.
const MOST: usize = 200 << 20;

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    (!crc).to_le_bytes()
}

/// An xz stream whose block has a dictionary of 4 GiB.
fn xz() -> Vec<u8> {
    let mut file = vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1];
    file.extend_from_slice(&crc32(&[0, 1]));
    let block = [2, 0, 0x21, 1, 40, 0, 0, 0];
    file.extend_from_slice(&block);
    file.extend_from_slice(&crc32(&block));
    file.extend_from_slice(&[1, 0xff, 0xff]);
    file.resize(100_000, 7);
    file
}

fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut lzma = vec![0x5d, 0, 0, 0, 0xff];
    lzma.extend_from_slice(&[0xff; 8]);
    lzma.resize(100_000, 0);
    // A window of 3.75 TiB, then a block of zeros that repeats.
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0xff][..], &[0x03, 0, 0xff, 0]].concat();
    // The largest window that is taken.
    let zstd_most = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3][..], &[0x02, 0, 0x10, 0].repeat(6000)].concat();
    let mut lz4 = 0x184c_2102_u32.to_le_bytes().to_vec();
    lz4.extend_from_slice(&u32::MAX.to_le_bytes());
    lz4.resize(100_000, 0);
    let mut lzop = vec![0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n', 0x10, 0x40, 0x20, 0xa0, 9, 0x40, 3, 9];
    lzop.extend_from_slice(&[0, 0, 0, 0x41]);
    lzop.extend_from_slice(&[0; 17]);
    lzop.extend_from_slice(&u32::MAX.to_be_bytes());
    lzop.resize(100_000, 0xff);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..600 {
        gzip.write_all(&zeros).unwrap();
    }
    vec![
        ("xz", xz()),
        ("lzma", lzma),
        ("zstd", zstd),
        ("zstd-most", zstd_most),
        ("lz4", lz4),
        ("lzop", lzop),
        ("gzip", gzip.finish().unwrap()),
    ]
}

#[test]
fn memory_is_bounded_whatever_an_image_says() {
    for (name, bytes) in all() {
        PEAK.reset_peak_usage();
        let before = PEAK.current_usage();
        let found = image::read(&bytes);
        let taken = PEAK.peak_usage().saturating_sub(before);
        assert!(taken < MOST, "{name}: {} MiB", taken >> 20);
        let error = found.expect_err(name);
        match name {
            "gzip" | "zstd-most" => assert!(matches!(error, ImageError::TooLarge { .. }), "{name}: {error:?}"),
            _ => assert!(matches!(error, ImageError::Damaged { .. } | ImageError::Cut), "{name}: {error:?}"),
        }
    }
}
