//! Memory as it is, from a physical address on: QEMU's `pmemsave`, a Firecracker or QEMU memory file, a copy of
//! `/dev/mem`. Nothing in such a file tells what it is, nor where it was: whoever opens it has to say.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use gmfs_format::io::{Absence, ReadAt, ReadError, Span};

/// A file's bytes at physical addresses. What is below the first one is not in the dump, what is behind the last one
/// beyond its end.
#[derive(Debug)]
pub struct RawMemory<R> {
    file: R,
    base: u64,
}

impl<R: ReadAt> RawMemory<R> {
    /// Memory whose first byte was at `base`.
    pub const fn new(file: R, base: u64) -> Self {
        Self { file, base }
    }

    /// Where it begins.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The part of `range` that the file may have, in the file's space.
    fn inside(&self, range: &Range<u64>) -> Range<u64> {
        range.start.saturating_sub(self.base)..range.end.saturating_sub(self.base)
    }

    /// A place of the file as an address.
    const fn outside(&self, span: Span) -> Span {
        Span::new(self.base.saturating_add(span.offset), span.len)
    }
}

impl<R: ReadAt> ReadAt for RawMemory<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let Some(place) = offset.checked_sub(self.base) else {
            let span = Span::new(offset, length.min(self.base.saturating_sub(offset)));
            return Err(ReadError::Absent { span, why: Absence::NotInDump });
        };
        self.file.read_at(place, buf).map_err(|error| match error {
            ReadError::Absent { span, why } => ReadError::Absent { span: self.outside(span), why },
            ReadError::Io { span, source } => ReadError::Io { span: self.outside(span), source },
        })
    }

    fn end(&self) -> Option<u64> {
        self.file.end().map(|end| self.base.saturating_add(end))
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        if range.start < self.base {
            // Absent, which is not zero.
            return Ok((range.start < range.end).then(|| range.start..self.base.min(range.end)));
        }
        let found = self.file.next_data(self.inside(&range))?;
        Ok(found.map(|data| self.base.saturating_add(data.start)..self.base.saturating_add(data.end)))
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        if range.start < self.base && range.start < range.end {
            let end = self.base.min(range.end);
            return Some((Span::new(range.start, end.saturating_sub(range.start)), Absence::NotInDump));
        }
        let (span, why) = self.file.next_absent(self.inside(&range))?;
        Some((self.outside(span), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_files_places_from_the_base_on() {
        let memory = RawMemory::new(b"0123456789".to_vec(), 0x1000);
        let mut buf = [0; 3];
        memory.read_at(0x1007, &mut buf).unwrap();
        assert_eq!((&buf, memory.end(), memory.base()), (b"789", Some(0x100a), 0x1000));
        let below = Some((Span::new(0xffe, 2), Absence::NotInDump));
        let behind = Some((Span::new(0x100a, 4), Absence::BeyondEnd));
        assert_eq!(memory.next_absent(0xffe..0x1002), below);
        assert_eq!(memory.next_absent(0x1000..0x100a), None);
        assert_eq!(memory.next_absent(0x1008..0x100e), behind);
        for (at, expected) in [(0xffe, below), (0x1008, Some((Span::new(0x100a, 1), Absence::BeyondEnd)))] {
            match memory.read_at(at, &mut buf) {
                Err(ReadError::Absent { span, why }) => assert_eq!(Some((span, why)), expected),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(memory.next_data(0xff0..0x1004).unwrap(), Some(0xff0..0x1000));
        assert_eq!(memory.next_data(0x1000..0x1004).unwrap(), Some(0x1000..0x1004));
    }
}
