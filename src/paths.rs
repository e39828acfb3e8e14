//! Paths of a store on the command line: as they are given, and as they are shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

pub(crate) use gmfs::walk::{Go, Paths, Step, Why, hidden, hidden_in, join, walk};

/// A path of the command line as bytes.
pub(crate) fn bytes(path: &OsStr) -> &[u8] {
    path.as_bytes()
}

/// A path or a name as it may be shown.
pub(crate) fn shown(path: &[u8]) -> String {
    gmfs_format::name::escape(path)
}

/// The last part of a path.
pub(crate) fn last(path: &[u8]) -> Option<&[u8]> {
    path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_path() {
        assert_eq!(last(b"/a/b/"), Some(&b"b"[..]));
        assert_eq!(last(b"/"), None);
    }
}
