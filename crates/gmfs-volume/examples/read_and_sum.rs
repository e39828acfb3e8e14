//! The yardstick for a check: reads the used metadata of both copies of a region file and computes the CRC-32 of each
//! page, and does nothing else: `read_and_sum FILE`.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::{CopyId, PAGE_SIZE};

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: read_and_sum FILE"))?;
    let file = File::open(path)?;
    let mut page = [0; PAGE_SIZE];
    file.read_exact_at(&mut page, 0)?;
    let superblock = Superblock::read(&page, CopyId::A).map_err(io::Error::other)?;
    let mut buffer = vec![0; 64 * PAGE_SIZE];
    let mut sums = 0_u32;
    let mut pages = 0_u64;
    for copy in CopyId::BOTH {
        for used in [superblock.used_table_pages(), superblock.used_inode_pages()] {
            let geometry = superblock.geometry();
            let mut at = used.start;
            while at < used.end {
                let count = (used.end - at).min(64);
                let offset = geometry.page_offset(copy, gmfs_format::native::units::PageNo(at));
                let part = &mut buffer[..count as usize * PAGE_SIZE];
                file.read_exact_at(part, offset)?;
                for page in part.chunks(PAGE_SIZE) {
                    sums ^= crc32fast::hash(page);
                }
                pages += u64::from(count);
                at += count;
            }
        }
    }
    writeln!(io::stdout(), "{pages} pages, sum {sums:08x}")
}
