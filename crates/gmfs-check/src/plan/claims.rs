//! Lists the former owners of blocks that a plan reserves.

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_io::ReadAt;

use crate::plan::descriptors::Descriptors;
use crate::plan::{Claim, Loss};

/// The maximum number of runs that are listed.
const LISTED: usize = 16;

/// What is lost when these blocks become reserved. A reserved block names no owner, so its former owner is recorded
/// only in this list and in an undo file.
pub(super) fn claims<S: ReadAt + ?Sized>(descriptors: &mut Descriptors<'_, S>, first: BlockNo, count: u32) -> Loss {
    let (mut found, mut more): (Vec<Claim>, bool) = (Vec::new(), false);
    for block in first.0..first.0.saturating_add(count) {
        let Some(entry) = descriptors.get(BlockNo(block)) else { continue };
        let (owner, index) = (entry.owner(), entry.index.get());
        let full = found.len() == LISTED;
        match found.last_mut() {
            Some(last)
                if last.owner == owner
                    && last.first.0.checked_add(last.count) == Some(block)
                    && last.index.checked_add(last.count) == Some(index) =>
            {
                // This does not saturate: the run ends before this block, whose number has 32 bits.
                last.count = last.count.saturating_add(1);
            }
            _ if owner == InodeNo::NONE => {}
            _ if full => {
                more = true;
                break;
            }
            _ => found.push(Claim { first: BlockNo(block), count: 1, owner, index }),
        }
    }
    Loss::Claims { known: found, more }
}
