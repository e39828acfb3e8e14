//! Why a region is not made, in words, with what to do next.

use gmfs::make::{Holds, MakeError};
use gmfs_format::native::geometry::GeometryError;

use crate::failure::Failure;
use crate::paths;
use crate::render::size;

/// An error of the library with what to do next.
pub(super) fn told(error: MakeError) -> anyhow::Error {
    let failure = |code, error: &MakeError, hint: &str| Failure::new(code, error.to_string()).hint(hint).into();
    match error {
        MakeError::Image(error) => error.into(),
        MakeError::File(error) => error.into(),
        MakeError::Geometry(GeometryError::TooSmall { size, inodes, block_bytes, needed }) => {
            let message = format!(
                "a region of {} is too small: with {} and blocks of {} it needs at least {}",
                size::both(size),
                size::count(inodes.into(), "inode"),
                size::human(block_bytes),
                size::both(needed)
            );
            Failure::new("too-small", message).hint("give it more room, fewer inodes or smaller blocks").into()
        }
        MakeError::Geometry(error) => error.into(),
        MakeError::Label(error) => error.into(),
        MakeError::Read(error) => error.into(),
        MakeError::Write(error) => error.into(),
        MakeError::Undo(error) => error.into(),
        MakeError::Region(error) => error.into(),
        error @ MakeError::Missing(_) => failure("not-found", &error, MAKES),
        error @ MakeError::Empty(_) => failure("empty", &error, MAKES),
        MakeError::TooSmall { size, room } => {
            let (size, room) = (size::both(size), size::both(room));
            let message = format!("the region of {size} does not fit: the image has {room}");
            let hint = "make the image larger (truncate -s), or give a smaller size";
            Failure::new("too-small", message).hint(hint).into()
        }
        error @ MakeError::NoRange => {
            failure("no-window", &error, "give --region SIZE:BASE, or boot with guestmemfs=SIZE:BASE")
        }
        MakeError::OtherBase { start, .. } => {
            let message = format!("--base contradicts the range that is formatted, which starts at {start:#x}");
            Failure::new("base", message).hint("leave --base out: the range's own base is recorded").into()
        }
        MakeError::Unaligned { base, block_bytes, range } => {
            let block = size::human(block_bytes);
            let message = format!("the base {base:#x} is not a multiple of the block size, {block}");
            let what = if range { "reserve an aligned range" } else { "align the base" };
            Failure::new("base", message).hint(format!("the kernel maps whole PMD pages: {what}")).into()
        }
        error => error.into(),
    }
}

const MAKES: &str = "--size SIZE makes a region file of that size";
const OVERRIDE: &str = "-f formats it all the same, and what it holds is lost";
const REPAIR_OR_OVERRIDE: &str =
    "`gmfs fsck IMAGE` tells what is wrong; -f formats it all the same, and what it holds is lost";

/// Why a target that holds something is not formatted.
pub(super) fn occupied(holds: Holds) -> Failure {
    let (code, hint) = match &holds {
        Holds::SuperblocksLost { .. } | Holds::Superblock => ("holds-region", REPAIR_OR_OVERRIDE),
        Holds::Region { .. } | Holds::OtherVersion(_) | Holds::Layout(_) => ("holds-region", OVERRIDE),
        Holds::Data(_) => ("holds-data", OVERRIDE),
        _ => ("holds-other", OVERRIDE),
    };
    let message = match holds {
        Holds::SuperblocksLost { size, uuid } => format!(
            "it holds a damaged guestmemfs region: {}, UUID {uuid}; both superblocks are lost, and tables are left",
            size::both(size)
        ),
        Holds::Region { size, uuid, label, used_inodes } => {
            let label = match label.as_slice() {
                [] => String::new(),
                label => format!(", label '{}'", paths::shown(label)),
            };
            let (size, inodes) = (size::both(size), size::count(used_inodes, "inode"));
            format!("it holds a guestmemfs region already: {size}, UUID {uuid}{label}, {inodes} used")
        }
        other => other.to_string(),
    };
    Failure::new(code, message).hint(hint)
}
