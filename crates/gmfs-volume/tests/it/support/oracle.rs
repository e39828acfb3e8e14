//! The laws for every state that a crash can leave: it is the state before or after, nothing about it is damage,
//! opening it for writing makes it whole, and the next change succeeds.

use std::collections::BTreeSet;

use gmfs_format::native::units::InodeNo;
use gmfs_volume::{Recovery, Writer};

use super::crashes::{self, Limits};
use super::memory::Memory;
use super::ops::{create_options, open, set_clock, writer_options};
use super::recorder::Recorder;
use super::rng::Rng;
use super::state::{Snapshot, changed, health, require_whole};

/// The time of the change after a crash.
const LATER: u64 = 1 << 40;
/// One of this many crash states also has a crash during its recovery.
const AGAIN: u64 = 24;
/// Of so many crash states, one has its seals checked.
const SEALS: u64 = 64;

/// Counts of what was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) refused: u64,
    pub(crate) subsets: u64,
    pub(crate) torn: u64,
    pub(crate) before: u64,
    pub(crate) after: u64,
    pub(crate) recoveries: u64,
    pub(crate) pages_recovered: u64,
    pub(crate) again: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, by: Self) {
        self.operations += by.operations;
        self.refused += by.refused;
        self.subsets += by.subsets;
        self.torn += by.torn;
        self.before += by.before;
        self.after += by.after;
        self.recoveries += by.recoveries;
        self.pages_recovered += by.pages_recovered;
        self.again += by.again;
    }
}

/// The states before and after an operation, and the result of a further change for each.
pub(crate) struct Oracle {
    states: [Snapshot; 2],
    next: [Snapshot; 2],
    /// The operation drops seals, which it may do by a commit of its own ahead of what it overwrites.
    drops: bool,
    /// Files that are not as they were sealed, before or after.
    changed: BTreeSet<InodeNo>,
}

impl Oracle {
    /// The oracle for an operation that changed `before` to `after`.
    pub(crate) fn new(before: &Memory, after: &Memory) -> Self {
        let state = |image: &Memory| Snapshot::read(image).unwrap();
        let next = |image: &Memory| {
            let mut image = image.clone();
            change_further(&mut image).unwrap();
            state(&image)
        };
        let states = [state(before), state(after)];
        let drops = states[1].drops_seals(&states[0]);
        let changed = changed(before).union(&changed(after)).copied().collect();
        Self { next: [next(before), next(after)], drops, changed, states }
    }

    /// Which of the two states an image is in.
    pub(crate) fn which(&self, image: &Memory) -> Result<usize, String> {
        let found = Snapshot::read(image)?;
        found.shows_only_its_own(&self.states)?;
        found.is_seen_by_the_other_reader(image)?;
        let which = self.states.iter().position(|state| *state == found);
        let which = which.or_else(|| self.untold().contains(&found).then_some(1));
        let before = || found.has_only_seals_of(&self.states[0]) && self.is_bare(&found, &self.states[0]);
        let which = which.or_else(|| before().then_some(0));
        which.ok_or_else(|| {
            format!("neither before nor after:\n{found:?}\nbefore:\n{:?}\nafter:\n{:?}", self.states[0], self.states[1])
        })
    }

    /// Whether a state is another one but for seals that the operation drops.
    fn is_bare(&self, found: &Snapshot, of: &Snapshot) -> bool {
        self.drops && found.without_seals() == of.without_seals()
    }

    /// The state after, when a crash has torn the superblock that tells of it: the pages prove the state, and its counts are
    /// in them, but when and by whom it was made is known from the superblock alone.
    /// Where a commit of its own has dropped seals ahead of it, that one is the commit before.
    fn untold(&self) -> Vec<Snapshot> {
        let [before, after] = &self.states;
        let behind = |commit: &Snapshot| {
            let mut untold = after.clone();
            untold.superblock.written = (commit.superblock.written.get() + 1).into();
            untold.superblock.writer = commit.superblock.writer;
            untold.superblock.sealed = before.superblock.sealed;
            untold
        };
        let dropping = self.drops.then_some(after);
        std::iter::once(before).chain(dropping).map(behind).collect()
    }

