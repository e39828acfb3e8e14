//! The native layout as a store.

use gmfs_format::model::{Inode, InodeNo, Piece};
use gmfs_format::native::extents::Extent;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, CopyId, PAGE_BYTES, PageNo, to_u32};
use gmfs_volume::content::pieces;
use gmfs_volume::region::{Mapping, Region};

use super::{Inodes, Metadata, Owner, Run, Runs, Usage, What};
use crate::error::Error;
use crate::open::Source;

pub(super) fn inodes(region: &Region<Source>) -> Inodes {
    let found = region.inodes();
    Inodes { tree: found.tree, lost_pages: found.lost_pages, broken_chains: 0 }
}

fn run(geometry: Geometry, extent: &Extent) -> Run {
    let bytes = |blocks: u32| u64::from(blocks).saturating_mul(geometry.block_bytes());
    Run {
        offset: bytes(extent.index),
        at: geometry.block_offset(extent.block),
        len: bytes(extent.count),
        bad: extent.bad,
    }
}

/// The extent that became a run. Blocks have 2 MiB and more, and numbers of 32 bits.
fn extent(geometry: Geometry, run: &Run) -> Extent {
    let blocks = |bytes: u64| to_u32(bytes.checked_div(geometry.block_bytes()).unwrap_or_default());
    Extent { index: blocks(run.offset), block: BlockNo(blocks(run.at)), count: blocks(run.len), bad: run.bad }
}

pub(super) fn runs(region: &Region<Source>, wanted: impl Fn(InodeNo) -> bool + Send + Sync) -> Runs {
    let geometry = region.geometry();
    let found = region.mappings(wanted);
    let files = found.files.into_iter().map(|(ino, extents)| {
        let runs = extents.iter().map(|extent| run(geometry, extent)).collect();
        (ino, runs)
    });
    Runs { files: files.collect(), lost_pages: found.lost_pages }
}

pub(super) fn content_of(region: &Region<Source>, inode: &Inode, runs: &Runs) -> Result<Vec<Piece>, Error> {
    let geometry = region.geometry();
    let of_file = runs.files.get(&inode.ino).map(Vec::as_slice).unwrap_or_default();
    let extents = of_file.iter().map(|run| extent(geometry, run)).collect();
    Ok(pieces(geometry, inode, &Mapping { extents, lost_pages: runs.lost_pages })?)
}

pub(super) fn owner(region: &Region<Source>, offset: u64) -> Owner {
    let geometry = region.geometry();
    let (block, inside) = geometry.pmd().split(offset);
    let block = BlockNo(to_u32(block));
    if block.0 >= geometry.blocks() {
        return Owner::only(What::Tail);
    }
    if !geometry.is_data(block) {
        let copy = if block < geometry.first_data() { CopyId::A } else { CopyId::B };
        let within = offset.saturating_sub(geometry.copy_offset(copy));
        let page = PageNo(to_u32(within.checked_div(PAGE_BYTES).unwrap_or_default()));
        let kind = geometry.page_kind(page).map(|kind| kind.to_string());
        let metadata = Metadata { copy: Some(copy), page: Some(page), kind, ino: None };
        return Owner { metadata: Some(metadata), ..Owner::only(What::Metadata) };
    }
    let Some(descriptor) = region.descriptor(block) else { return Owner::only(What::Lost) };
    let what = match descriptor.state() {
        Some(BlockState::Data) => What::File,
        Some(BlockState::Free) => What::Free,
        Some(BlockState::Bad) => What::Bad,
        Some(BlockState::Reserved) => What::Reserved,
        None => What::Unknown,
    };
    let index = u64::from(descriptor.index.get());
    let at = index.saturating_mul(geometry.block_bytes()).saturating_add(inside);
    let file = descriptor.is_mapping().then(|| (descriptor.owner(), at));
    Owner { file, ..Owner::only(what) }
}

pub(super) fn usage(region: &Region<Source>) -> Usage {
    let (raw, geometry) = (&region.superblock().raw, region.geometry());
    Usage {
        free: raw.free_blocks.get(),
        data: raw.data_blocks.get(),
        bad: raw.bad_blocks.get(),
        reserved: raw.reserved_blocks.get(),
        metadata: u64::from(geometry.metadata_blocks()).saturating_mul(2),
        leaked: 0,
        inodes_used: raw.used_inodes.get(),
        inodes: geometry.inodes().into(),
    }
}
