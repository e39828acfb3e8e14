//! Writes cpio archives in the "newc" format, the only one that the kernel unpacks as its first root file system.
//!
//! The kernel accepts several archives one after another in one file, so an initramfs can be composed of finished
//! parts.

use std::collections::BTreeMap;

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// The kinds of entries of an archive.
enum Node {
    Directory,
    File(Vec<u8>),
}

/// An archive that is being built: paths (without the leading slash) in order, so that directories precede their
/// content.
#[derive(Default)]
pub(crate) struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// Adds an executable file, and its parent directories.
    pub(crate) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(path, Node::File(content.into()));
    }

    /// Adds an empty directory, and its parent directories.
    pub(crate) fn directory(&mut self, path: &str) {
        self.add(path, Node::Directory);
    }

    /// Whether the archive has this path already.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_start_matches('/'))
    }

    fn add(&mut self, path: &str, node: Node) {
        let path = path.trim_start_matches('/');
        for (slash, _) in path.match_indices('/') {
            self.nodes.entry(path[..slash].to_owned()).or_insert(Node::Directory);
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// The archive as bytes, trailer included.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (path, node)) in (1..).zip(&self.nodes) {
            match node {
                Node::Directory => append(&mut out, inode, path, DIRECTORY, &[]),
                Node::File(content) => append(&mut out, inode, path, EXECUTABLE, content),
            }
        }
        append(&mut out, 0, TRAILER, 0, &[]);
        out
    }
}

/// Appends one entry: a header of 8-digit hexadecimal fields, the name and the content, both padded to 4 bytes.
fn append(out: &mut Vec<u8>, inode: usize, path: &str, mode: u32, content: &[u8]) {
    out.extend_from_slice(
        format!(
            "070701{inode:08x}{mode:08x}{owner:016x}{links:08x}{modified:08x}{size:08x}{devices:032x}{name_size:08x}{check:08x}",
            owner = 0,
            links = 1,
            modified = 0,
            size = content.len(),
            devices = 0,
            name_size = path.len() + 1,
            check = 0,
        )
        .as_bytes(),
    );
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
