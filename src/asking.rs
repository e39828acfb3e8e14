//! Asking about repairs: one question for each problem, with what was found, what would be written and what is lost.
//!
//! [`problems`] gathers the edits of a plan that come of the same findings; [`Answers`] asks about each of them, and
//! remembers what was said from round to round.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};

use anyhow::Result;
use gmfs_check::plan::Edit;
use gmfs_check::problem::Fact;
use gmfs_check::{Code, Finding, Planned, Subject};
use gmfs_format::native::units::InodeNo;

use crate::ctx::Ctx;
use crate::failure::printable;
use crate::prompt::{self, Answer};
use crate::render::{size, wrap};

/// Findings, edits and losses that one question lists, each.
const LISTED: usize = 8;

/// What a finding is known by from round to round: its code, and a hash of all that it says.
pub(crate) type Key = (Code, u64);

/// See [`Key`].
pub(crate) fn key(finding: &Finding) -> Key {
    (finding.code(), hash(&(finding.to_string(), finding.at.offset)))
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What an edit is known by from round to round.
fn edit_key(planned: &Planned) -> u64 {
    hash(&planned.edit.to_string())
}

/// Edits that belong together, because the same findings led to them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Problem {
    /// Their places in the plan.
    edits: Vec<usize>,
    /// The places of the findings in the report.
    findings: Vec<usize>,
}

/// Sorts the edits of a plan into problems, in the order of the plan. Edits that no finding is about, like that of the
/// directory in which lost files are put, come last, and by themselves: they follow the edits with which they share a code.
fn problems(edits: &[Planned], findings: &[Finding]) -> (Vec<Problem>, Vec<usize>) {
    let places = Places::new(findings);
    let mut owner: BTreeMap<usize, usize> = BTreeMap::new();
    let mut problems: Vec<Option<Problem>> = Vec::new();
    let mut alone = Vec::new();
    for (at, planned) in edits.iter().enumerate() {
        let about = places.about(planned, findings);
        if about.is_empty() {
            alone.push(at);
            continue;
        }
        let mut own = Problem { edits: vec![at], findings: Vec::new() };
        // Where the findings led to other edits already, these are parts of the same problem.
        for finding in about {
            match owner.get(&finding).and_then(|other| problems.get_mut(*other)).and_then(Option::take) {
                Some(mut other) => {
                    own.edits.append(&mut other.edits);
                    own.findings.append(&mut other.findings);
                }
                None if !own.findings.contains(&finding) => own.findings.push(finding),
                None => {}
            }
        }
        own.edits.sort_unstable();
        own.findings.sort_unstable();
        own.findings.dedup();
        for finding in &own.findings {
            owner.insert(*finding, problems.len());
        }
        problems.push(Some(own));
    }
    let mut problems: Vec<Problem> = problems.into_iter().flatten().collect();
    problems.sort_by_key(|problem| problem.edits.first().copied());
    (problems, alone)
}

/// Where findings are, so that those of an edit are found quickly.
struct Places {
    by_code: BTreeMap<Code, Vec<usize>>,
    by_inode: BTreeMap<(Code, InodeNo), Vec<usize>>,
}

impl Places {
    fn new(findings: &[Finding]) -> Self {
        let (mut by_code, mut by_inode) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for (at, finding) in findings.iter().enumerate() {
            by_code.entry(finding.code()).or_default().push(at);
            if let Some(ino) = inode_of(finding) {
                by_inode.entry((finding.code(), ino)).or_default().push(at);
            }
        }
        Self { by_code, by_inode }
    }

