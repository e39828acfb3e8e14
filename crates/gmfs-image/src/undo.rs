//! Taking writes back: what every write overwrites goes into a file first.
//!
//! The file holds each 4 KiB page once, as it was before the first write to it, and at its end a table of what each
//! page was left as. With the table, [`Undo::revert`] can tell before it writes anything that the file belongs to the
//! image and that nobody has changed the image since.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic `GMFSUND1` |
//! | 8 | length of the image before, 2⁶⁴-1 where it is not known |
//! | 4 | CRC-32 of these 16 bytes |
//! | 8 + 4 + 4 + n | per page: offset, length n, CRC-32 of the page's bytes and of offset and length, the bytes |
//! | 8 + 8 | end: 2⁶⁴-1, number of pages |
//! | 8 + 4 | per page: offset, CRC-32 of what it was left as |
//! | 4 | CRC-32 of everything from the end mark on |
//!
//! All numbers are little-endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use gmfs_format::io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

const MAGIC: [u8; 8] = *b"GMFSUND1";
const PAGE: u64 = 4096;
const END: u64 = u64::MAX;

/// Why writes cannot be taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UndoError {
    /// The undo file could not be made, read or written.
    #[error("cannot use the undo file {}", path.display())]
    File {
        /// The undo file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no undo file.
    #[error("{} is no undo file", .0.display())]
    NotUndo(PathBuf),
    /// The file is damaged.
    #[error("the undo file {} is damaged at byte {at}: nothing is undone", path.display())]
    Damaged {
        /// The undo file.
        path: PathBuf,
        /// Where, in bytes from its start.
        at: u64,
    },
    /// The program that wrote the file did not come to its end, or the file is cut.
    #[error(
        "the undo file {} has no end: it is cut, or its program was stopped; what it holds may be a part only",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// The image is not what was left behind.
    #[error(
        "the image has changed at {offset:#x} since the undo file was written, or is another image: nothing is undone"
    )]
    Changed {
        /// Where in the image, in bytes.
        offset: u64,
    },
    /// The image is not as long as the one that the file is of.
    #[error("the image has {now} bytes, and the undo file is of one with {then}: nothing is undone")]
    Length {
        /// Bytes in the image.
        now: u64,
        /// Bytes in it when the undo file was begun.
        then: u64,
    },
    /// Not a page of the image is what the file knows of it.
    #[error("no page of the image is what the undo file knows of it: it is another image, and nothing is undone")]
    Unrelated,
    /// The image could not be read.
    #[error("cannot read the image")]
    Read(#[from] ReadError),
    /// The image could not be written.
    #[error("cannot write the image")]
    Write(#[from] WriteError),
}

/// A target whose every write is recorded first.
pub struct Recorded<T> {
    target: T,
    file: File,
    path: PathBuf,
    /// Length of the file as far as it is whole.
    length: u64,
    /// A page could not be recorded: nothing may be written any more.
    failed: bool,
    /// Pages recorded, with what they were last left as.
    pages: BTreeMap<u64, u32>,
}

impl<T: WriteAt> Recorded<T> {
    /// Records what is overwritten in `target` into a new file at `path`.
    ///
    /// # Errors
    /// [`UndoError::File`], also if the file exists.
    pub fn new(target: T, path: &Path) -> Result<Self, UndoError> {
        let failed = |source| UndoError::File { path: path.to_owned(), source };
        let mut file = File::create_new(path).map_err(failed)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&target.end().unwrap_or(u64::MAX).to_le_bytes());
        let sum = crc32fast::hash(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        file.write_all(&head).and_then(|()| file.sync_data()).map_err(failed).inspect_err(|_| {
            // The file is ours, and holds nothing.
            let _ = std::fs::remove_file(path);
        })?;
        let length = head.len() as u64;
        Ok(Self { target, file, path: path.to_owned(), length, failed: false, pages: BTreeMap::new() })
    }

    /// Ends the record; gives the target back, and how many pages it holds. A file that holds none, because not even the
    /// first page could be recorded, goes.
    ///
    /// # Errors
    /// [`UndoError::File`].
    pub fn finish(mut self) -> Result<(T, u64), UndoError> {
        if self.failed && self.pages.is_empty() {
            // What is being told is why.
            let _ = std::fs::remove_file(&self.path);
            return Ok((self.target, 0));
        }
        let mut tail = END.to_le_bytes().to_vec();
        tail.extend_from_slice(&(self.pages.len() as u64).to_le_bytes());
        for (offset, sum) in &self.pages {
            tail.extend_from_slice(&offset.to_le_bytes());
            tail.extend_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32fast::hash(&tail);
        tail.extend_from_slice(&sum.to_le_bytes());
        let written = self.file.write_all(&tail).and_then(|()| self.file.sync_all());
        written.map_err(|source| {
            // Without its end it is what a program that was stopped leaves. Where even that fails, the end is missed.
            let _ = self.file.set_len(self.length);
            UndoError::File { path: self.path.clone(), source }
        })?;
        Ok((self.target, self.pages.len() as u64))
    }

    /// Records the pages of a span that have not been recorded yet, durably. If that fails, the file ends with the last
    /// page that is whole in it, and nothing is written to the target ever after.
    fn record(&mut self, span: Span) -> Result<(), WriteError> {
        let failed = |source| {
            let error = UndoError::File { path: self.path.clone(), source };
            WriteError { span, source: io::Error::other(error) }
        };
        if self.failed {
            return Err(failed(io::Error::other("an earlier page could not be recorded")));
        }
        let (mut batch, mut recorded) = (Vec::new(), Vec::new());
        for offset in pages(span).filter(|offset| !self.pages.contains_key(offset)) {
            let bytes = read_page(&self.target, offset)
                .map_err(|error| WriteError { span, source: io::Error::other(error) })?;
            batch.extend_from_slice(&offset.to_le_bytes());
            batch.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            batch.extend_from_slice(&record_sum(offset, &bytes).to_le_bytes());
            batch.extend_from_slice(&bytes);
            recorded.push((offset, crc32fast::hash(&bytes)));
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&batch).and_then(|()| self.file.sync_data()) {
            let error = failed(error);
            self.failed = true;
            // Where that fails too, the end will be missed.
            let _ = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            return Err(error);
        }
        self.length += batch.len() as u64;
        self.pages.extend(recorded);
        Ok(())
    }

    /// Notes what the pages of a span have been left as.
    fn note(&mut self, span: Span) -> Result<(), WriteError> {
        for offset in pages(span) {
            let bytes = read_page(&self.target, offset);
            let bytes = bytes.map_err(|error| WriteError { span, source: io::Error::other(error) })?;
            self.pages.insert(offset, crc32fast::hash(&bytes));
        }
        Ok(())
    }
}

/// The pages that a span touches.
fn pages(span: Span) -> impl Iterator<Item = u64> {
    (span.offset / PAGE..span.end().div_ceil(PAGE)).map(|page| page * PAGE)
}

/// A page of the image, shorter at the image's end.
fn read_page<S: ReadAt>(source: &S, offset: u64) -> Result<Vec<u8>, ReadError> {
    let len = source.end().map_or(PAGE, |end| end.saturating_sub(offset).min(PAGE));
    let mut bytes = vec![0; len as usize];
    source.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

fn record_sum(offset: u64, bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&offset.to_le_bytes());
    sum.update(&(bytes.len() as u32).to_le_bytes());
    sum.update(bytes);
    sum.finalize()
}

impl<T: WriteAt> ReadAt for Recorded<T> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.target.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.target.end()
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        self.target.next_data(range)
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        self.target.next_absent(range)
    }
}

