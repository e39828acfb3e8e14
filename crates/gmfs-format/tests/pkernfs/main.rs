//! pkernfs: images made from its rules, images that the kernel driver wrote, and hostile ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

mod check;
mod fixtures;
mod hostile;
mod lacking;
mod made;
mod quirks;
