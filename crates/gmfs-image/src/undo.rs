//! Undoes writes: what a write overwrites is saved to a file before the write.
//!
//! The file holds each 4 KiB page once, as it was before the first write to it. The table at its end has a checksum of
//! each page after the last write. With the table, [`Undo::revert`] checks before it writes anything that the file
//! belongs to the image, and that the image has not been changed since. The table also has *witnesses*: pages with
//! content that were not written. They identify the image if the written pages have been changed since.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic `GMFSUND1` |
//! | 8 | length of the image before the writes; 2⁶⁴-1 if it is not known |
//! | 4 | CRC-32 of these 16 bytes |
//! | 8 + 4 + 4 + n | per page: offset, length n, CRC-32 of the page's bytes and of offset and length, the bytes |
//! | 8 + 8 | end: 2⁶⁴-1, number of entries |
//! | 8 + 4 | per entry, ascending: offset of a page plus its kind, CRC-32 of the page |
//! | 4 | CRC-32 of everything from the end mark on |
//!
//! Kind 0 is a recorded page after the last write to it. Kind 1 is a witness. Kind 2 is a recorded page in an unknown
//! state (with CRC 0), because a write to it failed and it could not be read afterwards. Each recorded page has exactly
//! one entry of kind 0 or 2. Every page has 4 KiB, except the last one of an image whose length is known. All numbers
//! are little-endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

const MAGIC: [u8; 8] = *b"GMFSUND1";
const PAGE: u64 = 4096;
const END: u64 = u64::MAX;
/// The kind of an entry for a page with content that was not written.
const WITNESS: u64 = 1;
/// The kind of an entry for a recorded page in an unknown state.
const UNKNOWN: u64 = 2;
/// How many bytes are recorded at once, so that memory does not grow with the size of a write.
const BATCH: u64 = 256 * PAGE;
/// How many equal parts an image is divided into to find witnesses.
const PARTS: u64 = 32;
/// The maximum number of witnesses: those of the equal parts, and those at a half, a quarter, an eighth … of the image.
const MOST_WITNESSES: u64 = PARTS + 64;

