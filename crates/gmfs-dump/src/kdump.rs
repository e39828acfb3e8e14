//! Kdump-compressed dumps: what makedumpfile and QEMU write. Read by physical address.
//!
//! A dump is opened by its headers and by counting one bitmap; descriptors and pages are read when they are asked for.
//! In memory is only the count before each 4096 pages (8 bytes for 16 MiB of described memory). The dump lies in
//! anything that is a [`ReadAt`]: a file, or the rearranged bytes of a flattened stream
//! ([`FlatFile`](crate::flat::FlatFile)).
//!
//! A page that the dump lacks is absent with its reason: [`NotInDump`](Absence::NotInDump) was no RAM,
//! [`Excluded`](Absence::Excluded) was filtered, [`Truncated`](Absence::Truncated) was lost when the dump was written or
//! cut, [`Undecodable`](Absence::Undecodable) is damaged. The first three, and descriptors that cannot be right, are told
//! by [`ReadAt::next_absent`] beforehand; what only decoding shows is told by [`ReadAt::read_at`]. A page that decodes is
//! not proven intact: only zlib pages carry a checksum.
//!
//! Addresses are physical, in bytes. Opening fails ([`KdumpError`]) where the headers are none, of an unknown version,
//! or of one part of several; [`KdumpDump::parse_parts`] takes all parts of a split dump. The layouts are those of the C
//! structures of makedumpfile (`diskdump_mod.h`) and QEMU (`dump.h`), which differ by the writer's word size, byte order
//! and padding; nothing in the file says which it is, so the one is taken in which the numbers make sense.
//!
//! Reads of many pages are the fast way: descriptors and data are then read in large pieces, and stretches of 512 KiB
//! and more are decoded by several threads ([`KdumpDump::set_threads`]), into the buffer of the read. Those threads are
//! started by [`gmfs_io::in_order`] like all that read ahead; whoever already reads with several threads, in smaller
//! pieces, gets none of them. Memory besides the index is bounded: one buffer of up to a MiB and the codecs' contexts for
//! each thread.
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
//! // The memory that the dump describes, without a look at any descriptor.
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
/// Zero pages are told by [`ReadAt::next_data`] only where so many bytes of them follow one another, so that what is left
/// is read in large pieces.
const LEAST_HOLE: u64 = 256 << 10;
/// So far [`ReadAt::next_data`] looks at most.
const LOOK_AHEAD: u64 = 4 << 20;
/// So many pages a search for what is absent looks ahead at first.
const FEW: u64 = 16;
/// So many descriptors are looked at in one go.
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
    /// It does not begin as such a dump does.
    #[error("this is no kdump-compressed dump")]
    Signature,
    /// In no byte order and word size do the numbers of the header make sense.
    #[error("the header of the dump is damaged: page size and bitmap size make no sense in any byte order")]
    Damaged,
    /// A version that came after this program.
    #[error("the header has version {version}; up to 6 are known")]
    Version {
        /// The version.
        version: u32,
    },
    /// The bitmap is larger than that of any machine.
    #[error("the bitmap has {bytes} bytes, which no machine needs")]
    TooLarge {
        /// The size that the header claims and the file has.
        bytes: u64,
    },
    /// No part was given.
    #[error("no part of the dump was given")]
    NoParts,
    /// Several files were given, but this one is no part of a split dump.
    #[error("file {} is no part of a split dump", number.saturating_add(1))]
    NotSplit {
        /// Which of the given files, from 0.
        number: usize,
    },
    /// Two files are parts of different dumps.
    #[error("file {} is no part of the same dump as file {}", number.saturating_add(1), other.saturating_add(1))]
    Stranger {
        /// Which of the given files, from 0.
        number: usize,
        /// The file that it was compared with.
        other: usize,
    },
    /// Two parts say that they have the same pages: the same part twice, or a damaged header.
    #[error("files {} and {} hold the same part of the dump", number.saturating_add(1), other.saturating_add(1))]
    Overlap {
        /// Which of the given files, from 0.
        number: usize,
        /// The other one.
        other: usize,
    },
    /// Parts of a split dump are missing.
    #[error("this is a split dump, and of its parts {} missing; give all parts", parts::missing(ranges))]
    MissingParts {
        /// The physical addresses that they hold.
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

/// What a dump says of itself.
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
    /// The codec that the writer was told to use. Each page has its own.
    pub codec: Option<Codec>,
    /// What was filtered: 1 zero pages, 2 page cache, 4 private cache, 8 user pages, 16 free pages.
    pub dump_level: u32,
    /// When the dump was written, in seconds since 1970. QEMU does not say.
    pub timestamp: Option<u64>,
    /// The writer ran out of space. What was lost is [`Absence::Truncated`].
    pub incomplete: bool,
    /// The file is too short for its bitmap.
    pub cut: bool,
    /// The parts of a split dump, in the order of their addresses; empty if it is not split.
    pub parts: Vec<Span>,
    /// How many pages have a descriptor.
    pub pages: u64,
    /// One past the highest physical address that the bitmap has room for.
    pub reach: u64,
    /// The notes that matter.
    pub notes: Notes,
}

