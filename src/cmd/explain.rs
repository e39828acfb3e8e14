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
use crate::render::{size, wrap};

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
    ctx.detail(&format!("{} of {}", codes.len(), size::count(Code::ALL.len() as u64, "problem")));
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
    let mut table = Table::new(&["Code", "Name", "Severity", "Repair", "Since"]).dispensable(&["Since", "Repair"]);
    for code in codes {
        table.row([code.text(), code.name(), code.severity().name(), code.repair().name(), code.since()]);
    }
    Ok(table.print(ctx)?)
}

/// Prints the explanation, with its headings in the style of headings.
fn explain(code: Code, ctx: &mut Ctx) -> Result<()> {
    for line in fitted(code.explanation(), ctx.width) {
        match line.trim_start_matches('#') {
            heading if heading.len() < line.len() => {
                ctx.line(&paint(ctx.colour, Role::Heading, heading.trim()))?;
            }
            _ => ctx.line(&line)?,
        }
    }
    let (severity, repair) = (code.severity().name(), code.repair().name());
    Ok(ctx.line(&format!("\nSeverity: {severity}. Repair: {repair}. Found since gmfs {}.", code.since()))?)
}

/// The lines of a text in Markdown; where a terminal is too narrow for one of them, each paragraph is filled again.
fn fitted(text: &str, width: Option<u16>) -> Vec<String> {
    let narrow = |width: &u16| text.lines().any(|line| line.chars().count() > usize::from(*width));
    let Some(width) = width.filter(narrow) else { return text.lines().map(str::to_owned).collect() };
    let mut paragraphs: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let item = line.trim_start().starts_with("- ");
        // Headings, indented text and empty lines stand alone.
        let alone = line.is_empty() || line.starts_with('#') || line.starts_with("    ");
        match paragraphs.last_mut() {
            Some(last) if open && !item && !alone => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => paragraphs.push(line.to_owned()),
        }
        open = !alone;
    }
    let indent = |text: &str| if text.starts_with("- ") { 2 } else { 0 };
    let lines = paragraphs.iter().flat_map(|text| {
        let text = if text.starts_with("    ") { text.clone() } else { wrap::hang(text, Some(width), indent(text)) };
        text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter().chain(text.is_empty().then(String::new))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_fit_the_terminal() {
        let text = "# A b\n\none two three\nfour\n\n- five six seven\n  eight\n- nine\n";
        assert_eq!(fitted(text, None).join("\n"), text.trim_end());
        assert_eq!(fitted(text, Some(80)).join("\n"), text.trim_end());
        let filled = "# A b\n\none two\nthree four\n\n- five six\n  seven\n  eight\n- nine";
        assert_eq!(fitted(text, Some(10)).join("\n"), filled);
        for code in Code::ALL {
            let longest = fitted(code.explanation(), Some(60)).iter().map(|line| line.chars().count()).max();
            assert!(longest <= Some(60), "{code}");
        }
    }
}