/// Why writes cannot be undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UndoError {
    /// The undo file could not be created, read or written.
    #[error("cannot use the undo file {}", path.display())]
    File {
        /// The undo file.
        path: PathBuf,
        /// The error that the system returned.
        source: io::Error,
    },
    /// The file is not an undo file.
    #[error("{} is not an undo file", .0.display())]
    NotUndo(PathBuf),
    /// The file is damaged.
    #[error("the undo file {} is damaged at byte {at}: nothing is undone", path.display())]
    Damaged {
        /// The undo file.
        path: PathBuf,
        /// The offset of the damage in the file.
        at: u64,
    },
    /// The program that wrote the file was stopped, or the file was cut.
    #[error(
        "the undo file {} is incomplete: it was cut, or the program that wrote it was stopped",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// The image is not in the state after the last write.
    #[error(
        "the image has changed at {offset:#x} since the undo file was written, or is another image: nothing is undone"
    )]
    Changed {
        /// The offset of the first difference in the image.
        offset: u64,
    },
    /// The length of the image differs from that of the recorded one.
    #[error("the image has {now} bytes, but the undo file is for an image of {then} bytes: nothing is undone")]
    Length {
        /// The length of the image in bytes.
        now: u64,
        /// The length of the recorded image in bytes, before the writes.
        then: u64,
    },
    /// No page of the image matches the undo file.
    #[error("no page of the image matches the undo file: it is another image, and nothing is undone")]
    Unrelated,
    /// The undo file changed while it was used.
    #[error("the undo file {} has changed while it was read", .0.display())]
    Unsteady(PathBuf),
    /// The image could not be read.
    #[error("cannot read the image")]
    Read(#[from] ReadError),
    /// The image could not be written.
    #[error("cannot write the image")]
    Write(#[from] WriteError),
}

/// A target that records what is overwritten before each write.
pub struct Recorded<T> {
    target: T,
    file: File,
    path: PathBuf,
    /// The length of the file up to its last complete record.
    length: u64,
    /// Whether a page could not be recorded. After that, all writes fail.
    failed: bool,
    /// The recorded pages, with their checksums after the last write; `None` if that state is unknown.
    pages: BTreeMap<u64, Option<u32>>,
    /// Pages with content at the beginning, and their checksums.
    witnesses: BTreeMap<u64, u32>,
}

impl<T: WriteAt> Recorded<T> {
    /// Records what is overwritten in `target` to a new file at `path`.
    ///
    /// # Errors
    /// [`UndoError::File`], for example if the file exists.
    pub fn new(target: T, path: &Path) -> Result<Self, UndoError> {
        let failed = |source| UndoError::File { path: path.to_owned(), source };
        // Only the owner may read the file, because the recorded pages may be guest memory.
        let private = File::options().write(true).create_new(true).mode(0o600).open(path);
        let mut file = private.map_err(failed)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&target.end().unwrap_or(u64::MAX).to_le_bytes());
        let sum = crc32fast::hash(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        file.write_all(&head).and_then(|()| file.sync_data()).map_err(failed).inspect_err(|_| {
            // The file was created here and is empty.
            let _ = std::fs::remove_file(path);
        })?;
        let length = head.len() as u64;
        let witnesses = witnesses(&target);
        Ok(Self { target, file, path: path.to_owned(), length, failed: false, pages: BTreeMap::new(), witnesses })
    }

    /// Ends the record. Returns the target, and the number of recorded pages. A file without pages is removed.
    ///
    /// # Errors
    /// [`UndoError::File`].
    pub fn finish(mut self) -> Result<(T, u64), UndoError> {
        if self.pages.is_empty() {
            // The file was created by this program, and there is nothing in it to undo.
            let _ = std::fs::remove_file(&self.path);
            return Ok((self.target, 0));
        }
        let mut tail = END.to_le_bytes().to_vec();
        self.witnesses.retain(|offset, _| !self.pages.contains_key(offset));
        let pages = self.pages.iter().map(|(offset, left)| match left {
            Some(sum) => (*offset, *sum),
            None => (offset | UNKNOWN, 0),
        });
        let mut entries: Vec<(u64, u32)> =
            pages.chain(self.witnesses.iter().map(|(offset, sum)| (offset | WITNESS, *sum))).collect();
        entries.sort_unstable();
        tail.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        for (offset, sum) in entries {
            tail.extend_from_slice(&offset.to_le_bytes());
            tail.extend_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32fast::hash(&tail);
        tail.extend_from_slice(&sum.to_le_bytes());
        let written = self.file.write_all(&tail).and_then(|()| self.file.sync_all());
        written.map_err(|source| {
            // Cuts a partly written table off, so that the file looks like that of a program that was stopped. If this
            // fails too, the incomplete table is noticed on reading.
            let _ = self.file.set_len(self.length);
            UndoError::File { path: self.path.clone(), source }
        })?;
        Ok((self.target, self.pages.len() as u64))
    }

    /// Records those pages of a span that have not been recorded yet, and makes the record durable. If that fails, the
    /// file is cut after its last complete page, and all later writes to the target fail.
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
            recorded.push((offset, Some(crc32fast::hash(&bytes))));
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&batch).and_then(|()| self.file.sync_data()) {
            let error = failed(error);
            self.failed = true;
            // If this fails too, the file has no valid end, which is noticed on reading.
            let _ = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            return Err(error);
        }
        self.length += batch.len() as u64;
        self.pages.extend(recorded);
        Ok(())
    }

    /// Records a span, writes to it, and notes the new checksums of its pages. They are computed before the write, so
    /// that nothing has to be read afterwards.
    fn store(
        &mut self,
        span: Span,
        bytes: Option<&[u8]>,
        write: impl FnOnce(&mut T) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.record(span)?;
        let left = self.foresee(span, bytes).map_err(|error| WriteError { span, source: io::Error::other(error) })?;
        let done = write(&mut self.target);
        if done.is_ok() {
            self.pages.extend(left);
            return done;
        }
        // Part of the data may have been written.
        for offset in pages(span) {
            let found = read_page(&self.target, offset).ok();
            self.pages.insert(offset, found.map(|bytes| crc32fast::hash(&bytes)));
        }
        done
    }

    /// The checksums that the pages of a span will have after `bytes`, or zeros, have been written to it.
    fn foresee(&self, span: Span, bytes: Option<&[u8]>) -> Result<Vec<(u64, Option<u32>)>, ReadError> {
        let blank = crc32fast::hash(&[0; PAGE as usize]);
        let mut left = Vec::new();
        for offset in pages(span) {
            let (from, to) = (span.offset.max(offset), span.end().min(offset + PAGE));
            let new = bytes.and_then(|bytes| bytes.get((from - span.offset) as usize..(to - span.offset) as usize));
            let sum = match new {
                Some(new) if to - from == PAGE => crc32fast::hash(new),
                None if to - from == PAGE => blank,
                _ => {
                    let mut page = read_page(&self.target, offset)?;
                    if let Some(part) = page.get_mut((from - offset) as usize..(to - offset) as usize) {
                        match new {
                            Some(new) => part.copy_from_slice(new),
                            None => part.fill(0),
                        }
                    }
                    crc32fast::hash(&page)
                }
            };
            left.push((offset, Some(sum)));
        }
        Ok(left)
    }
}

