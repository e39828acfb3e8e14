//! Other names of the program: `mkfs.gmfs`, `mkfs.guestmemfs`, `fsck.gmfs`, `fsck.guestmemfs`, `mount.gmfs` and
//! `mount.fuse.gmfs`. Under each of them, the program acts as that command, so that util-linux's `mkfs -t`, `fsck -t` and
//! `mount -t` find it.

use std::ffi::OsString;
use std::path::Path;

/// Other names of the program, and the command that each stands for.
pub(crate) const NAMES: [(&str, &str); 6] = [
    ("mkfs.gmfs", "mkfs"),
    ("mkfs.guestmemfs", "mkfs"),
    ("fsck.gmfs", "fsck"),
    ("fsck.guestmemfs", "fsck"),
    ("mount.gmfs", "mount"),
    ("mount.fuse.gmfs", "mount"),
];

/// The command that a name of the program stands for.
pub(crate) fn command(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(other, _)| *other == name).map(|(_, command)| *command)
}

/// The command line as `gmfs` itself would have been given it.
pub(crate) fn rewrite(args: Vec<OsString>) -> Vec<OsString> {
    let mut args = named(args);
    if args.get(1).is_some_and(|command| command == "fsck") {
        descriptors(&mut args);
    }
    args
}

/// Joins each -C and its descriptor with `=`, so that the descriptor cannot be taken for IMAGE: fsck(8) passes -C0 or
/// -C 0, also after other letters.
fn descriptors(args: &mut Vec<OsString>) {
    let number =
        |text: &str| !text.is_empty() && text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
    let mut at = 2;
    while at < args.len() && args[at] != "--" {
        let Some((letters, value)) = args[at].to_str().and_then(|arg| arg.strip_prefix('-')?.split_once('C')) else {
            at += 1;
            continue;
        };
        if letters.bytes().all(|b| b.is_ascii_alphabetic()) {
            let next = args.get(at + 1).and_then(|next| next.to_str()).filter(|next| number(next)).map(str::to_owned);
            let joined = |value: &str| OsString::from(format!("-{letters}C={value}"));
            if number(value) {
                args[at] = joined(value);
            } else if let (true, Some(next)) = (value.is_empty(), next) {
                args[at] = joined(&next);
                args.remove(at + 1);
            }
        }
        at += 1;
    }
}

/// The command line with the command that the program's name stands for.
fn named(mut args: Vec<OsString>) -> Vec<OsString> {
    let Some(command) = args.first().and_then(|program| command(Path::new(program).file_name()?.to_str()?)) else {
        return args;
    };
    // mkfs(8) and fsck(8) pass these options on to ask for the version.
    let options = args.iter().skip(1).take_while(|arg| *arg != "--");
    if options.clone().any(|arg| arg == "-V" || arg == "--version") {
        return vec!["gmfs".into(), "--version".into()];
    }
    args.splice(0..1, ["gmfs".into(), command.into()]);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(args: &[&str]) -> Vec<String> {
        let args = args.iter().map(|arg| OsString::from(*arg)).collect();
        rewrite(args).into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn a_program_name_is_a_command() {
        assert_eq!(rewritten(&["/sbin/mkfs.gmfs", "-L", "x", "img"]), ["gmfs", "mkfs", "-L", "x", "img"]);
        assert_eq!(rewritten(&["fsck.guestmemfs", "-a", "img"]), ["gmfs", "fsck", "-a", "img"]);
        assert_eq!(rewritten(&["mount.gmfs", "img", "dir", "-o", "rw"]), ["gmfs", "mount", "img", "dir", "-o", "rw"]);
        assert_eq!(rewritten(&["mkfs.gmfs", "-V"]), ["gmfs", "--version"]);
        assert_eq!(rewritten(&["gmfs", "ls", "-V"]), ["gmfs", "ls", "-V"]);
        assert_eq!(rewritten(&[]), [""; 0]);
    }

    #[test]
    fn a_descriptor_belongs_to_its_option() {
        assert_eq!(rewritten(&["fsck.gmfs", "-a", "-C0", "img"]), ["gmfs", "fsck", "-a", "-C=0", "img"]);
        assert_eq!(rewritten(&["gmfs", "fsck", "-C", "5", "img"]), ["gmfs", "fsck", "-C=5", "img"]);
        assert_eq!(rewritten(&["gmfs", "fsck", "-fyC-1", "img"]), ["gmfs", "fsck", "-fyC=-1", "img"]);
        assert_eq!(rewritten(&["gmfs", "fsck", "-nC", "img"]), ["gmfs", "fsck", "-nC", "img"]);
        assert_eq!(rewritten(&["gmfs", "fsck", "-C=0", "7"]), ["gmfs", "fsck", "-C=0", "7"]);
        assert_eq!(rewritten(&["gmfs", "fsck", "--", "-C0", "7"]), ["gmfs", "fsck", "--", "-C0", "7"]);
        assert_eq!(rewritten(&["gmfs", "dump", "-C0", "img"]), ["gmfs", "dump", "-C0", "img"]);
    }
}
