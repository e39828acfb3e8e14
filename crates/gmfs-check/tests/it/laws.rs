//! Failures that happened once and must never happen again, one case each: memory of files that becomes free, reads as
//! zeros, or is taken from a copy that went back in time; and superblocks, names and marks that a repair loses.

use gmfs_check::fuzzing::region;
use gmfs_check::inject::{Target, inject};
use gmfs_check::{Code, Policy, Verdict, release_reserved};
use gmfs_format::model::Piece;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage, PageHeader, PageTrailer};
use gmfs_format::native::seal;
use gmfs_format::native::tables::{BlockState, INODE_LOST_DATA};
use gmfs_format::native::units::{BlockNo, CopyId, Generation, InodeNo, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo};
use gmfs_io::Span;
use gmfs_volume::restore::Restore;
use gmfs_volume::{CreateOptions, PutOptions, Region, Superblocks};

use crate::support::media::crashes::{self, Limits};
use crate::support::media::recorder::Recorder;
use crate::support::media::rng::Rng;
use crate::support::{
    BIRTH, BLOCK, CREATE, End, Memory, format_options, look, offset, open, put, repair, small, stamp,
};
use crate::support::{used_pages, wide};

const LIMITS: Limits = Limits { subsets: 64, tears: 4 };

/// Changes a page in both copies, with good seals.
fn edit(image: &mut Memory, page: PageNo, change: impl Fn(&mut PageBytes)) {
    let superblocks = Superblocks::load(&*image).unwrap();
    for copy in CopyId::BOTH {
        let at = superblocks.geometry().page_offset(copy, page);
        let mut bytes = image.page(at);
        change(&mut bytes);
        let generation = Generation(PageHeader::of(&bytes).generation.get());
        seal::seal(&mut bytes, &superblocks.place(copy, page).unwrap(), generation);
        image.put(at, &bytes);
    }
}

fn edit_inode(image: &mut Memory, ino: InodeNo, change: impl Fn(&mut InodeRaw)) {
    let (page, slot) = Superblocks::load(&*image).unwrap().geometry().inode_place(ino).unwrap();
    edit(image, page, |bytes| change(&mut InodeTablePage::view_mut(bytes).inodes[slot]));
}

fn edit_block(image: &mut Memory, block: BlockNo, change: impl Fn(&mut BlockRaw)) {
    let (page, slot) = Superblocks::load(&*image).unwrap().geometry().descriptor_place(block).unwrap();
    edit(image, page, |bytes| change(&mut BlockTablePage::view_mut(bytes).entries[slot]));
}

fn descriptor(image: &Memory, block: BlockNo) -> BlockRaw {
    Region::open(image).unwrap().descriptor(block).unwrap()
}

/// A file's number and its blocks, in file order.
fn file(image: &Memory, path: &[u8]) -> (InodeNo, Vec<BlockNo>) {
    let region = Region::open(image).unwrap();
    let ino = region.inodes().tree.resolve(path).unwrap().ino;
    let blocks = region
        .mapping(ino)
        .extents
        .iter()
        .flat_map(|extent| extent.block.0..extent.block.0 + extent.count)
        .map(BlockNo)
        .collect();
    (ino, blocks)
}

fn content(image: &Memory, path: &[u8]) -> Vec<Piece> {
    let region = Region::open(image).unwrap();
    let tree = region.inodes().tree;
    region.content(tree.resolve(path).unwrap()).unwrap()
}

/// How many blocks were in use and are free now.
fn freed(before: &End, after: &Memory) -> usize {
    let after = End::of(after).unwrap();
    before.used.keys().filter(|block| !after.used.contains_key(block)).count()
}

#[test]
fn a_repair_of_the_superblocks_header_keeps_a_superblock_at_every_store() {
    let mut image = small();
    inject(&mut image, Code::GM0013, Target { page: Some(PageNo(0)), ..Target::default() }).unwrap();
    let recorder = Recorder::new(image.clone());
    let (report, _) = repair(&mut recorder.clone(), Policy::Safe).unwrap();
    assert_eq!(report.verdict(), Verdict::Clean);
    let made = crashes::states(&image, &recorder.take_log(), LIMITS, &mut Rng::new(1), &mut |state, what, _| {
        assert!(Superblocks::load(state).is_ok(), "{}", what());
    });
    assert!(made.subsets > 3);
}

