//! Runs of folios, and extents made of runs, are what folios one by one give: whatever the records say.

use gmfs_format::fuzzing::{Form, Made, MadeFile, Memory, Way};
use gmfs_format::kho::Map;
use gmfs_format::luo::{Extent, Fault, Folio, Memfd, Part, Store};
use gmfs_io::ReadAt as _;
use proptest::prelude::*;

const FRAME: u64 = (1 << 52) - 1;

/// The folios of a file, read record by record, and how many were passed over.
fn one_by_one(memory: &Memory, record: &Memfd) -> (Vec<Result<Folio, Fault>>, u64) {
    let mut array = Vec::new();
    let list = record.own_pages(memory, |part, at| array.extend((part == Part::Array).then_some(at)));
    let (mut found, mut skipped, mut least) = (Vec::new(), 0, 0);
    let at = record.at;
    for number in 0..record.folios {
        let Some(page) = array.get((number / 256) as usize) else {
            let short = Fault::ShortArray { at, said: record.folios, found: array.len() as u64 * 256 };
            found.push(Err(list.err().unwrap_or(short)));
            return (found, skipped);
        };
        if memory.read_at(*page, &mut [0; 4096]).is_err() {
            found.push(Err(Fault::Unreadable { at: *page }));
            return (found, skipped);
        }
        let place = page + number % 256 * 16;
        let (word, index) = (memory.get(place), memory.get(place + 8));
        let (frame, flags) = (word & FRAME, word >> 52);
        if frame == 0 {
            skipped += 1;
            continue;
        }
        let fault = if flags > 3 {
            Some(Fault::BadRecord { at, field: "the flags of a folio", value: flags })
        } else if index < least {
            Some(Fault::BadIndex { at, number, index })
        } else if index >= record.size.div_ceil(4096) {
            Some(Fault::PastEnd { at, number, index })
        } else {
            None
        };
        if let Some(fault) = fault {
            found.push(Err(fault));
            return (found, skipped);
        }
        least = index + 1;
        found.push(Ok(Folio { number, frame, flags, index }));
    }
    (found, skipped)
}

/// The extents of a file, page of the file by page, from its folios.
fn extents(memory: &Memory, record: &Memfd, map: Option<&Map>, folios: &[Result<Folio, Fault>]) -> Vec<Extent> {
    let total = record.size.div_ceil(4096);
    // No address wraps, however high a frame is.
    let mut places: Vec<Option<u128>> = vec![None; total as usize];
    let folios: Vec<Folio> = folios.iter().filter_map(|folio| folio.ok()).collect();
    for (n, folio) in folios.iter().enumerate() {
        let next = folios.get(n + 1).map(|next| next.index);
        let room = next.unwrap_or(total) - folio.index;
        let known = map.and_then(|map| map.order_of(memory, folio.frame * 4096)).map(|order| 1_u64 << order);
        let whole = |pages: u64| pages.is_power_of_two() && pages <= 2048 && folio.frame.is_multiple_of(pages);
        let pages = match next {
            Some(_) if whole(room) => room,
            Some(_) => known.unwrap_or(0).min(room),
            None if known.is_some() => known.unwrap_or(0).min(room),
            None if whole(room.next_power_of_two()) => room,
            None => 1,
        };
        (0..pages).for_each(|page| places[(folio.index + page) as usize] = Some(u128::from(folio.frame + page) * 4096));
    }
    let mut all: Vec<(u64, u64, Option<u128>)> = Vec::new();
    for (page, at) in (0..).zip(places) {
        let offset = page * 4096;
        let len = 4096.min(record.size - offset);
        match all.last_mut().filter(|(_, len, before)| before.map(|at| at + u128::from(*len)) == at) {
            Some((_, before, _)) => *before += len,
            None => all.push((offset, len, at)),
        }
    }
    let extent = |(offset, len, at): (u64, u64, Option<u128>)| Extent { offset, len, at: at.map(|at| at as u64) };
    all.into_iter().map(extent).collect()
}

