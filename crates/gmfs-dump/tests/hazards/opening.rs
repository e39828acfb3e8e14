//! Opening reads the headers and one bitmap, whatever the dump's size. Reading a page then costs its own bytes.

use gmfs_dump::kdump::KdumpDump;
use gmfs_io::{ReadAt, ReadError};

use crate::kdump::{memory, sample};
use crate::source::Counting;
use crate::{MEMORY, bounded, put, read};

/// Pages of 4 KiB in a TiB.
const PAGES: u64 = 1 << 28;
/// The size of one map in bytes.
const MAP: u64 = PAGES / 8;

/// A dump of 1 TiB with all of its pages, whose bytes are computed when they are read. Each descriptor points at one
/// zero page after the descriptors, except that each 1000th points at one page of data.
struct Tib {
    head: Vec<u8>,
    data: Vec<u8>,
}

const DESCRIPTORS: u64 = 8192 + 2 * MAP;
const ZERO: u64 = DESCRIPTORS + PAGES * 24;

impl Tib {
    fn new() -> Self {
        let mut head = sample().bytes();
        head.truncate(8192);
        put(&mut head, 436, &u32::try_from(2 * MAP / 4096).unwrap().to_le_bytes());
        put(&mut head, 440, &u32::try_from(PAGES).unwrap().to_le_bytes());
        put(&mut head, 4096 + 96, &PAGES.to_le_bytes());
        Self { head, data: memory(1) }
    }

    fn byte(&self, at: u64) -> u8 {
        match at {
            0..8192 => self.head[at as usize],
            8192..DESCRIPTORS => 0xff,
            DESCRIPTORS..ZERO => {
                let (number, part) = ((at - DESCRIPTORS) / 24, (at - DESCRIPTORS) % 24);
                let offset = if number % 1000 == 999 { ZERO + 4096 } else { ZERO };
                let raw = [offset.to_le_bytes(), 4096_u64.to_le_bytes(), [0; 8]].concat();
                raw[part as usize]
            }
            _ if at < ZERO + 4096 => 0,
            _ => self.data[(at - ZERO - 4096) as usize],
        }
    }
}

impl ReadAt for Tib {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if offset >= 8192 && offset + buf.len() as u64 <= DESCRIPTORS {
            buf.fill(0xff);
            return Ok(());
        }
        for (at, byte) in (offset..).zip(buf) {
            *byte = self.byte(at);
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(ZERO + 8192)
    }
}

#[test]
fn a_tib_is_opened_by_one_map_and_no_descriptor() {
    // The limit: the map of a TiB, which is a 32,768th of it, and 1 MiB.
    bounded((32 << 20) + (1 << 20), || {
        let file = Counting::new(Tib::new());
        let before = MEMORY.current_usage();
        let dump = KdumpDump::parse(&file).unwrap();
        let held = MEMORY.current_usage() - before;
        assert!(held < 700 << 10, "the index has {held} bytes");
        let (bytes, reads) = file.take();
        assert_eq!(dump.facts().pages, PAGES);
        // Opening reads one map, the headers and the zero page.
        assert!((MAP..MAP + (64 << 10)).contains(&bytes), "{bytes} bytes were read to open");
        assert!(reads < 200, "{reads} reads");
        // Scattered pages: each costs its bits, its descriptor and its data.
        let mut expected = 0;
        for number in (999..PAGES).step_by(1_000_000) {
            assert!(read(&dump, number << 12, 4096).unwrap() == memory(1), "page {number}");
            expected += 1;
        }
        let (bytes, reads) = file.take();
        assert!(bytes <= expected * (4096 + 24 + 2 * 1024), "{bytes} bytes were read for {expected} pages");
        assert!(reads <= expected * 4, "{reads} reads for {expected} pages");
        // Zero pages cost no reads of data.
        let zeros = read(&dump, 1_311_000 << 12, 400 << 12).unwrap();
        assert!(zeros.iter().all(|byte| *byte == 0));
        let (bytes, _) = file.take();
        assert!(bytes < 400 * 24 + 4 * 1024, "{bytes} bytes were read for 400 zero pages");
    });
}
