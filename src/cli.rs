//! The command line: its declaration, how it selects and runs a command, and the exit status.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{ArgMatches, Args as _, FromArgMatches as _, Parser};

use crate::ctx::{ColorWhen, Ctx};
use crate::exit::{self, Exit};
use crate::{cmd, details, headings, interrupt, locking, multicall, report, suggest};

/// Tools for guestmemfs regions: memory that holds guests' RAM across kexec
///
/// A region is a range of memory, or a file with its bytes, that holds a few large files: the memory of virtual
/// machines. gmfs formats, fills, checks and shows regions in files, in /dev/mem of a running kernel, on devdax and
/// block devices, and in crash dumps.
#[derive(Debug, Parser)]
#[command(name = "gmfs", version, max_term_width = 100, arg_required_else_help = true, subcommand_required = true)]
#[command(after_long_help = "Examples:
  gmfs mkfs region.img --size 1G
  gmfs put region.img guest.mem /guest.mem
  gmfs inspect region.img")]
pub(crate) struct Cli {
    /// When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto)]
    #[arg(hide_possible_values = true, hide_default_value = true, display_order = 900)]
    color: ColorWhen,
    /// Print no notes, no progress and no word of success; warnings and errors remain
    #[arg(short, long, global = true, display_order = 901)]
    quiet: bool,
    /// Print more on standard error: what was opened and found, what changed, and how long it took
    #[arg(short, long, global = true, conflicts_with = "quiet", display_order = 902)]
    verbose: bool,
}

/// The parsed arguments of a command; it can be run with them.
trait Run {
    /// Whether answers and errors are printed as JSON.
    fn json(&self) -> bool;

    fn run(&self, ctx: &mut Ctx) -> Result<Exit>;
}

/// A command of the command line.
struct Entry {
    name: &'static str,
    /// Adds the command's options and help to a declaration that has only its name.
    declare: fn(clap::Command) -> clap::Command,
    parse: fn(&ArgMatches) -> Result<Box<dyn Run>, clap::Error>,
    hidden: bool,
}

/// Declares the commands in the order of the help: the module of each, `json` if it can print JSON, `hidden` if the help
/// does not list it.
macro_rules! commands {
    ($( $module:ident $($json:ident)?; )+) => {
        const COMMANDS: &[Entry] = &[$( Entry {
            name: stringify!($module),
            declare: cmd::$module::Args::augment_args,
            parse: |matches| Ok(Box::new(cmd::$module::Args::from_arg_matches(matches)?)),
            hidden: commands!(@hidden $($json)?),
        } ),+];

        $( impl Run for cmd::$module::Args {
            fn json(&self) -> bool {
                commands!(@json self $($json)?)
            }

            fn run(&self, ctx: &mut Ctx) -> Result<Exit> {
                cmd::$module::run(self, ctx)
            }
        } )+
    };
    (@json $args:ident json) => { $args.json };
    (@json $args:ident json_by_call) => { $args.json() };
    (@json $args:ident $($hidden:ident)?) => { false };
    (@hidden hidden) => { true };
    (@hidden $($json:ident)?) => { false };
}

commands! {
    mkfs json;
    fsck json;
    repair json;
    explain json;
    inspect json;
    scan json;
    save json;
    dump json;
    restore json;
    ls json;
    tree json;
    stat json;
    cat;
    extract json;
    map json;
    who json;
    df json;
    metrics json;
    report json;
    create json;
    mkdir json;
    put json;
    cp json;
    truncate json;
    mv json;
    rm json;
    chmod json;
    chown json;
    tune json;
    seal json;
    unseal json;
    verify json;
    diff json;
    vm json_by_call;
    bad json;
    undo json;
    inject json;
    plan json;
    preflight json;
    kho json;
    mount;
    umount;
    completions;
    man;
    complete hidden;
}

/// The declaration of the command line.
pub(crate) fn command() -> clap::Command {
    declaration(COMMANDS.iter())
}

/// The declaration with these commands only. Declaring all of them takes longer than most commands run.
fn declaration<'e>(entries: impl Iterator<Item = &'e Entry>) -> clap::Command {
    let root = <Cli as clap::CommandFactory>::command();
    root.subcommands(entries.map(|entry| {
        let command = (entry.declare)(clap::Command::new(entry.name)).hide(entry.hidden);
        if entry.name != "inject" {
            return command;
        }
        // `mut_arg` would move the changed argument to the end of the list.
        command.mut_args(|arg| if arg.get_id() == "image" { arg.help("Region file") } else { arg })
    }))
}

/// A command line that was understood.
struct Parsed {
    cli: Cli,
    name: &'static str,
    args: Box<dyn Run>,
}

fn parse(args: &[OsString]) -> Result<Parsed, clap::Error> {
    let called = args.get(1).and_then(|called| called.to_str());
    let version = args.len() == 2 && matches!(called, Some("--version" | "-V"));
    let entry = COMMANDS.iter().find(|entry| Some(entry.name) == called);
    if version || entry.is_some() {
        match parse_with(declaration(entry.into_iter()), args) {
            Err(error) if !version => drop(error),
            done => return done,
        }
    }
    // Help and suggestions mention other commands, so they need all declarations.
    parse_with(headings::with_headings(command()), args)
}

