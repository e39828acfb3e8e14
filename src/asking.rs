//! Asking about repairs: one question for each problem, with what was found, what would be written and what is lost.

use std::collections::BTreeSet;

use anyhow::{Error, Result};
use gmfs::in_use::Watch;
use gmfs_check::repair::{FindingKey, HeldBack};
use gmfs_check::{Code, Decide, Decision, Planned, Question};
use gmfs_io::ReadAt;
use gmfs_volume::Superblocks;

use crate::ctx::Ctx;
use crate::failure::printable;
use crate::prompt::{self, Answer};
use crate::render::{findings, size, wrap};

/// At most this many findings, this many edits and this many losses are listed in one question.
const LISTED: usize = 8;

/// Asks the user on the terminal.
pub(crate) struct Asking<'c> {
    watch: &'c mut Watch,
    ctx: &'c Ctx,
    /// Findings that a question has named.
    named: BTreeSet<FindingKey>,
    /// Why the user could not be asked.
    failed: Option<Error>,
}

impl<'c> Asking<'c> {
    pub(crate) const fn new(watch: &'c mut Watch, ctx: &'c Ctx) -> Self {
        Self { watch, ctx, named: BTreeSet::new(), failed: None }
    }

    /// The findings that questions have named.
    pub(crate) fn end(self) -> Result<BTreeSet<FindingKey>> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.named),
        }
    }

    fn ask(&self, question: &str, codes: &BTreeSet<Code>) -> Result<Decision> {
        let named: Vec<&str> = codes.iter().map(|code| code.text()).collect();
        let question = format!("{question}Repair it? [y]es, [n]o, [a]ll {}, [q]uit: ", named.join("+"));
        loop {
            let Answer::Line(line) = prompt::ask(&question)? else { return Ok(Decision::Stop) };
            match line.to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(Decision::Repair),
                "n" | "no" => return Ok(Decision::Leave),
                "a" | "all" => return Ok(Decision::RepairAll),
                "q" | "quit" => return Ok(Decision::Stop),
                _ => self.ctx.note("y, n, a or q"),
            }
        }
    }
}

impl Decide for Asking<'_> {
    fn decide(&mut self, question: &Question<'_>) -> Decision {
        self.named.extend(question.findings().take(LISTED).map(|(finding, _)| finding.key()));
        let text = describe(question, self.ctx.width);
        self.ask(&text, &question.codes()).unwrap_or_else(|error| {
            self.failed = Some(error);
            Decision::Stop
        })
    }

    fn hold_back(&mut self, source: &dyn ReadAt, state: &Superblocks, edits: &[Planned]) -> Vec<HeldBack> {
        self.watch.hold_back(source, state, edits)
    }

    fn hold_back_bytes(&mut self, source: &dyn ReadAt, edits: &[Planned]) -> Vec<HeldBack> {
        self.watch.hold_back_bytes(source, edits)
    }
}

/// What was found, what would be written, and what is lost, each with its first few lines.
fn describe(question: &Question<'_>, width: Option<u16>) -> String {
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
    let edits = question.edits();
    list("", &mut question.findings().map(|(finding, file)| findings::describe(finding, file)), "more finding");
    list("  repair: ", &mut edits.iter().map(|planned| printable(&planned.edit.to_string())), "more edit");
    list("  lost: ", &mut edits.iter().filter_map(|planned| Some(printable(&planned.losses()?))), "more loss");
    text
}
