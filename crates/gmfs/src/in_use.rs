//! Memory of a region that processes have mapped: to free or overwrite it would change the memory of a running guest.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gmfs_check::repair::HeldBack;
use gmfs_check::{Decide, Decision, Edit, Planned, Question, Refusal};
use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_image::processes::Process;
use gmfs_image::{FileError, InUse};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::rebuild::load_or_rebuild;
use gmfs_volume::used::taken;
use gmfs_volume::{Region, Superblocks, Used, Users};

use crate::store::{Runs, Store};

/// How long the result of a look counts: an operation asks several times.
const FRESH: Duration = Duration::from_millis(100);

/// Looks for processes that have a region mapped.
pub struct Watch {
    /// The image, and where the region is in it; `None` if no processes are looked for.
    region: Option<(PathBuf, Span)>,
    last: Option<(Instant, Arc<[Used]>)>,
    notify: fn(&Notice),
}

/// What a [`Watch`] reports apart from its answers.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Not all processes may be examined, so some of them may have mapped the image.
    Unseen(PathBuf),
    /// Processes cannot be examined.
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
    /// A watch over the bytes `span` of the image at `path`.
    #[must_use]
    pub fn new(path: &Path, span: Span, notify: fn(&Notice)) -> Self {
        Self { region: Some((path.to_owned(), span)), last: None, notify }
    }

    /// A watch that looks for no processes: memory in use is freed and overwritten.
    #[must_use]
    pub fn nobody() -> Self {
        Self { region: None, last: None, notify: |_| {} }
    }

    /// Refuses to overwrite bytes of a region that a process has mapped.
    pub fn refuse_bytes<S: ReadAt + ?Sized>(&mut self, source: &S, spans: &[Span]) -> Result<(), Mapped> {
        match self.used().iter().find(|used| spans.iter().any(|span| used.span.meets(*span))) {
            Some(used) => Err(mapped(&owner(source, used.span, spans), &used.by)),
            None => Ok(()),
        }
    }

    /// Refuses to take blocks away from their files while a process has them mapped. The change leads from `before` to
    /// `after`.
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

    /// Refuses to free reserved blocks that a process has mapped.
    pub fn refuse_release<S: ReadAt>(&mut self, source: &S) -> Result<(), Mapped> {
        let used = self.used();
        if used.is_empty() {
            return Ok(());
        }
        let Ok(superblocks) = load_or_rebuild(source) else { return Ok(()) };
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

    /// Names the edits of a repair that write or free what is mapped. `state` is what the repair starts from.
    pub fn hold_back<S: ReadAt + ?Sized>(
        &mut self,
        source: &S,
        state: &Superblocks,
        edits: &[Planned],
    ) -> Vec<HeldBack> {
        let touches = |edit: &Edit| Some(edit.touches(state.geometry()));
        let region = Region::with(source, state);
        self.held_back(edits, touches, |used, spans| owner_in(&region, used, spans))
    }

    /// Names the edits of a repair of a store that is not native that write or free what is mapped.
    pub fn hold_back_bytes<S: ReadAt + ?Sized>(&mut self, source: &S, edits: &[Planned]) -> Vec<HeldBack> {
        let touches = |edit: &Edit| if let Edit::Pkernfs(written) = edit { Some(written.touches()) } else { None };
        self.held_back(edits, touches, |used, spans| owner(source, used, spans))
    }

    /// The edits that touch what is mapped: `touches` says where an edit writes or frees, and `whose` to whom it belongs.
    fn held_back(
        &mut self,
        edits: &[Planned],
        touches: impl Fn(&Edit) -> Option<Vec<Span>>,
        whose: impl Fn(Span, &[Span]) -> String,
    ) -> Vec<HeldBack> {
        let used = self.used();
        let (mut held, mut told) = (Vec::new(), BTreeSet::new());
        if used.is_empty() {
            return held;
        }
        for (edit, planned) in edits.iter().enumerate() {
            let Some(spans) = touches(&planned.edit) else { continue };
            let Some(used) = used.iter().find(|used| spans.iter().any(|span| used.span.meets(*span))) else { continue };
            let what = whose(used.span, &spans);
            let why = Refusal::InUse { what, by: used.by.clone(), edit: planned.edit.to_string() };
            if told.insert(used.by.clone()) {
                (self.notify)(&Notice::KeptApart(why.to_string()));
            }
            held.push(HeldBack { edit, why });
        }
        held
    }
}

