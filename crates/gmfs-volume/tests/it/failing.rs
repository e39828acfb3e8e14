//! A medium that fails at any write of an operation: the operation returns an error, the region is in the state before
//! or after, and the same writer writes nothing more until it is recovered.

use gmfs_volume::Writer;

use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, Op, error_name, fresh, open, set_clock};
use crate::support::oracle::{Oracle, Tally, recorded};
use crate::support::recorder::{Failure, Recorder};
use crate::support::rng::Rng;
use crate::support::state::{Snapshot, require_found, require_whole};

fn region() -> Memory {
    let mut image = fresh(20 << 20, 20);
    let mut writer = open(&mut image);
    set_clock(50);
    let put = |path, id| Op::Put { path, size: 2 * BLOCK, id, replace: false, sparse: false, told: true };
    let directory = Op::Mkdir { path: "/d", parents: false };
    for op in [put("/a", 1), put("/b", 2), directory, put("/d/x", 4), Op::Seal { path: "/b", stop: None }] {
        op.run(&mut writer).unwrap();
    }
    writer.close().unwrap();
    image
}

fn operations() -> [Op; 11] {
    [
        Op::Create { path: "/c", size: BLOCK, sparse: false, aligned: false },
        Op::Put { path: "/c", size: 2 * BLOCK, id: 11, replace: false, sparse: false, told: false },
        Op::Put { path: "/a", size: BLOCK + 100, id: 11, replace: true, sparse: true, told: true },
        Op::Truncate { path: "/a", size: 17, sparse: false },
        Op::Truncate { path: "/a", size: 3 * BLOCK, sparse: false },
        Op::Rename { from: "/a", to: "/b", replace: true },
        Op::Remove { path: "/d", recursive: true },
        Op::Mkdir { path: "/e", parents: false },
        Op::Seal { path: "/a", stop: None },
        Op::Truncate { path: "/d/x", size: 3 * BLOCK - 5, sparse: true },
        Op::Unseal { path: "/b" },
    ]
}

/// Operations for a writer that has failed.
fn attempts() -> [Op; 6] {
    [
        Op::Put { path: "/z", size: 2 * BLOCK, id: 77, replace: false, sparse: false, told: false },
        Op::Create { path: "/y", size: BLOCK, sparse: false, aligned: false },
        Op::Truncate { path: "/b", size: 4 * BLOCK, sparse: false },
        Op::Mkdir { path: "/n", parents: false },
        Op::Rename { from: "/b", to: "/m", replace: false },
        Op::Remove { path: "/b", recursive: false },
    ]
}

/// Continues with a writer that has failed. Either it refuses everything and writes nothing, or it has lost nothing.
fn go_on(mut writer: Writer<Recorder>, recorder: &Recorder, oracle: &Oracle, which: usize, told: &str) {
    let failed = recorder.image();
    for op in attempts() {
        let result = op.run(&mut writer);
        match result.as_ref().map_err(error_name) {
            Err(name) if name == "Unfinished" => {
                assert!(recorder.image().same(&failed), "{told}: {op:?} was refused and has written");
            }
            Ok(()) | Err(_) => {
                // The failed operation had not begun to write, so the next one starts from the state before.
                assert_eq!(which, 0, "{told}: {op:?} gave {result:?}");
                let image = recorder.image();
                require_whole(&image).unwrap();
                let free = Snapshot::read(&image).unwrap().superblock.free_blocks.get();
                assert_eq!(writer.free_blocks(), free, "{told}: {op:?}");
            }
        }
    }
    require_found(&writer, &|| told.to_owned());
    match writer.close() {
        Ok(_) => require_whole(&recorder.image()).unwrap(),
        Err(error) => {
            assert_eq!(error_name(&error), "Unfinished", "{told}");
            assert_eq!(oracle.which(&recorder.image()), Ok(which), "{told}");
        }
    }
}

#[test]
fn a_failing_medium_leaves_the_state_before_or_after() {
    let image = region();
    let mut tally = Tally::default();
    let mut rng = Rng::new(1);
    for op in operations() {
        let (mut writer, recorder) = recorded(image.clone());
        set_clock(99);
        op.run(&mut writer).unwrap();
        let oracle = Oracle::new(&image, &recorder.image());
        for how in [Failure::Once, Failure::Half, Failure::Forever] {
            for calls in 0.. {
                let told = format!("{op:?}, {how:?} after {calls}");
                let (mut writer, recorder) = recorded(image.clone());
                recorder.fail_after(calls, how);
                set_clock(99);
                let result = op.run(&mut writer);
                if !recorder.mend() {
                    result.unwrap();
                    break;
                }
                let error = result.expect_err(&told);
                assert_eq!(error_name(&error), "Write", "{told}");
                let failed = recorder.image();
                tally.operations += 1;
                if let Err(error) = oracle.check(&failed, &mut rng, &mut tally) {
                    panic!("{told}: {error}");
                }
                go_on(writer, &recorder, &oracle, oracle.which(&failed).unwrap(), &told);
            }
        }
    }
    eprintln!("failing medium: {tally:?}");
}

#[test]
fn a_failing_medium_stops_recovery_and_closing_without_harm() {
    let image = region();
    let before = Snapshot::read(&image).unwrap();
    for calls in 0..4 {
        let (mut writer, recorder) = recorded(image.clone());
        writer.truncate(b"/a", 2 * BLOCK, false).unwrap();
        let changed = Snapshot::read(&recorder.image()).unwrap();
        assert_ne!(changed, before);
        recorder.fail_after(calls, Failure::Half);
        writer.close().expect_err("close");
        assert!(recorder.mend());
        let half_closed = recorder.image();
        assert_eq!(Snapshot::read(&half_closed).unwrap(), changed);
        for calls in 0..2 {
            let recorder = Recorder::new(half_closed.clone());
            recorder.fail_after(calls, Failure::Half);
            let failed = Writer::open(recorder.clone(), crate::support::ops::writer_options()).is_err();
            assert_eq!(failed, recorder.mend());
            assert_eq!(Snapshot::read(&recorder.image()).unwrap(), changed);
            open(recorder.clone()).close().unwrap();
            require_whole(&recorder.image()).unwrap();
            assert_eq!(Snapshot::read(&recorder.image()).unwrap(), changed);
        }
    }
}
