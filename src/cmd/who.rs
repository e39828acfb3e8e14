//! `gmfs who`: whose an address is.

use std::fmt;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::store::What;
use gmfs_format::model::Tree;
use gmfs_format::spec;

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
/// The question after a machine check: whose memory is this? The exit status is 1 if an address lies outside the region.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs who /dev/mem 0x1000200000
  gmfs who region.img block:17 pfn:0x10002")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// A physical address, block:N (a block of the region) or pfn:N (a page of the kernel)
    ///
    /// Where the region's physical base is not known (a file whose superblock records none), an address is an offset in
    /// the region. Pages of the kernel have 4 KiB, 16 KiB or 64 KiB, as the block size of 2 MiB, 32 MiB or 512 MiB tells.
    #[arg(value_name = "ADDR", required = true, value_parser = parse)]
    addresses: Vec<Asked>,
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

/// A place in a region as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A physical address; an offset in the region where its base is not known.
    Bytes(u64),
    /// A block of the region.
    Block(u64),
    /// A page of the kernel.
    Pfn(u64),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(address) => f.write_str(&size::hex(*address)),
            Self::Block(block) => write!(f, "block:{block}"),
            Self::Pfn(pfn) => write!(f, "pfn:{pfn:#x}"),
        }
    }
}

impl Address {
    /// Where it lies in the region, in bytes, if it does. `base` is the region's physical base, 0 if not known.
    pub(crate) fn offset(self, size: u64, block_bytes: u64, base: u64) -> Option<u64> {
        let offset = match self {
            Self::Bytes(address) => address.checked_sub(base)?,
            Self::Block(block) => block.checked_mul(block_bytes)?,
            Self::Pfn(pfn) => pfn.checked_mul(kernel_page(block_bytes))?.checked_sub(base)?,
        };
        (offset < size).then_some(offset)
    }
}

fn parse(text: &str) -> Result<Asked, String> {
    let number = |text: &str| spec::parse_size(text).map_err(|error| error.to_string());
    let address = match text.split_once(':') {
        Some(("block", rest)) => Address::Block(number(rest)?),
        Some(("pfn", rest)) => Address::Pfn(number(rest)?),
        Some((other, _)) => return Err(format!("'{other}:' is neither block: nor pfn:")),
        None => Address::Bytes(number(text)?),
    };
    Ok(Asked { text: text.to_owned(), address })
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    let mut paths = Paths::new(&inodes.tree);
    let asker = Asker { store: &store, tree: &inodes.tree };
    let answers: Vec<files::Owner> = args.addresses.iter().map(|asked| asker.answer(asked, &mut paths)).collect();
    store.unlock();
    if answers.iter().any(|answer| answer.what == "outside") {
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
        let role = match answer.what {
            "bad" | "lost" | "outside" => Role::Bad,
            "free" | "tail" | "not-preserved" => Role::Dim,
            _ => Role::Plain,
        };
        table.styled([
            (&answer.asked, Role::Plain),
            (&block, Role::Plain),
            (answer.what, role),
            (&sentence(answer, &asker), Role::Plain),
        ]);
    }
    table.print(ctx)?;
    Ok(exit)
}

/// What is said of an answer behind its kind.
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
        return match answer.what {
            "reserve-mem" => answer.page_kind.clone().unwrap_or_default(),
            "preserved" => "kept for the next kernel; no known owner".to_owned(),
            "not-preserved" => "not kept for the next kernel".to_owned(),
            "scratch" => "where the next kernel is put; nothing is kept".to_owned(),
            "unknown" if asker.store.luo().is_some() => {
                "in nothing that was found; the preserved map is overwritten".to_owned()
            }
            "outside" => format!("the region has {}", size::both(asker.store.size())),
            "lost" => "the page of the block table that describes it is lost".to_owned(),
            "tail" => "behind the last whole block".to_owned(),
            _ => String::new(),
        };
    };
    let path = answer.path.shown().unwrap_or_else(|| format!("inode {ino}, which no path leads to"));
    let offset = size::hex(answer.offset.unwrap_or(0));
    let beyond = if answer.beyond_end { " (behind its end)" } else { "" };
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
        let Some(offset) = asked.address.offset(size, block, base.unwrap_or(0)) else { return answer };
        answer.address = Some(self.store.place.base.saturating_add(offset));
        answer.physical = base.map(|base| base.saturating_add(offset));
        let owner = self.store.owner(offset);
        answer.what = owner.what.name();
        if owner.what != What::Tail {
            answer.block = Some(offset / block);
        }
        if let Some(metadata) = owner.metadata {
            answer.copy = metadata.copy.map(|copy| copy.to_string());
            answer.page = metadata.page.map(|page| u64::from(page.0));
            answer.page_kind = metadata.kind;
            answer.ino = metadata.ino.and_then(files::ino);
            answer.path = files::Path::new(metadata.ino.and_then(|ino| paths.of(ino)).as_deref());
        }
        if let Some((ino, file_offset)) = owner.file {
            answer.ino = files::ino(ino);
            answer.offset = Some(file_offset);
            answer.beyond_end = self.tree.get(ino).is_some_and(|inode| file_offset >= inode.size);
            answer.path = files::Path::new(paths.of(ino).as_deref());
        }
        answer
    }
}

/// Bytes of the kernel's own pages where PMD pages have this size: a page of page tables has an eighth of its bytes as
/// entries, and a PMD page is what one of them maps.
const fn kernel_page(block_bytes: u64) -> u64 {
    match block_bytes >> 20 {
        512 => 64 << 10,
        32 => 16 << 10,
        _ => 4 << 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_three_forms() {
        assert_eq!(parse("0x1000").unwrap().address, Address::Bytes(0x1000));
        assert_eq!(parse("block:7").unwrap().address, Address::Block(7));
        assert_eq!(parse("pfn:0x10").unwrap().address, Address::Pfn(16));
        for wrong in ["", "block:", "page:3", "-1", "12:3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