    /// The findings that led to an edit.
    fn about(&self, planned: &Planned, findings: &[Finding]) -> Vec<usize> {
        let codes: BTreeSet<Code> = planned.because.iter().copied().collect();
        let of_code = |code: &Code| self.by_code.get(code).cloned().unwrap_or_default();
        let all = codes.iter().flat_map(of_code);
        match planned.edit {
            Edit::Inode { ino, .. } => {
                codes.iter().flat_map(|code| self.by_inode.get(&(*code, ino)).cloned().unwrap_or_default()).collect()
            }
            // These are made once for all findings of their codes.
            Edit::Settle { .. } | Edit::Superblocks | Edit::Superblock { .. } | Edit::Recover => all.collect(),
            Edit::Mend { .. } | Edit::Rewrite { .. } | Edit::Blocks { .. } => {
                all.filter(|at| findings.get(*at).is_some_and(|finding| finding.at.meets(planned.at))).collect()
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

/// What the user has said so far.
#[derive(Default)]
pub(crate) struct Answers {
    /// Codes for which everything is to be repaired.
    all: BTreeSet<Code>,
    /// Edits that are not wanted: they come again in every round.
    unwanted: BTreeSet<u64>,
    /// Findings that a question has named.
    pub(crate) told: BTreeSet<Key>,
    /// Nothing more is to be asked.
    pub(crate) quit: bool,
}

impl Answers {
    /// Asks about the edits of a plan for `findings`, each of which `describe` puts into words. Gives those that are wanted
    /// and those that are not, in the order of the plan.
    pub(crate) fn choose(
        &mut self,
        edits: Vec<Planned>,
        findings: &[Finding],
        describe: impl Fn(&Finding) -> String,
        ctx: &Ctx,
    ) -> Result<(Vec<Planned>, Vec<Planned>)> {
        let (problems, alone) = problems(&edits, findings);
        let mut wanted = BTreeSet::new();
        let mut codes: BTreeSet<Code> = BTreeSet::new();
        for problem in &problems {
            if !self.quit && self.wants(problem, &edits, findings, &describe, ctx)? {
                wanted.extend(problem.edits.iter().copied());
                codes
                    .extend(problem.edits.iter().filter_map(|at| edits.get(*at)).flat_map(|edit| edit.because.clone()));
            }
        }
        for at in alone {
            let Some(planned) = edits.get(at) else { continue };
            let follows = |problem: &Problem| {
                let others = problem.edits.iter().filter_map(|at| edits.get(*at));
                others.flat_map(|other| &other.because).any(|code| planned.because.contains(code))
            };
            let yes = if problems.iter().any(follows) {
                planned.because.iter().any(|code| codes.contains(code))
            } else {
                let problem = Problem { edits: vec![at], findings: Vec::new() };
                !self.quit && self.wants(&problem, &edits, findings, &describe, ctx)?
            };
            if yes {
                wanted.insert(at);
            }
        }
        let (mut accepted, mut declined) = (Vec::new(), Vec::new());
        for (at, planned) in edits.into_iter().enumerate() {
            if wanted.contains(&at) { accepted.push(planned) } else { declined.push(planned) }
        }
        Ok((accepted, declined))
    }

    /// Whether the user wants a problem repaired.
    fn wants(
        &mut self,
        problem: &Problem,
        edits: &[Planned],
        findings: &[Finding],
        describe: &impl Fn(&Finding) -> String,
        ctx: &Ctx,
    ) -> Result<bool> {
        let edits: Vec<&Planned> = problem.edits.iter().filter_map(|at| edits.get(*at)).collect();
        let findings: Vec<&Finding> = problem.findings.iter().filter_map(|at| findings.get(*at)).collect();
        let codes: BTreeSet<Code> = edits.iter().flat_map(|edit| edit.because.iter().copied()).collect();
        if codes.iter().all(|code| self.all.contains(code)) {
            return Ok(true);
        }
        if edits.iter().all(|edit| self.unwanted.contains(&edit_key(edit))) {
            return Ok(false);
        }
        self.told.extend(findings.iter().take(LISTED).map(|finding| key(finding)));
        let named: Vec<&str> = codes.iter().map(|code| code.text()).collect();
        let text = describe_problem(&edits, &findings, describe, ctx.width);
        let question = format!("{text}Repair it? [y]es, [n]o, [a]ll {}, [q]uit: ", named.join("+"));
        loop {
            let Answer::Line(line) = prompt::ask(&question)? else {
                self.quit = true;
                return Ok(false);
            };
            match line.to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "n" | "no" => {
                    self.unwanted.extend(edits.iter().map(|edit| edit_key(edit)));
                    return Ok(false);
                }
                "a" | "all" => {
                    self.all.extend(codes);
                    return Ok(true);
                }
                "q" | "quit" => {
                    self.quit = true;
                    return Ok(false);
                }
                _ => ctx.note("y, n, a or q"),
            }
        }
    }
}

/// What was found, what would be written, and what is lost, each with its first few lines.
fn describe_problem(
    edits: &[&Planned],
    findings: &[&Finding],
    describe: &impl Fn(&Finding) -> String,
    width: Option<u16>,
) -> String {
    let mut text = String::new();
    let mut list = |head: &str, lines: &mut dyn Iterator<Item = String>, noun: &str| {
        let mut more = 0;
        for (n, line) in lines.enumerate() {
            if n < LISTED {
                text.push_str(&wrap::hang(&format!("{head}{line}"), width, 4));
                text.push('\n');
            } else {
                more += 1;
            }
        }
        if more > 0 {
            text.push_str(&format!("{head}and {}\n", size::count(more, noun)));
        }
    };
    list("", &mut findings.iter().map(|finding| describe(finding)), "more finding");
    list("  repair: ", &mut edits.iter().map(|planned| printable(&planned.edit.to_string())), "more edit");
    list("  lost: ", &mut edits.iter().filter_map(|planned| planned.loses.as_deref().map(printable)), "more loss");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_check::{Problem as Found, Repair};
    use gmfs_format::native::raw::InodeRaw;
    use gmfs_format::native::units::BlockNo;
    use gmfs_io::Span;
    use gmfs_volume::change::Assign;

    fn block(first: u32, owner: u32) -> Finding {
        Finding {
            problem: Found::BlockBehindSize { owner: InodeNo(owner) },
            subject: Subject::Blocks { first: BlockNo(first), count: 1 },
            at: Span::new(u64::from(first), 1),
        }
    }

    fn planned(edit: Edit, at: u64, code: Code) -> Planned {
        let (subject, at) = (Subject::Region, Span::new(at, 1));
        Planned { edit, subject, at, because: vec![code], class: Repair::Lossy, loses: None }
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
        let (problems, alone) = problems(&edits, &findings);
        let seven = Problem { edits: vec![0, 2, 3], findings: vec![0, 2] };
        let eight = Problem { edits: vec![1, 4], findings: vec![1] };
        assert_eq!((problems, alone), (vec![seven, eight], vec![5]));
    }

    #[test]
    fn without_common_findings_problems_stay_apart() {
        let findings = [block(1, 7), block(2, 7)];
        let (problems, alone) = problems(&[reserve(1), reserve(2)], &findings);
        assert_eq!((problems.len(), alone.len()), (2, 0));
    }

    #[test]
    fn what_everything_was_answered_for_is_not_asked_again() {
        let ctx = Ctx::new(crate::ctx::ColorWhen::Never, false, false);
        let mut answers = Answers::default();
        answers.all.insert(Code::GM0404);
        let (yes, no) = answers.choose(vec![reserve(1), inode(99)], &[block(1, 7)], |_| String::new(), &ctx).unwrap();
        assert_eq!((yes.len(), no.len(), answers.told.len()), (2, 0, 0));
        let mut answers = Answers::default();
        answers.unwanted.insert(edit_key(&reserve(1)));
        let (yes, no) = answers.choose(vec![reserve(1), inode(99)], &[block(1, 7)], |_| String::new(), &ctx).unwrap();
        assert_eq!((yes.len(), no.len()), (0, 2), "what follows a repair goes with it");
    }
}
