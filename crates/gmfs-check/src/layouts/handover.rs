//! What a kernel of mainline hands over: the preserved map of KHO, and the sessions and files of LUO. Offsets are physical
//! addresses.
//!
//! In a later kernel the map is overwritten, and so is what user space has taken: what does not agree there proves nothing,
//! and counts as unknown.

mod scratch;
mod users;

use std::collections::{HashMap, HashSet};

use gmfs_format::kho::{MapFault, PAGE, Version};
use gmfs_format::luo::{Fault, File, Folio, FolioRun, ListOf, Memfd, Moment, NoFlbs, Origin, Part, Session, Store};
use gmfs_format::name;
use gmfs_format::reading::Lack;
use gmfs_io::{ReadAt, Span};

use super::claims::{Claim, Claims, Piece};
use super::{Checked, Gathered};
use crate::finding::{Reason, Subject};
use crate::problem::{Address, Mask, Problem, Text};

/// Page frames that no machine has: physical addresses have 52 bits.
const NO_FRAME: u64 = 1 << 40;
/// Bytes of a session's name with the NUL at the end.
const NAME: usize = 64;
/// Bytes of a handler's name, and of that of an object that files depend on, with the NUL at the end.
const SHORT_NAME: usize = 48;
/// The flags of a folio that was handed over: it is dirty and up to date.
const FLAGS: u64 = 3;
/// Pieces of memory that are looked at for all users but the files.
const MAX_PIECES: u64 = 1 << 26;
/// Folios that are looked at. Without a map fewer, because nothing says how many there can be.
const MAX_FOLIOS: u64 = 1 << 31;
const MAX_FOLIOS_WITHOUT_MAP: u64 = 1 << 28;

/// Folios that are looked at one by one before several are looked at together again.
const CLOSELY: u64 = 16;

/// Says of physical addresses whether the machine has memory there; `None` where that is unknown.
pub type IsMemory<'m> = &'m dyn Fn(Span) -> Option<bool>;

/// Checks what a kernel hands over. Offsets are physical addresses. Where the machine has memory is unknown.
#[must_use]
pub fn check_handover(store: &Store, source: &dyn ReadAt) -> Checked {
    check_handover_in(store, source, &|_| None)
}

/// Checks what a kernel hands over in a machine of which it is known where it has memory.
#[must_use]
pub fn check_handover_in(store: &Store, source: &dyn ReadAt, is_memory: IsMemory<'_>) -> Checked {
    let claims = store.own_map().map(|map| Claims::new(map, source));
    // A folio is one preserved piece. A list that several records share cannot make the check longer than that.
    let mut pieces = if claims.is_some() { 1 << 20 } else { MAX_FOLIOS_WITHOUT_MAP };
    if let Some(map) = store.own_map() {
        map.ranges(source, |range| pieces = u64::from(range.count).saturating_add(pieces));
    }
    let folios = pieces.min(MAX_FOLIOS);
    let found = Gathered::default();
    let mut check = Check {
        store,
        source,
        is_memory,
        claims,
        found,
        in_scratch: 0,
        pieces: MAX_PIECES,
        array_pages: folios,
        folios,
    };
    check.map();
    check.users();
    check.luo();
    check.sessions();
    check.lists();
    check.records();
    check.files();
    check.rest();
    check.found.finish()
}

/// A check in progress.
struct Check<'s> {
    store: &'s Store,
    source: &'s dyn ReadAt,
    is_memory: IsMemory<'s>,
    /// Claims to the preserved map, if there is one.
    claims: Option<Claims<'s>>,
    found: Gathered,
    /// Bytes of folios in scratch areas.
    in_scratch: u64,
    /// How many pieces, pages with folios, and folios are still looked at.
    pieces: u64,
    array_pages: u64,
    folios: u64,
}

/// Folios of a file with the same thing wrong: the first, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Several(Option<(u64, u64)>);

impl Several {
    fn add(&mut self, first: u64) {
        self.add_all(first, 1);
    }

    fn add_all(&mut self, first: u64, more: u64) {
        let (first, count) = self.0.unwrap_or((first, 0));
        self.0 = Some((first, count.saturating_add(more)));
    }
}

