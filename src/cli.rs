//! The command line: its declaration, and the way from it to a command and to the exit status.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::cmd;
use crate::ctx::{ColorWhen, Ctx};
use crate::exit::Exit;
use crate::{failure, interrupt, locking, multicall};

/// Tools for guestmemfs regions: memory that holds guests' RAM across kexec
///
/// A region is a range of memory, or a file with its bytes, that holds a few large files: the memory of virtual
/// machines. gmfs formats, fills, checks and shows regions in files, in /dev/mem of a running kernel, on devdax and
/// block devices, and in crash dumps.
#[derive(Debug, Parser)]
#[command(name = "gmfs", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_long_help = "Examples:
  gmfs mkfs region.img --size 1G
  gmfs put region.img guest.mem /guest.mem
  gmfs inspect region.img")]
pub(crate) struct Cli {
    /// When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto)]
    #[arg(hide_possible_values = true, hide_default_value = true, display_order = 900)]
    color: ColorWhen,
    #[command(subcommand)]
    command: Command,
}

/// Declares the commands: their order, and how each is run. `json` names those that print it when asked.
macro_rules! commands {
    ($( $(#[$attribute:meta])* $name:ident($module:ident) $($json:ident)?; )+) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $( $(#[$attribute])* $name(cmd::$module::Args), )+
        }

        impl Command {
            /// Whether answers, and errors too, are JSON.
            fn json(&self) -> bool {
                match self {
                    $( commands!(@pattern $name args $($json)?) => commands!(@json args $($json)?), )+
                }
            }

            fn run(&self, ctx: &mut Ctx) -> Result<Exit> {
                match self {
                    $( Self::$name(args) => cmd::$module::run(args, ctx), )+
                }
            }
        }
    };
    (@pattern $name:ident $args:ident json) => { Self::$name($args) };
    (@pattern $name:ident $args:ident) => { Self::$name(_) };
    (@json $args:ident json) => { $args.json };
    (@json $args:ident) => { false };
}

commands! {
    Mkfs(mkfs) json;
    Fsck(fsck) json;
    Repair(repair) json;
    Explain(explain) json;
    Inspect(inspect) json;
    Scan(scan) json;
    Save(save) json;
    Dump(dump) json;
    Restore(restore) json;
    Ls(ls) json;
    Tree(tree) json;
    Stat(stat) json;
    Cat(cat);
    Extract(extract) json;
    Map(map) json;
    Who(who) json;
    Create(create) json;
    Mkdir(mkdir) json;
    Put(put) json;
    Truncate(truncate) json;
    Mv(mv) json;
    Rm(rm) json;
    Bad(bad) json;
    Undo(undo) json;
    Inject(inject) json;
    #[command(hide = true)] Generate(generate);
}

/// The declaration of the command line.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let args = multicall::rewrite(args);
    let parsed = command().try_get_matches_from(&args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args).into(),
    };
    interrupt::survive_file_limit();
    // If that fails, opening memory says so.
    let _ = gmfs_image::mapped::survive_bus_errors();
    let mut ctx = Ctx::new(cli.color, cli.command.json());
    let done = cli.command.run(&mut ctx).and_then(|exit| {
        ctx.finish()?;
        Ok(exit)
    });
    // Also of a command that failed: that may be why.
    let settle = |exit| locking::settle(exit, &ctx);
    let done = match done {
        Ok(exit) => Ok(settle(exit)),
        Err(error) => {
            settle(Exit::Failed);
            Err(error)
        }
    };
    done.unwrap_or_else(|error| match (failure::report(&error, &mut ctx), &cli.command) {
        (Exit::Failed, Command::Fsck(_) | Command::Repair(_)) if interrupt::asked() => Exit::Fsck(cmd::fsck::CANCELLED),
        (Exit::Failed, Command::Fsck(_) | Command::Repair(_)) => Exit::Fsck(cmd::fsck::OPERATIONAL),
        (exit, _) => exit,
    })
    .into()
}

/// Help and version are answers; anything else is a command line that was not understood.
fn usage(error: &clap::Error, args: &[OsString]) -> Exit {
    // Whoever closed the pipe does not want to read it.
    let _ = error.print();
    let fsck = args.get(1).is_some_and(|command| command == "fsck" || command == "repair");
    match (error.use_stderr(), fsck) {
        (false, _) => Exit::Done,
        (true, true) => Exit::Fsck(cmd::fsck::USAGE),
        (true, false) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn everything_that_is_shown_is_explained() {
        for command in command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }
}
