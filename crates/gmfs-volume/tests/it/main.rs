//! Tests the engine with crashes, failing media, hostile bytes, and a simple model of its operations.
//!
//! Everything runs on regions in memory. `GMFS_CRASH_CASES` raises the number of random cases; run with
//! `--nocapture` to see how many states were tried.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it relies on by failing where it does not hold"
)]

mod crash;
mod failing;
mod hostile;
mod marks;
mod mending;
mod model;
mod passes;
mod refusals;
mod restore;
mod stale;
mod support;
mod trust;
mod used;
mod withheld;
