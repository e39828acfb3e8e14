//! Reading content with its gaps: which bytes are there, which are known to be zero, and which are unknown. Unknown
//! bytes are never given as zeros.
//!
//! [`Store::read_with_gaps`](crate::Store::read_with_gaps) reads a file, or a part of one. [`read`] and [`read_all`]
//! read from any source. The bytes arrive in order, at a [`Sink`]; while it takes them, several threads read ahead
//! where bytes have to be decoded. A [`SparseFile`](crate::copy::SparseFile) is a sink, and so is a closure in
//! [`Each`].
//!
//! ```
//! use gmfs::content::{Each, Part, read_all};
//! // 5000 bytes of a source that ends after 4096.
//! let mut seen = Vec::new();
//! let mut sink = Each(|part: Part<'_>| {
//!     seen.push(match part {
//!         Part::Data { at, bytes } => format!("{} bytes at {at}", bytes.len()),
//!         Part::Zeros(span) => format!("zeros {span}"),
//!         Part::Gap(gap) => format!("{} {}", gap.span, gap.why),
//!     });
//!     Ok::<_, gmfs::Error>(())
//! });
//! read_all(&vec![7_u8; 4096], 5000, &mut sink)?;
//! assert_eq!(seen, ["4096 bytes at 0", "0x1000..0x1388 past the end of the image"]);
//! # Ok::<(), gmfs::Error>(())
//! ```

use std::fmt;
use std::ops::Range;

use gmfs_format::model::Piece;
use gmfs_io::in_order::{Shape, Step, steps_in_order};
use gmfs_io::num::small;
use gmfs_io::{Absence, FilePart, ReadAt, ReadError, Span};

/// Bytes that one of several threads reads at once.
const CHUNK: u64 = 256 << 10;
/// Bytes read at once where no other thread reads: what a pipe holds. Larger reads made `gmfs cat | ...` slower, and
/// copies between files no faster.
const PIPEFUL: u64 = 64 << 10;
/// Initial look-ahead for holes and absent ranges; it doubles while there is only one kind of them, or only data. Each
/// look-ahead has a cost: tmpfs searches the whole rest of a file for the next hole, however short the look-ahead is.
const LOOK: u64 = 64 << 20;
/// What could not be read at once is read again in pieces of this size.
pub(crate) const PAGE: u64 = 4096;
/// The same as a length in memory.
pub(crate) const PAGE_LEN: usize = 4096;

/// Why bytes are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The image does not hold them.
    Absent(Absence),
    /// Their block has a hardware error.
    Bad,
    /// They are there and cannot be read.
    Unreadable,
    /// The descriptor that says where they are is lost.
    Lost,
}

impl Why {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

/// A stretch of unknown bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where in what is read: in the file, or in the copy.
    pub span: Span,
    /// Where in the store's source the bytes should be, if that is known.
    pub at: Option<u64>,
    /// Why they are unknown.
    pub why: Why,
}

/// Gaps in order of their offsets. Neighbours are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<Gap>);

impl Gaps {
    /// Adds a gap that comes after those that were added before.
    pub fn add(&mut self, gap: Gap) {
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

    /// Whether there is none: every byte is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// The gaps, in order.
    pub fn iter(&self) -> impl Iterator<Item = Gap> + Clone + '_ {
        self.0.iter().copied()
    }

    /// How many bytes they have together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|gap| gap.span.len).fold(0, u64::saturating_add)
    }
}

/// Where content goes. It arrives in order: offsets rise, and nothing is left out.
pub trait Sink {
    /// Why the sink takes no more.
    type Error;

    /// These bytes are there.
    ///
    /// # Errors
    /// The reading ends, and its caller gets the error.
    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<(), Self::Error>;

    /// These bytes are there too, in a file from which the kernel can copy them. Returns how many bytes were copied;
    /// the others are read and arrive as [`data`](Self::data).
    ///
    /// # Errors
    /// As [`data`](Self::data).
    fn copy_part(&mut self, at: u64, part: FilePart<'_>) -> Result<u64, Self::Error> {
        let _ = (at, part);
        Ok(0)
    }

    /// These bytes are known to be zero.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    fn zeros(&mut self, span: Span) -> Result<(), Self::Error>;

    /// These bytes are unknown.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    fn gap(&mut self, gap: Gap) -> Result<(), Self::Error>;
}

/// A part of content, as [`Each`] gives it to its closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'b> {
    /// These bytes are there.
    Data {
        /// Where in what is read.
        at: u64,
        /// The bytes.
        bytes: &'b [u8],
    },
    /// These are known to be zero.
    Zeros(Span),
    /// These are unknown.
    Gap(Gap),
}

/// A closure as a [`Sink`]. See the example of [the module](self).
pub struct Each<F>(pub F);

