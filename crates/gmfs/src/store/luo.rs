//! What a kernel hands over: its sessions as directories, their files by token.

use std::collections::BTreeMap;

use gmfs_format::kho::PAGE;
use gmfs_format::luo::{self as layout, Fault, ListOf, Memfd, Part};
use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};
use gmfs_format::name;
use gmfs_io::num::{len64, to_u32};
use gmfs_io::{ReadAt as _, Span};

use super::{Inodes, Metadata, Owner, Run, Runs, Usage, What};
use crate::error::Error;
use crate::open::Source;

/// A hand-over, with the memory that it is read from.
pub struct Luo {
    store: Box<layout::Store>,
    source: Source,
    tree: Tree,
    /// Session and position of each file, and the session of each directory.
    entries: BTreeMap<InodeNo, (usize, Option<usize>)>,
}

impl Luo {
    pub(super) fn new(store: Box<layout::Store>, source: Source) -> Self {
        let (tree, entries) = list(&store);
        Self { store, source, tree, entries }
    }

    /// What was read of it.
    #[must_use]
    pub const fn store(&self) -> &layout::Store {
        &self.store
    }

    /// The memory that it is read from.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn size(&self) -> u64 {
        self.source.end().unwrap_or_else(|| self.source.size())
    }

    /// The session of a directory, or of a file.
    #[must_use]
    pub fn session(&self, ino: InodeNo) -> Option<&layout::Session> {
        self.store.sessions.get(self.entries.get(&ino)?.0)
    }

    /// What is recorded of a file.
    #[must_use]
    pub fn file(&self, ino: InodeNo) -> Option<&layout::File> {
        let (session, file) = self.entries.get(&ino)?;
        self.store.sessions.get(*session)?.files.get((*file)?)
    }

    fn memfd(&self, ino: InodeNo) -> Option<&Memfd> {
        self.file(ino)?.memfd.as_ref()?.as_ref().ok()
    }

    pub(super) fn inodes(&self) -> Inodes {
        let sessions = self.store.sessions.iter().flat_map(|session| &session.faults);
        let faults = sessions.chain(&self.store.faults);
        let lists = faults.filter(|fault| !matches!(fault, Fault::OtherCount { .. }));
        Inodes { tree: self.tree.clone(), lost_pages: 0, broken_chains: len64(lists.count()) }
    }

    fn extents(&self, memfd: &Memfd) -> layout::Extents<'_> {
        memfd.extents(&self.source, self.store.own_map())
    }

    pub(super) fn runs(&self, wanted: impl Fn(InodeNo) -> bool) -> Runs {
        let mut files = BTreeMap::new();
        for ino in self.entries.keys().filter(|ino| wanted(**ino)) {
            let Some(memfd) = self.memfd(*ino) else { continue };
            let run = |extent: layout::Extent| {
                Some(Run { offset: extent.offset, at: extent.at?, len: extent.len, bad: false })
            };
            let runs: Vec<Run> = self.extents(memfd).filter_map(run).collect();
            if !runs.is_empty() {
                files.insert(*ino, runs);
            }
        }
        Runs { files, lost_pages: 0 }
    }

    /// Whether the content of a file can be read, as far as its record goes.
    pub(super) fn content_fault(&self, ino: InodeNo) -> Option<String> {
        match &self.file(ino)?.memfd {
            None => {
                let file = self.file(ino)?;
                Some(format!("its handler is {}, which hands over no memory of a file", name::escape(&file.handler)))
            }
            Some(Err(fault)) => Some(fault.to_string()),
            // After a file was taken, its record may be left over while the list of its folios is gone.
            Some(Ok(memfd)) => memfd.folios(&self.source).next()?.err().map(|fault| fault.to_string()),
        }
    }

    /// A file's pieces. What no folio covers is lost, and never a hole: a kernel fills holes when it preserves a file.
    pub(super) fn content(&self, inode: &Inode) -> Result<Vec<Piece>, Error> {
        if let Some(why) = self.content_fault(inode.ino) {
            return Err(Error::NoContent { ino: inode.ino, why });
        }
        let Some(memfd) = self.memfd(inode.ino) else { return Ok(Vec::new()) };
        let piece = |extent: layout::Extent| {
            let file = Span::new(extent.offset, extent.len);
            extent.at.map_or(Piece::Lost { file }, |at| Piece::Data { file, at, bad: false })
        };
        Ok(self.extents(memfd).map(piece).collect())
    }

    /// The owner of a physical address.
    pub(super) fn owner(&self, address: u64) -> Owner {
        let store = &self.store;
        let page = gmfs_io::num::round_down(address, PAGE);
        let metadata = |kind: String, ino| {
            let metadata = Metadata { copy: None, page: None, kind: Some(kind), ino };
            Owner { metadata: Some(metadata), ..Owner::only(What::Metadata) }
        };
        if page == store.tree.at {
            return metadata("KHO device tree".to_owned(), None);
        }
        if store.own_map().is_some_and(|map| map.records().binary_search(&page).is_ok()) {
            return metadata("preserved map".to_owned(), None);
        }
        let holds = |at: Option<u64>, len: u64| {
            at.is_some_and(|at| (at..at.saturating_add(len.max(1)).next_multiple_of(PAGE)).contains(&address))
        };
        if let Some(user) = store.users.iter().find(|user| holds(user.at, user.size.unwrap_or(1))) {
            return metadata(format!("data of the KHO user {}", name::escape(&user.name)), None);
        }
        let root = store.luo.as_ref().and_then(|root| root.as_ref().ok());
        if holds(root.and_then(|root| root.flbs), 1) && page != 0 {
            return metadata("objects that files depend on".to_owned(), None);
        }
        if let Some((_, of)) = store.lists().find(|(at, _)| *at == page) {
            return match of {
                ListOf::Sessions => metadata("list of sessions".to_owned(), None),
                ListOf::Files(session) => metadata("list of files".to_owned(), self.directory(session)),
            };
        }
        if let Some(region) =
            store.reserve_mem.iter().find(|region| Span::new(region.start, region.size).meets(Span::new(address, 1)))
        {
            let kind = Some(format!("reserve_mem={}", name::escape(&region.label)));
            let metadata = Metadata { copy: None, page: None, kind, ino: None };
            return Owner { metadata: Some(metadata), ..Owner::only(What::ReserveMem) };
        }
        self.file_of(address).unwrap_or_else(|| self.nobody(address))
    }

    /// The file that has an address, as content or in its record.
    fn file_of(&self, address: u64) -> Option<Owner> {
        let page = gmfs_io::num::round_down(address, PAGE);
        for ino in self.entries.keys() {
            let Some(memfd) = self.memfd(*ino) else { continue };
            let mut own = None;
            // A broken list has passed on what there is of it.
            let _ = memfd.own_pages(&self.source, |part, at| {
                if at == page {
                    own = Some(part);
                }
            });
            if let Some(part) = own {
                let kind = match part {
                    Part::Record => "record",
                    Part::List => "list of pages with folios",
                    Part::Array => "page with folios",
                };
                let metadata = Metadata { copy: None, page: None, kind: Some(kind.to_owned()), ino: Some(*ino) };
                return Some(Owner { metadata: Some(metadata), ..Owner::only(What::Metadata) });
            }
            let mut extents = self.extents(memfd);
            let within = |extent: &layout::Extent| {
                let distance = address.checked_sub(extent.at?).filter(|distance| *distance < extent.len)?;
                extent.offset.checked_add(distance)
            };
            let found = extents.by_ref().find_map(|extent| within(&extent));
            if let Some(offset) = found.or_else(|| within(&extents.tail()?)) {
                return Some(Owner { file: Some((*ino, offset)), ..Owner::only(What::File) });
            }
        }
        None
    }

    /// The answer for an address that has no known owner.
    fn nobody(&self, address: u64) -> Owner {
        let scratch = self.store.scratch.as_ref();
        let one = Span::new(address, 1);
        if scratch.is_some_and(|scratch| scratch.meets(one)) {
            return Owner::only(What::Scratch);
        }
        Owner::only(match self.store.own_map() {
            Some(map) if map.order_of(&self.source, address).is_some() => What::Preserved,
            Some(_) => What::NotPreserved,
            None => What::Unknown,
        })
    }

    /// The directory of a session.
    fn directory(&self, session: usize) -> Option<InodeNo> {
        InodeNo::at_position(session.checked_add(1)?)
    }

    /// The usage, in pages.
    pub(super) fn usage(&self) -> Usage {
        let memfds = || self.store.files().filter_map(|(_, file)| file.memfd.as_ref()?.as_ref().ok());
        let data = memfds().fold(0_u64, |sum, memfd| sum.saturating_add(memfd.size.div_ceil(PAGE)));
        let records = memfds().fold(0_u64, |sum, memfd| sum.saturating_add(record_pages(memfd)));
        let lists = len64(self.store.lists().count());
        Usage { data, metadata: records.saturating_add(lists), inodes_used: len64(self.tree.len()), ..Usage::default() }
    }
}

