//! Whose an address is: the question after a machine check.
//!
//! ```
//! use gmfs::whose::Asker;
//! # fn example(store: &gmfs::Store) -> Result<(), Box<dyn std::error::Error>> {
//! let inodes = store.inodes();
//! let mut asker = Asker::new(store, &inodes.tree);
//! let answer = asker.ask("pfn:0x10002".parse()?);
//! println!("{} {:?} at {:?}", answer.owner.what.name(), answer.path, answer.offset());
//! # Ok(())
//! # }
//! ```

use gmfs_format::model::{InodeNo, Paths, Tree};

use crate::address::Address;
use crate::store::{Owner, Store, What};

/// An address, and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Whose {
    /// Where it is in the image, in bytes: a physical address, or an offset. `None` if it is outside of the store.
    pub address: Option<u64>,
    /// Its physical address, if the store's base is known.
    pub physical: Option<u64>,
    /// The block of the store that it is in.
    pub block: Option<u64>,
    /// What it belongs to.
    pub owner: Owner,
    /// The path of the file that it belongs to, or that the metadata is about; `None` if the root does not lead to it.
    pub path: Option<Vec<u8>>,
    /// It is past the end of its file, in the last block.
    pub is_past_end: bool,
}

impl Whose {
    /// An address that is not in the store.
    const OUTSIDE: Self = Self {
        address: None,
        physical: None,
        block: None,
        owner: Owner::only(What::Outside),
        path: None,
        is_past_end: false,
    };

    /// The file that it belongs to, or that the metadata is about.
    #[must_use]
    pub fn ino(&self) -> Option<InodeNo> {
        let file = self.owner.file.map(|(ino, _)| ino);
        let about = || self.owner.metadata.as_ref().and_then(|metadata| metadata.ino);
        file.or_else(about).filter(|ino| *ino != InodeNo::NONE)
    }

    /// The offset in the file that it belongs to, in bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.owner.file.map(|(_, offset)| offset)
    }

    /// Whether a file or metadata is hit: an error in this memory does harm.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.ino().is_some() || !matches!(self.owner.what, What::Free | What::Tail | What::Bad)
    }
}

/// Answers whose addresses of a store are.
pub struct Asker<'a> {
    store: &'a Store,
    tree: &'a Tree,
    paths: Paths<'a>,
}

impl<'a> Asker<'a> {
    /// `tree` has the inodes of `store`.
    #[must_use]
    pub fn new(store: &'a Store, tree: &'a Tree) -> Self {
        Self { store, tree, paths: Paths::new(tree) }
    }

    /// Whose an address is.
    #[must_use]
    pub fn ask(&mut self, address: Address) -> Whose {
        let base = self.store.physical_base();
        // What a kernel hands over may be past the last page of a dump.
        let size = if self.store.luo().is_some() { u64::MAX } else { self.store.size() };
        let block = self.store.block_bytes();
        let Some(offset) = address.offset(size, block, base.unwrap_or(0)) else { return self.in_kernel(address) };
        let owner = self.store.owner(offset);
        if owner.what == What::Outside {
            return Whose::OUTSIDE;
        }
        let block = (owner.what != What::Tail).then(|| offset.checked_div(block)).flatten();
        let place = Whose { block, ..self.at(offset) };
        self.with_owner(place, owner)
    }

    /// The place of an offset of the store.
    fn at(&self, offset: u64) -> Whose {
        let physical = self.store.physical_base().map(|base| base.saturating_add(offset));
        Whose { address: Some(self.store.place.base.saturating_add(offset)), physical, ..Whose::OUTSIDE }
    }

    /// An address outside of the store's region: a guestmemfs v1 has its metadata in the kernel's memory.
    fn in_kernel(&mut self, address: Address) -> Whose {
        let physical = match address {
            Address::Block(_) => None,
            Address::Bytes(_) | Address::Pfn(_) => address.offset(u64::MAX, self.store.block_bytes(), 0),
        };
        let metadata = |physical| self.store.guestmemfs()?.metadata_at(physical);
        match physical.and_then(|physical| Some((physical, metadata(physical)?))) {
            Some((physical, owner)) => {
                let place = Whose { address: Some(physical), physical: Some(physical), ..Whose::OUTSIDE };
                self.with_owner(place, owner)
            }
            None => Whose::OUTSIDE,
        }
    }

    fn with_owner(&mut self, place: Whose, owner: Owner) -> Whose {
        let past = |(ino, offset): (InodeNo, u64)| self.tree.get(ino).is_some_and(|inode| offset >= inode.size);
        let is_past_end = owner.file.is_some_and(past);
        let whose = Whose { owner, is_past_end, ..place };
        let path = whose.ino().and_then(|ino| self.paths.of(ino));
        Whose { path, ..whose }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Metadata;

    #[test]
    fn what_is_free_or_bad_is_not_used() {
        let of = |what| Whose { owner: Owner::only(what), ..Whose::OUTSIDE };
        assert!(!of(What::Free).is_used() && !of(What::Tail).is_used() && !of(What::Bad).is_used());
        assert!(of(What::Metadata).is_used() && of(What::Lost).is_used() && of(What::Reserved).is_used());
        let owner = Owner { file: Some((InodeNo(3), 4096)), ..Owner::only(What::Bad) };
        let bad = Whose { owner, ..Whose::OUTSIDE };
        assert_eq!((bad.is_used(), bad.ino(), bad.offset()), (true, Some(InodeNo(3)), Some(4096)));
    }

    #[test]
    fn metadata_is_about_an_inode() {
        let about = |ino| Metadata { copy: None, page: None, kind: None, ino };
        let of = |ino| Owner { metadata: Some(about(ino)), ..Owner::only(What::Metadata) };
        let whose = |ino| Whose { owner: of(ino), ..Whose::OUTSIDE };
        assert_eq!(whose(Some(InodeNo(5))).ino(), Some(InodeNo(5)));
        assert_eq!(whose(Some(InodeNo::NONE)).ino(), None);
        assert_eq!(whose(None).offset(), None);
    }
}
