//! Names taken out of metadata pages, whose seals are then what they were: a good one good, a broken one broken in the
//! same way.

use std::collections::{BTreeMap, BTreeSet};

use gmfs_format::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage, OnMemory as _, PageHeader, SuperblockPage};
use gmfs_format::seal::{self, PageKind, Place, SealFault};
use gmfs_format::superblock::{MAGIC, STATE_FLAGS};
use gmfs_format::units::PageBytes;

/// Letters and digits first, so that what is made of them is pleasant to read.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Names up to this length may need every byte there is to stay apart.
const SHORT: usize = 3;
/// Candidates tried for a name that is no legal one.
const TRIES: u32 = 100_000;
/// What stands for a byte that is not shown.
const FILL: u8 = b'x';

/// What each name has become. The first name of a length becomes `aaa`, the next one `baa`: nothing but the order in
/// which they lie in the region tells of them.
#[derive(Default)]
pub(super) struct Names {
    known: BTreeMap<Vec<u8>, Vec<u8>>,
    taken: BTreeSet<Vec<u8>>,
    next: BTreeMap<usize, u64>,
}

impl Names {
    /// The name that stands for another, of the same length. Slashes and NULs, which no name should have, stay.
    fn of(&mut self, name: &[u8]) -> Vec<u8> {
        if matches!(name, b"" | b"." | b"..") || name.iter().all(|byte| matches!(byte, 0 | b'/')) {
            return name.to_vec();
        }
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let mut made = name.to_vec();
        for _ in 0..TRIES {
            let next = self.next.entry(name.len()).or_default();
            made = spell(*next, name);
            *next += 1;
            if made != b".." && self.taken.insert(made.clone()) {
                break;
            }
        }
        self.known.insert(name.to_vec(), made.clone());
        made
    }
}

/// A number in as many digits as the name has bytes, the lowest first.
fn spell(mut number: u64, name: &[u8]) -> Vec<u8> {
    let mut digits = LETTERS.to_vec();
    if name.len() <= SHORT {
        let others = (1..=u8::MAX).filter(|byte| !matches!(byte, b'/' | b'.') && !LETTERS.contains(byte));
        digits.extend(others);
    }
    let base = digits.len() as u64;
    let mut digit = |old: &u8| {
        let digit = digits.get((number % base) as usize).copied().unwrap_or(FILL);
        number /= base;
        if matches!(old, 0 | b'/') { *old } else { digit }
    };
    name.iter().map(&mut digit).collect()
}

/// Obfuscates a page that lies at `place`.
pub(super) fn page(bytes: &mut PageBytes, place: &Place, names: &mut Names) {
    let fault = seal::check(bytes, place).err();
    match fault {
        Some(SealFault::Zeroed) => {}
        Some(SealFault::Overwritten) => junk(bytes, place),
        Some(SealFault::Flipped { byte, bit }) => {
            // The page that it was, and then the flip again.
            let flip = |bytes: &mut PageBytes| {
                if let Some(byte) = bytes.get_mut(usize::from(byte)) {
                    *byte ^= 1 << bit;
                }
            };
            flip(bytes);
            payload(bytes, names);
            seal::renew_crc(bytes);
            flip(bytes);
        }
        Some(SealFault::Torn) => {
            let syndrome = stored(bytes) ^ right(bytes);
            PageHeader::of_mut(bytes).reserved.iter_mut().for_each(hide);
            torn(bytes, place, names);
            let sum = right(bytes) ^ syndrome;
            PageHeader::of_mut(bytes).crc = sum.into();
        }
        Some(SealFault::Version(_)) => {
            bytes.iter_mut().skip(size_of::<PageHeader>()).for_each(hide);
            seal::renew_crc(bytes);
        }
        Some(SealFault::Foreign(_) | SealFault::Misplaced { .. }) | None => {
            payload(bytes, names);
            seal::renew_crc(bytes);
        }
    }
    if fault != seal::check(bytes, place).err() {
        // By chance only; what is hidden stays hidden.
        junk(bytes, place);
    }
}

fn stored(bytes: &PageBytes) -> u32 {
    PageHeader::of(bytes).crc.get()
}

/// The CRC that the page should have.
fn right(bytes: &PageBytes) -> u32 {
    let mut copy = *bytes;
    seal::renew_crc(&mut copy);
    stored(&copy)
}

/// Whatever it was, but not zero if it was not.
fn hide(byte: &mut u8) {
    if *byte != 0 {
        *byte = FILL;
    }
}

/// A page that is no metadata page, the same at one place every time.
fn junk(bytes: &mut PageBytes, place: &Place) {
    let text = format!("no metadata page: copy {} page {} ", place.copy, place.page);
    bytes.iter_mut().zip(text.bytes().cycle()).for_each(|(to, from)| *to = from);
}

