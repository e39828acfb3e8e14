//! Makes every problem of the catalogue. It must be found, with its companions and nothing else.

use gmfs_format::model::Kind;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use gmfs_check::inject::{InjectError, Injected, Target, companions, inject};
use gmfs_check::problem::{Coupling, Stage};
use gmfs_check::{Code, Edit, Options, Policy, Repair, Report, Verdict, apply, check, plan};
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::{BlockNo, CopyId, Generation, PAGE_BYTES, PageNo, PmdShift};
use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt};
use gmfs_volume::{Class, CreateOptions, FormatOptions, PutOptions, Stamp, Superblocks};

use crate::support::{CREATE, NOW, codes, format_options, open};

/// A region with files, a directory, free blocks, and an inode table that ends within a used page.
fn region() -> Vec<u8> {
    let mut image = vec![0; 20 << 20];
    gmfs_volume::format(&mut image, &format_options(20 << 20, 13, 0xfeed)).unwrap();
    let mut writer = open(&mut image);
    let create = CreateOptions { sparse: true, ..CREATE };
    writer.mkdir(b"/dir", false, 0o755, (0, 0)).unwrap();
    writer.create(b"/empty", &create).unwrap();
    let put = PutOptions { create: CreateOptions { size: 5 << 20, sparse: false, ..create }, replace: false };
    let content = vec![0x5A; 5 << 20];
    writer.put(b"/dir/guest", &mut content.as_slice(), &put).unwrap();
    for n in 0..6 {
        writer.create(format!("/f{n}").as_bytes(), &create).unwrap();
    }
    writer.close().unwrap();
    image
}

/// A check that reads the content of files as well.
fn look<S: ReadAt>(image: &S) -> Report {
    let mut options = Options::new(NOW);
    options.data = true;
    check(image, &options, &|_, _| {}).unwrap()
}

#[test]
fn a_healthy_region_is_clean() {
    let report = look(&region());
    assert_eq!(report.verdict(), Verdict::Clean, "{:?}", report.findings);
    assert!(report.findings.is_empty() && report.unchecked.is_empty());
}

#[test]
fn every_code_is_found_when_it_is_made() {
    let healthy = region();
    for code in native() {
        let mut image = healthy.clone();
        match inject(&mut image, code, Target::default()) {
            Ok(Injected::Done) => {}
            Ok(Injected::CutTo(size)) => image.truncate(usize::try_from(size).unwrap()),
            Err(InjectError::Medium(_)) => continue,
            Err(error) => panic!("{code} cannot be made: {error}"),
        }
        let report = look(&image);
        let found = codes(&report);
        assert!(found.contains(&code), "{code} is not found: {:?}", report.findings);
        let allowed: BTreeSet<_> = companions(code).iter().copied().chain([code]).collect();
        assert!(found.is_subset(&allowed), "{code} drags along {:?}", report.findings);
        assert!(report.findings.len() <= 3, "{code}: {:?}", report.findings);
        assert_eq!(look(&image).findings, report.findings, "{code}: a second look sees something else");
    }
}

/// Repairs in rounds, as the program does, and returns what was refused last.
fn repair(image: &mut Vec<u8>, policy: Policy) -> Vec<Code> {
    let stamp = Stamp { now: NOW, writer: "test".into() };
    for _ in 0..10 {
        let report = look(image);
        let plan = plan(image, &report, policy).unwrap();
        if plan.is_empty() {
            return plan.refused.iter().map(|refused| refused.code).collect();
        }
        apply(
            image,
            &report.state.unwrap(),
            &plan.edits,
            if policy == Policy::Safe { Class::Safe } else { Class::Lossy },
            &stamp,
        )
        .unwrap();
    }
    panic!("a repair does not end: {:?}", look(image).findings);
}

