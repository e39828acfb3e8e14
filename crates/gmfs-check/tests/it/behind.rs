//! Pages past the high-water marks of a superblock. Those of this region are found by their own marks and sums, and are
//! used. Those of an older region with the same UUID are never used.

use gmfs_check::inject::{Target, inject};
use gmfs_check::{Code, Policy, Verdict};
use gmfs_format::native::raw::BLOCKS_PER_PAGE;
use gmfs_format::native::units::{CopyId, PAGE_SIZE, PageNo};
use gmfs_volume::{CreateOptions, FormatOptions, Superblocks};

use crate::support::{
    BIRTH, BLOCK, CREATE, End, Memory, codes, format_options, look, offset, open, put, repair, small,
};
use crate::support::{used_pages, wide};

/// The region, with the marks of its superblocks lowered below these pages.
fn hidden(mut image: Memory, pages: &[u32]) -> Memory {
    for page in pages {
        let target = Target { page: Some(PageNo(*page)), ..Target::default() };
        inject(&mut image, Code::GM0113, target).unwrap();
    }
    image
}

/// The options of a region with the same UUID that was made later.
fn made_later(size: u64, inodes: u32, uuid: u128) -> FormatOptions {
    FormatOptions { birth: BIRTH + 0x1000, ..format_options(size, inodes, uuid) }
}

#[test]
fn pages_past_the_marks_are_found_and_taken_in() {
    let [healthy, ..] = wide();
    let before = End::of(&healthy).unwrap();
    let first_inodes = Superblocks::load(&healthy).unwrap().geometry().first_inode_page().0;
    for pages in [&[3][..], &[1], &[first_inodes + 1], &[2, first_inodes + 2]] {
        let image = hidden(healthy.clone(), pages);
        let report = look(&image);
        assert_eq!(codes(&report), [Code::GM0113].into(), "{pages:?}: {:?}", report.findings);
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        assert_eq!(report.verdict(), Verdict::Damaged);
        // A writer that believed the marks would allocate the blocks again.
        let mut written = image.clone();
        let mut writer = open(&mut written);
        put(&mut writer, "/new", 99, 3);
        writer.close().unwrap();
        let after = End::of(&written).unwrap();
        assert!(after.left.is_empty(), "{pages:?}: {:?}", after.left);
        assert!(before.used.iter().all(|(block, what)| after.used.get(block) == Some(what)), "{pages:?}");

        for policy in [Policy::Safe, Policy::Lossy] {
            let mut image = image.clone();
            let (report, refused) = repair(&mut image, policy).unwrap();
            assert!(refused.is_empty() && report.verdict() == Verdict::Clean, "{pages:?}: {:?}", report.findings);
            assert!(image.same(&healthy), "{pages:?}: not bit for bit");
        }
    }
}

/// If a page is lost as well, it is not proven how far the tables reach: nothing is freed, and what other pages record
/// about files is kept.
#[test]
fn what_a_lost_page_past_the_marks_may_have_held_is_reserved() {
    let [healthy, ..] = wide();
    let mut image = hidden(healthy.clone(), &[1]);
    for copy in CopyId::BOTH {
        image.put(offset(&image, copy, PageNo(2)), &[0xEE; PAGE_SIZE]);
    }
    let (report, _) = repair(&mut image, Policy::Safe).unwrap();
    assert_eq!(report.verdict(), Verdict::Clean, "{:?}", report.findings);
    let (before, after) = (End::of(&healthy).unwrap(), End::of(&image).unwrap());
    let lost = 1 + BLOCKS_PER_PAGE..1 + 2 * BLOCKS_PER_PAGE;
    for (block, what) in before.used.iter().filter(|(block, _)| !lost.contains(block)) {
        assert_eq!(after.used.get(block), Some(what), "block {block}");
    }
    assert!(lost.clone().all(|block| after.used.contains_key(&block)), "free: {:?}", after.used.len());
    assert_eq!(after.files.get(&b"/vms2/guest0"[..]), before.files.get(&b"/vms2/guest0"[..]));
}