#[test]
fn a_place_whose_block_was_taken_away_is_lost_and_no_hole() {
    // The descriptor of the second of three file blocks gets the first one, or one past the file's size.
    for place in [0, 9] {
        let mut image = small();
        let (_, blocks) = file(&image, b"/dir/guest");
        edit_block(&mut image, blocks[1], |entry| entry.index = place.into());
        let (report, _) = repair(&mut image, Policy::Lossy).unwrap();
        assert_eq!(report.verdict(), Verdict::Clean);
        let pieces = content(&image, b"/dir/guest");
        assert!(pieces.contains(&Piece::Lost { file: Span::new(BLOCK, BLOCK) }), "{place}: {pieces:?}");
        assert_eq!(descriptor(&image, blocks[1]).state(), Some(BlockState::Reserved));
    }
}

#[test]
fn a_block_with_a_hardware_error_keeps_its_mark() {
    type Change = fn(&mut BlockRaw);
    let changes: [(&str, Change); 4] = [
        ("its owner is a directory", |entry| entry.owner = 2.into()),
        ("it lies behind the file's size", |entry| entry.index = 77.into()),
        ("its place is taken", |entry| entry.index = 0.into()),
        ("its owner is behind the table", |entry| entry.owner = 9999.into()),
    ];
    for (told, change) in changes {
        let mut image = small();
        let (_, blocks) = file(&image, b"/dir/guest");
        let mut writer = open(&mut image);
        writer.add_bad(std::slice::from_ref(&(blocks[1].0..blocks[1].0 + 1))).unwrap();
        writer.close().unwrap();
        edit_block(&mut image, blocks[1], change);
        repair(&mut image, Policy::Lossy).unwrap();
        release_reserved(&mut image, &stamp()).unwrap();
        assert_eq!(descriptor(&image, blocks[1]).state(), Some(BlockState::Bad), "{told}");
    }
}

#[test]
fn a_copy_that_went_back_in_time_proves_nothing_by_itself() {
    let [new, old, _] = wide();
    let geometry = Superblocks::load(&new).unwrap().geometry();
    let before = End::of(&new).unwrap();
    for stale in CopyId::BOTH {
        for page in [1, 2, 3] {
            let mut image = new.clone();
            for page in used_pages(&new) {
                let at = geometry.page_offset(stale, page);
                image.put(at, &old.page(at));
            }
            image.put(geometry.page_offset(stale.other(), PageNo(page)), &[0xEE; PAGE_SIZE]);
            let mut lossy = image.clone();
            // First the safe repairs, and then all of them.
            repair(&mut image, Policy::Safe).unwrap();
            assert!(look(&image).verdict() == Verdict::Damaged || freed(&before, &image) == 0, "{stale} {page}");
            let (report, _) = repair(&mut lossy, Policy::Lossy).unwrap();
            assert_eq!((report.verdict(), freed(&before, &lossy)), (Verdict::Clean, 0), "copy {stale}, page {page}");
        }
    }
}

#[test]
fn without_superblocks_and_with_a_page_lost_an_interrupted_commit_frees_nothing() {
    let healthy = small();
    let mut tried = 0;
    for change in 0..3 {
        let recorder = Recorder::new(healthy.clone());
        let mut writer = open(recorder.clone());
        match change {
            0 => writer.remove(b"/dir/guest", false).unwrap(),
            1 => put(&mut writer, "/dir/new", 9, 2),
            _ => writer.truncate(b"/dir/guest", BLOCK, false).unwrap(),
        }
        let committed = End::of(&recorder.image()).unwrap();
        crashes::states(&healthy, &recorder.take_log(), LIMITS, &mut Rng::new(change), &mut |state, what, _| {
            let before = End::of(state).unwrap();
            for lost in CopyId::BOTH {
                let mut image = state.clone();
                for copy in CopyId::BOTH {
                    image.put(offset(&healthy, copy, PageNo(0)), &[0; PAGE_SIZE]);
                }
                image.put(offset(&healthy, lost, PageNo(1)), &[0xEE; PAGE_SIZE]);
                repair(&mut image, Policy::Lossy).unwrap();
                // A commit with all of its pages may have happened. In that case it happened as a whole.
                let happened = || End::of(&image).unwrap().used == committed.used;
                assert!(freed(&before, &image) == 0 || happened(), "change {change}, copy {lost}: {}", what());
                tried += 1;
            }
        });
    }
    assert!(tried > 100);
}

