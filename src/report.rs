//! Reports errors to users and to programs.

use std::io::Write as _;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{self, OutputError, printable};
use crate::line;
use crate::render::json;

/// Reports the error that ended a command, and returns the exit status.
pub(crate) fn report(error: &anyhow::Error, ctx: &mut Ctx) -> Exit {
    let output = error.downcast_ref::<OutputError>();
    if output.is_some_and(OutputError::is_broken_pipe) {
        return Exit::Done;
    }
    let (code, hint) = failure::told(error).unwrap_or(("failed", None));
    // Standard output itself may be what failed.
    if ctx.json && output.is_none() {
        let causes = error.chain().skip(1).map(|cause| printable(&cause.to_string())).collect();
        let told = json::error(ctx, code, printable(&error.to_string()), causes, hint.clone());
        if told.and_then(|()| ctx.finish()).is_ok() {
            return Exit::Failed;
        }
    }
    tell(error);
    Exit::Failed
}

/// Reports an error on standard error, while the command goes on.
pub(crate) fn tell(error: &anyhow::Error) {
    let mut text = format!("gmfs: {}\n", printable(&format!("{error:#}")));
    if let Some((_, Some(hint))) = failure::told(error) {
        text.push_str(&format!("  next: {}\n", printable(&hint)));
    }
    line::clear();
    let _ = std::io::stderr().write_all(text.as_bytes());
}
