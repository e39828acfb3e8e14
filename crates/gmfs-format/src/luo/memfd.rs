//! The record of a memfd, and where its content is.

use std::collections::{HashSet, VecDeque};

use gmfs_io::ReadAt;
use gmfs_io::num::small;

use super::Fault;
use super::raw::{FolioRaw, MemfdV1Raw, MemfdV2Raw, VmallocRaw};
use crate::kho::{Map, PAGE, Page, is_page, read, word};

/// Bits of a page frame number in a folio.
const FRAME: u64 = (1 << 52) - 1;
/// All seals that there are.
const SEALS: u32 = 0x3f;
/// Folios in a page of the array.
const PER_PAGE: u64 = 256;
/// Addresses in a chunk of the list of pages.
const PER_CHUNK: usize = 511;
/// The largest folio of a file in memory, in pages: the page cache of Linux has none above order 11.
const MAX_FOLIO: u64 = 1 << 11;
/// Folios without a frame that are passed over. A kernel writes none.
const MAX_SKIPPED: u64 = 1 << 16;
/// No file in memory is larger.
const MAX_SIZE: u64 = 1 << 52;

/// The form of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemfdVersion {
    /// `memfd-v1`: 6.19 and 7.0. It has no seals.
    V1,
    /// `memfd-v2`: 7.1 and later.
    V2,
}

impl MemfdVersion {
    /// The form that a handler writes, if it hands memfds over.
    #[must_use]
    pub fn of(handler: &[u8]) -> Option<Self> {
        match handler {
            b"memfd-v1" => Some(Self::V1),
            b"memfd-v2" => Some(Self::V2),
            _ => None,
        }
    }

    /// The handler.
    #[must_use]
    pub const fn handler(self) -> &'static str {
        match self {
            Self::V1 => "memfd-v1",
            Self::V2 => "memfd-v2",
        }
    }

    /// Bytes of a record.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::V1 => 40,
            Self::V2 => 48,
        }
    }
}

/// The record of a memfd, with numbers that agree with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memfd {
    /// Where the record is: the start of a page.
    pub at: u64,
    /// Its form.
    pub version: MemfdVersion,
    /// Position in the file.
    pub position: u64,
    /// Size in bytes.
    pub size: u64,
    /// The seals; `None` in a form that does not hand them over.
    pub seals: Option<u32>,
    /// Folios that the file has.
    pub folios: u64,
    /// First chunk of the list of pages of the array of folios; 0 if there are no folios.
    pub list: u64,
    /// Pages of that array.
    pub pages: u32,
    /// Each entry of the list stands for 2^order pages.
    pub order: u32,
}

impl Memfd {
    /// Reads the record at an address.
    ///
    /// # Errors
    /// It is not there, or its numbers contradict one another: its page has another owner now, or is damaged.
    pub fn read(source: &dyn ReadAt, version: MemfdVersion, at: u64) -> Result<Self, Fault> {
        if !is_page(at) {
            return Err(Fault::BadLink { holder: 0, value: at });
        }
        let unreadable = |_| Fault::Unreadable { at };
        let (found, flags, array) = match version {
            MemfdVersion::V1 => {
                let raw: MemfdV1Raw = read(source, at).map_err(unreadable)?;
                ((raw.position.get(), raw.size.get(), None, raw.folios.get()), 0, raw.array)
            }
            MemfdVersion::V2 => {
                let raw: MemfdV2Raw = read(source, at).map_err(unreadable)?;
                let seals = Some(raw.seals.get());
                ((raw.position.get(), raw.size.get(), seals, raw.folios.get()), raw.flags.get(), raw.array)
            }
        };
        let (position, size, seals, folios) = found;
        let (list, pages, order) = (array.first.get(), array.pages.get(), u32::from(array.order.get()));
        let record = Self { at, version, position, size, seals, folios, list, pages, order };
        record.check(flags, &array)?;
        Ok(record)
    }

