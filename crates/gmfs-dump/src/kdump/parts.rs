//! The files of a dump: a single one, or the parts that `makedumpfile --split` wrote.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use gmfs_io::{ReadAt, Span};

use super::KdumpError;
use super::bitmap::{Bitmaps, Windows};
use super::header::Header;
use super::pages::Descriptor;
use crate::elf::Notes;

/// The bit of the header's status that says that the writer ran out of space.
const INCOMPLETE: u32 = 8;

/// How many descriptors one read takes at least.
const LEAST_DESCRIPTORS: usize = 32;
/// How many descriptors one read takes at most: 96 KiB of the file.
const MOST_DESCRIPTORS: usize = 4096;

/// One file of a dump.
#[derive(Debug)]
pub(super) struct Part<R> {
    pub(super) file: R,
    /// The file's size.
    pub(super) size: u64,
    /// The pages of the dump whose descriptors are in this part: `[start, end)`.
    pub(super) start: u64,
    pub(super) end: u64,
    /// How many pages of the dump come before `start`.
    pub(super) before: u64,
    /// The offset of the descriptors.
    pub(super) descriptors: u64,
    pub(super) incomplete: bool,
    /// The offset of the page that all zero pages share; 0 if it is not known.
    pub(super) zero: AtomicU64,
    /// The descriptors that were read last, by their index in the part.
    pub(super) windows: Mutex<Windows<Descriptor>>,
}

impl<R: ReadAt> Part<R> {
    /// Reads the headers of `file` and counts the bits of its bitmap.
    pub(super) fn open(file: R) -> Result<(Header, Bitmaps, Self), KdumpError> {
        let size = file.end().unwrap_or(u64::MAX);
        let header = Header::read(&file, size)?;
        let maps = Bitmaps::read(&file, &header)?;
        let (start, end) = header.split.unwrap_or((0, u64::MAX));
        let before = maps.rank(&file, start)?;
        let descriptors = header.descriptors_at();
        let incomplete = header.status & INCOMPLETE != 0;
        let zero = AtomicU64::new(0);
        let windows = Mutex::new(Windows::new(LEAST_DESCRIPTORS, MOST_DESCRIPTORS));
        Ok((header, maps, Self { file, size, start, end, before, descriptors, incomplete, zero, windows }))
    }

    /// The offset of the descriptor of the page with this rank in the dump.
    pub(super) const fn descriptor_at(&self, rank: u64) -> u64 {
        rank.saturating_sub(self.before).saturating_mul(24).saturating_add(self.descriptors)
    }

    /// The notes after the sub header, or where the header says that they are.
    pub(super) fn notes(&self, header: &Header) -> Notes {
        let mut notes = Notes::default();
        if header.notes.len > 0 {
            notes = Notes::read(&self.file, &[header.notes], header.order, self.size);
        }
        if !notes.vmcoreinfo && header.vmcoreinfo.len > 0 {
            notes.take_text(&self.file, header.vmcoreinfo.offset, header.vmcoreinfo.len);
        }
        notes
    }
}

/// Opens the parts of one dump. They are returned in the order in which they were given.
pub(super) fn join<R: ReadAt>(
    files: impl IntoIterator<Item = R>,
) -> Result<(Header, Bitmaps, Vec<Part<R>>), KdumpError> {
    let mut first: Option<(Header, Bitmaps)> = None;
    let mut parts = Vec::new();
    for (number, file) in files.into_iter().enumerate() {
        let opened = Part::open(file);
        let (header, maps, part) = opened.map_err(|source| KdumpError::Part { number, source: Box::new(source) })?;
        match &first {
            None => first = Some((header, maps)),
            Some((known, _)) if known.split.is_none() => return Err(KdumpError::NotSplit { number: 0 }),
            Some(_) if header.split.is_none() => return Err(KdumpError::NotSplit { number }),
            Some((known, same)) if !known.akin(&header) || !same.same(&maps) => {
                return Err(KdumpError::Stranger { number, other: 0 });
            }
            Some(_) => {}
        }
        parts.push(part);
    }
    let (header, maps) = first.ok_or(KdumpError::NoParts)?;
    Ok((header, maps, parts))
}

/// Sorts the parts by address. Returns the pages of the dump that are in no part, as ranges `[start, end)`.
pub(super) fn gaps<R: ReadAt>(parts: &mut [Part<R>], maps: &Bitmaps) -> Result<Vec<(u64, u64)>, KdumpError> {
    let numbered = parts.iter().enumerate().map(|(number, part)| (part.start, part.end.max(part.start), number));
    let mut order: Vec<_> = numbered.filter(|(start, end, _)| start < end).collect();
    order.sort_unstable();
    let mut missing = Vec::new();
    let mut at = 0;
    let mut last = 0;
    let rank = |page: u64| match parts.first() {
        Some(part) => maps.rank(&part.file, page),
        None => Ok(0),
    };
    for (start, end, number) in order {
        // An overlap that contains no page of the dump is harmless.
        if start < at && rank(at.min(end))? > rank(start)? {
            return Err(KdumpError::Overlap { number, other: last });
        }
        if start > at && rank(start)? > rank(at)? {
            missing.push((at, start.min(maps.end())));
        }
        if end > at {
            (at, last) = (end, number);
        }
    }
    if maps.end() > at && maps.total() > rank(at)? {
        missing.push((at, maps.end()));
    }
    parts.sort_by_key(|part| (part.start, part.end));
    Ok(missing)
}

/// Lists the missing ranges, with the verb: `0x…..0x… is` or `0x…..0x…, 0x…..0x… are`.
pub(super) fn missing(ranges: &[Span]) -> String {
    let list: Vec<String> = ranges.iter().map(|range| format!("the part with the memory at {range}")).collect();
    format!("{} {}", list.join(" and "), if list.len() == 1 { "is" } else { "are" })
}
