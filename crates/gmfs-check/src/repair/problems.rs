//! Groups the edits of a plan into problems, and remembers what was decided about them.
//!
//! Edits that the same findings led to belong together: they are asked about once, and made together or not at all.
//! [`Answers`] keeps the decisions from round to round.

use std::collections::{BTreeMap, BTreeSet};

use gmfs_format::native::units::InodeNo;
use gmfs_io::Span;

use crate::affected::AffectedFile;
use crate::finding::{Finding, Subject};
use crate::plan::{Edit, Planned};
use crate::problem::{Code, Fact};
use crate::repair::seen::{FindingKey, hash};
use crate::repair::{Decide, Decision};

/// One problem: what was found, and what would be written.
#[derive(Debug)]
pub struct Question<'a> {
    edits: Vec<&'a Planned>,
    findings: Vec<&'a Finding>,
    files: &'a BTreeMap<FindingKey, AffectedFile>,
}

impl<'a> Question<'a> {
    /// What would be written, and what each of these edits loses.
    #[must_use]
    pub fn edits(&self) -> &[&'a Planned] {
        &self.edits
    }

    /// What was found, each with the file that it is about. Empty for an edit that no finding is about.
    pub fn findings(&self) -> impl Iterator<Item = (&'a Finding, Option<&'a AffectedFile>)> {
        self.findings.iter().map(|finding| (*finding, self.files.get(&finding.key())))
    }

    /// The codes of the problems that would be repaired, in order.
    #[must_use]
    pub fn codes(&self) -> BTreeSet<Code> {
        self.edits.iter().flat_map(|planned| planned.because.iter().copied()).collect()
    }
}

/// Edits that belong together, because the same findings led to them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Problem {
    /// The indexes of the edits in the plan, in order.
    pub(super) edits: Vec<usize>,
    /// The indexes of the findings in the report, in order.
    findings: Vec<usize>,
}

/// Groups the edits of a plan into problems, in the order of the plan. Some edits, for example the edit that makes the
/// directory lost+found, are about no finding. They are returned separately, after the problems: what is decided about
/// them follows from the problems with which they share a code.
pub(super) fn problems(edits: &[&Planned], findings: &[Finding]) -> (Vec<Problem>, Vec<usize>) {
    let places = Places::new(findings);
    let mut together = Together::new(edits.len());
    let mut alone = Vec::new();
    // The first edit that each finding led to, and what led to each edit.
    let mut led_to: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, planned) in edits.iter().enumerate() {
        let about = places.about(planned);
        if about.is_empty() {
            alone.push(at);
        }
        for finding in about {
            let first = *led_to.entry(finding).or_insert(at);
            together.join(first, at);
        }
    }
    let mut problems: BTreeMap<usize, Problem> = BTreeMap::new();
    for at in (0..edits.len()).filter(|at| alone.binary_search(at).is_err()) {
        problems.entry(together.first(at)).or_default().edits.push(at);
    }
    for (finding, at) in led_to {
        problems.entry(together.first(at)).or_default().findings.push(finding);
    }
    (problems.into_values().collect(), alone)
}

/// Sets of edits. Each set is identified by the first edit in it.
struct Together(Vec<usize>);

impl Together {
    fn new(edits: usize) -> Self {
        Self((0..edits).collect())
    }

