//! Bytes out of a region: what is there, what is known to be zero, and what cannot be told. What cannot be told never
//! leaves as zeros.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use anyhow::Result;
use gmfs_format::io::{Absence, ReadAt, ReadError, Span};
use gmfs_format::units::{PAGE_BYTES, PAGE_SIZE};
use gmfs_volume::content::Piece;

use crate::failure::Failure;
use crate::render::size;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// So many ranges are named in one message.
const NAMED: usize = 4;

/// Why bytes cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The image does not hold them.
    Absent(Absence),
    /// Their block has a hardware error.
    Bad,
    /// They are there and cannot be read.
    Unreadable,
}

impl Why {
    /// A word for programs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Absent(why) => why.name(),
            Self::Bad => "bad-block",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(why) => why.fmt(f),
            Self::Bad => f.write_str("in a block with a hardware error"),
            Self::Unreadable => f.write_str("cannot be read"),
        }
    }
}

/// Ranges that cannot be told, neighbours joined.
#[derive(Debug, Default)]
pub(crate) struct Gaps(Vec<(Span, Why)>);

impl Gaps {
    pub(crate) fn add(&mut self, span: Span, why: Why) {
        match self.0.last_mut() {
            Some((last, same)) if last.end() == span.offset && *same == why => {
                last.len = last.len.saturating_add(span.len);
            }
            _ => self.0.push((span, why)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Span, Why)> + '_ {
        self.0.iter().copied()
    }

    /// All of them in a sentence, the first few by place.
    pub(crate) fn describe(&self) -> String {
        let bytes: u64 = self.0.iter().map(|(span, _)| span.len).sum();
        let mut text = format!("{} cannot be told: ", size::both(bytes));
        for (n, (span, why)) in self.0.iter().take(NAMED).enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            text.push_str(&format!("{separator}{span} {why}"));
        }
        if self.0.len() > NAMED {
            text.push_str(&format!("; and {} more ranges", self.0.len() - NAMED));
        }
        text
    }

    /// The error for whoever wants all of the bytes or none.
    pub(crate) fn refuse(&self) -> Failure {
        Failure::new("absent", self.describe())
    }
}

/// Where bytes go. Offsets are the output's.
pub(crate) trait Sink {
    /// These bytes are there.
    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
    /// These are known to be zero.
    fn zeros(&mut self, span: Span) -> Result<()>;
    /// These cannot be told.
    fn gap(&mut self, span: Span, why: Why) -> Result<()>;
}

/// Carries `len` bytes of `source` from `from` to `to` of the sink.
pub(crate) fn carry<S: ReadAt + ?Sized>(source: &S, from: u64, to: u64, len: u64, sink: &mut impl Sink) -> Result<()> {
    let out = |at: u64| to.saturating_add(at.saturating_sub(from));
    let end = from.saturating_add(len);
    let mut at = from;
    let mut buf = vec![0; CHUNK];
    while at < end {
        // What is absent first, then what is a hole; what is left is read.
        let absent = source.next_absent(at..end);
        if let Some((span, why)) = absent
            && span.offset <= at
        {
            let stop = span.end().min(end).max(at + 1);
            sink.gap(Span::new(out(at), stop - at), Why::Absent(why))?;
            at = stop;
            continue;
        }
        let stop = absent.map_or(end, |(span, _)| span.offset.min(end));
        let data = source.next_data(at..stop).unwrap_or(Some(at..stop));
        let start = data.as_ref().map_or(stop, |range| range.start.clamp(at, stop));
        if start > at {
            sink.zeros(Span::new(out(at), start - at))?;
            at = start;
            continue;
        }
        let stop = data.map_or(stop, |range| range.end.clamp(at, stop)).min(at.saturating_add(CHUNK as u64));
        let length = usize::try_from(stop - at).unwrap_or(CHUNK).max(1);
        read(source, at, out(at), &mut buf[..length], sink)?;
        at += length as u64;
    }
    Ok(())
}

/// Reads a stretch: at once, or, if that fails, page by page, so that only what is lost is lost.
fn read<S: ReadAt + ?Sized>(source: &S, from: u64, to: u64, buf: &mut [u8], sink: &mut impl Sink) -> Result<()> {
    if source.read_at(from, buf).is_ok() {
        return sink.data(to, buf);
    }
    let end = from.saturating_add(buf.len() as u64);
    let mut at = from;
    let mut page = [0; PAGE_SIZE];
    while at < end {
        let stop = (at / PAGE_BYTES).saturating_add(1).saturating_mul(PAGE_BYTES).min(end);
        let length = usize::try_from(stop - at).unwrap_or(PAGE_SIZE);
        let place = to + (at - from);
        match source.read_at(at, &mut page[..length]) {
            Ok(()) => sink.data(place, &page[..length])?,
            Err(ReadError::Absent { why, .. }) => sink.gap(Span::new(place, stop - at), Why::Absent(why))?,
            Err(ReadError::Io { .. }) => sink.gap(Span::new(place, stop - at), Why::Unreadable)?,
        }
        at = stop;
    }
    Ok(())
}

