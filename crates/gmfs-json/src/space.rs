//! Used and free memory of regions: `gmfs.df/1`, `gmfs.map-image/1`, `gmfs.metrics/1`, `gmfs.report/1`.

use std::collections::BTreeMap;

use gmfs::Store;
use gmfs::allocation::{Fits as Found, FreeRun, FreeSpace};
use gmfs::report::Report;
use gmfs_format::Layout;
use serde::Serialize;

use crate::render::json::actions::Changed;
use crate::render::json::{region, text};

/// Blocks and inodes by what they are used for. What a layout does not have is `None`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BlockUsage {
    free: Option<u64>,
    data: u64,
    bad: u64,
    reserved: u64,
    metadata: u64,
    leaked: u64,
    inodes: Option<u64>,
    inodes_used: u64,
}

impl From<&Store> for BlockUsage {
    fn from(store: &Store) -> Self {
        let gmfs::store::Usage { free, data, bad, reserved, metadata, leaked, inodes, inodes_used, .. } = store.usage();
        let own = store.layout() != Layout::Luo;
        Self {
            free: own.then_some(free),
            data,
            bad,
            reserved,
            metadata,
            leaked,
            inodes: own.then_some(inodes),
            inodes_used,
        }
    }
}

/// A run of free memory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FreeMemory {
    address: u64,
    physical: Option<u64>,
    length: u64,
}

impl FreeMemory {
    pub(crate) fn new(run: FreeRun, store: &Store) -> Self {
        Self {
            address: store.place.base.saturating_add(run.at),
            physical: store.physical_base().map(|base| base.saturating_add(run.at)),
            length: run.len,
        }
    }
}

/// The free memory as a whole.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Space {
    free_bytes: u64,
    unknown_bytes: u64,
    free_runs: u64,
    largest: Option<FreeMemory>,
    aligned_runs: u64,
    aligned_bytes: u64,
    largest_aligned: Option<FreeMemory>,
}

impl Space {
    pub(crate) fn new(found: &FreeSpace, store: &Store) -> Self {
        Self {
            free_bytes: found.bytes,
            unknown_bytes: found.unknown,
            free_runs: found.runs,
            largest: found.largest.map(|run| FreeMemory::new(run, store)),
            aligned_runs: found.aligned_runs,
            aligned_bytes: found.aligned_gib << 30,
            largest_aligned: found.largest_aligned.map(|run| FreeMemory::new(run, store)),
        }
    }
}

/// Whether a guest fits.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Fits {
    size: u64,
    fits: bool,
    fits_in_one_run: bool,
    fits_aligned: bool,
}

impl Fits {
    pub(crate) const fn new(size: u64, found: &Found) -> Self {
        Self { size, fits: found.pieces, fits_in_one_run: found.one_run, fits_aligned: found.aligned }
    }
}

/// One region of the answer of `df`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Used {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) block_size: u64,
    pub(crate) usage: BlockUsage,
    /// `None` for a hand-over, which has no memory of its own.
    pub(crate) space: Option<Space>,
    /// `None` if no size was named.
    pub(crate) guest: Option<Fits>,
}

/// The answer of `df`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Df {
    pub(crate) stores: Vec<Used>,
}

/// A label of a sample.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MetricLabel {
    name: &'static str,
    value: String,
}

/// A sample of a metric.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MetricSample {
    labels: Vec<MetricLabel>,
    value: f64,
}

/// A metric.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Metric {
    name: String,
    meaning: &'static str,
    samples: Vec<MetricSample>,
}

/// The answer of `metrics`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Metrics {
    dry_run: bool,
    output: Option<String>,
    metrics: Vec<Metric>,
}

impl Metrics {
    pub(crate) fn new(found: &gmfs::metrics::Metrics, dry_run: bool, output: Option<String>) -> Self {
        let label = |(name, value): &(&'static str, String)| MetricLabel { name, value: value.clone() };
        let sample = |sample: &gmfs::metrics::Sample| MetricSample {
            labels: sample.labels.iter().map(label).collect(),
            value: sample.value.as_f64(),
        };
        let metric = |family: &gmfs::metrics::Family| Metric {
            name: family.name.clone(),
            meaning: family.help,
            samples: family.samples.iter().map(sample).collect(),
        };
        Self { dry_run, output, metrics: found.families().iter().map(metric).collect() }
    }
}

/// The answer of `tune`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Tuned {
    #[serde(flatten)]
    changed: Changed,
    label_before: String,
    label_after: String,
}

