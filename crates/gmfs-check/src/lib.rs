//! Checks a region: finds what is wrong with it, and names the problem and its location.
//!
//! Nothing here prints or opens a file. [`check()`] gives a [`Report`]; each [`Finding`] carries a [`Problem`] of the
//! catalogue, which is declared once, in [`problem`]. [`plan()`] turns a report into edits, and only [`apply()`]
//! writes. [`repair()`] does all of this in rounds, and asks its caller what to do.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod affected;
pub mod apply;
pub mod finding;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod inject;
pub mod layouts;
pub mod plan;
pub mod problem;
pub mod repair;
pub mod standings;

mod check;
mod pass;
mod sink;

pub use affected::{AffectedFile, affected_files};
pub use apply::{ApplyError, Forgotten, accept_doubtful, apply, release_reserved};
pub use check::{Options, check};
pub use finding::{Finding, Report, Subject, Unchecked, Verdict};
pub use layouts::Checked;
pub use plan::{Edit, Loss, Plan, PlanError, Planned, Policy, Refusal, Refused, plan};
pub use problem::{Code, Problem, Repair, Severity};
pub use repair::{
    Decide, Decision, Found, Observe, Outcome, Question, RepairError, RepairOptions, repair, repair_pkernfs,
};
pub use standings::{PageStandings, Standings};
