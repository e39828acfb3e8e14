//! What any page of the last commit proves about all others, what is left in doubt, and which region is chosen if pages
//! of several are left.

use gmfs_format::native::copies::Standing;
use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::seal::{self, SealFault};
use gmfs_format::native::superblock::{STATE_ACTIVE, Superblock, SuperblockFault};
use gmfs_format::native::units::{CopyId, Generation, PAGE_BYTES, PageNo};
use gmfs_io::{Span, WriteAt as _};
use gmfs_volume::decide::Outcome;
use gmfs_volume::region::judge_page;
use gmfs_volume::superblocks::Slot;
use gmfs_volume::{Chosen, OpenError, Region, Superblocks, Writer, format};

use crate::support::craft::edit_page;
use crate::support::crashes;
use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, create_options, format_options, fresh, open, writer_options};
use crate::support::oracle::recorded;
use crate::support::recorder::Event;
use crate::support::state::{Snapshot, require_whole};

const SIZE: u64 = 600 << 20;

/// A closed region with two pages of each table. Its last commit wrote one page of each.
fn region() -> Memory {
    let mut image = fresh(SIZE, 24);
    let mut writer = open(&mut image);
    writer.create(b"/a", &create_options(100 * BLOCK, false, false)).unwrap();
    for n in 0..8 {
        writer.mkdir(format!("/d{n}").as_bytes(), false, 0o700, (0, 0)).unwrap();
    }
    writer.create(b"/b", &create_options(170 * BLOCK, false, false)).unwrap();
    writer.create(b"/c", &create_options(BLOCK, false, false)).unwrap();
    writer.truncate(b"/c", 2 * BLOCK, false).unwrap();
    writer.close().unwrap();
    let marks = Superblocks::load(&image).unwrap().decision().marks;
    assert_eq!((marks.table, marks.inodes), (2, 2));
    image
}

/// The table pages in use.
fn used(image: &Memory) -> Vec<PageNo> {
    let superblocks = Superblocks::load(image).unwrap();
    superblocks.decision().marks.pages(superblocks.geometry()).collect()
}

fn offset(image: &Memory, copy: CopyId, page: PageNo) -> u64 {
    Superblocks::load(image).unwrap().geometry().page_offset(copy, page)
}

fn wipe(image: &mut Memory, offset: u64) {
    image.zero(Span::new(offset, PAGE_BYTES)).unwrap();
}

/// The decision about a region from all that is left of it, and the region's content then.
fn decided(image: &Memory, chosen: Option<Chosen>) -> (Superblocks, Snapshot) {
    let superblocks = || Superblocks::decide(image, chosen).unwrap();
    let snapshot = Snapshot::of(&Region::with(image, superblocks())).unwrap();
    (superblocks(), snapshot)
}

/// Compares the tables of two snapshots. Label, times and counts of commits are lost with both superblocks.
fn assert_same_tables(found: &Snapshot, expected: &Snapshot) {
    assert!(found.entries == expected.entries && found.descriptors == expected.descriptors, "{found:?}");
    let counts = |snapshot: &Snapshot| {
        let raw = &snapshot.superblock;
        let blocks = [raw.free_blocks, raw.data_blocks, raw.bad_blocks, raw.reserved_blocks];
        (blocks, raw.used_inodes, raw.table_used, raw.inodes_used_pages)
    };
    assert_eq!(counts(found), counts(expected));
}

/// The superblocks of copy A in a log.
fn stored_superblocks(log: &[Event]) -> Vec<Superblock> {
    let stores = log.iter().filter_map(|event| match event {
        Event::Write { offset: 0, bytes } => Some(Superblock::read(&(**bytes).try_into().unwrap(), CopyId::A).unwrap()),
        _ => None,
    });
    stores.collect()
}

