//! Decoding of one page into a buffer of exactly its size. No codec can write more, and none allocates by what its input
//! says; the contexts that some of them need are kept from page to page.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// How a page is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// As it is.
    Stored,
    /// A zlib stream. The only one with a checksum.
    Zlib,
    /// An LZO1X block.
    Lzo,
    /// A raw Snappy block.
    Snappy,
    /// A Zstandard frame.
    Zstd,
}

/// The bits of a descriptor's flags that name a codec.
pub(super) const CODECS: [(u32, Codec); 4] =
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

    /// The codec that a descriptor's flags name; `None` for several, or for any other bit.
    pub(super) fn of_flags(flags: u32) -> Option<Self> {
        match flags {
            0 => Some(Self::Stored),
            flags => CODECS.iter().find(|(bit, _)| *bit == flags).map(|(_, codec)| *codec),
        }
    }
}

/// What decoding needs, to be used again.
pub(super) struct Contexts {
    zlib: zlib_page::Context,
    snappy: snap::raw::Decoder,
    zstd: zstd_page::Context,
}

impl Contexts {
    pub(super) fn new() -> Self {
        Self { zlib: zlib_page::Context::new(), snappy: snap::raw::Decoder::new(), zstd: zstd_page::Context::new() }
    }

    /// Decodes `from`, which must make exactly `page`. What `page` holds after a failure is unspecified.
    pub(super) fn decode(&mut self, codec: Codec, from: &[u8], page: &mut [u8]) -> bool {
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
            Codec::Zstd => frame_fits(from, page.len()) && self.zstd.decode(from, page),
        }
    }
}

/// Whether `from` starts with the header of a frame that says it makes `page` bytes, with no window beyond that and no
/// dictionary. Asked before the decoder sees it, because decoders reserve what the header says.
fn frame_fits(from: &[u8], page: usize) -> bool {
    let Some((magic, rest)) = from.split_first_chunk::<4>() else { return false };
    let Some((descriptor, rest)) = rest.split_first() else { return false };
    let single = descriptor & 0x20 != 0;
    // A dictionary, or the reserved bit.
    if *magic != [0x28, 0xb5, 0x2f, 0xfd] || descriptor & 0x0b != 0 {
        return false;
    }
    let page = u64::try_from(page).unwrap_or(u64::MAX);
    let mut size = rest;
    if !single {
        let Some((window, rest)) = rest.split_first() else { return false };
        let base = 1_u64.checked_shl(u32::from(window >> 3).saturating_add(10)).unwrap_or(u64::MAX);
        let window = base.saturating_add((base >> 3).saturating_mul(u64::from(window & 7)));
        if window > page.max(1024) {
            return false;
        }
        size = rest;
    }
    let width = match (descriptor >> 6, single) {
        (0, true) => 1,
        (0, false) => return false,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let mut bytes = [0; 8];
    let (Some(to), Some(from)) = (bytes.get_mut(..width), size.get(..width)) else { return false };
    to.copy_from_slice(from);
    let content = u64::from_le_bytes(bytes).saturating_add(if width == 2 { 256 } else { 0 });
    content == page
}

/// zlib in Rust.
#[cfg(not(feature = "deflate-c"))]
mod zlib_page {
    use flate2::{Decompress, FlushDecompress, Status};

    pub(super) struct Context(Decompress);

    impl Context {
        pub(super) fn new() -> Self {
            Self(Decompress::new(true))
        }

        pub(super) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            self.0.reset(true);
            let done = self.0.decompress(from, page, FlushDecompress::Finish);
            // The end of the stream is behind its checksum, which was compared.
            matches!(done, Ok(Status::StreamEnd)) && usize::try_from(self.0.total_out()) == Ok(page.len())
        }
    }
}

/// zlib by libdeflate.
#[cfg(feature = "deflate-c")]
mod zlib_page {
    pub(super) struct Context(libdeflater::Decompressor);

    impl Context {
        pub(super) fn new() -> Self {
            Self(libdeflater::Decompressor::new())
        }

        pub(super) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            // It compares the checksum.
            self.0.zlib_decompress(from, page) == Ok(page.len())
        }
    }
}

/// Zstandard in Rust.
#[cfg(not(feature = "zstd-c"))]
mod zstd_page {
    use std::io::Read as _;

    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

    pub(super) struct Context(FrameDecoder);

    impl Context {
        pub(super) fn new() -> Self {
            Self(FrameDecoder::new())
        }

        pub(super) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            let length = u64::try_from(page.len()).unwrap_or(u64::MAX);
            self.0.set_max_window_size(length.max(1024));
            let mut rest = from;
            if self.0.init(&mut rest).is_err() {
                return false;
            }
            // Block by block, each of 128 KiB at most: a frame that makes more than a page is left at once.
            let mut filled = 0;
            loop {
                let Ok(last) = self.0.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1)) else {
                    return false;
                };
                let room = page.get_mut(filled..).unwrap_or_default();
                let Ok(now) = self.0.read(room) else { return false };
                filled = filled.saturating_add(now);
                if self.0.can_collect() != 0 {
                    return false;
                }
                if last {
                    break;
                }
            }
            let intact = match self.0.get_checksum_from_data() {
                Some(sum) => self.0.get_calculated_checksum() == Some(sum),
                None => true,
            };
            filled == page.len() && rest.is_empty() && intact
        }
    }
}

/// Zstandard by the C library.
#[cfg(feature = "zstd-c")]
mod zstd_page {
    /// `None` if the library had no memory for it.
    pub(super) struct Context(Option<zstd::bulk::Decompressor<'static>>);

    impl Context {
        pub(super) fn new() -> Self {
            Self(zstd::bulk::Decompressor::new().ok())
        }

        pub(super) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            let length = page.len();
            self.0.as_mut().is_some_and(|context| context.decompress_to_buffer(from, page).ok() == Some(length))
        }
    }
}
