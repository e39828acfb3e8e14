//! A region under test and a model of it: operations are compared with the model, and crashed at every point.

use std::collections::{BTreeMap, BTreeSet};

use gmfs_format::native::units::InodeNo;
use gmfs_volume::{Recovery, Region, Writer};

use super::crashes::Limits;
use super::memory::Memory;
use super::ops::{Model, Op, error_name, set_clock, writer_options};
use super::oracle::{Tally, crash_everywhere, recorded};
use super::recorder::Recorder;
use super::rng::Rng;
use super::state::{Snapshot, changed, require_found, require_whole};

/// A region with a writer, a model of it, and the state before the present operation.
pub(crate) struct Session {
    writer: Option<Writer<Recorder>>,
    pub(crate) recorder: Recorder,
    pub(crate) model: Model,
    pub(crate) rng: Rng,
    /// How many crashes are tried; none without limits.
    limits: Option<Limits>,
    pub(crate) tally: Tally,
    pub(crate) next_id: u32,
    /// The file, by inode and its generation, in which an id was seen first.
    owners: BTreeMap<u32, (InodeNo, u32)>,
    /// Files that a guest has written to since they were sealed.
    written: BTreeSet<InodeNo>,
}

impl Session {
    pub(crate) fn new(image: Memory, seed: u64, limits: Option<Limits>) -> Self {
        let (writer, recorder) = recorded(image);
        let (writer, rng) = (Some(writer), Rng::new(seed));
        Self {
            writer,
            recorder,
            model: Model::default(),
            rng,
            limits,
            tally: Tally::default(),
            next_id: 1,
            owners: BTreeMap::new(),
            written: BTreeSet::new(),
        }
    }

    /// Performs one operation, compares it with the model, and crashes it at every point.
    pub(crate) fn step(&mut self, op: &Op, told: &dyn Fn() -> String) {
        set_clock(2_000 + u64::from(self.next_id));
        self.next_id += 1;
        let before = self.recorder.image();
        let free = Snapshot::read(&before).unwrap().superblock.free_blocks.get();
        let mut model = self.model.clone();
        let expected = model.run(op);
        let result = op.run(self.writer.as_mut().unwrap());
        let told = || format!("{} {op:?}", told());
        if let (Op::Seal { path, .. }, Ok(())) = (op, &result) {
            let ino = self.writer().tree().resolve(path.as_bytes()).unwrap().ino;
            self.written.remove(&ino);
        }
        match (&result, expected) {
            (Ok(()), Ok(())) => self.model = model,
            (Err(error), Err(name)) => assert_eq!(error_name(error), name, "{}", told()),
            (Err(error), Ok(())) => match error_name(error).as_str() {
                // For content of unknown length, the writer notices that there is no space only when nothing is left.
                "NoSpace" if matches!(op, Op::Put { .. }) => {}
                "NoSpace" => assert!(error.to_string().ends_with(&format!("{free} are free")), "{}: {error}", told()),
                "NoAlignedSpace" | "NoInodes" => {}
                "Stopped" if matches!(op, Op::Seal { stop: Some(_), .. }) => {}
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
        self.tally.operations += u64::from(self.limits.is_none());
        self.crash(&before, result.is_ok(), &told);
        self.check_owners(&told);
    }

    /// Crashes the last operation.
    fn crash(&mut self, before: &Memory, done: bool, told: &dyn Fn() -> String) {
        match self.limits {
            Some(limits) => self.tally += crash_everywhere(before, &self.recorder, limits, done, &mut self.rng, told),
            None => drop(self.recorder.take_log()),
        }
    }

    /// The region must agree with the model, and the blocks of each file must hold only what this file was given.
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
        // This reads all that is sealed.
        let stale = if self.next_id.is_multiple_of(4) { changed(&image) } else { BTreeSet::new() };
        assert!(stale.is_subset(&self.written), "{}: {stale:?} are not as they were sealed", told());
        let free = self.writer.as_ref().unwrap().free_blocks();
        assert_eq!(free, snapshot.superblock.free_blocks.get(), "{}: the writer's own map is another", told());
        let tree: Vec<_> = self.writer.as_ref().unwrap().tree().inodes().cloned().collect();
        let found: Vec<_> = Region::open(&image).unwrap().inodes().tree.inodes().cloned().collect();
        assert_eq!(tree, found, "{}: the writer's own tree is another", told());
        require_found(self.writer.as_ref().unwrap(), told);
    }

    /// Performs a random operation, which is mostly possible. Sometimes a guest writes, or the region is closed.
    pub(crate) fn random_step(&mut self, most: u64, told: &dyn Fn() -> String) {
        let mut op = Op::random(&mut self.rng, most, self.next_id);
        while self.model.clone().run(&op).is_err() && !self.rng.one_in(8) {
            op = Op::random(&mut self.rng, most, self.next_id);
        }
        self.step(&op, told);
        if self.rng.one_in(3) {
            self.scribble();
        }
        if self.rng.one_in(5) {
            self.reopen(told);
        }
    }

    /// The present content of the region.
    pub(crate) fn image(&self) -> Memory {
        self.recorder.image()
    }

    /// The present writer.
    pub(crate) const fn writer(&mut self) -> &mut Writer<Recorder> {
        self.writer.as_mut().unwrap()
    }

    /// Uses up all inodes, which the model does not know.
    pub(crate) fn fill_inodes(&mut self) {
        for n in 0.. {
            if self.writer().mkdir(format!("/fill{n}").as_bytes(), false, 0o700, (0, 0)).is_err() {
                return;
            }
            self.recorder.take_log();
        }
    }

    /// Lets the guests of all files write.
    pub(crate) fn scribble_all(&mut self) {
        for path in self.model.files() {
            self.scribble_to(&path);
        }
    }

    /// Lets the guest whose memory is a file write to all of it.
    pub(crate) fn scribble(&mut self) {
        let files = self.model.files();
        if files.is_empty() {
            return;
        }
        let path = self.rng.pick(&files);
        self.scribble_to(&path);
    }

    fn scribble_to(&mut self, path: &str) {
        let id = self.next_id;
        self.next_id += 1;
        let ino = self.writer().tree().resolve(path.as_bytes()).unwrap().ino;
        self.written.insert(ino);
        for (offset, bytes) in self.model.scribble(&self.recorder.image(), path, id) {
            self.recorder.scribble(offset, &bytes);
        }
    }

    /// Closes the region, with crashes, and opens it again.
    pub(crate) fn reopen(&mut self, told: &dyn Fn() -> String) {
        let before = self.recorder.image();
        self.writer.take().unwrap().close().unwrap();
        let told = || format!("{} close", told());
        self.crash(&before, true, &told);
        let (writer, recovery) = Writer::open(self.recorder.clone(), writer_options()).unwrap();
        assert_eq!(recovery, Recovery::default(), "{}", told());
        assert!(self.recorder.take_log().is_empty(), "{}: opening a closed region writes", told());
        self.writer = Some(writer);
    }
}
