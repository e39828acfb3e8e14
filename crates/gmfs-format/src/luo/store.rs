//! A hand-over that has been read: its users, its sessions, their files.

use std::collections::HashSet;

use gmfs_io::num::{len64, to_u32};
use gmfs_io::{ReadAt, Span};

use super::block::{self, Layout, Links, List};
use super::found::Finds;
use super::raw::{FileRaw, SessionRaw, before_nul};
use super::{Fault, Flbs, Memfd, MemfdVersion, Root, RootError};
use crate::kho::{
    self, BlobError, Map, MapFault, Metadata, NoScratch, PAGE, Page, ReserveMem, Scratch, Setup, Tree, TreeError,
    Version, read,
};

/// Files that are listed. More than there are pages for them in a gigabyte there are not.
const MAX_FILES: usize = 1 << 20;

/// Why there is no hand-over at an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no root.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Which moment of a live update an image shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// The kernel that writes the hand-over runs, and the reboot system call has not come: names and tokens are not written.
    Running,
    /// The reboot system call has come, and no other kernel has used the memory: everything is there.
    Frozen,
    /// A later kernel runs: the preserved map is overwritten, and so may be what user space has taken.
    Later,
}

impl Moment {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Frozen => "frozen",
            Self::Later => "later",
        }
    }
}

/// How a statement was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Nothing says that it is still so: a newer hand-over is in the image.
    Stale,
    /// From records that were found by their looks, or that old links lead to.
    Scan,
    /// From links that are all there, and a preserved map that agrees.
    Complete,
}

impl Confidence {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Scan => "scan",
            Self::Complete => "complete",
        }
    }
}

/// How a session was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The root of LUO leads to it.
    Root,
    /// A list of sessions was found that looks like one.
    Sessions,
    /// A list of files was found, of a session whose name is lost.
    Files,
    /// Records were found whose names and tokens are not written.
    Records,
}

impl Origin {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Sessions => "sessions",
            Self::Files => "files",
            Self::Records => "records",
        }
    }
}

/// A file of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The number that user space gave it; `None` where it is not written.
    pub token: Option<u64>,
    /// What handed it over, such as `memfd-v2`.
    pub handler: Box<[u8]>,
    /// What the handler left: of a memfd the address of its record.
    pub data: u64,
    /// The record of a memfd; `None` for another handler.
    pub memfd: Option<Result<Memfd, Fault>>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name; `None` where it is not written or lost.
    pub name: Option<Box<[u8]>>,
    /// The page that lists it, or, where that is unknown, its files.
    pub at: u64,
    /// How many files it says that it has.
    pub count: u64,
    /// Its files, in the order in which they were preserved.
    pub files: Vec<File>,
    /// How it was come by.
    pub origin: Origin,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

/// What a user of KHO left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserData {
    /// Its name.
    pub name: Box<[u8]>,
    /// Where it left what it hands over.
    pub at: Option<u64>,
    /// How many bytes that has, as far as it is known.
    pub size: Option<u64>,
    /// Why it cannot be used, in words.
    pub fault: Option<String>,
}

/// A hand-over.
#[derive(Debug)]
pub struct Store {
    /// Its root.
    pub tree: Tree,
    /// The preserved map as far as it can be read. It counts only if [`has_map`](Self::has_map) says so.
    pub map: Map,
    has_map: bool,
    lacks_map: bool,
    /// The records of the boot protocol that hand it over.
    pub setups: Vec<Setup>,
    /// The areas into which the next kernel is put, or why they are not known.
    pub scratch: Result<Scratch, NoScratch>,
    /// Which kernel left it; `kho-v1` does not say.
    pub metadata: Option<Metadata>,
    /// Memory that `reserve_mem=` set aside.
    pub reserve_mem: Vec<ReserveMem>,
    /// All users.
    pub users: Vec<UserData>,
    /// The root of LUO; `None` if LUO is no user.
    pub luo: Option<Result<Root, RootError>>,
    /// Objects that files depend on.
    pub flbs: Flbs,
    /// The sessions.
    pub sessions: Vec<Session>,
    /// What is wrong with the list of sessions.
    pub faults: Vec<Fault>,
    /// The pages of the lists of sessions and files, in rising order.
    lists: Vec<(u64, ListOf)>,
    /// How many files are listed.
    listed: usize,
    /// The moment that the image shows.
    pub moment: Moment,
    /// How sure its statements are.
    pub confidence: Confidence,
}

