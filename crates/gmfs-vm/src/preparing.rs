//! Starting a guest anew: its memory is made unless it is there, locked, and recorded.

use std::path::Path;

use gmfs_format::model::Tree;
use gmfs_format::name::escape;
use gmfs_image::lock::usage::UsageLock;
use gmfs_io::WriteAt;
use gmfs_volume::{ChangeError, CreateOptions, Writer};

use crate::arguments::{self, ArgumentsError};
use crate::files::{Machine, PartsError, ReadRecordError, file};
use crate::in_image::{InImage, LockError};
use crate::record::{FileId, Record};
use crate::saving::{Cause, drop_seals, write_record};

/// Memory of at least this size begins at a multiple of it, if there is room: the host maps it with the largest pages.
const LARGE: u64 = 1 << 30;

/// How a guest is started.
#[derive(Clone, Debug)]
pub struct PrepareOptions<'o> {
    /// How much memory it has, in bytes; `None` stands for what its file has.
    pub memory: Option<u64>,
    /// QEMU and its arguments, without those that gmfs adds.
    pub command: Vec<String>,
    /// The directory in which QEMU is started; `None` if it is not recorded.
    pub directory: Option<String>,
    /// Where QEMU is to listen for QMP.
    pub socket: &'o Path,
    /// Owner and group of new files.
    pub owner: (u32, u32),
}

/// A guest that can be started.
#[derive(Debug)]
pub struct Prepared {
    /// The lock on its memory, which QEMU has to inherit.
    pub lock: UsageLock,
    /// What has to be added to QEMU's arguments.
    pub arguments: Vec<String>,
}

/// Why a guest cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// Its record cannot be used.
    #[error(transparent)]
    Record(#[from] ReadRecordError),
    /// It was saved, and has not gone on since.
    #[error("the guest was saved, and starting it anew would lose its state")]
    Saved,
    /// Its memory is there, and has another size.
    #[error("'{path}' has {size} bytes, and another size is wanted")]
    OtherSize {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
    },
    /// Its memory is not there, and nobody says how large it is.
    #[error("there is no '{0}' in the region")]
    NoMemory(String),
    /// The size is no size of a guest's memory.
    #[error("{size} bytes are not a number of whole blocks, which have {block} bytes each")]
    NotBlocks {
        /// The size in bytes.
        size: u64,
        /// Bytes in a block.
        block: u64,
    },
    /// Its file cannot be memory.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// Its memory is in use, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// QEMU cannot be told of it.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
    /// Its record cannot be written.
    #[error(transparent)]
    Write(Cause),
    /// The region.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Machine {
    /// Whether a state is there that was not used, so that the guest can be resumed.
    #[must_use]
    pub fn is_saved(&self, record: &Record, tree: &Tree) -> bool {
        record.unused().is_some() && tree.resolve(&self.state()).is_some()
    }
}

/// Makes a guest's memory if it is not there, locks it, and records the guest.
///
/// # Errors
/// [`PrepareError`]: the guest is not recorded, and nothing is locked.
pub fn prepare<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    in_image: &InImage,
    options: PrepareOptions<'_>,
) -> Result<Prepared, PrepareError> {
    let listen = arguments::listen(options.socket)?;
    let known = machine.read_record(&writer.region(), writer.tree())?;
    if known.is_some_and(|record| machine.is_saved(&record, writer.tree())) {
        return Err(PrepareError::Saved);
    }
    make_memory(writer, machine, in_image.block(), &options)?;
    let parts = in_image.memory(&writer.region(), writer.tree(), machine)?;
    let lock = in_image.lock(&parts)?;
    let inode = file(writer.tree(), &machine.memory())?.clone();
    let mut added = in_image.arguments(inode.ino.0, &parts)?;
    added.extend(listen);
    // What the guest writes is not what was sealed.
    drop_seals(writer, inode.ino)?;
    let PrepareOptions { command, directory, socket, owner, .. } = options;
    let (region, socket) = (writer.superblock().uuid.to_string(), Some(socket.display().to_string()));
    let record = Record { region, memory: FileId::of(&inode), command, directory, socket, saved: None };
    write_record(writer, machine, &record, owner).map_err(PrepareError::Write)?;
    Ok(Prepared { lock, arguments: added })
}

fn make_memory<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    block: u64,
    options: &PrepareOptions<'_>,
) -> Result<(), PrepareError> {
    let (path, owner) = (machine.memory(), options.owner);
    if let Some(inode) = writer.tree().resolve(&path) {
        return match options.memory {
            Some(memory) if memory != inode.size => {
                Err(PrepareError::OtherSize { path: escape(&path), size: inode.size })
            }
            _ => require_blocks(inode.size, block),
        };
    }
    let size = options.memory.ok_or_else(|| PrepareError::NoMemory(escape(&path)))?;
    require_blocks(size, block)?;
    writer.mkdir(machine.directory(), true, 0o700, owner)?;
    let create = |align_1g| CreateOptions { size, sparse: false, align_1g, mode: 0o600, owner };
    match writer.create(&path, &create(size >= LARGE)) {
        Err(ChangeError::NoAlignedSpace { .. }) => writer.create(&path, &create(false)).map(drop)?,
        made => drop(made?),
    }
    Ok(())
}

fn require_blocks(size: u64, block: u64) -> Result<(), PrepareError> {
    if size > 0 && size.is_multiple_of(block) { Ok(()) } else { Err(PrepareError::NotBlocks { size, block }) }
}
