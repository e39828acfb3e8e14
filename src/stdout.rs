//! What a region holds, on standard output: holes where it cannot be told, if standard output can have them.

use anyhow::Result;
use gmfs_format::model::Piece;
use gmfs_io::{ReadAt, Span};

use crate::content::{Gap, Gaps, Sink, carry_pieces, known_gaps};
use crate::ctx::Ctx;
use crate::failure::Failure;

/// Writes pieces of the region in `source` to standard output, and gives what became a hole in it.
///
/// `allow` may refuse gaps: it is asked before the first byte goes out if any are known, and at the first that only
/// reading has shown.
pub(crate) fn write<S: ReadAt + ?Sized>(
    source: &S,
    pieces: &[Piece],
    allow: impl Fn(&Gaps, &mut Ctx) -> Result<()>,
    ctx: &mut Ctx,
) -> Result<Gaps> {
    let known = known_gaps(source, pieces);
    if !known.is_empty() {
        allow(&known, ctx)?;
    }
    let mut sink = Stdout { ctx, allow, gaps: Gaps::default() };
    carry_pieces(source, pieces, &mut sink)?;
    let Stdout { ctx, gaps, .. } = sink;
    if !gaps.is_empty() {
        ctx.end_holes()?;
    }
    Ok(gaps)
}

/// Refuses gaps where standard output is no file in which holes can be left. `hint` names another way.
pub(crate) fn require_holes(gaps: &Gaps, base: Option<u64>, hint: &'static str, ctx: &mut Ctx) -> Result<()> {
    if ctx.can_have_holes()? {
        return Ok(());
    }
    let message = format!("{}; standard output is no file in which holes can be left", gaps.describe(base));
    Err(Failure::new("no-holes", message).hint(hint).into())
}

struct Stdout<'c, F> {
    ctx: &'c mut Ctx,
    allow: F,
    gaps: Gaps,
}

impl<F: Fn(&Gaps, &mut Ctx) -> Result<()>> Sink for Stdout<'_, F> {
    fn data(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.ctx.bytes(bytes)?)
    }

    fn zeros(&mut self, span: Span) -> Result<()> {
        Ok(self.ctx.zeros(span.len)?)
    }

    fn gap(&mut self, gap: Gap) -> Result<()> {
        if self.gaps.is_empty() {
            let mut first = Gaps::default();
            first.add(gap);
            (self.allow)(&first, self.ctx)?;
        }
        self.gaps.add(gap);
        Ok(self.ctx.hole(gap.span.len)?)
    }
}
