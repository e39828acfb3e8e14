//! Bodies for stores of other layouts: what a driver or a kernel left is damaged as the input says, read, checked, and, of
//! pkernfs, repaired.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "no part of the program, and a panic is what a fuzzer looks for"
)]

use std::sync::OnceLock;

use gmfs_format::fuzzing::guestmemfs::{Memory, PAGES, sample};
use gmfs_format::fuzzing::pkernfs::{self, Image, Region, inode};
use gmfs_format::fuzzing::{damaged_handover, seeds as handovers};
use gmfs_format::guestmemfs::{By, Store as Guestmemfs, array_at, setup_data_at, tree_at};
use gmfs_format::luo::{Store as Luo, scan};
use gmfs_format::native::units::InodeNo;
use gmfs_format::pkernfs::{BITMAP_OFFSET, GHOST_OFFSET, INODES, Place, Store, estimate_size, probe, probe_inodes};
use gmfs_io::{Overlay, Span, WriteAt as _};

use super::Target;
use crate::layouts::{check_guestmemfs, check_handover};
use crate::{Checked, Decision, Policy, Question, Refusal, RepairError, repair_pkernfs};

/// Makes the seeds of a target: a name and an input each.
pub type Seeds = fn() -> Vec<(String, Vec<u8>)>;

/// All bodies of this module by name, with their seeds.
pub const STORES: [(&str, Target, Seeds); 3] = [
    ("pkernfs", exercise_pkernfs, patch_seeds),
    ("guestmemfs", exercise_guestmemfs, patch_seeds),
    ("handover_check", exercise_handover_check, handovers),
];

/// Blocks of the region of pkernfs.
const BLOCKS: u64 = 24;

/// A change of eight bytes: where, and what becomes of them.
struct Patch {
    kind: u8,
    offset: u16,
    how: u8,
    value: u32,
}

impl Patch {
    /// The changes of an input; each takes eight bytes.
    fn list(data: &[u8]) -> impl Iterator<Item = Self> {
        data.as_chunks::<8>().0.iter().take(64).map(|bytes| {
            let [kind, low, high, how, value @ ..] = *bytes;
            Self { kind, offset: u16::from_le_bytes([low, high]), how, value: u32::from_le_bytes(value) }
        })
    }

    fn apply(&self, old: u64) -> u64 {
        let value = u64::from(self.value);
        match self.how % 6 {
            0 => value,
            1 => old ^ 1_u64.rotate_left(self.value % 64),
            2 => old.wrapping_add(value).wrapping_sub(1 << 31),
            3 => u64::MAX ^ value,
            4 => value << 32 | value,
            _ => old & 0xFFFF_FFFF | value << 32,
        }
    }
}

/// One change each: every second place of each kind, each in one of the ways of changing it. libFuzzer reads all seeds before
/// it begins.
fn patch_seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![("none".to_owned(), vec![0]), ("none-lossy".to_owned(), vec![1])];
    for kind in 0..8 {
        for offset in (0..48).step_by(2) {
            let how = (offset / 2 % 6) as u8;
            let value = (u32::from(offset) % 9) << (8 * (how % 3));
            let [low, high] = u16::to_le_bytes(offset);
            let mut bytes = vec![offset as u8 / 2 % 4, kind, low, high, how];
            bytes.extend(value.to_le_bytes());
            seeds.push((format!("{kind}-{offset}-{how}"), bytes));
        }
    }
    seeds
}

fn region() -> &'static Region {
    static REGION: OnceLock<Region> = OnceLock::new();
    REGION.get_or_init(|| pkernfs::sample(BLOCKS))
}

/// Reads all of a damaged store of pkernfs, checks it, and repairs it. The first byte says how far a repair may go, and
/// whether pages are missing.
pub fn exercise_pkernfs(data: &[u8]) {
    let Some((how, patches)) = data.split_first() else { return };
    let mut region = region().clone();
    for patch in Patch::list(patches) {
        let offset = u64::from(patch.offset);
        let at = match patch.kind % 8 {
            0 => offset % 2 * 8,
            1 => inode(InodeNo(1)) + offset % 400 * 8,
            2 => BITMAP_OFFSET + offset % 8 * 8,
            3 => region.entry(InodeNo(2 + patch.offset as u32 % 2), offset / 2 % 8),
            4 => GHOST_OFFSET + offset % 36 * 8,
            5 => inode(InodeNo(INODES)) + offset % 64 * 8,
            6 => {
                inode(InodeNo(2 + patch.offset as u32 % 8))
                    + [0, 8, 16, 24, 280, 272][usize::from(patch.offset / 8) % 6]
            }
            _ => region.entry(InodeNo(5), offset % 8),
        };
        // A table that a change has moved may be anywhere.
        if at < region.size {
            region.put64(at, patch.apply(region.get64(at)));
        }
    }
    if how & 2 != 0 {
        region.image.lose(inode(InodeNo(u32::from(how >> 2) * 9 + 1)), 1);
    }
    let size = region.size;
    let _ = (probe(&region.image, 0), probe_inodes(&region.image, 0), estimate_size(&region.image, 0));
    let Ok(store) = Store::read(&region.image, 0, size) else { return };
    for node in store.nodes() {
        let mut end = 0;
        for extent in store.extents(&region.image, node.ino) {
            assert!(extent.offset >= end && extent.length > 0);
            end = extent.offset + extent.length;
            if let Place::Region { address } = extent.place {
                assert!(address + extent.length <= size);
            }
        }
        let _ = (store.path(node.ino), store.derived_size(&region.image, node.ino));
    }
    repair(&region.image, size, if how & 1 == 0 { Policy::Safe } else { Policy::Lossy });
}