/// Agrees to every edit of a repair, except to those of memory that a process has mapped.
pub struct Willing<'w> {
    /// Finds out what is mapped.
    pub watch: &'w mut Watch,
}

impl Decide for Willing<'_> {
    fn decide(&mut self, _: &Question<'_>) -> Decision {
        Decision::Repair
    }

    fn hold_back(&mut self, source: &dyn ReadAt, state: &Superblocks, edits: &[Planned]) -> Vec<HeldBack> {
        self.watch.hold_back(source, state, edits)
    }

    fn hold_back_bytes(&mut self, source: &dyn ReadAt, edits: &[Planned]) -> Vec<HeldBack> {
        self.watch.hold_back_bytes(source, edits)
    }
}

impl Users for Watch {
    fn used(&mut self) -> Arc<[Used]> {
        let Some((path, span)) = &self.region else { return Arc::default() };
        if let Some((_, used)) = self.last.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
            return Arc::clone(used);
        }
        let found = mapped_by_others(path, *span, self.notify);
        let mapped = found.mapped().iter().map(|mapped| (mapped.span, mapped.process.to_string()));
        // A process that has memory locked is about to map it, or its mappings cannot be seen.
        let locked = found.locked().iter().map(|locked| (locked.span, locked.by.to_string()));
        let mut used: Vec<Used> = mapped
            .chain(locked)
            .map(|(part, by)| Used { span: Span::new(part.offset.saturating_sub(span.offset), part.len), by })
            .collect();
        used.sort_by_key(|used| used.span.offset);
        let used: Arc<[Used]> = used.into();
        self.last = Some((Instant::now(), Arc::clone(&used)));
        used
    }
}

/// What processes map of an image.
fn mapped_by_others(path: &Path, span: Span, notify: fn(&Notice)) -> InUse {
    match InUse::find(path, span) {
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

/// What is mapped, as a part of a sentence: the file that has the first block of what is mapped and written.
fn owner<S: ReadAt + ?Sized>(source: &S, used: Span, written: &[Span]) -> String {
    match load_or_rebuild(source) {
        Ok(superblocks) => owner_in(&Region::with(source, superblocks), used, written),
        Err(_) => memory_at(start_of(used, written)),
    }
}

/// Likewise, in a region that is open.
fn owner_in<S: ReadAt, B: Borrow<Superblocks>>(region: &Region<S, B>, used: Span, written: &[Span]) -> String {
    let from = start_of(used, written);
    let block = u32::try_from(region.geometry().pmd().split(from).0).ok().map(BlockNo);
    match block.and_then(|block| Some((block, region.descriptor(block).filter(|entry| entry.is_mapping())?))) {
        Some((block, entry)) => name(region, block, entry.owner()),
        None => memory_at(from),
    }
}

/// The first byte that is both mapped and written.
fn start_of(used: Span, written: &[Span]) -> u64 {
    let both = written.iter().filter(|span| used.meets(**span)).map(|span| span.offset.max(used.offset));
    both.min().unwrap_or(used.offset)
}

fn memory_at(offset: u64) -> String {
    format!("the region's memory at {offset:#x}")
}

/// The name of the file that has a block.
fn name<S: ReadAt, B: Borrow<Superblocks>>(region: &Region<S, B>, block: BlockNo, ino: InodeNo) -> String {
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
    /// Looks for the processes that have the files in `runs` mapped. No process maps a dump.
    #[must_use]
    pub fn find(store: &Store, runs: &Runs, notify: fn(&Notice)) -> Self {
        let mut found: BTreeMap<InodeNo, BTreeSet<Process>> = BTreeMap::new();
        if store.place.kind.is_dump() {
            return Self(found);
        }
        let base = store.place.base;
        let seen = mapped_by_others(&store.place.path, Span::new(base, store.size()), notify);
        for (ino, runs) in &runs.files {
            for run in runs {
                let span = Span::new(base.saturating_add(run.at), run.len);
                let users = seen.mapped().iter().filter(|mapped| mapped.span.meets(span));
                found.entry(*ino).or_default().extend(users.map(|mapped| mapped.process.clone()));
            }
        }
        Self(found)
    }

    /// The processes that have a file mapped, in the order of their numbers.
    pub fn of(&self, ino: InodeNo) -> impl Iterator<Item = &Process> {
        self.0.get(&ino).into_iter().flatten()
    }
}
