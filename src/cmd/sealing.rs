//! What the commands about seals have in common: which files are meant, and by how many threads they are read.

use std::collections::BTreeSet;
use std::ffi::OsString;

use gmfs_format::model::{InodeNo, Kind, Tree};

use super::{Tried, at};
use crate::paths::{self, Go, walk};
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
    let all = || tree.inodes().filter(|inode| inode.kind == Kind::File).map(|inode| inode.ino);
    if named.is_empty() {
        return all().collect();
    }
    let mut found = BTreeSet::new();
    for path in named {
        let Some(inode) = tried.add(at(tree, path)) else { continue };
        match inode.kind {
            Kind::File => drop(found.insert(inode.ino)),
            // This includes files that no path leads to.
            Kind::Directory if inode.ino == InodeNo::ROOT => found.extend(all()),
            _ => {
                let walked = walk(tree, (inode, paths::bytes(path)), |step| {
                    if step.inode.kind == Kind::File {
                        found.insert(step.inode.ino);
                    }
                    Ok::<_, std::convert::Infallible>(Go::In)
                });
                let Ok(_) = walked;
            }
        }
    }
    found.into_iter().collect()
}
