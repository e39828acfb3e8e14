//! The fields of one metadata page, whatever they hold.

use anyhow::Result;
use gmfs::raw_page::{self, RawPageError, Seal};

use super::Args;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::json::{self, region};
use crate::render::size;
use crate::render::style::{self, Role};
use crate::render::table::Table;

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let (located, superblocks) = super::located(args, ctx)?;
    let (page, copy) = (args.page.unwrap_or(0), args.copy.map(Into::into));
    let raw = raw_page::read(&located.source, superblocks.as_ref(), page, copy);
    let raw = raw.map_err(|error| match error {
        RawPageError::NoPage { .. } => Failure::new("no-page", error.to_string()).into(),
        error => anyhow::Error::new(error),
    })?;
    let role = if matches!(raw.seal, Seal::Good(_)) { Role::Good } else { Role::Bad };
    let (offset, zero_entries) = (raw.offset, raw.listed.zero_entries);
    let raw = region::Raw::new(located.place.base, raw);
    if args.json {
        let store = region::Store::if_known(located.place.base, superblocks.as_ref());
        json::print(ctx, "inspect", &region::InspectRaw { image: (&located.place).into(), store, raw })?;
        return Ok(Exit::Done);
    }
    ctx.line(&format!("{}: page {page} of copy {}, at {offset:#x} of the region", raw.structure, raw.copy))?;
    let line = style::paint(ctx.colour, role, &format!("Seal: {}", raw.seal));
    ctx.line(&line)?;
    ctx.line("")?;
    let mut table = Table::new(&["Offset", "Size", "Field", "Value"]).right(&[0, 1]);
    for field in &raw.fields {
        table.row([&size::hex(field.start as u64), &field.size.to_string(), &field.name, &field.value]);
    }
    table.print(ctx)?;
    match zero_entries {
        0 => {}
        1 => ctx.line("1 entry that is all zero is not shown")?,
        entries => ctx.line(&format!("{entries} entries that are all zero are not shown"))?,
    }
    Ok(Exit::Done)
}
