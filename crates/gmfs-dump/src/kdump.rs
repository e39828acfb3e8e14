//! Reads kdump-compressed dumps, as makedumpfile and QEMU write them, by physical address.
//!
//! Opening reads the headers and counts the bits of one bitmap. Descriptors and pages are read when they are asked for.
//! Memory holds only the count before each group of 4096 pages (8 bytes for 16 MiB of described memory). The dump is in
//! anything that implements [`ReadAt`]: a file, or the rearranged bytes of a flattened stream
//! ([`FlatFile`](crate::flat::FlatFile)).
//!
//! A page that the dump lacks is absent, with the reason: [`NotInDump`](Absence::NotInDump) was not RAM,
//! [`Excluded`](Absence::Excluded) was filtered, [`Truncated`](Absence::Truncated) was lost when the dump was written
//! or cut, [`Undecodable`](Absence::Undecodable) is damaged. [`ReadAt::next_absent`] reports the first three, and
//! invalid descriptors, without reading pages. What only decoding shows is reported by [`ReadAt::read_at`]. A page that
//! decodes is not proven intact, because only zlib pages have a checksum.
//!
//! Addresses are physical, in bytes. Opening fails ([`KdumpError`]) if there are no valid headers, if their version is
//! unknown, or if they are those of one part of several; [`KdumpDump::parse_parts`] takes all parts of a split dump.
//! The layouts are those of the C structures of makedumpfile (`diskdump_mod.h`) and QEMU (`dump.h`). They depend on the
//! writer's word size, byte order and padding. The file does not record which layout it has, so the reader takes the
//! one in which the numbers make sense.
//!
//! Reads of many pages are the fast way: descriptors and data are then read in large pieces, and stretches of 512 KiB
//! and more are decoded by several threads ([`KdumpDump::set_threads`]), into the buffer of the read.
//! [`gmfs_io::in_order`] starts these threads, like all threads that read ahead. A caller that already reads with
//! several threads, in smaller pieces, gets none of them. The memory used in addition to the index is bounded: for each
//! thread, one buffer of up to a MiB and the contexts of the codecs.
//!
//! ```
//! use gmfs_io::{ReadAt as _, ReadError};
//! use gmfs_dump::kdump::KdumpDump;
//! # fn example(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let dump = KdumpDump::parse(gmfs_io::PlainFile(std::fs::File::open(path)?))?;
//! println!("pages of {} bytes, by Linux {:?}", dump.facts().page_size, dump.facts().notes.release);
//! let mut page = [0; 4096];
//! match dump.read_at(0x1000_0000, &mut page) {
//!     Ok(()) => println!("{:?}", &page[..16]),
//!     Err(ReadError::Absent { why, .. }) => println!("the dump does not hold it: {why}"),
//!     Err(error) => return Err(error.into()),
//! }
//! // The memory that the dump describes. This reads no descriptors.
//! for (range, why) in dump.ranges().take(100) {
//!     println!("{range}: {}", why.map_or("present", |why| why.name()));
//! }
//! # Ok(())
//! # }
//! ```

mod bitmap;
pub(crate) mod codec;
mod header;
mod pages;
mod parts;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use gmfs_io::{Absence, ReadAt, ReadError, Span};

use crate::elf::Notes;
use crate::totals::Totals;
use bitmap::{Bitmaps, Class};
pub use codec::Codec;
use header::Header;
use pages::Worker;
use parts::Part;

/// More threads than this are not used for one read.
const MAX_THREADS: usize = 16;
/// [`ReadAt::next_data`] skips zero pages only if at least this many bytes of them are consecutive, so that the rest is
/// read in large pieces.
const LEAST_HOLE: u64 = 256 << 10;
/// How far [`ReadAt::next_data`] looks ahead, in bytes.
const LOOK_AHEAD: u64 = 4 << 20;
/// How many pages ahead a search for absent pages looks at first.
const FEW: u64 = 16;
/// How many descriptors are checked at once.
const AT_ONCE: u64 = 2048;

