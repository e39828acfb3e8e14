//! Checking, planning and applying in rounds, as `fsck` and `repair` both do it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use gmfs_check::plan::Refused;
use gmfs_check::{Code, Finding, Options, Planned, Policy, Repair, Report, Subject, apply, check, plan};
use gmfs_format::io::{ReadAt, WriteAt};
use gmfs_volume::{OpenError, Stamp};

use crate::clock;
use crate::ctx::Ctx;
use crate::render::WRITER;
use crate::render::progress::Progress;

/// More rounds than any repair takes; a bound, so that no image can keep one busy for ever.
const ROUNDS: u32 = 64;
/// Findings of each code that a repair works on at a time.
const KEPT_FOR_REPAIR: usize = 16384;

/// What may be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: look only.
    Look,
    /// Whatever another copy or the rest of the metadata proves.
    Safe,
    /// Everything for which there is a repair.
    All,
    /// What the user says yes to.
    Ask,
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Contents against their CRCs too.
    pub(crate) data: bool,
    /// Show progress also where it would not be shown by itself.
    pub(crate) progress: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Everything that was found, in any round, with whether it is gone.
    pub(crate) found: Vec<(Finding, bool)>,
    /// What is there at the end.
    pub(crate) last: Report,
    /// Edits that were made.
    pub(crate) applied: Vec<Planned>,
    /// What was left, and why.
    pub(crate) refused: Vec<Refused>,
    /// The user said stop.
    pub(crate) cancelled: bool,
}

/// Set when the user interrupts; a second interrupt ends the program at once.
pub(crate) fn interrupts() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let signal = signal_hook::consts::SIGINT;
    let code = i32::from(crate::cmd::fsck::CANCELLED);
    signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&flag))
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
        .context("cannot watch for interrupts")?;
    Ok(flag)
}

/// Looks at a region.
pub(crate) fn look<S: ReadAt + ?Sized>(source: &S, look: Look, keep: usize, ctx: &Ctx) -> Result<Report, OpenError> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = Options { now: clock::now(), threads, data: look.data, keep };
    let bar = Mutex::new(Progress::forced(ctx, "checking", look.progress));
    let done = AtomicU64::new(0);
    check(source, &options, &|now, of| {
        let now = done.fetch_max(now, Ordering::Relaxed).max(now);
        // Whoever finds the bar in another thread's hands goes on.
        if let Ok(bar) = bar.try_lock() {
            bar.at_of(now, of);
        }
    })
}

/// Asks, plans and applies until nothing more is to be done.
pub(crate) fn repair<T: WriteAt>(target: &mut T, how: Look, mode: Mode, ctx: &mut Ctx) -> Result<Outcome> {
    clock::check()?;
    let stop = interrupts()?;
    let mut outcome = Outcome::default();
    let mut answers = Answers::new(mode);
    let mut seen: Vec<Finding> = Vec::new();
    for _ in 0..ROUNDS {
        outcome.last = look(target, how, KEPT_FOR_REPAIR, ctx)?;
        for finding in &outcome.last.findings {
            if !seen.contains(finding) {
                seen.push(finding.clone());
            }
        }
        let policy = if mode == Mode::Safe { Policy::Safe } else { Policy::Lossy };
        let next = plan(target, &outcome.last, policy)?;
        outcome.refused = next.refused;
        let (accepted, declined) = answers.choose(next.edits, ctx)?;
        outcome.cancelled = answers.quit || stop.load(Ordering::Relaxed);
        outcome.refused.extend(declined);
        if accepted.is_empty() || outcome.cancelled {
            break;
        }
        let stamp = Stamp { now: clock::now(), writer: WRITER.to_owned() };
        apply(target, &accepted, &stamp).context("the repair did not come to its end; run it again")?;
        outcome.applied.extend(accepted);
    }
    let left = &outcome.last;
    let gone = |finding: &Finding| !outcome.applied.is_empty() && !left.findings.contains(finding);
    outcome.found = seen.into_iter().map(|finding| (finding.clone(), gone(&finding))).collect();
    Ok(outcome)
}

/// What the user has said so far.
struct Answers {
    mode: Mode,
    /// Codes for which everything is to be repaired, or nothing.
    always: BTreeMap<Code, bool>,
    quit: bool,
}

impl Answers {
    const fn new(mode: Mode) -> Self {
        Self { mode, always: BTreeMap::new(), quit: false }
    }

    /// Splits edits into those to make and those that the user does not want.
    fn choose(&mut self, edits: Vec<Planned>, ctx: &Ctx) -> Result<(Vec<Planned>, Vec<Refused>)> {
        let mut accepted = Vec::new();
        let mut declined = Vec::new();
        for planned in edits {
            let wanted = match self.mode {
                Mode::All => true,
                Mode::Safe => planned.class == Repair::Safe,
                Mode::Look => false,
                Mode::Ask => !self.quit && self.ask(&planned, ctx)?,
            };
            if wanted {
                accepted.push(planned);
                continue;
            }
            for code in &planned.because {
                let why = "not wanted".to_owned();
                declined.push(Refused { code: *code, subject: Subject::Region, why });
            }
        }
        Ok((accepted, declined))
    }

    /// Asks about one edit.
    fn ask(&mut self, planned: &Planned, ctx: &Ctx) -> Result<bool> {
        let Some(code) = planned.because.first().copied() else { return Ok(true) };
        if let Some(answer) = self.always.get(&code) {
            return Ok(*answer);
        }
        let mut terminal = std::io::stderr();
        loop {
            let loses = planned.loses.as_ref().map_or(String::new(), |what| format!("\n  gives up: {what}"));
            let text = crate::failure::printable(&format!("{code} {}: {}", code.name(), planned.edit));
            write!(terminal, "{text}{loses}\nDo it? [y]es, [n]o, [a]ll {code}, [q]uit: ")?;
            terminal.flush()?;
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")? == 0 {
                self.quit = true;
                return Ok(false);
            }
            match line.trim() {
                "y" | "yes" => return Ok(true),
                "n" | "no" => {
                    // Asked once: the same edit comes again in the next round.
                    self.always.insert(code, false);
                    return Ok(false);
                }
                "a" | "all" => {
                    self.always.insert(code, true);
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
