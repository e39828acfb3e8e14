//! Damage that a safe repair must undo bit for bit: any page of one copy, different pages of both, a whole copy, any 2
//! MiB; zeroed, flipped, torn, overwritten, older, foreign, or absent from the image.

use std::collections::BTreeSet;

use gmfs_check::{Code, Policy, Report, Verdict};
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo};
use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt};
use gmfs_volume::{Chosen, Superblocks};
use uuid::Uuid;

use crate::support;
use crate::support::media::rng::Rng;
use crate::support::{BLOCK, Memory, format_options, look, open, put, repair, repair_region, used_pages, wide};

/// The healthy region, its older states, and another region of the same layout.
struct Regions {
    healthy: Memory,
    older: [Memory; 2],
    other: Memory,
}

impl Regions {
    fn make() -> Self {
        let [healthy, second, first] = wide();
        let size = healthy.end().unwrap();
        let mut other = Memory::new(size);
        gmfs_volume::format(&mut other, &format_options(size, 61, 0xbad)).unwrap();
        let mut writer = open(&mut other);
        for n in 0..20 {
            put(&mut writer, &format!("/other{n}"), n, 1);
        }
        let large = gmfs_volume::CreateOptions { size: 600 * BLOCK, ..support::CREATE };
        writer.create(b"/large", &large).unwrap();
        writer.close().unwrap();
        Self { healthy, older: [second, first], other }
    }
}

/// A kind of damage to a page.
type Harm = fn(&Regions, CopyId, PageNo, &mut Rng) -> PageBytes;

fn page_of(image: &Memory, copy: CopyId, page: PageNo) -> PageBytes {
    image.page(support::offset(image, copy, page))
}

fn random(rng: &mut Rng) -> PageBytes {
    let mut bytes = [0; PAGE_SIZE];
    bytes.chunks_mut(8).for_each(|word| word.copy_from_slice(&rng.next().to_le_bytes()));
    bytes
}

/// The kind of damage that can turn a whole copy into that of another region.
const FOREIGN: &str = "the page of another region";

/// Every kind of damage, with its name.
const HARMS: [(&str, Harm); 12] = [
    ("zeroed, or absent and copied as a hole", |_, _, _, _| [0; PAGE_SIZE]),
    ("one bit flipped", |regions, copy, page, rng| {
        let mut bytes = page_of(&regions.healthy, copy, page);
        bytes[rng.below(4096) as usize] ^= 1 << rng.below(8);
        bytes
    }),
    ("torn with random bytes", |regions, copy, page, rng| {
        let mut bytes = page_of(&regions.healthy, copy, page);
        let cut = 64 * (1 + rng.below(63)) as usize;
        bytes[cut..].copy_from_slice(&random(rng)[cut..]);
        bytes
    }),
    ("torn with zeros", |regions, copy, page, rng| {
        let mut bytes = page_of(&regions.healthy, copy, page);
        // The header alone is not enough: if the rest of the page is zero anyway, the page would not be torn.
        bytes[..64 * (1 + rng.below(3)) as usize].fill(0);
        bytes
    }),
    ("torn with an older version", |regions, copy, page, _| {
        let mut bytes = page_of(&regions.healthy, copy, page);
        bytes[..64].copy_from_slice(&page_of(&regions.older[0], copy, page)[..64]);
        bytes
    }),
    ("another page of the region", |regions, copy, page, rng| {
        let pages: Vec<PageNo> = used_pages(&regions.healthy).into_iter().filter(|other| *other != page).collect();
        page_of(&regions.healthy, copy, rng.pick(&pages))
    }),
    ("the other copy's page", |regions, copy, page, _| page_of(&regions.healthy, copy.other(), page)),
    (FOREIGN, |regions, copy, page, _| page_of(&regions.other, copy, page)),
    ("another page of another region", |regions, copy, page, _| {
        page_of(&regions.other, copy.other(), PageNo(page.0 ^ 1))
    }),
    ("its last version but one", |regions, copy, page, _| page_of(&regions.older[0], copy, page)),
    ("its oldest version", |regions, copy, page, _| page_of(&regions.older[1], copy, page)),
    ("random bytes", |_, _, _, rng| random(rng)),
];