fn parse_with(command: clap::Command, args: &[OsString]) -> Result<Parsed, clap::Error> {
    let mut command = command;
    let matches = command.try_get_matches_from_mut(args)?;
    let of = |error: clap::Error, command: &mut clap::Command| error.format(command);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| of(error, &mut command))?;
    let found = matches.subcommand();
    let entry = found.and_then(|(name, matches)| Some((COMMANDS.iter().find(|entry| entry.name == name)?, matches)));
    let Some((entry, matches)) = entry else {
        return Err(command.error(clap::error::ErrorKind::MissingSubcommand, "no command was given"));
    };
    let args = (entry.parse)(matches).map_err(|error| of(error, &mut command))?;
    Ok(Parsed { cli, name: entry.name, args })
}

/// Runs the program.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let args = multicall::rewrite(args);
    let Parsed { cli, name, args } = match parse(&args) {
        Ok(parsed) => parsed,
        Err(error) => return usage(error, &args).into(),
    };
    interrupt::survive_file_limit();
    // If this fails, opening memory reports the error.
    let _ = gmfs_image::mapped::survive_bus_errors();
    let began = Instant::now();
    let mut ctx = Ctx::new(cli.color, args.json(), cli.quiet);
    (ctx.verbose, ctx.declaration) = (cli.verbose, command);
    let done = args.run(&mut ctx).and_then(|exit| {
        ctx.finish()?;
        Ok(exit)
    });
    // Also done after a failed command: a change of the region while it was read may have caused the failure.
    let settle = |exit| locking::settle(exit, &ctx);
    let done = match done {
        Ok(exit) => Ok(settle(exit)),
        Err(error) => {
            settle(Exit::Failed);
            Err(error)
        }
    };
    let exit = done.unwrap_or_else(|error| match (report::report(&error, &mut ctx), name) {
        (Exit::Failed, "fsck" | "repair") if interrupt::asked() => Exit::Fsck(exit::CANCELLED),
        (Exit::Failed, "fsck" | "repair") => Exit::Fsck(exit::OPERATIONAL),
        (exit, _) => exit,
    });
    details::ended(name, exit, began.elapsed(), &ctx);
    exit.into()
}

/// The value of --color on a command line that was not understood, or asks for help.
fn color(args: &[OsString]) -> ColorWhen {
    let options = args.iter().take_while(|arg| *arg != "--");
    let values = options.clone().zip(options.skip(1)).filter_map(|(option, next)| {
        let value = option.to_str()?.strip_prefix("--color")?;
        Some(value.strip_prefix('=').map_or(next.as_os_str(), OsStr::new))
    });
    let last = args.last().and_then(|arg| arg.to_str()?.strip_prefix("--color=")).map(OsStr::new);
    let value = values.chain(last).last().and_then(OsStr::to_str);
    value.and_then(|value| clap::ValueEnum::from_str(value, false).ok()).unwrap_or_default()
}

