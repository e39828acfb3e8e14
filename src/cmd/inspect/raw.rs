//! The fields of one metadata page, whatever they hold.

use anyhow::{Context as _, Result};
use gmfs_format::native::raw::{
    BlockRaw, BlockTablePage, ErrorRecord, Field, InodeRaw, InodeTablePage, OnMemory, PageHeader, PageTrailer,
    SuperblockPage, SuperblockRaw,
};
use gmfs_format::native::seal::{self, PageKind, Place};
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo};
use gmfs_io::ReadAt as _;
use gmfs_volume::Superblocks;
use uuid::Uuid;

use super::Args;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::paths;
use crate::render::json::{self, region};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::{size, time};

/// A field of the page, its offset counted from the page's start.
struct Row {
    name: String,
    offset: usize,
    field: Field,
    value: String,
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let (located, superblocks) = super::located(args, ctx)?;
    let number = PageNo(args.page.unwrap_or(0));
    let copy = copy(args, superblocks.as_ref(), number);
    let offset = match &superblocks {
        Some(found) => {
            let geometry = found.geometry();
            if geometry.page_kind(number).is_none() {
                let last = geometry.pages().saturating_sub(1);
                let failure =
                    Failure::new("no-page", format!("there is no page {number}: the last one is page {last}"));
                return Err(failure.into());
            }
            geometry.page_offset(copy, number)
        }
        None => u64::from(number.0) * PAGE_BYTES,
    };
    let mut page: PageBytes = [0; PAGE_SIZE];
    located.source.read_at(offset, &mut page).with_context(|| format!("cannot read page {number} of copy {copy}"))?;
    let kind = superblocks.as_ref().and_then(|found| found.geometry().page_kind(number)).or_else(|| claimed(&page));
    let kind = kind.unwrap_or(PageKind::Superblock);
    let seal = seal_of(&page, kind, copy, number, superblocks.as_ref());
    let (structure, rows, elided) = rows(&page, kind);
    if args.json {
        let fields = rows.into_iter().map(|row| region::Field {
            name: row.name,
            start: row.offset,
            size: row.field.size,
            kind: row.field.kind,
            value: row.value,
            meaning: row.field.doc.trim(),
        });
        let raw = region::Raw {
            page: number.0,
            copy: copy.to_string(),
            address: located.place.base.saturating_add(offset),
            structure,
            seal: seal.0,
            fields: fields.collect(),
        };
        let store = region::Store::if_known(located.place.base, superblocks.as_ref());
        json::print(ctx, "inspect", &region::InspectRaw { image: (&located.place).into(), store, raw })?;
        return Ok(Exit::Done);
    }
    ctx.line(&format!("{structure}: page {number} of copy {copy}, at {offset:#x} of the region"))?;
    let line = crate::render::style::paint(ctx.colour, seal.1, &format!("Seal: {}", seal.0));
    ctx.line(&line)?;
    ctx.line("")?;
    let mut table = Table::new(&["Offset", "Size", "Field", "Value"]).right(&[0, 1]);
    for row in &rows {
        let size = row.field.size.to_string();
        table.row([&size::hex(row.offset as u64), &size, &row.name, &row.value]);
    }
    table.print(ctx)?;
    if elided > 0 {
        ctx.line(&format!(
            "{} that are all zero are not shown",
            size::count(elided, "entry").replace("entrys", "entries")
        ))?;
    }
    Ok(Exit::Done)
}

/// The copy that is asked for, or the one that counts.
fn copy(args: &Args, superblocks: Option<&Superblocks>, number: PageNo) -> CopyId {
    if let Some(copy) = args.copy {
        return copy.into();
    }
    let current = superblocks.filter(|_| number == PageNo(0)).and_then(|found| found.judgement().take);
    current.unwrap_or(CopyId::A)
}

/// The kind that a page's magic says it is.
fn claimed(page: &PageBytes) -> Option<PageKind> {
    let magic = PageHeader::of(page).magic;
    PageKind::ALL.into_iter().find(|kind| kind.magic() == magic)
}

fn seal_of(
    page: &PageBytes,
    kind: PageKind,
    copy: CopyId,
    number: PageNo,
    superblocks: Option<&Superblocks>,
) -> (String, Role) {
    let uuid = superblocks.map_or_else(|| Uuid::from_bytes(PageHeader::of(page).uuid), |found| found.current().uuid);
    // Where nothing tells how the region is laid out, what the page says of itself has to do.
    let geometry = superblocks.map(Superblocks::geometry).or_else(|| seal::layout_of(page));
    let Some(geometry) = geometry else {
        return ("of a region whose layout does not agree with itself".to_owned(), Role::Bad);
    };
    let birth = superblocks.map_or_else(|| PageTrailer::of(page).birth.get(), |found| found.current().birth);
    match seal::check(page, &Place { kind, copy, page: number, uuid, birth, geometry }) {
        Ok(generation) => (format!("good, generation {generation}"), Role::Good),
        Err(fault) => (fault.to_string(), Role::Bad),
    }
}

