//! Files as memory for a VMM: all extents of a file are mapped one after the other into one range of addresses, so that the
//! VMM need not know how many there are.
//!
//! ```no_run
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs::ImageSpec;
//! use gmfs::memory::MemoryFile;
//! use gmfs_image::Locking;
//! // Devices are read through maps, which can fail with SIGBUS.
//! gmfs_image::mapped::survive_bus_errors()?;
//! let image = ImageSpec::from(std::path::Path::new("/dev/dax0.0"));
//! let file = MemoryFile::find(&image, b"/vms/a.mem", &Locking::at_once(), &())?;
//! let memory = file.lock(&Locking::at_once(), &())?.map()?;
//! println!("{} bytes at {:p}", memory.size(), memory.as_ptr());
//! # Ok(())
//! # }
//! ```

use std::io;

use gmfs_format::model::{Inode, Kind, Piece};
use gmfs_format::name;
use gmfs_image::lock::usage::UsageLock;
use gmfs_image::mapped::Joined;
use gmfs_image::{FileError, InUse, Locking, OpenError, probe};
use gmfs_io::Span;

use crate::error::Error;
use crate::open::{ImageSpec, Observer, Place};
use crate::store::Store;

/// Why a file cannot be the memory of a guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The image cannot be opened, or the store in it cannot be found or read.
    #[error(transparent)]
    Store(#[from] Error),
    /// The image is a dump.
    #[error("{} is a dump: no guest can run in it", .0.path.display())]
    Dump(Place),
    /// There is no such file.
    #[error("there is no '{0}' in the region")]
    NotFound(String),
    /// It is a directory.
    #[error("'{0}' is not a file")]
    NotFile(String),
    /// It has no bytes.
    #[error("'{0}' is empty")]
    Empty(String),
    /// A part of it has no memory.
    #[error("bytes {span} of '{path}' are {what}")]
    Part {
        /// The file.
        path: String,
        /// The part.
        span: Span,
        /// What is there instead.
        what: &'static str,
    },
    /// A process has mapped it, or has locked it as memory in use.
    #[error("'{path}' is in use by {by}")]
    InUse {
        /// The file.
        path: String,
        /// The process.
        by: String,
    },
    /// It could not be locked.
    #[error("cannot lock '{path}' as memory in use")]
    Lock {
        /// The file.
        path: String,
        /// Why not.
        source: FileError,
    },
    /// It could not be mapped.
    #[error("cannot map '{path}'")]
    Map {
        /// The file.
        path: String,
        /// Why not.
        source: OpenError,
    },
}

/// A file of a store, and where its bytes were in the image when it was looked at.
#[derive(Clone, Debug)]
pub struct MemoryFile {
    image: ImageSpec,
    path: Vec<u8>,
    place: Place,
    /// The store, in bytes of the image.
    whole: Span,
    size: u64,
    parts: Vec<Span>,
}

impl MemoryFile {
    /// Finds the store in an image and the file in the store. The store is locked as long as that takes.
    ///
    /// # Errors
    /// [`MemoryError`]: there is no such file, or not each byte of it has memory.
    pub fn find(
        image: &ImageSpec,
        path: &[u8],
        locking: &Locking<'_>,
        observer: &dyn Observer,
    ) -> Result<Self, MemoryError> {
        Self::of(image, &Store::open(image.locate(Some(locking), observer)?)?, path)
    }

    /// A file of a store that is open already; `image` is what it was opened from.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn of(image: &ImageSpec, store: &Store, path: &[u8]) -> Result<Self, MemoryError> {
        let place = store.place.clone();
        if place.kind.is_dump() {
            return Err(MemoryError::Dump(place));
        }
        let inodes = store.inodes();
        let inode = inodes.tree.resolve(path).ok_or_else(|| MemoryError::NotFound(name::escape(path)))?;
        if inode.kind != Kind::File {
            return Err(MemoryError::NotFile(name::escape(path)));
        }
        let parts = parts(store, inode, path)?;
        let whole = Span::new(place.base, store.size());
        Ok(Self { image: image.clone(), path: path.to_owned(), place, whole, size: inode.size, parts })
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where its blocks are in the image, in the order of the file. Neighbours are one part. The last one ends with a
    /// block, so that it may reach past the end of the file.
    #[must_use]
    pub fn parts(&self) -> &[Span] {
        &self.parts
    }

