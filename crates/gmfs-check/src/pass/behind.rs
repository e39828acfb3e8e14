//! Pages behind the marks that are in use: found, and kept apart, so that nothing they hold is taken for missing.

use std::ops::Range;

use gmfs_format::io::ReadAt;
use gmfs_format::seal::PageKind;
use gmfs_format::units::{CopyId, PageNo};
use gmfs_volume::Superblocks;
use gmfs_volume::behind::used_behind_marks;

use crate::pass::pages;
use crate::problem::Problem;
use crate::sink::Sink;

/// The pages behind the marks that are in use, by table.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// Pages of the block table.
    pub(crate) blocks: u64,
    /// Runs of pages of the inode table.
    pub(crate) inodes: Vec<Range<u32>>,
}

/// Finds and names them.
pub(crate) fn check<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, sink: &mut Sink) -> Behind {
    let mut behind = Behind::default();
    for run in used_behind_marks(source, superblocks) {
        let raw = &superblocks.current().raw;
        let table = superblocks.geometry().page_kind(PageNo(run.start)) == Some(PageKind::BlockTable);
        let mark = if table { raw.table_used.get() } else { raw.inodes_used_pages.get() };
        for page in run.clone().map(PageNo) {
            let at = pages::place(superblocks, CopyId::A, page);
            sink.add(Problem::PagesBehindMark { mark }, pages::subject(superblocks, page, None), at);
        }
        if table {
            behind.blocks += run.len() as u64;
        } else {
            behind.inodes.push(run);
        }
    }
    behind
}