/// What a page of a list lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListOf {
    /// Sessions.
    Sessions,
    /// Files of the session with this position.
    Files(usize),
}

impl Store {
    /// Reads the hand-over whose root is at an address, by its links alone.
    ///
    /// # Errors
    /// There is no root.
    pub fn read(source: &dyn ReadAt, at: u64) -> Result<Self, StoreError> {
        let tree = Tree::read(source, at)?;
        let map = Map::read(source, &tree);
        let has_map = map.is_of(source, &tree);
        let lacks_map = !has_map && map.lacks_page_for(source, &tree);
        let unwritten = map.faults() == [MapFault::NotWritten];
        let mut store = Self {
            has_map,
            lacks_map,
            setups: Vec::new(),
            scratch: Err(NoScratch::NoRecord),
            metadata: None,
            reserve_mem: Vec::new(),
            users: Vec::new(),
            luo: tree.user("LUO").map(|user| Root::read(source, user)),
            flbs: Flbs::default(),
            sessions: Vec::new(),
            faults: Vec::new(),
            lists: Vec::new(),
            listed: 0,
            moment: if has_map || unwritten { Moment::Running } else { Moment::Later },
            confidence: if has_map || unwritten { Confidence::Complete } else { Confidence::Scan },
            tree,
            map,
        };
        store.read_users(source);
        store.read_sessions(source);
        // The address of the blocks is written by the reboot system call: it alone proves the moment.
        let handed_over = matches!(&store.luo, Some(Ok(root)) if root.layout == Layout::Blocks && root.sessions != 0);
        if store.has_map && (handed_over || !store.sessions.is_empty()) {
            store.moment = Moment::Frozen;
        }
        if store.moment == Moment::Running && store.has_map {
            store.find_records(source);
        }
        Ok(store)
    }

    /// Reads all hand-overs of an image, with what a scan has found.
    pub fn read_all(source: &dyn ReadAt, finds: &Finds) -> Vec<Self> {
        let read = finds.trees.iter().filter_map(|at| Self::read(source, *at).ok());
        let mut stores: Vec<Self> = read.collect();
        for store in &mut stores {
            store.add_setups(source, finds);
        }
        // A kernel that was started by a hand-over makes the next one with a higher count. Nothing may have used the pages of
        // the old map yet, so that it still looks whole.
        let last = stores.iter().filter(|store| store.moment != Moment::Later).map(Self::count).max();
        for store in stores.iter_mut().filter(|store| Some(store.count()) < last) {
            store.moment = Moment::Later;
            store.confidence = Confidence::Scan;
        }
        let mut links = Links::default();
        for store in &stores {
            for (page, _) in &store.lists {
                let _ = links.follow(0, *page);
            }
        }
        // What was found belongs to the newest hand-over that a later kernel has taken: older ones are left over.
        let rank = |store: &Self| (store.count(), store.tree.at);
        let newest = stores.iter().filter(|store| store.moment == Moment::Later).map(rank).max();
        for store in stores.iter_mut().filter(|store| store.moment == Moment::Later) {
            if Some(rank(store)) == newest {
                store.add_found(source, finds, &mut links);
            } else {
                store.confidence = Confidence::Stale;
            }
        }
        stores
    }

    /// Takes from the release of the kernel that runs in the image what the hand-over itself does not say. It is that of the
    /// kernel that wrote it, unless a later one runs.
    pub fn written_by(&mut self, release: &str) {
        if self.moment != Moment::Later {
            self.map.written_by(release);
        }
    }

