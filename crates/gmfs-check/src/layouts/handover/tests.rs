//! Folios that are looked at together are judged as each of them by itself.
#![allow(clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]

use gmfs_format::fuzzing::{Form, Made, MadeFile};
use proptest::prelude::*;

use super::*;

/// Pieces that are preserved: the first page frame, the order, how many, and how many are left out after each.
type Pieces = (u64, u32, u64, u64);

/// Page frames around the place where one bitmap of single pages ends and the next one begins.
fn frames() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 32_000_u64..34_000, 1 => 0_u64..40_000, 1 => (1_u64 << 40) - 600..1 << 40]
}

fn order() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0_u32), 2 => Just(2), 1 => Just(1), 1 => Just(9)]
}

fn made(form: Form, pieces: &[Pieces], lost: usize) -> Made {
    let mut made = Made::new(form, &[(b"s", vec![MadeFile::new(1, 4096)])]);
    for (frame, order, count, gap) in pieces {
        let size = PAGE << order;
        let first = (frame * PAGE).next_multiple_of(size);
        made.preserved.extend((0..*count).map(|n| (first + n * (gap + 1) * size, *order)));
    }
    made.preserved.retain(|(at, _)| at >> 52 == 0);
    made.preserved.sort_unstable();
    made.preserved.dedup();
    made.write_map();
    let users = [("LUO", made.luo)];
    made.tree(&users);
    let bitmap = Store::read(&made.memory, made.root).ok().and_then(|store| {
        let entries = store.own_map()?.entries();
        entries.get(lost).map(|entry| entry.bitmap)
    });
    bitmap.into_iter().for_each(|at| made.memory.lose(at));
    made
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn runs_are_judged_as_folios_one_by_one(
        form in prop_oneof![Just(Form::V73), Just(Form::V70)],
        pieces in prop::collection::vec((frames(), order(), 1_u64..600, prop_oneof![4 => Just(0_u64), 1 => 1_u64..3]), 1..6),
        lost in prop_oneof![3 => Just(usize::MAX), 1 => 0_usize..6],
        runs in prop::collection::vec(
            (frames(), prop_oneof![4 => Just(1_u64), 2 => Just(4), 1 => Just(2), 1 => Just(3), 1 => Just(512)], 1_u64..700),
            1..8
        ),
        scratch in prop::option::of((frames(), 1_u64..40)),
        no_memory in prop::option::of((frames(), 1_u64..40)),
    ) {
        let made = made(form, &pieces, lost);
        let mut store = Store::read(&made.memory, made.root).unwrap();
        if let (Some((frame, pages)), Ok(areas)) = (scratch, &mut store.scratch) {
            areas.areas.push(Span::new(frame * PAGE, pages * PAGE));
        }
        let missing = no_memory.map(|(frame, pages)| Span::new(frame * PAGE, pages * PAGE));
        let is_memory = |span: Span| missing.map(|missing| !missing.meets(span));
        let check = || Check {
            store: &store,
            source: &made.memory,
            is_memory: &is_memory,
            claims: store.own_map().map(|map| Claims::new(map, &made.memory)),
            found: Gathered::default(),
            in_scratch: 0,
            pieces: 0,
            array_pages: 0,
            folios: 0,
        };
        let (mut together, mut apart) = (check(), check());
        for (frame, step, count) in runs {
            // Some at a piece's start, some not.
            let frame = if count % 8 == 0 { frame } else { frame - frame % step };
            let run = FolioRun { first: Folio { number: 0, frame, flags: 3, index: 5 }, count, step };
            let (mut one, mut other) = (Folios::default(), Folios::default());
            together.run(&run, &mut one);
            for n in 0..count - 1 {
                apart.folio(&run.get(n), Some(run.get(n + 1).index), false, &mut other);
            }
            prop_assert_eq!(one, other);
            prop_assert_eq!(together.in_scratch, apart.in_scratch);
        }
        prop_assert_eq!(together.claims.map(Claims::into_claimed), apart.claims.map(Claims::into_claimed));
    }
}

/// What is sound is not looked at folio by folio.
#[test]
fn sound_folios_are_claimed_together() {
    let made = made(Form::V73, &[(32_000, 0, 2_000, 0), (1 << 18, 9, 300, 0)], usize::MAX);
    let store = Store::read(&made.memory, made.root).unwrap();
    let mut claims = Claims::new(store.own_map().unwrap(), &made.memory);
    // A bitmap of single pages ends after 32,768 of them.
    let asked = [(32_000, 1, 1_000), (32_768, 1, 1_000), (32_768, 1, 1), (33_768, 1, 300), (1 << 18, 512, 400)];
    let claimed = asked.map(|(frame, step, count)| claims.claim_run(frame * PAGE, step * PAGE, count));
    assert_eq!(claimed, [768, 1_000, 0, 232, 300]);
}

