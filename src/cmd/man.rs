//! `gmfs man`: makes manual pages from the declaration of the command line.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use clap::{Arg, ArgAction, Args as Arguments, Command};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::headings;
use crate::multicall;
use crate::render::VERSION;

/// Print the manual page of a command
///
/// Without COMMAND it is the page of gmfs itself, which lists the commands. The page is in roff, also on a terminal:
/// man -l - shows it.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs man fsck | man -l -
  gmfs man mkfs.gmfs > /usr/local/share/man/man8/mkfs.gmfs.8")]
pub(crate) struct Args {
    /// A command, or another name of the program, such as fsck.gmfs
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let name = args.command.as_deref().unwrap_or("gmfs");
    let name = name.strip_prefix("gmfs-").unwrap_or(name);
    let mut root = (ctx.declaration)();
    root.build();
    let Some(page) = Page::find(&root, name) else {
        let failure = Failure::new("unknown-command", format!("'{name}' is no command of gmfs"));
        return Err(failure.hint("`gmfs --help` lists the commands").into());
    };
    ctx.detail(&format!("the page of {name}, made from the options of gmfs {VERSION}"));
    ctx.bytes(page.text().as_bytes())?;
    Ok(Exit::Done)
}

/// Environment variables that the program reads, and what for. `true` marks those that matter only to commands that
/// write.
const ENVIRONMENT: [(&str, bool, &str); 4] = [
    (
        "COLUMNS",
        false,
        "Width of tables on a terminal, instead of its own, and of help texts where standard output is no terminal.",
    ),
    ("NO_COLOR", false, "If set and not empty, no colours are used unless --color=always is given."),
    ("SOURCE_DATE_EPOCH", true, "Seconds since 1970 that are recorded as the present time in what is written."),
    ("TERM", false, "If it is dumb, no colours are used unless --color=always is given."),
];

/// Commands that a reader of a page may want next.
const RELATED: &[(&str, &[&str])] = &[
    ("mkfs", &["gmfs-fsck", "gmfs-put", "gmfs-undo"]),
    ("fsck", &["gmfs-repair", "gmfs-explain", "gmfs-undo", "fsck"]),
    ("repair", &["gmfs-fsck", "gmfs-explain", "gmfs-undo"]),
    ("explain", &["gmfs-fsck"]),
    ("inspect", &["gmfs-fsck", "gmfs-scan", "gmfs-ls"]),
    ("scan", &["gmfs-inspect", "gmfs-save"]),
    ("save", &["gmfs-dump", "gmfs-extract", "gmfs-scan"]),
    ("dump", &["gmfs-restore", "gmfs-save"]),
    ("restore", &["gmfs-dump", "gmfs-undo"]),
    ("ls", &["gmfs-tree", "gmfs-stat"]),
    ("tree", &["gmfs-ls"]),
    ("stat", &["gmfs-ls", "gmfs-map"]),
    ("cat", &["gmfs-extract"]),
    ("extract", &["gmfs-cat", "gmfs-put", "gmfs-save"]),
    ("map", &["gmfs-who", "gmfs-stat"]),
    ("who", &["gmfs-map", "gmfs-bad"]),
    ("create", &["gmfs-put", "gmfs-truncate"]),
    ("mkdir", &["gmfs-rm"]),
    ("put", &["gmfs-create", "gmfs-extract"]),
    ("truncate", &["gmfs-create"]),
    ("mv", &["gmfs-rm"]),
    ("rm", &["gmfs-mv", "gmfs-mkdir"]),
    ("seal", &["gmfs-verify", "gmfs-unseal"]),
    ("unseal", &["gmfs-seal"]),
    ("verify", &["gmfs-seal", "gmfs-diff", "gmfs-fsck", "gmfs-who"]),
    ("diff", &["gmfs-verify", "gmfs-save", "gmfs-dump"]),
    ("vm", &["gmfs-map", "gmfs-verify", "gmfs-seal"]),
    ("bad", &["gmfs-who", "gmfs-fsck"]),
    ("undo", &["gmfs-fsck", "gmfs-mkfs", "gmfs-restore"]),
    ("inject", &["gmfs-explain", "gmfs-fsck"]),
    ("mount", &["gmfs-umount", "gmfs-extract", "gmfs-cat"]),
    ("umount", &["gmfs-mount"]),
];

