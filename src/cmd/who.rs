//! `gmfs who`: whose an address is.

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::address::{Address, AddressError};
use gmfs::bad::Origin;
use gmfs::store::What;
use gmfs_format::model::Tree;

use crate::cmd::bad::Poison;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, ReadArgs};
use crate::paths::Paths;
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

/// What a list of poisoned memory hits in a region: an answer for each part of a block, and how many more there are.
struct Poisoned {
    asked: Vec<Asked>,
    more: u64,
}

fn poisoned(list: &str, poison: Poison, store: &Store, ctx: &Ctx) -> Result<Poisoned> {
    let origin = Origin::of(store).map_err(open::told)?;
    let named = poison.named(store, &origin, ctx)?;
    let hits = gmfs::bad::hits(&named, &origin).map_err(super::bad::told)?;
    if hits.outside > 0 {
        let name = if list == "-" { "the list" } else { list };
        let verb = if hits.outside == 1 { "entry is" } else { "entries are" };
        ctx.note(&format!("{} {verb} not in the region, out of {} of {name}", hits.outside, named.len()));
    }
    let (block, base) = (store.block_bytes(), store.physical_base().unwrap_or(0));
    let (mut asked, mut more) = (Vec::new(), 0_u64);
    for span in hits.spans {
        let mut at = span.offset;
        while at < span.end() {
            let end = at.saturating_add(1).next_multiple_of(block).min(span.end());
            if asked.len() >= LISTED {
                more = more.saturating_add((span.end() - at).div_ceil(block));
                break;
            }
            let address = base.saturating_add(at);
            asked.push(Asked { text: format!("{address:#x}+{}", end - at), address: Address::Bytes(address) });
            at = end;
        }
    }
    Ok(Poisoned { asked, more })
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    // The list is read before anything is locked, because it may come from a pipe.
    let list = args.poison.as_deref().map(|list| super::bad::poison(list, &super::bad::device(&args.image.image)));
    let list = list.transpose()?;
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    let mut paths = Paths::new(&inodes.tree);
    let asker = Asker { store: &store, tree: &inodes.tree };
    let hit = match (&args.poison, list) {
        (Some(name), Some(list)) => Some(poisoned(name, list, &store, ctx)?),
        _ => None,
    };
    let asked = hit.as_ref().map_or(&args.addresses, |hit| &hit.asked);
    let answers: Vec<files::Owner> = asked.iter().map(|asked| asker.answer(asked, &mut paths)).collect();
    store.unlock();
    if let Some(hit) = &hit {
        let used =
            |answer: &files::Owner| answer.ino.is_some() || !matches!(answer.what.as_ref(), "free" | "tail" | "bad");
        if hit.more > 0 || answers.iter().any(used) {
            exit = Exit::No;
        }
        if hit.more > 0 {
            ctx.warn(&format!("at least {} more of blocks are hit and not listed", size::count(hit.more, "part")));
        }
        if answers.is_empty() {
            ctx.note("nothing in the region is hit");
        }
    } else if answers.iter().any(|answer| answer.what == "outside") {
        exit = Exit::No;
    }
    if args.json {
        let answer = files::Who { image: (&store.place).into(), store: (&store).into(), addresses: answers };
        json::print(ctx, "who", &answer)?;
        return Ok(exit);
    }
    let mut table = Table::new(&["Asked", "Block", "What", "Whose"]).right(&[1]).dispensable(&["Block"]);
    for answer in &answers {
        let block = answer.block.map_or_else(String::new, |block| block.to_string());
        let role = match answer.what.as_ref() {
            "bad" | "lost" | "outside" => Role::Bad,
            "free" | "tail" | "not-preserved" => Role::Dim,
            _ => Role::Plain,
        };
        table.styled([
            (&answer.asked, Role::Plain),
            (&block, Role::Plain),
            (&answer.what, role),
            (&sentence(answer, &asker), Role::Plain),
        ]);
    }
    table.print(ctx)?;
    Ok(exit)
}

