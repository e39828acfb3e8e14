//! QEMU for a guest that is resumed: it is started, or somebody else has started it; and it ends.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use gmfs_image::FileError;
use gmfs_io::Span;

use crate::arguments::{self, ArgumentsError};
use crate::in_image::{InImage, LockError, is_used, mapped_by};
use crate::qmp::{Qmp, QmpError};
use crate::record::Record;
use crate::version::{Version, VersionError};

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a QEMU that has closed its connection may take until its process has ended.
const DYING: Duration = Duration::from_secs(1);

/// How a QEMU that waits for a guest is come by.
#[derive(Clone, Debug)]
pub enum Source {
    /// Somebody has started one, which listens at this socket.
    Listens(PathBuf),
    /// It is started.
    Started(Start),
}

/// How a QEMU is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program.
    pub program: String,
    /// Its arguments, without those that gmfs adds.
    pub arguments: Vec<String>,
    /// The directory in which it is started; `None` stands for that of this process.
    pub directory: Option<PathBuf>,
    /// Where it is to listen.
    pub socket: PathBuf,
}

/// Why there is no QEMU for a guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The directory in which it was started is gone.
    #[error("there is no directory {}, in which its QEMU was started", .0.display())]
    NoDirectory(PathBuf),
    /// The guest was not started by gmfs, and nobody says how it is.
    #[error("no record says how its QEMU is started")]
    NoCommand,
    /// QEMU is too old, or does not say its version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// QEMU cannot be told of the memory or of the socket.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
    /// Its memory is in use, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The memory that a running QEMU has mapped cannot be locked for it.
    #[error(transparent)]
    LockMapped(FileError),
    /// The lock cannot be inherited.
    #[error("cannot give the lock to QEMU: {0}")]
    Inherit(io::Error),
    /// The program cannot be run.
    #[error("cannot run {program}: {error}")]
    Run {
        /// The program.
        program: String,
        /// What the system says.
        error: io::Error,
    },
    /// It ended by itself.
    #[error("QEMU ended before it took the state, which was not used: {0}")]
    Ended(ExitStatus),
    /// The dialogue.
    #[error(transparent)]
    Qmp(#[from] QmpError),
}

impl Start {
    /// As the record says.
    ///
    /// # Errors
    /// The record does not say it, or the directory is gone.
    pub fn recorded(record: &Record, socket: PathBuf) -> Result<Self, LaunchError> {
        let directory = record.directory.as_ref().map(PathBuf::from);
        if let Some(missing) = directory.as_ref().filter(|directory| !directory.is_dir()) {
            return Err(LaunchError::NoDirectory(missing.clone()));
        }
        let mut start = Self::new(record.command.clone(), socket)?;
        // A name with a slash is relative to the directory, and any other is looked for in PATH.
        if let Some(directory) = directory.as_ref().filter(|_| start.program.contains('/')) {
            start.program = directory.join(&start.program).into_os_string().into_string().unwrap_or_default();
        }
        Ok(Self { directory, ..start })
    }

    /// As these words say, which are a program and its arguments.
    ///
    /// # Errors
    /// There are none.
    pub fn new(words: Vec<String>, socket: PathBuf) -> Result<Self, LaunchError> {
        let mut words = words.into_iter();
        let program = words.next().ok_or(LaunchError::NoCommand)?;
        Ok(Self { program, arguments: words.collect(), directory: None, socket })
    }

    /// Refuses a QEMU that is too old.
    ///
    /// # Errors
    /// It is, or cannot be asked within the time.
    pub fn require_version(&self, limit: Duration) -> Result<(), VersionError> {
        Version::of_program(Path::new(&self.program), limit).and_then(Version::require).map(drop)
    }
}

/// A QEMU that waits for a guest, or has one.
#[derive(Debug)]
pub struct Qemu {
    /// The dialogue with it.
    pub qmp: Qmp,
    child: Option<Child>,
}

