//! `gmfs chown`: other owners.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::model::Inode;
use gmfs_volume::NewAttributes;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::TargetArgs;

/// Change the owner and the group of files and directories
///
/// Each PATH is a commit of its own, with -R together with all that is below it. If one cannot be changed, the others are.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs chown region.img qemu:kvm /vms/a.mem
  gmfs chown -R region.img :64055 /vms")]
pub(crate) struct Args {
    #[command(flatten)]
    image: TargetArgs,
    /// The owner, the owner and the group, or the group alone: numbers, or names from /etc/passwd and /etc/group here
    #[arg(value_name = "OWNER[:GROUP]")]
    owner: String,
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

/// What is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: Option<u32>,
    gid: Option<u32>,
}

fn parse(text: &str) -> Result<Owner, String> {
    parse_with(text, |file| std::fs::read_to_string(file).unwrap_or_default())
}

fn parse_with(text: &str, read: impl Fn(&str) -> String) -> Result<Owner, String> {
    let (owner, group) = text.split_once(':').map_or((text, ""), |(owner, group)| (owner, group));
    if owner.is_empty() && group.is_empty() {
        return Err("an owner, a group, or both belong here: OWNER, OWNER:GROUP or :GROUP".to_owned());
    }
    let number = |name: &str, file: &str| match name.parse() {
        _ if name.is_empty() => Ok(None),
        Ok(number) => Ok(Some(number)),
        Err(_) => {
            // name:password:number:…
            let text = read(file);
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|rest| rest.split(':').nth(1)?.parse().ok());
            number.map(Some).ok_or_else(|| format!("'{name}' is no number, and not in {file}"))
        }
    };
    Ok(Owner { uid: number(owner, "/etc/passwd")?, gid: number(group, "/etc/group")? })
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let owner =
        parse(&args.owner).map_err(|message| Failure::new("no-owner", message)).context("cannot change the owner")?;
    let Owner { uid, gid } = owner;
    let choose = |_: &Inode| NewAttributes { uid, gid, ..NewAttributes::default() };
    super::chmod::change(&args.image, (&args.paths, args.recursive), &choose, ctx, ("chown", "cannot change the owner"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_or_names() {
        let read = |file: &str| match file {
            "/etc/passwd" => "root:x:0:0:root:/root:/bin/sh\nqemu:x:107:107::/:/bin/false\n".to_owned(),
            _ => "kvm:x:36:qemu\n".to_owned(),
        };
        let parse = |text| parse_with(text, read).map(|owner| (owner.uid, owner.gid));
        assert_eq!(parse("qemu:kvm"), Ok((Some(107), Some(36))));
        assert_eq!(parse("5"), Ok((Some(5), None)));
        assert_eq!(parse(":7"), Ok((None, Some(7))));
        assert_eq!(parse("4294967295:0"), Ok((Some(u32::MAX), Some(0))));
        for wrong in ["", ":", "qem", "qemu:nobody", "-1", "root:x:0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
