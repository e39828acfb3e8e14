//! Where the bytes of a guestmemfs region come from.
//!
//! An image is a region file, a block device, a window of live memory (`/dev/mem`, devdax) or a crash dump. This crate
//! recognises which ([`probe`]), and gives it out as a [`ReadAt`](gmfs_format::io::ReadAt), or as a
//! [`WriteAt`](gmfs_format::io::WriteAt) where the image can be written at all: a dump cannot, by type.
//!
//! It knows nothing of what a region holds, and it neither prints nor names a command line flag. All `unsafe` code of
//! it is in [`mapped`], where memory that others write, and that may fail under the reader, is copied out.
//!
//! # Reading a crash dump
//!
//! ```
//! use gmfs_format::io::{ReadAt as _, ReadError};
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
//! | Format | Reader | Written by |
//! | --- | --- | --- |
//! | ELF core, 32 and 64 bit, either byte order | [`elf`] | `/proc/vmcore`, `dump-guest-memory`, `makedumpfile -E` |
//! | kdump-compressed, versions 0 to 6 | [`kdump`] | makedumpfile, `dump-guest-memory -R` |
//! | flattened stream of either | [`flat`] | `makedumpfile -F`, `dump-guest-memory -z` |
//! | LiME 1, AVML 2 | [`lime`] | LiME, AVML |
//! | bytes of memory as they are | [`raw`] | `pmemsave`, memory files of virtual machines |
//!
//! A reader lies on anything that is a `ReadAt`, so that readers can be stacked, and can be tested without files.
//!
//! - **Units.** Offsets and lengths are bytes; in a dump an offset is a physical address. Ranges are half-open.
//! - **Absence.** What a dump does not hold is [`ReadError::Absent`](gmfs_format::io::ReadError) with its reason, and
//!   never zeros. [`ReadAt::next_absent`](gmfs_format::io::ReadAt::next_absent) tells it beforehand, and
//!   [`ReadAt::next_data`](gmfs_format::io::ReadAt::next_data) where zeros are known without reading them.
//! - **Errors.** Opening fails only where nothing can be read: each reader has an error type that says why. A dump that
//!   was cut is opened; what it lost is absent.
//! - **Hostile files.** No number of a file is used as a size, a count or a place before it is bounded by the file's
//!   size; nothing is decoded into more than its page. `tests/hazards` has the list of what is tested.
//! - **Threads.** All readers are `Send` and `Sync`; [`in_order`] reads ahead with several threads.
//!
//! # Features
//!
//! None is on by default. `deflate-c` decodes zlib pages by libdeflate, `zstd-c` zstd pages by the C library; both take a
//! C compiler, and are 1.5 and 2.9 times as fast as the decoders in Rust. They refuse what the decoders in Rust refuse,
//! but for some damaged pages: of a Huffman table that is not complete they make something. `fuzzing` adds the bodies of
//! the fuzz targets.

#![deny(clippy::print_stdout, clippy::print_stderr)]
// All of it reads bytes that somebody else made.
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod ahead;
mod below;
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
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "it makes files for tests, and is no part of what is built to be used"
)]
pub mod fuzzing;
pub mod in_order;
pub mod in_use;
pub mod iomem;
pub mod kdump;
pub mod lime;
pub mod lock;
pub mod mapped;
pub mod metadump;
pub mod probe;
pub mod processes;
pub mod raw;
mod sysfs;
mod totals;
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
pub use totals::Totals;
