//! Extracting several files and directories, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gmfs_format::Layout;
use gmfs_format::luo;
use gmfs_format::model::{Inode, InodeNo, Kind, Tree};

use super::{Entry, Error, Extracted, Options, Target, directory, file, walk};
use crate::attributes::{Directories, Kept};
use crate::content::{Gaps, known_gaps};
use crate::copy::{CopyError, Progress};
use crate::folder::{Folder, Folders};
use crate::gap_list::{self, GapList};
use crate::new_file::{self, NewFile};
use crate::store::{Runs, Store};
use crate::walk::Why;

/// The file with what is recorded of a session. No token is spelled like it.
const SESSION_FILE: &str = "session.json";

/// Takes part in a job. Every method has a default that does nothing; `()` uses the defaults.
pub trait Observer: Progress {
    /// The content of a file is outside, and its gaps are listed if that was asked for. It gets its name next.
    fn copied(&self, file: &DoneFile) {
        let _ = file;
    }

    /// What is written beside the files of a session of a hand-over, into `session.json`; of a single file that is extracted
    /// without its session, `file` is that file, and the name is `FILE.session.json`.
    fn session(&self, session: &luo::Session, file: Option<&luo::File>) -> Option<Vec<u8>> {
        let _ = (session, file);
        None
    }
}

impl Observer for () {}