/// Why a file is not a dump that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KdumpError {
    /// The headers are cut off.
    #[error("the headers of the dump are cut off: the file has {size} bytes")]
    Short {
        /// The file's size in bytes.
        size: u64,
    },
    /// The file does not start like a kdump-compressed dump.
    #[error("this is not a kdump-compressed dump")]
    Signature,
    /// In no byte order and word size do the numbers of the header make sense.
    #[error("the header of the dump is damaged: page size and bitmap size make no sense in any byte order")]
    Damaged,
    /// The version is unknown to this program.
    #[error("the header has version {version}; gmfs knows versions 0 to 6")]
    Version {
        /// The version.
        version: u32,
    },
    /// The bitmap is larger than any machine needs.
    #[error("the bitmap has {bytes} bytes, which no machine needs")]
    TooLarge {
        /// The size that the header claims and that the file has room for.
        bytes: u64,
    },
    /// No part was given.
    #[error("no part of the dump was given")]
    NoParts,
    /// Several files were given, and this one is not part of a split dump.
    #[error("file {} is not part of a split dump", number.saturating_add(1))]
    NotSplit {
        /// Which of the given files, from 0.
        number: usize,
    },
    /// Two files are parts of different dumps.
    #[error("files {} and {} are parts of different dumps", number.saturating_add(1), other.saturating_add(1))]
    Stranger {
        /// Which of the given files, from 0.
        number: usize,
        /// The file with which it was compared.
        other: usize,
    },
    /// Two parts claim the same pages: one part was given twice, or a header is damaged.
    #[error("files {} and {} hold the same part of the dump", number.saturating_add(1), other.saturating_add(1))]
    Overlap {
        /// Which of the given files, from 0.
        number: usize,
        /// The number of the other file.
        other: usize,
    },
    /// Parts of a split dump are missing.
    #[error("this is a split dump, and {} missing; give all parts", parts::missing(ranges))]
    MissingParts {
        /// The ranges of physical addresses of the missing parts.
        ranges: Vec<Span>,
    },
    /// One of several parts could not be read.
    #[error("cannot read file {}", number.saturating_add(1))]
    Part {
        /// Which of the given files, from 0.
        number: usize,
        /// Why.
        source: Box<Self>,
    },
    /// The headers or the bitmap could not be read.
    #[error("cannot read the headers of the dump")]
    Read(#[from] ReadError),
}

/// What a dump says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KdumpFacts {
    /// `header_version`: 0 to 6.
    pub version: u32,
    /// Whether the numbers in the file are big-endian.
    pub big_endian: bool,
    /// Bits in a `long` of the writer: 32 or 64.
    pub bits: u8,
    /// `utsname.machine`; QEMU may write `Unknown`.
    pub machine: String,
    /// `utsname.release`, empty in QEMU's dumps.
    pub release: String,
    /// Bytes per page.
    pub page_size: u64,
    /// The codec that the writer was asked to use. Each page names its own.
    pub codec: Option<Codec>,
    /// What was filtered, as a sum: 1 zero pages, 2 page cache, 4 private cache, 8 user pages, 16 free pages.
    pub dump_level: u32,
    /// When the dump was written, in seconds since 1970. QEMU does not record it.
    pub timestamp: Option<u64>,
    /// Whether the writer ran out of space. What was lost is [`Absence::Truncated`].
    pub incomplete: bool,
    /// Whether the file is too short for its bitmap.
    pub cut: bool,
    /// The parts of a split dump, in address order. Empty if the dump is not split.
    pub parts: Vec<Span>,
    /// How many pages have a descriptor.
    pub pages: u64,
    /// The end of the physical addresses that the bitmap has room for.
    pub reach: u64,
    /// The notes of the dump.
    pub notes: Notes,
}

