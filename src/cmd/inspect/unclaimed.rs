//! What a kernel took from a hand-over, and nobody has claimed.

use anyhow::Result;
use gmfs::Store;
use gmfs::store::{Luo, Unclaimed};
use gmfs_format::model::Tree;

use super::Args;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::paths::{self, Paths};
use crate::render::json::{self, luo as wire};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

/// Whose it is, in words.
fn whose(held: &Unclaimed, tree: &Tree, paths: &mut Paths<'_>) -> String {
    let owner = &held.owner;
    let mut path = |ino| paths.of(ino).map_or_else(|| format!("inode {ino}"), |path| paths::shown(&path));
    if let Some((ino, offset)) = owner.file {
        let past = tree.get(ino).is_some_and(|inode| offset >= inode.size);
        return format!("{} at {}{}", path(ino), size::hex(offset), if past { " (past its end)" } else { "" });
    }
    match &owner.metadata {
        Some(metadata) => {
            let kind = metadata.kind.as_deref().unwrap_or("metadata");
            metadata.ino.map_or_else(|| kind.to_owned(), |ino| format!("{kind} of {}", path(ino)))
        }
        None => "no known owner".to_owned(),
    }
}

pub(super) fn run(args: &Args, store: &Store, found: &Luo, ctx: &mut Ctx) -> Result<Exit> {
    let structs = match store.page_structs() {
        Some(Ok(structs)) => structs,
        Some(Err(why)) => {
            let failure = Failure::new("no-page-structures", format!("it cannot be told what is unclaimed: {why}"));
            return Err(failure.hint("docs/LAYOUTS.md says what a dump must hold").into());
        }
        None => return Ok(Exit::Done),
    };
    let inodes = store.inodes();
    let mut paths = Paths::new(&inodes.tree);
    let mut list = Vec::new();
    let mut table = Table::new(&["Address", "Size", "Pieces", "Order", "What", "Whose"])
        .right(&[0, 1, 2, 3])
        .dispensable(&["Order", "Pieces"]);
    let (mut bytes, mut pieces) = (0_u64, 0_u64);
    let complete = found.unclaimed(&structs, |held| {
        bytes = bytes.saturating_add(held.span.len);
        pieces = pieces.saturating_add(held.pieces);
        if args.json {
            list.push(wire::Unclaimed::new(&held, &mut paths));
            return;
        }
        table.styled([
            (&size::hex(held.span.offset), Role::Plain),
            (&size::human(held.span.len), Role::Plain),
            (&held.pieces.to_string(), Role::Dim),
            (&held.order.to_string(), Role::Dim),
            (held.owner.what.name(), Role::Plain),
            (&whose(&held, &inodes.tree, &mut paths), Role::Plain),
        ]);
    });
    store.unlock();
    if args.json {
        let mut answer = wire::LuoInspect::new(store, found);
        answer.unclaimed = Some(wire::AllUnclaimed::new(list, complete));
        json::print(ctx, "inspect", &answer)?;
    } else {
        if pieces > 0 {
            table.print(ctx)?;
        }
        ctx.line(&format!("{} in {} are held and not claimed", size::both(bytes), size::count(pieces, "piece")))?;
    }
    if complete {
        return Ok(Exit::Done);
    }
    ctx.warn("the image lacks some of the kernel's page structures: more may be held");
    Ok(Exit::No)
}