/// The numbers of what is found, without memory that belongs to nobody.
fn codes(made: &Made) -> Vec<u32> {
    let store = Store::read(&made.memory, made.root).unwrap();
    let checked = check_handover(&store, &made.memory);
    let numbers = checked.report.findings.iter().map(|found| found.problem.code().number());
    let numbers: std::collections::BTreeSet<u32> = numbers.filter(|number| *number != 712).collect();
    numbers.into_iter().collect()
}

/// Two files: one with so many pages of folios that they fill a chunk if `full`.
fn two_files(form: Form, full: bool) -> Made {
    let pages = if full { 511 * 256 } else { 300 };
    Made::new(form, &[(b"s", vec![MadeFile::new(1, pages * PAGE), MadeFile::new(2, 3 * PAGE)])])
}

/// The first chunk of a file's list.
fn chunk_of(made: &Made, form: Form, file: usize) -> u64 {
    made.memory.get(made.records[0][file] + if form == Form::V73 { 32 } else { 24 })
}

#[test]
fn a_list_that_goes_on_past_its_last_page_is_broken() {
    for form in [Form::V70, Form::V73] {
        let sound = two_files(form, false);
        assert_eq!(codes(&sound), [], "{form:?}");
        let (chunk, other) = (chunk_of(&sound, form, 0), chunk_of(&sound, form, 1));
        let wrong =
            [(0, chunk, 803), (0, other, 810), (0, 1 << 50, 810), (0, 0x1001, 802), (24, other, 810), (4088, 1, 810)];
        for (offset, value, code) in wrong {
            let mut made = sound.clone();
            made.memory.put(chunk + offset, value);
            assert_eq!(codes(&made), [code], "{form:?} {offset} {value:#x}");
        }
    }
}

#[test]
fn a_full_chunk_is_followed_by_an_empty_one() {
    let sound = two_files(Form::V73, true);
    assert_eq!(codes(&sound), []);
    let chunk = chunk_of(&sound, Form::V73, 0);
    let empty = sound.memory.get(chunk);
    for (at, value, code) in [(empty + 8, 0x1000, 810), (empty, 0x1000, 810), (chunk, chunk, 803)] {
        let mut made = sound.clone();
        made.memory.put(at, value);
        assert!(codes(&made).contains(&code), "{at:#x} {value:#x}");
    }
}

#[test]
fn pages_that_two_records_have_are_found() {
    for form in Form::LUO {
        let file = MadeFile::new(1, 0);
        let sound = Made::new(form, &[(b"s", vec![file.clone(), MadeFile { token: 2, ..file }])]);
        assert_eq!(codes(&sound), [], "{form:?}");
        let entry = sound.files[0] + if form == Form::V73 { 16 } else { 0 };
        let region = sound.preserved.iter().find(|(_, order)| *order == 9).unwrap().0;
        // 6.19 has no objects that files depend on.
        let flbs = (form != Form::V619).then_some(sound.flbs);
        for at in [sound.records[0][0], region].into_iter().chain(flbs) {
            let mut made = sound.clone();
            made.memory.put(entry + 64 + 48, at);
            made.memory.write(at, &[0; 4096]);
            assert!(codes(&made).contains(&803), "{form:?} {at:#x}: {:?}", codes(&made));
        }
    }
}

#[test]
fn pieces_of_two_orders_that_overlap_are_found() {
    for form in [Form::V70, Form::V73] {
        let mut made = two_files(form, false);
        made.preserved.push((0x7000_0000, 0));
        made.preserved.push((0x7000_4000, 2));
        made.write_map();
        let users = [("LUO", made.luo)];
        made.tree(&users);
        assert!(!codes(&made).contains(&708), "{form:?}");
        made.preserved.push((0x7000_5000, 0));
        made.write_map();
        made.tree(&users);
        assert!(codes(&made).contains(&708), "{form:?}");
    }
}

#[test]
fn a_bitmap_that_two_entries_name_is_found() {
    let mut made = two_files(Form::V70, false);
    let chunk = made.map[0];
    let (bitmap, count) = (made.memory.get(chunk + 24), made.memory.get(chunk + 8) >> 32);
    let order = made.memory.get(chunk + 8) & 0xffff_ffff;
    made.memory.put(chunk + 8, order | (count + 1) << 32);
    made.memory.put(chunk + 16 * (count + 1), 1 << 40);
    made.memory.put(chunk + 16 * (count + 1) + 8, bitmap);
    let found = codes(&made);
    assert_eq!(found, [705]);
}