/// What an answer says after its kind.
fn sentence(answer: &files::Owner, asker: &Asker<'_>) -> String {
    if let Some(page) = answer.page {
        let copy = answer.copy.as_deref().unwrap_or("?");
        let kind = answer.page_kind.as_deref().unwrap_or("not used");
        return format!("copy {copy}, page {page}: {kind}");
    }
    if answer.what == "metadata" {
        let kind = answer.page_kind.as_deref().unwrap_or("not used");
        let of = answer.ino.map_or_else(String::new, |ino| {
            format!(" of {}", answer.path.shown().unwrap_or_else(|| format!("inode {ino}")))
        });
        return format!("{kind}{of}");
    }
    let Some(ino) = answer.ino else {
        return match answer.what.as_ref() {
            "reserve-mem" => answer.page_kind.clone().unwrap_or_default(),
            "preserved" => "kept for the next kernel; no known owner".to_owned(),
            "not-preserved" => "not kept for the next kernel".to_owned(),
            "scratch" => "where the next kernel is put; nothing is kept".to_owned(),
            "unknown" if asker.store.luo().is_some() => {
                "in nothing that was found; the preserved map is overwritten".to_owned()
            }
            "outside" => format!("the region has {}", size::both(asker.store.size())),
            "lost" => "the page of the block table that describes it is lost".to_owned(),
            "tail" => "after the last whole block".to_owned(),
            _ => String::new(),
        };
    };
    let path = answer.path.shown().unwrap_or_else(|| format!("inode {ino}, which no path leads to"));
    let offset = size::hex(answer.offset.unwrap_or(0));
    let beyond = if answer.beyond_end { " (past its end)" } else { "" };
    format!("{path} at {offset}{beyond}")
}

struct Asker<'a> {
    store: &'a Store,
    tree: &'a Tree,
}

impl Asker<'_> {
    fn answer(&self, asked: &Asked, paths: &mut Paths<'_>) -> files::Owner {
        let mut answer = files::Owner::outside(asked.text.clone());
        let base = self.store.physical_base();
        let (size, block) = (self.store.size(), self.store.block_bytes());
        let Some(offset) = asked.address.offset(size, block, base.unwrap_or(0)) else {
            if let Some((physical, owner)) = self.in_kernel(asked.address) {
                (answer.address, answer.physical) = (Some(physical), Some(physical));
                fill_in(&mut answer, owner, paths);
            }
            return answer;
        };
        answer.address = Some(self.store.place.base.saturating_add(offset));
        answer.physical = base.map(|base| base.saturating_add(offset));
        let owner = self.store.owner(offset);
        if owner.what != What::Tail {
            answer.block = Some(offset / block);
        }
        let file = owner.file;
        fill_in(&mut answer, owner, paths);
        if let Some((ino, file_offset)) = file {
            answer.ino = files::ino(ino);
            answer.offset = Some(file_offset);
            answer.beyond_end = self.tree.get(ino).is_some_and(|inode| file_offset >= inode.size);
            answer.path = files::Path::new(paths.of(ino).as_deref());
        }
        answer
    }

    /// The metadata of the store at an address outside its region: a guestmemfs v1 has its metadata in the kernel's
    /// memory.
    fn in_kernel(&self, address: Address) -> Option<(u64, gmfs::store::Owner)> {
        let physical =
            address.offset(u64::MAX, self.store.block_bytes(), 0).filter(|_| !matches!(address, Address::Block(_)))?;
        Some((physical, self.store.guestmemfs()?.metadata_at(physical)?))
    }
}

/// Fills in what is known about the metadata.
fn fill_in(answer: &mut files::Owner, owner: gmfs::store::Owner, paths: &mut Paths<'_>) {
    answer.what = owner.what.name().into();
    if let Some(metadata) = owner.metadata {
        answer.copy = metadata.copy.map(|copy| copy.to_string());
        answer.page = metadata.page.map(|page| u64::from(page.0));
        answer.page_kind = metadata.kind;
        answer.ino = metadata.ino.and_then(files::ino);
        answer.path = files::Path::new(metadata.ino.and_then(|ino| paths.of(ino)).as_deref());
    }
}
