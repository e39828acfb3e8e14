//! Blocks with hardware errors.

use std::ops::Range;

use gmfs_format::native::units::BlockNo;
use gmfs_io::WriteAt;

use crate::change::{Assign, Change};
use crate::writer::{ChangeError, Writer};

impl<S: WriteAt> Writer<S> {
    /// Marks data blocks as having hardware errors, in one commit. Blocks that belong to a file still do, so that the
    /// damage can be reported for the file. Marked blocks are not allocated.
    ///
    /// # Errors
    /// [`ChangeError::NotData`] if a block is not a data block; then nothing has changed.
    pub fn add_bad(&mut self, blocks: &[Range<u32>]) -> Result<(), ChangeError> {
        self.assign_runs(blocks, Assign::Bad)?;
        for run in blocks {
            self.blocks.take(run.clone());
            self.watched.forget(run);
        }
        Ok(())
    }

    /// Removes the mark, in one commit. A block of a file becomes its data again. A block that belongs to no file
    /// becomes reserved, because its content is unknown. Blocks without the mark are not changed.
    ///
    /// # Errors
    /// [`ChangeError::NotData`]; then nothing has changed.
    pub fn remove_bad(&mut self, blocks: &[Range<u32>]) -> Result<(), ChangeError> {
        self.assign_runs(blocks, Assign::Healed)
    }

    fn assign_runs(&mut self, blocks: &[Range<u32>], to: Assign) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let geometry = self.superblock().geometry();
        let mut change = Change::default();
        for run in blocks {
            let outside = run.clone().map(BlockNo).find(|block| !geometry.is_data(*block));
            if let Some(block) = outside {
                return Err(ChangeError::NotData(block));
            }
            change.assign(run.clone(), to);
        }
        self.commit(&change, now)
    }
}
