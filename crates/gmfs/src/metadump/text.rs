//! The readable form of a dump: one fact a line, in an order that is always the same. Written as it is read, so that no
//! region is too large for it.

use std::io::{self, Write};

use gmfs_format::name::escape;
use gmfs_format::native::raw::{BlockRaw, InodeRaw, InodeTablePage, OnMemory, SuperblockRaw};
use gmfs_format::native::seal::PageKind;
use gmfs_format::native::units::{BlockNo, CopyId};
use gmfs_io::ReadAt;
use gmfs_volume::Superblocks;
use gmfs_volume::region::page_descriptors;
use gmfs_volume::superblocks::used_tables;
use gmfs_volume::sweep::{Frame, sweep};

type Out<'w> = dyn Write + Send + 'w;
/// Takes a page of a table.
type Visit<'v> = dyn FnMut(&Frame<'_>) -> io::Result<()> + Send + 'v;

/// The text of a region's metadata.
pub(super) fn write<S: ReadAt>(
    source: &S,
    superblocks: &Superblocks,
    out: &mut Out<'_>,
    go_on: &(dyn Fn() -> bool + Sync),
) -> io::Result<()> {
    let pass = Pass { source, superblocks, go_on };
    let current = superblocks.current();
    writeln!(out, "region uuid {}", current.uuid)?;
    writeln!(out, "region generation {}", current.generation)?;
    for (name, slot) in [("A", &superblocks.a), ("B", &superblocks.b)] {
        writeln!(out, "superblock {name} {slot}")?;
    }
    fields::<SuperblockRaw>(out, "superblock", &current.raw)?;
    for (kind, _) in used_tables(current) {
        pass.each(kind, &mut |frame| {
            for copy in CopyId::BOTH {
                let standing = frame.judgement.of(copy).name();
                writeln!(out, "page {copy} {} {kind}: {standing}", frame.page)?;
            }
            Ok(())
        })?;
    }
    pass.each(PageKind::InodeTable, &mut |frame| {
        let Some(bytes) = frame.taken() else { return Ok(()) };
        let first = superblocks.geometry().first_inode_of(frame.page).0;
        for (number, inode) in (first..).zip(&InodeTablePage::view(bytes).inodes).filter(|(_, inode)| inode.in_use()) {
            fields::<InodeRaw>(out, &format!("inode {number}"), inode)?;
        }
        Ok(())
    })?;
    let mut run = Run { first: BlockNo(0), count: 0, entry: BlockRaw::FREE };
    pass.each(PageKind::BlockTable, &mut |frame| {
        let Some(bytes) = frame.taken() else { return Ok(()) };
        page_descriptors(superblocks.geometry(), frame.page, bytes)
            .try_for_each(|(block, entry)| run.add(block, entry, out))
    })?;
    run.tell(out)
}

/// Reads tables.
struct Pass<'p, S> {
    source: &'p S,
    superblocks: &'p Superblocks,
    go_on: &'p (dyn Fn() -> bool + Sync),
}

impl<S: ReadAt> Pass<'_, S> {
    /// Passes the pages of a table to `visit`, until that fails.
    fn each(&self, kind: PageKind, visit: &mut Visit<'_>) -> io::Result<()> {
        let mut done = Ok(());
        let tables = used_tables(self.superblocks.current());
        for (_, pages) in tables.into_iter().filter(|(table, _)| *table == kind) {
            let visit = |frame: &Frame<'_>| {
                if done.is_ok() && (self.go_on)() {
                    done = visit(frame);
                }
            };
            sweep(self.source, self.superblocks, pages, vec![visit]);
        }
        done
    }
}

/// The fields of a structure, those that are reserved only if they hold something.
fn fields<T: OnMemory>(out: &mut Out<'_>, what: &str, value: &T) -> io::Result<()> {
    for field in T::FIELDS {
        let bytes = value.bytes().get(field.range()).unwrap_or_default();
        if field.name.starts_with("reserved") && bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let number = bytes.iter().rev().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        match field.kind {
            "u8" | "U16" | "U32" | "U64" => writeln!(out, "{what} {} {number}", field.name)?,
            _ => {
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
                let shown = bytes.get(..used).unwrap_or_default();
                writeln!(out, "{what} {} '{}'", field.name, escape(shown))?;
            }
        }
    }
    Ok(())
}

/// Consecutive blocks that are alike, with consecutive indices.
struct Run {
    first: BlockNo,
    count: u32,
    entry: BlockRaw,
}

impl Run {
    fn add(&mut self, block: BlockNo, entry: &BlockRaw, out: &mut Out<'_>) -> io::Result<()> {
        let mut next = self.entry;
        if next.is_mapping() {
            next.index = next.index.get().wrapping_add(self.count).into();
        }
        if self.count > 0 && next == *entry && self.first.0.checked_add(self.count) == Some(block.0) {
            self.count = self.count.saturating_add(1);
            return Ok(());
        }
        self.tell(out)?;
        *self = Self { first: block, count: 1, entry: *entry };
        Ok(())
    }

    /// Prints the run. Free blocks are left out.
    fn tell(&self, out: &mut Out<'_>) -> io::Result<()> {
        let Self { first, count, entry } = self;
        if *count == 0 || *entry == BlockRaw::FREE {
            return Ok(());
        }
        let state = entry.state().map_or_else(|| format!("state {}", entry.state), |state| state.name().to_owned());
        write!(out, "blocks {state} first {first} count {count} inode {} index {}", entry.owner(), entry.index)?;
        if entry.flags != 0 || entry.crc.get() != 0 {
            write!(out, " flags {} crc {:#010x}", entry.flags, entry.crc)?;
        }
        if entry.reserved.get() != 0 {
            write!(out, " reserved {:#06x}", entry.reserved)?;
        }
        writeln!(out)
    }
}
