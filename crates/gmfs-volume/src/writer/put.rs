//! Writes content from outside to files.

use gmfs_format::model::Kind;
use std::io::Read;
use std::ops::Range;

use gmfs_format::native::raw::InodeRaw;
use gmfs_format::native::tables::{INODE_DOUBTFUL, INODE_LOST_DATA, InodeKind};
use gmfs_format::native::units::{BlockNo, InodeNo, follows, len64};
use gmfs_io::{Span, WriteAt};

use crate::alloc::single;
use crate::change::{Assign, Change};
use crate::writer::attributes::NewAttributes;
use crate::writer::create::CreateOptions;
use crate::writer::{ChangeError, Writer, blocks_from, release_all, require_kind, shown};

/// How many bytes are read at once.
pub(super) const PIECE: usize = 1 << 20;
/// A page of zeros.
static ZEROS: [u8; 4096] = [0; 4096];

/// How content is written.
#[derive(Clone, Copy, Debug)]
pub struct PutOptions {
    /// The properties of a new file. The size is only an estimate.
    pub create: CreateOptions,
    /// Whether the content of an existing file is replaced.
    pub replace: bool,
}

/// A file that gets other content.
pub(super) struct Begun {
    change: Change,
    ino: InodeNo,
    raw: InodeRaw,
    /// The blocks that it has until then.
    freed: Vec<Range<u32>>,
    now: u64,
    /// The new content is doubtful.
    pub(super) doubtful: bool,
}

/// A file's content that is being written to free blocks. Nothing of it is committed yet.
pub(super) struct Filling {
    /// Blocks that were taken out of the map of free blocks and are not used yet, in file order.
    pub(super) reserved: std::collections::VecDeque<Range<u32>>,
    /// Blocks in use, each with its file block first.
    pub(super) used: Vec<(u32, u32)>,
    pub(super) sparse: bool,
    pub(super) size: u64,
}

impl<S: WriteAt> Writer<S> {
    /// Reads `content` to its end into a file at `path`: a new one or, if allowed, an existing one, whose content is
    /// replaced. The new content is written to free blocks, which become the file's in one commit. The old blocks are
    /// free afterwards.
    ///
    /// # Errors
    /// The path cannot be used, there are too few free blocks or no free inode, or `content` cannot be read; then
    /// nothing has changed.
    pub fn put(&mut self, path: &[u8], content: &mut dyn Read, options: &PutOptions) -> Result<u64, ChangeError> {
        self.put_with(path, content, options, NewAttributes::default())
    }

