//! What is not formatted without being told to: whatever somebody may still want.

use anyhow::Result;
use gmfs_format::io::ReadAt;
use gmfs_format::seal::{PageKind, claim};
use gmfs_format::superblock::MAGIC;
use gmfs_format::units::PAGE_SIZE;
use gmfs_image::{Kind, foreign};
use gmfs_volume::{OpenError, Superblocks};

use super::target::Target;
use crate::failure::Failure;
use crate::paths;
use crate::render::size;

/// So many bytes of a file are looked at before it is taken for empty; most of them in its first stretches.
const LOOKED_AT: u64 = 4 << 20;
/// So many bytes of each stretch of data.
const PER_STRETCH: u64 = 64 << 10;

const OVERRIDE: &str = "-f formats it all the same, and what it holds is lost";

/// Refuses a target that holds anything.
pub(super) fn check(target: &Target) -> Result<(), Failure> {
    let Some(source) = target.source().filter(|_| !target.fresh) else { return Ok(()) };
    let end = source.end().unwrap_or(target.size);
    // A file that is one hole holds nothing.
    if matches!(source.next_data(0..end), Ok(None)) {
        return Ok(());
    }
    region(source)?;
    if let Some(found) = foreign::identify(source) {
        let message = format!("it holds something else already: {}, marked at offset {:#x}", found.name, found.offset);
        return Err(Failure::new("holds-other", message).hint(OVERRIDE));
    }
    // Memory is never zero, and devices need not be.
    if target.kind == Kind::File {
        data(source, end)?;
    }
    Ok(())
}

/// Refuses what is, or was, a region.
fn region(source: &dyn ReadAt) -> Result<(), Failure> {
    match Superblocks::load(source) {
        Ok(found) => {
            let superblock = found.current();
            let label = match superblock.label() {
                [] => String::new(),
                label => format!(", label '{}'", paths::shown(label)),
            };
            let message = format!(
                "it holds a guestmemfs region already: {}, UUID {}{label}, {} used",
                size::both(found.geometry().size()),
                superblock.uuid,
                size::count(superblock.raw.used_inodes.get(), "inode")
            );
            Err(Failure::new("holds-region", message).hint(OVERRIDE))
        }
        Err(OpenError::NoRegion { .. }) if looks_like_one(source) => {
            let message = "it holds a damaged guestmemfs region: there is a superblock that cannot be used";
            let hint = "`gmfs fsck IMAGE` tells what is wrong; -f formats it all the same, and what it holds is lost";
            Err(Failure::new("holds-region", message).hint(hint))
        }
        Err(_) => Ok(()),
    }
}

/// Whether the first page is, by its marks, a superblock.
fn looks_like_one(source: &dyn ReadAt) -> bool {
    let mut page = [0; PAGE_SIZE];
    if source.read_at(0, &mut page).is_err() {
        return false;
    }
    page[64..72] == MAGIC || claim(&page).is_some() || page[..4] == PageKind::Superblock.magic()
}

/// Refuses a file with anything but zeros in it, as far as a bounded look tells.
fn data(source: &dyn ReadAt, end: u64) -> Result<(), Failure> {
    let mut left = LOOKED_AT;
    let mut at = 0;
    let mut buf = vec![0; usize::try_from(PER_STRETCH).unwrap_or_default()];
    while left > 0 && at < end {
        let Ok(Some(stretch)) = source.next_data(at..end) else { break };
        let stretch = stretch.start.max(at)..stretch.end.min(end);
        let length = (stretch.end - stretch.start).min(PER_STRETCH).min(left);
        let part = &mut buf[..usize::try_from(length).unwrap_or_default()];
        if part.is_empty() || source.read_at(stretch.start, part).is_err() {
            break;
        }
        if let Some(place) = part.iter().position(|byte| *byte != 0) {
            let offset = stretch.start + place as u64;
            let message = format!("it holds data: the first byte that is not zero is at offset {offset:#x}");
            return Err(Failure::new("holds-data", message).hint(OVERRIDE));
        }
        left -= length;
        // First all of the beginning, then a part of each stretch.
        at = if left > LOOKED_AT / 2 { stretch.start + length } else { stretch.end };
    }
    Ok(())
}
