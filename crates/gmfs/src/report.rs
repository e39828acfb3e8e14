//! What there is to know of a store, and a page that shows it: one HTML file that needs nothing else, and asks for nothing
//! else.
//!
//! Everything is bounded, whatever the store says: the picture has at most [`MOST_CELLS`] cells, and of files, findings and
//! events so many are listed. What is not listed is counted. Names are escaped, and the page forbids the browser to load
//! anything or to run anything but its own script.
//!
//! ```
//! # fn example(store: &gmfs::Store) -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs::report::{Options, Report};
//! let options = Options {
//!     now: 0,
//!     threads: std::num::NonZeroUsize::MIN,
//!     program: "example 1.0",
//!     size: |bytes| format!("{bytes} bytes"),
//!     time: |nanoseconds| format!("{} s", nanoseconds / 1_000_000_000),
//! };
//! let report = Report::of(store, &options)?;
//! std::fs::write("page.html", report.to_html(&options))?;
//! # Ok(())
//! # }
//! ```

mod page;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use gmfs_check::{Found, Outcome, Severity, Verdict, check};
use gmfs_format::Layout;
use gmfs_format::model::{Attributes, Inode, InodeNo, Kind, Paths};
use gmfs_format::name;
use gmfs_format::native::superblock::STATE_SEALED;
use gmfs_io::num::{len64, small};
use gmfs_volume::OpenError;
use gmfs_volume::seals::FileSeals;

use crate::allocation::{FreeSpace, Stretch};
use crate::open::Source;
use crate::picture::Picture;
use crate::store::{Store, Usage, What};

/// Cells of the picture.
pub const MOST_CELLS: usize = 1024;
/// Files that are listed: the largest ones.
pub const MOST_FILES: usize = 2000;
/// Findings that are listed: the worst ones.
pub const MOST_FINDINGS: usize = 500;
/// Events that are listed: the latest ones.
pub const MOST_EVENTS: usize = 100;
/// Files that are named for one cell.
const OWNERS: usize = 3;
/// Characters of a path that are shown.
const PATH: usize = 400;
/// Characters of a finding that are shown.
const MESSAGE: usize = 1000;

/// How a report is made, and how numbers are written in it.
#[derive(Clone, Copy, Debug)]
pub struct Options<'p> {
    /// The present time, in nanoseconds since the epoch.
    pub now: u64,
    /// Threads for the check.
    pub threads: NonZeroUsize,
    /// Name and version of the program that makes the page.
    pub program: &'p str,
    /// Bytes in words.
    pub size: fn(u64) -> String,
    /// A time in words, given in nanoseconds since the epoch; 0 is never.
    pub time: fn(u64) -> String,
}

/// What there is to know of a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Path of the image, as it may be shown.
    pub image: String,
    /// What the image is, in a word.
    pub kind: &'static str,
    /// The store's layout.
    pub layout: Layout,
    /// Its UUID, in a layout that has one.
    pub uuid: Option<String>,
    /// Its label, as it may be shown.
    pub label: String,
    /// Where it starts in the image.
    pub base: u64,
    /// Its physical address, if that is known.
    pub physical: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Blocks and inodes by what they are used for.
    pub usage: Usage,
    /// Its free memory; `None` of a hand-over, which has none of its own.
    pub free: Option<FreeSpace>,
    /// What its bytes are used for, in at most [`MOST_CELLS`] cells; `None` of a hand-over.
    pub picture: Option<Picture>,
    /// The files of each cell.
    owners: Vec<Owners>,
    /// The largest files, by path.
    pub files: Vec<File>,
    /// How many files there are, listed or not.
    pub file_count: u64,
    /// How many directories there are.
    pub directory_count: u64,
    /// In how many extents all files are.
    pub extent_count: u64,
    /// Files in more than one extent.
    pub fragmented_files: u64,
    /// Pages of the inode table that cannot be read: their files are missing here.
    pub lost_pages: u64,
    /// What a check comes to, and how many findings there are of each severity.
    pub health: Health,
    /// The worst findings.
    pub findings: Vec<Problem>,
    /// Seals of content, in a layout that has them.
    pub seals: Option<Seals>,
    /// What the superblock says of writes, in a layout that records it.
    pub history: Option<History>,
    /// The latest events, the newest first.
    pub events: Vec<Event>,
}

