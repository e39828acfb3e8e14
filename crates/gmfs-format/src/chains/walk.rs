//! Following the chains: from the root through the directories, and the list of free inodes.

use std::collections::{BTreeMap, VecDeque};

use super::inodes::{Inodes, Link};
use super::{Anomaly, Chain, InodeNo, Lack, Linked, NameFault, to_usize};

/// What the chains lead to.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Inodes in use, and the directory whose chain each is in: none for the root, and for those that nothing leads to.
    /// The root is always there, even if its inode is unknown.
    pub(crate) parents: BTreeMap<InodeNo, Option<InodeNo>>,
    /// The entries of each directory that has some, in the order of its chain.
    pub(crate) children: BTreeMap<InodeNo, Vec<InodeNo>>,
    /// What is wrong.
    pub(crate) anomalies: Vec<Anomaly>,
    /// Inodes in the list of free inodes.
    pub(crate) free: u32,
}

/// What a superblock says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Superblock {
    /// What is there instead of the magic, if that is wrong.
    pub(crate) other_magic: Option<u64>,
    /// Its link to the first free inode, or why it is unknown.
    pub(crate) next_free: Result<u64, Lack>,
}

/// Follows all chains.
pub(crate) fn walk<R: Linked>(inodes: &Inodes<R>, superblock: Superblock) -> Walked {
    let mut walk = Walk { inodes, seen: BTreeMap::new(), directories: VecDeque::new(), walked: Walked::default() };
    walk.fixed_places(superblock);
    walk.unknown_inodes();
    walk.root();
    let mut lost = false;
    while let Some(directory) = walk.directories.pop_front() {
        lost |= walk.directory(directory).is_err();
    }
    let free = walk.free_list(superblock.next_free);
    walk.not_reached(lost, &free);
    walk.walked
}

/// A chain cannot be followed to its end, because an inode is unknown.
struct Lost;

/// The list of free inodes.
struct FreeList {
    inodes: Members,
    /// Whether a part of it is unknown.
    lost: bool,
}

/// A set of inodes of the array, and of the ghost.
struct Members {
    /// By number, from 0. The last one is the ghost.
    marks: Box<[bool]>,
    count: u32,
}

impl Members {
    fn new<R: Linked>() -> Self {
        Self { marks: vec![false; to_usize(R::INODES).saturating_add(2)].into(), count: 0 }
    }

    fn place(&self, ino: InodeNo) -> usize {
        to_usize(ino.0).min(self.marks.len().saturating_sub(1))
    }

    /// Adds an inode. Returns whether it was new.
    fn insert(&mut self, ino: InodeNo) -> bool {
        let place = self.place(ino);
        let Some(mark) = self.marks.get_mut(place).filter(|mark| !**mark) else { return false };
        *mark = true;
        self.count = self.count.saturating_add(1);
        true
    }

    fn contains(&self, ino: InodeNo) -> bool {
        self.marks.get(self.place(ino)) == Some(&true)
    }
}

/// One walk through all chains.
struct Walk<'a, R> {
    inodes: &'a Inodes<R>,
    /// Each inode that a directory led to, and that directory. Includes those with flags 0, which become no nodes.
    seen: BTreeMap<InodeNo, InodeNo>,
    /// Directories whose chains are still to be followed.
    directories: VecDeque<InodeNo>,
    walked: Walked,
}

