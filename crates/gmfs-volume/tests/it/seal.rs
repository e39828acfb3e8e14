//! Seals of content: what is sealed is found as it was or as changed, by block; a seal that is stopped or crashed leaves
//! the one before; and what overwrites content drops its seal first.

use std::cell::Cell;
use std::ops::ControlFlow;

use gmfs_format::native::superblock::STATE_SEALED;
use gmfs_format::native::tables::{BLOCK_CRC_VALID, BLOCK_ZERO};
use gmfs_format::native::units::BlockNo;
use gmfs_io::WriteAt as _;
use gmfs_volume::seals::{Compared, Verdict, compare};
use gmfs_volume::{Region, SealOptions, Superblocks};

use crate::support::crashes::Limits;
use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, Op, create_options, error_name, fresh, open, seal, seals_of};
use crate::support::oracle::{crash_everywhere, recorded};
use crate::support::rng::Rng;
use crate::support::state::{Snapshot, require_whole};

/// A region of 24 MiB: `/a` in blocks 1 to 3, with a hole's worth of zeros in the last; `/b` in block 4.
fn region() -> Memory {
    let mut image = fresh(24 << 20, 16);
    let mut writer = open(&mut image);
    writer.create(b"/a", &create_options(3 * BLOCK, false, false)).unwrap();
    writer.create(b"/b", &create_options(BLOCK - 100, false, false)).unwrap();
    writer.close().unwrap();
    for block in [1, 2, 4] {
        image.put(block * BLOCK + 77, &[0xa0 + u8::try_from(block).unwrap()]);
    }
    image
}

fn verdicts(image: &Memory) -> Vec<(u32, Verdict)> {
    let region = Region::open(image).unwrap();
    let mut found = Vec::new();
    for threads in [1, 3] {
        found.clear();
        let lost = compare(
            image,
            region.superblocks(),
            region.superblock().used_table_pages(),
            |_| true,
            threads,
            |Compared { block, verdict, .. }| {
                found.push((block.0, verdict));
                ControlFlow::Continue(())
            },
        );
        assert_eq!(lost, 0);
    }
    found
}

fn state(image: &Memory) -> u32 {
    Superblocks::load(image).unwrap().current().raw.state.get()
}

#[test]
fn what_is_sealed_is_the_same_until_it_is_changed() {
    let mut image = region();
    let mut writer = open(&mut image);
    let sealed = seal(&mut writer, "/a", None).unwrap();
    assert_eq!((sealed.sealed, sealed.zero, sealed.unreadable, sealed.bad), (3, 1, 0, 0));
    writer.close().unwrap();
    let unsealed = (4, Verdict::Unsealed);
    assert_eq!(verdicts(&image), [(1, Verdict::Same), (2, Verdict::Same), (3, Verdict::Same), unsealed]);
    assert_eq!(state(&image) & STATE_SEALED, 0, "not all is sealed");
    // Its first and its last byte, and a zero block that is none any more.
    image.put(BLOCK, &[1]);
    image.put(4 * BLOCK - 1, &[1]);
    let changed = |zero| Verdict::Changed { crc: true, zero };
    assert_eq!(verdicts(&image), [(1, changed(false)), (2, Verdict::Same), (3, changed(true)), unsealed]);
    let mut writer = open(&mut image);
    assert_eq!(seal(&mut writer, "/a", None).unwrap().zero, 0);
    assert_eq!(seal(&mut writer, "/b", None).unwrap().sealed, 1);
    writer.close().unwrap();
    assert!(verdicts(&image).iter().all(|(_, verdict)| *verdict == Verdict::Same));
    assert_ne!(state(&image) & STATE_SEALED, 0, "all is sealed");
}

#[test]
fn all_is_sealed_only_while_it_is() {
    let mut image = region();
    let mut writer = open(&mut image);
    for path in ["/b", "/a"] {
        seal(&mut writer, path, None).unwrap();
    }
    let is_sealed = |writer: &gmfs_volume::Writer<&mut Memory>| writer.superblock().raw.state.get() & STATE_SEALED != 0;
    assert!(is_sealed(&writer));
    assert_ne!(writer.superblock().raw.sealed.get(), 0);
    writer.mkdir(b"/d", false, 0o700, (0, 0)).unwrap();
    assert!(!is_sealed(&writer), "a commit followed");
    seal(&mut writer, "/a", None).unwrap();
    assert!(is_sealed(&writer));
    let (ino, seals) = seals_of(&mut writer, "/a").unwrap();
    assert_eq!(writer.unseal(ino, &seals).unwrap(), 3);
    assert!(!is_sealed(&writer));
    seal(&mut writer, "/b", None).unwrap();
    assert!(!is_sealed(&writer), "/a has none");
    let (ino, seals) = seals_of(&mut writer, "/a").unwrap();
    let before = writer.superblock().raw.write_count.get();
    assert_eq!(writer.unseal(ino, &seals).unwrap(), 0);
    assert_eq!(writer.superblock().raw.write_count.get(), before, "nothing to do is no commit");
    let descriptor = Region::open(writer.close().unwrap()).unwrap().descriptor(BlockNo(1)).unwrap();
    assert_eq!((descriptor.flags, descriptor.crc.get()), (0, 0));
}

