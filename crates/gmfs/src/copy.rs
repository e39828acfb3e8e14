//! Copying content into a sparse file. A copy reports its progress and can be stopped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use gmfs_format::model::Piece;
use gmfs_io::num::len64;
use gmfs_io::{FilePart, ReadAt, Span};

use crate::content::{Gap, Gaps, PAGE_LEN, Sink, read};
use crate::kernel_copy::KernelCopy;

/// A page of zeros.
static ZEROS: [u8; PAGE_LEN] = [0; PAGE_LEN];

/// Observes a copy, and may stop it. Every method has a default that does nothing; `()` uses the defaults.
pub trait Progress {
    /// The copy of a file of `bytes` bytes begins; later offsets count from its start. `path` is its path in the store.
    fn begin(&self, path: &[u8], bytes: u64) {
        let _ = (path, bytes);
    }

    /// The first `done` bytes are copied.
    fn at(&self, done: u64) {
        let _ = done;
    }

    /// The first `done` bytes are done; those since the last call were neither read nor written.
    fn skipped_to(&self, done: u64) {
        let _ = done;
    }

    /// Whether the copy should end: asked often, and answered quickly.
    fn should_stop(&self) -> bool {
        false
    }
}

impl Progress for () {}

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// [`Progress::should_stop`] said so.
    #[error("the copy was stopped")]
    Stopped,
    /// The copy could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// The result of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The bytes that are unknown: holes in the copy.
    pub gaps: Gaps,
    /// How many bytes were written. The others are holes.
    pub written: u64,
}

/// Copies a file's pieces from the store in `source` into `file`, which is new and empty, and becomes `size` bytes
/// long. Afterwards everything is durable.
///
/// # Errors
/// [`CopyError`]. Bytes that cannot be read are gaps; they are no error.
pub fn pieces<S: ReadAt + ?Sized>(
    source: &S,
    pieces: &[Piece],
    size: u64,
    file: &File,
    progress: &dyn Progress,
) -> Result<Copied, CopyError> {
    let mut sink = SparseFile::new(file, size, progress);
    read(source, pieces, &mut sink)?;
    Ok(sink.finish()?)
}

/// Copies the first `len` bytes of `source`, as [`pieces`] does.
///
/// # Errors
/// As [`pieces`].
pub fn all<S: ReadAt + ?Sized>(
    source: &S,
    len: u64,
    file: &File,
    progress: &dyn Progress,
) -> Result<Copied, CopyError> {
    pieces(source, &[Piece::Data { file: Span::new(0, len), at: 0, bad: false }], len, file, progress)
}

/// A sparse file that is being written. Holes of the source stay holes. Pages of zeros become holes too, except those
/// that the kernel copies from file to file: their content is not examined. The file grows as bytes arrive, and gets
/// its full length at the end.
pub struct SparseFile<'a> {
    file: &'a File,
    size: u64,
    copied: Copied,
    progress: &'a dyn Progress,
    kernel: KernelCopy,
}

impl<'a> SparseFile<'a> {
    /// `file` is new and empty.
    #[must_use]
    pub fn new(file: &'a File, size: u64, progress: &'a dyn Progress) -> Self {
        Self { file, size, copied: Copied::default(), progress, kernel: KernelCopy::default() }
    }

    /// Ends the work: gives the file its length, and waits until everything is durable.
    ///
    /// # Errors
    /// The medium failed, now or in an earlier write.
    pub fn finish(self) -> io::Result<Copied> {
        self.file.set_len(self.size)?;
        self.file.sync_all()?;
        Ok(self.copied)
    }

    fn go_on(&self) -> Result<(), CopyError> {
        if self.progress.should_stop() { Err(CopyError::Stopped) } else { Ok(()) }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.count(len64(bytes.len()));
        self.file.write_all_at(bytes, at)
    }

    fn count(&mut self, written: u64) {
        self.copied.written = self.copied.written.saturating_add(written);
    }
}

