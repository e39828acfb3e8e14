//! Random dumps against a reader that is too simple to be wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What each page reads as.
struct Naive {
    page: u64,
    pages: BTreeMap<u64, Result<Vec<u8>, Absence>>,
}

impl Naive {
    fn new(builder: &Builder) -> Self {
        let size = builder.page;
        let read = |page: &Page| match page {
            Page::Memory(bytes, _) => Ok(bytes.clone()),
            Page::SharedZero => Ok(vec![0; size]),
            Page::Lost => Err(Absence::Truncated),
            Page::Excluded => Err(Absence::Excluded),
            Page::Forged { .. } | Page::Pointed { .. } => Err(Absence::Undecodable),
        };
        Self { page: size as u64, pages: builder.pages.iter().map(|(n, page)| (*n, read(page))).collect() }
    }

    fn byte(&self, at: u64) -> Result<u8, Absence> {
        match self.pages.get(&(at / self.page)) {
            None => Err(Absence::NotInDump),
            Some(Err(why)) => Err(*why),
            Some(Ok(bytes)) => Ok(bytes[(at % self.page) as usize]),
        }
    }

    /// The bytes, or where the first stretch that is absent begins, and why.
    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, (u64, Absence)> {
        (at..at + len as u64).map(|at| self.byte(at).map_err(|why| (at, why))).collect()
    }

    fn absent(&self, from: u64, to: u64) -> Option<(Span, Absence)> {
        let first = (from..to).find(|at| self.byte(*at).is_err())?;
        let why = self.byte(first).err();
        let len = (first..to).take_while(|at| self.byte(*at).err() == why).count();
        Some((Span::new(first, len as u64), why?))
    }
}

fn page(size: usize) -> impl Strategy<Value = Page> {
    prop_oneof![
        6 => (any::<u64>(), 0..5_usize).prop_map(move |(seed, codec)| Page::Memory(memory(seed >> 8, size), ALL[codec])),
        2 => Just(Page::SharedZero),
        1 => Just(Page::Excluded),
        1 => Just(Page::Lost),
        // Told before anything is decoded: two codecs at once.
        1 => Just(Page::Forged { data: vec![1; 20], size: 20, flags: 3 }),
    ]
}

fn dumps() -> impl Strategy<Value = Builder> {
    let page_size = prop_oneof![Just(512_usize), Just(1024), Just(4096)];
    (page_size, any::<bool>(), any::<bool>(), any::<bool>(), 1..=6_u32).prop_flat_map(
        |(size, big, wide, padded, version)| {
            let near = prop::collection::btree_map(0..40_u64, page(size), 0..30);
            let far = prop::collection::btree_map(3900..4200_u64, page(size), 0..30);
            (near, far).prop_map(move |(mut pages, far)| {
                pages.extend(far);
                Builder { page: size, big, wide, padded, version, pages, ..Builder::new() }
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn reads_agree_with_the_naive_reader(
        builder in dumps(),
        reads in prop::collection::vec((any::<u16>(), any::<bool>(), 0..30_000_usize), 12),
    ) {
        let (dump, naive) = (parse(&builder), Naive::new(&builder));
        let held = builder.pages.values().filter(|page| !matches!(page, Page::Excluded)).count();
        prop_assert_eq!(dump.facts().pages, held as u64);
        for (at, far, len) in reads {
            let at = u64::from(at) + if far { 3890 * naive.page } else { 0 };
            let expected = naive.read(at, len);
            let found = read(&dump, at, len).map_err(|(span, why)| (span.offset, why));
            prop_assert_eq!(found, expected);
            let to = at + len as u64;
            prop_assert_eq!(dump.next_absent(at..to), naive.absent(at, to));
            match dump.next_data(at..to).unwrap() {
                Some(data) => {
                    prop_assert!(at <= data.start && data.start < data.end && data.end <= to);
                    prop_assert!((at..data.start).all(|at| naive.byte(at) == Ok(0)));
                }
                None => prop_assert!((at..to).all(|at| naive.byte(at) == Ok(0))),
            }
        }
        let mut listed = BTreeMap::new();
        for (span, why) in dump.ranges() {
            for number in span.offset / naive.page..span.end() / naive.page {
                listed.insert(number, why.is_none());
            }
        }
        let known: BTreeMap<u64, bool> =
            builder.pages.iter().map(|(n, page)| (*n, !matches!(page, Page::Excluded))).collect();
        prop_assert_eq!(listed, known);
    }
}