/// Zero blocks are noted only where that is asked for, and a sealed block is still a plain block of its file.
#[test]
fn descriptors_say_what_was_asked_for() {
    let mut image = region();
    let mut writer = open(&mut image);
    let (ino, seals) = seals_of(&mut writer, "/a").unwrap();
    let bytes = Cell::new(0);
    let progress = |more| bytes.set(bytes.get() + more);
    let options = SealOptions { zero: false, threads: 1, progress: &progress, go_on: &|| true };
    assert_eq!(writer.seal(ino, &seals, &options).unwrap().zero, 1);
    assert_eq!(bytes.get(), 3 * BLOCK);
    let flags = |image: &Memory| {
        let region = Region::open(image).unwrap();
        [1, 2, 3].map(|block| region.descriptor(BlockNo(block)).unwrap().flags)
    };
    assert_eq!(flags(writer.close().unwrap()), [BLOCK_CRC_VALID; 3]);
    let mut writer = open(&mut image);
    seal(&mut writer, "/a", None).unwrap();
    assert_eq!(flags(writer.close().unwrap()), [BLOCK_CRC_VALID, BLOCK_CRC_VALID, BLOCK_CRC_VALID | BLOCK_ZERO]);
}

#[test]
fn what_was_sealed_stays_sealed_in_its_blocks_only() {
    let mut image = region();
    let mut writer = open(&mut image);
    seal(&mut writer, "/a", None).unwrap();
    seal(&mut writer, "/b", None).unwrap();
    // A tail that was used once is zeroed as the file grows over it: that is no change by a guest.
    let base = 4 * BLOCK;
    writer.close().unwrap();
    image.put(base + BLOCK - 50, &[9]);
    let mut writer = open(&mut image);
    seal(&mut writer, "/b", None).unwrap();
    writer.truncate(b"/b", BLOCK + 5, false).unwrap();
    writer.rename(b"/b", b"/c", false).unwrap();
    writer.truncate(b"/a", 2 * BLOCK, false).unwrap();
    writer.remove(b"/a", false).unwrap();
    writer.create(b"/n", &create_options(2 * BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    let found = verdicts(&image);
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|(_, verdict)| *verdict == Verdict::Unsealed), "{found:?}");
}

/// The tail of a sealed file that grows is zeroed only after its seal is gone, wherever a crash comes.
#[test]
fn a_crash_while_a_sealed_file_grows_leaves_no_wrong_seal() {
    let mut image = region();
    image.put(5 * BLOCK - 50, &[9]);
    let mut writer = open(&mut image);
    seal(&mut writer, "/b", None).unwrap();
    writer.close().unwrap();
    let (mut writer, recorder) = recorded(image.clone());
    writer.truncate(b"/b", BLOCK + 5, false).unwrap();
    drop(writer);
    let limits = Limits { subsets: 1 << 9, tears: 40 };
    crash_everywhere(&image, &recorder, limits, true, &mut Rng::new(3), &|| "grow".to_owned());
}

/// A region whose `/x` is on the first and the third page of the block table only.
fn apart() -> Memory {
    let mut image = fresh(2 << 30, 16);
    let mut writer = open(&mut image);
    writer.create(b"/x", &create_options(3 * BLOCK, false, false)).unwrap();
    writer.create(b"/between", &create_options(600 * BLOCK, false, false)).unwrap();
    writer.truncate(b"/x", 6 * BLOCK, false).unwrap();
    writer.close().unwrap();
    image.put(BLOCK + 5, &[5]);
    image
}

