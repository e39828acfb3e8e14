//! Extracting files and directories of a store into a folder outside.
//!
//! [`tree`] extracts a directory with all that is in it, [`file()`] one file, [`Job`] several operands, or only says what would
//! be made. Nothing that a damaged store says can
//! lead out of the folder: what is made is made by name in directories that are open, and an entry whose name no file
//! can have is left out. Holes stay holes. Bytes that are unknown are an error, unless [`Options::leave_gaps`] makes
//! holes of them too.
//!
//! ```
//! use gmfs::extract::{self, Options};
//! use gmfs::folder::Folder;
//! use gmfs::{ImageSpec, Store};
//! # fn example(image: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(ImageSpec::from(image).locate(None, &())?)?;
//! let tree = store.inodes().tree;
//! let vms = tree.resolve(b"/vms").ok_or("there is no /vms")?;
//! let into = Folder::open("rescued".as_ref())?;
//! let done = extract::tree(&store, &tree, vms, into, &Options::default(), &())?;
//! for file in done.files {
//!     println!("{}", file.output.display());
//! }
//! # Ok(())
//! # }
//! ```

mod job;
mod target;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gmfs_format::model::{Inode, InodeNo, Piece, Tree};
use gmfs_format::name::{self, NameError};

use crate::attributes::{Directories, Kept};
use crate::content::{Gaps, known_gaps};
use crate::copy::{self, Copied, CopyError, Progress};
use crate::folder::{Folder, FolderError, Folders};
use crate::new_file::{NewFile, NewFileError, Refused};
use crate::store::Store;
use crate::walk::{self, Go, Why};

pub use job::{Done, DoneFile, Job, Observer};
pub use target::Target;

/// How files are extracted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Replace files that exist.
    pub replace: bool,
    /// Make holes of bytes that are unknown, instead of failing.
    pub leave_gaps: bool,
    /// Give what is made the permission bits, owner, group and times of access and change that the store records. Directories
    /// that are there already keep theirs.
    pub preserve: bool,
    /// List the gaps of each file in `FILE.missing` beside it, as a [`GapList`](crate::gap_list::GapList). With
    /// [`replace`](Self::replace), the list of an earlier file is removed.
    pub list_gaps: bool,
    /// Files that are read, and that are therefore never replaced: those of the image.
    pub inputs: Vec<PathBuf>,
}

impl Options {
    fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.inputs.iter().map(PathBuf::as_path)
    }

    /// Refuses unknown bytes, unless holes are made of them.
    fn refuse(&self, gaps: &Gaps) -> Result<(), Error> {
        if self.leave_gaps || gaps.is_empty() { Ok(()) } else { Err(Error::Gaps(gaps.clone())) }
    }
}

/// Why a file or directory was not extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes of the file are unknown.
    #[error("{} bytes are unknown, in {} ranges", .0.bytes(), .0.len())]
    Gaps(Gaps),
    /// The store does not say what is in the file.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// The file outside could not be made.
    #[error(transparent)]
    NewFile(#[from] NewFileError),
    /// The content could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A directory outside could not be made or entered.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The directory that takes what is extracted cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was to be made cannot have its path.
    #[error("cannot make {}", path.display())]
    Destination {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        why: Refused,
    },
    /// No file outside can have the name that the store has.
    #[error("its name, '{}', cannot be a file's", name::escape(name))]
    Name {
        /// The name.
        name: Vec<u8>,
        /// Why not.
        source: NameError,
    },
    /// The path of a file ends in a slash.
    #[error("{} is no directory, and the slash at its end demands one", .0.display())]
    NotDirectory(PathBuf),
    /// A file was to be extracted as a directory that exists.
    #[error("it is a directory")]
    IsDirectory,
    /// The file would replace the list of what is missing in another file.
    #[error("{} is the list of what is missing in another file", .0.display())]
    List(PathBuf),
    /// Another file was extracted to the same path just before.
    #[error("{} was just made of another file of the image", .0.display())]
    SameOutput(PathBuf),
    /// A list of what is missing, or what is recorded of a session, could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of the entries of a directory could not be extracted.
    #[error("cannot extract '{}'", name::escape(path))]
    Entry {
        /// Its path in the store.
        path: Vec<u8>,
        /// Why.
        source: Box<Self>,
    },
}

impl Error {
    /// As the error of the entry with this path in the store.
    fn of(self, path: &[u8]) -> Self {
        Self::Entry { path: path.to_vec(), source: Box::new(self) }
    }
}

/// An entry that a walk has met.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry<'a, 't> {
    /// The file or directory.
    pub inode: &'t Inode,
    /// Its path in the store.
    pub path: &'a [u8],
    /// The names that lead to it from the top of the walk, its own last. Each of them can be the name of a file.
    pub names: &'a [OsString],
}

