//! Memory that survives a kexec: from an image to the files in it.
//!
//! An *image* is a region file, a device, live memory or a memory dump. In it is a *store*, which holds files: the
//! memory of virtual machines. This crate opens the one, finds the other, and reads it whatever layout it has; checks,
//! repairs and changes are possible with stores of the native layout.
//!
//! ```
//! # fn example(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs::{ImageSpec, Store};
//! let store = Store::open(ImageSpec::from(path).locate(None, &())?)?;
//! let inodes = store.inodes();
//! for inode in inodes.tree.inodes() {
//!     let path = inodes.tree.path(inode.ino).unwrap_or_default();
//!     println!("{} {}", inode.size, String::from_utf8_lossy(&path));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//!
//! | crate | what |
//! | --- | --- |
//! | [`gmfs_io`] | sources of bytes, in which some can be absent |
//! | [`gmfs_dump`] | memory dumps as sources |
//! | [`gmfs_image`] | files, devices, live memory; recognising what an image is; undo files, metadata images |
//! | [`gmfs_format`] | the bytes of each layout, and the model that all of them come to |
//! | [`gmfs_volume`] | the engine of the native layout: open, recover, commit, change |
//! | [`gmfs_check`] | findings, plans, repairs of the native layout |
//!
//! # Global state
//!
//! There is none, unless you ask for it: memory that is mapped can fail with SIGBUS, and
//! [`gmfs_image::mapped::survive_bus_errors`] installs the handler that makes an error of it.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod diff;
pub mod error;
pub mod find;
pub mod in_use;
pub mod lacking;
pub mod open;
pub mod presence;
pub mod store;
pub mod verify;
pub mod walk;

pub use error::Error;
pub use find::{Candidate, scan};
pub use gmfs_image::Image;
pub use open::{ImageSpec, Located, Observer, Place};
pub use store::Store;
