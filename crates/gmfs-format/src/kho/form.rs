//! How large the bitmaps of a map of `kho-v1` are: 512 bytes in 6.16 and 6.17, a page from 6.18 on. Nothing records it.

use std::collections::HashSet;

use gmfs_io::num::small;
use gmfs_io::{Absence, ReadAt, Span};

use super::map::{PAGE_BITS, bits, piece};
use super::{ADDRESSES, Bitmaps, Entry, Map, PAGE, Tree, reserve_mem};

/// Bytes of a small bitmap.
const SMALL_BYTES: u64 = 512;

/// How large the bitmaps are, and whether that is certain. `chunks`: the pages in which the entries are.
pub(super) fn of(source: &dyn ReadAt, tree: &Tree, entries: Vec<Entry>, chunks: &HashSet<u64>) -> (Bitmaps, bool) {
    // Only kernels with large bitmaps have LUO.
    if tree.user("LUO").is_some() {
        return (Bitmaps::Page, true);
    }
    // A large bitmap is a page, and starts where one of 32768 pieces can.
    let large = |entry: &Entry| {
        let covered = u64::from(PAGE_BITS).saturating_mul(piece(entry.order));
        entry.bitmap.trailing_zeros() >= 12 && entry.start.checked_rem(covered) == Some(0)
    };
    if !entries.iter().all(large) {
        return (Bitmaps::Small, true);
    }
    let more = || entries.iter().flat_map(|entry| past_small(source, entry));
    // Both forms say the same.
    if more().next().is_none() {
        return (Bitmaps::Page, true);
    }
    let own: Vec<u64> = entries.iter().map(|entry| entry.bitmap).chain(chunks.iter().copied()).collect();
    let both = [Bitmaps::Small, Bitmaps::Page].map(|bitmaps| Map::with(bitmaps, entries.clone()));
    let [few, all] = &both;
    // What is handed over is preserved.
    let only_large = |at: &u64| few.order_of(source, *at).is_none() && all.order_of(source, *at).is_some();
    if handed_over(source, tree).iter().any(only_large) {
        return (Bitmaps::Page, true);
    }
    // What no map says is of another owner of the page: that its own pages are preserved, that two pieces overlap, or that
    // memory is preserved that no machine has.
    let foreign = own.iter().any(only_large)
        || all.outside(source).is_some() && few.outside(source).is_none()
        || all.overlap(source).is_some() && few.overlap(source).is_none();
    if foreign {
        return (Bitmaps::Small, true);
    }
    // Memory that the image does not have the machine may have had.
    let absent = more().any(|span| !is_memory(source, span));
    (if absent { Bitmaps::Small } else { Bitmaps::Page }, false)
}

/// How large they are in a release.
pub(super) fn of_release(release: &str) -> Option<Bitmaps> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let series = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(if series < (6, 18) { Bitmaps::Small } else { Bitmaps::Page })
}

/// The memory that an entry preserves only if its bitmap is a page, in runs.
fn past_small(source: &dyn ReadAt, entry: &Entry) -> Vec<Span> {
    let mut rest = vec![0; small(PAGE.saturating_sub(SMALL_BYTES))];
    if source.read_at(entry.bitmap.saturating_add(SMALL_BYTES), &mut rest).is_err() {
        return Vec::new();
    }
    let first = piece(entry.order).saturating_mul(SMALL_BYTES << 3).saturating_add(entry.start);
    let span = |(bit, count): (u32, u32)| {
        let [distance, len] = [bit, count].map(|bits| u64::from(bits).saturating_mul(piece(entry.order)));
        Span::new(first.saturating_add(distance), len)
    };
    bits(&rest).map(span).collect()
}

/// Addresses of what is handed over: its root, and what users left, with the ends of the memory that `reserve_mem=` set aside.
fn handed_over(source: &dyn ReadAt, tree: &Tree) -> Vec<u64> {
    let mut at: Vec<u64> = tree.users.iter().filter_map(|user| user.data).chain([tree.at]).collect();
    if let Some(reserved) = tree.user("memblock").and_then(|user| reserve_mem(source, user).ok()) {
        let ends = |start: u64, size: u64| [start, start.saturating_add(size).saturating_sub(1)];
        at.extend(reserved.regions.iter().flat_map(|region| ends(region.start, region.size)));
    }
    at
}

/// Whether the machine can have this memory, as far as the image tells. What a dump left out it has had.
fn is_memory(source: &dyn ReadAt, span: Span) -> bool {
    if span.end() > source.end().unwrap_or(ADDRESSES) {
        return false;
    }
    let absent = source.next_absent(span.offset..span.end());
    absent.is_none_or(|(_, why)| !matches!(why, Absence::BeyondEnd | Absence::NotInDump))
}
