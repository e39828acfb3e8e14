//! Runs the passes in order, and passes the results of each to the next ones.

use std::num::NonZeroUsize;
use std::sync::Arc;

use gmfs_format::native::copies::Phase;
use gmfs_io::{ReadAt, Span};
use gmfs_volume::census::Census;
use gmfs_volume::{Chosen, OpenError, Superblocks};

use crate::finding::{KEPT_PER_CODE, Reason, Report, Subject};
use crate::pass;
use crate::problem::{Mask, Problem, Text};
use crate::sink::Sink;
use crate::standings::PageStandings;

/// The options of a check.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Nanoseconds since the epoch. Times more than a day after this are in the future.
    pub now: u64,
    /// Threads for the pass over the block table, and for the one over contents.
    pub threads: NonZeroUsize,
    /// Whether the contents of blocks are compared with what is recorded about them. This reads all sealed data.
    pub data: bool,
    /// How many findings of each code are kept singly.
    pub keep: usize,
    /// The region to check, if pages of several are left.
    pub region: Option<Chosen>,
}

impl Options {
    /// One thread, no contents, the usual number of findings, and the only region that is there.
    #[must_use]
    pub const fn new(now: u64) -> Self {
        Self { now, threads: NonZeroUsize::MIN, data: false, keep: KEPT_PER_CODE, region: None }
    }
}

/// Checks the region that fills `source`. It only reads, and the result depends on nothing but the bytes and the
/// options.
///
/// `progress` is called from time to time with the number of bytes that have been checked, and their total. It may be
/// called from several threads.
///
/// # Errors
/// There is no region: no superblock can be used.
pub fn check<S: ReadAt + ?Sized>(
    source: &S,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, OpenError> {
    let mut superblocks = Superblocks::presume(source, options.region)?;
    let (mut report, census) = check_loaded(source, &superblocks, options, progress);
    // The first pass presumed that the superblocks are right. That saves a second pass in most cases.
    if !superblocks.confirm(source, census) {
        superblocks = Superblocks::decide(source, options.region)?;
        (report, _) = check_loaded(source, &superblocks, options, progress);
    }
    report.state = Some(Arc::new(superblocks));
    Ok(report)
}

/// Checks a region whose superblocks have been loaded.
fn check_loaded<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> (Report, Census) {
    let mut sink = Sink::new(options.keep);
    let interrupted = superblocks.phase() != Phase::Idle;
    let mut pages = PageStandings::default();
    pages.add(&superblocks.judgement());
    if let Err(contended) = superblocks.require_uncontended() {
        let whole = Span::new(0, superblocks.geometry().size());
        let regions = match contended {
            OpenError::Contended { regions } => regions,
            other => other.to_string(),
        };
        sink.add(Problem::TwoRegions { regions: Text(regions.into()) }, Subject::Region, whole);
        sink.skip(Subject::Region, whole, Reason::Stopped);
        return (sink.report(true, interrupted, pages), Census::default());
    }
    let unseen = pass::superblock::check(source, superblocks, options.now, &mut sink);
    let features = superblocks.current().features();
    if !features.readable() {
        let mask = Mask(features.unknown().incompat);
        let whole = Span::new(0, superblocks.geometry().size());
        sink.add(Problem::FeatureIncompatUnknown { mask }, Subject::Superblock, pass::superblock::span_of(superblocks));
        sink.skip(Subject::Region, whole, Reason::Stopped);
        return (sink.report(true, interrupted, pages), Census::default());
    }
    let mut inodes = pass::inodes::check(source, superblocks, options.now, &mut sink);
    pass::tree::check(source, superblocks, &inodes, &mut sink);
    let mut blocks = pass::blocks::check(source, superblocks, &inodes, options.threads, progress, &mut sink);
    pass::places::check(source, superblocks, &inodes, &blocks, &mut sink);
    pass::counts::check(superblocks, &inodes, &blocks, &mut sink);
    let unseen =
        unseen | (options.data && pass::data::check(source, superblocks, options.threads, progress, &mut sink));
    let judged = superblocks.judgement();
    pages = pages.plus(inodes.standings).plus(blocks.standings);
    let interrupted =
        interrupted || judged.a.is_recovery() || judged.b.is_recovery() || blocks.recovery || inodes.recovery;
    let missing = inodes.missing_pages > 0 || blocks.missing_pages > 0;
    // If pages are absent, "clean" requires one copy that is completely present and good.
    let absent = pages.a.absent > 0 || pages.b.absent > 0;
    let neither_whole = absent && !pages.a.is_whole() && !pages.b.is_whole();
    let mut census = std::mem::take(&mut inodes.census);
    census.append(std::mem::take(&mut blocks.census));
    (sink.report(unseen || missing || neither_whole, interrupted, pages), census)
}