/// A repair ends, and breaks no law.
fn repair(image: &Image, size: u64, policy: Policy) {
    let mut disk = Overlay::new(image);
    for round in 0..3 {
        let done = repair_pkernfs(&mut disk, size, policy, &mut |_: &Question<'_>| Decision::Repair, &());
        let outcome = match done {
            Ok(outcome) => outcome,
            // Neither magic nor root are left.
            Err(RepairError::Pkernfs(_)) => return,
            Err(error) => panic!("{error:?}"),
        };
        let forbidden = |why: &Refusal| matches!(why, Refusal::Forbidden { .. });
        assert!(!outcome.refused.iter().any(|refused| forbidden(&refused.why)), "{:?}", outcome.refused);
        assert!(round < 2 || outcome.applied.is_empty(), "a third repair finds {:?}", outcome.applied);
        if outcome.applied.is_empty() {
            // Another one would find the same bytes.
            break;
        }
    }
    assert!(disk.barrier().is_ok());
}

/// Reads all of a damaged guestmemfs, and checks it. The first byte says whether it was restored, and which page is missing.
pub fn exercise_guestmemfs(data: &[u8]) {
    static SAMPLE: OnceLock<Memory> = OnceLock::new();
    let Some((how, patches)) = data.split_first() else { return };
    let mut memory = SAMPLE.get_or_init(sample).clone();
    if how & 1 != 0 {
        memory.restore();
    }
    for patch in Patch::list(patches) {
        let offset = u64::from(patch.offset);
        let at = match patch.kind % 6 {
            0 => memory.superblock + offset % 5 * 8,
            1 => memory.inodes + offset % 240 * 8,
            2 => PAGES + offset % 0x600 * 8,
            3 => memory.table + offset % 16 * 8,
            4 => memory.bitmap + offset % 4 * 8,
            _ => memory.tree + offset % 90 * 8,
        };
        memory.put64(at, patch.apply(memory.get64(at)));
    }
    if how & 2 != 0 {
        memory.image.lose(PAGES + u64::from(how >> 2) * 4096, 1);
    }
    let _ = (array_at(&memory.image, memory.inodes), setup_data_at(&memory.image, memory.tree));
    let found = tree_at(&memory.image, memory.tree).map(|tree| Guestmemfs::read(&memory.image, tree.into()));
    let trees = found.into_iter().map(|store| (store, Some(memory.tree)));
    for (store, tree) in trees.chain([(memory.without_tree(), None)]) {
        holds(&check_guestmemfs(&store, tree));
        for by in [None, Some(By::Tree), Some(By::Inode)] {
            let usage = store.usage(by);
            assert!(usage.data <= usage.blocks);
            let _ = (store.owner(3 << 20, by), store.metadata_at(memory.inodes + 700));
            for node in store.nodes() {
                assert!(store.extents(node.ino, by).len() <= 513);
                let _ = store.size(node.ino, by);
            }
        }
    }
}

/// Checks a damaged hand-over across its records.
pub fn exercise_handover_check(data: &[u8]) {
    let Some(memory) = damaged_handover(data) else { return };
    let Ok(finds) = scan(&memory, 0..u64::MAX, &mut |_| {}) else { return };
    for store in Luo::read_all(&memory, &finds) {
        holds(&check_handover(&store, &memory));
    }
}

/// What holds of each check.
fn holds(checked: &Checked) {
    assert_eq!(checked.report.findings.len(), checked.files.len());
    for finding in &checked.report.findings {
        assert!(!finding.to_string().is_empty() && finding.at.offset.checked_add(finding.at.len).is_some());
    }
    let _: Option<Span> = checked.report.unchecked.first().map(|skipped| skipped.at);
}