impl Tuned {
    pub(crate) fn new(changed: Changed, before: &[u8], after: &str) -> Self {
        Self { changed, label_before: text(before).0, label_after: after.to_owned() }
    }
}

/// How many stretches have a length in some range.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Lengths {
    length_from: u64,
    file_extents: u64,
    free_runs: u64,
    free_bytes: u64,
}

impl Lengths {
    fn list(picture: &gmfs::picture::Picture) -> Vec<Self> {
        let one = |row: &gmfs::picture::Lengths| Self {
            length_from: row.from,
            file_extents: row.extents,
            free_runs: row.free_runs,
            free_bytes: row.free_bytes,
        };
        picture.lengths.iter().map(one).collect()
    }
}

/// The answer of `report`: the numbers of the page.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Reported {
    image: region::Image,
    store: region::Store,
    dry_run: bool,
    output: String,
    page_bytes: u64,
    block_size: u64,
    usage: BlockUsage,
    /// `None` for a hand-over, which has no memory of its own.
    space: Option<Space>,
    /// The same.
    cell_bytes: Option<u64>,
    lengths: Vec<Lengths>,
    file_count: u64,
    directory_count: u64,
    files_not_listed: u64,
    extent_count: u64,
    fragmented_files: u64,
    verdict: &'static str,
    summary: BTreeMap<&'static str, u64>,
    findings_not_listed: u64,
    /// `None` in a layout that records none.
    sealing: Option<Sealing>,
    write_count: Option<u64>,
}

/// How much of a region is sealed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Sealing {
    blocks_sealed: u64,
    files_sealed: u64,
    files_partly_sealed: u64,
    files_unsealed: u64,
}

impl Reported {
    pub(crate) fn new(store: &Store, report: &Report, dry_run: bool, output: String, page_bytes: u64) -> Self {
        let sealing = |seals: &gmfs::report::Seals| Sealing {
            blocks_sealed: seals.blocks,
            files_sealed: seals.whole,
            files_partly_sealed: seals.partly,
            files_unsealed: seals.none,
        };
        Self {
            image: (&store.place).into(),
            store: store.into(),
            dry_run,
            output,
            page_bytes,
            block_size: report.block_bytes,
            usage: store.into(),
            space: report.free.as_ref().map(|free| Space::new(free, store)),
            cell_bytes: report.picture.as_ref().map(|picture| picture.cell_bytes),
            lengths: report.picture.as_ref().map(Lengths::list).unwrap_or_default(),
            file_count: report.file_count,
            directory_count: report.directory_count,
            files_not_listed: report.more_files(),
            extent_count: report.extent_count,
            fragmented_files: report.fragmented_files,
            verdict: report.health.verdict.name(),
            summary: report.health.by_name(),
            findings_not_listed: report.more_findings(),
            sealing: report.seals.as_ref().map(sealing),
            write_count: report.history.as_ref().map(|history| history.commits),
        }
    }
}

/// Adjacent bytes that are used for the same purpose.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Stretch {
    what: &'static str,
    address: u64,
    physical: Option<u64>,
    length: u64,
    ino: Option<u32>,
}

/// The answer of `map` without a path.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MapOfImage {
    image: region::Image,
    store: region::Store,
    block_size: u64,
    stretches: Vec<Stretch>,
    lengths: Vec<Lengths>,
}

impl MapOfImage {
    pub(crate) fn new(store: &Store, picture: &gmfs::picture::Picture) -> Self {
        let (base, physical) = (store.place.base, store.physical_base());
        let mut stretches = Vec::new();
        // A hand-over has no stretches, and no picture either.
        let _ = store.stretches(|one| {
            stretches.push(Stretch {
                what: one.what.name(),
                address: base.saturating_add(one.at),
                physical: physical.map(|base| base.saturating_add(one.at)),
                length: one.len,
                ino: one.ino.map(|ino| ino.0),
            });
        });
        Self {
            image: (&store.place).into(),
            store: store.into(),
            block_size: store.block_bytes(),
            stretches,
            lengths: Lengths::list(picture),
        }
    }
}
