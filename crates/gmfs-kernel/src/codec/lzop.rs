//! Files of lzop: a header, then blocks of LZO1X, then a length of 0. Checksums are skipped, as the kernel skips them.

use std::io::{self, Read};

use super::{Decoded, invalid};

pub(super) const MAGIC: &[u8] = &[0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n'];
/// How many bytes a block makes at most, in a file that the kernel accepts.
const BLOCK: u32 = 256 << 10;
/// From this version on the header has more fields.
const LONGER: u16 = 0x0940;
/// The header has a filter.
const FILTER: u32 = 0x800;
/// The header is followed by an extra field.
const EXTRA: u32 = 0x40;
/// Checksums of each block as it is uncompressed, four bytes for each of these flags.
const OF_DECODED: [u32; 2] = [0x1, 0x100];
/// Checksums of each block as it is compressed.
const OF_ENCODED: [u32; 2] = [0x2, 0x200];

pub(super) struct Reader<R> {
    from: R,
    flags: u32,
    block: Vec<u8>,
    decoded: Decoded,
    ended: bool,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(mut from: R) -> io::Result<Self> {
        let flags = header(&mut from)?;
        Ok(Self { from, flags, block: Vec::new(), decoded: Decoded::default(), ended: false })
    }

    fn next_block(&mut self) -> io::Result<()> {
        let made = be32(&mut self.from)?;
        if made == 0 {
            self.ended = true;
            return Ok(());
        }
        let taken = be32(&mut self.from)?;
        if made > BLOCK || taken == 0 || taken > made {
            return Err(invalid("a block of a size that lzop does not make"));
        }
        self.skip_checksums(OF_DECODED)?;
        if taken < made {
            self.skip_checksums(OF_ENCODED)?;
        }
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        self.block.resize(size(taken), 0);
        self.from.read_exact(&mut self.block)?;
        let room = self.decoded.room(size(made));
        if taken == made {
            room.copy_from_slice(&self.block);
        } else if lzo::decompress_into(&self.block, room) != Ok(size(made)) {
            return Err(invalid("a block of LZO that is damaged"));
        }
        Ok(())
    }

    fn skip_checksums(&mut self, flags: [u32; 2]) -> io::Result<()> {
        for flag in flags {
            if self.flags & flag != 0 {
                be32(&mut self.from)?;
            }
        }
        Ok(())
    }
}

/// Reads the header; gives its flags.
fn header(from: &mut impl Read) -> io::Result<u32> {
    let mut magic = [0; 9];
    from.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(invalid("it does not begin as a file of lzop does"));
    }
    let version = be16(from)?;
    let longer = version >= LONGER;
    // The version of the library.
    be16(from)?;
    if longer {
        // The version that is needed to extract it.
        be16(from)?;
    }
    // The method, and the level.
    skip(from, if longer { 2 } else { 1 })?;
    let flags = be32(from)?;
    if flags & FILTER != 0 {
        be32(from)?;
    }
    // The mode, and the time in one word or in two.
    skip(from, if longer { 12 } else { 8 })?;
    let mut name = [0];
    from.read_exact(&mut name)?;
    // The name, and the checksum of the header.
    skip(from, u64::from(name[0]).saturating_add(4))?;
    if flags & EXTRA != 0 {
        let length = be32(from)?;
        skip(from, u64::from(length).saturating_add(4))?;
    }
    Ok(flags)
}

fn be16(from: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    from.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn be32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn skip(from: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.decoded.is_empty() && !self.ended {
            self.next_block()?;
        }
        Ok(self.decoded.take(buf))
    }
}
