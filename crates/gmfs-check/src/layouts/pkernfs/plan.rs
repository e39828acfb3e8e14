//! From what is wrong with a store of the pkernfs driver to edits. Planning writes nothing.
//!
//! A round makes only edits that write different bytes; what else there is to do waits for the next round, which reads the
//! store again. Chains come before what hangs on them, and blocks are freed only in a store without any other finding:
//! damage may hide the file that has a block.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gmfs_format::chains::{Anomaly, Chain, NameFault};
use gmfs_format::name::escape;
use gmfs_format::native::raw::OnMemory as _;
use gmfs_format::native::units::{BlockNo, InodeNo, len64, small};
use gmfs_format::pkernfs::{
    BITMAP_BYTES, BITMAP_OFFSET, BLOCK_BYTES, FIRST_BLOCK, Finding, GHOST, GHOST_LINK, GHOST_OFFSET, INODE_BYTES,
    INODES, INODES_OFFSET, InodeRaw, Kind, MAGIC, MAX_BLOCKS, Node, Place, Remark, Store,
};
use gmfs_io::{ReadAt, Span};

use super::edit::{Action, PkernfsEdit, Write};
use crate::finding::{Report, Subject};
use crate::plan::{Edit, Listed, Loss, Plan, Planned, Policy, Refusal, Refused};
use crate::problem::{Code, Repair};

/// Offsets of fields in an inode.
const SIBLING: u64 = 8;
const CHILD: u64 = 16;
const NAME: u64 = 24;
const NAME_LEN: usize = 255;
const COUNT: u64 = 284;
/// Runs and names that a loss lists one by one.
const LISTED: usize = 16;

/// What is planned from.
pub(super) struct Planner<'p> {
    pub(super) store: &'p Store,
    pub(super) source: &'p dyn ReadAt,
    pub(super) findings: &'p [Finding],
    pub(super) report: &'p Report,
    pub(super) policy: Policy,
    /// Whether this repair has written anything before.
    pub(super) written: bool,
}

/// A plan in the making.
struct Making<'p> {
    of: &'p Planner<'p>,
    plan: Plan,
    /// Bytes that edits of this round write, in units of 8.
    taken: BTreeSet<u64>,
}