/// What a check comes to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// How many findings there are of each severity, listed or not.
    pub counts: Vec<(Severity, u64)>,
    /// How many ranges could not be checked.
    pub unchecked: u64,
}

impl Health {
    /// How many findings there are, listed or not.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.counts.iter().fold(0, |all, (_, count)| all.saturating_add(*count))
    }
}

/// A finding.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// Its code.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the file where it is about one.
    pub message: String,
    /// The class of its repair.
    pub repair: &'static str,
}

/// A file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct File {
    /// Its inode.
    pub ino: InodeNo,
    /// Its path as it may be shown; `None` if no path leads to it.
    pub path: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// How many blocks it has.
    pub blocks: u64,
    /// In how many extents they are.
    pub extents: u64,
    /// A repair could not prove that it is current.
    pub doubtful: bool,
    /// Permission bits, owner, group and times, in a layout that has them.
    pub attributes: Option<Attributes>,
    /// How much of it is sealed, in a layout that has seals.
    pub sealed: Option<Sealed>,
}

impl File {
    fn new(inode: &Inode, path: Option<String>, extents: u64, sealed: Option<Sealed>) -> Self {
        let Inode { ino, size, blocks, attributes, .. } = *inode;
        Self { ino, path, size, blocks, extents, doubtful: inode.is_doubtful(), attributes, sealed }
    }
}

/// How much of a file is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// It has no blocks.
    Empty,
    /// Nothing.
    No,
    /// Some of its blocks.
    Partly,
    /// All of it.
    Yes,
}

impl Sealed {
    fn of(seals: Option<&FileSeals>) -> Self {
        match seals {
            None => Self::Empty,
            Some(seals) if seals.is_whole() => Self::Yes,
            Some(seals) if seals.sealed > 0 => Self::Partly,
            Some(_) => Self::No,
        }
    }
}

/// Seals of content. Whether content still agrees with them is not looked at: that would read all of it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Seals {
    /// Everything was sealed, and nothing was committed since.
    pub region_sealed: bool,
    /// When content was last sealed, in nanoseconds since the epoch; 0 is never.
    pub when: u64,
    /// Blocks with a seal.
    pub blocks: u64,
    /// Files that are sealed as a whole.
    pub whole: u64,
    /// Files of which a part is sealed.
    pub partly: u64,
    /// Files with blocks of which none is sealed.
    pub none: u64,
}

impl Seals {
    /// The same with how much of these files is sealed.
    fn with(mut self, seals: &gmfs_volume::seals::Seals, files: &[&Inode]) -> Self {
        self.blocks = seals.sealed;
        for file in files {
            let count = match Sealed::of(seals.files.get(&file.ino)) {
                Sealed::Empty => continue,
                Sealed::No => &mut self.none,
                Sealed::Partly => &mut self.partly,
                Sealed::Yes => &mut self.whole,
            };
            *count = count.saturating_add(1);
        }
        self
    }
}

/// What the superblock says of writes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct History {
    /// When the region was made, in nanoseconds since the epoch, as all times here; 0 is never.
    pub created: u64,
    /// When the superblock was last written.
    pub written: u64,
    /// When the region was last checked.
    pub checked: u64,
    /// How many commits there were.
    pub commits: u64,
    /// The generation of the last one.
    pub generation: u64,
    /// Which program wrote last, as it may be shown.
    pub writer: String,
    /// How many problems the superblock records.
    pub problems: u64,
}

