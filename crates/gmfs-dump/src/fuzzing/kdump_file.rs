//! A small writer of kdump-compressed dumps that follows the format's description: every version, layout and codec, and
//! false values in every field.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::kdump::Codec;

/// How a page is written.
#[derive(Clone, Debug)]
pub(crate) enum Page {
    /// Memory, compressed with a codec, or uncompressed if the codec does not make it smaller.
    Memory(Vec<u8>, Codec),
    /// The zero page that several pages share.
    SharedZero,
    /// A descriptor of zeros, as a writer leaves it when the disk is full.
    Lost,
    /// RAM that was filtered, and has no descriptor.
    Excluded,
    /// Arbitrary bytes, size and flags.
    Forged { data: Vec<u8>, size: u32, flags: u32 },
    /// An arbitrary descriptor.
    Pointed { offset: u64, size: u32, flags: u32 },
}

/// Where a page is in the file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) page: u64,
    pub(crate) descriptor: usize,
    /// The page's data; empty for pages that share their data or have none.
    pub(crate) data: std::ops::Range<usize>,
}

/// A dump to be written.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    pub(crate) version: u32,
    pub(crate) big: bool,
    pub(crate) wide: bool,
    /// Whether the 32-bit sub header has the layout of ARM's compilers.
    pub(crate) padded: bool,
    pub(crate) page: usize,
    pub(crate) status: u32,
    pub(crate) level: u32,
    pub(crate) machine: &'static str,
    pub(crate) release: &'static str,
    pub(crate) phys_base: u64,
    pub(crate) split: Option<(u64, u64)>,
    pub(crate) pages: BTreeMap<u64, Page>,
    /// Replaces the number of the page after the last one.
    pub(crate) max_mapnr: Option<u64>,
    pub(crate) info: &'static str,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            version: 6,
            big: false,
            wide: true,
            padded: false,
            page: 4096,
            status: 1,
            level: 1,
            machine: "",
            release: "",
            phys_base: 0,
            split: None,
            pages: BTreeMap::new(),
            max_mapnr: None,
            info: "",
        }
    }

    pub(crate) fn page(mut self, number: u64, page: Page) -> Self {
        self.pages.insert(number, page);
        self
    }

    fn u32(&self, to: &mut [u8], at: usize, value: u32) {
        let raw = if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
        to[at..at + 4].copy_from_slice(&raw);
    }

    fn u64(&self, to: &mut [u8], at: usize, value: u64) {
        let raw = if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
        to[at..at + 8].copy_from_slice(&raw);
    }

    fn long(&self, to: &mut [u8], at: usize, value: u64) {
        if self.wide { self.u64(to, at, value) } else { self.u32(to, at, value as u32) }
    }

    /// The number of the page after the last one.
    fn reach(&self) -> u64 {
        self.max_mapnr.unwrap_or_else(|| self.pages.keys().next_back().map_or(0, |last| last + 1))
    }

    /// How many blocks both maps have.
    fn map_blocks(&self) -> usize {
        let last = self.pages.keys().next_back().map_or(0, |last| last + 1);
        2 * (last as usize).div_ceil(8).div_ceil(self.page).max(1)
    }

    /// The main header.
    fn main(&self, to: &mut [u8]) {
        to[..8].copy_from_slice(b"KDUMP   ");
        self.u32(to, 8, self.version);
        to[272..272 + self.machine.len()].copy_from_slice(self.machine.as_bytes());
        to[142..142 + self.release.len()].copy_from_slice(self.release.as_bytes());
        self.long(to, if self.wide { 408 } else { 404 }, 1_700_000_000);
        let fields = if self.wide { 424 } else { 412 };
        let short = u32::try_from(self.reach()).unwrap_or(u32::MAX);
        for (index, value) in
            [self.status, self.page as u32, 1, self.map_blocks() as u32, short].into_iter().enumerate()
        {
            self.u32(to, fields + 4 * index, value);
        }
    }

    /// Writes the sub header, with the notes after it.
    fn sub(&self, to: &mut [u8]) {
        let at = |packed: usize, padded: usize, wide: usize| match (self.wide, self.padded) {
            (true, _) => wide,
            (false, true) => padded,
            (false, false) => packed,
        };
        self.long(to, 0, self.phys_base);
        if self.version >= 1 {
            self.u32(to, at(4, 4, 8), self.level);
        }
        if let (Some((start, end)), true) = (self.split, self.version >= 2) {
            self.u32(to, at(8, 8, 12), 1);
            self.long(to, at(12, 12, 16), start);
            self.long(to, at(16, 16, 24), end);
        }
        let size = at(80, 96, 104);
        // The only note is VMCOREINFO.
        let mut note = Vec::new();
        for value in [11, self.info.len() as u32, 0] {
            note.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        }
        note.extend_from_slice(b"VMCOREINFO\0\0");
        note.extend_from_slice(self.info.as_bytes());
        to[size..size + note.len()].copy_from_slice(&note);
        if self.version >= 3 {
            self.u64(to, at(20, 24, 32), (self.page + size + 24) as u64);
            self.long(to, at(28, 32, 40), self.info.len() as u64);
        }
        if self.version >= 4 {
            self.u64(to, at(32, 40, 48), (self.page + size) as u64);
            self.long(to, at(40, 48, 56), note.len() as u64);
        }
        if self.version >= 6 {
            let (start, end) = self.split.unwrap_or((0, self.reach()));
            self.u64(to, at(56, 72, 80), start);
            self.u64(to, at(64, 80, 88), end);
            self.u64(to, at(72, 88, 96), self.reach());
        }
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_and_places().0
    }

    /// The bytes of the file, and where each page of this part has its descriptor and its data.
    pub(crate) fn bytes_and_places(&self) -> (Vec<u8>, Vec<Place>) {
        let maps = self.map_blocks();
        let mut file = vec![0; (2 + maps) * self.page];
        self.main(&mut file[..self.page]);
        let (head, _) = file.split_at_mut(2 * self.page);
        self.sub(&mut head[self.page..]);
        let mut inside = Vec::new();
        for (number, page) in &self.pages {
            let (byte, bit) = (*number as usize / 8, 1 << (number % 8));
            file[2 * self.page + byte] |= bit;
            if !matches!(page, Page::Excluded) {
                file[(2 + maps / 2) * self.page + byte] |= bit;
                inside.push((*number, page));
            }
        }
        let table = file.len();
        // Leaves room for the descriptors of all parts, then writes the shared zero page.
        file.resize(table + 24 * inside.len(), 0);
        let zero = file.len() as u64;
        file.resize(file.len() + self.page, 0);
        let (start, end) = self.split.unwrap_or((0, u64::MAX));
        let own = inside.iter().filter(|(number, _)| (start..end).contains(number));
        let mut places = Vec::new();
        for (index, (number, page)) in own.enumerate() {
            let here = file.len() as u64;
            let (offset, size, flags) = match page {
                Page::Memory(bytes, codec) => {
                    let (data, flags) = encode(bytes, *codec);
                    file.extend_from_slice(&data);
                    (here, data.len() as u32, flags)
                }
                Page::SharedZero => (zero, self.page as u32, 0),
                Page::Lost | Page::Excluded => (0, 0, 0),
                Page::Forged { data, size, flags } => {
                    file.extend_from_slice(data);
                    (here, *size, *flags)
                }
                Page::Pointed { offset, size, flags } => (*offset, *size, *flags),
            };
            let entry = table + 24 * index;
            self.u64(&mut file, entry, offset);
            self.u32(&mut file, entry + 8, size);
            self.u32(&mut file, entry + 12, flags);
            places.push(Place { page: *number, descriptor: entry, data: here as usize..file.len() });
        }
        (file, places)
    }
}

