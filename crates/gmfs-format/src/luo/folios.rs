//! The folios of a memfd, as its array records them.

use std::collections::HashSet;
use std::ops::ControlFlow;

use gmfs_io::ReadAt;
use gmfs_io::num::{len64, round_down, small};

use super::Fault;
use super::memfd::{Memfd, PER_PAGE};
use super::raw::FolioRaw;
use crate::kho::{PAGE, Page, is_page, read, word};

/// Bits of a page frame number in a folio.
const FRAME: u64 = (1 << 52) - 1;
/// Addresses in a chunk of the list of pages.
const PER_CHUNK: usize = 511;
/// What tells a chunk from a page of an array among the pages that records take.
const LIST: u64 = 1 << 11;
/// Folios without a frame that are passed over. A kernel writes none.
const MAX_SKIPPED: u64 = 1 << 16;
/// Pages of the array that are read at once, if they adjoin.
const MOST_PAGES: u64 = 16;
/// Records that are compared before it is looked whether one of them differs.
const BLOCK: usize = 32;

impl Memfd {
    /// The folios, in the order of the file.
    #[must_use]
    pub fn folios<'s>(&self, source: &'s dyn ReadAt) -> Folios<'s> {
        Folios::new(source, *self)
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

    /// Adds the pages of the list and of the array to `taken`, unless one of them is in it already: then this is no record of
    /// its own. Gives whether they were added. They go as far as the image has them.
    pub(super) fn take_pages(&self, source: &dyn ReadAt, taken: &mut HashSet<u64>) -> bool {
        let mut own = Vec::new();
        let all_new = self.each_entry(source, |at, number| {
            // A broken list has what comes before its fault.
            if at.is_some_and(|at| read::<u64>(source, at).is_err()) {
                return ControlFlow::Break(true);
            }
            if !taken.insert(number) {
                return ControlFlow::Break(false);
            }
            own.push(number);
            ControlFlow::Continue(())
        });
        if !all_new {
            own.iter().for_each(|page| {
                taken.remove(page);
            });
        }
        all_new
    }

    /// Adds the pages of the list and of the array to `taken`, up to the first that is in it already, and gives whether there
    /// was none. A list that another one leads into is not walked again, so that all lists of a store together take no longer
    /// than they have pages.
    pub fn is_alone(&self, source: &dyn ReadAt, taken: &mut HashSet<u64>) -> bool {
        self.each_entry(source, |_, number| match taken.insert(number) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(false),
        })
    }

    /// Hands each page of the list to `each`, and each entry of the array with its address: as a number that nothing else has.
    /// Ends early with what `each` says, otherwise with true.
    fn each_entry(&self, source: &dyn ReadAt, mut each: impl FnMut(Option<u64>, u64) -> ControlFlow<bool>) -> bool {
        let (mut list, mut chunk) = (Pages::new(self), None);
        let bytes = PAGE.checked_shl(self.order).unwrap_or(PAGE);
        while let Ok(Some(at)) = list.next(source) {
            list.pass_entry();
            let next = (chunk != Some(list.chunk)).then_some((None, list.chunk | LIST));
            chunk = Some(list.chunk);
            // Entries of different sizes are kept apart, so that each is one number.
            let entry = (Some(at), round_down(at, bytes) | u64::from(self.order));
            for (at, number) in next.into_iter().chain([entry]) {
                if let ControlFlow::Break(end) = each(at, number) {
                    return end;
                }
            }
        }
        true
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

    /// Passes over the pages of the entry that are left.
    fn pass_entry(&mut self) {
        self.given = self.given.saturating_add(std::mem::take(&mut self.left));
    }

    /// How many pages adjoin to a page that was handed out just now, itself included, `most` at most. They count as handed
    /// out too.
    fn adjoining(&mut self, page: u64, most: u64) -> u64 {
        let mut count = 1_u64;
        while count < most && self.given < self.record.pages.into() {
            let next = page.saturating_add(count.saturating_mul(PAGE));
            if self.left == 0 {
                let Some(bytes) = self.bytes.as_ref().filter(|_| self.slot < PER_CHUNK) else { break };
                let at = word(&**bytes, self.slot.saturating_add(1).saturating_mul(8));
                if at != next || !is_page(at) {
                    break;
                }
                self.slot = self.slot.saturating_add(1);
                self.left = 1_u64.checked_shl(self.record.order).unwrap_or(1);
                self.at = at;
            }
            self.left = self.left.saturating_sub(1);
            self.at = self.at.saturating_add(PAGE);
            self.given = self.given.saturating_add(1);
            count = count.saturating_add(1);
        }
        count
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

    /// Whether the list ends as a kernel ends it, once its last page was handed out: the rest of the chunk is zero, and no
    /// chunk follows but an empty one after a full one.
    fn end(&self, source: &dyn ReadAt) -> Result<(), Fault> {
        let (at, holder) = (self.record.at, self.chunk);
        let Some(bytes) = &self.bytes else { return Ok(()) };
        let words = |bytes: &Page, from: usize| {
            let words = bytes.as_chunks().0.iter().skip(from).map(|word| u64::from_le_bytes(*word));
            words.into_iter().find(|word| *word != 0)
        };
        if let Some(value) = words(bytes, self.slot.saturating_add(1)) {
            return Err(Fault::BadRecord {
                at,
                field: "an entry past the end of the list of its folios' pages",
                value,
            });
        }
        let next = word(&**bytes, 0);
        if next == 0 {
            return Ok(());
        }
        if !is_page(next) {
            return Err(Fault::BadLink { holder, value: next });
        }
        if self.seen.contains(&next) {
            return Err(Fault::Twice { holder, at: next });
        }
        let field = "the link past the end of the list of its folios' pages";
        if self.slot < PER_CHUNK {
            return Err(Fault::BadRecord { at, field, value: next });
        }
        let empty: Page = read(source, next).map_err(|_| Fault::Unreadable { at: next })?;
        if words(&empty, 0).is_some() {
            return Err(Fault::BadRecord { at, field, value: next });
        }
        Ok(())
    }

    /// The empty chunk after the last one, if there is one: only a full one has one.
    fn following(&self, source: &dyn ReadAt) -> Option<u64> {
        let next = word(&**self.bytes.as_ref().filter(|_| self.slot == PER_CHUNK)?, 0);
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

/// Folios one after another: from each to the next, page frame number and index rise by the same step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolioRun {
    /// The first.
    pub first: Folio,
    /// How many, at least 1.
    pub count: u64,
    /// The step in pages, at least 1; of a single folio 1.
    pub step: u64,
}

impl FolioRun {
    /// One of the folios, counted from 0.
    #[must_use]
    pub fn get(&self, n: u64) -> Folio {
        let Folio { number, frame, flags, index } = self.first;
        let pages = n.saturating_mul(self.step);
        Folio {
            number: number.saturating_add(n),
            frame: frame.saturating_add(pages),
            flags,
            index: index.saturating_add(pages),
        }
    }

    /// The last folio.
    #[must_use]
    pub fn last(&self) -> Folio {
        self.get(self.count.saturating_sub(1))
    }
}

/// The folios of a file, as they are recorded. Ends at the first fault.
pub struct Folios<'s> {
    source: &'s dyn ReadAt,
    record: Memfd,
    pages: Pages,
    /// Pages of the array that were read, which of their records comes next, and how many there are.
    buffer: Vec<u8>,
    next: usize,
    end: usize,
    /// Pages that follow them and are read one by one, because they could not be read together: the first, and how many.
    single: (u64, u64),
    /// How many pages are read at once next time.
    most: u64,
    number: u64,
    /// No folio may begin before this page of the file.
    least: u64,
    skipped: u64,
    ended: bool,
}

impl<'s> Folios<'s> {
    fn new(source: &'s dyn ReadAt, record: Memfd) -> Self {
        Self {
            source,
            record,
            pages: Pages::new(&record),
            buffer: Vec::new(),
            next: 0,
            end: 0,
            single: (0, 0),
            most: 1,
            number: 0,
            least: 0,
            skipped: 0,
            ended: false,
        }
    }

    /// Folios without a frame that were passed over.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether the list of the array's pages ends where the array does, once all folios were handed out.
    ///
    /// # Errors
    /// The list goes on, which no kernel writes, or is broken there.
    pub fn check_end(&mut self) -> Result<(), Fault> {
        if self.record.folios == 0 {
            return Ok(());
        }
        // An entry can have more pages than the folios need.
        while self.pages.next(self.source)?.is_some() {
            self.pages.pass_entry();
        }
        self.pages.end(self.source)
    }

    /// The next folios that form a run. The runs consist of the folios that the iterator gives, and end as it does.
    pub fn next_run(&mut self) -> Option<Result<FolioRun, Fault>> {
        let first = self.next()?;
        Some(first.map(|first| self.run_from(first)))
    }

    /// The run that begins with a folio that was read just now.
    fn run_from(&mut self, first: Folio) -> FolioRun {
        let single = FolioRun { first, count: 1, step: 1 };
        let left = small(self.record.folios.saturating_sub(self.number));
        let end = self.end.min(self.next.saturating_add(left));
        let rest = self.buffer.as_chunks().0.get(self.next..end).unwrap_or_default();
        let word = first.frame | first.flags << 52;
        let Some(next) = rest.first().map(FolioRaw::halves) else { return single };
        let Some(step) = next.1.checked_sub(first.index).filter(|step| *step > 0) else { return single };
        // No frame of the run may reach into the flags, and no index past the end of the file.
        let room = |from: u64, to: u64| to.saturating_sub(from).checked_div(step).unwrap_or_default();
        let last = self.record.size.div_ceil(PAGE).saturating_sub(1);
        let most = room(first.frame, FRAME).min(room(first.index, last));
        let more = alike(rest, (word, first.index), step).min(most);
        if more == 0 {
            return single;
        }
        let run = FolioRun { first, count: more.saturating_add(1), step };
        self.next = self.next.saturating_add(small(more));
        self.number = self.number.saturating_add(more);
        self.least = run.last().index.saturating_add(1);
        run
    }

    /// Reads pages of the array into the buffer.
    fn fill(&mut self, at: u64, pages: u64) -> bool {
        self.buffer.resize(small(pages.saturating_mul(PAGE)), 0);
        (self.next, self.end) = (0, small(pages.saturating_mul(PER_PAGE)));
        self.source.read_at(at, &mut self.buffer).is_ok()
    }

    /// Reads the next pages of the array: those that adjoin together, more and more of them.
    fn load(&mut self) -> Result<(), Fault> {
        let (at, count) = match self.single {
            (at, count) if count > 0 => (at, count),
            _ => {
                let Some(at) = self.pages.next(self.source)? else { return Err(self.pages.short()) };
                let done = self.number.checked_div(PER_PAGE).unwrap_or_default();
                let needed = self.record.folios.div_ceil(PER_PAGE).saturating_sub(done);
                let count = self.pages.adjoining(at, self.most.min(needed));
                self.most = self.most.saturating_mul(2).min(MOST_PAGES);
                if self.fill(at, count) {
                    return Ok(());
                }
                (at, count)
            }
        };
        self.single = (at.saturating_add(PAGE), count.saturating_sub(1));
        if self.fill(at, 1) { Ok(()) } else { Err(Fault::Unreadable { at }) }
    }

    fn advance(&mut self) -> Result<Option<Folio>, Fault> {
        let at = self.record.at;
        while self.number < self.record.folios {
            let number = self.number;
            if self.next == self.end {
                self.load()?;
            }
            let Some(bytes) = self.buffer.as_chunks().0.get(self.next) else { return Ok(None) };
            let (word, index) = FolioRaw::halves(bytes);
            self.number = number.saturating_add(1);
            self.next = self.next.saturating_add(1);
            let (frame, flags) = (word & FRAME, word >> 52);
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

/// How many records, from the first on, are what the record before them is, with frame and index a step further each time.
fn alike(records: &[[u8; 16]], before: (u64, u64), step: u64) -> u64 {
    let (mut word, mut index) = before;
    let mut count = 0_usize;
    for block in records.chunks(BLOCK) {
        let (from, mut other) = ((word, index), 0);
        // Without a way out, so that a whole block is compared at the speed of memory.
        for record in block {
            let found = FolioRaw::halves(record);
            (word, index) = (word.wrapping_add(step), index.wrapping_add(step));
            other |= found.0 ^ word | found.1 ^ index;
        }
        if other != 0 {
            (word, index) = from;
            let same = block.iter().take_while(|record| {
                (word, index) = (word.wrapping_add(step), index.wrapping_add(step));
                FolioRaw::halves(record) == (word, index)
            });
            return len64(count.saturating_add(same.count()));
        }
        count = count.saturating_add(block.len());
    }
    len64(count)
}
