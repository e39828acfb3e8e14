//! Saving a guest: its state becomes a file of the region, sealed and bound to the sealed memory.

use gmfs_format::model::{InodeNo, Kind, Tree};
use gmfs_io::{Span, WriteAt, with_causes};
use gmfs_volume::used::Nobody;
use gmfs_volume::{ChangeError, CreateOptions, PutOptions, SealOptions, Writer};

use crate::files::{Machine, PartsError, ReadRecordError, file};
use crate::in_image::InImage;
use crate::qmp::{Backend, Qmp, QmpError, is_live};
use crate::record::{FileId, Record, Saved};
use crate::version::VersionError;

/// How a guest is saved.
pub struct SaveOptions<'o> {
    /// Space that is reserved for its state, in bytes, before the guest is stopped.
    pub reserve: u64,
    /// Mode, owner and group of new files.
    pub owner: (u32, u32),
    /// Where the guest's memory is in the image.
    pub in_image: &'o InImage,
    /// The socket, for the record of a guest that has none.
    pub socket: &'o str,
    /// How content is sealed.
    pub seal: SealOptions<'o>,
    /// The time, in nanoseconds since the epoch.
    pub now: u64,
}

/// Why a guest was not saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// Nothing was done to the guest, which is as it was.
    #[error("{}; the guest was not touched", with_causes(.0))]
    Untouched(Cause),
    /// The guest was stopped, and runs again.
    #[error("{}; nothing was saved, and the guest goes on as before", with_causes(.0))]
    GoesOn(Cause),
    /// The guest was paused, and is so still. QEMU may not save it again before it has run.
    #[error("{}; nothing was saved, and the guest is paused as before", with_causes(.0))]
    StaysPaused(Cause),
    /// The guest was stopped, and whether it runs is unknown.
    #[error("{}; nothing was saved, and the guest could not be made to go on ({after})", with_causes(.cause))]
    Stuck {
        /// Why it was not saved.
        cause: Cause,
        /// Why it does not go on.
        after: QmpError,
    },
}

impl SaveError {
    /// What prevented it.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        match self {
            Self::Untouched(cause) | Self::GoesOn(cause) | Self::StaysPaused(cause) | Self::Stuck { cause, .. } => {
                cause
            }
        }
    }
}

/// What prevented it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// QEMU.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// QEMU is too old.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The memory's file.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// The record.
    #[error(transparent)]
    Record(#[from] ReadRecordError),
    /// The record cannot be written.
    #[error("cannot write the record")]
    Encode(#[from] crate::record::RecordError),
    /// The region.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The guest is not in a state from which it can be saved.
    #[error("the guest is in state '{0}', from which it cannot be saved")]
    Status(String),
    /// QEMU at the socket has other memory.
    #[error("QEMU at this socket does not have '{path}' as its memory: {why}")]
    OtherMemory {
        /// The file.
        path: String,
        /// What is different.
        why: &'static str,
    },
    /// A part could not be sealed.
    #[error("'{0}' could not be sealed: a part of it cannot be read")]
    Unsealed(String),
}

/// What is behind an error of reading a state from QEMU.
fn of_stream(error: ChangeError) -> Cause {
    let ChangeError::Content(error) = error else { return error.into() };
    match error.downcast::<QmpError>() {
        Ok(error) => error.into(),
        Err(error) => ChangeError::Content(error).into(),
    }
}

/// A guest before it is stopped.
struct Ready {
    memory: FileId,
    record: Record,
    running: bool,
}

/// Saves the guest in a directory: stops it, writes its state, seals state and memory, and records that, the last in one
/// commit. After that commit the guest must not run again, and QEMU can be ended.
///
/// # Errors
/// The guest goes on as before, unless the error says otherwise.
pub fn save<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    qmp: &mut Qmp,
    options: &SaveOptions<'_>,
) -> Result<Record, SaveError> {
    let ready = prepare(writer, machine, qmp, options).map_err(SaveError::Untouched)?;
    let running = ready.running;
    match stop_and_save(writer, machine, qmp, options, ready) {
        Ok(record) => Ok(record),
        Err((cause, false)) => {
            // The error that led here is the one to tell of.
            let _ = qmp.take_memory();
            Err(SaveError::Untouched(cause))
        }
        Err((cause, true)) => {
            let after = if running { qmp.go_on() } else { Ok(()) };
            let _ = qmp.take_memory();
            clean_up(writer, machine);
            match after {
                Ok(()) if running => Err(SaveError::GoesOn(cause)),
                Ok(()) => Err(SaveError::StaysPaused(cause)),
                Err(after) => Err(SaveError::Stuck { cause, after }),
            }
        }
    }
}

