//! Reading a long range ahead of whoever writes it out: several threads read (and decode), one takes what they read in
//! order. Memory is bounded: three chunks for each thread.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use gmfs_format::io::{ReadAt, ReadError};

/// How a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes that are read at once. Chunks begin at multiples of it from the start of the range.
    pub chunk: usize,
    /// How many threads read.
    pub threads: usize,
}

impl Default for Shape {
    /// 256 KiB at once, by as many threads as there are processors, 16 at most.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        Self { chunk: 256 << 10, threads }
    }
}

/// A chunk on its way: its buffer, how much of it counts, and how reading went.
type Filled = (Vec<u8>, usize, Result<(), ReadError>);

/// Reads all of `range` and gives it to `take` in order, chunk by chunk: the offset, and the bytes or why there are
/// none. `take` runs on the caller's thread while others read on; its first error ends the reading.
///
/// A chunk that cannot be read is given as an error as a whole. Whoever wants what of it is there asks
/// [`ReadAt::next_absent`], or reads it again in pieces.
///
/// ```
/// use gmfs_image::in_order::{Shape, in_order};
/// let source: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
/// let mut copy = Vec::new();
/// let shape = Shape { chunk: 4096, threads: 2 };
/// in_order(&source, 0..1 << 20, shape, |_, bytes| {
///     copy.extend_from_slice(bytes?);
///     Ok::<_, gmfs_format::io::ReadError>(())
/// })?;
/// assert_eq!(copy, source);
/// # Ok::<(), gmfs_format::io::ReadError>(())
/// ```
///
/// # Errors
/// What `take` returned.
pub fn in_order<S, E>(
    source: &S,
    range: Range<u64>,
    shape: Shape,
    mut take: impl FnMut(u64, Result<&[u8], ReadError>) -> Result<(), E>,
) -> Result<(), E>
where
    S: ReadAt + ?Sized,
{
    let chunk = u64::try_from(shape.chunk.max(1)).unwrap_or(u64::MAX);
    let count = range.end.saturating_sub(range.start).div_ceil(chunk);
    let threads = shape.threads.clamp(1, 64).min(usize::try_from(count).unwrap_or(usize::MAX));
    std::thread::scope(|scope| {
        let mut readers: Vec<Reader> = Vec::new();
        for number in 0..threads {
            let (full, fulls) = sync_channel(1);
            let (empty, empties) = channel();
            let share = Share { range: range.clone(), chunk, first: number, threads, full, empties };
            // A thread that cannot be had leaves its share to this one.
            if threads > 1 && std::thread::Builder::new().spawn_scoped(scope, move || share.read(source)).is_ok() {
                readers.push(Reader { fulls, empty });
            }
        }
        let mut own = Vec::new();
        let mut at = range.start;
        let mut number = 0_usize;
        while at < range.end {
            let turn = number.checked_rem(threads).unwrap_or(0);
            let from_reader = if readers.len() == threads { readers.get(turn) } else { None };
            let arrived = from_reader.and_then(|reader| reader.fulls.recv().ok());
            let len = at.saturating_add(chunk).min(range.end).saturating_sub(at);
            let (buf, used, done) = match arrived {
                Some(filled) => filled,
                None => fill(source, at, len, std::mem::take(&mut own)),
            };
            let bytes = buf.get(..used).unwrap_or_default();
            take(at, done.map(|()| bytes))?;
            match from_reader {
                // It may be done with its share.
                Some(reader) => drop(reader.empty.send(buf)),
                None => own = buf,
            }
            at = at.saturating_add(len);
            number = number.wrapping_add(1);
        }
        Ok(())
    })
}

/// What comes from a thread, and goes back to it.
struct Reader {
    fulls: Receiver<Filled>,
    empty: Sender<Vec<u8>>,
}

/// Every so-many-th chunk, for one thread.
struct Share {
    range: Range<u64>,
    chunk: u64,
    first: usize,
    threads: usize,
    full: SyncSender<Filled>,
    empties: Receiver<Vec<u8>>,
}

impl Share {
    fn read<S: ReadAt + ?Sized>(self, source: &S) {
        let length = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let step = self.chunk.saturating_mul(length(self.threads));
        let mut at = self.range.start.saturating_add(self.chunk.saturating_mul(length(self.first)));
        while at < self.range.end {
            let len = at.saturating_add(self.chunk).min(self.range.end).saturating_sub(at);
            let filled = fill(source, at, len, self.empties.try_recv().unwrap_or_default());
            // Nobody takes what comes behind an error.
            if self.full.send(filled).is_err() {
                return;
            }
            at = at.saturating_add(step);
        }
    }
}

fn fill<S: ReadAt + ?Sized>(source: &S, at: u64, len: u64, mut buf: Vec<u8>) -> Filled {
    let used = usize::try_from(len).unwrap_or(0);
    if buf.len() < used {
        buf.resize(used, 0);
    }
    let done = source.read_at(at, buf.get_mut(..used).unwrap_or_default());
    (buf, used, done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(threads: usize, chunk: usize, range: Range<u64>) -> Vec<(u64, Option<Vec<u8>>)> {
        let source: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let mut seen = Vec::new();
        let done: Result<(), ()> = in_order(&source, range, Shape { chunk, threads }, |at, bytes| {
            seen.push((at, bytes.ok().map(<[u8]>::to_vec)));
            Ok(())
        });
        assert_eq!(done, Ok(()));
        seen
    }

    #[test]
    fn chunks_come_in_order_whoever_reads_them() {
        let one = run(1, 300, 7..9_999);
        assert_eq!(one.len(), 34);
        assert_eq!(one[33].1.as_ref().map(Vec::len), Some(92));
        for threads in [2, 3, 7, 100] {
            assert_eq!(run(threads, 300, 7..9_999), one);
        }
        assert_eq!(run(2, 0, 0..3).len(), 3);
        assert_eq!(run(4, 10, 5..5), []);
    }

    #[test]
    fn a_chunk_that_is_absent_is_told_and_the_others_come() {
        for threads in [1, 3] {
            let seen = run(threads, 4000, 0..16_000);
            let there: Vec<bool> = seen.iter().map(|(_, bytes)| bytes.is_some()).collect();
            assert_eq!(there, [true, true, false, false]);
        }
    }

    #[test]
    fn an_error_of_the_taker_ends_it() {
        let source = vec![0; 1 << 20];
        for threads in [1, 4] {
            let mut taken = 0;
            let done = in_order(&source, 0..1 << 20, Shape { chunk: 100, threads }, |at, _| {
                taken += 1;
                if at >= 1000 { Err(at) } else { Ok(()) }
            });
            assert_eq!((done, taken), (Err(1000), 11));
        }
    }
}