/// A manual page.
struct Page<'c> {
    /// The name of the page, and its other names.
    names: Vec<String>,
    /// How a command line begins.
    usage: String,
    command: &'c Command,
    /// The page of gmfs itself.
    root: bool,
}

impl<'c> Page<'c> {
    fn find(root: &'c Command, name: &str) -> Option<Self> {
        if name == "gmfs" {
            return Some(Self { names: vec![name.to_owned()], usage: name.to_owned(), command: root, root: true });
        }
        if let Some(of) = multicall::command(name) {
            let all = multicall::NAMES.iter().filter(|(_, command)| *command == of).map(|(name, _)| (*name).to_owned());
            let names: Vec<String> = all.collect();
            let usage = names.first()?.clone();
            return Some(Self { names, usage, command: root.find_subcommand(of)?, root: false });
        }
        let command = root.find_subcommand(name).filter(|command| !command.is_hide_set() && name != "help")?;
        let names = vec![format!("gmfs-{name}")];
        Some(Self { names, usage: format!("gmfs {name}"), command, root: false })
    }

    /// The subcommands that have synopses and arguments of their own on this page.
    fn actions(&self) -> Vec<&'c Command> {
        let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
        self.command.get_subcommands().filter(shown).collect()
    }

    /// The commands whose arguments are on this page.
    fn commands(&self) -> Vec<&'c Command> {
        if self.root { vec![self.command] } else { std::iter::once(self.command).chain(self.actions()).collect() }
    }

    fn has(&self, id: &str) -> bool {
        self.commands().iter().any(|command| visible(command).any(|arg| arg.get_id() == id))
    }

    fn text(&self) -> String {
        let mut out = String::new();
        // Without a date, so that the same version makes the same page on any day.
        let title = self.names.first().map_or("", String::as_str).to_uppercase();
        line(&mut out, &format!(".TH {} 8 \"\" \"gmfs {VERSION}\" \"System Administration\"", roff(&title)));
        let about = self.command.get_about().map(ToString::to_string).unwrap_or_default();
        let names: Vec<String> = self.names.iter().map(|name| roff(name)).collect();
        line(&mut out, &format!(".SH NAME\n{} \\- {}", names.join(", "), roff(&lowered(&about))));
        self.synopsis(&mut out);
        line(&mut out, ".SH DESCRIPTION");
        let long = self.command.get_long_about().or(self.command.get_about());
        paragraphs(&mut out, &long.map(ToString::to_string).unwrap_or_default(), ".PP");
        if self.root {
            self.list(&mut out);
        }
        self.arguments(&mut out);
        self.environment(&mut out);
        self.files(&mut out);
        self.exit_status(&mut out);
        self.examples(&mut out);
        self.see_also(&mut out);
        out
    }

    fn synopsis(&self, out: &mut String) {
        line(out, ".SH SYNOPSIS");
        if self.root {
            line(out, ".B gmfs\n.I COMMAND\n[\\fIARGUMENT\\fR ...]\n.br\n.B gmfs\n.RB [ \\-\\-help | \\-\\-version ]");
            return;
        }
        let actions = self.actions();
        let commands = if actions.is_empty() { vec![self.command] } else { actions };
        for (n, command) in commands.into_iter().enumerate() {
            if n > 0 {
                line(out, ".br");
            }
            let mut usage = self.usage.clone();
            if command.get_name() != self.command.get_name() {
                let _ = write!(usage, " {}", command.get_name());
            }
            line(out, &format!(".B {}", roff(&usage)));
            for option in visible(command).filter(|arg| !arg.is_positional()) {
                let names = option_names(option).join("|");
                let text = format!("{names}{}", value(option));
                line(out, &if option.is_required_set() { text } else { format!("[{text}]") });
            }
            for operand in visible(command).filter(|arg| arg.is_positional()) {
                line(out, &shown_operand(operand));
            }
        }
    }

    /// The commands, on the page of gmfs itself.
    fn list(&self, out: &mut String) {
        line(out, ".SH COMMANDS");
        for (heading, commands) in headings::sorted(self.command) {
            line(out, &format!(".SS \"{}\"", roff(heading)));
            for command in commands.into_iter().filter(|command| command.get_name() != "help") {
                let about = command.get_about().map(ToString::to_string).unwrap_or_default();
                line(out, &format!(".TP\n\\fBgmfs\\-{}\\fR(8)\n{}", command.get_name(), roff(&about)));
            }
        }
    }

    fn arguments(&self, out: &mut String) {
        let mut known = BTreeSet::new();
        for (n, command) in self.commands().into_iter().enumerate() {
            if n > 0 {
                line(
                    out,
                    &format!(".SH \"{} {}\"", roff(&self.usage.to_uppercase()), command.get_name().to_uppercase()),
                );
                paragraphs(out, &command.get_about().map(ToString::to_string).unwrap_or_default(), ".PP");
            }
            let operands: Vec<&Arg> = visible(command).filter(|arg| arg.is_positional()).collect();
            if !operands.is_empty() {
                line(out, if n > 0 { ".SS Operands" } else { ".SH OPERANDS" });
                for operand in operands {
                    entry(out, &shown_operand(operand), operand);
                }
            }
            // Options that all of them have are listed once.
            let options = visible(command).filter(|arg| !arg.is_positional());
            let common = |arg: &Arg| arg.is_global_set() || arg.get_id() == "help";
            let options: Vec<&Arg> = options.filter(|arg| !common(arg) || known.insert(arg.get_id().clone())).collect();
            let mut headings: Vec<Option<&str>> = Vec::new();
            for option in &options {
                if !headings.contains(&option.get_help_heading()) {
                    headings.push(option.get_help_heading());
                }
            }
            headings.sort();
            for heading in headings {
                match (heading, n) {
                    (None, 0) => line(out, ".SH OPTIONS"),
                    (None, _) => line(out, ".SS Options"),
                    (Some(heading), _) => line(out, &format!(".SS \"{}\"", roff(heading))),
                }
                for option in options.iter().filter(|option| option.get_help_heading() == heading) {
                    entry(out, &format!("{}{}", option_names(option).join(", "), value(option)), option);
                }
            }
        }
    }

    fn environment(&self, out: &mut String) {
        let writes = self.root || ["in_use_ok", "undo", "output"].iter().any(|id| self.has(id));
        line(out, ".SH ENVIRONMENT");
        for (name, only_writers, what) in ENVIRONMENT {
            if !only_writers || writes {
                line(out, &format!(".TP\n.B {name}\n{}", roff(what)));
            }
        }
    }

    fn files(&self, out: &mut String) {
        let mut files = Vec::new();
        if self.has("image") || self.root {
            files.push(("/dev/mem", "The memory of the running kernel, which can be IMAGE."));
            files
                .push(("/proc/cmdline", "Where the parameter guestmemfs= tells which part of /dev/mem the region is."));
            files.push(("/proc/iomem", "Tells which ranges of /dev/mem may be read and written."));
        }
        if ["in_use", "in_use_ok"].iter().any(|id| self.has(id)) || self.root {
            files.push(("/proc/PID/maps", "Tells which processes have memory of the region mapped."));
        }
        if ["output", "undo"].iter().any(|id| self.has(id)) || self.command.get_name() == "extract" {
            files.push(("FILE.partial", "A file that is being made. It gets its own name when it is whole."));
        }
        if files.is_empty() {
            return;
        }
        line(out, ".SH FILES");
        for (name, what) in files {
            line(out, &format!(".TP\n.I {}\n{}", roff(name), roff(what)));
        }
    }

    fn exit_status(&self, out: &mut String) {
        line(out, ".SH \"EXIT STATUS\"");
        const FSCK: &[(&str, &str)] = &[
            ("0", "The region is clean."),
            ("1", "Problems were repaired."),
            ("4", "Problems are left."),
            ("8", "The check could not be done, or not to its end."),
            ("16", "The command line was not understood."),
            ("32", "The user cancelled it."),
        ];
        const OTHER: &[(&str, &str)] = &[
            ("0", "Done."),
            ("1", "Done, and the answer is no, or is not complete."),
            ("2", "It could not be done, or the command line was not understood."),
        ];
        let sum = ["fsck", "repair"].contains(&self.command.get_name());
        if sum {
            line(out, "The sum of these:");
        } else if self.root {
            line(out, "gmfs\\-fsck(8) and gmfs\\-repair(8) have statuses of their own. All others end with:");
        }
        // These commands only print texts of their own.
        let plain = ["explain", "completions", "man"].contains(&self.command.get_name());
        for (status, what) in if sum { FSCK } else { OTHER } {
            if !(plain && *status == "1") {
                line(out, &format!(".TP\n.B {status}\n{}", roff(what)));
            }
        }
    }

    fn examples(&self, out: &mut String) {
        let Some(text) = self.command.get_after_long_help() else { return };
        let text = text.to_string();
        let lines = text.lines().skip(1).map(|line| roff(line.trim_start()));
        line(out, &format!(".SH EXAMPLES\n.EX\n{}\n.EE", lines.collect::<Vec<_>>().join("\n")));
    }

    fn see_also(&self, out: &mut String) {
        line(out, ".SH \"SEE ALSO\"");
        let name = self.command.get_name();
        let related = RELATED.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, related)| related);
        let mut pages: Vec<&str> = if self.root {
            vec!["mkfs.gmfs", "fsck.gmfs", "mkfs", "fsck"]
        } else {
            std::iter::once("gmfs").chain(related.iter().copied()).collect()
        };
        pages.retain(|page| !self.names.iter().any(|name| name == page));
        let pages: Vec<String> = pages.iter().map(|page| format!(".BR {} (8)", roff(page))).collect();
        line(out, &pages.join(" ,\n"));
    }
}

