//! `gmfs chmod`: other permission bits.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::model::{Inode, Kind};
use gmfs_volume::NewAttributes;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use::InUseOk;
use crate::open::{self, TargetArgs};

/// Change the permission bits of files and directories
///
/// Each PATH is a commit of its own, with -R together with all that is below it. If one cannot be changed, the others are.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs chmod region.img 640 /vms/a.mem /vms/b.mem
  gmfs chmod -R region.img g+rX,o= /vms")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// Permission bits in octal, or changes of them such as u+w,go-rwx; X is x for directories only
    #[arg(value_parser = parse, allow_hyphen_values = true)]
    mode: Mode,
    /// Their paths in the region
    #[arg(value_name = "PATH", required = true, value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Change everything below directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Permission bits, or changes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Bits(u16),
    Changes(Vec<Step>),
}

/// One change: whose bits, which of them, and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    who: u16,
    how: char,
    bits: u16,
    /// x, for directories only.
    search: bool,
}

impl Mode {
    fn of(&self, mode: u16, directory: bool) -> u16 {
        match self {
            Self::Bits(bits) => *bits,
            Self::Changes(steps) => steps.iter().fold(mode, |mode, step| {
                let search = if step.search && directory { 0o111 } else { 0 };
                let bits = (step.bits | search) & step.who;
                match step.how {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => (mode & !step.who) | bits,
                }
            }),
        }
    }
}

fn parse(text: &str) -> Result<Mode, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return super::parse_mode(text).map(Mode::Bits);
    }
    let wrong = || "permission bits are octal, or changes such as u+w,go-rwx".to_owned();
    let one = |part: &str| {
        let at = part.find(['+', '-', '=']).ok_or_else(wrong)?;
        let (who, rest) = part.split_at(at);
        let mut step = Step { who: 0, how: rest.chars().next().ok_or_else(wrong)?, bits: 0, search: false };
        for who in if who.is_empty() { "a" } else { who }.chars() {
            step.who |= match who {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return Err(wrong()),
            };
        }
        for bit in rest.chars().skip(1) {
            match bit {
                'r' => step.bits |= 0o444,
                'w' => step.bits |= 0o222,
                'x' => step.bits |= 0o111,
                'X' => step.search = true,
                _ => return Err(wrong()),
            }
        }
        Ok(step)
    };
    text.split(',').map(one).collect::<Result<_, _>>().map(Mode::Changes)
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let choose = |inode: &Inode| {
        let mode = inode.attributes.map(|attributes| args.mode.of(attributes.mode, inode.kind == Kind::Directory));
        NewAttributes { mode, ..NewAttributes::default() }
    };
    let cannot = "cannot change permission bits";
    change(&args.image, (&args.paths, args.recursive), &choose, ctx, ("chmod", cannot))
}

/// Gives each path other attributes.
pub(super) fn change(
    image: &TargetArgs,
    (paths, recursive): (&[OsString], bool),
    choose: &dyn Fn(&Inode) -> NewAttributes,
    ctx: &mut Ctx,
    (command, cannot): (&str, &'static str),
) -> Result<Exit> {
    let changed = open::for_change(image, InUseOk { in_use_ok: false }, ctx, |writer| {
        let mut tried = super::Tried::default();
        let paths = super::expand(writer.tree(), paths, &mut tried);
        let tried = super::change_each(&paths, tried, |path| writer.set_attributes(path, recursive, choose))?;
        let named: Vec<&[u8]> = paths.iter().map(|path| crate::paths::bytes(path)).collect();
        Ok((super::entries(writer, &named), tried))
    });
    let ((entries, tried), changes) = changed.context(cannot)?;
    super::tell_changes(ctx, command, tried.end().context(cannot), (entries, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_those_of_chmod() {
        for (text, before, directory, after) in [
            ("640", 0o777, false, 0o640),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o4777, false, 0o4700),
            ("a=r", 0o4777, false, 0o4444),
            ("+w", 0o444, false, 0o666),
            ("u=rw,g=r,o=", 0o777, false, 0o640),
            ("-R", 0, false, 0),
            ("g+rX", 0o600, true, 0o650),
            ("g+rX", 0o600, false, 0o640),
        ] {
            match parse(text) {
                Ok(mode) => assert_eq!(mode.of(before, directory), after, "{text}"),
                Err(_) => assert_eq!(text, "-R"),
            }
        }
        for wrong in ["", "u", "u+z", "b+r", "888", "u+r,"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
