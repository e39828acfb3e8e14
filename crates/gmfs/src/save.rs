//! Saving a store: all of its bytes, out of any image into a region file.
//!
//! ```
//! use gmfs::new_file::NewFile;
//! use gmfs::{ImageSpec, save};
//! # fn example(image: &std::path::Path, target: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let located = ImageSpec::from(image).locate(None, &())?;
//! let size = located.store_size()?;
//! let store = located.cut(size);
//! let new = NewFile::begin(target, false, [image])?;
//! let copied = save::into(&store, new.file(), &())?;
//! new.keep()?;
//! for gap in copied.gaps.iter() {
//!     println!("{} is a hole: {}", gap.span, gap.why);
//! }
//! # Ok(())
//! # }
//! ```

mod elf;

use std::fs::File;

use gmfs_format::native::tables::BlockState;
use gmfs_io::{ReadAt, Span};
use gmfs_volume::{OpenError, Region};

use crate::content::{Gap, Gaps, known_gaps};
use crate::copy::{self, Copied, CopyError, Progress};
use crate::open::Located;

pub use elf::{handover, planned as handover_planned};

impl Located {
    /// How many bytes the store has: what its superblock says, or what is rebuilt where both superblocks are lost; in a
    /// layout that does not record it, all of the image.
    ///
    /// # Errors
    /// There is no store, as far as its superblocks show.
    pub fn store_size(&self) -> Result<u64, OpenError> {
        // The range of a store of another layout is known already.
        match self.layout_if_other() {
            Some(_) => Ok(self.source.end().unwrap_or_else(|| self.source.size())),
            None => Ok(self.superblocks_or_rebuilt()?.geometry().size()),
        }
    }

    /// The first `size` bytes of it.
    #[must_use]
    pub fn cut(self, size: u64) -> Self {
        let Self { place, source, dump, lock, guestmemfs, handover } = self;
        let source = gmfs_io::Window::new(source.into_inner(), place.base, size);
        Self { place, source, dump, lock, guestmemfs, handover }
    }
}

/// Copies all of a part of an image into `file`, which is new and empty. Holes stay holes, and what the image does not
/// hold becomes a hole too, and a gap of the result.
///
/// # Errors
/// [`CopyError`]. Bytes that cannot be read are gaps; they are no error.
pub fn into(located: &Located, file: &File, progress: &dyn Progress) -> Result<Copied, CopyError> {
    copy::all(&located.source, located.source.size(), file, progress)
}

/// The gaps that a copy is known to get, without reading any content.
#[must_use]
pub fn known(located: &Located) -> Gaps {
    let len = located.source.size();
    let whole = gmfs_format::model::Piece::Data { file: Span::new(0, len), at: 0, bad: false };
    known_gaps(&located.source, &[whole])
}

/// Those parts of gaps that lie in blocks that may hold guest memory: in all but free ones. The gaps are of a native region.
#[must_use]
pub fn in_use<S: ReadAt>(gaps: &Gaps, region: &Region<S>) -> Gaps {
    let (geometry, mut kept, mut rest) = (region.geometry(), Gaps::default(), gaps.iter().peekable());
    if rest.peek().is_none() {
        return kept;
    }
    region.descriptors(|block, entry| {
        let start = geometry.block_offset(block);
        let end = start.saturating_add(geometry.block_bytes());
        if entry.state() == Some(BlockState::Free) {
            return;
        }
        while rest.next_if(|gap| gap.span.end() <= start).is_some() {}
        let mut ahead = rest.clone();
        while let Some(gap) = ahead.next_if(|gap| gap.span.offset < end) {
            let from = gap.span.offset.max(start);
            let span = Span::new(from, gap.span.end().min(end).saturating_sub(from));
            kept.add(Gap { span, at: Some(from), why: gap.why });
        }
    });
    kept
}
