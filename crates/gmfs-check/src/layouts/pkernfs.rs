//! Stores of the pkernfs driver.

mod edit;
mod gate;
mod plan;

use gmfs_format::pkernfs::{self as layout, Finding, Store};
use gmfs_io::{ReadAt, Span};

use super::driver::Driver;
use super::{Checked, Gathered};
use crate::finding::Subject;
use crate::plan::{Plan, Policy};
use crate::problem::Problem;

pub use edit::{Action, PkernfsEdit, Write};
pub use gate::{Law, judge as judge_pkernfs};

/// Checks a store of the pkernfs driver. Offsets count from its start.
#[must_use]
pub fn check_pkernfs(store: &Store, source: &dyn ReadAt) -> Checked {
    examine_pkernfs(store, source).checked
}

/// A store of the pkernfs driver that was checked, and what a plan goes by.
#[derive(Debug)]
pub struct Examined {
    /// What was found.
    pub checked: Checked,
    findings: Vec<Finding>,
}

impl Examined {
    /// Plans a round of a repair of the store at the start of `source`. `written`: this repair has written something before.
    #[must_use]
    pub fn plan(&self, store: &Store, source: &dyn ReadAt, policy: Policy, written: bool) -> Plan {
        let (findings, report) = (self.findings.as_slice(), &self.checked.report);
        plan::Planner { store, source, findings, report, policy, written }.plan()
    }
}

/// Checks a store of the pkernfs driver that may have to be repaired. Offsets count from its start.
#[must_use]
pub fn examine_pkernfs(store: &Store, source: &dyn ReadAt) -> Examined {
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
    let findings = store.check(source);
    for finding in &findings {
        add(&driver, finding, &mut found);
    }
    Examined { checked: found.finish(), findings }
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
