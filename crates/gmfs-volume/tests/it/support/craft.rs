//! Pages written past the engine, under good seals: states that no operation makes.

use gmfs_format::raw::{BlockRaw, BlockTablePage, InodeRaw, InodeTablePage};
use gmfs_format::superblock::Superblock;
use gmfs_format::units::{BlockNo, CopyId, InodeNo, PageBytes, PageNo};
use gmfs_format::seal;
use gmfs_volume::Superblocks;

use super::memory::Memory;
