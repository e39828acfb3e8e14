//! File systems of guestmemfs v1. Offsets are physical addresses.

use gmfs_format::chains::inode_name;
use gmfs_format::guestmemfs::{self as layout, Anomaly, HandOver, Lack, Store};
use gmfs_format::model::InodeNo;
use gmfs_format::name;
use gmfs_io::Span;

use super::driver::Driver;
use super::{Checked, Gathered, why};
use crate::finding::{Reason, Subject};
use crate::problem::{Address, Problem, Text};

/// A device tree, and where it is.
type Tree<'t> = Option<(&'t HandOver, Span)>;

const TREE: Subject = Subject::Part("device tree");
const PAGE: u64 = 4096;
const NOWHERE: Span = Span::new(0, 0);

/// Checks a file system of guestmemfs v1 as it is in memory. `tree`: where its device tree is. Offsets are physical addresses.
#[must_use]
pub fn check_guestmemfs(store: &Store, tree: Option<u64>) -> Checked {
    let path = |ino| path(store, ino);
    let parts = store.parts();
    let driver = Driver {
        superblock: parts.superblock.unwrap_or(NOWHERE),
        inodes: parts.inodes,
        inode_bytes: layout::INODE_BYTES,
        ghost: (layout::GHOST, "inode -16", parts.inodes.saturating_sub(layout::GHOST_BEFORE)),
        bitmap: Span::new(store.bitmap_at().unwrap_or_default(), layout::BITMAP_ALLOCATED),
        blocks: store.region().map_or(0, |region| region.offset),
        block_bytes: layout::BLOCK_BYTES,
        path: &path,
    };
    let mut found = Gathered::default();
    let at = parts.tree.as_ref().map(|found| (found, Span::new(tree.unwrap_or_default(), found.tree_size)));
    if at.is_none() && parts.damaged_tree.is_none() {
        found.skip(TREE, NOWHERE, Reason::NotFound);
    }
    for anomaly in store.check() {
        add(&driver, at, &anomaly, &mut found);
    }
    found.finish()
}

/// The path of an inode. Parents may form circles.
fn path(store: &Store, ino: InodeNo) -> Option<Vec<u8>> {
    let mut names: Vec<&[u8]> = Vec::new();
    let mut at = ino;
    while at != InodeNo::ROOT {
        let node = store.node(at)?;
        if names.len() > 4096 {
            return None;
        }
        names.push(&node.name);
        at = node.parent?;
    }
    Some(names.iter().rev().flat_map(|name| [b"/", *name].concat()).collect())
}

/// Adds an anomaly of the device tree and of what it names.
fn of_tree(tree: Tree<'_>, problem: Problem, found: &mut Gathered) {
    found.add(problem, TREE, tree.map_or(NOWHERE, |(_, at)| at), None);
}

