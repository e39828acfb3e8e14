//! The chunks that hold an image's bytes: those of Snappy's framing format, and uncompressed bytes of LiME.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use gmfs_io::{Absence, ReadAt, ReadError, Span};

use super::crc32c::masked_crc32c;
use super::{LimeError, MAX_CHUNKS};
use crate::ahead::Ahead;

/// The maximum number of decompressed bytes of a chunk, by the format.
const MAX_PLAIN: u64 = 64 << 10;
/// The maximum size of a Snappy block with that many bytes, with its checksum.
const MAX_STORED: u64 = 4 + 32 + MAX_PLAIN + MAX_PLAIN / 6;

/// What the body of a chunk consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The bytes as they are, without a checksum.
    Bare,
    /// A checksum, then the bytes as they are.
    Stored,
    /// A checksum, then a Snappy block.
    Snappy,
}

/// Consecutive bytes of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// The offset of its first byte among the decompressed bytes of all chunks.
    pub(super) plain: u64,
    pub(super) len: u64,
    /// The offset of its body in the file.
    pub(super) place: u64,
    /// The size of the body in the file. It is not used for `Body::Bare`.
    stored: u32,
    pub(super) body: Body,
}

impl Chunk {
    pub(super) const fn end(&self) -> u64 {
        self.plain.saturating_add(self.len)
    }

    /// Decodes a chunk with a checksum.
    pub(super) fn decode(&self, file: &impl ReadAt, plain: &mut Vec<u8>) -> Result<(), ReadError> {
        // Both lengths were bounded when the chunk was found.
        let mut raw = vec![0; usize::try_from(self.stored).unwrap_or(0)];
        let span = Span::new(self.place, self.stored.into());
        file.read_at(self.place, &mut raw).map_err(|error| match error {
            ReadError::Absent { .. } => ReadError::Absent { span, why: Absence::Truncated },
            other => other,
        })?;
        let bad = ReadError::Absent { span, why: Absence::Undecodable };
        let Some((sum, bytes)) = raw.split_first_chunk::<4>() else { return Err(bad) };
        plain.clear();
        plain.resize(usize::try_from(self.len).unwrap_or(0), 0);
        let whole = match self.body {
            Body::Snappy => {
                snap::raw::decompress_len(bytes) == Ok(plain.len())
                    && snap::raw::Decoder::new().decompress(bytes, plain) == Ok(plain.len())
            }
            Body::Stored | Body::Bare => {
                let same = bytes.len() == plain.len();
                if same {
                    plain.copy_from_slice(bytes);
                }
                same
            }
        };
        if whole && masked_crc32c(plain) == u32::from_le_bytes(*sum) { Ok(()) } else { Err(bad) }
    }
}

/// The chunks that were found so far.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) chunks: Vec<Chunk>,
}

/// Where a stream ended, and why.
pub(super) struct Stream {
    pub(super) end: u64,
    pub(super) stop: Stop,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The stream had as many bytes as the block needs.
    Done,
    /// The stream has more bytes than the block needs.
    TooLong,
    /// The file ended within the stream.
    Cut,
    /// The bytes that follow are not a chunk.
    Damaged,
}

/// What comes next in a stream.
enum Next {
    /// A chunk, and the offset of its end.
    Chunk(Chunk, u64),
    /// A chunk without content, and the offset of its end.
    Skip(u64),
    /// The stream ends here.
    Stop(Stop),
}

impl Walk {
    /// The number of decompressed bytes of all chunks.
    pub(super) fn plain(&self) -> u64 {
        self.chunks.last().map_or(0, Chunk::end)
    }

    fn push(&mut self, chunk: Chunk) -> Result<(), LimeError> {
        if u64::try_from(self.chunks.len()).is_ok_and(|count| count >= MAX_CHUNKS) {
            return Err(LimeError::TooMany);
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// Adds `len` uncompressed bytes that are at `place` in the file.
    pub(super) fn bare(&mut self, place: u64, len: u64) -> Result<(), LimeError> {
        let plain = self.plain();
        // The sum of many such blocks must not wrap. No real file comes near that.
        if len == 0 || plain.checked_add(len).is_none() {
            return Ok(());
        }
        self.push(Chunk { plain, len, place, stored: 0, body: Body::Bare })
    }

    /// Reads the headers of the chunks of the stream at `at`, until the chunks have `wanted` decompressed bytes.
    pub(super) fn stream<R: ReadAt>(
        &mut self,
        file: &mut Ahead<'_, R>,
        at: u64,
        wanted: u64,
    ) -> Result<Stream, LimeError> {
        let mut at = at;
        let mut left = wanted;
        while left > 0 {
            match self.next(file, at)? {
                Next::Chunk(chunk, end) if chunk.len <= left => {
                    left = left.saturating_sub(chunk.len);
                    self.push(chunk)?;
                    at = end;
                }
                Next::Skip(end) => at = end,
                Next::Chunk(..) => return Ok(Stream { end: at, stop: Stop::TooLong }),
                Next::Stop(stop) => return Ok(Stream { end: at, stop }),
            }
        }
        Ok(Stream { end: at, stop: Stop::Done })
    }

    fn next<R: ReadAt>(&self, file: &mut Ahead<'_, R>, at: u64) -> Result<Next, ReadError> {
        let (raw, there) = file.some::<14>(at)?;
        let size = file.size();
        let [kind, a, b, c, rest @ ..] = raw;
        let stored = u32::from_le_bytes([a, b, c, 0]);
        let body = at.saturating_add(4);
        let end = body.saturating_add(stored.into());
        if there < 4 || end > size {
            return Ok(Next::Stop(Stop::Cut));
        }
        let plain = self.plain();
        let bytes = u64::from(stored);
        let chunk = |len: u64, body_kind| Next::Chunk(Chunk { plain, len, place: body, stored, body: body_kind }, end);
        Ok(match kind {
            // The stream identifier starts a stream, and may appear again.
            0xff if rest.starts_with(b"sNaPpY") && stored == 6 => Next::Skip(end),
            // Padding, and chunk types that the format says to skip.
            0x80..=0xfe => Next::Skip(end),
            0x00 if (5..=MAX_STORED).contains(&bytes) => match varint(rest.get(4..).unwrap_or_default()) {
                Some(len) if (1..=MAX_PLAIN).contains(&len) => chunk(len, Body::Snappy),
                _ => Next::Stop(Stop::Damaged),
            },
            0x01 if bytes == 4 => Next::Skip(end),
            0x01 if (5..=MAX_PLAIN.saturating_add(4)).contains(&bytes) => chunk(bytes.saturating_sub(4), Body::Stored),
            _ => Next::Stop(Stop::Damaged),
        })
    }
}

/// The varint at the start of a Snappy block, which is its decompressed size.
fn varint(raw: &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for (index, byte) in (0_u32..5).zip(raw) {
        number |= u64::from(byte & 0x7f).checked_shl(index.saturating_mul(7))?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