/// A kdump-compressed dump over the bytes of its file, or of the files of its parts.
pub struct KdumpDump<R> {
    /// By address; never empty.
    parts: Vec<Part<R>>,
    maps: Bitmaps,
    page: u64,
    /// The physical address of page 0.
    origin: u64,
    facts: KdumpFacts,
    /// Found out when it matters, for the system takes some time to tell.
    threads: OnceLock<usize>,
    /// How many threads help in reads right now.
    helpers: AtomicUsize,
    idle: Mutex<Vec<Worker>>,
    /// The last page of which a part was asked for.
    last: Mutex<Option<(u64, Box<[u8]>)>>,
    /// What [`ReadAt::next_absent`] found: that all of the range is there, and what comes behind it.
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
    /// Reads the headers of the dump in `file` and counts its bitmap.
    ///
    /// # Errors
    /// [`KdumpError`]; [`KdumpError::MissingParts`] for one part of a split dump. A dump that was cut short is no error.
    pub fn parse(file: R) -> Result<Self, KdumpError> {
        let (header, maps, part) = Part::open(file)?;
        let facts = facts(&header, &maps, &part);
        Self::assemble(&header, maps, vec![part], facts)
    }

    /// Reads the parts of a split dump (`makedumpfile --split`), given in any order. One file that is not split will do
    /// too.
    ///
    /// # Errors
    /// [`KdumpError`], in which files are numbered in the order in which they were given.
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

    /// What the dump says of itself.
    #[must_use]
    pub const fn facts(&self) -> &KdumpFacts {
        &self.facts
    }

