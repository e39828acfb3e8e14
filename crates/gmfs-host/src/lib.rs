//! What a machine uses its physical memory for, and whether memory that is set apart stays so across a kexec.
//!
//! [`Machine`] reads what the kernel tells of memory in `/proc` and `/sys`, below a folder that the caller names.
//! [`plan`](plan::plan) finds windows in it for regions, and [`boot`] reads from a kernel command line which memory that
//! kernel leaves alone. [`preflight`] looks at what has to be right before a kexec, and [`kexec`] judges what becomes of what the kernel hands over.
//!
//! ```
//! use gmfs_host::boot::{Keeping, Line, Need};
//! use gmfs_io::Span;
//! let line = Line::parse("root=/dev/sda memmap=1G$0x100000000");
//! let window = Span::new(4 << 30, 1 << 30);
//! assert!(matches!(line.keeps(window, Need::Memory), Keeping::Kept { .. }));
//! assert!(matches!(Line::parse("quiet").keeps(window, Need::Memory), Keeping::Missing));
//! ```
//!
//! The crate prints nothing and has no unsafe code. What it reads is bounded.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
// All of it reads text that somebody else made.
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod boot;
pub mod device;
mod files;
mod kernel;
pub mod kexec;
pub mod machine;
pub mod plan;
pub mod preflight;
pub mod running;
mod spans;

pub use machine::Machine;
