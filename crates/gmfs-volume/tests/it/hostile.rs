//! Hostile bytes in a region, also with good seals: reading and opening it must end with an answer or an error, and so
//! must every change.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use gmfs_format::model::Piece;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::seal::{self, PageKind, Place};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::INODE_LOST_DATA;
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageNo, PmdShift};
use gmfs_volume::content::ContentError;
use gmfs_volume::{ChangeError, Region, Writer};
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::cases;
use crate::support::craft::{edit_inode, edit_page, edit_superblock, set_generation};
use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, Op, fresh, open, writer_options};
use crate::support::state::{Snapshot, health};

/// The number of pages of each copy that are damaged: the superblock, one page of blocks, three of inodes, and some
/// after these.
const PAGES: u64 = 8;
const SIZE: u64 = 32 << 20;

static REGION: LazyLock<Memory> = LazyLock::new(|| {
    let mut image = fresh(SIZE, 24);
    let mut writer = open(&mut image);
    let create = |path, size| Op::Create { path, size, sparse: false, aligned: false };
    let mkdir = |path| Op::Mkdir { path, parents: false };
    for op in [create("/a", 3 * BLOCK), mkdir("/d"), mkdir("/d/e"), create("/d/x", BLOCK + 17), create("/d/e/z", 0)] {
        op.run(&mut writer).unwrap();
    }
    for n in 0..12 {
        writer.mkdir(format!("/n{n}").as_bytes(), false, 0o700, (0, 0)).unwrap();
    }
    writer.close().unwrap();
    image
});

/// The offset of such a page.
fn place(n: u64) -> u64 {
    let copy = if n.is_multiple_of(2) { 0 } else { SIZE - BLOCK };
    copy + n / 2 % PAGES * 4096
}

/// A change of the bytes.
#[derive(Clone, Debug)]
enum Harm {
    Flip {
        page: u64,
        byte: usize,
        bit: u8,
    },
    Random {
        page: u64,
        from: usize,
        bytes: Vec<u8>,
    },
    Zero {
        page: u64,
    },
    Swap {
        one: u64,
        other: u64,
    },
    /// False values with a good seal in both copies. The offset is in the payload.
    Lie {
        page: u32,
        at: usize,
        value: u64,
        width: usize,
    },
    Generation {
        copy: u64,
        value: u64,
    },
}

/// Numbers that break arithmetic.
fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![
        any::<u64>(),
        0_u64..40,
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(u64::from(u32::MAX)),
        Just(1 << 63),
        Just(1 << 32),
    ]
}

fn harm() -> impl Strategy<Value = Harm> {
    let page = || 0..2 * PAGES;
    let bytes = prop::collection::vec(any::<u8>(), 1..128);
    // False values are put where the fields are: the first inodes and descriptors, and the whole superblock.
    let lie =
        (0_u32..5, prop_oneof![0_usize..320, 0_usize..2500], number(), prop_oneof![Just(1_usize), Just(4), Just(8)]);
    prop_oneof![
        (page(), 0..PAGE_SIZE, 0_u8..8).prop_map(|(page, byte, bit)| Harm::Flip { page, byte, bit }),
        (page(), 0..PAGE_SIZE - 128, bytes).prop_map(|(page, from, bytes)| Harm::Random { page, from, bytes }),
        page().prop_map(|page| Harm::Zero { page }),
        (page(), page()).prop_map(|(one, other)| Harm::Swap { one, other }),
        lie.clone().prop_map(|(page, at, value, width)| Harm::Lie { page, at, value, width }),
        lie.prop_map(|(page, at, value, width)| Harm::Lie { page, at: at & !7, value, width }),
        (0_u64..2, number()).prop_map(|(copy, value)| Harm::Generation { copy, value }),
    ]
}

fn do_harm(image: &mut Memory, harm: &Harm) {
    match harm {
        Harm::Flip { page, byte, bit } => {
            let mut bytes = image.page(place(*page));
            bytes[*byte] ^= 1 << bit;
            image.put(place(*page), &bytes);
        }
        Harm::Random { page, from, bytes } => image.put(place(*page) + *from as u64, bytes),
        Harm::Zero { page } => image.put(place(*page), &[0; PAGE_SIZE]),
        Harm::Swap { one, other } => {
            let (first, second) = (image.page(place(*one)), image.page(place(*other)));
            image.put(place(*one), &second);
            image.put(place(*other), &first);
        }
        Harm::Lie { page, at, value, width } => {
            if Region::open(&*image).is_ok_and(|region| region.geometry().page_kind(PageNo(*page)).is_some()) {
                edit_page(image, PageNo(*page), |bytes| {
                    bytes[64 + at..64 + at + width].copy_from_slice(&value.to_le_bytes()[..*width]);
                });
            }
        }
        Harm::Generation { copy, value } => {
            let mut bytes = image.page(place(*copy));
            if let Some((place, _)) = seal::claim(&bytes) {
                seal::seal(&mut bytes, &place, Generation(*value));
            }
            image.put(place(*copy), &bytes);
        }
    }
}

