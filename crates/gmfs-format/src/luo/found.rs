//! What a scan of memory finds: roots, records that hand them over, and lists of sessions and files by their looks.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use gmfs_io::{ReadAt, ReadError};

use super::block::Layout;
use super::raw::is_padded;
use crate::kho::fdt::MAGIC;
use crate::kho::{Page, Setup, Tree, is_page, pages, word};

/// So many finds of each kind are kept.
const MAX_FINDS: usize = 1 << 16;

/// So many device trees are looked at as that of a machine, which can be large.
const MAX_MACHINE_TREES: u32 = 256;

/// A page that looks like a list of sessions or files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The page.
    pub(super) at: u64,
    /// The next block; 0 in arrays.
    pub(super) next: u64,
    /// How many entries it has; in the first page of an array.
    pub(super) count: u64,
    /// How it is laid out.
    pub(super) layout: Layout,
}

/// What a scan finds.
#[derive(Clone, Debug, Default)]
pub struct Finds {
    /// The roots of hand-overs, in rising order.
    pub trees: Vec<u64>,
    /// What hands a root over: records of the boot protocol, device trees of a machine. A kernel that loads the next one has
    /// copies.
    pub setups: Vec<Setup>,
    /// Device trees that were looked at as those of a machine.
    machine_trees: u32,
    pub(super) sessions: Vec<Found>,
    pub(super) files: Vec<Found>,
}

impl Finds {
    /// Whether there is nothing of a hand-over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    fn add<T>(list: &mut Vec<T>, found: T) {
        if list.len() < MAX_FINDS {
            list.push(found);
        }
    }

    fn page(&mut self, source: &dyn ReadAt, at: u64, page: &Page) {
        if page.starts_with(&MAGIC) {
            if Tree::read(source, at).is_ok() {
                Self::add(&mut self.trees, at);
            } else if self.machine_trees < MAX_MACHINE_TREES {
                self.machine_trees = self.machine_trees.saturating_add(1);
                self.setups.extend(Setup::in_machine_tree(source, at));
            }
        }
        for setup in Setup::find(at, page) {
            Self::add(&mut self.setups, setup);
        }
        // Page 0 is no one's.
        if !is_page(at) {
            return;
        }
        if let Some((next, count)) = session_block(page) {
            Self::add(&mut self.sessions, Found { at, next, count, layout: Layout::Blocks });
        } else if let Some(count) = session_area(page) {
            Self::add(&mut self.sessions, Found { at, next: 0, count, layout: Layout::Arrays });
        } else if let Some((next, count)) = file_block(page) {
            Self::add(&mut self.files, Found { at, next, count, layout: Layout::Blocks });
        } else if let Some(count) = file_array(page) {
            Self::add(&mut self.files, Found { at, next: 0, count, layout: Layout::Arrays });
        }
    }

    /// Lists of sessions to which no other one links. One counts only if a list of files is where it says, or if none of its
    /// sessions has files.
    pub(super) fn session_heads<'f>(&'f self, source: &'f dyn ReadAt) -> impl Iterator<Item = &'f Found> {
        let linked: HashSet<u64> = self.sessions.iter().map(|found| found.next).collect();
        let files: HashMap<u64, Layout> = self.files.iter().map(|found| (found.at, found.layout)).collect();
        let agrees = move |found: &&Found| {
            let Ok(page) = crate::kho::read::<Page>(source, found.at) else { return false };
            let mut sessions = entries(&page, found).filter_map(|entry| entry.get(64..72)).map(|files| word(files, 0));
            let mut any = false;
            let linked = sessions.any(|at| {
                any |= at != 0;
                files.get(&at) == Some(&found.layout)
            });
            linked || !any && found.layout == Layout::Blocks
        };
        self.sessions.iter().filter(move |found| !linked.contains(&found.at)).filter(agrees)
    }

    /// Lists of files to which no other one links.
    pub(super) fn file_heads(&self) -> impl Iterator<Item = &Found> {
        let linked: HashSet<u64> = self.files.iter().map(|found| found.next).collect();
        self.files.iter().filter(move |found| !linked.contains(&found.at))
    }
}

/// Looks at all of a range of physical memory. `seen` is told how far it has come.
///
/// # Errors
/// The source cannot tell where its holes are.
pub fn scan(source: &dyn ReadAt, range: Range<u64>, seen: &mut dyn FnMut(u64)) -> Result<Finds, ReadError> {
    let mut finds = Finds::default();
    pages(source, range, seen, &mut |at, page| finds.page(source, at, page))?;
    Ok(finds)
}

/// The entries of a list of sessions that are in its first page.
fn entries<'p>(page: &'p Page, found: &Found) -> impl Iterator<Item = &'p [u8]> {
    let first = match found.layout {
        Layout::Blocks => 16,
        Layout::Arrays => 8,
    };
    let entries = page.get(first..).unwrap_or_default().chunks_exact(80);
    entries.take(gmfs_io::num::small(found.count))
}

/// Whether an entry can be a session's: a name, and files exactly if it says where.
fn is_session(entry: &[u8], nameless: bool) -> bool {
    let (name, files, count) = (entry.get(..64).unwrap_or_default(), word(entry, 64), word(entry, 72));
    let named = is_padded(name) || nameless && name.iter().all(|byte| *byte == 0);
    named && (count == 0) == (files == 0) && (files == 0 || is_page(files)) && count <= 630_000
}

fn session_block(page: &Page) -> Option<(u64, u64)> {
    let (next, count) = (word(page, 0), word(page, 8));
    let plausible = (1..=51).contains(&count) && (next == 0 || is_page(next) && count == 51);
    let entries = page.get(16..)?.chunks_exact(80).take(gmfs_io::num::small(count));
    (plausible && entries.into_iter().all(|entry| is_session(entry, false))).then_some((next, count))
}

fn session_area(page: &Page) -> Option<u64> {
    let count = word(page, 0);
    let mut entries = page.get(8..)?.chunks_exact(80).take(gmfs_io::num::small(count));
    // 6.19 takes sessions without a name.
    ((1..=819).contains(&count) && entries.all(|entry| is_session(entry, true))).then_some(count)
}

/// Whether an entry can be a file's: the name of a handler, as all have it.
fn is_file(entry: &[u8]) -> bool {
    let handler = entry.get(..48).unwrap_or_default();
    let text = handler.split(|byte| *byte == 0).next().unwrap_or_default();
    let version = text.iter().rposition(|byte| !byte.is_ascii_digit());
    let versioned = version.is_some_and(|at| text.get(at) == Some(&b'v') && at.saturating_add(1) < text.len());
    is_padded(handler) && versioned && text.iter().all(u8::is_ascii_graphic) && word(entry, 48) != 0
}

fn file_block(page: &Page) -> Option<(u64, u64)> {
    let (next, count) = (word(page, 0), word(page, 8));
    let plausible = (1..=63).contains(&count) && (next == 0 || is_page(next) && count == 63);
    let mut entries = page.get(16..)?.chunks_exact(64).take(gmfs_io::num::small(count));
    (plausible && entries.all(is_file)).then_some((next, count))
}

fn file_array(page: &Page) -> Option<u64> {
    let entries = page.chunks_exact(64);
    let count = gmfs_io::num::len64(entries.clone().take_while(|entry| is_file(entry)).count());
    // The array is as long as the session says; what is past its end is zero.
    let rest = entries.skip(gmfs_io::num::small(count)).flatten().all(|byte| *byte == 0);
    (count > 0 && rest).then_some(count)
}
