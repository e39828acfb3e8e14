//! Makes a file of raw memory with a hand-over of one large file, as Linux 7.3 leaves it when it has made the jump, for
//! measurements. The memory of the guest is a hole. Prints the address of the device tree.
//!
//! ```text
//! cargo run -p gmfs-format --features fuzzing --example make_handover -- FILE GIB ORDER
//! ```
//!
//! GIB: size of the guest. ORDER: folios have 2^ORDER pages, for example 9 for 2 MiB.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "no part of the program: its numbers are its own"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use gmfs_format::fuzzing::trees::Maker;

const PAGE: u64 = 4096;
/// Where metadata starts, and where the guest's memory does.
const METADATA: u64 = 16 << 20;
const GUEST: u64 = 4 << 30;

/// Memory in the making: pages are handed out one after the other.
struct Memory {
    file: File,
    next: u64,
}

impl Memory {
    /// So many pages of metadata.
    fn pages(&mut self, count: u64) -> u64 {
        let at = self.next;
        self.next += count * PAGE;
        assert!(self.next <= GUEST, "too much metadata");
        at
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// A page with these numbers at its start.
    fn page(&mut self, words: &[u64]) -> io::Result<u64> {
        let at = self.pages(1);
        self.write(at, &bytes(words))?;
        Ok(at)
    }
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The bytes of a text, padded.
fn text(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, 0);
    bytes
}

/// The radix tree of preserved pieces. Each is an address and an order.
fn map(memory: &mut Memory, pieces: impl Iterator<Item = (u64, u32)>) -> io::Result<u64> {
    let mut level: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (at, order) in pieces {
        let key = 1 << (52 - order) | at >> (12 + order);
        let bits = level.entry(key >> 15).or_insert_with(|| vec![0; 4096]);
        bits[(key & 32767) as usize / 8] |= 1 << (key & 7);
    }
    for _ in 0..5 {
        let mut above: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (key, content) in level {
            let at = memory.pages(1);
            memory.write(at, &content)?;
            let node = above.entry(key >> 9).or_insert_with(|| vec![0; 4096]);
            let entry = (key & 511) as usize * 8;
            node[entry..entry + 8].copy_from_slice(&at.to_le_bytes());
        }
        level = above;
    }
    let root = memory.pages(1);
    memory.write(root, &level[&0])?;
    Ok(root)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const USAGE: &str = "usage: make_handover FILE GIB ORDER";
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or(USAGE)?;
    let size = args.next().ok_or(USAGE)?.parse::<u64>()? << 30;
    let order = args.next().ok_or(USAGE)?.parse::<u32>()?;
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(GUEST + size)?;
    let mut memory = Memory { file, next: METADATA };
    let folio = PAGE << order;
    let folios = size / folio;
    let tree = memory.pages(1);
    let arrays = (folios * 16).div_ceil(PAGE);
    let array = memory.pages(arrays);
    for page in 0..arrays {
        let records = (page * 256..folios.min((page + 1) * 256))
            .flat_map(|n| [((GUEST + n * folio) / PAGE) | (3 << 52), n << order]);
        memory.write(array + page * PAGE, &bytes(&records.collect::<Vec<_>>()))?;
    }
    let lists = memory.pages(arrays / 511 + 1);
    for list in 0..=arrays / 511 {
        let next = if list < arrays / 511 { lists + (list + 1) * PAGE } else { 0 };
        let pages = (list * 511..arrays.min((list + 1) * 511)).map(|page| array + page * PAGE);
        memory.write(lists + list * PAGE, &bytes(&std::iter::once(next).chain(pages).collect::<Vec<_>>()))?;
    }
    let record = memory.page(&[0, size, 1, folios, lists, arrays | 1 << 32])?;
    let files = memory.pages(1);
    let entry = [bytes(&[0, 1]), text("memfd-v2", 48), bytes(&[record, 1])].concat();
    memory.write(files, &entry)?;
    let sessions = memory.pages(1);
    let entry = [bytes(&[0, 1]), text("bench", 64), bytes(&[files, 1])].concat();
    memory.write(sessions, &entry)?;
    let objects = memory.page(&[1, 0])?;
    let luo = memory.pages(1);
    memory.write(luo, &[text("luo-v5", 8), bytes(&[1, sessions, objects])].concat())?;
    let metadata = (METADATA..memory.next).step_by(4096).map(|at| (at, 0));
    let guest = (0..folios).map(|n| (GUEST + n * folio, order));
    let root = map(&mut memory, metadata.chain(guest))?;
    let mut maker = Maker::new(b"kho-v4\0");
    maker.property("preserved-memory-map", &root.to_le_bytes());
    maker.begin(b"LUO");
    maker.property("preserved-data", &luo.to_le_bytes());
    maker.property("blob-size", &32_u64.to_le_bytes());
    maker.end();
    memory.write(tree, &maker.finish())?;
    println!("{tree:#x}");
    Ok(())
}
