//! Blocks with hardware errors.

use std::ops::Range;

use gmfs_format::native::units::BlockNo;
use gmfs_io::WriteAt;

use crate::change::{Assign, Change};
use crate::writer::{ChangeError, Writer};

impl<S: WriteAt> Writer<S> {
    /// Marks data blocks as having hardware errors, in one commit. A block that is a file's keeps its place there, so
    /// that whoever owns it can be told; no block that is marked is given out.
    ///
    /// # Errors
    /// [`ChangeError::NotData`] for a block that is no data block; then nothing has changed.
    pub fn add_bad(&mut self, blocks: &[Range<u32>]) -> Result<(), ChangeError> {
        self.assign_runs(blocks, Assign::Bad)?;
        for run in blocks {
            self.blocks.take(run.clone());
            self.watched.forget(run);
        }
        Ok(())
    }

    /// Takes the mark back, in one commit. A file's block is its data again; one that is nobody's becomes reserved, for
    /// nobody knows what it holds. Blocks without the mark stay as they are.
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
