//! The files of a store as a filesystem, by FUSE.
//!
//! [`Files`] answers the kernel's requests from a [`gmfs::Store`]; [`mount`] shows it in a directory, and [`mounts::unmount`]
//! takes it away.
//!
//! - What an image does not hold, or what is lost, is an error (EIO) that [`Report`] is told of. It is never zeros.
//! - An idle filesystem holds no lock. Each request takes the lock of a reader, and if the store was changed since the
//!   last one, reads its metadata again.
//! - A native region can be changed, if the files are [writable](Files::writable). Each change is a commit, made with the lock of
//!   a writer. Content is overwritten in place, after its seals are dropped.
//! - The kernel keeps pages that were read until the file is opened the next time: whoever wants to see what a guest has
//!   written since opens the file again.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod changing;
mod files;
mod medium;
pub mod mounts;
mod session;
mod state;
mod trouble;
mod view;
mod watching;

pub use changing::Writable;
pub use files::Files;
pub use session::{Access, Mount, mount};
pub use trouble::{Report, Trouble};
