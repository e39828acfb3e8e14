//! A medium in memory that stores only pages that are not zero, so that regions of many GiB cost little.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use gmfs_format::native::units::{PAGE_BYTES, PAGE_SIZE, PageBytes};
use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

/// A page that is not zero. Copies of a medium share it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    bytes: PageBytes,
    digest: OnceLock<u64>,
}

impl Stored {
    /// A digest of the whole page.
    pub(crate) fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| digest(&self.bytes))
    }

    pub(crate) const fn bytes(&self) -> &PageBytes {
        &self.bytes
    }
}

/// A digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// A sparse medium.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    size: u64,
    pages: BTreeMap<u64, Arc<Stored>>,
}

impl Memory {
    /// A medium of `size` zero bytes.
    pub(crate) const fn new(size: u64) -> Self {
        Self { size, pages: BTreeMap::new() }
    }

    /// The pages in a span that are not zero, with their offsets.
    pub(crate) fn stored(&self, span: Span) -> impl Iterator<Item = (u64, &Stored)> {
        let from = span.offset / PAGE_BYTES;
        let to = span.end().div_ceil(PAGE_BYTES);
        self.pages.range(from..to).map(|(number, page)| (number * PAGE_BYTES, &**page))
    }

    /// One whole page.
    pub(crate) fn page(&self, offset: u64) -> PageBytes {
        assert_eq!(offset % PAGE_BYTES, 0);
        self.pages.get(&(offset / PAGE_BYTES)).map_or([0; PAGE_SIZE], |page| page.bytes)
    }

    /// Writes bytes. This cannot fail.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.write_at(offset, bytes).unwrap();
    }

    fn set(&mut self, number: u64, bytes: PageBytes) {
        if bytes == [0; PAGE_SIZE] {
            self.pages.remove(&number);
        } else {
            self.pages.insert(number, Arc::new(Stored { bytes, digest: OnceLock::new() }));
        }
    }

    /// Whether two media hold the same bytes.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let bytes = |(number, page): (&u64, &Arc<Stored>)| (*number, page.bytes);
        self.size == other.size && self.pages.iter().map(bytes).eq(other.pages.iter().map(bytes))
    }
}

/// The pages that a range of bytes touches: page number, range in the page, range in the bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let inside = usize::try_from(at % PAGE_BYTES).unwrap();
        let count = (PAGE_SIZE - inside).min(len - done);
        let part = (at / PAGE_BYTES, inside..inside + count, done..done + count);
        done += count;
        Some(part)
    })
}

impl ReadAt for Memory {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.size {
            let start = offset.max(self.size);
            return Err(ReadError::Absent { span: Span::new(start, end - start), why: Absence::BeyondEnd });
        }
        for (number, inside, outside) in parts(offset, buf.len()) {
            match self.pages.get(&number) {
                Some(page) => buf[outside].copy_from_slice(&page.bytes[inside]),
                None => buf[outside].fill(0),
            }
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.size)
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        let page = self.pages.range(range.start / PAGE_BYTES..).next().map(|(number, _)| number * PAGE_BYTES);
        let start = page.map_or(self.size, |start| start.min(self.size)).max(range.start);
        Ok((start < range.end).then(|| start..range.end.min(start + PAGE_BYTES)))
    }
}

impl WriteAt for Memory {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        if offset.saturating_add(bytes.len() as u64) > self.size {
            let span = Span::new(offset, bytes.len() as u64);
            return Err(WriteError { span, source: std::io::ErrorKind::UnexpectedEof.into() });
        }
        for (number, inside, outside) in parts(offset, bytes.len()) {
            let mut page = self.page(number * PAGE_BYTES);
            page[inside].copy_from_slice(&bytes[outside]);
            self.set(number, page);
        }
        Ok(())
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        if span.end() > self.size {
            return Err(WriteError { span, source: std::io::ErrorKind::UnexpectedEof.into() });
        }
        let touched: Vec<u64> = self.stored(span).map(|(offset, _)| offset).collect();
        for offset in touched {
            let mut page = self.page(offset);
            let from = usize::try_from(span.offset.saturating_sub(offset)).unwrap();
            let to = usize::try_from(PAGE_BYTES.min(span.end() - offset)).unwrap();
            page[from..to].fill(0);
            self.set(offset / PAGE_BYTES, page);
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}
