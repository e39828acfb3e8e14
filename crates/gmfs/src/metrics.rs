//! The state of regions as metrics, in the text format that Prometheus and OpenMetrics share.
//!
//! All metrics are gauges, because the two formats differ in how they name counters. Names and labels follow the
//! conventions of Prometheus: base units, and one label `image` that tells regions apart.
//!
//! ```
//! # fn example(store: &gmfs::Store) -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs::metrics::{Facts, Metrics};
//! let mut metrics = Metrics::new("1.0");
//! metrics.add("region.img", &Facts::of(store, 0, std::num::NonZeroUsize::MIN)?);
//! metrics.failed("other.img");
//! let text = metrics.to_string();
//! assert!(text.contains("gmfs_region_up{image=\"other.img\"} 0\n"));
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::num::NonZeroUsize;

use gmfs_check::{Options, PageStandings, Severity, Standings, Verdict, check};
use gmfs_format::Layout;
use gmfs_volume::OpenError;

use crate::allocation::FreeSpace;
use crate::store::{Store, Usage};

/// What is known of a region at one time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Facts {
    layout: Layout,
    uuid: Option<String>,
    label: String,
    size: u64,
    block_bytes: u64,
    usage: Usage,
    free: Option<FreeSpace>,
    files: u64,
    doubtful: u64,
    lost_pages: u64,
    native: Option<Native>,
}

/// What only a region of the native layout records.
#[derive(Clone, Debug)]
struct Native {
    verdict: Verdict,
    findings: Vec<(Severity, u64)>,
    pages: PageStandings,
    commits: u64,
    problems: u64,
    /// The names of events, and when each was last, in nanoseconds; 0 if never.
    times: [(&'static str, &'static str, u64); 4],
}

impl Facts {
    /// Reads what there is to know about a store, and checks its metadata, as `gmfs fsck -n` does. `now` is the present
    /// time in nanoseconds since the epoch.
    ///
    /// # Errors
    /// The region cannot be opened any more.
    pub fn of(store: &Store, now: u64, threads: NonZeroUsize) -> Result<Self, OpenError> {
        let inodes = store.inodes();
        let native = match store.native() {
            Err(_) => None,
            Ok(region) => {
                let mut options = Options::new(now);
                (options.threads, options.keep) = (threads, 1);
                let severities = [Severity::Note, Severity::Warning, Severity::Error, Severity::Fatal];
                let report = check(region.source(), &options, &|_, _| {})?;
                let raw = &region.superblock().raw;
                Some(Native {
                    verdict: report.verdict(),
                    findings: severities.map(|severity| (severity, report.count(severity))).to_vec(),
                    pages: report.pages,
                    commits: raw.write_count.get(),
                    problems: raw.error_count.get(),
                    times: [
                        ("created", "When the region was made.", raw.created.get()),
                        ("written", "When the superblock was last written.", raw.written.get()),
                        ("checked", "When the region was last checked and repaired by gmfs fsck.", raw.checked.get()),
                        ("sealed", "When the content of files was last sealed.", raw.sealed.get()),
                    ],
                })
            }
        };
        let label = store.native().map(|region| gmfs_format::name::escape(region.superblock().label()));
        let own = inodes.tree.inodes();
        let (files, doubtful) = own.fold((0_u64, 0_u64), |(files, doubtful), inode| {
            let file = u64::from(inode.kind != gmfs_format::model::Kind::Directory);
            (files.saturating_add(file), doubtful.saturating_add(u64::from(inode.is_doubtful())))
        });
        Ok(Self {
            layout: store.layout(),
            uuid: store.uuid().map(|uuid| uuid.to_string()),
            label: label.unwrap_or_default(),
            size: store.size(),
            block_bytes: store.block_bytes(),
            usage: store.usage(),
            free: FreeSpace::of(store),
            files,
            doubtful,
            lost_pages: inodes.lost_pages,
            native,
        })
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Count(u64),
    /// Seconds since the epoch, given in nanoseconds.
    Time(u64),
}

impl Value {
    /// The value as a scraper takes it: as a binary fraction, which is exact up to 2^53.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        // The text is a decimal number.
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000_000;
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Time(nanoseconds) => {
                let (seconds, rest) = (nanoseconds.checked_div(SECOND), nanoseconds.checked_rem(SECOND));
                write!(f, "{}.{:09}", seconds.unwrap_or_default(), rest.unwrap_or_default())
            }
        }
    }
}