/// What a job has done so far.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Done<'t> {
    /// The files, in the order in which they were made; of a dry run, those that would be made.
    pub files: Vec<DoneFile>,
    /// What was left out, and why.
    pub left_out: Vec<(&'t Inode, Why)>,
    /// The files and directories among them whose content may not be the right one, with their paths in the store.
    pub doubtful: Vec<(&'t Inode, Vec<u8>)>,
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
    /// Its size in bytes.
    pub size: u64,
    /// Whether a repair could not prove that its size and its blocks are those of the last commit.
    pub is_doubtful: bool,
    /// The bytes that are unknown: holes in the file.
    pub gaps: Gaps,
}

impl DoneFile {
    fn new((inode, path): (&Inode, &[u8]), output: PathBuf, gaps: Gaps) -> Self {
        let Inode { ino, size, .. } = *inode;
        Self { ino, path: path.to_vec(), output, size, is_doubtful: inode.is_doubtful(), gaps }
    }
}

/// Extracts files and directories of a store, one after the other.
pub struct Job<'a, 't> {
    store: &'a Store,
    tree: &'t Tree,
    runs: Runs,
    options: Options,
    observer: &'a dyn Observer,
    /// Lists of gaps that were made: no file of the store takes their place.
    lists: BTreeSet<PathBuf>,
    /// What was made of which file: no other file takes its place.
    made: BTreeMap<PathBuf, InodeNo>,
    /// What has been done so far, also by operands that failed.
    pub done: Done<'t>,
}

/// Where a walk is.
struct Making {
    folders: Folders,
    directories: Directories,
}

impl<'a, 't> Job<'a, 't> {
    /// A job that will extract `tops` of a store, of which `tree` has the inodes.
    pub fn new<'i>(
        (store, tree): (&'a Store, &'t Tree),
        tops: impl IntoIterator<Item = &'i Inode>,
        options: Options,
        observer: &'a dyn Observer,
    ) -> Self {
        // Other layouts read the content of each file by itself.
        let native = store.layout() == Layout::Native;
        let only: Option<BTreeSet<InodeNo>> =
            tops.into_iter().map(|top| (top.kind == Kind::File).then_some(top.ino)).collect();
        let runs = store.runs(|ino| native && only.as_ref().is_none_or(|only| only.contains(&ino)));
        Self {
            store,
            tree,
            runs,
            options,
            observer,
            lists: BTreeSet::new(),
            made: BTreeMap::new(),
            done: Done::default(),
        }
    }

    /// Extracts a file, or a directory with all that is in it, which has this path in the store.
    ///
    /// # Errors
    /// The file, or [`Error::Entry`] for the first entry that could not be extracted; what was made before it stays.
    pub fn extract(&mut self, (top, path): (&'t Inode, &[u8]), target: Target) -> Result<(), Error> {
        if top.kind == Kind::File {
            let (folder, name) = target.file()?;
            self.file((top, path), (&folder, &name))?;
            self.session_of(top, &folder, &name)?;
            self.note_doubt(top, path);
            return Ok(());
        }
        let (folder, is_new) = target.directory()?;
        self.directory((top, path), folder, is_new)
    }

    /// Extracts what is in the directory `top` into a folder, which gets the attributes of `top` if it is new.
    pub(super) fn directory(
        &mut self,
        (top, path): (&'t Inode, &[u8]),
        folder: Folder,
        is_new: bool,
    ) -> Result<(), Error> {
        let folder = Arc::new(folder);
        let directories = Directories::new(Arc::clone(&folder), self.kept(top).filter(|_| is_new));
        let mut making = Making { folders: folder.into(), directories };
        self.session(top, &making.folders.parent(1)?)?;
        let left_out = walk(self.store, self.tree, (top, path), |entry| {
            let made = self.entry(entry, &mut making);
            made.map_err(|error| error.of(entry.path))?;
            self.note_doubt(entry.inode, entry.path);
            Ok::<_, Error>(())
        })?;
        self.done.left_out.extend(left_out);
        self.done.not_owned = self.done.not_owned.saturating_add(making.directories.finish()?);
        Ok(())
    }

    /// Adds to [`done`](Self::done) the files that [`extract`](Self::extract) would make, `to` being the path outside, and makes
    /// nothing.
    ///
    /// # Errors
    /// Why one of them would not be made, as far as that is known.
    pub fn plan(&mut self, (top, path): (&'t Inode, &[u8]), to: &Path) -> Result<(), Error> {
        if top.kind == Kind::File {
            return self.plan_file((top, path), to);
        }
        let left_out = walk(self.store, self.tree, (top, path), |entry| {
            if entry.inode.kind != Kind::File {
                return Ok(());
            }
            let to = to.join(entry.names.iter().collect::<PathBuf>());
            self.plan_file((entry.inode, entry.path), &to).map_err(|error| error.of(entry.path))
        })?;
        self.done.left_out.extend(left_out);
        Ok(())
    }

    fn plan_file(&mut self, (inode, path): (&'t Inode, &[u8]), to: &Path) -> Result<(), Error> {
        let gaps = known_gaps(self.store.source(), &self.store.content_of(inode, &self.runs)?);
        self.options.refuse(&gaps)?;
        self.claim(to, inode)?;
        // What is in a directory that is not there yet is not there either.
        if to.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.exists()) {
            new_file::check(to, self.options.replace, self.options.inputs())?;
        }
        self.done.files.push(DoneFile::new((inode, path), to.to_owned(), gaps));
        self.note_doubt(inode, path);
        Ok(())
    }

    /// One entry of a directory.
    fn entry(&mut self, entry: Entry<'_, 't>, making: &mut Making) -> Result<(), Error> {
        let Entry { inode, path, names } = entry;
        let Making { folders, directories } = making;
        let parent = folders.parent(names.len())?;
        let Some(name) = names.last() else { return Ok(()) };
        if inode.kind != Kind::Directory {
            return self.file((inode, path), (&parent, name));
        }
        directory(entry, (&parent, folders, directories), self.kept(inode))?;
        self.session(inode, &folders.parent(names.len().saturating_add(1))?)
    }

    /// One file.
    fn file(&mut self, (inode, path): (&Inode, &[u8]), to: (&Arc<Folder>, &OsStr)) -> Result<(), Error> {
        let pieces = self.store.content_of(inode, &self.runs)?;
        let output = to.0.path_of(to.1);
        if self.lists.contains(&output) {
            return Err(Error::List(output));
        }
        self.claim(&output, inode)?;
        self.observer.begin(path, inode.size);
        let Extracted { file, copied, .. } = file(self.store, inode, &pieces, to, &self.options, self.observer)?;
        self.done.files.push(DoneFile::new((inode, path), output, copied.gaps.clone()));
        // No file with holes without the list of them.
        self.list(to, &copied.gaps)?;
        if let Some(done) = self.done.files.last() {
            self.observer.copied(done);
        }
        self.go_on()?;
        let is_owned = match self.kept(inode) {
            Some(kept) => file.keep_as(&kept)?,
            None => file.keep().map(|()| true)?,
        };
        self.done.not_owned = self.done.not_owned.saturating_add(u64::from(!is_owned));
        Ok(())
    }

    /// Notes that a path outside becomes this file. Replacing is for what was there before.
    fn claim(&mut self, output: &Path, inode: &Inode) -> Result<(), Error> {
        let owner = *self.made.entry(output.to_owned()).or_insert(inode.ino);
        if owner == inode.ino { Ok(()) } else { Err(Error::SameOutput(output.to_owned())) }
    }

    /// Lists the gaps of a file beside it, if that was asked for.
    fn list(&mut self, (folder, name): (&Arc<Folder>, &OsStr), gaps: &Gaps) -> Result<(), Error> {
        if !self.options.list_gaps {
            return Ok(());
        }
        if self.options.replace {
            gap_list::forget(folder, name);
        }
        if gaps.is_empty() {
            return Ok(());
        }
        let mut list = GapList::default();
        list.add(&folder.path_of(name).to_string_lossy(), gaps.clone());
        let beside = gap_list::beside(name);
        self.write_beside(folder, &beside, |file| list.write_to(self.store.physical_base(), file))?;
        self.lists.insert(folder.path_of(&beside));
        Ok(())
    }

    /// Beside the files of a session: what is recorded of them.
    fn session(&self, directory: &Inode, folder: &Arc<Folder>) -> Result<(), Error> {
        let Some(session) = self.store.luo().and_then(|luo| luo.session(directory.ino)) else { return Ok(()) };
        self.record(self.observer.session(session, None), folder, OsStr::new(SESSION_FILE))
    }

    /// Beside a single file of a session: what is recorded of it and of its session.
    fn session_of(&self, file: &Inode, folder: &Arc<Folder>, name: &OsStr) -> Result<(), Error> {
        let Some(luo) = self.store.luo() else { return Ok(()) };
        let (Some(session), Some(recorded)) = (luo.session(file.ino), luo.file(file.ino)) else { return Ok(()) };
        let mut beside: OsString = name.to_owned();
        beside.push(".");
        beside.push(SESSION_FILE);
        self.record(self.observer.session(session, Some(recorded)), folder, &beside)
    }

    fn record(&self, text: Option<Vec<u8>>, folder: &Arc<Folder>, name: &OsStr) -> Result<(), Error> {
        let Some(text) = text else { return Ok(()) };
        self.write_beside(folder, name, |mut file| file.write_all(&text))
    }

    /// Makes a file beside those of the store.
    fn write_beside(
        &self,
        folder: &Arc<Folder>,
        name: &OsStr,
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), Error> {
        let file = NewFile::begin_in(folder, name, self.options.replace, self.options.inputs())?;
        write(file.file()).map_err(|source| Error::Write { path: folder.path_of(name), source })?;
        self.go_on()?;
        Ok(file.keep()?)
    }

    /// An error if the observer wants the job to stop.
    fn go_on(&self) -> Result<(), Error> {
        if self.observer.should_stop() { Err(CopyError::Stopped.into()) } else { Ok(()) }
    }

    /// The attributes that a file or directory keeps.
    fn kept(&self, inode: &Inode) -> Option<Kept> {
        Kept::of(inode).filter(|_| self.options.preserve)
    }

    fn note_doubt(&mut self, inode: &'t Inode, path: &[u8]) {
        if inode.is_doubtful() {
            self.done.doubtful.push((inode, path.to_vec()));
        }
    }
}
