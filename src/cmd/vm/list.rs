//! `gmfs vm list`: the virtual machines of a region.

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::in_use::ByFile;
use gmfs_format::model::InodeNo;
use gmfs_image::InUse;
use gmfs_vm::{GuestState, InImage, Machine, Record};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::in_use;
use crate::open::{self, ReadArgs};
use crate::paths;
use crate::render::json::{self, files, vm};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::{size, time};

/// List the virtual machines of a region
///
/// Each with its memory, its state, and the process that has its memory mapped: running; saved, and not used yet; stopped;
/// or damaged, if its record cannot be read. The exit status is 1 if one is damaged.
#[derive(Arguments, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::region(&args.image, ctx)?;
    let (inodes, mut exit) = crate::cmd::inodes(&store, ctx);
    let tree = &inodes.tree;
    let machines: Vec<Machine> = Machine::all(tree).collect();
    let memory = |machine: &Machine| tree.resolve(&machine.memory());
    let wanted: std::collections::BTreeSet<InodeNo> =
        machines.iter().filter_map(&memory).map(|inode| inode.ino).collect();
    let runs = store.runs(|ino| wanted.contains(&ino));
    let users = ByFile::find(&store, &runs, in_use::tell);
    let in_image = InImage::of(&store);
    let in_use = match store.place.kind.is_dump() {
        true => InUse::default(),
        false => in_image.users().unwrap_or_default(),
    };
    let region = store.native().map_err(open::told)?;
    let mut found = Vec::new();
    for machine in &machines {
        let inode = memory(machine);
        let users = inode.map(|inode| in_use::users(&users, inode.ino)).unwrap_or_default();
        let record = machine.read_record(region, tree);
        if let Err(error) = &record {
            let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
            ctx.warn(&printable(&format!("{error}{why}")));
            exit = Exit::No;
        }
        let record = record.ok().flatten();
        let saved = record.as_ref().filter(|record| machine.is_saved(record, tree)).and_then(Record::unused);
        let is_used = machine.is_used(region, tree, &in_image, &in_use);
        let state = GuestState::of(machine, record.as_ref(), tree, is_used);
        found.push(vm::Listed {
            path: files::Path::new(Some(machine.directory())),
            state: state.name().into(),
            memory_size: inode.map(|inode| inode.size),
            saved_at: saved.and_then(|saved| time::rfc3339(saved.at)),
            socket: record.and_then(|record| record.socket),
            mapped_by: users,
        });
    }
    store.unlock();
    if ctx.json {
        let (image, store) = ((&store.place).into(), (&store).into());
        json::print(ctx, "vm-list", &vm::List { image, store, guests: found })?;
        return Ok(exit);
    }
    let processes =
        |machine: &Machine| memory(machine).map(|inode| in_use::shown(&users, inode.ino)).unwrap_or_default();
    print(&found, machines.iter().map(|machine| (paths::shown(machine.directory()), processes(machine))), ctx)?;
    Ok(exit)
}

/// Prints a row for each guest. `named` has, for each, its name and the processes that use its memory.
fn print(found: &[vm::Listed], named: impl Iterator<Item = (String, String)>, ctx: &mut Ctx) -> Result<()> {
    let mut table = Table::new(&["State", "Memory", "Process", "Saved (UTC)", "Name"]).right(&[1]);
    for (guest, (name, processes)) in found.iter().zip(named) {
        let role = match guest.state.as_ref() {
            "damaged" => Role::Bad,
            "running" => Role::Good,
            _ => Role::Plain,
        };
        table.styled([
            (&guest.state, role),
            (&guest.memory_size.map(size::human).unwrap_or_default(), Role::Plain),
            (&processes, Role::Plain),
            (guest.saved_at.as_deref().unwrap_or_default(), Role::Dim),
            (&name, Role::Directory),
        ]);
    }
    if table.is_empty() {
        ctx.note("the region has no virtual machines");
        return Ok(());
    }
    Ok(table.print(ctx)?)
}