/// Pages that a record and its lists take.
#[must_use]
pub fn record_pages(memfd: &Memfd) -> u64 {
    let pages = u64::from(memfd.pages);
    let entries = pages.checked_shr(memfd.order).unwrap_or_default();
    let chunks = if pages == 0 { 0 } else { entries.checked_div(511).unwrap_or_default().saturating_add(1) };
    pages.saturating_add(chunks).saturating_add(1)
}

/// Sessions as directories, and their files.
fn list(store: &layout::Store) -> (Tree, BTreeMap<InodeNo, (usize, Option<usize>)>) {
    let mut tree = Tree::default();
    let mut entries = BTreeMap::new();
    let blank = |ino, kind, parent, name| Inode {
        ino,
        kind,
        parent,
        name,
        size: 0,
        size_recorded: true,
        blocks: 0,
        attributes: None,
    };
    tree.insert(blank(InodeNo::ROOT, Kind::Directory, InodeNo::ROOT, Box::default()));
    let mut next = len64(store.sessions.len()).saturating_add(2);
    for (position, session) in store.sessions.iter().enumerate() {
        let Some(ino) = position.checked_add(1).and_then(InodeNo::at_position) else { break };
        let own = match (&session.name, session.origin) {
            (Some(name), _) => name::entry(name),
            (None, layout::Origin::Records) => (*b"unnamed").into(),
            (None, _) => format!("unnamed-{:#x}", session.at).into_bytes().into(),
        };
        tree.insert(blank(ino, Kind::Directory, InodeNo::ROOT, own));
        entries.insert(ino, (position, None));
        for (n, file) in session.files.iter().enumerate() {
            let number = InodeNo(to_u32(next));
            next = next.saturating_add(1);
            let name = file.token.map_or_else(|| format!("record-{:#x}", file.data), |token| format!("{token:#x}"));
            let kind = if file.memfd.is_some() { Kind::File } else { Kind::Object };
            let memfd = file.memfd.as_ref().and_then(|memfd| memfd.as_ref().ok());
            let size = memfd.map_or(0, |memfd| memfd.size);
            tree.insert(Inode {
                size,
                size_recorded: memfd.is_some(),
                blocks: size.div_ceil(PAGE),
                ..blank(number, kind, ino, name.into_bytes().into())
            });
            entries.insert(number, (position, Some(n)));
        }
    }
    (tree, entries)
}
