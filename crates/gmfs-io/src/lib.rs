//! Sources of bytes in which some can be absent: a region file, physical memory, a crash dump.
//!
//! [`ReadAt`] reads at an offset, [`WriteAt`] also writes; what cannot be written does not have the second trait. Both
//! keep one distinction that everything above relies on: bytes that are *absent* (a dump does not hold them) are
//! neither zero nor an I/O error. A [`Window`] is a part of a source as a space of its own. [`extents`] puts a space
//! together from pieces of another one, and [`in_order`] reads, decodes and works ahead with several threads. An
//! [`Overlay`] takes writes over a source that is only read, for a dry run.
//!
//! This crate opens nothing, and has no unsafe code.
//!
//! ```
//! use gmfs_io::{Absence, ReadAt as _, ReadError, Window};
//! let memory: Vec<u8> = (0..=255).collect();
//! let window = Window::new(&memory, 16, 4096);
//! let mut bytes = [0; 2];
//! window.read_at(1, &mut bytes)?;
//! assert_eq!(bytes, [17, 18]);
//! // The source ends before the window does.
//! let missing = window.read_at(250, &mut bytes);
//! assert!(matches!(missing, Err(ReadError::Absent { why: Absence::BeyondEnd, .. })));
//! # Ok::<(), ReadError>(())
//! ```
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod extents;
pub mod in_order;
pub mod num;
mod overlay;
mod source;

pub use overlay::Overlay;
pub use source::{Absence, FilePart, PlainFile, ReadAt, ReadError, Span, Window, WriteAt, WriteError};

/// An error with its causes, in one line: `cannot read: the disk is gone`.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
