//! Compares the contents of blocks with what their descriptors record.

use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::{BLOCK_ZERO, BlockState};
use gmfs_format::native::units::{BlockNo, len64, small};
use gmfs_io::{ReadAt, ReadError, Span};
use gmfs_volume::Superblocks;
use gmfs_volume::region::page_descriptors;
use gmfs_volume::sweep::{Frame, sweep};

use crate::finding::{Reason, Subject};
use crate::problem::Problem;
use crate::sink::Sink;

/// How many bytes are read at once.
const PIECE: usize = 1 << 20;

/// Reads every block whose content is recorded, and compares it. Returns whether the image lacks some of these blocks,
/// so that it is unknown whether their content has changed.
pub(crate) fn check<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    progress: &(dyn Fn(u64, u64) + Sync),
    sink: &mut Sink,
) -> bool {
    let geometry = superblocks.geometry();
    let total = superblocks.current().raw.data_blocks.get().saturating_mul(geometry.block_bytes());
    let mut done = 0_u64;
    let mut piece = vec![0; PIECE];
    let mut found = Sink::new(sink.keep());
    let visit = |frame: &Frame<'_>| {
        let Some(bytes) = frame.taken() else { return };
        for (block, entry) in page_descriptors(geometry, frame.page, bytes) {
            if entry.state() != Some(BlockState::Data) {
                continue;
            }
            let at = Span::new(geometry.block_offset(block), geometry.block_bytes());
            if entry.content_crc().is_some() || entry.flags & BLOCK_ZERO != 0 {
                check_block(source, block, entry, at, &mut piece, &mut found);
            }
            done = done.saturating_add(at.len);
            progress(done, total);
        }
    };
    sweep(source, superblocks, superblocks.current().used_table_pages(), vec![visit]);
    let unseen = found.has_skipped();
    sink.append(found);
    unseen
}

/// Compares one block.
fn check_block<S: ReadAt + ?Sized>(
    source: &S,
    block: BlockNo,
    entry: &BlockRaw,
    at: Span,
    piece: &mut [u8],
    sink: &mut Sink,
) {
    let subject = Subject::Blocks { first: block, count: 1 };
    let (owner, index) = (entry.owner(), entry.index.get());
    let mut sum = crc32fast::Hasher::new();
    let mut zero = true;
    let mut offset = at.offset;
    while offset < at.end() {
        let left = small(at.end().saturating_sub(offset));
        let length = piece.len().min(left);
        let piece = piece.get_mut(..length).unwrap_or_default();
        match source.read_at(offset, piece) {
            Ok(()) => {
                sum.update(piece);
                zero = zero && piece.iter().all(|byte| *byte == 0);
            }
            Err(ReadError::Absent { why, .. }) => {
                return sink.skip(subject, at, Reason::Absent(why));
            }
            Err(ReadError::Io { .. }) => {
                return sink.add(Problem::ContentUnreadable { owner, index }, subject, at);
            }
        }
        // If the offset saturates, the block ends too.
        offset = offset.saturating_add(len64(length));
    }
    let sum = sum.finalize();
    if entry.content_crc().is_some_and(|recorded| recorded != sum) {
        sink.add(Problem::ContentChanged { owner, index }, subject, at);
    }
    if entry.flags & BLOCK_ZERO != 0 && !zero {
        sink.add(Problem::ContentNotZero { owner, index }, subject, at);
    }
}
