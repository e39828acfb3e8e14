//! A repair of a store of the pkernfs driver, by the same steps as that of a region: check, plan, decide, judge, write.

use std::collections::BTreeMap;

use gmfs_format::pkernfs::Store;
use gmfs_io::{ReadAt, WriteAt};

use super::problems::Answers;
use super::seen::Seen;
use super::{Decide, Observe, Outcome, RepairError, not_wanted, refuse};
use crate::apply::ApplyError;
use crate::finding::Report;
use crate::layouts::{PkernfsEdit, examine_pkernfs, judge_pkernfs};
use crate::plan::{Edit, Planned, Policy, Refusal};

/// Repairs the store of the pkernfs driver that fills `target`: checks it, plans, lets `decide` choose, judges what was
/// chosen, and writes it, until nothing more is to be done.
///
/// # Errors
/// There is no such store, or the medium failed. What was begun is safe: a further repair ends it.
pub fn repair_pkernfs<T: WriteAt, D: Decide + ?Sized>(
    target: &mut T,
    size: u64,
    policy: Policy,
    decide: &mut D,
    observe: &dyn Observe,
) -> Result<Outcome, RepairError> {
    let mut outcome = Outcome::default();
    let (mut answers, mut seen) = (Answers::default(), Seen::default());
    let mut written = false;
    loop {
        outcome.last = Report::default();
        let store = Store::read(&*target, 0, size).map_err(RepairError::Pkernfs)?;
        let examined = examine_pkernfs(&store, &*target);
        observe.checked();
        let next = examined.plan(&store, &*target, policy, written);
        let files = examined.checked.files;
        outcome.last = examined.checked.report;
        if !seen.add(&outcome.last) {
            break;
        }
        let of_findings = outcome.last.findings.iter().map(crate::finding::Finding::key).zip(files);
        seen.set_files(of_findings.filter_map(|(key, file)| Some((key, file?))));
        outcome.refused = next.refused;
        let (wanted, unwanted) = answers.choose(next.edits, &outcome.last.findings, seen.files(), decide);
        outcome.declined = unwanted.iter().flat_map(not_wanted).collect();
        let held: BTreeMap<usize, Refusal> =
            decide.hold_back_bytes(&*target, &wanted).into_iter().map(|held| (held.edit, held.why)).collect();
        let mut accepted = Vec::new();
        for (at, planned) in wanted.into_iter().enumerate() {
            match held.get(&at) {
                Some(why) => outcome.refused.extend(refuse(&planned, why)),
                None => accepted.push(planned),
            }
        }
        let accepted = lawful(&*target, size, accepted, &mut outcome);
        outcome.cancelled = answers.stopped() || observe.is_cancelled();
        if accepted.is_empty() || outcome.cancelled {
            break;
        }
        for planned in &accepted {
            if let Edit::Pkernfs(edit) = &planned.edit {
                carry_out(target, edit).map_err(RepairError::Apply)?;
            }
        }
        written = true;
        outcome.list(accepted);
    }
    (outcome.found, outcome.more) = seen.told();
    Ok(outcome)
}

/// The edits that break no law: all of them together, or else as many as can be made one after the other.
fn lawful<T: ReadAt>(target: &T, size: u64, edits: Vec<Planned>, outcome: &mut Outcome) -> Vec<Planned> {
    let all: Vec<&PkernfsEdit> = edits.iter().filter_map(of_pkernfs).collect();
    if all.is_empty() || judge_pkernfs(target, size, &all).is_ok() {
        return edits;
    }
    let mut kept: Vec<Planned> = Vec::new();
    for planned in edits {
        let Some(edit) = of_pkernfs(&planned) else { continue };
        let mut together: Vec<&PkernfsEdit> = kept.iter().filter_map(of_pkernfs).collect();
        together.push(edit);
        match judge_pkernfs(target, size, &together) {
            Ok(()) => kept.push(planned),
            Err(law) => {
                let why = Refusal::Forbidden { law, edit: planned.edit.to_string() };
                outcome.refused.extend(refuse(&planned, &why));
            }
        }
    }
    kept
}

fn of_pkernfs(planned: &Planned) -> Option<&PkernfsEdit> {
    match &planned.edit {
        Edit::Pkernfs(edit) => Some(edit),
        _ => None,
    }
}

/// Writes what an edit writes, if what is there is still what it was planned for.
fn carry_out<T: WriteAt>(target: &mut T, edit: &PkernfsEdit) -> Result<(), ApplyError> {
    for write in edit.writes() {
        let mut there = vec![0; write.before.len()];
        target.read_at(write.at, &mut there)?;
        if there != write.before {
            return Err(ApplyError::Changed(edit.to_string()));
        }
    }
    for step in &edit.steps {
        for write in step {
            target.write_at(write.at, &write.after)?;
        }
        target.barrier()?;
    }
    Ok(())
}