/// A kdump-compressed dump in the bytes of one file, or of several files with one part each.
pub struct KdumpDump<R> {
    /// In address order; never empty.
    parts: Vec<Part<R>>,
    maps: Bitmaps,
    page: u64,
    /// The physical address of page 0.
    origin: u64,
    facts: KdumpFacts,
    /// Set when it is needed, because the system takes some time to answer.
    threads: OnceLock<usize>,
    /// How many threads help in reads right now.
    helpers: AtomicUsize,
    idle: Mutex<Vec<Worker>>,
    /// The page that was read partly last, and its bytes.
    last: Mutex<Option<(u64, Box<[u8]>)>>,
    /// What [`ReadAt::next_absent`] found last: a range without absent pages, and the absent range that follows it.
    checked: Mutex<Option<(Range<u64>, Found)>>,
}

/// The first absent stretch, if there is one.
type Found = Option<(Span, Absence)>;

impl<R> std::fmt::Debug for KdumpDump<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KdumpDump").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl<R: ReadAt> KdumpDump<R> {
    /// Reads the headers of the dump in `file` and counts the bits of its bitmap.
    ///
    /// # Errors
    /// [`KdumpError`]; [`KdumpError::MissingParts`] for one part of a split dump. A dump that was cut short is not an
    /// error.
    pub fn parse(file: R) -> Result<Self, KdumpError> {
        let (header, maps, part) = Part::open(file)?;
        let facts = facts(&header, &maps, &part);
        Self::assemble(&header, maps, vec![part], facts)
    }

    /// Reads the parts of a split dump (`makedumpfile --split`), in any order. A single file that is not split is
    /// accepted too.
    ///
    /// # Errors
    /// [`KdumpError`]. It numbers files in the order in which they were given.
    pub fn parse_parts(files: impl IntoIterator<Item = R>) -> Result<Self, KdumpError> {
        let (header, maps, parts) = parts::join(files)?;
        let Some(first) = parts.first() else { return Err(KdumpError::NoParts) };
        let mut facts = facts(&header, &maps, first);
        facts.incomplete = parts.iter().any(|part| part.incomplete);
        Self::assemble(&header, maps, parts, facts)
    }

    fn assemble(
        header: &Header,
        maps: Bitmaps,
        mut parts: Vec<Part<R>>,
        mut facts: KdumpFacts,
    ) -> Result<Self, KdumpError> {
        let to_span = |from: u64, to: u64| {
            let address = |page: u64| header.origin().saturating_add(page.saturating_mul(header.page));
            Span::new(address(from), address(to).saturating_sub(address(from)))
        };
        let missing = parts::gaps(&mut parts, &maps)?;
        if !missing.is_empty() {
            let ranges = missing.into_iter().map(|(from, to)| to_span(from, to)).collect();
            return Err(KdumpError::MissingParts { ranges });
        }
        if header.split.is_some() {
            facts.parts = parts.iter().map(|part| to_span(part.start, part.end.min(maps.claimed()))).collect();
        }
        let dump = Self {
            parts,
            page: header.page,
            origin: header.origin(),
            facts,
            threads: OnceLock::new(),
            helpers: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            last: Mutex::new(None),
            checked: Mutex::new(None),
            maps,
        };
        dump.look_for_zero_page();
        Ok(dump)
    }

    /// What the dump says about itself.
    #[must_use]
    pub const fn facts(&self) -> &KdumpFacts {
        &self.facts
    }

    /// How many threads may decode one read of 512 KiB or more. At first it is the number of processors, at most 16.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = OnceLock::from(threads.clamp(1, MAX_THREADS));
    }

    /// The memory that the bitmaps describe, ascending: each range of physical addresses with `None` if its pages have
    /// descriptors, or with the reason why not. Addresses that were not RAM are left out. Descriptors are not read, so
    /// pages that an incomplete dump lost count as present. Each step reads part of the bitmaps; an error of the file
    /// ends the list.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        self.ranges_from(0)
    }

    /// Like [`ranges`](Self::ranges), starting at the page that holds an address.
    pub fn ranges_from(&self, address: u64) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        let mut at = self.page_of(address);
        std::iter::from_fn(move || {
            while at < self.maps.claimed() {
                let (end, class) = self.maps.run(self.bitmap_file()?, at, self.maps.claimed()).ok()?;
                let from = std::mem::replace(&mut at, end);
                let why = match class {
                    Class::Dumped => None,
                    Class::Absent(Absence::NotInDump) => continue,
                    Class::Absent(why) => Some(why),
                };
                return Some((
                    Span::new(self.address(from), self.address(end).saturating_sub(self.address(from))),
                    why,
                ));
            }
            None
        })
    }

    /// The ranges of [`ranges`](Self::ranges) that the dump holds. The search skips the others a word at a time.
    pub fn held(&self) -> impl Iterator<Item = Span> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let run = self.maps.long_run(self.bitmap_file()?, at, self.maps.claimed(), 1).ok()??;
            at = run.end;
            let start = self.address(run.start);
            Some(Span::new(start, self.address(run.end).saturating_sub(start)))
        })
    }

    /// Counts the memory that [`ranges`](Self::ranges) lists for a range of addresses. It reads the bitmaps once, a
    /// word at a time, so the cost does not depend on the number of ranges.
    pub fn totals(&self, range: &Range<u64>) -> Result<Totals, ReadError> {
        let mut sums = Totals::default();
        let Some(file) = self.bitmap_file() else { return Ok(sums) };
        let pages = self.pages(range);
        let counted = self.maps.totals(file, pages.start, pages.end)?;
        let kinds = [
            (counted.dumped, None),
            (counted.excluded, Some(Absence::Excluded)),
            (counted.truncated, Some(Absence::Truncated)),
        ];
        for (runs, why) in kinds {
            sums.add(runs.pages.saturating_mul(self.page), runs.runs, why);
        }
        // The first and the last page may be only partly in the range.
        let before = range.start.max(self.origin).saturating_sub(self.address(pages.start));
        let behind = self.address(pages.end).saturating_sub(range.end);
        for (page, outside) in [(pages.start, before), (pages.end.saturating_sub(1), behind)] {
            if outside > 0 && !pages.is_empty() {
                match self.maps.class(file, page)? {
                    Class::Dumped => sums.take(outside, None),
                    Class::Absent(Absence::NotInDump) => {}
                    Class::Absent(why) => sums.take(outside, Some(why)),
                }
            }
        }
        Ok(sums)
    }

    /// Like [`totals`](Self::totals), but it reads the descriptors, so that pages that the dump lost do not count as
    /// held. It does not decode pages, so damage that only decoding shows is not counted.
    pub fn tally(&self, range: &Range<u64>) -> Result<Totals, ReadError> {
        let mut sums = self.totals(range)?;
        let pages = self.pages(range);
        // Pages that are only partly in the range are checked one by one.
        let starts_within = self.address(pages.start) < range.start.max(self.origin);
        let ends_within = self.address(pages.end) > range.end;
        let whole = pages.start.saturating_add(starts_within.into())..pages.end.saturating_sub(ends_within.into());
        if !whole.is_empty() {
            for (why, bytes) in self.lost_pages(&whole)? {
                sums.lose(bytes, why);
            }
        }
        let mut parts = vec![];
        if starts_within {
            parts.push(pages.start);
        }
        if ends_within && (pages.end.saturating_sub(1) != pages.start || !starts_within) {
            parts.push(pages.end.saturating_sub(1));
        }
        let Some(file) = self.bitmap_file() else { return Ok(sums) };
        for page in parts {
            if self.maps.class(file, page)? == Class::Dumped {
                let bytes = self.clip(page..page.saturating_add(1), range);
                for (why, _) in self.lost_pages(&(page..page.saturating_add(1)))? {
                    sums.lose(bytes.end.saturating_sub(bytes.start), why);
                }
            }
        }
        Ok(sums)
    }

    /// The last run of `range` whose pages have descriptors. If it is longer than `longest`, only its end is returned.
    pub fn last_held(&self, range: &Range<u64>, longest: u64) -> Result<Option<Span>, ReadError> {
        let Some(file) = self.bitmap_file() else { return Ok(None) };
        let pages = self.pages(range);
        // The first and the last page may be only partly in the range.
        let longest = longest.checked_div(self.page).unwrap_or(0).saturating_add(2);
        let last = self.maps.last_run(file, pages.start, pages.end, longest)?;
        Ok(last.map(|pages| self.clip(pages, range)).map(|at| Span::new(at.start, at.end.saturating_sub(at.start))))
    }

    /// The file whose bitmaps are used: that of the first part.
    fn bitmap_file(&self) -> Option<&R> {
        self.parts.first().map(|part| &part.file)
    }

    /// The first physical address of a page.
    const fn address(&self, page: u64) -> u64 {
        self.origin.saturating_add(page.saturating_mul(self.page))
    }

    /// The page with an address, which must be at or above the origin.
    const fn page_of(&self, address: u64) -> u64 {
        // Page sizes are powers of two.
        address.saturating_sub(self.origin) >> self.page.trailing_zeros()
    }

    /// The pages of the part of `range` that is at or above the origin.
    fn pages(&self, range: &Range<u64>) -> Range<u64> {
        let from = range.start.max(self.origin);
        if from >= range.end {
            return 0..0;
        }
        self.page_of(from)..self.page_of(range.end.saturating_sub(1)).saturating_add(1)
    }

    /// Like [`ReadAt::next_absent`], but it reports failures of the file, and it does not use the cache.
    fn search_absent(&self, range: &Range<u64>) -> Result<Option<(Span, Absence)>, ReadError> {
        let Some(file) = self.bitmap_file() else { return Ok(None) };
        let mut found = Stretch::new(range.clone());
        if range.start < self.origin && !found.add(range.start..self.origin, Some(Absence::NotInDump)) {
            return Ok(found.found);
        }
        let pages = self.pages(range);
        let mut at = pages.start;
        // Most searches end soon, so the look-ahead is short at first.
        let mut ahead = FEW;
        while at < pages.end {
            let stop = match self.maps.class(file, at)? {
                Class::Dumped => pages.end.min(at.saturating_add(ahead)),
                Class::Absent(_) => pages.end,
            };
            let (end, class) = self.maps.run(file, at, stop)?;
            match class {
                Class::Absent(why) => {
                    if !found.add(self.address(at)..self.address(end), Some(why)) {
                        return Ok(found.found);
                    }
                }
                Class::Dumped => {
                    ahead = ahead.saturating_mul(4).min(AT_ONCE.saturating_mul(16));
                    if !self.search_descriptors(at..end, &mut found)? {
                        return Ok(found.found);
                    }
                }
            }
            at = end;
        }
        Ok(found.found)
    }

    /// Searches pages that have descriptors for absent ones. Returns false where the search can stop.
    fn search_descriptors(&self, pages: Range<u64>, found: &mut Stretch) -> Result<bool, ReadError> {
        let mut verdicts = Vec::new();
        let mut at = pages.start;
        while at < pages.end {
            let to = pages.end.min(at.saturating_add(AT_ONCE));
            self.verdicts(at..to, &mut verdicts)?;
            for (page, why) in (at..).zip(&verdicts) {
                if !found.add(self.address(page)..self.address(page.saturating_add(1)), *why) {
                    return Ok(false);
                }
            }
            at = to;
        }
        Ok(true)
    }
}

