//! Blocks with hardware errors: as people, kernels and other programs name them, and as a region marks them.

mod ndctl;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;

use gmfs_format::model::InodeNo;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, to_u32};
use gmfs_format::spec::{SpecError, parse_size};
use gmfs_image::iomem::{IoMem, IoMemError};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::Region;

pub use ndctl::{NdctlError, ndctl};

use crate::address::{Address, AddressError, kernel_page, unit};
use crate::error::Error;
use crate::store::Store;

/// Bytes in a sector, as the kernel's lists count them.
const SECTOR: u64 = 512;

/// A range, as it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Its first and its last address.
    Range(Address, Address),
    /// Its first and its last byte in the device that holds the region.
    InDevice(u64, u64),
    /// Its first and its last physical address; what of it is not in the region does not count.
    InMemory(u64, u64),
}

/// Why a range cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// It is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no number where one belongs.
    #[error(transparent)]
    Number(#[from] SpecError),
    /// It has no bytes, or more than there can be.
    #[error("'{0}' is no range of bytes")]
    Empty(String),
    /// The last address is before the first.
    #[error("'{0}' ends before it begins")]
    Reversed(String),
    /// There are no sectors, or more than a device can have.
    #[error("{count} sectors from {first} on are no range")]
    Sectors {
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
    },
    /// It is not in the region.
    #[error("{} is not in the region", spelled(*first, *last))]
    Outside {
        /// Its first address.
        first: Address,
        /// Its last address.
        last: Address,
    },
    /// It is a memory map, and the kernel shows no addresses to this process.
    #[error(transparent)]
    Map(#[from] IoMemError),
    /// Sectors were named, and the image is physical memory.
    #[error("sectors count from the start of a device, and IMAGE is physical memory")]
    NoDevice,
}

fn spelled(first: Address, last: Address) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

impl FromStr for Named {
    type Err = RangeError;

    /// Reads `ADDR`, `ADDR-LAST` or `ADDR+LENGTH`, each of them after `block:` or `pfn:` if blocks or page frame
    /// numbers are meant.
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (unit, rest) = unit(text)?;
        let (first, last) = match (rest.split_once('-'), rest.split_once('+')) {
            (Some((first, last)), _) => (parse_size(first)?, parse_size(last)?),
            (None, Some((first, length))) => {
                let (first, length) = (parse_size(first)?, parse_size(length)?);
                let last = length.checked_sub(1).and_then(|more| first.checked_add(more));
                (first, last.ok_or_else(|| RangeError::Empty(text.to_owned()))?)
            }
            (None, None) => (parse_size(rest)?, parse_size(rest)?),
        };
        if last < first {
            return Err(RangeError::Reversed(text.to_owned()));
        }
        Ok(Self::Range(unit(first), unit(last)))
    }
}

impl Named {
    /// `count` sectors of 512 bytes, counted from the start of the device.
    ///
    /// # Errors
    /// There are none, or more than a device can have.
    pub fn sectors(first: u64, count: u64) -> Result<Self, RangeError> {
        let bytes = |sectors: u64| sectors.checked_mul(SECTOR);
        let start = bytes(first);
        let last = first.checked_add(count).and_then(bytes).filter(|_| count > 0).and_then(|end| end.checked_sub(1));
        start.zip(last).map(|(start, last)| Self::InDevice(start, last)).ok_or(RangeError::Sectors { first, count })
    }

    /// A line of a list: the first sector and how many there are, as `/sys/block/*/badblocks` has them, or a range.
    ///
    /// # Errors
    /// It is neither.
    pub fn line(line: &str) -> Result<Self, RangeError> {
        match line.split_once(char::is_whitespace) {
            Some((sector, count)) => Self::sectors(parse_size(sector)?, parse_size(count.trim())?),
            None => line.parse(),
        }
    }
}

/// What addresses, and offsets in the device, are counted from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    geometry: Geometry,
    /// The region's physical base, 0 if that is not known.
    base: u64,
    /// Where the region begins in its device or file; `None` in an image of physical memory.
    in_device: Option<u64>,
}