    /// Locks the file as memory in use: as long as the lock exists, gmfs does not free or overwrite its blocks, and no other
    /// VMM gets the lock. The rest of the region can be changed. The file is looked at again, because it may have changed
    /// since.
    ///
    /// # Errors
    /// [`MemoryError::InUse`] if a process has mapped or locked it already; and those of [`find`](Self::find).
    pub fn lock(&self, locking: &Locking<'_>, observer: &dyn Observer) -> Result<LockedFile, MemoryError> {
        // Nobody changes the region until this store is closed, and by then its file is locked.
        let store = Store::open(self.image.locate(Some(locking), observer)?)?;
        let now = Self::of(&self.image, &store, &self.path)?;
        let shown = || name::escape(&self.path);
        let used = |by: String| MemoryError::InUse { path: shown(), by };
        let path = &now.place.path;
        // A VMM that was started without gmfs takes no lock. Who may not look at other processes goes without this.
        if let Ok(found) = InUse::find(path, now.whole) {
            let mapped = found.mapped().iter().find(|mapped| now.parts.iter().any(|part| part.meets(mapped.span)));
            if let Some(mapped) = mapped {
                return Err(used(mapped.process.to_string()));
            }
        }
        let lock = UsageLock::take(path, now.whole, &now.parts).map_err(|error| match error {
            FileError::Locked { by, .. } => used(by.to_string()),
            source => MemoryError::Lock { path: shown(), source },
        })?;
        Ok(LockedFile { file: now, lock })
    }
}

/// A file that is locked as memory in use.
#[derive(Debug)]
pub struct LockedFile {
    file: MemoryFile,
    lock: UsageLock,
}

impl LockedFile {
    /// What the file was when it was locked.
    #[must_use]
    pub const fn file(&self) -> &MemoryFile {
        &self.file
    }

    /// Maps all of it.
    ///
    /// # Errors
    /// [`MemoryError::Map`].
    pub fn map(self) -> Result<Memory, MemoryError> {
        let Self { file, lock } = self;
        let map = probe::join(&file.place.path, &file.parts);
        let map = map.map_err(|source| MemoryError::Map { path: name::escape(&file.path), source })?;
        Ok(Memory { map, file, lock })
    }
}

/// A file that is mapped, and locked as memory in use until this value is dropped.
#[derive(Debug)]
pub struct Memory {
    // Before the lock, so that it is unmapped first.
    map: Joined,
    file: MemoryFile,
    lock: UsageLock,
}

impl Memory {
    /// The address of the file's first byte; the others follow it. It is valid for as long as this value exists.
    ///
    /// An access raises SIGBUS if the memory fails.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.map.as_ptr()
    }

    /// The size of the file in bytes. The memory ends with a block of the region, which may be later; the bytes past the
    /// file's end are not to be used.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.file.size
    }

    /// What the file is.
    #[must_use]
    pub const fn file(&self) -> &MemoryFile {
        &self.file
    }

    /// From now on, programs that this process starts inherit the lock: for a VMM that replaces itself by exec.
    ///
    /// # Errors
    /// The error that the system returned.
    pub fn let_inherit(&self) -> io::Result<()> {
        self.lock.let_inherit()
    }
}