/// A value with its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Names and values of the labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// A metric: a name, what it means, and its samples.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Family {
    /// Its name.
    pub name: String,
    /// What it means.
    pub help: &'static str,
    /// One for each region, or for each region and each value of a further label.
    pub samples: Vec<Sample>,
}

/// Metrics of several regions. Its text is what a scraper reads.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    families: Vec<Family>,
}

/// The metrics, and the region to which samples are added.
struct Of<'a> {
    metrics: &'a mut Metrics,
    image: &'a str,
}

impl Of<'_> {
    fn add(&mut self, name: &str, help: &'static str, more: &[(&'static str, &str)], value: Value) {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let labels = std::iter::once(("image", self.image.to_owned())).chain(more).collect();
        self.metrics.add_sample(format!("gmfs_region_{name}"), help, Sample { labels, value });
    }

    fn count(&mut self, name: &str, help: &'static str, value: u64) {
        self.add(name, help, &[], Value::Count(value));
    }
}

const UP: &str = "Whether the region could be read: 1 or 0.";

impl Metrics {
    /// Metrics without a region, of a program of this version.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let mut metrics = Self::default();
        let sample = Sample { labels: vec![("version", version.to_owned())], value: Value::Count(1) };
        metrics.add_sample("gmfs_build_info".to_owned(), "Version of gmfs that wrote these metrics.", sample);
        metrics
    }

    /// The metrics, in the order in which they are written.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    fn add_sample(&mut self, name: String, help: &'static str, sample: Sample) {
        match self.families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.push(sample),
            None => self.families.push(Family { name, help, samples: vec![sample] }),
        }
    }

    /// Adds a region that could not be read. Nothing but that is known of it.
    pub fn failed(&mut self, image: &str) {
        Of { metrics: self, image }.count("up", UP, 0);
    }

    /// Adds a region. `image` tells it apart from the others.
    pub fn add(&mut self, image: &str, facts: &Facts) {
        let of = &mut Of { metrics: self, image };
        of.count("up", UP, 1);
        let info = [
            ("layout", facts.layout.name()),
            ("uuid", facts.uuid.as_deref().unwrap_or_default()),
            ("label", &facts.label),
        ];
        of.add("info", "Which region it is.", &info, Value::Count(1));
        of.count("block_size_bytes", "Bytes in a block.", facts.block_bytes);
        if let Some(free) = &facts.free {
            of.count("size_bytes", "Size of the region.", facts.size);
            let run = |run: Option<crate::allocation::FreeRun>| run.map_or(0, |run| run.len);
            for (name, help, value) in [
                ("free_bytes", "Free memory.", free.bytes),
                ("free_unknown_bytes", "Memory of which nothing tells whether it is free.", free.unknown),
                ("free_runs", "In how many runs the free memory is.", free.runs),
                ("free_largest_run_bytes", "The largest run of free memory.", run(free.largest)),
                (
                    "free_aligned_bytes",
                    "Free memory in stretches of 1 GiB that start at a multiple of 1 GiB of physical address.",
                    free.aligned_gib.saturating_mul(1 << 30),
                ),
                ("free_aligned_largest_run_bytes", "The largest run of such stretches.", run(free.largest_aligned)),
            ] {
                of.count(name, help, value);
            }
        }
        let Usage { free, data, bad, reserved, metadata, leaked, inodes_used, inodes } = facts.usage;
        let states = [
            ("free", free),
            ("data", data),
            ("bad", bad),
            ("reserved", reserved),
            ("metadata", metadata),
            ("leaked", leaked),
        ];
        for (state, count) in states.into_iter().filter(|(state, _)| *state != "free" || facts.free.is_some()) {
            let help =
                "Blocks by what they are used for; bad ones have hardware errors, reserved ones are kept by a repair.";
            of.add("blocks", help, &[("state", state)], Value::Count(count));
        }
        if facts.free.is_some() {
            of.count("inodes", "How many files and directories there can be.", inodes);
        }
        of.count("inodes_used", "How many inodes are in use.", inodes_used);
        of.count("files", "How many files there are.", facts.files);
        of.count("doubtful_files", "Files that a repair could not prove to be current.", facts.doubtful);
        of.count("lost_inode_pages", "Pages of inodes that cannot be read in any copy.", facts.lost_pages);
        if let Some(native) = &facts.native {
            native.add(of);
        }
    }
}

