//! Pages behind the marks: those that only this region can have written are found and taken in; those of an older region
//! with the same UUID never are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use gmfs_check::inject::{Target, inject};
use gmfs_check::{Code, Policy, Verdict, release_reserved};
use gmfs_format::raw::PageHeader;
use gmfs_format::seal;
use gmfs_format::units::{CopyId, Generation, PAGE_SIZE, PageNo};
use gmfs_volume::behind::used_behind_marks;
use gmfs_volume::{CreateOptions, OpenError, Superblocks, Writer, WriterOptions};

mod support;
use support::{BLOCK, CREATE, End, Memory, codes, format_options, look, offset, open, put, repair, small, stamp, wide};

/// The region with its marks before these pages: what a writer leaves that does not move them.
fn hidden(mut image: Memory, pages: &[u32]) -> Memory {
    for page in pages {
        let target = Target { page: Some(PageNo(*page)), ..Target::default() };
        inject(&mut image, Code::GM0113, target).unwrap();
    }
    image
}

#[test]
fn pages_behind_the_marks_are_found_and_taken_in() {
    let [healthy, ..] = wide();
    let before = End::of(&healthy).unwrap();
    let first_inodes = Superblocks::load(&healthy).unwrap().geometry().first_inode_page().0;
    for pages in [&[3][..], &[1], &[first_inodes + 1], &[2, first_inodes + 2]] {
        let mut image = hidden(healthy.clone(), pages);
        let report = look(&image);
        assert_eq!(codes(&report), [Code::GM0113].into(), "{pages:?}: {:?}", report.findings);
        assert_eq!(report.findings.len(), pages.len(), "one run is one finding");
        assert_eq!(report.verdict(), Verdict::Damaged);
        // Whoever writes would give the blocks out again.
        let options = WriterOptions { writer: "test".into(), base: None, clock: || support::NOW };
        let refused = Writer::open(&mut image.clone(), options).unwrap_err();
        assert!(matches!(refused, OpenError::BehindMarks { .. }), "{refused}");
        assert!(release_reserved(&mut image.clone(), &stamp()).is_err());

        let mut safe = image.clone();
        let (_, refused) = repair(&mut safe, Policy::Safe).unwrap();
        assert!(refused.contains(&Code::GM0113) && safe.same(&image), "a safe repair has no proof");
        let (report, refused) = repair(&mut image, Policy::Lossy).unwrap();
        assert!(refused.is_empty() && report.verdict() == Verdict::Clean, "{pages:?}: {:?}", report.findings);
        assert_eq!(End::of(&image).unwrap(), before, "{pages:?}");
    }
}

#[test]
fn what_pages_between_may_have_held_is_reserved() {
    let [healthy, ..] = wide();
    let mut image = hidden(healthy.clone(), &[1]);
    for copy in CopyId::BOTH {
        image.put(offset(&image, copy, PageNo(2)), &[0xEE; PAGE_SIZE]);
    }
    assert_eq!(look(&image).findings.len(), 2, "two runs: {:?}", look(&image).findings);
    let (report, _) = repair(&mut image, Policy::Lossy).unwrap();
    assert_eq!(report.verdict(), Verdict::Clean, "{:?}", report.findings);
    let (before, after) = (End::of(&healthy).unwrap(), End::of(&image).unwrap());
    // What was on the page between is lost; all the rest is there.
    let kept = |block: &u32| !(1 + 252..1 + 504).contains(block);
    let there = |end: &End| -> Vec<_> { end.used.clone().into_iter().filter(|(block, _)| kept(block)).collect() };
    assert_eq!(there(&before), there(&after));
    assert!((1 + 252..1 + 504).all(|block| after.used.contains_key(&block)), "free: {:?}", after.used.len());
    assert_eq!(after.files.get(&b"/vms2/guest0"[..]), before.files.get(&b"/vms2/guest0"[..]));
}

/// What is no proof: one copy alone, copies that differ, blank pages, generations that are not committed or may be older
/// than the region, pages that the image does not hold.
#[test]
fn what_may_be_anything_is_no_evidence() {
    let [healthy, ..] = wide();
    let image = hidden(healthy, &[3]);
    assert_eq!(codes(&look(&image)), [Code::GM0113].into());
    let superblock = Superblocks::load(&image).unwrap().current().clone();
    let reseal = |copies: &[CopyId], generation: u64, change: &dyn Fn(&mut [u8])| {
        let mut image = image.clone();
        for copy in copies {
            let at = offset(&image, *copy, PageNo(3));
            let mut bytes = image.page(at);
            change(&mut bytes[64..]);
            let place = Superblocks::load(&image).unwrap().place(*copy, PageNo(3)).unwrap();
            seal::seal(&mut bytes, &place, Generation(generation));
            image.put(at, &bytes);
        }
        image
    };
    let now = superblock.generation.0;
    let floor = now - superblock.raw.write_count.get();
    let cases = [
        ("copy A of another generation", reseal(&[CopyId::A], now - 1, &|_| {})),
        ("copy B with another payload", reseal(&[CopyId::B], now, &|bytes| bytes[8] ^= 1)),
        ("blank", reseal(&CopyId::BOTH, now, &|bytes| bytes.fill(0))),
        ("not committed", reseal(&CopyId::BOTH, now + 1, &|_| {})),
        ("may be older than the region", reseal(&CopyId::BOTH, floor, &|_| {})),
    ];
    for (what, image) in cases {
        assert!(used_behind_marks(&image, &Superblocks::load(&image).unwrap()).is_empty(), "{what}");
    }
    // The least generation that only this region can have given out.
    assert_eq!(codes(&look(&reseal(&CopyId::BOTH, floor + 1, &|_| {}))), [Code::GM0113].into());
    let mut gone = image.clone();
    gone.put(offset(&image, CopyId::B, PageNo(3)), &[0; PAGE_SIZE]);
    assert!(used_behind_marks(&gone, &Superblocks::load(&gone).unwrap()).is_empty(), "one copy alone");
}

