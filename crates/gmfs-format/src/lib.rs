//! The bytes of stores that keep memory across a kexec: one module for each layout, and a model that all of them come to.
//!
//! [`native`] is the layout of gmfs, described in `docs/FORMAT.md`; [`pkernfs`] and [`guestmemfs`] are
//! those of two kernel drivers. [`model`]
//! has what a store holds, whatever wrote it. [`fdt`] reads the device trees in which one kernel tells the next what to keep.
//!
//! This crate does no I/O and has no unsafe code. Any bytes decode without a panic; what they mean is checked apart
//! from reading them.
#![forbid(unsafe_code)]
#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod chains;
pub mod fdt;
pub mod guestmemfs;
pub mod model;
pub mod name;
pub mod native;
pub mod pkernfs;
pub mod reading;
pub mod spec;

mod layout;

pub use layout::Layout;