/// What is past the marks is not evidence unless it is a page of this region: random bytes, zeros, pages with good
/// seals for another location, or of a region with another birth.
#[test]
fn what_is_no_page_of_this_region_is_no_evidence() {
    let [image, ..] = wide();
    let superblocks = Superblocks::load(&image).unwrap();
    let geometry = superblocks.geometry();
    let past = PageNo(superblocks.current().used_inode_pages().end);
    assert!(u64::from(past.0) < geometry.pages() && !used_pages(&image).contains(&past));
    let mut other = Memory::new(geometry.size());
    gmfs_volume::format(&mut other, &made_later(geometry.size(), 61, 0xf00d)).unwrap();
    let elsewhere = image.page(offset(&image, CopyId::A, geometry.first_inode_page()));
    let born_later = other.page(offset(&image, CopyId::A, geometry.first_inode_page()));
    for (told, bytes) in
        [("junk", [0xEE; PAGE_SIZE]), ("zeros", [0; PAGE_SIZE]), ("elsewhere", elsewhere), ("born later", born_later)]
    {
        let mut image = image.clone();
        for copy in CopyId::BOTH {
            image.put(geometry.page_offset(copy, past), &bytes);
        }
        assert_eq!(look(&image).verdict(), Verdict::Clean, "{told}: {:?}", look(&image).findings);
    }
}

/// However far the pages reach past the marks, all of them are found.
#[test]
fn all_pages_past_the_marks_are_found() {
    let size = 30 << 30;
    let mut image = Memory::new(size);
    gmfs_volume::format(&mut image, &format_options(size, 64, 5)).unwrap();
    let mut writer = open(&mut image);
    let blocks = 50 * u64::from(BLOCKS_PER_PAGE);
    writer.create(b"/all", &CreateOptions { size: blocks * BLOCK, ..CREATE }).unwrap();
    writer.close().unwrap();
    let mut hidden = hidden(image.clone(), &[2]);
    let found = look(&hidden).findings;
    assert!(found.len() == 1 && found[0].to_string().contains("50 pages of the block table"), "{found:?}");
    let (report, _) = repair(&mut hidden, Policy::Safe).unwrap();
    assert_eq!(report.verdict(), Verdict::Clean);
    assert!(hidden.same(&image));
}

/// An older region with the same UUID and many generations, filled to its last page. The new one is checked after each
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

    gmfs_volume::format(&mut image, &made_later(size, 200, 9)).unwrap();
    for session in 0..60 {
        let mut writer = open(&mut image);
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

/// An older region whose superblocks were gone when the new one was made is not used either, even if the same UUID and
/// birth were asked for: mkfs then gives the new region the next birth.
#[test]
fn an_older_region_without_superblocks_is_never_taken_in() {
    for options in [format_options(20 << 20, 13, 0xfeed), made_later(20 << 20, 13, 0xfeed)] {
        let mut image = small();
        let geometry = Superblocks::load(&image).unwrap().geometry();
        for copy in CopyId::BOTH {
            image.put(geometry.copy_offset(copy), &[0; PAGE_SIZE]);
        }
        gmfs_volume::format(&mut image, &options).unwrap();
        assert_eq!(look(&image).verdict(), Verdict::Clean);
        assert!(Superblocks::load(&image).unwrap().current().birth != BIRTH);
        for n in 0..9 {
            let mut writer = open(&mut image);
            writer.mkdir(format!("/d{}", n % 3).as_bytes(), false, 0o755, (0, 0)).unwrap();
            writer.remove(format!("/d{}", n % 3).as_bytes(), false).unwrap();
            writer.close().unwrap();
            assert_eq!(look(&image).verdict(), Verdict::Clean, "{:?}", look(&image).findings);
        }
        // Without superblocks, only the user can choose one of the two, and both are named.
        for copy in CopyId::BOTH {
            image.put(geometry.copy_offset(copy), &[0; PAGE_SIZE]);
        }
        let lost = image.clone();
        let (report, refused) = repair(&mut image, Policy::Lossy).unwrap();
        assert_eq!((codes(&report), refused), ([Code::GM0114].into(), [Code::GM0114].into()));
        assert!(image.same(&lost), "something was written");
    }
}