impl Origin {
    /// The origin for an open store.
    ///
    /// # Errors
    /// The store is not native, so that no block of it can be marked.
    pub fn of(store: &Store) -> Result<Self, Error> {
        Ok(Self {
            geometry: store.native()?.geometry(),
            base: store.physical_base().unwrap_or(0),
            in_device: (!store.place.kind.is_physical()).then_some(store.place.base),
        })
    }

    /// The part of the region that is at these physical addresses.
    fn part(&self, first: u64, last: u64) -> Option<Span> {
        let end = self.base.saturating_add(self.geometry.size());
        let (from, to) = (first.max(self.base), last.saturating_add(1).min(end));
        let len = to.checked_sub(from).filter(|len| *len > 0)?;
        Some(Span::new(from.saturating_sub(self.base), len))
    }
}

/// The blocks that ranges touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Runs of blocks, ascending, without overlap.
    pub runs: Vec<Range<u32>>,
    /// Ranges of the device that are not in the region.
    pub outside: u64,
}

/// The blocks that ranges touch.
///
/// # Errors
/// A range of addresses is not in the region, or a range is an offset in a device, and the image is physical memory.
pub fn touched(named: &[Named], origin: &Origin) -> Result<Touched, RangeError> {
    let geometry = origin.geometry;
    let (mut set, mut outside) = (BTreeSet::new(), 0_u64);
    for named in named {
        let (first, last) = match *named {
            Named::Range(first, last) => {
                let place = |address: Address| address.offset(geometry.size(), geometry.block_bytes(), origin.base);
                place(first).zip(place(last)).ok_or(RangeError::Outside { first, last })?
            }
            Named::InDevice(first, last) => {
                let start = origin.in_device.ok_or(RangeError::NoDevice)?;
                let end = start.saturating_add(geometry.size());
                let (first, last) = (first.max(start), last.min(end.saturating_sub(1)));
                if first > last {
                    outside = outside.saturating_add(1);
                    continue;
                }
                (first.saturating_sub(start), last.saturating_sub(start))
            }
            Named::InMemory(first, last) => {
                let Some(span) = origin.part(first, last) else {
                    outside = outside.saturating_add(1);
                    continue;
                };
                (span.offset, span.end().saturating_sub(1))
            }
        };
        let block = |at: u64| to_u32(at.checked_div(geometry.block_bytes()).unwrap_or_default());
        set.extend(block(first)..=block(last));
    }
    let mut runs: Vec<Range<u32>> = Vec::new();
    for block in set {
        match runs.last_mut() {
            Some(run) if run.end == block => run.end = run.end.saturating_add(1),
            _ => runs.push(block..block.saturating_add(1)),
        }
    }
    Ok(Touched { runs, outside })
}

/// What the kernel says of a page frame that it has taken out of use, before the frame's number.
const FAILURE: &str = "Memory failure: 0x";
/// What it says of one that it has taken back into use.
const UNPOISONED: &str = "Software-unpoisoned page 0x";

/// What the firmware's memory map calls memory that has errors; the kernel hands the map over at a kexec.
const UNUSABLE: &str = "Unusable memory";

/// Reads a list of poisoned memory. That is a log of the kernel, in which the lines "Memory failure: 0xPFN: …" count;
/// or a memory map, as `/proc/iomem` has it, in which the lines "Unusable memory" count; or a list in which each line has a page frame number, or two numbers: the first sector, and how many there are.
/// Empty lines, and those that begin with `#`, are left out.
///
/// # Errors
/// The number of the first line that is none of these, counted from 1, and why.
pub fn poisoned(text: &str) -> Result<Vec<Named>, (usize, RangeError)> {
    let frame = |number| Named::Range(Address::Pfn(number), Address::Pfn(number));
    let log = |line: &str| line.contains(FAILURE) || line.contains(UNPOISONED) || line.starts_with(['[', '<']);
    if text.lines().any(log) {
        let after = |line: &str, words: &str| {
            let digits = line.split_once(words)?.1;
            let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
            u64::from_str_radix(digits.get(..end)?, 16).ok()
        };
        let mut frames = BTreeSet::new();
        for line in text.lines() {
            if let Some(number) = after(line, UNPOISONED) {
                frames.remove(&number);
            } else if let Some(number) = after(line, FAILURE) {
                frames.insert(number);
            }
        }
        return Ok(frames.into_iter().map(frame).collect());
    }
    if text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.contains(" : ")) {
        let map = IoMem::parse(text).map_err(|error| match error {
            IoMemError::Line { line, .. } => (line, error.into()),
            _ => (1, error.into()),
        })?;
        let unusable = map.resources().iter().filter(|resource| resource.name == UNUSABLE && resource.span.len > 0);
        return Ok(unusable.map(|r| Named::InMemory(r.span.offset, r.span.end().saturating_sub(1))).collect());
    }
    let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let one = |(number, line): (usize, &str)| {
        let line = line.strip_prefix("pfn:").unwrap_or(line);
        let found = match line.split_once(char::is_whitespace) {
            Some(_) => Named::line(line),
            None => parse_size(line).map(frame).map_err(RangeError::from),
        };
        found.map_err(|error| (number, error))
    };
    lines.map(one).collect()
}

