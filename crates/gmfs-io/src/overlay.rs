//! A target that keeps what is written to it in memory, over a source that is only read: the dry run of a change.
//!
//! The same code runs as for a real change, and reads back what it wrote. A change that also writes the contents of
//! files would need as much memory as they have bytes, so the overlay can be told which ranges to keep
//! ([`Overlay::keeping`]). What is written elsewhere is dropped: a later read finds what the source holds.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use crate::num::len64;
use crate::source::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

/// Bytes are kept in pages of this size.
const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;

/// What is written goes into memory; `below` is only read.
#[derive(Debug)]
pub struct Overlay<S> {
    below: S,
    /// The ranges in which writes are kept; `None` keeps all.
    keep: Option<Vec<Range<u64>>>,
    /// Where the overlay ends, if that is past the end of the source. Bytes between the two ends read as zeros.
    longer: Option<u64>,
    /// Pages that were written, by their offset.
    pages: BTreeMap<u64, Box<[u8; PAGE_LEN]>>,
}

impl<S: ReadAt> Overlay<S> {
    /// Keeps everything that is written.
    pub const fn new(below: S) -> Self {
        Self { below, keep: None, longer: None, pages: BTreeMap::new() }
    }

    /// Keeps what is written in these ranges, which need not be sorted, and drops the rest.
    pub const fn keeping(below: S, keep: Vec<Range<u64>>) -> Self {
        Self { below, keep: Some(keep), longer: None, pages: BTreeMap::new() }
    }

    /// The same overlay with a new end. Bytes past the end of the source read as zeros.
    #[must_use]
    pub fn reaching(self, end: u64) -> Self {
        Self { longer: self.below.end().filter(|below| *below < end).map(|_| end), ..self }
    }

    /// Reads what the source holds, and zeros past its end as far as the overlay reaches.
    fn read_below(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let (Some(end), Some(below)) = (self.longer, self.below.end()) else { return self.below.read_at(offset, buf) };
        let last = offset.saturating_add(len64(buf.len()));
        if last > end {
            let span = Span::new(offset.max(end), last.saturating_sub(offset.max(end)));
            return Err(ReadError::Absent { span, why: Absence::BeyondEnd });
        }
        let there = usize::try_from(below.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let (inside, behind) = buf.split_at_mut_checked(there).unwrap_or_default();
        behind.fill(0);
        if inside.is_empty() { Ok(()) } else { self.below.read_at(offset, inside) }
    }

    /// How many pages are kept in memory.
    pub fn kept(&self) -> usize {
        self.pages.len()
    }

    /// Whether writes to the page at `offset` are kept.
    fn keeps(&self, offset: u64) -> bool {
        let end = offset.saturating_add(PAGE);
        let meets = |range: &Range<u64>| range.start < end && offset < range.end;
        self.keep.as_ref().is_none_or(|keep| keep.iter().any(meets))
    }

    /// The parts of a span for which writes are kept, in no order.
    fn kept_parts(&self, span: Span) -> Vec<Range<u64>> {
        let Some(keep) = &self.keep else { return std::iter::once(span.offset..span.end()).collect() };
        let part = |range: &Range<u64>| range.start.max(span.offset)..range.end.min(span.end());
        // Whole pages are kept, so that each part is extended to the pages that it touches.
        let whole = |part: Range<u64>| {
            let start = part.start.checked_div(PAGE).unwrap_or(0).saturating_mul(PAGE).max(span.offset);
            let end = part.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX).min(span.end());
            start..end
        };
        keep.iter().map(part).filter(|part| part.start < part.end).map(whole).collect()
    }

    /// Changes the part of a page that `span` covers.
    fn change(&mut self, page: u64, span: Span, bytes: Option<&[u8]>) -> Result<(), WriteError> {
        if !self.pages.contains_key(&page) {
            let loaded = self.load(page, span)?;
            self.pages.insert(page, loaded);
        }
        let Some(kept) = self.pages.get_mut(&page) else { return Ok(()) };
        let (from, to) = (span.offset.max(page), span.end().min(page.saturating_add(PAGE)));
        let Some(place) = part(kept.as_mut_slice(), page, from, to) else { return Ok(()) };
        match bytes.and_then(|bytes| part_of(bytes, span.offset, from, to)) {
            Some(new) => place.copy_from_slice(new),
            None => place.fill(0),
        }
        Ok(())
    }

    /// A page as the source holds it. A page that `span` covers whole need not be readable.
    fn load(&self, page: u64, span: Span) -> Result<Box<[u8; PAGE_LEN]>, WriteError> {
        let mut loaded = Box::new([0; PAGE_LEN]);
        let end = self.end().unwrap_or(u64::MAX).min(page.saturating_add(PAGE));
        if span.offset <= page && span.end() >= end {
            return Ok(loaded);
        }
        let length = usize::try_from(end.saturating_sub(page)).unwrap_or(PAGE_LEN);
        let buf = loaded.get_mut(..length).unwrap_or_default();
        self.read_below(page, buf).map_err(|error| WriteError { span, source: io::Error::other(error) })?;
        Ok(loaded)
    }

