//! Where the bytes of a region come from.
//!
//! An image is a region file, a block device, a window of live memory (`/dev/mem`, devdax) or a crash dump. This crate
//! recognises which of them it is ([`probe`]), and opens it as a [`ReadAt`](gmfs_io::ReadAt), or as a
//! [`WriteAt`](gmfs_io::WriteAt) if it can be written. A dump has no `WriteAt`, so it cannot be written by mistake.
//!
//! The crate does not know what a region contains. It does not print and does not name command line flags. All its
//! `unsafe` code is in [`mapped`], which copies bytes out of memory that other programs write and whose pages may fail.
//!
//! # Reading a crash dump
//!
//! ```
//! use gmfs_io::{ReadAt as _, ReadError};
//! # fn example(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let image = gmfs_image::open(path, None)?;
//! println!("{}", image.kind.name());
//! for (range, why) in image.memory(100) {
//!     println!("{range}: {}", why.map_or("present", |why| why.name()));
//! }
//! let mut page = [0; 4096];
//! match image.source.read_at(0x1000_0000, &mut page) {
//!     Ok(()) => println!("{:x?}", &page[..16]),
//!     Err(ReadError::Absent { span, why }) => println!("{span} is not in the dump: {why}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The readers of the dump formats are in `gmfs-dump`. Its features `deflate-c` and `zstd-c` can be turned on from
//! here.

#![deny(clippy::print_stdout, clippy::print_stderr)]
// All code in this crate reads bytes that may be damaged or hostile.
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod below;
pub mod file;
pub mod foreign;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "it makes files for tests and is not part of the library"
)]
pub mod fuzzing;
pub mod in_use;
pub mod iomem;
pub mod lock;
pub mod mapped;
pub mod metadump;
pub mod probe;
pub mod processes;
mod sysfs;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "its numbers are bounded where they are read"
)]
pub mod undo;

pub use below::share_bytes;
pub use file::{FileError, RegionFile, WritableFile};
pub use in_use::InUse;
pub use lock::{Locking, RangeLock};
pub use probe::{
    Description, DumpFacts, Holes, Image, Kind, OpenError, WritableImage, open, open_for_writing, open_layers,
    open_parts, open_raw,
};
