use std::collections::BTreeSet;

use super::*;
use gmfs_format::name::check;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::PmdShift;

#[test]
fn names_keep_their_length_and_stay_apart() {
    let mut names = Names::default();
    let mut made = BTreeSet::new();
    let legal = || (1..=255_u8).filter(|byte| *byte != b'/');
    for byte in legal().filter(|byte| *byte != b'.') {
        assert!(made.insert(names.of(&[byte])));
    }
    // Every name of two bytes that there can be.
    for (one, two) in legal().flat_map(|one| legal().map(move |two| (one, two))) {
        let name = names.of(&[one, two]);
        assert!((one, two) == (b'.', b'.') || check(&name) == Ok(()), "{name:?}");
        assert!(made.insert(name));
    }
    for number in 0..20_000 {
        let name = format!("guest-{number}");
        let other = names.of(name.as_bytes());
        assert_eq!((other.len(), names.of(name.as_bytes())), (name.len(), other.clone()));
        assert_eq!(check(&other), Ok(()));
        assert!(made.insert(other));
    }
    assert_eq!(names.of(b"."), b".");
    // Illegal ones stay illegal, and apart.
    for name in [b"a/b", b"b/a", b"a\0b", b"//b", b"a//"] {
        let other = names.of(name);
        assert_eq!(name.map(is_kept).as_slice(), other.iter().copied().map(is_kept).collect::<Vec<_>>());
        assert!(made.insert(other));
    }
}

const NAMES: [&[u8]; 4] = [b"Qsecret7", b"Wz#4", b"Kunde-Nord!%vm", b"YtopY"];
const LABEL: &[u8] = b"Zlabel$of&owner";

fn place(kind: PageKind) -> Place {
    let geometry = Geometry::plan(1 << 30, PmdShift::M2, 64).unwrap();
    Place { kind, copy: CopyId::A, page: PageNo(2), uuid: uuid::Uuid::nil(), birth: 0, geometry }
}

/// Whether four bytes of a name or of the label are anywhere in a page.
fn shows(bytes: &PageBytes) -> bool {
    let told: BTreeSet<&[u8]> = NAMES.iter().chain([&LABEL]).flat_map(|name| name.windows(4)).collect();
    bytes.windows(4).any(|window| told.contains(window))
}

/// A page of inodes, used and free, with names, and with bytes past the ends of the names and in reserved fields.
fn inodes() -> PageBytes {
    let mut bytes = [0; PAGE_SIZE];
    for (number, inode) in InodeTablePage::view_mut(&mut bytes).inodes.iter_mut().enumerate() {
        let name = NAMES[number % 4];
        inode.kind = ((number % 3) as u16).into();
        inode.name_len = name.len() as u8;
        inode.name[..name.len()].copy_from_slice(name);
        if number > 3 {
            inode.name_len = (number % 4) as u8;
            inode.name[200..200 + name.len()].copy_from_slice(name);
            inode.reserved[7..7 + name.len()].copy_from_slice(name);
        }
    }
    PageHeader::of_mut(&mut bytes).reserved[3..7].copy_from_slice(NAMES[1]);
    sealed(bytes, PageKind::InodeTable)
}

fn superblock() -> PageBytes {
    let mut bytes = [0; PAGE_SIZE];
    let raw = &mut SuperblockPage::view_mut(&mut bytes).superblock;
    raw.label[..LABEL.len()].copy_from_slice(LABEL);
    raw.label[40..40 + LABEL.len()].copy_from_slice(LABEL);
    raw.writer[..4].copy_from_slice(b"gmfs");
    raw.writer[8..16].copy_from_slice(NAMES[0]);
    raw.reserved_3[99..107].copy_from_slice(NAMES[0]);
    sealed(bytes, PageKind::Superblock)
}

/// Seals a page, but keeps the reserved bytes of its header.
fn sealed(mut bytes: PageBytes, kind: PageKind) -> PageBytes {
    let reserved = PageHeader::of(&bytes).reserved;
    seal::seal(&mut bytes, &place(kind), Generation(3));
    PageHeader::of_mut(&mut bytes).reserved = reserved;
    seal::renew_crc(&mut bytes);
    bytes
}

/// Obfuscates a page at every place where it may be. Nothing of it shows, and it is as damaged as it was.
fn hides(bytes: &PageBytes) {
    for kind in PageKind::ALL {
        let place = place(kind);
        let mut page = *bytes;
        super::page(&mut page, &place, &mut Names::default());
        assert_eq!(seal::check(&page, &place), seal::check(bytes, &place));
        assert!(!shows(&page), "{kind}: {:?}", seal::check(bytes, &place));
    }
}

#[test]
fn every_damage_stays_what_it_is_and_no_name_shows() {
    for good in [inodes(), superblock()] {
        assert!(shows(&good));
        hides(&good);
        for at in (0..PAGE_SIZE).step_by(7) {
            let mut bytes = good;
            bytes[at] ^= 4;
            hides(&bytes);
            bytes[at] ^= 0x58;
            hides(&bytes);
        }
        for version in [2, 0x5151] {
            let mut bytes = good;
            PageHeader::of_mut(&mut bytes).version = version.into();
            seal::renew_crc(&mut bytes);
            hides(&bytes);
        }
        let mut foreign = good;
        PageHeader::of_mut(&mut foreign).uuid = [7; 16];
        seal::renew_crc(&mut foreign);
        hides(&foreign);
    }
    hides(&std::array::from_fn(|at| NAMES[0][at % NAMES[0].len()]));
    hides(&[0; PAGE_SIZE]);
}

/// A block table page over which a part of another page was written: its names look like descriptors.
#[test]
fn a_torn_page_shows_nothing_of_what_tore_it() {
    let table = sealed([0; PAGE_SIZE], PageKind::BlockTable);
    for other in [inodes(), superblock()] {
        for cut in (64..PAGE_SIZE).step_by(36) {
            let mut torn = table;
            torn[cut..].copy_from_slice(&other[cut..]);
            hides(&torn);
            // The same at another distance, the header too.
            torn[4..PAGE_SIZE - cut].copy_from_slice(&other[cut + 4..]);
            hides(&torn);
            let mut torn = other;
            torn[cut..].copy_from_slice(&table[cut..]);
            hides(&torn);
        }
    }
}

#[test]
fn an_illegal_label_stays_illegal() {
    let mut bytes = superblock();
    SuperblockPage::view_mut(&mut bytes).superblock.label[2] = 0xff;
    label(&mut bytes);
    let raw = SuperblockPage::view(&bytes).superblock;
    assert_eq!((raw.label[0], raw.label[1]), (1, FILL));
}