    /// Checks one crash state.
    pub(crate) fn check(&self, image: &Memory, rng: &mut Rng, tally: &mut Tally) -> Result<(), String> {
        let which = self.which(image)?;
        let health = health(image)?;
        if !health.damage.is_empty() {
            return Err(format!("damage: {:?}", health.damage));
        }
        // This reads all that is sealed.
        if rng.one_in(SEALS) {
            let changed = changed(image);
            if !changed.is_subset(&self.changed) {
                return Err(format!("{changed:?} are not as they were sealed"));
            }
        }
        tally.before += u64::from(which == 0);
        tally.after += u64::from(which == 1);
        tally.recoveries += u64::from(health.recovery > 0);
        tally.pages_recovered += health.recovery;
        let recorder = Recorder::new(image.clone());
        let opened = Writer::open(recorder.clone(), writer_options());
        let (_, recovery) = opened.map_err(|error| format!("recovery: {error}"))?;
        if recovery.rolled_back + recovery.mirrored > health.recovery {
            return Err(format!("{recovery:?} for {health:?}"));
        }
        self.check_recovered(&recorder.image(), which)?;
        if health.recovery > 0 && rng.one_in(AGAIN) {
            self.crash_recovery(image, &recorder, which, rng, tally)?;
        }
        Ok(())
    }

    /// Checks the result of recovery.
    fn check_recovered(&self, image: &Memory, which: usize) -> Result<(), String> {
        if self.which(image)? != which {
            return Err("recovery changed what the region says".to_owned());
        }
        require_whole(image)?;
        let mut image = image.clone();
        let recovery = change_further(&mut image)?;
        if recovery.rolled_back + recovery.mirrored > 0 {
            return Err(format!("recovery left something: {recovery:?}"));
        }
        let found = Snapshot::read(&image)?;
        // Of a commit whose superblock was torn, the time of the seal is lost too.
        let mut untold = self.next[which].clone();
        untold.superblock.sealed = self.states[0].superblock.sealed;
        let bare = which == 0 && self.is_bare(&found, &self.next[0]);
        if found != self.next[which] && found != untold && !bare {
            return Err(format!("a further change made\n{found:?}\ninstead of\n{:?}", self.next[which]));
        }
        require_whole(&image)?;
        let again = Writer::open(&mut image, writer_options()).map_err(|error| error.to_string())?.1;
        if again != Recovery::default() {
            return Err(format!("a closed region needs {again:?}"));
        }
        Ok(())
    }

    /// Crashes the recovery itself at each of its writes.
    fn crash_recovery(
        &self,
        image: &Memory,
        recorder: &Recorder,
        which: usize,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut result = Ok(());
        let limits = Limits { subsets: 16, tears: 8 };
        let log = recorder.take_log();
        let made = crashes::states(image, &log, limits, rng, &mut |image, what, _| {
            let recovered = || {
                let health = health(image)?;
                if self.which(image)? != which || !health.damage.is_empty() {
                    return Err(format!("another state: {:?}", health.damage));
                }
                let mut image = image.clone();
                Writer::open(&mut image, writer_options()).map_err(|error| error.to_string())?;
                self.check_recovered(&image, which)
            };
            if result.is_ok() {
                result = recovered().map_err(|error| format!("crash in recovery, {}: {error}", what()));
            }
        });
        tally.again += made.subsets + made.torn;
        result
    }
}

/// Opens a region, makes two commits, and closes it.
fn change_further(image: &mut Memory) -> Result<Recovery, String> {
    let (mut writer, recovery) = Writer::open(image, writer_options()).map_err(|error| error.to_string())?;
    set_clock(LATER);
    // A full region refuses these operations. What matters is that the same state gives the same result.
    let _ = writer.mkdir(b"/later", false, 0o700, (0, 0));
    let _ = writer.create(b"/last", &create_options(1, false, false));
    writer.close().map_err(|error| format!("close: {error}"))?;
    Ok(recovery)
}

/// Simulates crashes at every point of a recorder's log. `before` is the image at the start of the log. `done` says
/// that the operation succeeded, so that all of it must be durable.
pub(crate) fn crash_everywhere(
    before: &Memory,
    recorder: &Recorder,
    limits: Limits,
    done: bool,
    rng: &mut Rng,
    told: &dyn Fn() -> String,
) -> Tally {
    let after = recorder.image();
    let log = recorder.take_log();
    let oracle = Oracle::new(before, &after);
    let mut tally = Tally { operations: 1, ..Tally::default() };
    let mut visited = Tally::default();
    let made = crashes::states(before, &log, limits, rng, &mut |image, what, rng| {
        if let Err(error) = oracle.check(image, rng, &mut visited) {
            panic!("{}: {}: {error}", told(), what());
        }
    });
    tally.subsets = made.subsets;
    tally.torn = made.torn;
    tally += visited;
    if !done {
        return tally;
    }
    let mut durable = before.clone();
    crashes::apply_durable(&mut durable, &log);
    assert!(durable.same(&after), "{}: not durable when it ends", told());
    tally
}

/// Opens an image. Returns the writer, and the recorder that it writes to.
pub(crate) fn recorded(image: Memory) -> (Writer<Recorder>, Recorder) {
    let recorder = Recorder::new(image);
    (open(recorder.clone()), recorder)
}