    /// The first edit of the set that an edit is in.
    fn first(&mut self, edit: usize) -> usize {
        let mut at = edit;
        while let Some(before) = self.0.get(at).copied().filter(|before| *before != at) {
            // Every second step is skipped the next time, which keeps the paths short.
            let further = self.0.get(before).copied().unwrap_or(before);
            if let Some(place) = self.0.get_mut(at) {
                *place = further;
            }
            at = further;
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        if let Some(place) = self.0.get_mut(one.max(other)) {
            *place = one.min(other);
        }
    }
}

/// Where findings are, so that those of an edit are found quickly.
struct Places {
    by_code: BTreeMap<Code, OfCode>,
    by_inode: BTreeMap<(Code, InodeNo), Vec<usize>>,
}

/// The findings of one code.
#[derive(Default)]
struct OfCode {
    /// Where each finding is, by offset, and its index in the report.
    spans: Vec<(Span, usize)>,
    /// The longest of the spans.
    longest: u64,
}

impl OfCode {
    /// The findings that have bytes in common with a span.
    fn meeting(&self, at: Span) -> impl Iterator<Item = usize> {
        // A finding that begins before this offset does not reach the span.
        let from = at.offset.saturating_sub(self.longest);
        let skipped = self.spans.partition_point(|(span, _)| span.offset < from);
        let near = self.spans.iter().skip(skipped).take_while(move |(span, _)| span.offset < at.end());
        near.filter(move |(span, _)| span.meets(at)).map(|(_, finding)| *finding)
    }
}

impl Places {
    fn new(findings: &[Finding]) -> Self {
        let (mut by_code, mut by_inode) = (BTreeMap::<_, OfCode>::new(), BTreeMap::<_, Vec<_>>::new());
        for (number, finding) in findings.iter().enumerate() {
            let of_code = by_code.entry(finding.code()).or_default();
            of_code.spans.push((finding.at, number));
            of_code.longest = of_code.longest.max(finding.at.len);
            if let Some(ino) = inode_of(finding) {
                by_inode.entry((finding.code(), ino)).or_default().push(number);
            }
        }
        by_code.values_mut().for_each(|of_code| of_code.spans.sort_by_key(|(span, _)| span.offset));
        Self { by_code, by_inode }
    }

    /// The findings that led to an edit.
    fn about(&self, planned: &Planned) -> BTreeSet<usize> {
        let of_codes = || planned.because.iter().filter_map(|code| self.by_code.get(code));
        match planned.edit {
            Edit::Inode { ino, .. } => {
                let lists = planned.because.iter().filter_map(|code| self.by_inode.get(&(*code, ino)));
                lists.flatten().copied().collect()
            }
            // These are made once for all findings of their codes.
            Edit::Pkernfs(ref edit) if edit.is_for_all() => {
                of_codes().flat_map(|of_code| &of_code.spans).map(|(_, finding)| *finding).collect()
            }
            Edit::Settle { .. } | Edit::Superblocks | Edit::Superblock { .. } | Edit::Recover => {
                of_codes().flat_map(|of_code| &of_code.spans).map(|(_, finding)| *finding).collect()
            }
            Edit::Mend { .. } | Edit::Rewrite { .. } | Edit::Blocks { .. } | Edit::Pkernfs(_) => {
                of_codes().flat_map(|of_code| of_code.meeting(planned.at)).collect()
            }
        }
    }
}

/// The inode that a finding is about, or whose block it is about.
fn inode_of(finding: &Finding) -> Option<InodeNo> {
    if let Subject::Inode(ino) = finding.subject {
        return Some(ino);
    }
    finding.problem.facts().into_iter().find_map(|(name, fact)| match fact {
        Fact::Number(owner) if name == "owner" => u32::try_from(owner).ok().map(InodeNo),
        _ => None,
    })
}

/// Identifies an edit from round to round.
fn edit_key(planned: &Planned) -> u64 {
    hash(&planned.edit.to_string())
}

/// What was decided so far.
#[derive(Default)]
pub(super) struct Answers {
    /// Codes for which everything is to be repaired.
    all: BTreeSet<Code>,
    /// The keys of edits that are not wanted. These edits are planned again in every round.
    unwanted: BTreeSet<u64>,
    /// Whether nothing more is to be asked.
    stopped: bool,
}

impl Answers {
    /// Whether the repair is to end.
    pub(super) const fn stopped(&self) -> bool {
        self.stopped
    }

    /// Gets a decision about each problem of a plan. Returns the edits that are wanted and those that are not, in the
    /// order of the plan.
    pub(super) fn choose<D: Decide + ?Sized>(
        &mut self,
        edits: Vec<Planned>,
        findings: &[Finding],
        files: &BTreeMap<FindingKey, AffectedFile>,
        decide: &mut D,
    ) -> (Vec<Planned>, Vec<Planned>) {
        let (problems, alone) = problems(&edits.iter().collect::<Vec<_>>(), findings);
        let mut wanted = BTreeSet::new();
        // The codes of all problems, and of those that are repaired.
        let (mut asked, mut codes) = (BTreeSet::new(), BTreeSet::new());
        for problem in &problems {
            let question = question(problem, &edits, findings, files);
            asked.append(&mut question.codes());
            if self.wants(&question, decide) {
                wanted.extend(problem.edits.iter().copied());
                codes.append(&mut question.codes());
            }
        }
        for at in alone {
            let Some(planned) = edits.get(at) else { continue };
            let yes = if planned.because.iter().any(|code| asked.contains(code)) {
                planned.because.iter().any(|code| codes.contains(code))
            } else {
                self.wants(&Question { edits: vec![planned], findings: Vec::new(), files }, decide)
            };
            if yes {
                wanted.insert(at);
            }
        }
        let (mut accepted, mut declined) = (Vec::new(), Vec::new());
        for (at, planned) in edits.into_iter().enumerate() {
            if wanted.contains(&at) { accepted.push(planned) } else { declined.push(planned) }
        }
        (accepted, declined)
    }

