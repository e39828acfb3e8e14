//! One page by one codec. The data are a page's stored bytes as they are, or say how to damage good ones.
//!
//! No decoder may touch what lies behind the page, and where there are two, they have to agree.

use super::choices::{Choices, memory};
use super::kdump_file::encode;
use crate::kdump::Codec;
use crate::kdump::codec::{Contexts, zlib, zstandard};

/// Behind the page: what no decoder writes.
const GUARD: usize = 64;

/// What one run is about: the stored bytes, the page's size, and the page if it is not damaged.
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
        // Sometimes of another size than the descriptor says.
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

    /// Decodes; `None` if the decoder refused. The rest of the page behind the guard has to stay as it was.
    fn decode(&self, decode: impl FnOnce(&[u8], &mut [u8]) -> bool) -> Option<Vec<u8>> {
        let mut page = vec![0xa5; self.size + GUARD];
        let (front, guard) = page.split_at_mut(self.size);
        let done = decode(&self.stored, front);
        assert!(guard.iter().all(|byte| *byte == 0xa5), "written behind the page");
        page.truncate(self.size);
        done.then_some(page)
    }

    /// Decodes by what the reader uses, twice by the same context.
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

/// What two decoders made of one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// The one that the reader uses made a page.
    pub used: bool,
    /// The other one did.
    pub other: bool,
}

/// Decodes by what the reader uses and by the decoder in Rust, and compares. The data of a page have no checksum but in
/// zlib, and the C libraries are lax about damaged Huffman tables: they may take what Rust refuses, but not the other
/// way round, and what both take is the same page.
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
            // With the right sum, which is there behind the stream.
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

/// zlib, by Rust and by C.
pub fn by_zlib(data: &[u8]) {
    let _ = decode(Codec::Zlib, data);
}

/// LZO.
pub fn by_lzo(data: &[u8]) {
    let _ = decode(Codec::Lzo, data);
}

/// Snappy.
pub fn by_snappy(data: &[u8]) {
    let _ = decode(Codec::Snappy, data);
}

/// Zstandard, by Rust and by C.
pub fn by_zstd(data: &[u8]) {
    let _ = decode(Codec::Zstd, data);
}