/// The facts that all parts of a dump share.
fn facts<R: ReadAt>(header: &Header, maps: &Bitmaps, part: &Part<R>) -> KdumpFacts {
    KdumpFacts {
        version: header.version,
        big_endian: header.order.big,
        bits: if header.order.wide { 64 } else { 32 },
        machine: header.machine.clone(),
        release: header.release.clone(),
        page_size: header.page,
        codec: codec::CODECS.iter().find(|(bit, _)| header.status & bit != 0).map(|(_, codec)| *codec),
        dump_level: header.level,
        timestamp: (header.timestamp != 0).then_some(header.timestamp),
        incomplete: part.incomplete,
        cut: maps.is_cut(),
        parts: Vec::new(),
        pages: maps.total(),
        reach: header.origin().saturating_add(maps.claimed().saturating_mul(header.page)),
        notes: part.notes(header),
    }
}

/// The first absent range of a range, built up piece by piece.
struct Stretch {
    range: Range<u64>,
    found: Option<(Span, Absence)>,
}

impl Stretch {
    const fn new(range: Range<u64>) -> Self {
        Self { range, found: None }
    }

    /// Adds the next piece. Returns false if later pieces cannot change the result.
    fn add(&mut self, piece: Range<u64>, why: Option<Absence>) -> bool {
        let (from, to) = (piece.start.max(self.range.start), piece.end.min(self.range.end));
        match (&mut self.found, why) {
            (None, None) => {}
            (None, Some(why)) => self.found = Some((Span::new(from, to.saturating_sub(from)), why)),
            (Some((span, same)), Some(why)) if *same == why => span.len = to.saturating_sub(span.offset),
            (Some(_), _) => return false,
        }
        to < self.range.end
    }
}

