//! `gmfs who`: whose an address is.

use std::fmt;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::model::Tree;
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, CopyId, PAGE_BYTES, PageNo, PmdShift, to_u32};
use gmfs_format::spec;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, Opened, ReadArgs};
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
    pub(crate) fn offset(self, geometry: Geometry, base: u64) -> Option<u64> {
        let offset = match self {
            Self::Bytes(address) => address.checked_sub(base)?,
            Self::Block(block) => block.checked_mul(geometry.block_bytes())?,
            Self::Pfn(pfn) => pfn.checked_mul(kernel_page(geometry.pmd()))?.checked_sub(base)?,
        };
        (offset < geometry.size()).then_some(offset)
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
    let opened = open::region(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&opened.region, ctx);
    let mut paths = Paths::new(&inodes.tree);
    let asker = Asker { opened: &opened, tree: &inodes.tree };
    let answers: Vec<files::Owner> = args.addresses.iter().map(|asked| asker.answer(asked, &mut paths)).collect();
    opened.unlock();
    if answers.iter().any(|answer| answer.what == "outside") {
        exit = Exit::No;
    }
    if args.json {
        let answer = files::Who { image: (&opened.place).into(), store: (&opened).into(), addresses: answers };
        json::print(ctx, "who", &answer)?;
        return Ok(exit);
    }
    let mut table = Table::new(&["Asked", "Block", "What", "Whose"]).right(&[1]);
    for answer in &answers {
        let block = answer.block.map_or_else(String::new, |block| block.to_string());
        let role = match answer.what {
            "bad" | "lost" | "outside" => Role::Bad,
            "free" | "tail" => Role::Dim,
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
    let Some(ino) = answer.ino else {
        return match answer.what {
            "outside" => format!("the region has {}", size::both(asker.opened.region.geometry().size())),
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
    opened: &'a Opened,
    tree: &'a Tree,
}

impl Asker<'_> {
    fn answer(&self, asked: &Asked, paths: &mut Paths<'_>) -> files::Owner {
        let mut answer = files::Owner::outside(asked.text.clone());
        let Some(offset) =
            asked.address.offset(self.opened.region.geometry(), self.opened.physical_base().unwrap_or(0))
        else {
            return answer;
        };
        let region = &self.opened.region;
        let geometry = region.geometry();
        answer.address = Some(self.opened.place.base.saturating_add(offset));
        answer.physical = self.opened.physical_base().map(|base| base.saturating_add(offset));
        let block = BlockNo(to_u32(offset / geometry.block_bytes()));
        if block.0 >= geometry.blocks() {
            answer.what = "tail";
            return answer;
        }
        answer.block = Some(block.0);
        if !geometry.is_data(block) {
            let copy = if block < geometry.first_data() { CopyId::A } else { CopyId::B };
            let page = (offset - geometry.copy_offset(copy)) / PAGE_BYTES;
            answer.what = "metadata";
            answer.copy = Some(copy.to_string());
            answer.page = Some(page);
            answer.page_kind = geometry.page_kind(PageNo(to_u32(page))).map(|kind| kind.to_string());
            return answer;
        }
        match region.descriptor(block) {
            Some(descriptor) => self.owned(&mut answer, &descriptor, offset % geometry.block_bytes(), paths),
            None => answer.what = "lost",
        }
        answer
    }

    /// Fills in whose a data block is.
    fn owned(&self, answer: &mut files::Owner, descriptor: &BlockRaw, inside: u64, paths: &mut Paths<'_>) {
        answer.what = match descriptor.state() {
            Some(BlockState::Data) => "file",
            Some(state) => state.name(),
            None => "unknown",
        };
        if !descriptor.is_mapping() {
            return;
        }
        let owner = descriptor.owner();
        let block = self.opened.region.geometry().block_bytes();
        let file_offset = u64::from(descriptor.index.get()) * block + inside;
        answer.ino = files::ino(owner);
        answer.offset = Some(file_offset);
        answer.beyond_end = self.tree.get(owner).is_some_and(|inode| file_offset >= inode.size);
        answer.path = files::Path::new(paths.of(owner).as_deref());
    }
}

/// Bytes of the kernel's own pages where PMD pages have this size.
const fn kernel_page(pmd: PmdShift) -> u64 {
    match pmd {
        PmdShift::M2 => 4 << 10,
        PmdShift::M32 => 16 << 10,
        PmdShift::M512 => 64 << 10,
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
