//! Work that several threads do ahead of one thread that takes the results in order: they read and decode, while it
//! writes out what came before. All reading ahead of gmfs is done here.
//!
//! [`in_order`] reads a range, [`steps_in_order`] reads what a plan says, and [`jobs_in_order`] does any work. Memory
//! is bounded: three results for each thread.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use crate::{ReadAt, ReadError};

/// How many jobs are under way for each thread.
const AHEAD: usize = 3;
/// How many steps without a job wait in a row at most.
const WAITING: usize = 1024;
/// More threads than this are not started.
const MOST: usize = 64;

/// As many threads as there are processors for this process. Asking how many there are reads files of /proc and /sys, which
/// takes longer than a small piece of work: it is asked once there is work for two.
pub const PROCESSORS: NonZeroUsize = NonZeroUsize::MAX;

/// How many of `threads` are of use for so many jobs, which need not be counted to their end: one if there are none.
///
/// ```
/// use gmfs_io::in_order::{PROCESSORS, threads_for};
/// assert_eq!(threads_for(4, 3), 3);
/// assert_eq!(threads_for(PROCESSORS.get(), 1), 1);
/// ```
pub fn threads_for(threads: usize, jobs: usize) -> usize {
    let most = if jobs > 1 && threads == PROCESSORS.get() { processors() } else { threads };
    most.min(jobs).max(1)
}

/// How many processors there are for this process; one if that is unknown.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

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
        Self { chunk: 256 << 10, threads: processors().min(16) }
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
/// If a part of a chunk cannot be read, the whole chunk is given as an error. To find what of it is there, ask
/// [`ReadAt::next_absent`], or read it again in pieces.
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

/// Carries a plan out: reads what each of `steps` asks for, and calls `take` for each step in the order of the plan,
/// with the bytes, or why there are none, or nothing if nothing was to be read. Further steps are taken from the plan
/// on the caller's thread, shortly before they are needed. `take` runs there too, while `threads` other threads read
/// on; its first error ends the work.
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
    steps: impl Iterator<Item = Step<T>>,
    threads: usize,
    mut take: impl FnMut(T, Option<Result<&[u8], ReadError>>) -> Result<(), E>,
) -> Result<(), E>
where
    S: ReadAt + ?Sized,
{
    let jobs = steps.map(|Step { read, what }| (read, what));
    let read = |range: Range<u64>, chunk: &mut Chunk| chunk.fill(source, &range);
    jobs_in_order(jobs, threads, read, |what, chunk| take(what, chunk.map(Chunk::taken)))
}

/// A chunk that was read: its buffer, how much of the buffer counts, and the error if it could not be read.
#[derive(Default)]
struct Chunk {
    buf: Vec<u8>,
    used: usize,
    failed: Option<ReadError>,
}

impl Chunk {
    fn fill<S: ReadAt + ?Sized>(&mut self, source: &S, range: &Range<u64>) {
        self.used = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        if self.buf.len() < self.used {
            self.buf.resize(self.used, 0);
        }
        self.failed = source.read_at(range.start, self.buf.get_mut(..self.used).unwrap_or_default()).err();
    }

    fn taken(&mut self) -> Result<&[u8], ReadError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.buf.get(..self.used).unwrap_or_default()),
        }
    }
}

