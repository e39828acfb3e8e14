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

use std::fs::File;

use gmfs_io::ReadAt as _;
use gmfs_volume::OpenError;

use crate::content::{Gaps, known_gaps};
use crate::copy::{self, Copied, CopyError, Progress};
use crate::open::Located;

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
    let whole = gmfs_format::model::Piece::Data { file: gmfs_io::Span::new(0, len), at: 0, bad: false };
    known_gaps(&located.source, &[whole])
}
