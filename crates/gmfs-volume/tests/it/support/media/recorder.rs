//! A medium that keeps a log of every store and barrier, and one that fails.

use std::sync::{Arc, Mutex, MutexGuard};

use gmfs_io::{ReadAt, ReadError, Span, WriteAt, WriteError};

use super::memory::Memory;

/// What was done to a medium.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Bytes were written.
    Write { offset: u64, bytes: Arc<[u8]> },
    /// A span was zeroed.
    Zero(Span),
    /// All before is durable.
    Barrier,
}

#[derive(Debug)]
struct Inner {
    memory: Memory,
    log: Vec<Event>,
    /// Stores and barriers to come before one fails, and how it does.
    fuse: Option<(u64, Failure)>,
    /// Whether it has failed.
    blown: bool,
}

/// How a medium fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// One call does nothing.
    Once,
    /// One call does half of what it should.
    Half,
    /// From one call on, none does anything.
    Forever,
}

/// A handle to a medium whose stores are logged. A clone is another handle to the same medium, so that a test can look
/// at what a writer has in its hands.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

impl Recorder {
    pub(crate) fn new(memory: Memory) -> Self {
        Self(Arc::new(Mutex::new(Inner { memory, log: Vec::new(), fuse: None, blown: false })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The medium as it is now.
    pub(crate) fn image(&self) -> Memory {
        self.inner().memory.clone()
    }

    /// What was done since the last call.
    pub(crate) fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.inner().log)
    }

    /// Changes bytes past the log: what a guest does to its memory.
    pub(crate) fn scribble(&self, offset: u64, bytes: &[u8]) {
        self.inner().memory.put(offset, bytes);
    }

    /// Lets the call after `calls` more of them fail.
    pub(crate) fn fail_after(&self, calls: u64, how: Failure) {
        let mut inner = self.inner();
        (inner.fuse, inner.blown) = (Some((calls, how)), false);
    }

    /// Whether a call has failed; from here on none does.
    pub(crate) fn mend(&self) -> bool {
        let mut inner = self.inner();
        inner.fuse = None;
        inner.blown
    }
}

impl Inner {
    /// Counts a call; the failure, if it is this one's turn.
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
