//! Checks and repairs, from outside of the crate. They are one binary, because each binary would compile the passes again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod behind;
mod bring_back;
mod codes;
mod crash;
mod damage;
mod docs;
mod laws;
mod layouts;
mod support;
