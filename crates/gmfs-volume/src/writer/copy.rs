//! Copies files inside the region.

use gmfs_format::model::{Inode, Kind, Piece};
use gmfs_format::native::units::small;
use gmfs_io::WriteAt;

use crate::content::{self, ContentError};
use crate::writer::attributes::NewAttributes;
use crate::writer::create::CreateOptions;
use crate::writer::put::{Filling, PIECE};
use crate::writer::{ChangeError, Writer, shown};

/// How a file is copied.
#[derive(Clone, Copy)]
pub struct CopyOptions<'o> {
    /// Owner and group of a new file.
    pub owner: (u32, u32),
    /// Whether the copy gets the permission bits, owner, group and times of the file that is copied. Without it, a new file
    /// gets the permission bits only.
    pub preserve: bool,
    /// Whether the content of an existing file is replaced.
    pub replace: bool,
    /// Whether each GiB of the copy is at a multiple of 1 GiB. Holes get blocks then.
    pub align_1g: bool,
    /// Is told of each piece that was copied, with its length in bytes.
    pub progress: &'o dyn Fn(u64),
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { owner, preserve, replace, align_1g, .. } = self;
        f.debug_struct("CopyOptions")
            .field("owner", owner)
            .field("preserve", preserve)
            .field("replace", replace)
            .field("align_1g", align_1g)
            .finish_non_exhaustive()
    }
}

impl<S: WriteAt> Writer<S> {
    /// Copies the file at `from` to `to`, in one commit. Holes stay holes, and a copy of a doubtful file is doubtful. No seal
    /// is copied: a seal says what a block held when it was sealed, and nobody has compared that with what was copied.
    ///
    /// # Errors
    /// The paths, space, inodes, or content of which a part is lost or in a block with a hardware error; then nothing has
    /// changed.
    pub fn copy(&mut self, from: &[u8], to: &[u8], options: &CopyOptions<'_>) -> Result<u64, ChangeError> {
        let inode = self.at(from)?.clone();
        if inode.kind != Kind::File {
            return Err(ChangeError::IsDirectory(shown(from)));
        }
        if self.tree.resolve(to).is_some_and(|old| old.ino == inode.ino) {
            return Err(ChangeError::SameFile(shown(from), shown(to)));
        }
        let pieces = self.whole_content(from, &inode)?;
        let own = inode.attributes;
        let create = CreateOptions {
            size: inode.size,
            sparse: !options.align_1g,
            align_1g: options.align_1g,
            mode: own.map_or(0o600, |own| own.mode),
            owner: options.owner,
        };
        let kept = own.filter(|_| options.preserve).map(|own| NewAttributes {
            mode: Some(own.mode),
            uid: Some(own.uid),
            gid: Some(own.gid),
            accessed: Some(own.accessed),
            modified: Some(own.modified),
        });
        let mut begun = self.begin_content(to, &create, options.replace)?;
        begun.doubtful = inode.is_doubtful();
        // A piece of data begins with a block.
        let data = |piece: &Piece| matches!(piece, Piece::Data { .. }).then_some(piece.file().len);
        let blocks = |bytes| self.file_blocks(bytes);
        let needed = if options.align_1g {
            blocks(inode.size)?
        } else {
            pieces
                .iter()
                .filter_map(data)
                .try_fold(0_u32, |all, len| Ok::<_, ChangeError>(all.saturating_add(blocks(len)?)))?
        };
        let reserved = self.reserve_places(0, needed, options.align_1g, None)?.into();
        let mut filling = Filling { reserved, used: Vec::new(), sparse: false, size: 0 };
        let filled = self.fill_from(&pieces, &mut filling, options);
        self.end_content(to, begun, &filling, filled, kept.unwrap_or_default())
    }

    /// The pieces of a file of which every byte is known.
    fn whole_content(&self, path: &[u8], inode: &Inode) -> Result<Vec<Piece>, ChangeError> {
        let mapping = self.mapping(inode)?;
        let pieces = content::pieces(self.superblock().geometry(), inode, &mapping)?;
        for piece in &pieces {
            match piece {
                Piece::Lost { file } => return Err(ContentError::lost(inode, &mapping, *file).into()),
                Piece::Data { file, bad: true, .. } => {
                    return Err(ChangeError::HardwareError { path: shown(path), bytes: *file });
                }
                Piece::Data { .. } | Piece::Hole { .. } => {}
            }
        }
        Ok(pieces)
    }