/// Something that happened to a file or to the region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, in nanoseconds since the epoch.
    pub time: u64,
    /// What happened.
    pub what: &'static str,
    /// To which file or directory, as it may be shown; `None`: to the region.
    pub path: Option<String>,
}

/// The files of a cell.
#[derive(Clone, Debug, Default)]
struct Owners {
    /// The first few.
    named: Vec<InodeNo>,
    /// There are more.
    more: bool,
    /// The same as shown.
    paths: Vec<String>,
    /// Its first file is another one than that of the cell before it, every second time: neighbours look different.
    other: bool,
}

impl Report {
    /// Reads what there is to know of a store, and checks its metadata, as `gmfs fsck -n` does. No content is read.
    ///
    /// # Errors
    /// The region cannot be opened any more.
    pub fn of(store: &Store, options: &Options<'_>) -> Result<Self, OpenError> {
        let inodes = store.inodes();
        let mut paths = Shown { paths: Paths::new(&inodes.tree), known: HashMap::new() };
        let outcome = outcome(store, options)?;
        let picture = Picture::of(store, MOST_CELLS);
        let owners = picture.as_ref().map_or_else(Vec::new, |picture| owners(store, picture, &mut paths));
        let extents = extents(store);
        let seals = store.native().ok().map(gmfs_volume::Region::seals);
        let mut files: Vec<&Inode> = inodes.tree.inodes().filter(|inode| inode.kind != Kind::Directory).collect();
        let file_count = len64(files.len());
        let of_files = |ino: &InodeNo| extents.get(ino).copied().unwrap_or_default();
        let extent_count = files.iter().fold(0_u64, |all, file| all.saturating_add(of_files(&file.ino)));
        let fragmented_files = len64(files.iter().filter(|file| of_files(&file.ino) > 1).count());
        let region_seals = seals.as_ref().zip(store.native().ok()).map(|(seals, region)| {
            let raw = &region.superblock().raw;
            let sealed = raw.state.get() & STATE_SEALED != 0;
            let empty = Seals { region_sealed: sealed, when: raw.sealed.get(), ..Seals::default() };
            empty.with(seals, &files)
        });
        files.sort_by_key(|file| std::cmp::Reverse(file.size));
        files.truncate(MOST_FILES);
        let one = |inode: &Inode| {
            let sealed = seals.as_ref().map(|seals| Sealed::of(seals.files.get(&inode.ino)));
            File::new(inode, paths.of(inode.ino), of_files(&inode.ino), sealed)
        };
        let mut files: Vec<File> = files.into_iter().map(one).collect();
        files.sort_by(|one, other| one.path.cmp(&other.path).then(one.ino.cmp(&other.ino)));
        let history = history(store);
        let events = events(inodes.tree.inodes(), history.as_ref(), region_seals.as_ref(), &mut paths);
        let label = store.native().map(|region| name::escape(region.superblock().label()));
        let all = inodes.tree.inodes().fold(0_u64, |all, _| all.saturating_add(1));
        Ok(Self {
            image: short(&name::escape(store.place.path.as_os_str().as_encoded_bytes()), PATH),
            kind: store.place.kind.name(),
            layout: store.layout(),
            uuid: store.uuid().map(|uuid| uuid.to_string()),
            label: label.unwrap_or_default(),
            base: store.base(),
            physical: store.physical_base(),
            size: store.size(),
            block_bytes: store.block_bytes(),
            usage: store.usage(),
            free: FreeSpace::of(store),
            picture,
            owners,
            files,
            file_count,
            directory_count: all.saturating_sub(file_count),
            extent_count,
            fragmented_files,
            lost_pages: inodes.lost_pages,
            health: health(&outcome),
            findings: findings(&outcome),
            seals: region_seals,
            history,
            events,
        })
    }

    /// The page.
    #[must_use]
    pub fn to_html(&self, options: &Options<'_>) -> String {
        page::page(self, options)
    }

    /// How many files are not listed.
    #[must_use]
    pub fn more_files(&self) -> u64 {
        self.file_count.saturating_sub(len64(self.files.len()))
    }