impl<E, F: FnMut(Part<'_>) -> Result<(), E>> Sink for Each<F> {
    type Error = E;

    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<(), E> {
        (self.0)(Part::Data { at, bytes })
    }

    fn zeros(&mut self, span: Span) -> Result<(), E> {
        (self.0)(Part::Zeros(span))
    }

    fn gap(&mut self, gap: Gap) -> Result<(), E> {
        (self.0)(Part::Gap(gap))
    }
}

/// What a step of a plan means. `to` is a place in the output.
#[derive(Clone, Copy, Debug)]
enum What<'s> {
    /// Bytes, and where in the source they are.
    Data { to: Span, from: u64 },
    /// Bytes that are in a file just as they are.
    InFile { to: Span, from: u64, part: FilePart<'s> },
    /// Known zeros.
    Zeros(Span),
    /// Unknown bytes.
    Gap(Gap),
}

/// How to read one stretch of a source: first the absent bytes and the holes. What is left is read chunk by chunk, so
/// that several threads can decode it, or at once if it only has to be copied out of a file.
struct Plan<'s, S: ?Sized> {
    source: &'s S,
    range: Range<u64>,
    /// The first offset of the stretch in the source, and where it goes in the output.
    shift: (u64, u64),
    /// The source is known to have data up to this offset.
    data: u64,
    look: u64,
}

impl<'s, S: ReadAt + ?Sized> Plan<'s, S> {
    fn new(source: &'s S, from: u64, to: Span) -> Self {
        let range = from..from.saturating_add(to.len);
        Self { source, range, shift: (from, to.offset), data: 0, look: LOOK }
    }

    /// Passes the front of the range up to `stop`. Returns where these bytes go in the output.
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
        // If the source cannot tell, the bytes are read.
        let data = self.source.next_data(at..stop).unwrap_or(Some(at..stop));
        let start = data.as_ref().map_or(stop, |data| data.start.clamp(at, stop));
        self.data = data.map_or(start, |data| data.end.clamp(start, stop));
        if start > at {
            return Some(Step { read: None, what: What::Zeros(self.pass(start)) });
        }
        if self.data < limit {
            self.look = LOOK;
        }
        // Each step makes progress, whatever a source says.
        self.data = self.data.max(at.saturating_add(1));
        Some(self.chunk())
    }
}

/// The steps for one piece of a file.
fn steps<'s, S: ReadAt + ?Sized>(source: &'s S, piece: &Piece) -> Box<dyn Iterator<Item = Step<What<'s>>> + 's> {
    let one = |what| Box::new(std::iter::once(Step { read: None, what }));
    match *piece {
        Piece::Hole { file } => one(What::Zeros(file)),
        Piece::Data { file, at, bad: true } => one(What::Gap(Gap { span: file, at: Some(at), why: Why::Bad })),
        Piece::Lost { file } => one(What::Gap(Gap { span: file, at: None, why: Why::Lost })),
        Piece::Data { file, at, bad: false } => Box::new(Plan::new(source, at, file)),
    }
}

