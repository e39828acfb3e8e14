//! The bytes of a guestmemfs region, version 2: structures, seals, geometry, and what they mean.
//!
//! This crate does no I/O and has no unsafe code. Any bytes decode without a panic; what they mean is checked apart
//! from reading them. The format itself is described in `docs/FORMAT.md`, whose byte tables are produced from the
//! declarations in [`raw`].
#![forbid(unsafe_code)]
#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod copies;
pub mod features;
pub mod geometry;
pub mod io;
pub mod model;
pub mod name;
pub mod pkernfs;
pub mod raw;
pub mod seal;
pub mod spec;
pub mod sum;
pub mod superblock;
pub mod tables;
pub mod units;

mod layout;

pub use layout::Layout;
