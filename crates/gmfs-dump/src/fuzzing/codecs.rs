//! Decodes one page with one codec. The input is a page's stored bytes, or says how to damage valid ones.
//!
//! No decoder may write past the page. Where there are two decoders, they must agree.

use super::choices::{Choices, memory};
use super::kdump_file::encode;
use crate::kdump::Codec;
use crate::kdump::codec::{Contexts, zlib, zstandard};

/// The number of bytes after the page that no decoder may write.
const GUARD: usize = 64;

/// The input of one run: the stored bytes, the page's size, and the page if it is not damaged.
struct Case {
    stored: Vec<u8>,
    size: usize,
    good: Option<Vec<u8>>,
}

impl Case {
    fn new(data: &[u8], codec: Codec) -> Self {
        let mut choices = Choices::new(data);
        let size = choices.of(&[4096, 4096, 4096, 512, 65536]);
        if choices.one_in(4) {
            return Self { stored: choices.rest().to_vec(), size, good: None };
        }
        // Sometimes the page has a size other than the one in the descriptor.
        let other = choices.of(&[size, size, size, size - 1, size + 1, 2 * size]);
        let page = memory(choices.word(), other);
        let (mut stored, _) = encode(&page, codec);
        if choices.one_in(8) {
            return Self { stored, size, good: (other == size).then_some(page) };
        }
        choices.damage(&mut stored);
        match choices.byte() % 8 {
            0 => stored.truncate(choices.below(stored.len() + 1)),
            1 => stored.extend(choices.rest().iter().take(64)),
            2 => stored.extend(stored.clone()),
            _ => {}
        }
        Self { stored, size, good: None }
    }

    /// Decodes the page; `None` if the decoder refused it. The guard bytes after the page must not change.
    fn decode(&self, decode: impl FnOnce(&[u8], &mut [u8]) -> bool) -> Option<Vec<u8>> {
        let mut page = vec![0xa5; self.size + GUARD];
        let (front, guard) = page.split_at_mut(self.size);
        let done = decode(&self.stored, front);
        assert!(guard.iter().all(|byte| *byte == 0xa5), "written past the page");
        page.truncate(self.size);
        done.then_some(page)
    }

    /// Decodes with the decoder that the reader uses, twice with the same context.
    fn used(&self, codec: Codec) -> Option<Vec<u8>> {
        let mut contexts = Contexts::new();
        let first = self.decode(|from, page| contexts.decode(codec, from, page));
        let second = self.decode(|from, page| contexts.decode(codec, from, page));
        assert_eq!(first, second, "a used context decodes otherwise");
        if let Some(good) = &self.good
            && self.stored.len() < self.size
        {
            assert_eq!(first.as_ref(), Some(good));
        }
        first
    }
}

/// What two decoders did with one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Whether the decoder that the reader uses gave a page.
    pub used: bool,
    /// Whether the other decoder gave a page.
    pub other: bool,
}

/// Decodes with the decoder that the reader uses and with the one in Rust, and compares the results. Only zlib pages
/// have a checksum, and the C libraries are lax about damaged Huffman tables. So C may accept what Rust refuses, but
/// not the other way round, and what both accept must give the same page.
#[must_use]
pub fn decode(codec: Codec, data: &[u8]) -> Verdicts {
    let case = Case::new(data, codec);
    let found = case.used(codec);
    let other = match codec {
        Codec::Zlib => {
            let mut rust = zlib::rust::Context::new();
            case.decode(|from, page| rust.decode(from, page))
        }
        Codec::Zstd => {
            let mut rust = zstandard::rust::Context::new();
            case.decode(|from, page| zstandard::frame_fits(from, page.len()) && rust.decode(from, page))
        }
        #[cfg(test)]
        Codec::Lzo => case.decode(|from, page| lzokay::decompress::decompress(from, page) == Ok(page.len())),
        _ => found.clone(),
    };
    let verdicts = Verdicts { used: found.is_some(), other: other.is_some() };
    if let Some(other) = other {
        assert_eq!(found, Some(other), "two decoders, two pages or verdicts of {:x?}", case.stored);
    } else if let Some(page) = found {
        let lax = match codec {
            // C may accept the stream if it holds the right checksum.
            Codec::Zlib => cfg!(feature = "deflate-c") && holds(&case.stored, adler32(&page)),
            Codec::Zstd => cfg!(feature = "zstd-c"),
            _ => false,
        };
        assert!(lax, "only one decoder takes {:x?}", case.stored);
    }
    verdicts
}

fn holds(stored: &[u8], sum: u32) -> bool {
    stored.windows(4).any(|bytes| bytes == sum.to_be_bytes())
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

/// Decodes zlib in Rust and in C.
pub fn by_zlib(data: &[u8]) {
    let _ = decode(Codec::Zlib, data);
}

/// Decodes LZO.
pub fn by_lzo(data: &[u8]) {
    let _ = decode(Codec::Lzo, data);
}

/// Decodes Snappy.
pub fn by_snappy(data: &[u8]) {
    let _ = decode(Codec::Snappy, data);
}

/// Decodes Zstandard in Rust and in C.
pub fn by_zstd(data: &[u8]) {
    let _ = decode(Codec::Zstd, data);
}
