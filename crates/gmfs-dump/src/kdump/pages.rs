//! From page numbers to bytes: reads descriptors and data in large pieces, and decodes pages into the caller's buffer.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use gmfs_io::in_order::jobs_in_order;
use gmfs_io::{Absence, ReadAt, ReadError, Span};

use super::bitmap::read_what_is_there;
use super::codec::{Codec, Contexts};
use super::{KdumpDump, MAX_THREADS, Part};

/// The size of a descriptor in the file.
const DESCRIPTOR: usize = 24;
/// The same size, as an offset.
const DESCRIPTOR_BYTES: u64 = 24;
/// How many descriptors are read at once to count them: 192 KiB.
const COUNTED: u64 = 8192;
/// Requests for fewer descriptors than this read a larger window and keep it.
const SOME: usize = 128;
/// How many bytes of memory are one job for a thread.
const JOB: usize = 256 << 10;
/// Less memory than this is decoded by one thread.
const WORTH_HELP: usize = 512 << 10;
/// How many bytes of the file are read at once for several pages.
const RUN: u64 = 512 << 10;
/// Two pages are read together if at most this many bytes are between them.
const GAP: u64 = 16 << 10;

/// The location and the encoding of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptor {
    offset: u64,
    size: u32,
    flags: u32,
}

impl Descriptor {
    /// A descriptor past the end of the file. No page has this size.
    const CUT: Self = Self { offset: u64::MAX, size: u32::MAX, flags: 0 };
    /// A descriptor that is damaged in the file. It names no codec.
    const DAMAGED: Self = Self { offset: u64::MAX, size: u32::MAX, flags: u32::MAX };

    fn take(raw: &[u8], big: bool) -> Self {
        let mut bytes = [0; DESCRIPTOR];
        for (to, from) in bytes.iter_mut().zip(raw) {
            *to = *from;
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = bytes;
        let (offset, size, flags) = ([a, b, c, d, e, f, g, h], [i, j, k, l], [m, n, o, p]);
        if big {
            Self {
                offset: u64::from_be_bytes(offset),
                size: u32::from_be_bytes(size),
                flags: u32::from_be_bytes(flags),
            }
        } else {
            Self {
                offset: u64::from_le_bytes(offset),
                size: u32::from_le_bytes(size),
                flags: u32::from_le_bytes(flags),
            }
        }
    }

    const fn end(self) -> u64 {
        // Both numbers are from a file that may be hostile.
        self.offset.saturating_add(u64_of(self.size))
    }

    /// The codec of the page in a file of `file` bytes, or why the page cannot be read.
    fn judge(self, page: u64, file: u64) -> Result<Codec, Absence> {
        // The writer leaves zeros where it had no data. No page is at offset 0, because the header is there.
        if self.offset == 0 || self.size == 0 {
            return Err(Absence::NoData);
        }
        if self.offset == u64::MAX && self.size == u32::MAX && self.flags == 0 {
            return Err(Absence::Truncated);
        }
        let codec = Codec::of_flags(self.flags).ok_or(Absence::Undecodable)?;
        let size = u64::from(self.size);
        let sane = match codec {
            Codec::Stored => size == page,
            _ => size > 0 && size < page,
        };
        if !sane || i64::try_from(self.offset).is_err() {
            return Err(Absence::Undecodable);
        }
        if self.end() > file { Err(Absence::Truncated) } else { Ok(codec) }
    }
}

/// `u64::from`, which a constant function cannot call.
#[expect(clippy::as_conversions, reason = "it widens")]
const fn u64_of(number: u32) -> u64 {
    number as u64
}

/// The buffers and decoder contexts of one thread.
pub(super) struct Worker {
    raw: Vec<u8>,
    descriptors: Vec<Descriptor>,
    data: Vec<u8>,
    contexts: Contexts,
}

impl Worker {
    fn new() -> Self {
        Self { raw: Vec::new(), descriptors: Vec::new(), data: Vec::new(), contexts: Contexts::new() }
    }
}

/// Why filling stopped, and at which page.
struct Stop {
    index: usize,
    why: Why,
}

enum Why {
    Absent(Absence),
    Io(std::io::Error),
}

impl Stop {
    const fn absent(index: usize, why: Absence) -> Self {
        Self { index, why: Why::Absent(why) }
    }