impl<T: WriteAt> WriteAt for Recorded<T> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, bytes.len() as u64);
        self.record(span)?;
        // Also of a write that failed: a part of it may be there.
        let done = self.target.write_at(offset, bytes);
        self.note(span)?;
        done
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.record(span)?;
        let done = self.target.zero(span);
        self.note(span)?;
        done
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        self.target.barrier()
    }

    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        self.target.reader()
    }
}

/// An image as it was before: the pages of an undo file, over what is there.
pub struct Before<'u, T> {
    undo: &'u Undo,
    file: crate::RegionFile,
    target: T,
}

impl<T: ReadAt> ReadAt for Before<'_, T> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.target.read_at(offset, buf)?;
        let end = offset.saturating_add(buf.len() as u64);
        for (start, (place, length)) in self.undo.pages.range(offset.saturating_sub(PAGE - 1)..end) {
            let (from, to) = (offset.max(*start), end.min(start + u64::from(*length)));
            let part = (from.saturating_sub(offset) as usize)..(to.saturating_sub(offset) as usize);
            if let Some(part) = buf.get_mut(part).filter(|_| from < to) {
                self.file.read_at(place + (from - start), part)?;
            }
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        self.target.end()
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        self.target.next_absent(range)
    }
}

/// An undo file that has been read and found whole.
#[derive(Debug)]
pub struct Undo {
    path: PathBuf,
    /// Length of the image before, if it was known.
    length: Option<u64>,
    /// Where each page lies in the file, and its length: by offset in the image.
    pages: BTreeMap<u64, (u64, u32)>,
    /// What each page was left as; `None` if the file has no end.
    left: Option<BTreeMap<u64, u32>>,
}

