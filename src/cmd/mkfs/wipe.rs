//! What a format leaves of those that were there before: nothing that `blkid -p` or wipefs(8) would still name.
//!
//! Programs tell what a device holds by marks at its start and its end: hundreds of them, at dozens of places. So all that
//! is not the region's is zeroed there. It is free in a new region, or metadata that has never been used.

use std::ops::Range;

use anyhow::Result;
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageNo};
use gmfs_io::WriteAt;
use gmfs_volume::Superblocks;
use gmfs_volume::superblocks::used_tables;

/// The last mark at the start is that of the second header of LUKS, at 4 MiB at most.
const START: u64 = 5 << 20;
/// The first one at the end is that of a Promise RAID, 1.5 MiB before it.
const END: u64 = 2 << 20;
/// So many pages are looked at in one go.
const AT_ONCE: u64 = 64;

/// The places of marks in a region of `size` bytes, ascending.
pub(super) fn places(size: u64) -> Vec<Range<u64>> {
    let start = 0..START.min(size);
    let end = size.saturating_sub(END).max(start.end) / PAGE_BYTES * PAGE_BYTES..size;
    [start, end].into_iter().filter(|range| range.start < range.end).collect()
}

/// Zeros what is not zero in these places of a region that was just made, but the region's own pages.
pub(super) fn clear(target: &mut dyn WriteAt, size: u64, places: &[Range<u64>]) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let own = own_pages(&*target)?;
    let mut buf = vec![0; PAGE_SIZE * usize::try_from(AT_ONCE).unwrap_or(1)];
    for place in places {
        let mut at = place.start;
        while at < place.end.min(size) {
            let stop = at.saturating_add(AT_ONCE * PAGE_BYTES).min(place.end).min(size);
            let part = &mut buf[..usize::try_from(stop - at).unwrap_or(0)];
            target.read_at(at, part)?;
            for (number, page) in part.chunks(PAGE_SIZE).enumerate() {
                let start = at + number as u64 * PAGE_BYTES;
                let mine = own.iter().any(|range| range.contains(&start));
                if !mine && page.iter().any(|byte| *byte != 0) {
                    target.write_at(start, &vec![0; page.len()])?;
                }
            }
            at = stop;
        }
    }
    Ok(target.barrier()?)
}

/// The pages of metadata that the region has in use, in both copies.
fn own_pages(target: &dyn WriteAt) -> Result<Vec<Range<u64>>> {
    let superblocks = Superblocks::load(target)?;
    let geometry = superblocks.geometry();
    let mut own = Vec::new();
    for copy in CopyId::BOTH {
        let tables = used_tables(superblocks.current()).map(|(_, pages)| pages);
        for pages in std::iter::once(0..1).chain(tables) {
            let start = geometry.page_offset(copy, PageNo(pages.start));
            let count = u64::from(pages.end.saturating_sub(pages.start));
            own.push(start..start + count * PAGE_BYTES);
        }
    }
    Ok(own)
}