impl<R: ReadAt> ReadAt for KdumpDump<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if buf.is_empty() {
            return Ok(());
        }
        let length = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let whole = Span::new(offset, length);
        let Some(end) = offset.checked_add(length) else {
            return Err(ReadError::Absent { span: whole, why: Absence::NotInDump });
        };
        let pages = self.pages(&(offset..end));
        let file = self.bitmap_file();
        let there = offset >= self.origin
            && match file {
                Some(file) => self.maps.all_dumped(file, pages.start, pages.end).map_err(|e| of_index(e, whole))?,
                None => false,
            };
        if there {
            match self.read_pages(offset, buf, pages.clone()) {
                Ok(()) => return Ok(()),
                Err(ReadError::Absent { span, why: Absence::Undecodable }) => {
                    return Err(ReadError::Absent { span, why: Absence::Undecodable });
                }
                // This is the last page of the range, so no absent pages follow it.
                Err(ReadError::Absent { span, why }) if self.page_of(span.offset) == pages.end.saturating_sub(1) => {
                    return Err(ReadError::Absent { span, why });
                }
                Err(ReadError::Absent { span, why }) => {
                    // The read only shows where the absent range begins, so a search finds its end.
                    let found = self.search_absent(&(span.offset..end)).map_err(|e| of_index(e, whole))?;
                    let (span, why) = found.filter(|(at, _)| at.offset == span.offset).unwrap_or((span, why));
                    return Err(ReadError::Absent { span, why });
                }
                Err(other) => return Err(other),
            }
        }
        let found = self.search_absent(&(offset..end)).map_err(|e| of_index(e, whole))?;
        let (span, why) = found.unwrap_or((whole, Absence::NotInDump));
        Err(ReadError::Absent { span, why })
    }

    /// One past the last page that the dump holds.
    fn end(&self) -> Option<u64> {
        Some(self.address(self.maps.end()))
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        if range.start >= range.end {
            return Ok(None);
        }
        let zero = self.zero_runs(&range)?;
        Ok(match zero {
            // If all of the searched part is zero, it is either the whole range, or another call searches the rest.
            Some(zero) if zero.start <= range.start => (zero.end < range.end).then_some(zero.end..range.end),
            Some(zero) => Some(range.start..zero.start),
            None => Some(range),
        })
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        if range.start >= range.end {
            return None;
        }
        // A caller that copies a large range asks for the rest of it again and again, so the last answer is kept.
        let known = self.checked.lock().ok().and_then(|known| known.clone());
        let mut from = range.start;
        if let Some((present, behind)) = known
            && present.contains(&from)
        {
            if range.end <= present.end {
                return None;
            }
            if let Some((span, why)) = behind {
                return Some((Span::new(span.offset, span.end().min(range.end).saturating_sub(span.offset)), why));
            }
            from = present.end;
        }
        let found = match self.search_absent(&(from..range.end)) {
            Ok(found) => found,
            // The range is not known to be absent. The read reports the failure.
            Err(_) => return None,
        };
        let present = range.start..found.map_or(range.end, |(span, _)| span.offset);
        // An absent range that reaches the end of this range may continue past it, so it is not kept.
        let behind = found.filter(|(span, _)| span.end() < range.end);
        if let Ok(mut known) = self.checked.lock() {
            *known = Some((present, behind));
        }
        found
    }
}

