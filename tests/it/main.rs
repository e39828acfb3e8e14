//! Tests of gmfs as its users run it: the built program, as a process, on images in a directory of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed; clippy knows test functions, not what they call"
)]

mod attributes;
mod bad_input;
mod beside;
mod captured;
mod changing;
mod completing;
mod copying;
mod cp;
mod damage;
mod diff;
mod dumpfiles;
mod dumps;
mod extracting;
mod foreign;
mod formats;
mod generated;
mod guestmemfs;
mod handovers;
mod help;
mod hints;
mod hooks;
mod images;
mod json;
mod kho;
mod layouts_doc;
mod luo;
mod matrix;
mod metadump;
mod mkfs;
mod mount_cases;
mod mounted_changes;
mod mounting;
mod multicall;
mod names;
mod operands;
mod output;
mod packaging;
mod pkernfs;
mod plan;
mod poison;
mod preflight;
mod qemu;
mod reading;
mod repair_trouble;
mod report;
mod sandbox;
mod seal;
mod short_images;
mod shown;
mod space;
mod terminal;
mod undoing;
mod units;
mod unshown;
mod vm;
