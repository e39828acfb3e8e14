//! Whose blocks were, told when a plan takes that from them.

use std::fmt::Write as _;

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_io::ReadAt;

use crate::finding::last_of;
use crate::plan::descriptors::Descriptors;

/// Runs that are listed one by one.
const LISTED: usize = 16;

/// A run of blocks at consecutive places of one owner.
struct Claim {
    first: u32,
    count: u32,
    owner: InodeNo,
    index: u32,
}

/// What is given up when these blocks are reserved: a reserved block names nobody, so whose it was is told here, and
/// nowhere else but in an undo file.
pub(super) fn claims<S: ReadAt + ?Sized>(descriptors: &mut Descriptors<'_, S>, first: BlockNo, count: u32) -> String {
    let mut found: Vec<Claim> = Vec::new();
    for block in first.0..first.0.saturating_add(count) {
        let Some(entry) = descriptors.get(BlockNo(block)) else { continue };
        let (owner, index) = (entry.owner(), entry.index.get());
        let full = found.len() == LISTED;
        match found.last_mut() {
            Some(last)
                if last.owner == owner
                    && last.first.checked_add(last.count) == Some(block)
                    && last.index.checked_add(last.count) == Some(index) =>
            {
                // Exact: the run ends before this block, which has a number.
                last.count = last.count.saturating_add(1);
            }
            _ if owner == InodeNo::NONE => {}
            _ if full => break,
            _ => found.push(Claim { first: block, count: 1, owner, index }),
        }
    }
    let mut text = "the claim of these blocks to a place in a file".to_owned();
    for (n, Claim { first, count, owner, index }) in found.iter().enumerate() {
        let _ = write!(text, "{}", if n == 0 { " (" } else { ", " });
        let _ = match count {
            1 => write!(text, "block {first} was place {index} of inode {owner}"),
            _ => {
                let (last, end) = (last_of(*first, *count), last_of(*index, *count));
                write!(text, "blocks {first}-{last} were places {index}-{end} of inode {owner}")
            }
        };
    }
    if !found.is_empty() {
        text.push_str(if found.len() == LISTED { ", and more)" } else { ")" });
    }
    text.push_str("; their content stays");
    text
}
