//! A sparse image in memory. Pages of it can be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use gmfs_io::{Absence, ReadAt, ReadError, Span};

const PAGE: u64 = 4096;

/// An image. Only its pages that are not zero take memory, and a copy of an image has pages of its own only where it was
/// changed.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pages: BTreeMap<u64, Arc<[u8; 4096]>>,
    /// Bytes of the image.
    pub size: u64,
    /// Pages that it does not hold.
    pub absent: BTreeSet<u64>,
    /// Pages that cannot be read.
    pub poisoned: BTreeSet<u64>,
    /// Whether it reports its holes.
    pub tells_holes: bool,
}

impl Image {
    pub fn new(size: u64) -> Self {
        Self { size, tells_holes: true, ..Self::default() }
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let inside = (at % PAGE) as usize;
            let (piece, after) = rest.split_at(rest.len().min(4096 - inside));
            if piece.iter().any(|byte| *byte != 0) || self.pages.contains_key(&(at / PAGE)) {
                let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::new([0; 4096]));
                Arc::make_mut(page)[inside..inside + piece.len()].copy_from_slice(piece);
            }
            at += piece.len() as u64;
            rest = after;
        }
    }

    /// The bytes at `offset`, absent and poisoned ones too.
    pub fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.copy(offset, &mut bytes);
        bytes
    }

    fn copy(&self, offset: u64, buf: &mut [u8]) {
        let span = Span::new(offset, buf.len() as u64);
        // Everything before this is filled.
        let mut filled = 0;
        for (number, page) in self.pages.range(offset / PAGE..span.end().div_ceil(PAGE)) {
            let start = (number * PAGE).max(offset);
            let end = ((number + 1) * PAGE).min(span.end());
            let from = (start % PAGE) as usize;
            let length = (end - start) as usize;
            let to = (start - offset) as usize;
            buf[filled..to].fill(0);
            buf[to..to + length].copy_from_slice(&page[from..from + length]);
            filled = to + length;
        }
        buf[filled..].fill(0);
    }

    pub fn lose(&mut self, offset: u64, pages: u64) {
        self.absent.extend(offset / PAGE..offset / PAGE + pages);
    }

    /// Whether the image may hold anything but zeros in a page.
    fn may_hold(&self, page: u64) -> bool {
        self.pages.contains_key(&page) || self.absent.contains(&page) || self.poisoned.contains(&page)
    }
}

impl ReadAt for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let span = Span::new(offset, buf.len() as u64);
        if offset.checked_add(span.len).is_none_or(|end| end > self.size) {
            return Err(ReadError::Absent { span, why: Absence::BeyondEnd });
        }
        let pages = offset / PAGE..span.end().div_ceil(PAGE);
        if self.absent.range(pages.clone()).next().is_some() {
            return Err(ReadError::Absent { span, why: Absence::Excluded });
        }
        if self.poisoned.range(pages).next().is_some() {
            return Err(ReadError::Io { span, source: std::io::ErrorKind::InvalidData.into() });
        }
        self.copy(offset, buf);
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.size)
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        if !self.tells_holes {
            return Ok((range.start < range.end).then_some(range));
        }
        if range.end > self.size {
            return Ok(Some(range));
        }
        let mut pages = (range.start / PAGE..range.end.div_ceil(PAGE)).skip_while(|page| !self.may_hold(*page));
        let Some(first) = pages.next() else { return Ok(None) };
        let last = pages.take_while(|page| self.may_hold(*page)).last().unwrap_or(first);
        Ok(Some((first * PAGE).max(range.start)..((last + 1) * PAGE).min(range.end)))
    }
}