    fn of(index: usize, error: ReadError) -> Self {
        match error {
            ReadError::Absent { why, .. } => Self::absent(index, lost(why)),
            ReadError::Io { source, .. } => Self { index, why: Why::Io(source) },
        }
    }
}

/// The reason for which a page is absent if its bytes are absent in the file because of `why`: a record of a flattened
/// stream was damaged, or the stream or the file was cut since the dump was opened.
pub(super) const fn lost(why: Absence) -> Absence {
    if matches!(why, Absence::Undecodable) { why } else { Absence::Truncated }
}

/// How to read the pages of consecutive descriptors.
struct Run {
    /// How many pages it covers.
    count: usize,
    /// The offset in the file where the last of them ends.
    end: u64,
    /// Whether the pages are not compressed and are consecutive in the file.
    plain: bool,
}

impl<R: ReadAt> KdumpDump<R> {
    fn page_len(&self) -> usize {
        usize::try_from(self.page).unwrap_or(usize::MAX)
    }

    fn threads(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        *self.threads.get_or_init(processors)
    }

    fn worker(&self) -> Worker {
        self.idle.lock().ok().and_then(|mut idle| idle.pop()).unwrap_or_else(Worker::new)
    }

    fn dismiss(&self, worker: Worker) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < MAX_THREADS
        {
            idle.push(worker);
        }
    }

    /// The part with the descriptor of `page`.
    fn part_of(&self, page: u64) -> Option<&Part<R>> {
        self.parts.iter().find(|part| part.start <= page && page < part.end)
    }

