//! The fields of one metadata page, whatever they hold.

use anyhow::Result;
use gmfs::raw_page::{self, RawPageError, Seal};
use gmfs_format::native::fields::Value;

use super::Args;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::paths;
use crate::render::json::{self, region};
use crate::render::style::{self, Role};
use crate::render::table::Table;
use crate::render::{size, time};

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let (located, superblocks) = super::located(args, ctx)?;
    let (page, copy) = (args.page.unwrap_or(0), args.copy.map(Into::into));
    let raw = raw_page::read(&located.source, superblocks.as_ref(), page, copy);
    let raw = raw.map_err(|error| match error {
        RawPageError::NoPage { .. } => Failure::new("no-page", error.to_string()).into(),
        error => anyhow::Error::new(error),
    })?;
    let structure = raw.listed.structure;
    let (seal, role) = match raw.seal {
        Seal::Good(generation) => (format!("good, generation {generation}"), Role::Good),
        Seal::Broken(fault) => (fault.to_string(), Role::Bad),
        _ => ("of a region whose layout does not agree with itself".to_owned(), Role::Bad),
    };
    if args.json {
        let fields = raw.listed.fields.into_iter().map(|field| region::Field {
            value: shown(&field.value),
            name: field.name,
            start: field.offset,
            size: field.field.size,
            kind: field.field.kind.into(),
            meaning: field.field.doc.trim().into(),
        });
        let raw = region::Raw {
            page,
            copy: raw.copy.to_string(),
            address: located.place.base.saturating_add(raw.offset),
            structure: structure.into(),
            seal,
            fields: fields.collect(),
        };
        let store = region::Store::if_known(located.place.base, superblocks.as_ref());
        json::print(ctx, "inspect", &region::InspectRaw { image: (&located.place).into(), store, raw })?;
        return Ok(Exit::Done);
    }
    ctx.line(&format!("{structure}: page {page} of copy {}, at {:#x} of the region", raw.copy, raw.offset))?;
    let line = style::paint(ctx.colour, role, &format!("Seal: {seal}"));
    ctx.line(&line)?;
    ctx.line("")?;
    let mut table = Table::new(&["Offset", "Size", "Field", "Value"]).right(&[0, 1]);
    for field in &raw.listed.fields {
        let offset = size::hex(field.offset as u64);
        table.row([&offset, &field.field.size.to_string(), &field.name, &shown(&field.value)]);
    }
    table.print(ctx)?;
    match raw.listed.zero_entries {
        0 => {}
        1 => ctx.line("1 entry that is all zero is not shown")?,
        entries => ctx.line(&format!("{entries} entries that are all zero are not shown"))?,
    }
    Ok(Exit::Done)
}

/// A field's value: numbers as numbers, names as text, the rest in hexadecimal, the first of it.
fn shown(value: &Value) -> String {
    const SHOWN: usize = 14;
    match value {
        Value::Number(number) => number.to_string(),
        Value::Mask(mask) => format!("{mask:#x}"),
        Value::Mode(mode) => format!("{mode:#o}"),
        Value::Time(time) => format!("{time} ({})", time::iso(*time)),
        Value::Letter(letter) => format!("{letter:#x} '{}'", letter.escape_ascii()),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::Text(text) => format!("\"{}\"", paths::shown(text.as_bytes())),
        Value::Bytes(bytes) => {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            match &bytes[..end] {
                [] => "all zero".to_owned(),
                used if used.len() > SHOWN => format!("{}… ({} bytes)", json::hex(&used[..SHOWN]), bytes.len()),
                used => json::hex(used),
            }
        }
        _ => String::new(),
    }
}
