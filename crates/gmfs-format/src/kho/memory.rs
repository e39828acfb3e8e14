//! Reading structures of the kernel out of physical memory.

use std::ops::Range;

use gmfs_io::{Absence, ReadAt, ReadError, Span};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a page of the kernel. Structures with other page sizes are not read.
pub const PAGE: u64 = 4096;

/// A page.
pub type Page = [u8; 4096];

/// So much is read at once.
const CHUNK: usize = 1 << 20;

/// Physical addresses end here: the widest that a CPU has.
pub(crate) const ADDRESSES: u64 = 1 << 52;

/// Whether a number can be the address of a page that is not the first one.
pub(crate) const fn is_page(address: u64) -> bool {
    address != 0 && address.trailing_zeros() >= 12 && address < ADDRESSES
}

/// The structure at an address.
pub(crate) fn read<T: FromBytes + IntoBytes>(source: &dyn ReadAt, at: u64) -> Result<T, ReadError> {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes();
    // An address that is near the end of the numbers is none.
    if at >= ADDRESSES {
        return Err(ReadError::Absent {
            span: Span::new(at, gmfs_io::num::len64(bytes.len())),
            why: Absence::BeyondEnd,
        });
    }
    source.read_at(at, bytes)?;
    Ok(value)
}

/// The number at an offset of some bytes; 0 past their end.
pub(crate) fn word(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The 32-bit number at an offset of some bytes; 0 past their end.
pub(crate) fn word32(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Hands each page of a range that the source holds, and that is not known to be a hole, to `each`, with its address.
/// `seen` is told how far the pass has come.
///
/// # Errors
/// The source cannot tell where its holes are.
pub fn pages(
    source: &dyn ReadAt,
    range: Range<u64>,
    seen: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(u64, &Page),
) -> Result<(), ReadError> {
    let end = range.end.min(source.end().unwrap_or(ADDRESSES)).min(ADDRESSES);
    let up = |at: u64| at.checked_next_multiple_of(PAGE).unwrap_or(end);
    let mut buffer = vec![0; CHUNK];
    let mut at = up(range.start);
    let mut zeros = true;
    while at.checked_add(PAGE).is_some_and(|next| next <= end) {
        seen(at);
        // To ask a dump how far zeros go costs more than to read a page: that is done only after zeros.
        if zeros {
            let Some(data) = source.next_data(at..end)? else { break };
            at = at.max(gmfs_io::num::round_down(data.start, PAGE));
        }
        let mut stop = at.saturating_add(gmfs_io::num::len64(CHUNK)).min(end);
        if let Some((absent, _)) = source.next_absent(at..stop) {
            if absent.offset <= at {
                let whole = source.next_absent(at..end).map_or(absent, |(whole, _)| whole);
                at = up(whole.end()).max(at.saturating_add(PAGE));
                zeros = true;
                continue;
            }
            stop = gmfs_io::num::round_down(absent.offset, PAGE).max(at.saturating_add(PAGE));
        }
        let len = gmfs_io::num::small(stop.saturating_sub(at)).min(CHUNK);
        let Some(chunk) = buffer.get_mut(..len).filter(|chunk| chunk.len() >= 4096) else { break };
        let whole = source.read_at(at, chunk).is_ok();
        zeros = whole && chunk.iter().all(|byte| *byte == 0);
        for page in chunk.as_chunks_mut::<4096>().0 {
            if !zeros && (whole || source.read_at(at, page).is_ok()) {
                each(at, page);
            }
            at = at.saturating_add(PAGE);
        }
    }
    seen(end);
    Ok(())
}