/// All that can be found out before the guest is stopped.
fn prepare<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    qmp: &mut Qmp,
    options: &SaveOptions<'_>,
) -> Result<Ready, Cause> {
    qmp.version().require()?;
    let path = machine.memory();
    let memory = FileId::of(file(writer.tree(), &path)?);
    let record = machine.read_record(&writer.region(), writer.tree())?;
    let status = qmp.status()?;
    let running = match status.as_str() {
        live if is_live(live) => true,
        "paused" => false,
        _ => return Err(Cause::Status(status)),
    };
    require_memory(writer, machine, qmp, options.in_image)?;
    let region = writer.superblock().uuid.to_string();
    let record = record.unwrap_or_else(|| Record {
        region,
        memory,
        command: Vec::new(),
        directory: None,
        socket: Some(options.socket.to_owned()),
        saved: None,
    });
    let record = Record { memory, ..record };
    // A state that was used is of no use to anybody.
    if record.unused().is_none() && writer.tree().resolve(&machine.state()).is_some() {
        writer.remove(&machine.state(), false)?;
    }
    // The state, its record, and the record that will say that it was used.
    let block = writer.superblock().geometry().block_bytes();
    writer.require_free(options.reserve.div_ceil(block).saturating_add(2))?;
    qmp.leave_memory().inspect_err(|_| drop(qmp.take_memory()))?;
    Ok(Ready { memory, record, running })
}

/// Refuses a QEMU whose guest has other memory than that of a directory.
pub(crate) fn require_memory<S: WriteAt>(
    writer: &Writer<S>,
    machine: &Machine,
    qmp: &mut Qmp,
    in_image: &InImage,
) -> Result<(), Cause> {
    let parts = in_image.memory(&writer.region(), writer.tree(), machine)?;
    same_memory(&qmp.memory()?, &parts, &|path| in_image.is_named(path))
        .map_err(|why| Cause::OtherMemory { path: gmfs_format::name::escape(&machine.memory()), why })
}

/// Whether the memory of a guest is these parts of the image, and nothing else.
fn same_memory(found: &[Backend], parts: &[Span], is_image: &dyn Fn(&str) -> bool) -> Result<(), &'static str> {
    if found.iter().any(|backend| !backend.path.as_deref().is_some_and(is_image)) {
        return Err("it has memory that is not in this image");
    }
    if found.iter().any(|backend| !backend.share) {
        return Err("what the guest writes does not get into the image (share=on is missing)");
    }
    let order = |span: &Span| (span.offset, span.len);
    let mut found: Vec<Span> = found.iter().map(|backend| Span::new(backend.offset, backend.size)).collect();
    let mut wanted = parts.to_vec();
    found.sort_by_key(order);
    wanted.sort_by_key(order);
    if found == wanted { Ok(()) } else { Err("it has other parts of the image") }
}

/// From here on the guest may be stopped: the second part of an error says whether it is.
fn stop_and_save<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    qmp: &mut Qmp,
    options: &SaveOptions<'_>,
    ready: Ready,
) -> Result<Record, (Cause, bool)> {
    let create =
        CreateOptions { size: options.reserve, sparse: false, align_1g: false, mode: 0o600, owner: options.owner };
    let put = PutOptions { create, replace: true };
    let mut stream = qmp.state().map_err(|error| (error.into(), false))?;
    // Space is reserved before the first read, and the first read stops the guest.
    if let Err(error) = writer.put(&machine.state(), &mut stream, &put) {
        let begun = stream.has_begun();
        if begun {
            stream.cancel();
        }
        return Err((of_stream(error), begun));
    }
    record_saved(writer, machine, qmp, options, ready).map_err(|cause| (cause, true))
}

fn record_saved<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    qmp: &mut Qmp,
    options: &SaveOptions<'_>,
    ready: Ready,
) -> Result<Record, Cause> {
    let status = qmp.status()?;
    if is_live(&status) {
        return Err(Cause::Status(status));
    }
    // QEMU still has the memory mapped, and the guest is stopped.
    writer.watch(Box::new(Nobody));
    let [memory_seal, state_seal] = seal(writer, [machine.memory(), machine.state()], &options.seal)?;
    let state = FileId::of(file(writer.tree(), &machine.state())?);
    let (running, qemu) = (ready.running, qmp.version().to_string());
    let saved = Saved { state, memory_seal, state_seal, running, qemu, at: options.now, used: None };
    let record = Record { memory: ready.memory, saved: Some(saved), ..ready.record };
    write_record(writer, machine, &record, options.owner)?;
    // The guest is saved now, whether or not the record has a seal. With it, the whole directory can be verified.
    if let Some(ino) = writer.tree().resolve(&machine.record()).map(|inode| inode.ino) {
        let seals = writer.seals().files.remove(&ino).unwrap_or_default();
        let _ = writer.seal(ino, &seals, &SealOptions { go_on: &|| true, ..options.seal });
    }
    Ok(record)
}

