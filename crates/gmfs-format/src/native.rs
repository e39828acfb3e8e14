//! The native layout, version 2: structures, seals, geometry, and what they mean.
//!
//! `docs/FORMAT.md` describes it; its byte tables are produced from the declarations in [`raw`].

pub mod copies;
pub mod extents;
pub mod features;
pub mod fields;
pub mod geometry;
mod inode;
pub mod raw;
pub mod seal;
pub mod sum;
pub mod superblock;
pub mod tables;
pub mod units;
