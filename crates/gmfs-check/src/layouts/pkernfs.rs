//! Stores of the pkernfs driver.

use gmfs_format::pkernfs::{self as layout, Finding, Store};
use gmfs_io::{ReadAt, Span};

use super::driver::Driver;
use super::{Checked, Gathered};
use crate::finding::Subject;
use crate::problem::Problem;

/// Checks a store of the pkernfs driver. Offsets count from its start.
#[must_use]
pub fn check_pkernfs(store: &Store, source: &dyn ReadAt) -> Checked {
    let path = |ino| store.path(ino);
    let driver = Driver {
        superblock: Span::new(0, 16),
        inodes: layout::INODES_OFFSET,
        inode_bytes: layout::INODE_BYTES,
        ghost: (layout::GHOST, "inode -12", layout::GHOST_OFFSET),
        bitmap: Span::new(layout::BITMAP_OFFSET, layout::INODES_OFFSET.saturating_sub(layout::BITMAP_OFFSET)),
        blocks: 0,
        block_bytes: layout::BLOCK_BYTES,
        path: &path,
    };
    let mut found = Gathered::default();
    for finding in store.check(source) {
        add(&driver, &finding, &mut found);
    }
    found.finish()
}

fn add(driver: &Driver<'_>, finding: &Finding, found: &mut Gathered) {
    match finding {
        Finding::Inodes(anomaly) => driver.chains(anomaly, found),
        Finding::Blocks(remark) => driver.blocks(remark, found),
        Finding::Ghost => driver.of_inode(Problem::PkGhostInode {}, layout::GHOST, found),
        Finding::NotZero { ino } => driver.of_inode(Problem::PkBytesNotZero {}, *ino, found),
        Finding::CountTooSmall { ino, count, blocks } => {
            driver.of_inode(Problem::PkBlockCountSmall { count: *count, blocks: *blocks }, *ino, found);
        }
        Finding::Hole { ino, entry, count } => {
            driver.of_inode(Problem::PkEntryMissing { entry: *entry, entries: *count }, *ino, found);
        }
        Finding::PastEnd { ino, count, .. } => {
            driver.of_inode(Problem::FilePastEnd { blocks: *count }, *ino, found);
        }
        Finding::EntriesUnknown { ino, lack, .. } => driver.unknown(*ino, (*lack).into(), found),
        _ => {
            let used = u64::from(layout::INODES).saturating_mul(layout::INODE_BYTES);
            let at = Span::new(layout::INODES_OFFSET.saturating_add(used), layout::BLOCK_BYTES.saturating_sub(used));
            found.add(Problem::PkSlackNotZero {}, Subject::Part("inodes"), at, None);
        }
    }
}
