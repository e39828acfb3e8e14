//! A mappings table, read piece by piece.

use std::collections::VecDeque;

use super::{Lack, PAGE_BYTES, PAGE_SIZE, ReadAt, TABLE_ENTRIES, to_usize};
use crate::reading::read_pages;

/// Entries in a page of a table.
const PAGE_ENTRIES: u32 = 512;
/// Pages of a table.
const PAGES: u32 = TABLE_ENTRIES.div_ceil(PAGE_ENTRIES);
/// Pages that are read at once.
const PIECE: u32 = 16;

/// What consecutive entries hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// 0: no block.
    None,
    /// A block; the entries that follow hold the blocks that follow.
    Block(u64),
    /// They cannot be read.
    Unknown(Lack),
}

/// Consecutive entries of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The first entry.
    pub(super) first: u32,
    /// How many.
    pub(super) count: u32,
    /// What they hold.
    pub(super) value: Value,
}

impl Run {
    /// One past the last entry.
    pub(super) const fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }

    /// Takes in what follows, if it continues this. Blocks of the region (below `blocks`) and blocks past its end are kept
    /// apart.
    pub(super) fn extend(&mut self, next: Run, blocks: u32) -> bool {
        let inside = |block: u64| block < u64::from(blocks);
        let continues = match (self.value, next.value) {
            (Value::None, Value::None) => true,
            (Value::Unknown(one), Value::Unknown(other)) => one == other,
            (Value::Block(one), Value::Block(other)) => {
                one.checked_add(self.count.into()) == Some(other) && inside(one) == inside(other)
            }
            _ => false,
        };
        if continues && self.end() == next.first {
            self.count = self.count.saturating_add(next.count);
            return true;
        }
        false
    }
}

/// Reads a table from its first entry to its last. Memory: one piece, 64 KiB, and what its entries say.
pub(super) struct Table<'a> {
    source: &'a dyn ReadAt,
    /// Where the table starts in the source.
    start: u64,
    /// Blocks of the region.
    blocks: u32,
    /// Unknown entries from this one on are taken for 0: the file cannot have more.
    most: u32,
    /// Whether that was done.
    pub(super) assumed: bool,
    /// The next page to be read.
    page: u32,
    /// Pages before this one may hold something. The source has not been asked about the pages from this one on.
    data_end: u32,
    buffer: Box<[u8]>,
    runs: VecDeque<Run>,
}

impl<'a> Table<'a> {
    /// The table at `start` of the source, of a file with at most `most` entries, in a region of `blocks` blocks.
    pub(super) fn new(source: &'a dyn ReadAt, start: u64, blocks: u32, most: u32) -> Self {
        let buffer = vec![0; to_usize(PIECE).saturating_mul(PAGE_SIZE)].into();
        Self { source, start, blocks, most, assumed: false, page: 0, data_end: 0, buffer, runs: VecDeque::new() }
    }

    /// The next run. Runs of one table may continue each other.
    pub(super) fn next(&mut self) -> Option<Run> {
        while self.runs.is_empty() && self.page < PAGES {
            self.skip_zeros();
            self.read_piece();
        }
        self.runs.pop_front()
    }

    /// Where a page starts in the source.
    fn offset(&self, page: u32) -> u64 {
        self.start.saturating_add(u64::from(page).saturating_mul(PAGE_BYTES))
    }

    /// Goes to the next page that may hold anything but zeros.
    fn skip_zeros(&mut self) {
        if self.page < self.data_end {
            return;
        }
        let page_of = |at: u64| u32::try_from(at.saturating_sub(self.start).checked_div(PAGE_BYTES)?).ok();
        let (from, to) = match self.source.next_data(self.offset(self.page)..self.offset(PAGES)) {
            Ok(None) => (PAGES, PAGES),
            Ok(Some(data)) => {
                let from = page_of(data.start).unwrap_or(PAGES).clamp(self.page, PAGES);
                let last = page_of(data.end.saturating_sub(1)).unwrap_or(PAGES);
                (from, last.saturating_add(1).clamp(from.saturating_add(1), PAGES.max(from.saturating_add(1))))
            }
            // It cannot say; reading will.
            Err(_) => (self.page, PAGES),
        };
        self.add(self.page, from.saturating_sub(self.page), Value::None);
        self.page = from;
        self.data_end = to.min(PAGES);
    }

    /// Reads the next pages and decodes them.
    fn read_piece(&mut self) {
        let pages = self.data_end.saturating_sub(self.page).min(PIECE);
        let length = to_usize(pages).saturating_mul(PAGE_SIZE);
        let (at, first) = (self.offset(self.page), self.page);
        let mut lacks = [None; 16];
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(bytes) = buffer.get_mut(..length) {
            read_pages(self.source, at, bytes, |page, lack| {
                if let Some(place) = lacks.get_mut(to_usize(page)) {
                    *place = Some(lack);
                }
            });
            for ((page, bytes), lack) in (first..).zip(bytes.chunks_exact(PAGE_SIZE)).zip(lacks) {
                self.decode(page, bytes, lack);
            }
        }
        self.buffer = buffer;
        self.page = self.page.saturating_add(pages);
    }

    /// Decodes a page.
    fn decode(&mut self, page: u32, bytes: &[u8], lack: Option<Lack>) {
        if let Some(lack) = lack {
            self.add_unknown(page, lack);
        } else if bytes.iter().all(|byte| *byte == 0) {
            self.add(page, 1, Value::None);
        } else {
            let (entries, _) = bytes.as_chunks::<8>();
            for (first, entry) in (page.saturating_mul(PAGE_ENTRIES)..).zip(entries) {
                let value = match u64::from_le_bytes(*entry) {
                    0 => Value::None,
                    block => Value::Block(block),
                };
                self.push(Run { first, count: 1, value });
            }
        }
    }

    /// Adds the entries of a page that cannot be read.
    fn add_unknown(&mut self, page: u32, lack: Lack) {
        let first = page.saturating_mul(PAGE_ENTRIES);
        let end = first.saturating_add(PAGE_ENTRIES);
        let split = self.most.clamp(first, end);
        self.push(Run { first, count: split.saturating_sub(first), value: Value::Unknown(lack) });
        self.push(Run { first: split, count: end.saturating_sub(split), value: Value::None });
        self.assumed |= split < end;
    }

    /// Adds whole pages.
    fn add(&mut self, page: u32, pages: u32, value: Value) {
        let (first, count) = (page.saturating_mul(PAGE_ENTRIES), pages.saturating_mul(PAGE_ENTRIES));
        self.push(Run { first, count, value });
    }

    fn push(&mut self, run: Run) {
        let merged = self.runs.back_mut().is_some_and(|last| last.extend(run, self.blocks));
        if run.count > 0 && !merged {
            self.runs.push_back(run);
        }
    }
}
