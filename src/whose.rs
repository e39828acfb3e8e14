//! Which file a finding is about, by its path, and which of its bytes.

use gmfs_check::{Finding, Subject};
use gmfs_format::native::units::InodeNo;
use gmfs_io::{ReadAt, Span};
use gmfs_volume::{Region, Superblocks};

use crate::paths::{self, Paths};

/// The file of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whose {
    /// Its path, fit to be shown.
    pub(crate) path: String,
    /// The bytes of the file, where the finding is about blocks that follow each other in it.
    pub(crate) bytes: Option<Span>,
}

/// Finds the file of each finding, as far as the region can tell.
pub(crate) fn find<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, findings: &[&Finding]) -> Vec<Option<Whose>> {
    let of_files = |finding: &&Finding| matches!(finding.subject, Subject::Inode(_) | Subject::Blocks { .. });
    if !findings.iter().any(of_files) {
        return vec![None; findings.len()];
    }
    let region = Region::with(source, state);
    let tree = region.inodes().tree;
    let mut paths = Paths::new(&tree);
    findings.iter().map(|finding| one(&region, finding, &mut paths)).collect()
}

fn one<S: ReadAt + ?Sized>(
    region: &Region<&S, &Superblocks>,
    finding: &Finding,
    paths: &mut Paths<'_>,
) -> Option<Whose> {
    let mut shown = |ino: InodeNo| paths.of(ino).map(|path| paths::shown(&path));
    match finding.subject {
        Subject::Inode(ino) => Some(Whose { path: shown(ino)?, bytes: None }),
        Subject::Blocks { first, count } => {
            let one = region.descriptor(first)?;
            let path = shown(Some(one.owner()).filter(|owner| *owner != InodeNo::NONE)?)?;
            let ahead = count.checked_sub(1)?;
            let last = gmfs_format::native::units::BlockNo(first.0.checked_add(ahead)?);
            let last = region.descriptor(last)?;
            let consecutive = one.is_mapping()
                && last.owner() == one.owner()
                && one.index.get().checked_add(ahead) == Some(last.index.get());
            let bytes = region.geometry().block_bytes();
            // Exact: 2³² of the largest blocks are 2⁶¹ bytes.
            let span = Span::new(u64::from(one.index.get()) * bytes, u64::from(count) * bytes);
            Some(Whose { path, bytes: consecutive.then_some(span) })
        }
        Subject::Region | Subject::Superblock | Subject::Pages { .. } => None,
    }
}
