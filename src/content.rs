//! Bytes out of a region: what is there, what is known to be zero, and what cannot be told. What cannot be told never
//! leaves as zeros.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use anyhow::Result;
use gmfs_format::model::Piece;
use gmfs_format::native::units::{PAGE_BYTES, PAGE_SIZE};
use gmfs_io::in_order::{Shape, Step, steps_in_order};
use gmfs_io::{Absence, FilePart, ReadAt, ReadError, Span};

use crate::failure::Failure;
use crate::kernel_copy::KernelCopy;
use crate::output;
use crate::render::progress::Progress;
use crate::render::size;

/// Bytes that one of several threads reads at once.
const CHUNK: u64 = 256 << 10;
/// Bytes read at once where no other thread reads: what a pipe holds. Larger reads made `gmfs cat | ...` slower, and
/// copies between files no faster.
const PIPEFUL: u64 = 64 << 10;
/// Initial look-ahead for holes and absent ranges; it doubles while there is only one kind of them, or only data. A
/// look costs: tmpfs searches the whole rest of a file for the next hole, whatever the look-ahead.
const LOOK: u64 = 64 << 20;
/// So many ranges are named in one message.
const NAMED: usize = 4;
/// A page of zeros.
static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Why bytes cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The image does not hold them.
    Absent(Absence),
    /// Their block has a hardware error.
    Bad,
    /// They are there and cannot be read.
    Unreadable,
    /// The descriptor that told where they are is lost.
    Lost,
}

impl Why {
    /// A word for programs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Absent(why) => why.name(),
            Self::Bad => "bad-block",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(why) => why.fmt(f),
            Self::Bad => f.write_str("in a block with a hardware error"),
            Self::Unreadable => f.write_str("cannot be read"),
            Self::Lost => f.write_str("lost: nothing tells any more which block held it"),
        }
    }
}

/// A stretch that cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Where in the output.
    pub(crate) span: Span,
    /// Where in the region it lies, if that is known.
    pub(crate) at: Option<u64>,
    /// Why.
    pub(crate) why: Why,
}

/// Ranges that cannot be told, neighbours joined.
#[derive(Debug, Default)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(crate) fn add(&mut self, gap: Gap) {
        match self.0.last_mut() {
            Some(last)
                if last.span.end() == gap.span.offset
                    && last.at.map(|at| at.saturating_add(last.span.len)) == gap.at
                    && last.why == gap.why =>
            {
                last.span.len = last.span.len.saturating_add(gap.span.len);
            }
            _ => self.0.push(gap),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Gap> + Clone + '_ {
        self.0.iter().copied()
    }

    /// All bytes of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|gap| gap.span.len).sum()
    }

    /// All of them in a sentence, the first few by place; with the memory's address if the region's base is known.
    pub(crate) fn describe(&self, base: Option<u64>) -> String {
        let mut text = format!("{} cannot be told: ", size::both(self.bytes()));
        for (n, gap) in self.0.iter().take(NAMED).enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            let place = match (base, gap.at) {
                (Some(base), Some(at)) => format!(" (memory at {:#x})", base.saturating_add(at)),
                (None, Some(at)) => format!(" ({at:#x} in the region)"),
                (_, None) => String::new(),
            };
            text.push_str(&format!("{separator}{} {}{place}", gap.span, gap.why));
        }
        if self.0.len() > NAMED {
            text.push_str(&format!("; and {} more ranges", self.0.len() - NAMED));
        }
        text
    }

    /// The error for whoever wants all of the bytes or none.
    pub(crate) fn refuse(&self, base: Option<u64>) -> Failure {
        Failure::new("absent", self.describe(base))
    }
}

/// Where bytes go. Offsets are the output's, and rise.
pub(crate) trait Sink {
    /// These bytes are there.
    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
    /// These bytes are there too, in a file from which the kernel can copy them. Returns how many bytes it copied; the
    /// others are read and come as `data`.
    fn copy_part(&mut self, _at: u64, _part: FilePart<'_>) -> Result<u64> {
        Ok(0)
    }
    /// These are known to be zero.
    fn zeros(&mut self, span: Span) -> Result<()>;
    /// These cannot be told.
    fn gap(&mut self, gap: Gap) -> Result<()>;
}

