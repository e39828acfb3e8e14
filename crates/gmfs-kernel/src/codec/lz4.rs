//! LZ4's legacy frame, as `lz4 -l` writes it: a magic, then blocks that make 8 MiB each, without an end mark.

use std::io::{self, Read};

use super::{Decoded, invalid, read_up_to};

pub(super) const MAGIC: [u8; 4] = 0x184c_2102_u32.to_le_bytes();
/// How many bytes a block makes at most.
const BLOCK: usize = 8 << 20;
/// How many bytes a block takes at most: LZ4_compressBound.
const MOST: usize = BLOCK + BLOCK / 255 + 16;

pub(super) struct Reader<R> {
    from: R,
    block: Vec<u8>,
    decoded: Decoded,
    ended: bool,
    begun: bool,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(mut from: R) -> io::Result<Self> {
        let mut magic = [0; 4];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("it does not begin as LZ4 does"));
        }
        Ok(Self { from, block: Vec::new(), decoded: Decoded::default(), ended: false, begun: false })
    }

    /// Decodes the next block. The last one is followed by nothing, or by four bytes with the uncompressed size.
    fn next_block(&mut self) -> io::Result<()> {
        let mut size = [0; 4];
        match read_up_to(&mut self.from, &mut size)? {
            4 => {}
            0 if self.begun => {
                self.ended = true;
                return Ok(());
            }
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        if size == MAGIC {
            return Ok(());
        }
        let size = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        self.block.clear();
        let wanted = u64::try_from(size.min(MOST)).unwrap_or(u64::MAX);
        let got = self.from.by_ref().take(wanted).read_to_end(&mut self.block)?;
        if got == 0 && self.begun {
            self.ended = true;
            return Ok(());
        }
        if size > MOST || size == 0 {
            return Err(invalid("a block of a size that LZ4 does not make"));
        }
        if got < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let made = lz4_flex::block::decompress_into(&self.block, self.decoded.room(BLOCK))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.decoded.cut(made);
        self.begun = true;
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.decoded.is_empty() && !self.ended {
            self.next_block()?;
        }
        Ok(self.decoded.take(buf))
    }
}
