//! Other names of the program: `mkfs.gmfs`, `fsck.gmfs` and the same with `guestmemfs` are those commands, so that
//! util-linux's `mkfs -t` and `fsck -t` find them.

use std::ffi::OsString;
use std::path::Path;

/// The command that a program's name stands for.
fn command(program: &Path) -> Option<&'static str> {
    match program.file_name()?.to_str()? {
        "mkfs.gmfs" | "mkfs.guestmemfs" => Some("mkfs"),
        "fsck.gmfs" | "fsck.guestmemfs" => Some("fsck"),
        _ => None,
    }
}

/// The command line as `gmfs` itself would have been given it.
pub(crate) fn rewrite(mut args: Vec<OsString>) -> Vec<OsString> {
    let Some(command) = args.first().and_then(|program| command(Path::new(program))) else { return args };
    // What mkfs(8) and fsck(8) hand over for "say your version".
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
        assert_eq!(rewritten(&["mkfs.gmfs", "-V"]), ["gmfs", "--version"]);
        assert_eq!(rewritten(&["gmfs", "ls", "-V"]), ["gmfs", "ls", "-V"]);
        assert_eq!(rewritten(&[]), [""; 0]);
    }
}
