//! Decoders for compressed kernel images. Each is a stream that ends where the compressed data ends.
//!
//! What follows the compressed data is left alone: the kernel's build appends the uncompressed size to most of them. No
//! decoder holds more than its window, and no window is larger than [`WINDOW`].

mod lz4;
mod lzop;

use std::io::{self, BufReader, Read};

/// The largest window that a decoder may use: the largest that the kernel's build uses.
const WINDOW: u64 = 128 << 20;
/// The same in KiB, with room for the tables of the decoder.
const WINDOW_KIB: u32 = (128 << 10) + (4 << 10);

/// How a kernel image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// LZMA alone, the format before xz.
    Lzma,
    /// xz.
    Xz,
    /// LZO in a file of lzop.
    Lzo,
    /// LZ4 in its legacy frame.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// How the data of each codec begins.
const MAGICS: [(&[u8], Codec); 7] = [
    (&[0x1f, 0x8b, 8], Codec::Gzip),
    (b"BZh", Codec::Bzip2),
    (&[0x5d, 0, 0], Codec::Lzma),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Codec::Xz),
    (lzop::MAGIC, Codec::Lzo),
    (&lz4::MAGIC, Codec::Lz4),
    (&[0x28, 0xb5, 0x2f, 0xfd], Codec::Zstd),
];

impl Codec {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Gzip, Self::Bzip2, Self::Lzma, Self::Xz, Self::Lzo, Self::Lz4, Self::Zstd];

    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of data that begins like this.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        MAGICS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, codec)| *codec)
    }

    /// A stream of the decompressed bytes of `from`.
    pub(crate) fn decoder<'r>(self, from: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
        let from = BufReader::with_capacity(64 << 10, from);
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::GzDecoder::new(from)),
            Self::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(from)),
            Self::Lzma => Box::new(lzma_rust2::LzmaReader::new_mem_limit(from, WINDOW_KIB, None)?),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(from, false, WINDOW_KIB)),
            Self::Lzo => Box::new(lzop::Reader::new(from)?),
            Self::Lz4 => Box::new(lz4::Reader::new(from)?),
            Self::Zstd => Box::new(
                ruzstd::decoding::StreamingDecoder::new_with_max_window_size(from, WINDOW).map_err(io::Error::other)?,
            ),
        })
    }
}

/// The error for data that its codec does not allow.
fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads as much as there is, up to the length of `buf`.
fn read_up_to(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut done: usize = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => done = done.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Decoded bytes that are passed on piece by piece.
#[derive(Default)]
struct Decoded {
    bytes: Vec<u8>,
    at: usize,
}

impl Decoded {
    /// Passes on as many bytes as `buf` takes.
    fn take(&mut self, buf: &mut [u8]) -> usize {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let now = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..now), rest.get(..now)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(now);
        now
    }

    /// Whether all bytes have been passed on.
    const fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Room for the next block: `len` bytes.
    fn room(&mut self, len: usize) -> &mut [u8] {
        self.bytes.resize(len, 0);
        self.at = 0;
        &mut self.bytes
    }

    /// Cuts the block to the bytes that were decoded.
    fn cut(&mut self, len: usize) {
        self.bytes.truncate(len);
    }
}
