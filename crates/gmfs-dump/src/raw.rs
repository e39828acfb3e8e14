//! Reads plain bytes of memory that start at a physical address: QEMU's `pmemsave`, a memory file of Firecracker or
//! QEMU, a copy of `/dev/mem`. Nothing in such a file identifies it or its address, so the caller has to know both.
//!
//! The file does not say what its holes mean either. In a sparse copy they are pages of zeros. In a differential
//! snapshot they are pages that did not change; their content is in the snapshot below ([`RawMemory::layered`]), or
//! nowhere.

use std::ops::Range;

use gmfs_io::{Absence, ReadAt, ReadError, Span};

/// What the holes of a memory file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holes {
    /// Pages of zeros.
    #[default]
    Zero,
    /// Pages that the file does not hold.
    Absent,
}

/// The bytes of one file, or of several layered files, at physical addresses. Memory below the first byte is not in the
/// dump; memory past the last byte is beyond its end.
#[derive(Debug)]
pub struct RawMemory<R> {
    /// The uppermost file is first. The list is never empty.
    layers: Vec<R>,
    holes: Holes,
    base: u64,
}

impl<R: ReadAt> RawMemory<R> {
    /// Memory whose first byte was at `base`. Holes are zeros.
    pub fn new(file: R, base: u64) -> Self {
        Self { layers: vec![file], holes: Holes::Zero, base }
    }

    /// Memory in several files, the uppermost one first: where a file has a hole, the ones below it are read. `holes`
    /// says what a hole in all of them is.
    #[must_use]
    pub const fn layered(layers: Vec<R>, base: u64, holes: Holes) -> Self {
        Self { layers, holes, base }
    }

    /// The physical address of the first byte.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// How many bytes of a range of addresses are holes in all of the files. Addresses outside of the files are not
    /// counted.
    ///
    /// # Errors
    /// [`ReadError::Io`] if a file cannot report its holes.
    pub fn holes_in(&self, range: Range<u64>) -> Result<u64, ReadError> {
        let inside = self.inside(&range);
        let end = inside.end.min(self.file_end());
        let (mut at, mut sum) = (inside.start, 0_u64);
        while at < end {
            let stretch = self.stretch(at, end)?;
            if stretch.layer.is_none() {
                sum = sum.saturating_add(stretch.end.saturating_sub(at));
            }
            at = stretch.end;
        }
        Ok(sum)
    }

