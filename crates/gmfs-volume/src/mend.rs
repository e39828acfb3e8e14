//! Rewrites pages of one copy from the other copy. In a long run of pages, other threads read and check the pages that
//! come next while the calling thread writes. It writes them in order, so the writes and their order are the same as
//! with a single thread.

use std::ops::Range;

use gmfs_format::native::seal;
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, to_usize};
use gmfs_io::in_order::jobs_in_order;
use gmfs_io::{ReadAt, WriteAt};

use crate::superblocks::{OpenError, Superblocks};
use crate::sweep::read_batch;
use crate::unite::{finish, half_united};

/// How many pages are rewritten at once.
const BATCH: u32 = 64;
/// How many threads read ahead of the one that writes.
const READERS: usize = 2;

/// Rewrites consecutive table pages of one copy from the other one, whose seals must be good. The pages keep their
/// generations, so they become exactly what they were. They are durable after the next barrier.
///
/// # Errors
/// A page of the other copy is not good, or the medium failed. Earlier pages may have been written.
pub fn mend_pages<S: WriteAt>(
    target: &mut S,
    superblocks: &Superblocks,
    first: PageNo,
    count: u32,
    copy: CopyId,
) -> Result<(), OpenError> {
    let mender = Mender { superblocks, copy, share: seal::copy_share() };
    let pages = first.0..first.0.saturating_add(count);
    // A single batch is not worth a thread.
    if count > BATCH
        && let Some(reader) = target.reader()
    {
        let read = |part, (batch, failed): &mut (Batch, Option<OpenError>)| {
            *failed = mender.read(&reader, part, batch).err();
        };
        let jobs = parts(pages).map(|part| (Some(part), ()));
        return jobs_in_order(jobs, READERS, read, |(), read| match read {
            Some((_, failed @ Some(_))) => failed.take().map_or(Ok(()), Err),
            Some((batch, None)) => mender.write(target, batch),
            None => Ok(()),
        });
    }
    let mut batch = Batch::default();
    for part in parts(pages) {
        mender.read(target, part, &mut batch)?;
        mender.write(target, &mut batch)?;
    }
    Ok(())
}

/// Splits a range into batches.
fn parts(pages: Range<u32>) -> impl Iterator<Item = Range<u32>> {
    let end = pages.end;
    pages.step_by(to_usize(BATCH)).map(move |start| start..start.saturating_add(BATCH).min(end))
}

/// Consecutive pages that have been checked and sealed for this copy, and are to be written.
#[derive(Debug, Default)]
struct Batch {
    first: u32,
    pages: Vec<PageBytes>,
    /// Pages whose two copies were being merged when a crash interrupted that. The merge is finished before the batch
    /// is written.
    united: Vec<HalfUnited>,
    /// The present content of the pages in copy B, if copy B is to be written.
    old: Vec<PageBytes>,
}

/// A page whose merge was interrupted, so that copy B records something that copy A does not.
#[derive(Debug)]
struct HalfUnited {
    /// Its index in the batch.
    at: usize,
    page: PageNo,
    bytes: Box<PageBytes>,
    /// The generations in copy A and in copy B.
    generations: [Generation; 2],
}

/// The region whose pages are rewritten, and the copy in which they are.
struct Mender<'a> {
    superblocks: &'a Superblocks,
    copy: CopyId,
    /// See [`seal::copy_share`].
    share: u32,
}

impl Mender<'_> {
    /// Reads pages of the other copy, checks them, and converts them to pages of this copy.
    fn read<R: ReadAt + ?Sized>(&self, source: &R, pages: Range<u32>, batch: &mut Batch) -> Result<(), OpenError> {
        let Self { superblocks, copy, share } = *self;
        batch.first = pages.start;
        batch.pages.resize(pages.len(), [0; PAGE_SIZE]);
        let offset = superblocks.geometry().page_offset(copy.other(), PageNo(pages.start));
        source.read_at(offset, batch.pages.as_flattened_mut())?;
        let now = match copy {
            // Merging starts in copy B, so a crash can have interrupted it only there.
            CopyId::A => Vec::new(),
            CopyId::B => {
                batch.old.resize(pages.len(), [0; PAGE_SIZE]);
                read_batch(source, superblocks, copy, PageNo(pages.start), &mut batch.old)
            }
        };
        batch.united.clear();
        for (at, (page, bytes)) in pages.map(PageNo).zip(&mut batch.pages).enumerate() {
            let from = superblocks.place(copy.other(), page);
            let good = from.and_then(|from| seal::check(bytes, &from).ok());
            let generation = good.ok_or(OpenError::Damaged { pages: 1, first: page })?;
            let half = now.get(at).zip(batch.old.get(at)).zip(superblocks.place(copy, page));
            match half.and_then(|((found, old), place)| half_united(&place, bytes, old, *found)) {
                Some((united, theirs)) => batch.united.push(HalfUnited {
                    at,
                    page,
                    bytes: Box::new(united),
                    generations: [generation, theirs],
                }),
                None => seal::turn(bytes, copy, share),
            }
        }
        Ok(())
    }

    /// Writes a batch. Interrupted merges in it are finished first.
    fn write<S: WriteAt>(&self, target: &mut S, batch: &mut Batch) -> Result<(), OpenError> {
        for HalfUnited { at, page, mut bytes, generations } in batch.united.drain(..) {
            finish(target, self.superblocks, page, &mut bytes, generations)?;
            if let Some(place) = batch.pages.get_mut(at) {
                *place = *bytes;
            }
        }
        let offset = self.superblocks.geometry().page_offset(self.copy, PageNo(batch.first));
        target.write_at(offset, batch.pages.as_flattened())?;
        Ok(())
    }
}
