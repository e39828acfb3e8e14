//! A repair that a crash stops must be completed by the next one, with the same result. Crashes happen at each of its
//! writes, with any subset of the writes since the last barrier, and with torn ones. `GMFS_CRASH_CASES` raises the
//! number of states; `--nocapture` shows how many were tried.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use gmfs_check::inject::{Injected, Target, inject};
use gmfs_check::{Code, Edit, Policy, Repair, plan};
use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::seal;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{CopyId, Generation, InodeNo, PAGE_SIZE, PageNo};
use gmfs_io::WriteAt;
use gmfs_volume::seals::{Verdict, compare};
use gmfs_volume::{SealOptions, Superblocks, Writer};

use crate::support;
use crate::support::media::crashes::{self, Limits};
use crate::support::media::recorder::Recorder;
use crate::support::media::rng::Rng;
use crate::support::{End, Memory, look, offset, repair, small, used_pages, wide};

/// A factor for the number of cases.
fn times() -> u64 {
    std::env::var("GMFS_CRASH_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Counts of what was tried.
#[derive(Debug, Default)]
struct Tally {
    repairs: u64,
    stores: u64,
    subsets: u64,
    torn: u64,
    /// Crashes after which more blocks were reserved.
    reserved: u64,
    /// Torn writes that undid the damage by chance, so that more is left than without the crash.
    undone: u64,
}

/// Repairs a region, and simulates crashes at every point. Each state must give the same result.
fn crash_repair(
    healthy: &Memory,
    damaged: &Memory,
    policy: Policy,
    limits: Limits,
    rng: &mut Rng,
    tally: &mut Tally,
    told: &str,
) {
    let settles = has_doubt(damaged, policy);
    let disputed = look(damaged).findings.iter().any(|finding| finding.code() == Code::GM0011);
    let recorder = Recorder::new(damaged.clone());
    repair(&mut recorder.clone(), policy).unwrap_or_else(|error| panic!("{told}: {error}"));
    let end = End::of(&recorder.image()).unwrap();
    assert_nothing_is_freed(damaged, &end, told);
    let log = recorder.take_log();
    tally.repairs += 1;
    tally.stores +=
        log.iter().filter(|event| !matches!(event, support::media::recorder::Event::Barrier)).count() as u64;
    let made = crashes::states(damaged, &log, limits, rng, &mut |state, what, _| {
        let mut image = state.clone();
        if let Err(error) = repair(&mut image, policy) {
            panic!("{told}: {}: the second repair: {error}", what());
        }
        let found = End::of(&image).unwrap_or_else(|error| panic!("{told}: {}: {error}", what()));
        if found != end && settles && reserves_more(&end, &found) {
            tally.reserved += 1;
        } else if found != end && disputed && reserves_more(&found, &end) {
            // The merge of two copies was interrupted. What both call free is proven by the copy that is left.
            assert_nothing_is_freed(damaged, &found, told);
            tally.reserved += 1;
        } else if found != end && comes_back_by_chance(healthy, damaged, state) {
            assert!(end.used.keys().all(|block| found.used.contains_key(block)), "{told}: {}", what());
            tally.undone += 1;
        } else if found != end {
            panic!("{told}: {}: another end\n{found:?}\ninstead of\n{end:?}", what());
        }
    });
    tally.subsets += made.subsets;
    tally.torn += made.torn;
}

/// Whether a repair settles a doubt.
fn has_doubt(damaged: &Memory, policy: Policy) -> bool {
    let planned = plan(damaged, &look(damaged), policy).unwrap();
    planned.edits.iter().any(|planned| matches!(planned.edit, Edit::Settle { .. }))
}

/// Whether a region equals the result of a repair, except that more blocks are reserved and more files are flagged: a
/// doubt that was half settled proves less than the first one.
fn reserves_more(end: &End, found: &End) -> bool {
    let more = |(block, what): (&u32, &(u8, InodeNo, u32))| match end.used.get(block) {
        Some(before) => before == what,
        None => what.0 == BlockState::Reserved.byte(),
    };
    let flags = |end: &End| end.left.iter().all(|code| *code == Code::GM0213);
    // The inode of lost+found depends on what a crash has left.
    let alike = |path: &Vec<u8>, file: &(InodeNo, gmfs_format::model::Kind, u64, bool, u64)| {
        found.files.get(path).is_some_and(|found| found == file || path == b"/lost+found" && found.1 == file.1)
    };
    let same = end.files.iter().all(|(path, file)| alike(path, file));
    same && end.files.len() == found.files.len()
        && end.used.keys().all(|block| found.used.contains_key(block))
        && found.used.iter().all(more)
        && flags(found)
        && flags(end)
}

/// Whether a damaged page became what it was before the damage without a repair: a torn write of a blank page can
/// restore zeros where there were zeros.
fn comes_back_by_chance(healthy: &Memory, damaged: &Memory, state: &Memory) -> bool {
    used_pages(healthy).into_iter().any(|page| {
        CopyId::BOTH.into_iter().any(|copy| {
            let at = offset(healthy, copy, page);
            healthy.page(at) == state.page(at) && healthy.page(at) != damaged.page(at)
        })
    })
}

/// Blocks that are in use by the copy that counts in the damaged region must be in use at the end.
fn assert_nothing_is_freed(damaged: &Memory, end: &End, told: &str) {
    let Ok(before) = End::of(damaged) else { return };
    for block in before.used.keys() {
        assert!(end.used.contains_key(block), "{told}: block {block} was in use and is free");
    }
}

#[test]
fn a_repair_of_any_problem_crashes_well() {
    let healthy = small();
    let mut tally = Tally::default();
    let limits = Limits { subsets: 32 * times(), tears: 8 * times() };
    for code in Code::ALL.iter().copied() {
        let mut image = healthy.clone();
        let made = inject(&mut image, code, Target::default());
        if !matches!(made, Ok(Injected::Done)) || !matches!(code.repair(), Repair::Safe | Repair::Lossy) {
            continue;
        }
        crash_repair(&healthy, &image, Policy::Lossy, limits, &mut Rng::new(code as u64), &mut tally, code.text());
        if code.repair() == Repair::Safe {
            crash_repair(&healthy, &image, Policy::Safe, limits, &mut Rng::new(code as u64), &mut tally, code.text());
        }
    }
    assert!(tally.repairs > 90 && tally.undone == 0, "{tally:?}");
    eprintln!("every problem: {tally:?}");
}

/// Overwrites pages with other bytes.
fn wipe(image: &mut Memory, copy: CopyId, pages: impl IntoIterator<Item = PageNo>) {
    let geometry = Superblocks::load(&wide()[0]).unwrap().geometry();
    for page in pages {
        image.put(geometry.page_offset(copy, page), &[0xEE; PAGE_SIZE]);
    }
}

#[test]
fn a_repair_of_many_pages_crashes_well() {
    let [healthy, ..] = wide();
    let pages = used_pages(&healthy);
    let inodes = Superblocks::load(&healthy).unwrap().geometry().first_inode_page();
    let mut damages: BTreeMap<&str, Memory> = BTreeMap::new();
    let mut damage = |name, parts: &[(CopyId, Vec<PageNo>)]| {
        let mut image = healthy.clone();
        for (copy, pages) in parts {
            wipe(&mut image, *copy, pages.iter().copied());
        }
        damages.insert(name, image);
    };
    let both = |pages: &[PageNo]| CopyId::BOTH.map(|copy| (copy, pages.to_vec()));
    let (even, odd) = pages.iter().copied().partition(|page| page.0 % 2 == 0);
    damage("all of copy A", &[(CopyId::A, pages.clone())]);
    damage("all of copy B", &[(CopyId::B, pages.clone())]);
    damage("different pages of both copies", &[(CopyId::A, even), (CopyId::B, odd)]);
    damage("an inode page in both copies", &both(&[PageNo(inodes.0 + 1)]));
    damage("the first inode page in both copies", &both(&[inodes]));
    damage("a table page in both copies", &both(&[PageNo(2)]));
    damage("both superblocks", &both(&[PageNo(0)]));
    damage(
        "both superblocks and a table page of copy A",
        &[(CopyId::A, vec![PageNo(0), PageNo(3)]), (CopyId::B, vec![PageNo(0)])],
    );
    let mut hidden = healthy.clone();
    for page in [2, inodes.0 + 1] {
        inject(&mut hidden, Code::GM0113, Target { page: Some(PageNo(page)), ..Target::default() }).unwrap();
    }
    damages.insert("pages behind both marks", hidden);
    let mut tally = Tally::default();
    let limits = Limits { subsets: 64 * times(), tears: 8 * times() };
    for (name, image) in damages {
        crash_repair(&healthy, &image, Policy::Lossy, limits, &mut Rng::new(1), &mut tally, name);
    }
    assert_eq!(tally.undone, 0);
    eprintln!("many pages: {tally:?}");
}

/// Damages some pages, in one copy or both, with or without good seals.
fn damage_at_random(image: &mut Memory, rng: &mut Rng) {
    let pages = used_pages(image);
    let superblocks = Superblocks::load(&*image).unwrap();
    let geometry = superblocks.geometry();
    for _ in 0..=rng.below(3) {
        let page = rng.pick(&pages);
        let (from, len) = (rng.below(4096) as usize, 1 + rng.below(64) as usize);
        let (byte, sealed, copies) = (rng.next().to_le_bytes()[0], rng.one_in(2), rng.below(3));
        for (n, copy) in (0..).zip(CopyId::BOTH) {
            if copies == n {
                continue;
            }
            let at = geometry.page_offset(copy, page);
            let mut bytes = image.page(at);
            bytes.iter_mut().skip(from).take(len).for_each(|place| *place = byte);
            if sealed {
                let generation = Generation(PageHeader::of(&bytes).generation.get());
                seal::seal(&mut bytes, &superblocks.place(copy, page).unwrap(), generation);
            }
            image.put(at, &bytes);
        }
    }
}

#[test]
fn a_repair_of_random_damage_crashes_well() {
    let [wide, ..] = wide();
    let small = small();
    let mut tally = Tally::default();
    let limits = Limits { subsets: 16, tears: 4 };
    for seed in 0..60 * times() {
        let mut rng = Rng::new(seed);
        let healthy = if rng.one_in(3) { &wide } else { &small };
        let mut image = healthy.clone();
        damage_at_random(&mut image, &mut rng);
        if gmfs_check::fuzzing::look(&image).is_none() {
            // There is no region any more.
            continue;
        }
        crash_repair(healthy, &image, Policy::Lossy, limits, &mut rng, &mut tally, &format!("seed {seed}"));
    }
    assert!(tally.undone * 1000 <= tally.torn, "{tally:?}");
    eprintln!("random damage: {tally:?}");
}

/// The same page of both copies must be at the expected offsets.
#[test]
fn the_regions_are_what_the_tests_rely_on() {
    let [last, ..] = wide();
    assert_eq!(used_pages(&last).iter().filter(|page| (1..=3).contains(&page.0)).count(), 3);
    assert!(used_pages(&last).len() >= 7 && offset(&last, CopyId::A, PageNo(2)) == 8192);
}

/// Seals a file, or drops its seals.
fn set_seals<S: WriteAt>(writer: &mut Writer<S>, path: &str, sealed: bool) {
    let ino = writer.tree().resolve(path.as_bytes()).unwrap().ino;
    let seals = writer.seals().files.remove(&ino).unwrap();
    if sealed {
        let options = SealOptions { zero: true, threads: 1, progress: &|_| (), go_on: &|| true };
        assert_eq!(writer.seal(ino, &seals, &options).unwrap().sealed, seals.blocks);
    } else {
        assert_eq!(writer.unseal(ino, &seals).unwrap(), seals.blocks);
    }
}

/// No block may have the seal of other content.
fn assert_no_seal_is_wrong(image: &Memory, told: &str) {
    let superblocks = Superblocks::load(image).unwrap();
    compare(
        image,
        &superblocks,
        superblocks.current().used_table_pages(),
        |_| true,
        1,
        |found| {
            assert!(matches!(found.verdict, Verdict::Same | Verdict::Unsealed), "{told}: {found:?}");
            ControlFlow::Continue(())
        },
    );
}

/// A writer is stopped at any point, and then both superblocks are lost, which alone show whether its commit happened.
/// No block that belongs to a file before or after the commit may be free after the repair.
#[test]
fn an_interrupted_commit_without_superblocks_frees_nothing() {
    let healthy = small();
    let mut tried = 0;
    for change in 0..5 {
        let mut healthy = healthy.clone();
        if change == 4 {
            set_seals(&mut support::open(&mut healthy), "/dir/guest", true);
        }
        let recorder = Recorder::new(healthy.clone());
        let mut writer = support::open(recorder.clone());
        match change {
            0 => writer.remove(b"/dir/guest", false).unwrap(),
            1 => support::put(&mut writer, "/dir/new", 9, 2),
            3 => set_seals(&mut writer, "/dir/guest", true),
            4 => set_seals(&mut writer, "/dir/guest", false),
            _ => writer.truncate(b"/dir/guest", support::BLOCK, false).unwrap(),
        }
        let committed = End::of(&recorder.image()).unwrap();
        let limits = Limits { subsets: 64 * times(), tears: 8 * times() };
        crashes::states(&healthy, &recorder.take_log(), limits, &mut Rng::new(change), &mut |state, what, _| {
            let mut image = state.clone();
            for copy in CopyId::BOTH {
                image.put(offset(&healthy, copy, PageNo(0)), &[0; PAGE_SIZE]);
            }
            let (report, _) = repair(&mut image, Policy::Lossy).unwrap();
            let left = support::codes(&report);
            assert!(left.is_subset(&[Code::GM0213].into()), "{}: {:?}", what(), report.findings);
            // A commit with all of its pages may have happened. In that case it happened as a whole.
            let end = End::of(&image).unwrap();
            assert_no_seal_is_wrong(&image, &what());
            if end.used != committed.used {
                assert_nothing_is_freed(state, &end, &what());
            }
            tried += 1;
        });
    }
    eprintln!("interrupted commits without superblocks: {tried} states");
}