/// Carries a file's pieces.
pub(crate) fn carry_pieces<S: ReadAt + ?Sized>(source: &S, pieces: &[Piece], sink: &mut impl Sink) -> Result<()> {
    for piece in pieces {
        match *piece {
            Piece::Hole { file } => sink.zeros(file)?,
            Piece::Data { file, bad: true, .. } => sink.gap(file, Why::Bad)?,
            Piece::Data { file, at, bad: false } => carry(source, at, file.offset, file.len, sink)?,
        }
    }
    Ok(())
}

/// What of a file's pieces is known beforehand not to be there, without reading any of it.
pub(crate) fn known_gaps<S: ReadAt + ?Sized>(source: &S, pieces: &[Piece]) -> Gaps {
    let mut gaps = Gaps::default();
    for piece in pieces {
        let Piece::Data { file, at, bad } = *piece else { continue };
        if bad {
            gaps.add(file, Why::Bad);
            continue;
        }
        let end = at.saturating_add(file.len);
        let mut next = at;
        while let Some((span, why)) = source.next_absent(next..end) {
            gaps.add(Span::new(file.offset + (span.offset.max(at) - at), span.len), Why::Absent(why));
            next = span.end().max(next + 1);
        }
    }
    gaps
}

/// A sparse file on its way: zero pages stay holes.
pub(crate) struct SparseFile<'p> {
    file: File,
    /// What could not be told: holes too.
    pub(crate) gaps: Gaps,
    /// Bytes that were written.
    pub(crate) written: u64,
    progress: &'p crate::render::progress::Progress,
}

impl<'p> SparseFile<'p> {
    /// `file` is new and empty.
    pub(crate) fn new(file: File, size: u64, progress: &'p crate::render::progress::Progress) -> io::Result<Self> {
        file.set_len(size)?;
        Ok(Self { file, gaps: Gaps::default(), written: 0, progress })
    }

    /// Ends the work: everything is with the system, errors included.
    pub(crate) fn finish(self) -> io::Result<(File, Gaps, u64)> {
        self.file.sync_all()?;
        Ok((self.file, self.gaps, self.written))
    }
}

impl Sink for SparseFile<'_> {
    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.progress.at(at);
        let pages = bytes.chunks(PAGE_SIZE).enumerate();
        let full = |(_, page): &(usize, &[u8])| page.iter().any(|byte| *byte != 0);
        let mut run: Option<(usize, usize)> = None;
        for (n, page) in pages.filter(full) {
            let (start, end) = (n * PAGE_SIZE, n * PAGE_SIZE + page.len());
            match &mut run {
                Some((_, last)) if *last == start => *last = end,
                _ => {
                    self.flush(at, bytes, run)?;
                    run = Some((start, end));
                }
            }
        }
        self.flush(at, bytes, run)
    }

    fn zeros(&mut self, span: Span) -> Result<()> {
        self.progress.at(span.end());
        Ok(())
    }

    fn gap(&mut self, span: Span, why: Why) -> Result<()> {
        self.gaps.add(span, why);
        Ok(())
    }
}

impl SparseFile<'_> {
    fn flush(&mut self, at: u64, bytes: &[u8], run: Option<(usize, usize)>) -> Result<()> {
        if let Some((start, end)) = run {
            self.file.write_all_at(&bytes[start..end], at + start as u64)?;
            self.written += (end - start) as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        fn gap(&mut self, span: Span, why: Why) -> Result<()> {
            self.0.push(format!("gap {span} {}", why.name()));
            Ok(())
        }
    }

    #[test]
    fn only_what_is_lost_is_lost() {
        let mut log = Log::default();
        carry(&Holey, 0, 100, 6 * 4096, &mut log).unwrap();
        let expected =
            ["data 100 4096", "gap 0x1064..0x2064 unreadable", "data 8292 4096", "data 12388 4096", "data 16484 4096"];
        assert_eq!(log.0[..5], expected);
        assert_eq!(log.0[5], "gap 0x5064..0x6064 beyond-end");
    }

    #[test]
    fn gaps_join_and_are_named() {
        let mut gaps = Gaps::default();
        gaps.add(Span::new(0, 4096), Why::Bad);
        gaps.add(Span::new(4096, 4096), Why::Bad);
        gaps.add(Span::new(8192, 1), Why::Absent(Absence::NotInDump));
        let told = gaps.describe();
        assert_eq!(
            told,
            "8 KiB (8193 bytes) cannot be told: 0x0..0x2000 in a block with a hardware error; 0x2000..0x2001 not in \
             the dump"
        );
    }
}
