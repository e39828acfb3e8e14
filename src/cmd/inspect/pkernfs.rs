//! What a store of the pkernfs driver says of itself.

use anyhow::Result;
use gmfs::Store;
use gmfs::store::Pkernfs;
use gmfs_format::pkernfs::{Finding, Magic};

use super::{Args, View, base, image, in_blocks, views};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open;
use crate::render::json::{self, pkernfs as wire};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

pub(super) fn run(args: &Args, store: &Store, found: &Pkernfs, ctx: &mut Ctx) -> Result<Exit> {
    match args.view {
        View::Summary | View::Superblock if !args.json => summary(store, found, ctx),
        View::Summary | View::Superblock => {
            json::print(ctx, "inspect", &wire::PkernfsInspect::new(store, found))?;
            Ok(exit(&found.check()))
        }
        View::Inodes | View::Files => views::listed(args, store, ctx, |lists| wire::PkernfsInspect {
            lists,
            ..wire::PkernfsInspect::new(store, found)
        }),
        View::Blocks | View::Pages | View::Raw | View::Unclaimed => {
            Err(open::told(gmfs::Error::NotNative(store.layout())))
        }
    }
}

/// 1 if something is wrong that the driver does not leave in normal use.
fn exit(findings: &[Finding]) -> Exit {
    if findings.iter().all(Finding::is_normal) { Exit::Done } else { Exit::No }
}

fn magic(found: &Pkernfs) -> String {
    match found.store().magic() {
        Magic::Right => "right".to_owned(),
        Magic::Wrong(other) => format!("{other:#x}, which is another"),
        Magic::Unknown(_) => "cannot be read".to_owned(),
    }
}

fn summary(store: &Store, found: &Pkernfs, ctx: &mut Ctx) -> Result<Exit> {
    let (inner, usage) = (found.store(), store.usage());
    let mut table = Table::bare(&[]);
    table.row(["Image", &image(&store.place)]);
    table.row(["Layout", store.layout().name()]);
    table.row(["Size", &format!("{}, as it was given: the layout records none", size::both(store.size()))]);
    table.row(["Physical base", &base(store.physical_base())]);
    table.row(["Blocks", &format!("{} of {}", inner.blocks(), size::human(store.block_bytes()))]);
    for (name, count) in [
        ("  free", usage.free),
        ("  data", usage.data),
        ("  metadata", usage.metadata),
        ("  without an owner", usage.leaked),
    ] {
        table.row([name, &in_blocks(count, store.block_bytes())]);
    }
    table.row(["Inodes", &format!("{} used of {}", usage.inodes_used, usage.inodes)]);
    table.row(["Magic", &magic(found)]);
    let next = inner.next_free_ino().map_or_else(|| "not known".to_owned(), |ino| ino.to_string());
    table.row(["Next free inode", &next]);
    let findings = found.check();
    let wrong = match findings.len() {
        1 => "1 anomaly".to_owned(),
        several => format!("{several} anomalies"),
    };
    let exit = exit(&findings);
    let role = if exit == Exit::Done { Role::Good } else { Role::Bad };
    table.styled([("Metadata", Role::Plain), (&wrong, role)]);
    table.print(ctx)?;
    for finding in &findings {
        ctx.line(&format!("  {finding}"))?;
    }
    Ok(exit)
}
