use super::*;

const FACTS: MetaFacts = MetaFacts { obfuscated: false, end: 1 << 20, size: 1 << 20, base: 0, uuid: [7; 16] };

fn sample() -> Vec<u8> {
    let mut writer = MetaDumpWriter::new(Vec::new(), &FACTS).unwrap();
    writer.page(0, &[1; 4096]).unwrap();
    writer.page(4096, &[0; 4096]).unwrap();
    writer.page(1 << 19, &[2; 4096]).unwrap();
    assert_eq!(writer.pages(), 3);
    writer.finish().unwrap()
}

#[test]
fn pages_are_where_they_were_and_the_rest_is_left_out() {
    let dump = MetaDump::parse(sample()).unwrap();
    assert_eq!((dump.facts(), dump.end()), (&FACTS, Some(1 << 20)));
    let mut bytes = [9; 8192];
    dump.read_at(0, &mut bytes).unwrap();
    assert!(bytes[..4096] == [1; 4096] && bytes[4096..] == [0; 4096]);
    dump.read_at((1 << 19) + 100, &mut bytes[..10]).unwrap();
    assert_eq!(bytes[..10], [2; 10]);
    let absent = |from, to| dump.next_absent(from..to);
    assert_eq!(absent(4000, 9000), Some((Span::new(8192, 808), Absence::Excluded)));
    assert_eq!(absent(1 << 20, 2 << 20), Some((Span::new(1 << 20, 1 << 20), Absence::BeyondEnd)));
    assert_eq!(absent(0, 8192), None);
    let error = dump.read_at(8000, &mut [0; 400]).unwrap_err();
    assert!(matches!(error, ReadError::Absent { why: Absence::Excluded, .. }), "{error}");
    let held: Vec<_> = dump.ranges().map(|(span, _)| (span.offset, span.len)).collect();
    assert_eq!(held, [(0, 8192), (1 << 19, 4096)]);
}

#[test]
fn every_flip_and_every_cut_is_an_error() {
    let file = sample();
    for at in 0..file.len() {
        for bit in [1, 0x80] {
            let mut flipped = file.clone();
            flipped[at] ^= bit;
            assert!(MetaDump::parse(flipped).is_err(), "byte {at}");
        }
        let error = MetaDump::parse(file[..at].to_vec()).unwrap_err();
        assert!(matches!(error, MetaDumpError::Cut { .. } | MetaDumpError::Signature), "cut at {at}: {error}");
    }
    let whole = MetaDump::parse(file.clone()).unwrap();
    assert_eq!(whole.stretches.len(), 3);
    let longer = [file.as_slice(), &[0]].concat();
    assert!(matches!(MetaDump::parse(longer), Err(MetaDumpError::Longer(1))));
}

#[test]
fn stretches_that_change_places_are_an_error() {
    let file = sample();
    let (head, one, two) = (&file[..64], &file[64..64 + 24 + 4096], &file[64 + 24 + 4096..]);
    assert!(MetaDump::parse([head, one, two].concat()).is_ok());
    // Removes the stretch of zeros and the page that follows it, or puts them first. Each stretch is valid by itself.
    let left_out = [head, one, &two[24..]].concat();
    assert!(matches!(MetaDump::parse(left_out), Err(MetaDumpError::Damaged { what: "the end", .. })));
    let moved = [head, &two[..24], one, &two[24..]].concat();
    assert!(MetaDump::parse(moved).is_err());
}

#[test]
fn a_writer_holds_no_more_than_a_stretch() {
    let facts = MetaFacts { end: 1 << 30, ..FACTS };
    let mut writer = MetaDumpWriter::new(io::sink(), &facts).unwrap();
    for page in 0..4096 {
        writer.page(page * PAGE_BYTES, &[1; 4096]).unwrap();
        assert!(writer.bytes.capacity() <= 2 * PIECE);
    }
    assert_eq!((writer.pages(), writer.stretches), (4096, 15));
}
