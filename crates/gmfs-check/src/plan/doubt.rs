//! Plans the repair of a region whose newest state is not proven, or that contradicts itself.

use std::ops::Range;

use gmfs_format::name;
use gmfs_format::native::tables::INODE_DOUBTFUL;
use gmfs_format::native::units::{InodeNo, len64};
use gmfs_io::ReadAt;
use gmfs_volume::region::read_inode;
use gmfs_volume::settle::Settlement;
use gmfs_volume::{Region, Superblocks};

use crate::finding::{Finding, Subject};
use crate::plan::{Edit, Listed, Loss, Plan, Policy, Refusal};
use crate::problem::{Code, Repair, Stage};

/// The maximum number of runs, and of files, that are listed.
const LISTED: usize = 64;

/// Plans to settle a doubt.
pub(super) fn plan<S: ReadAt + ?Sized>(
    source: &S,
    state: &Superblocks,
    findings: &[&Finding],
    policy: Policy,
    plan: &mut Plan,
) {
    let strangers = state.census().is_some_and(|census| census.has_strangers_before(state.decision().marks));
    let hinders = if state.lacks_pages() {
        Some(Refusal::PagesMissing)
    } else if strangers && policy == Policy::Safe {
        Some(Refusal::OtherRegion)
    } else {
        None
    };
    let mut because: Vec<Code> = Vec::new();
    for finding in findings {
        let code = finding.code();
        match (code.repair(), &hinders) {
            (Repair::Manual | Repair::None, _) => plan.refuse(finding, Refusal::of_manual(&finding.problem)),
            (_, Some(why)) => plan.refuse(finding, why.clone()),
            _ if because.contains(&code) => {}
            _ => because.push(code),
        }
    }
    if hinders.is_none() && !because.is_empty() {
        let settlement = Settlement::of(source, state, false);
        plan.push(Edit::Settle { distrust: false }, because, losses(source, state, &settlement));
    }
}

/// Whether files and blocks contradict each other although all pages are proven. Then one of these pages has false
/// values with a good seal, and it is unknown which one.
pub(super) fn contradicts<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, findings: &[&Finding]) -> bool {
    findings.iter().any(|finding| is_contradiction(source, state, finding))
}

fn is_contradiction<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, finding: &Finding) -> bool {
    let proven = || match finding.subject {
        // If a file is flagged doubtful, it is known already that not all of it is proven.
        Subject::Inode(ino) => read_inode(source, state, ino).is_some_and(|raw| raw.flags.get() & INODE_DOUBTFUL == 0),
        _ => true,
    };
    finding.code().stage() == Stage::Contradictions && proven()
}

/// Plans a repair in which no page counts as proven.
pub(super) fn distrust<S: ReadAt + ?Sized>(
    source: &S,
    state: &Superblocks,
    findings: &[&Finding],
    policy: Policy,
    plan: &mut Plan,
) {
    let (contradicting, rest): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| is_contradiction(source, state, finding));
    plan.more = rest.iter().any(|finding| matches!(finding.code().repair(), Repair::Safe | Repair::Lossy));
    if policy == Policy::Safe {
        for finding in contradicting {
            plan.refuse(finding, Refusal::Contradiction);
        }
        return;
    }
    let mut because: Vec<Code> = Vec::new();
    for finding in contradicting {
        if !because.contains(&finding.code()) {
            because.push(finding.code());
        }
    }
    let settlement = Settlement::of(source, state, true);
    plan.push(Edit::Settle { distrust: true }, because, losses(source, state, &settlement));
    if let Some(planned) = plan.edits.last_mut() {
        planned.class = Repair::Lossy;
    }
}

/// What is lost, and what becomes doubtful, by block, by page and by file.
fn losses<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, settlement: &Settlement) -> Vec<Loss> {
    let mut losses = Vec::new();
    let runs = |runs: &[Range<u32>]| Listed::first(runs, LISTED);
    if state.are_rebuilt() {
        losses.push(Loss::SuperblockFields);
    }
    let table = state.geometry().first_inode_page().0;
    let (blocks, inodes): (Vec<_>, Vec<_>) = settlement.lost.iter().cloned().partition(|run| run.start < table);
    if !blocks.is_empty() {
        losses.push(Loss::BlockOwners(runs(&blocks)));
    }
    if !inodes.is_empty() {
        losses.push(Loss::Inodes(runs(&inodes)));
    }
    if !settlement.unproven_inodes.is_empty() {
        losses.push(Loss::NewestInodes(runs(&settlement.unproven_inodes)));
    }
    if settlement.reserved_blocks > 0 {
        losses.push(Loss::FreeBlocks { count: settlement.reserved_blocks, blocks: runs(&settlement.reserved) });
    }
    if !settlement.orphans.is_empty() {
        losses.push(Loss::Records(Listed::first(&settlement.orphans, LISTED)));
    }
    if settlement.doubtful_files > 0 {
        let tree = Region::with(source, state).inodes().tree;
        let path = |ino: &InodeNo| tree.path(*ino).map_or_else(|| format!("inode {ino}"), |path| name::escape(&path));
        let first: Vec<String> = settlement.doubtful.iter().take(LISTED).map(path).collect();
        let more = settlement.doubtful_files.saturating_sub(len64(first.len()));
        losses.push(Loss::Certainty(Listed { first, more }));
    }
    losses
}
