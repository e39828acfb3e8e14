//! Makes dumps of known memory in the formats that tools write, and unpacks the captured dumps, which are beside the
//! checkout.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use crate::images::Segment;
use crate::sandbox::Sandbox;

const PAGE: usize = 4096;

/// A kdump-compressed dump: its memory, and the options of its writer.
pub(crate) struct Kdump<'a> {
    pub(crate) segments: &'a [Segment],
    /// Addresses of memory that the tool left out.
    pub(crate) excluded: Vec<Range<u64>>,
    /// Pages whose data cannot be decoded.
    pub(crate) spoilt: Vec<Range<u64>>,
    /// `-d`
    pub(crate) level: u32,
    /// The addresses that this part of a split dump contains.
    pub(crate) part: Option<Range<u64>>,
    /// Whether the writer ran out of space.
    pub(crate) incomplete: bool,
    pub(crate) release: &'a str,
}

impl<'a> Kdump<'a> {
    pub(crate) fn new(segments: &'a [Segment]) -> Self {
        Self {
            segments,
            excluded: Vec::new(),
            spoilt: Vec::new(),
            level: 1,
            part: None,
            incomplete: false,
            release: "6.1.0-test",
        }
    }

    fn page(&self, pfn: u64) -> Vec<u8> {
        let at = pfn * PAGE as u64;
        let held = self.segments.iter().find(|one| (one.address..one.address + one.size).contains(&at)).unwrap();
        let from = usize::try_from(at - held.address).unwrap();
        held.bytes[from..from + PAGE].to_vec()
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let pages = |span: &Range<u64>| span.start / PAGE as u64..span.end / PAGE as u64;
        let ram: BTreeSet<u64> =
            self.segments.iter().flat_map(|one| pages(&(one.address..one.address + one.size))).collect();
        let left_out: BTreeSet<u64> = self.excluded.iter().flat_map(&pages).collect();
        let spoilt: BTreeSet<u64> = self.spoilt.iter().flat_map(&pages).collect();
        let dumped: Vec<u64> = ram.difference(&left_out).copied().collect();
        let limit = ram.last().unwrap() + 1;
        let blocks = limit.div_ceil(8).div_ceil(PAGE as u64);
        let half = usize::try_from(blocks).unwrap() * PAGE;
        let mut file = vec![0; 2 * PAGE + 2 * half];
        self.headers(&mut file, limit, blocks);
        for (start, set) in [(2 * PAGE, ram.iter().collect::<Vec<_>>()), (2 * PAGE + half, dumped.iter().collect())] {
            for pfn in set {
                file[start + usize::try_from(pfn / 8).unwrap()] |= 1 << (pfn % 8);
            }
        }
        let own: Vec<u64> = match &self.part {
            Some(part) => dumped.iter().copied().filter(|pfn| pages(part).contains(pfn)).collect(),
            None => dumped.clone(),
        };
        // After room for all descriptors comes the page that zero pages share.
        let zero = file.len() + dumped.len() * 24;
        let (mut descriptors, mut data) = (Vec::new(), vec![0; PAGE]);
        for pfn in own {
            let page = self.page(pfn);
            let mut place = zero;
            if page.iter().any(|byte| *byte != 0) {
                place = zero + data.len();
                data.extend(page);
            }
            descriptors.extend((place as u64).to_le_bytes());
            // A page with several codecs cannot be decoded.
            let flags = if spoilt.contains(&pfn) { 3_u32 } else { 0 };
            for word in [u32::try_from(PAGE).unwrap(), flags, 0, 0] {
                descriptors.extend(word.to_le_bytes());
            }
        }
        descriptors.resize(dumped.len() * 24, 0);
        file.extend(descriptors);
        file.extend(data);
        file
    }

    fn headers(&self, file: &mut [u8], limit: u64, blocks: u64) {
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"KDUMP   ");
        put(8, &6_u32.to_le_bytes());
        put(142, self.release.as_bytes());
        put(272, b"x86_64");
        put(408, &1_700_000_100_u64.to_le_bytes());
        let status = if self.incomplete { 8 } else { 0 };
        let blocks = u32::try_from(2 * blocks).unwrap();
        let words = [status, 4096, 1, blocks, u32::try_from(limit).unwrap(), 0, 0, 0, 0, 1_u32];
        for (number, word) in words.into_iter().enumerate() {
            put(424 + 4 * number, &word.to_le_bytes());
        }
        put(PAGE + 8, &self.level.to_le_bytes());
        let note = format!("OSRELEASE={}\nCRASHTIME=1700000000\n", self.release);
        if !self.release.is_empty() {
            put(PAGE + 32, &(PAGE as u64 + 104).to_le_bytes());
            put(PAGE + 40, &(note.len() as u64).to_le_bytes());
            put(PAGE + 104, note.as_bytes());
        }
        if let Some(part) = &self.part {
            put(PAGE + 12, &1_u32.to_le_bytes());
            put(PAGE + 80, &(part.start / PAGE as u64).to_le_bytes());
            put(PAGE + 88, &(part.end / PAGE as u64).to_le_bytes());
        }
        put(PAGE + 96, &limit.to_le_bytes());
    }
}

/// The stream of `makedumpfile -F` for a file. Its second half comes first.
pub(crate) fn flattened(file: &[u8]) -> Vec<u8> {
    let mut stream = b"makedumpfile\0\0\0\0".to_vec();
    stream.extend([1_i64.to_be_bytes(), 1_i64.to_be_bytes()].concat());
    stream.resize(4096, 0);
    let middle = file.len() / 2;
    for (start, bytes) in [(middle, &file[middle..]), (0, &file[..middle])] {
        stream.extend(i64::try_from(start).unwrap().to_be_bytes());
        stream.extend(i64::try_from(bytes.len()).unwrap().to_be_bytes());
        stream.extend(bytes);
    }
    stream.extend([(-1_i64).to_be_bytes(), (-1_i64).to_be_bytes()].concat());
    stream
}

fn lime_header(magic: &[u8; 4], version: u32, segment: &Segment) -> Vec<u8> {
    let mut header = magic.to_vec();
    header.extend(version.to_le_bytes());
    for word in [segment.address, segment.address + segment.size - 1, 0] {
        header.extend(word.to_le_bytes());
    }
    header
}

/// A LiME image.
pub(crate) fn lime(segments: &[Segment]) -> Vec<u8> {
    segments.iter().flat_map(|one| [lime_header(b"EMiL", 1, one), one.bytes.clone()].concat()).collect()
}

/// A compressed AVML image.
pub(crate) fn avml(segments: &[Segment]) -> Vec<u8> {
    let compressed = |one: &Segment| {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(&one.bytes).unwrap();
        let stream = encoder.into_inner().unwrap();
        [lime_header(b"AVML", 2, one), stream.clone(), (stream.len() as u64).to_le_bytes().to_vec()].concat()
    };
    segments.iter().flat_map(compressed).collect()
}

/// Unpacks a captured dump into the sandbox.
pub(crate) fn unpack(sandbox: &Sandbox, dir: &Path, name: &str) {
    let mut bytes = Vec::new();
    gmfs_testing::unpack(&dir.join(format!("{name}.zst")), &mut bytes);
    sandbox.write(name, &bytes);
}
