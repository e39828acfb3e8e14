//! Proof of the commit: at any store of any operation, whatever a crash keeps of the stores since the last barrier, the
//! region is as before the operation or as after it; no state counts as damage; opening makes it whole; and no block ever
//! shows a file another file's memory.

use std::collections::BTreeMap;

use gmfs_format::units::InodeNo;
use gmfs_volume::{Writer, format};

use crate::support::cases;
use crate::support::crashes::{self, Limits};
use crate::support::memory::Memory;
use crate::support::ops::{
    BLOCK, Model, Op, create_options, error_name, format_options, fresh, set_clock, writer_options,
};
use crate::support::oracle::{Oracle, Tally, crash_everywhere, recorded};
use crate::support::recorder::Recorder;
use crate::support::rng::Rng;
use crate::support::state::{Snapshot, health, require_whole};

/// A region with a writer, a model of it, and the state before the operation under way.
struct Session {
    writer: Option<Writer<Recorder>>,
    recorder: Recorder,
    model: Model,
    rng: Rng,
    limits: Limits,
    tally: Tally,
    next_id: u32,
    /// The file, by inode and its generation, in which an id was seen first.
    owners: BTreeMap<u32, (InodeNo, u32)>,
}

impl Session {
    fn new(image: Memory, seed: u64, limits: Limits) -> Self {
        let (writer, recorder) = recorded(image);
        let (writer, rng) = (Some(writer), Rng::new(seed));
        Self { writer, recorder, model: Model::default(), rng, limits, tally: Tally::default(), next_id: 1, owners: BTreeMap::new() }
    }

    /// Runs one operation, checks it against the model, and crashes it everywhere.
    fn step(&mut self, op: &Op, told: &dyn Fn() -> String) {
        set_clock(2_000 + u64::from(self.next_id));
        self.next_id += 1;
        let before = self.recorder.image();
        let free = Snapshot::read(&before).unwrap().superblock.free_blocks.get();
        let mut model = self.model.clone();
        let expected = model.run(op);
        let result = op.run(self.writer.as_mut().unwrap());
        let told = || format!("{} {op:?}", told());
        match (&result, expected) {
            (Ok(()), Ok(())) => self.model = model,
            (Err(error), Err(name)) => assert_eq!(error_name(error), name, "{}", told()),
            (Err(error), Ok(())) => match error_name(error).as_str() {
                "NoSpace" => assert!(error.to_string().ends_with(&format!("{free} are free")), "{}: {error}", told()),
                "NoAlignedSpace" | "NoInodes" => {}
                _ => panic!("{}: {error}", told()),
            },
            (Ok(()), Err(name)) => panic!("{}: must be {name}", told()),
        }
        if result.is_err() {
            self.tally.refused += 1;
            let unchanged = Snapshot::read(&self.recorder.image()) == Snapshot::read(&before);
            assert!(unchanged, "{}: changed something", told());
            require_whole(&self.recorder.image()).unwrap();
        }
        self.tally += crash_everywhere(&before, &self.recorder, self.limits, &mut self.rng, &told);
        self.check_owners(&told);
    }

    /// The region is the model's, and each file's blocks hold what this file was given.
    fn check_owners(&mut self, told: &dyn Fn() -> String) {
        let image = self.recorder.image();
        self.model.check(&image);
        let snapshot = Snapshot::read(&image).unwrap();
        let mut seen = BTreeMap::new();
        for path in self.model.files() {
            let entry = snapshot.at(path.as_bytes());
            let owner = (entry.inode.ino, entry.inode.attributes.unwrap().generation);
            for tag in &entry.tags {
                let first = self.owners.get(&tag.id).copied().unwrap_or(owner);
                assert_eq!(first, owner, "{}: {path} holds {tag:?}", told());
                seen.insert(tag.id, owner);
            }
        }
        self.owners.extend(seen);
        let tree: Vec<_> = self.writer.as_ref().unwrap().tree().inodes().cloned().collect();
        let found: Vec<_> = gmfs_volume::Region::open(&image).unwrap().inodes().tree.inodes().cloned().collect();
        assert_eq!(tree, found, "{}: the writer's own tree is another", told());
    }

    /// The guest that has a file as its memory writes to all of it.
    fn scribble(&mut self) {
        let files = self.model.files();
        if files.is_empty() {
            return;
        }
        let path = self.rng.pick(&files).clone();
        let id = self.next_id;
        self.next_id += 1;
        for (offset, bytes) in self.model.scribble(&self.recorder.image(), &path, id) {
            self.recorder.scribble(offset, &bytes);
        }
    }

    /// Closes the region, which is crashed too, and opens it again.
    fn reopen(&mut self, told: &dyn Fn() -> String) {
        let before = self.recorder.image();
        self.writer.take().unwrap().close().unwrap();
        let told = || format!("{} close", told());
        self.tally += crash_everywhere(&before, &self.recorder, self.limits, &mut self.rng, &told);
        let (writer, recovery) = Writer::open(self.recorder.clone(), writer_options()).unwrap();
        assert_eq!(recovery, gmfs_volume::Recovery::default(), "{}", told());
        assert!(self.recorder.take_log().is_empty(), "{}: opening a closed region writes", told());
        self.writer = Some(writer);
    }
}

/// Random operations on a small region, each crashed everywhere.
#[test]
fn a_crash_leaves_the_state_before_or_after() {
    let mut total = Tally::default();
    let limits = Limits { subsets: 1 << 10, tears: 64 };
    for seed in 0..cases(60) {
        let mut session = Session::new(fresh(16 << 20, 20), seed, limits);
        for step in 0..14 {
            let told = || format!("seed {seed} step {step}");
            let op = Op::random(&mut session.rng, 4, session.next_id);
            session.step(&op, &told);
            if session.rng.one_in(3) {
                session.scribble();
            }
            if session.rng.one_in(5) {
                session.reopen(&told);
            }
        }
        total += session.tally;
    }
    eprintln!("small regions: {total:?}");
}

/// Operations that change several pages of both tables.
#[test]
fn a_crash_of_a_wide_commit_leaves_the_state_before_or_after() {
    let limits = Limits { subsets: 16, tears: 6 };
    let mut total = Tally::default();
    for seed in 0..cases(1) {
        let mut session = Session::new(fresh(2 << 30, 64), seed, limits);
        let ops = [
            Op::Create { path: "/a", size: 100 * BLOCK, sparse: false, aligned: false },
            Op::Create { path: "/b", size: 600 * BLOCK, sparse: false, aligned: false },
            Op::Truncate { path: "/b", size: 300 * BLOCK + 17, sparse: false },
            Op::Create { path: "/c", size: 520 * BLOCK, sparse: false, aligned: true },
            Op::Mkdir { path: "/d", parents: false },
            Op::Rename { from: "/b", to: "/d/x", replace: false },
            Op::Truncate { path: "/d/x", size: 700 * BLOCK, sparse: false },
            Op::Rename { from: "/a", to: "/d/x", replace: true },
            Op::Put { path: "/d/y", size: 9 * BLOCK + 5000, id: 900, replace: false, sparse: true, told: true },
            Op::Create { path: "/b", size: 400 * BLOCK, sparse: false, aligned: false },
            Op::Remove { path: "/d", recursive: true },
        ];
        for (step, op) in ops.iter().enumerate() {
            session.step(op, &|| format!("wide seed {seed} step {step}"));
            session.scribble();
        }
        session.reopen(&|| "wide".to_owned());
        total += session.tally;
    }
    eprintln!("wide region: {total:?}");
}
