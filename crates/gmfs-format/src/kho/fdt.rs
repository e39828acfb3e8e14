//! Flattened device trees, as the users of KHO write them: small, and without references between nodes.

use gmfs_io::num::{len64, small, to_usize};
use gmfs_io::{ReadAt, ReadError};

/// The first four bytes of a device tree.
pub const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];
/// The largest tree that is read. Linux gives each of these trees one page.
const MAX_BYTES: u32 = 64 << 10;
/// The longest name of a property. The specification says 31.
const MAX_NAME: usize = 63;
/// The deepest nesting.
const MAX_DEPTH: usize = 16;
/// Bytes of the header.
const HEADER: usize = 40;

/// Why bytes are no device tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FdtError {
    /// It cannot be read.
    #[error("the device tree at {at:#x} cannot be read")]
    Read {
        /// Where it is.
        at: u64,
        /// Why.
        source: ReadError,
    },
    /// The first bytes are others.
    #[error("there is no device tree: the magic is another")]
    Magic,
    /// A size or an offset in the header is impossible.
    #[error("the header of the device tree has an impossible {0}")]
    Header(&'static str),
    /// The structure has a token that is none, or ends in the middle of something.
    #[error("the device tree is damaged at byte {0:#x} of its structure")]
    Structure(usize),
}

/// A property: its name and its value.
type Property = (Box<[u8]>, Box<[u8]>);

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node that it is in, by its position in [`Fdt::nodes`]; `None` for the root.
    pub parent: Option<usize>,
    /// Its name; the root has none.
    pub name: Box<[u8]>,
    properties: Vec<Property>,
}

impl Node {
    /// The value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        self.properties.iter().find(|(known, _)| **known == *name.as_bytes()).map(|(_, value)| &**value)
    }

    /// A property that is one number of 64 bits, as the kernel has it in memory.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        Some(u64::from_le_bytes(self.property(name)?.try_into().ok()?))
    }

    /// A property that is one string, without the NUL at its end.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&[u8]> {
        self.property(name)?.split(|byte| *byte == 0).next()
    }

    /// Whether its `compatible` is this string.
    #[must_use]
    pub fn is_compatible(&self, with: &str) -> bool {
        self.text("compatible") == Some(with.as_bytes())
    }
}

/// A device tree that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fdt {
    /// Bytes that it says it has.
    pub size: u32,
    nodes: Vec<Node>,
}

impl Fdt {
    /// Reads the tree at an address.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(source: &dyn ReadAt, at: u64) -> Result<Self, FdtError> {
        let unreadable = |source| FdtError::Read { at, source };
        let header: [u8; HEADER] = super::read(source, at).map_err(unreadable)?;
        let size = size_of(&header)?;
        let mut bytes = vec![0; to_usize(size)];
        source.read_at(at, &mut bytes).map_err(unreadable)?;
        Self::parse(&bytes)
    }

    /// Reads a tree out of bytes that start with it.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, FdtError> {
        let header = bytes.first_chunk::<HEADER>().ok_or(FdtError::Header("size"))?;
        let size = size_of(header)?;
        let whole = bytes.get(..to_usize(size)).ok_or(FdtError::Header("size"))?;
        let part = |offset: usize, len: usize| {
            let start = to_usize(big(header, offset));
            whole.get(start..start.checked_add(to_usize(big(header, len)))?)
        };
        let structure = part(8, 36).ok_or(FdtError::Header("structure block"))?;
        let strings = part(12, 32).ok_or(FdtError::Header("strings block"))?;
        let nodes = Parser { structure, strings, at: 0 }.nodes()?;
        Ok(Self { size, nodes })
    }

    /// All nodes, each after the one that it is in. The root is the first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Option<&Node> {
        self.nodes.first()
    }

    /// The nodes that are directly in the root.
    pub fn top(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.parent == Some(0))
    }

    /// A node in the root, by its name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.top().find(|(_, node)| *node.name == *name.as_bytes()).map(|(_, node)| node)
    }
}

fn big(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The size in a header.
fn size_of(header: &[u8; HEADER]) -> Result<u32, FdtError> {
    if !header.starts_with(&MAGIC) {
        return Err(FdtError::Magic);
    }
    let (size, version, compatible) = (big(header, 4), big(header, 20), big(header, 24));
    if !(40..=MAX_BYTES).contains(&size) {
        return Err(FdtError::Header("size"));
    }
    // Version 17 has been the only one since 2007; it can be read by what reads 16.
    if version < 16 || compatible > 17 {
        return Err(FdtError::Header("version"));
    }
    Ok(size)
}

struct Parser<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn damaged(&self) -> FdtError {
        FdtError::Structure(self.at)
    }

    fn token(&mut self) -> Result<u32, FdtError> {
        let bytes = self.take(4)?;
        Ok(big(bytes, 0))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], FdtError> {
        let end = self.at.checked_add(len).ok_or_else(|| self.damaged())?;
        let bytes = self.structure.get(self.at..end).ok_or_else(|| self.damaged())?;
        self.at = end.checked_next_multiple_of(4).unwrap_or(end);
        Ok(bytes)
    }

    /// The bytes before the next NUL, which is passed over.
    fn name(&mut self) -> Result<&'a [u8], FdtError> {
        let rest = self.structure.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| *byte == 0).ok_or_else(|| self.damaged())?;
        self.take(len.saturating_add(1))?;
        Ok(rest.get(..len).unwrap_or_default())
    }

    fn nodes(mut self) -> Result<Vec<Node>, FdtError> {
        const BEGIN_NODE: u32 = 1;
        const END_NODE: u32 = 2;
        const PROPERTY: u32 = 3;
        const NOTHING: u32 = 4;
        const END: u32 = 9;
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        loop {
            match self.token()? {
                BEGIN_NODE => {
                    let name = self.name()?.into();
                    // There is one root, and nothing after it.
                    if open.is_empty() != nodes.is_empty() || open.len() >= MAX_DEPTH {
                        return Err(self.damaged());
                    }
                    let parent = open.last().copied();
                    open.push(nodes.len());
                    nodes.push(Node { parent, name, properties: Vec::new() });
                }
                END_NODE => {
                    open.pop().ok_or_else(|| self.damaged())?;
                }
                PROPERTY => {
                    let (len, name) = (self.token()?, self.token()?);
                    let value = self.take(to_usize(len))?.into();
                    let name = self.string(to_usize(name))?;
                    let node = open.last().and_then(|node| nodes.get_mut(*node));
                    match node {
                        Some(node) => node.properties.push((name, value)),
                        None => return Err(self.damaged()),
                    }
                }
                NOTHING => {}
                END if open.is_empty() && !nodes.is_empty() => return Ok(nodes),
                _ => return Err(self.damaged()),
            }
        }
    }

    fn string(&self, at: usize) -> Result<Box<[u8]>, FdtError> {
        let rest = self.strings.get(at..).unwrap_or_default();
        let rest = rest.get(..rest.len().min(small(len64(MAX_NAME).saturating_add(1)))).unwrap_or_default();
        let len = rest.iter().position(|byte| *byte == 0).ok_or_else(|| self.damaged())?;
        Ok(rest.get(..len).unwrap_or_default().into())
    }
}
