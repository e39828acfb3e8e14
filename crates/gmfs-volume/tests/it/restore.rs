//! Restores metadata with crashes: whatever a crash keeps of the writes since the last barrier, the region is in the
//! state before or after, and another restore completes it. Region and dump have different histories with common
//! generations.

use gmfs_format::native::units::{CopyId, PageNo};
use gmfs_io::{Span, Window, WriteAt};
use gmfs_volume::restore::{Restore, RestoreError};
use gmfs_volume::{CreateOptions, Superblocks, Writer};

use crate::support::cases;
use crate::support::craft;
use crate::support::crashes::{Limits, states};
use crate::support::memory::Memory;
use crate::support::ops::{BIRTH, fresh, writer_options};
use crate::support::recorder::Recorder;
use crate::support::rng::Rng;
use crate::support::session::Session;
use crate::support::state::{Snapshot, require_whole};

/// The birth for a restore.
const ANEW: u64 = 0xa11e;

/// A region after some operations.
fn history(seed: u64, steps: u64, inodes: u32) -> Memory {
    let mut session = Session::new(fresh(16 << 20, inodes), seed, None);
    for step in 0..steps {
        session.random_step(4, &|| format!("seed {seed} step {step}"));
    }
    if seed.is_multiple_of(2) {
        session.reopen(&|| "history".to_owned());
    }
    let mut image = session.recorder.image();
    // Contents are not restored, so it does not matter which file they belong to.
    let geometry = craft::superblock(&image).geometry();
    let start = u64::from(geometry.metadata_blocks()) * geometry.block_bytes();
    image.zero(Span::new(start, geometry.copy_offset(CopyId::B) - start)).unwrap();
    image
}

fn put_back(dump: &Memory, target: &mut impl WriteAt) -> Result<u64, RestoreError> {
    let superblocks = Superblocks::load(dump)?;
    Restore::new(dump, &superblocks, ANEW).put_back(target)
}

/// Restores a dump with a crash at every point. Returns the number of states.
fn crash_everywhere(dump: &Memory, before: &Memory, limits: Limits, seed: u64) -> u64 {
    let mut recorder = Recorder::new(before.clone());
    put_back(dump, &mut recorder).unwrap();
    let after = recorder.image();
    let anew = Superblocks::load(&after).unwrap().identity();
    assert_eq!(anew.birth, ANEW);
    assert_eq!(craft::superblock(&after).raw.replaces.get(), 0);
    let expected = [before, &after].map(|image| Snapshot::read(image).unwrap());
    assert_eq!(put_back(dump, &mut after.clone()).unwrap(), 0);
    let log = recorder.take_log();
    let mut count = 0;
    let mut seen = [false; 2];
    states(before, &log, limits, &mut Rng::new(seed), &mut |image, told, _| {
        count += 1;
        let found = Snapshot::read(image).unwrap_or_else(|error| panic!("seed {seed}: {}: {error}", told()));
        let which = expected.iter().position(|state| *state == found);
        seen[which.unwrap_or_else(|| panic!("seed {seed}: {}: a mixture: {found:?}", told()))] = true;
        let mut again = image.clone();
        put_back(dump, &mut again).unwrap();
        require_whole(&again).unwrap_or_else(|error| panic!("seed {seed}: {}: {error}", told()));
        let ended = Snapshot::read(&again).unwrap();
        assert_eq!(ended, expected[1], "seed {seed}: {}: the second time ends elsewhere", told());
        let identity = Superblocks::load(&again).unwrap().identity();
        assert!(identity.birth != BIRTH && identity.geometry == anew.geometry && identity.uuid == anew.uuid);
    });
    assert!(seen[1] && (seen[0] || expected[0] == expected[1]));
    count
}