/// Pages of an image with content: one in each of several parts of the image, the first of which are small.
fn witnesses<S: ReadAt>(source: &S) -> BTreeMap<u64, u32> {
    let mut found = BTreeMap::new();
    let Some(end) = source.end() else { return found };
    let even = (0..PARTS).map(|part| end / PARTS * part);
    let halves = (1..u64::BITS).map(|shift| end >> shift);
    let mut starts: Vec<u64> = even.chain(halves).map(|start| start / PAGE * PAGE).chain([end]).collect();
    starts.sort_unstable();
    starts.dedup();
    for part in starts.windows(2) {
        let &[start, stop] = part else { continue };
        found.extend(witness(source, start..stop));
    }
    found
}

/// A page in a range, if one is found that is not one repeated word.
fn witness<S: ReadAt>(source: &S, range: Range<u64>) -> Option<(u64, u32)> {
    let data = source.next_data(range.clone()).ok()??;
    let first = data.start.max(range.start).next_multiple_of(PAGE);
    // The first page of a range may be blank although later ones are not.
    let tries = [0, PAGE, 16 * PAGE, 256 * PAGE, 512 * PAGE].map(|further| first.saturating_add(further));
    let end = data.end.min(range.end);
    tries.into_iter().filter(|offset| offset.saturating_add(PAGE) <= end).find_map(|offset| {
        let bytes = read_page(source, offset).ok()?;
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let uniform = rest.chunks(8).all(|word| word == head);
        (!uniform).then(|| (offset, crc32fast::hash(&bytes)))
    })
}

/// The offsets of the pages that a span touches.
fn pages(span: Span) -> impl Iterator<Item = u64> {
    (span.offset / PAGE..span.end().div_ceil(PAGE)).map(|page| page * PAGE)
}

/// A page of the image. The last page of an image may be shorter.
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
        let mut at = offset;
        for part in bytes.chunks(BATCH as usize) {
            self.store(Span::new(at, part.len() as u64), Some(part), |target| target.write_at(at, part))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Holes are zero before and after, so they are not recorded.
    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        let failed = |error| WriteError { span, source: io::Error::other(error) };
        let mut at = span.offset;
        while let Some(data) = self.target.next_data(at..span.end()).map_err(failed)? {
            let start = data.start.max(at);
            // Each step ends at a page boundary, so that no page is recorded twice.
            let end = data.end.min((start / PAGE * PAGE).saturating_add(BATCH)).min(span.end());
            if start >= end {
                break;
            }
            let part = Span::new(start, end - start);
            self.store(part, None, |target| target.zero(part))?;
            at = end;
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        self.target.barrier()
    }

    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        self.target.reader()
    }
}

