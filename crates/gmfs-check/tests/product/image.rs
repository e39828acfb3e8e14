//! An image that stores only pages that are not zero, and that can log writes. Copying it costs a few reference counts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

pub(crate) const PAGE: u64 = 4096;
pub(crate) type Bytes = [u8; PAGE as usize];
/// A page; `None` is a page of zeros.
pub(crate) type Page = Option<Arc<Bytes>>;

/// A change of an image.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Store(u64, Arc<Bytes>),
    Zero,
    Barrier,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pages: BTreeMap<u64, Arc<Bytes>>,
    end: u64,
    /// Writes in this range are dropped: those to data blocks, while a history is made.
    dropped: Range<u64>,
    pub(crate) log: Option<Vec<Event>>,
}

impl Image {
    pub(crate) fn new(end: u64, dropped: Range<u64>) -> Self {
        Self { end, dropped, ..Self::default() }
    }

    pub(crate) fn page(&self, offset: u64) -> Page {
        self.pages.get(&offset).cloned()
    }

    pub(crate) fn bytes(&self, offset: u64) -> Option<&Bytes> {
        self.pages.get(&offset).map(|page| &**page)
    }

    pub(crate) fn set(&mut self, offset: u64, page: Page) {
        match page {
            Some(page) => self.pages.insert(offset, page),
            None => self.pages.remove(&offset),
        };
    }

    pub(crate) fn pages(&self) -> impl Iterator<Item = (u64, &Arc<Bytes>)> {
        self.pages.iter().map(|(offset, page)| (*offset, page))
    }

    /// The same image, without dropping further writes.
    pub(crate) fn kept(mut self) -> Self {
        self.dropped = 0..0;
        self
    }

    /// Shortens the image.
    pub(crate) fn cut(&mut self, end: u64) {
        self.end = end;
        let kept = end.next_multiple_of(PAGE) - PAGE;
        self.pages.retain(|offset, _| *offset < if end.is_multiple_of(PAGE) { end } else { kept });
    }

    pub(crate) fn take_log(&mut self) -> Vec<Event> {
        self.log.take().unwrap_or_default()
    }
}

impl ReadAt for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = Span::new(offset, buf.len() as u64);
        if wanted.end() > self.end {
            let start = offset.max(self.end);
            return Err(ReadError::Absent { span: Span::new(start, wanted.end() - start), why: Absence::BeyondEnd });
        }
        buf.fill(0);
        for (at, page) in self.pages.range(offset / PAGE * PAGE..wanted.end()) {
            let (from, to) = (offset.max(*at), wanted.end().min(at + PAGE));
            let inside = &page[(from - at) as usize..(to - at) as usize];
            buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(inside);
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.end)
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        let mut next = self.pages.range(range.start / PAGE * PAGE..range.end).map(|(at, _)| *at);
        let past = self.end.max(range.start)..range.end;
        Ok(next.next().map(|at| at.max(range.start)..(at + PAGE).min(range.end)).or((!past.is_empty()).then_some(past)))
    }
}

impl WriteAt for Image {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, bytes.len() as u64);
        if span.end() > self.end {
            return Err(WriteError { span, source: std::io::ErrorKind::UnexpectedEof.into() });
        }
        if self.dropped.contains(&offset) {
            return Ok(());
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (page, inside) = (at / PAGE * PAGE, (at % PAGE) as usize);
            let take = (PAGE as usize - inside).min(bytes.len() - done);
            let mut content = self.bytes(page).copied().unwrap_or([0; PAGE as usize]);
            content[inside..inside + take].copy_from_slice(&bytes[done..done + take]);
            let content = Arc::new(content);
            if let Some(log) = &mut self.log {
                log.push(Event::Store(page, Arc::clone(&content)));
            }
            self.pages.insert(page, content);
            done += take;
        }
        Ok(())
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        if self.dropped.contains(&span.offset) {
            return Ok(());
        }
        self.pages.retain(|at, _| *at < span.offset || *at >= span.end());
        if let Some(log) = &mut self.log {
            log.push(Event::Zero);
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        if let Some(log) = &mut self.log {
            log.push(Event::Barrier);
        }
        Ok(())
    }
}