impl<R: Linked> Walk<'_, R> {
    fn found(&mut self, anomaly: Anomaly) {
        self.walked.anomalies.push(anomaly);
    }

    /// What is wrong with the superblock and the root.
    fn fixed_places(&mut self, superblock: Superblock) {
        match superblock {
            Superblock { next_free: Err(lack), .. } => self.found(Anomaly::SuperblockUnknown { lack }),
            Superblock { other_magic: Some(found), .. } => self.found(Anomaly::MagicDiffers { found }),
            Superblock { other_magic: None, .. } => {}
        }
        if matches!(self.inodes.get(InodeNo::ROOT), Some(Ok(root)) if !root.is_root()) {
            self.found(Anomaly::RootDiffers);
        }
    }

    /// The inodes of the store that cannot be read, in ranges. The ghost is no inode unless a link leads to it.
    fn unknown_inodes(&mut self) {
        let mut range: Option<(InodeNo, InodeNo, Lack)> = None;
        for (ino, inode) in self.inodes.all() {
            let Err(lack) = inode else { continue };
            range = match range {
                Some((first, last, why)) if last.0.checked_add(1) == Some(ino.0) => Some((first, ino, why)),
                before => {
                    self.walked.anomalies.extend(before.map(unknown));
                    Some((ino, ino, lack))
                }
            };
        }
        self.walked.anomalies.extend(range.map(unknown));
    }

    /// The root is in the tree, whatever its inode holds.
    fn root(&mut self) {
        self.walked.parents.insert(InodeNo::ROOT, None);
        self.directories.push_back(InodeNo::ROOT);
    }

    /// Reads a directory.
    fn directory(&mut self, directory: InodeNo) -> Result<(), Lost> {
        let followed = self.follow(directory);
        self.duplicate_names(directory);
        followed
    }

    /// Follows the chain of a directory.
    fn follow(&mut self, directory: InodeNo) -> Result<(), Lost> {
        let chain = Chain::Directory(directory);
        let mut link = self.read(chain, directory)?.child();
        let mut holder = directory;
        while let Some(ino) = self.target(chain, Some(holder), link) {
            if let Some(first) = self.seen.get(&ino) {
                let anomaly = match *first {
                    first if first == directory => Anomaly::Cycle { chain, holder: Some(holder), ino },
                    first => Anomaly::LinkedTwice { ino, first: Chain::Directory(first), second: chain },
                };
                self.found(anomaly);
                break;
            }
            self.seen.insert(ino, directory);
            let raw = self.read(chain, ino)?;
            self.entry(directory, ino, &raw);
            link = raw.sibling();
            holder = ino;
        }
        Ok(())
    }

    /// An inode of a chain. The chain is lost if it is unknown.
    fn read(&mut self, chain: Chain, ino: InodeNo) -> Result<R, Lost> {
        match self.inodes.get(ino) {
            Some(Ok(raw)) => Ok(*raw),
            Some(Err(lack)) => {
                if ino == R::GHOST {
                    self.found(Anomaly::UnknownInodes { first: ino, last: ino, lack });
                }
                self.found(Anomaly::ChainLost { chain, ino: Some(ino), lack });
                Err(Lost)
            }
            // Links lead to inodes only: `Link::of` sees to that.
            None => Err(Lost),
        }
    }

    /// Where a link of a chain leads, if it leads on.
    fn target(&mut self, chain: Chain, holder: Option<InodeNo>, link: u64) -> Option<InodeNo> {
        match Link::of::<R>(link) {
            Link::End => None,
            Link::To(ino) => Some(ino),
            Link::Bad(value) => {
                self.found(Anomaly::BadLink { chain, holder, value });
                None
            }
        }
    }

    /// Takes an inode into the tree.
    fn entry(&mut self, directory: InodeNo, ino: InodeNo, raw: &R) {
        if raw.flags() == 0 {
            match self.walked.anomalies.last_mut() {
                Some(Anomaly::FreeInDirectory { directory: same, count, .. }) if *same == directory => {
                    *count = count.saturating_add(1);
                }
                _ => self.found(Anomaly::FreeInDirectory { directory, first: ino, count: 1 }),
            }
            return;
        }
        self.node(ino, Some(directory), raw);
        self.walked.children.entry(directory).or_default().push(ino);
    }

    /// Takes an inode in use in, and notes what is wrong with it.
    fn node(&mut self, ino: InodeNo, parent: Option<InodeNo>, raw: &R) {
        if !R::is_written(raw.flags()) {
            self.found(Anomaly::OddFlags { ino, flags: raw.flags() });
        }
        if let Some(fault) = name_fault(raw) {
            self.found(Anomaly::BadName { ino, fault });
        }
        if parent.is_some() && R::is_directory(raw.flags()) {
            self.directories.push_back(ino);
        }
        self.walked.parents.insert(ino, parent);
    }

    /// Names that a directory has more than once.
    fn duplicate_names(&mut self, directory: InodeNo) {
        let mut names: BTreeMap<&[u8], InodeNo> = BTreeMap::new();
        let mut twice = Vec::new();
        for ino in self.walked.children.get(&directory).into_iter().flatten() {
            let Some(Ok(raw)) = self.inodes.get(*ino) else { continue };
            let first = *names.entry(raw.name_bytes()).or_insert(*ino);
            if first != *ino {
                twice.push(Anomaly::DuplicateName { directory, first, second: *ino });
            }
        }
        self.walked.anomalies.append(&mut twice);
    }

    /// Follows the list of free inodes.
    fn free_list(&mut self, next_free: Result<u64, Lack>) -> FreeList {
        let mut list = FreeList { inodes: Members::new::<R>(), lost: false };
        match next_free {
            Ok(link) => list.lost = self.free_chain(link, &mut list.inodes).is_err(),
            Err(lack) => {
                self.found(Anomaly::ChainLost { chain: Chain::Free, ino: None, lack });
                list.lost = true;
            }
        }
        self.walked.free = list.inodes.count;
        list
    }

    /// Follows the list of free inodes from its first link.
    fn free_chain(&mut self, mut link: u64, free: &mut Members) -> Result<(), Lost> {
        let chain = Chain::Free;
        let mut holder = None;
        while let Some(ino) = self.target(chain, holder, link) {
            if let Some(directory) = self.seen.get(&ino) {
                let first = Chain::Directory(*directory);
                self.found(Anomaly::LinkedTwice { ino, first, second: chain });
                break;
            }
            if !free.insert(ino) {
                self.found(Anomaly::Cycle { chain, holder, ino });
                break;
            }
            let raw = self.read(chain, ino)?;
            if raw.flags() != 0 {
                self.found(Anomaly::UsedInFreeList { ino });
            }
            link = raw.sibling();
            holder = Some(ino);
        }
        Ok(())
    }

    /// Inodes that no chain led to. `lost`: a part of some directory's chain is unknown.
    fn not_reached(&mut self, lost: bool, free: &FreeList) {
        let inodes = self.inodes;
        for (ino, raw) in inodes.in_use() {
            if self.seen.contains_key(&ino) {
                continue;
            }
            // One in the list of free inodes is already reported.
            if !free.inodes.contains(ino) {
                self.found(if lost { Anomaly::Unreached { ino } } else { Anomaly::Orphan { ino } });
            }
            self.node(ino, None, raw);
        }
        if lost || free.lost {
            return;
        }
        let mut range: Option<(InodeNo, InodeNo)> = None;
        for (ino, inode) in inodes.all() {
            let unused = ino != InodeNo::ROOT && inode.is_ok_and(|inode| inode.flags() == 0);
            if !unused || free.inodes.contains(ino) || self.seen.contains_key(&ino) {
                continue;
            }
            range = match range {
                Some((first, last)) if last.0.checked_add(1) == Some(ino.0) => Some((first, ino)),
                before => {
                    self.walked.anomalies.extend(before.map(unaccounted));
                    Some((ino, ino))
                }
            };
        }
        self.walked.anomalies.extend(range.map(unaccounted));
    }
}

fn unknown((first, last, lack): (InodeNo, InodeNo, Lack)) -> Anomaly {
    Anomaly::UnknownInodes { first, last, lack }
}

fn unaccounted((first, last): (InodeNo, InodeNo)) -> Anomaly {
    Anomaly::Unaccounted { first, last }
}

/// What is wrong with the name of an inode.
fn name_fault<R: Linked>(raw: &R) -> Option<NameFault> {
    match raw.name_bytes() {
        b"" => Some(NameFault::Empty),
        b"." | b".." => Some(NameFault::Dots),
        name if name.contains(&b'/') => Some(NameFault::Slash),
        name if name.len() == raw.filename().len() => Some(NameFault::Unterminated),
        _ => None,
    }
}