    /// Whether a problem is to be repaired. It asks only if this was not decided before.
    fn wants<D: Decide + ?Sized>(&mut self, question: &Question<'_>, decide: &mut D) -> bool {
        let known = |edit: &&Planned| self.unwanted.contains(&edit_key(edit));
        if self.stopped || !self.unwanted.is_empty() && question.edits.iter().all(known) {
            return false;
        }
        if !self.all.is_empty() && question.codes().is_subset(&self.all) {
            return true;
        }
        match decide.decide(question) {
            Decision::Repair => return true,
            Decision::RepairAll => {
                self.all.append(&mut question.codes());
                return true;
            }
            Decision::Leave => self.unwanted.extend(question.edits.iter().map(|edit| edit_key(edit))),
            Decision::Stop => self.stopped = true,
        }
        false
    }
}

fn question<'a>(
    problem: &Problem,
    edits: &'a [Planned],
    findings: &'a [Finding],
    files: &'a BTreeMap<FindingKey, AffectedFile>,
) -> Question<'a> {
    Question {
        edits: problem.edits.iter().filter_map(|at| edits.get(*at)).collect(),
        findings: problem.findings.iter().filter_map(|at| findings.get(*at)).collect(),
        files,
    }
}

/// Removes the edits that are no complete repair without edits that are not made; see [`Code::coupling`]. Returns the
/// edits that are left, and those that were removed.
pub(super) fn whole_repairs(
    accepted: Vec<Planned>,
    declined: &[Planned],
    findings: &[Finding],
) -> (Vec<Planned>, Vec<Planned>) {
    let left_out: BTreeSet<Code> = declined.iter().flat_map(coupled).collect();
    if left_out.is_empty() {
        return (accepted, Vec::new());
    }
    let edits: Vec<&Planned> = accepted.iter().chain(declined).collect();
    let (problems, alone) = problems(&edits, findings);
    let codes = |at: &usize| edits.get(*at).copied().into_iter().flat_map(coupled).collect::<BTreeSet<Code>>();
    let is_declined = |at: &&usize| **at >= accepted.len();
    let mut halves: BTreeSet<usize> = BTreeSet::new();
    for Problem { edits, .. } in problems {
        let left_out: BTreeSet<Code> = edits.iter().filter(is_declined).flat_map(codes).collect();
        halves.extend(edits.iter().filter(|at| !codes(at).is_disjoint(&left_out)));
    }
    // If no finding is about an edit, it is unknown which other edits belong to it.
    let by_itself: BTreeSet<Code> = alone.iter().filter(is_declined).flat_map(codes).collect();
    halves.extend(alone.iter().filter(|at| !codes(at).is_disjoint(&left_out)));
    halves.extend((0..accepted.len()).filter(|at| !codes(at).is_disjoint(&by_itself)));
    let (mut whole, mut apart) = (Vec::new(), Vec::new());
    for (at, planned) in accepted.into_iter().enumerate() {
        if halves.contains(&at) { apart.push(planned) } else { whole.push(planned) }
    }
    (whole, apart)
}