    fn check(&self, flags: u32, array: &VmallocRaw) -> Result<(), Fault> {
        let at = self.at;
        let bad = |field, value| Err(Fault::BadRecord { at, field, value });
        if self.position > i64::MAX.unsigned_abs() {
            return bad("the position", self.position);
        }
        if self.size > MAX_SIZE {
            return bad("the size", self.size);
        }
        if let Some(seals) = self.seals.filter(|seals| *seals > SEALS) {
            return bad("the seals", seals.into());
        }
        if flags != 0 {
            return bad("the flags", flags.into());
        }
        // A file without bytes has no folios, and the rest of its record is zero.
        if (self.folios == 0) != (self.size == 0) || self.folios > self.size.div_ceil(PAGE) {
            return bad("the number of folios", self.folios);
        }
        if self.folios == 0 {
            return Ok(());
        }
        if self.order > 10 {
            return bad("the order of the array", self.order.into());
        }
        if array.flags.get() == 0 || array.flags.get() > 3 {
            return bad("the flags of the array", array.flags.get().into());
        }
        let unit = 1_u64.checked_shl(self.order).unwrap_or(1);
        if self.folios.div_ceil(PER_PAGE).checked_next_multiple_of(unit) != Some(self.pages.into()) {
            return bad("the pages of the array", self.pages.into());
        }
        if !is_page(self.list) {
            return Err(Fault::BadLink { holder: at, value: self.list });
        }
        Ok(())
    }

    /// Whether all of it is zero: an empty file without seals, or a page that was given back.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        let numbers = [self.position, self.size, self.seals.unwrap_or_default().into(), self.list, self.pages.into()];
        numbers.iter().all(|number| *number == 0)
    }

    /// The folios, in the order of the file.
    #[must_use]
    pub fn folios<'s>(&self, source: &'s dyn ReadAt) -> Folios<'s> {
        Folios::new(source, *self)
    }

    /// Where the content is. A map that is known to be the hand-over's makes it exact where records are missing.
    #[must_use]
    pub fn extents<'s>(&self, source: &'s dyn ReadAt, map: Option<&'s Map>) -> Extents<'s> {
        let (folios, ready) = (self.folios(source), VecDeque::new());
        Extents { folios, source, map, size: self.size, held: None, covered: 0, ready, last: None, done: false }
    }

    /// Hands the pages that the record itself takes to `each`: the record, its list, and its array.
    ///
    /// # Errors
    /// The list is broken; what comes after is not handed out.
    pub fn own_pages(&self, source: &dyn ReadAt, mut each: impl FnMut(Part, u64)) -> Result<(), Fault> {
        each(Part::Record, self.at);
        let mut list = Pages::new(self);
        let mut chunk = None;
        while let Some(at) = list.next(source)? {
            if chunk != Some(list.chunk) {
                chunk = Some(list.chunk);
                each(Part::List, list.chunk);
            }
            each(Part::Array, at);
        }
        // A list whose chunk is full is followed by an empty one.
        if let Some(empty) = list.following(source) {
            each(Part::List, empty);
        }
        Ok(())
    }
}

/// What a page of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The record.
    Record,
    /// A chunk of the list of the array's pages.
    List,
    /// A page of the array of folios.
    Array,
}

/// The pages of an array, in order.
struct Pages {
    /// The chunk that is read.
    chunk: u64,
    bytes: Option<Box<Page>>,
    slot: usize,
    /// Pages of the current entry that are left, and the next of them.
    left: u64,
    at: u64,
    given: u64,
    record: Memfd,
    seen: HashSet<u64>,
}

impl Pages {
    fn new(record: &Memfd) -> Self {
        let (chunk, record) = (record.list, *record);
        Self { chunk, bytes: None, slot: 0, left: 0, at: 0, given: 0, record, seen: HashSet::new() }
    }

    fn short(&self) -> Fault {
        let room = self.given.saturating_mul(PER_PAGE);
        Fault::ShortArray { at: self.record.at, said: self.record.folios, found: room }
    }

