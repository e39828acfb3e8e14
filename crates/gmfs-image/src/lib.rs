//! Where the bytes of a guestmemfs region come from.
//!
//! An image is a region file, a block device, a window of live memory (`/dev/mem`, devdax) or a crash dump. This crate
//! recognises which ([`probe`]), and gives it out as a [`ReadAt`](gmfs_format::io::ReadAt), or as a
//! [`WriteAt`](gmfs_format::io::WriteAt) where the image can be written at all: a dump cannot, by type.
//!
//! It knows nothing of what a region holds, and it neither prints nor names a command line flag. All `unsafe` code of
//! it is in [`mapped`], where memory that others write, and that may fail under the reader, is copied out.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod captured;
pub mod elf;
mod extents;
pub mod file;
pub mod flat;
pub mod foreign;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it makes files for tests, and is no part of what is built to be used"
)]
pub mod fuzzing;
pub mod in_order;
pub mod iomem;
pub mod kdump;
pub mod lime;
pub mod mapped;
pub mod metadump;
pub mod probe;
pub mod raw;
mod sysfs;
pub mod undo;

pub use file::{FileError, RegionFile, WritableFile};
pub use probe::{
    Description, DumpFacts, Image, Kind, OpenError, WritableImage, open, open_for_writing, open_parts, open_raw,
};
