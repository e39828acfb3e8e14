//! What a hand-over says of itself.

use anyhow::Result;
use gmfs::Store;
use gmfs::store::Luo;
use gmfs_format::luo::{Confidence, Moment};

use super::{Args, View, image, views};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open;
use crate::paths;
use crate::render::json::{self, luo as wire};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

pub(super) fn run(args: &Args, store: &Store, found: &Luo, ctx: &mut Ctx) -> Result<Exit> {
    match args.view {
        View::Summary if !args.json => summary(store, found, ctx),
        View::Summary => {
            json::print(ctx, "inspect", &wire::LuoInspect::new(store, found))?;
            Ok(exit(found))
        }
        View::Inodes | View::Files => views::listed(args, store, ctx, |lists| {
            let mut answer = wire::LuoInspect::new(store, found);
            answer.lists = lists;
            answer
        }),
        View::Unclaimed => super::unclaimed::run(args, store, found, ctx),
        View::Superblock | View::Blocks | View::Pages | View::Raw => {
            Err(open::told(gmfs::Error::NotNative(store.layout())))
        }
    }
}

/// 1 if lists of sessions or files are damaged, or if there is more than can be told.
fn exit(found: &Luo) -> Exit {
    let store = found.store();
    if store.own_map().is_some_and(|map| !map.faults().is_empty() || map.unread(found.source()) > 0) {
        return Exit::No;
    }
    let faults = store.faults.len() + store.sessions.iter().map(|session| session.faults.len()).sum::<usize>();
    if faults == 0 { Exit::Done } else { Exit::No }
}

/// What the moment means for what is shown.
pub(super) fn moment(store: &gmfs_format::luo::Store) -> &'static str {
    if !store.knows_moment() {
        return "not known: a part of what says it cannot be read";
    }
    match (store.moment, store.confidence) {
        (Moment::Running, _) => {
            "before the reboot system call: names and tokens are not written yet; files are found by their records"
        }
        (Moment::Frozen, _) => "handed over: everything is written, and nothing is overwritten",
        (Moment::Later, Confidence::Stale) => {
            "left over: a later kernel took a newer hand-over; what this one says may be long gone"
        }
        (Moment::Later, _) if store.has_map() => {
            "in a later kernel: the preserved map is what the kernel before it left; what was found may have been taken or \
             given back since"
        }
        (Moment::Later, _) => {
            "in a later kernel: the preserved map is overwritten; what was found may have been taken or given back since"
        }
    }
}

fn summary(opened: &Store, found: &Luo, ctx: &mut Ctx) -> Result<Exit> {
    let store = found.store();
    let mut table = Table::bare(&[]);
    table.row(["Image", &image(&opened.place)]);
    table.row(["Layout", &format!("{}, {}", opened.layout(), store.tree.version)]);
    table.row(["Device tree", &size::hex(store.tree.at)]);
    let role = if store.confidence == Confidence::Complete { Role::Good } else { Role::Warn };
    table.styled([("Moment", Role::Plain), (moment(store), role)]);
    let kernel = store.metadata.as_ref().map_or_else(
        || "not recorded".to_owned(),
        |metadata| format!("{}, number {} in a row", paths::shown(&metadata.release), metadata.count),
    );
    table.row(["Kernel", &kernel]);
    let number = match &store.luo {
        None => "LUO is not used".to_owned(),
        Some(Ok(root)) => root.number.map_or_else(|| "not recorded".to_owned(), |number| number.to_string()),
        Some(Err(error)) => format!("not known: {error}"),
    };
    table.row(["Live update", &number]);
    table.row(["Sessions", &sessions(store)]);
    let usage = opened.usage();
    table.row(["  content", &in_pages(usage.data)]);
    table.row(["  records", &in_pages(usage.metadata)]);
    preserved(found, &mut table);
    for (n, user) in store.users.iter().enumerate() {
        let at = user.at.map_or_else(|| "nowhere".to_owned(), size::hex);
        let fault = user.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
        let text = format!("{} at {at}{fault}", paths::shown(&user.name));
        let role = if user.fault.is_some() { Role::Warn } else { Role::Plain };
        table.styled([(if n == 0 { "Users" } else { "" }, Role::Plain), (&text, role)]);
    }
    for (n, memory) in store.reserve_mem.iter().enumerate() {
        let text = format!("{}: {} at {:#x}", paths::shown(&memory.label), size::human(memory.size), memory.start);
        table.row([if n == 0 { "reserve_mem" } else { "" }, &text]);
    }
    match &store.scratch {
        Err(why) => table.row(["Scratch areas", &format!("not known: {why}")]),
        Ok(scratch) => {
            for (n, area) in scratch.areas.iter().enumerate() {
                let text = format!("{} at {:#x}", size::human(area.len), area.offset);
                table.row([if n == 0 { "Scratch areas" } else { "" }, &text]);
            }
        }
    }
    table.print(ctx)?;
    for fault in store.faults.iter().chain(store.sessions.iter().flat_map(|session| &session.faults)) {
        ctx.line(&format!("  {fault}"))?;
    }
    Ok(exit(found))
}

fn in_pages(pages: u64) -> String {
    format!("{pages} pages ({})", size::human(pages.saturating_mul(gmfs_format::kho::PAGE)))
}

fn sessions(store: &gmfs_format::luo::Store) -> String {
    let (named, all) = (store.named() as usize, store.sessions.len());
    let files = size::count(store.files().count() as u64, "file");
    let unnamed = if named == all { String::new() } else { format!(", {named} of them with names") };
    let bad = store.files().filter(|(_, file)| matches!(file.memfd, Some(Err(_)))).count();
    let bad = if bad == 0 { String::new() } else { format!(", {bad} of them with records that cannot be used") };
    format!("{all}{unnamed}, with {files}{bad}")
}

/// What is preserved, by order.
fn preserved(found: &Luo, table: &mut Table) {
    let store = found.store();
    let Some(orders) = store.by_order(found.source()) else {
        let why = store.map.faults().first();
        let why = why.map_or_else(|| "overwritten".to_owned(), ToString::to_string);
        table.styled([("Preserved", Role::Plain), (&format!("not known: {why}"), Role::Warn)]);
        return;
    };
    let total: u64 = orders.iter().map(|(.., bytes)| bytes).sum();
    table.row(["Preserved", &size::both(total)]);
    for (order, count, _) in orders {
        let bytes = gmfs_format::kho::PAGE.checked_shl(order).unwrap_or(u64::MAX);
        table.row(["", &format!("order {order}: {count} of {}", size::human(bytes))]);
    }
    for (n, (user, bytes)) in found.by_user().into_iter().flatten().filter(|(_, bytes)| *bytes > 0).enumerate() {
        table.row([if n == 0 { "  by user" } else { "" }, &format!("{user}: {}", size::human(bytes))]);
    }
    let records = store.own_map().map_or(0, |map| map.records().len() as u64);
    table.row(["  map", &in_pages(records)]);
    for fault in store.map.faults().iter().take(3) {
        table.styled([("", Role::Plain), (&fault.to_string(), Role::Warn)]);
    }
    let unread = store.map.unread(found.source());
    if unread > 0 {
        let text =
            format!("{} cannot be read: what is preserved by them is not counted", size::count(unread, "bitmap"));
        table.styled([("", Role::Plain), (&text, Role::Warn)]);
    }
    if !store.map.is_certain() {
        let taken = store.map.bitmaps().bytes();
        let text = format!("bitmaps of 4096 bytes, as from 6.18 on, or of 512: not certain; {taken} are taken");
        table.styled([("", Role::Plain), (&text, Role::Warn)]);
    }
}