#[test]
fn the_marks_of_a_session_carry_the_sums_and_begin_at_a_round_generation() {
    let (mut writer, recorder) = recorded(region());
    let idle = writer.superblock().clone();
    writer.mkdir(b"/new", false, 0o700, (0, 0)).unwrap();
    let active = recorder.image();
    writer.close().unwrap();
    let [begin, commit, end] = &stored_superblocks(&recorder.take_log())[..] else { panic!("not three superblocks") };
    assert_eq!(begin.generation.0, (idle.generation.0 + 1) / 256 * 256 + 256);
    assert_eq!((begin.sum, begin.group_sums(), begin.marks()), (idle.sum, idle.group_sums(), idle.marks()));
    assert_eq!(commit.generation.0, begin.generation.0 + 1);
    assert_ne!(commit.sum, begin.sum);
    assert_eq!((end.sum, end.group_sums(), end.marks()), (commit.sum, commit.group_sums(), commit.marks()));
    assert_eq!(end.generation.0, commit.generation.0 + 1);
    // In a region that was not closed, a session begins with a mark as well.
    let (mut writer, recorder) = recorded(active);
    assert_ne!(writer.superblock().raw.state.get() & STATE_ACTIVE, 0);
    writer.mkdir(b"/newer", false, 0o700, (0, 0)).unwrap();
    let [again, _] = &stored_superblocks(&recorder.take_log())[..] else { panic!("not two superblocks") };
    assert_eq!(again.generation.0, begin.generation.0 + 256);
    assert_eq!((again.sum, again.group_sums()), (commit.sum, commit.group_sums()));
}

#[test]
fn a_page_of_the_last_commit_proves_the_region_without_superblocks() {
    let image = region();
    let expected = Snapshot::read(&image).unwrap();
    let last = Superblocks::load(&image).unwrap().committed();
    // The mark at the end writes no table pages, so the newest pages are those of the commit before it.
    for lost in [None, Some(CopyId::A), Some(CopyId::B)] {
        for witness in used(&image) {
            let mut image = image.clone();
            let places: Vec<_> =
                CopyId::BOTH.map(|copy| used(&image).iter().map(|page| offset(&image, copy, *page)).collect()).into();
            let own = offset(&image, CopyId::A, witness);
            for copy in CopyId::BOTH {
                let superblock = offset(&image, copy, PageNo(0));
                if copy == CopyId::B {
                    // This must be read before copy A's superblock is overwritten.
                    wipe(&mut image, superblock);
                }
            }
            wipe(&mut image, 0);
            for (copy, places) in CopyId::BOTH.into_iter().zip::<Vec<Vec<u64>>>(places) {
                for place in places.into_iter().filter(|place| lost == Some(copy) && *place != own) {
                    wipe(&mut image, place);
                }
            }
            let (superblocks, found) = decided(&image, None);
            let decision = superblocks.decision();
            assert!(decision.is_whole() && superblocks.rivals().is_empty(), "{lost:?} {witness}");
            assert!(decision.generation < last && superblocks.are_rebuilt());
            assert_same_tables(&found, &expected);
            // Only a repair writes the superblocks.
            assert!(matches!(Region::open(&image), Err(OpenError::NoRegion { .. })));
            let kept = image.clone();
            assert!(Writer::open(&mut image, writer_options()).is_err() && image.same(&kept));
        }
    }
}

#[test]
fn one_copy_is_enough() {
    let image = region();
    let expected = Snapshot::read(&image).unwrap();
    let geometry = Superblocks::load(&image).unwrap().geometry();
    let old = fresh(SIZE, 24);
    for copy in CopyId::BOTH {
        // The page is lost, or it is as it was when the region was made.
        for older in [false, true] {
            let mut image = image.clone();
            for page in (0..u32::try_from(geometry.pages()).unwrap()).map(PageNo) {
                let place = geometry.page_offset(copy, page);
                image.put(place, &if older { old.page(place) } else { [0; 4096] });
            }
            let (superblocks, found) = decided(&image, None);
            assert!(superblocks.decision().is_whole() && superblocks.rivals().is_empty());
            assert_eq!(found, expected);
            assert_eq!(Snapshot::read(&image).unwrap(), expected);
            let kept = image.clone();
            let refused = Writer::open(&mut image, writer_options());
            assert!(matches!(refused, Err(OpenError::Damaged { first: PageNo(0), .. })), "{refused:?}");
            assert!(image.same(&kept));
        }
    }
}

