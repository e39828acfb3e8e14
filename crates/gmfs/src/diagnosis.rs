//! What is there where a native region was expected, and no superblock of it can be used.

use gmfs_format::Layout;
use gmfs_image::foreign;
use gmfs_io::{ReadAt, Span};
use gmfs_volume::{OpenError, Superblocks, rebuild};

use crate::lacking::Lacking;
use crate::open::Located;
use crate::store::other_layout;

/// What is there instead of a usable superblock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Diagnosis {
    /// A store of another layout.
    OtherLayout(Layout),
    /// The rest of the region, so that a repair can rebuild its superblocks.
    Rebuildable,
    /// Pages of a region of this many bytes, of which another part of the image is.
    Elsewhere {
        /// Bytes of that region.
        size: u64,
    },
    /// Something else.
    Holds {
        /// What it is usually called.
        name: &'static str,
        /// Where its signature is in the image, in bytes.
        at: u64,
    },
    /// Nothing, because the dump does not hold all of this memory.
    Lacking(Box<Lacking>),
    /// Nothing that is known.
    Nothing,
}

impl Located {
    /// Finds out why [`superblocks`](Self::superblocks) found none: call it after [`OpenError::NoRegion`]. It reads more than
    /// opening does.
    #[must_use]
    pub fn diagnose(&self) -> Diagnosis {
        if let Some(layout) = self.layout_if_other() {
            return Diagnosis::OtherLayout(layout);
        }
        if rebuild::load_or_rebuild(&self.source).is_ok() {
            return Diagnosis::Rebuildable;
        }
        if let Some((geometry, _)) = rebuild::layout(&self.source) {
            return Diagnosis::Elsewhere { size: geometry.size() };
        }
        match &self.dump {
            None => foreign::identify(&self.source).map_or(Diagnosis::Nothing, |found| {
                let at = self.place.base.saturating_add(found.offset);
                Diagnosis::Holds { name: found.name, at }
            }),
            Some(dump) => self.absent_superblock().map_or(Diagnosis::Nothing, |(_, why)| {
                let range = Span::new(self.place.base, self.source.size());
                Diagnosis::Lacking(Box::new(Lacking::partly(self.place.kind, dump, range, why)))
            }),
        }
    }

    /// Whether it is a store that is not native. A native region that was made over another store counts.
    #[must_use]
    pub fn is_other(&self) -> bool {
        let no_region = |source| matches!(Superblocks::load(source), Err(OpenError::NoRegion { .. }));
        self.guestmemfs.is_some()
            || self.handover.is_some()
            || no_region(&self.source) && self.layout_if_other().is_some()
    }
}

/// The layout of what starts at the beginning of `source`, if it is not native. A native region that was made over another store
/// counts, also if it is damaged.
#[must_use]
pub fn layout_instead<S: ReadAt + ?Sized>(source: &S) -> Option<Layout> {
    other_layout(source).filter(|_| Superblocks::load(source).is_err())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::{ImageSpec, testing};

    #[test]
    fn what_is_left_of_a_region_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let image = testing::region(dir.path());
        let located = || ImageSpec::from(image.as_path()).locate(None, &()).unwrap();
        let write = |at: u64, bytes: &[u8]| {
            std::fs::File::options().write(true).open(&image).unwrap().write_all_at(bytes, at).unwrap();
        };
        let last = {
            let geometry = located().superblocks().unwrap().geometry();
            let copy = gmfs_format::native::units::CopyId::B;
            geometry.page_offset(copy, gmfs_format::native::units::PageNo(0))
        };
        for at in [0, last] {
            write(at, &[0; 4096]);
        }
        assert!(matches!(located().diagnose(), Diagnosis::Rebuildable));
        assert!(!located().is_other());
        let size = 32 << 20;
        write(0, &vec![0; size]);
        assert!(matches!(located().diagnose(), Diagnosis::Nothing));
        write(0, b"XFSB");
        assert!(matches!(located().diagnose(), Diagnosis::Holds { name, at: 0 } if name.contains("XFS")));
    }
}