/// Does jobs by several threads, and gives their results to `take` in the order of `jobs`.
///
/// Each item of `jobs` is a job, or none, and a value that `take` gets with the result. `work` does a job and leaves
/// its result in a `B`: a new one, or one whose result has been taken, so that buffers are used again. `take` runs on
/// the caller's thread. The next items of `jobs` are taken there too, shortly before they are needed. The first error
/// of `take` ends everything. With one thread, or if there is only one job, no thread is started, and `work` runs on
/// the caller's thread.
///
/// ```
/// use gmfs_io::in_order::jobs_in_order;
/// let jobs = [(Some(3_u64), "three"), (None, "nothing"), (Some(4), "four")];
/// let mut seen = Vec::new();
/// jobs_in_order(
///     jobs.into_iter(),
///     2,
///     |number, square: &mut u64| *square = number * number,
///     |what, square| {
///         seen.push((what, square.copied()));
///         Ok::<_, ()>(())
///     },
/// )?;
/// assert_eq!(seen, [("three", Some(9)), ("nothing", None), ("four", Some(16))]);
/// # Ok::<(), ()>(())
/// ```
///
/// # Errors
/// What `take` returned.
pub fn jobs_in_order<J, T, B, E>(
    mut jobs: impl Iterator<Item = (Option<J>, T)>,
    threads: usize,
    work: impl Fn(J, &mut B) + Sync,
    mut take: impl FnMut(T, Option<&mut B>) -> Result<(), E>,
) -> Result<(), E>
where
    J: Send,
    B: Default + Send,
{
    // Unknown until there is a second job.
    let mut threads =
        Some(threads).filter(|threads| *threads != PROCESSORS.get()).map(|threads| threads.clamp(1, MOST));
    let work = &work;
    std::thread::scope(|scope| {
        let mut workers: Vec<Worker<J, B>> = Vec::new();
        let mut waiting: VecDeque<(T, Waiting<J>)> = VecDeque::new();
        let mut idle: Vec<B> = Vec::new();
        let (mut under_way, mut number) = (0_usize, 0_usize);
        loop {
            // A single thread does each job when its result is needed.
            let ahead = threads.map_or(2, |threads| if threads == 1 { 1 } else { threads.saturating_mul(AHEAD) });
            while under_way < ahead && waiting.len() < WAITING {
                let Some((job, what)) = jobs.next() else { break };
                under_way = under_way.saturating_add(job.is_some().into());
                waiting.push_back((what, job.map_or(Waiting::Nothing, Waiting::Job)));
            }
            if under_way > 1 {
                let known = threads.is_some();
                let threads = *threads.get_or_insert_with(|| processors().clamp(1, MOST));
                if !known {
                    continue;
                }
                if workers.is_empty() && threads > 1 {
                    workers = (0..threads).map_while(|_| Worker::start(scope, work)).collect();
                }
            }
            // Jobs that no thread has yet.
            for (_, state) in &mut waiting {
                if workers.is_empty() || !matches!(state, Waiting::Job(_)) {
                    continue;
                }
                let turn = number.checked_rem(workers.len()).unwrap_or(0);
                number = number.wrapping_add(1);
                let Waiting::Job(job) = std::mem::replace(state, Waiting::At(turn)) else { continue };
                let sent = workers.get(turn).map(|worker| worker.jobs.send((job, idle.pop().unwrap_or_default())));
                // A thread that has panicked takes no job, and the scope passes the panic on.
                if !matches!(sent, Some(Ok(()))) {
                    return Ok(());
                }
            }
            let Some((what, state)) = waiting.pop_front() else { return Ok(()) };
            let mut result = match state {
                Waiting::Nothing => {
                    take(what, None)?;
                    continue;
                }
                Waiting::Job(job) => {
                    let mut result = idle.pop().unwrap_or_default();
                    work(job, &mut result);
                    result
                }
                Waiting::At(turn) => match workers.get(turn).and_then(|worker| worker.done.recv().ok()) {
                    Some(result) => result,
                    // The thread has panicked, as above.
                    None => return Ok(()),
                },
            };
            under_way = under_way.saturating_sub(1);
            take(what, Some(&mut result))?;
            idle.push(result);
        }
    })
}

/// The state of a job whose turn has not come.
enum Waiting<J> {
    /// The step has no job.
    Nothing,
    /// No thread has it.
    Job(J),
    /// This worker has it.
    At(usize),
}

/// A thread that works: the jobs that it is given, with a place for the result, and the results in the same order.
struct Worker<J, B> {
    jobs: Sender<(J, B)>,
    done: Receiver<B>,
}

impl<J: Send, B: Send> Worker<J, B> {
    /// `None` if no thread can be started.
    fn start<'scope, W>(scope: &'scope Scope<'scope, '_>, work: &'scope W) -> Option<Self>
    where
        J: 'scope,
        B: 'scope,
        W: Fn(J, &mut B) + Sync,
    {
        let (jobs, todo) = channel::<(J, B)>();
        let (ready, done) = channel();
        let run = move || {
            for (job, mut result) in todo {
                work(job, &mut result);
                // After an error nobody takes further results.
                if ready.send(result).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn_scoped(scope, run).ok()?;
        Some(Self { jobs, done })
    }
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
        for threads in [2, 3, 7, 100, PROCESSORS.get()] {
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
    fn results_come_in_order_and_their_places_are_used_again() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static MADE: AtomicUsize = AtomicUsize::new(0);
        struct Place(u64);
        impl Default for Place {
            fn default() -> Self {
                MADE.fetch_add(1, Ordering::Relaxed);
                Self(0)
            }
        }
        for threads in [1, 2, 7] {
            MADE.store(0, Ordering::Relaxed);
            // Jobs that borrow, as pieces of one buffer do.
            let mut bytes = vec![0_u8; 1000];
            let jobs = bytes.chunks_mut(3).enumerate().map(|(n, chunk)| (Some((n, chunk)), n as u64));
            let work = |(n, chunk): (usize, &mut [u8]), place: &mut Place| {
                chunk.fill((n % 256) as u8);
                place.0 += n as u64 + 1;
            };
            let mut sum = 0;
            let done = jobs_in_order(jobs, threads, work, |n, place| {
                let place = place.unwrap();
                assert_eq!(std::mem::take(&mut place.0), n + 1);
                sum += n;
                Ok::<_, ()>(())
            });
            assert_eq!((done, sum), (Ok(()), 333 * 334 / 2));
            assert!((0..1000).all(|at| bytes[at] == (at / 3 % 256) as u8));
            assert!(MADE.load(Ordering::Relaxed) <= threads * AHEAD, "{threads}");
        }
    }

    #[test]
    fn a_job_that_panics_is_not_forgotten() {
        let all = std::panic::catch_unwind(|| {
            let jobs = (0..100).map(|n| (Some(n), ()));
            jobs_in_order(jobs, 3, |n, _: &mut ()| assert_ne!(n, 50), |(), _| Ok::<_, ()>(()))
        });
        assert!(all.is_err());
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
