//! Decodes one page into a buffer of exactly its size. No codec can write past the buffer, and none allocates memory by
//! sizes that its input claims. The contexts that some codecs need are reused from page to page.
//!
//! Zlib and Zstandard have a decoder in Rust and one in C. Those in C need a feature each. Both fill the same buffer. A
//! test compares their verdicts on damaged pages.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub(crate) mod zlib;
pub(crate) mod zstandard;

/// How a page is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Not compressed.
    Stored,
    /// A zlib stream. Only this codec has a checksum.
    Zlib,
    /// An LZO1X block.
    Lzo,
    /// A raw Snappy block.
    Snappy,
    /// A Zstandard frame.
    Zstd,
}

/// The bits of a descriptor's flags that name a codec.
pub(crate) const CODECS: [(u32, Codec); 4] =
    [(0x01, Codec::Zlib), (0x02, Codec::Lzo), (0x04, Codec::Snappy), (0x20, Codec::Zstd)];

impl Codec {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Zlib => "zlib",
            Self::Lzo => "lzo",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }

    /// The codec that a descriptor's flags name, or `None` if they name several or have an unknown bit.
    pub(crate) fn of_flags(flags: u32) -> Option<Self> {
        match flags {
            0 => Some(Self::Stored),
            flags => CODECS.iter().find(|(bit, _)| *bit == flags).map(|(_, codec)| *codec),
        }
    }
}

/// The state that decoders reuse from page to page.
pub(crate) struct Contexts {
    zlib: zlib::Context,
    snappy: snap::raw::Decoder,
    zstd: zstandard::Context,
}

impl Contexts {
    pub(crate) fn new() -> Self {
        Self { zlib: zlib::Context::new(), snappy: snap::raw::Decoder::new(), zstd: zstandard::Context::new() }
    }

    /// Decodes `from`, which must give exactly `page`. After a failure, the content of `page` is unspecified.
    pub(crate) fn decode(&mut self, codec: Codec, from: &[u8], page: &mut [u8]) -> bool {
        match codec {
            Codec::Stored => {
                let fits = from.len() == page.len();
                if fits {
                    page.copy_from_slice(from);
                }
                fits
            }
            Codec::Zlib => self.zlib.decode(from, page),
            Codec::Lzo => lzo::decompress_into(from, page) == Ok(page.len()),
            Codec::Snappy => {
                snap::raw::decompress_len(from) == Ok(page.len())
                    && self.snappy.decompress(from, page) == Ok(page.len())
            }
            Codec::Zstd => zstandard::frame_fits(from, page.len()) && self.zstd.decode(from, page),
        }
    }
}
