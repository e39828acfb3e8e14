//! A region as a whole: opening, recovering and reading it, and changing it by commits.
//!
//! The crate works on any source of bytes ([`gmfs_io`]); it does not know files and devices. [`Region`] reads a region
//! and [`Writer`] changes it. [`format()`] makes a region, and [`locate`] finds one.
#![forbid(unsafe_code)]
#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod alloc;
pub mod by_inode;
pub mod census;
pub mod change;
pub mod content;
pub mod decide;
pub mod gate;
pub mod locate;
pub mod rebuild;
pub mod region;
pub mod restore;
pub mod seals;
pub mod settle;
pub mod superblocks;
pub mod sweep;
pub mod used;
pub mod writer;

mod commit;
mod handover;
mod mend;
mod mkfs;
mod owner_pages;
mod recover;
mod regions;
mod unite;

pub use commit::{Stamp, Store};
pub use gate::{Class, Gate};
pub use mend::mend_pages;
pub use mkfs::{FormatOptions, format};
pub use recover::Recovery;
pub use region::Region;
pub use superblocks::{Chosen, OpenError, Superblocks};
pub use unite::{end_union, unite_page};
pub use used::{Used, Users};
pub use writer::{
    ChangeError, CopyOptions, CreateOptions, NewAttributes, PutOptions, Replace, SealOptions, Sealed, Writer,
    WriterOptions,
};