#[expect(clippy::too_many_lines, reason = "one arm for each anomaly")]
fn add(driver: &Driver<'_>, tree: Tree<'_>, anomaly: &Anomaly, found: &mut Gathered) {
    let whole = tree.map_or(NOWHERE, |(_, at)| at);
    match anomaly {
        Anomaly::Inodes(anomaly) => driver.chains(anomaly, found),
        Anomaly::Blocks(remark) => driver.blocks(remark, found),
        Anomaly::TreeCut => found.lack(TREE, whole, Reason::MetadataMissing),
        Anomaly::TreeDamaged { at } => {
            let problem = Problem::GmTreeDamaged { why: Text::from(&"it cannot be read") };
            found.add(problem, TREE, Span::new(*at, PAGE), None);
        }
        Anomaly::OtherForm { version } => {
            of_tree(tree, Problem::GmFormUnknown { version: Text::from(&name::escape(version)) }, found);
            found.lack(TREE, whole, Reason::UnknownForm);
        }
        Anomaly::RegionImpossible { region } => {
            let why =
                format!("the region is said to have {} bytes at {:#x}, which cannot be", region.len, region.offset);
            of_tree(tree, Problem::GmTreeDamaged { why: Text::from(&why) }, found);
        }
        Anomaly::RegionFlag => of_tree(tree, Problem::GmRegionFlagMissing {}, found),
        Anomaly::Length { what, span } => {
            let name = what.strip_prefix("the ").or_else(|| what.strip_prefix("a ")).unwrap_or(what);
            found.add(Problem::GmPartLengthWrong { length: span.len }, Subject::Part(name), *span, None);
        }
        // What follows the part of the tree that is there may name it.
        Anomaly::TableUnknown { lack: None } if tree.is_some_and(|(tree, _)| !tree.whole) => {
            found.lack(Subject::Part("table of files"), whole, Reason::MetadataMissing);
        }
        Anomaly::TableUnknown { lack: None } => of_tree(tree, Problem::GmTableMissing {}, found),
        Anomaly::TableUnknown { lack: Some(lack) } => found.lack(Subject::Part("table of files"), table(tree), *lack),
        Anomaly::Pointers { inodes, bitmap } => {
            let problem = Problem::GmPointersDiffer { inodes: Address(*inodes), bitmap: Address(*bitmap) };
            found.add(problem, Subject::Superblock, driver.superblock, None);
        }
        Anomaly::NotSerialised => {
            found.add(Problem::GmNotSerialised {}, Subject::Superblock, driver.superblock, None);
        }
        Anomaly::Locked => found.add(Problem::GmSuperblockLocked {}, Subject::Superblock, driver.superblock, None),
        Anomaly::MappingsDiffer { files, shifted } => {
            let why = if *shifted { ": the driver restored each pointer one inode too far" } else { "" };
            of_tree(tree, Problem::GmMappingsDiffer { files: *files, why: Text::from(&why) }, found);
        }
        Anomaly::TreeFiles { missing, extra, first } => {
            let first = Text::from(&inode_name(*first));
            of_tree(tree, Problem::GmTreeFilesDiffer { missing: *missing, extra: *extra, first }, found);
        }
        Anomaly::TableOrder { entry } => {
            let problem = Problem::GmTableOrderWrong { entry: *entry };
            found.add(problem, Subject::Part("table of files"), table(tree), None);
        }
        Anomaly::Counts { superblock, tree, linked } => {
            let text = |count: &Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            let (superblock, tree) = (Text::from(&text(superblock)), Text::from(&text(tree)));
            let problem = Problem::GmInodeCountWrong { superblock, tree, linked: *linked };
            found.add(problem, Subject::Superblock, driver.superblock, None);
        }
        Anomaly::FreeNotZero { ino } => driver.of_inode(Problem::GmFreeInodeNotZero {}, *ino, found),
        Anomaly::FileWithChild { ino } => driver.of_inode(Problem::PkBytesNotZero {}, *ino, found),
        Anomaly::PageUnknown { ino, page, lack: lack @ Some(_) } => {
            let at = page.map_or_else(|| driver.inode(*ino).1, |page| Span::new(page, layout::PAGE_ENTRIES.into()));
            found.lack(Subject::Part("page of mappings"), at, why(*lack));
        }
        Anomaly::PageUnknown { ino, page, lack: None } => {
            let page = page.map_or_else(|| "is nowhere".to_owned(), |page| format!("cannot be at {page:#x}"));
            driver.of_inode(Problem::GmPageMissing { page: Text::from(&page) }, *ino, found);
        }
        Anomaly::PageShared { page, first, second } => {
            let other = Text::from(&inode_name(*first));
            driver.of_inode(Problem::GmPageShared { page: Address(*page), other }, *second, found);
        }
        Anomaly::TooManyBlocks { ino, count } => {
            driver.of_inode(Problem::GmTooManyBlocks { count: *count }, *ino, found);
        }
        Anomaly::BeyondCount { ino, entry } => {
            driver.of_inode(Problem::GmEntryBeyondCount { entry: *entry }, *ino, found);
        }
        Anomaly::Surplus { ino, count, blocks } => {
            driver.of_inode(Problem::GmCountSurplus { count: *count, blocks: *blocks }, *ino, found);
        }
        Anomaly::PastEnd { ino, count, .. } => driver.of_inode(Problem::FilePastEnd { blocks: *count }, *ino, found),
        Anomaly::BitmapUnknown { lack } => bitmap(driver, *lack, found),
        _ => found.lack(Subject::Region, driver.superblock, Reason::UnknownForm),
    }
}

fn bitmap(driver: &Driver<'_>, lack: Lack, found: &mut Gathered) {
    found.lack(Subject::Part("bitmap"), driver.bitmap, lack);
}

/// The page with the inode numbers of the pages of mappings.
fn table(tree: Tree<'_>) -> Span {
    tree.and_then(|(tree, _)| tree.to_inode).unwrap_or(NOWHERE)
}
