//! Computes the states in which a crash can leave a medium, from the log of its changes.
//!
//! All writes before the last barrier are complete. Any subset of the later ones is, and any part of each of these: a
//! line of 64 bytes is old or new, or a word of 8 bytes if the writer itself dies within a copy.

use std::sync::Arc;

use gmfs_format::native::units::{PAGE_BYTES, PAGE_SIZE, PageBytes};
use gmfs_io::{Span, WriteAt as _};

use super::memory::Memory;
use super::recorder::Event;
use super::rng::Rng;

/// Writes up to this length are split into pages, each of which may be written or not.
const CUT: usize = 64 * PAGE_SIZE;

/// A write of bytes or zeros that is done or not.
#[derive(Clone, Debug)]
struct Unit {
    offset: u64,
    len: u64,
    bytes: Option<Arc<[u8]>>,
}

/// The maximum number of states of each kind for the writes between two barriers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Subsets of the stores.
    pub(crate) subsets: u64,
    /// Torn versions of one store.
    pub(crate) tears: u64,
}

/// Called with a state, and with a function that describes it.
pub(crate) type Visit<'v> = dyn FnMut(&Memory, &dyn Fn() -> String, &mut Rng) + 'v;

/// How many states were made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    /// States in which each write is done or not.
    pub(crate) subsets: u64,
    /// States with at least one torn write.
    pub(crate) torn: u64,
}

/// Calls `visit` with every crash state, as far as the limits allow, and with a description of it.
pub(crate) fn states(base: &Memory, log: &[Event], limits: Limits, rng: &mut Rng, visit: &mut Visit<'_>) -> Made {
    let mut made = Made::default();
    let mut durable = base.clone();
    for (number, epoch) in log.split(|event| matches!(event, Event::Barrier)).enumerate() {
        let units = units(epoch);
        let mut tell = |image: &Memory, what: &str, rng: &mut Rng| {
            visit(image, &|| format!("epoch {number}, {what}; stores: {}", shown(&units)), rng);
        };
        made.subsets += subsets(&durable, &units, limits, rng, &mut tell);
        made.torn += tears(&durable, &units, limits, rng, &mut tell);
        for unit in &units {
            store(&mut durable, unit);
        }
    }
    made
}