impl Undo {
    /// Reads the whole file and checks every checksum in it.
    ///
    /// # Errors
    /// No undo file, or a damaged one. A file without an end is read as far as it goes, and refused by
    /// [`revert`](Self::revert) unless that is forced.
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        let failed = |source| UndoError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut reader = Reader { inner: BufReader::new(file), at: 0, size, path };
        let head: [u8; 20] = reader.take()?.ok_or_else(|| UndoError::NotUndo(path.to_owned()))?;
        if head[..8] != MAGIC {
            return Err(UndoError::NotUndo(path.to_owned()));
        }
        if crc32fast::hash(&head[..16]) != word(&head[16..]) {
            return Err(reader.damaged(0));
        }
        let length = Some(long(&head[8..16])).filter(|length| *length != u64::MAX);
        let mut undo = Self { path: path.to_owned(), length, pages: BTreeMap::new(), left: None };
        while let Some(offset) = reader.take::<8>()? {
            let offset = long(&offset);
            if offset == END {
                undo.left = reader.end(undo.pages.len() as u64)?;
                break;
            }
            if !undo.read_record(&mut reader, offset)? {
                break;
            }
        }
        Ok(undo)
    }

    /// Reads one page's record. Gives false at a cut.
    fn read_record(&mut self, reader: &mut Reader<'_>, offset: u64) -> Result<bool, UndoError> {
        let start = reader.at;
        let Some(head) = reader.take::<8>()? else { return Ok(false) };
        let length = word(&head[..4]);
        if u64::from(length) > PAGE || !offset.is_multiple_of(PAGE) {
            return Err(reader.damaged(start));
        }
        let place = reader.at;
        let Some(bytes) = reader.take_vec(length as usize)? else { return Ok(false) };
        if record_sum(offset, &bytes) != word(&head[4..]) {
            return Err(reader.damaged(start));
        }
        self.pages.insert(offset, (place, length));
        Ok(true)
    }

    /// How many pages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The places of the pages that it holds, in bytes of the image.
    pub fn pages(&self) -> impl Iterator<Item = Span> {
        self.pages.iter().map(|(offset, (_, length))| Span::new(*offset, u64::from(*length)))
    }

    /// What `target` would be if everything were put back.
    ///
    /// # Errors
    /// [`UndoError::File`].
    pub fn over<T: ReadAt>(&self, target: T) -> Result<Before<'_, T>, UndoError> {
        let failed = |source| UndoError::File { path: self.path.clone(), source };
        let file = crate::RegionFile::open(&self.path).map_err(|error| failed(io::Error::other(error)))?;
        Ok(Before { undo: self, file, target })
    }

    /// Length of the image before anything was written, if that was known.
    #[must_use]
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Puts every page back. Gives the number of those that were not already what they were before. Before the first
    /// write, the image is compared with what was left behind; a page may also be as it was before, so that an undo that
    /// was stopped can be run again. `force` leaves that out, and is what a file without an end takes; the image must be
    /// long enough all the same, and, if the file has its end, some page in it what the file knows.
    ///
    /// # Errors
    /// [`UndoError::Unfinished`], [`UndoError::Changed`], [`UndoError::Length`], [`UndoError::Unrelated`]: nothing has been
    /// written then. Or the medium failed.
    pub fn revert<T: WriteAt>(&self, target: &mut T, force: bool) -> Result<u64, UndoError> {
        let failed = |source| UndoError::File { path: self.path.clone(), source };
        let file = crate::RegionFile::open(&self.path).map_err(|error| failed(io::Error::other(error)))?;
        if let (Some(then), Some(now)) = (self.length, target.end())
            && now < then
        {
            return Err(UndoError::Length { now, then });
        }
        match &self.left {
            Some(left) if force => self.require_related(&file, left, target)?,
            // Without its end, nothing tells what the image was left as.
            None if force => {}
            _ => self.compare(&file, target)?,
        }
        let mut written = 0;
        for offset in self.pages.keys() {
            let bytes = self.before(&file, *offset)?;
            if read_page(target, *offset).is_ok_and(|now| now == bytes) {
                continue;
            }
            written += 1;
            if bytes.iter().all(|byte| *byte == 0) {
                // What was a hole becomes one again.
                target.zero(Span::new(*offset, bytes.len() as u64))?;
            } else {
                target.write_at(*offset, &bytes)?;
            }
        }
        target.barrier()?;
        Ok(written)
    }

    /// Refuses an image that is not what was left behind.
    fn compare<T: ReadAt>(&self, file: &crate::RegionFile, target: &T) -> Result<(), UndoError> {
        let Some(left) = &self.left else { return Err(UndoError::Unfinished(self.path.clone())) };
        for (offset, sum) in left {
            let same = match read_page(target, *offset) {
                Ok(bytes) => crc32fast::hash(&bytes) == *sum || bytes == self.before(file, *offset)?,
                Err(_) => false,
            };
            if !same {
                return Err(UndoError::Changed { offset: *offset });
            }
        }
        Ok(())
    }

    /// Refuses an image that has nothing in common with the one that the file is of. Pages of zeros are alike everywhere,
    /// and count only where there are no others.
    fn require_related<T: ReadAt>(
        &self,
        file: &crate::RegionFile,
        left: &BTreeMap<u64, u32>,
        target: &T,
    ) -> Result<(), UndoError> {
        let mut blank = true;
        for offset in self.pages.keys() {
            let before = self.before(file, *offset)?;
            let now = read_page(target, *offset).ok();
            let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            let is_left = |now: &[u8]| left.get(offset) == Some(&crc32fast::hash(now));
            let known = now.as_deref().is_some_and(|now| now == before || is_left(now));
            match now {
                Some(now) if is_zero(&now) => {}
                _ if known => return Ok(()),
                _ => blank = false,
            }
        }
        if blank { Ok(()) } else { Err(UndoError::Unrelated) }
    }

    /// A page as it was before the first write.
    fn before(&self, file: &crate::RegionFile, offset: u64) -> Result<Vec<u8>, UndoError> {
        let Some((place, length)) = self.pages.get(&offset) else { return Ok(Vec::new()) };
        let mut bytes = vec![0; *length as usize];
        file.read_at(*place, &mut bytes)?;
        Ok(bytes)
    }
}