/// Converts a failure to read the bitmaps or descriptors to one of reading memory.
fn of_index(error: ReadError, span: Span) -> ReadError {
    match error {
        ReadError::Absent { why, .. } => ReadError::Absent { span, why: pages::lost(why) },
        ReadError::Io { source, .. } => ReadError::Io { span, source },
    }
}

impl<R: ReadAt> KdumpDump<R> {
    /// If the first page of the data is zero, it is the one that all zero pages share. In each part, the data starts
    /// after room for the descriptors of the whole dump.
    fn look_for_zero_page(&self) {
        let mut page = vec![0; usize::try_from(self.page).unwrap_or(0)];
        for part in &self.parts {
            let at = part.descriptors.saturating_add(self.maps.total().saturating_mul(24));
            if part.file.read_at(at, &mut page).is_ok() && page.iter().all(|b| *b == 0) {
                part.zero.store(at, Ordering::Relaxed);
            }
        }
    }

    /// The first run of zero pages in `range` that is long enough to report.
    fn zero_runs(&self, range: &Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        let Some(file) = self.bitmap_file() else { return Ok(None) };
        if self.parts.iter().all(|part| part.zero.load(Ordering::Relaxed) == 0) {
            return Ok(None);
        }
        let pages = self.pages(range);
        let whole = Span::new(range.start, range.end.saturating_sub(range.start));
        let least = LEAST_HOLE.max(self.page).min(whole.len);
        let enough = least.div_ceil(self.page.max(1)).max(1);
        let mut at = pages.start;
        let mut zeros = Vec::new();
        while at < pages.end {
            // Only a long run of pages with descriptors can hold enough zeros. A run that reaches out of the range
            // counts only with its part in the range.
            let ahead = pages.end.min(at.saturating_add(AT_ONCE));
            let Some(run) = self.maps.long_run(file, at, ahead, enough).map_err(|e| of_index(e, whole))? else {
                // A run may start shortly before the end of this step. The next step starts early enough to see it.
                let again = if ahead < pages.end { enough.saturating_sub(1) } else { 0 };
                at = ahead.saturating_sub(again).max(at.saturating_add(1));
                let seen = self.address(at).min(range.end);
                if seen.saturating_sub(range.start) >= LOOK_AHEAD && at < pages.end {
                    return Ok(Some(seen..seen));
                }
                continue;
            };
            let (mut page, mut from) = (run.start, None::<u64>);
            // A run of zeros is followed to its end.
            let mut end = run.end;
            while page < end {
                let stop = end.min(page.saturating_add(AT_ONCE));
                self.zeros(page..stop, &mut zeros).map_err(|e| of_index(e, whole))?;
                for (page, zero) in (page..).zip(&zeros) {
                    if *zero {
                        from.get_or_insert(page);
                    } else if let Some(found) = self.worth(from.take(), page, range, least) {
                        return Ok(Some(found));
                    }
                }
                page = stop;
                if page == end && from.is_some() {
                    let next = pages.end.min(page.saturating_add(AT_ONCE));
                    end = self.maps.dumped_until(file, page, next).map_err(|e| of_index(e, whole))?;
                }
            }
            if let Some(found) = self.worth(from.take(), end, range, least) {
                return Ok(Some(found));
            }
            at = end;
            let seen = self.address(at).min(range.end);
            if seen.saturating_sub(range.start) >= LOOK_AHEAD && at < pages.end {
                return Ok(Some(seen..seen));
            }
        }
        Ok(None)
    }

    /// The part in `range` of the zero pages from `from` to `to`, if it is long enough to report.
    fn worth(&self, from: Option<u64>, to: u64, range: &Range<u64>, least: u64) -> Option<Range<u64>> {
        let run = self.clip(from?..to, range);
        (run.end.saturating_sub(run.start) >= least).then_some(run)
    }

    fn clip(&self, pages: Range<u64>, range: &Range<u64>) -> Range<u64> {
        self.address(pages.start).max(range.start)..self.address(pages.end).min(range.end)
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
