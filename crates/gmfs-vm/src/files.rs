//! The files of a virtual machine in a region.

use std::borrow::Borrow;
use std::io;
use std::path::{Path, PathBuf};

use gmfs_format::model::{Inode, Kind, Piece, Tree};
use gmfs_io::num::small;
use gmfs_io::{ReadAt, Span};
use gmfs_volume::content::ContentError;
use gmfs_volume::{Region, Superblocks};

use crate::record::{LONGEST, Record, RecordError, fnv};

/// The directory of sockets, which somebody has to make: a new kernel starts with an empty `/run`.
pub const SOCKETS: &str = "/run/gmfs";
/// The memory of a virtual machine in its directory.
pub(crate) const MEMORY: &[u8] = b"mem";
/// The state of its devices.
pub(crate) const STATE: &[u8] = b"state";
/// Its record.
pub(crate) const RECORD: &[u8] = b"vm.json";
/// Of the last part of a path, at most so many bytes are in its short name: the path of a socket has at most 107.
const SHORT: usize = 24;
/// Bytes that are read at once.
const PIECE: u64 = 256 << 10;

/// Why a file cannot be a guest's memory, or not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartsError {
    /// There is no such file.
    #[error("there is no '{0}' in the region")]
    NotFound(String),
    /// It is a directory.
    #[error("'{0}' is not a file")]
    NotFile(String),
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
    /// It has no bytes.
    #[error("'{0}' is empty")]
    Empty(String),
    /// Its mapping is damaged.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// The paths of a virtual machine's files.
#[derive(Clone, Debug)]
pub struct Machine {
    directory: Vec<u8>,
}

impl Machine {
    /// The one in this directory.
    #[must_use]
    pub fn new(directory: &[u8]) -> Self {
        let mut directory = directory.to_vec();
        while directory.last() == Some(&b'/') {
            directory.pop();
        }
        Self { directory }
    }

    fn file(&self, name: &[u8]) -> Vec<u8> {
        [self.directory.as_slice(), b"/", name].concat()
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &[u8] {
        &self.directory
    }

    /// A short name, by which it is known on this machine: with the last part of its path, to be read by people. No two paths
    /// have the same.
    #[must_use]
    pub fn short_name(&self) -> String {
        let last = self.directory.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '_' };
        let last: String = last.iter().take(SHORT).map(plain).collect();
        format!("{last}-{:016x}", fnv(&self.directory))
    }

    /// Where its VMM listens unless its user says otherwise, in [`SOCKETS`]: each guest of each region has its own.
    #[must_use]
    pub fn socket(&self, region: &str) -> PathBuf {
        Path::new(SOCKETS).join(format!("{region}-{}.qmp", self.short_name()))
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> Vec<u8> {
        self.file(MEMORY)
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        self.file(STATE)
    }

    /// Its record.
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        self.file(RECORD)
    }

    /// Reads its record. `None` if it has none.
    ///
    /// # Errors
    /// The record cannot be read, or is none.
    pub fn read_record<S: ReadAt, B: Borrow<Superblocks>>(
        &self,
        region: &Region<S, B>,
        tree: &Tree,
    ) -> Result<Option<Record>, ReadRecordError> {
        let path = self.record();
        let shown = || gmfs_format::name::escape(&path);
        let Some(inode) = tree.resolve(&path) else { return Ok(None) };
        let failed = |source: io::Error| ReadRecordError::Read { path: shown(), source };
        let wrong = |source| ReadRecordError::Record { path: shown(), source };
        if inode.size > LONGEST {
            return Err(wrong(RecordError::TooLong(inode.size)));
        }
        let mut bytes = Vec::new();
        let mut content = Content::new(region, &path, inode).map_err(|error| failed(io::Error::other(error)))?;
        content.read_to_end(&mut bytes).map_err(failed)?;
        Record::decode(&bytes).map(Some).map_err(wrong)
    }
}

