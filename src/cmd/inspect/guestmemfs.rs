//! What is in memory of a guestmemfs v1.

use anyhow::Result;
use gmfs::Store;
use gmfs::store::Guestmemfs;
use gmfs_format::guestmemfs::{Anomaly, By};

use super::{Args, View, base, image, in_blocks, views};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open;
use crate::render::json::{self, guestmemfs as wire};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

pub(super) fn run(args: &Args, store: &Store, found: &Guestmemfs, ctx: &mut Ctx) -> Result<Exit> {
    match args.view {
        View::Summary | View::Superblock if !args.json => summary(store, found, ctx),
        View::Summary | View::Superblock => {
            json::print(ctx, "inspect", &wire::GuestmemfsInspect::new(store, found))?;
            Ok(exit(&found.store().check()))
        }
        View::Inodes | View::Files => views::listed(args, store, ctx, |lists| wire::GuestmemfsInspect {
            lists,
            ..wire::GuestmemfsInspect::new(store, found)
        }),
        View::Blocks | View::Pages | View::Raw | View::Unclaimed => {
            Err(open::told(gmfs::Error::NotNative(store.layout())))
        }
    }
}

/// 1 if something is wrong that the driver does not leave in normal use.
fn exit(anomalies: &[Anomaly]) -> Exit {
    if anomalies.iter().all(Anomaly::is_normal) { Exit::Done } else { Exit::No }
}

fn summary(store: &Store, found: &Guestmemfs, ctx: &mut Ctx) -> Result<Exit> {
    let (inner, usage) = (found.store(), store.usage());
    let (led_to, parts) = (found.found(), inner.parts());
    let mut table = Table::bare(&[]);
    table.row(["Image", &image(&store.place)]);
    table.row(["Layout", store.layout().name()]);
    let unrecorded = || format!("not recorded without a device tree; {} are in use", size::both(store.size()));
    table.row(["Size", &inner.region().map_or_else(unrecorded, |region| size::both(region.len))]);
    table.row(["Physical base", &base(store.physical_base())]);
    if let Some(other) = found.content_from() {
        let shown = crate::failure::printable(&other.display().to_string());
        table.row(["Content from", &shown]);
    }
    let many = |at: &[u64]| match at {
        [] => "none in the image".to_owned(),
        at => at.iter().map(|at| size::hex(*at)).collect::<Vec<_>>().join(", "),
    };
    table.row(["Device tree", &many(&led_to.trees)]);
    if !led_to.setup_data.is_empty() {
        table.row(["  given to a kernel", &format!("by the boot loader, at {}", many(&led_to.setup_data))]);
    }
    if led_to.stale {
        table.styled([("Generation", Role::Plain), ("left by an earlier mount", Role::Warn)]);
    }
    let superblock = parts.superblock.map_or_else(|| "not found".to_owned(), |span| size::hex(span.offset));
    table.row(["Superblock", &superblock]);
    table.row(["Inodes at", &size::hex(parts.inodes)]);
    table.row(["Bitmap at", &base(inner.bitmap_at())]);
    table.row(["Direct map at", &base(inner.direct_map())]);
    table.row(["Blocks", &format!("{} of {}", inner.blocks(), size::human(store.block_bytes()))]);
    if inner.has_inodes() {
        for (name, count) in [("  free", usage.free), ("  data", usage.data), ("  without an owner", usage.leaked)] {
            table.row([name, &in_blocks(count, store.block_bytes())]);
        }
        table.row(["Inodes", &format!("{} used of {}", usage.inodes_used, usage.inodes)]);
    }
    if let Some(superblock) = inner.superblock() {
        table.row([
            "Handed over",
            superblock.serialised.map_or("not known", |mark| if mark == 1 { "yes" } else { "no" }),
        ]);
    }
    verdict(table, found, ctx)
}

/// The last rows, and what is wrong.
fn verdict(mut table: Table, found: &Guestmemfs, ctx: &mut Ctx) -> Result<Exit> {
    let inner = found.store();
    let followed = match found.by() {
        Some(By::Tree) => "the device tree",
        Some(By::Inode) => "the inodes",
        None if inner.parts().tree.is_some() => "the device tree, then the inodes",
        None => "the inodes",
    };
    table.row(["Files mapped by", followed]);
    let anomalies = inner.check();
    let wrong = match anomalies.len() {
        1 => "1 anomaly".to_owned(),
        several => format!("{several} anomalies"),
    };
    let exit = exit(&anomalies);
    let role = if exit == Exit::Done { Role::Good } else { Role::Bad };
    table.styled([("Metadata", Role::Plain), (&wrong, role)]);
    table.print(ctx)?;
    for anomaly in &anomalies {
        ctx.line(&format!("  {anomaly}"))?;
    }
    Ok(exit)
}
