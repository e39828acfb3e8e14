//! Content from outside into a file.

use std::io::Read;
use std::ops::Range;

use gmfs_format::io::{Span, WriteAt};
use gmfs_format::tables::{INODE_DOUBTFUL, INODE_LOST_DATA, InodeKind};
use gmfs_format::units::{BlockNo, InodeNo};

use crate::change::{Assign, Change};
use crate::writer::create::CreateOptions;
use crate::writer::{ChangeError, Writer, blocks_from, release_all, require_kind, shown};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// How content is put.
#[derive(Clone, Copy, Debug)]
pub struct PutOptions {
    /// What a new file is to be; its size is only what is expected.
    pub create: CreateOptions,
    /// Replace the content of a file that exists.
    pub replace: bool,
}

/// A file's content on its way into free blocks. Nothing of it is committed yet.
struct Filling {
    /// Blocks reserved and not yet used, lowest place first.
    reserved: std::collections::VecDeque<Range<u32>>,
    /// Blocks used, with their place in the file.
    used: Vec<(u32, u32)>,
    sparse: bool,
    size: u64,
}

impl<S: WriteAt> Writer<S> {
    /// Reads `content` to its end into a file at `path`: a new one, or, if allowed, in place of what is there. The new
    /// content lies in fresh blocks and becomes the file's in one commit; the old blocks are free behind it.
    ///
    /// # Errors
    /// The path, space, inodes, or `content`; then nothing has changed.
    pub fn put(&mut self, path: &[u8], content: &mut dyn Read, options: &PutOptions) -> Result<u64, ChangeError> {
        let now = self.begin()?;
        let old = self.tree.resolve(path).cloned();
        let (mut change, ino, mut raw) = match &old {
            None => self.new_entry(path, InodeKind::File, &options.create, now)?,
            Some(inode) if inode.kind != InodeKind::File => {
                return Err(ChangeError::IsDirectory(shown(path)));
            }
            Some(inode) if path.ends_with(b"/") => {
                require_kind(path, inode.kind)?;
                return Err(ChangeError::IsDirectory(shown(path)));
            }
            Some(_) if !options.replace => return Err(ChangeError::Exists(shown(path))),
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
        let mut filling = self.begin_filling(options)?;
        let filled = self.fill(content, &mut filling).and_then(|()| {
            raw.size = filling.size.into();
            raw.blocks = (filling.used.len() as u64).into();
            // Written anew, it is whole again.
            raw.flags = (raw.flags.get() & !(INODE_LOST_DATA | INODE_DOUBTFUL)).into();
            (raw.modified, raw.changed) = (now.into(), now.into());
            assign_used(&mut change, ino, &filling.used);
            change.set_inode(ino, raw);
            self.store.source_mut().barrier()?;
            // The content may have taken its time.
            self.require_unused(path, &freed)?;
            self.commit(&change, now)
        });
        self.give_back(&filling, filled.is_err());
        filled?;
        self.return_blocks(freed)?;
        Ok(filling.size)
    }

    /// Reserves what is expected, so that it lies in one piece if it can.
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
            let length = read_full(content, &mut piece).map_err(ChangeError::Content)?;
            if length == 0 {
                break;
            }
            self.fill_piece(&piece[..length], filling, block_bytes)?;
            filling.size += length as u64;
            if length < piece.len() {
                break;
            }
        }
        self.end_block(filling, block_bytes)
    }

    /// Puts one piece, which lies within one block, at the file's end.
    fn fill_piece(&mut self, piece: &[u8], filling: &mut Filling, block_bytes: u64) -> Result<(), ChangeError> {
        let index = u32::try_from(filling.size / block_bytes).map_err(|_| ChangeError::TooLarge(filling.size))?;
        let inside = filling.size % block_bytes;
        let zero = piece.iter().all(|byte| *byte == 0);
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
            return self.zero_part(block, inside, inside + piece.len() as u64);
        }
        let offset = self.superblock().geometry().block_offset(BlockNo(block)) + inside;
        self.store.source_mut().write_at(offset, piece)?;
        Ok(())
    }

    /// Zeroes what lies behind the content in its last block.
    fn end_block(&mut self, filling: &Filling, block_bytes: u64) -> Result<(), ChangeError> {
        match filling.used.last() {
            Some((index, block)) if (u64::from(*index) + 1) * block_bytes > filling.size => {
                self.zero_part(*block, filling.size - u64::from(*index) * block_bytes, block_bytes)
            }
            _ => Ok(()),
        }
    }

    fn zero_part(&mut self, block: u32, from: u64, to: u64) -> Result<(), ChangeError> {
        if from < to {
            let start = self.superblock().geometry().block_offset(BlockNo(block));
            self.store.source_mut().zero(Span::new(start + from, to - from))?;
        }
        Ok(())
    }

    /// The next block for the content: from what was reserved, else the lowest free one.
    fn next_block(&mut self, filling: &mut Filling) -> Result<u32, ChangeError> {
        if filling.reserved.is_empty() {
            let more = self.reserve_places(0, 1, false, None)?;
            filling.reserved.extend(more);
        }
        let no_space = ChangeError::NoSpace { needed: 1, free: 0 };
        let run = filling.reserved.front_mut().ok_or(no_space)?;
        let block = run.start;
        run.start += 1;
        if Range::is_empty(run) {
            filling.reserved.pop_front();
        }
        Ok(block)
    }

    /// Returns what was reserved and not used; and what was used too, if the change was not made.
    fn give_back(&mut self, filling: &Filling, failed: bool) {
        for run in &filling.reserved {
            self.blocks.release(run.clone());
        }
        for (_, block) in filling.used.iter().filter(|_| failed) {
            self.blocks.release(*block..*block + 1);
        }
    }
}

/// Adds the used blocks to a change, run by run.
fn assign_used(change: &mut Change, owner: InodeNo, used: &[(u32, u32)]) {
    for run in used.chunk_by(|a, b| a.0 + 1 == b.0 && a.1 + 1 == b.1) {
        if let (Some((index, first)), Some((_, last))) = (run.first(), run.last()) {
            change.assign(*first..last + 1, Assign::Data { owner, index: *index });
        }
    }
}

/// Reads until `buf` is full or the content ends.
fn read_full(content: &mut dyn Read, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buf.len() {
        match content.read(&mut buf[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