    /// As [`put`](Self::put), and gives the file these attributes in the same commit.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_with(
        &mut self,
        path: &[u8],
        content: &mut dyn Read,
        options: &PutOptions,
        attributes: NewAttributes,
    ) -> Result<u64, ChangeError> {
        let begun = self.begin_content(path, &options.create, options.replace)?;
        let mut filling = self.begin_filling(options)?;
        let filled = self.fill(content, &mut filling);
        self.end_content(path, begun, &filling, filled, attributes)
    }

    /// The file whose content is to be written: a new one or, if allowed, an existing one, whose blocks will be free.
    pub(super) fn begin_content(
        &mut self,
        path: &[u8],
        create: &CreateOptions,
        replace: bool,
    ) -> Result<Begun, ChangeError> {
        let now = self.begin()?;
        let old = self.tree.resolve(path).cloned();
        let (mut change, ino, raw) = match &old {
            None => self.new_entry(path, InodeKind::File, create, now)?,
            Some(inode) if inode.kind != Kind::File => {
                return Err(ChangeError::IsDirectory(shown(path)));
            }
            Some(inode) if path.ends_with(b"/") => {
                require_kind(path, inode.kind)?;
                return Err(ChangeError::IsDirectory(shown(path)));
            }
            Some(_) if !replace => return Err(ChangeError::Exists(shown(path))),
            Some(inode) => {
                self.require_mutable(inode)?;
                (Change::default(), inode.ino, self.inode_raw(inode.ino)?)
            }
        };
        let freed = match &old {
            Some(inode) => blocks_from(&self.mapping(inode)?.extents, 0),
            None => Vec::new(),
        };
        self.require_unused(path, &freed)?;
        release_all(&mut change, &freed);
        Ok(Begun { change, ino, raw, freed, now, doubtful: false })
    }

    /// Makes what was filled the content of the file, in one commit, unless filling failed. Returns the size.
    pub(super) fn end_content(
        &mut self,
        path: &[u8],
        begun: Begun,
        filling: &Filling,
        filled: Result<(), ChangeError>,
        attributes: NewAttributes,
    ) -> Result<u64, ChangeError> {
        let Begun { mut change, ino, mut raw, freed, now, doubtful } = begun;
        let done = filled.and_then(|()| {
            raw.size = filling.size.into();
            raw.blocks = len64(filling.used.len()).into();
            // The content is new, so the file is complete again.
            let doubt = if doubtful { INODE_DOUBTFUL } else { 0 };
            raw.flags = ((raw.flags.get() & !(INODE_LOST_DATA | INODE_DOUBTFUL)) | doubt).into();
            (raw.modified, raw.changed) = (now.into(), now.into());
            attributes.put(&mut raw, now);
            assign_used(&mut change, ino, &filling.used);
            change.set_inode(ino, raw);
            self.store.source_mut().barrier()?;
            // Reading the content may have taken long, so the old blocks may be in use now.
            self.require_unused(path, &freed)?;
            self.commit(&change, now)
        });
        self.give_back(filling, done.is_err());
        done?;
        self.return_blocks(freed)?;
        Ok(filling.size)
    }

    /// Takes the estimated number of blocks out of the map, so that the content is contiguous if possible.
    fn begin_filling(&mut self, options: &PutOptions) -> Result<Filling, ChangeError> {
        let CreateOptions { size, sparse, align_1g, .. } = options.create;
        let expected = if sparse && !align_1g { 0 } else { self.file_blocks(size)? };
        let reserved = self.reserve_places(0, expected, align_1g, None)?.into();
        Ok(Filling { reserved, used: Vec::new(), sparse, size: 0 })
    }

    /// Reads to the end, block by block.
    fn fill(&mut self, content: &mut dyn Read, filling: &mut Filling) -> Result<(), ChangeError> {
        let block_bytes = self.superblock().geometry().block_bytes();
        let mut piece = vec![0; PIECE.min(usize::try_from(block_bytes).unwrap_or(PIECE))];
        loop {
            let wanted = piece.len();
            let read = read_full(content, &mut piece).map_err(ChangeError::Content)?;
            if read.is_empty() {
                break;
            }
            let end = filling.size.saturating_add(len64(read.len()));
            // Sparse content uses no blocks, so only this check keeps it below the maximum file size.
            self.file_blocks(end)?;
            self.fill_piece(read, filling)?;
            filling.size = end;
            if read.len() < wanted {
                break;
            }
        }
        self.end_block(filling, block_bytes)
    }

    /// Appends one piece, which is within one block, to the file.
    pub(super) fn fill_piece(&mut self, piece: &[u8], filling: &mut Filling) -> Result<(), ChangeError> {
        let geometry = self.superblock().geometry();
        let (index, inside) = geometry.pmd().split(filling.size);
        let index = u32::try_from(index).map_err(|_| ChangeError::TooLarge(filling.size))?;
        let zero = is_zero(piece);
        let block = match filling.used.last() {
            Some((last, block)) if *last == index => *block,
            _ if zero && filling.sparse => return Ok(()),
            _ => {
                let block = self.next_block(filling)?;
                filling.used.push((index, block));
                self.zero_part(block, 0, inside)?;
                block
            }
        };
        if zero {
            return self.zero_part(block, inside, inside.saturating_add(len64(piece.len())));
        }
        let offset = geometry.block_offset(BlockNo(block)).saturating_add(inside);
        self.store.source_mut().write_at(offset, piece)?;
        Ok(())
    }

    /// Zeroes the rest of the content's last block.
    pub(super) fn end_block(&mut self, filling: &Filling, block_bytes: u64) -> Result<(), ChangeError> {
        let Some((index, block)) = filling.used.last() else { return Ok(()) };
        // The last block in use starts before the content ends. A hole may follow it.
        let inside = filling.size.saturating_sub(u64::from(*index).saturating_mul(block_bytes));
        self.zero_part(*block, inside, block_bytes)
    }

    fn zero_part(&mut self, block: u32, from: u64, to: u64) -> Result<(), ChangeError> {
        if let Some(len) = to.checked_sub(from).filter(|len| *len > 0) {
            let start = self.superblock().geometry().block_offset(BlockNo(block)).saturating_add(from);
            self.store.source_mut().zero(Span::new(start, len))?;
        }
        Ok(())
    }

    /// The next block for the content: one that was taken out of the map before, or otherwise the lowest free one.
    fn next_block(&mut self, filling: &mut Filling) -> Result<u32, ChangeError> {
        if filling.reserved.is_empty() {
            let more = self.reserve_places(0, 1, false, None)?;
            filling.reserved.extend(more);
        }
        let no_space = ChangeError::NoSpace { needed: 1, free: 0 };
        let run = filling.reserved.front_mut();
        let block = run.and_then(Iterator::next).ok_or(no_space)?;
        if filling.reserved.front().is_some_and(Range::is_empty) {
            filling.reserved.pop_front();
        }
        Ok(block)
    }

    /// Puts blocks that were taken and not used back into the map. If the change was not made, the used ones are put
    /// back too.
    fn give_back(&mut self, filling: &Filling, failed: bool) {
        for run in &filling.reserved {
            self.blocks.release(run.clone());
        }
        for (_, block) in filling.used.iter().filter(|_| failed) {
            self.blocks.release(single(*block));
        }
    }
}

/// Adds the used blocks to a change, run by run.
fn assign_used(change: &mut Change, owner: InodeNo, used: &[(u32, u32)]) {
    for run in used.chunk_by(|a, b| follows(a.0, b.0) && follows(a.1, b.1)) {
        if let (Some((index, first)), Some((_, last))) = (run.first(), run.last()) {
            change.assign(*first..single(*last).end, Assign::Data { owner, index: *index });
        }
    }
}

/// Whether all bytes are zero. They are compared with a page of zeros, because comparing slices is many times as fast
/// as examining each byte.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|page| ZEROS.get(..page.len()) == Some(page))
}

/// Reads until `buf` is full or the content ends. Returns what was read.
fn read_full<'b>(content: &mut dyn Read, buf: &'b mut [u8]) -> std::io::Result<&'b [u8]> {
    let mut length = 0_usize;
    while let Some(rest) = buf.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match content.read(rest) {
            Ok(0) => break,
            Ok(n) => length = length.saturating_add(n),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // A reader must not report more bytes than there is room for.
    buf.get(..length).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
