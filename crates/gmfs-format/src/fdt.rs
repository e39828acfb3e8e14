//! Flattened device trees: the container in which one kernel tells the next what memory to keep.
//!
//! A tree is a header, a *structure block* of tokens, and a *strings block* with the names of properties. The numbers
//! of the container are big-endian. This module takes the value of a property as bytes; the code that uses the tree
//! interprets them.
//!
//! Trees may be damaged. The size that a header claims is compared with a limit before anything is read. The whole
//! structure block is checked once, before anything is looked up in it. Nodes may be nested at most [`MAX_DEPTH`] deep.
//! A tree takes as much memory as it has bytes.

use gmfs_io::num::{len64, small, to_usize};
use gmfs_io::{ReadAt, Span};

use crate::reading::Lack;

/// The first four bytes of a tree, as they are in memory.
pub const MAGIC: [u8; 4] = [0xD0, 0x0D, 0xFE, 0xED];
/// How deep nodes may be nested. No kernel nests them so deep, and the kernel's own reader has the same limit.
pub const MAX_DEPTH: u32 = 64;
/// The maximum size of a tree in bytes; there is no reason to read a larger one. The kernel of 2024 sets 10 MiB aside
/// for a tree, and kernels since 6.16 set one page aside.
pub const MAX_SIZE: u64 = 16 << 20;

/// The size of a header of version 17 in bytes.
const HEADER: usize = 40;
/// The version with a field for the size of the structure block.
const SIZED: u32 = 17;
/// The oldest version that is understood. Older versions have other tokens.
const OLDEST: u32 = 16;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// The longest name of a property that is looked for, in bytes. The specification allows 31.
const LONGEST_NAME: usize = 255;

/// Why something is not read as a device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FdtError {
    /// The magic is not there.
    #[error("no device tree starts here")]
    NoMagic,
    /// The bytes cannot be read.
    #[error("the device tree cannot be read: {0}")]
    Unreadable(Lack),
    /// Its version is not understood.
    #[error("the device tree has version {version}, compatible with {compatible}, and 16 and 17 are understood")]
    Version {
        /// Its version.
        version: u32,
        /// The oldest version that it says it is compatible with.
        compatible: u32,
    },
    /// It is larger than the limit.
    #[error("the device tree says that it has {size} bytes, and at most {most} are read")]
    TooLarge {
        /// Bytes that it says it has.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// A block is not within the tree.
    #[error("the header of the device tree names a block that is not within its {size} bytes")]
    Blocks {
        /// Bytes of the tree.
        size: u64,
    },
    /// A token of the structure block is wrong.
    #[error("the structure of the device tree is wrong at byte {at:#x}: {what}")]
    Structure {
        /// Where, in bytes from the start of the tree.
        at: u64,
        /// What is wrong.
        what: Fault,
    },
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No token has its number.
    Token,
    /// It reaches past the end of its block.
    Cut,
    /// The name of a property is not in the strings block.
    Name,
    /// Nodes are nested too deep.
    Depth,
    /// There is something beside the root, or there is no root.
    Root,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token => "no such token",
            Self::Cut => "it does not end within its block",
            Self::Name => "the name of a property is outside the strings",
            Self::Depth => "nodes are nested too deep",
            Self::Root => "there is not exactly one root",
        })
    }
}

/// A device tree that was read and checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Fdt {
    bytes: Box<[u8]>,
    /// Where the structure block starts, and where its tokens end.
    structure: (usize, usize),
    /// Where the strings block starts and ends.
    strings: (usize, usize),
    /// Whether all of the structure block was read.
    whole: bool,
}

impl std::fmt::Debug for Fdt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fdt").field("size", &self.bytes.len()).field("whole", &self.whole).finish_non_exhaustive()
    }
}

/// One token of the structure block.
enum Token<'a> {
    Begin(&'a [u8]),
    End,
    Property(Property<'a>),
    Nothing,
    Last,
}

/// A property of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// Its name; `None` if the strings block was not read (see [`Fdt::read_front`]).
    pub name: Option<&'a [u8]>,
    /// Its value.
    pub value: &'a [u8],
}

