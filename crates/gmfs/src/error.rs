//! Why something could not be done. Each error keeps what it is about as data; what to do next is for the user's side.

use std::path::PathBuf;

use gmfs_format::model::InodeNo;
use gmfs_format::{Layout, spec};
use gmfs_image::{FileError, OpenError};
use gmfs_io::{ReadError, Span};
use gmfs_volume::content::ContentError;

use crate::find::Candidate;
use crate::lacking::Lacking;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image could not be opened.
    #[error(transparent)]
    Image(#[from] OpenError),
    /// A file could not be opened or locked.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store is native, and its superblocks cannot be used.
    #[error(transparent)]
    Region(#[from] gmfs_volume::OpenError),
    /// The pieces of a file contradict each other.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The image could not be searched.
    #[error("cannot search {path}")]
    Search {
        /// The image.
        path: PathBuf,
        /// What reading it came to.
        source: ReadError,
    },
    /// The absolute path of a file cannot be found out.
    #[error("cannot open {}", path.display())]
    Absolute {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel's command line names several regions.
    #[error("the kernel's parameters name {} regions: {}", .0.len(), spelled_list(.0))]
    Parameters(Vec<Span>),
    /// No store was found.
    #[error("{}", not_found(in_bytes(*size)))]
    NotFound {
        /// The size that it was to have, in bytes.
        size: Option<u64>,
    },
    /// Several stores were found, and none of them is more certain than the others.
    #[error("it is not clear which region is meant: {}", .0.iter().map(Candidate::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Candidate>),
    /// The dump does not hold the memory.
    #[error(transparent)]
    Lacking(#[from] Box<Lacking>),
    /// The metadata of a pkernfs store cannot be read.
    #[error(transparent)]
    Pkernfs(gmfs_format::pkernfs::StoreError),
    /// There is no store at the address that was given.
    #[error("no store is at {0:#x}: no superblock, and no device tree of a kexec handover")]
    NotAt(u64),
    /// The image has fewer stores.
    #[error("the image has {found} stores, so there is none with the number {asked}")]
    NotNumbered {
        /// The number.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// The file has no content that can be read.
    #[error("inode {ino} cannot be read: {why}")]
    NoContent {
        /// The file.
        ino: InodeNo,
        /// Why not.
        why: String,
    },
    /// The source could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file ends before the range that was to be read does.
    #[error("inode {ino} has {size} bytes, and more were to be read")]
    PastEnd {
        /// The file.
        ino: InodeNo,
        /// Its size in bytes.
        size: u64,
    },
    /// Bytes of a file are lost, or in a block with a hardware error.
    #[error("bytes {span} of inode {ino} are lost, or in a block with a hardware error")]
    Gap {
        /// The file.
        ino: InodeNo,
        /// Where in it.
        span: Span,
    },
    /// Only stores of the native layout can do this.
    #[error("this is only for native regions, and the region has the layout {0}")]
    NotNative(Layout),
}

/// A range, written as the kernel's parameters write it: `SIZE:BASE`.
#[must_use]
pub fn spelled(base: u64, size: u64) -> String {
    format!("{}:{base:#x}", spec::format_size(size))
}

fn spelled_list(spans: &[Span]) -> String {
    let list: Vec<String> = spans.iter().map(|span| spelled(span.offset, span.len)).collect();
    list.join(", ")
}

/// The sentence that says that no store was found: of this size, in whatever unit, if one was asked for.
#[must_use]
pub fn not_found(size: Option<String>) -> String {
    let size = size.map_or_else(String::new, |size| format!(" of {size}"));
    format!("no region{size} was found: no superblock at any multiple of 2 MiB")
}

pub(crate) fn in_bytes(size: Option<u64>) -> Option<String> {
    size.map(|size| format!("{size} bytes"))
}
