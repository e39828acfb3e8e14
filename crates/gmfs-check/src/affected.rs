//! Which file a finding is about, by its path, and which of its bytes.

use gmfs_format::model::Paths;
use gmfs_format::name;
use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::{Region, Superblocks};

use crate::finding::{Finding, Subject};

/// The file that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AffectedFile {
    /// Its path from the root, as it is recorded.
    pub path: Vec<u8>,
    /// The bytes of the file, if the finding is about blocks that are consecutive in the file.
    pub bytes: Option<Span>,
}

impl AffectedFile {
    /// Its path as it may be shown: without characters that could steer a terminal.
    #[must_use]
    pub fn shown(&self) -> String {
        name::escape(&self.path)
    }
}

/// Finds the file that each finding is about, in one pass over the inode table. The result is `None` if a finding is
/// about no file, or if no path leads from the root to the file.
pub fn affected_files<S: ReadAt + ?Sized>(
    source: &S,
    state: &Superblocks,
    findings: &[&Finding],
) -> Vec<Option<AffectedFile>> {
    let of_files = |finding: &&Finding| matches!(finding.subject, Subject::Inode(_) | Subject::Blocks { .. });
    if !findings.iter().any(of_files) {
        return vec![None; findings.len()];
    }
    let region = Region::with(source, state);
    let tree = region.inodes().tree;
    let mut paths = Paths::new(&tree);
    findings.iter().map(|finding| affected_file(&region, finding, &mut paths)).collect()
}

fn affected_file<S: ReadAt + ?Sized>(
    region: &Region<&S, &Superblocks>,
    finding: &Finding,
    paths: &mut Paths<'_>,
) -> Option<AffectedFile> {
    match finding.subject {
        Subject::Inode(ino) => Some(AffectedFile { path: paths.of(ino)?, bytes: None }),
        Subject::Blocks { first, count } => {
            let one = region.descriptor(first)?;
            let path = paths.of(Some(one.owner()).filter(|owner| *owner != InodeNo::NONE)?)?;
            let ahead = count.checked_sub(1)?;
            let last = region.descriptor(BlockNo(first.0.checked_add(ahead)?))?;
            let consecutive = one.is_mapping()
                && last.owner() == one.owner()
                && one.index.get().checked_add(ahead) == Some(last.index.get());
            let bytes = region.geometry().block_bytes();
            // This does not saturate: 2³² blocks of the largest size are 2⁶¹ bytes.
            let span =
                Span::new(u64::from(one.index.get()).saturating_mul(bytes), u64::from(count).saturating_mul(bytes));
            Some(AffectedFile { path, bytes: consecutive.then_some(span) })
        }
        Subject::Region
        | Subject::Superblock
        | Subject::Pages { .. }
        | Subject::Part(_)
        | Subject::Page(_)
        | Subject::Record(_) => None,
    }
}