/// Where the blocks of a tree are, and how large it is.
struct Header {
    size: u64,
    structure: u64,
    structure_size: Option<u64>,
    strings: u64,
    strings_size: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER]) -> Result<Self, FdtError> {
        if bytes.first_chunk() != Some(&MAGIC) {
            return Err(FdtError::NoMagic);
        }
        let (words, _) = bytes.as_chunks::<4>();
        let word = |n: usize| words.get(n).map_or(0, |word| u32::from_be_bytes(*word));
        let (version, compatible) = (word(5), word(6));
        if version < OLDEST || compatible > SIZED {
            return Err(FdtError::Version { version, compatible });
        }
        Ok(Self {
            size: word(1).into(),
            structure: word(2).into(),
            structure_size: (version >= SIZED).then(|| word(9).into()),
            strings: word(3).into(),
            strings_size: word(8).into(),
        })
    }

    fn read(source: &dyn ReadAt, at: u64) -> Result<Self, FdtError> {
        let mut bytes = [0; HEADER];
        source.read_at(at, &mut bytes).map_err(|error| FdtError::Unreadable(Lack::from(&error)))?;
        Self::parse(&bytes)
    }

    /// Where the blocks are, as far as they are within `size` bytes.
    fn blocks(&self, size: u64) -> Result<[(usize, usize); 2], FdtError> {
        let whole = Span::new(0, self.size);
        let structure_size = self.structure_size.unwrap_or_else(|| {
            let end = if self.strings > self.structure { self.strings } else { self.size };
            end.saturating_sub(self.structure)
        });
        let block = |offset: u64, len: u64| {
            let span = Span::new(offset, len);
            let inside = span.end() <= whole.end() && offset >= len64(HEADER).saturating_sub(4);
            let cut = |at: u64| small(at.min(size));
            inside.then(|| (cut(offset), cut(span.end()))).ok_or(FdtError::Blocks { size: self.size })
        };
        Ok([block(self.structure, structure_size)?, block(self.strings, self.strings_size)?])
    }
}

/// The size in bytes that the header at `at` claims, if there is a header. The number is from the image and has not
/// been checked.
#[must_use]
pub fn claimed_size(source: &dyn ReadAt, at: u64) -> Option<u64> {
    Header::read(source, at).ok().map(|header| header.size)
}

impl Fdt {
    /// Reads the tree that starts at `at`, if it has at most `most` bytes.
    ///
    /// # Errors
    /// [`FdtError`].
    pub fn read(source: &dyn ReadAt, at: u64, most: u64) -> Result<Self, FdtError> {
        let header = Header::read(source, at)?;
        if header.size > most {
            return Err(FdtError::TooLarge { size: header.size, most });
        }
        // This checks that the blocks are within the tree, before memory is allocated for it.
        header.blocks(header.size)?;
        let mut bytes = vec![0; small(header.size)];
        source.read_at(at, &mut bytes).map_err(|error| FdtError::Unreadable(Lack::from(&error)))?;
        Self::parse(bytes)
    }

    /// Checks the tree that `bytes` start with.
    ///
    /// # Errors
    /// [`FdtError`].
    pub fn parse(bytes: impl Into<Box<[u8]>>) -> Result<Self, FdtError> {
        let bytes = bytes.into();
        let header = Header::parse(bytes.first_chunk().ok_or(FdtError::NoMagic)?)?;
        if header.size > len64(bytes.len()) {
            return Err(FdtError::TooLarge { size: header.size, most: len64(bytes.len()) });
        }
        let [structure, strings] = header.blocks(header.size)?;
        let mut tree = Self { bytes, structure, strings, whole: true };
        tree.structure.1 = tree.check().map_err(|(_, error)| error)?;
        Ok(tree)
    }

    /// Reads a tree from its first page only, up to the first token that is wrong or not on that page. This is for
    /// trees that the kernel has allocated page by page: their pages are not consecutive in physical memory, so only
    /// the first one can be found. Names of properties are `None` if the strings block is not on the page.
    ///
    /// # Errors
    /// [`FdtError`], of the header or of the first token.
    pub fn read_front(source: &dyn ReadAt, at: u64) -> Result<Self, FdtError> {
        let header = Header::read(source, at)?;
        let page = PAGE.saturating_sub(at.checked_rem(PAGE).unwrap_or_default());
        let size = header.size.min(page);
        let [structure, strings] = header.blocks(size)?;
        let mut bytes = vec![0; small(size)];
        source.read_at(at, &mut bytes).map_err(|error| FdtError::Unreadable(Lack::from(&error)))?;
        let mut tree = Self { bytes: bytes.into(), structure, strings, whole: header.size <= page };
        match tree.check() {
            Ok(end) => tree.structure.1 = end,
            Err((end, error)) if end == structure.0 => return Err(error),
            Err((end, _)) => (tree.structure.1, tree.whole) = (end, false),
        }
        Ok(tree)
    }

