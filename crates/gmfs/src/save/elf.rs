//! Saving a hand-over: its parts are all over memory, so they are saved as a small dump, an ELF core with their addresses.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use gmfs_format::model::Piece;
use gmfs_io::Span;
use gmfs_io::num::{len64, to_u32};

use crate::content::{Gaps, known_gaps};
use crate::copy::{self, Copied, CopyError, Progress};
use crate::store::{Luo, Store};

/// Content starts here: the header of the file has the page before it.
const HEAD: u64 = 4096;
/// More segments than a header of 16 bits counts: their number is in the first section header.
const MANY: u64 = 0xffff;
const SEGMENT: u64 = 56;
const SECTION: u16 = 64;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

/// The pieces of a dump of a hand-over: each part of memory with its place in the file, and the end of the last one.
fn pieces(luo: &Luo) -> (Vec<Piece>, u64) {
    let mut end = HEAD;
    let place = |span: Span| {
        let file = Span::new(end, span.len);
        end = end.saturating_add(span.len);
        Piece::Data { file, at: span.offset, bad: false }
    };
    let pieces = luo.parts().into_iter().map(place).collect();
    (pieces, end)
}

/// How many bytes of memory the dump of a hand-over has, and what the image is known to lack of them.
#[must_use]
pub fn planned(store: &Store, luo: &Luo) -> (u64, Gaps) {
    let (pieces, end) = pieces(luo);
    (end.saturating_sub(HEAD), known_gaps(store.source(), &pieces))
}

/// Writes a hand-over into `file`, which is new and empty, as an ELF core: what it consists of, with its addresses. What the
/// image does not hold is in no segment, so that it is absent in the copy too; the result names it by its place in memory.
///
/// # Errors
/// [`CopyError`]. Bytes that cannot be read are gaps; they are no error.
pub fn handover(store: &Store, luo: &Luo, file: &File, progress: &dyn Progress) -> Result<Copied, CopyError> {
    let (pieces, end) = pieces(luo);
    let copied = copy::pieces(store.source(), &pieces, end, file, progress)?;
    let segments = present(&pieces, &copied.gaps);
    let arm = store.dump.as_ref().and_then(|dump| dump.facts.architecture.as_deref()) == Some("aarch64");
    write_headers(file, end, &segments, if arm { AARCH64 } else { X86_64 })?;
    Ok(copied)
}

/// What of the pieces is not in a gap: places in the file, and addresses.
fn present(pieces: &[Piece], gaps: &Gaps) -> Vec<(Span, u64)> {
    let mut segments = Vec::new();
    let mut gaps = gaps.iter().peekable();
    for piece in pieces {
        let Piece::Data { file, at, .. } = piece else { continue };
        let mut start = file.offset;
        while let Some(gap) = gaps.peek().filter(|gap| gap.span.offset < file.end()) {
            let (from, to) = (gap.span.offset.max(start), gap.span.end());
            segments.push((
                Span::new(start, from.saturating_sub(start)),
                at.saturating_add(start.saturating_sub(file.offset)),
            ));
            start = to.min(file.end()).max(start);
            if to > file.end() {
                break;
            }
            gaps.next();
        }
        let rest = Span::new(start, file.end().saturating_sub(start));
        segments.push((rest, at.saturating_add(start.saturating_sub(file.offset))));
    }
    segments.retain(|(span, _)| span.len > 0);
    segments
}

/// Writes the header at the start, and the table of segments after the content.
fn write_headers(file: &File, end: u64, segments: &[(Span, u64)], machine: u16) -> std::io::Result<()> {
    let count = len64(segments.len());
    let sections = end.saturating_add(count.saturating_mul(SEGMENT));
    let many = count >= MANY;
    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // A core, of this machine, version 1.
    head.extend([4_u16, machine].map(u16::to_le_bytes).concat());
    head.extend(1_u32.to_le_bytes());
    head.extend([0, end, if many { sections } else { 0 }].map(u64::to_le_bytes).concat());
    head.extend(0_u32.to_le_bytes());
    let counted = if many { 0xffff } else { u16::try_from(count).unwrap_or(0xffff) };
    head.extend([64, 56, counted, SECTION, u16::from(many), 0].map(u16::to_le_bytes).concat());
    file.write_all_at(&head, 0)?;
    let mut at = end;
    let mut table = Vec::new();
    for part in segments.chunks(1 << 12) {
        table.clear();
        for (place, address) in part {
            // PT_LOAD, readable.
            table.extend([1_u32, 4].map(u32::to_le_bytes).concat());
            table.extend([place.offset, 0, *address, place.len, place.len, 4096].map(u64::to_le_bytes).concat());
        }
        file.write_all_at(&table, at)?;
        at = at.saturating_add(len64(table.len()));
    }
    if many {
        // The first section header has only that number, in the field that is otherwise information.
        let mut section = [0; 64];
        let info: &mut [u8] = &mut section[44..48];
        info.copy_from_slice(&to_u32(count).to_le_bytes());
        file.write_all_at(&section, at)?;
    }
    file.sync_all()
}