/// Walks through everything below a directory, and passes each file and directory that can be extracted to `each`, a
/// directory before what is in it. Returns what is left out, and why. `top` is the directory with its path, and `tree`
/// is the tree of `store`.
///
/// # Errors
/// What `each` returned.
pub fn walk<'t, E>(
    store: &Store,
    tree: &'t Tree,
    top: (&'t Inode, &[u8]),
    mut each: impl FnMut(Entry<'_, 't>) -> Result<(), E>,
) -> Result<Vec<(&'t Inode, Why)>, E> {
    let mut left_out = Vec::new();
    let mut names: Vec<OsString> = Vec::new();
    let mut escaped: BTreeMap<(InodeNo, Vec<u8>), InodeNo> = BTreeMap::new();
    let walked = walk::walk(tree, top, |step| {
        // A name in a damaged store may be a path that leads elsewhere.
        let own = name::outside(&step.inode.name);
        let name = name::check(&own).is_err().then_some(Why::Name);
        if let Some(why) = name.or_else(|| store.content_fault(step.inode.ino).map(|_| Why::NoContent)) {
            left_out.push((step.inode, why));
            return Ok(Go::Past);
        }
        // Only what stands for bytes that no file's name can have makes two names one, and it has a backslash.
        if own.contains(&b'\\') {
            let first = *escaped.entry((step.inode.parent, own.clone())).or_insert(step.inode.ino);
            if first != step.inode.ino {
                left_out.push((step.inode, Why::SameOutside(first)));
                return Ok(Go::Past);
            }
        }
        names.truncate(step.last.len().saturating_sub(1));
        names.push(OsString::from_vec(own));
        each(Entry { inode: step.inode, path: &step.path, names: &names })?;
        Ok(Go::In)
    })?;
    left_out.extend(walk::hidden(tree, top.0, &walked));
    Ok(left_out)
}

/// A file that has been extracted and does not have its name yet, so that a list of its gaps can be written first.
#[derive(Debug)]
#[non_exhaustive]
pub struct Extracted {
    /// The new file. [`NewFile::keep`] gives it its name.
    pub file: NewFile,
    /// What was copied, and the gaps.
    pub copied: Copied,
}

/// Extracts one file, of which [`Store::content`] gave the `pieces`, to this name in this folder. Its time of change
/// becomes that of the file in the store.
///
/// # Errors
/// [`Error`]; nothing is left of the file then.
pub fn file(
    store: &Store,
    inode: &Inode,
    pieces: &[Piece],
    (folder, name): (&Arc<Folder>, &OsStr),
    options: &Options,
    progress: &dyn Progress,
) -> Result<Extracted, Error> {
    options.refuse(&known_gaps(store.source(), pieces))?;
    let file = NewFile::begin_in(folder, name, options.replace, options.inputs())?;
    let copied = copy::pieces(store.source(), pieces, inode.size, file.file(), progress)?;
    // Reading may have shown more gaps.
    options.refuse(&copied.gaps)?;
    if let Some(modified) = inode.attributes.map(|attributes| attributes.modified).filter(|time| *time != 0) {
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(modified));
        // A time that the filesystem outside cannot keep is no reason to fail.
        let _ = modified.map(|modified| file.file().set_modified(modified));
    }
    Ok(Extracted { file, copied })
}

/// Extracts everything that is in the directory `top` into a folder. Symbolic links that are in it already are not
/// followed.
///
/// # Errors
/// [`Error::Entry`] for the first entry that could not be extracted; what was made before it stays.
pub fn tree<'t>(
    store: &Store,
    tree: &'t Tree,
    top: &'t Inode,
    into: Folder,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Done<'t>, Error> {
    let path = tree.path(top.ino).unwrap_or_else(|| b"/".to_vec());
    let mut job = Job::new((store, tree), [top], options.clone(), observer);
    job.directory((top, &path), into, false)?;
    Ok(job.done)
}

/// Makes the directory of a walk's entry in `parent`, or enters it, and notes it, with what it gets in the end if it is new.
///
/// # Errors
/// The system cannot make it.
fn directory(
    entry: Entry<'_, '_>,
    (parent, folders, directories): (&Arc<Folder>, &mut Folders, &mut Directories),
    kept: Option<Kept>,
) -> Result<(), FolderError> {
    let Some(name) = entry.names.last() else { return Ok(()) };
    let (folder, new) = folders.make_or_enter(parent, name)?;
    let noted = directories.enter(entry.names.len(), name, &folder, kept.filter(|_| new));
    noted.map_err(|source| FolderError { path: parent.path_of(name), made: false, source })
}

#[cfg(test)]
mod tests;
