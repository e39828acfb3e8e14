//! Plans the repair of damaged pages.

use gmfs_format::native::seal::PageKind;
use gmfs_format::native::units::CopyId;
use gmfs_volume::Superblocks;

use crate::finding::{Finding, Subject};
use crate::plan::{Edit, Loss, Plan, Policy, Refusal};
use crate::problem::{Code, Repair};

/// Plans the repair of pages of a region whose state is proven. Each page is rewritten from the copy that was chosen.
pub(super) fn pages(findings: &[&Finding], state: &Superblocks, policy: Policy, plan: &mut Plan) {
    // An empty copy is filled only if no other region may own its location, or if the user has named the region.
    let census = state.census();
    let may_fill = |copy| !state.has_others() || census.is_some_and(|census| census.is_present(copy));
    for finding in findings {
        let code = finding.code();
        if matches!(code.repair(), Repair::Manual | Repair::None) {
            plan.refuse(finding, Refusal::of_manual(&finding.problem));
        } else if !policy.allows(code.repair()) {
            plan.refuse(finding, Refusal::Lossy);
        } else if finding.copy().is_some_and(|copy| !may_fill(copy)) {
            plan.refuse(finding, Refusal::EmptyCopy);
        } else {
            let (edit, loses) = edit(finding);
            match plan.edits.iter_mut().find(|planned| edit == Edit::Superblocks && planned.edit == edit) {
                Some(planned) => planned.because.push(code),
                None => plan.push(edit, vec![code], loses),
            }
        }
    }
    // Superblocks come last, because pages prove them.
    plan.edits.sort_by_key(|planned| planned.edit == Edit::Superblocks || planned.edit.is_of_superblock());
}

/// The edit for one finding.
fn edit(finding: &Finding) -> (Edit, Vec<Loss>) {
    let Subject::Pages { kind, first, count, copy } = finding.subject else {
        let lost = finding.code() == Code::GM0112;
        return (Edit::Superblocks, lost.then_some(Loss::SuperblockFields).into_iter().collect());
    };
    if kind == PageKind::Superblock && finding.code() == Code::GM0011 {
        return (Edit::Superblocks, vec![Loss::SuperblockB]);
    }
    (Edit::Mend { kind, first, count, copy: copy.unwrap_or(CopyId::B) }, Vec::new())
}
