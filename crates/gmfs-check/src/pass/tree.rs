//! The tree: checks that every inode reaches the root through directories, and that names in a directory are unique.

use gmfs_format::native::raw::{InodeRaw, InodeTablePage};
use gmfs_format::native::units::{InodeNo, len64, to_usize};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::Superblocks;

use crate::finding::Subject;
use crate::pass::inodes::{Inodes, Known, slot_place};
use crate::problem::Problem;
use crate::sink::Sink;

/// Checks parents, cycles and names.
pub(crate) fn check<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, inodes: &Inodes, sink: &mut Sink) {
    let at = |ino| span_of(superblocks, ino);
    let name = |ino| name_of(source, superblocks, ino);
    root(&name, inodes, &at, sink);
    for (ino, record) in inodes.iter().skip(1).filter(|(_, record)| in_use(record.kind)) {
        let parent = record.parent;
        match inodes.get(parent).kind {
            // The root is already reported. Repairing it also fixes its children.
            _ if parent == InodeNo::ROOT => {}
            Known::Directory | Known::Lost => {}
            Known::Free => sink.add(Problem::ParentMissing { parent }, Subject::Inode(ino), at(ino)),
            Known::File | Known::Other => {
                sink.add(Problem::ParentNotDirectory { parent }, Subject::Inode(ino), at(ino));
            }
        }
    }
    cycles(inodes, &at, sink);
    duplicates(&name, inodes, &at, sink);
}

const fn in_use(kind: Known) -> bool {
    matches!(kind, Known::File | Known::Directory | Known::Other)
}

/// Checks that the root is a directory with the name "." and is its own parent.
fn root(name: &impl Fn(InodeNo) -> Option<Box<[u8]>>, inodes: &Inodes, at: &impl Fn(InodeNo) -> Span, sink: &mut Sink) {
    let root = inodes.get(InodeNo::ROOT);
    let subject = Subject::Inode(InodeNo::ROOT);
    match root.kind {
        Known::Directory => {
            let named = name(InodeNo::ROOT).is_none_or(|name| *name == *b".");
            if root.parent != InodeNo::ROOT || !named {
                sink.add(Problem::RootMisnamed {}, subject, at(InodeNo::ROOT));
            }
        }
        Known::Lost => {}
        _ => sink.add(Problem::RootMissing {}, subject, at(InodeNo::ROOT)),
    }
}

/// Finds cycles of directories. Each cycle is one finding, at its lowest inode.
fn cycles(inodes: &Inodes, at: &impl Fn(InodeNo) -> Span, sink: &mut Sink) {
    // 0 means not seen; otherwise this is the number of the walk that saw the inode first.
    let mut seen = vec![0_u32; inodes.len().saturating_add(1)];
    for (start, record) in inodes.iter().skip(1).filter(|(_, record)| in_use(record.kind)) {
        let mut here = start;
        let mut parent = record.parent;
        while seen.get(to_usize(here.0)) == Some(&0) {
            if let Some(mark) = seen.get_mut(to_usize(here.0)) {
                *mark = start.0;
            }
            if here == InodeNo::ROOT || inodes.get(parent).kind != Known::Directory || parent == InodeNo::ROOT {
                break;
            }
            here = parent;
            parent = inodes.get(here).parent;
            if seen.get(to_usize(here.0)) == Some(&start.0) {
                report_cycle(inodes, here, at, sink);
            }
        }
    }
}

/// Reports the cycle that contains `inside`.
fn report_cycle(inodes: &Inodes, inside: InodeNo, at: &impl Fn(InodeNo) -> Span, sink: &mut Sink) {
    let mut lowest = inside;
    let mut here = inodes.get(inside).parent;
    while here != inside {
        lowest = lowest.min(here);
        here = inodes.get(here).parent;
    }
    let parent = inodes.get(lowest).parent;
    sink.add(Problem::ParentCycle { parent }, Subject::Inode(lowest), at(lowest));
}

/// Finds equal names in one directory: sorts by directory and name hash, and compares the names of neighbours.
fn duplicates(
    name: &impl Fn(InodeNo) -> Option<Box<[u8]>>,
    inodes: &Inodes,
    at: &impl Fn(InodeNo) -> Span,
    sink: &mut Sink,
) {
    let mut named: Vec<(InodeNo, u64, InodeNo)> = inodes
        .iter()
        .skip(1)
        .filter(|(_, record)| in_use(record.kind))
        .map(|(ino, record)| (record.parent, record.name_hash, ino))
        .collect();
    named.sort_unstable();
    for group in named.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).filter(|group| group.len() > 1) {
        let mut names: Vec<(Box<[u8]>, InodeNo)> =
            group.iter().filter_map(|(_, _, ino)| Some((name(*ino)?, *ino))).collect();
        names.sort_unstable();
        for equal in names.chunk_by(|a, b| a.0 == b.0) {
            let Some(((_, other), rest)) = equal.split_first() else {
                continue;
            };
            for (_, ino) in rest {
                let parent = inodes.get(*ino).parent;
                sink.add(Problem::NameDuplicate { parent, other: *other }, Subject::Inode(*ino), at(*ino));
            }
        }
    }
}

/// Reads an inode's name again, because names are not kept in memory.
fn name_of<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, ino: InodeNo) -> Option<Box<[u8]>> {
    let (page, slot) = superblocks.geometry().inode_place(ino)?;
    let bytes = gmfs_volume::region::read_page(source, superblocks, page)?;
    Some(InodeTablePage::view(&bytes).inodes.get(slot)?.name().into())
}

/// Where an inode's record is in copy A.
pub(crate) fn span_of(superblocks: &Superblocks, ino: InodeNo) -> Span {
    let geometry = superblocks.geometry();
    let nowhere = Span::new(0, len64(size_of::<InodeRaw>()));
    geometry.inode_place(ino).map_or(nowhere, |(page, slot)| slot_place(geometry, page, slot))
}
