//! Sources that are not files: one of any size, and one that counts reads.

use std::sync::atomic::{AtomicU64, Ordering};

use gmfs_io::{ReadAt, ReadError};

/// A file of any size that begins with `head`. All bytes after that are `rest`.
pub(crate) struct Large {
    pub(crate) head: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) rest: u8,
}

impl ReadAt for Large {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let head = usize::try_from(offset).ok().and_then(|offset| self.head.get(offset..)).unwrap_or_default();
        let known = head.len().min(buf.len());
        buf[..known].copy_from_slice(&head[..known]);
        buf[known..].fill(self.rest);
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.size)
    }
}

/// Counts the bytes that are read from a source, and the reads.
#[derive(Default)]
pub(crate) struct Counting<R> {
    pub(crate) inner: R,
    pub(crate) bytes: AtomicU64,
    pub(crate) reads: AtomicU64,
}

impl<R> Counting<R> {
    pub(crate) const fn new(inner: R) -> Self {
        Self { inner, bytes: AtomicU64::new(0), reads: AtomicU64::new(0) }
    }

    /// How many bytes were read, in how many reads, since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.bytes.swap(0, Ordering::Relaxed), self.reads.swap(0, Ordering::Relaxed))
    }
}

impl<R: ReadAt> ReadAt for Counting<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.inner.end()
    }
}
