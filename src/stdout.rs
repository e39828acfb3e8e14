//! Writes content of a region to standard output. Unknown bytes become holes, if standard output can have holes.

use anyhow::Result;
use gmfs::content::{Gap, Gaps, Sink, known_gaps, read};
use gmfs::kernel_copy::KernelCopy;
use gmfs_format::model::Piece;
use gmfs_io::{FilePart, ReadAt, Span};

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::missing::describe;

/// A stretch of zeros this long is left out of a file. A shorter one is written.
const HOLE: u64 = 64 << 10;

/// Writes pieces of the region in `source` to standard output, and returns the gaps that became holes.
///
/// `allow` may refuse gaps. If any gaps are known beforehand, it is called with all of these before the first byte is
/// written. It is called again with the first gap that the writing comes to.
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
    let mut sink = Stdout { ctx, allow, gaps: Gaps::default(), kernel: KernelCopy::default(), holes: false };
    read(source, pieces, &mut sink)?;
    let Stdout { ctx, gaps, holes, .. } = sink;
    if holes {
        ctx.end_holes()?;
    }
    Ok(gaps)
}

/// Refuses gaps if standard output is not a file that can have holes. `hint` names another way.
pub(crate) fn require_holes(gaps: &Gaps, base: Option<u64>, hint: &'static str, ctx: &mut Ctx) -> Result<()> {
    if ctx.can_have_holes()? {
        return Ok(());
    }
    let message = format!("{}; standard output is no file in which holes can be left", describe(gaps, base));
    Err(Failure::new("no-holes", message).hint(hint).into())
}

struct Stdout<'c, F> {
    ctx: &'c mut Ctx,
    allow: F,
    gaps: Gaps,
    kernel: KernelCopy,
    /// Whether holes were left in it, so that its length must be set at the end.
    holes: bool,
}

impl<F: Fn(&Gaps, &mut Ctx) -> Result<()>> Sink for Stdout<'_, F> {
    type Error = anyhow::Error;

    fn data(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.ctx.bytes(bytes)?)
    }

    fn copy_part(&mut self, _: u64, part: FilePart<'_>) -> Result<u64> {
        let out = self.ctx.raw()?;
        let mut done = 0_u64;
        loop {
            let copied = self.kernel.piece(part, done, &out, None);
            if copied == 0 {
                return Ok(done);
            }
            done = done.saturating_add(copied);
        }
    }

    fn zeros(&mut self, span: Span) -> Result<()> {
        if span.len >= HOLE && self.ctx.can_have_holes()? {
            self.holes = true;
            return Ok(self.ctx.hole(span.len)?);
        }
        Ok(self.ctx.zeros(span.len)?)
    }

    fn gap(&mut self, gap: Gap) -> Result<()> {
        if self.gaps.is_empty() {
            let mut first = Gaps::default();
            first.add(gap);
            (self.allow)(&first, self.ctx)?;
        }
        self.gaps.add(gap);
        self.holes = true;
        Ok(self.ctx.hole(gap.span.len)?)
    }
}