/// The arguments that are shown, in the order of the help.
fn visible(command: &Command) -> impl Iterator<Item = &Arg> {
    let mut arguments: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    let last = |arg: &Arg| arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
    arguments.sort_by_key(|arg| last(arg));
    arguments.into_iter()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Text in paragraphs, with `between` between them.
fn paragraphs(out: &mut String, text: &str, between: &str) {
    let mut first = true;
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        if !first {
            line(out, between);
        }
        first = false;
        for text in paragraph.lines() {
            line(out, &roff(text.trim()));
        }
    }
}

/// An option or operand with its help text.
fn entry(out: &mut String, head: &str, arg: &Arg) {
    line(out, &format!(".TP\n{head}"));
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    paragraphs(out, &help, ".IP");
    let values: Vec<_> = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
    if takes_value(arg) && !arg.is_hide_possible_values_set() && !values.is_empty() {
        line(out, ".RS");
        for value in values {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            line(out, &format!(".TP\n.B {}\n{}", roff(value.get_name()), roff(&help)));
        }
        line(out, ".RE");
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value(arg) && !arg.is_hide_default_value_set() && !defaults.is_empty() {
        line(out, &format!(".IP\nDefault: {}", roff(&defaults.join(" "))));
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn option_names(option: &Arg) -> Vec<String> {
    let short = option.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = option.get_long().map(|long| format!("\\fB{}\\fR", roff(&format!("--{long}"))));
    short.into_iter().chain(long).collect()
}

fn value_name(arg: &Arg) -> String {
    let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    roff(&name.unwrap_or_else(|| arg.get_id().as_str().to_uppercase()))
}

/// An option's value after its name.
fn value(option: &Arg) -> String {
    if !takes_value(option) {
        return String::new();
    }
    let equals = option.is_require_equals_set();
    let optional = option.get_num_args().is_some_and(|range| range.min_values() == 0);
    match (optional, equals) {
        (true, _) => format!("[=\\fI{}\\fR]", value_name(option)),
        (false, true) => format!("=\\fI{}\\fR", value_name(option)),
        (false, false) => format!(" \\fI{}\\fR", value_name(option)),
    }
}

fn shown_operand(operand: &Arg) -> String {
    let many = matches!(operand.get_action(), ArgAction::Append);
    let name = format!("\\fI{}\\fR{}", value_name(operand), if many { " ..." } else { "" });
    if operand.is_required_set() { name } else { format!("[{name}]") }
}

/// A text that begins with a small letter.
fn lowered(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

/// Text, escaped so that roff takes none of it for a command.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace('`', "\\(ga");
    let text = text.replace('\'', "\\(aq").replace('~', "\\(ti").replace('^', "\\(ha");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
