//! Used and free memory of regions: `gmfs.df/1`, `gmfs.map-image/1`, `gmfs.metrics/1`, `gmfs.report/1`.

use std::collections::BTreeMap;

use gmfs::Store;
use gmfs::allocation::{Fits as Found, FreeRun, FreeSpace};
use gmfs::report::Report;
use gmfs_format::Layout;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::actions::Changed;
use crate::{region, text};

/// Blocks and inodes by what they are used for. What a layout does not have is `None`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct BlockUsage {
    /// How many blocks are free; null for a hand-over, which has no memory of its own.
    pub free: Option<u64>,
    /// How many blocks hold contents of files.
    pub data: u64,
    /// How many blocks are marked as having hardware errors.
    pub bad: u64,
    /// How many blocks are reserved because they may hold guest memory.
    pub reserved: u64,
    /// How many blocks hold metadata, both copies together.
    pub metadata: u64,
    /// Blocks that are marked as used and that nothing owns.
    pub leaked: u64,
    /// How many inodes there can be; null for a hand-over.
    pub inodes: Option<u64>,
    /// How many inodes are in use.
    pub inodes_used: u64,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct FreeMemory {
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
    /// Bytes from the offset or the address on.
    pub length: u64,
}

impl FreeMemory {
    /// A run of a store.
    pub fn new(run: FreeRun, store: &Store) -> Self {
        Self {
            address: store.place.base.saturating_add(run.at),
            physical: store.physical_base().map(|base| base.saturating_add(run.at)),
            length: run.len,
        }
    }
}

/// The free memory as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Space {
    /// Bytes of free memory.
    pub free_bytes: u64,
    /// Bytes of which nothing tells whether they are free.
    pub unknown_bytes: u64,
    /// In how many runs the free memory is.
    pub free_runs: u64,
    /// The largest free run; null if nothing is free.
    pub largest: Option<FreeMemory>,
    /// How many free runs hold such a stretch of 1 GiB.
    pub aligned_runs: u64,
    /// Bytes of free memory in stretches of 1 GiB that start at a multiple of 1 GiB of physical address, or of the
    /// region's start if its address is unknown.
    pub aligned_bytes: u64,
    /// The largest free run of whole stretches of 1 GiB at multiples of 1 GiB; null if there is none.
    pub largest_aligned: Option<FreeMemory>,
}

impl Space {
    /// The free memory of a store.
    pub fn new(found: &FreeSpace, store: &Store) -> Self {
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Fits {
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// Whether there is enough free memory, in one run or in several.
    pub fits: bool,
    /// Whether one free run is long enough.
    pub fits_in_one_run: bool,
    /// Whether each GiB of it can start at a multiple of 1 GiB of physical address.
    pub fits_aligned: bool,
}

impl Fits {
    /// Whether a guest with `size` bytes fits.
    pub const fn new(size: u64, found: &Found) -> Self {
        Self { size, fits: found.pieces, fits_in_one_run: found.one_run, fits_aligned: found.aligned }
    }
}

/// One region of the answer of `df`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Used {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Bytes in a block.
    pub block_size: u64,
    /// Blocks and inodes by what they are used for.
    pub usage: BlockUsage,
    /// The free memory; null for a hand-over, which has none of its own.
    pub space: Option<Space>,
    /// Whether a guest with that much memory fits; null if no size was named, and for a hand-over.
    pub guest: Option<Fits>,
}

impl Used {
    /// How much of a store is used, its free memory, and whether a guest with so many bytes fits.
    #[must_use]
    pub fn new(store: &Store, free: Option<&FreeSpace>, guest: Option<(u64, Found)>) -> Self {
        Self {
            image: (&store.place).into(),
            store: store.into(),
            block_size: store.block_bytes(),
            usage: store.into(),
            space: free.map(|free| Space::new(free, store)),
            guest: free.and(guest).map(|(size, found)| Fits::new(size, &found)),
        }
    }
}

/// The answer of `df`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Df {
    /// An answer for each image that could be read.
    pub stores: Vec<Used>,
}

/// A label of a sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct MetricLabel {
    /// Name of the file, the field or the problem.
    pub name: Word,
    /// Value of the field.
    pub value: String,
}

/// A sample of a metric.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct MetricSample {
    /// Labels, which tell the samples of a metric apart.
    pub labels: Vec<MetricLabel>,
    /// The value. Times are seconds since 1970.
    pub value: f64,
}

/// A metric.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Metric {
    /// Name of the file, the field or the problem.
    pub name: String,
    /// What the field means.
    pub meaning: Word,
    /// Values of the metric.
    pub samples: Vec<MetricSample>,
}

/// The answer of `metrics`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Metrics {
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// The file that was made; null if none is.
    pub output: Option<String>,
    /// The metrics, each with a value for each region.
    pub metrics: Vec<Metric>,
}

