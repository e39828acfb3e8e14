//! Makes a region file whose data blocks all belong to files, for measurements: `full_region FILE SIZE FILES long|robin`.
//!
//! `long` gives each file one extent; `robin` deals the blocks out in turn, so that every extent is one block. The file
//! is sparse: only metadata is written. It must not exist.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage};
use gmfs_format::native::seal::{Place, seal};
use gmfs_format::native::sum::{GROUPS, Sum, group};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::tables::InodeKind;
use gmfs_format::native::units::{CopyId, Generation, InodeNo, PAGE_SIZE, PageNo, PmdShift};
use gmfs_format::spec::parse_size;

/// The owners of all blocks in the region.
struct Plan {
    geometry: Geometry,
    files: u32,
    robin: bool,
}

impl Plan {
    /// The file and the file block of the `k`th data block.
    fn owner(&self, k: u32) -> (u32, u32) {
        if self.robin {
            return (k % self.files, k / self.files);
        }
        let each = self.geometry.data_blocks() / self.files;
        let file = (k / each).min(self.files - 1);
        (file, k - file * each)
    }

    /// How many blocks a file has.
    fn blocks(&self, file: u32) -> u32 {
        let (data, files) = (self.geometry.data_blocks(), self.files);
        match (self.robin, file == files - 1) {
            (true, _) => data / files + u32::from(file < data % files),
            (false, true) => data - data / files * (files - 1),
            (false, false) => data / files,
        }
    }

    /// The record of an inode: the root, a file, or free.
    fn inode(&self, ino: u32) -> InodeRaw {
        let mut raw = InodeRaw::free(InodeNo(ino), u32::from(ino <= self.files + 1));
        if ino > self.files + 1 {
            raw.generation = 0.into();
            return raw;
        }
        raw.parent = 1.into();
        if ino == 1 {
            raw.kind = InodeKind::Directory.number().into();
            raw.mode = 0o755.into();
            raw.set_name(b".");
            return raw;
        }
        let blocks = u64::from(self.blocks(ino - 2));
        raw.kind = InodeKind::File.number().into();
        raw.mode = 0o600.into();
        raw.blocks = blocks.into();
        raw.size = (blocks * self.geometry.block_bytes()).into();
        raw.set_name(format!("vm{:04}.mem", ino - 2).as_bytes());
        raw
    }

    /// The payload of a table page, without its trailer.
    fn page(&self, page: PageNo) -> [u8; PAGE_SIZE] {
        let mut bytes = [0; PAGE_SIZE];
        if page >= self.geometry.first_inode_page() {
            let first = self.geometry.first_inode_of(page).0;
            for (ino, slot) in (first..).zip(&mut InodeTablePage::view_mut(&mut bytes).inodes) {
                *slot = self.inode(ino);
            }
            return bytes;
        }
        let first = self.geometry.first_block_of(page).0 - self.geometry.first_data().0;
        for (k, slot) in (first..self.geometry.data_blocks()).zip(&mut BlockTablePage::view_mut(&mut bytes).entries) {
            let (file, index) = self.owner(k);
            *slot = BlockRaw::data(InodeNo(file + 2), index);
        }
        bytes
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: full_region FILE SIZE FILES long|robin");
    let [path, size, files, order] = arguments.as_slice() else {
        return Err(usage());
    };
    let size = parse_size(size).map_err(|_| usage())?;
    let files: u32 = files.parse().map_err(|_| usage())?;
    let geometry = Geometry::plan(size, PmdShift::M2, Geometry::default_inodes(size, PmdShift::M2));
    let geometry = geometry.map_err(io::Error::other)?;
    let files = files.min(geometry.data_blocks()).min(geometry.inodes() - 1);
    let plan = Plan { geometry, files, robin: order == "robin" };

    let mut superblock = Superblock::new(geometry, uuid::Uuid::from_u128(0x6d66_7330), 1, Generation(1));
    superblock.raw.free_blocks = 0.into();
    superblock.raw.data_blocks = u64::from(geometry.data_blocks()).into();
    superblock.raw.table_used = u64::from(geometry.table_pages()).into();
    superblock.raw.inodes_used_pages = u64::from((files + 1).div_ceil(8)).into();
    superblock.raw.used_inodes = u64::from(files + 1).into();
    let mut sums = [Sum::default(); GROUPS];
    for page in superblock.marks().pages(geometry) {
        sums[group(page)] = sums[group(page)] + Sum::of(page, superblock.generation);
    }
    superblock.set_group_sums(&sums);

    let file = File::create_new(path)?;
    file.set_len(size)?;
    for copy in CopyId::BOTH {
        let mut at = geometry.copy_offset(copy);
        let mut buffer = superblock.page(copy).to_vec();
        for page in superblock.used_table_pages().chain(superblock.used_inode_pages()).map(PageNo) {
            let mut bytes = plan.page(page);
            let Some(kind) = geometry.page_kind(page) else {
                continue;
            };
            superblock.trailer().write(&mut bytes);
            let Superblock { uuid, birth, .. } = superblock;
            seal(&mut bytes, &Place { kind, copy, page, uuid, birth, geometry }, superblock.generation);
            buffer.extend_from_slice(&bytes);
            if buffer.len() >= 1 << 20 {
                file.write_all_at(&buffer, at)?;
                at += buffer.len() as u64;
                buffer.clear();
            }
        }
        file.write_all_at(&buffer, at)?;
    }
    writeln!(io::stdout(), "{files} files in {} data blocks", geometry.data_blocks())
}
