//! The views that are lists.

use anyhow::Result;
use gmfs::Store;
use gmfs::in_use::ByFile;
use gmfs::open::Source;
use gmfs::store::Runs;
use gmfs::tables::{self, BlockRun, BlockRuns};
use gmfs::walk::{self, Reached};
use gmfs_format::model::{Attributes, Inode, InodeNo, Kind, Tree};
use gmfs_format::native::copies::Standing;
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::BlockNo;
use gmfs_volume::Region;
use serde::Serialize;

use super::{Args, View};
use crate::cmd::ls::role;
use crate::cmd::{inodes as read_inodes, tell_doubtful, tell_lost};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use;
use crate::open::told;
use crate::paths::{self, Paths};
use crate::render::json::{self, files as wire, region as wire_region};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::{size, words};

/// Lists inodes or files of a store of another layout, on its own or, as JSON, in the answer that `answer` makes of it.
pub(super) fn listed<A: Serialize>(
    args: &Args,
    store: &Store,
    ctx: &mut Ctx,
    answer: impl FnOnce(wire_region::Lists) -> A,
) -> Result<Exit> {
    let mut lists = args.json.then(wire_region::Lists::default);
    let exit = if args.view == View::Inodes {
        inodes(store, lists.as_mut(), ctx)?
    } else {
        files(store, args.in_use, lists.as_mut(), ctx)?
    };
    if let Some(lists) = lists {
        json::print(ctx, "inspect", &answer(lists))?;
    }
    Ok(exit)
}

pub(super) fn blocks(opened: &Store, answer: Option<&mut wire_region::Lists>, ctx: &mut Ctx) -> Result<Exit> {
    let region = opened.native().map_err(told)?;
    let (inodes, _) = read_inodes(opened, ctx);
    let BlockRuns { runs, lost_pages, .. } = tables::blocks(region);
    let exit = tell_lost(lost_pages, "block table", "list", ctx);
    if let Some(answer) = answer {
        answer.lost_pages = Some(lost_pages);
        let row = |run| wire_region::Blocks::new(run, opened, region.geometry());
        answer.blocks = Some(runs.iter().map(row).collect());
        return Ok(exit);
    }
    block_table(region, opened.physical_base(), &runs, &mut Paths::new(&inodes.tree)).print(ctx)?;
    Ok(exit)
}

/// All blocks of the region, metadata included.
fn block_table(region: &Region<Source>, base: Option<u64>, runs: &[BlockRun], paths: &mut Paths<'_>) -> Table {
    let geometry = region.geometry();
    let address = if base.is_some() { "Physical" } else { "Offset" };
    let mut table = Table::new(&["Block", "Count", "Size", address, "State", "Flags", "File"])
        .right(&[0, 1, 2, 3])
        .dispensable(&["Count", "Size"]);
    let mut add = |first: BlockNo, count: u32, state: (&str, Role), flags: &str, file: &str| {
        let place = size::hex(base.unwrap_or(0).saturating_add(geometry.block_offset(first)));
        table.styled([
            (&first.to_string(), Role::Plain),
            (&count.to_string(), Role::Plain),
            (&size::human(u64::from(count) * geometry.block_bytes()), Role::Plain),
            (&place, Role::Plain),
            state,
            (flags, Role::Plain),
            (file, Role::Plain),
        ]);
    };
    let metadata = geometry.metadata_blocks();
    add(BlockNo(0), metadata, ("metadata A", Role::Dim), "", "");
    for run in runs {
        let file = owner(&run.entry, paths, geometry.block_bytes());
        let flags = words::block_flags(run.entry.flags);
        add(run.first, run.count, (&words::block_state(&run.entry), state_role(&run.entry)), &flags, &file);
    }
    add(geometry.end_data(), metadata, ("metadata B", Role::Dim), "", "");
    table
}

fn state_role(entry: &BlockRaw) -> Role {
    match entry.state() {
        Some(BlockState::Data) => Role::Plain,
        Some(BlockState::Free) => Role::Dim,
        Some(BlockState::Reserved) => Role::Warn,
        Some(BlockState::Bad) | None => Role::Bad,
    }
}

