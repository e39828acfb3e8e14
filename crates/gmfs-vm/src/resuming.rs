//! Resuming a guest: its state is given to a new QEMU, once, and only over the memory that it belongs to.

use std::borrow::Borrow;
use std::process::ExitStatus;
use std::time::Duration;

use gmfs_format::model::{InodeNo, Tree};
use gmfs_io::{ReadAt, WriteAt, with_causes};
use gmfs_volume::used::Nobody;
use gmfs_volume::{ChangeError, Region, Superblocks, Writer};

use crate::files::{Content, Machine, PartsError, ReadRecordError, file};
use crate::in_image::InImage;
use crate::launching::{LaunchError, Qemu, Source};
use crate::qmp::{Qmp, QmpError};
use crate::record::{FileId, Record};
use crate::saving::{Cause, drop_seals, require_memory, write_record};

/// Why a state may not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no record.
    #[error("'{0}' is no virtual machine: it has no vm.json")]
    NoMachine(String),
    /// The record cannot be used.
    #[error(transparent)]
    Record(#[from] ReadRecordError),
    /// It was never saved.
    #[error("the guest was not saved: there is no state to resume")]
    NoState,
    /// It was resumed from this state before.
    #[error("its state was used already: the memory is newer than the state")]
    Used {
        /// When, in nanoseconds since the epoch.
        at: u64,
    },
    /// A file is not the one that the record names.
    #[error("'{0}' is not the file that the guest was saved with: the state belongs to another memory")]
    OtherFile(String),
    /// A file has other seals than when the guest was saved.
    #[error("'{0}' was sealed again, changed or unsealed since the guest was saved")]
    OtherSeal(String),
    /// A file cannot be used.
    #[error(transparent)]
    Parts(#[from] PartsError),
}

/// Why a guest was not resumed. Its state can be used again, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// QEMU did not take the state.
    #[error("{}; the state was not used", with_causes(.0))]
    Qmp(QmpError),
    /// QEMU is not one that can take this state.
    #[error("{}; the state was not used", with_causes(.0))]
    Unfit(Cause),
    /// QEMU is not ready for a state.
    #[error("QEMU is in state '{0}', not waiting for a guest (it needs -S -incoming defer); the state was not used")]
    Status(String),
    /// The state could not be marked as used.
    #[error("cannot record that the state is used: {}; the guest was not let run", with_causes(.0))]
    Commit(Cause),
    /// The seals could not be dropped.
    #[error("cannot drop the seals of the memory; the guest was not let run, and its state counts as used")]
    Unseal(#[source] ChangeError),
}

impl From<QmpError> for ResumeError {
    fn from(error: QmpError) -> Self {
        Self::Qmp(error)
    }
}

/// How a guest is resumed.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions<'o> {
    /// Owner and group of the record.
    pub owner: (u32, u32),
    /// Where the guest's memory is in the image.
    pub in_image: &'o InImage,
    /// The time, in nanoseconds since the epoch.
    pub now: u64,
}

/// Why no QEMU has the guest. Its state can be used again, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotResumed {
    /// The state may not be used.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The record is not the one that was read before.
    #[error("it was saved again meanwhile")]
    SavedAgain,
    /// The memory's file.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// There is no QEMU for it.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The QEMU did not get the guest. One that was started here has ended.
    #[error("{}", with_causes(error))]
    Load {
        /// Why not.
        error: ResumeError,
        /// How the QEMU has ended, if by itself and not well.
        ended: Option<ExitStatus>,
    },
}

/// Comes by a QEMU, and gives it the guest with this record, which was read and proven before. The guest does not run yet: it
/// may run once the writer is closed. Each step of the dialogue takes at most the time `limit`.
///
/// # Errors
/// See [`NotResumed`].
pub fn resume<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    record: &Record,
    source: &Source,
    limit: Duration,
    options: &LoadOptions<'_>,
) -> Result<Qemu, NotResumed> {
    // It may have been changed, or resumed, since it was read.
    if check(&writer.region(), writer.tree(), machine)? != *record {
        return Err(NotResumed::SavedAgain);
    }
    let parts = options.in_image.memory(&writer.region(), writer.tree(), machine)?;
    let mut qemu = Qemu::launch(source, options.in_image, (record.memory.ino, &parts), limit)?;
    match load(writer, machine, record, &mut qemu.qmp, options) {
        Ok(_) => Ok(qemu),
        Err(error) => {
            let has_closed = matches!(error, ResumeError::Qmp(QmpError::Closed { .. }));
            Err(NotResumed::Load { error, ended: qemu.abandon(has_closed) })
        }
    }
}

