//! Lists which bytes of a file are lost, for a plan that flags the file.

use std::collections::{BTreeMap, BTreeSet};

use gmfs_format::model::Piece;
use gmfs_format::model::Tree;
use gmfs_format::name;
use gmfs_format::native::units::InodeNo;
use gmfs_io::ReadAt;
use gmfs_volume::content::pieces;
use gmfs_volume::region::Mapping;
use gmfs_volume::{Region, Superblocks};

use crate::plan::{Listed, Loss};

/// The maximum number of files whose lost ranges are listed. Their extents are kept in memory for this.
const FILES: usize = 16;
/// The maximum number of ranges that are listed for each file.
const LISTED: usize = 8;

/// What is lost of the first [`FILES`] of these files: path and byte ranges. It takes one pass over the block table.
pub(super) fn ranges<S: ReadAt + ?Sized>(
    region: &Region<&S, &Superblocks>,
    tree: &Tree,
    files: impl Iterator<Item = InodeNo>,
) -> BTreeMap<InodeNo, Loss> {
    let wanted: BTreeSet<InodeNo> = files.take(FILES).collect();
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let mut found = region.mappings(|ino| wanted.contains(&ino));
    let told = |ino: InodeNo| {
        let inode = tree.get(ino)?;
        let extents = found.files.remove(&ino).unwrap_or_default();
        let mapping = Mapping { extents, lost_pages: found.lost_pages };
        let pieces = pieces(region.geometry(), inode, &mapping).ok()?;
        let lost = pieces.iter().filter_map(|piece| match piece {
            Piece::Lost { file } => Some(*file),
            Piece::Data { .. } | Piece::Hole { .. } => None,
        });
        let path = tree.path(ino).unwrap_or_else(|| inode.name.to_vec());
        let bytes = Listed::first(&lost.collect::<Vec<_>>(), LISTED);
        (!bytes.first.is_empty()).then(|| (ino, Loss::FileBytes { path: name::escape(&path), bytes }))
    };
    wanted.iter().copied().filter_map(told).collect()
}
