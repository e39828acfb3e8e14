//! The difficult cases of the commit, one by one, and the line between a crash and damage. What a dying writer leaves
//! is handled by recovery; what is broken although no writer was at work is damage.

use gmfs_format::native::copies::Phase;
use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::units::{CopyId, PAGE_SIZE, PageNo};
use gmfs_volume::{ChangeError, OpenError, Recovery, Region, Superblocks, Writer};

use crate::support::craft::{offset, superblock};
use crate::support::crashes::{self, Limits};
use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, create_options, fresh, open, writer_options};
use crate::support::oracle::{crash_everywhere, recorded};
use crate::support::recorder::{Event, Recorder};
use crate::support::rng::Rng;
use crate::support::state::{Snapshot, health, require_whole};

fn region() -> Memory {
    let mut image = fresh(16 << 20, 24);
    let mut writer = open(&mut image);
    for name in ["/a", "/b", "/c"] {
        writer.create(name.as_bytes(), &create_options(BLOCK, false, false)).unwrap();
    }
    for n in 0..8 {
        writer.mkdir(format!("/d{n}").as_bytes(), false, 0o700, (0, 0)).unwrap();
    }
    writer.close().unwrap();
    image
}

/// Begins to remove `path`, and dies when exactly the pages of step 1 are on the medium.
fn abort_a_removal(image: &Memory, path: &str) -> Memory {
    let (mut writer, recorder) = recorded(image.clone());
    recorder.take_log();
    writer.remove(path.as_bytes(), false).unwrap();
    let log = recorder.take_log();
    // The log without the commit point, its barrier, step 3, its barrier, step 4, and its barrier.
    let commit_point = log.iter().rposition(|event| matches!(event, Event::Write { offset: 0, .. })).unwrap();
    let mut aborted = image.clone();
    crashes::apply_durable(&mut aborted, &log[..commit_point]);
    assert_eq!(Snapshot::read(&aborted), Snapshot::read(image));
    assert!(health(&aborted).unwrap().recovery > 0);
    aborted
}

#[test]
fn an_aborted_page_does_not_become_valid_by_a_later_commit() {
    let image = region();
    let before = Snapshot::read(&image).unwrap();
    let mut aborted = abort_a_removal(&image, "/a");
    let generation = |image: &Memory| PageHeader::of(&image.page(offset(image, CopyId::A, PageNo(1)))).generation.get();
    let abandoned = generation(&aborted);
    assert!(abandoned > superblock(&aborted).generation.0);
    let (mut writer, recovery) = Writer::open(&mut aborted, writer_options()).unwrap();
    assert!(recovery.rolled_back > 0 && recovery.interrupted);
    // This changes inodes only. The block table's page keeps its old generation, and the abandoned generation is never
    // reused.
    writer.mkdir(b"/later", false, 0o700, (0, 0)).unwrap();
    writer.close().unwrap();
    assert!(superblock(&aborted).generation.0 > abandoned + 1);
    assert!(generation(&aborted) < abandoned);
    let after = Snapshot::read(&aborted).unwrap();
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.at(b"/a"), before.at(b"/a"));
    require_whole(&aborted).unwrap();
}

#[test]
fn closing_behind_aborted_changes_can_crash_as_well() {
    let limits = Limits { subsets: 1 << 10, tears: 1 << 10 };
    let mut image = region();
    for aborts in 1..6 {
        image = abort_a_removal(&image, "/a");
        let (writer, recorder) = recorded(image.clone());
        let before = recorder.image();
        recorder.take_log();
        writer.close().unwrap();
        crash_everywhere(&before, &recorder, limits, true, &mut Rng::new(aborts), &|| format!("{aborts} aborts"));
    }
}

#[test]
fn a_page_without_a_good_mirror_is_not_overwritten() {
    for copy in CopyId::BOTH {
        for page in [1, 2, 3] {
            let (mut writer, recorder) = recorded(region());
            writer.truncate(b"/a", 1, false).unwrap();
            let image = recorder.image();
            let place = offset(&image, copy, PageNo(page));
            recorder.scribble(place + 2048, b"something else");
            let kept = recorder.image();
            // A removal of block and inode changes pages 1 and 2, or page 3 with the inodes of directories.
            let result = if page == 3 { writer.remove(b"/d7", false) } else { writer.remove(b"/a", false) };
            assert!(matches!(&result, Err(ChangeError::Damaged { page: PageNo(n) }) if *n == page), "{result:?}");
            let survivor = offset(&image, copy.other(), PageNo(page));
            assert_eq!(recorder.image().page(survivor), kept.page(survivor));
            // From now on every change, and the mark at the end, is refused, and nothing is lost.
            let found = Snapshot::read(&recorder.image()).unwrap();
            assert_eq!(found, Snapshot::read(&image).unwrap());
        }
    }
}