fn shown(units: &[Unit]) -> String {
    let one =
        |unit: &Unit| format!("{:#x}+{:#x}{}", unit.offset, unit.len, if unit.bytes.is_none() { "=0" } else { "" });
    units.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The writes between two barriers. Metadata is split into pages.
fn units(epoch: &[Event]) -> Vec<Unit> {
    let mut units = Vec::new();
    for event in epoch {
        match event {
            Event::Write { offset, bytes } if bytes.len() <= CUT => {
                for (n, page) in (0_u64..).zip(bytes.chunks(PAGE_SIZE)) {
                    let offset = offset + n * PAGE_BYTES;
                    units.push(Unit { offset, len: page.len() as u64, bytes: Some(page.into()) });
                }
            }
            Event::Write { offset, bytes } => {
                units.push(Unit { offset: *offset, len: bytes.len() as u64, bytes: Some(Arc::clone(bytes)) });
            }
            Event::Zero(span) => units.push(Unit { offset: span.offset, len: span.len, bytes: None }),
            Event::Barrier => {}
        }
    }
    units
}

fn store(memory: &mut Memory, unit: &Unit) {
    match &unit.bytes {
        Some(bytes) => memory.put(unit.offset, bytes),
        None => memory.zero(Span::new(unit.offset, unit.len)).unwrap(),
    }
}

/// Subsets of the writes: all if there are few, otherwise prefixes and random ones.
fn subsets(
    durable: &Memory,
    units: &[Unit],
    limits: Limits,
    rng: &mut Rng,
    tell: &mut dyn FnMut(&Memory, &str, &mut Rng),
) -> u64 {
    let mut one = |chosen: &dyn Fn(usize) -> bool, what: &str, rng: &mut Rng| {
        let mut image = durable.clone();
        units.iter().enumerate().filter(|(n, _)| chosen(*n)).for_each(|(_, unit)| store(&mut image, unit));
        tell(&image, what, rng);
    };
    let all = 1_u64.checked_shl(u32::try_from(units.len()).unwrap()).unwrap_or(u64::MAX);
    if all <= limits.subsets {
        for mask in 0..all {
            one(&|n| mask >> n & 1 != 0, &format!("subset {mask:#b}"), rng);
        }
        return all;
    }
    for prefix in 0..=units.len() {
        one(&|n| n < prefix, &format!("prefix {prefix}"), rng);
    }
    for _ in 0..limits.subsets {
        let picked: Vec<bool> = units.iter().map(|_| rng.one_in(2)).collect();
        one(&|n| picked[n], "random subset", rng);
    }
    units.len() as u64 + 1 + limits.subsets
}

/// For each write: its torn versions, with a random subset of the other writes.
fn tears(
    durable: &Memory,
    units: &[Unit],
    limits: Limits,
    rng: &mut Rng,
    tell: &mut dyn FnMut(&Memory, &str, &mut Rng),
) -> u64 {
    let mut made = 0;
    for (torn, unit) in units.iter().enumerate() {
        for version in versions(durable, unit, limits.tears, rng) {
            let mut image = durable.clone();
            for (n, other) in units.iter().enumerate() {
                match n == torn {
                    true => image.put(version.0, &version.1),
                    false if rng.one_in(2) => store(&mut image, other),
                    false if rng.one_in(4) => {
                        let versions = versions(durable, other, 1, rng);
                        versions.iter().for_each(|(offset, bytes)| image.put(*offset, bytes));
                    }
                    false => {}
                }
            }
            tell(&image, &format!("store {torn} torn"), rng);
            made += 1;
        }
    }
    made
}

/// Torn versions of a write, as bytes to write. A single page is torn in all ways if only few of its lines change.
fn versions(durable: &Memory, unit: &Unit, limit: u64, rng: &mut Rng) -> Vec<(u64, Vec<u8>)> {
    if unit.len == PAGE_BYTES && unit.offset.is_multiple_of(PAGE_BYTES) {
        let old = durable.page(unit.offset);
        let new: PageBytes = unit.bytes.as_ref().map_or([0; PAGE_SIZE], |bytes| (**bytes).try_into().unwrap());
        return torn_pages(&old, &new, limit, rng).into_iter().map(|page| (unit.offset, page.to_vec())).collect();
    }
    // For content, part of it has been written.
    let mut versions = Vec::new();
    for _ in 0..limit.min(4) {
        let from = if rng.one_in(2) { 0 } else { rng.below(unit.len) & !63 };
        // A crash tears at whole words, as everywhere.
        let len = (rng.below(unit.len - from) + 1).next_multiple_of(8).min(1 << 20).min(unit.len - from);
        let (start, end) = (usize::try_from(from).unwrap(), usize::try_from(from + len).unwrap());
        let bytes = unit.bytes.as_ref().map_or_else(|| vec![0; end - start], |bytes| bytes[start..end].to_vec());
        versions.push((unit.offset + from, bytes));
    }
    versions
}

fn torn_pages(old: &PageBytes, new: &PageBytes, limit: u64, rng: &mut Rng) -> Vec<PageBytes> {
    let mut pages = Vec::new();
    let lines = differing(old, new, 64);
    let all = 1_u64.checked_shl(u32::try_from(lines.len()).unwrap()).unwrap_or(u64::MAX);
    if all <= limit {
        pages.extend((1..all.saturating_sub(1)).map(|mask| mix(old, new, 64, &lines, &|n| mask >> n & 1 != 0)));
    } else {
        let step = lines.len().div_ceil(usize::try_from(limit).unwrap()).max(1);
        pages.extend((1..lines.len()).step_by(step).map(|cut| mix(old, new, 64, &lines, &|n| n < cut)));
        for _ in 0..limit / 2 {
            let picked: Vec<bool> = lines.iter().map(|_| rng.one_in(2)).collect();
            pages.push(mix(old, new, 64, &lines, &|n| picked[n]));
        }
    }
    // The writer itself was killed within a copy.
    let words = differing(old, new, 8);
    let step = words.len().div_ceil(usize::try_from(limit).unwrap()).max(1);
    pages.extend((1..words.len()).step_by(step).map(|cut| mix(old, new, 8, &words, &|n| n < cut)));
    pages.truncate(usize::try_from(limit * 2).unwrap());
    pages
}

/// The pieces of `size` bytes in which two pages differ.
fn differing(old: &PageBytes, new: &PageBytes, size: usize) -> Vec<usize> {
    let pieces = old.chunks(size).zip(new.chunks(size)).enumerate();
    pieces.filter(|(_, (old, new))| old != new).map(|(n, _)| n).collect()
}

fn mix(old: &PageBytes, new: &PageBytes, size: usize, pieces: &[usize], is_new: &dyn Fn(usize) -> bool) -> PageBytes {
    let mut page = *old;
    for (_, piece) in pieces.iter().enumerate().filter(|(n, _)| is_new(*n)) {
        let range = piece * size..(piece + 1) * size;
        page[range.clone()].copy_from_slice(&new[range]);
    }
    page
}

/// Performs the changes of a log that are certain to be on the medium: everything before its last barrier.
pub(crate) fn apply_durable(memory: &mut Memory, log: &[Event]) {
    let end = log.iter().rposition(|event| matches!(event, Event::Barrier)).unwrap_or(0);
    for unit in units(&log[..end]) {
        store(memory, &unit);
    }
}
