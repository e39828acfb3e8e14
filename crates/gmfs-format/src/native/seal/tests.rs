use super::*;
use crate::native::sum::{Marks, Sum};
use proptest::prelude::*;

fn place() -> Place {
    let geometry = Geometry::plan(5 << 30, PmdShift::M2, 100).unwrap();
    Place {
        kind: PageKind::BlockTable,
        copy: CopyId::A,
        page: PageNo(7),
        uuid: Uuid::from_u128(0x1234),
        birth: 9,
        geometry,
    }
}

/// A page before its own marks. Its sum has no meaning in these tests.
fn sealed(payload: &[u8]) -> PageBytes {
    let mut page = [0; PAGE_SIZE];
    page[64..64 + payload.len()].copy_from_slice(payload);
    let sum = Sum { first: 0x0102_0304_0506_0708, second: 0x1112_1314_1516_1718 };
    Trailer { birth: 0, marks: Marks { table: 7, inodes: 1 }, sum }.write(&mut page);
    seal(&mut page, &place(), Generation(5));
    page
}

#[test]
fn the_crc_is_ieee_over_the_page_with_its_field_zero() {
    let page = sealed(b"some payload");
    let mut plain = page;
    plain[40..44].fill(0);
    // Computes the CRC-32 bit by bit, by its definition: reflected 0x04C11DB7, all-ones start, complemented end.
    let mut register = u32::MAX;
    for byte in plain {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = if register & 1 == 1 { (register >> 1) ^ 0xEDB8_8320 } else { register >> 1 };
        }
    }
    assert_eq!(page[40..44], (!register).to_le_bytes());
    assert_eq!(check(&page, &place()), Ok(Generation(5)));
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let good = sealed(&[0xA5; 4000]);
    assert_eq!(check(&[0; PAGE_SIZE], &place()), Err(SealFault::Zeroed));
    assert_eq!(check(&[0x5A; PAGE_SIZE], &place()), Err(SealFault::Overwritten));

    let mut torn = good;
    torn[2048..].copy_from_slice(&sealed(&[0x11; 4000])[2048..]);
    assert_eq!(check(&torn, &place()), Err(SealFault::Torn));

    let other = Uuid::from_u128(0x9999);
    assert_eq!(check(&good, &Place { uuid: other, ..place() }), Err(SealFault::Foreign(place().uuid)));

    let elsewhere = Err(SealFault::Misplaced { kind: 2, copy: b'A', page: 7 });
    assert_eq!(check(&good, &Place { page: PageNo(8), ..place() }), elsewhere);
    assert_eq!(check(&good, &Place { copy: CopyId::B, ..place() }), elsewhere);
    assert_eq!(check(&good, &Place { kind: PageKind::InodeTable, ..place() }), elsewhere);
}

#[test]
fn a_page_of_another_version_is_named() {
    for version in [1, 3, 0x0200, u16::MAX] {
        let mut page = sealed(b"");
        page[4..6].copy_from_slice(&version.to_le_bytes());
        page[40..44].fill(0);
        let sum = crc32fast::hash(&page);
        page[40..44].copy_from_slice(&sum.to_le_bytes());
        // The version is reported whatever else is wrong, because another version may use its bytes differently.
        let elsewhere = Place { page: PageNo(8), uuid: Uuid::from_u128(5), birth: 1, ..place() };
        for place in [place(), elsewhere] {
            assert_eq!(check(&page, &place), Err(SealFault::Version(version)));
        }
        assert_eq!(claim(&page), None);
    }
}

/// The trailer must have the bytes that the description of the format states.
#[test]
fn the_trailer_lies_at_the_end() {
    let page = sealed(&[0xA5; 4000]);
    assert_eq!(page[4064..4072], 9_u64.to_le_bytes());
    assert_eq!(page[4072..4076], 7_u32.to_le_bytes());
    assert_eq!(page[4076..4080], 1_u32.to_le_bytes());
    assert_eq!(page[4080..4088], 0x0102_0304_0506_0708_u64.to_le_bytes());
    assert_eq!(page[4088..4096], 0x1112_1314_1516_1718_u64.to_le_bytes());
}

