//! What becomes of damaged pages.

use gmfs_format::seal::PageKind;
use gmfs_format::units::{CopyId, PageNo};

use crate::finding::{Finding, Subject};
use crate::plan::{Edit, Plan, Policy, manual_advice};
use crate::problem::{Code, Repair};

/// Plans the repair of pages.
pub(super) fn pages(findings: &[&Finding], policy: Policy, plan: &mut Plan) {
    for finding in findings {
        let code = finding.code();
        if matches!(code.repair(), Repair::Manual | Repair::None) {
            plan.refuse(finding, manual_advice(&finding.problem));
        } else if !policy.allows(code.repair()) {
            plan.refuse(finding, "gives something up, and only repairs that do not were asked for");
        } else {
            let (edit, loses) = edit(finding);
            plan.push(edit, vec![code], loses);
        }
    }
    // Superblocks tell which copy of a page is to be trusted: they come last.
    plan.edits.sort_by_key(|planned| planned.edit.is_of_superblock());
}

/// Whether findings of this code hang on what the superblocks tell of their copies.
pub(super) const fn is_doubt(code: Code) -> bool {
    matches!(code, Code::GM0011 | Code::GM0012)
}

/// Leaves the superblocks as they are while a page is in doubt that this plan does not settle: they tell that it is. `more`
/// says that there are pages in doubt beyond `findings`.
pub(super) fn keep_doubts(findings: &[&Finding], policy: Policy, more: bool, plan: &mut Plan) {
    // A plan that may settle doubts has an edit for each.
    let in_doubt = findings.iter().any(|finding| is_doubt(finding.code()) && !is_of_superblock(finding));
    let settles = !in_doubt || policy.allows(Repair::Lossy);
    if !more && settles {
        return;
    }
    plan.edits.retain(|planned| !planned.edit.is_of_superblock());
    for finding in
        findings.iter().filter(|finding| is_of_superblock(finding) && finding.code().repair() == Repair::Safe)
    {
        plan.refuse(finding, "it tells that pages of this copy are in doubt; they come first");
    }
}

const fn is_of_superblock(finding: &Finding) -> bool {
    matches!(finding.subject, Subject::Pages { kind: PageKind::Superblock, .. })
}

/// The edit for one finding.
fn edit(finding: &Finding) -> (Edit, Option<String>) {
    let Subject::Pages { kind, first, count, copy } = finding.subject else {
        let loses = "the label, the times and the features of the region".to_owned();
        return (Edit::Superblocks, Some(loses));
    };
    let mend = |copy| Edit::Mend { kind, first, count, copy };
    match finding.code() {
        Code::GM0010 => (Edit::Replace { kind, first, count }, Some(what_is_lost(kind, first, count))),
        Code::GM0011 | Code::GM0012 if kind == PageKind::Superblock => {
            (mend(CopyId::B), Some("what copy B says where it differs".to_owned()))
        }
        Code::GM0011 => {
            let loses = "what copy B says where both copies say something".to_owned();
            (Edit::Reconcile { kind, first, count }, Some(loses))
        }
        Code::GM0012 => {
            let loses = "what the interrupted commit changed; blocks that look free are reserved".to_owned();
            (Edit::Reconcile { kind, first, count }, Some(loses))
        }
        Code::GM0113 => {
            let loses = "blocks that are free, if an older region with the same UUID left these pages".to_owned();
            (Edit::Uncover { kind, first, count }, Some(loses))
        }
        _ => (mend(copy.unwrap_or(CopyId::B)), None),
    }
}

/// What goes with pages that neither copy gives.
fn what_is_lost(kind: PageKind, first: PageNo, count: u32) -> String {
    let pages = Subject::Pages { kind, first, count, copy: None };
    match kind {
        PageKind::InodeTable => format!(
            "names, sizes in bytes and directories of the inodes on {pages}; their blocks come back as files in lost+found"
        ),
        PageKind::BlockTable => {
            format!("the owners of the blocks on {pages}; the blocks are reserved, their content stays")
        }
        PageKind::Superblock => "the superblock".to_owned(),
    }
}
