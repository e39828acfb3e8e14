//! Virtual machines whose memory is a file of a region, and which survive a kexec of their host.
//!
//! A virtual machine is a directory of the region: `mem` is its memory, `vm.json` its [`Record`], and `state` the state of
//! its devices while it is saved. [`arguments`] makes QEMU's command line, [`qmp`] talks to QEMU, [`save`](fn@save) stops a
//! guest and writes its state, [`end`] ends the QEMU that had it, and [`require_unchanged`] and [`resume`] prove that nothing
//! has changed since and give the state to a new QEMU, once.
//!
//! Saving and resuming never leave half of a guest. Until the commit that records a saved state, whatever fails makes the
//! guest run on. A state is marked as used by a commit before the guest runs again, so that no crash allows it to be used
//! twice. The record binds a state to its memory: to the inode, its generation, and the seals of both files.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod arguments;
mod files;
mod in_image;
mod launching;
mod listing;
mod preparing;
pub mod qmp;
pub mod record;
mod resuming;
mod saving;
mod unchanged;
pub mod version;

pub use files::{Machine, PartsError, ReadRecordError, SOCKETS, memory_parts};
pub use in_image::{InImage, LockError, NameError, is_used};
pub use launching::{EndError, LaunchError, Qemu, Source, Start, connect, end};
pub use listing::GuestState;
pub use preparing::{PrepareError, PrepareOptions, Prepared, prepare};
pub use record::Record;
pub use resuming::{LoadOptions, NotResumed, Refused, ResumeError, check, load, resume};
pub use saving::{Cause, SaveError, SaveOptions, drop_seals, save, take_back};
pub use unchanged::{FirstRange, ProofError, require_unchanged};
pub use version::Version;