/// Reads a file's pieces from the store in `source`, in order.
///
/// What only has to be copied out of a file is copied by the kernel, if the sink supports that, or is read by this
/// thread: several threads would cost more than they gain. Everything else is read by several threads.
///
/// # Errors
/// What the sink returned. Bytes that cannot be read are gaps; they are no error.
pub fn read<S, K>(source: &S, pieces: &[Piece], sink: &mut K) -> Result<(), K::Error>
where
    S: ReadAt + ?Sized,
    K: Sink + ?Sized,
{
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

/// Reads the first `len` bytes of `source`.
///
/// # Errors
/// As [`read`].
pub fn read_all<S, K>(source: &S, len: u64, sink: &mut K) -> Result<(), K::Error>
where
    S: ReadAt + ?Sized,
    K: Sink + ?Sized,
{
    read(source, &[Piece::Data { file: Span::new(0, len), at: 0, bad: false }], sink)
}

/// Reads piece by piece on this thread.
fn by_chunk<S, K>(source: &S, from: u64, to: Span, buffer: &mut Vec<u8>, sink: &mut K) -> Result<(), K::Error>
where
    S: ReadAt + ?Sized,
    K: Sink + ?Sized,
{
    let mut done = 0;
    while done < to.len {
        let length = PIPEFUL.min(to.len.saturating_sub(done));
        let (from, at) = (from.saturating_add(done), to.offset.saturating_add(done));
        buffer.resize(small(length), 0);
        match source.read_at(from, buffer) {
            Ok(()) => sink.data(at, buffer)?,
            Err(_) => by_page(source, from, Span::new(at, length), sink)?,
        }
        done = done.saturating_add(length);
    }
    Ok(())
}

/// Reads page by page what could not be read at once, so that only the pages that really cannot be read become gaps.
fn by_page<S, K>(source: &S, from: u64, to: Span, sink: &mut K) -> Result<(), K::Error>
where
    S: ReadAt + ?Sized,
    K: Sink + ?Sized,
{
    let end = from.saturating_add(to.len);
    let mut at = from;
    let mut page = [0; PAGE_LEN];
    while at < end {
        let stop = (at / PAGE).saturating_add(1).saturating_mul(PAGE).min(end);
        let span = Span::new(to.offset.saturating_add(at.saturating_sub(from)), stop.saturating_sub(at));
        let bytes = page.get_mut(..small(span.len)).unwrap_or_default();
        match source.read_at(at, bytes) {
            Ok(()) => sink.data(span.offset, bytes)?,
            Err(ReadError::Absent { why, .. }) => sink.gap(Gap { span, at: Some(at), why: Why::Absent(why) })?,
            Err(_) => sink.gap(Gap { span, at: Some(at), why: Why::Unreadable })?,
        }
        // No page is passed without a step, even at the end of all offsets.
        at = stop.max(at.saturating_add(1));
    }
    Ok(())
}

/// The gaps in a file's pieces that are known before any of their bytes is read. Reading may show more.
pub fn known_gaps<S: ReadAt + ?Sized>(source: &S, pieces: &[Piece]) -> Gaps {
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
            let offset = file.offset.saturating_add(from.saturating_sub(at));
            let span = Span::new(offset, span.end().min(end).saturating_sub(from));
            gaps.add(Gap { span, at: Some(from), why: Why::Absent(why) });
            next = from.saturating_add(span.len).max(next.saturating_add(1));
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use gmfs_image::RegionFile;
    use gmfs_io::num::len64;

    use super::*;

    /// A source with a hole that is not there and a page that cannot be read.
    struct Holey;

    impl ReadAt for Holey {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let span = Span::new(offset, len64(buf.len()));
            if offset < 8192 && span.end() > 4096 {
                return Err(ReadError::Io { span, source: std::io::ErrorKind::Other.into() });
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
        type Error = ();
        fn data(&mut self, at: u64, bytes: &[u8]) -> Result<(), ()> {
            self.0.push(format!("data {at} {}", bytes.len()));
            Ok(())
        }
        fn zeros(&mut self, span: Span) -> Result<(), ()> {
            self.0.push(format!("zeros {span}"));
            Ok(())
        }
        fn gap(&mut self, gap: Gap) -> Result<(), ()> {
            self.0.push(format!("gap {} of {:#x} {}", gap.span, gap.at.unwrap(), gap.why.name()));
            Ok(())
        }
    }

    #[test]
    fn only_what_is_lost_is_lost() {
        let mut log = Log::default();
        let piece = Piece::Data { file: Span::new(100, 6 * 4096), at: 0, bad: false };
        read(&Holey, &[piece], &mut log).unwrap();
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

    #[test]
    fn what_the_kernel_leaves_is_read_page_by_page_where_it_must_be() {
        /// A file with a page that cannot be read, as the sink below and `read_at` find it.
        struct Failing(RegionFile);
        impl ReadAt for Failing {
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
                let span = Span::new(offset, len64(buf.len()));
                if offset < 3 * PAGE && span.end() > 2 * PAGE {
                    return Err(ReadError::Io { span, source: std::io::ErrorKind::Other.into() });
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
            type Error = ();
            fn data(&mut self, at: u64, bytes: &[u8]) -> Result<(), ()> {
                self.0.data(at, bytes)
            }
            fn copy_part(&mut self, at: u64, part: FilePart<'_>) -> Result<u64, ()> {
                self.0.0.push(format!("part {at} of {} {}", part.offset, part.len));
                Ok(5000)
            }
            fn zeros(&mut self, span: Span) -> Result<(), ()> {
                self.0.zeros(span)
            }
            fn gap(&mut self, gap: Gap) -> Result<(), ()> {
                self.0.gap(gap)
            }
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("source"), [b'a'; 4 * PAGE_LEN]).unwrap();
        let source = Failing(RegionFile::open(&dir.path().join("source")).unwrap());
        let mut sink = Partial::default();
        let piece = Piece::Data { file: Span::new(100, 4 * PAGE), at: 0, bad: false };
        read(&source, &[piece], &mut sink).unwrap();
        let expected =
            ["part 100 of 0 16384", "data 5100 3192", "gap 0x2064..0x3064 of 0x2000 unreadable", "data 12388 4096"];
        assert_eq!(sink.0.0, expected);
    }

    #[test]
    fn gaps_join() {
        let mut gaps = Gaps::default();
        let gap = |offset, len, why| Gap { span: Span::new(offset, len), at: Some(offset + 0x100), why };
        gaps.add(gap(0, 4096, Why::Bad));
        gaps.add(gap(4096, 4096, Why::Bad));
        gaps.add(gap(8192, 1, Why::Absent(Absence::NotInDump)));
        assert_eq!(
            gaps.iter().collect::<Vec<_>>(),
            [gap(0, 8192, Why::Bad), gap(8192, 1, Why::Absent(Absence::NotInDump))]
        );
        assert_eq!((gaps.len(), gaps.bytes()), (2, 8193));
    }
}
