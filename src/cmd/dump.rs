//! `gmfs dump`: a region's metadata as a small file, or as text.

mod obfuscate;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::io::ReadAt;
use gmfs_format::units::{CopyId, PAGE_SIZE, PageNo, to_u32};
use gmfs_image::metadump::{MetaDump, MetaDumpWriter, MetaFacts};
use gmfs_image::{Kind, RegionFile};
use gmfs_volume::superblocks::used_tables;
use gmfs_volume::{OpenError, Superblocks};
use serde::Serialize;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::open::{self, ImageArgs, Located};
use crate::render::{json, size};

/// Copy the metadata into a small file, or print it as text
///
/// Every page of metadata that is in use, of both copies and exactly as it is, also of a damaged region; no contents of
/// files. Every command that reads takes FILE as an image, and `gmfs restore` puts it back. Pages that IMAGE does not hold
/// are not in FILE either; the exit status is 1 then.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs dump region.img -o region.meta
  gmfs dump --obfuscate /dev/mem -o for-a-stranger.meta
  gmfs dump --text region.img > before.txt")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ImageArgs,
    /// The file to make
    #[arg(short, long, value_name = "FILE", required_unless_present = "text")]
    output: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(short, long)]
    force: bool,
    /// Replace each name by another of its length, and the label; damaged pages stay as damaged as they are
    #[arg(long)]
    obfuscate: bool,
    /// Print text, one fact a line, in an order that is always the same
    #[arg(long, conflicts_with = "json")]
    text: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was dumped: `gmfs.dump/1`.
#[derive(Serialize)]
struct Answer {
    image: json::region::Image,
    output: String,
    /// Pages in the dump.
    pages: u64,
    /// Pages that the image does not hold or that cannot be read.
    absent: u64,
    obfuscated: bool,
}

/// What a dump is made of.
struct Gathered {
    bytes: Vec<u8>,
    pages: u64,
    absent: u64,
    obfuscated: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let cannot = || format!("cannot dump the metadata in {}", args.image.image.display());
    let located = open::locate(&args.image, ctx)?;
    let gathered = gather(&located, args.obfuscate).with_context(cannot)?;
    let made = if args.text { text::write(gathered.bytes)? } else { gathered.bytes };
    match &args.output {
        Some(path) => {
            let mut file = super::save::output(path, args.force, &located.place).with_context(cannot)?;
            std::io::Write::write_all(&mut file, &made)
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => ctx.bytes(&made)?,
    }
    let (pages, absent) = (gathered.pages, gathered.absent);
    if absent > 0 {
        ctx.warn(&format!("{} of metadata cannot be read and are not in the dump", size::count(absent, "page")));
    }
    let output = args.output.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    if args.json {
        let image = (&located.place).into();
        json::print(ctx, "dump", &Answer { image, output, pages, absent, obfuscated: gathered.obfuscated })?;
    } else if !args.text {
        let how = if gathered.obfuscated { ", obfuscated" } else { "" };
        ctx.line(&printable(&format!("{output}: {} of metadata{how}", size::count(pages, "page"))))?;
    }
    Ok(if absent > 0 { Exit::No } else { Exit::Done })
}

/// Loads the superblocks; if both are lost, makes one anew from what is left.
pub(super) fn load<S: ReadAt + ?Sized>(source: &S) -> Result<Superblocks, OpenError> {
    match Superblocks::load(source) {
        Err(OpenError::NoRegion { a, b }) => match gmfs_volume::rebuild::superblock(source) {
            Some(superblock) => Ok(Superblocks::rebuilt(*a, *b, superblock)),
            None => Err(OpenError::NoRegion { a, b }),
        },
        loaded => loaded,
    }
}

/// The metadata pages that are in use; all of them where nobody recorded which are.
fn used(superblocks: &Superblocks) -> BTreeSet<u32> {
    if superblocks.are_rebuilt() {
        return (0..to_u32(superblocks.geometry().pages())).collect();
    }
    let tables = used_tables(superblocks.current());
    std::iter::once(0).chain(tables.into_iter().flat_map(|(_, pages)| pages)).collect()
}

/// Reads the metadata.
fn gather(located: &Located, obfuscated: bool) -> Result<Gathered> {
    let source = &located.source;
    let superblocks = load(source)?;
    let geometry = superblocks.geometry();
    let current = superblocks.current();
    let mut facts = MetaFacts {
        obfuscated,
        end: source.end().unwrap_or(geometry.size()),
        size: geometry.size(),
        base: located.place.physical_base(current).unwrap_or(0),
        uuid: current.uuid.into_bytes(),
    };
    if located.place.kind == Kind::MetaDump {
        // What a dump was made of does not change by copying it.
        let first = *MetaDump::parse(RegionFile::open(&located.place.path)?)?.facts();
        facts.obfuscated |= first.obfuscated;
        facts.base = first.base;
    }
    let mut writer = MetaDumpWriter::new(facts);
    let mut names = obfuscate::Names::default();
    let mut absent = 0;
    for copy in CopyId::BOTH {
        for page in used(&superblocks).into_iter().map(PageNo) {
            let mut bytes = [0; PAGE_SIZE];
            let offset = geometry.page_offset(copy, page);
            let place = superblocks.place(copy, page);
            match (source.read_at(offset, &mut bytes), place) {
                (Ok(()), Some(place)) => {
                    if obfuscated {
                        obfuscate::page(&mut bytes, &place, &mut names);
                    }
                    writer.page(offset, &bytes);
                }
                _ => absent += 1,
            }
        }
    }
    let pages = writer.pages();
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).context("cannot make the dump")?;
    Ok(Gathered { bytes, pages, absent, obfuscated: facts.obfuscated })
}
