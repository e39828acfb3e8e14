//! Blocks and inode numbers that must not be allocated: bad or reserved ones, and those with contradictory records.

use std::collections::BTreeSet;

use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::InodeNo;
use gmfs_volume::{ChangeError, Region};

use crate::support::craft::{descriptor, edit_inode, set_descriptor};
use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, create_options, fresh, open};
use crate::support::state::Snapshot;

/// A region of 6 data blocks. The first one belongs to the file `/a`, inode 2.
fn with_a_file() -> Memory {
    let mut image = fresh(16 << 20, 16);
    let mut writer = open(&mut image);
    writer.create(b"/a", &create_options(BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    image
}

fn blocks_of(image: &Memory, ino: InodeNo) -> Vec<u32> {
    let extents = Region::open(image).unwrap().mapping(ino).extents;
    extents.iter().flat_map(|extent| extent.block.0..extent.block.0 + extent.count).collect()
}

fn state_of(image: &Memory, block: u32) -> BlockRaw {
    Region::open(image).unwrap().descriptor(gmfs_format::native::units::BlockNo(block)).unwrap()
}

#[test]
fn only_blocks_that_are_free_beyond_doubt_are_given_out() {
    let mut image = with_a_file();
    let withheld = [
        (3, descriptor(BlockState::Bad, 0, 0)),
        (4, descriptor(BlockState::Reserved, 0, 0)),
        // A block that is marked free but has an owner.
        (5, descriptor(BlockState::Free, 9, 0)),
        (6, BlockRaw { crc: 1.into(), ..BlockRaw::FREE }),
    ];
    for (block, raw) in withheld {
        set_descriptor(&mut image, block, raw);
    }
    let mut writer = open(&mut image);
    assert_eq!(writer.free_blocks(), 1);
    let two = writer.create(b"/b", &create_options(2 * BLOCK, false, false));
    assert!(matches!(two, Err(ChangeError::NoSpace { needed: 2, free: 1 })), "{two:?}");
    let ino = writer.create(b"/b", &create_options(BLOCK, false, false)).unwrap();
    writer.truncate(b"/a", 0, false).unwrap();
    writer.truncate(b"/b", 2 * BLOCK, false).unwrap();
    let full = writer.put(
        b"/c",
        &mut &[1_u8][..],
        &gmfs_volume::PutOptions { create: create_options(0, false, false), replace: false },
    );
    assert!(matches!(full, Err(ChangeError::NoSpace { .. })), "{full:?}");
    writer.close().unwrap();
    assert_eq!(BTreeSet::from_iter(blocks_of(&image, ino)), BTreeSet::from([1, 2]));
    for (block, raw) in withheld {
        assert_eq!(state_of(&image, block), raw);
    }
}

/// Creates directories until it fails. Returns the inodes that they got.
fn take_all_inodes(image: &mut Memory) -> Vec<u32> {
    let mut writer = open(&mut *image);
    let mut made = 0;
    let error = loop {
        match writer.mkdir(format!("/dir{made}").as_bytes(), false, 0o700, (0, 0)) {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ChangeError::NoInodes(16)), "{error}");
    let found =
        writer.tree().inodes().filter(|inode| inode.name.starts_with(b"dir")).map(|inode| inode.ino.0).collect();
    writer.close().unwrap();
    found
}

#[test]
fn inode_numbers_that_a_descriptor_names_are_not_used_again() {
    let mut image = with_a_file();
    set_descriptor(&mut image, 3, descriptor(BlockState::Reserved, 5, 0));
    set_descriptor(&mut image, 4, descriptor(BlockState::Bad, 9, 0));
    set_descriptor(&mut image, 5, descriptor(BlockState::Data, 11, 7));
    set_descriptor(&mut image, 6, descriptor(BlockState::Free, 12, 0));
    let given: BTreeSet<u32> = take_all_inodes(&mut image).into_iter().collect();
    let expected = (3..=16).filter(|ino| ![5, 9, 11, 12].contains(ino)).collect();
    assert_eq!(given, expected);
}

#[test]
fn a_number_that_a_descriptor_still_names_is_not_used_again_by_the_writer_that_freed_it() {
    let mut image = with_a_file();
    set_descriptor(&mut image, 3, descriptor(BlockState::Reserved, 2, 0));
    let mut writer = open(&mut image);
    writer.remove(b"/a", false).unwrap();
    assert_ne!(writer.create(b"/new", &create_options(0, true, false)).unwrap(), InodeNo(2));
}

#[test]
fn blocks_that_a_file_owns_against_its_own_count_do_not_pass_to_the_next_file() {
    let mut image = with_a_file();
    edit_inode(&mut image, InodeNo(2), |raw| raw.blocks = 0.into());
    let mut writer = open(&mut image);
    let removed = writer.remove(b"/a", false);
    let ino = writer.create(b"/new", &create_options(BLOCK, true, false)).unwrap();
    writer.close().unwrap();
    assert!(removed.is_err() || blocks_of(&image, ino).is_empty(), "{:?}", blocks_of(&image, ino));
}

#[test]
fn a_bad_block_outlives_its_file_and_is_nobodys() {
    let mut image = with_a_file();
    let mut writer = open(&mut image);
    let ino = writer.create(b"/b", &create_options(3 * BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    let [first, second, third] = blocks_of(&image, ino)[..] else { panic!("not three blocks") };
    set_descriptor(&mut image, second, descriptor(BlockState::Bad, ino.0, 1));
    set_descriptor(&mut image, third, descriptor(BlockState::Bad, ino.0, 2));
    let mut writer = open(&mut image);
    assert_eq!(writer.free_blocks(), 2);
    writer.truncate(b"/b", 2 * BLOCK, false).unwrap();
    assert_eq!(writer.free_blocks(), 2);
    writer.remove(b"/b", false).unwrap();
    assert_eq!(writer.free_blocks(), 3);
    writer.create(b"/c", &create_options(3 * BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    for bad in [second, third] {
        assert_eq!(state_of(&image, bad), descriptor(BlockState::Bad, 0, 0));
    }
    assert_eq!(state_of(&image, first).state(), Some(BlockState::Data));
    Snapshot::read(&image).unwrap();
}
