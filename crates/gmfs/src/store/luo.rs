//! What a kernel hands over: its sessions as directories, their files by token.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use gmfs_format::kho::{Hints, PAGE, PageStructs};
use gmfs_format::luo::{self as layout, Fault, ListOf, Memfd, Part};
use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};
use gmfs_format::name;
use gmfs_io::num::{len64, to_u32};
use gmfs_io::{ReadAt as _, Span};

use super::page_set::PageSet;
use super::{Inodes, Metadata, Owner, Run, Runs, Usage, What, known_as};
use crate::error::Error;
use crate::open::Source;

/// One past the last physical address that a page can have.
const ADDRESSES: u64 = 1 << 52;

/// A hand-over, with the memory that it is read from.
pub struct Luo {
    store: Box<layout::Store>,
    source: Source,
    tree: Tree,
    /// Session and position of each file, and the session of each directory.
    entries: BTreeMap<InodeNo, (usize, Option<usize>)>,
    names: OnceLock<BTreeMap<InodeNo, String>>,
}

impl Luo {
    pub(super) fn new(store: Box<layout::Store>, source: Source) -> Self {
        let (tree, entries) = list(&store);
        Self { store, source, tree, entries, names: OnceLock::new() }
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

    /// Whether nothing tells the size of a file: it is in its record, which is not in the image or is damaged.
    pub(super) fn lacks_size(&self, ino: InodeNo) -> bool {
        self.file(ino).is_some_and(|file| matches!(file.memfd, Some(Err(_))))
    }

    fn memfd(&self, ino: InodeNo) -> Option<&Memfd> {
        self.file(ino)?.memfd.as_ref()?.as_ref().ok()
    }

    /// What systemd calls a file or a session, in a session where it says so.
    #[must_use]
    pub fn known_as(&self, ino: InodeNo) -> Option<&str> {
        self.names.get_or_init(|| self.names()).get(&ino).map(String::as_str)
    }

    fn names(&self) -> BTreeMap<InodeNo, String> {
        let mut all = BTreeMap::new();
        // The list of sessions may be lost: then the content of the file tells.
        let may_have = |session: usize| {
            let session = self.store.sessions.get(session);
            session.is_some_and(|session| session.name.as_deref().is_none_or(|name| name == known_as::SESSION))
        };
        let (mut left, mut found) = (known_as::MAX_BYTES, Vec::new());
        for (ino, (session, _)) in self.entries.iter().filter(|(_, (session, _))| may_have(*session)) {
            if self.file(*ino).and_then(|file| file.token) != Some(known_as::TOKEN) {
                continue;
            }
            let size = self.memfd(*ino).map_or(u64::MAX, |memfd| memfd.size);
            let Some(rest) = left.checked_sub(size) else { continue };
            left = rest;
            found.extend(self.names_in(*ino).map(|names| (*session, names)));
            if found.len() >= known_as::MAX_MAPS {
                break;
            }
        }
        for (own, names) in found {
            for (ino, (session, file)) in &self.entries {
                let name = match file {
                    Some(_) if *session != own => None,
                    Some(_) => self.file(*ino).and_then(|file| names.tokens.get(&file.token?)),
                    None => {
                        let name = self.store.sessions.get(*session).and_then(|session| session.name.as_deref());
                        name.and_then(|name| names.sessions.get(std::str::from_utf8(name).ok()?))
                    }
                };
                if let Some(name) = name {
                    all.insert(*ino, name.clone());
                }
            }
        }
        all
    }

    /// The names in a file that is to have them.
    fn names_in(&self, ino: InodeNo) -> Option<known_as::Names> {
        let memfd = self.memfd(ino)?;
        let mut bytes = Vec::new();
        for extent in self.extents(memfd) {
            let start = bytes.len();
            bytes.resize(start.saturating_add(gmfs_io::num::small(extent.len)), 0);
            self.source.read_at(extent.at?, bytes.get_mut(start..)?).ok()?;
        }
        known_as::parse(&bytes)
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

    /// The records of these files, each with whether its list is its own. A list that shares pages with one before it is damage,
    /// and would multiply the work.
    fn records(&self, files: impl IntoIterator<Item = InodeNo>) -> impl Iterator<Item = (InodeNo, &Memfd, bool)> {
        let mut taken = HashSet::new();
        files.into_iter().filter_map(move |ino| {
            let memfd = self.memfd(ino)?;
            Some((ino, memfd, memfd.is_alone(&self.source, &mut taken)))
        })
    }

    /// The records of all files whose lists are their own.
    fn own_records(&self) -> impl Iterator<Item = (InodeNo, &Memfd)> {
        self.records(self.entries.keys().copied()).filter(|(.., alone)| *alone).map(|(ino, memfd, _)| (ino, memfd))
    }

    pub(super) fn runs(&self, wanted: impl Fn(InodeNo) -> bool) -> Runs {
        let wanted: Vec<InodeNo> = self.entries.keys().copied().filter(|ino| wanted(*ino)).collect();
        let (mut files, mut lost_pages) = (BTreeMap::new(), 0_u64);
        for (ino, memfd, alone) in self.records(wanted) {
            if !alone {
                lost_pages = lost_pages.saturating_add(1);
                continue;
            }
            let run = |extent: layout::Extent| {
                // A run has whole pages.
                let len = extent.len.checked_next_multiple_of(PAGE)?;
                Some(Run { offset: extent.offset, at: extent.at?, len, bad: false })
            };
            let runs: Vec<Run> = self.extents(memfd).filter_map(run).collect();
            if !runs.is_empty() {
                files.insert(ino, runs);
            }
        }
        Runs { files, lost_pages }
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

    /// As [`content`](Self::content), from runs that were read already.
    pub(super) fn content_of(&self, inode: &Inode, runs: &Runs) -> Result<Vec<Piece>, Error> {
        let Some(runs) = runs.files.get(&inode.ino) else { return self.content(inode) };
        if let Some(why) = self.content_fault(inode.ino) {
            return Err(Error::NoContent { ino: inode.ino, why });
        }
        Ok(pieces(runs, inode.size))
    }

    /// The owner of a physical address.
    pub(super) fn owner(&self, address: u64) -> Owner {
        self.known_owner(address).or_else(|| self.file_of(address)).unwrap_or_else(|| self.nobody(address))
    }

    /// The owner of a physical address past the last byte of the image: what is handed over need not be in a dump.
    pub(super) fn owner_past_end(&self, address: u64) -> Owner {
        let owner = if address < ADDRESSES { self.owner(address) } else { Owner::only(What::Outside) };
        match owner.what {
            What::NotPreserved | What::Unknown => Owner::only(What::Outside),
            _ => owner,
        }
    }

    /// The owner of a physical address that is not a file's.
    fn known_owner(&self, address: u64) -> Option<Owner> {
        let store = &self.store;
        let page = gmfs_io::num::round_down(address, PAGE);
        let metadata = |kind: String, ino| {
            let metadata = Metadata { copy: None, page: None, kind: Some(kind), ino };
            Some(Owner { metadata: Some(metadata), ..Owner::only(What::Metadata) })
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
        if holds(self.flbs(), 1) {
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
            return Some(Owner { metadata: Some(metadata), ..Owner::only(What::ReserveMem) });
        }
        None
    }

    /// Where the kernel has its page structures, which say what nobody has claimed.
    pub(super) fn page_structs(&self, hints: &Hints) -> Result<PageStructs, NoPageStructs> {
        if hints.is_empty() {
            return Err(NoPageStructs::NoTables);
        }
        let found = PageStructs::find(&self.source, hints, &self.store.marked_for_ever());
        found.ok_or(NoPageStructs::NotFound)
    }

    /// Hands to `each` what the kernel still holds for users that have not claimed it, in rising order. Gives whether all
    /// page structures could be read.
    pub fn unclaimed(&self, structs: &PageStructs, mut each: impl FnMut(Unclaimed)) -> bool {
        let owned = self.owned();
        let end = self.source.end().unwrap_or(u64::MAX);
        let mut held: Option<Unclaimed> = None;
        let complete = structs.marked(&self.source, end, |at, order| {
            let owner = self.known_owner(at).or_else(|| owner_among(&owned, at));
            let next = Unclaimed {
                span: Span::new(at, PAGE.checked_shl(order).unwrap_or(PAGE)),
                order,
                pieces: 1,
                owner: owner.unwrap_or_else(|| Owner::only(What::Preserved)),
            };
            match &mut held {
                Some(before) if before.takes(&next) => {
                    before.span.len = before.span.len.saturating_add(next.span.len);
                    before.pieces = before.pieces.saturating_add(1);
                }
                _ => held.replace(next).into_iter().for_each(&mut each),
            }
        });
        held.into_iter().for_each(each);
        complete
    }

    /// How many folios of a file the kernel still holds because nobody has claimed them, and how many there are. `None` if
    /// the file has no record that can be used, or if the image lacks a page structure.
    #[must_use]
    pub fn held(&self, structs: &PageStructs, ino: InodeNo) -> Option<(u64, u64)> {
        let memfd = self.memfd(ino)?;
        let (mut held, mut all) = (0_u64, 0_u64);
        for folio in memfd.folios(&self.source) {
            let at = folio.ok()?.frame.checked_mul(PAGE)?;
            if !structs.has(&self.source, at) {
                return None;
            }
            all = all.saturating_add(1);
            held = held.saturating_add(structs.order_at(&self.source, at).is_some().into());
        }
        Some((held, all))
    }

    /// The orders of a file's folios, and how many it has of each. The last folio is counted only where a
    /// preserved map says its order.
    #[must_use]
    pub fn folio_orders(&self, ino: InodeNo) -> BTreeMap<u32, u64> {
        let mut orders = BTreeMap::new();
        let Some(memfd) = self.memfd(ino) else { return orders };
        let mut add = |pages: u64, folios: u64| {
            if let Some(order) = pages.checked_ilog2().filter(|_| folios > 0) {
                let count: &mut u64 = orders.entry(order).or_default();
                *count = count.saturating_add(folios);
            }
        };
        let mut held: Option<layout::Folio> = None;
        let mut folios = memfd.folios(&self.source);
        while let Some(run) = folios.next_run() {
            let Ok(run) = run else { return orders };
            if let Some(before) = held.replace(run.last()) {
                add(run.first.index.saturating_sub(before.index), 1);
            }
            add(run.step, run.count.saturating_sub(1));
        }
        let last = held.and_then(|last| self.store.own_map()?.order_of(&self.source, last.frame.checked_mul(PAGE)?));
        if let Some(order) = last {
            add(1_u64.checked_shl(order).unwrap_or_default(), 1);
        }
        orders
    }

    /// The page of the objects that files depend on.
    fn flbs(&self) -> Option<u64> {
        self.store.luo.as_ref()?.as_ref().ok()?.flbs.ok()
    }

    /// The memory that is handed over, and for whom, without what files have: that is [`each_owned`](Self::each_owned).
    fn handed(&self) -> Vec<(Span, For)> {
        let store = &self.store;
        let mut spans = vec![(Span::new(store.tree.at, store.tree.size.into()), For::Kho)];
        let user =
            |(n, user): (usize, &layout::UserData)| Some((Span::new(user.at?, user.size.unwrap_or(1)), For::User(n)));
        spans.extend(store.users.iter().enumerate().filter_map(user));
        let named = |name: &[u8]| store.users.iter().position(|user| *user.name == *name).map_or(For::Kho, For::User);
        let (luo, memblock) = (named(b"LUO"), named(b"memblock"));
        let pages = store.lists().map(|(at, _)| at).chain(self.flbs());
        spans.extend(pages.map(|at| (Span::new(at, PAGE), luo)));
        spans.extend(store.reserve_mem.iter().map(|region| (Span::new(region.start, region.size), memblock)));
        spans
    }

    /// The memory that the hand-over consists of, as far as it is known, by rising address: device tree, preserved map, what
    /// hands the root over, data of users, lists, records, content, memory that `reserve_mem=` set aside. Pages of a map that
    /// another owner has overwritten belong to it too: they show that a later kernel runs.
    #[must_use]
    pub fn parts(&self) -> Vec<Span> {
        let store = &self.store;
        let mut spans: Vec<Span> = self.handed().into_iter().map(|(span, _)| span).collect();
        spans.extend(store.map.records().iter().map(|at| Span::new(*at, PAGE)));
        for setup in &store.setups {
            spans.extend([Span::new(setup.at, PAGE), Span::new(setup.scratch, setup.scratch_bytes)]);
        }
        self.each_owned(|span, _, _| spans.push(span));
        let whole = |span: Span| {
            let (start, end) =
                (gmfs_io::num::round_down(span.offset, PAGE), span.end().checked_next_multiple_of(PAGE)?);
            (end <= 1 << 52).then(|| Span::new(start, end.saturating_sub(start).max(PAGE)))
        };
        let mut spans: Vec<Span> = spans.into_iter().filter_map(whole).collect();
        spans.sort_unstable_by_key(|span| (span.offset, span.len));
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut().filter(|last| last.end() >= span.offset) {
                Some(last) => last.len = last.len.max(span.end().saturating_sub(last.offset)),
                None => merged.push(span),
            }
        }
        merged
    }

    /// How many preserved bytes each user of the hand-over has; last what belongs to no user that is known. `None` without
    /// a preserved map.
    #[must_use]
    pub fn by_user(&self) -> Option<Vec<(String, u64)>> {
        let (store, map) = (&self.store, self.store.own_map()?);
        let names: Vec<String> = store.users.iter().map(|user| name::escape(&user.name)).collect();
        let names: Vec<String> = std::iter::once("KHO".to_owned()).chain(names).collect();
        let class = |user| match user {
            For::Kho => 0,
            For::User(n) => n.saturating_add(1),
        };
        let pages = |span: Span| Span::new(span.offset, span.len.max(1).checked_next_multiple_of(PAGE).unwrap_or(PAGE));
        let mut spans: Vec<(Span, usize)> =
            self.handed().into_iter().map(|(span, user)| (pages(span), class(user))).collect();
        let luo = store.users.iter().position(|user| *user.name == *b"LUO").map_or(0, |n| n.saturating_add(1));
        // A file can have a million pieces, none of which adjoins to another.
        let mut small = PageSet::default();
        self.each_owned(|span, _, _| {
            if !small.insert(span) {
                spans.push((span, luo));
            }
        });
        spans.sort_unstable_by_key(|(span, _)| (span.offset, span.len));
        // Whoever comes first in memory has what two have.
        let mut covered = 0;
        for (span, _) in &mut spans {
            let (start, end) = (span.offset.max(covered), span.end().max(covered));
            (*span, covered) = (Span::new(start, end.saturating_sub(start)), end);
        }
        for (span, _) in &spans {
            small.remove(*span);
        }
        let (mut sums, mut rest) = (vec![0_u64; names.len()], 0_u64);
        map.ranges(&self.source, |range| {
            let range = range.span();
            let mut known = 0_u64;
            let mut add = |len: u64, class: usize| {
                known = known.saturating_add(len);
                if let Some(sum) = sums.get_mut(class) {
                    *sum = sum.saturating_add(len);
                }
            };
            let first = spans.partition_point(|(span, _)| span.end() <= range.offset);
            for (span, class) in spans.iter().skip(first).take_while(|(span, _)| span.offset < range.end()) {
                add(span.end().min(range.end()).saturating_sub(span.offset.max(range.offset)), *class);
            }
            add(small.bytes_in(range), luo);
            rest = rest.saturating_add(range.len.saturating_sub(known));
        });
        Some(names.into_iter().zip(sums).chain([("no known user".to_owned(), rest)]).collect())
    }

    /// Hands to `each` what files have: content and the pages of records. Content comes in whole pages.
    fn each_owned(&self, mut each: impl FnMut(Span, InodeNo, Own)) {
        for (ino, memfd) in self.own_records() {
            // A broken list has passed on what there is of it.
            let _ = memfd.own_pages(&self.source, |part, at| each(Span::new(at, PAGE), ino, Own::Part(part)));
            // A page that holds the end of the file is one with what follows: pages count whole, and once.
            let own = |extent: layout::Extent| {
                let at = extent.at?.checked_next_multiple_of(PAGE)?;
                let skipped = at.saturating_sub(extent.at?);
                let len = extent.len.checked_sub(skipped).filter(|len| *len > 0)?.checked_next_multiple_of(PAGE)?;
                Some((Span::new(at, len), Own::Content(extent.offset.saturating_add(skipped))))
            };
            let mut extents = self.extents(memfd);
            for (span, content) in extents.by_ref().filter_map(own) {
                each(span, ino, content);
            }
            if let Some((span, content)) = extents.tail().and_then(own) {
                each(span, ino, content);
            }
        }
    }

    /// What files have, by rising address.
    fn owned(&self) -> Vec<(Span, InodeNo, Own)> {
        let mut owned = Vec::new();
        self.each_owned(|span, ino, own| owned.push((span, ino, own)));
        owned.sort_unstable_by_key(|(span, ..)| (span.offset, span.len));
        owned
    }

    /// The file that has an address, as content or in its record.
    fn file_of(&self, address: u64) -> Option<Owner> {
        let page = gmfs_io::num::round_down(address, PAGE);
        for (ino, memfd) in self.own_records() {
            let mut own = None;
            // A broken list has passed on what there is of it.
            let _ = memfd.own_pages(&self.source, |part, at| {
                if at == page {
                    own = Some(part);
                }
            });
            if let Some(part) = own {
                return Some(owner_of(ino, Own::Part(part), 0));
            }
            let mut extents = self.extents(memfd);
            let within = |extent: &layout::Extent| {
                let distance = address.checked_sub(extent.at?).filter(|distance| *distance < extent.len)?;
                extent.offset.checked_add(distance)
            };
            let found = extents.by_ref().find_map(|extent| within(&extent));
            if let Some(offset) = found.or_else(|| within(&extents.tail()?)) {
                return Some(Owner { file: Some((ino, offset)), ..Owner::only(What::File) });
            }
        }
        None
    }

    /// The answer for an address that has no known owner.
    fn nobody(&self, address: u64) -> Owner {
        let one = Span::new(address, 1);
        if self.store.scratch.as_ref().is_ok_and(|scratch| scratch.meets(one)) {
            return Owner::only(What::Scratch);
        }
        Owner::only(match self.store.own_map() {
            Some(map) if map.order_of(&self.source, address).is_some() => What::Preserved,
            Some(map) if map.is_whole() => What::NotPreserved,
            _ => What::Unknown,
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

/// Why it is not known what a kernel still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPageStructs {
    /// Nothing leads to the kernel's page tables.
    #[error("the image says nothing that leads to the kernel's page tables: neither VMCOREINFO nor registers of a CPU")]
    NoTables,
    /// Page tables lead to no page structures with a mark.
    #[error("the kernel's page structures were not found: they are not in the image, or the kernel is older than 6.18")]
    NotFound,
}

/// Preserved pieces one after another that nobody has claimed: of one order, with one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unclaimed {
    /// The memory.
    pub span: Span,
    /// Each piece has 2^order pages.
    pub order: u32,
    /// How many pieces.
    pub pieces: u64,
    /// Whose the first byte is, by the records.
    pub owner: Owner,
}

impl Unclaimed {
    /// Whether another piece continues this one.
    fn takes(&self, next: &Self) -> bool {
        let file = |owner: &Owner, back: u64| owner.file.map(|(ino, at)| (ino, at.checked_sub(back)));
        let mine = (self.owner.what, file(&self.owner, 0), &self.owner.metadata);
        let theirs = (next.owner.what, file(&next.owner, self.span.len), &next.owner.metadata);
        self.span.end() == next.span.offset && self.order == next.order && mine == theirs
    }
}

/// For whom memory is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// The hand-over itself.
    Kho,
    /// The user with this position.
    User(usize),
}

/// What a file has of memory: content at an offset, or a page of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Own {
    Content(u64),
    Part(Part),
}

/// The owner of an address among what files have, which is in rising order.
fn owner_among(owned: &[(Span, InodeNo, Own)], address: u64) -> Option<Owner> {
    let below = owned.partition_point(|(span, ..)| span.offset <= address);
    let (span, ino, own) = owned.get(below.checked_sub(1)?)?;
    let distance = address.checked_sub(span.offset).filter(|distance| *distance < span.len)?;
    Some(owner_of(*ino, *own, distance))
}

fn owner_of(ino: InodeNo, own: Own, distance: u64) -> Owner {
    let kind = match own {
        Own::Content(offset) => {
            return Owner { file: Some((ino, offset.saturating_add(distance))), ..Owner::only(What::File) };
        }
        Own::Part(Part::Record) => "record",
        Own::Part(Part::List) => "list of pages with folios",
        Own::Part(Part::Array) => "page with folios",
    };
    let metadata = Metadata { copy: None, page: None, kind: Some(kind.to_owned()), ino: Some(ino) };
    Owner { metadata: Some(metadata), ..Owner::only(What::Metadata) }
}

/// Pages that a record and its lists take.
#[must_use]
pub fn record_pages(memfd: &Memfd) -> u64 {
    let pages = u64::from(memfd.pages);
    let entries = pages.checked_shr(memfd.order).unwrap_or_default();
    let chunks = if pages == 0 { 0 } else { entries.checked_div(511).unwrap_or_default().saturating_add(1) };
    pages.saturating_add(chunks).saturating_add(1)
}

/// The pieces of a file of so many bytes whose runs are known, in order. What no run covers is lost.
fn pieces(runs: &[Run], size: u64) -> Vec<Piece> {
    let (mut pieces, mut covered) = (Vec::with_capacity(runs.len()), 0);
    let lost = |from: u64, to: u64| (from < to).then(|| Piece::Lost { file: Span::new(from, to.saturating_sub(from)) });
    for run in runs {
        pieces.extend(lost(covered, run.offset));
        // The last page of a run may reach past the end of the file.
        let end = run.offset.saturating_add(run.len).min(size);
        let file = Span::new(run.offset, end.saturating_sub(run.offset));
        pieces.push(Piece::Data { file, at: run.at, bad: false });
        covered = end;
    }
    pieces.extend(lost(covered, size));
    pieces
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
