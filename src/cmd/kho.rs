//! `gmfs kho`: memory that the kernel itself hands over by kexec.

mod compat;

use anyhow::Result;
use clap::{Args as Arguments, Subcommand};

use crate::ctx::Ctx;
use crate::exit::Exit;

/// Judge what the kernel hands over by kexec (KHO, LUO)
///
/// Linux hands memory over to the next kernel by KHO (kexec hand-over): reserve_mem= regions, and with LUO (live update
/// orchestrator) the memfds of virtual machines, in sessions.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs kho compat running /boot/vmlinuz-7.3.4 --initrd /boot/initrd.img-7.3.4
  gmfs kho compat 6.19.11 7.0.13
  gmfs kho compat 7.2.8 7.3.4 --uses regions")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    Compat(compat::Args),
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    match &args.action {
        Action::Compat(args) => compat::run(args, ctx),
    }
}
