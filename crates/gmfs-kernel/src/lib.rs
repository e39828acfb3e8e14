//! What a Linux kernel image says about memory that is handed over by kexec, and what becomes of that memory.
//!
//! Linux hands memory over by KHO (kexec hand-over) and LUO (live update orchestrator). Each format has a version, and a
//! kernel that finds another version than its own gives all handed-over memory to its allocator. [`image`] reads from an
//! image which versions a kernel has.
//!
//! The crate opens no files, prints nothing, and has no unsafe code. Memory and time are bounded whatever an image says.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
// All of it reads bytes that somebody else made.
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod abi;
mod codec;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "it makes images for tests, and is no part of what is built to be used"
)]
pub mod fuzzing;
pub mod image;
mod release;

pub use codec::Codec;
pub use release::{Release, Series};