/// The rows of a page, and how many entries were left out because they are all zero.
fn rows(page: &PageBytes, kind: PageKind) -> (&'static str, Vec<Row>, u64) {
    let mut rows = Vec::new();
    push(&mut rows, page, "header", 0, PageHeader::FIELDS);
    let behind = size_of::<PageHeader>();
    match kind {
        PageKind::Superblock => {
            push(&mut rows, page, "", behind, SuperblockRaw::FIELDS);
            trailer(rows, page, SuperblockPage::NAME, 0)
        }
        PageKind::BlockTable => {
            let elided = entries(&mut rows, page, "entries", size_of::<BlockRaw>(), BlockRaw::FIELDS);
            trailer(rows, page, BlockTablePage::NAME, elided)
        }
        PageKind::InodeTable => {
            let elided = entries(&mut rows, page, "inodes", size_of::<InodeRaw>(), InodeRaw::FIELDS);
            trailer(rows, page, InodeTablePage::NAME, elided)
        }
    }
}

/// Adds the trailer's fields to those of a page.
fn trailer(mut rows: Vec<Row>, page: &PageBytes, name: &'static str, elided: u64) -> (&'static str, Vec<Row>, u64) {
    push(&mut rows, page, "trailer", PAGE_SIZE - size_of::<PageTrailer>(), PageTrailer::FIELDS);
    (name, rows, elided)
}

fn entries(rows: &mut Vec<Row>, page: &PageBytes, name: &str, each: usize, fields: &[Field]) -> u64 {
    let mut elided = 0;
    let behind = size_of::<PageHeader>();
    let end = PAGE_SIZE - size_of::<PageTrailer>();
    for (n, entry) in page[behind..end].chunks_exact(each).enumerate() {
        if entry.iter().all(|byte| *byte == 0) {
            elided += 1;
        } else {
            push(rows, page, &format!("{name}[{n}]"), behind + n * each, fields);
        }
    }
    elided
}

/// Adds the fields of a structure that starts at `start`.
fn push(rows: &mut Vec<Row>, page: &PageBytes, prefix: &str, start: usize, fields: &[Field]) {
    for field in fields {
        let offset = start + field.offset;
        let dot = if prefix.is_empty() { "" } else { "." };
        let name = format!("{prefix}{dot}{}", field.name);
        if field.kind == ErrorRecord::NAME {
            push(rows, page, &name, offset, ErrorRecord::FIELDS);
            continue;
        }
        let bytes = page.get(offset..offset + field.size).unwrap_or_default();
        rows.push(Row { name, offset, field: *field, value: value(field, bytes) });
    }
}

/// A field's value: numbers as numbers, names as text, the rest as it is.
fn value(field: &Field, bytes: &[u8]) -> String {
    if field.name == "uuid"
        && let Ok(uuid) = Uuid::from_slice(bytes)
    {
        return uuid.to_string();
    }
    if field.kind.starts_with('[') {
        return text(field.name, bytes);
    }
    let mut wide = [0; 8];
    let length = bytes.len().min(8);
    wide[..length].copy_from_slice(&bytes[..length]);
    let number = u64::from_le_bytes(wide);
    if field.name == "copy" && number != 0 {
        return format!("{number:#x} '{}'", bytes.escape_ascii());
    }
    let is_time = ["accessed", "modified", "changed", "created", "written", "checked", "sealed", "time"];
    if is_time.contains(&field.name) && number != 0 {
        return format!("{number} ({})", time::iso(number));
    }
    let masked = ["crc", "state", "flags", "base", "mode"].contains(&field.name) || field.name.starts_with("feature_");
    match (field.name, masked && number != 0) {
        ("mode", true) => format!("{number:#o}"),
        (_, true) => format!("{number:#x}"),
        _ => number.to_string(),
    }
}

/// Text up to its padding where text belongs, else hexadecimal, the first of it.
fn text(name: &str, bytes: &[u8]) -> String {
    const SHOWN: usize = 14;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let used = &bytes[..end];
    if used.is_empty() {
        return "all zero".to_owned();
    }
    let is_text = ["magic", "label", "writer", "name"].contains(&name);
    if is_text && std::str::from_utf8(used).is_ok_and(|text| !text.chars().any(char::is_control)) {
        return format!("\"{}\"", paths::shown(used));
    }
    let shown = json::hex(&used[..used.len().min(SHOWN)]);
    if used.len() > SHOWN { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}