#[test]
fn a_seal_that_is_stopped_is_as_if_never_begun() {
    let image = apart();
    for stop in 0..6 {
        let (mut writer, recorder) = recorded(image.clone());
        let stopped = seal(&mut writer, "/x", Some(stop)).unwrap_err();
        assert_eq!(error_name(&stopped), "Stopped");
        let now = recorder.image();
        assert!(Snapshot::read(&now) == Snapshot::read(&image), "{stop}");
        require_whole(&now).unwrap();
        // Wherever a crash comes, also while it is taken back.
        let limits = Limits { subsets: 1 << 6, tears: 20 };
        let told = || format!("stopped before {stop}");
        crash_everywhere(&image, &recorder, limits, false, &mut Rng::new(stop.into()), &told);
        // The writer goes on, and so does the next one.
        let before = recorder.image();
        assert_eq!(seal(&mut writer, "/x", None).unwrap().sealed, 6);
        crash_everywhere(&before, &recorder, limits, true, &mut Rng::new(stop.into()), &told);
        writer.close().unwrap();
        require_whole(&recorder.image()).unwrap();
        let (_, recovery) = gmfs_volume::Writer::open(recorder, crate::support::ops::writer_options()).unwrap();
        assert_eq!(recovery, gmfs_volume::Recovery::default());
    }
}

/// Files are sealed one by one: those before the stop stay sealed.
#[test]
fn files_before_a_stop_stay_sealed() {
    let (mut writer, recorder) = recorded(region());
    seal(&mut writer, "/b", None).unwrap();
    seal(&mut writer, "/a", Some(1)).unwrap_err();
    writer.close().unwrap();
    let image = recorder.image();
    let none = Verdict::Unsealed;
    assert_eq!(verdicts(&image), [(1, none), (2, none), (3, none), (4, Verdict::Same)]);
}

/// What lies about files, owners and marks is bounded by the table's pages.
#[test]
fn pages_that_do_not_describe_the_file_are_left_alone() {
    let mut image = region();
    let mut writer = open(&mut image);
    let (ino, seals) = seals_of(&mut writer, "/a").unwrap();
    let lying = gmfs_volume::seals::FileSeals { pages: 0..u32::MAX, ..seals.clone() };
    let options = SealOptions { zero: false, threads: 1, progress: &|_| (), go_on: &|| true };
    assert_eq!(writer.seal(ino, &lying, &options).unwrap().sealed, 3);
    let nothing = gmfs_volume::seals::FileSeals { pages: 7..9, ..seals };
    assert_eq!(writer.seal(ino, &nothing, &options).unwrap().sealed, 0);
    writer.close().unwrap();
    require_whole(&image).unwrap();
}

#[test]
fn a_block_with_a_hardware_error_is_not_read_and_has_no_seal() {
    let mut image = region();
    let mut writer = open(&mut image);
    seal(&mut writer, "/a", None).unwrap();
    writer.add_bad(std::slice::from_ref(&(2..3))).unwrap();
    let (_, seals) = seals_of(&mut writer, "/a").unwrap();
    assert_eq!((seals.blocks, seals.sealed, seals.bad, seals.is_whole()), (2, 2, 1, false));
    assert_eq!(seal(&mut writer, "/a", None).unwrap().bad, 1);
    writer.close().unwrap();
    assert_eq!(verdicts(&image)[1], (2, Verdict::HardwareError));
    // Whole again, it has no seal of what it held once.
    let mut writer = open(&mut image);
    writer.remove_bad(std::slice::from_ref(&(2..3))).unwrap();
    writer.close().unwrap();
    assert_eq!(verdicts(&image)[1], (2, Verdict::Unsealed));
}

#[test]
fn a_comparison_ends_when_nobody_wants_more() {
    let mut image = apart();
    let mut writer = open(&mut image);
    seal(&mut writer, "/x", None).unwrap();
    writer.close().unwrap();
    let region = Region::open(&image).unwrap();
    let mut seen = 0;
    compare(
        &image,
        region.superblocks(),
        region.superblock().used_table_pages(),
        |_| true,
        2,
        |_| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    assert_eq!(seen, 3);
}

#[test]
fn a_file_that_is_used_is_not_sealed() {
    use gmfs_io::Span;
    use gmfs_volume::{Used, Users};
    use std::sync::Arc;

    struct Guest;
    impl Users for Guest {
        fn used(&mut self) -> Arc<[Used]> {
            Arc::new([Used { span: Span::new(3 * BLOCK + 5, 1), by: "process 7 (guest)".to_owned() }])
        }
    }
    let mut image = region();
    let before = image.clone();
    let mut writer = open(&mut image);
    writer.watch(Box::new(Guest));
    let error = Op::Seal { path: "/a", stop: None }.run(&mut writer).unwrap_err();
    assert_eq!(error.to_string(), "/a is mapped by process 7 (guest)");
    assert!(writer.close().unwrap().same(&before), "nothing was written");
    let mut writer = open(&mut image);
    writer.watch(Box::new(Guest));
    seal(&mut writer, "/b", None).unwrap();
    writer.close().unwrap().barrier().unwrap();
}