/// A page in an undo file: the offset of its bytes, how many there are, and their checksum.
#[derive(Clone, Copy, Debug)]
struct Record {
    place: u64,
    length: u32,
    sum: u32,
}

/// The table at the end of an undo file.
#[derive(Debug, Default)]
struct Table {
    /// The checksum of each recorded page after the last write; `None` if that state is unknown.
    left: BTreeMap<u64, Option<u32>>,
    /// The checksums of the witnesses.
    witnesses: BTreeMap<u64, u32>,
}

/// An image as it was before the writes: the present image, with the pages of an undo file in front of it.
pub struct Before<'u, T> {
    undo: &'u Undo,
    file: crate::RegionFile,
    target: T,
}

impl<T: ReadAt> ReadAt for Before<'_, T> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.target.read_at(offset, buf)?;
        let end = offset.saturating_add(buf.len() as u64);
        for (start, Record { place, length, .. }) in self.undo.pages.range(offset.saturating_sub(PAGE - 1)..end) {
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

/// An undo file that has been read and checked.
#[derive(Debug)]
pub struct Undo {
    path: PathBuf,
    file: File,
    /// The length of the image before the writes, if it was known.
    length: Option<u64>,
    /// The recorded pages, by their offset in the image.
    pages: BTreeMap<u64, Record>,
    /// `None` if the file is incomplete.
    table: Option<Table>,
}

/// Whether the file at `path` begins like an undo file. What it holds is not checked.
#[must_use]
pub fn is_undo_file(path: &Path) -> bool {
    crate::file::begins_with(path, MAGIC)
}

impl Undo {
    /// Reads and checks the whole file: every checksum, that each page is recorded once and is within the image, and
    /// that the table matches the recorded pages.
    ///
    /// # Errors
    /// The file is not an undo file, or it is damaged. An incomplete file is read as far as it goes;
    /// [`revert`](Self::revert) refuses it unless it is forced.
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
        let (mut pages, mut table) = (BTreeMap::new(), None);
        while let Some(offset) = reader.take::<8>()? {
            let offset = long(&offset);
            if offset == END {
                table = reader.end(&pages)?;
                break;
            }
            let Some(record) = reader.record(offset, length)? else { break };
            if pages.insert(offset, record).is_some() {
                return Err(reader.damaged(record.place));
            }
        }
        Ok(Self { path: path.to_owned(), file: reader.inner.into_inner(), length, pages, table })
    }

    /// The number of recorded pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether no page is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The recorded pages, in bytes of the image.
    pub fn pages(&self) -> impl Iterator<Item = Span> {
        self.pages.iter().map(|(offset, record)| Span::new(*offset, u64::from(record.length)))
    }

    /// `target` with all recorded pages put back in memory only.
    ///
    /// # Errors
    /// [`UndoError::File`].
    pub fn over<T: ReadAt>(&self, target: T) -> Result<Before<'_, T>, UndoError> {
        let failed = |source| UndoError::File { path: self.path.clone(), source };
        let file = crate::RegionFile::open(&self.path).map_err(|error| failed(io::Error::other(error)))?;
        Ok(Before { undo: self, file, target })
    }

    /// The length of the image before the writes, if it was known.
    #[must_use]
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Writes every recorded page back. Returns how many of them differed from their state before the writes. Before it
    /// writes anything, it checks that the image is in the state after the last recorded write. Pages may also be in
    /// their state before the first write, so that an undo that was stopped can be repeated.
    ///
    /// `force` skips this check; an incomplete file can only be undone with it. Even then, the image must be long
    /// enough. If the file is complete, it must also match the image in one of three ways: a recorded page is in its
    /// state before or after the writes; a witness is unchanged; or the file has no witness because the image had no
    /// content except the recorded pages, and this image has none either.
    ///
    /// # Errors
    /// [`UndoError::Unfinished`], [`UndoError::Changed`], [`UndoError::Length`], [`UndoError::Unrelated`]: nothing has
    /// been written. Other errors: the medium or the undo file failed.
    pub fn revert<T: WriteAt>(&self, target: &mut T, force: bool) -> Result<u64, UndoError> {
        self.check(target, force)?;
        let mut written = 0;
        for offset in self.pages.keys() {
            let bytes = self.before(*offset)?;
            if read_page(target, *offset).is_ok_and(|now| now == bytes) {
                continue;
            }
            written += 1;
            if bytes.iter().all(|byte| *byte == 0) {
                // A page of zeros becomes a hole again where that is possible.
                target.zero(Span::new(*offset, bytes.len() as u64))?;
            } else {
                target.write_at(*offset, &bytes)?;
            }
        }
        target.barrier()?;
        Ok(written)
    }

    /// The former length of an image that the recorded command shortened: every page that is missing now is recorded.
    /// An image that is extended to that length reads as zeros there, and these zeros are the state that the undo file
    /// has for these pages.
    pub fn cut_from<T: ReadAt>(&self, target: &T) -> Option<u64> {
        let (then, now) = (self.length?, target.end()?);
        let missing = Span::new(now, then.checked_sub(now).filter(|missing| *missing > 0)?);
        pages(missing).all(|page| self.pages.contains_key(&page)).then_some(then)
    }

    /// Fails if [`revert`](Self::revert) would refuse this target. It writes nothing.
    ///
    /// # Errors
    /// Those of [`revert`](Self::revert).
    pub fn check<T: ReadAt>(&self, target: &T, force: bool) -> Result<(), UndoError> {
        let last = self.pages.last_key_value().map_or(0, |(offset, record)| offset + u64::from(record.length));
        let then = self.length.unwrap_or(last).max(last);
        if let Some(now) = target.end().filter(|now| *now < then) {
            return Err(UndoError::Length { now, then });
        }
        match &self.table {
            Some(table) if force => self.require_related(table, target)?,
            // An incomplete file does not record the state of the image after the writes.
            None if force => {}
            _ => self.compare(target)?,
        }
        Ok(())
    }

    /// Refuses an image that is not in the state after the recorded writes.
    fn compare<T: ReadAt>(&self, target: &T) -> Result<(), UndoError> {
        let Some(table) = &self.table else { return Err(UndoError::Unfinished(self.path.clone())) };
        let mut known = false;
        for (offset, left) in &table.left {
            let Some(sum) = left else { continue };
            let same = match read_page(target, *offset) {
                Ok(bytes) => crc32fast::hash(&bytes) == *sum || bytes == self.before(*offset)?,
                Err(_) => false,
            };
            if !same {
                return Err(UndoError::Changed { offset: *offset });
            }
            known = true;
        }
        if known { Ok(()) } else { self.require_related(table, target) }
    }

    /// Refuses an image that does not match the undo file in any way. Pages of zeros are in every image, so they count
    /// only if there are no others.
    fn require_related<T: ReadAt>(&self, table: &Table, target: &T) -> Result<(), UndoError> {
        let mut blank = true;
        for offset in self.pages.keys() {
            let before = self.before(*offset)?;
            let now = read_page(target, *offset).ok();
            let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            let is_left = |now: &[u8]| table.left.get(offset) == Some(&Some(crc32fast::hash(now)));
            let known = now.as_deref().is_some_and(|now| now == before || is_left(now));
            match now {
                Some(now) if is_zero(&now) => {}
                _ if known => return Ok(()),
                _ => blank = false,
            }
        }
        let is_there =
            |(offset, sum): (&u64, &u32)| read_page(target, *offset).is_ok_and(|now| crc32fast::hash(&now) == *sum);
        let holds_nothing_else =
            || table.witnesses.is_empty() && witnesses(target).keys().all(|offset| self.pages.contains_key(offset));
        if blank || table.witnesses.iter().any(is_there) || holds_nothing_else() {
            Ok(())
        } else {
            Err(UndoError::Unrelated)
        }
    }

    /// A page as it was before the first write.
    fn before(&self, offset: u64) -> Result<Vec<u8>, UndoError> {
        let Some(record) = self.pages.get(&offset) else { return Ok(Vec::new()) };
        let mut bytes = vec![0; record.length as usize];
        let read = self.file.read_exact_at(&mut bytes, record.place);
        read.map_err(|source| UndoError::File { path: self.path.clone(), source })?;
        if record_sum(offset, &bytes) != record.sum {
            return Err(UndoError::Unsteady(self.path.clone()));
        }
        Ok(bytes)
    }
}

