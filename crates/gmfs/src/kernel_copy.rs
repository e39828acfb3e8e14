//! Copying from file to file by the kernel: without a copy through this program's memory, and on filesystems that can
//! share blocks between files (XFS, Btrfs) without a copy at all.

use std::os::fd::AsFd;

use gmfs_io::FilePart;
use rustix::io::Errno;

/// Bytes that one call copies at most, so that an interrupt is noticed between two calls.
const PIECE: u64 = 8 << 20;

/// Whether the kernel copies between these two files.
#[derive(Debug, Default)]
pub struct KernelCopy {
    refused: bool,
}

impl KernelCopy {
    /// Copies what follows the first `done` bytes of `part` to the offset `at` of `to`, or to its current offset, and
    /// returns how many bytes it copied. 0 means that the rest must be read and written: nothing is left, the source
    /// has become shorter or cannot be read there, or the kernel does not copy between these files. Reading and writing
    /// then show the error, if there is one.
    pub fn piece(&mut self, part: FilePart<'_>, done: u64, to: impl AsFd, at: Option<u64>) -> u64 {
        let length = part.len.saturating_sub(done).min(PIECE);
        if self.refused || length == 0 {
            return 0;
        }
        let (mut from, mut at) = (part.offset.saturating_add(done), at);
        let length = usize::try_from(length).unwrap_or(0);
        loop {
            match rustix::fs::copy_file_range(part.file, Some(&mut from), &to, at.as_mut(), length) {
                Ok(copied) => return u64::try_from(copied).unwrap_or(0),
                Err(Errno::INTR) => {}
                // A bad page of the source. Others may be good.
                Err(Errno::IO) => return 0,
                // Different filesystems, a block device, a pipe, a file opened with O_APPEND, an old kernel, a full
                // disk.
                Err(_) => {
                    self.refused = true;
                    return 0;
                }
            }
        }
    }
}
