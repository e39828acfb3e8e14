//! The proof that a saved guest's memory and state are what they were.

use std::fmt;

use gmfs::Store;
use gmfs::verify::{Options, State, Verified, verify};
use gmfs_format::name::escape;
use gmfs_format::size;

use crate::files::Machine;

/// Why it is not proven that a guest's files are what they were when it was saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The store cannot be read, or has no seals.
    #[error(transparent)]
    Store(#[from] gmfs::Error),
    /// A file has changed.
    #[error("'{path}' has changed since the guest was saved: {}{}", size::count(*blocks, "block"), first.map(|first| first.to_string()).unwrap_or_default())]
    Changed {
        /// The file.
        path: String,
        /// How many of its blocks.
        blocks: u64,
        /// The first range that has, if it is known.
        first: Option<FirstRange>,
    },
    /// A file cannot be compared.
    #[error("'{path}' cannot be compared with its seals: {}", state.name())]
    NotCompared {
        /// The file.
        path: String,
        /// What is known of it.
        state: State,
    },
}

/// The first range of a file that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstRange {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Where it begins in the image.
    pub address: u64,
}

impl fmt::Display for FirstRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = size::range(self.offset, self.offset.saturating_add(self.length));
        write!(f, ", first {bytes}, at {}", size::hex(self.address))
    }
}

/// Compares all of a guest's memory and state with their seals, by so many threads.
///
/// # Errors
/// Something has changed, or cannot be compared.
pub fn require_unchanged(store: &Store, machine: &Machine, threads: usize) -> Result<(), ProofError> {
    let tree = store.native()?.inodes().tree;
    let paths = [machine.memory(), machine.state()];
    let wanted: Vec<_> = paths.iter().filter_map(|path| tree.resolve(path)).collect();
    for file in verify(store, &wanted, &Options { threads, progress: &|_, _| {} })? {
        let path = escape(&tree.path(file.ino).unwrap_or_default());
        match file.state {
            State::Same => {}
            State::Changed => {
                return Err(ProofError::Changed { path, blocks: file.changed, first: first(store, &file) });
            }
            state => return Err(ProofError::NotCompared { path, state }),
        }
    }
    Ok(())
}

fn first(store: &Store, file: &Verified) -> Option<FirstRange> {
    let range = file.ranges.first()?;
    let address = store.place.base.saturating_add(range.at);
    Some(FirstRange { offset: range.offset, length: range.length, address })
}