/// What a step of a plan means. Places are the output's.
#[derive(Clone, Copy, Debug)]
enum What<'s> {
    /// Bytes, and where in the source they are.
    Data { to: Span, from: u64 },
    /// Bytes that are in a file just as they are.
    InFile { to: Span, from: u64, part: FilePart<'s> },
    /// Known zeros.
    Zeros(Span),
    /// Nothing that can be told.
    Gap(Gap),
}

/// How to carry one stretch of a source: what is absent, what is a hole, and what is left: chunk by chunk, so that
/// several threads can decode it, or at once if it only has to be copied out of a file.
struct Plan<'s, S: ?Sized> {
    source: &'s S,
    range: Range<u64>,
    /// Where `range.start` of the beginning goes.
    shift: (u64, u64),
    /// How far what comes next is known to be data.
    data: u64,
    look: u64,
}

impl<'s, S: ReadAt + ?Sized> Plan<'s, S> {
    fn new(source: &'s S, from: u64, to: Span) -> Self {
        let range = from..from.saturating_add(to.len);
        Self { source, range, shift: (from, to.offset), data: 0, look: LOOK }
    }

    /// From the front of the range up to here, which is then passed: in the output's places.
    fn pass(&mut self, stop: u64) -> Span {
        let from = std::mem::replace(&mut self.range.start, stop);
        let (start, out) = self.shift;
        Span::new(out.saturating_add(from.saturating_sub(start)), stop.saturating_sub(from))
    }

    fn chunk(&mut self) -> Step<What<'s>> {
        let from = self.range.start;
        let source = self.source;
        if let Some(part) = source.file_part(from..self.data) {
            let to = self.pass(from.saturating_add(part.len.max(1)).min(self.data));
            return Step { read: None, what: What::InFile { to, from, part: FilePart { len: to.len, ..part } } };
        }
        let stop = self.data.min(from.saturating_add(CHUNK));
        Step { read: Some(from..stop), what: What::Data { to: self.pass(stop), from } }
    }
}

impl<'s, S: ReadAt + ?Sized> Iterator for Plan<'s, S> {
    type Item = Step<What<'s>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at, end) = (self.range.start, self.range.end);
        if at >= end {
            return None;
        }
        if at < self.data {
            return Some(self.chunk());
        }
        let limit = end.min(at.saturating_add(self.look));
        self.look = self.look.saturating_mul(2);
        let absent = self.source.next_absent(at..limit);
        if let Some((span, why)) = absent.filter(|(span, _)| span.offset <= at) {
            let span = self.pass(span.end().clamp(at.saturating_add(1), limit));
            return Some(Step { read: None, what: What::Gap(Gap { span, at: Some(at), why: Why::Absent(why) }) });
        }
        let stop = absent.map_or(limit, |(span, _)| span.offset.min(limit));
        // A source that cannot tell is read.
        let data = self.source.next_data(at..stop).unwrap_or(Some(at..stop));
        let start = data.as_ref().map_or(stop, |data| data.start.clamp(at, stop));
        self.data = data.map_or(start, |data| data.end.clamp(start, stop));
        if start > at {
            return Some(Step { read: None, what: What::Zeros(self.pass(start)) });
        }
        if self.data < limit {
            self.look = LOOK;
        }
        // Nothing may stand still, whatever a source says.
        self.data = self.data.max(at.saturating_add(1));
        Some(self.chunk())
    }
}

/// The steps for a file's piece.
fn steps<'s, S: ReadAt + ?Sized>(source: &'s S, piece: &Piece) -> Box<dyn Iterator<Item = Step<What<'s>>> + 's> {
    let one = |what| Box::new(std::iter::once(Step { read: None, what }));
    match *piece {
        Piece::Hole { file } => one(What::Zeros(file)),
        Piece::Data { file, at, bad: true } => one(What::Gap(Gap { span: file, at: Some(at), why: Why::Bad })),
        Piece::Lost { file } => one(What::Gap(Gap { span: file, at: None, why: Why::Lost })),
        Piece::Data { file, at, bad: false } => Box::new(Plan::new(source, at, file)),
    }
}

