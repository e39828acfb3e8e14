//! Objects that files depend on ("file-lifecycle-bound"). Mainline has no user of them but a test.

use gmfs_io::ReadAt;

use super::Fault;
use super::raw::{FlbRaw, before_nul};
use crate::kho::{Page, is_page, read, word};

/// Entries that fit into the page.
const CAPACITY: u64 = 63;

/// An object that files depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flb {
    /// Its name.
    pub name: Box<[u8]>,
    /// What its owner left: its own affair.
    pub data: u64,
    /// Files that depend on it.
    pub files: u64,
}

/// The objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flbs {
    /// In the order of the page.
    pub list: Vec<Flb>,
    /// What is wrong with the page.
    pub fault: Option<Fault>,
}

impl Flbs {
    /// Reads the page at an address.
    #[must_use]
    pub fn read(source: &dyn ReadAt, at: u64) -> Self {
        let fault = |fault| Self { list: Vec::new(), fault: Some(fault) };
        if !is_page(at) {
            return fault(Fault::BadLink { holder: 0, value: at });
        }
        let Ok(page) = read::<Page>(source, at) else { return fault(Fault::Unreadable { at }) };
        let count = word(&page, 8);
        if count > CAPACITY {
            return fault(Fault::BadCount { at, count });
        }
        let entries = page.get(16..).unwrap_or_default().as_chunks::<64>().0;
        let one = |bytes: &[u8; 64]| {
            let raw: FlbRaw = zerocopy::transmute!(*bytes);
            let name = before_nul(&raw.name).unwrap_or(&raw.name).into();
            Flb { name, data: raw.data.get(), files: raw.count.get() }
        };
        let list = entries.iter().take(gmfs_io::num::small(count)).map(one).collect();
        let pages = word(&page, 0);
        let field = "the number of pages of the list of objects";
        Self { list, fault: (pages != 1).then_some(Fault::BadRecord { at, field, value: pages }) }
    }
}