    /// Fills `buf` from `offset`, which is in the first of `pages`. All of these pages have descriptors.
    pub(super) fn read_pages(&self, offset: u64, buf: &mut [u8], pages: Range<u64>) -> Result<(), ReadError> {
        let Some(file) = self.bitmap_file() else { return Ok(()) };
        let whole = Span::new(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX));
        let mut rank = self.maps.rank(file, pages.start).map_err(|e| super::of_index(e, whole))?;
        let mut page = pages.start;
        let mut rest = buf;
        let skipped = usize::try_from(offset.saturating_sub(self.address(page))).unwrap_or(0);
        if skipped != 0 || rest.len() < self.page_len() {
            let length = self.page_len().saturating_sub(skipped).min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            self.read_partly(page, rank, skipped, now)?;
            rest = later;
            page = page.saturating_add(1);
            rank = rank.saturating_add(1);
        }
        let count = rest.len().checked_div(self.page_len()).unwrap_or(0);
        let (middle, tail) = rest.split_at_mut(count.saturating_mul(self.page_len()));
        self.read_whole(page, rank, middle)?;
        if tail.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.read_partly(page.saturating_add(count), rank.saturating_add(count), 0, tail)
    }

    /// Fills `buf` from byte `from` of a page. The page is kept for the next read of it.
    fn read_partly(&self, page: u64, rank: u64, from: usize, buf: &mut [u8]) -> Result<(), ReadError> {
        let kept = self.last.lock().ok().and_then(|mut last| last.take());
        let bytes = match kept {
            Some((number, bytes)) if number == page => bytes,
            other => {
                let mut bytes = match other {
                    Some((_, bytes)) => bytes,
                    None => vec![0; self.page_len()].into_boxed_slice(),
                };
                let mut worker = self.worker();
                let filled = self.fill(page, rank, &mut bytes, &mut worker);
                self.dismiss(worker);
                filled.map_err(|error| clipped(error, self.address(page), from, buf.len()))?;
                bytes
            }
        };
        if let Some(bytes) = bytes.get(from..from.saturating_add(buf.len())) {
            buf.copy_from_slice(bytes);
        }
        if let Ok(mut last) = self.last.lock() {
            *last = Some((page, bytes));
        }
        Ok(())
    }

    /// Fills `out` with whole pages, by several threads if that is worth it.
    fn read_whole(&self, first: u64, rank: u64, out: &mut [u8]) -> Result<(), ReadError> {
        if out.is_empty() {
            return Ok(());
        }
        let per_job = JOB.checked_div(self.page_len()).unwrap_or(1).max(1);
        let bytes = per_job.saturating_mul(self.page_len());
        let jobs = out.len().div_ceil(bytes);
        let wanted = if out.len() < WORTH_HELP { 1 } else { self.threads().min(jobs) };
        let helpers = if wanted > 1 { self.hire(wanted.saturating_sub(1)) } else { 0 };
        let work = |(number, out): (usize, &mut [u8]), failed: &mut Option<ReadError>| {
            let ahead = u64::try_from(number.saturating_mul(per_job)).unwrap_or(u64::MAX);
            let mut worker = self.worker();
            *failed = self.fill(first.saturating_add(ahead), rank.saturating_add(ahead), out, &mut worker).err();
            self.dismiss(worker);
        };
        let pieces = out.chunks_mut(bytes).enumerate().map(|piece| (Some(piece), ()));
        let threads = helpers.saturating_add(1);
        let done = jobs_in_order(pieces, threads, work, |(), failed| match failed.and_then(Option::take) {
            Some(error) => Err(error),
            None => Ok(()),
        });
        self.helpers.fetch_sub(helpers, Ordering::Relaxed);
        done
    }

    /// Takes up to `wanted` of the threads that may help in this dump.
    fn hire(&self, wanted: usize) -> usize {
        let mut got = 0;
        let _ = self.helpers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| {
            got = wanted.min(self.threads().saturating_sub(1).saturating_sub(busy));
            Some(busy.saturating_add(got))
        });
        got
    }

    /// Fills `out` with whole pages. `rank` is how many pages of the dump come before `first`.
    fn fill(&self, first: u64, rank: u64, out: &mut [u8], worker: &mut Worker) -> Result<(), ReadError> {
        let (mut page, mut rank) = (first, rank);
        let mut rest = out;
        while !rest.is_empty() {
            let here = Span::new(self.address(page), self.page);
            let Some(part) = self.part_of(page) else {
                return Err(ReadError::Absent { span: here, why: Absence::Truncated });
            };
            let count = rest.len().checked_div(self.page_len()).unwrap_or(0);
            let count = count.min(usize::try_from(part.end.saturating_sub(page)).unwrap_or(count)).max(1);
            let bytes = count.saturating_mul(self.page_len()).min(rest.len());
            let (now, later) = rest.split_at_mut(bytes);
            // After reading a single page, callers mostly ask for the descriptors that follow it.
            let loaded = if count == 1 {
                self.load_some(part, rank, count, worker)
            } else {
                self.load(part, rank, count, worker)
            };
            loaded.map_err(|error| super::of_index(error, here))?;
            self.fill_from(part, now, worker).map_err(|stop| {
                let index = u64::try_from(stop.index).unwrap_or(u64::MAX);
                let span = Span::new(self.address(page.saturating_add(index)), self.page);
                match stop.why {
                    Why::Absent(why) => ReadError::Absent { span, why },
                    Why::Io(source) => ReadError::Io { span, source },
                }
            })?;
            let done = u64::try_from(count).unwrap_or(u64::MAX);
            (page, rank) = (page.saturating_add(done), rank.saturating_add(done));
            rest = later;
        }
        Ok(())
    }

    /// Reads `count` descriptors. Those that the file lacks become `CUT` or `DAMAGED`.
    fn load(&self, part: &Part<R>, rank: u64, count: usize, worker: &mut Worker) -> Result<(), ReadError> {
        let at = part.descriptor_at(rank);
        // Nothing can be read past the end of the file.
        let left = usize::try_from(part.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let there = count.saturating_mul(DESCRIPTOR).min(left);
        worker.raw.resize(there, 0);
        let whole = read_what_is_there(&part.file, at, &mut worker.raw)?;
        // A descriptor that is cut off is dropped; it becomes `CUT` below.
        let big = self.facts.big_endian;
        worker.descriptors.clear();
        worker.descriptors.extend(worker.raw.chunks_exact(DESCRIPTOR).map(|raw| Descriptor::take(raw, big)));
        worker.descriptors.resize(count, Descriptor::CUT);
        if whole {
            return Ok(());
        }
        // Descriptors that a flattened stream lost, or that were truncated since, have been read as zeros.
        for (place, descriptor) in (at..).step_by(DESCRIPTOR).zip(&mut worker.descriptors) {
            match part.file.next_absent(place..place.saturating_add(DESCRIPTOR_BYTES)) {
                Some((_, Absence::Undecodable)) => *descriptor = Descriptor::DAMAGED,
                Some(_) => *descriptor = Descriptor::CUT,
                // Zeros may be a descriptor that was truncated since, so it is read again.
                None if descriptor.offset == 0 => {
                    let mut again = [0; DESCRIPTOR];
                    if matches!(part.file.read_at(place, &mut again), Err(ReadError::Absent { .. })) {
                        *descriptor = Descriptor::CUT;
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Like [`load`](Self::load), but it keeps what it reads, for searches that continue with the descriptors that
    /// follow. Where pages are scattered, such a search asks for few descriptors at a time.
    fn load_some(&self, part: &Part<R>, rank: u64, count: usize, worker: &mut Worker) -> Result<(), ReadError> {
        if count >= SOME {
            return self.load(part, rank, count, worker);
        }
        let first = rank.saturating_sub(part.before);
        let mut list = Vec::with_capacity(count);
        let mut windows = part.windows.lock().unwrap_or_else(PoisonError::into_inner);
        while list.len() < count {
            let at = first.saturating_add(u64::try_from(list.len()).unwrap_or(0));
            if let Some(held) = windows.find(at) {
                list.extend(held.iter().take(count.saturating_sub(list.len())));
                continue;
            }
            let (wanted, mut room) = windows.room(at, u64::MAX);
            self.load(part, at.saturating_add(part.before), wanted, worker)?;
            room.extend_from_slice(&worker.descriptors);
            windows.keep(at, room);
        }
        worker.descriptors = list;
        Ok(())
    }

    /// Like [`Descriptor::judge`]. If the dump's writer ran out of space, pages without data were cut off.
    fn judge(&self, descriptor: Descriptor, part: &Part<R>) -> Result<Codec, Absence> {
        descriptor.judge(self.page, part.size).map_err(|why| match why {
            Absence::NoData if part.incomplete => Absence::Truncated,
            why => why,
        })
    }

    /// Whether the page is the zero page that other pages share.
    fn is_shared_zero(&self, descriptor: Descriptor, zero: u64) -> bool {
        descriptor.offset == zero && zero != 0 && descriptor.flags == 0 && u64::from(descriptor.size) == self.page
    }

    /// Fills `out` with the pages of the worker's descriptors.
    fn fill_from(&self, part: &Part<R>, out: &mut [u8], worker: &mut Worker) -> Result<(), Stop> {
        let Worker { descriptors, data, contexts, .. } = worker;
        let length = self.page_len();
        let zero = part.zero.load(Ordering::Relaxed);
        let mut limit = usize::MAX;
        let mut done = 0;
        while let Some(descriptor) = descriptors.get(done).copied() {
            let codec = self.judge(descriptor, part).map_err(|why| Stop::absent(done, why))?;
            let from = done.saturating_mul(length);
            if self.is_shared_zero(descriptor, zero) {
                out.get_mut(from..from.saturating_add(length)).unwrap_or_default().fill(0);
                done = done.saturating_add(1);
                continue;
            }
            let waiting = descriptors.get(done..).unwrap_or_default();
            let run = self.gather(waiting.get(..limit.min(waiting.len())).unwrap_or_default(), part.size, zero);
            let place = out.get_mut(from..from.saturating_add(run.count.saturating_mul(length)));
            let place = place.unwrap_or_default();
            let read = if run.plain {
                part.file.read_at(descriptor.offset, place)
            } else {
                data.resize(usize::try_from(run.end.saturating_sub(descriptor.offset)).unwrap_or(0), 0);
                part.file.read_at(descriptor.offset, data)
            };
            match read {
                Ok(()) => {}
                // Reads again page by page, to find out which page failed.
                Err(_) if run.count > 1 => {
                    limit = 1;
                    continue;
                }
                Err(error) => return Err(Stop::of(done, error)),
            }
            if run.plain {
                if run.count == 1 && codec == Codec::Stored && place.iter().all(|b| *b == 0) {
                    part.zero.store(descriptor.offset, Ordering::Relaxed);
                }
            } else {
                let used = waiting.get(..run.count).unwrap_or_default();
                self.decode(used, descriptor.offset, data, zero, place, contexts)
                    .map_err(|index| Stop::absent(done.saturating_add(index), Absence::Undecodable))?;
            }
            done = done.saturating_add(run.count);
        }
        Ok(())
    }

    /// How many pages can be read at once, starting with the first. The first descriptor is known to be valid.
    fn gather(&self, descriptors: &[Descriptor], file: u64, zero: u64) -> Run {
        let mut run = Run { count: 0, end: 0, plain: true };
        let start = descriptors.first().map_or(0, |first| first.offset);
        for descriptor in descriptors {
            if self.is_shared_zero(*descriptor, zero) {
                run = Run { count: run.count.saturating_add(1), plain: false, ..run };
                continue;
            }
            let Ok(codec) = descriptor.judge(self.page, file) else { break };
            let follows = descriptor.offset == run.end || run.count == 0;
            let near = descriptor.offset >= run.end
                && descriptor.offset.saturating_sub(run.end) <= GAP
                && descriptor.end().saturating_sub(start) <= RUN;
            if run.count > 0 && !near {
                break;
            }
            let plain = run.plain && follows && codec == Codec::Stored;
            run = Run { count: run.count.saturating_add(1), end: descriptor.end(), plain };
        }
        run
    }

    /// Decodes pages whose bytes are in `data`, which begins at file offset `start`. On failure it returns the index of
    /// the page.
    fn decode(
        &self,
        descriptors: &[Descriptor],
        start: u64,
        data: &[u8],
        zero: u64,
        out: &mut [u8],
        contexts: &mut Contexts,
    ) -> Result<(), usize> {
        for ((index, descriptor), page) in descriptors.iter().enumerate().zip(out.chunks_exact_mut(self.page_len())) {
            if self.is_shared_zero(*descriptor, zero) {
                page.fill(0);
                continue;
            }
            let at = |place: u64| usize::try_from(place.saturating_sub(start)).unwrap_or(usize::MAX);
            let stored = data.get(at(descriptor.offset)..at(descriptor.end()));
            let codec = Codec::of_flags(descriptor.flags);
            let (Some(stored), Some(codec)) = (stored, codec) else { return Err(index) };
            if !contexts.decode(codec, stored, page) {
                return Err(index);
            }
        }
        Ok(())
    }

    /// What the descriptors of `pages` say, without decoding. All of these pages have descriptors.
    pub(super) fn verdicts(&self, pages: Range<u64>, out: &mut Vec<Option<Absence>>) -> Result<(), ReadError> {
        out.clear();
        self.each_batch(pages, |descriptors, part| self.judge_each(descriptors, part, out))
    }

    /// Appends what each descriptor says, without decoding.
    fn judge_each(&self, descriptors: &[Descriptor], part: &Part<R>, out: &mut Vec<Option<Absence>>) {
        let from = out.len();
        out.extend(descriptors.iter().map(|descriptor| self.judge(*descriptor, part).err()));
        // A flattened stream that was cut short may lack ranges before its end.
        let verdicts = out.get_mut(from..).unwrap_or_default();
        let good = || descriptors.iter().zip(verdicts.iter()).filter(|(_, verdict)| verdict.is_none());
        let start = good().map(|(descriptor, _)| descriptor.offset).min();
        let end = good().map(|(descriptor, _)| descriptor.end()).max();
        let (Some(start), Some(end)) = (start, end) else { return };
        if part.file.next_absent(start..end).is_none() {
            return;
        }
        for (descriptor, verdict) in descriptors.iter().zip(verdicts) {
            if verdict.is_none()
                && let Some((_, why)) = part.file.next_absent(descriptor.offset..descriptor.end())
            {
                *verdict = Some(lost(why));
            }
        }
    }

    /// Counts the bytes of a range's pages that are absent although they have a descriptor, by reason, without
    /// decoding. The descriptors of a range are consecutive in the file, even if its pages are scattered.
    pub(super) fn lost_pages(&self, pages: &Range<u64>) -> Result<BTreeMap<Absence, u64>, ReadError> {
        let mut found = BTreeMap::new();
        let Some(file) = self.bitmap_file() else { return Ok(found) };
        let mut worker = self.worker();
        let mut verdicts = Vec::new();
        for part in &self.parts {
            let (from, to) = (pages.start.max(part.start), pages.end.min(part.end));
            let mut rank = self.maps.rank(file, from)?;
            let end = self.maps.rank(file, to.max(from))?;
            while rank < end {
                let held =
                    part.size.saturating_sub(part.descriptor_at(rank)).checked_div(DESCRIPTOR_BYTES).unwrap_or(0);
                let mut note = |why: Absence, pages: u64| {
                    let sum: &mut u64 = found.entry(why).or_default();
                    *sum = sum.saturating_add(pages.saturating_mul(self.page));
                };
                if held == 0 {
                    note(Absence::Truncated, end.saturating_sub(rank));
                    break;
                }
                let count = end.saturating_sub(rank).min(held).min(COUNTED);
                self.load(part, rank, usize::try_from(count).unwrap_or(0), &mut worker)?;
                verdicts.clear();
                self.judge_each(&worker.descriptors, part, &mut verdicts);
                for why in verdicts.iter().flatten() {
                    note(*why, 1);
                }
                rank = rank.saturating_add(count);
            }
        }
        self.dismiss(worker);
        Ok(found)
    }

    /// Which of `pages` are the zero page that others share. All of these pages have descriptors.
    pub(super) fn zeros(&self, pages: Range<u64>, out: &mut Vec<bool>) -> Result<(), ReadError> {
        out.clear();
        self.each_batch(pages, |descriptors, part| {
            let zero = part.zero.load(Ordering::Relaxed);
            out.extend(descriptors.iter().map(|descriptor| self.is_shared_zero(*descriptor, zero)));
        })
    }

    /// Calls `take` with the descriptors of `pages`, part by part.
    fn each_batch(&self, pages: Range<u64>, mut take: impl FnMut(&[Descriptor], &Part<R>)) -> Result<(), ReadError> {
        let Some(file) = self.bitmap_file() else { return Ok(()) };
        let mut rank = self.maps.rank(file, pages.start)?;
        let mut page = pages.start;
        let mut worker = self.worker();
        while page < pages.end {
            let Some(part) = self.part_of(page) else { break };
            let count = pages.end.min(part.end).saturating_sub(page);
            self.load_some(part, rank, usize::try_from(count).unwrap_or(0), &mut worker)?;
            take(&worker.descriptors, part);
            (page, rank) = (page.saturating_add(count), rank.saturating_add(count));
        }
        self.dismiss(worker);
        Ok(())
    }
}

/// Converts an error about a page to one about `length` bytes from byte `from` of that page.
fn clipped(error: ReadError, page: u64, from: usize, length: usize) -> ReadError {
    let size = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let span = Span::new(page.saturating_add(size(from)), size(length));
    match error {
        ReadError::Absent { why, .. } => ReadError::Absent { span, why },
        ReadError::Io { source, .. } => ReadError::Io { span, source },
    }
}
