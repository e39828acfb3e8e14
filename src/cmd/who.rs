//! `gmfs who`: whose an address is.

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::address::{Address, AddressError};
use gmfs::bad::Origin;
use gmfs::store::What;
use gmfs::whose::{Asker, Whose};

use crate::cmd::bad::Poison;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, ReadArgs};
use crate::paths;
use crate::render::json::{self, files};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

/// Name the file and offset that an address belongs to
///
/// The question after a machine check: whose memory is this? The exit status is 1 if an address lies outside the
/// region; with --poison, if a file or metadata is hit.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs who /dev/mem 0x1000200000
  gmfs who region.img block:17 pfn:0x10002
  dmesg | gmfs who /dev/mem --poison -")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// A physical address, block:N (a block of the region) or pfn:N (a page of the kernel)
    ///
    /// Where the region's physical base is not known (a file whose superblock records none), an address is an offset in
    /// the region. Pages of the kernel have 4 KiB, 16 KiB or 64 KiB, as the block size of 2 MiB, 32 MiB or 512 MiB
    /// tells.
    #[arg(value_name = "ADDR", required_unless_present = "poison", value_parser = parse)]
    addresses: Vec<Asked>,
    /// Name what a list of poisoned memory hits; - is standard input
    ///
    /// LIST is one of these: a log of the kernel (`dmesg`), in which the lines "Memory failure: 0xPFN" count;
    /// /proc/kpageflags, with the page frames that this kernel has found poisoned; /proc/iomem, in which "Unusable memory"
    /// counts; page frame numbers, one per line; lines with a first sector and a number of sectors, as in
    /// /sys/block/pmemN/badblocks; or the output of `ndctl list -M`. What is not in the region is left out. `gmfs bad
    /// import` marks the blocks.
    #[arg(long, value_name = "LIST", conflicts_with = "addresses")]
    poison: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// An address as it was asked for.
#[derive(Clone, Debug)]
struct Asked {
    text: String,
    address: Address,
}

fn parse(text: &str) -> Result<Asked, String> {
    let address = text.parse().map_err(|error: AddressError| error.to_string())?;
    Ok(Asked { text: text.to_owned(), address })
}

/// At most this many parts of blocks are listed.
const LISTED: usize = 65_536;

/// What a list of poisoned memory hits in a region: an address for each part of a block, and how many more there are.
fn poisoned(list: &str, poison: Poison, store: &Store, ctx: &Ctx) -> Result<(Vec<Asked>, u64)> {
    let origin = Origin::of(store).map_err(open::told)?;
    let named = poison.named(store, &origin, ctx)?;
    let hits = gmfs::bad::hits(&named, &origin).map_err(super::bad::told)?;
    if hits.outside > 0 {
        let name = if list == "-" { "the list" } else { list };
        let verb = if hits.outside == 1 { "entry is" } else { "entries are" };
        ctx.note(&format!("{} {verb} not in the region, out of {} of {name}", hits.outside, named.len()));
    }
    let (parts, more) = hits.by_block(store.block_bytes(), LISTED);
    let base = store.physical_base().unwrap_or(0);
    let asked = parts.into_iter().map(|part| {
        let address = base.saturating_add(part.offset);
        Asked { text: format!("{address:#x}+{}", part.len), address: Address::Bytes(address) }
    });
    Ok((asked.collect(), more))
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    // The list is read before anything is locked, because it may come from a pipe.
    let list = args.poison.as_deref().map(|list| super::bad::poison(list, &super::bad::device(&args.image.image)));
    let list = list.transpose()?;
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    let hit = match (&args.poison, list) {
        (Some(name), Some(list)) => Some(poisoned(name, list, &store, ctx)?),
        _ => None,
    };
    let asked = hit.as_ref().map_or(&args.addresses, |(asked, _)| asked);
    let mut asker = Asker::new(&store, &inodes.tree);
    let answers: Vec<(&str, Whose)> =
        asked.iter().map(|asked| (asked.text.as_str(), asker.ask(asked.address))).collect();
    store.unlock();
    if let Some((_, more)) = hit {
        if more > 0 || answers.iter().any(|(_, whose)| whose.is_used()) {
            exit = Exit::No;
        }
        if more > 0 {
            ctx.warn(&format!("at least {} more of blocks are hit and not listed", size::count(more, "part")));
        }
        if answers.is_empty() {
            ctx.note("nothing in the region is hit");
        }
    } else if answers.iter().any(|(_, whose)| whose.owner.what == What::Outside) {
        exit = Exit::No;
    }
    if args.json {
        let addresses = answers.iter().map(|(asked, whose)| files::Owner::new((*asked).to_owned(), whose)).collect();
        let answer = files::Who { image: (&store.place).into(), store: (&store).into(), addresses };
        json::print(ctx, "who", &answer)?;
        return Ok(exit);
    }
    let mut table = Table::new(&["Asked", "Block", "What", "Whose"]).right(&[1]).dispensable(&["Block"]);
    for (asked, whose) in &answers {
        let block = whose.block.map_or_else(String::new, |block| block.to_string());
        let role = match whose.owner.what {
            What::Bad | What::Lost | What::Outside => Role::Bad,
            What::Free | What::Tail | What::NotPreserved => Role::Dim,
            _ => Role::Plain,
        };
        table.styled([
            (asked, Role::Plain),
            (&block, Role::Plain),
            (whose.owner.what.name(), role),
            (&sentence(whose, &store), Role::Plain),
        ]);
    }
    table.print(ctx)?;
    Ok(exit)
}

/// What an answer says after its kind.
fn sentence(whose: &Whose, store: &Store) -> String {
    let path = || whose.path.as_deref().map(paths::shown);
    let metadata = whose.owner.metadata.as_ref();
    let kind = metadata.and_then(|metadata| metadata.kind.as_deref());
    if let Some(page) = metadata.and_then(|metadata| metadata.page) {
        let copy = metadata.and_then(|metadata| metadata.copy).map_or_else(|| "?".to_owned(), |copy| copy.to_string());
        return format!("copy {copy}, page {page}: {}", kind.unwrap_or("not used"));
    }
    if whose.owner.what == What::Metadata {
        let of = whose.ino().map(|ino| format!(" of {}", path().unwrap_or_else(|| format!("inode {ino}"))));
        return format!("{}{}", kind.unwrap_or("not used"), of.unwrap_or_default());
    }
    let Some(ino) = whose.ino() else { return ownerless(whose.owner.what, kind, store) };
    let path = path().unwrap_or_else(|| format!("inode {ino}, which no path leads to"));
    let offset = size::hex(whose.offset().unwrap_or(0));
    let past = if whose.is_past_end { " (past its end)" } else { "" };
    format!("{path} at {offset}{past}")
}

/// What is said of memory that no file has.
fn ownerless(what: What, kind: Option<&str>, store: &Store) -> String {
    let text = match what {
        What::ReserveMem => kind.unwrap_or_default(),
        What::Preserved => "kept for the next kernel; no known owner",
        What::NotPreserved => "not kept for the next kernel",
        What::Scratch => "where the next kernel is put; nothing is kept",
        What::Unknown if store.luo().is_some() => "in nothing that was found; the preserved map is overwritten",
        What::Outside => return format!("the region has {}", size::both(store.size())),
        What::Lost => "the page of the block table that describes it is lost",
        What::Tail => "after the last whole block",
        _ => "",
    };
    text.to_owned()
}
