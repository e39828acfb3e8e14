//! Makes a dump for measurements. Half of its memory is compressible, and it is stored as makedumpfile would store it.
//!
//! ```text
//! cargo run --release -p gmfs-dump --features zstd-c --example make_dump -- FORMAT FILE SIZE [IMAGE]
//! ```
//!
//! FORMAT is elf, none, zlib, lzo, snappy or zstd, or flat-CODEC for a flattened stream with records of 16 KiB. SIZE is
//! the size of the memory in MiB, which starts at physical address 0. IMAGE is a file that is put at 256 MiB in it.
//!
//! FORMAT scattered is a kdump-compressed dump that has kept every other page, which gives as many runs of pages as its
//! bitmaps can have. It is cut after the bitmaps.
//!
//! Of ten pages, one is zero, one is random, four are half random and half words, and four are half random and half
//! pointers.
#![expect(clippy::unwrap_used, reason = "a tool for measuring may stop")]

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

const PAGE: usize = 4096;
/// The physical address of the image.
const PLACE: u64 = 256 << 20;
const WORDS: [&str; 20] = [
    "block",
    "inode",
    "page",
    "folio",
    "guest",
    "memory",
    "filesystem",
    "reserved",
    "metadata",
    "extent",
    "region",
    "kernel",
    "dump",
    "crash",
    "superblock",
    "pointer",
    "address",
    "length",
    "checksum",
    "offset",
];

struct Memory {
    state: u64,
    image: Option<File>,
}

impl Memory {
    fn random(&mut self, to: &mut [u8]) {
        for bytes in to.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            bytes.copy_from_slice(&self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()[..bytes.len()]);
        }
    }

    /// The content of page `number`. Pages must be asked for in order.
    fn page(&mut self, number: u64) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let at = number * PAGE as u64;
        if let Some(image) = &self.image
            && at >= PLACE
            && image.read_exact_at(&mut page, at - PLACE).is_ok()
        {
            return page;
        }
        match number % 10 {
            0 => {}
            1 => self.random(&mut page),
            kind => {
                let (random, rest) = page.split_at_mut(PAGE / 2);
                self.random(random);
                if kind % 2 == 0 {
                    let text = random.iter().flat_map(|b| [WORDS[usize::from(b % 20)], " "]);
                    let text = text.flat_map(str::bytes).take(rest.len());
                    rest.iter_mut().zip(text).for_each(|(to, from)| *to = from);
                } else {
                    for (index, entry) in rest.chunks_mut(16).enumerate() {
                        let pointer = 0xffff_8880_0000_0000 + at + u64::from(random[index] >> 2) * 64;
                        entry[..8].copy_from_slice(&pointer.to_le_bytes());
                        entry[8..12].copy_from_slice(&(number as u32 + index as u32).to_le_bytes());
                        entry[12] = random[index + 1] & 7;
                    }
                }
            }
        }
        page
    }
}

/// A codec, with what it keeps from page to page.
struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    lzo: Box<lzokay::compress::Dict>,
    codec: String,
}

impl Encoder {
    /// The stored bytes, and the flags of the descriptor.
    fn page(&mut self, page: &[u8]) -> (Vec<u8>, u32) {
        let (bytes, flags) = match self.codec.as_str() {
            "zlib" => {
                // makedumpfile uses this level.
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(page).unwrap();
                (encoder.finish().unwrap(), 1)
            }
            "lzo" => (lzokay::compress::compress_with_dict(page, &mut self.lzo).unwrap(), 2),
            "snappy" => (snap::raw::Encoder::new().compress_vec(page).unwrap(), 4),
            "zstd" => (self.zstd.compress(page).unwrap(), 0x20),
            _ => (page.to_vec(), 0),
        };
        if bytes.len() < page.len() { (bytes, flags) } else { (page.to_vec(), 0) }
    }
}

/// Writes a PT_NOTE, without which makedumpfile accepts no dump, and one PT_LOAD.
fn elf(file: &mut impl Write, memory: &mut Memory, pages: u64) -> io::Result<()> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    head.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, 64, 0_u64] {
        head.extend(word.to_le_bytes());
    }
    head.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    // The registers of one processor.
    let mut note = [5_u32, 336, 1].map(u32::to_le_bytes).concat();
    note.extend(b"CORE\0\0\0\0");
    note.resize(note.len() + 336, 0);
    let length = pages * PAGE as u64;
    let notes = [64 + 2 * 56, 0, 0, note.len() as u64, note.len() as u64, 4];
    for (kind, fields) in [(4_u64, notes), (1, [PAGE as u64, 0xffff_8880_0000_0000, 0, length, length, 0])] {
        head.extend(kind.to_le_bytes());
        fields.into_iter().for_each(|field| head.extend(field.to_le_bytes()));
    }
    head.extend(note);
    head.resize(PAGE, 0);
    file.write_all(&head)?;
    (0..pages).try_for_each(|number| file.write_all(&memory.page(number)))
}

