//! `gmfs generate`: man pages and completions out of the command line's own declaration. Hidden: a packager's tool.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::render::VERSION;

/// Write man pages or completions
#[derive(Arguments, Debug)]
pub(crate) struct Args {
    /// What to write
    what: What,
    /// The directory to write them into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Man pages, section 8
    Man,
    /// Completions for bash, zsh and fish
    Completions,
}

/// Pages that are other names of a command's.
const ALIASES: [(&str, &str); 4] =
    [("mkfs.gmfs", "mkfs"), ("mkfs.guestmemfs", "mkfs"), ("fsck.gmfs", "fsck"), ("fsck.guestmemfs", "fsck")];

const EXIT_STATUS: &str = "\
.SH \"EXIT STATUS\"
.TP
\\fB0\\fR
Done.
.TP
\\fB1\\fR
Done, and the answer is no, or not all of it could be told.
.TP
\\fB2\\fR
It could not be done, or the command line was not understood.
";

const EXIT_STATUS_FSCK: &str = "\
.SH \"EXIT STATUS\"
The sum of: \\fB0\\fR clean, \\fB1\\fR repaired, \\fB4\\fR left unrepaired, \\fB8\\fR operational error, \\fB16\\fR usage,
\\fB32\\fR cancelled.
";

pub(crate) fn run(args: &Args, _: &mut Ctx) -> Result<Exit> {
    let cannot = || format!("cannot write into {}", args.out.display());
    fs::create_dir_all(&args.out).with_context(cannot)?;
    let mut command = cli::command();
    command.build();
    match args.what {
        What::Man => pages(&command, &args.out).with_context(cannot)?,
        What::Completions => completions(&args.out).with_context(cannot)?,
    }
    Ok(Exit::Done)
}

fn completions(out: &Path) -> Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::command(), "gmfs", out)?;
    }
    Ok(())
}

fn pages(command: &Command, out: &Path) -> Result<()> {
    let shown: Vec<&Command> =
        command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help").collect();
    page(command.clone(), "gmfs", &shown, out)?;
    for subcommand in &shown {
        let name = format!("gmfs-{}", subcommand.get_name());
        // Its own name for the page, the two words for the synopsis.
        let usage = format!("gmfs {}", subcommand.get_name());
        let command = (*subcommand).clone().display_name(name.clone()).bin_name(usage);
        page(command, &name, &[], out)?;
    }
    for (alias, of) in ALIASES {
        if shown.iter().any(|command| command.get_name() == of) {
            fs::write(out.join(format!("{alias}.8")), format!(".so man8/gmfs-{of}.8\n"))?;
        }
    }
    Ok(())
}

/// One page. The parts are clap_mangen's; examples and exit status are sections of their own.
fn page(command: Command, name: &str, subcommands: &[&Command], out: &Path) -> Result<()> {
    let examples = command.get_after_long_help().map(ToString::to_string);
    let man = Man::new(command).section("8");
    let mut text = Vec::new();
    // Without a date, so that the same version makes the same page on any day.
    writeln!(text, ".TH \"{}\" \"8\" \"\" \"gmfs {VERSION}\" \"gmfs\"", name.to_uppercase())?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if !subcommands.is_empty() {
        writeln!(text, ".SH COMMANDS")?;
        for command in subcommands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            writeln!(text, ".TP\n\\fBgmfs\\-{}\\fR(8)\n{}", command.get_name(), roff(&about))?;
        }
    }
    let fsck = ["gmfs-fsck", "gmfs-repair"].contains(&name);
    text.extend_from_slice(if fsck { EXIT_STATUS_FSCK } else { EXIT_STATUS }.as_bytes());
    if let Some(examples) = examples {
        let lines = examples.lines().skip(1).map(|line| roff(line.trim_start()));
        let lines: Vec<String> = lines.collect();
        writeln!(text, ".SH EXAMPLES\n.nf\n{}\n.fi", lines.join("\n"))?;
    }
    if name != "gmfs" {
        writeln!(text, ".SH \"SEE ALSO\"\n\\fBgmfs\\fR(8)")?;
    }
    fs::write(out.join(format!("{name}.8")), text)?;
    Ok(())
}

/// Text that roff takes for nothing but text.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