/// The problems for which an edit is only a part of the repair.
fn coupled(planned: &Planned) -> impl Iterator<Item = Code> + '_ {
    let is_part = |code: &Code| code.coupling().is_some_and(|coupling| planned.edit.is_coupled_by(coupling));
    planned.because.iter().copied().filter(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{Problem as Found, Repair};
    use gmfs_format::native::raw::InodeRaw;
    use gmfs_format::native::units::BlockNo;
    use gmfs_volume::change::Assign;

    fn block(first: u32, owner: u32) -> Finding {
        Finding {
            problem: Found::BlockPastSize { owner: InodeNo(owner) },
            subject: Subject::Blocks { first: BlockNo(first), count: 1 },
            at: Span::new(u64::from(first), 1),
        }
    }

    fn planned(edit: Edit, at: u64, code: Code) -> Planned {
        let (subject, at) = (Subject::Region, Span::new(at, 1));
        Planned { edit, subject, at, because: vec![code], class: Repair::Lossy, loses: Vec::new() }
    }

    fn reserve(block: u32) -> Planned {
        let edit = Edit::Blocks { first: BlockNo(block), count: 1, to: Assign::Reserve, before: 0 };
        planned(edit, block.into(), Code::GM0404)
    }

    fn inode(ino: u32) -> Planned {
        let record = || Box::new(InodeRaw::free(InodeNo(ino), 0));
        planned(Edit::Inode { ino: InodeNo(ino), before: record(), after: record() }, 1000, Code::GM0404)
    }

    #[test]
    fn edits_of_one_problem_are_one_question() {
        let findings = [block(1, 7), block(2, 8), block(3, 7)];
        let edits = [reserve(1), reserve(2), reserve(3), inode(7), inode(8), inode(99)];
        let (problems, alone) = problems(&edits.each_ref(), &findings);
        let seven = Problem { edits: vec![0, 2, 3], findings: vec![0, 2] };
        let eight = Problem { edits: vec![1, 4], findings: vec![1] };
        assert_eq!((problems, alone), (vec![seven, eight], vec![5]));
    }

    #[test]
    fn without_common_findings_problems_stay_apart() {
        let findings = [block(1, 7), block(2, 7)];
        let (problems, alone) = problems(&[&reserve(1), &reserve(2)], &findings);
        assert_eq!((problems.len(), alone.len()), (2, 0));
    }

    #[test]
    fn a_long_finding_leads_to_edits_far_behind_its_start() {
        let long = |first: u32, len| Finding { at: Span::new(first.into(), len), ..block(first, 7) };
        let findings = [long(0, 100), long(10, 1), long(50, 1)];
        let (problems, alone) = problems(&[&reserve(99), &reserve(100), &reserve(10)], &findings);
        assert_eq!(problems, [Problem { edits: vec![0, 2], findings: vec![0, 1] }]);
        assert_eq!(alone, [1]);
    }

    #[test]
    fn what_is_no_repair_without_the_other_half_is_left_and_nothing_else() {
        let findings = [block(1, 7), block(2, 8)];
        let accepted = || vec![reserve(1), reserve(2), inode(8)];
        let blocks = |edits: &[Planned]| edits.iter().map(|planned| planned.at.offset).collect::<Vec<_>>();
        let (whole, apart) = whole_repairs(accepted(), &[inode(7)], &findings);
        assert_eq!((blocks(&whole), blocks(&apart)), (vec![2, 1000], vec![1]), "the other file is repaired");
        let (whole, apart) = whole_repairs(accepted(), &[inode(99)], &findings);
        assert_eq!((whole.len(), apart.len()), (0, 3), "nobody knows what belongs to it");
        let other = planned(Edit::Recover, 0, Code::GM0404);
        assert_eq!(whole_repairs(accepted(), &[other], &findings).1, []);
    }

    /// Chooses, and counts the questions.
    fn choose(answers: &mut Answers, said: Decision) -> (usize, usize, usize) {
        let mut asked = 0_usize;
        let mut decide = |_: &Question<'_>| {
            asked = asked.saturating_add(1);
            said
        };
        let edits = vec![reserve(1), inode(99)];
        let (yes, no) = answers.choose(edits, &[block(1, 7)], &BTreeMap::new(), &mut decide);
        (yes.len(), no.len(), asked)
    }

    #[test]
    fn what_was_answered_is_not_asked_again() {
        let mut answers = Answers::default();
        assert_eq!(choose(&mut answers, Decision::RepairAll), (2, 0, 1));
        assert_eq!(choose(&mut answers, Decision::Stop), (2, 0, 0), "everything of this code is repaired");
        let mut answers = Answers::default();
        assert_eq!(choose(&mut answers, Decision::Leave), (0, 2, 1), "what follows a repair goes with it");
        assert_eq!(choose(&mut answers, Decision::Repair), (0, 2, 0));
        let mut answers = Answers::default();
        assert_eq!(choose(&mut answers, Decision::Repair), (2, 0, 1));
        assert_eq!(choose(&mut answers, Decision::Stop), (0, 2, 1));
        assert!(answers.stopped());
        assert_eq!(choose(&mut answers, Decision::Repair), (0, 2, 0));
    }
}