/// The two headers and the maps. All pages are set in the maps.
fn head(codec: &str, pages: u64) -> Vec<u8> {
    let map = (pages as usize).div_ceil(8).div_ceil(PAGE);
    let mut head = vec![0; (2 + 2 * map) * PAGE];
    head[..8].copy_from_slice(b"KDUMP   ");
    head[8] = 6;
    head[272..278].copy_from_slice(b"x86_64");
    let status: u32 = match codec {
        "zlib" => 1,
        "lzo" => 2,
        "snappy" => 4,
        "zstd" => 0x20,
        _ => 0,
    };
    let fields = [status, PAGE as u32, 1, 2 * map as u32, pages as u32, 0, 0, 0, 0, 1];
    for (number, field) in fields.iter().enumerate() {
        head[424 + 4 * number..428 + 4 * number].copy_from_slice(&field.to_le_bytes());
    }
    head[PAGE + 8] = 1;
    for (at, value) in [(88, pages), (96, pages)] {
        head[PAGE + at..PAGE + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    for page in 0..pages as usize {
        for copy in 0..2 {
            head[(2 + copy * map) * PAGE + page / 8] |= 1 << (page % 8);
        }
    }
    head
}

fn kdump(file: &mut BufWriter<File>, encoder: &mut Encoder, memory: &mut Memory, pages: u64) -> io::Result<()> {
    let head = head(&encoder.codec, pages);
    let zero = head.len() as u64 + 24 * pages;
    let mut descriptors = Vec::new();
    file.seek(SeekFrom::Start(zero))?;
    file.write_all(&[0; PAGE])?;
    let mut at = zero + PAGE as u64;
    for number in 0..pages {
        let page = memory.page(number);
        let (offset, size, flags) = if page == [0; PAGE] {
            (zero, PAGE, 0)
        } else {
            let (bytes, flags) = encoder.page(&page);
            file.write_all(&bytes)?;
            at += bytes.len() as u64;
            (at - bytes.len() as u64, bytes.len(), flags)
        };
        descriptors.extend(offset.to_le_bytes());
        descriptors.extend((size as u32).to_le_bytes());
        descriptors.extend(flags.to_le_bytes());
        descriptors.extend([0; 8]);
    }
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head)?;
    file.write_all(&descriptors)
}

/// Writes a dump of every other page, which consists of headers and bitmaps only.
fn scattered(file: &File, pages: u64) -> io::Result<()> {
    let mut head = head("none", pages);
    let map = (head.len() - 2 * PAGE) / 2;
    head[2 * PAGE + map..].fill(0x55);
    file.write_all_at(&head, 0)
}

/// Writes `plain` as the records of a flattened stream.
fn flatten(plain: &File, file: &mut impl Write) -> io::Result<()> {
    let mut first = b"makedumpfile\0\0\0\0".to_vec();
    first.extend([1_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat());
    first.resize(4096, 0);
    file.write_all(&first)?;
    let length = plain.metadata()?.len();
    let mut record = vec![0; 16 << 10];
    let mut at = 0;
    while at < length {
        let part = (length - at).min(record.len() as u64);
        plain.read_exact_at(&mut record[..part as usize], at)?;
        file.write_all(&at.to_be_bytes())?;
        file.write_all(&part.to_be_bytes())?;
        file.write_all(&record[..part as usize])?;
        at += part;
    }
    file.write_all(&[0xff; 16])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [format, path, size, image @ ..] = args.as_slice() else {
        return Err("usage: make_dump FORMAT FILE MIB [IMAGE]".into());
    };
    let pages = size.parse::<u64>()? << 8;
    let mut memory = Memory { state: 0x9e37_79b9_7f4a_7c15, image: image.first().map(File::open).transpose()? };
    let options = || File::options().read(true).write(true).create(true).truncate(true).clone();
    if format == "elf" {
        let mut file = BufWriter::with_capacity(1 << 20, options().open(path)?);
        elf(&mut file, &mut memory, pages)?;
        return Ok(file.flush()?);
    }
    if format == "scattered" {
        return Ok(scattered(&options().open(path)?, pages)?);
    }
    let (flat, codec) = format.strip_prefix("flat-").map_or((false, format.as_str()), |codec| (true, codec));
    let plain = if flat { format!("{path}.plain") } else { path.clone() };
    let mut encoder =
        Encoder { zstd: zstd::bulk::Compressor::new(1)?, lzo: lzokay::compress::Dict::new(), codec: codec.to_owned() };
    let mut file = BufWriter::with_capacity(1 << 20, options().open(&plain)?);
    kdump(&mut file, &mut encoder, &mut memory, pages)?;
    let plain_file = file.into_inner()?;
    if flat {
        let mut file = BufWriter::with_capacity(1 << 20, options().open(path)?);
        flatten(&plain_file, &mut file)?;
        file.flush()?;
        std::fs::remove_file(plain)?;
    }
    Ok(())
}
