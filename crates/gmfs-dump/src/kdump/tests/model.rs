//! Compares random dumps with a reader that is too simple to be wrong.

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
            Page::Lost => Err(Absence::NoData),
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

    /// The bytes, or where the first absent range begins and why it is absent.
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
        // Names two codecs at once, so it is absent before anything is decoded.
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
        counted in prop::collection::vec((any::<u16>(), any::<bool>(), 0..40_000_u32), 3),
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
        for (from, far, len) in counted {
            let from = u64::from(from) + if far { 3890 * naive.page } else { 0 };
            let range = from..from + u64::from(len);
            // The ranges that are listed, cut to the range and counted one by one.
            let inside = |span: Span| (span.offset.max(range.start), span.end().min(range.end));
            let listed: Vec<_> = dump.ranges().filter(|(span, _)| inside(*span).0 < inside(*span).1).collect();
            let mut sums = Totals::default();
            for (span, why) in &listed {
                sums.add(inside(*span).1 - inside(*span).0, 1, *why);
            }
            prop_assert_eq!(dump.totals(&range).unwrap(), sums);
            let held: Vec<Span> = listed.iter().filter(|(_, why)| why.is_none()).map(|(span, _)| *span).collect();
            let last = held.last().map(|span| inside(*span));
            prop_assert_eq!(dump.last_held(&range, u64::MAX).unwrap().map(|span| (span.offset, span.end())), last);
            if let Some(found) = dump.last_held(&range, 5000).unwrap() {
                let (start, end) = last.unwrap();
                prop_assert_eq!(found.end(), end);
                prop_assert!(found.offset >= start && found.len >= (end - start).min(5000));
            }
            let tally = dump.tally(&range).unwrap();
            let count = |why: Option<Absence>| range.clone().filter(|at| naive.byte(*at).err() == why).count() as u64;
            prop_assert_eq!(tally.held, count(None));
            for why in [Absence::Excluded, Absence::NoData, Absence::Undecodable, Absence::Truncated] {
                prop_assert_eq!(tally.absent.get(&why).copied().unwrap_or(0), count(Some(why)), "{}", why);
            }
        }
        let all: Vec<Span> = dump.ranges().filter(|(_, why)| why.is_none()).map(|(span, _)| span).collect();
        prop_assert_eq!(dump.held().collect::<Vec<_>>(), all);
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

/// Runs of pages of all lengths, so that they cross the edges of words of 64 pages and groups of 4096 pages.
fn runs() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let length = prop_oneof![3 => 0..4_u16, 3 => 60..70_u16, 1 => 4090..4100_u16, 1 => 0..300_u16];
    prop::collection::vec((length.clone(), length), 1..12)
}

/// Counts the reads, and the bytes that they read.
struct Counting(Vec<u8>, std::sync::Arc<std::sync::atomic::AtomicU64>);

impl ReadAt for Counting {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.0.end()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn long_runs_are_found_among_short_ones(runs in runs(), from in 0..200_u64, least in 1..140_u64) {
        let (mut at, mut builder, mut held) = (1, Builder { page: 512, ..Builder::new() }, Vec::new());
        for (gap, length) in runs {
            at += u64::from(gap);
            held.extend(at..at + u64::from(length));
            for number in at..at + u64::from(length) {
                builder = builder.page(number, Page::SharedZero);
            }
            at += u64::from(length);
        }
        let dump = parse(&builder);
        let file = dump.bitmap_file().unwrap();
        let to = at.saturating_sub(from % 7).max(from);
        let naive = (from..to).filter(|start| *start == from || !held.contains(&(start - 1))).find_map(|start| {
            let end = (start..to).find(|page| !held.contains(page)).unwrap_or(to);
            (end - start >= least).then_some(start..end)
        });
        prop_assert_eq!(dump.maps.long_run(file, from, to, least).unwrap(), naive);
    }
}

#[test]
fn scattered_pages_cost_by_the_bytes_of_the_bitmap() {
    // Every other page of 4 GiB: 524,288 runs with as many gaps between them, in bitmaps of 128 KiB each.
    let pages = 1_u64 << 20;
    let mut bytes = Builder::new().page(0, Page::SharedZero).page(pages - 1, Page::Excluded).bytes();
    let half = pages as usize / 8;
    let start = 2 * 4096;
    for (number, byte) in bytes[start..start + 2 * half].iter_mut().enumerate() {
        *byte = if number < half { 0xff } else { 0x55 };
    }
    let reads = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let dump = KdumpDump::parse(Counting(bytes, std::sync::Arc::clone(&reads))).unwrap();
    let totals = dump.totals(&(0..u64::MAX)).unwrap();
    assert_eq!((totals.held, totals.held_ranges, totals.ranges), (pages / 2 * 4096, pages / 2, pages));
    assert_eq!(dump.held().take(3).map(|span| span.offset).collect::<Vec<_>>(), [0, 0x2000, 0x4000]);
    assert_eq!(dump.ranges().count() as u64, pages);
    let tally = dump.tally(&(0..u64::MAX)).unwrap();
    assert!(tally.held <= 4096, "{tally:?}");
    let mut at = 0;
    while at < pages * 4096 {
        let data = dump.next_data(at..pages * 4096).unwrap();
        at = data.map_or(u64::MAX, |data| data.end.max(at + 1));
    }
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads < 100, "{reads} reads");
}
