//! What the commands about seals have in common: which files are meant, and by how many threads they are read.

use std::collections::BTreeSet;
use std::ffi::OsString;

use gmfs::walk;
use gmfs_format::model::{InodeNo, Tree};

use super::{Tried, at};
use crate::repairing;

/// The exit status of such a command after a second signal: as the shell reports SIGINT.
pub(super) const KILLED: u8 = 130;

/// How many threads are of use.
pub(super) fn threads() -> usize {
    repairing::threads().get()
}

/// The files that are meant: those named, and those below the directories that are named; without any, all files. A
/// path that leads nowhere is a failure of its own.
pub(super) fn files(tree: &Tree, named: &[OsString], tried: &mut Tried) -> Vec<InodeNo> {
    if named.is_empty() {
        return walk::files(tree).map(|inode| inode.ino).collect();
    }
    let tops = named.iter().filter_map(|path| tried.add(at(tree, path)));
    let found: BTreeSet<InodeNo> = tops.flat_map(|top| walk::files_of(tree, top)).map(|inode| inode.ino).collect();
    found.into_iter().collect()
}