/// What the kernel's flags of page frames say about the memory of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageFlags {
    /// The poisoned page frames.
    pub poisoned: Vec<Named>,
    /// How many page frames of the region the kernel has no flags for: memory without struct pages, and devices.
    pub without: u64,
    /// How many page frames the region has.
    pub frames: u64,
}

/// `KPF_HWPOISON` and `KPF_NOPAGE` of `linux/kernel-page-flags.h`.
const HWPOISON: u64 = 1 << 19;
const NO_PAGE: u64 = 1 << 20;
/// How many bytes of flags are read at once.
const FLAGS: usize = 64 << 10;

/// Reads the flags of a region's page frames from `file`, which is `/proc/kpageflags`: eight bytes for each page frame of the
/// machine.
///
/// # Errors
/// The file cannot be read.
pub fn page_flags(file: &File, origin: &Origin) -> io::Result<PageFlags> {
    let page = kernel_page(origin.geometry.block_bytes());
    let number = |bytes: u64| bytes.checked_div(page).unwrap_or_default();
    let (first, frames) = (number(origin.base), number(origin.geometry.size()));
    let mut found = PageFlags { frames, ..PageFlags::default() };
    let mut buf = vec![0; FLAGS];
    let mut done = 0;
    while done < frames {
        let wanted = frames.saturating_sub(done).min(gmfs_io::num::len64(FLAGS / 8));
        let space = buf.get_mut(..gmfs_io::num::small(wanted.saturating_mul(8))).unwrap_or_default();
        let got = file.read_at(space, first.saturating_add(done).saturating_mul(8))?;
        let flags = space.get(..got).unwrap_or_default().chunks_exact(8);
        let (from, read) = (first.saturating_add(done), gmfs_io::num::len64(flags.len()));
        // The kernel knows no page frame from here on.
        if read == 0 {
            found.without = found.without.saturating_add(frames.saturating_sub(done));
            break;
        }
        for (frame, flags) in (from..).zip(flags) {
            let flags = u64::from_ne_bytes(flags.try_into().unwrap_or_default());
            if flags & HWPOISON != 0 {
                found.poisoned.push(Named::Range(Address::Pfn(frame), Address::Pfn(frame)));
            } else if flags & NO_PAGE != 0 {
                found.without = found.without.saturating_add(1);
            }
        }
        done = done.saturating_add(read);
    }
    Ok(found)
}

/// The bytes of a region that a list of poisoned memory names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Parts of the region, ascending, without overlap. Offsets count from its start.
    pub spans: Vec<Span>,
    /// How many page frames and ranges are not in the region.
    pub outside: u64,
}

impl Hits {
    /// The same cut at the ends of blocks of `block_bytes`, so that each part has one owner: at most `most` parts, and how many
    /// more blocks are hit.
    #[must_use]
    pub fn by_block(&self, block_bytes: u64, most: usize) -> (Vec<Span>, u64) {
        let (mut parts, mut more) = (Vec::new(), 0_u64);
        for span in &self.spans {
            let mut at = span.offset;
            while at < span.end() {
                if parts.len() >= most {
                    more = more.saturating_add(span.end().saturating_sub(at).div_ceil(block_bytes.max(1)));
                    break;
                }
                let next = at.saturating_add(1).checked_next_multiple_of(block_bytes).unwrap_or(u64::MAX);
                let end = next.min(span.end());
                parts.push(Span::new(at, end.saturating_sub(at)));
                at = end;
            }
        }
        (parts, more)
    }
}