/// Gives up a state that was saved, while its QEMU is still there and the guest stopped. After that nothing can be resumed,
/// and the guest may go on in that QEMU.
///
/// # Errors
/// The region: the guest is saved as before, and must not go on.
pub fn take_back<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    record: &Record,
    owner: (u32, u32),
) -> Result<(), Cause> {
    let record = Record { saved: None, ..record.clone() };
    write_record(writer, machine, &record, owner)?;
    clean_up(writer, machine);
    Ok(())
}

/// Seals two files anew, and gives the seals of each as one number. Passes over all descriptors twice.
fn seal<S: WriteAt>(
    writer: &mut Writer<S>,
    paths: [Vec<u8>; 2],
    options: &SealOptions<'_>,
) -> Result<[String; 2], Cause> {
    let [one, other] = &paths;
    let inos = [file(writer.tree(), one)?.ino, file(writer.tree(), other)?.ino];
    let mut seals = writer.seals().files;
    for ino in inos {
        writer.seal(ino, &seals.remove(&ino).unwrap_or_default(), options)?;
    }
    let sums = writer.region().seals_of(&inos);
    let text = |n: usize, path: &[u8]| match sums.get(n).copied().flatten() {
        Some(sum) => Ok(format!("{sum:016x}")),
        None => Err(Cause::Unsealed(gmfs_format::name::escape(path))),
    };
    Ok([text(0, one)?, text(1, other)?])
}

/// Writes a record, in one commit.
pub(crate) fn write_record<S: WriteAt>(
    writer: &mut Writer<S>,
    machine: &Machine,
    record: &Record,
    owner: (u32, u32),
) -> Result<(), Cause> {
    let bytes = record.encode()?;
    let size = gmfs_io::num::len64(bytes.len());
    let create = CreateOptions { size, sparse: false, align_1g: false, mode: 0o600, owner };
    writer.put(&machine.record(), &mut bytes.as_slice(), &PutOptions { create, replace: true })?;
    Ok(())
}

/// Removes what a save that failed has left. What remains is of no use, and does no harm: no record names it.
fn clean_up<S: WriteAt>(writer: &mut Writer<S>, machine: &Machine) {
    writer.watch(Box::new(Nobody));
    // The error that led here is the one to tell of.
    let _ = writer.remove(&machine.state(), false);
    if let Some(ino) = writer.tree().resolve(&machine.memory()).map(|inode| inode.ino) {
        let _ = drop_seals(writer, ino);
    }
}

/// Drops a file's seals, if it has any.
///
/// # Errors
/// The medium failed, or the region cannot be changed.
pub fn drop_seals<S: WriteAt>(writer: &mut Writer<S>, ino: InodeNo) -> Result<(), ChangeError> {
    match writer.seals().files.remove(&ino) {
        Some(seals) if seals.sealed > 0 => writer.unseal(ino, &seals).map(drop),
        _ => Ok(()),
    }
}

/// All directories of a region that have a record, in the order of inodes.
pub(crate) fn directories(tree: &Tree) -> impl Iterator<Item = Vec<u8>> {
    let records = tree.inodes().filter(|inode| inode.kind == Kind::File && *inode.name == *crate::files::RECORD);
    records.filter_map(|inode| tree.path(inode.parent))
}

impl Machine {
    /// All virtual machines of a region.
    pub fn all(tree: &Tree) -> impl Iterator<Item = Self> {
        directories(tree).map(|directory| Self::new(&directory))
    }

    /// Writes its record, in one commit.
    ///
    /// # Errors
    /// The region.
    pub fn write_record<S: WriteAt>(
        &self,
        writer: &mut Writer<S>,
        record: &Record,
        owner: (u32, u32),
    ) -> Result<(), Cause> {
        write_record(writer, self, record, owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_another_guest_is_not_taken_for_this_one() {
        let backend = |path: &str, offset, share| Backend { path: Some(path.to_owned()), offset, size: 10, share };
        let is_image = |path: &str| path == "image";
        let same = |found: &[Backend], parts: &[Span]| same_memory(found, parts, &is_image);
        let parts = [Span::new(30, 10), Span::new(0, 10)];
        assert_eq!(same(&[backend("image", 0, true), backend("image", 30, true)], &parts), Ok(()));
        assert!(same(&[backend("image", 0, true)], &parts).is_err());
        assert!(same(&[backend("image", 0, true), backend("image", 20, true)], &parts).is_err());
        assert!(same(&[backend("image", 0, true), backend("other", 30, true)], &parts).is_err());
        assert!(same(&[backend("image", 0, true), backend("image", 30, false)], &parts).is_err());
        let anonymous = Backend { path: None, offset: 30, size: 10, share: true };
        assert!(same(&[backend("image", 0, true), anonymous], &parts).is_err());
    }
}
