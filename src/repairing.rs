//! Checking and repairing on a terminal, as `fsck` and `repair` both do it: progress, warnings, interrupts and
//! questions. The repair itself is [`gmfs_check::repair()`].

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Error, Result};
use gmfs::in_use::{Watch, Willing};
use gmfs_check::apply::Forgotten;
use gmfs_check::repair::FindingKey;
use gmfs_check::{
    Decide, Observe, Options, Outcome, Policy, RepairError, RepairOptions, Report, check, repair_pkernfs,
};
use gmfs_format::Layout;
use gmfs_io::{ReadAt, WriteAt};
use gmfs_volume::{Chosen, OpenError};

use crate::asking::Asking;
use crate::clock;
use crate::ctx::{self, Ctx};
use crate::interrupt;
use crate::render::WRITER;
use crate::render::progress::Progress;

/// What can be repaired.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Repairable {
    /// A native region.
    Native,
    /// A store of the pkernfs driver, which fills the target as far as `size`.
    Pkernfs { size: u64 },
}

impl Repairable {
    pub(crate) const fn layout(self) -> Layout {
        match self {
            Self::Native => Layout::Native,
            Self::Pkernfs { .. } => Layout::Pkernfs,
        }
    }
}

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
    /// Compare contents with their CRCs too.
    pub(crate) data: bool,
    /// Show progress even if it would not be shown by default.
    pub(crate) progress: bool,
    /// The region to check, if pages of several regions are left.
    pub(crate) region: Option<Chosen>,
}

/// As many threads as there are processors for this process.
pub(crate) const fn threads() -> NonZeroUsize {
    gmfs_io::in_order::PROCESSORS
}

/// Shows how far a check is and what the gate had to do, and says whether the user has interrupted.
struct Shown {
    /// Whether progress is shown at all, and from the start.
    progress: bool,
    forced: bool,
    /// The progress bar of the current check, and how much of the check is done.
    bar: Mutex<Option<Progress>>,
    done: AtomicU64,
}

impl Shown {
    const fn new(ctx: &Ctx, forced: bool) -> Self {
        Self { progress: ctx.progress, forced, bar: Mutex::new(None), done: AtomicU64::new(0) }
    }
}

impl Observe for Shown {
    fn checking(&self, done: u64, total: u64) {
        let done = self.done.fetch_max(done, Ordering::Relaxed).max(done);
        // If another thread is drawing the bar, this one does not wait for it.
        if let Ok(mut bar) = self.bar.try_lock() {
            bar.get_or_insert_with(|| Progress::forced(self.progress, "checking", self.forced)).at_of(done, total);
        }
    }

    fn checked(&self) {
        self.done.store(0, Ordering::Relaxed);
        if let Some(bar) = self.bar.lock().ok().and_then(|mut bar| bar.take()) {
            bar.done();
        }
    }

    fn forgotten(&self, what: &Forgotten) {
        what.first.iter().for_each(|what| ctx::warn(what));
        if what.more > 0 {
            ctx::warn(&format!("{} more like this", what.more));
        }
    }

    fn is_cancelled(&self) -> bool {
        interrupt::asked()
    }
}

/// Checks a region without changing it, and shows how far it is.
pub(crate) fn check_region<S: ReadAt + ?Sized>(
    source: &S,
    look: Look,
    keep: usize,
    ctx: &Ctx,
) -> Result<Report, OpenError> {
    let mut options = Options::new(clock::now());
    (options.threads, options.data, options.keep, options.region) = (threads(), look.data, keep, look.region);
    let shown = Shown::new(ctx, look.progress);
    let report = check(source, &options, &|done, total| shown.checking(done, total));
    shown.checked();
    report
}

/// The result of a repair.
pub(crate) struct Repaired {
    pub(crate) outcome: Outcome,
    /// Findings that a question has named: the user has read them.
    pub(crate) asked: BTreeSet<FindingKey>,
}

/// Repairs what the mode allows, and what the user allows where the mode is to ask.
pub(crate) fn repair<T: WriteAt>(
    of: Repairable,
    target: &mut T,
    how: Look,
    mode: Mode,
    watch: &mut Watch,
    ctx: &Ctx,
) -> Result<Repaired> {
    clock::check()?;
    interrupt::watch(crate::exit::CANCELLED)?;
    let policy = if mode == Mode::Safe { Policy::Safe } else { Policy::Lossy };
    let mut options = RepairOptions::new(policy, WRITER, clock::now);
    (options.data, options.threads, options.region) = (how.data, threads(), how.region);
    let shown = Shown::new(ctx, how.progress);
    let mut work = |decide: &mut dyn Decide| match of {
        Repairable::Native => gmfs_check::repair(target, &options, decide, &shown).map_err(error),
        Repairable::Pkernfs { size } => repair_pkernfs(target, size, policy, decide, &shown).map_err(error),
    };
    if mode != Mode::Ask {
        let outcome = work(&mut Willing { watch })?;
        return Ok(Repaired { outcome, asked: BTreeSet::new() });
    }
    let mut asking = Asking::new(watch, ctx);
    let outcome = work(&mut asking)?;
    Ok(Repaired { outcome, asked: asking.end()? })
}

/// The error of a failed repair. Errors that messages know are taken out of their wrapper.
fn error(error: RepairError) -> Error {
    match error {
        RepairError::Check(error) => error.into(),
        RepairError::Plan(error) => error.into(),
        error => error.into(),
    }
}