/// Takes the names out of a page that is what its magic says.
fn payload(bytes: &mut PageBytes, names: &mut Names) {
    let magic = PageHeader::of(bytes).magic;
    match PageKind::ALL.into_iter().find(|kind| kind.magic() == magic) {
        Some(PageKind::InodeTable) => {
            InodeTablePage::view_mut(bytes).inodes.iter_mut().for_each(|inode| rename(inode, names));
        }
        Some(PageKind::Superblock) => label(bytes),
        Some(PageKind::BlockTable) | None => {}
    }
}

fn rename(inode: &mut InodeRaw, names: &mut Names) {
    let (name, behind) = inode.name.split_at_mut(usize::from(inode.name_len));
    let made = names.of(name);
    name.copy_from_slice(&made);
    behind.iter_mut().for_each(hide);
    inode.reserved.iter_mut().for_each(hide);
}

fn label(bytes: &mut PageBytes) {
    let raw = &mut SuperblockPage::view_mut(bytes).superblock;
    raw.label.iter_mut().for_each(hide);
    raw.reserved_3.iter_mut().for_each(hide);
}

/// Takes names, and whatever else may have been written over a part of the page, out of a page that is torn.
fn torn(bytes: &mut PageBytes, place: &Place, names: &mut Names) {
    match place.kind {
        PageKind::InodeTable => {
            for inode in &mut InodeTablePage::view_mut(bytes).inodes {
                let plain = inode.kind.get() <= 2 && inode.mode.get() <= 0o7777 && inode.flags.get() < 8;
                let padded = inode.name.iter().skip(usize::from(inode.name_len)).all(|byte| *byte == 0);
                if plain && padded && inode.reserved.iter().all(|byte| *byte == 0) {
                    rename(inode, names);
                } else {
                    *inode = hidden(inode.bytes()).unwrap_or(*inode);
                }
            }
        }
        PageKind::BlockTable => {
            for entry in &mut BlockTablePage::view_mut(bytes).entries {
                if entry.state > 3 || entry.flags > 3 || entry.reserved.get() != 0 {
                    *entry = BlockRaw { reserved: u16::MAX.into(), state: u8::MAX, ..BlockRaw::FREE };
                }
            }
        }
        PageKind::Superblock => {
            let raw = SuperblockPage::view(bytes).superblock;
            if raw.magic == MAGIC && raw.state.get() <= STATE_FLAGS && raw.reserved_3.iter().all(|byte| *byte == 0) {
                label(bytes);
            } else {
                bytes.iter_mut().skip(size_of::<PageHeader>()).for_each(hide);
            }
        }
    }
}

/// An inode of which nothing shows but where it is zero.
fn hidden(bytes: &[u8]) -> Option<InodeRaw> {
    let mut bytes = bytes.to_vec();
    bytes.iter_mut().for_each(hide);
    let mut page = [0; gmfs_format::units::PAGE_SIZE];
    let from = size_of::<PageHeader>();
    page.get_mut(from..from + bytes.len())?.copy_from_slice(&bytes);
    InodeTablePage::view(&page).inodes.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_format::units::{CopyId, Generation, PAGE_SIZE, PageNo};

    #[test]
    fn names_keep_their_length_and_stay_apart() {
        let mut names = Names::default();
        let mut made = BTreeSet::new();
        for byte in (1..=255_u8).filter(|byte| !matches!(byte, b'/' | b'.')) {
            assert!(made.insert(names.of(&[byte])));
        }
        for number in 0..20_000 {
            let name = format!("guest-{number}");
            let other = names.of(name.as_bytes());
            assert_eq!((other.len(), names.of(name.as_bytes())), (name.len(), other.clone()));
            assert_eq!(gmfs_format::name::check(&other), Ok(()));
            assert!(made.insert(other));
        }
        assert_eq!(names.of(b"."), b".");
        assert_eq!(names.of(b"a/b")[1], b'/');
    }

    #[test]
    fn every_damage_stays_what_it_is() {
        let place = Place { kind: PageKind::InodeTable, copy: CopyId::A, page: PageNo(2), uuid: uuid::Uuid::nil() };
        let mut good = [0; PAGE_SIZE];
        let inode = &mut InodeTablePage::view_mut(&mut good).inodes[0];
        inode.name_len = 6;
        inode.name[..6].copy_from_slice(b"secret");
        seal::seal(&mut good, &place, Generation(3));
        let check = |mut bytes: PageBytes| {
            let before = seal::check(&bytes, &place);
            page(&mut bytes, &place, &mut Names::default());
            assert_eq!(seal::check(&bytes, &place), before);
            assert!(!bytes.windows(6).any(|window| window == b"secret"));
        };
        check(good);
        for at in (0..PAGE_SIZE).step_by(7) {
            let mut bytes = good;
            bytes[at] ^= 4;
            check(bytes);
            bytes[at] ^= 0x58;
            check(bytes);
        }
        check(std::array::from_fn(|at| b"secret"[at % 6]));
        check([0; PAGE_SIZE]);
    }
}