#[test]
fn a_free_descriptor_that_names_a_file_does_not_count_for_it() {
    let mut image = small();
    let mut writer = open(&mut image);
    writer.truncate(b"/dir/guest", 6 * BLOCK, true).unwrap();
    writer.close().unwrap();
    let (ino, _) = file(&image, b"/dir/guest");
    let healthy = content(&image, b"/dir/guest");
    assert!(healthy.iter().any(|piece| matches!(piece, Piece::Hole { .. })));
    let free = (1..9).map(BlockNo).find(|block| descriptor(&image, *block) == BlockRaw::FREE).unwrap();
    edit_block(&mut image, free, |entry| entry.owner = ino.0.into());
    for policy in [Policy::Safe, Policy::Lossy] {
        repair(&mut image, policy).unwrap();
        assert_eq!(content(&image, b"/dir/guest"), healthy, "{policy:?}");
    }
    assert_eq!(look(&image).verdict(), Verdict::Clean);
}

#[test]
fn the_marks_of_both_tables_come_back() {
    let mut image = small();
    let before = End::of(&image).unwrap();
    for page in [Superblocks::load(&image).unwrap().geometry().first_inode_page(), PageNo(1)] {
        inject(&mut image, Code::GM0113, Target { page: Some(page), ..Target::default() }).unwrap();
    }
    let (report, _) = repair(&mut image, Policy::Lossy).unwrap();
    assert_eq!((report.verdict(), End::of(&image).unwrap().used == before.used), (Verdict::Clean, true));
}

#[test]
fn a_directory_in_which_something_lies_keeps_its_name() {
    let ino = Region::open(&small()).unwrap().inodes().tree.resolve(b"/dir").unwrap().ino;
    let before = End::of(&small()).unwrap();
    for kind in [0, 7] {
        let mut image = small();
        edit_inode(&mut image, ino, |inode| inode.kind = kind.into());
        let mut safe = image.clone();
        repair(&mut safe, Policy::Safe).unwrap();
        let superblocks = Superblocks::load(&safe).unwrap();
        assert_eq!(gmfs_volume::region::read_inode(&safe, &superblocks, ino).unwrap().name(), b"dir", "kind {kind}");
        repair(&mut image, Policy::Lossy).unwrap();
        assert_eq!(End::of(&image).unwrap().files, before.files, "kind {kind}");
    }
}

#[test]
fn what_is_written_anew_is_whole_again() {
    let mut image = small();
    let (ino, _) = file(&image, b"/dir/guest");
    edit_inode(&mut image, ino, |inode| inode.flags = INODE_LOST_DATA.into());
    let zeros = vec![0; 4 << 20];
    let create = CreateOptions { size: 2 * BLOCK, sparse: true, ..CREATE };
    let mut writer = open(&mut image);
    writer.put(b"/dir/guest", &mut &zeros[..], &PutOptions { create, replace: true }).unwrap();
    writer.close().unwrap();
    assert_eq!(content(&image, b"/dir/guest"), [Piece::Hole { file: Span::new(0, 2 * BLOCK) }]);
}