    /// How many threads may decode one read of 512 KiB or more. At first it is the number of processors, at most 16.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = OnceLock::from(threads.clamp(1, MAX_THREADS));
    }

    /// The memory that the bitmaps describe, ascending: each range of physical addresses with `None` if its pages have
    /// descriptors, or with the reason why not. What was no RAM is left out. Descriptors are not looked at, so pages that
    /// an incomplete dump lost count as present. Each step reads some of the bitmaps; an error of the file ends it.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        self.ranges_from(0)
    }

    /// As [`ranges`](Self::ranges), from the page on that holds an address.
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

    /// Those of [`ranges`](Self::ranges) that the dump holds. What lies between them is passed over word by word.
    pub fn held(&self) -> impl Iterator<Item = Span> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let run = self.maps.long_run(self.bitmap_file()?, at, self.maps.claimed(), 1).ok()??;
            at = run.end;
            let start = self.address(run.start);
            Some(Span::new(start, self.address(run.end).saturating_sub(start)))
        })
    }

    /// What [`ranges`](Self::ranges) gives for a range of addresses, counted: the bitmaps are read once, and looked at word
    /// by word, however many ranges they make.
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
        // The first page and the last one may lie in the range in part only.
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

    /// As [`totals`](Self::totals), with a look at the descriptors: pages that the dump lost are not held. What only
    /// decoding shows is not known.
    pub fn tally(&self, range: &Range<u64>) -> Result<Totals, ReadError> {
        let mut sums = self.totals(range)?;
        let pages = self.pages(range);
        // Pages that lie in the range in part only are looked at one by one.
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

    /// The last stretch of `range` whose pages have descriptors. Of a stretch longer than `longest` the end is given.
    pub fn last_held(&self, range: &Range<u64>, longest: u64) -> Result<Option<Span>, ReadError> {
        let Some(file) = self.bitmap_file() else { return Ok(None) };
        let pages = self.pages(range);
        // The first page and the last one may be in the range in part only.
        let longest = longest.checked_div(self.page).unwrap_or(0).saturating_add(2);
        let last = self.maps.last_run(file, pages.start, pages.end, longest)?;
        Ok(last.map(|pages| self.clip(pages, range)).map(|at| Span::new(at.start, at.end.saturating_sub(at.start))))
    }

    /// The file whose bitmaps are used.
    fn bitmap_file(&self) -> Option<&R> {
        self.parts.first().map(|part| &part.file)
    }

    /// The first physical address of a page.
    const fn address(&self, page: u64) -> u64 {
        self.origin.saturating_add(page.saturating_mul(self.page))
    }

    /// The page that an address at or above the origin is in.
    const fn page_of(&self, address: u64) -> u64 {
        // A page size is a power of two.
        address.saturating_sub(self.origin) >> self.page.trailing_zeros()
    }

    /// The pages that hold the part of `range` from the origin on.
    fn pages(&self, range: &Range<u64>) -> Range<u64> {
        let from = range.start.max(self.origin);
        if from >= range.end {
            return 0..0;
        }
        self.page_of(from)..self.page_of(range.end.saturating_sub(1)).saturating_add(1)
    }

    /// Like [`ReadAt::next_absent`], but tells failures of the file, and remembers nothing.
    fn search_absent(&self, range: &Range<u64>) -> Result<Option<(Span, Absence)>, ReadError> {
        let Some(file) = self.bitmap_file() else { return Ok(None) };
        let mut found = Stretch::new(range.clone());
        if range.start < self.origin && !found.add(range.start..self.origin, Some(Absence::NotInDump)) {
            return Ok(found.found);
        }
        let pages = self.pages(range);
        let mut at = pages.start;
        // Most searches end soon: what lies far ahead is not looked for at first.
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

    /// Looks for absent pages among those that have descriptors. Returns false at the end of what was searched for.
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

/// What every part of a dump says alike.
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

/// The first absent stretch of a range, put together piece by piece.
struct Stretch {
    range: Range<u64>,
    found: Option<(Span, Absence)>,
}

impl Stretch {
    const fn new(range: Range<u64>) -> Self {
        Self { range, found: None }
    }

    /// Adds what comes next. Returns false if nothing that comes later can matter.
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
                // The last page of the range: nothing follows that could be absent too.
                Err(ReadError::Absent { span, why }) if self.page_of(span.offset) == pages.end.saturating_sub(1) => {
                    return Err(ReadError::Absent { span, why });
                }
                Err(ReadError::Absent { span, why }) => {
                    // Only where it begins is known from reading.
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
            // All that was looked at is zero: so is the range, or the rest is for another look.
            Some(zero) if zero.start <= range.start => (zero.end < range.end).then_some(zero.end..range.end),
            Some(zero) => Some(range.start..zero.start),
            None => Some(range),
        })
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        if range.start >= range.end {
            return None;
        }
        // Whoever copies a large range asks for the rest of it again and again.
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
            // Not absent: the read will tell.
            Err(_) => return None,
        };
        let present = range.start..found.map_or(range.end, |(span, _)| span.offset);
        // A stretch that was cut by the end of this range may go on behind it.
        let behind = found.filter(|(span, _)| span.end() < range.end);
        if let Ok(mut known) = self.checked.lock() {
            *known = Some((present, behind));
        }
        found
    }
}

/// A failure to read the bitmaps or descriptors, as one of reading the memory.
fn of_index(error: ReadError, span: Span) -> ReadError {
    match error {
        ReadError::Absent { why, .. } => ReadError::Absent { span, why: pages::lost(why) },
        ReadError::Io { source, .. } => ReadError::Io { span, source },
    }
}

impl<R: ReadAt> KdumpDump<R> {
    /// Where the first page of the data is all zero, it is the one that all zero pages share. In each part it is behind
    /// room for the descriptors of the whole dump.
    fn look_for_zero_page(&self) {
        let mut page = vec![0; usize::try_from(self.page).unwrap_or(0)];
        for part in &self.parts {
            let at = part.descriptors.saturating_add(self.maps.total().saturating_mul(24));
            if part.file.read_at(at, &mut page).is_ok() && page.iter().all(|b| *b == 0) {
                part.zero.store(at, Ordering::Relaxed);
            }
        }
    }

    /// The first run of zero pages in `range` that is worth telling.
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
            // Nothing but a long run of pages that are there can be worth telling. A run that is cut by the range counts by
            // the part of it in the range.
            let ahead = pages.end.min(at.saturating_add(AT_ONCE));
            let Some(run) = self.maps.long_run(file, at, ahead, enough).map_err(|e| of_index(e, whole))? else {
                // One that begins shortly before the end of this look is seen in the next one.
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

    /// The pages from `from` to `to` as a part of `range`, if they are zero and enough of them.
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
