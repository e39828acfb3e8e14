//! Plans the repair of inodes, descriptors and superblock fields that are wrong although the seals of their pages are
//! good.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gmfs_format::model::{Kind, Tree};
use gmfs_format::name;
use gmfs_format::native::raw::{INODES_PER_PAGE, InodeRaw, SuperblockRaw};
use gmfs_format::native::superblock::{MAX_LABEL, STATE_ACTIVE, STATE_CLEAN, STATE_FLAGS, text_field};
use gmfs_format::native::tables::{BlockState, INODE_DOUBTFUL, INODE_FLAGS, INODE_LOST_DATA, InodeKind, MODE_BITS};
use gmfs_format::native::units::{BlockNo, InodeNo, PageNo};
use gmfs_io::ReadAt;
use gmfs_volume::change::Assign;
use gmfs_volume::region::read_inode;
use gmfs_volume::{Region, Superblocks};

use crate::finding::{Finding, Subject};
use crate::plan::claims::claims;
use crate::plan::descriptors::Descriptors;
use crate::plan::lost;
use crate::plan::places::Places;
use crate::plan::{Edit, Loss, Plan, Policy, Refusal};
use crate::problem::{Code, Problem, Repair, Stage};

/// How many edits of blocks are planned in one round. This bounds the memory of a plan.
const EDITS_PER_ROUND: usize = 1 << 14;
/// The same for inodes, whose edits take a kilobyte each.
const INODES_PER_ROUND: usize = 1 << 10;

/// The directory for files whose own directory is lost.
const LOST_FOUND: &[u8] = b"lost+found";

/// A plan that is being made, with working copies of everything that it changes.
struct Planner<'a, S: ReadAt + ?Sized> {
    region: &'a Region<&'a S, &'a Superblocks>,
    tree: Tree,
    inodes: BTreeMap<InodeNo, Working>,
    blocks: BTreeMap<BlockNo, (u32, Assign, Code)>,
    superblock: (SuperblockRaw, Vec<Code>),
    /// Blocks that this plan takes from a file.
    taken: BTreeMap<InodeNo, u64>,
    /// Names that this plan assigns, by directory.
    names: BTreeSet<(InodeNo, Vec<u8>)>,
    lost_found: Option<InodeNo>,
    owners: Option<Owners>,
    losses: BTreeMap<InodeNo, Loss>,
    places: Option<Places>,
    descriptors: Descriptors<'a, S>,
    recover: bool,
    rewrite: BTreeMap<PageNo, Code>,
}

/// An inode that the plan changes.
struct Working {
    before: Box<InodeRaw>,
    after: Box<InodeRaw>,
    because: Vec<Code>,
}

/// What the block table records for each owner: the number of its blocks, and one past its highest file block.
#[derive(Default)]
struct Owners(BTreeMap<InodeNo, (u64, u32)>);

/// Plans the repair of contents.
pub(super) fn plan<S: ReadAt + ?Sized>(
    source: &S,
    state: &Superblocks,
    findings: &[&Finding],
    policy: Policy,
    plan: &mut Plan,
) {
    let region = &Region::with(source, state);
    let mut planner = Planner {
        region,
        tree: region.inodes().tree,
        inodes: BTreeMap::new(),
        blocks: BTreeMap::new(),
        superblock: (region.superblock().raw, Vec::new()),
        taken: BTreeMap::new(),
        names: BTreeSet::new(),
        lost_found: None,
        owners: None,
        losses: BTreeMap::new(),
        places: None,
        descriptors: Descriptors::new(*region.source(), region.superblocks()),
        recover: false,
        rewrite: BTreeMap::new(),
    };
    for finding in findings {
        let code = finding.code();
        match code.repair() {
            Repair::None => {}
            Repair::Manual => plan.refuse(finding, Refusal::of_manual(&finding.problem)),
            class if !policy.allows(class) && !planner.is_of_flagged(finding) => {
                plan.refuse(finding, Refusal::Lossy);
            }
            _ if planner.blocks.len() >= EDITS_PER_ROUND || planner.inodes.len() >= INODES_PER_ROUND => {
                plan.more = true
            }
            _ => {
                if let Err(why) = planner.resolve(finding) {
                    plan.refuse(finding, why);
                }
            }
        }
    }
    planner.finish(plan);
}