    /// Whether the links alone give everything: a scan of the image would add nothing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.moment != Moment::Later
    }

    /// Whether the preserved map is there: it is this hand-over's, and not what another owner of its pages wrote.
    #[must_use]
    pub const fn has_map(&self) -> bool {
        self.has_map
    }

    /// Whether the image holds what says which moment it shows: without a part of it [`moment`](Self::moment) is a guess.
    #[must_use]
    pub fn knows_moment(&self) -> bool {
        match (self.moment, &self.luo) {
            (Moment::Running, Some(Err(_))) => false,
            (Moment::Running, _) => !self.faults.iter().any(|fault| matches!(fault, Fault::Unreadable { .. })),
            (Moment::Frozen, _) => true,
            (Moment::Later, _) => !self.lacks_map,
        }
    }

    /// Whether the preserved map is not there because the image does not hold a page of it.
    #[must_use]
    pub const fn lacks_map(&self) -> bool {
        self.lacks_map
    }

    /// The preserved map, if it is this hand-over's.
    #[must_use]
    pub fn own_map(&self) -> Option<&Map> {
        self.has_map.then_some(&self.map)
    }

    /// Which hand-over it is: the kernel's count, or the number of the live update.
    #[must_use]
    pub fn count(&self) -> u64 {
        let number = self.luo.as_ref().and_then(|root| root.as_ref().ok()).and_then(|root| root.number);
        self.metadata.as_ref().map(|metadata| metadata.count.into()).or(number).unwrap_or_default()
    }

    /// Pages that a kernel which took this hand-over, or one before it, marks and never claims: what confirms where its page
    /// structures are.
    #[must_use]
    pub fn marked_for_ever(&self) -> Vec<u64> {
        let regions = self.reserve_mem.iter().map(|region| region.start);
        [self.tree.at].into_iter().chain(regions).collect()
    }

    /// The pages of the lists of sessions and files.
    pub fn lists(&self) -> impl Iterator<Item = (u64, ListOf)> {
        self.lists.iter().copied()
    }

    /// All files, each with its session.
    pub fn files(&self) -> impl Iterator<Item = (&Session, &File)> {
        self.sessions.iter().flat_map(|session| session.files.iter().map(move |file| (session, file)))
    }

    fn read_users(&mut self, source: &dyn ReadAt) {
        let mut users = Vec::new();
        for user in &self.tree.users {
            let text = |error: BlobError| match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            let fault = match &*user.name {
                b"memblock" => match kho::reserve_mem(source, user) {
                    Ok(found) => {
                        self.reserve_mem = found.regions;
                        found.odd.map(|odd| text(BlobError::Region(odd)))
                    }
                    Err(error) => Some(text(error)),
                },
                b"kexec-metadata" => match kho::metadata(source, user) {
                    Ok(found) => {
                        self.metadata = Some(found);
                        None
                    }
                    Err(error) => Some(text(error)),
                },
                b"LUO" => self.luo.as_ref().and_then(|root| root.as_ref().err()).map(ToString::to_string),
                _ => None,
            };
            let tree = || user.data.and_then(|at| kho::fdt::Fdt::read(source, at).ok()).map(|fdt| u64::from(fdt.size));
            users.push(UserData { name: user.name.clone(), at: user.data, size: user.size.or_else(tree), fault });
        }
        self.users = users;
    }

    fn read_sessions(&mut self, source: &dyn ReadAt) {
        let Some(Ok(root)) = &self.luo else { return };
        let (layout, first, flbs) = (root.layout, root.sessions, root.flbs);
        if let Ok(at) = flbs {
            self.flbs = Flbs::read(source, at);
        }
        if first == 0 {
            return;
        }
        let mut links = Links::default();
        self.add_sessions(source, &mut links, (layout, first), Origin::Root);
        // In a later kernel the page that an old link leads to may be anybody's.
        if self.moment == Moment::Later && !self.faults.is_empty() {
            self.sessions.clear();
            self.lists.clear();
            self.faults.clear();
        }
    }

    fn add_sessions(&mut self, source: &dyn ReadAt, links: &mut Links, list: (Layout, u64), origin: Origin) {
        let (layout, first) = list;
        let list: List<SessionRaw> = match layout {
            Layout::Blocks => block::chain(source, links, first),
            Layout::Arrays => block::area(source, links, first),
        };
        self.lists.extend(list.pages.iter().map(|page| (*page, ListOf::Sessions)));
        self.faults.extend(list.faults);
        for (at, raw) in list.entries {
            let (files, count) = (raw.files.get(), raw.count.get());
            let name = before_nul(&raw.name).unwrap_or(&raw.name).into();
            let mut session = Session { name: Some(name), at, count, files: Vec::new(), origin, faults: Vec::new() };
            if (files == 0) != (count == 0) {
                session.faults.push(Fault::NoFiles { count });
            } else if files != 0 {
                self.add_files(source, links, &mut session, (layout, files));
            }
            self.sessions.push(session);
        }
    }

    fn add_files(&mut self, source: &dyn ReadAt, links: &mut Links, session: &mut Session, list: (Layout, u64)) {
        let (layout, first) = list;
        let list: List<FileRaw> = match layout {
            Layout::Blocks => block::chain(source, links, first),
            Layout::Arrays => block::files(source, links, first, session.count),
        };
        let position = self.sessions.len();
        self.lists.extend(list.pages.iter().map(|page| (*page, ListOf::Files(position))));
        let found = len64(list.entries.len());
        if list.faults.is_empty() && found != session.count && session.origin != Origin::Files {
            session.faults.push(Fault::OtherCount { said: session.count, found });
        }
        session.faults.extend(list.faults);
        let entries = list.entries.iter().take(MAX_FILES.saturating_sub(self.listed));
        for (_, raw) in entries {
            let handler: Box<[u8]> = before_nul(&raw.handler).unwrap_or(&raw.handler).into();
            let data = raw.data.get();
            let record = |version| {
                let record = Memfd::read(source, version, data)?;
                // Who has lost the list of sessions has opened the device, and may have taken the file: a page of zeros says
                // nothing then.
                if session.origin == Origin::Files && record.is_zero() {
                    Err(Fault::Zeroed { at: data })
                } else {
                    Ok(record)
                }
            };
            let memfd = MemfdVersion::of(&handler).map(record);
            session.files.push(File { token: Some(raw.token.get()), handler, data, memfd });
        }
        self.listed = self.listed.saturating_add(session.files.len());
    }

    /// Adds what a scan knows of how the root is handed over.
    pub fn add_setups(&mut self, source: &dyn ReadAt, finds: &Finds) {
        let own = finds.setups.iter().filter(|setup| setup.tree == self.tree.at);
        self.setups = own.copied().collect();
        let read = self.setups.iter().map(|setup| Scratch::read(source, setup));
        // A kernel that has loaded the next one has several records, not all of which lead to an array yet.
        let worth = |read: &Result<Scratch, NoScratch>| match read {
            Ok(scratch) if scratch.odd.is_none() => 0,
            Ok(_) => 1,
            Err(_) => 2,
        };
        self.scratch = read.min_by_key(worth).unwrap_or(Err(NoScratch::NoRecord));
    }

    /// Adds the sessions and files that a scan has found, and that no link leads to.
    fn add_found(&mut self, source: &dyn ReadAt, finds: &Finds, links: &mut Links) {
        for found in finds.session_heads(source) {
            let followed = links.count();
            let (sessions, lists, faults) = (self.sessions.len(), self.lists.len(), self.faults.len());
            self.add_sessions(source, links, (found.layout, found.at), Origin::Sessions);
            if self.faults.len() > faults {
                // A part of a list whose rest has another owner: what it leads to is found by itself.
                self.sessions.truncate(sessions);
                self.lists.truncate(lists);
                self.faults.truncate(faults);
                links.undo(followed);
            }
        }
        for found in finds.file_heads() {
            let mut session = Session {
                name: None,
                at: found.at,
                count: found.count,
                files: Vec::new(),
                origin: Origin::Files,
                faults: Vec::new(),
            };
            if links.has(found.at) {
                continue;
            }
            self.add_files(source, links, &mut session, (found.layout, found.at));
            if !session.files.is_empty() {
                session.count = len64(session.files.len());
                self.sessions.push(session);
            }
        }
    }

    /// Finds the records of memfds among the single pages that are preserved: nothing leads to them before the reboot system
    /// call.
    fn find_records(&mut self, source: &dyn ReadAt) {
        let version = match self.tree.version {
            Version::V1 => MemfdVersion::V1,
            _ => MemfdVersion::V2,
        };
        let mut found: Vec<Memfd> = Vec::new();
        let mut taken: HashSet<u64> = HashSet::new();
        let known: HashSet<u64> = self.users.iter().filter_map(|user| user.at).chain([self.tree.at]).collect();
        self.map.ranges(source, |range| {
            for n in 0..range.count {
                let at = range.start.saturating_add(u64::from(n).saturating_mul(PAGE));
                if range.order != 0 || known.contains(&at) || found.len() >= MAX_FILES {
                    continue;
                }
                // Each record has a list and an array of its own. What shares them only looks like a record, and however
                // many do, no array is read more than once.
                let record = self.record_at(source, version, at);
                found.extend(record.filter(|record| record.take_pages(source, &mut taken)));
            }
        });
        if found.is_empty() {
            return;
        }
        // A page of another one's content can look like a record, too.
        let mut content: HashSet<u64> = HashSet::new();
        let records: HashSet<u64> = found.iter().map(|record| record.at).collect();
        for record in &found {
            let extents = record.extents(source, Some(&self.map));
            let spans = extents.filter_map(|extent| Some(Span::new(extent.at?, extent.len)));
            for span in spans {
                let pages = (0..span.len.div_ceil(PAGE)).map(|n| span.offset.saturating_add(n.saturating_mul(PAGE)));
                content.extend(pages.filter(|page| records.contains(page) && *page != record.at));
            }
        }
        let files = found.into_iter().filter(|record| !content.contains(&record.at)).map(|record| File {
            token: None,
            handler: version.handler().as_bytes().into(),
            data: record.at,
            memfd: Some(Ok(record)),
        });
        let files: Vec<File> = files.collect();
        let (at, count) = (self.tree.at, len64(files.len()));
        let origin = Origin::Records;
        if !files.is_empty() {
            self.sessions.push(Session { name: None, at, count, files, origin, faults: Vec::new() });
        }
    }

    /// The record in a page that looks like one: all of its numbers agree, its lists are there, and the rest is zero.
    fn record_at(&self, source: &dyn ReadAt, version: MemfdVersion, at: u64) -> Option<Memfd> {
        let record = Memfd::read(source, version, at).ok()?;
        // An empty file that was never sealed cannot be told from an empty page.
        if record.size == 0 && (record.seals.unwrap_or_default() == 0 || record.list != 0 || record.pages != 0) {
            return None;
        }
        if record.size == 0 && version == MemfdVersion::V1 {
            return None;
        }
        let page: Page = read(source, at).ok()?;
        if page.get(version.bytes()..)?.iter().any(|byte| *byte != 0) {
            return None;
        }
        if record.size > 0 {
            self.map.order_of(source, record.list)?;
            let first = record.folios(source).next()?.ok()?;
            self.map.order_of(source, first.frame.checked_mul(PAGE)?)?;
            if first.index != 0 || first.flags == 0 || first.flags > 3 {
                return None;
            }
        }
        Some(record)
    }

    /// How many preserved pieces there are of each order, and how many bytes. `None` without a map.
    #[must_use]
    pub fn by_order(&self, source: &dyn ReadAt) -> Option<Vec<(u32, u64, u64)>> {
        let mut sums: Vec<(u32, u64, u64)> = Vec::new();
        self.own_map()?.ranges(source, |range| {
            let bytes = range.span().len;
            match sums.last_mut().filter(|(order, ..)| *order == range.order) {
                Some((_, pieces, sum)) => {
                    *pieces = pieces.saturating_add(range.count.into());
                    *sum = sum.saturating_add(bytes);
                }
                None => sums.push((range.order, range.count.into(), bytes)),
            }
        });
        Some(sums)
    }

    /// How many sessions have names.
    #[must_use]
    pub fn named(&self) -> u32 {
        to_u32(len64(self.sessions.iter().filter(|session| session.name.is_some()).count()))
    }
}