    /// Refuses what the source has no room for.
    fn require_room(&self, span: Span) -> Result<(), WriteError> {
        match self.end() {
            Some(end) if span.offset.checked_add(span.len).is_none_or(|last| last > end) => {
                Err(WriteError { span, source: io::ErrorKind::UnexpectedEof.into() })
            }
            _ => Ok(()),
        }
    }

    /// The first page that was written and holds `from` or starts past it, and starts before `end`.
    fn next_page(&self, from: u64, end: u64) -> Option<u64> {
        let first = from.checked_div(PAGE).unwrap_or(0).saturating_mul(PAGE);
        self.pages.range(first..end).next().map(|(page, _)| *page)
    }
}

/// The bytes `from..to` of a page that begins at `page`.
fn part(bytes: &mut [u8], page: u64, from: u64, to: u64) -> Option<&mut [u8]> {
    let (start, end) = (from.checked_sub(page)?, to.checked_sub(page)?);
    bytes.get_mut(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// The bytes `from..to` of a slice that begins at `start`.
fn part_of(bytes: &[u8], start: u64, from: u64, to: u64) -> Option<&[u8]> {
    let (from, to) = (from.checked_sub(start)?, to.checked_sub(start)?);
    bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}

/// The offsets of the pages that a range touches.
fn pages(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    let first = range.start.checked_div(PAGE).unwrap_or(0);
    (first..range.end.div_ceil(PAGE)).map(|page| page.saturating_mul(PAGE))
}

impl<S: ReadAt> ReadAt for Overlay<S> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.saturating_add(len64(buf.len()));
        let mut at = offset;
        while at < end {
            let page = self.next_page(at, end);
            // Up to the next page that was written, the bytes are those of the source.
            let until = page.map_or(end, |page| page.max(at));
            if let Some(buf) = part(buf, offset, at, until).filter(|buf| !buf.is_empty()) {
                self.read_below(at, buf)?;
            }
            let Some((page, kept)) = page.and_then(|page| Some((page, self.pages.get(&page)?))) else { break };
            let stop = page.saturating_add(PAGE).min(end);
            if let (Some(buf), Some(kept)) =
                (part(buf, offset, until, stop), part_of(kept.as_slice(), page, until, stop))
            {
                buf.copy_from_slice(kept);
            }
            at = stop;
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        self.longer.or_else(|| self.below.end())
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        let inside = self.longer.and(self.below.end()).unwrap_or(u64::MAX);
        let below = self.below.next_data(range.start.min(inside)..range.end.min(inside))?;
        let written = self
            .next_page(range.start, range.end)
            .map(|page| page.max(range.start)..page.saturating_add(PAGE).min(range.end));
        Ok(match (below, written) {
            (Some(below), Some(written)) if written.start < below.start => Some(written),
            (Some(below), _) => Some(below),
            (None, written) => written,
        })
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        let (mut from, inside) = (range.start, self.longer.and(self.below.end()).unwrap_or(u64::MAX));
        if let Some(end) = self.longer.filter(|end| range.end > *end && range.start.max(inside) == range.start) {
            let from = range.start.max(end);
            return Some((Span::new(from, range.end.saturating_sub(from)), Absence::BeyondEnd));
        }
        while from < range.end.min(inside) {
            let (absent, why) = self.below.next_absent(from..range.end.min(inside))?;
            let Some(page) = self.next_page(absent.offset, absent.end()) else { return Some((absent, why)) };
            if page > absent.offset {
                return Some((Span::new(absent.offset, page.saturating_sub(absent.offset)), why));
            }
            from = page.saturating_add(PAGE);
        }
        None
    }
}

impl<S: ReadAt> WriteAt for Overlay<S> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, len64(bytes.len()));
        self.require_room(span)?;
        for page in pages(&(span.offset..span.end())) {
            if self.keeps(page) {
                self.change(page, span, Some(bytes))?;
            }
        }
        Ok(())
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.require_room(span)?;
        for part in self.kept_parts(span) {
            for page in pages(&part) {
                self.change(page, span, None)?;
            }
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "the numbers are the tests' own"
)]
mod tests {
    use super::*;

    const PAGES: usize = 8;

    fn source() -> Vec<u8> {
        (0..PAGES * PAGE_LEN).map(|n| (n / 7 % 251).try_into().unwrap()).collect()
    }