    /// Whether all of the tree was read. This is false if only its first page was read.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// The bytes of the tree that were read.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        let mut at = self.structure.0;
        // `check` has made sure that there is a root, and that only empty tokens come before it.
        while let Ok((token, next)) = self.token(at) {
            match token {
                Token::Begin(name) => return Node { tree: self, name, start: next },
                Token::Nothing => at = next,
                _ => break,
            }
        }
        Node { tree: self, name: b"", start: self.structure.1 }
    }

    /// Checks all tokens. Returns where they end, or the end of the last good token and what is wrong with the next
    /// one.
    fn check(&self) -> Result<usize, (usize, FdtError)> {
        let (mut at, mut depth, mut rooted) = (self.structure.0, 0_u32, false);
        loop {
            let wrong = |what| (at, FdtError::Structure { at: len64(at), what });
            let (token, next) = self.token(at).map_err(wrong)?;
            match token {
                Token::Begin(_) if depth == 0 && rooted => return Err(wrong(Fault::Root)),
                Token::Begin(_) if depth >= MAX_DEPTH => return Err(wrong(Fault::Depth)),
                Token::Begin(_) => (depth, rooted) = (depth.saturating_add(1), true),
                Token::End => depth = depth.checked_sub(1).ok_or_else(|| wrong(Fault::Root))?,
                Token::Property(_) if depth == 0 => return Err(wrong(Fault::Root)),
                Token::Property(Property { name: None, .. }) if self.whole => return Err(wrong(Fault::Name)),
                Token::Property(_) | Token::Nothing => {}
                Token::Last if depth == 0 && rooted => return Ok(next),
                Token::Last => return Err(wrong(Fault::Root)),
            }
            at = next;
        }
    }

    /// The token at an offset, and the offset of the next one.
    fn token(&self, at: usize) -> Result<(Token<'_>, usize), Fault> {
        let word = |at: usize| {
            let end = at.checked_add(4).filter(|end| *end <= self.structure.1).ok_or(Fault::Cut)?;
            let bytes: &[u8; 4] = self.bytes.get(at..end).and_then(|bytes| bytes.try_into().ok()).ok_or(Fault::Cut)?;
            Ok((u32::from_be_bytes(*bytes), end))
        };
        let (kind, rest) = word(at)?;
        Ok(match kind {
            1 => {
                let block = self.bytes.get(rest..self.structure.1).ok_or(Fault::Cut)?;
                let length = block.iter().position(|byte| *byte == 0).ok_or(Fault::Cut)?;
                let name = block.get(..length).ok_or(Fault::Cut)?;
                (Token::Begin(name), aligned(rest.checked_add(length).and_then(|end| end.checked_add(1)))?)
            }
            2 => (Token::End, rest),
            3 => {
                let (length, rest) = word(rest)?;
                let (name, rest) = word(rest)?;
                let end = rest.checked_add(to_usize(length)).filter(|end| *end <= self.structure.1);
                let value = end.and_then(|end| self.bytes.get(rest..end)).ok_or(Fault::Cut)?;
                (Token::Property(Property { name: self.string(name), value }), aligned(end)?)
            }
            4 => (Token::Nothing, rest),
            9 => (Token::Last, rest),
            _ => return Err(Fault::Token),
        })
    }

    /// A name in the strings block.
    fn string(&self, offset: u32) -> Option<&[u8]> {
        let start = self.strings.0.checked_add(to_usize(offset))?;
        let rest = self.bytes.get(start..self.strings.1)?;
        let length = rest.iter().take(LONGEST_NAME.saturating_add(1)).position(|byte| *byte == 0)?;
        rest.get(..length)
    }
}

/// The next multiple of 4.
fn aligned(at: Option<usize>) -> Result<usize, Fault> {
    at.and_then(|at| at.checked_next_multiple_of(4)).ok_or(Fault::Cut)
}

/// A node of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    tree: &'a Fdt,
    name: &'a [u8],
    /// The first token within it.
    start: usize,
}

impl<'a> Node<'a> {
    /// Its name; empty for the root.
    #[must_use]
    pub const fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Its properties, in the order of the tree.
    pub fn properties(self) -> impl Iterator<Item = Property<'a>> {
        let mut at = self.start;
        std::iter::from_fn(move || {
            loop {
                let (token, next) = self.tree.token(at).ok()?;
                match token {
                    Token::Property(property) => {
                        at = next;
                        return Some(property);
                    }
                    Token::Nothing => at = next,
                    // Properties come before nodes.
                    _ => return None,
                }
            }
        })
    }

    /// The value of a property.
    #[must_use]
    pub fn property(self, name: &[u8]) -> Option<&'a [u8]> {
        self.properties().find(|property| property.name == Some(name)).map(|property| property.value)
    }

    /// The value of a property that is one 64-bit number. KHO writes such numbers in the byte order of the machine:
    /// little-endian.
    #[must_use]
    pub fn u64(self, name: &[u8]) -> Option<u64> {
        self.property(name)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// Whether its property `compatible` has this among its strings.
    #[must_use]
    pub fn is_compatible(self, with: &[u8]) -> bool {
        let value = self.property(b"compatible").unwrap_or_default();
        value.ends_with(&[0]) && value.split(|byte| *byte == 0).any(|one| one == with && !one.is_empty())
    }

    /// The child nodes, in the order of the tree.
    pub fn children(self) -> impl Iterator<Item = Node<'a>> {
        let (mut at, mut depth) = (self.start, 0_u32);
        std::iter::from_fn(move || {
            loop {
                let (token, next) = self.tree.token(at).ok()?;
                at = next;
                match token {
                    Token::Begin(name) => {
                        depth = depth.saturating_add(1);
                        if depth == 1 {
                            return Some(Node { tree: self.tree, name, start: next });
                        }
                    }
                    Token::End => depth = depth.checked_sub(1)?,
                    Token::Property(_) | Token::Nothing => {}
                    Token::Last => return None,
                }
            }
        })
    }

    /// The child node with this name.
    #[must_use]
    pub fn child(self, name: &[u8]) -> Option<Node<'a>> {
        self.children().find(|child| child.name == name)
    }
}