    /// The next page, or `None` after the last one.
    fn next(&mut self, source: &dyn ReadAt) -> Result<Option<u64>, Fault> {
        if self.given >= self.record.pages.into() {
            return Ok(None);
        }
        while self.left == 0 {
            let bytes = match &self.bytes {
                Some(bytes) if self.slot < PER_CHUNK => bytes,
                Some(bytes) => {
                    let (holder, next) = (self.chunk, word(&**bytes, 0));
                    if next == 0 {
                        return Err(self.short());
                    }
                    self.chunk = next;
                    self.slot = 0;
                    self.bytes.insert(Self::chunk(source, &mut self.seen, holder, next)?)
                }
                None => self.bytes.insert(Self::chunk(source, &mut self.seen, self.record.at, self.chunk)?),
            };
            let at = word(&**bytes, self.slot.saturating_add(1).saturating_mul(8));
            if at == 0 {
                return Err(self.short());
            }
            if !is_page(at) {
                return Err(Fault::BadLink { holder: self.chunk, value: at });
            }
            self.slot = self.slot.saturating_add(1);
            self.left = 1_u64.checked_shl(self.record.order).unwrap_or(1);
            self.at = at;
        }
        let page = self.at;
        self.left = self.left.saturating_sub(1);
        self.at = self.at.saturating_add(PAGE);
        self.given = self.given.saturating_add(1);
        Ok(Some(page))
    }

    fn chunk(source: &dyn ReadAt, seen: &mut HashSet<u64>, holder: u64, at: u64) -> Result<Box<Page>, Fault> {
        if !is_page(at) {
            return Err(Fault::BadLink { holder, value: at });
        }
        if !seen.insert(at) {
            return Err(Fault::Twice { holder, at });
        }
        read::<Page>(source, at).map(Box::new).map_err(|_| Fault::Unreadable { at })
    }

    /// The empty chunk after the last one, if there is one.
    fn following(&self, source: &dyn ReadAt) -> Option<u64> {
        let next = word(&**self.bytes.as_ref()?, 0);
        (is_page(next) && !self.seen.contains(&next) && read::<u64>(source, next).is_ok()).then_some(next)
    }
}

/// A folio of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folio {
    /// Which one, counted from 0.
    pub number: u64,
    /// Its page frame number.
    pub frame: u64,
    /// Its flags: 3, up to date and dirty.
    pub flags: u64,
    /// Which page of the file it begins with.
    pub index: u64,
}

/// The folios of a file, as they are recorded. Ends at the first fault.
pub struct Folios<'s> {
    source: &'s dyn ReadAt,
    record: Memfd,
    pages: Pages,
    page: Box<Page>,
    number: u64,
    /// No folio may begin before this page of the file.
    least: u64,
    skipped: u64,
    ended: bool,
}

impl<'s> Folios<'s> {
    fn new(source: &'s dyn ReadAt, record: Memfd) -> Self {
        let page = Box::new([0; 4096]);
        Self { source, record, pages: Pages::new(&record), page, number: 0, least: 0, skipped: 0, ended: false }
    }

    /// Folios without a frame that were passed over.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    fn advance(&mut self) -> Result<Option<Folio>, Fault> {
        let at = self.record.at;
        while self.number < self.record.folios {
            let number = self.number;
            let within = number.checked_rem(PER_PAGE).unwrap_or_default();
            if within == 0 {
                let Some(page) = self.pages.next(self.source)? else { return Err(self.pages.short()) };
                self.source.read_at(page, &mut *self.page).map_err(|_| Fault::Unreadable { at: page })?;
            }
            self.number = number.saturating_add(1);
            let entries = self.page.as_chunks::<16>().0;
            let Some(bytes) = entries.get(small(within)) else { return Ok(None) };
            let raw: FolioRaw = zerocopy::transmute!(*bytes);
            let (frame, flags, index) = (raw.frame.get() & FRAME, raw.frame.get() >> 52, raw.index.get());
            if frame == 0 {
                self.skipped = self.skipped.saturating_add(1);
                if self.skipped > MAX_SKIPPED {
                    return Err(Fault::NoFrame { at, number });
                }
                continue;
            }
            if flags > 3 {
                return Err(Fault::BadRecord { at, field: "the flags of a folio", value: flags });
            }
            if index < self.least {
                return Err(Fault::BadIndex { at, number, index });
            }
            if index >= self.record.size.div_ceil(PAGE) {
                return Err(Fault::PastEnd { at, number, index });
            }
            self.least = index.saturating_add(1);
            return Ok(Some(Folio { number, frame, flags, index }));
        }
        Ok(None)
    }
}

