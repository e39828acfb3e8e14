//! The Live Update Orchestrator (LUO) of mainline Linux, from 6.19 on: files that user space hands to the next kernel.
//!
//! LUO is a user of [kexec handover](crate::kho). User space puts files into named *sessions*, each file under a number of
//! its choice, the *token*. The only files that mainline takes are memfds; the memory of virtual machines is in such.
//!
//! | release | root | sessions, files | record of a memfd |
//! | --- | --- | --- | --- |
//! | 6.19 | device tree `luo-v1` | 16 pages; 2 pages each | `memfd-v1` |
//! | 7.0 | the same, and `luo-flb-v1` | the same | `memfd-v1` |
//! | 7.1 | the same | the same | `memfd-v2` |
//! | 7.2, 7.3 | structure `luo-v5` | chains of blocks of a page | `memfd-v2` |
//!
//! What is in memory depends on the moment. Records of memfds are written when a file is preserved. Names and tokens are
//! written only by the reboot system call, so a dump of the running kernel has the records and not the names. In the next
//! kernel the preserved map is overwritten, and from 7.2 on the root of LUO is too; sessions, files, records and content are
//! whole until user space has taken them. [`Store`] says which of these an image shows, and how it came by each statement.

mod block;
mod extents;
mod fault;
mod flb;
mod folios;
mod found;
mod memfd;
mod raw;
mod root;
mod store;

pub use block::Layout;
pub use extents::{Extent, Extents};
pub use fault::Fault;
pub use flb::{Flb, Flbs};
pub use folios::{Folio, FolioRun, Folios, Part};
pub use found::{Finds, scan};
pub use memfd::{Memfd, MemfdVersion};
pub use raw::{BlockRaw, FileRaw, FlbRaw, FolioRaw, LuoRaw, MemfdV1Raw, MemfdV2Raw, SessionRaw, VmallocRaw};
pub use root::{NoFlbs, Root, RootError};
pub use store::{Confidence, File, ListOf, Moment, Origin, Session, Store, StoreError, UserData};
