use proptest::prelude::*;

use super::*;

fn extent(start: u64, len: u64, place: u64) -> Extent {
    Extent { start, len, place }
}

#[test]
fn the_last_or_the_first_wins() {
    let list = vec![extent(0, 10, 100), extent(4, 2, 200), extent(20, 5, 300), extent(8, 4, 400)];
    let last = Extents::new(list.clone(), Wins::Last);
    assert_eq!(
        last.0,
        [extent(0, 4, 100), extent(4, 2, 200), extent(6, 2, 106), extent(8, 4, 400), extent(20, 5, 300)]
    );
    let first = Extents::new(list, Wins::First);
    assert_eq!(first.0, [extent(0, 10, 100), extent(10, 2, 402), extent(20, 5, 300)]);
    assert_eq!((first.end(), first.gap(0..30), first.gap(3..12)), (25, Some(12..20), None));
    assert_eq!((first.held(5..30), first.held(13..30), first.held(12..20)), (Some(5..12), Some(20..25), None));
}

#[test]
fn what_is_empty_or_at_the_end_of_all() {
    assert_eq!(Extents::new(vec![extent(5, 0, 9)], Wins::Last).end(), 0);
    let top = Extents::new(vec![extent(u64::MAX - 4, 4, 0), extent(1 << 62, 1, 50)], Wins::Last);
    assert_eq!((top.end(), top.gap(0..u64::MAX)), (u64::MAX, Some(0..1 << 62)));
}

proptest! {
    #[test]
    fn every_byte_is_the_winners(
        pieces in prop::collection::vec((0..200_u64, 0..40_u64), 0..40),
        last in any::<bool>(),
    ) {
        let list: Vec<Extent> =
            pieces.iter().zip(1..).map(|((start, len), n)| extent(*start, *len, n * 1000)).collect();
        let found = Extents::new(list.clone(), if last { Wins::Last } else { Wins::First });
        prop_assert!(found.0.windows(2).all(|pair| pair[0].end() <= pair[1].start));
        for at in 0..250 {
            let mut claims = list.iter().filter(|e| (e.start..e.end()).contains(&at)).map(|e| e.place_of(at));
            let expected = if last { claims.next_back() } else { claims.next() };
            let here = found.from(at).first().filter(|e| e.start <= at).map(|e| e.place_of(at));
            prop_assert_eq!(here, expected);
        }
    }
}

#[test]
fn pieces_fill_a_range_and_what_is_between_them_is_zeros() {
    let extent = |start, len, place| Extent { start, len, place };
    let pieces = [extent(2, 3, 100), extent(7, 2, 50), extent(9, 1, 0)];
    for (offset, length, expected, left) in [
        (2, 3, &[100_u8, 101, 102][..], 0),
        (3, 7, &[101, 102, 0, 0, 50, 51, 0], 0),
        (4, 1, &[102], 0),
        (0, 4, &[0, 0, 100, 101], 0),
        (8, 5, &[51, 0, 9, 9, 9], 3),
        (2, 0, &[], 0),
    ] {
        let mut buf = vec![9; length];
        let from = pieces.iter().copied().filter(|piece| piece.end() > offset);
        let read = |place: u64, _, now: &mut [u8]| {
            now.iter_mut().zip(place..).for_each(|(byte, place)| *byte = u8::try_from(place).unwrap());
            Ok::<(), ()>(())
        };
        let (at, rest) = fill(from, offset, &mut buf, read).unwrap();
        assert_eq!((rest.len(), at >= offset), (left, true));
        assert_eq!(buf, expected, "{length} bytes at {offset}");
    }
}
