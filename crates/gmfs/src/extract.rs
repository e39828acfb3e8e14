//! Extracting files and directories of a store into a folder outside.
//!
//! [`tree`] extracts a directory with all that is in it, [`file()`] one file. Nothing that a damaged store says can
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

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};
use gmfs_format::{Layout, name};

use crate::attributes::{Directories, Kept};
use crate::content::{Gaps, known_gaps};
use crate::copy::{self, Copied, CopyError, Progress};
use crate::folder::{Folder, FolderError, Folders};
use crate::new_file::{NewFile, NewFileError};
use crate::store::{Runs, Store};
use crate::walk::{self, Go, Why};

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
    /// Files that are read, and that are therefore never replaced: those of the image.
    pub inputs: Vec<PathBuf>,
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
    /// One of the entries of a directory could not be extracted.
    #[error("cannot extract '{}'", name::escape(path))]
    Entry {
        /// Its path in the store.
        path: Vec<u8>,
        /// Why.
        source: Box<Self>,
    },
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
    let walked = walk::walk(tree, top, |step| {
        // A name in a damaged store may be a path that leads elsewhere.
        let name = name::check(&step.inode.name).is_err().then_some(Why::Name);
        if let Some(why) = name.or_else(|| store.content_fault(step.inode.ino).map(|_| Why::NoContent)) {
            left_out.push((step.inode, why));
            return Ok(Go::Past);
        }
        names.truncate(step.last.len().saturating_sub(1));
        names.push(OsString::from_vec(name::outside(&step.inode.name)));
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
    let refuse = |gaps: &Gaps| match options.leave_gaps || gaps.is_empty() {
        true => Ok(()),
        false => Err(Error::Gaps(gaps.clone())),
    };
    refuse(&known_gaps(store.source(), pieces))?;
    let inputs = options.inputs.iter().map(PathBuf::as_path);
    let file = NewFile::begin_in(folder, name, options.replace, inputs)?;
    let copied = copy::pieces(store.source(), pieces, inode.size, file.file(), progress)?;
    // Reading may have shown more gaps.
    refuse(&copied.gaps)?;
    if let Some(modified) = inode.attributes.map(|attributes| attributes.modified).filter(|time| *time != 0) {
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(modified));
        // A time that the filesystem outside cannot keep is no reason to fail.
        let _ = modified.map(|modified| file.file().set_modified(modified));
    }
    Ok(Extracted { file, copied })
}

/// The result of extracting a directory.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Done {
    /// The files, in the order in which they were made.
    pub files: Vec<DoneFile>,
    /// What was left out, and why.
    pub left_out: Vec<(InodeNo, Why)>,
    /// How many files and directories should have had another owner or group, and could not get it.
    pub not_owned: u64,
}

/// A file that has been extracted.
#[derive(Debug)]
#[non_exhaustive]
pub struct DoneFile {
    /// Its inode.
    pub ino: InodeNo,
    /// Its path in the store.
    pub path: Vec<u8>,
    /// Its path outside.
    pub output: PathBuf,
    /// What was copied, and the gaps.
    pub copied: Copied,
}

/// Extracts everything that is in the directory `top` into a folder. Symbolic links that are in it already are not
/// followed.
///
/// # Errors
/// [`Error::Entry`] for the first entry that could not be extracted; what was made before it stays.
pub fn tree(
    store: &Store,
    tree: &Tree,
    top: &Inode,
    into: Folder,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Done, Error> {
    // Other layouts read the content of each file by itself.
    let native = store.layout() == Layout::Native;
    let runs = store.runs(|_| native);
    let path = tree.path(top.ino).unwrap_or_else(|| b"/".to_vec());
    let into = Arc::new(into);
    let mut making = Making { folders: Arc::clone(&into).into(), directories: Directories::new(into, None) };
    let mut done = Done::default();
    let left_out = walk(store, tree, (top, &path), |entry| {
        let made = one(store, &runs, entry, &mut making, options, progress);
        let made = made.map_err(|source| Error::Entry { path: entry.path.to_vec(), source: Box::new(source) })?;
        done.not_owned = done.not_owned.saturating_add(u64::from(made.as_ref().is_some_and(|(_, owned)| !owned)));
        done.files.extend(made.map(|(file, _)| file));
        Ok::<_, Error>(())
    })?;
    done.left_out = left_out.into_iter().map(|(inode, why)| (inode.ino, why)).collect();
    done.not_owned = done.not_owned.saturating_add(making.directories.finish()?);
    Ok(done)
}

/// Where a walk is.
struct Making {
    folders: Folders,
    directories: Directories,
}

/// One entry of a tree: a file, and whether it has its owner.
fn one(
    store: &Store,
    runs: &Runs,
    entry: Entry<'_, '_>,
    making: &mut Making,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Option<(DoneFile, bool)>, Error> {
    let Entry { inode, path, names } = entry;
    let Making { folders, directories } = making;
    let parent = folders.parent(names.len())?;
    let Some(name) = names.last() else { return Ok(None) };
    let kept = Kept::of(inode).filter(|_| options.preserve);
    if inode.kind == Kind::Directory {
        directory(entry, (&parent, folders, directories), kept)?;
        return Ok(None);
    }
    progress.begin(path, inode.size);
    let pieces = store.content_of(inode, runs)?;
    let Extracted { file: new, copied } = file(store, inode, &pieces, (&parent, name), options, progress)?;
    let owned = match kept {
        Some(kept) => new.keep_as(&kept)?,
        None => new.keep().map(|()| true)?,
    };
    Ok(Some((DoneFile { ino: inode.ino, path: path.to_vec(), output: parent.path_of(name), copied }, owned)))
}

/// Makes the directory of a walk's entry in `parent`, or enters it, and notes it, with what it gets in the end if it is new.
///
/// # Errors
/// The system cannot make it.
pub fn directory(
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
