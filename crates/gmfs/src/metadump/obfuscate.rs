//! Replaces the names in metadata pages. Valid seals stay valid; broken seals stay broken in the same way. Where that
//! is only possible by keeping bytes that may be a name, the bytes are replaced too.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use gmfs_format::native::raw::{InodeRaw, InodeTablePage, PageHeader, SuperblockPage};
use gmfs_format::native::seal::{self, PAGE_VERSION, PageKind, Place, SealFault};
use gmfs_format::native::superblock::check_label;
use gmfs_format::native::units::{CopyId, Generation, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, to_u32};
use gmfs_io::num::{len64, round_down, small};
use gmfs_io::{Absence, ReadAt, ReadError, Span};
use gmfs_volume::Superblocks;

/// Letters and digits come first, so that the new names are easy to read.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Names up to this length may need every possible byte to stay different from each other.
const SHORT: usize = 3;
/// The byte that takes the place of a byte that must not be shown.
const FILL: u8 = b'x';

/// The new name for each name. The first name of a length becomes `aaa`, the next one `baa`: so new names show nothing
/// but the order in which the names are in the region. A number and 128 bits of a hash are kept for each name, so that
/// memory grows with the number of names, and not with their length.
#[derive(Default)]
pub(super) struct Names {
    keys: [RandomState; 2],
    known: HashMap<[u64; 2], u64>,
    /// The next number for each sort of name: names of one length, whose slashes and NULs are at the same places.
    next: BTreeMap<Vec<u8>, u64>,
}

impl Names {
    /// The new name for a name, of the same length. Slashes and NULs, which no name should have, stay.
    fn of(&mut self, name: &[u8]) -> Vec<u8> {
        if matches!(name, b"" | b"." | b"..") || name.iter().all(|byte| is_kept(*byte)) {
            return name.to_vec();
        }
        let hash = self.keys.each_ref().map(|key| key.hash_one(name));
        if let Some(number) = self.known.get(&hash) {
            return spell(*number, name);
        }
        let sort = name.iter().map(|byte| if is_kept(*byte) { *byte } else { FILL }).collect();
        let next = self.next.entry(sort).or_default();
        if spell(*next, name) == b".." {
            *next = next.saturating_add(1);
        }
        let number = *next;
        *next = next.saturating_add(1);
        self.known.insert(hash, number);
        spell(number, name)
    }
}

const fn is_kept(byte: u8) -> bool {
    matches!(byte, 0 | b'/')
}

/// A number in as many digits as the name has bytes to replace, the lowest digit first.
fn spell(mut number: u64, name: &[u8]) -> Vec<u8> {
    let mut digits = LETTERS.to_vec();
    if name.len() <= SHORT {
        digits.extend((1..=u8::MAX).filter(|byte| !matches!(byte, b'/' | b'.') && !LETTERS.contains(byte)));
    }
    if (2..=SHORT).contains(&name.len()) {
        digits.push(b'.');
    }
    let base = len64(digits.len());
    let mut digit = |old: &u8| {
        if is_kept(*old) {
            return *old;
        }
        let (digit, rest) = (number.checked_rem(base), number.checked_div(base));
        let digit = digit.and_then(|digit| digits.get(small(digit)).copied()).unwrap_or(FILL);
        number = rest.unwrap_or(0);
        digit
    };
    name.iter().map(&mut digit).collect()
}

/// A region as it is seen with other names.
pub(super) struct Obfuscated<'a, S> {
    pub(super) source: &'a S,
    pub(super) superblocks: &'a Superblocks,
    pub(super) names: Mutex<Names>,
}

impl<S: ReadAt> Obfuscated<'_, S> {
    /// What the metadata page at an offset must be.
    fn place(&self, offset: u64) -> Option<Place> {
        let geometry = self.superblocks.geometry();
        let page = |copy| {
            let inside = offset.checked_sub(geometry.copy_offset(copy))?.checked_div(PAGE_BYTES)?;
            (inside < geometry.pages()).then(|| PageNo(to_u32(inside)))
        };
        CopyId::BOTH.into_iter().rev().find_map(|copy| self.superblocks.place(copy, page(copy)?))
    }
}

impl<S: ReadAt> ReadAt for Obfuscated<'_, S> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let start = round_down(at, PAGE_BYTES);
            let inside = small(at.saturating_sub(start));
            let (now, later) = rest.split_at_mut(PAGE_SIZE.saturating_sub(inside).min(rest.len()));
            if let Some(place) = self.place(start) {
                let mut bytes = [0; PAGE_SIZE];
                self.source.read_at(start, &mut bytes)?;
                page(&mut bytes, &place, &mut self.names.lock().unwrap_or_else(PoisonError::into_inner));
                now.iter_mut().zip(bytes.iter().skip(inside)).for_each(|(to, from)| *to = *from);
            } else {
                self.source.read_at(at, now)?;
            }
            at = at.saturating_add(len64(now.len()));
            rest = later;
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        self.source.end()
    }

    fn next_absent(&self, range: std::ops::Range<u64>) -> Option<(Span, Absence)> {
        self.source.next_absent(range)
    }
}