/// Damages pages, makes the safe repairs, and compares every bit. If pages of two regions then contend, nothing is
/// written before the user has chosen one of them.
fn brings_back(regions: &Regions, parts: &[(CopyId, Vec<PageNo>)], harm: Harm, rng: &mut Rng, told: &str) {
    let geometry = Superblocks::load(&regions.healthy).unwrap().geometry();
    let mut image = regions.healthy.clone();
    for (copy, pages) in parts {
        for page in pages {
            image.put(geometry.page_offset(*copy, *page), &harm(regions, *copy, *page, rng));
        }
    }
    let harmed = !image.same(&regions.healthy);
    if harmed {
        assert_ne!(look(&image).verdict(), Verdict::Clean, "{told}: damage is called clean");
    }
    let contended = told.contains(FOREIGN) && parts.iter().any(|(_, pages)| pages.len() > 1);
    let (report, refused) = repair_or_choose(&mut image, contended, told);
    assert!(refused.is_empty(), "{told}: {refused:?}");
    assert_eq!(report.verdict(), Verdict::Clean, "{told}: {:?}", report.findings);
    assert!(image.same(&regions.healthy), "{told}: not bit for bit");
}

/// Makes the safe repairs. If pages of two regions may contend, and do, nothing may be written before the user has
/// chosen one of them.
fn repair_or_choose(image: &mut Memory, contended: bool, told: &str) -> (Report, BTreeSet<Code>) {
    let before = image.clone();
    let (report, refused) = repair(image, Policy::Safe).unwrap_or_else(|error| panic!("{told}: {error}"));
    if !(contended && refused.contains(&Code::GM0114)) {
        return (report, refused);
    }
    assert!(image.same(&before), "{told}: something was written");
    let region = Chosen { uuid: Uuid::from_u128(0xf00d), birth: None };
    repair_region(image, Policy::Safe, Some(region)).unwrap_or_else(|error| panic!("{told}: {error}"))
}

#[test]
fn any_page_of_one_copy() {
    let regions = Regions::make();
    let mut rng = Rng::new(7);
    for page in used_pages(&regions.healthy) {
        for copy in CopyId::BOTH {
            for (how, harm) in HARMS {
                brings_back(&regions, &[(copy, vec![page])], harm, &mut rng, &format!("page {page} of {copy} {how}"));
            }
        }
    }
}

#[test]
fn all_of_one_copy() {
    let regions = Regions::make();
    let mut rng = Rng::new(8);
    let pages = used_pages(&regions.healthy);
    for copy in CopyId::BOTH {
        for (how, harm) in HARMS {
            if how != FOREIGN {
                brings_back(&regions, &[(copy, pages.clone())], harm, &mut rng, &format!("all of {copy} {how}"));
            }
            // Any part of a copy, with or without its superblock.
            for _ in 0..8 {
                let some = pages.iter().copied().filter(|_| rng.one_in(2)).collect();
                brings_back(&regions, &[(copy, some)], harm, &mut rng, &format!("a part of {copy} {how}"));
            }
        }
    }
}

/// If one copy is completely that of another region, it is unknown which region is meant, so nothing is written until
/// the user has chosen.
#[test]
fn all_of_one_copy_from_another_region_is_left_to_the_user() {
    let regions = Regions::make();
    let superblocks = Superblocks::load(&regions.healthy).unwrap();
    for copy in CopyId::BOTH {
        let mut image = regions.healthy.clone();
        for page in used_pages(&regions.healthy) {
            image.put(superblocks.geometry().page_offset(copy, page), &page_of(&regions.other, copy, page));
        }
        for policy in [Policy::Safe, Policy::Lossy] {
            let mut untouched = image.clone();
            let (report, refused) = repair(&mut untouched, policy).unwrap();
            assert_eq!(support::codes(&report), [Code::GM0114].into());
            assert!(refused.contains(&Code::GM0114) && untouched.same(&image));
        }
        let region = Chosen { uuid: superblocks.current().uuid, birth: None };
        let (report, _) = repair_region(&mut image, Policy::Safe, Some(region)).unwrap();
        assert_eq!(report.verdict(), Verdict::Clean, "{copy}: {:?}", report.findings);
        assert!(image.same(&regions.healthy), "{copy}: not bit for bit");
    }
}

