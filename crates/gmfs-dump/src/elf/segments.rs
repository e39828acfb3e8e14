//! The program headers, and the sweep that converts their overlapping claims into pieces that do not overlap.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gmfs_io::{Absence, ReadAt, Span};

use super::header::{Header, Order};
use super::{ElfError, MAX_HEADERS};

/// How many bytes of the table one read takes.
const READ: u64 = 1 << 20;
/// Parts of a file are aligned by less padding than this.
const PADDING: u64 = 4096;
/// The maximum number of PT_NOTEs that are read. Real dumps have one.
const MAX_NOTES: usize = 64;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Where the bytes of an address are. Earlier variants win over later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// In the file, from this offset.
    File(u64),
    /// They were in the file before it was cut short.
    Truncated,
    /// The writer left them out.
    Excluded,
}

impl Backing {
    pub(super) const fn absence(self) -> Option<Absence> {
        match self {
            Self::File(_) => None,
            Self::Truncated => Some(Absence::Truncated),
            Self::Excluded => Some(Absence::Excluded),
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Truncated => 1,
            Self::Excluded => 2,
        }
    }

    /// The backing `by` bytes further on.
    const fn advanced(self, by: u64) -> Self {
        match self {
            Self::File(at) => Self::File(at.saturating_add(by)),
            other => other,
        }
    }
}

/// A range of physical addresses, `[start, end)`, and where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) backing: Backing,
}

/// What the program headers claim.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// What the PT_LOADs claim, in file order, up to three pieces each.
    pub(super) claims: Vec<Piece>,
    /// Offsets and lengths of the PT_NOTEs in the file.
    pub(super) notes: Vec<Span>,
    /// How many PT_LOADs there are.
    pub(super) loads: u64,
    /// Whether all PT_LOADs have physical address 0.
    pub(super) all_at_zero: bool,
    /// How many PT_LOADs were ignored because their address is unknown or wraps.
    pub(super) without_address: u64,
    /// How many program headers are past the end of the file.
    pub(super) missing: u64,
}

/// Reads the program headers that are within the file of `size` bytes.
pub(super) fn read_table(file: &impl ReadAt, header: &Header, size: u64) -> Result<Table, ElfError> {
    let mut table = Table { all_at_zero: true, ..Table::default() };
    if header.count == 0 {
        return Ok(table);
    }
    let least: u16 = if header.order.wide { 56 } else { 32 };
    if header.entry < least {
        return Err(ElfError::HeaderSize { size: header.entry });
    }
    let entry = u64::from(header.entry);
    let room = size.saturating_sub(header.table).checked_div(entry).unwrap_or(0);
    let count = header.count.min(room);
    if count == 0 {
        return Err(ElfError::NoHeaders { offset: header.table, size });
    }
    if count > MAX_HEADERS {
        return Err(ElfError::TooManyHeaders { count });
    }
    table.missing = header.count.saturating_sub(count);
    let at_once = READ.checked_div(entry).unwrap_or(1).max(1);
    let mut done = 0;
    while done < count {
        let now = at_once.min(count.saturating_sub(done));
        let mut raw = vec![0; usize::try_from(now.saturating_mul(entry)).unwrap_or(0)];
        file.read_at(header.table.saturating_add(done.saturating_mul(entry)), &mut raw)?;
        for bytes in raw.chunks_exact(usize::from(header.entry)) {
            table.take(bytes, header.order, size);
        }
        done = done.saturating_add(now);
    }
    Ok(table)
}

impl Table {
    /// Adds one program header.
    fn take(&mut self, raw: &[u8], order: Order, size: u64) {
        let offset = order.word(raw, 4, 8);
        let in_file = order.word(raw, 16, 32);
        match order.u32(raw, 0) {
            PT_LOAD => {
                let address = order.word(raw, 12, 24);
                let unknown = if order.wide { u64::MAX } else { u32::MAX.into() };
                self.loads = self.loads.saturating_add(1);
                self.all_at_zero &= address == 0;
                let claimed = address != unknown && self.claim(address, offset, in_file, order.word(raw, 20, 40), size);
                if !claimed {
                    self.without_address = self.without_address.saturating_add(1);
                }
            }
            PT_NOTE if self.notes.len() < MAX_NOTES => self.notes.push(Span::new(offset, in_file)),
            _ => {}
        }
    }

