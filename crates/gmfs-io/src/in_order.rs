//! Reading ahead of whoever writes it out: several threads read (and decode), one takes what they read in order. Memory
//! is bounded: three chunks for each thread.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use crate::{ReadAt, ReadError};

/// So many chunks are on their way for each thread.
const AHEAD: usize = 3;
/// So many steps that read nothing wait behind one another at most.
const WAITING: usize = 1024;

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

/// One step of a plan: what is to be read for it, if anything, and what it means to its taker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<T> {
    /// What is read: no more than a chunk, or memory is not bounded by [`Shape`].
    pub read: Option<Range<u64>>,
    /// What the taker is given with it.
    pub what: T,
}

/// Reads all of `range` and gives it to `take` in order, chunk by chunk: the offset, and the bytes or why there are
/// none. `take` runs on the caller's thread while others read on; its first error ends the reading.
///
/// A chunk that cannot be read is given as an error as a whole. Whoever wants what of it is there asks
/// [`ReadAt::next_absent`], or reads it again in pieces.
///
/// ```
/// use gmfs_io::in_order::{Shape, in_order};
/// let source: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
/// let mut copy = Vec::new();
/// let shape = Shape { chunk: 4096, threads: 2 };
/// in_order(&source, 0..1 << 20, shape, |_, bytes| {
///     copy.extend_from_slice(bytes?);
///     Ok::<_, gmfs_io::ReadError>(())
/// })?;
/// assert_eq!(copy, source);
/// # Ok::<(), gmfs_io::ReadError>(())
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
    let mut at = range.start;
    let steps = std::iter::from_fn(|| {
        let from = (at < range.end).then_some(at)?;
        at = at.saturating_add(chunk).min(range.end);
        Some(Step { read: Some(from..at), what: from })
    });
    steps_in_order(source, steps, shape.threads, |at, bytes| take(at, bytes.unwrap_or(Ok(&[]))))
}

/// Carries a plan out: reads for each of `steps` what it asks for and gives it to `take` in the order of the plan, with
/// the bytes, or why there are none, or nothing where nothing was to be read. The plan is asked for more on the caller's
/// thread, shortly before it is needed. `take` runs there too, while `threads` others read on; its first error ends it.
///
/// With one thread, and for a plan that reads once, no thread is started.
///
/// ```
/// use gmfs_io::in_order::{Step, steps_in_order};
/// let source = b"0123456789".to_vec();
/// let plan = [(Some(7..9), "two"), (None, "none"), (Some(0..1), "one")];
/// let mut seen = Vec::new();
/// steps_in_order(&source, plan.map(|(read, what)| Step { read, what }).into_iter(), 2, |what, bytes| {
///     seen.push((what, bytes.transpose()?.map(<[u8]>::to_vec)));
///     Ok::<_, gmfs_io::ReadError>(())
/// })?;
/// assert_eq!(seen, [("two", Some(b"78".to_vec())), ("none", None), ("one", Some(b"0".to_vec()))]);
/// # Ok::<(), gmfs_io::ReadError>(())
/// ```
///
/// # Errors
/// What `take` returned.
pub fn steps_in_order<S, T, E>(
    source: &S,
    mut steps: impl Iterator<Item = Step<T>>,
    threads: usize,
    mut take: impl FnMut(T, Option<Result<&[u8], ReadError>>) -> Result<(), E>,
) -> Result<(), E>
where
    S: ReadAt + ?Sized,
{
    let threads = threads.clamp(1, 64);
    std::thread::scope(|scope| {
        let mut readers: Vec<Reader> = Vec::new();
        let (mut waiting, mut idle) = (VecDeque::new(), Vec::new());
        let (mut reads, mut number) = (0_usize, 0_usize);
        let mut own = Vec::new();
        loop {
            // One thread alone reads when it is needed.
            let ahead = if threads == 1 { 1 } else { threads.saturating_mul(AHEAD) };
            while reads < ahead && waiting.len() < WAITING {
                let Some(step) = steps.next() else { break };
                if step.read.is_some() {
                    reads = reads.saturating_add(1);
                }
                waiting.push_back((step, None));
            }
            if readers.is_empty() && threads > 1 && reads > 1 {
                readers = (0..threads).map_while(|_| Reader::start(scope, source)).collect();
            }
            // What has nobody yet who reads it.
            for (step, reader) in &mut waiting {
                let (Some(read), None, false) = (&step.read, &reader, readers.is_empty()) else { continue };
                let turn = number.checked_rem(readers.len()).unwrap_or(0);
                number = number.wrapping_add(1);
                let job = (read.clone(), idle.pop().unwrap_or_default());
                if readers.get(turn).is_some_and(|chosen| chosen.jobs.send(job).is_ok()) {
                    *reader = Some(turn);
                }
            }
            let Some((Step { read, what }, reader)) = waiting.pop_front() else { return Ok(()) };
            let Some(read) = read else {
                take(what, None)?;
                continue;
            };
            reads = reads.saturating_sub(1);
            let arrived = reader.and_then(|turn| readers.get(turn)?.fulls.recv().ok());
            let from_reader = arrived.is_some();
            let (buf, used, done) = arrived.unwrap_or_else(|| fill(source, &read, std::mem::take(&mut own)));
            take(what, Some(done.map(|()| buf.get(..used).unwrap_or_default())))?;
            if from_reader {
                idle.push(buf);
            } else {
                own = buf;
            }
        }
    })
}

/// A chunk on its way: its buffer, how much of it counts, and how reading went.
type Filled = (Vec<u8>, usize, Result<(), ReadError>);

/// A thread that reads: what it is told to, and what it has read, in the same order.
struct Reader {
    jobs: Sender<(Range<u64>, Vec<u8>)>,
    fulls: Receiver<Filled>,
}

impl Reader {
    /// `None` if no thread can be had.
    fn start<'scope, S: ReadAt + ?Sized>(scope: &'scope Scope<'scope, '_>, source: &'scope S) -> Option<Self> {
        let (jobs, todo) = channel::<(Range<u64>, Vec<u8>)>();
        let (full, fulls) = channel();
        let read = move || {
            for (range, buf) in todo {
                // Nobody takes what comes behind an error.
                if full.send(fill(source, &range, buf)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn_scoped(scope, read).ok()?;
        Some(Self { jobs, fulls })
    }
}

fn fill<S: ReadAt + ?Sized>(source: &S, range: &Range<u64>, mut buf: Vec<u8>) -> Filled {
    let used = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    if buf.len() < used {
        buf.resize(used, 0);
    }
    let done = source.read_at(range.start, buf.get_mut(..used).unwrap_or_default());
    (buf, used, done)
}

#[cfg(test)]
#[expect(clippy::as_conversions, reason = "the numbers are the tests' own")]
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
    fn steps_come_in_the_order_of_the_plan() {
        let source: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let plan = |n: u64| {
            let read = (!n.is_multiple_of(3)).then(|| n * 7 % 9_000..n * 7 % 9_000 + n % 50);
            Step { read, what: n }
        };
        for threads in [1, 2, 5] {
            let mut seen = 0;
            let done = steps_in_order(&source, (0..3000).map(plan), threads, |n, bytes| {
                assert_eq!(n, seen);
                seen += 1;
                let expected = plan(n).read.map(|range| &source[range.start as usize..range.end as usize]);
                assert_eq!(bytes.transpose().unwrap(), expected);
                if n == 2500 { Err(n) } else { Ok(()) }
            });
            assert_eq!((done, seen), (Err(2500), 2501));
        }
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