    /// How many findings are not listed.
    #[must_use]
    pub fn more_findings(&self) -> u64 {
        self.health.all().saturating_sub(len64(self.findings.len()))
    }
}

/// Paths as they are shown.
struct Shown<'t> {
    paths: Paths<'t>,
    /// Of inodes that several cells name.
    known: HashMap<InodeNo, Option<String>>,
}

impl Shown<'_> {
    fn of(&mut self, ino: InodeNo) -> Option<String> {
        let paths = &mut self.paths;
        let find = || paths.of(ino).map(|path| short(&name::escape(&path), PATH));
        self.known.entry(ino).or_insert_with(find).clone()
    }

    fn or_number(&mut self, ino: InodeNo) -> String {
        self.of(ino).unwrap_or_else(|| format!("inode {ino}"))
    }
}

/// A text of at most so many characters: of a longer one the start and the end.
fn short(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let half = most.saturating_sub(1).checked_div(2).unwrap_or_default();
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(count.saturating_sub(half)).collect();
    format!("{start}…{end}")
}

/// What a check of the store comes to, with the file of each finding.
fn outcome(store: &Store, options: &Options<'_>) -> Result<Outcome, OpenError> {
    let Ok(region) = store.native() else {
        return Ok(store.check().map(Outcome::of_layout).unwrap_or_default());
    };
    let mut how = gmfs_check::Options::new(options.now);
    (how.threads, how.keep) = (options.threads, MOST_FINDINGS);
    let source: &Source = region.source();
    Ok(Outcome::of_check(check(source, &how, &|_, _| {})?, source))
}

const SEVERITIES: [Severity; 4] = [Severity::Fatal, Severity::Error, Severity::Warning, Severity::Note];

fn health(outcome: &Outcome) -> Health {
    Health {
        verdict: outcome.last.verdict(),
        counts: SEVERITIES.map(|severity| (severity, outcome.count_severity(severity))).to_vec(),
        unchecked: outcome.last.count_unchecked(),
    }
}

fn findings(outcome: &Outcome) -> Vec<Problem> {
    let mut found: Vec<&Found> = outcome.found.iter().collect();
    found.sort_by_key(|found| std::cmp::Reverse(found.finding.severity()));
    found.truncate(MOST_FINDINGS);
    let one = |found: &Found| {
        let code = found.finding.code();
        let (severity, repair) = (code.severity(), code.repair().name());
        let message = match &found.file {
            Some(file) => format!("{}: {}", short(&file.shown(), PATH), found.finding),
            None => found.finding.to_string(),
        };
        Problem { code: code.text(), severity, message: short(&message, MESSAGE), repair }
    };
    found.into_iter().map(one).collect()
}

/// The files of each cell of a picture.
fn owners(store: &Store, picture: &Picture, paths: &mut Shown<'_>) -> Vec<Owners> {
    let mut cells = vec![Owners::default(); picture.cells.len()];
    let _ = store.stretches(|Stretch { at, len, what, ino, .. }| {
        let Some(ino) = ino.filter(|_| matches!(what, What::File | What::Bad)) else { return };
        let number = |at: u64| small(at.checked_div(picture.cell_bytes).unwrap_or_default());
        let last = number(at.saturating_add(len.saturating_sub(1)));
        for cell in cells.get_mut(number(at)..=last).unwrap_or_default() {
            match cell.named.contains(&ino) {
                true => {}
                false if cell.named.len() < OWNERS => cell.named.push(ino),
                false => cell.more = true,
            }
        }
    });
    let (mut last, mut other) = (None, false);
    for cell in cells.iter_mut().filter(|cell| !cell.named.is_empty()) {
        let first = cell.named.first().copied();
        other ^= last.is_some() && last != first;
        last = cell.named.last().copied();
        cell.other = other;
        // Another file begins in the cell.
        other ^= last != first;
        cell.paths = cell.named.iter().map(|ino| paths.or_number(*ino)).collect();
    }
    cells
}