    fn fill_from(
        &mut self,
        pieces: &[Piece],
        filling: &mut Filling,
        options: &CopyOptions<'_>,
    ) -> Result<(), ChangeError> {
        let mut buffer = vec![0; PIECE];
        for piece in pieces {
            let span = piece.file();
            let at = match piece {
                Piece::Data { at, .. } => Some(*at),
                _ if options.align_1g => None,
                _ => {
                    filling.size = span.end();
                    continue;
                }
            };
            let mut done = 0_u64;
            while let Some(left) = span.len.checked_sub(done).filter(|left| *left > 0) {
                let part = buffer.get_mut(..small(left).min(PIECE)).unwrap_or_default();
                match at {
                    Some(at) => self.store.source().read_at(at.saturating_add(done), part)?,
                    None => part.fill(0),
                }
                let length = gmfs_format::native::units::len64(part.len());
                self.fill_piece(part, filling)?;
                filling.size = filling.size.saturating_add(length);
                done = done.saturating_add(length);
                (options.progress)(length);
            }
        }
        self.end_block(filling, self.superblock().geometry().block_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FormatOptions, PutOptions, Region, SealOptions, Stamp, WriterOptions};
    use gmfs_format::native::geometry::Geometry;
    use gmfs_format::native::units::PmdShift;
    use gmfs_io::ReadAt as _;

    const BLOCK: usize = 2 << 20;

    fn create() -> CreateOptions {
        CreateOptions { size: 0, sparse: true, align_1g: false, mode: 0o640, owner: (7, 8) }
    }

    fn options() -> CopyOptions<'static> {
        CopyOptions { owner: (1, 2), preserve: false, replace: false, align_1g: false, progress: &|_| {} }
    }

    /// A block of data, a hole, and three bytes.
    fn content() -> Vec<u8> {
        let mut content = vec![0; 2 * BLOCK];
        content[..BLOCK].fill(5);
        content.extend_from_slice(b"end");
        content
    }

