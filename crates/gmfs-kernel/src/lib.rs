//! What a Linux kernel image says about memory that is handed over by kexec, and what becomes of that memory.
//!
//! Linux hands memory over by KHO (kexec hand-over) and LUO (live update orchestrator). Each format has a version, and
//! a kernel that finds another version than its own gives all handed-over memory to its allocator. [`image`] reads from
//! an image which versions a kernel has, [`cmdline`] what its command line says, and [`compat`] judges what a kexec
//! from one kernel to another does.
//!
//! ```
//! use gmfs_kernel::compat::{self, Mechanism, Next, Old, Uses, Verdict};
//! use gmfs_kernel::{Kernel, Release};
//! let kernel = |text| Kernel::upstream(Release::parse(text).unwrap()).unwrap();
//! let old = Old::new(kernel("7.0.13"), None, Uses::ALL);
//! let new = Next::new(kernel("7.1.13"), None);
//! let judgement = compat::judge(&old, &new, Uses::ALL);
//! assert_eq!(judgement.verdict(Mechanism::Regions), Some(Verdict::Lost));
//! ```
//!
//! The crate opens no files, prints nothing, and has no unsafe code. Memory and time are bounded whatever an image
//! says.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
// The whole crate reads bytes that somebody else made.
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod abi;
pub mod cmdline;
mod codec;
pub mod compat;
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
pub mod memblock;
mod release;

pub use codec::Codec;
pub use compat::Kernel;
pub use release::{Release, Series};
