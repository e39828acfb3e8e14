//! What a command that puts older metadata back does to files: which come, go, and get other blocks.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use gmfs_format::native::units::InodeNo;
use gmfs_io::ReadAt;
use gmfs_volume::Region;

use crate::ctx::{Ctx, OutputError};
use crate::paths;

/// What is compared of a file: its size, how many blocks it has, and a number that stands for which.
type Files = BTreeMap<Vec<u8>, (u64, u64, u64)>;

/// Says what becomes of each file that is not the same in the region before and in the region after. `None` is a region
/// that cannot be opened.
pub(crate) fn tell<B: ReadAt, A: ReadAt>(
    before: &Region<B>,
    after: Option<&Region<A>>,
    ctx: &mut Ctx,
) -> Result<(), OutputError> {
    let Some(after) = after else {
        return ctx.line("afterwards there is no region, or one that fsck has to repair before its files can be read");
    };
    let (now, then) = (files(before), files(after));
    for (path, to) in &then {
        let what = match now.get(path) {
            None => "comes back",
            Some(from) if (from.1, from.2) != (to.1, to.2) => "gets other blocks",
            Some(from) if from.0 != to.0 => "gets another size",
            Some(_) => continue,
        };
        ctx.line(&format!("{}: {what}", paths::shown(path)))?;
    }
    for path in now.keys().filter(|path| !then.contains_key(*path)) {
        ctx.line(&format!("{}: goes", paths::shown(path)))?;
    }
    Ok(())
}

/// Files by their path. Memory is that of the files, however many blocks they have.
fn files<S: ReadAt>(region: &Region<S>) -> Files {
    let tree = region.inodes().tree;
    let mut mappings: BTreeMap<InodeNo, (u64, u64)> = BTreeMap::new();
    region.descriptors(|block, entry| {
        if entry.is_mapping() {
            let mut hasher = DefaultHasher::new();
            (entry.index.get(), block.0, entry.state).hash(&mut hasher);
            let (count, sum) = mappings.entry(entry.owner()).or_default();
            *count += 1;
            *sum = sum.wrapping_add(hasher.finish());
        }
    });
    let path = |ino| tree.path(ino).unwrap_or_else(|| format!("inode {ino}").into_bytes());
    let blocks = |ino| mappings.get(&ino).copied().unwrap_or_default();
    tree.inodes().map(|inode| (path(inode.ino), (inode.size, blocks(inode.ino).0, blocks(inode.ino).1))).collect()
}
