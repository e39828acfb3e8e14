//! The readable form of a dump: one fact a line, in an order that is always the same.

use std::fmt::Write as _;

use anyhow::Result;
use gmfs_format::io::Window;
use gmfs_format::name::escape;
use gmfs_format::raw::{InodeRaw, InodeTablePage, OnMemory, SuperblockRaw};
use gmfs_format::tables::BlockState;
use gmfs_format::units::{BlockNo, CopyId, InodeNo};
use gmfs_image::metadump::MetaDump;
use gmfs_volume::Region;
use gmfs_volume::superblocks::used_tables;
use gmfs_volume::sweep::{Frame, sweep};

use crate::render::words;

/// The text of a dump.
pub(super) fn write(dump: Vec<u8>) -> Result<Vec<u8>> {
    let dump = MetaDump::parse(dump)?;
    let superblocks = super::load(&dump)?;
    let end = dump.facts().end;
    let region = Region::with(Window::new(dump, 0, end), superblocks);
    let mut out = String::new();
    let (superblocks, current) = (region.superblocks(), region.superblock());
    writeln!(out, "region uuid {}", current.uuid)?;
    writeln!(out, "region generation {}", current.generation)?;
    for (name, slot) in [("A", &superblocks.a), ("B", &superblocks.b)] {
        writeln!(out, "superblock {name} {slot}")?;
    }
    fields::<SuperblockRaw>(&mut out, "superblock", &current.raw)?;
    for (kind, pages) in used_tables(current) {
        let visit = |frame: &Frame<'_>| {
            for copy in CopyId::BOTH {
                let standing = words::standing(frame.judgement.of(copy));
                // Writing to a String cannot fail.
                let _ = writeln!(out, "page {copy} {} {kind}: {standing}", frame.page);
            }
        };
        sweep(region.source(), superblocks, pages, vec![visit]);
    }
    for page in current.used_inode_pages().map(gmfs_format::units::PageNo) {
        let Some(bytes) = region.page(page) else { continue };
        let first = region.geometry().first_inode_of(page).0;
        for (number, inode) in (first..).zip(&InodeTablePage::view(&bytes).inodes) {
            if inode.in_use() {
                fields::<InodeRaw>(&mut out, &format!("inode {number}"), inode)?;
            }
        }
    }
    for (ino, extents) in region.mappings(|_| true).files {
        for extent in extents {
            let bad = if extent.bad { " bad" } else { "" };
            writeln!(out, "file {ino} index {} block {} count {}{bad}", extent.index, extent.block, extent.count)?;
        }
    }
    runs(&region, &mut out)?;
    Ok(out.into_bytes())
}

/// The fields of a structure, those that are reserved only if they hold something.
fn fields<T: OnMemory>(out: &mut String, what: &str, value: &T) -> Result<()> {
    for field in T::FIELDS {
        let bytes = value.bytes().get(field.offset..field.offset + field.size).unwrap_or_default();
        if field.name.starts_with("reserved") && bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let number = bytes.iter().rev().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        match field.kind {
            "u8" | "U16" | "U32" | "U64" => writeln!(out, "{what} {} {number}", field.name)?,
            _ => {
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let shown = bytes.get(..used).unwrap_or_default();
                writeln!(out, "{what} {} '{}'", field.name, escape(shown))?;
            }
        }
    }
    Ok(())
}

/// Runs of bad and of reserved blocks.
fn runs<S: gmfs_format::io::ReadAt>(region: &Region<S>, out: &mut String) -> Result<()> {
    let mut runs: Vec<(BlockState, InodeNo, BlockNo, u32)> = Vec::new();
    region.descriptors(|block, entry| {
        let Some(state @ (BlockState::Bad | BlockState::Reserved)) = entry.state() else { return };
        match runs.last_mut() {
            Some((last, owner, first, count))
                if (*last, *owner) == (state, entry.owner()) && first.0 + *count == block.0 =>
            {
                *count += 1;
            }
            _ => runs.push((state, entry.owner(), block, 1)),
        }
    });
    for (state, owner, first, count) in runs {
        writeln!(out, "blocks {} first {first} count {count} inode {owner}", state.name())?;
    }
    Ok(())
}
