//! Memory dumps as sources of bytes.
//!
//! ```
//! use gmfs_dump::elf::ElfDump;
//! use gmfs_io::{PlainFile, ReadAt as _, ReadError};
//! # fn example(file: std::fs::File) -> Result<(), Box<dyn std::error::Error>> {
//! let dump = ElfDump::parse(PlainFile(file))?;
//! let mut page = [0; 4096];
//! match dump.read_at(0x1000_0000, &mut page) {
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
//! A reader accepts anything that implements `ReadAt`, for example a [`PlainFile`](gmfs_io::PlainFile). So readers can
//! be stacked, and can be tested without files. `gmfs-image` recognises which reader a file needs.
//!
//! - **Units.** Offsets and lengths are in bytes. An offset in a dump is a physical address. Ranges are half-open.
//! - **Absence.** A read of memory that the dump does not hold fails with [`ReadError::Absent`](gmfs_io::ReadError) and
//!   the reason; it never gives zeros. [`ReadAt::next_absent`](gmfs_io::ReadAt::next_absent) reports absent ranges
//!   without reading them, and [`ReadAt::next_data`](gmfs_io::ReadAt::next_data) skips ranges that are known to be
//!   zero.
//! - **Errors.** Opening fails only if nothing can be read. Each reader has an error type that says why. A dump that
//!   was cut short can be opened; what it lost is absent.
//! - **Hostile files.** No number of a file is used as a size, a count or an offset before it is bounded by the file's
//!   size. Nothing is decoded into more than its page. `tests/hazards` lists what is tested.
//! - **Threads.** All readers are `Send` and `Sync`; [`gmfs_io::in_order`] reads ahead with several threads.
//!
//! # Features
//!
//! None is on by default. `deflate-c` decodes zlib pages with libdeflate, and `zstd-c` decodes zstd pages with the C
//! library. Both need a C compiler, and are 1.5 and 2.9 times as fast as the decoders in Rust. They refuse what the
//! decoders in Rust refuse, with one exception: they decode some damaged pages whose Huffman table is incomplete.
//! `fuzzing` adds the bodies of the fuzz targets.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
// All code in this crate reads bytes that may be damaged or hostile.
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod ahead;
#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod captured;
pub mod elf;
pub mod flat;
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
pub mod kdump;
pub mod lime;
pub mod raw;
mod totals;

pub use totals::Totals;