/// The bytes of a region that are named. What is not in the region is only counted: a list is about the whole machine.
///
/// # Errors
/// A range is an offset in a device, and the image is physical memory; or a range of addresses is not in the region.
pub fn hits(named: &[Named], origin: &Origin) -> Result<Hits, RangeError> {
    let (size, block) = (origin.geometry.size(), origin.geometry.block_bytes());
    let mut found = Hits::default();
    let mut spans = Vec::new();
    for named in named {
        let span = match *named {
            Named::Range(first @ Address::Pfn(number), Address::Pfn(last)) if number == last => {
                let page = kernel_page(block);
                first.offset(size, block, origin.base).map(|at| Span::new(at, page.min(size.saturating_sub(at))))
            }
            Named::Range(first, last) => {
                let place = |address: Address| address.offset(size, block, origin.base);
                let (from, to) = place(first).zip(place(last)).ok_or(RangeError::Outside { first, last })?;
                Some(Span::new(from, to.saturating_sub(from).saturating_add(1)))
            }
            Named::InDevice(first, last) => {
                let start = origin.in_device.ok_or(RangeError::NoDevice)?;
                let (from, to) = (first.max(start), last.min(start.saturating_add(size).saturating_sub(1)));
                let len = to.checked_sub(from).map(|more| more.saturating_add(1));
                len.map(|len| Span::new(from.saturating_sub(start), len))
            }
            Named::InMemory(first, last) => origin.part(first, last),
        };
        match span {
            Some(span) => spans.push(span),
            None => found.outside = found.outside.saturating_add(1),
        }
    }
    spans.sort();
    for span in spans {
        match found.spans.last_mut() {
            Some(last) if last.end() >= span.offset => {
                last.len = last.end().max(span.end()).saturating_sub(last.offset);
            }
            _ => found.spans.push(span),
        }
    }
    Ok(found)
}

/// The runs of blocks that parts of a region touch: those that can be marked as bad, and those that hold metadata,
/// which cannot.
#[must_use]
pub fn blocks_of(spans: &[Span], origin: &Origin) -> (Vec<Range<u32>>, Vec<Range<u32>>) {
    let geometry = origin.geometry;
    let block = |at: u64| to_u32(at.checked_div(geometry.block_bytes()).unwrap_or_default());
    let (mut data, mut metadata): (Vec<Range<u32>>, Vec<Range<u32>>) = Default::default();
    let blocks = geometry.blocks();
    for span in spans.iter().filter(|span| span.len > 0) {
        for number in block(span.offset)..=block(span.end().saturating_sub(1)) {
            // The tail of a region is in no block.
            if number >= blocks {
                continue;
            }
            let runs = if geometry.is_data(BlockNo(number)) { &mut data } else { &mut metadata };
            match runs.last_mut() {
                Some(run) if run.end > number => {}
                Some(run) if run.end == number => run.end = number.saturating_add(1),
                _ => runs.push(number..number.saturating_add(1)),
            }
        }
    }
    (data, metadata)
}

/// A block that is marked as bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub block: u32,
    /// The file that it belongs to, and the offset in it, in bytes.
    pub file: Option<(InodeNo, u64)>,
}