/// The window is extended as long as something is found, and ends behind what is not.
#[test]
fn the_window_follows_what_it_finds() {
    let size = 30 << 30;
    let mut image = Memory::new(size);
    gmfs_volume::format(&mut image, &format_options(size, 64, 5)).unwrap();
    let mut writer = open(&mut image);
    writer.create(b"/all", &CreateOptions { size: 50 * 252 * BLOCK, ..CREATE }).unwrap();
    writer.close().unwrap();
    let before = End::of(&image).unwrap();
    let mut hidden = hidden(image, &[2]);
    let found = look(&hidden).findings;
    assert!(found.len() == 1 && found[0].subject.to_string().contains("2-50"), "{found:?}");
    let (report, _) = repair(&mut hidden, Policy::Lossy).unwrap();
    assert_eq!(report.verdict(), Verdict::Clean);
    assert_eq!(End::of(&hidden).unwrap(), before);
}

/// An older region with the same UUID and many generations, filled to its last page; the new one is checked after each
/// of many sessions, with few and with many commits.
#[test]
fn an_older_region_with_the_same_uuid_is_never_taken_in() {
    let size = 3 << 30;
    let mut image = Memory::new(size);
    gmfs_volume::format(&mut image, &format_options(size, 200, 9)).unwrap();
    let mut writer = open(&mut image);
    for n in 0..190_u32 {
        writer.create(format!("/old{n}").as_bytes(), &CreateOptions { size: 8 * BLOCK, ..CREATE }).unwrap();
    }
    writer.close().unwrap();
    let old = Superblocks::load(&image).unwrap().current().clone();
    assert!(old.generation.0 > 190 && old.raw.table_used.get() > 5 && old.raw.inodes_used_pages.get() > 20);

    gmfs_volume::format(&mut image, &format_options(size, 200, 9)).unwrap();
    let first = Superblocks::load(&image).unwrap().committed();
    assert!(first > old.generation, "its generations lie above the old ones");
    for session in 0..60 {
        let mut writer = open(&mut image);
        // Some sessions have many commits, so that their count is not far behind the generations.
        for n in 0..1 + session % 7 {
            writer.create(format!("/new{session}.{n}").as_bytes(), &CREATE).unwrap();
            writer.remove(format!("/new{session}.{n}").as_bytes(), false).unwrap();
        }
        put(&mut writer, &format!("/file{session}"), session, 1 + u32::from(session % 3));
        writer.close().unwrap();
        let report = look(&image);
        assert_eq!(report.verdict(), Verdict::Clean, "session {session}: {:?}", report.findings);
    }
    let new = Superblocks::load(&image).unwrap().current().clone();
    assert!(new.raw.inodes_used_pages.get() < old.raw.inodes_used_pages.get(), "old pages are still there");
}

/// Only if nothing was left of the older region's superblocks can its pages be taken for the new one's: then they are
/// reported, which hinders writing, and only a repair that may give something up takes them in.
#[test]
fn an_older_region_that_nobody_could_see_is_left_to_the_user() {
    let mut image = small();
    let superblock = Superblocks::load(&image).unwrap().current().clone();
    for copy in CopyId::BOTH {
        image.put(offset(&small(), copy, PageNo(0)), &[0; PAGE_SIZE]);
        image.put(offset(&small(), copy, superblock.geometry().first_inode_page()), &[0; PAGE_SIZE]);
    }
    gmfs_volume::format(&mut image, &format_options(20 << 20, 13, 0xfeed)).unwrap();
    assert_eq!(Superblocks::load(&image).unwrap().committed(), Generation(1));
    assert_eq!(look(&image).verdict(), Verdict::Clean);
    let mut writer = open(&mut image);
    for n in 0..9 {
        writer.mkdir(format!("/d{}", n % 3).as_bytes(), false, 0o755, (0, 0)).unwrap();
        writer.remove(format!("/d{}", n % 3).as_bytes(), false).unwrap();
    }
    writer.close().unwrap();
    let generation = PageHeader::of(&image.page(offset(&image, CopyId::A, PageNo(1)))).generation.get();
    assert!(generation > 2, "{generation}");
    assert_eq!(codes(&look(&image)), [Code::GM0113].into());
    let (_, refused) = repair(&mut image, Policy::Safe).unwrap();
    assert_eq!(refused, [Code::GM0113].into());
    let (report, _) = repair(&mut image, Policy::Lossy).unwrap();
    assert_eq!(report.verdict(), Verdict::Clean, "{:?}", report.findings);
}