impl Sink for SparseFile<'_> {
    type Error = CopyError;

    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<(), CopyError> {
        self.go_on()?;
        self.progress.at(at.saturating_add(len64(bytes.len())));
        // Everything before this offset is written, or zero.
        let mut start = 0_usize;
        let mut here = 0_usize;
        for page in bytes.chunks(PAGE_LEN) {
            let next = here.saturating_add(page.len());
            if ZEROS.get(..page.len()) == Some(page) {
                let before = bytes.get(start..here).unwrap_or_default();
                if !before.is_empty() {
                    self.write(at.saturating_add(len64(start)), before)?;
                }
                start = next;
            }
            here = next;
        }
        let rest = bytes.get(start..).unwrap_or_default();
        if !rest.is_empty() {
            self.write(at.saturating_add(len64(start)), rest)?;
        }
        Ok(())
    }

    fn copy_part(&mut self, at: u64, part: FilePart<'_>) -> Result<u64, CopyError> {
        let mut done = 0_u64;
        loop {
            self.go_on()?;
            self.progress.at(at.saturating_add(done));
            let copied = self.kernel.piece(part, done, self.file, Some(at.saturating_add(done)));
            if copied == 0 {
                return Ok(done);
            }
            done = done.saturating_add(copied);
            self.count(copied);
        }
    }

    fn zeros(&mut self, span: Span) -> Result<(), CopyError> {
        self.go_on()?;
        self.progress.skipped_to(span.end());
        Ok(())
    }

    fn gap(&mut self, gap: Gap) -> Result<(), CopyError> {
        self.go_on()?;
        self.progress.skipped_to(gap.span.end());
        self.copied.gaps.add(gap);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gmfs_image::RegionFile;
    use gmfs_io::{Absence, ReadError, Window};

    use crate::content::{Why, read_all};

    use super::*;

    /// A file in a temporary directory: `a` two pages of ones, `0` two pages of zeros, `.` two pages that are a hole.
    fn file_of(dir: &Path, shape: &str) -> (File, Vec<u8>) {
        let file = File::options().read(true).write(true).create_new(true).open(dir.join("source")).unwrap();
        let mut bytes = Vec::new();
        for (n, kind) in shape.chars().enumerate() {
            let stretch = [if kind == 'a' { b'a' + u8::try_from(n % 26).unwrap() } else { 0 }; 2 * PAGE_LEN];
            if kind != '.' {
                file.write_all_at(&stretch, bytes.len() as u64).unwrap();
            }
            bytes.extend_from_slice(&stretch);
        }
        file.set_len(bytes.len() as u64).unwrap();
        (file, bytes)
    }

    /// Copies the first `len` bytes of `source` into a new file: what it holds, what is missing, how much was written.
    fn copied<S: ReadAt + ?Sized>(source: &S, len: u64, before: impl Fn()) -> (Vec<u8>, Gaps, u64) {
        let file = tempfile::tempfile().unwrap();
        let mut sink = Before(SparseFile::new(&file, len, &()), before);
        read_all(source, len, &mut sink).unwrap();
        let Copied { gaps, written } = sink.0.finish().unwrap();
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (bytes, gaps, written)
    }

    /// Does something before the kernel copies.
    struct Before<'f, F>(SparseFile<'f>, F);

    impl<F: Fn()> Sink for Before<'_, F> {
        type Error = CopyError;
        fn data(&mut self, at: u64, bytes: &[u8]) -> Result<(), CopyError> {
            self.0.data(at, bytes)
        }
        fn copy_part(&mut self, at: u64, part: FilePart<'_>) -> Result<u64, CopyError> {
            (self.1)();
            self.0.copy_part(at, part)
        }
        fn zeros(&mut self, span: Span) -> Result<(), CopyError> {
            self.0.zeros(span)
        }
        fn gap(&mut self, gap: Gap) -> Result<(), CopyError> {
            self.0.gap(gap)
        }
    }

    /// A source that does not say that it is a file.
    struct ReadOnly<S>(S);

    impl<S: ReadAt> ReadAt for ReadOnly<S> {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            self.0.read_at(offset, buf)
        }
        fn end(&self) -> Option<u64> {
            self.0.end()
        }
    }

    #[test]
    fn a_copy_is_the_same_whoever_makes_it() {
        for shape in ["a", ".", "aa.a0a..", "..a", "a0", "0.aaaa"] {
            let dir = tempfile::tempdir().unwrap();
            let (_, bytes) = file_of(dir.path(), shape);
            let file = RegionFile::open(&dir.path().join("source")).unwrap();
            let all = bytes.len() as u64;
            for (from, len) in [(0, all), (1, all - 1), (5000, 3), (4096, all - 4096 - 7)] {
                let wanted = &bytes[usize::try_from(from).unwrap()..][..usize::try_from(len).unwrap()];
                let window = Window::new(&file, from, len);
                let parts: [&dyn ReadAt; 3] = [&window, &Box::new(&window), &ReadOnly(&window)];
                for (n, source) in parts.into_iter().enumerate() {
                    let (found, gaps, written) = copied(source, len, || ());
                    assert!(found == wanted && gaps.is_empty(), "{shape} {from} {len} {n}");
                    assert!(written <= len, "{shape} {from} {len} {n}");
                }
                assert!(window.file_part(0..len).is_some() && ReadOnly(&window).file_part(0..len).is_none());
            }
            // Holes stay holes.
            let holes = shape.matches('.').count() as u64 * 2 * 4096;
            assert_eq!(copied(&file, all, || ()).2, all - holes, "{shape}");
        }
    }

    #[test]
    fn what_is_cut_off_while_it_is_copied_is_missing_and_not_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, bytes) = file_of(dir.path(), "aaaa");
        let source = RegionFile::open(&dir.path().join("source")).unwrap();
        let all = bytes.len() as u64;
        let (found, gaps, written) = copied(&source, all, || writer.set_len(3 * 4096 + 9).unwrap());
        assert!(found[..3 * PAGE_LEN] == bytes[..3 * PAGE_LEN]);
        // The kernel copies the bytes that are left of a page. Without it, that page is missing.
        let gaps: Vec<_> = gaps.iter().collect();
        assert_eq!((gaps.len(), gaps[0].span.end(), gaps[0].why), (1, all, Why::Absent(Absence::BeyondEnd)));
        assert!([3 * 4096, 3 * 4096 + 9].contains(&written) && gaps[0].span.offset == written);
    }

    #[test]
    fn a_copy_ends_when_it_should() {
        struct Impatient(std::cell::Cell<u64>);
        impl Progress for Impatient {
            fn at(&self, done: u64) {
                self.0.set(done);
            }
            fn should_stop(&self) -> bool {
                self.0.get() > 0
            }
        }
        let source = vec![1; 4 << 20];
        let progress = Impatient(std::cell::Cell::new(0));
        let done = all(&source, 4 << 20, &tempfile::tempfile().unwrap(), &progress);
        assert!(matches!(done, Err(CopyError::Stopped)));
        assert!(progress.0.get() < 4 << 20);
    }
}
