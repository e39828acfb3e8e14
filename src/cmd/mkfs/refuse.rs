//! What is not formatted without being told to: whatever somebody may still want.

use anyhow::Result;
use gmfs_format::native::seal::{PageKind, SealFault, claim};
use gmfs_format::native::superblock::{MAGIC, Superblock, SuperblockFault};
use gmfs_format::native::units::{CopyId, PAGE_SIZE, PmdShift};
use gmfs_image::{Kind, foreign};
use gmfs_io::ReadAt;
use gmfs_volume::{OpenError, Superblocks};

use super::target::Target;
use crate::failure::Failure;
use crate::paths;
use crate::render::size;

/// So many bytes of a file are looked at before it is taken for empty; most of them in its first stretches.
const LOOKED_AT: u64 = 4 << 20;
/// So many bytes of each stretch of data.
const PER_STRETCH: u64 = 64 << 10;

/// So many blocks of 2 MiB at the end are searched for a superblock of another format version.
const LAST_BLOCKS: u64 = 64;

const OVERRIDE: &str = "-f formats it all the same, and what it holds is lost";
const REPAIR_OR_OVERRIDE: &str =
    "`gmfs fsck IMAGE` tells what is wrong; -f formats it all the same, and what it holds is lost";

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
    match Superblocks::load_any(source, None) {
        Ok(found) if found.are_rebuilt() => {
            let (size, uuid) = (size::both(found.geometry().size()), found.current().uuid);
            let message = format!(
                "it holds a damaged guestmemfs region: {size}, UUID {uuid}; both superblocks are lost, and tables are left"
            );
            Err(Failure::new("holds-region", message).hint(REPAIR_OR_OVERRIDE))
        }
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
        Err(OpenError::NoRegion { .. }) => {
            if let Some(version) = other_version(source) {
                let message =
                    format!("it holds a gmfs region of format version {version}, which this gmfs cannot read");
                return Err(Failure::new("holds-region", message).hint(OVERRIDE));
            }
            if looks_like_one(source) {
                let message = "it holds a damaged guestmemfs region: there is a superblock that cannot be used";
                return Err(Failure::new("holds-region", message).hint(REPAIR_OR_OVERRIDE));
            }
            Ok(())
        }
        Err(_) => Ok(()),
    }
}

/// The format version of a superblock that is sealed and that this program does not read: at the start, where copy A is,
/// or at the start of one of the last blocks, where copy B is.
fn other_version(source: &dyn ReadAt) -> Option<u16> {
    let step = PmdShift::M2.block_bytes();
    let end = source.end().unwrap_or(0);
    let last = (1..=LAST_BLOCKS).map_while(|n| (end / step).checked_sub(n)).map(|block| block * step);
    let mut page = [0; PAGE_SIZE];
    std::iter::once(0).chain(last).find_map(|offset| {
        source.read_at(offset, &mut page).ok()?;
        match Superblock::read(&page, CopyId::A) {
            Err(SuperblockFault::Seal(SealFault::Version(version))) if page[64..72] == MAGIC => Some(version),
            _ => None,
        }
    })
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