impl Metrics {
    /// The answer for these metrics, which `output` was made of, or in a dry run would be.
    pub fn new(found: &gmfs::metrics::Metrics, dry_run: bool, output: Option<String>) -> Self {
        let label =
            |(name, value): &(&'static str, String)| MetricLabel { name: Word::Borrowed(name), value: value.clone() };
        let sample = |sample: &gmfs::metrics::Sample| MetricSample {
            labels: sample.labels.iter().map(label).collect(),
            value: sample.value.as_f64(),
        };
        let metric = |family: &gmfs::metrics::Family| Metric {
            name: family.name.clone(),
            meaning: family.help.into(),
            samples: family.samples.iter().map(sample).collect(),
        };
        Self { dry_run, output, metrics: found.families().iter().map(metric).collect() }
    }
}

/// The answer of `tune`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Tuned {
    /// What the command changed.
    #[serde(flatten)]
    pub changed: Changed,
    /// Label of the region before the change.
    pub label_before: String,
    /// Label of the region after the change.
    pub label_after: String,
}

impl Tuned {
    /// The answer for a change of the label.
    pub fn new(changed: Changed, before: &[u8], after: &str) -> Self {
        Self { changed, label_before: text(before).0, label_after: after.to_owned() }
    }
}

/// How many stretches have a length in some range.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Lengths {
    /// The length from which on stretches are counted here, up to twice as long.
    pub length_from: u64,
    /// How many stretches of that length belong to one file.
    pub file_extents: u64,
    /// In how many runs the free memory is.
    pub free_runs: u64,
    /// Bytes of free memory.
    pub free_bytes: u64,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Reported {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// The page that was made.
    pub output: String,
    /// Bytes of the page.
    pub page_bytes: u64,
    /// Bytes in a block.
    pub block_size: u64,
    /// Blocks and inodes by what they are used for.
    pub usage: BlockUsage,
    /// The free memory; null for a hand-over, which has none of its own.
    pub space: Option<Space>,
    /// Bytes of a cell of the picture; null for a hand-over.
    pub cell_bytes: Option<u64>,
    /// How many stretches are how long.
    pub lengths: Vec<Lengths>,
    /// How many files there are, listed or not.
    pub file_count: u64,
    /// How many directories there are, the root included.
    pub directory_count: u64,
    /// How many files the page does not list.
    pub files_not_listed: u64,
    /// In how many extents all files are.
    pub extent_count: u64,
    /// How many files are in more than one extent.
    pub fragmented_files: u64,
    /// State of the region: clean, recovery, damaged or unknown.
    pub verdict: Word,
    /// By severity, how many problems were found in all.
    pub summary: BTreeMap<Word, u64>,
    /// How many findings the page does not list.
    pub findings_not_listed: u64,
    /// How much is sealed; null in a layout without seals.
    pub sealing: Option<Sealing>,
    /// How many commits the region has seen; null in a layout that does not record it.
    pub write_count: Option<u64>,
}

/// How much of a region is sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Sealing {
    /// How many of the file's blocks have a seal.
    pub blocks_sealed: u64,
    /// How many files have a seal for each block.
    pub files_sealed: u64,
    /// How many files have blocks with a seal and blocks without one.
    pub files_partly_sealed: u64,
    /// How many files have blocks, and none of them has a seal.
    pub files_unsealed: u64,
}

impl Reported {
    /// The answer for a report, whose page of `page_bytes` is in the file `output`, or in a dry run would be.
    pub fn new(store: &Store, report: &Report, dry_run: bool, output: String, page_bytes: u64) -> Self {
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
            verdict: report.health.verdict.name().into(),
            summary: report.health.by_name().into_iter().map(|(name, count)| (name.into(), count)).collect(),
            findings_not_listed: report.more_findings(),
            sealing: report.seals.as_ref().map(sealing),
            write_count: report.history.as_ref().map(|history| history.commits),
        }
    }
}

/// Adjacent bytes that are used for the same purpose.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Stretch {
    /// What it is used for: file, metadata, free, bad, reserved, leaked, tail, lost or unknown.
    pub what: Word,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
    /// Bytes from the offset or the address on.
    pub length: u64,
    /// The file that has it; null if none has.
    pub ino: Option<u32>,
}

/// The answer of `map` without a path.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct MapOfImage {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Bytes in a block.
    pub block_size: u64,
    /// Adjacent bytes that are used for the same, in order and without gaps.
    pub stretches: Vec<Stretch>,
    /// How many stretches are how long.
    pub lengths: Vec<Lengths>,
}

impl MapOfImage {
    /// The answer for a store of which this picture was made.
    pub fn new(store: &Store, picture: &gmfs::picture::Picture) -> Self {
        let (base, physical) = (store.place.base, store.physical_base());
        let mut stretches = Vec::new();
        // A hand-over has no stretches, and no picture either.
        let _ = store.stretches(|one| {
            stretches.push(Stretch {
                what: one.what.name().into(),
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