/// The blocks of a region that are marked as bad, ascending.
pub fn marked<S: ReadAt>(region: &Region<S>) -> Vec<Marked> {
    let block_bytes = region.geometry().block_bytes();
    let mut found = Vec::new();
    region.descriptors(|block, entry| {
        if entry.state() == Some(BlockState::Bad) {
            let owner = Some(entry.owner()).filter(|owner| *owner != InodeNo::NONE);
            let file = owner.map(|ino| (ino, u64::from(entry.index.get()).saturating_mul(block_bytes)));
            found.push(Marked { block: block.0, file });
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use gmfs_format::native::units::PmdShift;

    use super::*;

    fn origin(base: u64, in_device: Option<u64>) -> Origin {
        Origin { geometry: Geometry::plan(64 << 20, PmdShift::M2, 64).unwrap(), base, in_device }
    }

    #[test]
    fn ranges_are_read_in_every_spelling() {
        let bytes = |first, last| Ok(Named::Range(Address::Bytes(first), Address::Bytes(last)));
        assert_eq!("0x1000".parse(), bytes(4096, 4096));
        assert_eq!("4K-8191".parse(), bytes(4096, 8191));
        assert_eq!("2M+2M".parse(), bytes(2 << 20, (4 << 20) - 1));
        assert_eq!("block:3-5".parse(), Ok(Named::Range(Address::Block(3), Address::Block(5))));
        assert_eq!("pfn:0x10".parse(), Ok(Named::Range(Address::Pfn(16), Address::Pfn(16))));
        for wrong in ["5-3", "frame:1", "", "block:", "x", "0x200000+0"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_of_the_kernel_count_sectors() {
        assert_eq!(Named::line("8 2"), Ok(Named::InDevice(4096, 5119)));
        assert_eq!(Named::line("block:3"), "block:3".parse());
        for wrong in ["8 0", "36028797018963968 1", "1 18446744073709551615", "x 1"] {
            assert!(Named::line(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sectors_count_from_the_start_of_the_device_whatever_the_base_is() {
        let named = [Named::InDevice(72 << 20, (72 << 20) + 511), Named::InDevice(0, 511)];
        let found = touched(&named, &origin(1 << 32, Some(64 << 20))).unwrap();
        assert_eq!(found, Touched { runs: std::iter::once(4..5).collect(), outside: 1 });
        assert_eq!(touched(&named, &origin(1 << 32, None)), Err(RangeError::NoDevice));
        let past = [Named::InDevice(128 << 20, (128 << 20) + 511)];
        assert_eq!(touched(&past, &origin(0, Some(64 << 20))).unwrap().outside, 1);
    }

    #[test]
    fn ranges_become_runs_of_blocks() {
        let named: Vec<Named> =
            ["0x200000", "block:2-3", "block:3", "block:9"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(touched(&named, &origin(0, Some(0))).unwrap().runs, [1..4, 9..10]);
        assert!(touched(&["1G".parse().unwrap()], &origin(0, Some(0))).is_err());
    }

    fn frames(text: &str) -> Vec<u64> {
        let number = |named| match named {
            Named::Range(Address::Pfn(number), _) => number,
            other => panic!("{other:?}"),
        };
        poisoned(text).unwrap().into_iter().map(number).collect()
    }

    #[test]
    fn lists_of_poisoned_memory_are_read() {
        assert_eq!(frames("# pages\n0x100201\n\npfn:17\n  5\n"), [0x10_0201, 17, 5]);
        let log = "[  12.5] Injecting memory failure for pfn 0x9 at process virtual address 0x7f0000000000\n\
                   [  12.6] Memory failure: 0x100201: recovery action for dirty LRU page: Recovered\n\
                   [  12.7] Memory failure: 0x100201: already hardware poisoned\n\
                   [  12.8] Memory failure: 0x40: reserved kernel page still referenced by 1 users\n\
                   [  12.9] Unpoison: Software-unpoisoned page 0x40\n\
                   [  13.0] something else: 0x50\n";
        assert_eq!(frames(log), [0x10_0201]);
        assert_eq!(frames("Nov 27 10:00:00 host kernel: Memory failure: 0x1f: Killing qemu:17 due to it\n"), [0x1f]);
        assert_eq!(frames("[ 1.0] Linux version 6.12\n"), [0_u64; 0]);
        assert_eq!(frames(""), [0_u64; 0]);
        assert_eq!(poisoned("8 2\n").unwrap(), [Named::InDevice(4096, 5119)]);
        for (wrong, line) in [("5\nx\n", 2), ("1a2b", 1), ("5-7", 1), ("8 0", 1), ("block:5", 1)] {
            assert_eq!(poisoned(wrong).unwrap_err().0, line, "{wrong}");
        }
    }

    #[test]
    fn of_a_memory_map_only_unusable_memory_counts() {
        let map = "00000000-0fffffff : System RAM\n  01000000-01ffffff : Kernel code\n\
                   10000000-10000fff : Unusable memory\n10001000-3fffffff : Reserved\n\
                   \n40000000-4fffffff : Unusable memory\n";
        let found = poisoned(map).unwrap();
        assert_eq!(found, [Named::InMemory(0x1000_0000, 0x1000_0fff), Named::InMemory(0x4000_0000, 0x4fff_ffff)]);
        // A region of 64 MiB that ends in the second one.
        let origin = origin(0x3d00_0000, None);
        let found = hits(&found, &origin).unwrap();
        assert_eq!((found.outside, found.spans), (1, vec![Span::new(48 << 20, 16 << 20)]));
        let runs = touched(&poisoned(map).unwrap(), &origin).unwrap().runs;
        assert_eq!((runs.len(), runs[0].start, runs[0].end), (1, 24, 32));
        assert_eq!(poisoned("00000000-00000000 : System RAM\n").unwrap_err().1, IoMemError::Hidden.into());
        assert_eq!(poisoned("00000000-0fffffff : System RAM\nx\n").unwrap_err().0, 2);
    }

    #[test]
    fn flags_of_page_frames_are_read_where_the_region_is() {
        let mut file = tempfile::tempfile().unwrap();
        let frames = (64_u64 << 20) >> 12;
        let flags = |frame: u64| match frame {
            // Before the region, in it, and after it.
            99 | 100 | 0x2003 => HWPOISON,
            0x3000..0x3004 => NO_PAGE,
            _ => 1 << 5,
        };
        let bytes: Vec<u8> = (0..100 + frames + 8).flat_map(|frame| flags(frame).to_ne_bytes()).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let origin = origin(100 << 12, None);
        let frame = |number| Named::Range(Address::Pfn(number), Address::Pfn(number));
        let expected = PageFlags { poisoned: vec![frame(100), frame(0x2003)], without: 4, frames };
        assert_eq!(page_flags(&file, &origin).unwrap(), expected);
        // The machine's memory ends in the region.
        file.set_len(8 * 0x1003 + 5).unwrap();
        let expected = PageFlags { poisoned: vec![frame(100)], without: 100 + frames - 0x1003, frames };
        assert_eq!(page_flags(&file, &origin).unwrap(), expected);
    }

    #[test]
    fn hits_are_cut_at_the_ends_of_blocks() {
        let hits = Hits { spans: vec![Span::new(10, 25), Span::new(40, 1)], outside: 0 };
        let parts = [Span::new(10, 10), Span::new(20, 10), Span::new(30, 5), Span::new(40, 1)];
        assert_eq!(hits.by_block(10, 9), (parts.to_vec(), 0));
        assert_eq!(hits.by_block(10, 1), (parts[..1].to_vec(), 3));
    }

    #[test]
    fn what_is_not_in_the_region_is_counted() {
        let frame = |number| Named::Range(Address::Pfn(number), Address::Pfn(number));
        let base = 1 << 32;
        let origin = origin(base, Some(0));
        let first = base >> 12;
        let named =
            [frame(first + 513), frame(first + 512), frame(5), frame(u64::MAX), frame(first), frame(first + 2048)];
        let found = hits(&named, &origin).unwrap();
        assert_eq!(found.outside, 2);
        assert_eq!(found.spans, [Span::new(0, 4096), Span::new(2 << 20, 8192), Span::new(8 << 20, 4096)]);
        let (data, metadata) = blocks_of(&found.spans, &origin);
        assert_eq!((data.as_slice(), metadata.len()), ([1..2, 4..5].as_slice(), 1));
        let sectors = [Named::InDevice(0, (4 << 20) - 1), Named::InDevice(1 << 40, (1 << 40) + 511)];
        let found = hits(&sectors, &origin).unwrap();
        assert_eq!((found.outside, found.spans.as_slice()), (1, [Span::new(0, 4 << 20)].as_slice()));
        assert_eq!(hits(&sectors, &Origin { in_device: None, ..origin }), Err(RangeError::NoDevice));
    }
}