/// Reads an undo file from its start; nothing that it says decides how much memory is taken.
struct Reader<'a> {
    inner: BufReader<File>,
    at: u64,
    size: u64,
    path: &'a Path,
}

impl Reader<'_> {
    fn damaged(&self, at: u64) -> UndoError {
        UndoError::Damaged { path: self.path.to_owned(), at }
    }

    /// So many bytes, or `None` if the file ends before.
    fn take_vec(&mut self, len: usize) -> Result<Option<Vec<u8>>, UndoError> {
        if self.size - self.at < len as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        let read = self.inner.read_exact(&mut bytes);
        read.map_err(|source| UndoError::File { path: self.path.to_owned(), source })?;
        self.at += len as u64;
        Ok(Some(bytes))
    }

    fn take<const N: usize>(&mut self) -> Result<Option<[u8; N]>, UndoError> {
        Ok(self.take_vec(N)?.and_then(|bytes| bytes.try_into().ok()))
    }

    /// The table behind the end mark; `None` if the file is cut within it, as a full disk leaves it.
    fn end(&mut self, pages: u64) -> Result<Option<BTreeMap<u64, u32>>, UndoError> {
        let start = self.at;
        let cut = |reader: &Self| reader.damaged(start);
        let Some(count) = self.take::<8>()? else { return Ok(None) };
        let length = pages.saturating_mul(12).saturating_add(4);
        if long(&count) != pages || self.size - self.at > length {
            return Err(cut(self));
        }
        if self.size - self.at < length {
            return Ok(None);
        }
        let mut sum = crc32fast::Hasher::new();
        sum.update(&END.to_le_bytes());
        sum.update(&count);
        let mut left = BTreeMap::new();
        for _ in 0..pages {
            let entry: [u8; 12] = self.take()?.ok_or_else(|| cut(self))?;
            sum.update(&entry);
            left.insert(long(&entry[..8]), word(&entry[8..]));
        }
        let recorded: [u8; 4] = self.take()?.ok_or_else(|| cut(self))?;
        if word(&recorded) != sum.finalize() {
            return Err(cut(self));
        }
        Ok(Some(left))
    }
}

/// Four bytes as a number.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Eight bytes as a number.
fn long(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
