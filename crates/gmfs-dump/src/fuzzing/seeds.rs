//! Seeds: small inputs that a fuzzer starts from. Most are valid files, so that mutations of them get past the first
//! checks.

use super::choices::memory;
use super::elf_file::{self, Load};
use super::kdump_file::{Builder, Page, encode};
use super::made::{block, flat_start, record};
use crate::kdump::Codec;

/// A seed's file name and its bytes.
type Seed = (String, Vec<u8>);

const CODECS: [Codec; 5] = [Codec::Stored, Codec::Zlib, Codec::Lzo, Codec::Snappy, Codec::Zstd];

/// The seeds of a target, each with a file name. An unknown target has none.
#[must_use]
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "elf" => elf(),
        // This target is in gmfs-image, which recognises each of the formats.
        "image" => image(),
        "kdump" => kdump(),
        "flat" => flat(),
        "lime" => lime(),
        "made_elf" | "made_kdump" | "made_flat" | "made_lime" => decisions(),
        "codec_zlib" => pages(Codec::Zlib),
        "codec_lzo" => pages(Codec::Lzo),
        "codec_snappy" => pages(Codec::Snappy),
        "codec_zstd" => pages(Codec::Zstd),
        _ => Vec::new(),
    }
}

/// An ELF core in each width and byte order.
fn elf() -> Vec<Seed> {
    let orders = [("64-le", true, false), ("64-be", true, true), ("32-le", false, false), ("32-be", false, true)];
    let mut seeds: Vec<Seed> = orders
        .into_iter()
        .map(|(name, wide, big)| {
            let loads = [Load::new(0x1000, &memory(3, 300)), Load::new(0x4000, &memory(4, 100)).memory(0x2000)];
            let core = elf_file::Builder::new().order(wide, big).note("VMCOREINFO", b"OSRELEASE=6.1\n").loads(loads);
            (name.to_owned(), core.bytes())
        })
        .collect();
    let mut extended = elf_file::Builder::new().loads([Load::new(0, b"first"), Load::new(5, b"second")]);
    extended.extended = true;
    seeds.push(("extended-count".into(), extended.bytes()));
    seeds
}

/// One file of each kind, and the text of `/proc/iomem`.
fn image() -> Vec<Seed> {
    let first = |name: &str, seeds: Vec<Seed>| seeds.into_iter().next().map(|(_, bytes)| (name.to_owned(), bytes));
    let kinds = [("elf", elf()), ("kdump", kdump()), ("flat", flat()), ("lime", lime())];
    let mut seeds: Vec<Seed> = kinds.into_iter().filter_map(|(name, seeds)| first(name, seeds)).collect();
    let iomem = "00001000-0009ffff : System RAM\n100000000-13fffffff : Reserved\n  100000000-10fffffff : guestmemfs\n";
    seeds.push(("iomem".into(), iomem.into()));
    seeds
}

/// Four pages: one compressed by the codec, a shared zero page, one that was left out, and another one after a gap.
fn four_pages(dump: Builder, codec: Codec) -> Builder {
    let size = dump.page;
    dump.page(0, Page::Memory(memory(4, size), codec))
        .page(1, Page::SharedZero)
        .page(2, Page::Excluded)
        .page(70, Page::Memory(memory(7, size), codec))
}

/// Small pages keep the seeds small, so that a fuzzer gets through more of them.
fn small_dump() -> Builder {
    Builder { page: 512, ..Builder::new() }
}

/// A kdump-compressed dump in each version, codec and layout.
fn kdump() -> Vec<Seed> {
    let versions =
        (0..=6).map(|version| (format!("version-{version}"), Builder { version, ..small_dump() }, CODECS[0]));
    let codecs = CODECS.into_iter().map(|codec| (format!("codec-{}", codec.name()), small_dump(), codec));
    let layouts = [
        ("64-be", Builder { big: true, ..small_dump() }),
        ("32-le", Builder { wide: false, ..small_dump() }),
        ("32-be", Builder { wide: false, big: true, ..small_dump() }),
        ("32-padded", Builder { wide: false, padded: true, ..small_dump() }),
        ("split", Builder { split: Some((0, 71)), ..small_dump() }),
        ("notes", Builder { info: "OSRELEASE=6.1\nCRASHTIME=5\n", ..small_dump() }),
        ("page-4096", Builder::new()),
    ];
    let layouts = layouts.into_iter().map(|(name, dump)| (name.to_owned(), dump, Codec::Zlib));
    let all = versions.chain(codecs).chain(layouts);
    all.map(|(name, dump, codec)| (name, four_pages(dump, codec).bytes())).collect()
}

/// A kdump-compressed dump and an ELF core, flattened: in file order, backwards, and cut short.
fn flat() -> Vec<Seed> {
    let kdump = four_pages(small_dump(), Codec::Zlib).bytes();
    let elf = elf_file::Builder::new().loads([Load::new(0x1000, &memory(3, 300))]).bytes();
    let mut seeds = Vec::new();
    for (name, plain) in [("kdump", kdump), ("elf", elf)] {
        let pieces: Vec<(usize, &[u8])> = plain.chunks(700).enumerate().collect();
        let stream = |pieces: &mut dyn Iterator<Item = &(usize, &[u8])>| {
            let mut stream = flat_start();
            for (number, piece) in pieces {
                record(&mut stream, number * 700, piece);
            }
            stream
        };
        let end = [0xff; 16];
        seeds.push((name.to_owned(), [stream(&mut pieces.iter()), end.to_vec()].concat()));
        seeds.push((format!("{name}-backwards"), [stream(&mut pieces.iter().rev()), end.to_vec()].concat()));
        seeds.push((format!("{name}-cut"), stream(&mut pieces.iter())));
    }
    seeds
}

/// LiME and AVML images, one with blocks of both formats, and one in the other byte order.
fn lime() -> Vec<Seed> {
    let blocks = |kinds: [bool; 2]| {
        let starts = [0x1000, 0x8000];
        starts.into_iter().zip(kinds).flat_map(|(at, compressed)| block(at, &memory(at + 1, 600), compressed)).collect()
    };
    let mut big = b"LiME\0\0\0\x01".to_vec();
    for word in [0x1000_u64, 0x1004, 0] {
        big.extend(word.to_be_bytes());
    }
    big.extend(b"first");
    vec![
        ("lime".into(), blocks([false, false])),
        ("avml".into(), blocks([true, true])),
        ("both".into(), blocks([false, true])),
        ("big-endian".into(), big),
    ]
}

/// Random bytes, few and many. Any input is valid for targets that interpret it as decisions.
fn decisions() -> Vec<Seed> {
    let random = |number: u64| memory(12 * number + 1, 64 << (number % 4));
    (0..12).map(|number| (format!("decisions-{number}"), random(number))).collect()
}

/// Stored pages of two sizes, and inputs from which the target makes valid pages.
fn pages(codec: Codec) -> Vec<Seed> {
    // The first two bytes choose the page's size. A third byte of 0 says that the stored bytes follow.
    let sizes = [(0, 4096), (3, 512)];
    let stored = sizes.into_iter().map(|(choice, size)| {
        let (bytes, _) = encode(&memory(5, size), codec);
        (format!("stored-{size}"), [&[0, choice, 0], bytes.as_slice()].concat())
    });
    // A third byte of 1 says that the target makes a page: two bytes choose its size, eight its content, one the
    // damage.
    let made = (0..4_u8).map(|number| {
        let input = [0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, number, number % 2, number, 0, 9, number];
        (format!("made-{number}"), input.to_vec())
    });
    stored.chain(made).collect()
}
