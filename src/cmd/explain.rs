//! `gmfs explain`: what a finding means and how it is repaired.

use anyhow::Result;
use clap::Args as Arguments;
use gmfs_check::Code;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::json::{self, check};
use crate::render::style::{Role, paint};
use crate::render::table::Table;

/// Explain what a finding of fsck means and how it is repaired
///
/// Without a code, all problems are listed.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs explain GM0402
  gmfs explain owner-missing")]
pub(crate) struct Args {
    /// Codes (GM0402) or names (owner-missing) of problems
    #[arg(value_name = "CODE")]
    codes: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let codes = match args.codes.as_slice() {
        [] => Code::ALL.to_vec(),
        wanted => wanted.iter().map(|text| parse(text)).collect::<Result<_, _>>()?,
    };
    if args.json {
        let problems = codes.into_iter().map(check::Problem::from).collect();
        json::print(ctx, "explain", &check::Explain { problems })?;
    } else if args.codes.is_empty() {
        list(&codes, ctx)?;
    } else {
        for (n, code) in codes.into_iter().enumerate() {
            if n > 0 {
                ctx.line("")?;
            }
            explain(code, ctx)?;
        }
    }
    Ok(Exit::Done)
}

/// A code or a name as it is written on the command line.
pub(crate) fn parse(text: &str) -> Result<Code, Failure> {
    text.parse().map_err(|_| {
        Failure::new("unknown-code", format!("'{text}' is no problem's code or name"))
            .hint("`gmfs explain` lists them all")
    })
}

fn list(codes: &[Code], ctx: &mut Ctx) -> Result<()> {
    let mut table = Table::new(&["Code", "Name", "Severity", "Repair", "Since"]);
    for code in codes {
        table.row([code.text(), code.name(), code.severity().name(), code.repair().name(), code.since()]);
    }
    Ok(table.print(ctx)?)
}

/// The explanation with its headings as headings.
fn explain(code: Code, ctx: &mut Ctx) -> Result<()> {
    for line in code.explanation().lines() {
        match line.trim_start_matches('#') {
            heading if heading.len() < line.len() => {
                ctx.line(&paint(ctx.colour, Role::Heading, heading.trim()))?;
            }
            _ => ctx.line(line)?,
        }
    }
    let (severity, repair) = (code.severity().name(), code.repair().name());
    Ok(ctx.line(&format!("\nSeverity: {severity}. Repair: {repair}. Found since gmfs {}.", code.since()))?)
}