#[test]
fn a_crash_leaves_what_was_there_or_what_is_put_back() {
    let limits = Limits { subsets: 64, tears: 6 };
    let mut count = 0;
    for seed in 0..cases(12) {
        let dump = history(2 * seed + seed % 3, 3 + seed % 7, 20);
        let before = history(1000 + seed, 10 - seed % 7, 20);
        count += crash_everywhere(&dump, &before, limits, seed);
    }
    eprintln!("restore: {count} crash states");
}

/// Damage in the copy that is not needed has no effect on any state.
#[test]
fn a_damaged_region_and_a_damaged_dump_are_put_back_alike() {
    let limits = Limits { subsets: 16, tears: 2 };
    for (seed, copy) in (0..cases(3)).flat_map(|seed| CopyId::BOTH.map(|copy| (seed, copy))) {
        let mut dump = history(seed, 6, 20);
        let mut before = history(50 + seed, 6, 20);
        for page in [1, 2] {
            let at = craft::offset(&before, copy, PageNo(page));
            before.put(at + 100, b"damage");
        }
        crash_everywhere(&dump, &before, limits, seed);
        let at = craft::offset(&dump, copy, PageNo(2));
        dump.put(at + 100, b"damage");
        crash_everywhere(&dump, &before, limits, seed);
    }
}

/// A page that the dump lacks in one copy is taken from the other. If it is missing in both, the restore is refused and
/// writes nothing.
#[test]
fn what_is_missing_in_one_copy_is_mirrored() {
    let dump = history(2, 6, 20);
    let superblocks = Superblocks::load(&dump).unwrap();
    let cut = Window::new(dump.clone(), 0, superblocks.geometry().copy_offset(CopyId::B));
    let mut target = history(70, 6, 20);
    let loaded = Superblocks::load(&cut).unwrap();
    assert!(Restore::new(&cut, &loaded, ANEW).put_back(&mut target).unwrap() > 0);
    let mut whole = target.clone();
    put_back(&dump, &mut whole).unwrap();
    assert_eq!(Snapshot::read(&target).unwrap(), Snapshot::read(&whole).unwrap());
    require_whole(&target).unwrap();

    let cut = Window::new(dump, 0, 2 * 4096);
    let loaded = Superblocks::load(&cut).unwrap();
    let before = history(71, 6, 20);
    let mut target = before.clone();
    let refused = Restore::new(&cut, &loaded, ANEW).put_back(&mut target);
    assert!(matches!(refused, Err(RestoreError::Missing { first: PageNo(2), .. })), "{refused:?}");
    assert!(target.same(&before));
}

/// An older dump lowers the marks. Pages that are then past the marks are not evidence of a writer that did not raise
/// them, however many commits follow.
#[test]
fn what_falls_behind_the_marks_is_forgotten() {
    let empty = CreateOptions { size: 0, sparse: true, align_1g: false, mode: 0o600, owner: (0, 0) };
    let with_files = |files: usize| {
        let mut image = fresh(16 << 20, 200);
        let (mut writer, _) = Writer::open(&mut image, writer_options()).unwrap();
        for file in 0..files {
            writer.create(format!("/f{file}").as_bytes(), &empty).unwrap();
        }
        writer.close().unwrap();
        image
    };
    let (dump, before) = (with_files(3), with_files(40));
    let mut recorder = Recorder::new(before.clone());
    put_back(&dump, &mut recorder).unwrap();
    let log = recorder.take_log();
    let limits = Limits { subsets: 4, tears: 1 };
    states(&before, &log, limits, &mut Rng::new(1), &mut |image, told, _| {
        let mut again = image.clone();
        put_back(&dump, &mut again).unwrap();
        // Continues past the generations that the region had before.
        for _ in 0..25 {
            let (mut writer, _) = Writer::open(&mut again, writer_options()).unwrap();
            writer.create(b"/new", &empty).unwrap();
            writer.remove(b"/new", false).unwrap();
            writer.close().unwrap();
            require_whole(&again).unwrap_or_else(|error| panic!("{}: {error}", told()));
        }
    });
}