/// Why a virtual machine's record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadRecordError {
    /// It cannot be read.
    #[error("cannot read '{path}'")]
    Read {
        /// The record.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// It is none.
    #[error("'{path}' cannot be used")]
    Record {
        /// The record.
        path: String,
        /// Why not.
        source: RecordError,
    },
}

/// A file at a path.
pub(crate) fn file<'t>(tree: &'t Tree, path: &[u8]) -> Result<&'t Inode, PartsError> {
    let shown = || gmfs_format::name::escape(path);
    let inode = tree.resolve(path).ok_or_else(|| PartsError::NotFound(shown()))?;
    if inode.kind == Kind::File { Ok(inode) } else { Err(PartsError::NotFile(shown())) }
}

/// The parts of a region that are a file's bytes, in the order of the file. Neighbours are one part.
///
/// # Errors
/// A byte of the file has no memory that a guest could use.
pub fn memory_parts<S: ReadAt, B: Borrow<Superblocks>>(
    region: &Region<S, B>,
    tree: &Tree,
    path: &[u8],
) -> Result<Vec<Span>, PartsError> {
    parts(region, path, file(tree, path)?)
}

fn parts<S: ReadAt, B: Borrow<Superblocks>>(
    region: &Region<S, B>,
    path: &[u8],
    inode: &Inode,
) -> Result<Vec<Span>, PartsError> {
    let shown = || gmfs_format::name::escape(path);
    let mut parts: Vec<Span> = Vec::new();
    for piece in region.content(inode)? {
        let missing = |span, what| PartsError::Part { path: shown(), span, what };
        let (at, file) = match piece {
            Piece::Data { file, at, bad: false } => (at, file),
            Piece::Data { file, .. } => return Err(missing(file, "in a block with a hardware error")),
            Piece::Lost { file } => return Err(missing(file, "lost")),
            Piece::Hole { file } => return Err(missing(file, "a hole, which no memory backs")),
        };
        match parts.last_mut() {
            Some(last) if last.end() == at => last.len = last.len.saturating_add(file.len),
            _ => parts.push(Span::new(at, file.len)),
        }
    }
    if parts.is_empty() { Err(PartsError::Empty(shown())) } else { Ok(parts) }
}

/// The content of a file, piece by piece.
pub(crate) struct Content<'r, S> {
    source: &'r S,
    left: std::collections::VecDeque<Span>,
}

impl<'r, S: ReadAt> Content<'r, S> {
    pub(crate) fn new<B: Borrow<Superblocks>>(
        region: &'r Region<S, B>,
        path: &[u8],
        inode: &Inode,
    ) -> Result<Self, PartsError> {
        Ok(Self { source: region.source(), left: parts(region, path, inode)?.into() })
    }

    /// The next bytes; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(part) = self.left.front_mut() else { return Ok(None) };
        let now = Span::new(part.offset, part.len.min(PIECE));
        *part = Span::new(part.offset.saturating_add(now.len), part.len.saturating_sub(now.len));
        if part.len == 0 {
            self.left.pop_front();
        }
        let mut bytes = vec![0; small(now.len)];
        self.source.read_at(now.offset, &mut bytes).map_err(io::Error::other)?;
        Ok(Some(bytes))
    }
}

impl<S: ReadAt> Content<'_, S> {
    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while let Some(piece) = self.next()? {
            bytes.extend(piece);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_differ_and_are_short() {
        let name = |path: &str| Machine::new(path.as_bytes()).short_name();
        assert_eq!(name("/vms/a"), name("/vms/a/"));
        assert!(name("/vms/a").starts_with("a-") && name("/vms/\n").starts_with("_-"));
        assert_ne!(name("/vms/a-b"), name("/vms-a/b"));
        assert_ne!(name("/x/a"), name("/y/a"));
        assert!(name(&format!("/{}", "x".repeat(200))).len() <= SHORT + 17);
    }
}