    /// Adds the pieces of a PT_LOAD. Returns false if its address wraps.
    fn claim(&mut self, address: u64, offset: u64, in_file: u64, in_memory: u64, size: u64) -> bool {
        let Some(end) = address.checked_add(in_memory) else {
            return false;
        };
        let stored = in_file.min(in_memory);
        let there = stored.min(size.saturating_sub(offset));
        let (cut, left_out) = (address.saturating_add(there), address.saturating_add(stored));
        let parts = [
            (address, cut, Backing::File(offset)),
            (cut, left_out, Backing::Truncated),
            (left_out, end, Backing::Excluded),
        ];
        let parts = parts.into_iter().filter(|(start, end, _)| start < end);
        self.claims.extend(parts.map(|(start, end, backing)| Piece { start, end, backing }));
        true
    }

    /// How many bytes after the headers and notes of a file of `size` bytes belong to no segment. The result is 0 if
    /// padding can explain them.
    pub(super) fn unaddressed(&self, header: &Header, size: u64) -> u64 {
        let table = header.count.saturating_mul(header.entry.into()).saturating_add(header.table);
        let body = self.notes.iter().map(|n| n.end()).fold(table, u64::max);
        let mut stored: Vec<(u64, u64)> = self
            .claims
            .iter()
            .filter_map(|c| match c.backing {
                Backing::File(at) => Some((at, at.saturating_add(c.end.saturating_sub(c.start)))),
                _ => None,
            })
            .collect();
        stored.sort_unstable();
        let mut at = body;
        let mut unknown = 0_u64;
        for (start, end) in stored {
            unknown = unknown.saturating_add(start.saturating_sub(at));
            at = at.max(end);
        }
        unknown = unknown.saturating_add(size.saturating_sub(at));
        if unknown < PADDING { 0 } else { unknown }
    }
}

/// Resolves overlaps: each address gets the claim with the best rank, and among equals the first one. It takes O(n log
/// n), because each turn of the loop passes the start or the end of a claim.
pub(super) fn sweep(claims: Vec<Piece>) -> Vec<Piece> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_key(|index| claims.get(*index).map(|c| c.start));
    let mut waiting = order.into_iter().filter_map(|i| claims.get(i).map(|c| (i, *c))).peekable();
    // The claims that cover `at`. The best one is on top.
    let mut open: BinaryHeap<Reverse<(u8, usize, u64)>> = BinaryHeap::new();
    let mut pieces = Vec::new();
    let mut at = 0;
    loop {
        while open.peek().is_some_and(|Reverse((_, _, end))| *end <= at) {
            open.pop();
        }
        if open.is_empty() {
            match waiting.peek() {
                Some((_, next)) => at = next.start,
                None => return pieces,
            }
        }
        while let Some((index, claim)) = waiting.next_if(|(_, c)| c.start <= at) {
            open.push(Reverse((claim.backing.rank(), index, claim.end)));
        }
        let Some(Reverse((_, best, end))) = open.peek().copied() else {
            continue;
        };
        let until = waiting.peek().map_or(end, |(_, next)| next.start.min(end));
        if let Some(claim) = claims.get(best) {
            let backing = claim.backing.advanced(at.saturating_sub(claim.start));
            push(&mut pieces, Piece { start: at, end: until, backing });
        }
        at = until;
    }
}

/// Adds a piece. It is joined with the previous piece if it continues that one in memory and in the file.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    if let Some(last) = pieces.last_mut() {
        let next = last.backing.advanced(last.end.saturating_sub(last.start));
        if last.end == piece.start && next == piece.backing {
            last.end = piece.end;
            return;
        }
    }
    pieces.push(piece);
}