impl Native {
    fn add(&self, of: &mut Of<'_>) {
        for verdict in [Verdict::Clean, Verdict::Recovery, Verdict::Damaged, Verdict::Unknown] {
            let help = "What a check of the metadata comes to: 1 for the verdict that applies.";
            let value = Value::Count(u64::from(verdict == self.verdict));
            of.add("verdict", help, &[("verdict", verdict.name())], value);
        }
        for (severity, count) in &self.findings {
            let help = "Findings of a check of the metadata, by severity.";
            of.add("findings", help, &[("severity", severity.name())], Value::Count(*count));
        }
        for (copy, counts) in [("a", self.pages.a), ("b", self.pages.b)] {
            let Standings { good, recovery, stale, damaged, absent } = counts;
            let states =
                [("good", good), ("recovery", recovery), ("stale", stale), ("damaged", damaged), ("absent", absent)];
            for (state, count) in states {
                let help = "Pages of metadata in use, by copy and state.";
                of.add("metadata_pages", help, &[("copy", copy), ("state", state)], Value::Count(count));
            }
        }
        of.count("commits", "How many commits the region has seen.", self.commits);
        of.count("recorded_problems", "Problems that the superblock records.", self.problems);
        for (name, help, time) in self.times.iter().filter(|(_, _, time)| *time > 0) {
            of.add(&format!("{name}_timestamp_seconds"), help, &[], Value::Time(*time));
        }
    }
}

/// The text format.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Family { name, help, samples } in &self.families {
            writeln!(f, "# HELP {name} {help}\n# TYPE {name} gauge")?;
            for Sample { labels, value } in samples {
                let label = |(name, value): &(&str, String)| format!("{name}=\"{}\"", escaped(value));
                let labels: Vec<String> = labels.iter().map(label).collect();
                writeln!(f, "{name}{{{}}} {value}", labels.join(","))?;
            }
        }
        f.write_str("# EOF\n")
    }
}

/// The value of a label, as it is written between quotation marks.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn labels_end_where_they_should() {
        let mut metrics = Metrics::new("1");
        metrics.failed("a\\b\"c\nd");
        assert_eq!(
            metrics.to_string(),
            "# HELP gmfs_build_info Version of gmfs that wrote these metrics.\n# TYPE gmfs_build_info gauge\n\
             gmfs_build_info{version=\"1\"} 1\n# HELP gmfs_region_up Whether the region could be read: 1 or 0.\n\
             # TYPE gmfs_region_up gauge\ngmfs_region_up{image=\"a\\\\b\\\"c\\nd\"} 0\n# EOF\n"
        );
        assert_eq!(Value::Time(1_500_000_007).to_string(), "1.500000007");
    }

    #[test]
    fn each_metric_is_declared_once_for_all_regions() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&testing::region(dir.path())).unwrap();
        let facts = Facts::of(&store, 0, NonZeroUsize::MIN).unwrap();
        let mut metrics = Metrics::new("1");
        for image in ["a", "b"] {
            metrics.add(image, &facts);
        }
        let text = metrics.to_string();
        for family in metrics.families() {
            assert_eq!(text.matches(&format!("# TYPE {} gauge", family.name)).count(), 1, "{}", family.name);
            assert!(family.name == "gmfs_build_info" || family.samples.len() >= 2, "{}", family.name);
        }
        let value = |line: &str| text.lines().any(|own| own == line);
        assert!(value(&format!("gmfs_region_free_bytes{{image=\"b\"}} {}", store.usage().free << 21)), "{text}");
        assert!(value("gmfs_region_verdict{image=\"a\",verdict=\"clean\"} 1"), "{text}");
        assert!(value("gmfs_region_verdict{image=\"a\",verdict=\"damaged\"} 0"), "{text}");
        assert!(value("gmfs_region_files{image=\"a\"} 2"), "{text}");
    }
}