/// What becomes of some records, one after another.
#[derive(Clone, Debug)]
enum Change {
    /// They rise from the first one on, by so many pages of memory and of the file.
    Rise(u64, u64),
    /// They fall.
    Fall,
    /// They have no frame.
    Empty,
    /// Their index is so much higher.
    Later(u64),
    /// Some bits are different.
    Bits(u64, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let step = prop_oneof![Just(0_u64), Just(1), Just(2), Just(3), Just(4), Just(512), Just(4096), Just(1 << 51)];
    prop_oneof![
        4 => (step.clone(), step.clone()).prop_map(|(frames, indices)| Change::Rise(frames, indices)),
        4 => step.prop_map(|step| Change::Rise(step, step)),
        1 => Just(Change::Fall),
        1 => Just(Change::Empty),
        2 => (0_u64..20).prop_map(Change::Later),
        1 => ((0_u32..64), (0_u32..64)).prop_map(|(a, b)| Change::Bits(1 << a, 1 << b)),
        1 => any::<(u64, u64)>().prop_map(|(a, b)| Change::Bits(a, b)),
    ]
}

fn apply(memory: &mut Memory, array: &[u64], from: u64, count: u64, change: &Change) {
    let place = |n: u64| array.get((n / 256) as usize).map(|page| page + n % 256 * 16);
    let Some(first) = place(from) else { return };
    let (word, index) = (memory.get(first), memory.get(first + 8));
    for n in 0..count {
        let Some(at) = place(from + n) else { return };
        let (old, own) = (memory.get(at), memory.get(at + 8));
        let rise = |step: u64| n.wrapping_mul(step);
        let (word, index) = match *change {
            Change::Rise(frames, indices) => (word.wrapping_add(rise(frames)), index.wrapping_add(rise(indices))),
            Change::Fall => (word.wrapping_sub(n), own),
            Change::Empty => (3 << 52, own),
            Change::Later(by) => (old, own.wrapping_add(by)),
            Change::Bits(a, b) => (old ^ a, own ^ b),
        };
        memory.put(at, word);
        memory.put(at + 8, index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn runs_are_the_folios_one_by_one(
        way in prop_oneof![3 => Just(Way::Pages), 1 => Just(Way::Backwards), 2 => Just(Way::Order(2))],
        pages in 1_u64..6000,
        tail in 0_u64..4096,
        changes in prop::collection::vec((0_u64..6000, 1_u64..700, change()), 0..8),
        moved in prop::collection::vec((0_usize..24, 0_usize..24), 0..3),
        missing in prop::collection::vec(0_usize..24, 0..2),
        larger in prop_oneof![2 => Just(0_u64), 1 => 0_u64..1 << 30],
        with_map in any::<bool>(),
    ) {
        let mut made = Made::new(Form::V73, &[(b"s", vec![MadeFile { way, ..MadeFile::new(1, pages * 4096 - tail) }])]);
        let store = Store::read(&made.memory, made.root).unwrap();
        let mut record = *store.sessions[0].files[0].memfd.as_ref().unwrap().as_ref().unwrap();
        record.size += larger;
        let mut array = Vec::new();
        record.own_pages(&made.memory, |part, at| array.extend((part == Part::Array).then_some(at))).unwrap();
        for (from, count, change) in &changes {
            apply(&mut made.memory, &array, from % record.folios, *count, change);
        }
        // Pages of the array change places, and the list says so.
        for (a, b) in moved {
            let slot = |n: usize| record.list + 8 + 8 * (n % array.len()) as u64;
            let (one, other) = (made.memory.get(slot(a)), made.memory.get(slot(b)));
            made.memory.put(slot(a), other);
            made.memory.put(slot(b), one);
        }
        missing.iter().for_each(|n| made.memory.lose(array[n % array.len()]));
        let memory = &made.memory;
        let (wanted, skipped) = one_by_one(memory, &record);

        let mut folios = record.folios(memory);
        prop_assert_eq!(&folios.by_ref().collect::<Vec<_>>(), &wanted);
        prop_assert_eq!(folios.skipped(), skipped);

        let (mut folios, mut found) = (record.folios(memory), Vec::new());
        while let Some(run) = folios.next_run() {
            match run {
                Ok(run) => {
                    prop_assert!(run.count > 0 && run.step > 0 && run.get(run.count - 1) == run.last());
                    found.extend((0..run.count).map(|n| Ok(run.get(n))));
                }
                Err(fault) => found.push(Err(fault)),
            }
        }
        prop_assert_eq!(&found, &wanted);
        prop_assert_eq!(folios.skipped(), skipped);

        let map = store.own_map().filter(|_| with_map);
        let found: Vec<Extent> = record.extents(memory, map).collect();
        prop_assert_eq!(found, extents(memory, &record, map, &wanted));
    }
}

/// What the usual hand-over has is a run for each read, not a folio for each record.
#[test]
fn the_usual_records_are_few_runs() {
    for (way, step) in [(Way::Pages, 1), (Way::Order(2), 4)] {
        let file = MadeFile { way, ..MadeFile::new(1, 20_000 * 4096) };
        let made = Made::new(Form::V73, &[(b"s", vec![file])]);
        let store = Store::read(&made.memory, made.root).unwrap();
        let record = *store.sessions[0].files[0].memfd.as_ref().unwrap().as_ref().unwrap();
        let mut folios = record.folios(&made.memory);
        let runs: Vec<_> = std::iter::from_fn(|| folios.next_run()).map(Result::unwrap).collect();
        assert!(runs.len() <= 12 && runs.iter().all(|run| run.step == step), "{runs:?}");
    }
}
