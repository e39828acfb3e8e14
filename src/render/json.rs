//! Prints the JSON documents of [`gmfs_json`].

use serde::Serialize;

use crate::ctx::{Ctx, OutputError};
use crate::render::VERSION;

pub(crate) use gmfs_json::*;

/// Prints the answer of a command.
pub(crate) fn print<T: Serialize>(ctx: &mut Ctx, command: &str, body: &T) -> Result<(), OutputError> {
    write(ctx.writer(), command, VERSION, body)?;
    ctx.line("")
}

/// Prints an operational error.
pub(crate) fn error(
    ctx: &mut Ctx,
    code: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
) -> Result<(), OutputError> {
    print(ctx, "error", &ErrorBody { error: Told { code: code.into(), message, causes, hint } })
}
