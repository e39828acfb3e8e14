//! Compares the sweep with the rule, applied to each address by itself.

use super::*;
use proptest::prelude::*;

const SPACE: u64 = 96;

/// What the rule gives for `address`: the file offset, or why there is none.
fn naive(loads: &[Load], body: u64, size: u64, address: u64) -> Result<u64, Absence> {
    let mut best: Option<(u8, Result<u64, Absence>)> = None;
    let mut place = body;
    for load in loads {
        let at = load.place.unwrap_or(place);
        place += load.bytes.len() as u64;
        let in_file = load.in_file.unwrap_or(load.bytes.len() as u64);
        let in_memory = load.in_memory.unwrap_or(in_file);
        if address < load.address || address >= load.address + in_memory {
            continue;
        }
        let inside = address - load.address;
        let (rank, found) = if inside >= in_file {
            (2, Err(Absence::Excluded))
        } else if at + inside >= size {
            (1, Err(Absence::Truncated))
        } else {
            (0, Ok(at + inside))
        };
        if best.is_none_or(|(known, _)| rank < known) {
            best = Some((rank, found));
        }
    }
    best.map_or(Err(Absence::NotInDump), |(_, found)| found)
}

fn load() -> impl Strategy<Value = Load> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..24);
    (
        1..SPACE,
        bytes,
        proptest::option::of(0..30_u64),
        proptest::option::of(0..40_u64),
        proptest::option::of(0..1500_u64),
    )
        .prop_map(|(address, bytes, in_file, in_memory, place)| Load { address, bytes, in_file, in_memory, place })
}

proptest! {
    #[test]
    fn each_address_is_resolved_by_the_rule(
        loads in proptest::collection::vec(load(), 1..10),
        cut in 0..60_usize,
        reads in proptest::collection::vec((0..SPACE + 60, 0..40_usize), 8),
    ) {
        let builder = Builder::new().loads(loads);
        let mut bytes = builder.bytes();
        // Cuts memory off, but never a header.
        bytes.truncate(bytes.len().saturating_sub(cut).max(builder.body() as usize));
        let size = bytes.len() as u64;
        let rule: Vec<_> = (0..SPACE + 120).map(|a| naive(&builder.loads, builder.body(), size, a)).collect();
        let Ok(dump) = ElfDump::parse(bytes.clone()) else {
            prop_assert!(rule.iter().all(|r| *r == Err(Absence::NotInDump)));
            return Ok(());
        };
        for (address, expected) in (0..).zip(&rule) {
            let found = read(&dump, address, 1);
            let wanted = expected.map(|at| vec![bytes[at as usize]]);
            prop_assert_eq!(found, wanted.map_err(|why| (Span::new(address, 1), why)));
        }
        for (from, len) in reads {
            check_range(&dump, &bytes, &rule, from, len)?;
        }
    }
}

/// A longer read must equal the single ones, and its error must be the first absent range.
fn check_range(
    dump: &ElfDump<Vec<u8>>,
    bytes: &[u8],
    rule: &[Result<u64, Absence>],
    from: u64,
    len: usize,
) -> Result<(), TestCaseError> {
    let part = &rule[from as usize..from as usize + len];
    let expected = match part.iter().position(Result::is_err) {
        None => Ok(part.iter().map(|at| bytes[at.unwrap() as usize]).collect()),
        Some(first) => {
            let same = part[first..].iter().take_while(|r| **r == part[first]).count();
            Err((Span::new(from + first as u64, same as u64), part[first].unwrap_err()))
        }
    };
    prop_assert_eq!(read(dump, from, len), expected);
    let data = dump.next_data(from..from + len as u64).unwrap();
    prop_assert_eq!(data.is_some(), len > 0, "a vector has no holes");
    Ok(())
}

proptest! {
    #[test]
    fn damaged_dumps_are_survived(
        loads in proptest::collection::vec(load(), 1..6),
        big in any::<bool>(),
        wide in any::<bool>(),
        hits in proptest::collection::vec((0..600_usize, any::<u8>()), 1..12),
    ) {
        let builder = Builder::new().order(wide, big).note("VMCOREINFO", b"OSRELEASE=1\n").loads(loads);
        let mut bytes = builder.bytes();
        for (at, value) in hits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        crate::fuzzing::exercise_elf(&bytes);
    }
}
