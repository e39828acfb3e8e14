//! Kexec handover (KHO) of mainline Linux, from 6.16 on: what one kernel leaves in memory for the next.
//!
//! A page with a [flattened device tree](fdt) is the root. It names the preserved map, which says which pages the next
//! kernel must not touch, and one node for each user of KHO with the address of what that user left. Nothing of it is at a
//! fixed place: a record of the boot protocol ([`Setup`]) hands the root's address over, and a scan of memory finds it by its
//! magic.
//!
//! | release | `compatible` | preserved map | users' properties |
//! | --- | --- | --- | --- |
//! | 6.16, 6.17 | `kho-v1` | chunks, bitmaps of 512 bytes | `fdt` |
//! | 6.18 to 7.0 | `kho-v1` | chunks, bitmaps of 4096 bytes | `fdt` |
//! | 7.1 | `kho-v3` | radix tree | `preserved-data`, `blob-size` |
//! | 7.2, 7.3 | `kho-v4` | radix tree | the same |
//!
//! All numbers of the kernel are little-endian here (x86-64 and arm64 with pages of 4 KiB); only the device tree's own
//! structure is big-endian. `docs/LAYOUTS.md` says from what each form is known.
//!
//! Every number in these structures is suspect: in the new kernel their pages are given to somebody else, and an old pointer
//! leads into whatever is there now. Chains end at the first link that cannot be one or that was followed before, and memory
//! is bounded by the pages that exist, never by a count.

pub mod fdt;

mod form;
mod map;
mod marks;
mod memory;
mod scratch;
mod tree;
mod users;

pub use map::{Bitmaps, Entry, Map, MapFault, Range};
pub use marks::{Hints, PageStructs};
pub use memory::{PAGE, Page, pages};
pub use scratch::{AREA_ALIGN, NoScratch, OddArea, Scratch, Setup};
pub use tree::{Tree, TreeError, User, Version};
pub use users::{BlobError, Metadata, MetadataRaw, ReserveMem, Reserved, metadata, reserve_mem};

pub(crate) use memory::{ADDRESSES, is_page, read, word, word32};