/// Obfuscates a page that is at `place`.
pub(super) fn page(bytes: &mut PageBytes, place: &Place, names: &mut Names) {
    let fault = seal::check(bytes, place).err();
    match fault {
        Some(SealFault::Zeroed) => {}
        Some(SealFault::Overwritten) => junk(bytes, place),
        Some(SealFault::Flipped { byte, bit }) => {
            // The page is restored and obfuscated, and then the bit is flipped again.
            let flip = |bytes: &mut PageBytes| {
                if let Some(byte) = bytes.get_mut(usize::from(byte)) {
                    *byte ^= 1_u8.checked_shl(bit.into()).unwrap_or(0);
                }
            };
            flip(bytes);
            payload(bytes, names);
            seal::renew_crc(bytes);
            flip(bytes);
        }
        Some(SealFault::Torn) => {
            // Anything may be anywhere in such a page, even a name. Of all of it only the difference between the CRCs
            // is kept.
            let syndrome = stored(bytes) ^ right(bytes);
            behind_header(bytes).for_each(hide);
            seal::seal(bytes, place, Generation(0));
            let sum = stored(bytes) ^ syndrome;
            PageHeader::of_mut(bytes).crc = sum.into();
        }
        Some(
            SealFault::Version(_)
            | SealFault::Foreign(_)
            | SealFault::OtherBirth(_)
            | SealFault::Prepared
            | SealFault::Misplaced { .. }
            | SealFault::OtherLayout { .. },
        )
        | None => {
            payload(bytes, names);
            seal::renew_crc(bytes);
        }
    }
    if fault != seal::check(bytes, place).err() {
        // This happens by chance only. What is hidden stays hidden.
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

/// Hides a byte: one that is not zero becomes another one that is not zero.
fn hide(byte: &mut u8) {
    if *byte != 0 {
        *byte = FILL;
    }
}

fn behind_header(bytes: &mut PageBytes) -> impl Iterator<Item = &mut u8> {
    bytes.iter_mut().skip(size_of::<PageHeader>())
}

/// Makes a page that is no metadata page, and always the same one for a place.
fn junk(bytes: &mut PageBytes, place: &Place) {
    let text = format!("no metadata page: copy {} page {} ", place.copy, place.page);
    bytes.iter_mut().zip(text.bytes().cycle()).for_each(|(to, from)| *to = from);
}

/// Removes the names from a page that is what its magic says. In a page of another version, everything is hidden.
fn payload(bytes: &mut PageBytes, names: &mut Names) {
    let header = PageHeader::of_mut(bytes);
    header.reserved.iter_mut().for_each(hide);
    let known = header.version.get() == PAGE_VERSION;
    let magic = header.magic;
    match PageKind::ALL.into_iter().find(|kind| known && kind.magic() == magic) {
        Some(PageKind::InodeTable) => {
            InodeTablePage::view_mut(bytes).inodes.iter_mut().for_each(|inode| rename(inode, names));
        }
        Some(PageKind::Superblock) => label(bytes),
        Some(PageKind::BlockTable) => {}
        None => behind_header(bytes).for_each(hide),
    }
}

fn rename(inode: &mut InodeRaw, names: &mut Names) {
    let length = usize::from(inode.name_len).min(inode.name.len());
    let (name, behind) = inode.name.split_at_mut(length);
    let made = names.of(name);
    name.copy_from_slice(&made);
    behind.iter_mut().for_each(hide);
    inode.reserved.iter_mut().for_each(hide);
}

fn label(bytes: &mut PageBytes) {
    let raw = &mut SuperblockPage::view_mut(bytes).superblock;
    let text = raw.label.split(|byte| *byte == 0).next().unwrap_or_default();
    let legal = std::str::from_utf8(text).is_ok_and(|label| check_label(label).is_ok());
    raw.label.iter_mut().for_each(hide);
    if !legal {
        // The label was illegal, and stays illegal.
        raw.label.iter_mut().take(1).for_each(|byte| *byte = 1);
    }
    raw.writer.iter_mut().skip_while(|byte| **byte != 0).for_each(hide);
    raw.reserved_1.iter_mut().chain(&mut raw.reserved_3).for_each(hide);
}

#[cfg(test)]
mod tests;