#[test]
fn different_pages_of_both_copies() {
    let regions = Regions::make();
    let mut rng = Rng::new(9);
    let pages = used_pages(&regions.healthy);
    for (in_a, harm_a) in HARMS {
        for (in_b, harm_b) in HARMS {
            let (a, b): (Vec<PageNo>, Vec<PageNo>) = pages.iter().partition(|_| rng.one_in(2));
            // Each copy has another kind of damage, and both are damaged before the repair.
            let geometry = Superblocks::load(&regions.healthy).unwrap().geometry();
            let mut image = regions.healthy.clone();
            for (copy, pages, harm) in [(CopyId::A, &a, harm_a), (CopyId::B, &b, harm_b)] {
                for page in pages {
                    image.put(geometry.page_offset(copy, *page), &harm(&regions, copy, *page, &mut rng));
                }
            }
            let told = format!("A's {a:?} {in_a}, B's {b:?} {in_b}");
            let (report, _) = repair_or_choose(&mut image, [in_a, in_b].contains(&FOREIGN), &told);
            assert_eq!(report.verdict(), Verdict::Clean, "{told}: {:?}", report.findings);
            assert!(image.same(&regions.healthy), "{told}: not bit for bit");
        }
    }
}

/// Any 2 MiB of the region that contain metadata, including those that start within a copy's block.
#[test]
fn any_two_mebibytes() {
    let regions = Regions::make();
    let geometry = Superblocks::load(&regions.healthy).unwrap().geometry();
    let mut rng = Rng::new(10);
    for copy in CopyId::BOTH {
        let start = geometry.copy_offset(copy);
        for shift in [0, 4096, 2 * 4096, 5 * 4096] {
            for fill in ["zeros", "random bytes", "absent"] {
                let span = Span::new(start + shift, BLOCK.min(geometry.size() - start - shift));
                let mut image = regions.healthy.clone();
                for offset in (span.offset..span.end()).step_by(PAGE_SIZE) {
                    let metadata = offset < start + BLOCK;
                    let bytes = if fill == "random bytes" && metadata { random(&mut rng) } else { [0; PAGE_SIZE] };
                    if metadata {
                        image.put(offset, &bytes);
                    }
                }
                let used = used_pages(&regions.healthy);
                let (report, _) = repair(&mut image, Policy::Safe).unwrap();
                assert_eq!(report.verdict(), Verdict::Clean, "{copy} {shift} {fill}: {:?}", report.findings);
                for page in used {
                    for copy in CopyId::BOTH {
                        let at = geometry.page_offset(copy, page);
                        assert!(image.page(at) == regions.healthy.page(at), "{copy} {shift} {fill}: page {page}");
                    }
                }
            }
        }
    }
}

/// An image that lacks a range, as a dump does.
struct Lacking<'a> {
    image: &'a Memory,
    gone: Span,
}

impl ReadAt for Lacking<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = Span::new(offset, buf.len() as u64);
        if self.gone.offset < wanted.end() && wanted.offset < self.gone.end() {
            return Err(ReadError::Absent { span: wanted, why: Absence::Excluded });
        }
        self.image.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.image.end()
    }
}

/// A copy of what the image holds, with holes where it is absent. Repairs of dumps work on such a copy.
fn copied(source: &Lacking<'_>) -> Memory {
    let mut copy = Memory::new(source.end().unwrap());
    let whole = Span::new(0, source.end().unwrap());
    for (offset, _) in source.image.stored(whole) {
        let mut page = [0; PAGE_SIZE];
        if source.read_at(offset, &mut page).is_ok() {
            copy.write_at(offset, &page).unwrap();
        }
    }
    copy
}

#[test]
fn what_a_dump_leaves_out_of_one_copy_is_there_in_the_repaired_copy() {
    let regions = Regions::make();
    let geometry = Superblocks::load(&regions.healthy).unwrap().geometry();
    for copy in CopyId::BOTH {
        let all = Span::new(geometry.copy_offset(copy), BLOCK);
        let pages = used_pages(&regions.healthy).into_iter();
        let single = pages.map(|page| Span::new(geometry.page_offset(copy, page), PAGE_BYTES));
        for gone in single.chain([all]) {
            let source = Lacking { image: &regions.healthy, gone };
            let seen = look(&source);
            assert!(seen.findings.is_empty() && !seen.unchecked.is_empty(), "{gone}: absent is no damage: {seen:?}");
            let mut copy = copied(&source);
            let (report, _) = repair(&mut copy, Policy::Safe).unwrap();
            assert_eq!(report.verdict(), Verdict::Clean, "{gone}: {:?}", report.findings);
            assert!(copy.same(&regions.healthy), "{gone}: not bit for bit");
        }
    }
}
