//! gmfs: tools for guestmemfs regions, as e2fsprogs are for ext4.
//!
//! This is the top layer, which uses all others: it reads the command line, opens images, calls the engine and shows
//! the results. Each command is one module of [`cmd`]; the code that formats numbers, tables or JSON is in [`render`].

mod asking;
mod cli;
mod clock;
mod cmd;
mod ctx;
mod details;
mod exit;
mod failure;
mod headings;
mod in_use;
mod interrupt;
mod lacking;
mod line;
mod locate;
mod locking;
mod missing;
mod multicall;
mod open;
mod output;
mod parse;
mod paths;
mod prompt;
mod random;
mod render;
mod repairing;
mod report;
mod standard;
mod stdout;
mod suggest;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os().collect())
}
