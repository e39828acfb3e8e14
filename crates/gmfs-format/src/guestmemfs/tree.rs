//! What the device tree says of a file system.

use zerocopy::FromBytes as _;

use super::{MemRaw, ReadAt, Span};
use crate::fdt::{self, Fdt, FdtError, Node};

/// What the device tree of KHO of 2024 says of a guestmemfs file system. Nothing of it is checked but the lengths of the
/// properties, which the kernel's own code checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Bytes that the tree has.
    pub tree_size: u64,
    /// What it says that it is compatible with, if that is not `kho-v1` and `guestmemfs-v1`: another version, or damage.
    pub other_form: Option<Box<[u8]>>,
    /// Whether all of the tree was read. If not, only its first page was: pages of mappings may be missing.
    pub whole: bool,
    /// The region with the content of files.
    pub region: Span,
    /// Whether the region is marked as memory without page structures. The driver always does that.
    pub no_page_structs: bool,
    /// The superblock.
    pub superblock: Span,
    /// The array of inodes.
    pub inodes: Span,
    /// The bitmap.
    pub bitmap: Span,
    /// The pages of mappings of the files.
    pub pages: Vec<Span>,
    /// The page with the inode numbers of these.
    pub to_inode: Option<Span>,
    /// How many inodes are in use, by the superblock's count.
    pub num_inodes: Option<u64>,
}

impl HandOver {
    /// What a tree says, if it is one of KHO of 2024 with a guestmemfs in it.
    #[must_use]
    pub fn of(tree: &Fdt, claimed: u64) -> Option<Self> {
        let root = tree.root();
        let node = root.child(b"guestmemfs")?;
        // One of both has to be right: other trees have nodes of this name, too.
        let other_form = match (says(root, b"kho-v1"), says(node, b"guestmemfs-v1")) {
            (true, true) => None,
            (true, false) => Some(compatible(node)),
            (false, true) => Some(compatible(root)),
            (false, false) => return None,
        };
        let [region] = exactly(&mem(node.child(b"fs_mem")?)?)?;
        let [superblock, inodes, bitmap] = exactly(&mem(node.child(b"superblock")?)?)?;
        let table = node.child(b"mappings_to_inode");
        let pages = node.child(b"mappings_blocks").and_then(mem).unwrap_or_default();
        Some(Self {
            tree_size: claimed,
            other_form,
            whole: tree.is_whole(),
            region: Span::new(region.address.get() & !1, region.length.get()),
            no_page_structs: region.address.get() & 1 == 1,
            superblock: span(superblock),
            inodes: span(inodes),
            bitmap: span(bitmap),
            pages: pages.into_iter().map(span).collect(),
            to_inode: table.and_then(mem).and_then(|list| exactly(&list)).map(|[page]| span(page)),
            num_inodes: table.and_then(|table| table.u64(b"num_inodes")),
        })
    }

    /// Reads the tree at `at`. Where its pages are not one behind the other, which the first kernel's need not be, what its
    /// first page says.
    pub(super) fn read(source: &dyn ReadAt, at: u64) -> Option<Self> {
        let front = Fdt::read_front(source, at).ok()?;
        let claimed = fdt::claimed_size(source, at)?;
        if front.is_whole() {
            return Self::of(&front, claimed);
        }
        match Fdt::read(source, at, fdt::MAX_SIZE) {
            Ok(tree) => Self::of(&tree, claimed),
            Err(FdtError::Structure { .. } | FdtError::Unreadable(_)) => Self::of(&front, claimed),
            Err(_) => None,
        }
    }
}

/// What a node says that it is compatible with.
fn compatible(node: Node<'_>) -> Box<[u8]> {
    let value = node.property(b"compatible").unwrap_or_default();
    value.split(|byte| *byte == 0).next().unwrap_or_default().into()
}

/// Whether a node is compatible with this. Where the names of properties are not there, the value has to be enough.
fn says(node: Node<'_>, compatible: &[u8]) -> bool {
    let unnamed = |value: &[u8]| value.strip_suffix(&[0]) == Some(compatible);
    node.is_compatible(compatible)
        || node.properties().any(|property| property.name.is_none() && unnamed(property.value))
}

/// The ranges in a node's property `mem`; in a tree without names, in its first property.
fn mem(node: Node<'_>) -> Option<Vec<MemRaw>> {
    let named = |property: &fdt::Property<'_>| property.name.is_none_or(|name| name == b"mem");
    let value = node.properties().find(named)?.value;
    <[MemRaw]>::ref_from_bytes(value).ok().map(<[MemRaw]>::to_vec)
}

fn exactly<const N: usize>(list: &[MemRaw]) -> Option<[MemRaw; N]> {
    list.try_into().ok()
}

fn span(mem: MemRaw) -> Span {
    Span::new(mem.address.get(), mem.length.get())
}