#[test]
fn a_page_that_both_copies_lack_or_have_too_old_is_in_doubt_and_no_other() {
    let image = region();
    let mut newer = image.clone();
    let mut writer = open(&mut newer);
    // This changes all pages in use except the second one of inodes.
    writer.truncate(b"/a", BLOCK, false).unwrap();
    writer.remove(b"/b", false).unwrap();
    writer.create(b"/b", &create_options(169 * BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    let mut tried = 0;
    for page in used(&newer) {
        for old in [false, true] {
            let mut harmed = newer.clone();
            for copy in CopyId::BOTH {
                let place = offset(&newer, copy, page);
                harmed.put(place, &if old { image.page(place) } else { [0; 4096] });
            }
            if harmed.same(&newer) {
                continue;
            }
            tried += 1;
            let superblocks = Superblocks::decide(&harmed, None).unwrap();
            let decision = superblocks.decision();
            assert_eq!(decision.outcome, Outcome::Doubt, "{page} {old}");
            assert!(decision.marks_proven);
            for other in used(&newer) {
                assert_eq!(decision.proven.contains(other), other != page, "{page} {old}: {other}");
                let judged = judge_page(&harmed, &superblocks, other);
                assert_eq!(judged.is_damage(), other == page);
            }
            let kept = harmed.clone();
            let refused = Writer::open(&mut harmed, writer_options());
            assert!(matches!(refused, Err(OpenError::Damaged { .. } | OpenError::Doubt)), "{refused:?}");
            assert!(harmed.same(&kept));
        }
    }
    assert!(tried >= 6, "{tried}");
}

/// The superblock has the sum of each group of pages, so two lost pages leave the others proven.
#[test]
fn two_lost_pages_of_different_groups_leave_the_others_proven() {
    let mut image = region();
    let pages = used(&image);
    let lost = [pages[0], pages[2]];
    let places: Vec<u64> = lost.iter().flat_map(|page| CopyId::BOTH.map(|copy| offset(&image, copy, *page))).collect();
    places.into_iter().for_each(|place| wipe(&mut image, place));
    let superblocks = Superblocks::decide(&image, None).unwrap();
    assert_eq!(superblocks.decision().outcome, Outcome::Doubt);
    for page in pages {
        assert_eq!(superblocks.decision().proven.contains(page), !lost.contains(&page), "{page}");
    }
}

/// A superblock whose marks are lower than those of pages is corrected: the highest marks of any page count, and the
/// sum proves them.
#[test]
fn marks_that_are_too_low_hide_no_page() {
    let image = region();
    let expected = Snapshot::read(&image).unwrap();
    let superblocks = Superblocks::load(&image).unwrap();
    let mut lying = superblocks.current().clone();
    lying.raw.table_used = 1.into();
    let mut harmed = image.clone();
    for copy in CopyId::BOTH {
        harmed.put(offset(&image, copy, PageNo(0)), &lying.page(copy));
    }
    let (found, snapshot) = decided(&harmed, None);
    assert!(found.decision().is_whole());
    assert_eq!(found.decision().marks, superblocks.decision().marks);
    assert_same_tables(&snapshot, &expected);
    // Opening for writing reads all pages, and allocates no block that the hidden page assigns to a file.
    let mut writer = open(&mut harmed);
    assert_eq!(writer.free_blocks(), expected.superblock.free_blocks.get());
    writer.mkdir(b"/new", false, 0o700, (0, 0)).unwrap();
    writer.close().unwrap();
    require_whole(&harmed).unwrap();
    assert_eq!(Snapshot::read(&harmed).unwrap().descriptors, expected.descriptors);
}

/// A commit whose pages are all in copy A, but whose generation no superblock has.
fn all_of_step_one() -> (Memory, Memory, Memory) {
    let (mut writer, recorder) = recorded(region());
    writer.mkdir(b"/first", false, 0o700, (0, 0)).unwrap();
    let before = recorder.image();
    recorder.take_log();
    writer.truncate(b"/c", 3 * BLOCK, false).unwrap();
    let log = recorder.take_log();
    let commit_point = log.iter().position(|event| matches!(event, Event::Write { offset: 0, .. })).unwrap();
    let mut image = before.clone();
    crashes::apply_durable(&mut image, &log[..commit_point]);
    (before, image, recorder.image())
}

#[test]
fn a_commit_without_its_superblock_never_was_unless_something_else_is_lost_too() {
    let (before, image, after) = all_of_step_one();
    let [old, new] = [&before, &after].map(|image| Snapshot::read(image).unwrap());
    // Step 1 comes first, although the newest pages would prove themselves.
    let (superblocks, found) = decided(&image, None);
    assert_eq!((superblocks.decision().outcome, &found), (Outcome::RolledBack, &old));
    let mut opened = image.clone();
    open(&mut opened).close().unwrap();
    assert_eq!(Snapshot::read(&opened).unwrap(), old);
    require_whole(&opened).unwrap();
    // If a superblock, or a page of copy B, is lost, the newer pages are evidence, and whole.
    let pages: Vec<u64> = used(&before).into_iter().map(|page| offset(&before, CopyId::B, page)).collect();
    let superblocks = [0, offset(&before, CopyId::B, PageNo(0))];
    for place in pages.into_iter().chain(superblocks) {
        let mut harmed = image.clone();
        wipe(&mut harmed, place);
        let (superblocks, found) = decided(&harmed, None);
        assert_eq!(superblocks.decision().outcome, Outcome::Whole, "{place:#x}");
        assert_same_tables(&found, &new);
    }
}

#[test]
fn two_births_of_one_uuid_are_two_regions() {
    let old = region();
    let mut image = old.clone();
    format(&mut image, &format_options(SIZE, 24, 7)).unwrap();
    let (first, second) = (Superblocks::load(&old).unwrap().identity(), Superblocks::load(&image).unwrap().identity());
    assert_eq!((first.uuid, first.geometry), (second.uuid, second.geometry));
    assert_ne!(first.birth, second.birth);
    // The remains of the older region are not at locations of the newer one.
    let mut writer = open(&mut image);
    writer.create(b"/x", &create_options(BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    require_whole(&image).unwrap();
    let expected = Snapshot::read(&image).unwrap();
    assert_eq!(expected.entries.len(), 2);
    // A page of the older region at a location of the newer one is reported, and does not count.
    for copy in CopyId::BOTH {
        let place = offset(&image, copy, PageNo(1));
        let mut harmed = image.clone();
        harmed.put(place, &old.page(place));
        let superblocks = Superblocks::load(&harmed).unwrap();
        let standing = judge_page(&harmed, &superblocks, PageNo(1)).of(copy);
        assert_eq!(standing, Standing::Damaged(SealFault::OtherBirth(first.birth)));
        assert_eq!(Snapshot::read(&harmed).unwrap(), expected);
        assert!(Writer::open(&mut harmed, writer_options()).is_err());
    }
    // One superblock of each region is left, so the user decides. The birth alone is enough.
    let mut mixed = image.clone();
    let behind = offset(&image, CopyId::B, PageNo(0));
    for page in 0..30 {
        mixed.put(behind + page * PAGE_BYTES, &old.page(behind + page * PAGE_BYTES));
    }
    assert_contended(&mixed, &[(first.birth, &old), (second.birth, &image)]);
}

/// A region that contends with another one is not written, and the user may choose either.
fn assert_contended(mixed: &Memory, regions: &[(u64, &Memory)]) {
    let superblocks = Superblocks::load_any(mixed, None).unwrap();
    assert_eq!(superblocks.rivals().len(), regions.len(), "{:?}", superblocks.rivals());
    let mut target = mixed.clone();
    let refused = Writer::open(&mut target, writer_options()).map(drop);
    let Err(OpenError::Contended { regions: told }) = refused else { panic!("{refused:?}") };
    assert!(target.same(mixed));
    for (birth, region) in regions {
        let identity = Superblocks::load(*region).unwrap().identity();
        assert!(told.contains(&identity.to_string()), "{told}");
        assert_eq!(identity.birth, *birth);
        let chosen: Chosen = identity.to_string().parse().unwrap();
        let (superblocks, found) = decided(mixed, Some(chosen));
        assert!(superblocks.rivals().is_empty() && superblocks.identity() == identity);
        assert!(superblocks.decision().is_whole());
        assert_eq!(found.entries, Snapshot::read(region).unwrap().entries);
    }
}

/// Another region, which is empty except for one directory.
fn other(size: u64, uuid: u128) -> Memory {
    let mut image = Memory::new(size);
    format(&mut image, &format_options(size, 24, uuid)).unwrap();
    let mut writer = open(&mut image);
    writer.mkdir(b"/other", false, 0o700, (0, 0)).unwrap();
    writer.close().unwrap();
    image
}

/// Puts the first block of one image in front of another image.
fn spliced(front: &Memory, behind: &Memory) -> Memory {
    let mut mixed = behind.clone();
    mixed.zero(Span::new(0, BLOCK)).unwrap();
    for page in 0..BLOCK / PAGE_BYTES {
        mixed.put(page * PAGE_BYTES, &front.page(page * PAGE_BYTES));
    }
    mixed
}

#[test]
fn two_regions_of_one_size_contend() {
    let (one, two) = (region(), other(SIZE, 8));
    let birth = crate::support::ops::BIRTH;
    for (front, behind) in [(&one, &two), (&two, &one)] {
        assert_contended(&spliced(front, behind), &[(birth, front), (birth, behind)]);
    }
    let mixed = spliced(&one, &two);
    // The UUID alone selects a region if that is unambiguous.
    let chosen: Chosen = uuid::Uuid::from_u128(8).to_string().parse().unwrap();
    assert_eq!(Superblocks::load_any(&mixed, Some(chosen)).unwrap().identity().uuid, chosen.uuid);
    let nobody = Chosen { uuid: uuid::Uuid::from_u128(99), birth: None };
    assert!(matches!(Superblocks::load_any(&mixed, Some(nobody)), Err(OpenError::NoRegion { .. })));
}

#[test]
fn two_regions_of_different_sizes_contend() {
    let (large, small) = (region(), other(SIZE / 2, 8));
    // Copy A of the small region replaces that of the large one.
    let mixed = spliced(&small, &large);
    let birth = crate::support::ops::BIRTH;
    assert_contended(&mixed, &[(birth, &small), (birth, &large)]);
}

/// A complete region at the start of a larger one: the remains of the larger one are not at its locations. A user who
/// wants the larger one must name it.
#[test]
fn the_remains_of_a_larger_region_behind_a_whole_one_are_opened_by_their_name() {
    let (mut large, small) = (region(), other(SIZE / 2, 8));
    // Copy B of the small region is in the large one's data.
    let behind = SIZE / 2 - BLOCK;
    for page in 0..BLOCK / PAGE_BYTES {
        large.put(behind + page * PAGE_BYTES, &small.page(behind + page * PAGE_BYTES));
    }
    let mixed = spliced(&small, &large);
    for (region, plain) in [(&small, true), (&large, false)] {
        let identity = Superblocks::load(region).unwrap().identity();
        let (superblocks, found) = decided(&mixed, Some(identity.to_string().parse().unwrap()));
        assert!(superblocks.identity() == identity && superblocks.decision().is_whole());
        assert_eq!(found.entries, Snapshot::read(region).unwrap().entries);
        let unasked = Superblocks::load_any(&mixed, None).unwrap();
        assert_eq!(unasked.identity() == identity, plain);
        assert!(unasked.rivals().is_empty());
    }
}

/// A page of another version is reported by its version, in superblocks and in tables.
#[test]
fn pages_of_another_version_are_named_by_it() {
    let as_version = |mut bytes: [u8; 4096], version: u16| {
        PageHeader::of_mut(&mut bytes).version = version.into();
        seal::renew_crc(&mut bytes);
        bytes
    };
    let image = region();
    for version in [1, 3] {
        let mut harmed = image.clone();
        let place = offset(&image, CopyId::A, PageNo(1));
        harmed.put(place, &as_version(image.page(place), version));
        let judged = judge_page(&harmed, &Superblocks::load(&harmed).unwrap(), PageNo(1));
        assert_eq!(judged.a, Standing::Damaged(SealFault::Version(version)));
        assert_eq!(Snapshot::read(&harmed), Snapshot::read(&image));

        let mut harmed = image.clone();
        let places = CopyId::BOTH.map(|copy| {
            let pages = std::iter::once(PageNo(0)).chain(used(&image));
            pages.map(|page| offset(&image, copy, page)).collect::<Vec<_>>()
        });
        for place in places.into_iter().flatten() {
            harmed.put(place, &as_version(image.page(place), version));
        }
        let kept = harmed.clone();
        let error = Writer::open(&mut harmed, writer_options()).map(drop).unwrap_err();
        assert!(error.to_string().contains(&format!("version {version}")), "{error}");
        let OpenError::NoRegion { a, .. } = error else { panic!("{error}") };
        let fault = SuperblockFault::Seal(SealFault::Version(version));
        assert!(matches!(*a, Slot::Bad(found, _) if found == fault), "{a}");
        assert!(harmed.same(&kept));
    }
}

/// A superblock with wrong sums beside an older one: recovery writes both, and they agree afterwards.
#[test]
fn recovery_leaves_two_superblocks_that_agree() {
    let mut image = region();
    edit_page(&mut image, PageNo(0), |bytes| bytes[64 + 336] ^= 0xFF);
    let superblocks = Superblocks::load(&image).unwrap();
    let mut bytes = image.page(0);
    let newer = Generation(superblocks.committed().0 + 1);
    seal::seal(&mut bytes, &superblocks.place(CopyId::A, PageNo(0)).unwrap(), newer);
    image.put(0, &bytes);
    let mut writer = open(&mut image);
    writer.mkdir(b"/new", false, 0o700, (0, 0)).unwrap();
    writer.close().unwrap();
    require_whole(&image).unwrap();
    open(&mut image).close().unwrap();
}
