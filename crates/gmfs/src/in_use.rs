//! Memory of a region that processes have mapped: whoever frees or overwrites it takes it from under a guest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gmfs_check::plan::{Edit, Refused};
use gmfs_check::{Planned, Subject};
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::{BlockNo, CopyId, InodeNo, PAGE_BYTES, PageNo};
use gmfs_image::processes::Process;
use gmfs_image::{FileError, InUse};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::change::Assign;
use gmfs_volume::rebuild::load;
use gmfs_volume::used::taken;
use gmfs_volume::{Region, Used, Users};

use crate::store::{Runs, Store};

/// What was seen counts for so long: an operation asks several times.
const FRESH: Duration = Duration::from_millis(100);

/// Looks for processes that have a region mapped.
pub struct Watch {
    /// The image, and where the region is in it; `None` where nobody is looked for.
    region: Option<(PathBuf, Span)>,
    last: Option<(Instant, Arc<[Used]>)>,
    notify: fn(&Notice),
}

/// What a [`Watch`] says beside its answers.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Not all processes may be looked at, so some of them may have mapped the image.
    Unseen(PathBuf),
    /// Processes cannot be looked at.
    Unknown(PathBuf, FileError),
    /// An edit is left out.
    KeptApart(String),
}

/// Memory is in use that was to be freed or overwritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is mapped by {by}")]
#[non_exhaustive]
pub struct Mapped {
    /// The file, or the part of the region.
    pub what: String,
    /// The process.
    pub by: String,
}

impl Watch {
    /// Over the bytes `span` of the image at `path`.
    #[must_use]
    pub fn new(path: &Path, span: Span, notify: fn(&Notice)) -> Self {
        Self { region: Some((path.to_owned(), span)), last: None, notify }
    }

    /// Looks for nobody: memory in use is freed and overwritten.
    #[must_use]
    pub fn nobody() -> Self {
        Self { region: None, last: None, notify: |_| {} }
    }

    /// Refuses to overwrite bytes of a region that somebody has mapped.
    pub fn refuse_bytes<S: ReadAt + ?Sized>(&mut self, source: &S, spans: &[Span]) -> Result<(), Mapped> {
        match self.used().iter().find(|used| spans.iter().any(|span| used.span.meets(*span))) {
            Some(used) => Err(mapped(&owner(source, used.span, spans), &used.by)),
            None => Ok(()),
        }
    }

    /// Refuses to take blocks that somebody has mapped from their files: what `before` is becomes what `after` is.
    pub fn refuse_taking<B: ReadAt, A: ReadAt>(
        &mut self,
        before: &Region<B>,
        after: Option<&Region<A>>,
    ) -> Result<(), Mapped> {
        let used = self.used();
        if used.is_empty() {
            return Ok(());
        }
        match taken(before, after, &used) {
            Some((block, ino, used)) => Err(mapped(&name(before, block, ino), &used.by)),
            None => Ok(()),
        }
    }

    /// Refuses to give reserved blocks back that somebody has mapped.
    pub fn refuse_release<S: ReadAt>(&mut self, source: &S) -> Result<(), Mapped> {
        let used = self.used();
        if used.is_empty() {
            return Ok(());
        }
        let Ok(superblocks) = load(source) else { return Ok(()) };
        let region = Region::with(source, superblocks);
        let geometry = region.geometry();
        let mut first = None;
        region.descriptors(|block, entry| {
            let reserved = entry.state() == Some(gmfs_format::native::tables::BlockState::Reserved);
            let whole = Span::new(geometry.block_offset(block), geometry.block_bytes());
            if first.is_none() && reserved {
                first = used.iter().find(|used| used.span.meets(whole)).map(|used| (block, used.by.clone()));
            }
        });
        match first {
            Some((block, by)) => Err(mapped(&format!("block {block}, which is reserved,"), &by)),
            None => Ok(()),
        }
    }

    /// Splits edits into those that leave alone what is mapped, and the others with the reason.
    pub fn keep_apart<S: ReadAt>(
        &mut self,
        source: &S,
        edits: Vec<Planned>,
    ) -> (Vec<Planned>, Vec<Planned>, Vec<Refused>) {
        let used = self.used();
        if used.is_empty() {
            return (edits, Vec::new(), Vec::new());
        }
        let Ok(superblocks) = load(source) else { return (edits, Vec::new(), Vec::new()) };
        let geometry = superblocks.geometry();
        let (mut free, mut apart, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut told = BTreeSet::new();
        for planned in edits {
            let spans = touched(&planned.edit, geometry);
            let Some(used) = used.iter().find(|used| spans.iter().any(|span| used.span.meets(*span))) else {
                free.push(planned);
                continue;
            };
            let why =
                format!("{} is mapped by {}; not done: {}", owner(source, used.span, &spans), used.by, planned.edit);
            let refuse = |code: &gmfs_check::Code| Refused { code: *code, subject: Subject::Region, why: why.clone() };
            refused.extend(planned.because.iter().map(refuse));
            if told.insert(used.by.clone()) {
                (self.notify)(&Notice::KeptApart(why));
            }
            apart.push(planned);
        }
        (free, apart, refused)
    }
}

impl Users for Watch {
    fn used(&mut self) -> Arc<[Used]> {
        let Some((path, span)) = &self.region else { return Arc::default() };
        if let Some((_, used)) = self.last.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
            return Arc::clone(used);
        }
        let used: Arc<[Used]> = look(path, *span, self.notify)
            .mapped()
            .iter()
            .map(|mapped| {
                let at = mapped.span.offset.saturating_sub(span.offset);
                Used { span: Span::new(at, mapped.span.len), by: mapped.process.to_string() }
            })
            .collect();
        self.last = Some((Instant::now(), Arc::clone(&used)));
        used
    }
}