/// The stored bytes of a page, and the flags of its descriptor.
pub(crate) fn encode(page: &[u8], codec: Codec) -> (Vec<u8>, u32) {
    let (data, flags) = match codec {
        Codec::Stored => return (page.to_vec(), 0),
        Codec::Zlib => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(page).unwrap();
            (encoder.finish().unwrap(), 1)
        }
        Codec::Lzo => (lzo(page), 2),
        Codec::Snappy => (snap::raw::Encoder::new().compress_vec(page).unwrap(), 4),
        _ => (zstd(page), 0x20),
    };
    if data.len() < page.len() { (data, flags) } else { (page.to_vec(), 0) }
}

/// A zstd frame with its content size. Its only block is a run of one byte if the page is one, and uncompressed
/// otherwise.
fn zstd(page: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    // A single segment, with its size in four bytes.
    frame.push(0xa0);
    frame.extend((page.len() as u32).to_le_bytes());
    let run = page.iter().all(|b| *b == page[0]);
    let inner = ruzstd::encoding::compress_to_vec(page, ruzstd::encoding::CompressionLevel::Fastest);
    if !run && let Some(blocks) = blocks(&inner) {
        frame.extend_from_slice(blocks);
        return frame;
    }
    let header = (page.len() as u32) << 3 | if run { 2 } else { 0 } | 1;
    frame.extend_from_slice(&header.to_le_bytes()[..3]);
    if run {
        frame.push(page[0])
    } else {
        frame.extend_from_slice(page)
    }
    frame
}

/// The blocks of a frame, without its header and checksum.
fn blocks(frame: &[u8]) -> Option<&[u8]> {
    let descriptor = *frame.get(4)?;
    let single = descriptor & 0x20 != 0;
    let size = [usize::from(single), 2, 4, 8][usize::from(descriptor >> 6)];
    let header = 5 + usize::from(!single) + size;
    let end = frame.len() - if descriptor & 4 != 0 { 4 } else { 0 };
    frame.get(header..end)
}

/// An LZO1X block: literals up to the byte that repeats until the end, and a match of that byte.
fn lzo(page: &[u8]) -> Vec<u8> {
    let last = page[page.len() - 1];
    let tail = page.iter().rev().take_while(|b| **b == last).count();
    let literals = (page.len() - tail + 1).max(4).min(page.len());
    let length = page.len() - literals;
    let mut out = Vec::new();
    extended(&mut out, 0, literals, 15, 3);
    out.extend_from_slice(&page[..literals]);
    if length >= 3 {
        extended(&mut out, 32, length, 31, 2);
        out.extend([0, 0]);
    } else {
        return page.to_vec();
    }
    out.extend([0x11, 0, 0]);
    out
}

/// An instruction with its length, in the instruction's byte or in the bytes after it.
fn extended(out: &mut Vec<u8>, op: u8, length: usize, room: usize, base: usize) {
    if length <= room + base {
        out.push(op | (length - base) as u8);
        return;
    }
    out.push(op);
    let mut rest = length - base - room;
    while rest > 255 {
        out.push(0);
        rest -= 255;
    }
    out.push(rest as u8);
}