/// Checks all but the content: whether the directory holds a state that was not used, of the memory that is there now.
/// Gives the record.
///
/// # Errors
/// See [`Refused`].
pub fn check<S: ReadAt, B: Borrow<Superblocks>>(
    region: &Region<S, B>,
    tree: &Tree,
    machine: &Machine,
) -> Result<Record, Refused> {
    region.index();
    let Some(record) = machine.read_record(region, tree)? else {
        return Err(Refused::NoMachine(gmfs_format::name::escape(machine.directory())));
    };
    let Some(saved) = &record.saved else { return Err(Refused::NoState) };
    if let Some(at) = saved.used {
        return Err(Refused::Used { at });
    }
    let files =
        [(machine.memory(), record.memory, &saved.memory_seal), (machine.state(), saved.state, &saved.state_seal)];
    let inos: Vec<InodeNo> = files.iter().filter_map(|(path, ..)| Some(file(tree, path).ok()?.ino)).collect();
    let mut seals = None;
    for (path, wanted, seal) in files {
        let inode = file(tree, &path)?;
        let shown = gmfs_format::name::escape(&path);
        if FileId::of(inode) != wanted || region.superblock().uuid.to_string() != record.region {
            return Err(Refused::OtherFile(shown));
        }
        let seals = seals.get_or_insert_with(|| region.seals_of(&inos));
        let found = inos.iter().zip(seals).find(|(ino, _)| **ino == inode.ino).and_then(|(_, sum)| *sum);
        if found.map(|sum| format!("{sum:016x}")).as_ref() != Some(seal) {
            return Err(Refused::OtherSeal(shown));
        }
    }
    Ok(record)
}

/// Gives the state to a QEMU that waits for it, and commits that it was used, and that the memory has no seals. The guest
/// does not run yet.
///
/// # Errors
/// See [`ResumeError`].
pub fn load<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    record: &Record,
    qmp: &mut Qmp,
    options: &LoadOptions<'_>,
) -> Result<Record, ResumeError> {
    qmp.version().require().map_err(|error| ResumeError::Unfit(error.into()))?;
    let status = qmp.status()?;
    if status != "inmigrate" {
        return Err(ResumeError::Status(status));
    }
    require_memory(writer, machine, qmp, options.in_image).map_err(ResumeError::Unfit)?;
    // The record that says that the state was used needs a block while the old one is there.
    writer.require_free(1).map_err(|full| ResumeError::Unfit(full.into()))?;
    qmp.leave_memory()?;
    let path = machine.state();
    let inode = file(writer.tree(), &path).map_err(|error| ResumeError::Commit(error.into()))?;
    let region = writer.region();
    let mut content = Content::new(&region, &path, inode).map_err(|error| ResumeError::Commit(error.into()))?;
    qmp.load(|| content.next())?;
    let status = qmp.status()?;
    if status != "paused" && status != "postmigrate" {
        return Err(ResumeError::Status(status));
    }
    // Nothing depends on it here, and the guest is loaded.
    let _ = qmp.take_memory();
    let mut used = record.clone();
    if let Some(saved) = &mut used.saved {
        saved.used = Some(options.now);
    }
    // QEMU has the memory mapped, and the seals are dropped because of that.
    write_record(writer, machine, &used, options.owner).map_err(ResumeError::Commit)?;
    writer.watch(Box::new(Nobody));
    for path in [machine.memory(), machine.state()] {
        if let Some(ino) = writer.tree().resolve(&path).map(|inode| inode.ino) {
            drop_seals(writer, ino).map_err(ResumeError::Unseal)?;
        }
    }
    Ok(used)
}
