//! Compares the contents of blocks with what their descriptors record.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use gmfs_io::ReadAt;
use gmfs_volume::Superblocks;
use gmfs_volume::seals::{Compared, Verdict, block_span, compare};

use crate::finding::{Reason, Subject};
use crate::problem::Problem;
use crate::sink::Sink;

/// Reads every sealed block and compares it with its seal. Returns whether the image lacks any of these blocks, so that
/// it is unknown whether their content has changed.
pub(crate) fn check<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    threads: NonZeroUsize,
    progress: &(dyn Fn(u64, u64) + Sync),
    sink: &mut Sink,
) -> bool {
    let geometry = superblocks.geometry();
    let total = superblocks.current().raw.data_blocks.get().saturating_mul(geometry.block_bytes());
    let mut done = 0_u64;
    let mut found = Sink::new(sink.keep());
    compare(
        source,
        superblocks,
        superblocks.current().used_table_pages(),
        |_| true,
        threads.get(),
        |Compared { block, owner, index, verdict }| {
            let (subject, at) = (Subject::Blocks { first: block, count: 1 }, block_span(geometry, block));
            match verdict {
                Verdict::Changed { crc, zero } => {
                    if crc {
                        found.add(Problem::ContentChanged { owner, index }, subject, at);
                    }
                    if zero {
                        found.add(Problem::ContentNotZero { owner, index }, subject, at);
                    }
                }
                Verdict::Absent(why) => found.skip(subject, at, Reason::Absent(why)),
                Verdict::Unreadable => found.add(Problem::ContentUnreadable { owner, index }, subject, at),
                // Another pass reports bad blocks, from their descriptors.
                _ => {}
            }
            // Bad blocks of files are asked for too, and are not part of the total.
            done = done.saturating_add(at.len).min(total);
            progress(done, total);
            ControlFlow::Continue(())
        },
    );
    let unseen = found.has_skipped();
    sink.append(found);
    unseen
}