/// What is wrong with the folios of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Folios {
    gaps: Several,
    not_preserved: Several,
    other_order: Several,
    shared: Several,
    in_scratch: Several,
    outside: Several,
    unknown: Several,
    /// Flags that no kernel writes, by the number of the folio, and those of the first.
    flags: Several,
    odd_flags: u64,
}

const TREE: Subject = Subject::Part("device tree");
const MAP: Subject = Subject::Part("preserved map");
const LUO: Subject = Subject::Part("root of LUO");
const FLBS: Subject = Subject::Part("objects that files depend on");

const fn page(at: u64) -> Span {
    Span::new(at, PAGE)
}

impl Check<'_> {
    fn is_later(&self) -> bool {
        self.store.moment == Moment::Later
    }

    fn tree(&self) -> Span {
        page(self.store.tree.at)
    }

    /// The preserved map by itself.
    fn map(&mut self) {
        let tree = self.tree();
        let map = page(self.store.tree.map.unwrap_or_default());
        let faults = self.store.map.faults();
        if faults.contains(&MapFault::NoAddress) {
            self.found.add(Problem::KhoMapAddressMissing {}, TREE, tree, None);
            return;
        }
        if let Version::Other(text) = &self.store.tree.version {
            let problem = Problem::KhoFormUnknown { version: Text::from(&name::escape(text)) };
            self.found.add(problem, TREE, tree, None);
            self.found.lack(MAP, map, Reason::UnknownForm);
            return;
        }
        if faults.contains(&MapFault::NotWritten) {
            self.found.add(Problem::KhoMapNotWritten {}, MAP, tree, None);
            self.found.lack(MAP, tree, Reason::NotWritten);
            return;
        }
        if self.store.lacks_map() {
            let mut lacking = false;
            for fault in faults {
                if let MapFault::Unreadable { at } = *fault {
                    lacking = true;
                    self.lack(at);
                }
            }
            if !lacking {
                self.found.lack(MAP, map, Reason::MetadataMissing);
            }
            return;
        }
        if !self.store.has_map() {
            self.found.lack(MAP, map, Reason::Overwritten);
            return;
        }
        for fault in faults {
            self.map_fault(fault);
        }
        if !self.store.map.is_certain() {
            let taken = self.store.map.bitmaps().bytes();
            self.found.add(Problem::KhoBitmapsUncertain { taken }, MAP, map, None);
        }
        if let Some((at, start)) = self.store.map.overlap(self.source).filter(|_| !self.is_later()) {
            self.map_fault(&MapFault::Overlap { at, start });
        }
        if let Some((at, value)) = self.store.map.outside(self.source).filter(|_| !self.is_later()) {
            self.map_fault(&MapFault::BadEntry { at, value });
        }
    }

    fn map_fault(&mut self, fault: &MapFault) {
        let tree = self.tree();
        let of = |holder| if holder == 0 { (TREE, tree) } else { (Subject::Page(holder), page(holder)) };
        let (problem, (subject, at)) = match *fault {
            MapFault::BadLink { holder, value } => (Problem::KhoMapLinkBad { value: Address(value) }, of(holder)),
            MapFault::Unreadable { at } => return self.lack(at),
            MapFault::Twice { holder, at } => (Problem::KhoMapPageTwice { page: Address(at) }, of(holder)),
            MapFault::TooManyEntries { at, count } => (Problem::KhoMapCountWrong { count }, of(at)),
            MapFault::BadEntry { at, value } => (Problem::KhoMapEntryBad { value: Address(value) }, of(at)),
            MapFault::Overlap { at, start } => (Problem::KhoMapEntryTwice { start: Address(start) }, of(at)),
            MapFault::TooLong => {
                self.found.incomplete = true;
                (Problem::KhoMapTooLong {}, (MAP, tree))
            }
            // Said before.
            _ => return,
        };
        self.found.add(problem, subject, at, None);
    }

    /// A page that cannot be read.
    fn lack(&mut self, at: u64) {
        let mut byte = [0; 1];
        let why = match self.source.read_at(at, &mut byte) {
            Err(error) => Lack::from(&error).into(),
            // Only a part of the page is there.
            Ok(()) => Reason::MetadataMissing,
        };
        self.found.lack(Subject::Page(at), page(at), why);
    }

    /// Why a page that there can be is not in the image; `None` if it is, or if the machine has no memory there.
    fn absent(&self, at: u64) -> Option<Lack> {
        let possible = at >> 52 == 0 && (self.is_memory)(page(at)) != Some(false);
        let error = self.source.read_at(at, &mut [0; 1]).err().filter(|_| possible)?;
        Some(Lack::from(&error))
    }

    /// Claims memory for something that is no content of a file. What of it is not preserved is a finding. Gives where it
    /// begins to be something else's, too.
    fn own(&mut self, span: Span, subject: Subject, what: &str) -> Option<u64> {
        self.own_after(span, subject, what, &mut None)
    }

    /// The same for a part of something whose part before this one ends in the piece `before`.
    fn own_after(&mut self, span: Span, subject: Subject, what: &str, before: &mut Option<Piece>) -> Option<u64> {
        let later = self.is_later();
        let claims = self.claims.as_mut()?;
        let (mut at, mut shared) = (span.offset, None);
        while let Some(left) = self.pieces.checked_sub(1) {
            self.pieces = left;
            let claim = claims.claim(at);
            match claim {
                Claim::NotPreserved => {
                    let problem = Problem::RecordNotPreserved { what: Text::from(&what) };
                    self.found.add(problem, subject, span, None);
                    return shared;
                }
                Claim::Unknown => at = at.saturating_add(PAGE),
                Claim::First(piece) | Claim::Again(piece) => {
                    if matches!(claim, Claim::Again(_)) && *before != Some(piece) && !later {
                        shared = shared.or(Some(at));
                    }
                    *before = Some(piece);
                    at = piece.start.saturating_add(piece.bytes);
                }
            }
            if at >= span.end() {
                return shared;
            }
        }
        self.found.lack(subject, span, Reason::TooMuch);
        shared
    }

    /// The root of LUO, and the objects that files depend on.
    fn luo(&mut self) {
        match &self.store.luo {
            None => {}
            Some(Err(error)) => {
                let at = self.store.tree.user("LUO").and_then(|user| user.data).unwrap_or(self.store.tree.at);
                if let Some(lack) = error.unread().and_then(|_| self.absent(at)) {
                    self.found.lack(LUO, page(at), lack);
                } else if self.is_later() {
                    self.found.lack(LUO, page(at), Reason::Overwritten);
                } else {
                    self.found.add(Problem::LuoRootBad { why: Text::from(error) }, LUO, page(at), None);
                }
            }
            Some(Ok(root)) => {
                if root.number.is_none() {
                    let why = Text::from(&"it does not say which live update it is");
                    self.found.add(Problem::LuoRootBad { why }, LUO, page(root.at), None);
                }
                // 6.19 has no such objects, and 7.0 cannot be told from it: only from 7.1 on is their node missed.
                let has_none = self.store.tree.version == Version::V1;
                match (root.flbs, self.store.flbs.fault) {
                    (Err(NoFlbs::Node), _) if has_none => {}
                    (Err(why), _) => {
                        let problem = Problem::LuoRootBad { why: Text::from(&why) };
                        self.found.add(problem, LUO, page(root.at), None);
                    }
                    (Ok(at), Some(fault @ (Fault::BadLink { .. } | Fault::Unreadable { .. }))) => {
                        self.fault(&fault, FLBS, page(at), None);
                    }
                    (Ok(at), fault) => {
                        if let Some(fault) = fault {
                            self.fault(&fault, FLBS, page(at), None);
                        }
                        let shared = self.own(page(at), FLBS, "the list of objects that files depend on");
                        if shared.is_some() {
                            self.fault(&Fault::Twice { holder: root.at, at }, FLBS, page(at), None);
                        }
                    }
                }
            }
        }
        self.names_of_flbs();
        for fault in &self.store.faults {
            self.fault(fault, Subject::Part("list of sessions"), self.tree(), None);
        }
    }

    /// The names of the objects that files depend on: a kernel finds an object by its name.
    fn names_of_flbs(&mut self) {
        let Some(Ok(root)) = self.store.luo.as_ref().filter(|_| !self.is_later()) else { return };
        let at = page(root.flbs.unwrap_or(root.at));
        let mut names: HashSet<&[u8]> = HashSet::new();
        for flb in &self.store.flbs.list {
            let twice = (!names.insert(&flb.name)).then_some("is that of another one too");
            if let Some(why) = bad_name(&flb.name).or(twice) {
                let problem = Problem::FlbNameBad { name: Text::from(&name::escape(&flb.name)), why: Text::from(&why) };
                self.found.add(problem, FLBS, at, None);
            }
        }
    }

    /// Adds what is wrong in records of LUO.
    fn fault(&mut self, fault: &Fault, subject: Subject, at: Span, path: Option<&[u8]>) {
        let of = |at| (Subject::Page(at), page(at));
        let (problem, (subject, at)) = match *fault {
            Fault::Unreadable { at } => return self.lack(at),
            Fault::Zeroed { .. } => (Problem::RecordZeroed {}, (subject, at)),
            _ if self.is_later() => return self.found.lack(subject, at, Reason::Overwritten),
            Fault::BadLink { holder, value } => {
                let holder = Address(if holder == 0 { at.offset } else { holder });
                (Problem::LuoLinkBad { holder, value: Address(value) }, (subject, at))
            }
            Fault::Twice { holder, at: page } => {
                let holder = Address(if holder == 0 { at.offset } else { holder });
                (Problem::LuoPageTwice { holder, page: Address(page) }, (subject, at))
            }
            Fault::BadCount { at, count } => (Problem::LuoCountWrong { count }, of(at)),
            Fault::NotFull { at, count } => (Problem::LuoBlockNotFull { count }, of(at)),
            Fault::TooLong { at } => (Problem::LuoChainTooLong {}, of(at)),
            Fault::OtherCount { said, found } => (Problem::SessionCountWrong { recorded: said, found }, (subject, at)),
            Fault::NoFiles { count } => (Problem::SessionFilesMissing { recorded: count }, (subject, at)),
            Fault::BadRecord { field, value, .. } => {
                (Problem::RecordFieldBad { field: Text::from(&field), value: Address(value) }, (subject, at))
            }
            Fault::ShortArray { said, found, .. } => {
                (Problem::FolioListShort { recorded: said, room: found }, (subject, at))
            }
            Fault::NoFrame { number, .. } => (Problem::FolioWithoutPage { first: number, folios: 1 }, (subject, at)),
            Fault::BadIndex { number, index, .. } => {
                (Problem::FolioIndexNotAscending { folio: number, index }, (subject, at))
            }
            Fault::PastEnd { number, index, .. } => (Problem::FolioPastSize { folio: number, index }, (subject, at)),
            _ => return self.found.lack(subject, at, Reason::UnknownForm),
        };
        self.found.add(problem, subject, at, path.map(<[u8]>::to_vec));
    }

    /// Sessions, their names and tokens.
    fn sessions(&mut self) {
        let mut names: HashSet<&[u8]> = HashSet::new();
        for session in &self.store.sessions {
            let path = session_path(session);
            let (subject, at) = (Subject::Page(session.at), page(session.at));
            for fault in &session.faults {
                self.fault(fault, subject, at, Some(&path));
            }
            if let Some(own) = &session.name {
                if own.len() >= NAME {
                    self.found.add(Problem::SessionNameUnterminated {}, subject, at, Some(path.clone()));
                }
                if !names.insert(own) && !self.is_later() {
                    self.found.add(Problem::SessionNameTwice {}, subject, at, Some(path.clone()));
                }
            }
            let mut tokens: HashSet<u64> = HashSet::new();
            for file in &session.files {
                let path = file_path(&path, file);
                let (subject, at) = (Subject::Record(file.data), page(file.data));
                if let Some(token) = file.token.filter(|token| !tokens.insert(*token))
                    && !self.is_later()
                {
                    self.found.add(Problem::TokenTwice { token: Mask(token) }, subject, at, Some(path.clone()));
                }
                match &file.memfd {
                    None if !self.is_later()
                        && let Some(why) = bad_name(&file.handler) =>
                    {
                        let handler = Text::from(&name::escape(&file.handler));
                        let problem = Problem::HandlerNameBad { handler, why: Text::from(&why) };
                        self.found.add(problem, subject, at, Some(path));
                    }
                    None => {
                        let handler = Text::from(&name::escape(&file.handler));
                        self.found.add(Problem::HandlerUnknown { handler }, subject, at, Some(path));
                    }
                    Some(Err(fault)) => self.fault(fault, subject, at, Some(&path)),
                    Some(Ok(_)) => {}
                }
            }
        }
    }

    /// Claims the pages of the lists of sessions and files.
    fn lists(&mut self) {
        // Where each list was before: a list can have several pages in one piece.
        let mut before: HashMap<ListOf, (u64, Option<Piece>)> = HashMap::new();
        for (at, of) in self.store.lists() {
            let what = match of {
                ListOf::Sessions => "a page of the list of sessions",
                ListOf::Files(_) => "a page of a list of files",
            };
            let holder = || match of {
                ListOf::Sessions => self.store.tree.at,
                ListOf::Files(position) => self.store.sessions.get(position).map_or(at, |session| session.at),
            };
            let (last, mut piece) = before.get(&of).copied().unwrap_or_else(|| (holder(), None));
            if self.own_after(page(at), Subject::Page(at), what, &mut piece).is_some() {
                self.fault(&Fault::Twice { holder: last, at }, Subject::Page(at), page(at), None);
            }
            before.insert(of, (at, piece));
        }
    }

    /// Claims the pages of records, before those of content.
    fn records(&mut self) {
        if self.claims.is_none() {
            return;
        }
        for (session, file) in self.store.files() {
            let Some(Ok(memfd)) = &file.memfd else { continue };
            let Some(left) = self.array_pages.checked_sub(memfd.pages.into()) else {
                self.found.lack(Subject::Record(memfd.at), page(memfd.at), Reason::TooMuch);
                continue;
            };
            self.array_pages = left;
            let (mut missing, mut shared) = (None, None);
            // Which page leads to the next part, and the piece that the array was in before.
            let (mut holder, mut before) = (session.at, None);
            if let Some(claims) = &mut self.claims {
                // What is wrong with the list comes up with its folios.
                let _ = memfd.own_pages(self.source, |part, at| {
                    let claim = claims.claim(at);
                    if claim == Claim::NotPreserved && missing.is_none() {
                        missing = Some((part, at));
                    }
                    if let Claim::Again(piece) = claim {
                        // An entry of the list can stand for several pages in one piece.
                        let same = before == Some((at.saturating_sub(PAGE), piece)) && memfd.order > 0;
                        shared = shared.or(Some((holder, at)).filter(|_| !same));
                    }
                    before = match claim {
                        Claim::First(piece) | Claim::Again(piece) => Some((at, piece)).filter(|_| part == Part::Array),
                        Claim::NotPreserved | Claim::Unknown => None,
                    };
                    if part != Part::Array {
                        holder = at;
                    }
                });
            }
            // What was found by its looks alone proves nothing.
            if let Some((holder, at)) = shared.filter(|_| session.origin == Origin::Root && !self.is_later()) {
                let path = file_path(&session_path(session), file);
                self.fault(&Fault::Twice { holder, at }, Subject::Record(memfd.at), page(memfd.at), Some(&path));
            }
            if let Some((part, at)) = missing {
                let what = match part {
                    Part::Record => "its record",
                    Part::List => "a page of the list of its folios' pages",
                    Part::Array => "a page with its folios",
                };
                let problem = Problem::RecordNotPreserved { what: Text::from(&what) };
                self.found.add(problem, Subject::Record(memfd.at), page(at), None);
            }
        }
    }

    /// The folios of all files.
    fn files(&mut self) {
        for session in &self.store.sessions {
            let of = session_path(session);
            for file in &session.files {
                if let Some(Ok(memfd)) = &file.memfd {
                    self.file(memfd, &file_path(&of, file));
                }
            }
        }
    }

    fn file(&mut self, memfd: &Memfd, path: &[u8]) {
        let (subject, at) = (Subject::Record(memfd.at), page(memfd.at));
        let Some(left) = self.folios.checked_sub(memfd.folios) else {
            return self.found.lack(subject, at, Reason::TooMuch);
        };
        self.folios = left;
        let mut folios = memfd.folios(self.source);
        let (mut tally, mut held, mut fault) = (Folios::default(), None::<Folio>, None);
        let mut any = false;
        while let Some(run) = folios.next_run() {
            match run {
                Ok(run) => {
                    if !any && run.first.index > 0 {
                        tally.gaps.add(0);
                    }
                    any = true;
                    if run.first.flags != FLAGS {
                        if tally.flags == Several::default() {
                            tally.odd_flags = run.first.flags;
                        }
                        tally.flags.add_all(run.first.number, run.count);
                    }
                    if let Some(before) = held.replace(run.last()) {
                        self.folio(&before, Some(run.first.index), false, &mut tally);
                    }
                    self.run(&run, &mut tally);
                }
                Err(found) => fault = Some(found),
            }
        }
        let size = memfd.size.div_ceil(PAGE);
        if let Some(last) = held {
            // Of a list that ends too early nobody knows what follows.
            self.folio(&last, fault.is_none().then_some(size), true, &mut tally);
        }
        let skipped = folios.skipped();
        if let Some(fault) = fault {
            self.fault(&fault, subject, at, Some(path));
        } else if let Err(fault) = folios.check_end()
            && !self.is_later()
        {
            self.fault(&fault, subject, at, Some(path));
        } else if skipped > 0 && !self.is_later() {
            let problem = Problem::FolioWithoutPage { first: first_skipped(memfd, self.source), folios: skipped };
            self.found.add(problem, subject, at, Some(path.to_vec()));
        }
        // In a later kernel the pages may have been given back, and to others.
        if !self.is_later() {
            self.folios_of(memfd, path, &tally, skipped);
        }
    }

    /// What is wrong with the folios of a file.
    fn folios_of(&mut self, memfd: &Memfd, path: &[u8], tally: &Folios, skipped: u64) {
        let (subject, at) = (Subject::Record(memfd.at), page(memfd.at));
        if let Several(Some((first, count))) = tally.flags {
            let value = tally.odd_flags;
            let more = if count > 1 { format!(" (the first of {count})") } else { String::new() };
            let field = Text::from(&format!("the flags of folio {first}{more}"));
            self.found.add(Problem::RecordFieldBad { field, value: Address(value) }, subject, at, Some(path.to_vec()));
        }
        let mut add = |several: Several, problem: fn(u64, u64) -> Problem| {
            if let Several(Some((first, count))) = several {
                self.found.add(problem(first, count), subject, at, Some(path.to_vec()));
            }
        };
        if skipped == 0 {
            add(tally.gaps, |first, gaps| Problem::FolioGap { first, gaps });
        }
        add(tally.not_preserved, |first, folios| Problem::FolioNotPreserved { first: Address(first), folios });
        add(tally.other_order, |first, folios| Problem::FolioOrderDiffers { first: Address(first), folios });
        add(tally.shared, |first, folios| Problem::FolioShared { first: Address(first), folios });
        add(tally.in_scratch, |first, folios| Problem::FolioInScratch { first: Address(first), folios });
        add(tally.outside, |first, folios| Problem::FolioOutsideMemory { first: Address(first), folios });
        if let Several(Some((first, _))) = tally.unknown {
            self.found.lack(MAP, page(first), Reason::MetadataMissing);
        }
    }

    /// The folios of a run but the last one. Each ends where the next one begins.
    fn run(&mut self, run: &FolioRun, tally: &mut Folios) {
        let all = run.count.saturating_sub(1);
        let mut n = 0;
        while n < all {
            let sound = self.sound(run, n..all);
            n = n.saturating_add(sound);
            // After one that is to be looked at closely there are often more.
            for _ in 0..CLOSELY.min(all.saturating_sub(n)) {
                let next = n.saturating_add(1);
                self.folio(&run.get(n), Some(run.get(next).index), false, tally);
                n = next;
            }
        }
    }

    /// Claims folios of a run of which nothing is wrong, as [`folio`](Self::folio) would. Gives how many there are before
    /// the first that has to be looked at by itself.
    fn sound(&mut self, run: &FolioRun, which: std::ops::Range<u64>) -> u64 {
        let first = run.get(which.start).frame;
        let count = which.end.saturating_sub(which.start);
        // Their end is an address too.
        if run.get(which.end).frame >= NO_FRAME {
            return 0;
        }
        let (at, bytes) = (first.saturating_mul(PAGE), run.step.saturating_mul(PAGE));
        if self.scratch_overlap(Span::new(at, bytes.saturating_mul(count))) > 0 {
            return 0;
        }
        let is_memory = self.is_memory;
        let outside = |n: &u64| is_memory(page(at.saturating_add(n.saturating_mul(bytes)))) == Some(false);
        let count = (0..count).find(outside).unwrap_or(count);
        self.claims.as_mut().map_or(count, |claims| claims.claim_run(at, bytes, count))
    }

    /// One folio. `next`: the page of the file with which what follows it begins, if it is known.
    fn folio(&mut self, folio: &Folio, next: Option<u64>, last: bool, tally: &mut Folios) {
        let Some(at) = Some(folio.frame).filter(|frame| *frame < NO_FRAME).and_then(|frame| frame.checked_mul(PAGE))
        else {
            return tally.outside.add(folio.frame.saturating_mul(PAGE));
        };
        if (self.is_memory)(page(at)) == Some(false) {
            return tally.outside.add(at);
        }
        let mut bytes = PAGE;
        if let Some(claims) = &mut self.claims {
            match claims.claim(at) {
                Claim::NotPreserved => tally.not_preserved.add(at),
                Claim::Unknown => tally.unknown.add(at),
                Claim::Again(_) => tally.shared.add(at),
                Claim::First(piece) if piece.start != at => tally.other_order.add(at),
                Claim::First(piece) => {
                    bytes = piece.bytes;
                    let pages = piece.bytes.checked_div(PAGE).unwrap_or(1);
                    let room = next.map(|next| next.saturating_sub(folio.index));
                    if room.is_some_and(|room| pages > room) && !last {
                        tally.other_order.add(at);
                    } else if room.is_some_and(|room| pages < room) {
                        tally.gaps.add(folio.index.saturating_add(pages));
                    }
                }
            }
        }
        let span = Span::new(at, bytes);
        let overlap = self.scratch_overlap(span);
        if overlap > 0 {
            self.in_scratch = self.in_scratch.saturating_add(overlap);
            tally.in_scratch.add(at);
        }
    }

    /// What concerns all that is preserved, whoever has it.
    fn rest(&mut self) {
        let Some(map) = self.store.own_map() else { return };
        self.scratch();
        let (mut bytes, mut first) = (0_u64, None);
        let mut complete = true;
        if self.store.scratch.is_ok() {
            complete = map.ranges(self.source, |range| {
                let overlap = self.scratch_overlap(range.span());
                if overlap > 0 {
                    first = first.or(Some(range.start));
                }
                bytes = bytes.saturating_add(overlap);
            });
        }
        let others = bytes.saturating_sub(self.in_scratch);
        if let Some(first) = first.filter(|_| others > 0) {
            let problem = Problem::KhoPreservedInScratch { bytes: others };
            self.found.add(problem, MAP, page(first), None);
        }
        let unowned = self.claims.as_ref().and_then(Claims::unowned);
        match unowned {
            Some((0, _)) => {}
            Some((bytes, first)) => {
                self.found.add(Problem::KhoPreservedUnowned { bytes }, MAP, page(first), None);
            }
            None => complete = false,
        }
        if !complete {
            let at = page(self.store.tree.map.unwrap_or_default());
            self.found.lack(MAP, at, Reason::MetadataMissing);
        }
    }
}