/// Carries a file's pieces from the region in `source`, in order. What only has to be copied out of a file is copied by
/// the kernel, or read right here: threads would cost more than they gain. Everything else is read by several threads.
pub(crate) fn carry_pieces<S: ReadAt + ?Sized>(source: &S, pieces: &[Piece], sink: &mut impl Sink) -> Result<()> {
    let plan = pieces.iter().flat_map(|piece| steps(source, piece));
    let mut buffer = Vec::new();
    steps_in_order(source, plan, Shape::default().threads, |what, bytes| match (what, bytes) {
        (What::Data { to, .. }, Some(Ok(bytes))) => sink.data(to.offset, bytes),
        (What::Data { to, from }, _) => by_page(source, from, to, sink),
        (What::InFile { to, from, part }, _) => {
            let copied = sink.copy_part(to.offset, part)?.min(to.len);
            let rest = Span::new(to.offset.saturating_add(copied), to.len.saturating_sub(copied));
            by_chunk(source, from.saturating_add(copied), rest, &mut buffer, sink)
        }
        (What::Zeros(span), _) => sink.zeros(span),
        (What::Gap(gap), _) => sink.gap(gap),
    })
}

/// Carries the first `len` bytes of `source`.
pub(crate) fn carry<S: ReadAt + ?Sized>(source: &S, len: u64, sink: &mut impl Sink) -> Result<()> {
    carry_pieces(source, &[Piece::Data { file: Span::new(0, len), at: 0, bad: false }], sink)
}

/// Reads piece by piece on this thread.
fn by_chunk<S: ReadAt + ?Sized>(
    source: &S,
    from: u64,
    to: Span,
    buffer: &mut Vec<u8>,
    sink: &mut impl Sink,
) -> Result<()> {
    let mut done = 0;
    while done < to.len {
        let length = PIPEFUL.min(to.len - done);
        buffer.resize(usize::try_from(length)?, 0);
        match source.read_at(from + done, buffer) {
            Ok(()) => sink.data(to.offset + done, buffer)?,
            Err(_) => by_page(source, from + done, Span::new(to.offset + done, length), sink)?,
        }
        done += length;
    }
    Ok(())
}

/// Reads page by page what could not be read at once, so that only what is lost is lost.
fn by_page<S: ReadAt + ?Sized>(source: &S, from: u64, to: Span, sink: &mut impl Sink) -> Result<()> {
    let end = from.saturating_add(to.len);
    let mut at = from;
    let mut page = [0; PAGE_SIZE];
    while at < end {
        let stop = (at / PAGE_BYTES).saturating_add(1).saturating_mul(PAGE_BYTES).min(end);
        let length = usize::try_from(stop - at).unwrap_or(PAGE_SIZE);
        let span = Span::new(to.offset + (at - from), stop - at);
        match source.read_at(at, &mut page[..length]) {
            Ok(()) => sink.data(span.offset, &page[..length])?,
            Err(ReadError::Absent { why, .. }) => sink.gap(Gap { span, at: Some(at), why: Why::Absent(why) })?,
            Err(ReadError::Io { .. }) => sink.gap(Gap { span, at: Some(at), why: Why::Unreadable })?,
        }
        at = stop;
    }
    Ok(())
}

/// What of a file's pieces is known beforehand not to be there, without reading any of it.
pub(crate) fn known_gaps<S: ReadAt + ?Sized>(source: &S, pieces: &[Piece]) -> Gaps {
    let mut gaps = Gaps::default();
    for piece in pieces {
        let (file, at) = match *piece {
            Piece::Hole { .. } => continue,
            Piece::Lost { file } => {
                gaps.add(Gap { span: file, at: None, why: Why::Lost });
                continue;
            }
            Piece::Data { file, at, bad: true } => {
                gaps.add(Gap { span: file, at: Some(at), why: Why::Bad });
                continue;
            }
            Piece::Data { file, at, bad: false } => (file, at),
        };
        let end = at.saturating_add(file.len);
        let mut next = at;
        while let Some((span, why)) = source.next_absent(next..end) {
            let from = span.offset.max(at);
            let span = Span::new(file.offset + (from - at), span.end().min(end).saturating_sub(from));
            gaps.add(Gap { span, at: Some(from), why: Why::Absent(why) });
            next = from.saturating_add(span.len).max(next + 1);
        }
    }
    gaps
}