/// Every block with content must still exist, and every file must read as before.
fn contents(image: &Vec<u8>) -> Vec<(Vec<u8>, u64, u32)> {
    let region = gmfs_volume::Region::with(image, gmfs_volume::rebuild::load_or_rebuild(image).unwrap());
    let tree = region.inodes().tree;
    let files = tree.inodes().filter(|inode| inode.kind == Kind::File);
    let mut found: Vec<_> = files
        .filter_map(|inode| {
            let mut sum = crc32fast::Hasher::new();
            for extent in region.mapping(inode.ino).extents {
                let at = region.geometry().block_offset(extent.block) as usize;
                let len = extent.count as usize * region.geometry().block_bytes() as usize;
                sum.update(&image[at..at + len]);
            }
            Some((tree.path(inode.ino)?, inode.blocks, sum.finalize()))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_code_is_repaired_or_refused_and_the_second_run_is_clean() {
    let healthy = region();
    let before = contents(&healthy);
    let guest = before.iter().find(|file| file.0 == b"/dir/guest").unwrap().clone();
    for code in native() {
        let mut image = healthy.clone();
        match inject(&mut image, code, Target::default()) {
            Ok(Injected::Done) => {}
            Ok(Injected::CutTo(size)) => image.truncate(usize::try_from(size).unwrap()),
            Err(_) => continue,
        }
        let class = code.repair();
        let mut safe = image.clone();
        let refused = repair(&mut safe, Policy::Safe);
        if class == Repair::Lossy {
            assert!(refused.contains(&code), "{code}: a safe repair gave something up");
        }
        let refused = repair(&mut image, Policy::Lossy);
        let left = codes(&look(&image));
        match class {
            Repair::Safe | Repair::Lossy => {
                assert!(refused.is_empty(), "{code}: {refused:?}");
                assert_eq!(look(&image).verdict(), Verdict::Clean, "{code}: {:?}", look(&image).findings);
                // Settling a doubt leaves a finding for each file that it concerns.
                let settled = code <= Code::GM0012 || matches!(code, Code::GM0402 | Code::GM0406);
                let notes = if settled { &[Code::GM0213][..] } else { &[] };
                assert!(left.iter().all(|code| notes.contains(code)), "{code}: {left:?}");
            }
            Repair::Manual => assert!(refused.contains(&code), "{code}"),
            Repair::None => assert!(left.contains(&code), "{code}"),
        }
        if code <= Code::GM0009 || code == Code::GM0101 {
            assert!(image == healthy, "{code}: the region is not bit for bit what it was");
        }
        if !matches!(code, Code::GM0102 | Code::GM0105) {
            let after = contents(&image);
            let same = after.iter().any(|file| (file.1, file.2) == (guest.1, guest.2));
            // The repair of these takes a block from the file in which they are made. The block must become reserved.
            let takes = matches!(code, Code::GM0404 | Code::GM0405);
            assert!(same || takes, "{code}: guest memory changed: {after:?}");
            assert_no_content_is_free(&image, code);
        }
    }
}

/// What is planned for a problem is what its row of the catalogue says: by what means, and which edits go together.
#[test]
fn every_code_is_planned_in_its_stage() {
    let healthy = region();
    for code in native() {
        let mut image = healthy.clone();
        if !matches!(inject(&mut image, code, Target::default()), Ok(Injected::Done)) {
            continue;
        }
        let planned = plan(&image, &look(&image), Policy::Lossy).unwrap();
        let edits: Vec<&Edit> =
            planned.edits.iter().filter(|edit| edit.because.contains(&code)).map(|edit| &edit.edit).collect();
        let fits = |edit: &&Edit| match code.stage() {
            Stage::Pages => matches!(edit, Edit::Mend { .. } | Edit::Superblocks | Edit::Settle { .. }),
            Stage::Contradictions => matches!(edit, Edit::Settle { distrust: true }),
            Stage::Recovery => matches!(edit, Edit::Recover),
            Stage::Rewrite => matches!(edit, Edit::Rewrite { .. }),
            Stage::Records => matches!(edit, Edit::Inode { .. } | Edit::Blocks { .. } | Edit::Superblock { .. }),
            _ => false,
        };
        assert!(edits.iter().all(fits), "{code}, {:?}: {edits:?}", code.stage());
        let blocks = edits.iter().any(|edit| matches!(edit, Edit::Blocks { .. }));
        let inode = edits.iter().any(|edit| matches!(edit, Edit::Inode { .. }));
        let coupled = code.coupling() == Some(Coupling::BlocksWithInode);
        assert_eq!(blocks && inode, coupled, "{code}: {edits:?}");
    }
}

/// A block that holds anything but zeros is not free.
fn assert_no_content_is_free(image: &Vec<u8>, code: Code) {
    let region = gmfs_volume::Region::with(image, gmfs_volume::rebuild::load_or_rebuild(image).unwrap());
    let geometry = region.geometry();
    for block in geometry.first_data().0..geometry.end_data().0 {
        let block = BlockNo(block);
        let at = geometry.block_offset(block) as usize;
        let used = image[at..at + geometry.block_bytes() as usize].iter().any(|byte| *byte != 0);
        let free = region.descriptor(block).unwrap().state() == Some(gmfs_format::native::tables::BlockState::Free);
        assert!(!(used && free), "{code}: block {block} holds guest memory and is free");
    }
}

/// A reserved block names no owner. The plan says who the owner was.
#[test]
fn a_plan_that_takes_a_blocks_owner_away_says_who_it_was() {
    for (code, said) in [
        (Code::GM0403, "(block 4 was file block 0 of inode 1)"),
        (Code::GM0404, "(block 1 was file block 4294967295 of inode 4)"),
        (Code::GM0405, "(block 2 was file block 0 of inode 4)"),
        (Code::GM0408, "a place in a file; their"),
    ] {
        let mut image = region();
        inject(&mut image, code, Target::default()).unwrap();
        let planned = plan(&image, &look(&image), Policy::Lossy).unwrap();
        let losses: Vec<String> = planned.edits.iter().filter_map(|edit| edit.losses()).collect();
        assert!(losses.iter().any(|loss| loss.contains(said)), "{code}: {losses:?}");
    }
}

/// The problems of native regions.
fn native() -> impl Iterator<Item = Code> {
    Code::ALL.iter().copied().filter(|code| code.is_native())
}

/// Only problems that an unreadable medium causes cannot be made with bytes.
#[test]
fn what_cannot_be_made_is_named() {
    let healthy = region();
    let medium = native()
        .filter(|code| matches!(inject(&mut healthy.clone(), *code, Target::default()), Err(InjectError::Medium(_))));
    assert_eq!(medium.collect::<Vec<_>>(), [Code::GM0009, Code::GM0603]);
}

/// An image in which reading a range fails, or in which the range is absent.
struct Holed {
    image: Vec<u8>,
    hole: Span,
    absent: Option<Absence>,
}

impl ReadAt for Holed {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset + buf.len() as u64;
        if offset < self.hole.end() && end > self.hole.offset {
            return Err(match self.absent {
                Some(why) => ReadError::Absent { span: self.hole, why },
                None => ReadError::Io { span: self.hole, source: std::io::Error::other("poison") },
            });
        }
        self.image.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.image.end()
    }
}

fn page_span(copy: CopyId, page: PageNo) -> Span {
    let geometry = Geometry::plan(20 << 20, PmdShift::M2, 13).unwrap();
    Span::new(geometry.page_offset(copy, page), PAGE_BYTES)
}

#[test]
fn a_medium_that_fails_is_named_by_page_and_by_block() {
    for copy in CopyId::BOTH {
        for page in [PageNo(0), PageNo(1), PageNo(2)] {
            let holed = Holed { image: region(), hole: page_span(copy, page), absent: None };
            let report = look(&holed);
            assert_eq!(codes(&report), [Code::GM0009].into(), "copy {copy} page {page}: {:?}", report.findings);
        }
    }
    let mut image = region();
    inject(&mut image, Code::GM0601, Target::default()).unwrap();
    let hole = look(&image).findings[0].at;
    let report = look(&Holed { image, hole, absent: None });
    assert_eq!(codes(&report), [Code::GM0603].into());
}

#[test]
fn absent_pages_are_neither_damage_nor_clean() {
    let only_b = Holed { image: region(), hole: page_span(CopyId::A, PageNo(2)), absent: Some(Absence::Excluded) };
    let report = look(&only_b);
    assert_eq!(report.verdict(), Verdict::Clean, "copy B is whole: {:?}", report.findings);
    assert_eq!(report.unchecked.len(), 1);

    let mut image = region();
    inject(&mut image, Code::GM0001, Target { page: Some(PageNo(1)), copy: Some(CopyId::B), ..Target::default() })
        .unwrap();
    let neither = Holed { image, hole: page_span(CopyId::A, PageNo(1)), absent: Some(Absence::Excluded) };
    let report = look(&neither);
    assert_eq!(codes(&report), [Code::GM0010].into());

    // Each page is present in one copy, but neither copy is complete.
    let start = page_span(CopyId::A, PageNo(2)).offset;
    let middle = Span::new(start, page_span(CopyId::B, PageNo(1)).end() - start);
    let report = look(&Holed { image: region(), hole: middle, absent: Some(Absence::NotInDump) });
    assert_eq!(report.verdict(), Verdict::Unknown, "{:?}", report.findings);

    let start = page_span(CopyId::A, PageNo(1)).offset;
    let all = Span::new(start, page_span(CopyId::B, PageNo(1)).end() - start);
    let report = look(&Holed { image: region(), hole: all, absent: Some(Absence::NotInDump) });
    // Copy B's superblock is in the hole too.
    assert_eq!(report.verdict(), Verdict::Unknown, "{:?}", report.findings);
    assert!(report.findings.is_empty());
}

/// The problem may be impossible at the target that was asked for.
#[test]
fn the_first_block_of_a_file_has_none_before_it() {
    let healthy = region();
    for block in [1, 8] {
        let mut image = healthy.clone();
        let target = Target { block: Some(BlockNo(block)), ..Target::default() };
        let refused = inject(&mut image, Code::GM0405, target);
        assert!(matches!(refused, Err(InjectError::NoTarget { .. })), "block {block}: {refused:?}");
        assert!(image == healthy, "block {block}");
    }
}

/// Numbers of a region may have their maximum value.
#[test]
fn what_is_at_its_end_is_no_reason_to_stop() {
    let with = |change: fn(&mut Superblock)| {
        let mut image = region();
        let mut superblock = Superblocks::load(&image).unwrap().current().clone();
        change(&mut superblock);
        for copy in CopyId::BOTH {
            image.write_at(superblock.geometry().copy_offset(copy), &superblock.page(copy)).unwrap();
        }
        image
    };
    let mut counts = with(|superblock| superblock.raw.free_blocks = u64::MAX.into());
    assert_eq!(codes(&look(&counts)), [Code::GM0501].into());
    inject(&mut counts, Code::GM0501, Target::default()).unwrap();
    assert_eq!(codes(&look(&counts)), [Code::GM0501].into());
    for code in [Code::GM0020, Code::GM0021] {
        let mut last = with(|superblock| superblock.generation = Generation(u64::MAX));
        look(&last);
        let refused = inject(&mut last, code, Target::default());
        assert!(matches!(refused, Err(InjectError::NoTarget { .. })), "{code}: {refused:?}");
    }
}

/// The findings do not depend on the number of threads.
#[test]
fn threads_see_the_same() {
    let options = FormatOptions { label: String::new(), ..format_options(1 << 40, 64, 1) };
    let geometry = options.geometry;
    assert!(geometry.table_pages() > 1024);
    let mut image = gmfs_check_tests_sparse::Sparse::new(1 << 40);
    gmfs_volume::format(&mut image, &options).unwrap();
    let mut writer = open(&mut image);
    let size = u64::from(geometry.data_blocks()) * geometry.block_bytes();
    let create = CreateOptions { size, ..CREATE };
    writer.create(b"/all", &create).unwrap();
    writer.close().unwrap();
    for block in [5_000, 300_000] {
        let target = Target { block: Some(BlockNo(block)), ..Target::default() };
        inject(&mut image, Code::GM0405, target).unwrap();
    }
    let at = |threads| {
        let mut options = Options::new(NOW);
        options.threads = NonZeroUsize::new(threads).unwrap();
        check(&image, &options, &|_, _| {}).unwrap().findings
    };
    let one = at(1);
    assert_eq!(one.len(), 2, "{one:?}");
    assert_eq!(one, at(2));
    assert_eq!(one, at(3));
}

/// A large image that needs memory only for pages that were written.
mod gmfs_check_tests_sparse {
    use std::collections::BTreeMap;

    use gmfs_io::{ReadAt, ReadError, Span, WriteAt, WriteError};

    pub(crate) struct Sparse {
        pages: BTreeMap<u64, Box<[u8; 4096]>>,
        size: u64,
    }

    impl Sparse {
        pub(crate) fn new(size: u64) -> Self {
            Self { pages: BTreeMap::new(), size }
        }
    }

    impl ReadAt for Sparse {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            for (n, byte) in buf.chunks_mut(64).enumerate() {
                let at = offset + n as u64 * 64;
                match self.pages.get(&(at / 4096)) {
                    Some(page) => byte.copy_from_slice(&page[(at % 4096) as usize..][..byte.len()]),
                    None => byte.fill(0),
                }
            }
            Ok(())
        }

        fn end(&self) -> Option<u64> {
            Some(self.size)
        }
    }

    impl WriteAt for Sparse {
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
            assert_eq!(offset % 4096, 0);
            for (n, page) in bytes.chunks(4096).enumerate() {
                let place = self.pages.entry(offset / 4096 + n as u64).or_insert_with(|| Box::new([0; 4096]));
                place[..page.len()].copy_from_slice(page);
            }
            Ok(())
        }

        fn zero(&mut self, span: Span) -> Result<(), WriteError> {
            assert_eq!((span.offset % 4096, span.len % 4096), (0, 0));
            let end = span.end() / 4096;
            let inside: Vec<u64> = self.pages.range(span.offset / 4096..end).map(|(page, _)| *page).collect();
            for page in inside {
                self.pages.remove(&page);
            }
            Ok(())
        }

        fn barrier(&mut self) -> Result<(), WriteError> {
            Ok(())
        }
    }
}
