//! `gmfs complete`: what may be at a position of a command line. Hidden: the scripts of `gmfs completions` call it.
//!
//! The scripts contain no names, so they are right for every version. gmfs follows the words of the line through the
//! declaration of the command line, and so finds out what the position is for: IMAGE, a view, a path in the region that
//! IMAGE holds.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::Result;
use clap::{Arg, ArgAction, Args as Arguments, Command, ValueHint};
use gmfs_check::Code;
use gmfs_format::model::Kind;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::locking::Wait;
use crate::multicall;
use crate::open::{self, ImageArgs, ReadArgs};

/// Tell what may stand at a place of a command line
#[derive(Arguments, Debug)]
pub(crate) struct Args {
    /// The word to complete, counted from 0, the program
    at: usize,
    /// The command line
    #[arg(last = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// What may be at a position.
#[derive(Debug, Default, PartialEq, Eq)]
enum Offer {
    #[default]
    Nothing,
    /// Files: the shell knows best how to complete them.
    Files,
    Directories,
    /// Words with what they mean.
    Words(Vec<(String, String)>),
}

/// Prints one word per line, followed by a tab and its meaning; `:files` or `:directories` instead if the shell is to
/// complete names of files.
pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let mut words = args.words.clone();
    words.truncate(args.at + 1);
    words.resize(args.at + 1, OsString::new());
    match offer(&words, ctx) {
        Offer::Nothing => {}
        Offer::Files => ctx.line(":files")?,
        Offer::Directories => ctx.line(":directories")?,
        Offer::Words(words) => {
            // The shells would take a line break or a tab for the end of the word.
            for (word, meaning) in words.iter().filter(|(word, _)| !word.contains(char::is_control)) {
                ctx.line(&format!("{word}\t{meaning}"))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// What may be at the position of the last word.
fn offer(words: &[OsString], ctx: &Ctx) -> Offer {
    let words = multicall::rewrite(words.to_vec());
    let Some((current, before)) = words.split_last().filter(|(_, before)| !before.is_empty()) else {
        return Offer::Nothing;
    };
    let mut root = (ctx.declaration)();
    root.build();
    let Some(place) = Place::of(&root, &before[1..]) else { return Offer::Nothing };
    let Some(text) = current.to_str() else { return Offer::Files };
    if let Some(option) = place.awaiting {
        return place.values(option, text, ctx);
    }
    if !place.escaped && text.starts_with('-') {
        return match text.strip_prefix("--").and_then(|text| text.split_once('=')) {
            Some((name, value)) => match long(place.command, name) {
                Some(option) => prefixed(&format!("--{name}="), place.values(option, value, ctx)),
                None => Offer::Nothing,
            },
            None => options(place.command, text),
        };
    }
    if place.command.has_subcommands() {
        return subcommands(place.command, text);
    }
    match place.operand() {
        Some(operand) => place.values(operand, text, ctx),
        None if text.is_empty() => options(place.command, text),
        None => Offer::Nothing,
    }
}

/// The position to which the words before the current one lead.
struct Place<'c> {
    root: &'c Command,
    command: &'c Command,
    /// Operands of the command so far.
    operands: Vec<&'c OsStr>,
    /// After `--` there are only operands.
    escaped: bool,
    /// The option whose value the current word is.
    awaiting: Option<&'c Arg>,
}

impl<'c> Place<'c> {
    /// Follows the words after the program's name. `None` if one of them should be a command and is not.
    fn of(root: &'c Command, words: &'c [OsString]) -> Option<Self> {
        let mut place = Self { root, command: root, operands: Vec::new(), escaped: false, awaiting: None };
        for word in words {
            if place.awaiting.take().is_some() {
                continue;
            }
            let text = word.to_str().unwrap_or_default();
            if place.escaped || !text.starts_with('-') || text == "-" {
                if place.command.has_subcommands() {
                    place.command = place.command.find_subcommand(text)?;
                } else {
                    place.operands.push(word);
                }
            } else if text == "--" {
                place.escaped = true;
            } else if let Some(name) = text.strip_prefix("--") {
                place.awaiting = long(place.command, name).filter(|option| wants_value(option));
            } else {
                place.awaiting = last_letter(place.command, &text[1..]);
            }
        }
        Some(place)
    }

    /// The operand that the current word is.
    fn operand(&self) -> Option<&'c Arg> {
        let mut operands = self.command.get_positionals().filter(|operand| !operand.is_hide_set());
        let many = |operand: &Arg| matches!(operand.get_action(), ArgAction::Append);
        let last = self.command.get_positionals().last().filter(|operand| many(operand));
        operands.nth(self.operands.len()).or(last)
    }

    fn values(&self, arg: &Arg, text: &str, ctx: &Ctx) -> Offer {
        match (self.command.get_name(), arg.get_id().as_str()) {
            ("explain", "codes") => return codes(text, |_| true),
            // Problems can be made only in native regions.
            ("inject", "problems") => return codes(text, Code::is_native),
            ("man", "command") => return subcommands(self.root, text),
            _ => {}
        }
        let values = arg.get_possible_values();
        if !values.is_empty() {
            let shown = values.iter().filter(|value| !value.is_hide_set() && value.get_name().starts_with(text));
            return Offer::Words(shown.map(|value| (value.get_name().to_owned(), meaning(value.get_help()))).collect());
        }
        match arg.get_value_hint() {
            ValueHint::AnyPath | ValueHint::FilePath | ValueHint::ExecutablePath => Offer::Files,
            ValueHint::DirPath => Offer::Directories,
            _ if ["path", "paths", "from", "to", "destination"].contains(&arg.get_id().as_str()) => {
                let image = self.operands.first().copied();
                image.and_then(|image| in_region(Path::new(image), text, ctx)).map_or(Offer::Nothing, Offer::Words)
            }
            _ => Offer::Nothing,
        }
    }
}

/// Adds the text that precedes an option's value in the same word to each word of an offer.
fn prefixed(prefix: &str, offer: Offer) -> Offer {
    match offer {
        Offer::Words(words) => {
            Offer::Words(words.into_iter().map(|(word, meaning)| (format!("{prefix}{word}"), meaning)).collect())
        }
        other => other,
    }
}

/// The first line of a help text.
fn meaning(help: Option<&clap::builder::StyledStr>) -> String {
    help.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn long<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// Whether the next word is this option's value.
fn wants_value(option: &Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

/// The option at the end of a group of letters, if the next word is its value.
fn last_letter<'c>(command: &'c Command, letters: &str) -> Option<&'c Arg> {
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        let option = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        if option.get_action().takes_values() {
            // What follows in the same word is the value.
            return Some(option).filter(|option| letters.as_str().is_empty() && wants_value(option));
        }
    }
    None
}

fn options(command: &Command, text: &str) -> Offer {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let named = shown.flat_map(|arg| {
        let names = arg.get_long().map(|name| format!("--{name}")).into_iter();
        // Letters are offered only for options without a long name, or if the word so far is `-`.
        let letter = arg.get_short().filter(|_| arg.get_long().is_none() || text == "-").map(|name| format!("-{name}"));
        names.chain(letter).map(move |name| (name, meaning(arg.get_help())))
    });
    Offer::Words(named.filter(|(name, _)| name.starts_with(text)).collect())
}

fn subcommands(command: &Command, text: &str) -> Offer {
    // `help` is left out: --help is offered with each command.
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let named = shown.map(|command| (command.get_name().to_owned(), meaning(command.get_about())));
    Offer::Words(named.filter(|(name, _)| name.starts_with(text)).collect())
}

/// Codes of problems, and also their names if something was typed that is the start of one.
fn codes(text: &str, wanted: impl Fn(Code) -> bool) -> Offer {
    let all = || Code::ALL.iter().filter(|code| wanted(**code));
    let codes = all().map(|code| (code.text().to_owned(), code.name().to_owned()));
    let codes = codes.filter(|(code, _)| code.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text)));
    let names = all().map(|code| (code.name().to_owned(), code.text().to_owned()));
    let names = names.filter(|(name, _)| !text.is_empty() && name.starts_with(text));
    Offer::Words(codes.chain(names).collect())
}

/// Files and directories of the region in an image whose paths start like this. Only images that begin with a
/// superblock are read: searching a dump takes too long while somebody types.
fn in_region(image: &Path, text: &str, ctx: &Ctx) -> Option<Vec<(String, String)>> {
    if !gmfs::find::begins_with_superblock(image) {
        return None;
    }
    let mut of = ImageArgs::file(image.to_owned());
    of.wait = Wait { wait: 0 };
    let opened = open::store(&ReadArgs { of, no_lock: true }, ctx).ok()?;
    let tree = opened.inodes().tree;
    let (above, name) = text.split_at(text.rfind('/').map_or(0, |slash| slash + 1));
    let directory = tree.resolve(if above.is_empty() { b"/" } else { above.as_bytes() })?;
    let found = tree.children(directory.ino).filter(|child| child.name.starts_with(name.as_bytes()));
    let above = if above.is_empty() { "/" } else { above };
    let words = found.filter_map(|child| {
        let slash = if child.kind == Kind::Directory { "/" } else { "" };
        Some((format!("{above}{}{slash}", std::str::from_utf8(&child.name).ok()?), String::new()))
    });
    let words = words.collect();
    opened.unlock();
    Some(words)
}
