//! Sealing the content of several files, so that [`verify`](crate::verify) can tell later whether they still hold it.

use std::cell::Cell;

use gmfs_format::model::InodeNo;
use gmfs_io::WriteAt;
use gmfs_volume::seals::FileSeals;
use gmfs_volume::{ChangeError, SealOptions, Sealed, Writer};

/// How files are sealed.
pub struct How<'h> {
    /// Files that are sealed already are sealed again.
    pub again: bool,
    /// Blocks that are all zero are recorded as zero, in addition to their checksum.
    pub zero: bool,
    /// Nothing is read or written; only what forbids sealing a file is found out.
    pub dry_run: bool,
    /// How many threads read blocks.
    pub threads: usize,
    /// Called with how many bytes have been read, and how many there are to read.
    pub progress: &'h dyn Fn(u64, u64),
    /// Whether to go on. It is asked for each block.
    pub go_on: &'h dyn Fn() -> bool,
}

/// A file that was to be sealed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct File {
    /// Its inode.
    pub ino: InodeNo,
    /// How much of it was sealed before.
    pub before: FileSeals,
    /// What was done.
    pub state: State,
}

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It has no blocks that could be sealed.
    Empty,
    /// All of it is sealed already.
    Before,
    /// It would be sealed, in a dry run.
    Planned,
    /// It is sealed.
    Sealed(Sealed),
}

/// How sealing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// All files were tried.
    Whole,
    /// It was not to go on: the files after the last one that was passed on are as they were.
    Interrupted,
    /// The medium failed.
    ByMedium,
}

/// Seals files one after the other, each in one commit, and passes each of them to `each`, or why it could not be sealed. It ends
/// early if it is not to go on, or if the medium fails.
pub fn seal<S: WriteAt>(
    writer: &mut Writer<S>,
    wanted: &[InodeNo],
    how: &How<'_>,
    mut each: impl FnMut(&Writer<S>, Result<File, ChangeError>),
) -> Ended {
    let found = writer.seals();
    let block = writer.superblock().geometry().block_bytes();
    let with_seals = |ino: &InodeNo| (*ino, found.files.get(ino).cloned().unwrap_or_default());
    let wanted: Vec<(InodeNo, FileSeals)> = wanted.iter().map(with_seals).collect();
    let is_done = |seals: &FileSeals| seals.is_whole() && !how.again;
    let left = wanted.iter().filter(|(_, seals)| !is_done(seals));
    let total = left.fold(0_u64, |sum, (_, seals)| sum.saturating_add(seals.blocks.saturating_mul(block)));
    let read = Cell::new(0_u64);
    let count = |bytes: u64| {
        read.set(read.get().saturating_add(bytes));
        (how.progress)(read.get(), total);
    };
    // A dry run asks for each file whether it may be sealed, and stops at its first block.
    let go_on = || !how.dry_run && (how.go_on)();
    let options = SealOptions { zero: how.zero, threads: how.threads, progress: &count, go_on: &go_on };
    for (ino, before) in wanted {
        let state = if is_done(&before) {
            Ok(if before.blocks == 0 { State::Empty } else { State::Before })
        } else {
            match writer.seal(ino, &before, &options) {
                Ok(sealed) => Ok(State::Sealed(sealed)),
                Err(ChangeError::Stopped) if how.dry_run => Ok(State::Planned),
                Err(ChangeError::Stopped) => return Ended::Interrupted,
                Err(error) => Err(error),
            }
        };
        let is_of_medium = matches!(state, Err(ChangeError::Write(_) | ChangeError::Read(_) | ChangeError::Unfinished));
        each(writer, state.map(|state| File { ino, before, state }));
        if is_of_medium {
            return Ended::ByMedium;
        }
    }
    Ended::Whole
}

#[cfg(test)]
mod tests {
    use gmfs_volume::WriterOptions;

    use super::*;
    use crate::testing::region;

    #[test]
    fn files_are_sealed_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(region(dir.path())).unwrap();
        let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 2_000_000_000 };
        let (mut writer, _) = Writer::open(&mut bytes, options).unwrap();
        let of = |writer: &Writer<_>, path: &[u8]| writer.tree().resolve(path).unwrap().ino;
        let wanted = [of(&writer, b"/vms/a"), of(&writer, b"/vms/deep/b")];
        let go_on = Cell::new(true);
        let mut run = |again, dry_run| {
            let (asked, mut list) = (|| go_on.get(), Vec::new());
            let how = How { again, zero: true, dry_run, threads: 1, progress: &|_, _| {}, go_on: &asked };
            let ended = seal(&mut writer, &wanted, &how, |_, file| list.push(file.unwrap().state));
            (ended, list)
        };
        assert_eq!(run(false, true), (Ended::Whole, vec![State::Planned; 2]));
        go_on.set(false);
        assert_eq!(run(false, false), (Ended::Interrupted, vec![]));
        go_on.set(true);
        let (ended, list) = run(false, false);
        let sealed = |of: &State| if let State::Sealed(done) = of { (done.sealed, done.unreadable) } else { (0, 0) };
        assert_eq!((ended, list.iter().map(sealed).collect::<Vec<_>>()), (Ended::Whole, vec![(3, 0), (1, 0)]));
        assert_eq!(run(false, false), (Ended::Whole, vec![State::Before; 2]));
        assert_eq!(run(true, false).1, list);
    }
}