/// The blocks of a file, in bytes of the image.
fn parts(store: &Store, inode: &Inode, path: &[u8]) -> Result<Vec<Span>, MemoryError> {
    let block = store.block_bytes();
    let mut parts: Vec<Span> = Vec::new();
    for piece in store.content(inode)? {
        let missing = |span, what| MemoryError::Part { path: name::escape(path), span, what };
        let (at, file) = match piece {
            Piece::Data { file, at, bad: false } => (at, file),
            Piece::Data { file, .. } => return Err(missing(file, "in a block with a hardware error")),
            Piece::Lost { file } => return Err(missing(file, "lost")),
            Piece::Hole { file } => return Err(missing(file, "a hole, which no memory backs")),
        };
        let at = store.place.base.saturating_add(at);
        let len = file.len.checked_next_multiple_of(block).unwrap_or(file.len);
        match parts.last_mut() {
            Some(last) if last.end() == at => last.len = last.len.saturating_add(len),
            _ => parts.push(Span::new(at, len)),
        }
    }
    if parts.is_empty() { Err(MemoryError::Empty(name::escape(path))) } else { Ok(parts) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gmfs_image::lock::usage::locked;
    use gmfs_volume::{CreateOptions, Writer, WriterOptions};

    use super::*;
    use crate::testing;

    const BLOCK: u64 = 2 << 20;

    /// The region of the tests, with the file `/parts` of two extents, `/other` between them, and files that are no
    /// memory.
    fn region(dir: &Path) -> ImageSpec {
        let path = testing::region(dir);
        let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 1 };
        let (mut writer, _) = Writer::open(std::fs::read(&path).unwrap(), options).unwrap();
        let create = |size| CreateOptions { size, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
        for name in ["/parts", "/other"] {
            writer.create(name.as_bytes(), &create(BLOCK)).unwrap();
        }
        writer.truncate(b"/parts", 3 * BLOCK - 100, false).unwrap();
        writer.create(b"/empty-file", &create(0)).unwrap();
        writer.create(b"/hole", &CreateOptions { sparse: true, ..create(BLOCK) }).unwrap();
        std::fs::write(&path, writer.close().unwrap()).unwrap();
        ImageSpec::from(path.as_path())
    }

    fn find(image: &ImageSpec, path: &str) -> Result<MemoryFile, MemoryError> {
        MemoryFile::find(image, path.as_bytes(), &Locking::at_once(), &())
    }

    /// The maps of this process of the image: their addresses, and the offset of each in the file.
    fn maps(image: &ImageSpec) -> Vec<(u64, u64, u64)> {
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        let of_image = text.lines().filter(|line| line.ends_with(image.path.to_str().unwrap()));
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let parse = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (from, to) = words[0].split_once('-').unwrap();
            (number(from), number(to), number(words[2]))
        };
        of_image.map(parse).collect()
    }

    #[test]
    fn extents_follow_one_another_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let image = region(dir.path());
        let file = find(&image, "/parts").unwrap();
        assert_eq!(file.parts().len(), 2);
        let memory = file.lock(&Locking::at_once(), &()).unwrap().map().unwrap();
        assert_eq!(memory.size(), 3 * BLOCK - 100);
        let start = memory.as_ptr().addr() as u64;
        assert_eq!(start % BLOCK, 0);
        let mut expected = Vec::new();
        let mut at = start;
        for part in file.parts() {
            expected.push((at, at + part.len, part.offset));
            at += part.len;
        }
        assert_eq!((maps(&image), at - start), (expected, 3 * BLOCK));
        drop(memory);
        assert_eq!(maps(&image), []);
    }

    #[test]
    fn memory_is_locked_while_it_is_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let image = region(dir.path());
        let spans = || locked(&image.path, Span::new(0, 32 << 20)).iter().map(|lock| lock.span).collect::<Vec<_>>();
        let file = find(&image, "/parts").unwrap();
        let held = file.lock(&Locking::at_once(), &()).unwrap();
        assert_eq!(spans(), file.parts());
        assert!(matches!(file.lock(&Locking::at_once(), &()), Err(MemoryError::InUse { .. })));
        // Another file of the region can be used meanwhile, and the region can be changed.
        drop(find(&image, "/other").unwrap().lock(&Locking::at_once(), &()).unwrap());
        drop(image.locate_for_writing(&Locking::at_once(), &()).unwrap());
        let memory = held.map().unwrap();
        assert_eq!(spans(), memory.file().parts());
        drop(memory);
        assert_eq!(spans(), []);
    }

    #[test]
    fn a_file_is_looked_at_again_when_it_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let image = region(dir.path());
        let file = find(&image, "/parts").unwrap();
        let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 1 };
        let (mut writer, _) = Writer::open(std::fs::read(&image.path).unwrap(), options).unwrap();
        writer.rename(b"/parts", b"/old", false).unwrap();
        let create = CreateOptions { size: BLOCK, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
        writer.create(b"/parts", &create).unwrap();
        std::fs::write(&image.path, writer.close().unwrap()).unwrap();
        let held = file.lock(&Locking::at_once(), &()).unwrap();
        assert_eq!(held.file().size(), BLOCK);
        assert!(held.file().parts().iter().all(|new| file.parts().iter().all(|old| !old.meets(*new))));
    }

    #[test]
    fn what_is_no_memory_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let image = region(dir.path());
        let said = |path| find(&image, path).unwrap_err().to_string();
        assert_eq!(said("/none"), "there is no '/none' in the region");
        assert_eq!(said("/vms"), "'/vms' is not a file");
        assert_eq!(said("/empty-file"), "'/empty-file' is empty");
        assert!(said("/hole").contains("a hole, which no memory backs"), "{}", said("/hole"));
        // A writer has the region.
        let writer = image.locate_for_writing(&Locking::at_once(), &()).unwrap();
        let error = find(&image, "/parts").unwrap_err();
        assert!(matches!(error, MemoryError::Store(Error::File(FileError::Locked { .. }))), "{error}");
        drop(writer);
    }
}
