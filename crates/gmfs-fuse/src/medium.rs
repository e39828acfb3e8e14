//! The bytes of a region, which are there while they are locked for writing.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gmfs::open::Target;
use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

/// The bytes of a region. They can be read and written as long as a [`Locked`] lives.
#[derive(Clone, Default)]
pub(crate) struct Medium(Arc<RwLock<Option<Target>>>);

/// The lock on a region. It is released on drop.
pub(crate) struct Locked(Medium);

impl Medium {
    /// Takes a region that is open and locked for writing.
    pub(crate) fn lock(&self, target: Target) -> Locked {
        *self.taken() = Some(target);
        Locked(self.clone())
    }

    // A request that panicked has left at most a commit that is not finished, which the next writer finishes.
    fn there(&self) -> RwLockReadGuard<'_, Option<Target>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> RwLockWriteGuard<'_, Option<Target>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        *self.0.taken() = None;
    }
}

fn not_locked() -> std::io::Error {
    std::io::Error::other("the region is not locked")
}

impl ReadAt for Medium {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        match &*self.there() {
            Some(target) => target.read_at(offset, buf),
            None => {
                let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
                Err(ReadError::Io { span: Span::new(offset, len), source: not_locked() })
            }
        }
    }

    fn end(&self) -> Option<u64> {
        self.there().as_ref().and_then(ReadAt::end)
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        match &*self.there() {
            Some(target) => target.next_data(range),
            None => Ok((range.start < range.end).then_some(range)),
        }
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        self.there().as_ref().and_then(|target| target.next_absent(range))
    }
}

impl WriteAt for Medium {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let none = || WriteError { span: Span::new(offset, len), source: not_locked() };
        self.taken().as_mut().ok_or_else(none)?.write_at(offset, bytes)
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        let none = || WriteError { span, source: not_locked() };
        self.taken().as_mut().ok_or_else(none)?.zero(span)
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        let none = || WriteError { span: Span::new(0, 0), source: not_locked() };
        self.taken().as_mut().ok_or_else(none)?.barrier()
    }
}
