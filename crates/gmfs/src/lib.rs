//! Memory that survives a kexec: from an image to the files in it.
//!
//! An *image* is a region file, a device, live memory or a memory dump. In it is a *store*, which holds files: the
//! memory of virtual machines. This crate opens the image, finds the store in it, and reads the store whatever layout
//! it has. Checks, repairs and changes are possible with stores of the native layout.
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
//! # What to look at
//!
//! | for | see |
//! | --- | --- |
//! | opening an image, finding and locking the store in it; why there is none | [`ImageSpec`], [`find`]; [`diagnosis`] |
//! | files and directories, where their bytes are, whose an address is | [`Store`], [`walk`], [`glob`], [`whose`] |
//! | reading a file with its gaps | [`Store::read_with_gaps`], [`content`], [`copy`] |
//! | extracting a tree into a folder | [`extract`], [`folder`], [`new_file`], [`attributes`], [`gap_list`] |
//! | putting a tree from outside into a region; copying inside it | [`put`], [`mode`], [`owner`]; [`copy_within`] |
//! | saving a store | [`save`] |
//! | sealing files, and comparing them with their seals | [`seal`], [`verify`] |
//! | what blocks are used for, and what still fits | [`allocation`], [`picture`] |
//! | metrics for monitoring | [`metrics`] |
//! | a page that shows all of it | [`report`] |
//! | what an image is, and which stores are in it | [`survey`], [`find`] |
//! | how much of a store a dump holds | [`presence`], [`lacking`] |
//! | whether processes have it mapped | [`in_use`] |
//! | mapping a file into one range of addresses, for a VMM | [`memory`] |
//!
//! # From a new region to an address
//!
//! A region is formatted and written through [`gmfs_volume`], in anything that can be written: here in memory. Then its
//! file is listed, read, and found again by an address.
//!
//! ```
//! use gmfs::content::{Each, Part};
//! use gmfs::{ImageSpec, Store};
//! use gmfs_format::native::geometry::Geometry;
//! use gmfs_format::native::units::PmdShift;
//! use gmfs_volume::{CreateOptions, FormatOptions, PutOptions, Stamp, Writer, WriterOptions};
//! # let dir = tempfile::tempdir()?;
//! # let image = dir.path().join("region.img");
//!
//! // 32 MiB with blocks of 2 MiB and room for 64 files.
//! let geometry = Geometry::plan(32 << 20, PmdShift::M2, 64)?;
//! let format = FormatOptions {
//!     geometry,
//!     uuid: uuid::Uuid::from_u128(1),
//!     birth: 1,
//!     label: String::from("example"),
//!     base: 0,
//!     owner: (0, 0),
//!     stamp: Stamp { now: 0, writer: String::from("example 1.0") },
//!     forget: Vec::new(),
//! };
//! let mut bytes = vec![0; 32 << 20];
//! gmfs_volume::format(&mut bytes, &format)?;
//!
//! // One file. Each operation is one commit.
//! let options = WriterOptions { writer: String::from("example 1.0"), base: None, clock: || 0 };
//! let (mut writer, _) = Writer::open(bytes, options)?;
//! let create = CreateOptions { size: 5 << 20, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
//! let content = vec![7; 5 << 20];
//! writer.put(b"/a.mem", &mut content.as_slice(), &PutOptions { create, replace: false })?;
//! std::fs::write(&image, writer.close()?)?;
//!
//! // Listing.
//! let store = Store::open(ImageSpec::from(image.as_path()).locate(None, &())?)?;
//! let tree = store.inodes().tree;
//! let inode = tree.resolve(b"/a.mem").ok_or("no such file")?;
//! assert_eq!((inode.size, tree.path(inode.ino)), (5 << 20, Some(b"/a.mem".to_vec())));
//!
//! // Reading: all of a range, or what is there of it.
//! let mut start = [0; 4];
//! store.read(inode, 0, &mut start)?;
//! assert_eq!(start, [7; 4]);
//! let mut read = 0;
//! let mut sink = Each(|part: Part<'_>| {
//!     if let Part::Data { bytes, .. } = part {
//!         read += bytes.len();
//!     }
//!     Ok::<_, gmfs::Error>(())
//! });
//! store.read_with_gaps(inode, 1 << 20..u64::MAX, &mut sink)?;
//! assert_eq!(read, 4 << 20);
//!
//! // Where the file is, and whose the byte at that address is.
//! let runs = store.runs(|ino| ino == inode.ino);
//! let last = runs.files[&inode.ino].last().ok_or("it has blocks")?;
//! let owner = store.owner(last.at + 9);
//! assert_eq!(owner.file, Some((inode.ino, last.offset + 9)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layers
//!
//! | crate | what |
//! | --- | --- |
//! | [`gmfs_io`] | sources of bytes, in which some can be absent |
//! | [`gmfs_dump`] | memory dumps as sources |
//! | [`gmfs_image`] | files, devices, live memory; recognising what an image is; undo files, metadata dumps |
//! | [`gmfs_format`] | the bytes of each layout, and the model that all of them share |
//! | [`gmfs_volume`] | the engine of the native layout: open, recover, commit, change |
//! | [`gmfs_check`] | findings, plans, repairs of the native layout |
//!
//! # Global state
//!
//! There is none, unless you ask for it: memory that is mapped can fail with SIGBUS, and
//! [`gmfs_image::mapped::survive_bus_errors`] installs a handler that turns that into an error.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod address;
pub mod allocation;
pub mod attributes;
pub mod bad;
pub mod changes;
pub mod content;
pub mod copy;
pub mod copy_within;
pub mod debugfs;
pub mod diagnosis;
pub mod diff;
pub mod error;
pub mod extract;
pub mod find;
pub mod folder;
pub mod gap_list;
pub mod glob;
pub mod health;
pub mod in_use;
pub mod kernel_copy;
pub mod lacking;
pub mod make;
pub mod memory;
pub mod metadump;
pub mod metrics;
pub mod mode;
pub mod new_file;
pub mod open;
pub mod owner;
pub mod picture;
pub mod presence;
pub mod put;
pub mod put_back;
pub mod raw_page;
pub mod report;
pub mod save;
pub mod seal;
pub mod store;
pub mod survey;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod walk;
pub mod whose;
pub mod words;

pub use copy::Progress;
pub use error::Error;
pub use find::{Candidate, scan};
pub use gmfs_format::model;
pub use gmfs_image::Image;
pub use open::{ImageSpec, Located, Observer, Place};
pub use store::Store;
