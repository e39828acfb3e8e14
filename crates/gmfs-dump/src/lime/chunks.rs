//! The chunks that an image's bytes lie in: Snappy's framing format, and bytes as they are.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use gmfs_io::{Absence, ReadAt, ReadError, Span};

use super::crc32c::masked_crc32c;
use super::{LimeError, MAX_CHUNKS};
use crate::ahead::Ahead;

/// The format's bound on the plain bytes of a chunk.
const MAX_PLAIN: u64 = 64 << 10;
/// And what a Snappy block of so many bytes can have at most, with its checksum.
const MAX_STORED: u64 = 4 + 32 + MAX_PLAIN + MAX_PLAIN / 6;

/// What a chunk's bytes in the file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The bytes, and nothing else.
    Bare,
    /// A checksum, and the bytes.
    Stored,
    /// A checksum, and a Snappy block.
    Snappy,
}

/// Bytes that lie together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Where its first byte is among those of all chunks.
    pub(super) plain: u64,
    pub(super) len: u64,
    /// Where its body is in the file.
    pub(super) place: u64,
    /// How many bytes the body has in the file; not used where they are bare.
    stored: u32,
    pub(super) body: Body,
}

impl Chunk {
    pub(super) const fn end(&self) -> u64 {
        self.plain.saturating_add(self.len)
    }

    /// Decodes a chunk with a checksum.
    pub(super) fn decode(&self, file: &impl ReadAt, plain: &mut Vec<u8>) -> Result<(), ReadError> {
        // Both were bounded when the chunk was found.
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
    /// It had all that was wanted.
    Done,
    /// It has more than was wanted.
    TooLong,
    /// It ended with the file.
    Cut,
    /// What comes next is no chunk.
    Damaged,
}

/// What comes next in a stream.
enum Next {
    /// A chunk that ends there.
    Chunk(Chunk, u64),
    /// Something without content that ends there.
    Skip(u64),
    /// Nothing that is a chunk.
    Stop(Stop),
}

impl Walk {
    /// How many bytes all chunks have.
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

    /// Takes `len` bytes that lie at `place` as they are.
    pub(super) fn bare(&mut self, place: u64, len: u64) -> Result<(), LimeError> {
        let plain = self.plain();
        // Many such blocks must not wrap either; nothing that is a file comes near it.
        if len == 0 || plain.checked_add(len).is_none() {
            return Ok(());
        }
        self.push(Chunk { plain, len, place, stored: 0, body: Body::Bare })
    }

    /// Walks over the chunks of the stream at `at`, until they have `wanted` plain bytes.
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
            // The start of a stream; may come again.
            0xff if rest.starts_with(b"sNaPpY") && stored == 6 => Next::Skip(end),
            // Padding, and what is to be skipped.
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

/// The number that a Snappy block begins with.
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