impl Qemu {
    /// Comes by a QEMU that waits for a guest, and has locked the guest's memory: `parts` of the image, which are the inode's.
    /// Each step takes at most the time `limit`.
    ///
    /// # Errors
    /// [`LaunchError`]: a QEMU that was started here has ended.
    pub fn launch(
        source: &Source,
        in_image: &InImage,
        (ino, parts): (u32, &[Span]),
        limit: Duration,
    ) -> Result<Self, LaunchError> {
        let start = match source {
            Source::Listens(socket) => {
                let mut qmp = connect(socket, limit)?;
                lock_for(&mut qmp, in_image, parts)?;
                return Ok(Self { qmp, child: None });
            }
            Source::Started(start) => start,
        };
        let lock = in_image.lock(parts)?;
        let added = in_image.arguments(ino, parts)?;
        let listen = arguments::listen(&start.socket)?;
        lock.let_inherit().map_err(LaunchError::Inherit)?;
        let mut command = Command::new(&start.program);
        command.args(&start.arguments).args(added).args(listen).args(arguments::RESUME);
        if let Some(directory) = &start.directory {
            command.current_dir(directory);
        }
        let child = command.spawn();
        let mut child = child.map_err(|error| LaunchError::Run { program: start.program.clone(), error })?;
        match wait_for(&mut child, &start.socket, limit) {
            Ok(qmp) => Ok(Self { qmp, child: Some(child) }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Ends it. Gives how it has ended, if it has done so by itself and not well, after it had closed the connection.
    pub fn abandon(mut self, has_closed: bool) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let mut status = None;
        if has_closed {
            let began = Instant::now();
            while status.is_none() && began.elapsed() < DYING {
                std::thread::sleep(PAUSE);
                status = child.try_wait().ok()?;
            }
        } else {
            // One that has gone into the background ends by this only.
            let _ = self.qmp.quit();
        }
        let _ = child.kill();
        let _ = child.wait();
        status.filter(|status| !status.success())
    }

    /// Ends the dialogue, so that another client may talk to it, and waits until a QEMU that was started here ends; `None` for
    /// another one.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn stay(self) -> io::Result<Option<ExitStatus>> {
        let Self { qmp, child } = self;
        drop(qmp);
        child.map(|mut child| child.wait()).transpose()
    }
}

/// Connects to QEMU, and refuses one that is too old.
///
/// # Errors
/// It does not listen, or is too old.
pub fn connect(socket: &Path, limit: Duration) -> Result<Qmp, LaunchError> {
    let qmp = Qmp::connect(socket, limit)?;
    qmp.version().require()?;
    Ok(qmp)
}

/// Locks the memory for a QEMU that somebody else has started, which holds the lock from then on. It has the memory mapped.
fn lock_for(qmp: &mut Qmp, in_image: &InImage, parts: &[Span]) -> Result<(), LaunchError> {
    let lock = in_image.lock_mapped(parts).map_err(LaunchError::LockMapped)?;
    for (n, descriptor) in lock.descriptors().enumerate() {
        qmp.give(&format!("gmfs-usage-{n}"), descriptor)?;
    }
    Ok(())
}

/// Connects to a QEMU that starts.
fn wait_for(child: &mut Child, socket: &Path, limit: Duration) -> Result<Qmp, LaunchError> {
    let began = Instant::now();
    loop {
        let error = match Qmp::connect(socket, limit) {
            Ok(qmp) => return Ok(qmp),
            Err(error @ QmpError::Connect { .. }) if began.elapsed() < limit => error,
            Err(error) => return Err(error.into()),
        };
        match child.try_wait() {
            // It may have gone into the background.
            Ok(Some(status)) if !status.success() => return Err(LaunchError::Ended(status)),
            Ok(_) => std::thread::sleep(PAUSE),
            Err(_) => return Err(error.into()),
        }
    }
}

/// Why a QEMU whose guest is saved has not ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// It does not take the command.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// This process has the guest's memory in use after the time.
    #[error("{0} has its memory in use")]
    InUse(String),
}

/// Ends a QEMU whose guest is saved, and waits until nobody has its memory any more: `parts` of the image.
///
/// # Errors
/// It has not ended within the time `limit`.
pub fn end(qmp: &mut Qmp, in_image: &InImage, parts: &[Span], limit: Duration) -> Result<(), EndError> {
    qmp.quit()?;
    let began = Instant::now();
    loop {
        let found = in_image.users().unwrap_or_default();
        if !is_used(&found, parts) {
            return Ok(());
        }
        if began.elapsed() >= limit {
            return Err(EndError::InUse(mapped_by(&found, parts).unwrap_or_else(|| "a process".to_owned())));
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FileId;

    fn record(command: &[&str], directory: Option<&str>) -> Record {
        Record {
            region: String::new(),
            memory: FileId { ino: 3, generation: 1, size: 2 << 20 },
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            directory: directory.map(ToOwned::to_owned),
            socket: None,
            saved: None,
        }
    }

    #[test]
    fn a_recorded_program_is_relative_to_the_recorded_directory() {
        let start = |command: &[&str], directory| Start::recorded(&record(command, directory), PathBuf::new());
        let own = start(&["./qemu", "-nographic"], Some("/")).unwrap();
        assert_eq!((own.program.as_str(), own.arguments.as_slice()), ("/./qemu", &["-nographic".to_owned()][..]));
        assert_eq!(start(&["qemu"], Some("/")).unwrap().program, "qemu");
        assert_eq!(start(&["./qemu"], None).unwrap().program, "./qemu");
        assert!(matches!(start(&["qemu"], Some("/no/such")), Err(LaunchError::NoDirectory(_))));
        assert!(matches!(start(&[], None), Err(LaunchError::NoCommand)));
    }
}
