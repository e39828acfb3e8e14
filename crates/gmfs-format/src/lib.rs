//! The formats of stores that keep memory across a kexec: a module for each layout, and a model to which all are
//! converted.
//!
//! [`native`] is the layout of gmfs, described in `docs/FORMAT.md`; [`pkernfs`] is that of the pkernfs driver. [`model`]
//! has what a store holds, whatever wrote it.
//!
//! This crate does no I/O and has no unsafe code. It decodes any bytes without a panic; checking what they mean is a
//! separate step.
#![forbid(unsafe_code)]
#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod model;
pub mod name;
pub mod native;
pub mod pkernfs;
pub mod spec;

mod layout;

pub use layout::Layout;
