//! What a command that puts older metadata back does to files: which come, go, and get other blocks.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use gmfs_format::model::Inode;
use gmfs_format::native::units::InodeNo;
use gmfs_io::ReadAt;
use gmfs_volume::Region;

use crate::ctx::{Ctx, OutputError};
use crate::paths;

/// What is compared of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) size: u64,
    /// How many blocks it has.
    pub(crate) blocks: u64,
    /// A number that stands for which.
    which: u64,
}

/// A file that is not the same before and after.
pub(crate) struct Becomes {
    pub(crate) path: Vec<u8>,
    pub(crate) before: Option<File>,
    pub(crate) after: Option<File>,
}

impl Becomes {
    /// The word for programs.
    pub(crate) fn what(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "created",
            (_, None) => "removed",
            _ => "changed",
        }
    }

    fn sentence(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "comes back",
            (_, None) => "goes",
            (Some(from), Some(to)) if (from.blocks, from.which) != (to.blocks, to.which) => "gets other blocks",
            _ => "gets another size",
        }
    }
}

/// Says what becomes of each file that is not the same in the region before and in the region after. `None` is a region
/// that cannot be opened.
pub(crate) fn tell(becomes: Option<&[Becomes]>, ctx: &mut Ctx) -> Result<(), OutputError> {
    let Some(becomes) = becomes else {
        return ctx.line("afterwards there is no region, or one that fsck has to repair before its files can be read");
    };
    for one in becomes {
        ctx.line(&format!("{}: {}", paths::shown(&one.path), one.sentence()))?;
    }
    Ok(())
}

/// The files that are not the same in the region before and in the region after: first those that are there afterwards.
pub(crate) fn compare<B: ReadAt, A: ReadAt>(before: &Region<B>, after: &Region<A>) -> Vec<Becomes> {
    let (mut now, then) = (files(before), files(after));
    let mut list = Vec::new();
    for (path, to) in then {
        let from = now.remove(&path);
        if from != Some(to) {
            list.push(Becomes { path, before: from, after: Some(to) });
        }
    }
    list.extend(now.into_iter().map(|(path, from)| Becomes { path, before: Some(from), after: None }));
    list
}

/// Files by their path. Memory is that of the files, however many blocks they have.
fn files<S: ReadAt>(region: &Region<S>) -> BTreeMap<Vec<u8>, File> {
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
    let file = |inode: &Inode| {
        let (blocks, which) = blocks(inode.ino);
        File { size: inode.size, blocks, which }
    };
    tree.inodes().map(|inode| (path(inode.ino), file(inode))).collect()
}