    /// The memory that is described: each range with `None` if it is present, or with the reason why it is not.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        let (mut at, end) = (0, self.file_end());
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let absent = if self.holes == Holes::Absent { self.hole(at..end) } else { None };
            let (stop, why) = match absent {
                Some(hole) if hole.start <= at => (hole.end, Some(Absence::Hole)),
                Some(hole) => (hole.start, None),
                None => (end, None),
            };
            let from = std::mem::replace(&mut at, stop);
            Some((self.outside(Span::new(from, stop.saturating_sub(from))), why))
        })
    }

    /// One past the last byte of the uppermost file.
    fn file_end(&self) -> u64 {
        self.layers.first().and_then(ReadAt::end).unwrap_or(u64::MAX)
    }

    /// The layer that has the bytes from `at` on, and where its stretch ends, at most at `end`. `at` must be less than
    /// `end`.
    fn stretch(&self, at: u64, end: u64) -> Result<Stretch<'_, R>, ReadError> {
        let mut stop = end;
        for layer in &self.layers {
            match layer.next_data(at..stop)? {
                None => {}
                Some(data) if data.start <= at => {
                    let end = data.end.clamp(at.saturating_add(1), stop);
                    return Ok(Stretch { layer: Some(layer), end });
                }
                Some(data) => stop = data.start,
            }
        }
        Ok(Stretch { layer: None, end: stop })
    }

    /// The first range within `range` that is a hole in all files. Offsets are those of the files.
    fn hole(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut at = range.start;
        let mut found: Option<Range<u64>> = None;
        while at < range.end {
            let Ok(stretch) = self.stretch(at, range.end) else { break };
            match (&mut found, stretch.layer) {
                (Some(_), Some(_)) => break,
                (Some(hole), None) => hole.end = stretch.end,
                (None, None) => found = Some(at..stretch.end),
                (None, Some(_)) => {}
            }
            at = stretch.end;
        }
        found
    }

    /// The only file, if its holes are zeros: it can be read directly.
    fn plain(&self) -> Option<&R> {
        match (self.layers.as_slice(), self.holes) {
            ([only], Holes::Zero) => Some(only),
            _ => None,
        }
    }

    /// Converts a range of addresses to file offsets.
    fn inside(&self, range: &Range<u64>) -> Range<u64> {
        range.start.saturating_sub(self.base)..range.end.saturating_sub(self.base)
    }

    /// Converts a range of file offsets to addresses.
    const fn outside(&self, span: Span) -> Span {
        Span::new(self.base.saturating_add(span.offset), span.len)
    }

    fn error(&self, error: ReadError) -> ReadError {
        match error {
            ReadError::Absent { span, why } => ReadError::Absent { span: self.outside(span), why },
            ReadError::Io { span, source } => ReadError::Io { span: self.outside(span), source },
        }
    }

    /// Fills `buf` from file offset `place`.
    fn read_inside(&self, place: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if let Some(only) = self.plain() {
            return only.read_at(place, buf);
        }
        let end = place.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if let Some((span, why)) = self.absent_inside(place..end) {
            return Err(ReadError::Absent { span, why });
        }
        let mut rest = buf;
        let mut at = place;
        while !rest.is_empty() {
            let stretch = self.stretch(at, end)?;
            let length = usize::try_from(stretch.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(length.min(rest.len()));
            match stretch.layer {
                Some(layer) => layer.read_at(at, now)?,
                None => now.fill(0),
            }
            rest = later;
            at = stretch.end;
        }
        Ok(())
    }

    /// Like [`ReadAt::next_absent`], with file offsets.
    fn absent_inside(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        if let Some(only) = self.plain() {
            return only.next_absent(range);
        }
        // The size of the uppermost file bounds the memory.
        let end = self.file_end();
        let mut at = range.start;
        while at < range.end.min(end) {
            let stretch = self.stretch(at, range.end.min(end)).ok()?;
            match stretch.layer {
                None if self.holes == Holes::Absent => {
                    let hole = self.hole(at..range.end.min(end)).unwrap_or(at..stretch.end);
                    return Some((Span::new(hole.start, hole.end.saturating_sub(hole.start)), Absence::Hole));
                }
                None => {}
                Some(layer) => {
                    if let Some(found) = layer.next_absent(at..stretch.end) {
                        return Some(found);
                    }
                }
            }
            at = stretch.end;
        }
        let from = range.start.max(end);
        (from < range.end).then(|| (Span::new(from, range.end.saturating_sub(from)), Absence::BeyondEnd))
    }
}

/// A range of bytes that one layer holds, or none.
struct Stretch<'r, R> {
    /// The layer; `None` for a hole in all layers.
    layer: Option<&'r R>,
    end: u64,
}