#[test]
fn a_writer_does_not_open_a_damaged_region() {
    let image = region();
    for copy in CopyId::BOTH {
        for page in 0..3 {
            let mut damaged = image.clone();
            damaged.put(offset(&image, copy, PageNo(page)) + 3000, b"something else");
            let broken = damaged.clone();
            let error = Writer::open(&mut damaged, writer_options()).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { pages: 1, first: PageNo(n) } if n == page), "{error}");
            assert!(damaged.same(&broken));
            assert_eq!(Snapshot::read(&damaged), Snapshot::read(&image));
        }
    }
}

/// Returns whether a region with this page instead of a superblock counts as damaged. It must read the same in any
/// case.
fn is_damage(image: &Memory, copy: CopyId, page: &[u8; PAGE_SIZE]) -> bool {
    let mut image = image.clone();
    let before = Snapshot::read(&image).unwrap();
    let place = offset(&image, copy, PageNo(0));
    image.put(place, page);
    assert_eq!(Snapshot::read(&image).unwrap(), before);
    let damage = !health(&image).unwrap().damage.is_empty();
    assert_eq!(damage, Writer::open(&mut image, writer_options()).is_err());
    damage
}

#[test]
fn a_broken_superblock_of_an_idle_region_is_damage() {
    let image = region();
    for copy in CopyId::BOTH {
        let good = image.page(offset(&image, copy, PageNo(0)));
        assert!(is_damage(&image, copy, &[0; PAGE_SIZE]));
        assert!(is_damage(&image, copy, &[0xA5; PAGE_SIZE]));
        for cut in [8, 64, 216, 512, 2048, 4088] {
            let (mut head, mut tail) = (good, good);
            head[cut..].fill(0x5A);
            tail[..cut].fill(0x5A);
            assert!(is_damage(&image, copy, &head) && is_damage(&image, copy, &tail), "{copy} {cut}");
            head[cut..].fill(0);
            assert!(is_damage(&image, copy, &head) || head == good, "{copy} {cut}");
        }
        for byte in (0..300).chain([1000, 4095]) {
            let mut flipped = good;
            flipped[byte] ^= 0x40;
            assert!(is_damage(&image, copy, &flipped), "{copy} {byte}");
        }
        // An older superblock of the same region. Commits followed it, so no crash leaves it beside a clean one.
        let old = fresh(16 << 20, 24);
        assert!(is_damage(&image, copy, &old.page(offset(&old, copy, PageNo(0)))), "{copy}");
    }
}

#[test]
fn a_page_that_went_back_in_time_is_damage_and_the_newer_one_counts() {
    let old = region();
    let mut image = old.clone();
    let mut writer = open(&mut image);
    writer.remove(b"/a", false).unwrap();
    writer.close().unwrap();
    for copy in CopyId::BOTH {
        for page in [1, 2] {
            let mut stale = image.clone();
            let place = offset(&image, copy, PageNo(page));
            assert_ne!(old.page(place), image.page(place));
            stale.put(place, &old.page(place));
            assert_eq!(Snapshot::read(&stale), Snapshot::read(&image));
            assert!(!health(&stale).unwrap().damage.is_empty());
            let error = Writer::open(&mut stale, writer_options()).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { pages: 1, first: PageNo(n) } if n == page), "{error}");
        }
    }
}

/// Crashes of the session marks alone: of an idle region at its first change, and of an active one when it is closed.
#[test]
fn a_torn_mark_is_recovery() {
    let (mut writer, recorder) = recorded(region());
    let idle = recorder.image();
    writer.mkdir(b"/new", false, 0o700, (0, 0)).unwrap();
    let mut log = recorder.take_log();
    let second = log.iter().enumerate().filter(|(_, event)| matches!(event, Event::Barrier)).nth(1).unwrap().0;
    log.truncate(second + 1);
    let active = recorder.image();
    writer.close().unwrap();
    let limits = Limits { subsets: 1 << 10, tears: 1 << 10 };
    for (base, log, state) in [(&idle, log, &idle), (&active, recorder.take_log(), &active)] {
        let expected = Snapshot::read(state).unwrap();
        let mut torn = 0;
        crashes::states(base, &log, limits, &mut Rng::new(0), &mut |image, what, _| {
            assert_eq!(Snapshot::read(image).unwrap(), expected, "{}", what());
            let superblocks = Superblocks::load(image).unwrap();
            if !superblocks.judgement().is_whole() {
                torn += 1;
                assert_ne!(superblocks.phase(), Phase::Idle, "{}", what());
            }
            assert!(health(image).unwrap().damage.is_empty(), "{}", what());
            let mut image = image.clone();
            drop(Writer::open(&mut image, writer_options()).unwrap());
            require_whole(&image).unwrap();
        });
        assert!(torn >= 4);
    }
}

#[test]
fn reading_an_interrupted_region_writes_nothing_and_opening_a_closed_one_neither() {
    let aborted = abort_a_removal(&region(), "/a");
    let region_read = Region::open(&aborted).unwrap();
    assert_eq!(region_read.superblocks().phase(), Phase::ToA);
    let recorder = Recorder::new(region());
    let (writer, recovery) = Writer::open(recorder.clone(), writer_options()).unwrap();
    assert_eq!(recovery, Recovery::default());
    writer.close().unwrap();
    assert!(recorder.take_log().is_empty());
}