/// `/vms/a.mem at 0x200000`
fn owner(entry: &BlockRaw, paths: &mut Paths<'_>, block_bytes: u64) -> String {
    let ino = entry.owner();
    if ino == InodeNo::NONE {
        return String::new();
    }
    let whose = paths.of(ino).map_or_else(|| format!("inode {ino}"), |path| paths::shown(&path));
    format!("{whose} at {}", size::hex(u64::from(entry.index.get()) * block_bytes))
}

pub(super) fn inodes(opened: &Store, answer: Option<&mut wire_region::Lists>, ctx: &mut Ctx) -> Result<Exit> {
    let (inodes, mut exit) = read_inodes(opened, ctx);
    if let Some(answer) = answer {
        answer.lost_pages = Some(inodes.lost_pages);
        answer.inodes = Some(inodes.tree.inodes().map(|inode| wire::Inode::new(opened, inode)).collect());
        tell_all_doubtful(&inodes.tree, &mut exit, ctx);
        return Ok(exit);
    }
    let heads = ["Inode", "Gen", "Parent", "Mode", "Owner", "Bytes", "Blocks", "Flags", "Name"];
    let mut table =
        Table::new(&heads).right(&[0, 1, 2, 5, 6]).dispensable(&["Gen", "Blocks", "Parent", "Owner", "Mode"]);
    for inode in inodes.tree.inodes() {
        let of = |text: fn(&Inode, &Attributes) -> String| {
            inode.attributes.map_or_else(String::new, |attributes| text(inode, &attributes))
        };
        table.styled([
            (&inode.ino.to_string(), Role::Plain),
            (&of(|_, a| a.generation.to_string()), Role::Dim),
            (&inode.parent.to_string(), Role::Plain),
            (&of(|inode, a| words::mode(inode.kind, a.mode)), Role::Plain),
            (&of(|_, a| format!("{}:{}", a.uid, a.gid)), Role::Plain),
            (&known(opened.known_size(inode)), Role::Plain),
            (&known(opened.known_blocks(inode)), Role::Plain),
            (&of(|_, a| words::inode_flags(a.flags)), Role::Plain),
            (&paths::shown(&inode.name), role(inode)),
        ]);
    }
    opened.unlock();
    table.print(ctx)?;
    tell_all_doubtful(&inodes.tree, &mut exit, ctx);
    Ok(exit)
}

/// A number that the store may not tell any more.
fn known(number: Option<u64>) -> String {
    number.map_or_else(|| crate::cmd::ls::UNKNOWN.to_owned(), |number| number.to_string())
}

/// Says which of all files are doubtful.
fn tell_all_doubtful(tree: &Tree, exit: &mut Exit, ctx: &Ctx) {
    let mut paths = Paths::new(tree);
    let doubtful = tree.inodes().filter(|inode| inode.is_doubtful());
    let named = doubtful.map(|inode| {
        let path = paths.of(inode.ino).map_or_else(|| format!("inode {}", inode.ino), |path| paths::shown(&path));
        (inode, path)
    });
    tell_doubtful(named, exit, ctx);
}

/// The list of files in the making, for either kind of output.
struct Files<'a> {
    store: &'a Store,
    runs: Runs,
    list: Vec<wire::File>,
    table: Table,
    json: bool,
    users: Option<ByFile>,
}