/// Help and version are answers; anything else is a command line that was not understood.
fn usage(error: clap::Error, args: &[OsString]) -> Exit {
    let error = suggest::improve(error, command);
    let text = error.render();
    let text = |terminal| if color(args).shows_colour(terminal) { text.ansi().to_string() } else { text.to_string() };
    if error.use_stderr() {
        // If this cannot be written, there is nowhere left to report that.
        let _ = io::stderr().write_all(text(io::stderr().is_terminal()).as_bytes());
    } else {
        let mut ctx = Ctx::new(ColorWhen::Never, false, false);
        let text = text(io::stdout().is_terminal());
        if let Err(error) = ctx.bytes(text.as_bytes()).and_then(|()| ctx.finish()) {
            return report::report(&error.into(), &mut ctx);
        }
    }
    let fsck = args.get(1).is_some_and(|command| command == "fsck" || command == "repair");
    match (error.use_stderr(), fsck) {
        (false, _) => Exit::Done,
        (true, true) => Exit::Fsck(exit::USAGE),
        (true, false) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands that by their nature print no JSON.
    const NO_JSON: [&str; 6] = ["cat", "completions", "man", "mount", "umount", "vm run"];

    /// Options that say what IMAGE is and how it is read.
    const IMAGE_OPTIONS: [&str; 7] = ["region", "parts", "base", "wait", "holes", "over", "no_lock"];

    /// Commands that change a region.
    const CHANGES: [&str; 21] = [
        "chmod",
        "cp",
        "chown",
        "tune",
        "mkfs",
        "fsck",
        "repair",
        "restore",
        "create",
        "mkdir",
        "put",
        "truncate",
        "mv",
        "rm",
        "seal",
        "unseal",
        "bad add",
        "bad del",
        "bad import",
        "undo",
        "inject",
    ];

    /// All commands that run something, with all of their arguments, by the names that a user types.
    fn commands() -> Vec<(String, clap::Command)> {
        let mut root = command();
        root.build();
        let shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
        let mut all = Vec::new();
        for command in root.get_subcommands().filter(shown) {
            if command.has_subcommands() {
                let below = command.get_subcommands().filter(shown);
                all.extend(below.map(|below| (format!("{} {}", command.get_name(), below.get_name()), below.clone())));
            } else {
                all.push((command.get_name().to_owned(), command.clone()));
            }
        }
        assert!(all.len() > 25, "{}", all.len());
        all
    }

    fn option<'c>(command: &'c clap::Command, long: &str) -> Option<&'c clap::Arg> {
        let named = |arg: &clap::Arg| {
            let aliases = arg.get_visible_aliases().unwrap_or_default();
            arg.get_long() == Some(long) || aliases.contains(&long)
        };
        command.get_arguments().find(|arg| named(arg) && !arg.is_hide_set())
    }

    #[test]
    fn the_declaration_holds_together() {
        command().debug_assert();
        for entry in COMMANDS {
            declaration(std::iter::once(entry)).debug_assert();
        }
    }

    #[test]
    fn everything_that_is_shown_is_explained() {
        for (name, command) in commands() {
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
        }
    }

    #[test]
    fn commands_are_consistent() {
        let mut broken = std::collections::BTreeSet::new();
        for (name, command) in commands() {
            let mut rule = |rule: &'static str, holds: bool| {
                if !holds {
                    broken.insert((name.clone(), rule));
                }
            };
            let has =
                |long: &str, short: char| option(&command, long).is_some_and(|arg| arg.get_short() == Some(short));
            let spelled = |long: &str, short: char| option(&command, long).is_none() || has(long, short);
            let image = command.get_positionals().position(|arg| arg.get_id() == "image");
            rule("IMAGE comes first", matches!(image, None | Some(0)));
            rule("-s/--size", spelled("size", 's'));
            rule("-f/--force", spelled("force", 'f'));
            rule("-q/--quiet", has("quiet", 'q'));
            rule("-v/--verbose", has("verbose", 'v'));
            rule("-o/--output FILE", spelled("output", 'o'));
            rule("-y/--yes", spelled("yes", 'y'));
            let json = option(&command, "json").is_some();
            rule("--json", json != NO_JSON.contains(&name.as_str()));
            if CHANGES.contains(&name.as_str()) {
                rule("-n/--dry-run", has("dry-run", 'n'));
                rule("--undo", option(&command, "undo").is_some());
            }
            // Options of IMAGE are listed under their own heading, and only in commands that have an IMAGE.
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let of_image =
                    IMAGE_OPTIONS.contains(&arg.get_id().as_str()) && !(name == "mkfs" && arg.get_id() == "base");
                rule("options of IMAGE have a heading", of_image == arg.get_help_heading().is_some());
                rule("options of IMAGE only with an IMAGE", !of_image || image.is_some());
            }
        }
        assert!(broken.is_empty(), "rules of the command line are broken: {broken:?}");
    }

    /// The commands of the examples in help texts and manual pages.
    #[test]
    fn every_example_is_understood() {
        let mut root = command();
        root.build();
        let mut tried = 0;
        for command in std::iter::once(&root).chain(root.get_subcommands().filter(|command| !command.is_hide_set())) {
            if command.get_name() == "help" {
                continue;
            }
            let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let before = tried;
            for line in examples.lines().skip(1) {
                for part in line.split(['|', '(', ')']).map(str::trim).filter(|part| part.starts_with("gmfs ")) {
                    let words = part.split_whitespace().take_while(|word| !word.starts_with(['>', '&']));
                    let parsed = parse(&words.map(OsString::from).collect::<Vec<_>>());
                    assert!(parsed.is_ok(), "{}: {part}: {}", command.get_name(), parsed.err().unwrap());
                    tried += 1;
                }
            }
            assert!(tried > before, "{} has no example", command.get_name());
        }
    }

    /// A command that is declared alone has the same declaration as among all of them.
    #[test]
    fn one_command_is_declared_as_among_all_of_them() {
        for entry in COMMANDS {
            let mut all = command();
            all.build();
            let mut one = declaration(std::iter::once(entry));
            one.build();
            let help = |root: &clap::Command| {
                let mut command = root.find_subcommand(entry.name).unwrap().clone();
                (command.render_long_help().to_string(), command.render_usage().to_string())
            };
            assert_eq!(help(&all), help(&one), "{}", entry.name);
        }
    }

    #[test]
    fn the_wish_for_colours_is_found_in_what_was_not_understood() {
        let color = |line: &str| color(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(color("gmfs fsck --bogus --color never"), ColorWhen::Never);
        assert_eq!(color("gmfs --color=always fsck --bogus"), ColorWhen::Always);
        assert_eq!(color("gmfs fsck --color=never"), ColorWhen::Never);
        assert_eq!(color("gmfs fsck --color always --color never --bogus"), ColorWhen::Never);
        for auto in ["gmfs ls --color", "gmfs ls --color sometimes", "gmfs ls -- --color never", "gmfs"] {
            assert_eq!(color(auto), ColorWhen::Auto, "{auto}");
        }
    }
}