/// What processes map of an image.
fn look(path: &Path, span: Span, notify: fn(&Notice)) -> InUse {
    match InUse::look(path, span) {
        Ok(found) => {
            if found.unseen() > 0 {
                notify(&Notice::Unseen(path.to_owned()));
            }
            found
        }
        Err(error) => {
            notify(&Notice::Unknown(path.to_owned(), error));
            InUse::default()
        }
    }
}

/// The refusal.
fn mapped(what: &str, by: &str) -> Mapped {
    Mapped { what: what.to_owned(), by: by.to_owned() }
}

/// What an edit of a repair writes or frees, in bytes of the region.
fn touched(edit: &Edit, geometry: Geometry) -> Vec<Span> {
    let pages = |copies: &[CopyId], first: PageNo, count: u32| {
        let span =
            |copy: &CopyId| Span::new(geometry.page_offset(*copy, first), u64::from(count).saturating_mul(PAGE_BYTES));
        copies.iter().map(span).collect::<Vec<_>>()
    };
    let both = CopyId::BOTH.as_slice();
    match edit {
        Edit::Mend { first, count, copy, .. } => pages(&[*copy], *first, *count),
        Edit::Settle { .. } => pages(both, PageNo(0), u32::try_from(geometry.pages()).unwrap_or(u32::MAX)),
        Edit::Superblocks | Edit::Superblock { .. } | Edit::Recover => pages(both, PageNo(0), 1),
        Edit::Rewrite { page } => pages(both, *page, 1),
        Edit::Inode { ino, .. } => geometry.inode_place(*ino).map(|(page, _)| pages(both, page, 1)).unwrap_or_default(),
        Edit::Blocks { first, count, to, .. } => {
            let last = BlockNo(first.0.saturating_add(count.saturating_sub(1)));
            let ends = [*first, last].map(|block| geometry.descriptor_place(block).map(|(page, _)| page));
            let [Some(from), Some(until)] = ends else { return Vec::new() };
            let mut spans = pages(both, from, until.0.saturating_sub(from.0).saturating_add(1));
            if *to == Assign::Release {
                spans.push(Span::new(
                    geometry.block_offset(*first),
                    u64::from(*count).saturating_mul(geometry.block_bytes()),
                ));
            }
            spans
        }
    }
}

/// What is mapped, as a part of a sentence: the file that has the first block of what is mapped and written.
fn owner<S: ReadAt + ?Sized>(source: &S, used: Span, written: &[Span]) -> String {
    let from = written.iter().filter(|span| used.meets(**span)).map(|span| span.offset.max(used.offset)).min();
    let from = from.unwrap_or(used.offset);
    let bytes = || format!("the region's memory at {from:#x}");
    let Ok(superblocks) = load(source) else { return bytes() };
    let region = Region::with(source, superblocks);
    let geometry = region.geometry();
    let block = u32::try_from(geometry.pmd().split(from).0).ok().map(BlockNo);
    match block.and_then(|block| Some((block, region.descriptor(block).filter(|entry| entry.is_mapping())?))) {
        Some((block, entry)) => name(&region, block, entry.owner()),
        None => bytes(),
    }
}

/// The file that has a block.
fn name<S: ReadAt>(region: &Region<S>, block: BlockNo, ino: InodeNo) -> String {
    match region.inodes().tree.path(ino) {
        Some(path) if ino != InodeNo::NONE => gmfs_format::name::escape(&path),
        _ if ino != InodeNo::NONE => format!("inode {ino}"),
        _ => format!("block {block}"),
    }
}

/// Which processes have files of a store mapped.
#[derive(Debug, Default)]
pub struct ByFile(BTreeMap<InodeNo, BTreeSet<Process>>);

impl ByFile {
    /// Of the files in `runs`. Of a dump nobody maps anything.
    #[must_use]
    pub fn look(store: &Store, runs: &Runs, notify: fn(&Notice)) -> Self {
        let mut found: BTreeMap<InodeNo, BTreeSet<Process>> = BTreeMap::new();
        if store.place.kind.is_dump() {
            return Self(found);
        }
        let base = store.place.base;
        let seen = look(&store.place.path, Span::new(base, store.size()), notify);
        for (ino, runs) in &runs.files {
            for run in runs {
                let span = Span::new(base.saturating_add(run.at), run.len);
                let users = seen.mapped().iter().filter(|mapped| mapped.span.meets(span));
                found.entry(*ino).or_default().extend(users.map(|mapped| mapped.process.clone()));
            }
        }
        Self(found)
    }

    /// Those that have a file mapped, by their numbers.
    pub fn of(&self, ino: InodeNo) -> impl Iterator<Item = &Process> {
        self.0.get(&ino).into_iter().flatten()
    }
}