impl<R: ReadAt> ReadAt for RawMemory<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let Some(place) = offset.checked_sub(self.base) else {
            let span = Span::new(offset, length.min(self.base.saturating_sub(offset)));
            return Err(ReadError::Absent { span, why: Absence::NotInDump });
        };
        self.read_inside(place, buf).map_err(|error| self.error(error))
    }

    fn end(&self) -> Option<u64> {
        let end = self.layers.first().and_then(ReadAt::end)?;
        Some(self.base.saturating_add(end))
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        if range.start < self.base {
            // Memory below the base is absent, which is not zero, so it counts as data.
            return Ok((range.start < range.end).then(|| range.start..self.base.min(range.end)));
        }
        let inside = self.inside(&range);
        let found = match self.plain() {
            Some(only) => only.next_data(inside)?,
            None => {
                let mut at = inside.start;
                loop {
                    if at >= inside.end {
                        break None;
                    }
                    let stretch = self.stretch(at, inside.end)?;
                    if stretch.layer.is_some() || self.holes == Holes::Absent {
                        break Some(at..stretch.end);
                    }
                    at = stretch.end;
                }
            }
        };
        Ok(found.map(|data| self.base.saturating_add(data.start)..self.base.saturating_add(data.end)))
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        if range.start < self.base && range.start < range.end {
            let end = self.base.min(range.end);
            return Some((Span::new(range.start, end.saturating_sub(range.start)), Absence::NotInDump));
        }
        let (span, why) = self.absent_inside(self.inside(&range))?;
        Some((self.outside(span), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_file_offsets_plus_the_base() {
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

    /// Bytes in which each `.` is a hole and reads as zero.
    #[derive(Debug)]
    struct Sparse(&'static [u8]);

    impl ReadAt for Sparse {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let bytes: Vec<u8> = self.0.iter().map(|byte| if *byte == b'.' { 0 } else { *byte }).collect();
            bytes.read_at(offset, buf)
        }

        fn end(&self) -> Option<u64> {
            self.0.end()
        }

        fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
            let is_hole = |at: &u64| self.0.get(usize::try_from(*at).unwrap()).is_some_and(|byte| *byte == b'.');
            let Some(start) = range.clone().find(|at| !is_hole(at)) else { return Ok(None) };
            Ok(Some(start..(start..range.end).find(is_hole).unwrap_or(range.end)))
        }
    }

    /// The byte at an address, or the reason why it is absent.
    fn read(memory: &RawMemory<Sparse>, at: u64) -> Result<u8, Absence> {
        let mut byte = [0xee];
        match memory.read_at(at, &mut byte) {
            Ok(()) => Ok(byte[0]),
            Err(ReadError::Absent { why, .. }) => Err(why),
            Err(other @ ReadError::Io { .. }) => panic!("{other}"),
        }
    }

    #[test]
    fn holes_are_zeros_or_absent_or_in_the_file_below() {
        let layers: [&'static [u8]; 3] = [b"ab..e..h", b"A.CD..GHIJ", b"0123.567"];
        for count in 1..=3 {
            for holes in [Holes::Zero, Holes::Absent] {
                let files = layers[..count].iter().map(|bytes| Sparse(bytes)).collect();
                let memory = RawMemory::layered(files, 100, holes);
                let truth = |at: u64| {
                    let index = usize::try_from(at - 100).unwrap();
                    if index >= 8 {
                        return Err(Absence::BeyondEnd);
                    }
                    let mut bytes = layers[..count].iter().map(|bytes| bytes[index]);
                    match (bytes.find(|byte| *byte != b'.'), holes) {
                        (Some(byte), _) => Ok(byte),
                        (None, Holes::Zero) => Ok(0),
                        (None, Holes::Absent) => Err(Absence::Hole),
                    }
                };
                for from in 100..112_u64 {
                    assert_eq!(read(&memory, from), truth(from), "{count} {holes:?} {from}");
                    for to in from + 1..113 {
                        let first = (from..to).find(|at| truth(*at).is_err());
                        let reported = memory.next_absent(from..to);
                        assert_eq!(
                            reported.map(|(span, why)| (span.offset, Err(why))),
                            first.map(|at| (at, truth(at)))
                        );
                        let mut buf = vec![0; usize::try_from(to - from).unwrap()];
                        match (memory.read_at(from, &mut buf), first) {
                            (Ok(()), None) => assert!((from..to).zip(&buf).all(|(at, byte)| truth(at) == Ok(*byte))),
                            (Err(ReadError::Absent { span, .. }), Some(at)) => assert_eq!(span.offset, at),
                            other => panic!("{other:?}"),
                        }
                        let data = memory.next_data(from..to).unwrap().map_or(to, |data| data.start);
                        assert!((from..data).all(|at| truth(at) == Ok(0)));
                    }
                }
                let holes_there = (100..108).filter(|at| matches!(truth(*at), Ok(0) | Err(Absence::Hole))).count();
                assert_eq!(memory.holes_in(0..200).unwrap(), u64::try_from(holes_there).unwrap());
                let listed: u64 = memory.ranges().filter(|(_, why)| why.is_some()).map(|(span, _)| span.len).sum();
                assert_eq!(listed, if holes == Holes::Absent { u64::try_from(holes_there).unwrap() } else { 0 });
            }
        }
    }
}