/// In how many extents each file is.
fn extents(store: &Store) -> HashMap<InodeNo, u64> {
    let mut counts: HashMap<InodeNo, u64> = HashMap::new();
    let mut count = |ino: InodeNo| {
        let own = counts.entry(ino).or_default();
        *own = own.saturating_add(1);
    };
    if let Ok(region) = store.native() {
        // The last block: its number, its file, its place in the file, and whether it is bad.
        let mut last: Option<(u32, InodeNo, u32, u8)> = None;
        region.descriptors(|block, entry| {
            if !entry.is_mapping() {
                last = None;
                return;
            }
            let here = (block.0, entry.owner(), entry.index.get(), entry.state);
            let follows = last.is_some_and(|(block, ino, index, state)| {
                (block.checked_add(1), ino, index.checked_add(1), state) == (Some(here.0), here.1, Some(here.2), here.3)
            });
            if !follows {
                count(here.1);
            }
            last = Some(here);
        });
        return counts;
    }
    for (ino, runs) in store.runs(|_| true).files {
        counts.insert(ino, len64(runs.len()));
    }
    counts
}

fn history(store: &Store) -> Option<History> {
    let superblock = store.native().ok()?.superblock();
    let raw = &superblock.raw;
    Some(History {
        created: raw.created.get(),
        written: raw.written.get(),
        checked: raw.checked.get(),
        commits: raw.write_count.get(),
        generation: superblock.generation.0,
        writer: name::escape(superblock.writer()),
        problems: raw.error_count.get(),
    })
}

/// The latest events.
fn events<'i>(
    inodes: impl Iterator<Item = &'i Inode>,
    history: Option<&History>,
    seals: Option<&Seals>,
    paths: &mut Shown<'_>,
) -> Vec<Event> {
    let mut latest = Latest::default();
    for inode in inodes.filter(|inode| inode.ino != InodeNo::ROOT) {
        let Some(times) = inode.attributes else { continue };
        latest.add(times.created, "created", Some(inode.ino));
        if times.modified != times.created {
            let what = if inode.kind == Kind::Directory { "entries changed" } else { "content changed" };
            latest.add(times.modified, what, Some(inode.ino));
        }
        if times.changed != times.created && times.changed != times.modified {
            latest.add(times.changed, "attributes changed", Some(inode.ino));
        }
    }
    if let Some(history) = history {
        latest.add(history.created, "region made", None);
        latest.add(history.checked, "region checked", None);
        latest.add(history.written, "last commit", None);
    }
    latest.add(seals.map_or(0, |seals| seals.when), "content sealed", None);
    let one = |(time, what, ino): (u64, &'static str, Option<InodeNo>)| Event {
        time,
        what,
        path: ino.map(|ino| paths.or_number(ino)),
    };
    latest.end().into_iter().map(one).collect()
}

/// The latest of many events. Memory does not grow with their number.
#[derive(Default)]
struct Latest(Vec<(u64, &'static str, Option<InodeNo>)>);

impl Latest {
    fn add(&mut self, time: u64, what: &'static str, ino: Option<InodeNo>) {
        if time > 0 {
            self.0.push((time, what, ino));
        }
        if self.0.len() >= MOST_EVENTS.saturating_mul(16) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        // Of events at one time, those of the region first.
        self.0.sort_by_key(|(time, what, ino)| (std::cmp::Reverse(*time), *ino, *what));
        self.0.truncate(MOST_EVENTS);
    }

    fn end(mut self) -> Vec<(u64, &'static str, Option<InodeNo>)> {
        self.cut();
        self.0
    }
}

/// Findings by severity, as the check names them.
impl Health {
    /// How many findings there are of each severity, by its word.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        self.counts.iter().map(|(severity, count)| (severity.name(), *count)).collect()
    }
}

#[cfg(test)]
mod tests;
