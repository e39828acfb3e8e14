//! Paths of a store on the command line: as they are given, and as they are shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

pub(crate) use gmfs::walk::{Go, Paths, Step, Why, hidden, hidden_in, join, last, walk};

/// A path of the command line as bytes.
pub(crate) fn bytes(path: &OsStr) -> &[u8] {
    path.as_bytes()
}

/// A path or a name as it may be shown.
pub(crate) fn shown(path: &[u8]) -> String {
    gmfs_format::name::escape(path)
}