impl Planner<'_> {
    /// Plans a round.
    pub(super) fn plan(&self) -> Plan {
        let mut making = Making { of: self, plan: Plan::default(), taken: BTreeSet::new() };
        if self.report.incomplete {
            making.refuse_all(&Refusal::PagesMissing);
            return making.plan;
        }
        making.mark();
        if self.anomalies().any(|anomaly| matches!(anomaly, Anomaly::MagicDiffers { .. })) {
            making.magic();
            making.plan.more = !making.plan.edits.is_empty();
        } else {
            let before = making.plan.edits.len();
            making.chains();
            if making.plan.edits.len() > before {
                making.plan.more = true;
            } else {
                making.entries();
                making.bytes();
                making.free();
            }
            making.tables();
        }
        making.refuse_rest();
        making.plan
    }

    fn anomalies(&self) -> impl Iterator<Item = &Anomaly> {
        self.findings
            .iter()
            .filter_map(|finding| if let Finding::Inodes(anomaly) = finding { Some(anomaly) } else { None })
    }

    fn raw(&self, ino: InodeNo) -> Option<&InodeRaw> {
        self.store.raw_inode(ino)?.ok()
    }

    /// The inode that a link leads to.
    fn target(value: u64) -> Option<InodeNo> {
        if value == GHOST_LINK {
            return Some(GHOST);
        }
        u32::try_from(value).ok().filter(|ino| *ino > 1 && *ino <= INODES).map(InodeNo)
    }

    /// The links of a chain: where each is, and which inode it leads to. Ends at the first link that leads to no inode, or
    /// to one that was met.
    fn links(&self, mut at: u64, mut value: u64) -> Vec<(u64, InodeNo)> {
        let (mut links, mut met) = (Vec::new(), BTreeSet::new());
        while let Some(ino) = Self::target(value).filter(|ino| met.insert(*ino)) {
            links.push((at, ino));
            let Some(raw) = self.raw(ino) else { break };
            (at, value) = (place(ino).saturating_add(SIBLING), raw.sibling_ino.get());
        }
        links
    }

    /// The links of a directory's entries.
    fn entries_of(&self, directory: InodeNo) -> Vec<(u64, InodeNo)> {
        let first = self.raw(directory).map_or(0, |raw| raw.child_ino.get());
        self.links(place(directory).saturating_add(CHILD), first)
    }

    /// Whether a free inode may be all that is left of a file or a directory.
    fn may_be_file(&self, raw: &InodeRaw) -> bool {
        raw.flags == 0 && (raw.mappings_block != 0 || raw.child_ino != 0)
    }

    fn path(&self, ino: InodeNo) -> Option<String> {
        self.store.path(ino).map(|path| escape(&path))
    }

    fn in_region(&self, block: BlockNo) -> bool {
        block >= FIRST_BLOCK && block.0 < self.store.blocks()
    }

    /// Whether the driver's allocator has handed out a block past the end of the region: its mark is set.
    fn is_handed_out(&self, block: u64) -> bool {
        let mut byte = [0];
        let inside = block >= self.store.blocks().into() && block < MAX_BLOCKS.into();
        let read = self.source.read_at(BITMAP_OFFSET.saturating_add(block >> 3), &mut byte);
        let mask = 1_u8.rotate_left(u32::try_from(block & 7).unwrap_or_default());
        inside && read.is_ok() && byte[0] & mask != 0
    }

    /// Inodes that nothing leads to, and that can be an entry of a directory.
    fn orphans(&self) -> BTreeSet<InodeNo> {
        let orphans = self.anomalies().filter_map(|anomaly| match anomaly {
            Anomaly::Orphan { ino } => Some(*ino),
            _ => None,
        });
        orphans.filter(|ino| *ino != GHOST && self.raw(*ino).is_some_and(is_written)).collect()
    }

    /// Orphans that are in no directory that is an orphan itself.
    fn orphan_roots(&self) -> BTreeSet<InodeNo> {
        let orphans = self.orphans();
        let mut inside = BTreeSet::new();
        for ino in &orphans {
            if self.raw(*ino).is_some_and(|raw| Kind::of_flags(raw.flags.get()).is_some_and(Kind::is_directory)) {
                inside.extend(self.entries_of(*ino).into_iter().map(|(_, entry)| entry).filter(|entry| entry != ino));
            }
        }
        let roots: BTreeSet<InodeNo> = orphans.difference(&inside).copied().collect();
        // Directories that are in each other.
        if roots.is_empty() { orphans.first().copied().into_iter().collect() } else { roots }
    }

    /// The first of the orphans, if all of them are what is left of one chain.
    fn one_chain(&self) -> Option<InodeNo> {
        let roots = self.orphan_roots();
        let next = |ino: &InodeNo| self.raw(*ino).map_or(0, |raw| raw.sibling_ino.get());
        let followers: BTreeSet<InodeNo> = roots.iter().filter_map(|ino| Self::target(next(ino))).collect();
        let mut firsts = roots.difference(&followers);
        let (first, None) = (*firsts.next()?, firsts.next()) else { return None };
        let chain: Vec<InodeNo> = self.links(0, first.0.into()).into_iter().map(|(_, ino)| ino).collect();
        let ends = chain.last().is_some_and(|last| next(last) == 0);
        (ends && chain.iter().copied().collect::<BTreeSet<_>>() == roots).then_some(first)
    }
}

