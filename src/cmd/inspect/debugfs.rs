//! What a running kernel shows of its hand-over in debugfs.

use anyhow::Result;
use gmfs::debugfs::{Data, Debugfs, Side};

use super::{Args, View};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::paths;
use crate::render::json::{self, luo as wire};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if args.view != View::Summary {
        let message = "files of debugfs show the roots and the data of users of a kexec handover, and nothing else";
        let failure = Failure::new("debugfs", message);
        return Err(failure.hint("`gmfs inspect /proc/kcore` reads the memory of a running machine").into());
    }
    let found = Debugfs::read(&args.image.image);
    if args.json {
        json::print(ctx, "inspect", &wire::DebugfsInspect::new(&args.image.image, &found))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::bare(&[]);
    table.row(["Folder", &crate::failure::printable(&args.image.image.display().to_string())]);
    if let Some(at) = found.root {
        table.row(["Handed over at", &size::hex(at)]);
    }
    match &found.taken {
        Some(side) => show("Taken from the kernel before", side, &mut table),
        None => table.row(["Taken from the kernel before", "nothing: this kernel was not started by a kexec handover"]),
    }
    if let Some(side) = &found.prepared {
        show("Prepared for the next kernel", side, &mut table);
    }
    table.print(ctx)?;
    ctx.note("debugfs does not show sessions, files and memory: `gmfs scan /proc/kcore`, or a dump, does");
    Ok(Exit::Done)
}

fn show(head: &str, side: &Side, table: &mut Table) {
    table.row([head, ""]);
    match &side.tree {
        None => table.row(["  device tree", "not shown"]),
        Some(Err(why)) => table.styled([("  device tree", Role::Plain), (&format!("not usable: {why}"), Role::Warn)]),
        Some(Ok(tree)) => {
            let map = match tree.map {
                None | Some(0) => "no preserved map".to_owned(),
                Some(at) => format!("preserved map at {at:#x}"),
            };
            table.row(["  device tree", &format!("{}, {map}", tree.version)]);
        }
    }
    for user in &side.users {
        let tree = side.tree.as_ref().and_then(|tree| tree.as_ref().ok());
        let at = tree.and_then(|tree| tree.user(&user.name)).and_then(|user| user.data);
        let at = at.map(|at| format!(" at {at:#x}")).unwrap_or_default();
        let (what, role) = match &user.what {
            Data::Metadata(found) => {
                (format!("Linux {}, number {} in a row", paths::shown(&found.release), found.count), Role::Plain)
            }
            Data::ReserveMem(regions) => {
                let one = |region: &gmfs_format::kho::ReserveMem| {
                    format!("{}: {} at {:#x}", paths::shown(&region.label), size::human(region.size), region.start)
                };
                (regions.iter().map(one).collect::<Vec<_>>().join(", "), Role::Plain)
            }
            Data::Luo(root) => {
                let sessions = match root.sessions {
                    0 => "no sessions written yet".to_owned(),
                    at => format!("sessions at {at:#x}"),
                };
                (
                    format!(
                        "live update {}, {sessions}",
                        root.number.map_or_else(|| "?".to_owned(), |number| number.to_string())
                    ),
                    Role::Plain,
                )
            }
            Data::Bad(why) => (why.clone(), Role::Warn),
            Data::Unknown => ("not known to this program".to_owned(), Role::Plain),
        };
        let text = format!("{}{at} ({} bytes): {what}", paths::shown(user.name.as_bytes()), user.size);
        table.styled([("  user", Role::Plain), (&text, role)]);
    }
    if let Some(finalised) = side.finalised {
        table.row(["  finalised", if finalised { "yes" } else { "no: nothing is handed over yet" }]);
    }
    for area in &side.scratch {
        table.row(["  scratch area", &format!("{} at {:#x}", size::human(area.len), area.offset)]);
    }
}
