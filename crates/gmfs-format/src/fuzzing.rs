//! What fuzzers and tests share: physical memory with hand-overs as kernels make them. Not a part of the crate's
//! interface.
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "no part of the program: its numbers are its own, and a panic is what a fuzzer looks for"
)]

mod exercise;
mod made;
mod memory;
mod tables;

#[allow(missing_docs, reason = "fields and helpers of the structures that the module is named after")]
pub mod guestmemfs;
#[allow(missing_docs, reason = "fields and helpers of the structures that the module is named after")]
pub mod pkernfs;
#[allow(missing_docs, reason = "fields and helpers of the structures that the module is named after")]
pub mod sparse;
#[allow(missing_docs, reason = "fields and helpers of the structures that the module is named after")]
pub mod trees;

pub use exercise::{TARGETS, Target, damaged_handover, exercise_fdt, exercise_handover, fdt_seeds, seeds};
pub use made::{Form, Made, MadeFile, Way, content};
pub use memory::Memory;
pub use tables::Tables;
