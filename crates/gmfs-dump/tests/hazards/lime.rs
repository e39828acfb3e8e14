//! Hazards of LiME and AVML images.

use std::io::Write as _;

use gmfs_dump::lime::{LimeDump, LimeError};
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::read;
use crate::source::Large;

fn block(magic: &[u8; 4], version: u32, start: u64, last: u64, body: &[u8]) -> Vec<u8> {
    let words = [start.to_le_bytes(), last.to_le_bytes(), [0; 8]].concat();
    [&magic[..], &version.to_le_bytes(), &words, body].concat()
}

fn lime(start: u64, bytes: &[u8]) -> Vec<u8> {
    block(b"EMiL", 1, start, start + bytes.len() as u64 - 1, bytes)
}

/// An image with a block of `length` bytes at address 0, whose stream is `stream`.
fn avml(stream: &[u8], length: u64) -> Vec<u8> {
    let trailer = (stream.len() as u64).to_le_bytes();
    block(b"AVML", 2, 0, length - 1, &[stream, &trailer].concat())
}

pub(crate) fn blocks_and_chunks() {
    blocks();
    chunks();
}

fn blocks() {
    let after = |block: Vec<u8>| LimeDump::parse([lime(0x1000, b"good"), block].concat()).unwrap();
    // The length wraps to 0, or is negative; the magic is that of another format.
    for bad in [
        block(b"EMiL", 1, 0, u64::MAX, b"x"),
        block(b"EMiL", 1, 9, 8, b"x"),
        block(b"AVML", 1, 0, 8, b"x"),
        vec![0; 100],
    ] {
        let image = after(bad);
        assert!(image.facts().damaged && !image.facts().cut);
        assert_eq!(read(&image, 0x1000, 4).unwrap(), b"good");
    }
    let long = after(block(b"EMiL", 1, 0x2000, 1 << 50, b"x"));
    assert!(long.facts().cut);
    assert_eq!(read(&long, 0x2000, 2), Err((Span::new(0x2001, 1), Absence::Truncated)));
    let overlap = LimeDump::parse([lime(0x1000, b"first"), lime(0x1003, b"XXXX")].concat()).unwrap();
    assert_eq!(read(&overlap, 0x1000, 7).unwrap(), b"firstXX");
    let mut reserved = lime(0x1000, b"good");
    reserved[24] = 9;
    assert_eq!(read(&LimeDump::parse(reserved).unwrap(), 0x1000, 4).unwrap(), b"good");
    assert!(matches!(LimeDump::parse(vec![]), Err(LimeError::Signature)));
    assert!(matches!(LimeDump::parse(vec![0; 40]), Err(LimeError::Empty)));
    let newer = LimeDump::parse(block(b"EMiL", 2, 0, 8, b"x"));
    assert!(matches!(newer, Err(LimeError::Version { version: 2, .. })));
    // This file is as large as its only block claims.
    let head = block(b"EMiL", 1, 0, (1 << 40) - 1, b"");
    let image = LimeDump::parse(Large { head, size: (1 << 40) + 32, rest: 7 }).unwrap();
    assert_eq!(read(&image, 1 << 39, 3).unwrap(), [7; 3]);
}

fn chunks() {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(&[7; 1000]).unwrap();
    let stream = encoder.into_inner().unwrap();
    let with = |pieces: &[&[u8]]| LimeDump::parse(avml(&pieces.concat(), 1000));
    // The stream identifier again, padding, and chunk types that are to be skipped.
    for skipped in [&stream[..10], &[0xfe, 3, 0, 0, 1, 2, 3], &[0x80, 1, 0, 0, 9], &[0xfd, 0, 0, 0]] {
        let image = with(&[&stream[..10], skipped, &stream[10..]]).unwrap();
        assert_eq!((read(&image, 0, 1000).unwrap(), image.facts().damaged), (vec![7; 1000], false));
    }
    for bad in
        [&[2, 1, 0, 0, 0][..], &[0x7f, 0, 0, 0], &[0, 4, 0, 0, 0, 0, 0, 0], &[0xff, 6, 0, 0, b'x', 0, 0, 0, 0, 0]]
    {
        assert!(matches!(with(&[&stream[..10], bad, &stream[10..]]), Err(LimeError::Empty)), "{bad:?}");
    }
    // A chunk that ends past the end of the file, one that claims 4 GiB, one that is larger than its block.
    assert!(with(&[&stream[..10], &[1, 0xff, 0xff, 0xff]]).is_err());
    assert!(with(&[&stream[..10], &[0, 9, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]]).is_err());
    assert!(LimeDump::parse(avml(&stream, 900)).is_err());
    // A wrong checksum, and a wrong body.
    for at in [14, 21] {
        let mut file = avml(&stream, 1000);
        file[32 + at] ^= 1;
        let image = LimeDump::parse(file).unwrap();
        assert_eq!(read(&image, 10, 5), Err((Span::new(10, 5), Absence::Undecodable)));
    }
    // A wrong length after the stream is reported, but the block can be read without it.
    let mut file = avml(&stream, 1000);
    let at = file.len() - 8;
    file[at] ^= 1;
    let image = LimeDump::parse([file, lime(0x10_0000, b"next")].concat()).unwrap();
    assert!(image.facts().inconsistent && !image.facts().damaged);
    assert_eq!(
        (read(&image, 0, 1000).unwrap(), read(&image, 0x10_0000, 4).unwrap()),
        (vec![7; 1000], b"next".to_vec())
    );
    assert_eq!(image.end(), Some(0x10_0004));
}