/// A sparse file in the making. Holes of the source stay holes, and so do pages of zeros, except those that the kernel
/// copies from file to file: gmfs does not see them. The file grows as bytes arrive, and gets its full length at the end.
pub(crate) struct SparseFile<'a> {
    file: &'a File,
    size: u64,
    /// What could not be told: holes too.
    pub(crate) gaps: Gaps,
    /// Bytes that were written.
    pub(crate) written: u64,
    progress: &'a Progress,
    kernel: KernelCopy,
}

impl<'a> SparseFile<'a> {
    /// `file` is new and empty.
    pub(crate) fn new(file: &'a File, size: u64, progress: &'a Progress) -> Self {
        Self { file, size, gaps: Gaps::default(), written: 0, progress, kernel: KernelCopy::default() }
    }

    /// Ends the work: the file has its length, and everything is with the medium, errors included.
    pub(crate) fn finish(self) -> io::Result<(Gaps, u64)> {
        self.file.set_len(self.size)?;
        self.file.sync_all()?;
        Ok((self.gaps, self.written))
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        self.file.write_all_at(bytes, at)
    }
}

impl Sink for SparseFile<'_> {
    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        output::go_on()?;
        self.progress.at(at.saturating_add(bytes.len() as u64));
        let mut start = 0;
        for (n, page) in bytes.chunks(PAGE_SIZE).enumerate() {
            if *page == ZEROS[..page.len()] {
                let end = n * PAGE_SIZE;
                if start < end {
                    self.write(at + start as u64, &bytes[start..end])?;
                }
                start = end + page.len();
            }
        }
        if start < bytes.len() {
            self.write(at + start as u64, &bytes[start..])?;
        }
        Ok(())
    }

    fn copy_part(&mut self, at: u64, part: FilePart<'_>) -> Result<u64> {
        let mut done = 0;
        loop {
            output::go_on()?;
            self.progress.at(at.saturating_add(done));
            let copied = self.kernel.piece(part, done, self.file, Some(at.saturating_add(done)));
            if copied == 0 {
                return Ok(done);
            }
            done = done.saturating_add(copied);
            self.written = self.written.saturating_add(copied);
        }
    }

    fn zeros(&mut self, span: Span) -> Result<()> {
        output::go_on()?;
        self.progress.skip_to(span.end());
        Ok(())
    }

    fn gap(&mut self, gap: Gap) -> Result<()> {
        output::go_on()?;
        self.progress.skip_to(gap.span.end());
        self.gaps.add(gap);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gmfs_image::RegionFile;
    use gmfs_io::Window;

    use crate::ctx::{ColorWhen, Ctx};

    use super::*;

    /// A source with a hole that is not there and a page that cannot be read.
    struct Holey;

    impl ReadAt for Holey {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let span = Span::new(offset, buf.len() as u64);
            if offset < 8192 && span.end() > 4096 {
                return Err(ReadError::Io { span, source: io::ErrorKind::Other.into() });
            }
            buf.fill(1);
            Ok(())
        }
        fn end(&self) -> Option<u64> {
            Some(5 * 4096)
        }
    }

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Sink for Log {
        fn data(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
            self.0.push(format!("data {at} {}", bytes.len()));
            Ok(())
        }
        fn zeros(&mut self, span: Span) -> Result<()> {
            self.0.push(format!("zeros {span}"));
            Ok(())
        }
        fn gap(&mut self, gap: Gap) -> Result<()> {
            self.0.push(format!("gap {} of {:#x} {}", gap.span, gap.at.unwrap(), gap.why.name()));
            Ok(())
        }
    }

    #[test]
    fn only_what_is_lost_is_lost() {
        let mut log = Log::default();
        let piece = Piece::Data { file: Span::new(100, 6 * 4096), at: 0, bad: false };
        carry_pieces(&Holey, &[piece], &mut log).unwrap();
        let expected = [
            "data 100 4096",
            "gap 0x1064..0x2064 of 0x1000 unreadable",
            "data 8292 4096",
            "data 12388 4096",
            "data 16484 4096",
            "gap 0x5064..0x6064 of 0x5000 beyond-end",
        ];
        assert_eq!(log.0, expected);
    }

    const PAGE: usize = PAGE_SIZE;

    /// A file in a temporary directory: `a` two pages of ones, `0` two pages of zeros, `.` two pages that are a hole.
    fn file_of(dir: &Path, shape: &str) -> (File, Vec<u8>) {
        let file = File::options().read(true).write(true).create_new(true).open(dir.join("source")).unwrap();
        let mut bytes = Vec::new();
        for (n, kind) in shape.chars().enumerate() {
            let stretch = [if kind == 'a' { b'a' + u8::try_from(n % 26).unwrap() } else { 0 }; 2 * PAGE];
            if kind != '.' {
                file.write_all_at(&stretch, bytes.len() as u64).unwrap();
            }
            bytes.extend_from_slice(&stretch);
        }
        file.set_len(bytes.len() as u64).unwrap();
        (file, bytes)
    }

    /// Copies the first `len` bytes of `source` into a new file: what it holds, what is missing, how much was written.
    fn copied<S: ReadAt + ?Sized>(source: &S, len: u64, before: impl Fn()) -> (Vec<u8>, Gaps, u64) {
        let ctx = Ctx::new(ColorWhen::Never, false, false);
        let progress = Progress::new(&ctx, "copying", len);
        let file = tempfile::tempfile().unwrap();
        let mut sink = Before(SparseFile::new(&file, len, &progress), before);
        carry(source, len, &mut sink).unwrap();
        let (gaps, written) = sink.0.finish().unwrap();
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (bytes, gaps, written)
    }

    /// Does something before the kernel copies.
    struct Before<'f, F>(SparseFile<'f>, F);

    impl<F: Fn()> Sink for Before<'_, F> {
        fn data(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
            self.0.data(at, bytes)
        }
        fn copy_part(&mut self, at: u64, part: FilePart<'_>) -> Result<u64> {
            (self.1)();
            self.0.copy_part(at, part)
        }
        fn zeros(&mut self, span: Span) -> Result<()> {
            self.0.zeros(span)
        }
        fn gap(&mut self, gap: Gap) -> Result<()> {
            self.0.gap(gap)
        }
    }

    /// A source that does not say that it is a file.
    struct ReadOnly<S>(S);

    impl<S: ReadAt> ReadAt for ReadOnly<S> {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            self.0.read_at(offset, buf)
        }
        fn end(&self) -> Option<u64> {
            self.0.end()
        }
    }

    #[test]
    fn a_copy_is_the_same_whoever_makes_it() {
        for shape in ["a", ".", "aa.a0a..", "..a", "a0", "0.aaaa"] {
            let dir = tempfile::tempdir().unwrap();
            let (_, bytes) = file_of(dir.path(), shape);
            let file = RegionFile::open(&dir.path().join("source")).unwrap();
            let all = bytes.len() as u64;
            for (from, len) in [(0, all), (1, all - 1), (5000, 3), (4096, all - 4096 - 7)] {
                let wanted = &bytes[usize::try_from(from).unwrap()..][..usize::try_from(len).unwrap()];
                let window = Window::new(&file, from, len);
                let parts: [&dyn ReadAt; 3] = [&window, &Box::new(&window), &ReadOnly(&window)];
                for (n, source) in parts.into_iter().enumerate() {
                    let (found, gaps, written) = copied(source, len, || ());
                    assert!(found == wanted && gaps.is_empty(), "{shape} {from} {len} {n}");
                    assert!(written <= len, "{shape} {from} {len} {n}");
                }
                assert!(window.file_part(0..len).is_some() && ReadOnly(&window).file_part(0..len).is_none());
            }
            // Holes stay holes.
            let holes = shape.matches('.').count() as u64 * 2 * PAGE_BYTES;
            assert_eq!(copied(&file, all, || ()).2, all - holes, "{shape}");
        }
    }

    #[test]
    fn what_is_cut_off_while_it_is_copied_is_missing_and_not_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, bytes) = file_of(dir.path(), "aaaa");
        let source = RegionFile::open(&dir.path().join("source")).unwrap();
        let all = bytes.len() as u64;
        let (found, gaps, written) = copied(&source, all, || writer.set_len(3 * PAGE_BYTES + 9).unwrap());
        assert!(found[..3 * PAGE] == bytes[..3 * PAGE]);
        // The kernel copies the bytes that are left of a page. Without it, that page is missing.
        let gaps: Vec<_> = gaps.iter().collect();
        assert_eq!((gaps.len(), gaps[0].span.end(), gaps[0].why), (1, all, Why::Absent(Absence::BeyondEnd)));
        assert!([3 * PAGE_BYTES, 3 * PAGE_BYTES + 9].contains(&written) && gaps[0].span.offset == written);
    }

    #[test]
    fn what_the_kernel_leaves_is_read_page_by_page_where_it_must_be() {
        /// A file with a page that cannot be read, as the sink below and `read_at` find it.
        struct Failing(RegionFile);
        impl ReadAt for Failing {
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
                let span = Span::new(offset, buf.len() as u64);
                if offset < 3 * PAGE_BYTES && span.end() > 2 * PAGE_BYTES {
                    return Err(ReadError::Io { span, source: io::ErrorKind::Other.into() });
                }
                self.0.read_at(offset, buf)
            }
            fn end(&self) -> Option<u64> {
                self.0.end()
            }
            fn file_part(&self, range: Range<u64>) -> Option<FilePart<'_>> {
                self.0.file_part(range)
            }
        }
        #[derive(Default)]
        struct Partial(Log);
        impl Sink for Partial {
            fn data(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
                self.0.data(at, bytes)
            }
            fn copy_part(&mut self, at: u64, part: FilePart<'_>) -> Result<u64> {
                self.0.0.push(format!("part {at} of {} {}", part.offset, part.len));
                Ok(5000)
            }
            fn zeros(&mut self, span: Span) -> Result<()> {
                self.0.zeros(span)
            }
            fn gap(&mut self, gap: Gap) -> Result<()> {
                self.0.gap(gap)
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (_, bytes) = file_of(dir.path(), "aa");
        let source = Failing(RegionFile::open(&dir.path().join("source")).unwrap());
        let mut sink = Partial::default();
        let piece = Piece::Data { file: Span::new(100, bytes.len() as u64), at: 0, bad: false };
        carry_pieces(&source, &[piece], &mut sink).unwrap();
        let expected =
            ["part 100 of 0 16384", "data 5100 3192", "gap 0x2064..0x3064 of 0x2000 unreadable", "data 12388 4096"];
        assert_eq!(sink.0.0, expected);
    }

    #[test]
    fn gaps_join_and_are_named() {
        let mut gaps = Gaps::default();
        let gap = |offset, len, why| Gap { span: Span::new(offset, len), at: Some(offset + 0x100), why };
        gaps.add(gap(0, 4096, Why::Bad));
        gaps.add(gap(4096, 4096, Why::Bad));
        gaps.add(gap(8192, 1, Why::Absent(Absence::NotInDump)));
        assert_eq!(
            gaps.describe(Some(1 << 32)),
            "8 KiB (8193 bytes) cannot be told: 0x0..0x2000 in a block with a hardware error (memory at 0x100000100); \
             0x2000..0x2001 not in the dump (memory at 0x100002100)"
        );
        assert!(gaps.describe(None).contains("0x2000..0x2001 not in the dump (0x2100 in the region)"));
    }
}
