//! A medium that logs every write and barrier, and that can fail.

use std::sync::{Arc, Mutex, MutexGuard};

use gmfs_io::{ReadAt, ReadError, Span, WriteAt, WriteError};

use super::memory::Memory;

/// A change of a medium.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Bytes were written.
    Write { offset: u64, bytes: Arc<[u8]> },
    /// A span was zeroed.
    Zero(Span),
    /// Everything before this is durable.
    Barrier,
}

#[derive(Debug)]
struct Inner {
    memory: Memory,
    log: Vec<Event>,
    /// How many writes and barriers succeed before one fails, and how it fails.
    fuse: Option<(u64, Failure)>,
    /// Whether it has failed.
    blown: bool,
}

/// How a medium fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// One call does nothing.
    Once,
    /// One call does half of its work.
    Half,
    /// From one call on, all calls do nothing.
    Forever,
}

/// A handle to a medium whose writes are logged. A clone is another handle to the same medium, so that a test can
/// examine what a writer uses.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

impl Recorder {
    pub(crate) fn new(memory: Memory) -> Self {
        Self(Arc::new(Mutex::new(Inner { memory, log: Vec::new(), fuse: None, blown: false })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The present content of the medium.
    pub(crate) fn image(&self) -> Memory {
        self.inner().memory.clone()
    }

    /// All changes since the last call.
    pub(crate) fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.inner().log)
    }

    /// Changes bytes without logging it, like a guest that writes to its memory.
    pub(crate) fn scribble(&self, offset: u64, bytes: &[u8]) {
        self.inner().memory.put(offset, bytes);
    }

    /// Makes the call after the next `calls` calls fail.
    pub(crate) fn fail_after(&self, calls: u64, how: Failure) {
        let mut inner = self.inner();
        (inner.fuse, inner.blown) = (Some((calls, how)), false);
    }

    /// Whether a call has failed. No call fails after this.
    pub(crate) fn mend(&self) -> bool {
        let mut inner = self.inner();
        inner.fuse = None;
        inner.blown
    }
}

impl Inner {
    /// Counts a call. Returns the failure if this call must fail.
    fn burn(&mut self) -> Option<Failure> {
        match &mut self.fuse {
            Some((0, how)) => {
                let how = *how;
                if how != Failure::Forever {
                    self.fuse = None;
                }
                self.blown = true;
                Some(how)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }
}

fn failed(span: Span) -> WriteError {
    WriteError { span, source: std::io::Error::other("the medium was told to fail") }
}

impl ReadAt for Recorder {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.inner().memory.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.inner().memory.end()
    }
}

impl WriteAt for Recorder {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let mut inner = self.inner();
        let failure = inner.burn();
        if let Some(how) = failure {
            if how == Failure::Half {
                inner.memory.put(offset, &bytes[..bytes.len() / 2]);
            }
            return Err(failed(Span::new(offset, bytes.len() as u64)));
        }
        inner.log.push(Event::Write { offset, bytes: bytes.into() });
        inner.memory.write_at(offset, bytes)
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        let mut inner = self.inner();
        let failure = inner.burn();
        if let Some(how) = failure {
            if how == Failure::Half {
                inner.memory.zero(Span::new(span.offset, span.len / 2)).unwrap();
            }
            return Err(failed(span));
        }
        inner.log.push(Event::Zero(span));
        inner.memory.zero(span)
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        let mut inner = self.inner();
        if inner.burn().is_some() {
            return Err(failed(Span::new(0, 0)));
        }
        inner.log.push(Event::Barrier);
        Ok(())
    }

    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(self.clone()))
    }
}