#[test]
fn an_older_page_before_one_that_proves_itself_behind_the_mark_is_kept() {
    for flipped in [false, true] {
        let size = 1536 << 20;
        let mut image = Memory::new(size);
        gmfs_volume::format(&mut image, &format_options(size, 61, 0xf00d)).unwrap();
        // A session for each file, as on the command line, or one for all.
        for session in [&[0][..], &[1], &[2]]
            .iter()
            .take(if flipped { 0 } else { 3 })
            .chain([&[0, 1, 2][..]].iter().skip(usize::from(!flipped)))
        {
            let mut writer = open(&mut image);
            for n in *session {
                writer.create(format!("/guest{n}").as_bytes(), &CreateOptions { size: 250 * BLOCK, ..CREATE }).unwrap();
            }
            writer.close().unwrap();
        }
        let before = End::of(&image).unwrap();
        inject(&mut image, Code::GM0113, Target { page: Some(PageNo(2)), ..Target::default() }).unwrap();
        if flipped {
            let at = offset(&image, CopyId::A, PageNo(2));
            let mut bytes = image.page(at);
            bytes[2000] ^= 1;
            image.put(at, &bytes);
        }
        assert_eq!(look(&image).verdict(), Verdict::Damaged);
        let (report, _) = repair(&mut image, Policy::Lossy).unwrap();
        assert_eq!((report.verdict(), freed(&before, &image)), (Verdict::Clean, 0), "flipped: {flipped}");
    }
}

#[test]
fn a_page_that_a_dump_lacks_is_no_damage_of_a_commit_under_way() {
    let mut image = region();
    let geometry = Superblocks::load(&image).unwrap().geometry();
    inject(&mut image, Code::GM0021, Target::default()).unwrap();
    let report = gmfs_check::fuzzing::look(&image).unwrap();
    assert_eq!(report.verdict(), Verdict::Recovery);
    image.lose(Span::new(geometry.page_offset(CopyId::A, PageNo(2)), PAGE_BYTES));
    let report = gmfs_check::fuzzing::look(&image).unwrap();
    assert_eq!(report.verdict(), Verdict::Unknown, "{:?}", report.findings);
}

#[test]
fn a_restore_that_is_stopped_over_crosswise_damage_leaves_one_history() {
    let [new, _, old] = wide();
    let geometry = Superblocks::load(&new).unwrap().geometry();
    let inodes = geometry.first_inode_page().0;
    let mut image = new.clone();
    for (copy, page) in [(CopyId::A, 2), (CopyId::A, 3), (CopyId::B, 1), (CopyId::B, inodes + 1)] {
        image.put(geometry.page_offset(copy, PageNo(page)), &[0xEE; PAGE_SIZE]);
    }
    let superblocks = Superblocks::load(&old).unwrap();
    let recorder = Recorder::new(image.clone());
    Restore::new(&old, &superblocks, BIRTH + 1).put_back(&mut recorder.clone()).unwrap();
    let (there, back) = (End::of(&new).unwrap(), End::of(&old).unwrap());
    let limits = Limits { subsets: 16, tears: 2 };
    crashes::states(&image, &recorder.take_log(), limits, &mut Rng::new(1), &mut |state, what, _| {
        let mut image = state.clone();
        repair(&mut image, Policy::Lossy).unwrap();
        let end = End::of(&image).unwrap();
        assert!(end.files == there.files || end.files == back.files, "{}", what());
    });
}

/// A page with a good seal may have marks past the ends of the tables. A check must end nevertheless, and a repair must
/// write superblocks that can be read.
#[test]
fn marks_past_the_ends_of_the_tables_are_no_marks() {
    for (table, inodes) in [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX), (0x0101_0101, 3)] {
        let mut image = small();
        let before = End::of(&image).unwrap();
        edit(&mut image, PageNo(1), |bytes| {
            let trailer = PageTrailer::of_mut(bytes);
            (trailer.table_used, trailer.inodes_used) = (table.into(), inodes.into());
        });
        for policy in [Policy::Safe, Policy::Lossy] {
            repair(&mut image, policy).unwrap();
            assert!(Superblocks::load(&image).is_ok() && freed(&before, &image) == 0, "{table:#x} {inodes:#x}");
        }
        assert_eq!(look(&image).verdict(), Verdict::Clean);
    }
}
