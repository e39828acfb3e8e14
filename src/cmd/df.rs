//! `gmfs df`: how much of regions is used, and whether a guest still fits.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::allocation::{Fits, FreeSpace};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::open::{self, ReadArgs};
use crate::render::json::{self, space};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

/// Show how much of regions is used, and whether a guest still fits
///
/// Beside the free memory as a whole, the largest free run is shown, and how many free stretches of 1 GiB start at a
/// multiple of 1 GiB of physical address: a VMM can map those with the largest pages. Where the region's physical address
/// is unknown, its start counts as such a multiple. A hand-over has no free memory of its own. If one of several images
/// cannot be read, the others are shown.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs df region.img
  gmfs df a.img b.img --fits 64G
  gmfs df /dev/mem --region 64G:0x1000000000 --fits 16G --align-1g")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Further images, with the same options
    #[arg(value_name = "IMAGE", conflicts_with_all = ["parts", "over"])]
    images: Vec<PathBuf>,
    /// Say whether a guest with that much memory fits; the exit status is 1 if it does not, of several images in one of them
    #[arg(long, value_name = "SIZE", value_parser = super::parse_size)]
    fits: Option<u64>,
    /// It fits only if each GiB of it can be at a multiple of 1 GiB of physical address, as `create --align-1g` lays it
    #[arg(long = "align-1g", requires = "fits")]
    align_1g: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found out about a region.
struct Row {
    answer: space::Used,
    cells: [(String, Role); 8],
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let mut tried = super::Tried::default();
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for path in std::iter::once(&args.image.image).chain(&args.images) {
        let mut image = args.image.clone();
        image.of.image.clone_from(path);
        if let Some((row, own)) = tried.add(open::store(&image, ctx).map(|store| row_of(args, &store, ctx))) {
            rows.push(row);
            exit = if own == Exit::Done { exit } else { own };
        }
    }
    let failed = tried.end()?;
    if args.json {
        json::print(ctx, "df", &space::Df { stores: rows.into_iter().map(|row| row.answer).collect() })?;
    } else {
        show(args, &rows, ctx)?;
    }
    Ok(if failed { Exit::Failed } else { exit })
}

fn row_of(args: &Args, store: &Store, ctx: &Ctx) -> (Row, Exit) {
    let (free, used) = (FreeSpace::of(store), store.usage());
    store.unlock();
    let image = printable(&store.place.path.display().to_string());
    let mut exit = Exit::Done;
    if let Some(unknown) = free.map(|free| free.unknown).filter(|unknown| *unknown > 0) {
        let unknown = size::human(unknown);
        ctx.warn(&format!("{image}: nothing tells whether {unknown} are free; they count as used (see `gmfs fsck`)"));
        exit = Exit::No;
    }
    let fits = args.fits.map(|size| (size, free.unwrap_or_default().fits(size)));
    let no = fits.is_some_and(|(_, fits)| !fits.pieces || (args.align_1g && !fits.aligned));
    let answer = space::Used::new(store, free.as_ref(), fits);
    let none = || "-".to_owned();
    let plain = |text: String| (text, Role::Plain);
    let of = |free: Option<FreeSpace>, value: &dyn Fn(FreeSpace) -> String| plain(free.map_or_else(none, value));
    let total = store.size();
    let taken = free.map_or_else(
        || used.data.saturating_add(used.metadata).saturating_mul(store.block_bytes()),
        |free| total.saturating_sub(free.bytes),
    );
    let cells = [
        plain(image),
        plain(if free.is_some() { size::human(total) } else { none() }),
        plain(size::human(taken)),
        of(free, &|free| size::human(free.bytes)),
        of(free.filter(|_| total > 0), &|_| percent(taken, total)),
        of(free, &|free| size::human(free.largest.map_or(0, |run| run.len))),
        of(free, &|free| free.aligned_gib.to_string()),
        match fits {
            Some((_, fits)) if free.is_some() => said(fits, args.align_1g),
            _ => (none(), Role::Dim),
        },
    ];
    (Row { answer, cells }, if no { Exit::No } else { exit })
}

/// How much of a region is used, rounded up as df(1) does it: only what is empty is 0 %.
fn percent(used: u64, of: u64) -> String {
    format!("{}%", (u128::from(used) * 100).div_ceil(u128::from(of.max(1))))
}

/// Whether a guest fits, in words.
fn said(fits: Fits, aligned: bool) -> (String, Role) {
    let (text, role) = match (fits.pieces, fits.aligned, fits.one_run) {
        (false, ..) => ("no", Role::Bad),
        (true, false, _) if aligned => ("no: not at multiples of 1 GiB", Role::Bad),
        (true, _, true) => ("yes", Role::Good),
        (true, _, false) => ("yes, in pieces", Role::Good),
    };
    (text.to_owned(), role)
}

fn show(args: &Args, rows: &[Row], ctx: &mut Ctx) -> Result<()> {
    let fits = args.fits.map(|size| format!("Fits {}", size::human(size)));
    let mut heads = vec!["Image", "Size", "Used", "Free", "Use%", "Largest free run", "Aligned GiB"];
    heads.extend(fits.as_deref());
    let mut table = Table::new(&heads).right(&[1, 2, 3, 4, 5, 6]).dispensable(&["Use%", "Used", "Aligned GiB", "Size"]);
    for row in rows {
        table.cells(row.cells.iter().take(heads.len()).map(|(text, role)| (text.as_str(), *role)));
    }
    Ok(table.print(ctx)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_empty_is_nothing() {
        assert_eq!((percent(0, 10), percent(1, 1000), percent(999, 1000)), ("0%".into(), "1%".into(), "100%".into()));
        assert_eq!(percent(u64::MAX, u64::MAX), "100%");
    }
}