#[test]
fn a_page_of_another_birth_is_named() {
    let good = sealed(b"");
    assert_eq!(check(&good, &Place { birth: 10, ..place() }), Err(SealFault::OtherBirth(9)));
    // A wrong location is reported first, and a wrong layout last.
    let elsewhere = Place { birth: 10, page: PageNo(6), ..place() };
    assert_eq!(check(&good, &elsewhere), Err(SealFault::Misplaced { kind: 2, copy: b'A', page: 7 }));
}

/// A page past its own marks was prepared by a commit that did not use it.
#[test]
fn a_page_past_its_own_marks_is_no_statement() {
    let with = |place: &Place, table, inodes| {
        let mut page = sealed(b"");
        Trailer { birth: 0, marks: Marks { table, inodes }, sum: Sum::default() }.write(&mut page);
        seal(&mut page, place, Generation(5));
        (check(&page, place), claim(&page))
    };
    let here = place();
    assert_eq!(with(&here, 6, 99), (Err(SealFault::Prepared), None));
    assert_eq!(with(&here, 7, 0), (Ok(Generation(5)), Some((here, Generation(5)))));
    let first_inodes = here.geometry.first_inode_page();
    let inodes = Place { kind: PageKind::InodeTable, page: PageNo(first_inodes.0 + 2), ..here };
    assert_eq!(with(&inodes, 99, 2), (Err(SealFault::Prepared), None));
    assert_eq!(with(&inodes, 0, 3), (Ok(Generation(5)), Some((inodes, Generation(5)))));
    let superblock = Place { kind: PageKind::Superblock, page: PageNo(0), ..here };
    assert_eq!(with(&superblock, 0, 0), (Ok(Generation(5)), Some((superblock, Generation(5)))));
}

#[test]
fn every_flipped_bit_is_found() {
    let good = sealed(&[0xC3; 4000]);
    for byte in 0..PAGE_SIZE {
        for bit in 0..8 {
            let mut page = good;
            page[byte] ^= 1 << bit;
            let found = check(&page, &place());
            assert_eq!(found, Err(SealFault::Flipped { byte: byte as u16, bit }), "byte {byte} bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn a_sealed_page_is_good_and_claims_its_place(payload in prop::collection::vec(any::<u8>(), 4000)) {
        let page = sealed(&payload);
        prop_assert_eq!(check(&page, &place()), Ok(Generation(5)));
        prop_assert_eq!(claim(&page), Some((place(), Generation(5))));
    }

    #[test]
    fn a_flip_anywhere_is_named_and_placed(payload in prop::collection::vec(any::<u8>(), 4000), at in 0..PAGE_SIZE * 8) {
        let mut page = sealed(&payload);
        page[at / 8] ^= 1 << (at % 8);
        let flipped = SealFault::Flipped { byte: (at / 8) as u16, bit: (at % 8) as u8 };
        prop_assert_eq!(check(&page, &place()), Err(flipped));
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), PAGE_SIZE)) {
        let page: PageBytes = bytes.try_into().unwrap();
        prop_assert!(check(&page, &place()).is_err());
        prop_assert_eq!(claim(&page), None);
    }
}

#[test]
fn a_turned_page_is_the_other_copys() {
    for payload in [&b""[..], b"payload", &[0xFF; 4000]] {
        let mut page = sealed(payload);
        turn(&mut page, CopyId::B, copy_share());
        let there = Place { copy: CopyId::B, ..place() };
        assert_eq!(check(&page, &there), Ok(Generation(5)));
        let mut afresh = sealed(payload);
        seal(&mut afresh, &there, Generation(5));
        assert_eq!(page, afresh);
        let original = sealed(payload);
        assert!(is_turned(&original, &page, CopyId::B, copy_share()));
        assert!(!is_turned(&original, &original, CopyId::B, copy_share()));
        for byte in 0..PAGE_SIZE {
            let mut damaged = page;
            damaged[byte] ^= 1;
            assert!(!is_turned(&original, &damaged, CopyId::B, copy_share()), "byte {byte}");
        }
        turn(&mut page, CopyId::A, copy_share());
        assert_eq!(page, original);
    }
}
