//! What -v/--verbose prints on standard error: what was opened, where the region is in it, and what changed.

use std::time::Duration;

use gmfs::changes::Changes;
use gmfs::{Located, Place, Store};
use gmfs_io::ReadAt as _;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::render::size;

/// `region.img (file): the region is at offset 0, 64 MiB (67108864 bytes)`
fn region(place: &Place, end: Option<u64>) -> String {
    let at = if place.kind.is_physical() { "address" } else { "offset" };
    let size = end.map_or_else(String::new, |end| format!(", {}", size::both(end)));
    format!("{} ({}): the region is at {at} {:#x}{size}", place.path.display(), place.kind.name(), place.base)
}

/// An image was opened for reading.
pub(crate) fn located(located: &Located, locked: bool, ctx: &Ctx) {
    let lock = if locked { "with a lock that lets others read" } else { "without a lock" };
    ctx.detail(&format!("opened {}; read {lock}", region(&located.place, located.source.end())));
}

/// An image was opened for writing, or for a dry run.
pub(crate) fn target(place: &Place, end: Option<u64>, dry_run: bool, ctx: &Ctx) {
    let how = if dry_run { "read for a dry run" } else { "locked for writing" };
    ctx.detail(&format!("opened {}; {how}", region(place, end)));
}

/// A store was found in an image.
pub(crate) fn store(store: &Store, ctx: &Ctx) {
    let layout = store.layout();
    let Ok(native) = store.native() else {
        ctx.detail(&format!("the region has the layout {layout} and {}", size::both(store.size())));
        return;
    };
    let found = native.superblock();
    ctx.detail(&format!(
        "the region has the layout {layout}, UUID {}, {}, generation {}; {} in use in each copy of the metadata",
        found.uuid,
        size::both(store.size()),
        found.generation,
        size::count(found.used_pages(), "page")
    ));
}

/// A region was changed.
pub(crate) fn changes(changes: &Changes, ctx: &Ctx) {
    let (taken, freed) = (changes.moved.taken, changes.moved.freed);
    ctx.detail(&format!(
        "{} taken and {freed} freed; {} free now",
        size::count(taken, "block"),
        size::count(changes.free_blocks, "block")
    ));
}

/// A command has ended.
pub(crate) fn ended(name: &str, exit: Exit, took: Duration, ctx: &Ctx) {
    ctx.detail(&format!("{name} took {:.3} s; exit status {}", took.as_secs_f64(), exit.code()));
}