impl Iterator for Folios<'_> {
    type Item = Result<Folio, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
    /// The physical address of its bytes; `None` if nothing says where they are.
    pub at: Option<u64>,
}

/// Where the content of a file is: extents that cover the file, in order. What adjoins in the file and in memory is one.
pub struct Extents<'s> {
    folios: Folios<'s>,
    source: &'s dyn ReadAt,
    map: Option<&'s Map>,
    size: u64,
    /// The last folio: how long it is shows only in what follows.
    held: Option<Folio>,
    /// The file is covered up to here, in bytes.
    covered: u64,
    /// What is not handed out yet.
    ready: VecDeque<Extent>,
    /// The last folio, once it is known to be that.
    last: Option<Folio>,
    done: bool,
}

impl Extents<'_> {
    /// What the last folio has past the end of the file: known once all extents were handed out. Without a map that is the
    /// rest of a page.
    #[must_use]
    pub fn tail(&self) -> Option<Extent> {
        let last = self.last?;
        let at = last.frame.checked_mul(PAGE)?;
        let start = last.index.checked_mul(PAGE)?;
        let order = self.map.and_then(|map| map.order_of(self.source, at));
        let least = self.size.checked_sub(start)?;
        let len = PAGE.checked_shl(order.unwrap_or(0)).unwrap_or(PAGE).max(least.checked_next_multiple_of(PAGE)?);
        let rest = len.checked_sub(least).filter(|rest| *rest > 0)?;
        Some(Extent { offset: self.size, len: rest, at: at.checked_add(least) })
    }

    /// Pages of a folio, after which the file goes on at page `next`.
    fn length(&self, folio: &Folio, next: u64, last: bool) -> u64 {
        let room = next.saturating_sub(folio.index);
        let known = || {
            let order = self.map?.order_of(self.source, folio.frame.checked_mul(PAGE)?)?;
            1_u64.checked_shl(order)
        };
        let aligned = |pages: u64| folio.frame.checked_rem(pages) == Some(0);
        if last {
            // The last one may reach past the end of the file.
            let least = room.checked_next_power_of_two().unwrap_or(u64::MAX);
            return match known() {
                Some(pages) => pages.min(room),
                None if least <= MAX_FOLIO && aligned(least) => room,
                // Too short to reach the end: folios are missing.
                None => 1,
            };
        }
        if room.is_power_of_two() && room <= MAX_FOLIO && aligned(room) {
            return room;
        }
        known().unwrap_or(0).min(room)
    }

    /// Covers the file from where it is covered up to byte `to` with what is at `at`.
    fn cover(&mut self, to: u64, at: Option<u64>) {
        let to = to.min(self.size);
        let Some(len) = to.checked_sub(self.covered).filter(|len| *len > 0) else { return };
        let offset = std::mem::replace(&mut self.covered, to);
        if let Some(last) = self.ready.back_mut() {
            let adjoins = match (last.at, at) {
                (Some(before), Some(at)) => before.checked_add(last.len) == Some(at),
                (None, None) => true,
                _ => false,
            };
            if adjoins {
                last.len = last.len.saturating_add(len);
                return;
            }
        }
        self.ready.push_back(Extent { offset, len, at });
    }
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let bytes = |pages: u64| pages.saturating_mul(PAGE);
        // More may adjoin to the last one.
        while self.ready.len() < 2 && !self.done {
            let next = self.folios.next().and_then(Result::ok);
            self.done = next.is_none();
            let until = next.map_or(self.size.div_ceil(PAGE), |folio| folio.index);
            if let Some(held) = std::mem::replace(&mut self.held, next) {
                if next.is_none() {
                    self.last = Some(held);
                }
                let end = held.index.saturating_add(self.length(&held, until, next.is_none()));
                self.cover(bytes(end), held.frame.checked_mul(PAGE));
            }
            // A folio that ends early, or a first one that does not begin the file.
            self.cover(bytes(until), None);
        }
        self.ready.pop_front()
    }
}