impl Files<'_> {
    /// Adds a file or directory.
    fn add(&mut self, inode: &Inode, reached: Reached<'_>) {
        let extents = self.runs.files.remove(&inode.ino).unwrap_or_default();
        if self.json {
            let runs = extents.iter().map(|run| wire::Extent::new(run, self.store)).collect();
            let path = if let Reached::By(path) = reached { Some(path) } else { None };
            self.list.push(wire::File::new(self.store, path, inode, runs).used(self.users.as_ref(), inode));
            return;
        }
        let file = inode.kind == Kind::File;
        let only = |text: String| if file { text } else { String::new() };
        let (bytes, blocks) = (self.store.known_size(inode), self.store.known_blocks(inode));
        let (shown, style) = match reached {
            Reached::By(path) => (paths::shown(path), role(inode)),
            Reached::Not(why) => {
                let why = why.map_or_else(|| "no path leads to it".to_owned(), |why| why.to_string());
                (format!("{} ({why})", paths::shown(&inode.name)), Role::Bad)
            }
        };
        let mapped = self.users.as_ref().map(|users| in_use::shown(users, inode.ino));
        let cells = [
            (inode.ino.to_string(), Role::Plain),
            (only(bytes.map_or_else(|| known(None), size::human)), Role::Plain),
            (only(known(bytes)), Role::Dim),
            (only(known(blocks)), Role::Plain),
            (only(extents.len().to_string()), Role::Plain),
        ];
        let mapped = mapped.as_deref().map(|users| (users, Role::Warn));
        let cells = cells.iter().map(|(text, role)| (text.as_str(), *role));
        self.table.cells(cells.chain(mapped).chain([(shown.as_str(), style)]));
    }
}

pub(super) fn files(
    opened: &Store,
    with_users: bool,
    answer: Option<&mut wire_region::Lists>,
    ctx: &mut Ctx,
) -> Result<Exit> {
    let (inodes, mut exit) = read_inodes(opened, ctx);
    let runs = opened.runs(|_| true);
    let lost = inodes.lost_pages + runs.lost_pages;
    if tell_lost(runs.lost_pages, "block table", "list of extents", ctx) != Exit::Done {
        exit = Exit::No;
    }
    let users = with_users.then(|| ByFile::find(opened, &runs, in_use::tell));
    let mut heads = vec!["Inode", "Size", "Bytes", "Blocks", "Extents", "Path"];
    if with_users {
        heads.insert(5, "Mapped by");
    }
    let table = Table::new(&heads).right(&[0, 1, 2, 3, 4]).dispensable(&["Bytes", "Extents", "Blocks", "Inode"]);
    let json = answer.is_some();
    let mut files = Files { store: opened, runs, list: Vec::new(), table, json, users };
    walk::every(&inodes.tree, |inode, reached| files.add(inode, reached));
    match answer {
        Some(answer) => {
            answer.lost_pages = Some(lost);
            answer.files = Some(files.list);
        }
        None => {
            opened.unlock();
            files.table.print(ctx)?;
        }
    }
    tell_all_doubtful(&inodes.tree, &mut exit, ctx);
    Ok(exit)
}

pub(super) fn pages(opened: &Store, answer: Option<&mut wire_region::Lists>, ctx: &mut Ctx) -> Result<Exit> {
    let region = opened.native().map_err(told)?;
    let runs = tables::pages(region);
    if let Some(answer) = answer {
        let row = |run| wire_region::Pages::new(run, opened.place.base, region.geometry());
        answer.pages = Some(runs.iter().map(row).collect());
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["Page", "Count", "Kind", "Copy A", "Copy B", "Counts"])
        .right(&[0, 1])
        .dispensable(&["Count", "Kind"]);
    for run in &runs {
        let judged = &run.judgement;
        let counts = match (judged.take, judged.conflict) {
            (_, true) => ("conflict".to_owned(), Role::Bad),
            (Some(copy), false) => (copy.to_string(), Role::Plain),
            (None, false) => ("neither".to_owned(), Role::Bad),
        };
        table.styled([
            (&run.first.to_string(), Role::Plain),
            (&run.count.to_string(), Role::Plain),
            (&run.kind.map_or_else(String::new, |kind| kind.to_string()), Role::Plain),
            (&standing(judged.a), standing_role(judged.a)),
            (&standing(judged.b), standing_role(judged.b)),
            (&counts.0, counts.1),
        ]);
    }
    opened.unlock();
    table.print(ctx)?;
    Ok(Exit::Done)
}

fn standing(standing: Standing) -> String {
    match standing {
        Standing::Damaged(fault) => fault.to_string(),
        Standing::Absent(why) => why.to_string(),
        other => other.name().to_owned(),
    }
}

const fn standing_role(standing: Standing) -> Role {
    if standing.is_damage() {
        Role::Bad
    } else if matches!(standing, Standing::Good) {
        Role::Good
    } else {
        Role::Warn
    }
}
