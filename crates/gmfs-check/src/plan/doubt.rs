//! What becomes of a region whose newest state is not proven, or that contradicts itself.

use std::fmt::Write as _;
use std::ops::Range;

use gmfs_format::name;
use gmfs_format::native::tables::INODE_DOUBTFUL;
use gmfs_format::native::units::{InodeNo, len64};
use gmfs_io::ReadAt;
use gmfs_volume::region::read_inode;
use gmfs_volume::settle::Settlement;
use gmfs_volume::{Region, Superblocks};

use crate::finding::{Finding, Subject};
use crate::plan::{Edit, Plan, Policy, manual_advice};
use crate::problem::{Code, Repair, Stage};

/// Runs, and files, that are listed one by one.
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
        Some("pages that might prove the state are not there to be read: nothing is concluded without them")
    } else if strangers && policy == Policy::Safe {
        Some("pages of another region lie in this one's places, and nothing is written over them without being told to")
    } else {
        None
    };
    let mut because: Vec<Code> = Vec::new();
    for finding in findings {
        let code = finding.code();
        match (code.repair(), hinders) {
            (Repair::Manual | Repair::None, _) => plan.refuse(finding, manual_advice(&finding.problem)),
            (_, Some(why)) => plan.refuse(finding, why),
            _ if because.contains(&code) => {}
            _ => because.push(code),
        }
    }
    if hinders.is_none() && !because.is_empty() {
        let settlement = Settlement::of(source, state, false);
        plan.push(Edit::Settle { distrust: false }, because, told(source, state, &settlement));
    }
}

/// Whether files or blocks contradict pages all of which are proven: then one of these lies under a good seal, and nobody
/// knows which.
pub(super) fn contradicts<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, findings: &[&Finding]) -> bool {
    findings.iter().any(|finding| is_contradiction(source, state, finding))
}

fn is_contradiction<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, finding: &Finding) -> bool {
    let proven = || match finding.subject {
        // Of a file that is flagged it is known that not all of it is proven.
        Subject::Inode(ino) => read_inode(source, state, ino).is_some_and(|raw| raw.flags.get() & INODE_DOUBTFUL == 0),
        _ => true,
    };
    finding.code().stage() == Stage::Contradictions && proven()
}

/// Plans to take nothing for proven.
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
            plan.refuse(finding, "it contradicts pages that ought to be proven, so that nothing here is; -y keeps all there is and takes nothing for proven");
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
    plan.push(Edit::Settle { distrust: true }, because, told(source, state, &settlement));
    if let Some(planned) = plan.edits.last_mut() {
        planned.class = Repair::Lossy;
    }
}

/// What is given up, and what becomes doubtful, by block, by page and by file.
fn told<S: ReadAt + ?Sized>(source: &S, state: &Superblocks, settlement: &Settlement) -> Option<String> {
    let mut parts = Vec::new();
    if state.are_rebuilt() {
        parts.push("the label, the times and the features of the region".to_owned());
    }
    let table = state.geometry().first_inode_page().0;
    let (blocks, inodes): (Vec<_>, Vec<_>) = settlement.lost.iter().cloned().partition(|run| run.start < table);
    if !blocks.is_empty() {
        parts.push(format!("the owners of the blocks on block table pages {}", runs(&blocks)));
    }
    if !inodes.is_empty() {
        parts.push(format!("names, sizes and directories of the inodes on inode table pages {}", runs(&inodes)));
    }
    if !settlement.unproven_inodes.is_empty() {
        let pages = runs(&settlement.unproven_inodes);
        parts.push(format!("the certainty that inode table pages {pages} are the newest: files may be missing there"));
    }
    if settlement.reserved_blocks > 0 {
        let (count, listed) = (settlement.reserved_blocks, runs(&settlement.reserved));
        parts.push(format!("{count} blocks that look free and are reserved: {listed}"));
    }
    if !settlement.orphans.is_empty() {
        let first: Vec<String> = settlement.orphans.iter().take(LISTED).map(|ino| format!("#{ino}")).collect();
        let more = settlement.orphans.len().saturating_sub(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        parts.push(format!("the inodes of files that come back in lost+found as {}{more}", first.join(", ")));
    }
    if settlement.doubtful_files > 0 {
        let tree = Region::with(source, state).inodes().tree;
        let path = |ino: &InodeNo| tree.path(*ino).map_or_else(|| format!("inode {ino}"), |path| name::escape(&path));
        let first: Vec<String> = settlement.doubtful.iter().take(LISTED).map(path).collect();
        let more = settlement.doubtful_files.saturating_sub(len64(first.len()));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        parts.push(format!("the certainty of {}{more}: they are flagged doubtful", first.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Runs of numbers in words.
fn runs(runs: &[Range<u32>]) -> String {
    let mut text = String::new();
    for (n, run) in runs.iter().take(LISTED).enumerate() {
        let _ = write!(text, "{}", if n == 0 { "" } else { ", " });
        let last = run.end.saturating_sub(1);
        let _ = if last == run.start { write!(text, "{last}") } else { write!(text, "{}-{last}", run.start) };
    }
    let more = runs.len().saturating_sub(LISTED);
    if more > 0 {
        let _ = write!(text, " and {more} more runs");
    }
    text
}