    /// A region with the file `/a`.
    fn writer() -> Writer<Vec<u8>> {
        let geometry = Geometry::plan(32 << 20, PmdShift::M2, 64).unwrap();
        let stamp = Stamp { now: 1, writer: "test".to_owned() };
        let (uuid, label) = (uuid::Uuid::from_u128(1), String::new());
        let format =
            FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
        // What was there before must not be seen in a copy.
        let mut bytes = vec![0xee; 32 << 20];
        crate::format(&mut bytes, &format).unwrap();
        let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 77 };
        let (mut writer, _) = Writer::open(bytes, options).unwrap();
        let put = PutOptions { create: create(), replace: false };
        writer.put(b"/a", &mut content().as_slice(), &put).unwrap();
        writer
    }

    fn read(region: &Region<Vec<u8>>, path: &[u8]) -> (Inode, Vec<u8>, Vec<Piece>) {
        let inode = region.inodes().tree.resolve(path).unwrap().clone();
        let pieces = region.content(&inode).unwrap();
        let mut bytes = vec![0; usize::try_from(inode.size).unwrap()];
        for piece in &pieces {
            if let Piece::Data { file, at, .. } = piece {
                let (from, to) = (usize::try_from(file.offset).unwrap(), usize::try_from(file.end()).unwrap());
                region.source().read_at(*at, &mut bytes[from..to]).unwrap();
            }
        }
        (inode, bytes, pieces)
    }

    #[test]
    fn a_copy_has_the_content_and_blocks_of_its_own() {
        let mut writer = writer();
        let commits = writer.superblock().raw.write_count.get();
        assert_eq!(writer.copy(b"/a", b"/b", &options()).unwrap(), gmfs_format::native::units::len64(content().len()));
        writer.copy(b"/a", b"/c", &CopyOptions { preserve: true, align_1g: false, ..options() }).unwrap();
        assert_eq!(writer.superblock().raw.write_count.get(), commits + 2);
        let region = Region::open(writer.close().unwrap()).unwrap();
        let (a, _, of_a) = read(&region, b"/a");
        for (path, uid) in [(&b"/b"[..], 1), (b"/c", 7)] {
            let (copy, bytes, pieces) = read(&region, path);
            assert!(bytes == content() && copy.blocks == 2, "{copy:?}");
            let kinds = |pieces: &[Piece]| {
                pieces.iter().map(|one| (one.file(), matches!(one, Piece::Hole { .. }))).collect::<Vec<_>>()
            };
            assert_eq!(kinds(&pieces), kinds(&of_a));
            let own = copy.attributes.unwrap();
            assert_eq!((own.mode, own.uid), (0o640, uid));
            assert_eq!(own.modified, if uid == 7 { a.attributes.unwrap().modified } else { 77 });
            // The rest of the last block is zero.
            let Some(Piece::Data { at, file, .. }) = pieces.last() else { panic!("{pieces:?}") };
            let rest = usize::try_from(at + file.len).unwrap();
            assert!(region.source()[rest..][..BLOCK - 3].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_copy_has_no_seal_and_the_doubt_of_its_file() {
        let mut writer = writer();
        let ino = writer.tree().resolve(b"/a").unwrap().ino;
        let seals = writer.seals().files[&ino].clone();
        let seal = SealOptions { zero: false, threads: 1, progress: &|_| {}, go_on: &|| true };
        writer.seal(ino, &seals, &seal).unwrap();
        writer.copy(b"/a", b"/b", &options()).unwrap();
        let copy = writer.tree().resolve(b"/b").unwrap().ino;
        let seals = writer.seals();
        assert_eq!((seals.files[&ino].sealed, seals.files[&copy].sealed), (2, 0));
        // By way of the record: only a repair flags files.
        let mut raw = writer.inode_raw(ino).unwrap();
        raw.flags = gmfs_format::native::tables::INODE_DOUBTFUL.into();
        let mut change = crate::change::Change::default();
        change.set_inode(ino, raw);
        writer.commit(&change, 78).unwrap();
        writer.copy(b"/a", b"/c", &options()).unwrap();
        assert!(writer.tree().resolve(b"/c").unwrap().is_doubtful());
        assert!(!writer.tree().resolve(b"/b").unwrap().is_doubtful());
    }

    #[test]
    fn what_cannot_be_copied_changes_nothing() {
        let mut writer = writer();
        let (free, commits) = (writer.free_blocks(), writer.superblock().raw.write_count.get());
        writer.mkdir(b"/d", false, 0o700, (0, 0)).unwrap();
        let mut refused =
            |from: &[u8], to: &[u8], options: &CopyOptions<'_>| writer.copy(from, to, options).unwrap_err();
        assert!(matches!(refused(b"/a", b"/a", &options()), ChangeError::SameFile(..)));
        assert!(matches!(refused(b"/d", b"/e", &options()), ChangeError::IsDirectory(_)));
        assert!(matches!(refused(b"/a", b"/d", &options()), ChangeError::IsDirectory(_)));
        assert!(matches!(refused(b"/none", b"/e", &options()), ChangeError::NotFound(_)));
        let aligned = CopyOptions { align_1g: true, ..options() };
        let error = refused(b"/a", b"/e", &aligned);
        assert!(
            matches!(error, ChangeError::NoAlignedSpace { .. }) || error.to_string().contains("no space"),
            "{error}"
        );
        assert_eq!((writer.free_blocks(), writer.superblock().raw.write_count.get()), (free, commits + 1));
        writer.copy(b"/a", b"/b", &options()).unwrap();
        assert!(matches!(writer.copy(b"/a", b"/b", &options()), Err(ChangeError::Exists(_))));
        // What is replaced keeps its bits, and its blocks are free.
        let left = writer.free_blocks();
        writer.copy(b"/a", b"/b", &CopyOptions { replace: true, ..options() }).unwrap();
        assert_eq!(writer.free_blocks(), left);
    }
}
