//! The formats of stores that keep memory across a kexec: a module for each layout, and a model to which all are
//! converted.
//!
//! [`native`] is the layout of gmfs, which `docs/FORMAT.md` describes. [`pkernfs`] and [`guestmemfs`] are those of two
//! kernel drivers; [`kho`] and [`luo`] are what mainline Linux hands from one kernel to the next. [`model`] has the
//! content of a store, whatever its layout. [`fdt`] reads the device trees in which one kernel tells the next what to
//! keep.
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

pub mod chains;
pub mod fdt;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod guestmemfs;
pub mod kho;
pub mod luo;
pub mod model;
pub mod name;
pub mod native;
pub mod pkernfs;
pub mod reading;
pub mod size;
pub mod spec;

mod layout;
mod marks;

pub use layout::Layout;