impl Making<'_> {
    /// Adds an edit, unless it writes nothing, or what another edit of this round writes.
    fn push(
        &mut self,
        action: Action,
        steps: Vec<Vec<Write>>,
        because: &[Code],
        about: (Subject, Span),
        loses: Vec<Loss>,
    ) {
        let class = because.iter().map(|code| code.repair()).max().unwrap_or(Repair::Safe);
        self.push_as(class, action, steps, because, about, loses);
    }

    fn push_as(
        &mut self,
        class: Repair,
        action: Action,
        steps: Vec<Vec<Write>>,
        because: &[Code],
        (subject, at): (Subject, Span),
        loses: Vec<Loss>,
    ) {
        let changes =
            |step: Vec<Write>| step.into_iter().filter(|write| write.before != write.after).collect::<Vec<_>>();
        let steps: Vec<Vec<Write>> = steps.into_iter().map(changes).filter(|step| !step.is_empty()).collect();
        if !self.of.policy.allows(class) || steps.is_empty() {
            return;
        }
        let edit = PkernfsEdit { action, steps };
        let units: BTreeSet<u64> =
            edit.writes().flat_map(|write| (write.at >> 3)..=(write.span().end().saturating_sub(1) >> 3)).collect();
        if !units.is_disjoint(&self.taken) {
            self.plan.more = true;
            return;
        }
        self.taken.extend(units);
        let (edit, because) = (Edit::Pkernfs(Box::new(edit)), because.to_vec());
        self.plan.edits.push(Planned { edit, subject, at, because, class, loses });
    }

    /// Writes bytes over what is there.
    fn write(&self, at: u64, after: Vec<u8>) -> Write {
        let mut before = vec![0; after.len()];
        // What cannot be read was reported, and then nothing is planned.
        let _ = self.of.source.read_at(at, &mut before);
        Write { at, before, after }
    }

    fn number(&self, at: u64, value: u64) -> Write {
        self.write(at, value.to_le_bytes().to_vec())
    }

    /// Blocks in use whose mark is missing.
    fn mark(&mut self) {
        let runs = self.runs(|remark| match *remark {
            Remark::Unmarked { first, count } => Some((first, count)),
            _ => None,
        });
        let writes = self.marks(&runs, true);
        let about = blocks_of(&runs);
        self.push(Action::Mark(runs), vec![writes], &[Code::GM1122], about, Vec::new());
    }

    /// Marks past the end, and marked blocks that nothing owns.
    fn free(&mut self) {
        let past_end =
            |finding: &Finding| matches!(finding, Finding::PastEnd { .. } | Finding::Inodes(Anomaly::BadTable { .. }));
        // A mark past the end tells which entries the driver itself has made there.
        if !self.of.findings.iter().any(past_end) {
            let runs = self.runs(|remark| match *remark {
                Remark::MarkedPastEnd { first, count } => Some((first, count)),
                _ => None,
            });
            let (writes, about) = (self.marks(&runs, false), blocks_of(&runs));
            let lost =
                Loss::Unused("the marks of blocks that this region does not have; a larger region would have them");
            self.push(Action::Unmark(runs), vec![writes], &[Code::GM1124], about, vec![lost]);
        }
        let leaked = |finding: &Finding| matches!(finding, Finding::Blocks(Remark::Leaked { .. }));
        if !self.of.written && self.of.findings.iter().all(leaked) {
            let runs = self.runs(|remark| match *remark {
                Remark::Leaked { first, count } => Some((first, count)),
                _ => None,
            });
            let (writes, about) = (self.marks(&runs, false), blocks_of(&runs));
            let count = runs.iter().map(|run| u64::from(run.end.saturating_sub(run.start))).sum();
            let lost = Loss::LeakedBlocks { count, blocks: Listed::first(&runs, LISTED) };
            self.push(Action::Free(runs), vec![writes], &[Code::GM1123], about, vec![lost]);
        }
    }

    /// Runs of blocks of some remarks.
    fn runs(&self, which: impl Fn(&Remark) -> Option<(BlockNo, u32)>) -> Vec<Range<u32>> {
        let remarks = self.of.findings.iter().filter_map(|finding| match finding {
            Finding::Blocks(remark) => which(remark),
            _ => None,
        });
        remarks.map(|(first, count)| first.0..first.0.saturating_add(count)).collect()
    }

    /// What is to be written to the bitmap.
    fn marks(&self, runs: &[Range<u32>], set: bool) -> Vec<Write> {
        let mut bitmap = vec![0_u8; small(BITMAP_BYTES)];
        if runs.is_empty() || self.of.source.read_at(BITMAP_OFFSET, &mut bitmap).is_err() {
            return Vec::new();
        }
        let mut changed: BTreeMap<usize, u8> = BTreeMap::new();
        for block in runs.iter().cloned().flatten() {
            let at = small(u64::from(block >> 3));
            let Some(before) = bitmap.get(at) else { continue };
            let byte = changed.entry(at).or_insert(*before);
            let mask = 1_u8.rotate_left(block & 7);
            *byte = if set { *byte | mask } else { *byte & !mask };
        }
        let mut writes: Vec<Write> = Vec::new();
        for (at, after) in changed {
            let offset = BITMAP_OFFSET.saturating_add(len64(at));
            let before = bitmap.get(at).copied().unwrap_or_default();
            match writes.last_mut() {
                Some(last) if last.span().end() == offset => {
                    last.before.push(before);
                    last.after.push(after);
                }
                _ => writes.push(Write { at: offset, before: vec![before], after: vec![after] }),
            }
        }
        writes
    }

    /// The magic of the superblock. What is there may be a guest's: the driver has a fault that has a guest write there.
    fn magic(&mut self) {
        let write = self.number(0, MAGIC);
        let about = (Subject::Superblock, Span::new(0, 16));
        let lost = Loss::Unused("the bytes that are where the magic belongs");
        self.push(Action::Magic, vec![vec![write]], &[Code::GM1001], about, vec![lost]);
    }

    /// Root, links, list of free inodes, ghost.
    fn chains(&mut self) {
        for anomaly in self.of.anomalies() {
            match anomaly {
                Anomaly::RootDiffers => self.root(),
                Anomaly::BadLink { chain: chain @ Chain::Directory(_), holder: Some(holder), value } => {
                    self.link(*chain, *holder, Some(*value), Code::GM1102);
                }
                Anomaly::Cycle { chain: chain @ Chain::Directory(_), holder: Some(holder), .. } => {
                    self.link(*chain, *holder, None, Code::GM1103);
                }
                Anomaly::LinkedTwice { ino, second: Chain::Directory(second), .. } => self.second(*ino, *second),
                Anomaly::FreeInDirectory { directory, .. } => self.skip(*directory),
                _ => {}
            }
        }
        self.free_list();
        if self.of.store.node(GHOST).is_some() && !self.plan.edits.iter().any(|planned| is_chain(&planned.edit)) {
            self.ghost();
        }
    }

    fn root(&mut self) {
        let mut name = vec![0; NAME_LEN];
        name.iter_mut().take(1).for_each(|byte| *byte = b'.');
        let at = place(InodeNo::ROOT);
        let step = vec![
            self.write(at, Kind::Directory.flags().to_le_bytes().to_vec()),
            self.number(at.saturating_add(SIBLING), 2),
            self.write(at.saturating_add(NAME), name),
        ];
        self.push(Action::Root, vec![step], &[Code::GM1101], about(InodeNo::ROOT), Vec::new());
    }

    /// A link that leads nowhere or back. What followed is found again where it is one chain, and this is the only link
    /// that is broken.
    fn link(&mut self, chain: Chain, holder: InodeNo, value: Option<u64>, code: Code) {
        let broken = self.of.anomalies().filter(|anomaly| {
            matches!(
                anomaly,
                Anomaly::BadLink { chain: Chain::Directory(_), .. } | Anomaly::Cycle { chain: Chain::Directory(_), .. }
            )
        });
        let only = broken.count() == 1;
        // The driver reduces links to 32 bits.
        let reduced = value.and_then(|value| u32::try_from(value & u64::from(u32::MAX)).ok()).map(InodeNo);
        let chain_of_orphans = if only { self.of.one_chain() } else { None };
        let to = chain_of_orphans.or_else(|| reduced.filter(|ino| self.of.orphans().contains(ino)));
        let field = if chain == Chain::Directory(holder) { CHILD } else { SIBLING };
        let at = place(holder).saturating_add(field);
        let write = self.number(at, to.map_or(0, |to| to.0.into()));
        self.push(
            Action::Link { chain, holder: Some(holder), to },
            vec![vec![write]],
            &[code],
            about(holder),
            Vec::new(),
        );
    }

    /// An inode that is in two directories stays in the first.
    fn second(&mut self, ino: InodeNo, directory: InodeNo) {
        let links = self.of.entries_of(directory);
        let Some((at, _)) = links.into_iter().find(|(_, entry)| *entry == ino) else { return };
        let write = self.number(at, 0);
        let chain = Chain::Directory(directory);
        let action = Action::Link { chain, holder: Some(directory), to: None };
        self.push(action, vec![vec![write]], &[Code::GM1104], about(ino), vec![Loss::Directory]);
    }

    /// Free inodes leave the entries of a directory, but for those that may have been files.
    fn skip(&mut self, directory: InodeNo) {
        let links = self.of.entries_of(directory);
        let goes = |ino: InodeNo| self.of.raw(ino).is_some_and(|raw| raw.flags == 0 && !self.of.may_be_file(raw));
        let mut step = Vec::new();
        // The link that is to be written, if inodes that it led to go.
        let mut open: Option<u64> = None;
        for (at, ino) in &links {
            if goes(*ino) {
                open = open.or(Some(*at));
            } else if let Some(at) = open.take() {
                step.push(self.number(at, if *ino == GHOST { GHOST_LINK } else { ino.0.into() }));
            }
        }
        if let Some(at) = open {
            let end = links.last().and_then(|(_, ino)| self.of.raw(*ino)).map_or(0, |raw| raw.sibling_ino.get());
            step.push(self.number(at, end));
        }
        self.push(Action::Skip { directory }, vec![step], &[Code::GM1106], about(directory), Vec::new());
    }

    /// The list of free inodes, if anything is wrong with it: what is right of it, and then the others, by number.
    fn free_list(&mut self) {
        let mut because = BTreeSet::new();
        for anomaly in self.of.anomalies() {
            because.extend(match anomaly {
                Anomaly::BadLink { chain: Chain::Free, .. } => Some(Code::GM1102),
                Anomaly::Cycle { chain: Chain::Free, .. } => Some(Code::GM1103),
                Anomaly::LinkedTwice { second: Chain::Free, .. } => Some(Code::GM1104),
                Anomaly::UsedInFreeList { .. } => Some(Code::GM1107),
                Anomaly::Unaccounted { .. } => Some(Code::GM1108),
                _ => None,
            });
        }
        if because.is_empty() {
            return;
        }
        let store = self.of.store;
        let directories = store.nodes().filter(|node| node.kind.is_some_and(Kind::is_directory));
        let entries: BTreeSet<InodeNo> =
            directories.flat_map(|node| self.of.entries_of(node.ino)).map(|(_, ino)| ino).collect();
        let is_free = |ino: &InodeNo| {
            let free = self.of.raw(*ino).is_some_and(|raw| raw.flags == 0 && !self.of.may_be_file(raw));
            free && !entries.contains(ino)
        };
        let recorded = self.of.links(8, store.next_free_ino().unwrap_or_default());
        let mut list: Vec<InodeNo> = recorded.into_iter().map(|(_, ino)| ino).collect();
        // What follows an entry of a directory is that directory's.
        let end = list.iter().position(|ino| entries.contains(ino)).unwrap_or(list.len());
        list.truncate(end);
        list.retain(is_free);
        let listed: BTreeSet<InodeNo> = list.iter().copied().collect();
        list.extend((2..=INODES).map(InodeNo).filter(|ino| !listed.contains(ino) && is_free(ino)));
        let next = list.iter().skip(1).map(|ino| u64::from(ino.0)).chain([0]);
        let links = list.iter().zip(next).map(|(ino, next)| self.number(place(*ino).saturating_add(SIBLING), next));
        let links: Vec<Write> = links.collect();
        let head = self.number(8, list.first().map_or(0, |ino| ino.0.into()));
        let because: Vec<Code> = because.into_iter().collect();
        let about = (Subject::Superblock, Span::new(0, 16));
        // All of it follows from which inodes are in use.
        self.push_as(Repair::Safe, Action::FreeList, vec![links, vec![head]], &because, about, Vec::new());
    }

    /// The file in the ghost inode gets an inode of its own. A repair that was stopped has left its twin.
    fn ghost(&mut self) {
        let of = self.of;
        let (Some(ghost), Some(node)) = (of.raw(GHOST).copied(), of.store.node(GHOST)) else { return };
        if !is_written(&ghost) {
            return;
        }
        let same = |raw: &InodeRaw| {
            ghost.mappings_block != 0
                && raw.flags == ghost.flags
                && raw.filename == ghost.filename
                && raw.mappings_block == ghost.mappings_block
        };
        let twin = (2..=INODES).map(InodeNo).find(|ino| of.raw(*ino).is_some_and(same));
        let (subject, code) = ((Subject::Part("inode -12"), Span::new(GHOST_OFFSET, INODE_BYTES)), [Code::GM1002]);
        let gone = self.write(GHOST_OFFSET, vec![0; small(INODE_BYTES)]);
        if let Some(to) = twin.filter(|ino| of.store.path(*ino).is_some()) {
            self.push(Action::MoveGhost { to }, vec![vec![gone]], &code, subject, Vec::new());
            return;
        }
        let head = of.store.next_free_ino().and_then(Planner::target).filter(|ino| *ino != GHOST);
        let free = head.and_then(|ino| Some((ino, of.raw(ino).filter(|raw| raw.flags == 0 && !of.may_be_file(raw))?)));
        let mut steps = Vec::new();
        let to = match (twin, free) {
            (Some(twin), _) => twin,
            (None, Some((ino, raw))) => {
                steps.push(vec![self.number(8, raw.sibling_ino.get())]);
                ino
            }
            (None, None) => return,
        };
        steps.push(vec![self.write(place(to), ghost.bytes().to_vec())]);
        let links = node.parent.map(|parent| of.entries_of(parent)).unwrap_or_default();
        let link = links.into_iter().find(|(_, ino)| *ino == GHOST);
        steps.extend(link.map(|(at, _)| vec![self.number(at, to.0.into())]));
        steps.push(vec![gone]);
        self.push(Action::MoveGhost { to }, steps, &code, subject, Vec::new());
    }

    /// Orphans and names.
    fn entries(&mut self) {
        self.attach();
        for anomaly in self.of.anomalies() {
            match anomaly {
                Anomaly::BadName { ino, fault } => self.rename(*ino, Some(*fault), Code::GM1110),
                Anomaly::DuplicateName { second, .. } => self.rename(*second, None, Code::GM1111),
                _ => {}
            }
        }
    }

    /// Names of the entries of a directory.
    fn names(&self, directory: InodeNo) -> BTreeSet<Box<[u8]>> {
        let entries = self.of.store.children(directory).iter();
        entries.filter_map(|ino| self.of.store.node(*ino)).map(|node| node.name.clone()).collect()
    }

    fn attach(&mut self) {
        let inodes: Vec<InodeNo> = self.of.orphan_roots().into_iter().collect();
        let Some(first) = inodes.first() else { return };
        let mut names = self.names(InodeNo::ROOT);
        let root = place(InodeNo::ROOT).saturating_add(CHILD);
        let head = self.of.raw(InodeNo::ROOT).map_or(0, |raw| raw.child_ino.get());
        let next = inodes.iter().skip(1).map(|ino| u64::from(ino.0)).chain([head]);
        let mut step = Vec::new();
        let mut lost = Vec::new();
        for (ino, next) in inodes.iter().zip(next) {
            let at = place(*ino);
            step.push(self.number(at.saturating_add(SIBLING), next));
            step.push(self.write(at.saturating_add(NAME), padded(&new_name(*ino, &mut names))));
            let name = self.of.store.node(*ino).map(|node| escape(&node.name)).unwrap_or_default();
            if lost.len() < LISTED && !name.is_empty() {
                lost.push(Loss::Name(name));
            }
        }
        lost.push(Loss::Directory);
        let link = self.number(root, first.0.into());
        let about = about(*first);
        self.push(Action::Attach { inodes }, vec![step, vec![link]], &[Code::GM1105], about, lost);
    }

    fn rename(&mut self, ino: InodeNo, fault: Option<NameFault>, code: Code) {
        let Some(node) = self.of.store.node(ino).filter(|node| node.ino != GHOST) else { return };
        let Some(parent) = node.parent else { return };
        let mut names = self.names(parent);
        let cut = node.name.get(..NAME_LEN.saturating_sub(1)).map(Box::<[u8]>::from);
        let cut = cut.filter(|name| fault == Some(NameFault::Unterminated) && !names.contains(name));
        let cut = cut.filter(|name| !name.contains(&b'/'));
        let name = cut.unwrap_or_else(|| new_name(ino, &mut names));
        let write = self.write(place(ino).saturating_add(NAME), padded(&name));
        let lost = Loss::Name(escape(&node.name));
        let action = Action::Rename { ino, name: escape(&name) };
        self.push(action, vec![vec![write]], &[code], about(ino), vec![lost]);
    }

    /// What is wrong with tables and counts.
    fn tables(&mut self) {
        for finding in self.of.findings {
            match finding {
                Finding::CountTooSmall { ino, blocks, .. } => {
                    let Ok(count) = u32::try_from(*blocks) else { continue };
                    let write = self.write(place(*ino).saturating_add(COUNT), count.to_le_bytes().to_vec());
                    let action = Action::Count { ino: *ino, count };
                    self.push(action, vec![vec![write]], &[Code::GM1004], about(*ino), Vec::new());
                }
                Finding::PastEnd { ino, .. } => self.past_end(*ino),
                Finding::Inodes(Anomaly::BadTable { ino, block }) => self.without_table(*ino, *block),
                _ => {}
            }
        }
    }

    /// Entries past the end of the region at the end of a file, if the driver's allocator has handed them out: other
    /// numbers may be damage that hides a block of the region.
    fn past_end(&mut self, ino: InodeNo) {
        let of = self.of;
        let Some(node) = of.store.node(ino) else { return };
        let table = u64::from(node.mappings_block.0).saturating_mul(BLOCK_BYTES);
        let (mut writes, mut bytes, mut entries): (Vec<Write>, Vec<Span>, u64) = (Vec::new(), Vec::new(), 0);
        for extent in of.store.extents(of.source, ino) {
            let Place::PastEnd { block } = extent.place else {
                // What follows must not become a hole's other side.
                if !writes.is_empty() && extent.place != Place::NoBlock {
                    return;
                }
                continue;
            };
            let count = extent.length.checked_div(BLOCK_BYTES).unwrap_or_default();
            // Bounded first: an entry may be any number.
            if block.checked_add(count).is_none_or(|end| end > MAX_BLOCKS.into())
                || !(0..count).all(|n| of.is_handed_out(block.saturating_add(n)))
            {
                return;
            }
            let at = table.saturating_add(extent.offset.checked_div(BLOCK_BYTES).unwrap_or_default().saturating_mul(8));
            writes.push(self.write(at, vec![0; small(count.saturating_mul(8))]));
            bytes.push(Span::new(extent.offset, extent.length));
            entries = entries.saturating_add(count);
        }
        let path = of.path(ino).unwrap_or_else(|| format!("inode {ino}"));
        let lost = Loss::FileBytes { path, bytes: Listed::first(&bytes, LISTED) };
        self.push(Action::Drop { ino, entries }, vec![writes], &[Code::GM1126], about(ino), vec![lost]);
    }

    /// A file that the driver made when no block was left for its table: it never had content.
    fn without_table(&mut self, ino: InodeNo, block: BlockNo) {
        let of = self.of;
        let Some(node) = of.store.node(ino).filter(|node| is_empty_file(node)) else { return };
        let Some(parent) = node.parent.filter(|_| ino != GHOST && of.is_handed_out(block.0.into())) else { return };
        let link = of.entries_of(parent).into_iter().find(|(_, entry)| *entry == ino);
        let (Some((at, _)), Some(raw)) = (link, of.raw(ino)) else { return };
        let unlink = self.number(at, raw.sibling_ino.get());
        let clear = self.write(place(ino), vec![0; small(INODE_BYTES)]);
        let lost = Loss::Name(of.path(ino).unwrap_or_default());
        let steps = vec![vec![unlink], vec![clear]];
        self.push(Action::Remove { ino }, steps, &[Code::GM1007], about(ino), vec![lost]);
    }

    /// Bytes that mean nothing.
    fn bytes(&mut self) {
        const LOST: Loss = Loss::Unused("what these bytes are, which mean nothing to the driver");
        for finding in self.of.findings {
            match finding {
                Finding::NotZero { ino } => {
                    let Some(raw) = self.of.raw(*ino) else { continue };
                    let Some(after) = self.without_odd_bytes(raw) else { continue };
                    let write = self.write(place(*ino), after.bytes().to_vec());
                    let action = Action::Zero { ino: Some(*ino) };
                    self.push(action, vec![vec![write]], &[Code::GM1003], about(*ino), vec![LOST]);
                }
                Finding::Slack => {
                    let used = u64::from(INODES).saturating_mul(INODE_BYTES);
                    let at = Span::new(INODES_OFFSET.saturating_add(used), BLOCK_BYTES.saturating_sub(used));
                    let write = self.write(at.offset, vec![0; small(at.len)]);
                    let about = (Subject::Part("inodes"), at);
                    self.push(Action::Zero { ino: None }, vec![vec![write]], &[Code::GM1006], about, Vec::new());
                }
                Finding::Blocks(Remark::BitmapRest) => {
                    let unused = BITMAP_OFFSET.saturating_add(BITMAP_BYTES);
                    let ghost = GHOST_OFFSET..GHOST_OFFSET.saturating_add(INODE_BYTES);
                    let kept = self.of.store.node(GHOST).is_some();
                    // Without a ghost these two parts are all of it.
                    let middle = if kept { ghost.end } else { ghost.start };
                    let parts = [unused..ghost.start, middle..INODES_OFFSET];
                    let zero =
                        |part: Range<u64>| self.write(part.start, vec![0; small(part.end.saturating_sub(part.start))]);
                    let writes = parts.into_iter().map(zero).collect();
                    let place = Span::new(BITMAP_OFFSET, INODES_OFFSET.saturating_sub(BITMAP_OFFSET));
                    let about = (Subject::Part("bitmap"), place);
                    self.push(Action::Zero { ino: None }, vec![writes], &[Code::GM1125], about, vec![LOST]);
                }
                _ => {}
            }
        }
    }

    /// An inode without bytes that mean nothing in its kind; `None` if they may be what is left of a file.
    fn without_odd_bytes(&self, raw: &InodeRaw) -> Option<InodeRaw> {
        let mut after = *raw;
        after.padding_1 = [0; 4];
        after.padding_2 = 0;
        let end = raw.name().len();
        after.filename.iter_mut().skip(end).for_each(|byte| *byte = 0);
        let kind = Kind::of_flags(raw.flags.get());
        let has_block = self.of.in_region(BlockNo(raw.mappings_block.get()));
        match kind {
            Some(kind) if kind.is_directory() && has_block => return None,
            Some(kind) if kind.is_directory() => (after.mappings_block, after.num_mappings) = (0.into(), 0.into()),
            Some(Kind::File) => after.child_ino = 0.into(),
            Some(_) => (after.child_ino, after.num_mappings) = (0.into(), 0.into()),
            None if raw.flags == 0 && self.of.may_be_file(raw) => return None,
            None if raw.flags == 0 => {
                after.num_mappings = 0.into();
                after.filename = [0; NAME_LEN];
            }
            None => {}
        }
        Some(after)
    }

    fn refuse_all(&mut self, why: &Refusal) {
        let findings = self.of.report.findings.iter().filter(|finding| finding.code().repair() != Repair::None);
        let refused =
            findings.map(|finding| Refused { code: finding.code(), subject: finding.subject, why: why.clone() });
        self.plan.refused.extend(refused);
    }

    /// Says of each finding that no edit is about why that is so. What waits for another round is not refused.
    fn refuse_rest(&mut self) {
        for finding in &self.of.report.findings {
            let (code, repair) = (finding.code(), finding.code().repair());
            let about = |planned: &Planned| {
                let all = matches!(&planned.edit, Edit::Pkernfs(edit) if edit.is_for_all());
                planned.because.contains(&code) && (all || planned.at.meets(finding.at))
            };
            if repair == Repair::None || self.plan.edits.iter().any(about) {
                continue;
            }
            let why = match (repair, code) {
                (Repair::Lossy, _) if !self.of.policy.allows(repair) => Refusal::Lossy,
                (Repair::Manual, _) => Refusal::Unproven,
                _ if self.plan.more => continue,
                (_, Code::GM1002) => Refusal::NoFreeInode,
                (_, Code::GM1003 | Code::GM1106 | Code::GM1108) => Refusal::MayBeFile,
                (_, Code::GM1123 | Code::GM1124) => Refusal::RepairFirst,
                _ => Refusal::Unproven,
            };
            self.plan.refused.push(Refused { code, subject: finding.subject, why });
        }
    }
}