/// Reads an undo file from its start. No number in it decides how much memory is allocated.
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

    /// The next `len` bytes, or `None` if the file ends before.
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

    /// The record of a page, in an image of this length. Returns `None` if the file ends within the record.
    fn record(&mut self, offset: u64, image: Option<u64>) -> Result<Option<Record>, UndoError> {
        let start = self.at;
        let Some(head) = self.take::<8>()? else { return Ok(None) };
        let (length, sum) = (word(&head[..4]), word(&head[4..]));
        let end = offset.checked_add(u64::from(length));
        let whole = u64::from(length) == PAGE && end.is_some_and(|end| image.is_none_or(|image| end <= image));
        let last = (1..PAGE).contains(&u64::from(length)) && end.is_some() && end == image;
        if !offset.is_multiple_of(PAGE) || !(whole || last) {
            return Err(self.damaged(start));
        }
        let place = self.at;
        let Some(bytes) = self.take_vec(length as usize)? else { return Ok(None) };
        if record_sum(offset, &bytes) != sum {
            return Err(self.damaged(start));
        }
        Ok(Some(Record { place, length, sum }))
    }

    /// The table after the end mark. Returns `None` if the file is cut within it, as a full disk leaves it.
    fn end(&mut self, pages: &BTreeMap<u64, Record>) -> Result<Option<Table>, UndoError> {
        let start = self.at;
        let cut = |reader: &Self| reader.damaged(start);
        let Some(count) = self.take::<8>()? else { return Ok(None) };
        let (entries, recorded) = (long(&count), pages.len() as u64);
        let length = entries.saturating_mul(12).saturating_add(4);
        let plausible = recorded..=recorded.saturating_add(MOST_WITNESSES);
        if !plausible.contains(&entries) || self.size - self.at > length {
            return Err(cut(self));
        }
        if self.size - self.at < length {
            return Ok(None);
        }
        let mut sum = crc32fast::Hasher::new();
        sum.update(&END.to_le_bytes());
        sum.update(&count);
        let mut table = Table::default();
        let mut last = None;
        for _ in 0..entries {
            let entry: [u8; 12] = self.take()?.ok_or_else(|| cut(self))?;
            sum.update(&entry);
            let (key, of_page) = (long(&entry[..8]), word(&entry[8..]));
            let (offset, kind) = (key / PAGE * PAGE, key % PAGE);
            let is_recorded = pages.contains_key(&offset);
            match kind {
                0 if is_recorded => drop(table.left.insert(offset, Some(of_page))),
                UNKNOWN if is_recorded => drop(table.left.insert(offset, None)),
                WITNESS if !is_recorded => drop(table.witnesses.insert(offset, of_page)),
                _ => return Err(cut(self)),
            }
            if last.is_some_and(|last| last >= offset) {
                return Err(cut(self));
            }
            last = Some(offset);
        }
        let stored: [u8; 4] = self.take()?.ok_or_else(|| cut(self))?;
        if word(&stored) != sum.finalize() || table.left.len() != pages.len() {
            return Err(cut(self));
        }
        Ok(Some(table))
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
