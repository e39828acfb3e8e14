//! `gmfs umount`: takes away what `gmfs mount` has mounted.

use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueHint};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;

/// Unmount what `gmfs mount` has mounted
///
/// umount(8) does the same. A filesystem that a program uses stays mounted, unless --lazy is given.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs umount /mnt
  gmfs umount --lazy /mnt")]
pub(crate) struct Args {
    /// Where it is mounted
    #[arg(value_name = "DIRECTORY", required = true, value_hint = ValueHint::DirPath)]
    directories: Vec<PathBuf>,
    /// Take it out of the directory tree at once; it ends when no program uses it any more
    #[arg(short, long)]
    lazy: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let mut tried = super::Tried::default();
    for directory in &args.directories {
        tried.add(one(directory, args.lazy, ctx).with_context(|| format!("cannot unmount {}", directory.display())));
    }
    Ok(if tried.end()? { Exit::Failed } else { Exit::Done })
}

fn one(directory: &Path, lazy: bool, ctx: &Ctx) -> Result<()> {
    // A mount whose process has died cannot even be looked at, so that its path is taken as it was given.
    let given = std::path::absolute(directory)?;
    let path = if mounted(&given)? { given } else { directory.canonicalize()? };
    if !mounted(&path)? {
        let failure = Failure::new("not-mounted", "it is no mount of gmfs");
        return Err(failure.hint("`findmnt -t fuse,fuse.gmfs` lists the mounts of gmfs").into());
    }
    unmount(&path, lazy).map_err(|error| match error.kind() {
        ErrorKind::ResourceBusy => Failure::new("busy", "a program uses it")
            .hint("end that program (`fuser -vm DIRECTORY` names it), or use --lazy")
            .into(),
        _ => anyhow::Error::new(error),
    })?;
    ctx.detail(&format!("unmounted {}", path.display()));
    Ok(())
}

/// Whether a directory is one on which gmfs has mounted something.
fn mounted(directory: &Path) -> Result<bool> {
    Ok(device(directory)?.is_some())
}

/// The device number of what gmfs has mounted on a directory, as the table of mounts has it: `0:52`.
pub(super) fn device(directory: &Path) -> Result<Option<String>> {
    let table = std::fs::read("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    // Of several mounts on one directory the last one is seen.
    let mut lines = table.rsplit(|byte| *byte == b'\n');
    Ok(lines.find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = fields.nth(2)?;
        let at = fields.nth(1).map(unescaped);
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        // Mounted without the help of fusermount, it has no type of its own.
        let ours =
            matches!(kind, Some(b"fuse" | b"fuse.gmfs")) && at.as_deref() == Some(directory.as_os_str().as_bytes());
        ours.then(|| String::from_utf8_lossy(device).into_owned())
    }))
}

/// A path of the table of mounts, in which blanks and some others are octal: \040.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[3..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Unmounts a directory: by the system call, or by fusermount where that takes root.
pub(super) fn unmount(directory: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(directory, flags) {
        Err(Errno::PERM) => {}
        done => return Ok(done?),
    }
    for program in ["fusermount3", "fusermount"] {
        let mut fusermount = Command::new(program);
        fusermount.arg("-u").args(lazy.then_some("-z")).arg("--").arg(directory);
        match fusermount.output() {
            Ok(done) if done.status.success() => return Ok(()),
            Ok(done) => return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::NotFound, "only root may do that without fusermount3, which is not installed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_table_of_mounts() {
        for (field, path) in
            [("/mnt", "/mnt"), (r"/a\040b\134", r"/a b\"), (r"/a\04", r"/a\04"), (r"/a\999", r"/a\999")]
        {
            assert_eq!(unescaped(field.as_bytes()), path.as_bytes(), "{field}");
        }
    }
}
