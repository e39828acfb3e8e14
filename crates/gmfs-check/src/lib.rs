//! Checks a region: finds what is wrong with it, names it, and says where.
//!
//! Nothing here writes, prints or opens a file. [`check()`] gives a [`Report`]; each [`Finding`] carries a [`Problem`] of
//! the catalogue, which is declared once, in [`problem`].
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod finding;
pub mod inject;
pub mod problem;

mod check;
mod pass;

pub use check::{Options, check};
pub use finding::{Finding, Report, Subject, Unchecked, Verdict};
pub use problem::{Code, Problem, Repair, Severity};