/// Reads everything that can be read.
fn read_all(image: &Memory) {
    let Ok(region) = Region::open(image) else { return };
    let found = region.inodes();
    for inode in found.tree.inodes() {
        let _ = found.tree.path(inode.ino);
        let _ = found.tree.children(inode.ino).count();
        let Ok(pieces) = region.content(inode) else { continue };
        let covered = |piece: &Piece| match piece {
            Piece::Data { file, .. } | Piece::Hole { file } | Piece::Lost { file } => file.len,
        };
        assert_eq!(pieces.iter().map(covered).sum::<u64>(), inode.size, "inode {}", inode.ino);
    }
    let _ = health(image);
    let _ = Snapshot::read(image);
}

/// Tries every kind of change. Whatever the region was, it must be possible to open it again afterwards.
fn change_all(image: &Memory) {
    let mut image = image.clone();
    let Ok((mut writer, _)) = Writer::open(&mut image, writer_options()) else { return };
    let ops = [
        Op::Create { path: "/new", size: 2 * BLOCK, sparse: false, aligned: false },
        Op::Create { path: "/aligned", size: BLOCK, sparse: false, aligned: true },
        Op::Truncate { path: "/a", size: 5 * BLOCK + 9, sparse: false },
        Op::Truncate { path: "/d/x", size: 7, sparse: false },
        Op::Put { path: "/d/x", size: BLOCK, id: 5, replace: true, sparse: false, told: false },
        Op::Rename { from: "/a", to: "/d/x", replace: true },
        Op::Rename { from: "/d", to: "/n0", replace: false },
        Op::Mkdir { path: "/n1/deep/deeper", parents: true },
        Op::Remove { path: "/n0", recursive: true },
        Op::Remove { path: "/new", recursive: false },
    ];
    for op in ops {
        let _ = op.run(&mut writer);
    }
    if writer.close().is_ok() {
        Writer::open(&mut image, writer_options()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(cases(2000)).unwrap(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn harmed_regions_neither_panic_nor_hang(harms in prop::collection::vec(harm(), 1..6)) {
        let mut image = REGION.clone();
        let start = Instant::now();
        for harm in &harms {
            do_harm(&mut image, harm);
            read_all(&image);
        }
        change_all(&image);
        prop_assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn noise_is_no_region(noise in prop::collection::vec(any::<u8>(), 1..20_000)) {
        let mut image = Memory::new(SIZE);
        image.put(0, &noise);
        image.put(SIZE - BLOCK, &noise);
        prop_assert!(Region::open(&image).is_err());
        prop_assert!(Writer::open(&mut image, writer_options()).is_err());
    }
}

#[test]
fn a_region_at_the_end_of_all_generations_is_not_wrapped_around() {
    // The last session begins at this generation, and has a mark and 254 changes. The highest number is not used for
    // pages.
    let last = u64::MAX - 255;
    let behind = [u64::MAX, u64::MAX - 1, u64::MAX - 2, last, last - 1];
    for (generation, possible) in behind.into_iter().map(|generation| (generation, 0)).chain([(last - 2, 254)]) {
        let mut image = REGION.clone();
        set_generation(&mut image, generation);
        let before = Snapshot::read(&image).unwrap();
        let mut writer = open(&mut image);
        let mut done = 0_u64;
        while writer.truncate(b"/a", done % 2 * BLOCK, false).is_ok() {
            done += 1;
        }
        assert_eq!(done, possible, "{generation:#x}");
        // If nothing was changed there is nothing to close. After the last change there is no generation for the mark.
        assert_eq!(writer.close().is_ok(), done == 0, "{generation:#x}");
        let after = Snapshot::read(&image).unwrap();
        assert_eq!(after == before, done == 0);
        assert!(health(&image).unwrap().damage.is_empty());
        // It can still be read and opened, however often.
        drop(open(&mut image));
        assert_eq!(Snapshot::read(&image).unwrap(), after);
    }
}

#[test]
fn a_small_image_that_claims_to_be_huge_is_read_in_bearable_time() {
    let mut image = Memory::new(SIZE);
    let geometry = Geometry::plan(64 << 40, PmdShift::M2, 1 << 20).unwrap();
    let mut superblock = Superblock::new(geometry, Uuid::from_u128(1), 5, Generation(3));
    superblock.raw.table_used = superblock.raw.table_pages;
    superblock.raw.inodes_used_pages = superblock.raw.inode_pages;
    image.put(0, &superblock.page(CopyId::A));
    let kind = PageKind::BlockTable;
    let place = Place { kind, copy: CopyId::A, page: PageNo(1), uuid: superblock.uuid, birth: 5, geometry };
    let mut page = [0; PAGE_SIZE];
    superblock.trailer().write(&mut page);
    seal::seal(&mut page, &place, Generation(2));
    assert_eq!(PageHeader::of(&page).generation.get(), 2);
    image.put(4096, &page);
    let start = Instant::now();
    let region = Region::open(&image).unwrap();
    assert!(region.inodes().lost_pages > 100_000);
    assert!(region.mapping(gmfs_format::native::units::InodeNo(2)).lost_pages > 100_000);
    assert!(Writer::open(&mut image, writer_options()).is_err());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn contradictions_under_good_seals_are_told_and_not_followed() {
    // A directory that is its own parent, two files with one name, and a size that no file block number reaches.
    let ino = |path: &[u8]| Region::open(&*REGION).unwrap().inodes().tree.resolve(path).unwrap().ino;
    let (directory, inner, file) = (ino(b"/d"), ino(b"/d/e"), ino(b"/a"));
    let mut image = REGION.clone();
    edit_inode(&mut image, directory, |raw| raw.parent = inner.0.into());
    edit_inode(&mut image, file, |raw| raw.size = u64::MAX.into());
    edit_superblock(&mut image, |raw| raw.free_blocks = u64::MAX.into());
    read_all(&image);
    change_all(&image);
    let found = Region::open(&image).unwrap().inodes().tree;
    assert_eq!(found.path(inner), None);
    assert!(found.resolve(b"/d").is_none());
}

#[test]
fn a_count_of_blocks_that_cannot_grow_is_refused() {
    let ino = Region::open(&*REGION).unwrap().inodes().tree.resolve(b"/a").unwrap().ino;
    let mut image = REGION.clone();
    // A file with lost data may own fewer blocks than it records.
    edit_inode(&mut image, ino, |raw| (raw.flags, raw.blocks) = (INODE_LOST_DATA.into(), u64::MAX.into()));
    let mut writer = open(&mut image);
    let free = writer.free_blocks();
    assert!(matches!(writer.truncate(b"/a", 5 * BLOCK, false), Err(ChangeError::Mapping(_))));
    assert_eq!(writer.free_blocks(), free);
    writer.truncate(b"/a", 2 * BLOCK, false).unwrap();
    writer.truncate(b"/a", 3 * BLOCK, false).unwrap();
    writer.close().unwrap();
    assert_eq!(Region::open(&image).unwrap().inodes().tree.get(ino).unwrap().blocks, u64::MAX);
}

/// A block past the end of its file would get a second block for its file block, or would return with its old content.
#[test]
fn a_file_with_blocks_behind_its_end_does_not_grow() {
    let ino = Region::open(&*REGION).unwrap().inodes().tree.resolve(b"/a").unwrap().ino;
    let mut image = REGION.clone();
    edit_inode(&mut image, ino, |raw| raw.size = BLOCK.into());
    let mut writer = open(&mut image);
    for sparse in [false, true] {
        let refused = writer.truncate(b"/a", 2 * BLOCK, sparse);
        assert!(matches!(refused, Err(ChangeError::Mapping(ContentError::BehindEnd { index: 1, .. }))), "{refused:?}");
    }
    // When the file gets shorter, these blocks are freed.
    writer.truncate(b"/a", BLOCK / 2, false).unwrap();
    writer.truncate(b"/a", 2 * BLOCK, false).unwrap();
    writer.close().unwrap();
    let region = Region::open(&image).unwrap();
    assert_eq!(region.mapping(ino).extents.iter().map(|extent| extent.count).sum::<u32>(), 2);
}