/// Whether an edit is about a chain.
const fn is_chain(edit: &Edit) -> bool {
    match edit {
        Edit::Pkernfs(edit) => {
            matches!(edit.action, Action::Link { .. } | Action::Skip { .. } | Action::FreeList | Action::Root)
        }
        _ => false,
    }
}

fn is_empty_file(node: &Node) -> bool {
    node.kind == Some(Kind::File) && node.num_mappings == 0
}

/// Whether the flags of an inode are such as the driver writes.
fn is_written(raw: &InodeRaw) -> bool {
    let flags = raw.flags.get();
    Kind::of_flags(flags).map(Kind::flags) == Some(flags)
}

/// Where an inode is.
fn place(ino: InodeNo) -> u64 {
    if ino == GHOST {
        return GHOST_OFFSET;
    }
    INODES_OFFSET.saturating_add(u64::from(ino.0.saturating_sub(1)).saturating_mul(INODE_BYTES))
}

/// An inode as the subject of an edit.
fn about(ino: InodeNo) -> (Subject, Span) {
    let subject = if ino == GHOST { Subject::Part("inode -12") } else { Subject::Inode(ino) };
    (subject, Span::new(place(ino), INODE_BYTES))
}

/// Blocks as the subject of an edit.
fn blocks_of(runs: &[Range<u32>]) -> (Subject, Span) {
    let first = runs.first().cloned().unwrap_or_default();
    let count = first.end.saturating_sub(first.start);
    let bytes = |blocks: u32| u64::from(blocks).saturating_mul(BLOCK_BYTES);
    (Subject::Blocks { first: BlockNo(first.start), count }, Span::new(bytes(first.start), bytes(count)))
}

/// A name that no entry has.
fn new_name(ino: InodeNo, names: &mut BTreeSet<Box<[u8]>>) -> Box<[u8]> {
    let plain = format!("lost+found-{ino}");
    let numbered = (2_u32..).map(|n| format!("lost+found-{ino}-{n}"));
    let mut all = std::iter::once(plain.clone()).chain(numbered).map(|name| Box::<[u8]>::from(name.as_bytes()));
    let name = all.find(|name| !names.contains(name)).unwrap_or_else(|| plain.as_bytes().into());
    names.insert(name.clone());
    name
}

/// A name as it is in an inode.
fn padded(name: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.resize(NAME_LEN, 0);
    bytes
}