    /// Whatever is written and read, the overlay says what a plain target says, and the source stays as it is.
    #[test]
    fn it_reads_as_if_it_had_been_written() {
        let below = source();
        let mut overlay = Overlay::new(&below);
        let mut model = source();
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        for round in 0..400 {
            let offset = random(below.len());
            let length = random((below.len() - offset).min(3 * PAGE_LEN) + 1);
            let (at, span) = (offset as u64, Span::new(offset as u64, length as u64));
            if round % 3 == 0 {
                overlay.zero(span).unwrap();
                model.zero(span).unwrap();
            } else {
                let bytes = vec![u8::try_from(round % 256).unwrap(); length];
                overlay.write_at(at, &bytes).unwrap();
                model.write_at(at, &bytes).unwrap();
            }
            let from = random(below.len());
            let mut read = vec![0; random(below.len() - from) + 1];
            overlay.read_at(from as u64, &mut read).unwrap();
            assert!(read == model[from..from + read.len()], "round {round}");
        }
        assert!(below == source());
    }

    #[test]
    fn what_is_not_kept_takes_no_memory() {
        let below = source();
        let mut overlay = Overlay::keeping(&below, vec![PAGE..2 * PAGE, 5 * PAGE..6 * PAGE]);
        overlay.write_at(0, &vec![9; below.len()]).unwrap();
        overlay.zero(Span::new(6 * PAGE, 2 * PAGE)).unwrap();
        assert_eq!(overlay.kept(), 2);
        let mut read = vec![0; below.len()];
        overlay.read_at(0, &mut read).unwrap();
        for (page, bytes) in read.chunks(PAGE_LEN).enumerate() {
            let kept = page == 1 || page == 5;
            assert_eq!(bytes == [9; PAGE_LEN], kept, "page {page}");
            assert!(kept || bytes == &below[page * PAGE_LEN..][..PAGE_LEN], "page {page}");
        }
        overlay.zero(Span::new(0, len64(below.len()))).unwrap();
        assert_eq!(overlay.kept(), 2);
        overlay.read_at(5 * PAGE, &mut read[..PAGE_LEN]).unwrap();
        assert!(read[..PAGE_LEN] == [0; PAGE_LEN]);
    }

    #[test]
    fn it_has_no_more_room_than_the_source() {
        let below = source();
        let mut overlay = Overlay::new(&below);
        assert!(overlay.write_at(len64(below.len()) - 1, &[0; 2]).is_err());
        assert!(overlay.zero(Span::new(u64::MAX, 2)).is_err());
        assert!(overlay.read_at(len64(below.len()) - 1, &mut [0; 2]).is_err());
        assert_eq!(overlay.kept(), 0);
    }

    #[test]
    fn it_can_be_longer_than_the_source() {
        let below = source();
        let (old, new) = (len64(below.len()), len64(below.len()) + 10);
        let mut overlay = Overlay::new(&below).reaching(new);
        let mut read = [9; 20];
        overlay.read_at(new - 20, &mut read).unwrap();
        assert!(read[..10] == below[below.len() - 10..] && read[10..] == [0; 10]);
        assert!(overlay.read_at(new - 19, &mut read).is_err());
        overlay.write_at(old + 2, &[1; 8]).unwrap();
        assert!(overlay.write_at(old + 2, &[1; 9]).is_err());
        overlay.read_at(old, &mut read[..10]).unwrap();
        assert_eq!(read[..10], [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((overlay.end(), overlay.next_absent(0..new)), (Some(new), None));
        assert_eq!(Overlay::new(&below).reaching(old).end(), Some(old));
    }

    /// A source of which the middle is absent.
    struct Torn(Vec<u8>);

    impl ReadAt for Torn {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            match self.next_absent(offset..offset + len64(buf.len())) {
                Some((span, why)) => Err(ReadError::Absent { span, why }),
                None => self.0.read_at(offset, buf),
            }
        }
        fn end(&self) -> Option<u64> {
            self.0.end()
        }
        fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
            Ok((range.end > 6 * PAGE).then(|| range.start.max(6 * PAGE)..range.end))
        }
        fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
            let (from, to) = (range.start.max(2 * PAGE), range.end.min(5 * PAGE));
            (from < to).then(|| (Span::new(from, to - from), Absence::Excluded))
        }
    }

    #[test]
    fn what_was_written_is_there_and_is_data() {
        let mut overlay = Overlay::new(Torn(source()));
        let all = || 0..8 * PAGE;
        assert_eq!(overlay.next_data(all()).unwrap(), Some(6 * PAGE..8 * PAGE));
        overlay.write_at(3 * PAGE, &[1; PAGE_LEN]).unwrap();
        assert_eq!(overlay.next_data(all()).unwrap(), Some(3 * PAGE..4 * PAGE));
        assert_eq!(overlay.next_absent(all()), Some((Span::new(2 * PAGE, PAGE), Absence::Excluded)));
        assert_eq!(overlay.next_absent(3 * PAGE..8 * PAGE), Some((Span::new(4 * PAGE, PAGE), Absence::Excluded)));
        // A part of a page that cannot be read cannot be changed.
        assert!(overlay.write_at(2 * PAGE + 1, &[1]).is_err());
        overlay.write_at(2 * PAGE, &[1; 3 * PAGE_LEN]).unwrap();
        assert_eq!(overlay.next_absent(all()), None);
        overlay.read_at(0, &mut vec![0; 8 * PAGE_LEN]).unwrap();
    }
}