/// The number of the first folio without a page: the first that a walk passes over.
fn first_skipped(memfd: &Memfd, source: &dyn ReadAt) -> u64 {
    let numbers = memfd.folios(source).filter_map(Result::ok).map(|folio| folio.number);
    (0..)
        .zip(numbers)
        .find(|(n, number)| n != number)
        .map_or_else(|| memfd.folios(source).filter(Result::is_ok).count().try_into().unwrap_or(u64::MAX), |(n, _)| n)
}

/// What is wrong with the name of a handler or of an object, by which a kernel finds them.
fn bad_name(name: &[u8]) -> Option<&'static str> {
    match name.len() {
        0 => Some("is empty"),
        SHORT_NAME.. => Some("has no NUL at its end"),
        _ => None,
    }
}

/// The path of a session, as listings show it.
fn session_path(session: &Session) -> Vec<u8> {
    let own: Vec<u8> = match (&session.name, session.origin) {
        (Some(own), _) => name::entry(own).into_vec(),
        (None, Origin::Records) => b"unnamed".to_vec(),
        (None, _) => format!("unnamed-{:#x}", session.at).into_bytes(),
    };
    [&b"/"[..], &own].concat()
}

/// The path of a file of a session.
fn file_path(session: &[u8], file: &File) -> Vec<u8> {
    let own = file.token.map_or_else(|| format!("record-{:#x}", file.data), |token| format!("{token:#x}"));
    [session, b"/", own.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
