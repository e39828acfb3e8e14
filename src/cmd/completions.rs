//! `gmfs completions`: the script that makes a shell complete command lines of gmfs.

use anyhow::Result;
use clap::{Args as Arguments, ValueEnum};

use crate::ctx::Ctx;
use crate::exit::Exit;

/// Print the script that makes a shell complete command lines of gmfs
///
/// The script also serves mkfs.gmfs, fsck.gmfs, mkfs.guestmemfs, fsck.guestmemfs, mount.gmfs and mount.fuse.gmfs. It
/// asks the installed gmfs for what may stand at the cursor: commands, options, their values, files, codes of problems,
/// and paths in a region file.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs completions bash > ~/.local/share/bash-completion/completions/gmfs
  gmfs completions zsh > /usr/local/share/zsh/site-functions/_gmfs
  gmfs completions fish > ~/.config/fish/completions/gmfs.fish
  source <(gmfs completions bash)")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// Bash 4 or newer
    Bash,
    /// Zsh
    Zsh,
    /// Fish 3 or newer
    Fish,
    /// Elvish
    Elvish,
    /// PowerShell 7
    Powershell,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let (script, place) = match args.shell {
        Shell::Bash => (
            include_str!("../../completions/gmfs.bash"),
            "bash reads it from ~/.local/share/bash-completion/completions/gmfs if bash-completion is installed",
        ),
        Shell::Zsh => {
            (include_str!("../../completions/_gmfs"), "zsh reads it from a file _gmfs in a directory of its fpath")
        }
        Shell::Fish => {
            (include_str!("../../completions/gmfs.fish"), "fish reads it from ~/.config/fish/completions/gmfs.fish")
        }
        Shell::Elvish => {
            (include_str!("../../completions/gmfs.elv"), "elvish reads it if ~/.config/elvish/rc.elv uses it")
        }
        Shell::Powershell => (include_str!("../../completions/gmfs.ps1"), "PowerShell reads it if $PROFILE runs it"),
    };
    ctx.detail(place);
    ctx.bytes(script.as_bytes())?;
    Ok(Exit::Done)
}