/// Whether an edit only corrects the block count of a file that is flagged doubtful already. That count is not proven,
/// so correcting it loses nothing.
fn is_count_of_flagged(before: &InodeRaw, because: &[Code]) -> bool {
    before.flags.get() & INODE_DOUBTFUL != 0 && because.iter().all(|code| code.stage() == Stage::Contradictions)
}

impl<S: ReadAt + ?Sized> Planner<'_, S> {
    fn is_of_flagged(&self, finding: &Finding) -> bool {
        match finding.subject {
            Subject::Inode(ino) => self.read_inode(ino).is_some_and(|raw| is_count_of_flagged(&raw, &[finding.code()])),
            _ => false,
        }
    }

    /// Adds the repair of one finding to the plan.
    fn resolve(&mut self, finding: &Finding) -> Result<(), Refusal> {
        let code = finding.code();
        match code.stage() {
            Stage::Rewrite => return self.rewrite_pages(finding),
            Stage::Recovery => {
                self.recover = true;
                return Ok(());
            }
            _ => {}
        }
        match (finding.subject, &finding.problem) {
            (Subject::Inode(ino), problem) => self.inode_problem(ino, problem, code),
            (Subject::Blocks { first, count }, problem) => self.block_problem(first, count, problem, code),
            (Subject::Superblock, problem) => {
                self.superblock_problem(problem, code);
                Ok(())
            }
            // Findings about pages are planned before this, or the pages are rewritten above. Stores of other layouts
            // are not repaired.
            (Subject::Pages { .. } | Subject::Region | Subject::Part(_) | Subject::Page(_) | Subject::Record(_), _) => {
                Ok(())
            }
        }
    }

    fn rewrite_pages(&mut self, finding: &Finding) -> Result<(), Refusal> {
        let pages = match finding.subject {
            Subject::Pages { first, count, .. } => numbers(first.0, count)?,
            Subject::Inode(ino) => {
                // The geometry gives no location for a slot past the last inode, so its page is computed here.
                let first = self.region.geometry().first_inode_page().0;
                let pages = ino.0.checked_sub(1).map(|slot| slot / INODES_PER_PAGE);
                numbers(pages.and_then(|pages| first.checked_add(pages)).ok_or(Refusal::NotThere)?, 1)?
            }
            _ => return Err(Refusal::NotThere),
        };
        self.rewrite.extend(pages.map(|page| (PageNo(page), finding.code())));
        Ok(())
    }

    fn superblock_problem(&mut self, problem: &Problem, code: Code) {
        let (raw, because) = &mut self.superblock;
        because.push(code);
        match problem {
            Problem::StateContradicts { .. } => {
                raw.state = (raw.state.get() & STATE_FLAGS & !STATE_ACTIVE | STATE_CLEAN).into();
            }
            Problem::LabelIllegal {} => raw.label = legal_label(&raw.label),
            Problem::WriterIllegal {} => raw.writer = text_field("gmfs"),
            Problem::SuperblockReserved {} => {
                (raw.reserved_1, raw.reserved_2) = ([0; 3], 0.into());
                raw.reserved_3 = [0; 2632];
                raw.first_error.reserved = 0.into();
                raw.last_error.reserved = 0.into();
            }
            Problem::SuperblockTimeFuture { field, .. } => match &*field.0 {
                "created" => raw.created = 0.into(),
                "written" => raw.written = 0.into(),
                "checked" => raw.checked = 0.into(),
                _ => raw.sealed = 0.into(),
            },
            Problem::FreeCountWrong { found, .. } => raw.free_blocks = (*found).into(),
            Problem::DataCountWrong { found, .. } => raw.data_blocks = (*found).into(),
            Problem::BadCountWrong { found, .. } => raw.bad_blocks = (*found).into(),
            Problem::ReservedCountWrong { found, .. } => raw.reserved_blocks = (*found).into(),
            Problem::InodeCountWrong { found, .. } => raw.used_inodes = (*found).into(),
            _ => {}
        }
    }

    fn inode_problem(&mut self, ino: InodeNo, problem: &Problem, code: Code) -> Result<(), Refusal> {
        match problem {
            Problem::ParentMissing { .. } | Problem::ParentNotDirectory { .. } | Problem::ParentCycle { .. } => {
                return self.adopt(ino, code);
            }
            Problem::InodeFreeNotEmpty {} => return self.clear_free(ino, code),
            Problem::InodeKindUnknown { .. } => return self.choose_kind(ino, code),
            Problem::NameIllegal { .. } | Problem::NameDuplicate { .. } => {
                return self.rename(ino, code);
            }
            Problem::SizeTooLarge { .. } => return self.shrink(ino, code),
            _ => {}
        }
        let taken = self.taken.get(&ino).copied().unwrap_or(0);
        let raw = self.working(ino, code)?;
        match problem {
            Problem::InodeNumberWrong { .. } => raw.number = ino.0.into(),
            Problem::NamePadding {} => {
                let name = raw.name().to_vec();
                raw.set_name(&name);
            }
            Problem::ModeIllegal { .. } => raw.mode = (raw.mode.get() & MODE_BITS).into(),
            Problem::InodeFlagsUnknown { .. } => raw.flags = (raw.flags.get() & INODE_FLAGS).into(),
            Problem::InodeReserved {} => raw.reserved = [0; 164],
            Problem::InodeTimeFuture { field, .. } => match &*field.0 {
                "accessed" => raw.accessed = 0.into(),
                "modified" => raw.modified = 0.into(),
                "changed" => raw.changed = 0.into(),
                _ => raw.created = 0.into(),
            },
            Problem::DirectoryHasSize { .. } => (raw.size, raw.blocks) = (0.into(), 0.into()),
            Problem::RootMissing {} | Problem::RootMisnamed {} => make_root(raw),
            Problem::BlockCountWrong { recorded, found } => {
                raw.blocks = found.saturating_sub(taken).into();
                if found < recorded {
                    // Blocks that the file recorded and no descriptor assigns to it are lost, so its holes must not be
                    // taken for zeros.
                    raw.flags = (raw.flags.get() | INODE_LOST_DATA).into();
                }
            }
            _ => return Err(Refusal::NoRepair),
        }
        Ok(())
    }

    /// Clears a free record that is not empty. If blocks still name the inode, the record is kept, because it may tell
    /// what file they belonged to.
    fn clear_free(&mut self, ino: InodeNo, code: Code) -> Result<(), Refusal> {
        if self.owner(ino).is_some() {
            return Ok(());
        }
        if self.tree.inodes().any(|inode| inode.parent == ino) {
            return self.revive_directory(ino, code);
        }
        let raw = self.working(ino, code)?;
        *raw = InodeRaw::free(ino, raw.generation.get());
        Ok(())
    }

    /// Turns a free record that other inodes name as their parent into a directory again, if its contents are those of
    /// a directory. Otherwise it stays as it is until these inodes have been moved elsewhere.
    fn revive_directory(&mut self, ino: InodeNo, code: Code) -> Result<(), Refusal> {
        let record = self.read_inode(ino).ok_or(Refusal::InodeUnreadable)?;
        let parent = self.tree.get(record.parent()).filter(|inode| inode.kind == Kind::Directory);
        let legal = name::check(record.name()).is_ok() && self.tree.lookup(record.parent(), record.name()).is_none();
        let empty = record.size.get() == 0 && record.blocks.get() == 0;
        if record.number.get() == ino.0 && parent.is_some() && legal && empty {
            self.working(ino, code)?.kind = InodeKind::Directory.number().into();
        }
        Ok(())
    }

    /// Repairs an inode that is neither a file nor a directory. It becomes a file if it has a size or blocks; otherwise
    /// a directory if other inodes name it as their parent; otherwise a file.
    fn choose_kind(&mut self, ino: InodeNo, code: Code) -> Result<(), Refusal> {
        let owned = self.owner(ino).is_some();
        let holds = self.tree.inodes().any(|inode| inode.parent == ino);
        let raw = self.working(ino, code)?;
        let directory = holds && !owned && raw.size.get() == 0;
        let kind = if directory { InodeKind::Directory } else { InodeKind::File };
        raw.kind = kind.number().into();
        Ok(())
    }

    fn shrink(&mut self, ino: InodeNo, code: Code) -> Result<(), Refusal> {
        let size = self.reach(ino);
        self.working(ino, code)?.size = size.into();
        Ok(())
    }

    /// How far the blocks that name a file reach into it, in bytes.
    fn reach(&mut self, ino: InodeNo) -> u64 {
        let places = self.owner(ino).map_or(0, |(_, places)| places);
        // This does not saturate: 2³² blocks of the largest size are 2⁶¹ bytes.
        u64::from(places).saturating_mul(self.region.geometry().block_bytes())
    }

    fn rename(&mut self, ino: InodeNo, code: Code) -> Result<(), Refusal> {
        let (parent, old) = {
            let raw = self.working(ino, code)?;
            (raw.parent(), raw.name().to_vec())
        };
        let name = self.free_name(parent, ino, &old);
        self.losses.insert(ino, Loss::Name(name::escape(&old)));
        self.working(ino, code)?.set_name(&name);
        Ok(())
    }

    /// A name that is valid and free in a directory: the usable part of the old name, followed by the inode's number.
    fn free_name(&mut self, parent: InodeNo, ino: InodeNo, old: &[u8]) -> Vec<u8> {
        let mut stem: Vec<u8> = old.iter().copied().filter(|byte| !matches!(byte, 0 | b'/')).collect();
        stem.truncate(name::MAX_NAME - 24);
        if matches!(stem.as_slice(), b"." | b"..") {
            stem.clear();
        }
        let mut attempt = 0_u32;
        loop {
            let mut name = stem.clone();
            name.extend_from_slice(format!("#{ino}").as_bytes());
            if attempt > 0 {
                name.extend_from_slice(format!(".{attempt}").as_bytes());
            }
            let free = self.tree.lookup(parent, &name).is_none_or(|holder| holder.ino == ino);
            if free && self.names.insert((parent, name.clone())) {
                return name;
            }
            // This does not saturate: a plan assigns fewer names than there are numbers.
            attempt = attempt.saturating_add(1);
        }
    }

    /// Moves an inode to lost+found, under its own name if possible, and otherwise under a name made of its number.
    fn adopt(&mut self, ino: InodeNo, code: Code) -> Result<(), Refusal> {
        let parent = self.read_inode(ino).map(|raw| raw.parent()).filter(|parent| *parent != ino);
        let planned = parent.and_then(|parent| self.inodes.get(&parent));
        let is_directory = |raw: &InodeRaw| raw.kind() == Some(InodeKind::Directory);
        if planned.is_some_and(|parent| is_directory(&parent.after) && !is_directory(&parent.before)) {
            // The same plan turns its parent into a directory again.
            return Ok(());
        }
        let home = self.home(code)?;
        let old = self.working(ino, code)?.name().to_vec();
        let legal = name::check(&old).is_ok() && self.tree.lookup(home, &old).is_none();
        let keeps = legal && self.names.insert((home, old.clone()));
        let (name, lost) = match keeps {
            true => (old, Loss::Directory),
            false => (self.free_name(home, ino, b""), Loss::NameAndDirectory),
        };
        self.losses.insert(ino, lost);
        let raw = self.working(ino, code)?;
        raw.parent = home.0.into();
        raw.set_name(&name);
        Ok(())
    }

    /// The directory lost+found: the existing one, or a new one, or the root if neither is possible.
    fn home(&mut self, code: Code) -> Result<InodeNo, Refusal> {
        if let Some(home) = self.lost_found {
            return Ok(home);
        }
        let there = self.tree.lookup(InodeNo::ROOT, LOST_FOUND).filter(|inode| inode.kind == Kind::Directory);
        let home = match there.map(|inode| inode.ino) {
            Some(home) => home,
            None => self.make_home(code)?,
        };
        self.lost_found = Some(home);
        Ok(home)
    }

    fn make_home(&mut self, code: Code) -> Result<InodeNo, Refusal> {
        let count = self.region.geometry().inodes();
        // The new directory must not get the number of a lost one. Otherwise whatever was in the lost directory would
        // silently be in the new one.
        let named: BTreeSet<InodeNo> = self.tree.inodes().map(|inode| inode.parent).collect();
        let free = (2..=count)
            .map(InodeNo)
            .filter(|ino| !named.contains(ino))
            .find(|ino| self.tree.get(*ino).is_none() && self.owner(*ino).is_none() && self.record_is_free(*ino));
        let Some(ino) = free else {
            return Ok(InodeNo::ROOT);
        };
        let taken = self.tree.lookup(InodeNo::ROOT, LOST_FOUND).is_some();
        let name = if taken { self.free_name(InodeNo::ROOT, ino, LOST_FOUND) } else { LOST_FOUND.to_vec() };
        let raw = self.working(ino, code)?;
        let generation = raw.generation.get().wrapping_add(1);
        *raw = InodeRaw::free(ino, generation);
        raw.kind = InodeKind::Directory.number().into();
        raw.mode = 0o700.into();
        raw.parent = InodeNo::ROOT.0.into();
        raw.set_name(&name);
        Ok(ino)
    }

    fn record_is_free(&self, ino: InodeNo) -> bool {
        !self.inodes.contains_key(&ino) && self.read_inode(ino).is_some_and(|raw| !raw.in_use())
    }

    fn block_problem(&mut self, first: BlockNo, count: u32, problem: &Problem, code: Code) -> Result<(), Refusal> {
        let to = match *problem {
            Problem::OwnerNotFile { .. } | Problem::DataBlockUnowned {} | Problem::ReservedBlockOwned { .. } => {
                Assign::Reserve
            }
            Problem::BlockPastSize { owner } if self.is_dense(owner) => return self.grow(owner, code),
            Problem::BlockPastSize { owner } | Problem::PlaceTakenTwice { owner, .. } => {
                let taken = self.taken.entry(owner).or_default();
                *taken = taken.saturating_add(u64::from(count));
                let raw = self.working(owner, code)?;
                raw.blocks = raw.blocks.get().saturating_sub(u64::from(count)).into();
                Assign::Reserve
            }
            Problem::BlockStateUnknown { .. } | Problem::FreeBlockNotEmpty { .. } => {
                return self.judge_blocks(first, count, code);
            }
            Problem::BlockFlagsUnknown { .. } | Problem::BlockReserved {} | Problem::DescriptorLeftover {} => {
                Assign::Scrub
            }
            _ => return Err(Refusal::NoRepair),
        };
        self.assign(first, count, to, code);
        Ok(())
    }

    /// Whether the blocks that name a file hold its file blocks without a gap. Then it is the size of the file that is
    /// wrong.
    fn is_dense(&mut self, owner: InodeNo) -> bool {
        self.owner(owner).is_some_and(|(blocks, places)| blocks == u64::from(places))
    }

    /// Makes a file as large as its blocks reach.
    fn grow(&mut self, owner: InodeNo, code: Code) -> Result<(), Refusal> {
        let size = self.reach(owner);
        self.working(owner, code)?.size = size.into();
        self.losses.insert(owner, Loss::Size);
        Ok(())
    }

    /// Repairs blocks that are in no valid state, or that are free and yet name a file. A block becomes data if the
    /// file that it names has that file block and no block holds it; otherwise it becomes reserved. It never becomes
    /// free.
    fn judge_blocks(&mut self, first: BlockNo, count: u32, code: Code) -> Result<(), Refusal> {
        for block in numbers(first.0, count)?.map(BlockNo) {
            let entry = self.descriptors.get(block).ok_or(Refusal::DescriptorUnreadable)?;
            let file = self.tree.get(entry.owner()).filter(|inode| inode.kind == Kind::File);
            let places = file.and_then(|inode| self.region.geometry().file_blocks(inode.size)).unwrap_or(0);
            let vacant = entry.index.get() < places && !self.is_taken(entry.owner(), entry.index.get());
            let to = if vacant { Assign::Confirm } else { Assign::Reserve };
            self.assign(block, 1, to, code);
        }
        Ok(())
    }

    /// Whether a block holds this file block of a file according to a valid descriptor.
    fn is_taken(&mut self, owner: InodeNo, index: u32) -> bool {
        let places = self.places.get_or_insert_with(|| Places::new(self.region, &self.tree));
        places.is_taken(self.region, owner, index)
    }

    fn assign(&mut self, first: BlockNo, count: u32, to: Assign, code: Code) {
        // Consecutive blocks that become the same are one edit.
        if let Some((start, (length, fate, because))) = self.blocks.iter_mut().next_back()
            && start.0.checked_add(*length) == Some(first.0)
            && (*fate, *because) == (to, code)
            && let Some(both) = length.checked_add(count)
        {
            *length = both;
            return;
        }
        self.blocks.entry(first).or_insert((count, to, code));
    }

    /// What the block table records for an inode as an owner.
    fn owner(&mut self, ino: InodeNo) -> Option<(u64, u32)> {
        if self.owners.is_none() {
            let mut owners = Owners::default();
            let count = self.region.geometry().inodes();
            self.region.descriptors(|_, entry| {
                let owner = entry.owner();
                let names = entry.state() != Some(BlockState::Reserved) && owner != InodeNo::NONE;
                if names && owner.0 <= count {
                    let (blocks, places) = owners.0.entry(owner).or_default();
                    *blocks = blocks.saturating_add(1);
                    // The sum saturates only for the highest number, which is no file block of any file.
                    *places = (*places).max(entry.index.get().saturating_add(1));
                }
            });
            self.owners = Some(owners);
        }
        self.owners.as_ref().and_then(|owners| owners.0.get(&ino)).copied()
    }

    /// The working copy of an inode.
    fn working(&mut self, ino: InodeNo, code: Code) -> Result<&mut InodeRaw, Refusal> {
        if !self.inodes.contains_key(&ino) {
            let before = Box::new(self.read_inode(ino).ok_or(Refusal::InodeUnreadable)?);
            self.inodes.insert(ino, Working { after: before.clone(), before, because: Vec::new() });
        }
        let working = self.inodes.get_mut(&ino).ok_or(Refusal::InodeUnreadable)?;
        if !working.because.contains(&code) {
            working.because.push(code);
        }
        Ok(&mut working.after)
    }

    fn read_inode(&self, ino: InodeNo) -> Option<InodeRaw> {
        read_inode(self.region.source(), self.region.superblocks(), ino)
    }

    /// Turns the working copies into edits.
    fn finish(self, plan: &mut Plan) {
        let mut descriptors = self.descriptors;
        if self.recover {
            plan.push(Edit::Recover, vec![Code::GM0023], Vec::new());
        }
        for (page, code) in self.rewrite {
            plan.push(Edit::Rewrite { page }, vec![code], Vec::new());
        }
        for (first, (count, to, code)) in self.blocks {
            let before = descriptors.sum(first, count);
            let loses = (to == Assign::Reserve && code.repair() == Repair::Lossy)
                .then(|| claims(&mut descriptors, first, count));
            plan.push(Edit::Blocks { first, count, to, before }, vec![code], loses.into_iter().collect());
        }
        let mut inodes = self.inodes;
        for (ino, working) in &mut inodes {
            // The file has fewer blocks than it recorded, so a file block has lost its block, and must not read as
            // zeros.
            if self.taken.contains_key(ino) && working.after.blocks.get() < working.before.blocks.get() {
                working.after.flags = (working.after.flags.get() | INODE_LOST_DATA).into();
            }
        }
        let loses_data = |raw: &InodeRaw| raw.flags.get() & INODE_LOST_DATA != 0;
        let losing = inodes.iter().filter(|(_, working)| loses_data(&working.after) && !loses_data(&working.before));
        let ranges = lost::ranges(self.region, &self.tree, losing.map(|(ino, _)| *ino));
        for (ino, working) in inodes {
            if working.before != working.after {
                let losses = [self.losses.get(&ino), ranges.get(&ino)];
                let safe = is_count_of_flagged(&working.before, &working.because);
                let edit = Edit::Inode { ino, before: working.before, after: working.after };
                plan.push(edit, working.because, losses.into_iter().flatten().cloned().collect());
                if let Some(planned) = plan.edits.last_mut().filter(|_| safe) {
                    planned.class = Repair::Safe;
                }
            }
        }
        let (raw, because) = self.superblock;
        let before = self.region.superblock().raw;
        if raw != before {
            plan.push(Edit::Superblock { before: Box::new(before), after: Box::new(raw) }, because, Vec::new());
        }
    }
}

/// The numbers of a run. A check never finds a run that passes the highest number.
fn numbers(first: u32, count: u32) -> Result<Range<u32>, Refusal> {
    let end = first.checked_add(count).ok_or(Refusal::NotThere)?;
    Ok(first..end)
}

/// Makes an inode the root directory. If it is a directory already, its owner, mode and times stay.
fn make_root(raw: &mut InodeRaw) {
    if raw.kind() != Some(InodeKind::Directory) {
        let generation = raw.generation.get().wrapping_add(1);
        *raw = InodeRaw::free(InodeNo::ROOT, generation);
        raw.kind = InodeKind::Directory.number().into();
        raw.mode = 0o755.into();
    }
    raw.parent = InodeNo::ROOT.0.into();
    raw.set_name(b".");
}

/// The valid part of a label.
fn legal_label(label: &[u8; 64]) -> [u8; 64] {
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(MAX_LABEL).min(MAX_LABEL);
    let text = String::from_utf8_lossy(label.get(..end).unwrap_or(label));
    let legal: String = text.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER).collect();
    text_field(&legal)
}
