//! Physical memory with only some of its pages.

use std::collections::BTreeMap;
use std::ops::Range;

use gmfs_io::{Absence, ReadAt, ReadError, Span};

const PAGE: u64 = 4096;

/// Physical memory. Only the pages that were written are there; all others are absent.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pages: BTreeMap<u64, Box<[u8; 4096]>>,
}

impl Memory {
    /// Writes bytes. Pages that were absent get zeros everywhere else.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let len = rest.len().min(4096 - within);
            let page = self.pages.entry(at - within as u64).or_insert_with(|| Box::new([0; 4096]));
            page[within..within + len].copy_from_slice(&rest[..len]);
            at += len as u64;
            rest = &rest[len..];
        }
    }

    /// Writes a number.
    pub fn put(&mut self, at: u64, number: u64) {
        self.write(at, &number.to_le_bytes());
    }

    /// The number at an address; 0 if it is not there.
    #[must_use]
    pub fn get(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read_at(at, &mut bytes).map_or(0, |()| u64::from_le_bytes(bytes))
    }

    /// Makes a page absent.
    pub fn lose(&mut self, at: u64) {
        self.pages.remove(&at);
    }

    /// The addresses of all pages.
    pub fn addresses(&self) -> impl Iterator<Item = u64> {
        self.pages.keys().copied()
    }

    /// A page, for changes.
    pub fn page(&mut self, at: u64) -> Option<&mut [u8; 4096]> {
        self.pages.get_mut(&at).map(|page| &mut **page)
    }

    /// The memory as an ELF dump of a machine, with a segment for each run of pages.
    #[must_use]
    pub fn elf(&self) -> Vec<u8> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (at, page) in &self.pages {
            match runs.last_mut() {
                Some((start, bytes)) if *start + bytes.len() as u64 == *at => bytes.extend(&page[..]),
                _ => runs.push((*at, page.to_vec())),
            }
        }
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        file.resize(16, 0);
        for (value, len) in [(4_u64, 2), (62, 2), (1, 4), (0, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2)] {
            file.extend(&value.to_le_bytes()[..len]);
        }
        file.extend((runs.len() as u16 + 1).to_le_bytes());
        file.resize(64, 0);
        let head = (64 + 56 * (runs.len() + 1)).next_multiple_of(4096);
        let mut offset = head as u64;
        // An empty note, as every core has one.
        let note = [4_u64 | 4 << 32, head as u64, 0, 0, 0, 0, 0];
        let mut headers = vec![note];
        for (at, bytes) in &runs {
            let len = bytes.len() as u64;
            headers.push([1 | 7 << 32, offset, 0, *at, len, len, 4096]);
            offset += len;
        }
        headers.iter().flatten().for_each(|number| file.extend(number.to_le_bytes()));
        file.resize(head, 0);
        runs.iter().for_each(|(_, bytes)| file.extend(bytes));
        file
    }
}

impl ReadAt for Memory {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let absent = ReadError::Absent { span: Span::new(at, rest.len() as u64), why: Absence::NotInDump };
            let Some(page) = self.pages.get(&(at - within as u64)) else { return Err(absent) };
            let len = rest.len().min(4096 - within);
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&page[within..within + len]);
            at = at.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.pages.last_key_value().map_or(0, |(at, _)| at + PAGE))
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        let mut at = range.start;
        while at < range.end && self.pages.contains_key(&(at - at % PAGE)) {
            at = at - at % PAGE + PAGE;
        }
        let next = self.pages.range(at..).next().map_or(range.end, |(next, _)| (*next).min(range.end));
        (at < range.end).then(|| (Span::new(at, next - at), Absence::NotInDump))
    }
}
