//! The byte tables, the worked example and the limits in `docs/FORMAT.md` are generated from the code. `GMFS_UPDATE=1`
//! rewrites them; otherwise a difference fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::path::PathBuf;

use gmfs_format::name::MAX_NAME;
use gmfs_format::native::features::{Features, KNOWN};
use gmfs_format::native::geometry::{Geometry, GeometryError, MAX_INODES, MIN_BLOCKS};
use gmfs_format::native::raw::{
    BLOCKS_PER_PAGE, BlockRaw, BlockTablePage, ErrorRecord, Field, INODES_PER_PAGE, InodeRaw, InodeTablePage, OnMemory,
    PageHeader, PageTrailer, SuperblockRaw,
};
use gmfs_format::native::seal::PAGE_VERSION;
use gmfs_format::native::sum::GROUPS;
use gmfs_format::native::superblock::{MAX_LABEL, VERSION};
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PmdShift};

/// A number with commas between thousands.
fn commas(n: u64) -> String {
    let digits = n.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A size in the largest binary unit that divides it.
fn binary(bytes: u64) -> String {
    const UNITS: [(u32, &str); 5] = [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift && bytes != 0);
    unit.map_or_else(|| format!("{bytes} bytes"), |(shift, name)| format!("{} {name}", commas(bytes >> shift)))
}

fn table(fields: &[Field]) -> String {
    let mut rows = "| offset | size | field | type | what it holds |\n| ---: | ---: | --- | --- | --- |\n".to_owned();
    for field in fields {
        let Field { name, offset, size, kind, doc } = field;
        let doc = doc.trim().replace('|', "\\|");
        writeln!(rows, "| {offset} | {size} | `{name}` | `{kind}` | {doc} |").unwrap();
    }
    rows
}

/// An example region, with the locations of a block and of an inode.
fn example() -> String {
    let (size, pmd) = (1 << 40, PmdShift::M2);
    let g = Geometry::plan(size, pmd, Geometry::default_inodes(size, pmd)).unwrap();
    let n = |n: u32| commas(n.into());
    let mut rows = format!(
        "A region of {} with blocks of {} and {} inodes:\n\n",
        binary(size),
        binary(g.block_bytes()),
        n(g.inodes())
    );
    rows.push_str("| | |\n| --- | --- |\n");
    let mut row = |what: &str, value: String| writeln!(rows, "| {what} | {value} |").unwrap();
    row("`N`, blocks", n(g.blocks()));
    row("`M`, blocks of each copy", n(g.metadata_blocks()));
    row("`D`, data blocks", n(g.data_blocks()));
    row("`T`, pages of the block table", n(g.table_pages()));
    row("`I`, pages of the inode table", n(g.inode_pages()));
    row("pages of each copy, superblock included", commas(g.pages()));
    row("copy A starts at", format!("{:#x}", g.copy_offset(CopyId::A)));
    row("copy B starts at", format!("{:#x}", g.copy_offset(CopyId::B)));
    row("data blocks", format!("{} … {}", n(g.first_data().0), n(g.end_data().0 - 1)));
    let block = BlockNo(100_000);
    let (page, slot) = g.descriptor_place(block).unwrap();
    let within = 64 + 16 * slot as u64;
    row(&format!("block {} lies at", n(block.0)), format!("{:#x}", g.block_offset(block)));
    row(&format!("block {} is described by", n(block.0)), format!("entry {slot} of page {page}"));
    for copy in CopyId::BOTH {
        row(&format!("… which lies, in copy {copy}, at"), format!("{:#x}", g.page_offset(copy, page) + within));
    }
    let ino = InodeNo(42);
    let (page, slot) = g.inode_place(ino).unwrap();
    let within = 64 + 500 * slot as u64;
    row(&format!("inode {ino} is"), format!("slot {slot} of page {}", n(page.0)));
    for copy in CopyId::BOTH {
        row(&format!("… which lies, in copy {copy}, at"), format!("{:#x}", g.page_offset(copy, page) + within));
    }
    rows
}

fn sizes() -> String {
    let mut rows = "| region | block | blocks | inodes | `M` | `T` | `I` | both copies |\n".to_owned();
    rows.push_str("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    let regions = [
        (64 << 20, PmdShift::M2),
        (1 << 30, PmdShift::M2),
        (64 << 30, PmdShift::M2),
        (1 << 40, PmdShift::M2),
        (16 << 40, PmdShift::M2),
        (64 << 40, PmdShift::M2),
        (1 << 40, PmdShift::M32),
        (1 << 40, PmdShift::M512),
    ];
    for (size, pmd) in regions {
        let g = Geometry::plan(size, pmd, Geometry::default_inodes(size, pmd)).unwrap();
        let metadata = 2 * u64::from(g.metadata_blocks()) * g.block_bytes();
        let (region, block, both) = (binary(size), binary(g.block_bytes()), binary(metadata));
        let n = |n: u32| commas(n.into());
        let (blocks, inodes, m) = (n(g.blocks()), n(g.inodes()), n(g.metadata_blocks()));
        let (t, i) = (n(g.table_pages()), n(g.inode_pages()));
        writeln!(rows, "| {region} | {block} | {blocks} | {inodes} | {m} | {t} | {i} | {both} |").unwrap();
    }
    rows
}

/// The maximum number of blocks of a region, by the code.
fn most_blocks() -> u32 {
    let fits = |blocks: u64| {
        !matches!(Geometry::plan(blocks << PmdShift::M2.bits(), PmdShift::M2, 8), Err(GeometryError::TooLarge { .. }))
    };
    let most = (0..4).map(|below| u64::from(u32::MAX) - below).find(|blocks| fits(*blocks)).unwrap();
    assert!(!fits(most + 1));
    u32::try_from(most).unwrap()
}

fn limits() -> String {
    let mut rows = "| | least | most |\n| --- | ---: | ---: |\n".to_owned();
    let mut row = |what: &str, least: String, most: String| writeln!(rows, "| {what} | {least} | {most} |").unwrap();
    let most = most_blocks();
    row("blocks of a region", MIN_BLOCKS.to_string(), commas(most.into()));
    for pmd in PmdShift::ALL {
        let bytes = pmd.block_bytes();
        let largest = (u64::from(most) + 1) * bytes;
        let what = format!("size of a region with blocks of {}", binary(bytes));
        row(&what, binary(u64::from(MIN_BLOCKS) * bytes), format!("just below {}", binary(largest + bytes)));
    }
    row("inodes, the root included", "1".into(), commas(MAX_INODES.into()));
    row("bytes of a name", "1".into(), MAX_NAME.to_string());
    row("bytes of a label", "0".into(), MAX_LABEL.to_string());
    let g = Geometry::plan(1 << 30, PmdShift::M2, 8).unwrap();
    let blocks = u64::from(u32::MAX);
    assert!(g.file_blocks(blocks * g.block_bytes()).is_some() && g.file_blocks(blocks * g.block_bytes() + 1).is_none());
    row("blocks that a file's size spans, holes included", "0".into(), commas(blocks));
    rows
}

/// Replaces the text between `<!-- name -->` and `<!-- /end -->`.
fn replace(text: &str, open: &str, close: &str, with: &str) -> String {
    let (before, rest) = text.split_once(open).unwrap_or_else(|| panic!("docs/FORMAT.md has no {open}"));
    let (_, after) = rest.split_once(close).unwrap_or_else(|| panic!("{open} has no {close}"));
    assert!(!after.contains(open), "{open} stands twice");
    format!("{before}{open}\n\n{}\n\n{close}{after}", with.trim_end())
}

fn of<T: OnMemory>(text: &str) -> String {
    replace(text, &format!("<!-- table: {} -->", T::NAME), "<!-- /table -->", &table(T::FIELDS))
}

fn generated(text: &str) -> String {
    let mut text = of::<PageHeader>(text);
    text = of::<PageTrailer>(&text);
    text = of::<SuperblockRaw>(&text);
    text = of::<ErrorRecord>(&text);
    text = of::<BlockTablePage>(&text);
    text = of::<BlockRaw>(&text);
    text = of::<InodeTablePage>(&text);
    text = of::<InodeRaw>(&text);
    text = replace(&text, "<!-- example -->", "<!-- /example -->", &example());
    text = replace(&text, "<!-- sizes -->", "<!-- /sizes -->", &sizes());
    replace(&text, "<!-- limits -->", "<!-- /limits -->", &limits())
}

#[test]
fn the_tables_are_what_the_code_declares() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/FORMAT.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let expected = generated(&found);
    if std::env::var_os("GMFS_UPDATE").is_some() {
        std::fs::write(&path, expected).unwrap();
    } else {
        assert!(found == expected, "docs/FORMAT.md is not what the code declares: run with GMFS_UPDATE=1");
    }
}

/// Words and figures in the text must agree with the code.
#[test]
fn the_text_agrees_with_the_code() {
    assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
    assert_eq!(KNOWN, Features::default(), "FORMAT.md says that no features are defined");
    assert_eq!((size_of::<PageHeader>(), size_of::<PageTrailer>()), (64, 32));
    assert_eq!((size_of::<BlockRaw>(), size_of::<InodeRaw>()), (16, 500));
    assert_eq!((BLOCKS_PER_PAGE, INODES_PER_PAGE, GROUPS), (250, 8, 64));
    assert_eq!((PAGE_VERSION, VERSION), (2, 2));
    assert_eq!(MAX_INODES, 1 << 20);
    let default = |blocks: u64| Geometry::default_inodes(blocks << 21, PmdShift::M2);
    assert_eq!((default(3), default(1 << 15), default(1 << 30)), (1024, 2048, 65536));
}
