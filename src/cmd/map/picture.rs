//! `gmfs map` without a path: the whole region as a picture.

use anyhow::{Context as _, Result};
use gmfs::Store;
use gmfs::picture::{Mix, Picture, Use};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::render::json::{self, space};
use crate::render::size;
use crate::render::style::{Role, paint};
use crate::render::table::Table;

/// Rows of a picture that is as large as it gets.
const ROWS: usize = 24;
/// Columns where no terminal says how many it has.
const COLUMNS: usize = 80;
/// The fewest cells of a row.
const NARROWEST: usize = 8;

pub(super) fn run(store: &Store, ctx: &mut Ctx) -> Result<Exit> {
    let base = store.physical_base();
    let digits = size::hex(base.unwrap_or(0).saturating_add(store.size())).len();
    let columns = ctx.width.map_or(COLUMNS, usize::from);
    let row = columns.saturating_sub(digits + 2).max(NARROWEST);
    let drawn = Picture::of(store, row * ROWS);
    let picture = drawn.ok_or_else(|| {
        Failure::new("layout", "a hand-over has no memory of its own that could be drawn")
            .hint("`gmfs map IMAGE PATH` shows where a file of it is")
    });
    let image = printable(&store.place.path.display().to_string());
    let picture = picture.with_context(|| format!("cannot draw the region in {image}"))?;
    let exit = if picture.total.bytes(Use::Unknown) > 0 {
        ctx.warn("nothing tells what some of the region is used for: `gmfs fsck IMAGE` tells more");
        Exit::No
    } else {
        Exit::Done
    };
    if ctx.json {
        let answer = space::MapOfImage::new(store, &picture);
        store.unlock();
        json::print(ctx, "map", &answer)?;
        return Ok(exit);
    }
    store.unlock();
    for (n, cells) in picture.cells.chunks(row).enumerate() {
        let at = (n * row) as u64 * picture.cell_bytes;
        let address = size::hex(base.unwrap_or(0).saturating_add(at));
        let line = format!("{address:>digits$}  {}", line(cells, ctx.colour));
        ctx.line(&line)?;
    }
    ctx.line("")?;
    legend(&picture, ctx)?;
    if !picture.lengths.is_empty() {
        ctx.line("")?;
        histogram(&picture, ctx)?;
    }
    Ok(exit)
}

/// The character for a use, its colour, and what it means.
const fn sign(of: Use) -> (char, Role, &'static str) {
    match of {
        Use::Free => ('.', Role::Dim, "free"),
        Use::File => ('#', Role::Good, "files"),
        Use::Metadata => ('m', Role::Directory, "metadata"),
        Use::Tail => ('-', Role::Dim, "past the last whole block"),
        Use::Leaked => ('l', Role::Warn, "marked as used, and nothing owns it"),
        Use::Reserved => ('r', Role::Warn, "reserved by a repair"),
        Use::Unknown => ('?', Role::Bad, "unknown"),
        Use::Bad => ('X', Role::Bad, "hardware errors"),
    }
}

/// A cell that is partly free and partly used by files or metadata.
const PARTLY: (char, Role) = ('+', Role::Good);

fn shown(cell: &Mix) -> (char, Role) {
    match cell.seen() {
        Some((Use::File | Use::Metadata, false)) => PARTLY,
        Some((of, _)) => (sign(of).0, sign(of).1),
        None => (' ', Role::Plain),
    }
}

/// Cells as text, neighbours of one colour in one piece.
fn line(cells: &[Mix], colour: bool) -> String {
    let shown: Vec<(char, Role)> = cells.iter().map(shown).collect();
    let runs = shown.chunk_by(|one, next| one.1 == next.1);
    runs.map(|run| {
        let text: String = run.iter().map(|(sign, _)| *sign).collect();
        paint(colour, run.first().map_or(Role::Plain, |(_, role)| *role), &text)
    })
    .collect()
}

fn legend(picture: &Picture, ctx: &mut Ctx) -> Result<()> {
    ctx.line(&format!("Each character is {}:", size::human(picture.cell_bytes)))?;
    let mut table = Table::bare(&[1]);
    for of in Use::ALL.into_iter().filter(|of| picture.total.bytes(*of) > 0) {
        let (sign, role, meaning) = sign(of);
        let bytes = size::human(picture.total.bytes(of));
        table.styled([(&sign.to_string(), role), (&bytes, Role::Plain), (meaning, Role::Plain)]);
    }
    if picture.cells.iter().any(|cell| shown(cell) == PARTLY) {
        table.styled([(&PARTLY.0.to_string(), PARTLY.1), ("", Role::Plain), ("partly free", Role::Plain)]);
    }
    Ok(table.print(ctx)?)
}

/// How long extents and free runs are.
fn histogram(picture: &Picture, ctx: &mut Ctx) -> Result<()> {
    let mut table = Table::new(&["Length from", "Extents of files", "Free runs", "Free memory"])
        .right(&[0, 1, 2, 3])
        .dispensable(&["Free memory"]);
    for row in &picture.lengths {
        let number = |count: u64| if count == 0 { "-".to_owned() } else { count.to_string() };
        table.row([
            &size::human(row.from),
            &number(row.extents),
            &number(row.free_runs),
            &if row.free_runs == 0 { "-".to_owned() } else { size::human(row.free_bytes) },
        ]);
    }
    Ok(table.print(ctx)?)
}
