//! What formatting removes of earlier formats, so that `blkid -p` and wipefs(8) do not name them any more.
//!
//! Programs recognise what a device holds by marks at its start and its end: hundreds of them, at dozens of places. So
//! everything there is zeroed that is not the region's own: it is free in a new region, or metadata that was never
//! used.

use std::ops::Range;

use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageNo, range_len, round_down};
use gmfs_io::WriteAt;
use gmfs_io::num::{len64, small};
use gmfs_volume::Superblocks;
use gmfs_volume::superblocks::used_tables;

use super::MakeError;

/// The last mark at the start is that of the second header of LUKS, at 4 MiB at most.
const START: u64 = 5 << 20;
/// The first one at the end is that of a Promise RAID, 1.5 MiB before it.
const END: u64 = 2 << 20;
/// How many bytes are read in one go: whole pages.
const AT_ONCE: u64 = 64 * PAGE_BYTES;

/// The places of marks in a region of `size` bytes, ascending.
pub(super) fn places(size: u64) -> Vec<Range<u64>> {
    let start = 0..START.min(size);
    let end = round_down(size.saturating_sub(END).max(start.end), PAGE_BYTES)..size;
    [start, end].into_iter().filter(|range| range.start < range.end).collect()
}

/// Zeros what is not zero in these places of a region that was just made, except for the region's own pages.
pub(super) fn clear(target: &mut dyn WriteAt, size: u64, places: &[Range<u64>]) -> Result<(), MakeError> {
    if places.is_empty() {
        return Ok(());
    }
    let own = own_pages(&*target)?;
    clear_but(target, size, places, &own)
}

/// Zeros what is not zero in these places, except for the pages in `own`.
pub(super) fn clear_but(
    target: &mut dyn WriteAt,
    size: u64,
    places: &[Range<u64>],
    own: &[Range<u64>],
) -> Result<(), MakeError> {
    let mut buf = vec![0; small(AT_ONCE)];
    for place in places {
        let mut at = place.start;
        while at < place.end.min(size) {
            let stop = at.saturating_add(AT_ONCE).min(place.end).min(size);
            let part = buf.get_mut(..small(stop.saturating_sub(at))).unwrap_or_default();
            target.read_at(at, part)?;
            let mut start = at;
            for page in part.chunks(PAGE_SIZE) {
                let mine = own.iter().any(|range| range.contains(&start));
                if !mine && page.iter().any(|byte| *byte != 0) {
                    target.write_at(start, &vec![0; page.len()])?;
                }
                start = start.saturating_add(len64(page.len()));
            }
            at = stop;
        }
    }
    Ok(target.barrier()?)
}

/// The pages of metadata that the region has in use, in both copies.
fn own_pages(target: &dyn WriteAt) -> Result<Vec<Range<u64>>, MakeError> {
    let superblocks = Superblocks::load(target)?;
    let geometry = superblocks.geometry();
    let mut own = Vec::new();
    for copy in CopyId::BOTH {
        let tables = used_tables(superblocks.current()).map(|(_, pages)| pages);
        for pages in std::iter::once(0..1).chain(tables) {
            let start = geometry.page_offset(copy, PageNo(pages.start));
            let bytes = u64::from(range_len(&pages)).saturating_mul(PAGE_BYTES);
            own.push(start..start.saturating_add(bytes));
        }
    }
    Ok(own)
}
